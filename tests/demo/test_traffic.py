"""Invented traffic: a function of its seed and the time, and such that buses stop, wait, and stay on their lines."""

from __future__ import annotations

import numpy as np
import pytest

from demo.towns import TOWNS
from demo.traffic import Traffic
from geo import polylines
from geo.network import Network

START = 1_800_000_000_000


@pytest.fixture(scope="module")
def network() -> Network:
    return TOWNS["turku"].network()


def traffic(network: Network, seed: int = 1) -> Traffic:
    return Traffic(network, seed=seed, start_ms=START, vehicles=12)


def test_the_same_seed_gives_the_same_traffic_however_time_is_cut(network: Network) -> None:
    one, steps, other = traffic(network), traffic(network), traffic(network, seed=2)
    one.advance(START + 400_000)
    for ms in range(120_000, 400_001, 7_300):
        steps.advance(START + ms)
    steps.advance(START + 400_000)
    other.advance(START + 400_000)
    assert one.fixes == steps.fixes != other.fixes
    assert one.measured(5, START + 300_000) == steps.measured(5, START + 300_000)


def test_buses_keep_to_their_lines_stop_everywhere_and_turn_round(network: Network) -> None:
    t = traffic(network)
    served: dict[tuple[int, str], int] = {}
    turned, standing_at_red, fastest = set(), 0, 0.0
    before = {b.number: b.way.direction_id for b in t.buses}
    for _ in range(2_400):
        t.advance(t.now_ms + 1_000)
        for bus, fix in zip(t.buses, t.fixes, strict=True):
            assert 0 <= bus.along_m <= bus.way.length_m
            if "arr" in fix.events:
                served[fix.number, fix.stop_id] = served.get((fix.number, fix.stop_id), 0) + 1
            turned |= {fix.number} if fix.direction_id != before[fix.number] else set()
            standing_at_red += fix.speed_mps == 0 and not fix.at_stop
            fastest = max(fastest, fix.speed_mps)
    assert len(turned) == len(t.buses)
    assert len(served) > 12 * 15
    assert standing_at_red > 500
    assert 10 < fastest <= 18
    delays = np.array([f.delay_s for f in t.fixes])
    assert np.abs(np.median(delays)) < 300
    rows = np.array([b.way.row for b in t.buses])
    east, north = polylines.point_at(network.shapes.geometry, rows, np.array([b.along_m for b in t.buses]))
    e, n = t.plane.to_plane([f.lat_deg for f in t.fixes], [f.lon_deg for f in t.fixes])
    assert np.hypot(e - east, n - north).max() < 15


def test_a_rush_hour_has_queues_somewhere_and_free_streets_elsewhere_at_any_hour(network: Network) -> None:
    t = traffic(network)
    for hour in range(0, 24, 3):
        ratio = t.ratio_at(START / 1000 + hour * 3600)
        assert ratio.min() < 0.6
        assert np.median(ratio) > 0.7
    flow, speed = t.measured(0, START)
    assert 0 < flow < 4_000
    assert 3 < speed < 100


def test_after_a_long_pause_the_fleet_goes_on_where_it_was(network: Network) -> None:
    t = traffic(network)
    t.advance(START + 200_000)
    there = [b.along_m for b in t.buses]
    t.advance(START + 36_000_000)
    assert t.now_ms == START + 36_000_000
    assert max(abs(b.along_m - a) for b, a in zip(t.buses, there, strict=True)) < 12_000
    assert all(abs(f.delay_s) < 900 for f in t.fixes)
