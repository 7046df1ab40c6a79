from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import lines, polylines
from geo.lines import DrawnLine
from geo.network import Segments, Shapes
from geo.project import Plane
from models.errors import ConfigError


def line(route: str, *points: tuple[float, float], direction: int = 0, mode: str = "bus") -> DrawnLine:
    return DrawnLine(route, direction, mode, (np.array(points, np.float64),))


def pieces(shapes: Shapes, segments: Segments, shape_id: str) -> list[str]:
    i = shapes.shape_id.index(shape_id)
    return [segments.segment_id[k] for k in shapes.piece_segment[shapes.piece_start[i] : shapes.piece_start[i + 1]]]


MAIN = line("1", (0, 0), (50, 0), (100, 0), (200, 0))
SIDE = line("2", (0, 50), (100, 50), (100, 0), (200, 0))


def test_lines_share_the_segments_that_they_share_the_street_of() -> None:
    segments, shapes, schedule = lines.segments_and_shapes([MAIN, SIDE])
    assert len(segments) == 3
    assert set(pieces(shapes, segments, "1_0")) & set(pieces(shapes, segments, "2_0")) == {pieces(shapes, segments, "1_0")[-1]}
    assert schedule.by_route == {("1", 0): (0,), ("2", 0): (1,)}


def test_the_way_back_over_the_same_vertices_is_the_opposite_segment() -> None:
    back = line("1", (200, 0), (100, 0), (50, 0), (0, 0), direction=1)
    segments, shapes, _ = lines.segments_and_shapes([MAIN, back])
    assert segments.opposite.tolist() == [1, 0]
    assert pieces(shapes, segments, "1_0") != pieces(shapes, segments, "1_1")
    assert segments.from_node[0] == segments.to_node[1]


def test_vertices_within_a_metre_are_one() -> None:
    near = line("3", (0, 0.2), (50, -0.3), (100, 0.1), (200, 0.4))
    segments, _, _ = lines.segments_and_shapes([MAIN, near])
    assert len(segments) == 1


def test_an_id_stays_when_a_line_is_added_elsewhere() -> None:
    before, _, _ = lines.segments_and_shapes([MAIN])
    after, _, _ = lines.segments_and_shapes([line("9", (500, 500), (600, 500)), MAIN])
    assert set(before.segment_id) < set(after.segment_id)


def test_trams_are_rail_and_trains_have_a_shape_without_streets() -> None:
    train = line("R", (0, 0), (1000, 1000), mode="train")
    tram = line("T", (0, 0), (100, 0), mode="tram")
    segments, shapes, _ = lines.segments_and_shapes([MAIN, train, tram])
    assert sorted(segments.represents) == ["general_traffic", "rail"]
    assert pieces(shapes, segments, "R_0") == []
    assert polylines.lengths(shapes.geometry)[shapes.shape_id.index("R_0")] == pytest.approx(1414.214)


def test_between_parts_that_do_not_touch_lies_a_gap() -> None:
    broken = DrawnLine("4", 0, "bus", (np.array([[0.0, 0], [100, 0]]), np.array([[130.0, 0], [200, 0]])))
    _, shapes, _ = lines.segments_and_shapes([broken])
    assert shapes.piece_from_m.tolist() == [0.0, 130.0]
    assert shapes.piece_to_m.tolist() == [100.0, 200.0]


def test_a_line_of_unsure_direction_runs_as_the_sure_ones_do() -> None:
    unsure = DrawnLine("5", 0, "bus", (np.array([[200.0, 0], [100, 0], [50, 0], [0, 0]]),), sure=False)
    alone = DrawnLine("6", 0, "bus", (np.array([[900.0, 0], [800, 0]]),), sure=False)
    one, five, six = lines.turned([MAIN, unsure, alone])
    assert one is MAIN
    assert five.parts[0].tolist() == MAIN.parts[0].tolist()
    assert six is alone


cell = st.tuples(st.integers(0, 6), st.integers(0, 6))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cell, min_size=2, max_size=15), min_size=1, max_size=6))
def test_pieces_are_in_order_and_cover_every_line_exactly(walks: list[list[tuple[int, int]]]) -> None:
    drawn = [line(str(i), *((e * 40.0, n * 40.0) for e, n in walk)) for i, walk in enumerate(walks) if len(set(walk)) > 1]
    segments, shapes, _ = lines.segments_and_shapes(drawn)
    length = polylines.lengths(shapes.geometry)
    for i in range(len(shapes)):
        own = slice(shapes.piece_start[i], shapes.piece_start[i + 1])
        begin, end, rows = shapes.piece_from_m[own], shapes.piece_to_m[own], shapes.piece_segment[own]
        assert begin[0] == 0.0
        assert np.allclose(begin[1:], end[:-1], atol=0.0015)
        assert end[-1] == pytest.approx(length[i], abs=0.05)
        assert np.allclose(end - begin, segments.length_m[rows], atol=0.0015)
        assert np.array_equal(segments.to_node[rows][:-1], segments.from_node[rows][1:])
    assert len(set(segments.segment_id)) == len(segments)


def shapefile(folder: Path, **columns: list[object]) -> Path:
    geometry = [shapely.MultiLineString([[(24.90, 60.17), (24.91, 60.17)], [(24.91, 60.17), (24.92, 60.17)]])]
    frame = geopandas.GeoDataFrame({"NUMERO": ["1061"], "SUUNTA": ["2"], "JL_LAJI": ["01"], **columns}, geometry=geometry, crs="EPSG:4326")
    frame.to_file(folder / "lines.shp")
    return folder / "lines.shp"


def test_a_shapefile_gives_route_direction_and_mode(tmp_path: Path) -> None:
    (own,) = lines.read_shapefile(shapefile(tmp_path), Plane("EPSG:3067"))
    assert (own.route_id, own.direction_id, own.mode, len(own.parts), len(own.parts[0])) == ("1061", 1, "bus", 1, 3)


def test_a_shapefile_that_is_none_or_lacks_columns_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ConfigError, match=r"text\.zip: lines = "):
        lines.read_shapefile(tmp_path / "text.zip", Plane("EPSG:3067"))
    with pytest.raises(ConfigError, match=r"SUUNTA of line 1061 = '3', expected 1 or 2"):
        lines.read_shapefile(shapefile(tmp_path, SUUNTA=["3"]), Plane("EPSG:3067"))
    geopandas.GeoDataFrame({"line": [1]}, geometry=[shapely.LineString([(0, 0), (1, 1)])], crs="EPSG:4326").to_file(tmp_path / "other.shp")
    with pytest.raises(ConfigError, match="NUMERO, SUUNTA, JL_LAJI"):
        lines.read_shapefile(tmp_path / "other.shp", Plane("EPSG:3067"))
