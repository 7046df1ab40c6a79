"""Which vehicles of public transport have which powertrain: a table of the city's own, by patterns of vehicle ids."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from models.emissions.lookup import NoSuchRow, resolve
from models.errors import ConfigError

POWERTRAINS = ("diesel", "biodiesel", "gas", "hybrid", "electric")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; the first that fits a vehicle stands."""

    pattern: str
    powertrain: str
    source: str
    euro: str = ""  #: emission class of its engine as the factor tables call it, such as "Euro VI D/E"; empty: not known, or none


#: Fuels of the factor tables, of powertrains whose engines have classes.
FUELS = {"diesel": "diesel", "biodiesel": "biodiesel", "gas": "cng"}


class Register:
    """The table, asked by vehicle id."""

    def __init__(self, rows: tuple[Row, ...] = ()) -> None:
        self.rows = rows
        self._known: dict[str, Row | None] = {}

    def of(self, vehicle_id: str) -> Row | None:
        """None: nothing is known of this vehicle.

        >>> r = Register((Row("0018/004*", "electric", "HSL 2026"), Row("0018/*", "diesel", "tender")))
        >>> r.of("0018/00423").powertrain, r.of("0018/00999").powertrain, r.of("0022/00001")
        ('electric', 'diesel', None)
        """
        if vehicle_id not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[vehicle_id] = next((r for r in self.rows if fnmatchcase(vehicle_id, r.pattern)), None)
        return self._known[vehicle_id]

    def classes(self) -> list[tuple[str, str]]:
        """Powertrains and emission classes that the table tells of together."""
        return sorted({(r.powertrain, r.euro) for r in self.rows if r.euro})


@lru_cache(maxsize=16)
def register(file: Path) -> Register:
    """CSV with ``vehicle`` (an id such as 0018/00423, or a pattern with * and ?), ``powertrain`` and ``source`` (how it is known); ``euro``, the emission class of its engine, may be there.

    Raises:
        ConfigError: no such file, not such a table, or a row without pattern, source or a powertrain that exists.
    """
    want = f"CSV with vehicle, powertrain (one of {', '.join(POWERTRAINS)}) and source"
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            if not {"vehicle", "powertrain", "source"} <= {(n or "").strip() for n in reader.fieldnames or ()}:
                raise ConfigError(file.name, "header", ",".join(reader.fieldnames or ())[:200], want)
            reader.fieldnames = [n.strip() for n in reader.fieldnames or ()]
            rows = []
            for k, line in enumerate(reader, 2):
                row = Row(*((line.get(n) or "").strip() for n in ("vehicle", "powertrain", "source", "euro")))
                if not row.pattern or not row.source or row.powertrain not in POWERTRAINS:
                    raise ConfigError(file.name, f"row {k}", f"{row.pattern},{row.powertrain},{row.source}"[:200], want)
                if row.euro:
                    try:
                        resolve("urban_bus", FUELS.get(row.powertrain, row.powertrain), "", row.euro)
                    except NoSuchRow as e:
                        raise ConfigError(file.name, f"row {k}", row.euro[:200], f"an emission class of such buses ({e})") from e
                rows.append(row)
    except OSError as e:
        raise ConfigError(file.name, "powertrains", str(file), f"a file that can be read ({e.strerror})") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise ConfigError(file.name, "powertrains", str(e), want) from e
    return Register(tuple(rows))
