"""Is it possible? One reason each, for every feed alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.cities import Box
from connectors.columns import Trip, VehicleColumns
from streams.clean import DAY_MS, CleanSettings, impossible, wrong_clock
from tests.streams import kit

BOX = Box(south=59.9, west=24.0, north=60.75, east=25.7)
LIMITS = CleanSettings()
NAN = np.nan
GOOD: dict[str, float] = {
    "event_ms": kit.T0, "lat_deg": 60.17, "lon_deg": 24.94, "speed_mps": 10.0, "heading_deg": 90.0, "odometer_m": 5.0, "occupancy_pct": 0.0, "delay_s": 0.0,
}  # fmt: skip


def columns(*rows: dict[str, float]) -> VehicleColumns:
    n = len(rows)
    full: list[dict[str, float]] = [GOOD | r for r in rows]

    def f(name: str) -> Any:
        return np.array([r[name] for r in full], np.float64)

    minus = np.full(n, -1, np.int8)
    return VehicleColumns(
        index=np.arange(n, dtype=np.int32) + 100, ingest_ms=np.full(n, kit.T0 + 500), event_ms=np.array([int(r["event_ms"]) for r in full], np.int64),
        event=np.zeros(n, np.int8), lat_deg=f("lat_deg"), lon_deg=f("lon_deg"), speed_mps=f("speed_mps"), heading_deg=f("heading_deg"),
        odometer_m=f("odometer_m"), delay_s=f("delay_s"), occupancy_pct=f("occupancy_pct"), doors_open=minus, at_stop=minus, method=np.zeros(n, np.int8),
        vehicle_id=["0018/00001"] * n, operator=[None] * n, trip=[Trip()] * n, stop_id=[None] * n,
    )  # fmt: skip


@pytest.mark.parametrize(("row", "reason", "field"), [
    ({"lat_deg": 24.94, "lon_deg": 60.17}, "swapped_coordinates", "lat, long"),
    ({"lat_deg": NAN}, "half_position", "lat, long"),
    ({"lon_deg": NAN}, "half_position", "lat, long"),
    ({"lat_deg": 0.0, "lon_deg": 0.0}, "outside_box", "lat, long"),
    ({"lat_deg": 60.0, "lon_deg": 23.9}, "outside_box", "lat, long"),
    ({"lat_deg": np.inf}, "outside_box", "lat, long"),
    ({"lon_deg": -np.inf}, "outside_box", "lat, long"),
    ({"lat_deg": 1e308}, "outside_box", "lat, long"),
    ({"event_ms": 0}, "clock", "event_time"),
    ({"event_ms": kit.T0 + 365 * DAY_MS}, "clock", "event_time"),
    ({"event_ms": kit.T0 + 500 + 120_001}, "clock", "event_time"),
    ({"event_ms": kit.T0 + 500 - 7 * DAY_MS - 1}, "clock", "event_time"),
    ({"speed_mps": 111.2}, "speed", "speed_mps"),
    ({"speed_mps": -0.1}, "speed", "speed_mps"),
    ({"speed_mps": np.inf}, "speed", "speed_mps"),
    ({"heading_deg": 360.0}, "heading", "heading_deg"),
    ({"heading_deg": -1.0}, "heading", "heading_deg"),
    ({"odometer_m": -5.0}, "odometer", "odometer_m"),
    ({"odometer_m": np.inf}, "odometer", "odometer_m"),
    ({"occupancy_pct": 101.0}, "occupancy", "occupancy_pct"),
    ({"delay_s": 1e30}, "delay", "delay_s"),
    ({"delay_s": -np.inf}, "delay", "delay_s"),
])  # fmt: skip
def test_the_impossible_is_refused_with_its_reason(row: dict[str, float], reason: str, field: str) -> None:
    ok, rejects = impossible(columns({}, row, {}), BOX, LIMITS)
    assert ok.tolist() == [True, False, True]
    assert [(r.index, r.reason, r.field) for r in rejects] == [(101, reason, field)]
    assert rejects[0].want
    assert rejects[0].value


@pytest.mark.parametrize("row", [
    {"lat_deg": NAN, "lon_deg": NAN}, {"speed_mps": NAN}, {"speed_mps": 0.0}, {"speed_mps": 100.0}, {"heading_deg": NAN}, {"heading_deg": 0.0},
    {"odometer_m": NAN}, {"odometer_m": 0.0}, {"occupancy_pct": 100.0}, {"delay_s": NAN}, {"delay_s": -7200.0}, {"delay_s": 40_000.0},
    {"event_ms": kit.T0 + 500 + 120_000}, {"event_ms": kit.T0 + 500 - 7 * DAY_MS}, {"lat_deg": 59.9, "lon_deg": 25.7},
])  # fmt: skip
def test_the_unreported_and_the_border_are_possible(row: dict[str, float]) -> None:
    ok, rejects = impossible(columns(row), BOX, LIMITS)
    assert ok.all()
    assert rejects == []


def test_an_event_that_is_wrong_in_every_way_is_refused_once() -> None:
    ok, rejects = impossible(
        columns({"lat_deg": 24.94, "lon_deg": 60.17, "event_ms": 0, "speed_mps": 200.0, "heading_deg": 999.0}), BOX, LIMITS
    )
    assert not ok.any()
    assert [r.reason for r in rejects] == ["swapped_coordinates"]


any_float = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({n: any_float for n in GOOD if n != "event_ms"} | {"event_ms": st.integers(-(2**62), 2**62)}), max_size=5
    )
)
def test_every_event_is_either_possible_or_refused_exactly_once_whatever_the_numbers(rows: list[dict[str, float]]) -> None:
    c = columns(*rows)
    ok, rejects = impossible(c, BOX, LIMITS)
    assert sorted(r.index for r in rejects) == [100 + i for i in np.flatnonzero(~ok)]
    assert not (ok & wrong_clock(c.event_ms, c.ingest_ms, LIMITS)).any()
    for name in ("lat_deg", "lon_deg", "speed_mps", "heading_deg", "odometer_m", "occupancy_pct", "delay_s"):
        assert not np.isinf(getattr(c, name)[ok]).any()
