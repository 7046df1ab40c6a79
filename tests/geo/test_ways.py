"""Ways shared out in time."""

from __future__ import annotations

import numpy as np

from geo.ways import Walked, expand


def test_a_way_without_pieces_leaves_the_times_of_the_others_alone() -> None:
    one, zero = np.array([1]), np.array([0])
    walked = Walked(one, zero, np.array([7]), np.array([0.0]), np.array([20.0]))
    t = expand(walked, np.array([5, 6]), np.array([1_000, 50_000]), np.array([2_000, 53_000]))
    assert (t.slot.tolist(), t.segment.tolist(), t.t0_ms.tolist(), t.t1_ms.tolist()) == ([6], [7], [50_000], [53_000])
    reverse = Walked(zero, zero, np.array([7]), np.array([0.0]), np.array([20.0]))
    t = expand(reverse, np.array([5, 6]), np.array([1_000, 50_000]), np.array([2_000, 53_000]))
    assert (t.slot.tolist(), t.t0_ms.tolist(), t.t1_ms.tolist()) == ([5], [1_000], [2_000])
