"""Laws of the indicators: sums over hours, size divided out, the same hours compared, nothing that looks certain by being long."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.clock import rfc3339
from models.emission_records import AreaState, EmissionArea, KmByLos, Quantity
from models.indicator_records import CityDay, Hour
from models.indicators import OUTPUTS, Emitted, Flowed, HourSums, compared, flat, sums_of, total
from models.line_records import LineFluency
from models.records import encode

T = "2026-03-10T05:30:00.000Z"


def minute(vkm_h: float = 6000.0, vh_h: float = 200.0, tti: float = 1.25, size: float = 1.0) -> AreaState:
    delay = vh_h * (1.0 - 1.0 / tti)
    km = KmByLos(A=50.0 * size, B=20.0 * size, C=10.0 * size, D=5.0 * size, E=3.0 * size, F=2.0 * size, unknown=10.0 * size)
    return AreaState(
        area_id="x", area_kind="city", window_start=T, window_end=T, status="final", revision=1, km_by_los=km, coverage_pct=40.0, vehicles=9, segments=5,
        confidence=0.7, travel_time_index=tti, vehicle_km_h=vkm_h * size, vehicle_h_h=vh_h * size, delay_veh_h=delay * size,
    )  # fmt: skip


def area(size: float = 1.0, expansion: float = 1.25) -> EmissionArea:
    q = Quantity(value=1000.0 * size, lo95=500.0 * size, hi95=2000.0 * size)
    fields = {name: q for name, _ in OUTPUTS}
    return EmissionArea(
        area_id="x", area_kind="city", window_start=T, window_end=T, status="final", revision=1, segments=5, coverage_expansion=expansion, coverage_pct=30.0,
        vehicle_km_h=7000.0 * size, flow_source="prior", fleet_mix="f", factor_set="s", factor_rows="r", scope="tailpipe", temperature_c=1.0,
        temperature_source="default", grid_g_per_kwh=50.0, grid_source="default", **fields,
    )  # fmt: skip


def line(vehicles: int, kmh: float) -> LineFluency:
    return LineFluency(
        route_id="1", mode="bus", window_start=T, window_end=T, status="final", revision=1, vehicles=vehicles, coverage_pct=100.0, commercial_speed_kmh=kmh,
        stopped_share=0.25,
    )  # fmt: skip


def hour(minutes: int = 60, size: float = 1.0, tti: float = 1.25) -> HourSums:
    out = HourSums()
    for k in range(minutes):
        out.flowed.add_state(minute(tti=tti, size=size))
        out.flowed.add_line(line(4, 20.0))
        if k % 5 == 4:
            out.emitted.add_area(area(size), 100.0 * size)
    return out


def day(city: str, hours: dict[int, HourSums], street_km: float = 100.0) -> CityDay:
    rows = [
        Hour(hour_start=rfc3339(3_600_000 * h), local_hour=h, fluency=s.flowed.record(), environment=s.emitted.record())
        for h, s in hours.items()
    ]
    whole = total(hours.values())
    return CityDay(
        city=city, day="2026-03-10", window_start=T, window_end=T, status="final", revision=1, street_km=street_km, hours=rows, fluency=whole.flowed.record(),
        environment=whole.emitted.record(),
    )  # fmt: skip


def test_an_hour_of_alike_minutes_has_their_figures() -> None:
    sums = hour()
    f, e = sums.flowed.record(), sums.emitted.record()
    assert f is not None
    assert e is not None
    assert (f.minutes, f.speed_kmh, f.travel_time_index, f.coverage_pct, f.known_km_pct, f.confidence) == (60, 30.0, 1.25, 40.0, 90.0, 0.7)
    assert f.delay_s_per_vehicle_km == pytest.approx(3600.0 * 40.0 / 6000.0)
    assert f.slow_km_share == pytest.approx(5.0 / 90.0, abs=1e-4)
    assert (f.transit_vehicle_h, f.transit_speed_kmh, f.transit_stopped_share) == (4.0, 20.0, 0.25)
    assert (e.blocks, e.vehicle_km, e.coverage_expansion) == (12, 7000.0, 1.25)
    assert e.co2_total_kg == Quantity(value=1.0, lo95=0.5, hi95=2.0)
    assert e.energy_mj.value == 1000.0
    assert e.co2_total_g_per_vehicle_km == Quantity(value=0.14286, lo95=0.071429, hi95=0.28571)
    assert e.co2_total_kg_per_street_km_h is not None
    assert e.co2_total_kg_per_street_km_h.value == pytest.approx(0.01)


@given(size=st.floats(0.1, 100.0))
def test_a_city_twice_as_large_with_the_same_traffic_has_the_same_indicators(size: float) -> None:
    one, other = hour(10), hour(10, size=size)
    a, b = one.flowed.record(), other.flowed.record()
    c, d = one.emitted.record(), other.emitted.record()
    assert a
    assert b
    assert c
    assert d
    assert (a.travel_time_index, a.delay_s_per_vehicle_km, a.speed_kmh, a.slow_km_share) == pytest.approx(
        (b.travel_time_index, b.delay_s_per_vehicle_km, b.speed_kmh, b.slow_km_share), rel=1e-3
    )
    assert c.co2_total_g_per_vehicle_km
    assert d.co2_total_g_per_vehicle_km
    assert c.co2_total_g_per_vehicle_km.value == pytest.approx(d.co2_total_g_per_vehicle_km.value, rel=1e-3)
    assert c.co2_total_kg_per_street_km_h
    assert d.co2_total_kg_per_street_km_h
    assert c.co2_total_kg_per_street_km_h.value == pytest.approx(d.co2_total_kg_per_street_km_h.value, rel=1e-3)


def test_a_long_day_is_not_surer_than_an_hour() -> None:
    one, many = hour().emitted.record(), total(hour() for _ in range(24)).emitted.record()
    assert one
    assert many
    assert many.co2_total_kg.hi95 / many.co2_total_kg.value == pytest.approx(one.co2_total_kg.hi95 / one.co2_total_kg.value)
    assert many.co2_total_kg.value == pytest.approx(24 * one.co2_total_kg.value)


def test_hours_add_up_to_the_day_also_when_they_are_read_back() -> None:
    hours = {7: hour(60, tti=1.6), 8: hour(45), 9: hour(1, tti=1.01)}
    record = day("x", hours)
    again = total(sums_of(h, record.street_km) for h in record.hours)
    assert record.fluency
    assert record.environment
    back = again.flowed.record()
    assert back is not None
    for name in (
        "minutes",
        "vehicle_km",
        "travel_time_index",
        "delay_s_per_vehicle_km",
        "known_km_pct",
        "slow_km_share",
        "transit_speed_kmh",
    ):
        assert getattr(back, name) == pytest.approx(getattr(record.fluency, name), rel=2e-3), name
    back_e = again.emitted.record()
    assert back_e is not None
    assert back_e.nox_kg.hi95 == pytest.approx(record.environment.nox_kg.hi95, rel=1e-3)
    assert back_e.coverage_expansion == pytest.approx(record.environment.coverage_expansion, rel=1e-3)


def test_cities_are_compared_over_the_hours_that_all_of_them_have() -> None:
    early = day("early", {6: hour(tti=1.1), 7: hour(tti=1.5), 8: hour(30, tti=3.0)})
    late = day("late", {7: hour(tti=1.2), 8: hour(tti=2.0)})
    found = compared([early, late])
    assert found.local_hours == [7]
    a, b = found.cities["early"][0], found.cities["late"][0]
    assert a
    assert b
    assert (a.travel_time_index, b.travel_time_index) == (pytest.approx(1.5, rel=1e-3), pytest.approx(1.2, rel=1e-3))
    nothing = compared([early, day("night", {2: hour()})])
    assert nothing.local_hours == []
    assert nothing.cities == {"early": (None, None), "night": (None, None)}
    assert compared([]).local_hours == []


def test_what_is_not_known_is_left_out_and_is_empty_in_a_table() -> None:
    assert Flowed().record() is None
    assert Emitted().record() is None
    silent = Flowed()
    silent.add_state(msgspec.structs.replace(minute(), travel_time_index=None, vehicle_km_h=None, vehicle_h_h=None, delay_veh_h=None))
    f = silent.record()
    assert f is not None
    assert (f.minutes, f.travel_time_index, f.speed_kmh, f.coverage_pct) == (1, None, None, 0.0)
    assert b"null" not in encode(f)
    empty, full = flat({"city": "x"}, f, None), flat({"city": "x"}, f, hour().emitted.record())
    assert list(empty) == list(full)
    assert empty["environment_co2_total_kg_hi95"] is None
    assert full["environment_co2_total_kg_hi95"] == 2.0
    assert all(not isinstance(v, float) or math.isfinite(v) for v in full.values())
