"""What an archive tells of the past, in the forms of the gateway's own memory (``serve/past.py``)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from models.archive import DAY_MS
from models.clock import rfc3339
from serve.bygone import LINE_HOLDS_MS
from serve.history import HEARTBEAT_MIN, MINUTE_MS, History
from serve.past import VEHICLE_HOLDS_MS, Fix, Past

_TIME = pa.int64()
#: Objects with any names lie in the archive as text (``models/arrow.py``).
_OBJECTS = ("title", "text")
#: A situation that was last told so long before is not looked for, days: the archive has it under the day on which it was told.
SITUATION_DAYS = 7
_SERIES = (
    "window_start",
    "speed_kmh",
    "speed_p20_kmh",
    "speed_p80_kmh",
    "flow_vph",
    "delay_s",
    "confidence",
    "los",
    "origin",
    "closed",
    "source_mix",
)
_FIX = (
    "vehicle_id",
    "event_time",
    "lat_deg",
    "lon_deg",
    "delay_s",
    "segment_id",
    "route_id",
    "direction_id",
    "trip_id",
    "operating_day",
    "start_time",
    "headsign",
)


def _column(table: pa.Table, name: str, default: Any = None) -> list[Any]:
    if name not in table.column_names:
        return [default] * table.num_rows
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = pc.cast(column, _TIME)
    return [default if v is None else v for v in column.to_pylist()]


def _pct(shares: list[float | None]) -> list[int]:
    return [round((share or 0.0) * 100) for share in shares]


def picture(archive: History, city: str, at_ms: int) -> dict[str, Any]:
    """States, vehicles, situations and lines at a time. Situations are those of which something was told in the week before."""
    last = at_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
    table = archive.states_at(city, last)
    starts = [last - n * MINUTE_MS for n in range(HEARTBEAT_MIN)]
    window = {start: n for n, start in enumerate(starts)}
    moving = archive.vehicles_between(city, at_ms - VEHICLE_HOLDS_MS, at_ms)
    found: dict[str, dict[str, Any]] = {}
    for row in moving.to_pylist():
        at = row.pop("event_time", None)
        if at is not None and row.get("lat_deg") is not None and row.get("lon_deg") is not None:
            found[row["vehicle_id"]] = {"event_ms": round(at.timestamp() * 1000), **{k: v for k, v in row.items() if v is not None}}
    lines = archive.latest(city, "line-fluency", at_ms - LINE_HOLDS_MS, at_ms - MINUTE_MS)
    situations = archive.latest(city, "situation", at_ms - SITUATION_DAYS * DAY_MS, at_ms)
    return {
        "records": {"situation": records(situations), "line-fluency": records(lines)},
        "simulated": any(_column(table, "simulated", False)) or any(_column(moving, "simulated", False)),
        "states": {
            "segment_id": _column(table, "segment_id"),
            "window_starts_ms": starts,
            "window": [window.get(start, 0) for start in _column(table, "window_start")],
            "los": "".join(los[0] for los in _column(table, "los", "unknown")),
            "origin": "".join(origin[0] for origin in _column(table, "origin", "none")),
            "confidence_pct": _pct(_column(table, "confidence")),
            "closed": np.flatnonzero(_column(table, "closed", False)).tolist(),
        },
        "vehicles": list(found.values()),
    }


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as the records that they were made from: what is not known is left out, times and geometries are as in JSON. Deleted keys have no row."""
    if "deleted" in table.column_names:
        table = table.filter(pc.invert(pc.fill_null(table.column("deleted"), False)))
    shapes = shapely.from_wkb(table.column("geometry").to_pylist()) if "geometry" in table.column_names else None
    rows = [_known(row) for row in table.to_pylist()]
    for row in rows:
        row |= {name: json.loads(row[name]) for name in _OBJECTS if name in row}
    for row, shape in zip(rows, shapes if shapes is not None else [None] * len(rows), strict=True):
        row.pop("geometry", None)
        if shape is not None:
            row["geometry"] = json.loads(shapely.to_geojson(shape))
    return rows


def _known(value: Any) -> Any:
    match value:
        case dict():
            return {k: _known(v) for k, v in value.items() if v is not None}
        case list():
            return [_known(v) for v in value]
        case datetime():
            return rfc3339(round(value.timestamp() * 1000))
        case _:
            return value


def emissions(archive: History, city: str, at_ms: int) -> list[tuple[str, tuple[float, float, float]]]:
    """Streets and their CO2 at a time: value and 95 % bounds, g/h."""
    table = archive.latest(city, "emission-segment", at_ms - 6 * MINUTE_MS, at_ms - MINUTE_MS, ("segment_id", "co2_total"))
    told = zip(_column(table, "segment_id"), _column(table, "co2_total"), strict=True)
    return [(segment_id, (q["value"], q["lo95"], q["hi95"])) for segment_id, q in told if q]


def series(archive: History, city: str, segment_id: str, first_ms: int, last_ms: int) -> dict[str, Any]:
    """Finals of one segment, in the columns of ``Past.series``."""
    table = archive.segment_series(city, segment_id, first_ms, last_ms, _SERIES)
    mixes = [mix if isinstance(mix, dict) else {} for mix in _column(table, "source_mix")]
    return {
        "window_starts_ms": _column(table, "window_start"),
        **{name: _column(table, name) for name in ("speed_kmh", "speed_p20_kmh", "speed_p80_kmh", "flow_vph", "delay_s")},
        "confidence_pct": _pct(_column(table, "confidence")),
        "los": _column(table, "los", "unknown"),
        "origin": _column(table, "origin", "none"),
        "closed": _column(table, "closed", False),
        "source_mix_pct": {name: _pct([mix.get(name) for mix in mixes]) for name in ("probe", "loop", "memory", "network")},
    }


def joined(early: dict[str, Any], late: dict[str, Any]) -> dict[str, Any]:
    """Two series of one segment, one after the other.

    >>> joined({"a": [1], "b": {"c": [2]}}, {"a": [3], "b": {"c": [4]}})
    {'a': [1, 3], 'b': {'c': [2, 4]}}
    """
    return {name: joined(column, late[name]) if isinstance(column, dict) else [*column, *late[name]] for name, column in early.items()}


def fixes(archive: History, city: str, route_id: str, first_ms: int, last_ms: int) -> Past:
    """A memory of one route's vehicles."""
    table, past = archive.read(city, "vehicle-position", first_ms, last_ms, _FIX), Past()
    if not table.num_rows or "route_id" not in table.column_names:
        return past
    table = table.filter(pc.equal(table.column("route_id"), route_id)).sort_by("event_time")
    for row in table.to_pylist():
        at = row.pop("event_time")
        past.fix(Fix(**row), round(at.timestamp() * 1000))
    return past
