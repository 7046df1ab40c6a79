"""Progress along shapes: the right pass, never backwards, and only from what was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import polylines
from geo.track import NEVER, Progress, ShapePoints, Tracker, TrackSettings
from tests.streams import kit

NET = kit.network()
POINTS = ShapePoints(NET, TrackSettings().spacing_m)
OUT, BACK, OUTBACK, EIGHT, RING = range(5)
LENGTH = polylines.lengths(NET.shapes.geometry)
NAN = np.nan


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


class One:
    """A tracker with one vehicle, fed fix by fix."""

    def __init__(self) -> None:
        self.tracker = Tracker(POINTS)
        self.tracker.grow(1)

    def step(
        self,
        shape: int,
        t_ms: int,
        place: tuple[float, float],
        speed: float = NAN,
        odometer: float = NAN,
        course: tuple[float, float] = (0.0, 0.0),
    ) -> Progress:
        return self.tracker.step(
            ints(0), ints(shape), ints(t_ms), np.array([place[0]]), np.array([place[1]]), (np.array([course[0]]), np.array([course[1]])),
            np.array([speed]), np.array([odometer]),
        )  # fmt: skip


def follow(
    shape: int, every_s: int, *, told: str = "speed", noise_m: float = 0.0, seed: int = 0, speed: float = 10.0
) -> tuple[Any, Any, Any]:
    """Truth and estimate along a shape (metres; NaN where not matched), and which fixes ended a step."""
    rng, one = np.random.default_rng(seed), One()
    true, got, steps = [], [], []
    for k in range(0, int(LENGTH[shape] / speed) + 1, every_s):
        s = speed * k
        east, north = kit.at(shape, s)
        ahead = kit.at(shape, min(s + 1.0, LENGTH[shape]))
        behind = kit.at(shape, max(0.0, min(s, LENGTH[shape]) - 1.0))
        norm = float(np.hypot(ahead[0] - behind[0], ahead[1] - behind[1])) or 1.0
        course = ((ahead[0] - behind[0]) / norm, (ahead[1] - behind[1]) / norm) if "heading" in told else (0.0, 0.0)
        dx, dy = rng.normal(0.0, noise_m, 2) if noise_m else (0.0, 0.0)
        p = one.step(
            shape, 1000 * k, (east + dx, north + dy), speed if "speed" in told else NAN, 3.0 + s if "odometer" in told else NAN, course
        )
        true.append(s)
        got.append(p.s_mm[0] / 1000.0 if p.on[0] else NAN)
        steps.append(bool(p.step[0]))
    return np.array(true), np.array(got), np.array(steps)


@pytest.mark.parametrize("shape", [OUT, BACK, OUTBACK, EIGHT, RING])
@pytest.mark.parametrize("told", ["speed", "speed heading", "odometer", "nothing"])
@pytest.mark.parametrize("every_s", [2, 10, 30])
def test_a_vehicle_is_followed_on_the_right_pass_of_a_shape_that_crosses_itself_turns_back_or_closes(
    shape: int, told: str, every_s: int
) -> None:
    true, got, steps = follow(shape, every_s, told=told)
    assert np.isfinite(got).all()
    blind_turn = told == "nothing" and shape == OUTBACK and every_s > 5  # where it turns, one fix fits both passes
    assert np.abs(got - true).max() < (300.0 if blind_turn else 60.0 if told == "nothing" else 1.0)
    assert abs(got[-1] - true[-1]) < 6.0
    assert np.median(np.abs(got - true)) < 6.0
    assert steps[1:].mean() > 0.97


@pytest.mark.parametrize(("every_s", "told", "middle_m", "worst_m"), [
    (1, "speed", 3.0, 15.0), (1, "odometer", 3.0, 15.0), (1, "nothing", 9.0, 60.0), (5, "nothing", 10.0, 60.0),
    (10, "speed", 8.0, 35.0), (10, "nothing", 10.0, 50.0), (30, "speed", 9.0, 45.0), (30, "nothing", 11.0, 50.0),
])  # fmt: skip
def test_with_ten_metres_of_noise_it_stays_near_the_truth(every_s: int, told: str, middle_m: float, worst_m: float) -> None:
    errors = []
    for seed in range(3):
        for shape in (OUT, EIGHT):
            true, got, _ = follow(shape, every_s, told=told, noise_m=10.0, seed=seed)
            assert np.isfinite(got).mean() > 0.95
            errors.append(np.abs(got - true)[np.isfinite(got)])
    error = np.concatenate(errors)
    assert error.mean() < middle_m
    assert np.percentile(error, 99) < worst_m


fixes = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.floats(-60.0, 260.0),
        st.floats(-70.0, 70.0),
        st.sampled_from([NAN, 0.0, 2.5, 14.0, 60.0]),
        st.sampled_from([NAN, 0.0, 50.0, 4000.0]),
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([OUT, OUTBACK, EIGHT, RING]), fixes)
def test_progress_never_falls_within_a_step_and_stays_on_the_shape(shape: int, moves: list[tuple[int, float, float, float, float]]) -> None:
    one, t, s, before = One(), 0, 0.0, None
    for dt_s, along, across, speed, odometer in moves:
        t, s = t + 1000 * dt_s, min(max(s + along, 0.0), LENGTH[shape])
        east, north = kit.at(shape, s)
        p = one.step(shape, t, (east + across, north + across), speed, odometer)
        if p.on[0]:
            assert 0 <= p.s_mm[0] <= round(LENGTH[shape] * 1000)
        if p.step[0]:
            assert before is not None
            assert (p.from_t_ms[0], p.from_s_mm[0]) == before
            assert p.s_mm[0] >= p.from_s_mm[0]
            assert 0 < t - p.from_t_ms[0] <= 120_000
        if p.on[0]:
            before = (t, p.s_mm[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.integers(0, 2**32), st.data())
def test_what_becomes_of_a_vehicle_does_not_depend_on_who_else_is_in_the_call(n: int, seed: int, data: Any) -> None:
    """Bit for bit: what is left in the columns, whichever vehicles were stepped together."""
    rng = np.random.default_rng(seed)
    whole, single = Tracker(POINTS), Tracker(POINTS)
    whole.grow(n)
    single.grow(n)
    shape = rng.integers(0, 5, n)
    s = rng.uniform(0, 500, n)
    for k in range(12):
        places = np.array([kit.at(int(q), float(x)) for q, x in zip(shape, s, strict=True)]) + rng.normal(0, 8, (n, 2))
        speed, odo = np.where(rng.random(n) < 0.3, NAN, rng.uniform(0, 15, n)), np.where(rng.random(n) < 0.5, NAN, s)
        angle = rng.uniform(0, 6.28, n)
        east, north, ux, uy = places[:, 0].copy(), places[:, 1].copy(), np.cos(angle), np.sin(angle)
        t = np.full(n, 1000 * (1 + 7 * k)) + rng.integers(0, 500, n)
        order = np.array(data.draw(st.permutations(range(n))))
        p = whole.step(order, shape[order], t[order], east[order], north[order], (ux[order], uy[order]), speed[order], odo[order])
        for i in range(n):
            j = slice(i, i + 1)
            q = single.step(ints(i), shape[j], t[j], east[j], north[j], (ux[j], uy[j]), speed[j], odo[j])
            at = int(np.flatnonzero(order == i)[0])
            assert (p.on[at], p.off_route[at], p.s_mm[at], p.step[at], p.from_s_mm[at]) == (
                q.on[0], q.off_route[0], q.s_mm[0], q.step[0], q.from_s_mm[0],
            )  # fmt: skip
        s += rng.uniform(0, 60, n)
    every = np.arange(n)
    assert whole.export(every) == single.export(every)


def test_who_leaves_its_shape_makes_no_steps_is_said_to_be_off_route_and_is_found_again() -> None:
    one, said, steps = One(), [], []
    for k in range(120):
        east, north = kit.at(OUT, 10.0 * k)
        away = 300.0 if 40 <= k < 80 else 0.0
        p = one.step(OUT, 1000 * k, (east, north - away), 10.0)
        said.append((bool(p.on[0]), bool(p.off_route[0])))
        steps.append(bool(p.step[0]))
    assert all(on and not off for on, off in said[:40])
    assert not any(on for on, _ in said[40:80])
    first_off = next(k for k, (_, off) in enumerate(said) if off)
    assert 55 <= first_off <= 56  # 15 s of event time, not at the first stray fix
    assert all(off for _, off in said[first_off:80])
    back = next(k for k in range(80, 120) if said[k][0])
    assert back - 80 <= 3  # one search in 3 s
    assert not any(steps[40 : back + 1])
    assert all(steps[back + 1 :])
    p = one.step(OUT, 120_000, kit.at(OUT, 1200.0), 10.0)
    assert abs(p.s_mm[0] - 1_200_000) < 1000


def test_who_rejoins_an_out_and_back_shape_is_put_on_the_pass_that_its_course_tells() -> None:
    one = One()
    for k in range(20):
        one.step(OUTBACK, 1000 * k, kit.at(OUTBACK, 10.0 * k), 10.0, course=(1.0, 0.0))
    for k in range(20, 60):
        east, north = kit.at(OUTBACK, 10.0 * k)
        one.step(OUTBACK, 1000 * k, (east, north + 400.0), 10.0, course=(1.0, 0.0))
    found = [one.step(OUTBACK, 1000 * k, kit.at(OUTBACK, 2400.0 + 10.0 * k), 10.0, course=(-1.0, 0.0)) for k in range(60, 64)]
    assert found[-1].on[0]
    assert abs(found[-1].s_mm[0] - 3_030_000) < 1000


def test_one_stray_fix_neither_leaves_the_shape_for_good_nor_moves_the_vehicle() -> None:
    one = One()
    for k in range(30):
        one.step(OUT, 1000 * k, kit.at(OUT, 10.0 * k), 10.0)
    east, north = kit.at(OUT, 300.0)
    stray = one.step(OUT, 30_000, (east, north + 800.0), 10.0)
    assert not stray.on[0]
    assert not stray.off_route[0]
    p = one.step(OUT, 31_000, kit.at(OUT, 310.0), 10.0)
    assert p.on[0]
    assert abs(p.s_mm[0] - 310_000) < 1000


def test_a_standing_vehicle_does_not_creep_and_with_noise_by_less_than_the_noise() -> None:
    for noise_m, most_m in ((0.0, 0.0), (6.0, 12.0)):
        for seed in range(5):
            rng, one, x, seen = np.random.default_rng(seed), One(), np.zeros(2), []
            keep = float(np.exp(-1 / 20))  # GNSS errors are alike for about 20 s
            for k in range(601):
                x = keep * x + np.sqrt(1 - keep * keep) * rng.normal(0, noise_m, 2) if noise_m else x
                east, north = kit.at(OUT, 700.0)
                p = one.step(OUT, 1000 * k, (east + x[0], north + x[1]), 0.0)
                seen.append(p.s_mm[0])
            assert (seen[-1] - seen[1]) / 1000.0 <= most_m


def test_a_silence_of_more_than_two_minutes_makes_no_step() -> None:
    for gap_s, made in ((120, True), (121, False)):
        one = One()
        one.step(OUT, 0, kit.at(OUT, 100.0), 10.0)
        p = one.step(OUT, 1000 * gap_s, kit.at(OUT, 100.0 + 5 * gap_s), 10.0)
        assert p.on[0]
        assert bool(p.step[0]) == made


def test_a_new_trip_on_another_shape_begins_anew_and_makes_no_step_across() -> None:
    one = One()
    for k in range(190):
        one.step(OUT, 1000 * k, kit.at(OUT, 10.0 * k), 10.0)
    p = one.step(BACK, 200_000, kit.at(BACK, 90.0), 10.0)
    assert p.on[0]
    assert not p.step[0]
    assert abs(p.s_mm[0] - 90_000) < 1000
    p = one.step(BACK, 201_000, kit.at(BACK, 100.0), 10.0)
    assert p.step[0]
    assert p.s_mm[0] - p.from_s_mm[0] == pytest.approx(10_000, abs=500)


def test_two_trips_whose_messages_are_interleaved_make_no_step_between_each_other() -> None:
    """The end of one journey and the beginning of the next can be mixed for seconds."""
    one, jumps = One(), []
    for k in range(40):
        shape = OUT if k % 2 else BACK
        s = 1800.0 + 2 * k if shape == OUT else 100.0 - 2 * k + 80
        p = one.step(shape, 1000 * k, kit.at(shape, s), 2.0)
        if p.step[0]:
            jumps.append((p.s_mm[0] - p.from_s_mm[0]) / 1000.0)
    assert all(j <= 20.0 for j in jumps)


def test_a_late_fix_is_placed_where_it_was_and_moves_nothing() -> None:
    one = One()
    for k in range(60):
        one.step(OUT, 1000 * k, kit.at(OUT, 10.0 * k), 10.0)
    before = one.tracker.export(ints(0))
    east, north = kit.at(OUT, 500.0)
    on, s_mm = one.tracker.locate(ints(0), ints(OUT), ints(50_000), np.array([east]), np.array([north]))
    assert on[0]
    assert abs(s_mm[0] - 500_000) < 100
    on, _ = one.tracker.locate(ints(0), ints(BACK), ints(50_000), np.array([east]), np.array([north]))
    assert not on[0]
    assert one.tracker.export(ints(0)) == before


def test_a_fix_newer_than_the_last_one_on_the_shape_is_placed_ahead_of_it() -> None:
    """A newer message without a position may have overtaken it; the tracker has not seen that one."""
    one = One()
    for k in range(60):
        one.step(OUT, 1000 * k, kit.at(OUT, 10.0 * k), 10.0)
    for ahead_s in (1, 5, 20, 115):
        east, north = kit.at(OUT, 590.0 + 10.0 * ahead_s)
        on, s_mm = one.tracker.locate(ints(0), ints(OUT), ints(59_000 + 1000 * ahead_s), np.array([east]), np.array([north]))
        assert on[0]
        assert abs(s_mm[0] - 590_000 - 10_000 * ahead_s) < 100


def test_state_goes_out_and_comes_back_whole() -> None:
    one, other = One(), One()
    for k in range(30):
        one.step(EIGHT, 1000 * k, kit.at(EIGHT, 10.0 * k), 10.0, 3.0 + 10 * k)
    other.tracker.restore(ints(0), one.tracker.export(ints(0)))
    for k in range(30, 60):
        place = kit.at(EIGHT, 10.0 * k)
        p, q = one.step(EIGHT, 1000 * k, place, 10.0, 3.0 + 10 * k), other.step(EIGHT, 1000 * k, place, 10.0, 3.0 + 10 * k)
        assert (p.s_mm[0], p.from_s_mm[0], p.from_t_ms[0]) == (q.s_mm[0], q.from_s_mm[0], q.from_t_ms[0])
    assert one.tracker.export(ints(0)) == other.tracker.export(ints(0))


def test_an_odometer_that_reads_too_little_is_known_by_the_fixes_and_its_vehicle_does_not_fall_behind() -> None:
    rng, one = np.random.default_rng(5), One()
    late = []
    for k in range(int(LENGTH[OUT] / 10.0)):
        east, north = kit.at(OUT, 10.0 * k)
        dx, dy = rng.normal(0.0, 6.0, 2)
        p = one.step(OUT, 1000 * k, (east + dx, north + dy), speed=10.0, odometer=5.0 + 0.93 * 10.0 * k)
        late.append(10.0 * k - p.s_mm[0] / 1000.0)
    assert 0.04 < one.tracker.scale[0] < 0.09  # 1 / 0.93 - 1 = 0.075
    assert np.abs(late[-30:]).max() < 12.0
    one.tracker.forget(ints(0))
    assert one.tracker.scale[0] == 0.0


def test_a_reset_slot_knows_nothing() -> None:
    one = One()
    one.step(OUT, 0, kit.at(OUT, 100.0), 10.0)
    one.tracker.reset(ints(0))
    assert one.tracker.t_ms[0] == NEVER
    assert not one.step(OUT, 1000, kit.at(OUT, 110.0), 10.0).step[0]


def test_a_shape_of_two_equal_points_does_no_harm() -> None:
    """Broken lines occur in real tables; nothing lies on one, and nothing fails."""
    from geo import assemble
    from geo.network import Network

    net = Network(
        "x", "v", "EPSG:3067", NET.segments, assemble.shapes(["dot"], [kit.line((0, 0), (0, 0))], [[]]), assemble.no_schedule(), "", "", ""
    )
    tracker = Tracker(ShapePoints(net, 10.0))
    tracker.grow(1)
    zero = np.zeros(1)
    for k in range(3):
        p = tracker.step(ints(0), ints(0), ints(1000 * k), np.array([kit.EAST]), np.array([kit.NORTH]), (zero, zero), zero, zero)
        assert np.isfinite(p.s_mm).all()


def test_noise_does_not_carry_a_standing_vehicle_forward() -> None:
    keep, ahead = float(np.exp(-1 / 20.0)), []
    for seed in range(40):
        rng, one = np.random.default_rng(seed), One()
        x = rng.normal(0, 6.0, 2)
        for k in range(120):
            x = keep * x + np.sqrt(1 - keep * keep) * rng.normal(0, 6.0, 2)
            east, north = kit.at(OUT, 500.0)
            p = one.step(OUT, 1000 * k, (east + x[0], north + x[1]), 0.0, 500.0)
        ahead.append(p.s_mm[0] / 1000.0 - 500.0)
    assert abs(np.mean(ahead)) < 3.0  # when the filter itself might not fall it was 4.1 m


def test_a_vehicle_with_noisy_fixes_is_known_by_them() -> None:
    learnt = []
    for noise_m in (4.0, 12.0):
        rng, one = np.random.default_rng(1), One()
        for k in range(180):
            east, north = kit.at(OUT, 10.0 * k)
            one.step(OUT, 1000 * k, (east + rng.normal(0, noise_m), north + rng.normal(0, noise_m)), 10.0, 10.0 * k)
        learnt.append(float(np.sqrt(one.tracker.noise_m2[0])))
    assert learnt[0] < 7.0 < 9.0 < learnt[1]
