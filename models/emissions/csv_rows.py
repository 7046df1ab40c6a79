"""Emission factors by row: CSV in, the same rows with ``value, unit, row_id, guard`` out, in order.

Columns in: ``category, fuel, segment, euro, technology, pollutant, speed_kmh, road_slope, load, mode``, as in the tables; empty or
absent means the default (``lookup.py``; no speed: 50 km/h). ``pollutant`` is one of the tables' own (CO, NOx, VOC,
PM_exhaust, CH4, NH3, N2O, EC), or CO2 (tailpipe, from EC), NO2 (primary, from NOx), or wear: ``pm_nonexhaust``, ``tyre``, ``brake``,
``road``, with ``_pm10`` (default), ``_pm25`` or ``_tsp`` behind (``technology`` may name the guidebook edition, 2016 or 2025). Other columns pass through.

``guard`` names the guards that fired (``below_v_min``, ``above_v_max``, ``pole_bridged``, ``negative_floored``), what else the
reader should know, or why there is no value.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TextIO

from models.emissions.factors import evaluate, guard_text, hot_table
from models.emissions.lookup import NoSuchRow, find, is_electric, resolve
from models.emissions.no2 import no2_share
from models.emissions.nonexhaust import EDITIONS, WEARS, speed_correction, wear_base
from models.emissions.rates import carbon_g_per_mj

COLUMNS: Final = ("category", "fuel", "segment", "euro", "technology", "pollutant", "speed_kmh", "road_slope", "load", "mode")
ADDED: Final = ("value", "unit", "row_id", "guard")
DEFAULT_SPEED_KMH: Final = 50.0

_WEAR = re.compile(r"(?:pm_)?(nonexhaust|non_exhaust|tyre|brake|road)(?:_wear)?(?:_(pm10|pm25|tsp))?")
_TAILPIPE_ZERO = "electric_tailpipe_zero"

#: Pollutants as the tables write them, by lower case.
_NAMES: Final = {name.lower(): name for name in ("CO", "NOx", "VOC", "PM_exhaust", "CH4", "NH3", "N2O", "EC", "CO2", "NO2")}

Answer = tuple[float | None, str, str, str]


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)


def _speed(text: str) -> float:
    try:
        speed = float(text) if text else DEFAULT_SPEED_KMH
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed >= 0.0):
        raise NoSuchRow(f"speed_kmh = {text!r}, expected a number >= 0")
    return speed


def _wear(row: Mapping[str, str], kind: str, fraction: str, speed: float) -> Answer:
    load_text = row.get("load") or "0.5"
    try:
        load = float(load_text)
    except ValueError:
        load = math.nan
    if not 0.0 <= load <= 1.0:
        raise NoSuchRow(f"no row: load = {load_text!r}, expected a share between 0 and 1")
    category, fuel = row.get("category", ""), row.get("fuel", "")
    edition = row.get("technology", "") if row.get("technology", "") in EDITIONS else ""
    total, ids = 0.0, []
    for wear in WEARS if kind in ("nonexhaust", "non_exhaust") else (kind,):
        base = wear_base(wear, category, fuel, row.get("segment", ""), load=load, fraction=fraction, edition=edition)
        total += base.base_g_per_km * float(speed_correction(wear, speed))
        ids.append(base.row_id)
    return total, "g/km", "+".join(ids), ""


def _exhaust(row: Mapping[str, str], pollutant: str, speed: float) -> Answer:
    vehicle = resolve(*(row.get(name, "") for name in COLUMNS[:5]))
    where = (row.get("mode", ""), row.get("road_slope", ""), row.get("load", ""))
    table = hot_table()
    if is_electric(vehicle[1]) and pollutant != "EC":
        if pollutant not in _NAMES.values():
            raise NoSuchRow(f"no row: pollutant = {pollutant!r}, expected one of {', '.join(_NAMES.values())}")
        return 0.0, "g/km", table.row_id[find(vehicle, "EC", *where)], _TAILPIPE_ZERO
    i = find(vehicle, {"CO2": "EC", "NO2": "NOx"}.get(pollutant, pollutant), *where)
    ef, bits = evaluate(i, speed)
    value, unit, row_id, guard = float(ef), table.unit[i], table.row_id[i], guard_text(int(bits))
    if pollutant == "CO2":
        value, unit = value * carbon_g_per_mj(vehicle[1])[0], "g/km"
    elif pollutant == "NO2":
        share_id, share = no2_share(vehicle[0], vehicle[1], vehicle[3], vehicle[4])
        value, row_id = value * share, f"{row_id}+{share_id}"
    return value, unit, row_id, guard


def evaluate_row(row: Mapping[str, str]) -> Answer:
    """Value, unit, row id and guard of one row; value None and the reason in guard where there is none.

    >>> evaluate_row({"category": "urban_bus", "fuel": "diesel", "euro": "Euro VI D/E", "pollutant": "CO2", "speed_kmh": "20"})[1:]
    ('g/km', 'H4011', '')
    >>> evaluate_row({"category": "passenger_car", "fuel": "steam", "pollutant": "NOx"})[3][:24]
    "no row: fuel = 'steam', "
    """
    row = {name: (row.get(name) or "").strip() for name in COLUMNS}
    pollutant = row["pollutant"]
    try:
        speed = _speed(row["speed_kmh"])
        wear = _WEAR.fullmatch(pollutant.lower())
        if wear:
            return _wear(row, wear[1], wear[2] or "pm10", speed)
        return _exhaust(row, _NAMES.get(pollutant.lower(), pollutant), speed)
    except NoSuchRow as reason:
        return None, "", "", str(reason)


def evaluate_csv(rows: Iterable[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    """Each row with ``value, unit, row_id, guard`` added, in order. Values round-trip (``repr``)."""
    for row in rows:
        value, unit, row_id, guard = evaluate_row(row)
        yield {**row, "value": _text(value), "unit": unit, "row_id": row_id, "guard": guard}


def run(in_stream: TextIO, out_stream: TextIO) -> int:
    """``tilannekuva factors --csv``: CSV text in, CSV text out; returns the number of rows that have no value.

    Raises:
        ValueError: the header lacks ``pollutant`` or ``category``.
    """
    reader = csv.DictReader(in_stream, restval="")
    header = [name.strip() for name in reader.fieldnames or []]
    for needed in ("category", "pollutant"):
        if needed not in header:
            raise ValueError(f"factors: column {needed} is missing, expected {','.join(COLUMNS)}")
    reader.fieldnames = header
    kept = [name for name in header if name not in ADDED]
    writer = csv.DictWriter(out_stream, [*kept, *ADDED], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    missing = 0
    for row in evaluate_csv(reader):
        missing += not row["value"]
        writer.writerow(row)
    return missing
