"""Which vehicles of public transport have which powertrain: a table of the city's own, by patterns of vehicle ids."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from models.errors import ConfigError

POWERTRAINS = ("diesel", "biodiesel", "gas", "hybrid", "electric")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; the first that fits a vehicle stands."""

    pattern: str
    powertrain: str
    source: str


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


@lru_cache(maxsize=16)
def register(file: Path) -> Register:
    """CSV with ``vehicle`` (an id such as 0018/00423, or a pattern with * and ?), ``powertrain`` and ``source`` (how it is known).

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
                row = Row(*((line[n] or "").strip() for n in ("vehicle", "powertrain", "source")))
                if not row.pattern or not row.source or row.powertrain not in POWERTRAINS:
                    raise ConfigError(file.name, f"row {k}", f"{row.pattern},{row.powertrain},{row.source}"[:200], want)
                rows.append(row)
    except OSError as e:
        raise ConfigError(file.name, "powertrains", str(file), f"a file that can be read ({e.strerror})") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise ConfigError(file.name, "powertrains", str(e), want) from e
    return Register(tuple(rows))
