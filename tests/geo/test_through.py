"""Trips through streets, beside the slow textbook way to count them."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import assemble
from geo.network import Segments
from geo.through import ThroughSettings, trips_through


def streets(pairs: list[tuple[int, int]], metres: list[float]) -> Segments:
    """Directed streets between numbered places; lengths differ so that there is one quickest way."""
    at = {k: (1000.0 * k, 0.0) for pair in pairs for k in pair}
    made = []
    for i, ((a, b), m) in enumerate(zip(pairs, metres, strict=True)):
        bow = (500.0 * (a + b), float(np.sqrt(max(m**2 / 4.0 - (500.0 * (a - b)) ** 2, 0.0))) + 1.0)
        made.append(assemble.Street(f"{i}", np.array([at[a], bow, at[b]]), at[a], at[b], "residential", speed_limit_kmh=40.0))
    return assemble.segments(made)


def slowly(s: Segments, limit_s: float) -> np.ndarray:
    """Dijkstra from every node, and each trip walked back."""
    out = np.zeros(len(s))
    leaving: dict[int, list[int]] = {}
    for e, a in enumerate(s.from_node.tolist()):
        leaving.setdefault(a, []).append(e)
    for source in sorted({*s.from_node.tolist(), *s.to_node.tolist()}):
        by: dict[int, int] = {}
        heap = [(0.0, source, -1)]
        while heap:
            t, node, edge = heapq.heappop(heap)
            if node in by:
                continue
            by[node] = edge
            for e in leaving.get(node, []):
                after = t + s.length_m[e] * 3.6 / 36.0
                if after <= limit_s:
                    heapq.heappush(heap, (after, int(s.to_node[e]), e))
        for node in by:
            while by[node] >= 0:
                out[by[node]] += 1
                node = int(s.from_node[by[node]])
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(100.0, 2000.0))
def test_trips_are_those_of_dijkstra(seed: int, limit_s: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(int(a), int(b)) for a, b in rng.integers(0, 12, (40, 2)) if a != b]
    s = streets(pairs, [abs(a - b) * 1000.0 * float(rng.uniform(1.01, 3.0)) for a, b in pairs])
    speed = np.full(len(s), 36.0)
    found = trips_through(s, speed, np.ones(len(s), np.bool_), ThroughSettings(limit_s=limit_s, pairs=30))
    assert found.tolist() == slowly(s, limit_s).tolist()


def test_a_link_leads_more_through_than_a_yard_and_what_is_not_driven_nothing() -> None:
    pairs = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2), (1, 4), (4, 1)]  # 4: a yard off 1
    s = streets(pairs, [1100.0] * 6 + [3300.0] * 2)
    row = {i: k for k, i in enumerate(s.segment_id)}
    speed = np.full(len(s), 30.0)
    trips = trips_through(s, speed, np.ones(len(s), np.bool_), ThroughSettings(limit_s=3600.0))
    assert trips[row["2"]] > trips[row["6"]] > 0
    closed = np.ones(len(s), np.bool_)
    closed[[row["2"], row["3"]]] = False
    without = trips_through(s, speed, closed, ThroughSettings(limit_s=3600.0))
    assert without[row["2"]] == 0.0
    assert without[row["4"]] < trips[row["4"]]
    assert trips_through(s, speed, ~np.ones(len(s), np.bool_)).tolist() == [0.0] * len(s)


def test_a_sample_of_sources_gives_the_same_picture() -> None:
    pairs = [p for k in range(60) for p in ((k, k + 1), (k + 1, k))]
    s = streets(pairs, [1010.0] * len(pairs))
    speed, every = np.full(len(s), 36.0), np.ones(len(s), np.bool_)
    whole = trips_through(s, speed, every, ThroughSettings(limit_s=1000.0, sources=1000))
    part = trips_through(s, speed, every, ThroughSettings(limit_s=1000.0, sources=21))
    middle = slice(30, 90)
    assert part[middle].mean() * 61 / 21 == pytest.approx(whole[middle].mean(), rel=0.1)
