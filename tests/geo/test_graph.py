"""Successors, bounded distances and ways between segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import graph as graphs
from geo.assemble import Street, segments
from geo.graph import ANY, BUS, CAR, RAIL, Graph
from geo.network import Segments


def street(
    name: str, a: tuple[float, float], b: tuple[float, float], *, both: bool = True, represents: str = "general_traffic"
) -> list[Street]:
    points = np.array([a, b], float)
    there = Street(f"{name}_f", points, a, b, "residential", represents, opposite=f"{name}_b" if both else None)
    back = Street(f"{name}_b", points[::-1], b, a, "residential", represents, opposite=f"{name}_f")
    return [there, back] if both else [there]


def block() -> Segments:
    """A line 0-100-200, a side street north at 100, a bus lane south at 100, and a tram over the same nodes."""
    return segments(
        [
            *street("a", (0, 0), (100, 0)),
            *street("b", (100, 0), (200, 0)),
            *street("n", (100, 0), (100, 80)),
            *street("s", (100, 0), (100, -60), both=False, represents="bus_lane"),
            *street("t", (0, 0), (100, 0), both=False, represents="rail"),
            *street("u", (100, 0), (200, 0), both=False, represents="rail"),
        ]
    )


def onward(graph: Graph, profile: int, name: str) -> set[str]:
    start, successor = graph.successors(profile)
    index = graph.segments.segment_id.index(name)
    return {graph.segments.segment_id[i] for i in successor[start[index] : start[index + 1]]}


def distance(graph: Graph, profile: int, a: str, b: str, reach_m: float = 300.0) -> float:
    ids = graph.segments.segment_id
    one = np.ones(1, np.int64)
    found, _, _ = graph.distances((one * profile).astype(np.int8), one * ids.index(a), one * ids.index(b), np.array([reach_m]))
    return float(found[0])


def test_a_vehicle_turns_back_only_where_the_street_ends() -> None:
    graph = Graph(block())
    assert onward(graph, CAR, "a_f") == {"b_f", "n_f"}
    assert onward(graph, CAR, "b_f") == {"b_b"}
    assert onward(graph, CAR, "n_f") == {"n_b"}


def test_a_profile_uses_its_own_streets_and_rails_never_join_them() -> None:
    graph = Graph(block())
    assert onward(graph, BUS, "a_f") == {"b_f", "n_f", "s_f"}
    assert onward(graph, RAIL, "t_f") == {"u_f"}
    assert onward(graph, ANY, "t_f") == {"u_f"}
    assert onward(graph, ANY, "a_f") == {"b_f", "n_f", "s_f"}


def test_distances_are_from_the_end_of_one_to_the_start_of_the_other() -> None:
    graph = Graph(block())
    assert distance(graph, CAR, "a_f", "b_f") == 0.0
    assert distance(graph, CAR, "a_f", "b_b") == 100.0  # to the dead end and back
    assert distance(graph, CAR, "a_f", "a_b") == 160.0  # by the shorter of the two dead ends, 80 m there and back
    assert distance(graph, CAR, "a_f", "s_f") == np.inf
    assert distance(graph, BUS, "a_f", "s_f") == 0.0
    assert distance(graph, CAR, "a_f", "t_f") == np.inf


def test_a_way_names_every_segment_it_runs_over() -> None:
    graph = Graph(block())
    ids = graph.segments.segment_id
    way = graph.path(CAR, ids.index("a_f"), ids.index("a_b"), 200.0)
    assert way is not None
    assert [ids[i] for i in way] == ["a_f", "n_f", "n_b", "a_b"]
    assert graph.path(RAIL, ids.index("t_f"), ids.index("a_b"), 200.0) is None


def test_what_lies_beyond_the_table_has_no_way() -> None:
    graph = Graph(block(), bounds_m=(90.0,))
    assert distance(graph, CAR, "a_f", "n_b", 1000.0) == 80.0
    assert distance(graph, CAR, "a_f", "b_b", 1000.0) == np.inf


def town(side: int, spacing_m: float, one_way: set[int]) -> Segments:
    rows: list[Street] = []
    for i in range(side):
        for j in range(side):
            for k, (di, dj) in enumerate(((1, 0), (0, 1))):
                if i + di < side and j + dj < side:
                    number = (i * side + j) * 2 + k
                    a, b = (i * spacing_m, j * spacing_m), ((i + di) * spacing_m, (j + dj) * spacing_m)
                    rows += street(f"{number:04d}", a, b, both=number not in one_way)
    return segments(rows)


def by_relaxing(graph: Graph, source: int, bound_m: float) -> dict[int, float]:
    """Bellman-Ford, to check against."""
    start, successor = graph.successors(CAR)
    best = {int(s): 0.0 for s in successor[start[source] : start[source + 1]]}
    changed = True
    while changed:
        changed = False
        for a, so_far in list(best.items()):
            far = so_far + float(graph.length_m[a])
            for b in successor[start[a] : start[a + 1]]:
                if far <= bound_m and far < best.get(int(b), np.inf):
                    best[int(b)], changed = far, True
    return best


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.sets(st.integers(0, 31)), st.integers(0, 10**6))
def test_distances_equal_those_of_another_algorithm(side: int, one_way: set[int], pick: int) -> None:
    graph = Graph(town(side, 70.0, one_way), bounds_m=(250.0,))
    n = len(graph.length_m)
    source = pick % n
    want = by_relaxing(graph, source, 250.0)
    got, _, _ = graph.distances(np.zeros(n, np.int8), np.full(n, source), np.arange(n), np.full(n, 250.0))
    assert {i: d for i, d in enumerate(got.tolist()) if np.isfinite(d)} == want
    for target in want:
        way = graph.path(CAR, source, target, 250.0)
        assert way is not None
        assert sum(float(graph.length_m[i]) for i in way[1:-1]) == want[target]


def test_dropping_old_rows_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    streets = town(6, 60.0, {3, 8, 21})
    n = len(streets)
    roomy, tight = Graph(streets), Graph(streets)
    rng = np.random.default_rng(1)
    for _ in range(30):
        source, target = rng.integers(0, n, 20), rng.integers(0, n, 20)
        profile, reach = np.zeros(20, np.int8), np.full(20, 300.0)
        monkeypatch.setattr(graphs, "_MOST_PAIRS", 4_000_000)
        want = roomy.distances(profile, source, target, reach)[0]
        monkeypatch.setattr(graphs, "_MOST_PAIRS", 500)
        got, table, entry = tight.distances(profile, source, target, reach)
        assert got.tobytes() == want.tobytes()
        back, _ = tight.before(table[np.isfinite(got)], entry[np.isfinite(got)])
        assert ((back >= 0) == (got[np.isfinite(got)] > 0)).all()
        assert tight._tables[0].filled < 2 * (500 + 20 * n)


def test_bounds_that_are_no_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="bounds_m"):
        Graph(block(), bounds_m=(300.0, 100.0))
    with pytest.raises(ValueError, match="without segments"):
        Graph(segments([]))
