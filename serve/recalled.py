"""What an archive tells of the past, in the forms of the gateway's own memory (``serve/past.py``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.history import HEARTBEAT_MIN, MINUTE_MS, History
from serve.past import VEHICLE_HOLDS_MS, Fix, Past

_TIME = pa.int64()
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
    """States and vehicles at a time."""
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
    return {
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
