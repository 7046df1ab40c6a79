"""Sudden falls of speed: told once, at the head of the queue, with evidence, and not for what was slow before."""

from __future__ import annotations

import numpy as np
import pytest

from models.falls import Fall, Falls, FallSettings
from models.fusion import WindowSums
from tests.models.test_fusion import N, row_of_streets, seen

LIGHT = np.full(N, 30.0)


def detector(**settings: float) -> Falls:
    return Falls(row_of_streets(), np.arange(N) * 50.0, np.zeros(N), FallSettings(**settings))  # type: ignore[arg-type]


def standing(segment: int, seconds: float = 58.0) -> WindowSums:
    """A vehicle that hardly moved."""
    obs = seen([segment], [10.0])
    obs.dist_m, obs.time_s = np.array([2.0]), np.array([seconds])
    return obs


def taught(d: Falls, kmh: float = 28.0, windows: int = 20) -> Falls:
    for _ in range(windows):
        assert d.advance(seen(list(range(N)), [kmh] * N), LIGHT) == []
    return d


def test_a_street_that_stands_all_at_once_is_told_within_five_minutes_and_once() -> None:
    d = taught(detector())
    told: list[tuple[int, Fall]] = []
    for k in range(10):
        told += [(k, f) for f in d.advance(standing(4), LIGHT)]
    assert len(told) == 1
    k, fall = told[0]
    assert k < 5
    assert (fall.segment, fall.usual_ratio < 1.5, fall.pace_ratio > 5, fall.vehicle_s > 120, fall.speed_kmh < 6) == (
        4,
        True,
        True,
        True,
        True,
    )


def test_a_red_light_is_not_a_fall() -> None:
    d = taught(detector())
    assert d.advance(standing(4, 50.0), LIGHT) == []
    for _ in range(5):
        assert d.advance(seen([4], [28.0]), LIGHT) == []


def test_a_street_that_was_always_slow_does_not_fall() -> None:
    d = detector()
    for _ in range(20):
        d.advance(seen(list(range(N)), [9.0] * N), LIGHT)
    assert [f for _ in range(8) for f in d.advance(standing(4), LIGHT)] == []


def test_the_tail_of_a_queue_is_not_told_when_the_street_ahead_stands() -> None:
    d = taught(detector())
    queue = LIGHT.copy()
    queue[5] = 3.0
    assert [f for _ in range(8) for f in d.advance(standing(4), queue)] == []


def test_nothing_is_told_where_the_usual_is_not_known() -> None:
    assert [f for _ in range(30) for f in detector().advance(standing(4), LIGHT)] == []


def test_restored_it_goes_on_as_it_would_have() -> None:
    one, two = taught(detector()), taught(detector())
    for k in range(10):
        if k == 1:
            state = two.export()
            two = detector()
            two.restore(state)
        assert one.advance(standing(4), LIGHT) == two.advance(standing(4), LIGHT)
    assert one.export() == two.export()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="fall settings"):
        FallSettings(times=1.0)
