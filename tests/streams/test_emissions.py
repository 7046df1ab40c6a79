"""Laws of the emission step: what adds up, what widens, what is zero, and that the log alone decides."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.streets import streets
from models import schemas
from models.emission_records import AreaState, EmissionArea, EmissionSegment, EmissionVehicle
from models.emissions.fleet import Fleet, example_fleet, fleet_from_rows
from models.freeflow import free_flow
from models.fusion import BLENDED, INFERRED, NONE, Estimate
from models.records import encode
from streams.cells import DIST, DWELL, N_SUMS, TIME, WINDOW_MS
from streams.emissions import EmissionSettings, Emitter, Seen
from streams.flows import FlowsSettings
from streams.fuse import Fuser, FuseSettings
from streams.outputs import Outputs
from streams.partial import CrewRow, SensorRow, WeatherRow
from tests.streams import kit

OUTPUTS = ("co2_fossil", "co2_total", "co2_electricity", "nox", "no2", "pm_exhaust", "pm_nonexhaust", "co", "energy")
RECORDS = {"emission-segment": EmissionSegment, "emission-area": EmissionArea, "emission-vehicle": EmissionVehicle, "area-state": AreaState}
#: A minute whose end ends a block of five.
W = kit.T0 // WINDOW_MS // 5 * 5 + 4


def emitter(**changes: Any) -> Emitter:
    s = kit.network().segments
    free, _ = free_flow(s.speed_limit_kmh, s.road_class)
    return Emitter(kit.city(), kit.network(), free, streets(kit.network()).expected_kmh, EmissionSettings(**changes))


def estimate(speed_kmh: float | np.ndarray[Any, Any], origin: int = INFERRED, spread: float = 0.2) -> Estimate:
    n = len(kit.network().segments)
    v = np.broadcast_to(np.asarray(speed_kmh, np.float64), (n,)).copy()
    known = np.isfinite(v)
    zero = np.zeros(n)
    kinds = np.where(known, origin, NONE).astype(np.int64)
    return Estimate(v, v * np.exp(-spread), v * np.exp(spread), np.where(known, 0.5, 0.0), kinds, zero, zero, zero, zero)


def counter(segment: int, w: int, vph: float, name: str = "c1") -> dict[str, SensorRow]:
    return {f"{name}:1": SensorRow(name, "1", segment, (w + 1) * WINDOW_MS, 300_000, vph, 40.0, None, None)}


def seen(
    w: int, e: Estimate, sensors: dict[str, SensorRow] | None = None, cells: list[tuple[int, int, int, int, int]] | None = None
) -> Seen:
    """``cells``: segment, vehicle, metres, seconds driving, seconds at a stop."""
    rows = cells or []
    sums = np.zeros((len(rows), N_SUMS), np.int64)
    for k, (_, _, metres, driving, standing) in enumerate(rows):
        sums[k, DIST], sums[k, TIME], sums[k, DWELL] = metres * 1000, driving * 1000, standing * 1000
    segment, who = np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.int64)
    observed = np.unique(np.r_[segment, np.array([s.segment for s in (sensors or {}).values()], np.int64)])
    names = [f"0018/{k:05d}" for k in range(10)]
    return Seen(np.arange(len(kit.network().segments)), e, observed, segment, who, sums, names, sensors or {}, 151, False)


def decoded(out: Outputs, product: str, minutes: int | None = None) -> list[Any]:
    records = [msgspec.json.decode(o.value, type=RECORDS[product]) for o in out.records.get(product, [])]
    if minutes is None:
        return records
    return [r for r in records if (_minute(r.window_end) - _minute(r.window_start)) % 60 == minutes]


def _minute(text: str) -> int:
    return int(text[14:16])


def block(e: Emitter, speed: Any = 30.0, **kwargs: Any) -> Outputs:
    """The last minute of a block."""
    return e.final(W, seen(W, estimate(speed), **kwargs))


def test_segments_add_up_to_their_cells_and_the_cells_to_the_city() -> None:
    cells = [(0, 1, 200, 20, 0), (3, 2, 100, 15, 20)]
    out = block(emitter(), cells=cells, sensors=counter(2, W, 600.0))
    segments, areas = decoded(out, "emission-segment", 5), decoded(out, "emission-area", 5)
    city = next(a for a in areas if a.area_kind == "city")
    assert len(segments) == len(kit.network().segments)
    assert city.coverage_expansion == 1.0
    for output in OUTPUTS:
        total = getattr(city, output).value
        assert sum(getattr(s, output).value for s in segments) == pytest.approx(total, rel=2e-3)
        assert sum(getattr(a, output).value for a in areas if a.area_kind == "h3_8") == pytest.approx(total, rel=2e-3)


def test_areas_are_told_of_each_minute_too_before_it_is_final_and_then() -> None:
    e = emitter()
    before = e.provisional(W - 1, seen(W - 1, estimate(30.0)))
    assert "emission-area" not in before.records, "what is known of one street is not yet the city"
    final = e.final(W - 1, seen(W - 1, estimate(30.0), sensors=counter(2, W - 1, 600.0)))
    said = decoded(final, "emission-area", 1)
    assert len(said) == len(final.records["emission-area"])
    assert {a.status for a in said} == {"final"}
    early = e.provisional(W, seen(W, estimate(28.0)))
    for product in ("emission-area", "area-state"):
        assert {a.status for a in decoded(early, product)} == {"provisional"}
    late = e.final(W, seen(W, estimate(28.0)))
    state, soon = (next(a for a in decoded(o, "area-state") if a.area_kind == "city") for o in (late, early))
    assert state.travel_time_index == pytest.approx(soon.travel_time_index, rel=0.05)
    assert (state.km_by_los, state.coverage_pct, state.segments) == (soon.km_by_los, soon.coverage_pct, soon.segments)
    minute, five = (next(a for a in decoded(late, "emission-area", m) if a.area_kind == "city") for m in (1, 5))
    assert minute.window_end == five.window_end
    assert minute.co2_total.value == pytest.approx(five.co2_total.value, rel=0.1)


def test_areas_count_where_guards_of_the_factors_fired() -> None:
    areas = decoded(block(emitter(), 2.0, sensors=counter(2, W, 300.0)), "emission-area", 5)
    city = next(a for a in areas if a.area_kind == "city")
    assert city.guards.below_v_min == city.segments > 0
    assert city.guards.above_v_max == 0
    assert sum(a.guards.below_v_min for a in areas if a.area_kind == "h3_8") == city.guards.below_v_min


def test_a_sum_is_surer_than_its_parts_but_never_surer_than_what_they_share() -> None:
    out = block(emitter())
    city = next(a for a in decoded(out, "emission-area") if a.area_kind == "city").co2_total
    segment = decoded(out, "emission-segment", 5)[0].co2_total
    assert city.hi95 / city.value < segment.hi95 / segment.value
    assert city.hi95 / city.value > 1.45


def test_a_queue_whose_speed_is_hardly_known_does_not_make_the_city_unsure() -> None:
    e = estimate(30.0)
    e.speed_kmh[0], e.p20_kmh[0], e.p80_kmh[0] = 0.5, 1e-6, 30.0
    out = emitter().final(W, seen(W, e))
    city = next(a for a in decoded(out, "emission-area") if a.area_kind == "city").co2_total
    queue = next(s for s in decoded(out, "emission-segment", 5) if s.segment_id == kit.network().segments.segment_id[0]).co2_total
    assert city.hi95 / city.value < 3.0
    assert 3.0 < queue.hi95 / queue.value < 100.0  # wide, but a standing queue emits a finite rate


def test_a_street_that_leads_through_usually_carries_more_than_one_that_ends() -> None:
    flows = emitter().flows
    at = {i: k for k, i in enumerate(kit.network().segments.segment_id)}
    usual = flows.prior(W * WINDOW_MS)
    alike = [k for k in at.values() if flows.road_class[k] == flows.road_class[at["main5_f"]]]
    assert usual[at["main5_f"]] > usual[at["main0_f"]]
    weight = flows.length_km[alike]
    even = emitter(flows=FlowsSettings(through_power=0.0)).flows.prior(W * WINDOW_MS)
    assert usual[alike] @ weight == pytest.approx(even[alike] @ weight)  # the class as a whole carries what it did


def test_streets_that_nothing_is_known_of_have_no_record_and_stretch_the_sum_of_their_area() -> None:
    n = len(kit.network().segments)
    half = np.where(np.arange(n) % 2 == 0, 30.0, np.nan)
    out = block(emitter(), half)
    city = next(a for a in decoded(out, "emission-area") if a.area_kind == "city")
    segments = decoded(out, "emission-segment", 5)
    assert len(segments) == (n + 1) // 2 == city.segments
    assert city.coverage_expansion > 1.5
    total = sum(s.co2_total.value for s in segments)
    assert city.co2_total.value == pytest.approx(total * city.coverage_expansion, rel=2e-3)


def test_bounds_widen_when_a_counter_dies() -> None:
    e = emitter()
    wide = []
    for k in range(5):
        w = W + 20 * k
        out = e.final(w, seen(w, estimate(30.0), counter(2, w, 600.0) if k == 0 else None))
        e.pace[:], e.pace_windows[:] = 0.0, 0
        segment = next(s for s in decoded(out, "emission-segment") if s.segment_id == kit.network().segments.segment_id[2])
        wide.append(segment.flow_vph.hi95 / segment.flow_vph.value)
        assert (segment.flow_source == "measured") == (k == 0) or wide[-1] > wide[0]
    assert wide == sorted(wide)
    assert wide[-1] > 2 * wide[0]


def test_a_count_holds_for_its_whole_block_a_little_less_surely() -> None:
    block = streets(kit.network()).block
    at = next(k for k in range(len(block)) if (block == block[k]).sum() > 1)
    s = kit.network().segments
    free, _ = free_flow(s.speed_limit_kmh, s.road_class)
    e = Emitter(kit.city(), kit.network(), free, streets(kit.network()).expected_kmh, block=block)
    said = {r.segment_id: r for r in decoded(e.final(W, seen(W, estimate(30.0), counter(at, W, 600.0))), "emission-segment", 5)}
    here = said[s.segment_id[at]].flow_vph
    for k in np.flatnonzero(block == block[at]).tolist():
        there = said[s.segment_id[k]]
        assert (there.flow_source, there.flow_vph.value) == ("measured", here.value)
        assert there.flow_vph.hi95 > here.hi95 or k == at


def test_no_vehicles_emit_nothing() -> None:
    out = block(emitter(), sensors=counter(2, W, 0.0))
    segment = next(s for s in decoded(out, "emission-segment", 5) if s.segment_id == kit.network().segments.segment_id[2])
    assert segment.flow_source == "measured"
    for output in OUTPUTS:
        quantity = getattr(segment, output)
        assert (quantity.value, quantity.lo95, quantity.hi95) == (0.0, 0.0, 0.0)


@functools.cache
def _counted(vph: float, speed: float) -> Any:
    out = block(emitter(), speed, sensors=counter(2, W, vph))
    return next(s for s in decoded(out, "emission-segment", 5) if s.segment_id == kit.network().segments.segment_id[2])


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([0.0, 60.0, 240.0, 800.0]), st.sampled_from([60.0, 900.0, 1500.0]), st.sampled_from([4.0, 20.0, 45.0]))
def test_emissions_never_fall_when_more_vehicles_are_counted(vph: float, more: float, speed: float) -> None:
    one, other = _counted(vph, speed), _counted(vph + more, speed)
    for output in OUTPUTS:
        assert getattr(other, output).value >= getattr(one, output).value >= 0.0


def test_free_flow_never_tells_the_flow_and_a_jam_does() -> None:
    free = decoded(block(emitter(), 45.0), "emission-segment", 5)
    assert {s.flow_source for s in free} == {"prior"}
    jam = decoded(block(emitter(), 4.0), "emission-segment", 5)
    assert {s.flow_source for s in jam} == {"fundamental_diagram"}
    assert all(0.0 < s.co2_total.value < 1e6 for s in decoded(block(emitter(), 0.0), "emission-segment", 5)), "a standing queue emits"


def _battery() -> Fleet:
    return fleet_from_rows(
        [
            {"stream": "general", "category": "passenger_car", "fuel": "electric", "share": 1},
            {"stream": "bus", "category": "urban_bus", "fuel": "electric", "share": 1},
        ],
        "battery",
    )


def test_a_battery_fleet_has_a_clean_tailpipe_wear_and_electricity() -> None:
    out = block(emitter(fleet=_battery()), cells=[(0, 1, 200, 30, 10)])
    for record in [*decoded(out, "emission-segment"), *decoded(out, "emission-area"), *decoded(out, "emission-vehicle")]:
        for output in ("co2_fossil", "co2_total", "nox", "no2", "pm_exhaust", "co"):
            assert getattr(record, output).hi95 == 0.0
        assert record.pm_nonexhaust.value > 0.0
        assert record.co2_electricity.value > 0.0


def test_transit_on_a_street_is_what_its_vehicles_emit_for_the_time_that_they_were_there() -> None:
    e = emitter()
    cells = [(0, 1, 200, 20, 0), (1, 1, 150, 20, 20)]
    out = e.final(W, seen(W, estimate(np.nan), cells=cells))  # nothing is known of the rest
    (vehicle,) = decoded(out, "emission-vehicle")
    segments = decoded(out, "emission-segment", 1)
    assert vehicle.speed_kmh == pytest.approx(21.0)
    assert {s.transit_share for s in segments} == {1.0}
    assert vehicle.co2_total.value * vehicle.time_s / 60.0 == pytest.approx(sum(s.co2_total.value for s in segments), rel=1e-3)
    assert vehicle.energy_kwh_km.value == pytest.approx(vehicle.energy.value / 3.6 / vehicle.speed_kmh, rel=1e-3)


def test_an_unknown_vehicle_may_be_a_battery_bus_and_a_known_one_is_what_it_is() -> None:
    cells = [(0, 1, 300, 50, 0), (0, 2, 300, 50, 0), (0, 3, 300, 50, 0)]
    e = emitter(fleet=example_fleet(), powertrains={"0018/00002": "electric", "0018/00003": "diesel"})
    unknown, electric, diesel = decoded(e.final(W, seen(W, estimate(30.0), cells=cells)), "emission-vehicle")
    assert (unknown.powertrain, unknown.powertrain_source, unknown.co2_total.lo95) == ("mix", "fleet_mix", 0.0)
    assert (electric.powertrain_source, electric.co2_total.hi95) == ("register", 0.0)
    assert diesel.co2_total.lo95 > 0.0
    assert unknown.co2_total.hi95 == diesel.co2_total.hi95


def test_only_known_occupancy_is_shared_out_and_trams_are_left_out() -> None:
    e = emitter()
    rows = [CrewRow("0018/00001", W, "bus", 5, 20.0), CrewRow("0018/00002", W, "bus", -1, -1.0), CrewRow("0018/00003", W, "tram", 5, 50.0)]
    e.crews.hear(rows, 0)
    cells = [(0, k, 300, 50, 0) for k in (1, 2, 3)]
    with_people, without = decoded(e.final(W, seen(W, estimate(30.0), cells=cells)), "emission-vehicle")
    assert with_people.co2_total_g_per_passenger_km.value == pytest.approx(
        with_people.co2_total.value / with_people.speed_kmh / (0.2 * with_people.capacity), rel=1e-2
    )
    assert (without.occupancy_pct, without.co2_total_g_per_passenger_km, without.capacity) == (None, None, None)


def test_crews_say_the_same_in_whatever_order_they_come() -> None:
    rows = [CrewRow("a", W, "bus", 5, 20.0), CrewRow("a", W, "bus", 9, 10.0), CrewRow("a", W, "bus", -1, -1.0)]
    one, other = emitter(), emitter()
    one.crews.hear(rows, 0)
    other.crews.hear(rows[::-1], 0)
    assert one.crews.of(W) == other.crews.of(W)
    assert one.crews.of(W)["a"].occupancy_pct == 10.0


def test_colder_air_emits_more_and_says_where_it_was_measured() -> None:
    end = (W + 1) * WINDOW_MS
    cold, usual = emitter(), emitter()
    cold.surroundings.hear([WeatherRow("w/1", end - 60_000, end - 30_000, -18.2), WeatherRow("w/2", end - 60_000, end + 1, 30.0)], ())
    a, b = (decoded(block(e), "emission-segment", 5)[0] for e in (cold, usual))
    assert (a.temperature_c, a.temperature_source) == (-18.0, "measured")
    assert (b.temperature_c, b.temperature_source) == (1.0, "default")
    assert a.co2_total.value > b.co2_total.value
    assert a.co2_total.hi95 / a.co2_total.value < b.co2_total.hi95 / b.co2_total.value


def test_traffic_that_comes_late_restates_the_minute_with_a_higher_revision() -> None:
    fuser = Fuser(kit.city(), kit.network(), FuseSettings())
    items = [i for v in range(3) for i in kit.drive(0, 8.0, seconds=200, from_m=50.0 * v, vehicle=v + 1, route="1001", direction=1)]
    from streams.offline import Run

    run = Run(kit.city(), kit.network())
    run.fuser = fuser
    outs = [run.feed("hfp", 0, e) for e in kit.cut(kit.in_order(items), range(0, len(items), 50))]
    outs.append(run.finish())
    found: dict[tuple[str, str], list[EmissionSegment]] = {}
    for out in outs:
        for r in decoded(out, "emission-segment", 1):
            found.setdefault((r.segment_id, r.window_start), []).append(r)
    restated = [rs for rs in found.values() if len(rs) > 1]
    assert restated
    for rs in found.values():
        assert [r.status for r in rs][-1] == "final"
        assert [r.revision for r in rs] == sorted({r.revision for r in rs})


def _log(cut: int) -> list[bytes]:
    from streams.offline import Run

    items = [
        i
        for v in range(4)
        for i in kit.drive(v % 2, 7.0 + v, seconds=700, from_m=40.0 * v, vehicle=v + 1, route="1001", direction=1 + v % 2)
    ]
    run = Run(kit.city(), kit.network(), fuse=FuseSettings(provisional_ms=1 << 60))
    values: list[bytes] = []
    for k, e in enumerate(kit.cut(kit.in_order(items), range(0, len(items), cut))):
        if k % 7 == 3:  # a restart
            again = Fuser(kit.city(), kit.network(), run.fuse)
            again.restore(run.fuser.export())
            run.fuser = again
        out = run.feed("hfp", 0, e)
        values += [o.value for p in RECORDS for o in out.records.get(p, [])]
    out = run.finish()
    return sorted(values + [o.value for p in RECORDS for o in out.records.get(p, [])])


def test_the_same_log_gives_the_same_bytes_however_it_is_cut_and_restarted() -> None:
    one = _log(400)
    assert len(one) > 100
    assert one == _log(90)


def test_every_record_fits_its_schema_and_is_written_as_its_class_is() -> None:
    e = emitter()
    e.crews.hear([CrewRow("0018/00001", W, "bus", 5, 20.0)], 0)
    out = block(e, sensors=counter(2, W, 480.0), cells=[(0, 1, 200, 30, 10)])
    for product, record in RECORDS.items():
        validator = jsonschema.Draft202012Validator(schemas.schema(product))
        assert out.records[product]
        for o in out.records[product]:
            plain = msgspec.json.decode(o.value)
            validator.validate(plain)
            assert msgspec.json.decode(encode(msgspec.json.decode(o.value, type=record))) == plain
    assert len({o.ce_id for outs in out.records.values() for o in outs}) == sum(map(len, out.records.values()))


def test_an_area_is_as_slow_as_its_streets() -> None:
    n = len(kit.network().segments)
    e = emitter()
    out = e.final(W, seen(W, estimate(25.0, BLENDED), cells=[(0, 1, 100, 30, 0), (1, 1, 100, 20, 0), (0, 2, 100, 20, 0)]))
    city = next(a for a in decoded(out, "area-state") if a.area_kind == "city")
    assert city.travel_time_index == pytest.approx(2.0)
    assert (city.vehicles, city.segments, city.coverage_pct) == (2, n, 100.0)
    assert pytest.approx(kit.network().segments.length_m.sum() / 1000.0, abs=0.01) == city.km_by_los.D
    assert city.delay_veh_h == pytest.approx(city.vehicle_km_h * (1 / 25 - 1 / 50), rel=1e-2)


def test_a_fleet_of_several_bus_streams_is_refused() -> None:
    rows = [{"stream": s, "category": "urban_bus", "fuel": "diesel", "share": 1} for s in ("a", "b")]
    with pytest.raises(ValueError, match="expected one of buses at most"):
        emitter(fleet=fleet_from_rows([*rows, {"category": "passenger_car", "fuel": "petrol", "share": 1}], "odd"))
