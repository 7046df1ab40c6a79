"""Real departures of bus 2510 on the real road links of Digiroad: on the right link, in their order, in the time that the odometer gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import links
from streams.ground import Ground


@pytest.fixture(scope="module")
def runs(shared: Path) -> list[links.Run]:
    """Four of the twelve departures; ``benchmarks/links.py`` takes them all."""
    folder = shared / "networks" / "hfp_2510_2020-09-23"
    net = links.network(folder, shared / "networks" / "hsl_lines_2021" / "HSL_linjat.zip")
    ground = Ground(net)
    return [links.measure(net, ground, start, rows) for start, rows in list(links.departures(folder).items())[::3]]


@pytest.mark.shared
def test_fixes_lie_on_their_links_in_the_order_of_the_road_and_links_take_the_time_that_the_odometer_gives(runs: list[links.Run]) -> None:
    fixes = np.array([r.fixes for r in runs])
    assert fixes.sum() > 2500
    assert (np.array([r.near for r in runs]) * fixes).sum() / fixes.sum() >= 0.98
    steps = sum(len(r.links) - 1 for r in runs)
    assert sum(r.breaks for r in runs) <= 0.01 * steps
    ours, odometer, length = (np.concatenate([getattr(r, k) for r in runs]) for k in ("ours_s", "odometer_s", "length_m"))
    error = np.abs(ours / odometer - 1)[length >= 50.0]
    assert len(error) > 100
    assert np.median(error) <= 0.05
    for r in runs:
        long = r.length_m >= 50.0
        assert np.median(np.abs(r.ours_s / r.odometer_s - 1)[long]) <= 0.05, r.start
