"""Segments and areas: the laws."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.emissions import bounds, flow, rates, segment
from models.emissions.fleet import Fleet, example_fleet, fleet_from_rows, fleet_of
from models.emissions.rates import OUTPUTS
from models.emissions.segment import Traffic, emit, sum_areas

CONDITIONS = rates.Conditions(temperature_c=-5.0)
TABLE = rates.rate_table(fleet_of("helsinki", date(2026, 3, 10)), CONDITIONS)
BOUNDS = bounds.bounds_of(CONDITIONS)
SOURCE_VAR = np.log([1.05, 1.2, 1.3, 1.5]) ** 2


def traffic(speed, flow_vph, *, length_km=0.3, source=flow.PRIOR, table=TABLE, **more) -> Traffic:
    speed = np.atleast_1d(np.asarray(speed, dtype=float))
    n = len(speed)
    codes = np.broadcast_to(np.asarray(source, dtype=np.int8), (n,)).copy()
    return Traffic(
        np.full(n, length_km), speed, np.broadcast_to(np.asarray(flow_vph, dtype=float), (n,)).copy(),
        segment.stream_shares(np.full(n, 2), table) if "passenger_car" in table.streams else np.array([0.95, 0.05]),
        np.ones(n, dtype=bool), SOURCE_VAR[codes], codes, **more,
    )  # fmt: skip


speeds = st.lists(st.floats(0.0, 200.0), min_size=1, max_size=30)
flows = st.floats(0.0, 8000.0)


@settings(deadline=None)
@given(speed=speeds, q=flows, temperature=st.floats(-40.0, 40.0), source=st.integers(0, 3), spread=st.floats(0.0, 30.0))
def test_never_negative_never_nan_and_bounds_enclose(speed, q, temperature, source, spread):
    table = rates.rate_table(example_fleet(), rates.Conditions(temperature_c=round(temperature, 1)))
    out = emit(traffic(speed, q, source=source, table=table, speed_sd_kmh=np.full(len(speed), spread)), table)
    for column in (out.value, out.lo95, out.hi95):
        assert np.isfinite(column).all()
        assert (column >= 0.0).all()
    assert (out.lo95 <= out.value).all()
    assert (out.value <= out.hi95).all()
    assert (out.column("co2_fossil") <= out.column("co2_total") + 1e-9).all()
    assert (out.column("no2") <= out.column("nox") + 1e-9).all()


@given(speed=speeds)
def test_zero_vehicles_emit_zero(speed):
    out = emit(traffic(speed, 0.0), TABLE)
    assert not out.value.any()
    assert not out.hi95.any()


@given(speed=st.floats(0.0, 140.0), q=st.floats(0.0, 5000.0), more=st.floats(0.0, 5000.0))
def test_more_flow_never_emits_less(speed, q, more):
    few, many = emit(traffic(speed, q), TABLE), emit(traffic(speed, q + more), TABLE)
    assert (many.value >= few.value * (1 - 1e-12)).all()


@given(speed=st.floats(12.0, 130.0), q=st.floats(1.0, 1500.0))
def test_above_v_min_it_is_flow_times_factor_times_length(speed, q):
    table = rates.rate_table(one_car(), CONDITIONS)
    t = replace(traffic(speed, q, length_km=0.5), stream_share=np.array([1.0]), jam_density_vpkm=np.array([1000.0]))
    exact = rates.vehicle_rates(next(iter(table.fleet.streams["passenger_car"]))[0], CONDITIONS, np.array([speed]))
    want = q * 0.5 * (exact[0] + exact[1])[0] / speed
    assert emit(t, table).value[0] == pytest.approx(want, rel=1e-3)


def one_car() -> Fleet:
    return fleet_from_rows([{"category": "passenger_car", "fuel": "petrol", "euro": "Euro 4", "share": 1}], "one")


def test_an_electric_stream_has_a_clean_tailpipe_and_not_clean_wear():
    table = rates.rate_table(fleet_from_rows([{"category": "urban_bus", "fuel": "electric", "share": 1}], "e"), CONDITIONS)
    out = emit(replace(traffic([25.0], 30.0), stream_share=np.array([1.0])), table)
    for output in ("co2_fossil", "co2_total", "nox", "no2", "pm_exhaust", "co"):
        assert out.column(output)[0] == 0.0
    for output in ("pm_nonexhaust", "co2_electricity", "energy"):
        assert out.column(output)[0] > 0.0


def test_a_standing_queue_emits_density_times_the_rate_at_v_min():
    table = rates.rate_table(one_car(), rates.Conditions(temperature_c=25.0))
    t = replace(traffic(0.0, 0.0, density_vpkm=np.array([120.0])), stream_share=np.array([1.0]), urban=np.array([False]))
    co2 = emit(t, table).column("co2_total")[0]
    assert co2 == pytest.approx(120.0 * 0.3 * table.rate_at("passenger_car", 5.0, urban=False)[OUTPUTS.index("co2_total")], rel=1e-9)
    assert emit(t, table).guard_count["below_v_min"] == 0  # nobody flows; counted by flow
    assert emit(replace(t, flow_vph=np.array([5.0])), table).guard_count["below_v_min"] == 1


def test_a_jam_does_not_blow_up_as_speed_goes_to_zero():
    out = emit(traffic(np.linspace(0.0, 10.0, 101), 600.0), TABLE).column("co2_total")
    assert out.max() <= 140.0 * 0.3 * 2.5e4
    assert np.abs(np.diff(out)).max() < out.max()


@example(data=[(0.0, 9.655751949523091e-160, 0, 0)])  # whose square has no digits left
@settings(deadline=None)
@given(
    data=st.lists(st.tuples(st.floats(0.0, 130.0), st.floats(0.0, 3000.0), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60)
)
def test_segments_sum_to_the_area_and_its_bounds_are_between_shared_and_widest(data):
    speed, q, source, area = (np.array(column) for column in zip(*data, strict=True))
    t = traffic(speed, q, source=source)
    out = emit(t, TABLE, BOUNDS)
    city = sum_areas(out, t, np.zeros(len(q), dtype=np.intp), 1, BOUNDS)
    areas = sum_areas(out, t, area.astype(np.intp), 5, BOUNDS)
    assert city.value[0] == pytest.approx(out.value.sum(axis=0), rel=1e-12)
    assert areas.value.sum(axis=0) == pytest.approx(city.value[0], rel=1e-12)
    widest = out.own_log_sd[q > 0.0].max(axis=0) if (q > 0.0).any() else np.zeros(len(OUTPUTS))
    assert (city.own_log_sd[0] <= widest + 1e-9).all()
    assert (city.lo95 <= city.value * np.exp(-bounds.Z95 * BOUNDS.shared) + 1e-12).all()


def test_one_segment_as_an_area_has_its_own_bounds():
    t = traffic([8.0], 300.0, source=flow.CONGESTED)
    out = emit(t, TABLE, BOUNDS)
    area = sum_areas(out, t, np.array([0]), 1, BOUNDS)
    assert area.lo95[0] == pytest.approx(out.lo95[0])
    assert area.hi95[0] == pytest.approx(out.hi95[0])


def test_bounds_widen_when_a_counter_dies():
    common = {
        "speed_kmh": np.array([40.0]), "free_flow_kmh": np.array([50.0]), "road_class": np.array([2]), "lanes": np.array([1.0]),
        "prior_vph": np.array([300.0]),
    }  # fmt: skip

    def ratio(measured: float) -> np.ndarray:
        f = flow.estimate_flow(**common, measured_vph=np.array([measured]))
        out = emit(replace(traffic(40.0, f.flow_vph[0]), flow_log_var=f.log_var, flow_source=f.source), TABLE)
        return (out.hi95 / out.lo95)[0]

    assert (ratio(np.nan) > ratio(300.0)).all()


def test_widths_are_those_of_the_model():
    """x/: 1.6 with a counter, 2.5 by calendar, 1.45 for a city of counters; a city by calendar is not that certain."""
    n, co2, nox = 4000, OUTPUTS.index("co2_total"), OUTPUTS.index("nox")
    half = {}
    for source in (flow.MEASURED, flow.PRIOR):
        t = traffic(np.full(n, 40.0), 300.0, source=source)
        out = emit(t, TABLE, BOUNDS)
        city = sum_areas(out, t, np.zeros(n, dtype=np.intp), 1, BOUNDS)
        half[source] = (out.hi95[0] / out.value[0], city.hi95[0] / city.value[0])
    assert half[flow.MEASURED][0][co2] == pytest.approx(1.6, abs=0.06)
    assert half[flow.PRIOR][0][co2] == pytest.approx(2.5, abs=0.06)
    assert half[flow.MEASURED][1][co2] == pytest.approx(1.45, abs=0.02)
    assert half[flow.MEASURED][1][co2] < half[flow.PRIOR][1][co2] < half[flow.PRIOR][0][co2]
    assert half[flow.MEASURED][0][nox] > 2.8


def test_expansion_raises_and_widens_an_area():
    t = traffic([40.0, 30.0], 300.0)
    out = emit(t, TABLE, BOUNDS)
    plain, wide = (sum_areas(out, t, np.zeros(2, dtype=np.intp), 1, BOUNDS, expansion=e) for e in (None, np.array([1.5])))
    assert wide.value == pytest.approx(1.5 * plain.value)
    assert (wide.hi95 / wide.lo95 > plain.hi95 / plain.lo95).all()


def test_guards_are_counted():
    out = emit(traffic([3.0, 40.0, 139.0], 100.0), TABLE)
    assert out.guard_count["below_v_min"] == 1
    assert out.guard_count["above_v_max"] >= 1


def test_a_default_temperature_widens_bounds_and_a_live_grid_narrows_them():
    live = bounds.bounds_of(rates.Conditions(temperature_c=0.0, grid_source="live"))
    default = bounds.bounds_of(rates.Conditions.of_month(1))
    assert default.shared[OUTPUTS.index("co2_total")] > live.shared[OUTPUTS.index("co2_total")]
    assert default.shared[OUTPUTS.index("co2_electricity")] > live.shared[OUTPUTS.index("co2_electricity")]


def test_impossible_traffic_is_refused_with_its_place():
    with pytest.raises(ValueError, match=r"speed_kmh\[1\] = nan"):
        traffic([10.0, np.nan], 1.0)
    with pytest.raises(ValueError, match=r"flow_vph\[0\]"):
        traffic([10.0], -1.0)


def test_streams_without_a_share_are_refused():
    with pytest.raises(ValueError, match="give mix"):
        segment.stream_shares(np.array([2]), rates.rate_table(example_fleet(), CONDITIONS))
    mix = {c: {"general": 0.95, "bus": 0.05} for c in flow.ROAD_CLASSES}
    assert segment.stream_shares(np.array([2]), rates.rate_table(example_fleet(), CONDITIONS), mix).tolist() == [[0.95, 0.05]]


def test_the_same_input_gives_the_same_bytes():
    t = traffic(np.linspace(0.0, 90.0, 20000), 300.0)
    assert emit(t, TABLE).value.tobytes() == emit(t, TABLE).value.tobytes()
    assert emit(t, TABLE).value[:100].tobytes() == emit(traffic(np.linspace(0.0, 90.0, 20000)[:100], 300.0), TABLE).value.tobytes()


def test_a_record_has_every_output_with_bounds():
    record = emit(traffic([40.0], 300.0), TABLE).record(0)
    assert set(record) == set(OUTPUTS)
    assert all(set(v) == {"value", "lo95", "hi95"} for v in record.values())


def test_streams_of_one_kind_of_road_are_looked_up_as_one():
    speed, kind = np.linspace(0.0, 150.0, 9000), np.arange(9000) % len(flow.ROAD_CLASSES)
    each = replace(traffic(speed, 300.0), stream_share=segment.stream_shares(kind, TABLE))
    shares = segment.stream_shares(np.arange(len(flow.ROAD_CLASSES)), TABLE)
    assert emit(replace(each, stream_share=shares, kind=kind), TABLE).value == pytest.approx(emit(each, TABLE).value, rel=1e-12)


def test_sums_of_sums_are_those_of_their_segments():
    rng = np.random.default_rng(11)
    n = 20_000
    t = traffic(rng.uniform(0.0, 60.0, n), rng.uniform(0.0, 900.0, n), source=rng.integers(0, 4, n), extra_log_sd=rng.uniform(0.0, 0.5, n))
    value, piece, of = segment.values(t, TABLE), rng.integers(0, 300, n), rng.integers(-1, 7, 300)
    fine = segment.sums_of(lambda rows: value[:, rows], t, piece, 300, np.argsort(piece, kind="stable"))
    inside = np.flatnonzero(of[piece] >= 0)
    direct = segment.sums_of(lambda rows: value[:, inside[rows]], t.of(inside), of[piece][inside], 7)
    for a, b in zip(segment.of_sums(fine.over(of, 7), BOUNDS), segment.of_sums(direct, BOUNDS), strict=True):
        assert a == pytest.approx(b, rel=1e-9)
