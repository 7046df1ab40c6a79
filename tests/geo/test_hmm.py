"""Free matching on small streets: laws by Hypothesis, and the cases that go wrong in cities."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.assemble import Street, no_schedule, no_shapes, segments
from geo.graph import ANY, BUS, CAR, RAIL
from geo.hmm import FreeMatcher, HmmSettings, Step
from geo.network import Network

Place = tuple[float, float]


def street(name: str, *places: Place, both: bool = True, represents: str = "general_traffic") -> list[Street]:
    points = np.array(places, float)
    there = Street(f"{name}_f", points, places[0], places[-1], "residential", represents, opposite=f"{name}_b" if both else None)
    back = Street(f"{name}_b", points[::-1], places[-1], places[0], "residential", represents, opposite=f"{name}_f")
    return [there, back] if both else [there]


def network(*streets: list[Street]) -> Network:
    rows = segments([row for rows in streets for row in rows])
    return Network("test", "v", "EPSG:3067", rows, no_shapes(), no_schedule(), "drawn by hand", "", "")


def town(side: int = 5, spacing_m: float = 90.0) -> Network:
    """A grid with some one-way streets and one slanting street across it."""
    rows = []
    for i, j in itertools.product(range(side), range(side)):
        for k, (di, dj) in enumerate(((1, 0), (0, 1))):
            if i + di < side and j + dj < side:
                a, b = (i * spacing_m, j * spacing_m), ((i + di) * spacing_m, (j + dj) * spacing_m)
                rows.append(street(f"{i}{j}{k}", a, b, both=(i + 2 * j + k) % 4 != 0))
    rows.append(street("slant", (0.0, 0.0), (spacing_m * 2, spacing_m * 1.5), (spacing_m * 3, spacing_m * 3)))
    return network(*rows)


def one(
    matcher: FreeMatcher,
    t_s: float,
    east: float,
    north: float,
    heading: float = math.nan,
    speed: float = math.nan,
    profile: int = CAR,
    odometer: float = math.nan,
) -> Step:
    def f(x: float) -> np.ndarray:
        return np.array([x])

    return matcher.step(
        np.zeros(1, np.int64),
        np.array([round(t_s * 1000)]),
        f(east),
        f(north),
        f(heading),
        f(speed),
        np.array([profile], np.int8),
        f(odometer),
    )


def name(matcher: FreeMatcher, step: Step) -> str:
    return matcher.graph.segments.segment_id[int(step.segment[0])] if step.segment[0] >= 0 else ""


def driven(matcher: FreeMatcher, steps: list[Step]) -> list[tuple[str, float, float, int, int]]:
    rows = []
    for s in steps:
        t = s.traversals
        for i in range(len(t.slot)):
            rows.append((
                matcher.graph.segments.segment_id[t.segment[i]], float(t.from_offset_m[i]), float(t.to_offset_m[i]), int(t.t0_ms[i]), int(t.t1_ms[i])
            ))  # fmt: skip
    return rows


TOWN = town()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.25, 0.75), st.floats(-4, 4), st.floats(-15, 15))
def test_a_fix_on_a_streets_middle_with_its_heading_matches_it(pick: int, share: float, aside_m: float, turned_deg: float) -> None:
    matcher = FreeMatcher(TOWN)
    rows = [i for i, s in enumerate(TOWN.segments.segment_id) if not s.startswith("slant")]
    index = rows[pick % len(rows)]
    lines = TOWN.segments.geometry
    a, b = lines.start[index], lines.start[index] + 1
    e0, n0, e1, n1 = lines.east_m[a], lines.north_m[a], lines.east_m[b], lines.north_m[b]
    length = math.hypot(e1 - e0, n1 - n0)
    toward_e, toward_n = (e1 - e0) / length, (n1 - n0) / length
    heading = math.degrees(math.atan2(toward_e, toward_n)) + turned_deg
    east, north = e0 + share * (e1 - e0) + aside_m * toward_n, n0 + share * (n1 - n0) - aside_m * toward_e
    # the slanting street may lie as near: leave its corner out
    if abs(north - 0.75 * east) < 60 and east < 280:
        return
    step = one(matcher, 0, east, north, heading % 360, 8.0)
    assert int(step.segment[0]) == index
    assert step.offset_m[0] == pytest.approx(share * length, abs=0.01)
    assert step.distance_m[0] == pytest.approx(abs(aside_m), abs=0.01)


def wander(seed: int, vehicles: int, fixes: int) -> list[tuple[np.ndarray, ...]]:
    """Rounds of fixes of random vehicles: some stand, some jump, some leave out headings and speeds, some come late."""
    rng = np.random.default_rng(seed)
    east, north, way = rng.uniform(-20, 380, vehicles), rng.uniform(-20, 380, vehicles), rng.integers(0, 4, vehicles)
    t_ms = rng.integers(0, 500, vehicles)
    rounds = []
    for _ in range(fixes):
        way = np.where(rng.random(vehicles) < 0.1, rng.integers(0, 4, vehicles), way)
        moves = np.where(rng.random(vehicles) < 0.3, 0.0, rng.uniform(0, 40, vehicles))
        east = east + moves * np.array([0, 1, 0, -1])[way] + (rng.random(vehicles) < 0.01) * 2000
        north = north + moves * np.array([1, 0, -1, 0])[way]
        t_ms = t_ms + np.where(rng.random(vehicles) < 0.08, -700, rng.integers(500, 9000, vehicles))
        heading = np.where(rng.random(vehicles) < 0.2, np.nan, (way * 90 + rng.normal(0, 8, vehicles)) % 360)
        speed = np.where(rng.random(vehicles) < 0.2, np.nan, moves / 4)
        noise = rng.normal(0, 6, (2, vehicles))
        sent = np.flatnonzero(rng.random(vehicles) < 0.8)
        profile = (np.arange(vehicles) % 2 * ANY).astype(np.int8)
        rounds.append(tuple(c[sent] for c in (np.arange(vehicles), t_ms, east + noise[0], north + noise[1], heading, speed, profile)))
    return rounds


def columns(step: Step, own: np.ndarray | None = None, slot: int = -1) -> list[bytes]:
    """The bits of a step, or of one vehicle's part in it."""
    mine = slice(None) if own is None else own
    rows = slice(None) if own is None else step.traversals.slot == slot
    t = step.traversals
    return [
        *(c[mine].tobytes() for c in (step.segment, step.offset_m, step.distance_m, step.margin, step.started, step.late)),
        *(c[rows].tobytes() for c in (t.segment, t.from_offset_m, t.to_offset_m, t.t0_ms, t.t1_ms)),
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_a_vehicles_result_is_the_same_bits_whoever_else_is_in_the_call(seed: int, vehicles: int) -> None:
    together, alone = FreeMatcher(TOWN), FreeMatcher(TOWN)
    rng = np.random.default_rng(seed)
    for batch in wander(seed, vehicles, 25):
        order = rng.permutation(len(batch[0]))
        all_at_once = together.step(*(c[order] for c in batch))
        for at, i in enumerate(order):
            by_itself = alone.step(*(c[i : i + 1] for c in batch))
            slot = int(batch[0][i])
            assert columns(all_at_once, np.array([at]), slot) == columns(by_itself, np.array([0]), slot)
    for slot in range(vehicles):
        assert together.export(slot) == alone.export(slot)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 24))
def test_a_matcher_restored_midway_goes_on_with_the_same_bits(seed: int, cut: int) -> None:
    straight_on, before = FreeMatcher(TOWN), FreeMatcher(TOWN)
    rounds = wander(seed, 6, 25)
    for batch in rounds[:cut]:
        straight_on.step(*batch)
        before.step(*batch)
    after = FreeMatcher(TOWN)
    for slot in range(6):
        after.restore(slot, msgspec.msgpack.decode(msgspec.msgpack.encode(before.export(slot))))
    for batch in rounds[cut:]:
        assert columns(straight_on.step(*batch)) == columns(after.step(*batch))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_traversals_share_out_the_time_since_the_last_match_exactly(seed: int) -> None:
    matcher = FreeMatcher(TOWN)
    last: dict[int, int] = {}
    length = TOWN.segments.length_m
    for batch in wander(seed, 6, 40):
        step = matcher.step(*batch)
        t = step.traversals
        assert (t.to_offset_m >= t.from_offset_m).all()
        assert ((t.from_offset_m >= 0) & (t.to_offset_m <= length[t.segment])).all()
        for at, (slot, t_ms) in enumerate(zip(batch[0].tolist(), batch[1].tolist(), strict=True)):
            rows = np.flatnonzero(t.slot == slot)
            if step.late[at] or step.started[at] or step.segment[at] < 0:
                assert len(rows) == 0
            else:
                assert t.t0_ms[rows[0]] == last[slot]
                assert t.t1_ms[rows[-1]] == t_ms
                assert (t.t1_ms[rows[:-1]] == t.t0_ms[rows[1:]]).all()
                assert (t.segment[rows[-1]], t.to_offset_m[rows[-1]]) == (step.segment[at], step.offset_m[at])
                ends, starts = TOWN.segments.to_node[t.segment[rows[:-1]]], TOWN.segments.from_node[t.segment[rows[1:]]]
                turned = TOWN.segments.opposite[t.segment[rows[:-1]]] == t.segment[rows[1:]]
                assert ((ends == starts) | turned).all()
            if not step.late[at] and step.segment[at] >= 0:
                last[slot] = t_ms


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_positions_that_are_not_finite_are_refused(bad: float) -> None:
    matcher = FreeMatcher(TOWN)
    with pytest.raises(ValueError, match="not finite"):
        one(matcher, 0, bad, 10.0)
    assert matcher.export(0) == []


def test_a_slot_twice_in_one_call_is_refused() -> None:
    two = np.zeros(2)
    with pytest.raises(ValueError, match="distinct"):
        FreeMatcher(TOWN).step(np.zeros(2, np.int64), np.arange(2), two, two, two, two, np.zeros(2, np.int8))


def test_a_call_without_fixes_gives_empty_columns() -> None:
    none = np.zeros(0)
    step = FreeMatcher(TOWN).step(np.zeros(0, np.int64), np.zeros(0, np.int64), none, none, none, none, np.zeros(0, np.int8))
    assert len(step.segment) == len(step.traversals.slot) == 0


def test_a_moving_vehicle_is_never_matched_against_a_one_way_street() -> None:
    roads = network(street("one_way", (0, 0), (400, 0), both=False), street("next", (0, 14), (400, 14), both=False))
    matcher = FreeMatcher(roads)
    for t in range(40):  # westward, on a street that runs east: with a heading the fix has no street but the wrong way is never driven
        step = one(matcher, t, 380 - 8 * t, 0.0, 270.0, 8.0)
        assert (step.traversals.to_offset_m - step.traversals.from_offset_m).sum() == 0


def test_parallel_streets_are_told_apart_by_heading() -> None:
    roads = network(street("east", (0, 0), (400, 0), both=False), street("west", (400, 12), (0, 12), both=False))
    matcher = FreeMatcher(roads)
    for t in range(40):  # nearer the wrong one
        assert name(matcher, one(matcher, t, 10 + 9 * t, 8.0, 90.0, 9.0)) == "east_f"


def test_without_headings_the_way_driven_tells_the_direction() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (200, 0)), street("b", (200, 0), (400, 0))))
    names = [name(matcher, one(matcher, 5 * t, 390 - 40 * t, 2.0 * (-1) ** t)) for t in range(9)]
    assert names[2:5] == ["b_b"] * 3
    assert names[6:] == ["a_b"] * 3


def test_a_silence_in_a_tunnel_is_crossed_along_the_road() -> None:
    roads = network(
        street("in", (0, 0), (100, 0), both=False),
        street("tunnel", (100, 0), (300, 0), (300, 200), both=False),
        street("out", (300, 200), (300, 300), both=False),
        street("above", (100, 20), (100, 180), (280, 180)),
    )
    matcher = FreeMatcher(roads)
    steps = [one(matcher, 0, 50, 0, 90.0, 10.0), one(matcher, 4, 90, 0, 90.0, 10.0), one(matcher, 46, 300, 210, 0.0, 10.0)]
    assert name(matcher, steps[2]) == "out_f"
    rows = driven(matcher, steps[2:])
    assert [r[0] for r in rows] == ["in_f", "tunnel_f", "out_f"]
    assert rows[1][1:3] == (0.0, 400.0)
    assert (rows[0][3], rows[-1][4]) == (4000, 46000)
    assert rows[1][4] - rows[1][3] == pytest.approx(42000 * 400 / 420, abs=1500)


def test_a_long_silence_starts_anew() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (4000, 0))))
    one(matcher, 0, 10, 0, 90.0, 10.0)
    step = one(matcher, 61, 620, 0, 90.0, 10.0)
    assert step.started[0]
    assert len(step.traversals.slot) == 0


def test_a_jump_starts_anew() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (4000, 0))))
    one(matcher, 0, 10, 0, 90.0, 10.0)
    step = one(matcher, 5, 3000, 0, 90.0, 10.0)
    assert step.started[0]
    assert name(matcher, step) == "a_f"


def test_streets_that_do_not_meet_start_anew() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (200, 0)), street("b", (400, 0), (600, 0))))
    one(matcher, 0, 190, 0, 90.0, 10.0)
    step = one(matcher, 20, 410, 0, 90.0, 10.0)
    assert name(matcher, step) == "b_f"
    assert step.started[0]


def test_a_dead_end_is_turned_in_and_driven_out_of() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (300, 0))))
    steps = [one(matcher, 4 * t, 100 + 40 * t, 0, 90.0, 10.0) for t in range(5)]
    steps += [one(matcher, 24 + 4 * t, 240 - 40 * t, 0, 270.0, 10.0) for t in range(5)]
    names = [name(matcher, s) for s in steps]
    assert names == ["a_f"] * 5 + ["a_b"] * 5
    total = sum(r[2] - r[1] for r in driven(matcher, steps))
    assert total == pytest.approx(200 + 60 + 140, abs=45)  # either to the end, or turned before it
    assert not any(s.started[0] for s in steps[1:])


def test_turning_round_in_the_street_needs_more_than_one_odd_fix() -> None:
    long = network(street("a", (0, 0), (1000, 0)), street("b", (1000, 0), (2000, 0)))
    matcher = FreeMatcher(long)
    names = [name(matcher, one(matcher, t, 100 + 8 * t + (-6 if t == 10 else 0), 0.0, math.nan, math.nan)) for t in range(5, 20)]
    assert set(names[3:]) == {"a_f"}


@pytest.mark.parametrize("speed", [0.0, math.nan])
def test_standing_at_a_signal_gives_time_and_no_distance(speed: float) -> None:
    rng = np.random.default_rng(3)
    matcher = FreeMatcher(network(street("a", (0, 0), (200, 0)), street("b", (200, 0), (400, 0)), street("c", (200, 0), (200, 150))))
    for t in range(10):
        one(matcher, t, 70 + 10 * t, 0.0, 90.0, 10.0)
    first = one(matcher, 10, 165, 0.0, 90.0, speed)
    assert name(matcher, first) == "a_f"
    steps = [one(matcher, 11 + t, 165 + rng.normal(0, 2.5), rng.normal(0, 2.5), 90.0, speed) for t in range(60)]
    rows = driven(matcher, steps)
    assert {r[0] for r in rows} == {"a_f"}
    assert sum(r[2] - r[1] for r in rows) <= (0.0 if speed == 0.0 else 12.0)
    assert sum(r[4] - r[3] for r in rows) == 60_000


def test_the_distance_driven_follows_the_speed_reported_not_the_noise() -> None:
    rng = np.random.default_rng(5)
    matcher = FreeMatcher(network(street("a", (0, 0), (1000, 0), both=False), street("b", (1000, 0), (2000, 0), both=False)))
    steps = [one(matcher, t, 20 + 9 * t + rng.normal(0, 6), rng.normal(0, 6), 90.0, 9.0) for t in range(200)]
    assert sum(r[2] - r[1] for r in driven(matcher, steps)) == pytest.approx(9 * 199, abs=20)


def test_a_late_fix_is_matched_and_moves_nothing() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (200, 0)), street("b", (200, 0), (400, 0))))
    for t in range(0, 24, 2):
        one(matcher, t, 10 + 10 * t, 0.0, 90.0, 10.0)
    before = matcher.export(0)
    step = one(matcher, 15, 160, 1.0)  # no heading: the newer fixes tell the direction
    assert step.late[0]
    assert name(matcher, step) == "a_f"
    assert len(step.traversals.slot) == 0
    assert matcher.export(0) == before


def test_far_from_every_street_there_is_no_match_and_the_path_goes_on_afterwards() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (600, 0))))
    one(matcher, 0, 100, 0, 90.0, 10.0)
    away = one(matcher, 10, 200, 70, 90.0, 10.0)
    assert away.segment[0] == -1
    assert np.isnan(away.offset_m[0])
    back = one(matcher, 20, 300, 0, 90.0, 10.0)
    assert [(r[0], r[3], r[4]) for r in driven(matcher, [back])] == [("a_f", 0, 20_000)]


def test_buses_use_bus_lanes_trams_use_rails_and_cars_neither() -> None:
    roads = network(
        street("road", (0, 0), (300, 0), both=False),
        street("lane", (0, 4), (300, 4), both=False, represents="bus_lane"),
        street("rail", (0, -4), (300, -4), both=False, represents="rail"),
    )
    for profile, north, want in (
        (CAR, 4, "road_f"),
        (BUS, 4, "lane_f"),
        (RAIL, 4, "rail_f"),
        (CAR, -4, "road_f"),
        (BUS, -4, "road_f"),
        (ANY, -4, "rail_f"),
    ):
        matcher = FreeMatcher(roads)
        assert name(matcher, one(matcher, 0, 150, north, 90.0, 8.0, profile)) == want


def test_a_cleared_slot_starts_anew() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (600, 0))))
    one(matcher, 0, 100, 0, 90.0, 10.0)
    matcher.clear(0)
    assert matcher.export(0) == []
    assert one(matcher, 1, 110, 0, 90.0, 10.0).started[0]


def test_of_two_ways_to_where_it_may_be_it_took_the_one_that_its_odometer_counted() -> None:
    ways = network(
        street("a", (0, 0), (300, 0)), street("straight", (300, 0), (1000, 0)), street("d1", (300, 0), (300, -150)),
        street("d2", (300, -150), (450, -150)), street("d3", (450, -150), (450, -12)), street("round", (450, -12), (1000, -12)),
    )  # fmt: skip
    for counted, want in ((500.0, "straight_f"), (788.0, "round_f")):
        matcher = FreeMatcher(ways)
        one(matcher, 0, 100, 0, 90.0, 10.0, odometer=5_000.0)
        assert name(matcher, one(matcher, 60, 600, -6, 90.0, 10.0, odometer=5_000.0 + counted)) == want


def test_by_its_own_fixes_it_knows_how_noisy_they_are() -> None:
    rng = np.random.default_rng(11)
    noisy, calm = (FreeMatcher(network(street("a", (0, 0), (4000, 0)))) for _ in range(2))
    for t in range(60):
        one(noisy, t, 100.0 + 10 * t, rng.normal(0.0, 15.0), 90.0, 10.0)
        one(calm, t, 100.0 + 10 * t, rng.normal(0.0, 3.0), 90.0, 10.0)
    square = noisy.settings.usual_noise_m**2
    assert noisy.export(0)[5] > square > calm.export(0)[5]


def test_a_state_of_another_network_is_refused() -> None:
    matcher = FreeMatcher(network(street("a", (0, 0), (600, 0))))
    one(matcher, 0, 100, 0, 90.0, 10.0)
    state = matcher.export(0)
    with pytest.raises(ValueError, match="fields"):
        matcher.restore(0, state[:5])
    state[6] = 77
    with pytest.raises(ValueError, match="does not have"):
        matcher.restore(0, state)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"sigma_m": 0.0}, {"beta_m": math.nan}, {"candidates": 0}, {"max_gap_s": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            HmmSettings(**wrong)  # type: ignore[arg-type]
