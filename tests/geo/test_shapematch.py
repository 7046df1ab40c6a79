from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import assemble, polylines, shapematch
from geo.network import Segments


def street(name: str, *points: tuple[float, float], **more: object) -> assemble.Street:
    """A street whose nodes are where it begins and ends."""
    return assemble.Street(name, np.array(points, np.float64), points[0], points[-1], "residential", **more)  # type: ignore[arg-type]


def both(name: str, *points: tuple[float, float]) -> list[assemble.Street]:
    return [street(f"{name}>", *points, opposite=f"{name}<"), street(f"{name}<", *points[::-1], opposite=f"{name}>")]


def grid(n: int = 6, size: float = 100.0) -> Segments:
    """n by n junctions joined by two-way streets; the street from junction (0, 0) east is "e0_0>"."""
    streets = []
    for i in range(n):
        for j in range(n):
            if i + 1 < n:
                streets += both(f"e{i}_{j}", (i * size, j * size), ((i + 1) * size, j * size))
            if j + 1 < n:
                streets += both(f"n{i}_{j}", (i * size, j * size), (i * size, (j + 1) * size))
    return assemble.segments(streets)


def laid(segments: Segments, *points: tuple[float, float], mode: str = "bus") -> list[tuple[int, int, str, int]]:
    """Pieces of one shape, rounded to metres."""
    (pieces,) = shapematch.match([np.array(points, np.float64)], [mode], segments)
    return [(round(a), round(b), segments.segment_id[s], round(o)) for a, b, s, o in pieces]


def test_a_shape_takes_the_streets_below_it_in_its_direction() -> None:
    assert laid(grid(), (30, 0), (200, 0), (200, 160)) == [
        (0, 70, "e0_0>", 30), (70, 170, "e1_0>", 0), (170, 270, "n2_0>", 0), (270, 330, "n2_1>", 0),
    ]  # fmt: skip


def test_the_other_direction_takes_the_other_segments() -> None:
    assert [p[2] for p in laid(grid(), (280, 4), (20, 4))] == ["e2_0<", "e1_0<", "e0_0<"]


def test_streets_shorter_than_the_step_are_passed_through() -> None:
    segments = assemble.segments(
        [street("a", (0, 0), (95, 0)), street("b", (95, 0), (99, 0)), street("c", (99, 0), (104, 0)), street("d", (104, 0), (200, 0))]
    )
    pieces = laid(segments, (0, 2), (200, 2))
    assert pieces == [(0, 95, "a", 0), (95, 99, "b", 0), (99, 104, "c", 0), (104, 200, "d", 0)]


def test_where_no_street_is_near_there_is_a_gap() -> None:
    segments = assemble.segments([street("a", (0, 0), (200, 0)), street("b", (400, 0), (600, 0))])
    (first, second) = laid(segments, (0, 5), (600, 5))
    assert first[2] == "a"
    assert second[2] == "b"
    assert first[1] == pytest.approx(200, abs=30)
    assert second[0] == pytest.approx(400, abs=30)


def test_a_bus_that_turns_round_on_the_street_drives_back_on_the_other_side() -> None:
    pieces = laid(grid(), (0, 0), (160, 0), (160, 2), (0, 2))
    assert [p[2] for p in pieces] == ["e0_0>", "e1_0>", "e1_0<", "e0_0<"]
    assert pieces[1][1] == pieces[2][0] == pytest.approx(160, abs=8)


def test_trams_take_rails_and_buses_streets() -> None:
    rails = street("rail", (0, 3), (300, 3), represents="rail")
    segments = assemble.segments([street("road", (0, 0), (300, 0)), rails])
    assert [p[2] for p in laid(segments, (0, 1), (300, 1), mode="tram")] == ["rail"]
    assert [p[2] for p in laid(segments, (0, 2), (300, 2), mode="bus")] == ["road"]


def test_trams_take_streets_where_the_network_has_no_rails_for_them() -> None:
    segments = assemble.segments([street("road", (0, 0), (300, 0)), street("rail", (900, 0), (990, 0), represents="rail")])
    assert [p[2] for p in laid(segments, (0, 1), (300, 1), mode="tram")] == ["road"]


def test_trains_are_not_on_the_streets() -> None:
    assert laid(grid(), (0, 0), (300, 0), mode="train") == []


def test_a_shape_is_laid_the_same_alone_and_among_others() -> None:
    segments = grid()
    shapes = [np.array([[0.0, 0], [300, 0], [300, 200]]), np.array([[100.0, 0], [100, 400]]), np.array([[0.0, 0], [300, 0], [300, 200]])]
    together = shapematch.match(shapes, ["bus"] * 3, segments)
    assert together == [shapematch.match([shape], ["bus"], segments)[0] for shape in shapes]
    assert together[0] == together[2]


moves = st.lists(st.sampled_from([(1, 0), (0, 1), (-1, 0), (0, -1)]), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(moves, st.floats(-6, 6), st.floats(-6, 6))
def test_a_drive_through_the_grid_is_found_again_whole_and_connected(steps: Sequence[tuple[int, int]], east: float, north: float) -> None:
    here, way = (0, 0), [(0, 0)]
    for de, dn in steps:
        there = (here[0] + de, here[1] + dn)
        if min(there) >= 0 and max(there) < 6 and (len(way) < 2 or there != way[-2]):
            way.append(there)
            here = there
    if len(way) < 2:
        return
    segments = grid()
    points = np.array(way, np.float64) * 100.0 + (east, north)
    (pieces,) = shapematch.match([points], ["bus"], segments)
    begin, end, rows = (np.array([p[k] for p in pieces]) for k in (0, 1, 2))
    assert begin[0] == 0.0
    assert end[-1] == pytest.approx(100.0 * (len(way) - 1))
    assert np.allclose(begin[1:], end[:-1])
    assert np.array_equal(segments.to_node[rows[:-1]], segments.from_node[rows[1:]])
    long = end - begin > 20.0
    driven = [tuple(polylines.coordinates(segments.geometry, int(row))[0] / 100.0) for row in rows[long]]
    assert driven == [tuple(map(float, place)) for place in way[:-1]]


def test_distances_between_nodes_are_those_of_dijkstra() -> None:
    segments = grid(4, 20.0)
    hops = shapematch._Hops(segments, np.ones(len(segments), np.bool_), 60.0)
    corner = {tuple(polylines.coordinates(segments.geometry, i)[0] / 20.0): int(segments.from_node[i]) for i in range(len(segments))}
    for (e1, n1), a in corner.items():
        for (e2, n2), b in corner.items():
            steps = abs(e1 - e2) + abs(n1 - n2)
            far = hops.distance(np.array([a]), np.array([b]))[0]
            assert far == (steps * 20.0 if steps <= 3 else np.inf)
            if steps <= 3:
                assert len(hops.way(a, b)) == steps
