"""Lines drawn by several hands make one graph of streets."""

from __future__ import annotations

import numpy as np

from geo.lines import DrawnLine, segments_and_shapes
from geo.noding import noded


def drawn(route: str, *points: tuple[float, float], mode: str = "bus", direction: int = 0) -> DrawnLine:
    return DrawnLine(route, direction, mode, (np.array(points, np.float64),))


#: The same street twice, 2 m apart and over other vertices; one of them turns off at 300 m, where the other has no vertex.
STRAIGHT = drawn("1", (0, 0), (100, 0), (500, 0))
TURNS = drawn("2", (0, 2), (200, 2), (300, 2), (300, 200))


def test_two_drawings_of_one_street_become_one_and_meet_where_one_turns_off() -> None:
    apart, _, _ = segments_and_shapes([STRAIGHT, TURNS])
    assert sorted(np.rint(apart.length_m).tolist()) == [498.0, 500.0]
    segments, shapes, _ = segments_and_shapes(noded([STRAIGHT, TURNS], 3.0))
    assert len(segments) == 3
    assert sorted(np.rint(segments.length_m / 10).tolist()) == [20.0, 20.0, 30.0]
    first = shapes.piece_segment[shapes.piece_start[:-1]]
    assert first[0] == first[1], "both begin on the same street"
    after = set(np.flatnonzero(segments.from_node == segments.to_node[first[0]]).tolist())
    assert len(after) == 2


def test_what_lies_farther_apart_and_other_kinds_of_street_stay_as_they_are() -> None:
    lines = [
        STRAIGHT,
        drawn("3", (0, 12), (500, 12)),
        drawn("4", (50, 1), (450, 1), mode="tram"),
        drawn("5", (0, 1), (500, 1), mode="ferry"),
    ]
    for before, after in zip(lines, noded(lines, 3.0), strict=True):
        assert [p.tolist() for p in before.parts] == [p.tolist() for p in after.parts]


def test_a_vertex_is_moved_by_no_more_than_asked_for_and_the_order_of_lines_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    lines = [drawn(str(k), *map(tuple, np.cumsum(rng.uniform(-40, 60, (30, 2)), axis=0).tolist())) for k in range(12)]
    forward, backward = noded(lines, 5.0), noded(lines[::-1], 5.0)[::-1]
    for line, one, other in zip(lines, forward, backward, strict=True):
        assert np.array_equal(one.parts[0], other.parts[0])
        gap = np.abs(line.parts[0][:, None] - one.parts[0][None]).max(axis=2).min(axis=1)
        assert gap.max() <= 5.5
