"""From spot speeds to space means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loops import LoopSettings, Minutes, space_mean

ONE = np.ones(1)
YES = np.ones(1, np.bool_)


@given(
    st.floats(0.5, 150.0),
    st.one_of(st.just(float("nan")), st.floats(0.0, 4000.0)),
    st.floats(20.0, 120.0),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_space_mean_is_positive_and_never_above_the_spot_mean(spot: float, flow: float, free: float, lanes: int, streets: bool) -> None:
    v = space_mean(np.array([spot]), np.array([flow]), np.array([free]), np.array([float(lanes)]), np.array([streets]))[0]
    assert 0 < v <= spot


@given(st.floats(1.0, 60.0), st.floats(1.0, 60.0), st.booleans())
def test_a_faster_spot_mean_never_means_a_slower_street(a: float, b: float, streets: bool) -> None:
    nan = np.full(2, np.nan)
    v = space_mean(np.array([min(a, b), max(a, b)]), nan, np.full(2, 40.0), np.ones(2), np.full(2, streets))
    assert v[0] <= v[1] + 1e-12


def test_the_two_kinds_of_vehicles_have_wardrops_harmonic_mean() -> None:
    cfg = LoopSettings(free_share=1.0, creep_kmh=4.0)
    spot = 0.25 * 4.0 + 0.75 * 40.0
    v = space_mean(np.array([spot]), np.array([np.nan]), np.array([40.0]), ONE, YES, cfg)[0]
    assert v == pytest.approx(1 / (0.25 / 4.0 + 0.75 / 40.0))


def test_on_a_motorway_slow_traffic_is_slow_traffic_and_not_a_queue_at_a_signal() -> None:
    v = space_mean(np.array([40.0]), np.array([1500.0]), np.array([80.0]), ONE, ~YES)[0]
    assert v == pytest.approx(40.0 * (1 - 0.2**2))


def test_as_many_vehicles_as_pass_cannot_stand_closer_than_in_a_jam() -> None:
    assert space_mean(np.array([10.0]), np.array([420.0]), np.array([40.0]), ONE, YES)[0] == pytest.approx(420.0 / 140.0)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="loop settings"):
        LoopSettings(creep_kmh=0.0)


@given(st.lists(st.integers(0, 60), min_size=12, max_size=60))
def test_five_minutes_in_a_row_add_up_to_what_the_site_published_and_are_nearer_than_the_sliding_window(single: list[int]) -> None:
    minutes, sliding, exact = Minutes(), [], []
    for t in range(4, len(single)):
        total = sum(single[t - 4 : t + 1])
        exact.append(minutes.feed("a", 60_000 * (t + 1), 300_000, 12.0 * total) / 60)
        sliding.append(total / 5)
        assert sum(minutes.state["a"][2:]) == pytest.approx(total)
    assert all(x >= 0 for x in exact)


def test_a_rise_shows_in_its_own_minute() -> None:
    minutes = Minutes()
    single = [10] * 30 + [30] * 10
    said = [minutes.feed("a", 60_000 * (t + 1), 300_000, 12.0 * sum(single[t - 4 : t + 1])) / 60 for t in range(4, len(single))]
    assert said[25] == pytest.approx(10)
    assert said[26] > 25
    assert said[-1] == pytest.approx(30, abs=1.0)


def test_after_a_gap_the_window_itself_is_taken_until_the_next_one() -> None:
    minutes = Minutes()
    minutes.feed("a", 300_000, 300_000, 600.0)
    assert minutes.feed("a", 480_000, 300_000, 240.0) == 240.0
    assert minutes.feed("a", 540_000, 300_000, 240.0) == pytest.approx(240.0)
    assert minutes.feed("b", 540_000, 60_000, 90.0) == 90.0
