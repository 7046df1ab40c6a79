from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo import osm, osm_tags
from geo.network import Segments
from geo.project import Plane
from models.errors import ConfigError

PLANE = Plane("EPSG:3067")
#: A cross of 100 m arms around node 5, and what the tests need near it: node -> (east, north) offset in metres.
NODES = {1: (-100, 0), 2: (100, 0), 3: (0, 100), 4: (0, -100), 5: (0, 0), 6: (-20, 0), 7: (200, 0), 8: (50, 50), 9: (50, 0)}


def extract(tmp_path: Path, ways: dict[int, tuple[list[int], dict[str, str]]], signals: dict[int, dict[str, str]] | None = None) -> Path:
    """An OSM XML file with these ways."""
    east0, north0 = (v[0] for v in PLANE.to_plane(60.17, 24.94))
    rows = []
    for node, (east, north) in NODES.items():
        lat, lon = PLANE.to_wgs84(east0 + east, north0 + north)
        inner = "".join(f'<tag k="{k}" v="{v}"/>' for k, v in (signals or {}).get(node, {}).items())
        rows.append(f'<node id="{node}" version="1" lat="{lat[0]:.7f}" lon="{lon[0]:.7f}">{inner}</node>')
    for way, (nodes, tags) in sorted(ways.items()):
        inner = "".join(f'<nd ref="{n}"/>' for n in nodes) + "".join(f'<tag k="{k}" v="{v}"/>' for k, v in tags.items())
        rows.append(f'<way id="{way}" version="1">{inner}</way>')
    path = tmp_path / "small.osm"
    path.write_text(f'<?xml version="1.0"?><osm version="0.6">{"".join(rows)}</osm>', encoding="utf-8")
    return path


def read(tmp_path: Path, *tags: str, nodes: tuple[int, ...] = (1, 2), signals: dict[int, dict[str, str]] | None = None) -> Segments:
    """Segments of one street with these key=value tags."""
    pairs = dict(tag.split("=", 1) for tag in tags)
    return osm.read(extract(tmp_path, {10: (list(nodes), pairs)}, signals), PLANE)


CROSS = {10: ([1, 6, 5, 9, 2], {"highway": "primary", "name": "Itäväylä"}), 11: ([3, 5, 4], {"highway": "residential", "oneway": "yes"})}


def test_streets_are_cut_where_they_meet_and_run_both_ways_unless_oneway(tmp_path: Path) -> None:
    segments = osm.read(extract(tmp_path, CROSS), PLANE)
    assert segments.segment_id == ["w10_1_5_f", "w10_2_5_b", "w10_5_1_b", "w10_5_2_f", "w11_3_5_f", "w11_5_4_f"]
    assert np.allclose(segments.length_m, 100.0, atol=0.05)
    assert [segments.segment_id[i] if i >= 0 else None for i in segments.opposite] == [
        "w10_5_1_b", "w10_5_2_f", "w10_1_5_f", "w10_2_5_b", None, None,
    ]  # fmt: skip
    middle = segments.to_node[0]
    assert sorted(np.flatnonzero(segments.from_node == middle)) == [2, 3, 5]
    assert segments.name[0] == "Itäväylä"
    assert segments.osm_way_ids[4] == [11]
    assert segments.osm_node_ids == [[1, 6, 5], [2, 9, 5], [5, 6, 1], [5, 9, 2], [3, 5], [5, 4]]


def test_ids_of_a_street_stay_when_another_street_is_added_elsewhere(tmp_path: Path) -> None:
    before = osm.read(extract(tmp_path, CROSS), PLANE)
    after = osm.read(extract(tmp_path, {**CROSS, 9: ([2, 7], {"highway": "service"})}), PLANE)
    assert set(before.segment_id) < set(after.segment_id)
    for a, segment_id in enumerate(before.segment_id):
        b = after.segment_id.index(segment_id)
        assert before.length_m[a] == after.length_m[b]


def test_two_pieces_of_one_way_between_the_same_nodes_have_ids_of_their_own(tmp_path: Path) -> None:
    ways = {10: ([5, 9, 8, 5, 9, 2], {"highway": "service"}), 11: ([9, 4], {"highway": "service"})}
    ids = osm.read(extract(tmp_path, ways), PLANE).segment_id
    assert len(ids) == len(set(ids))
    assert {"w10_5_9_f", "w10_5_9_f.2"} <= set(ids)


@pytest.mark.parametrize(
    ("tags", "ids"),
    [
        (("oneway=yes",), ["w10_1_2_f"]),
        (("oneway=-1",), ["w10_2_1_b"]),
        (("junction=roundabout",), ["w10_1_2_f"]),
        (("junction=roundabout", "oneway=no"), ["w10_1_2_f", "w10_2_1_b"]),
    ],
)
def test_oneway_leaves_only_the_direction_that_may_be_driven(tmp_path: Path, tags: tuple[str, ...], ids: list[str]) -> None:
    assert read(tmp_path, "highway=secondary", *tags).segment_id == ids


@pytest.mark.parametrize("tag", ["oneway:bus=no", "oneway:psv=no", "busway=opposite_lane", "busway:left=opposite_lane"])
def test_buses_against_a_oneway_street_have_a_bus_lane_of_their_own(tmp_path: Path, tag: str) -> None:
    segments = read(tmp_path, "highway=secondary", "oneway=yes", "lanes=2", tag)
    assert segments.represents == ["general_traffic", "bus_lane"]
    assert segments.bus_lane.tolist() == [0, 1]
    assert segments.lanes.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("tags", "use"),
    [
        ({"highway": "motorway_link"}, "general_traffic"),
        ({"highway": "service", "access": "no", "bus": "yes"}, "bus_lane"),
        ({"highway": "unclassified", "motor_vehicle": "no", "psv": "designated"}, "bus_lane"),
        ({"highway": "busway"}, "bus_lane"),
        ({"highway": "pedestrian", "bus": "yes"}, "bus_lane"),
        ({"highway": "residential", "access": "destination"}, "general_traffic"),
        ({"highway": "service", "access": "no", "motor_vehicle": "yes"}, "general_traffic"),
        ({"highway": "residential", "access": "private"}, None),
        ({"highway": "service", "service": "parking_aisle"}, None),
        ({"highway": "footway"}, None),
        ({"highway": "construction"}, None),
        ({"railway": "tram"}, None),
    ],
)
def test_who_may_drive_there_decides_what_a_segment_represents(tags: dict[str, str], use: str | None) -> None:
    assert osm_tags.use(tags) == use


@pytest.mark.parametrize(
    ("tags", "forward", "backward"),
    [
        ({"busway": "lane"}, 1, 1),
        ({"busway:right": "lane"}, 1, -1),
        ({"busway:left": "lane", "lanes": "3"}, 0, 1),
        ({"lanes:psv:forward": "1"}, 1, -1),
        ({"bus:lanes:backward": "yes|designated"}, -1, 1),
        ({"lanes": "2"}, 0, 0),
        ({}, -1, -1),
    ],
)
def test_a_bus_lane_counts_in_its_own_direction(tags: dict[str, str], forward: int, backward: int) -> None:
    assert (osm_tags.bus_lane(tags, True, 0), osm_tags.bus_lane(tags, False, 0)) == (forward, backward)


def test_where_traffic_drives_on_the_left_the_left_lane_goes_with_the_way() -> None:
    assert osm_tags.bus_lane({"busway:left": "lane"}, True, 0, drive_on_left=True) == 1


def test_limits_may_differ_by_direction_and_unknown_ones_stay_unknown(tmp_path: Path) -> None:
    assert read(tmp_path, "highway=primary", "maxspeed=30 mph", "maxspeed:backward=50").speed_limit_kmh.tolist() == [48.28032, 50.0]
    assert np.isnan(read(tmp_path, "highway=primary").speed_limit_kmh).all()
    assert read(tmp_path, "highway=primary", "maxspeed:type=FI:urban").speed_limit_kmh.tolist() == [50.0, 50.0]


@given(st.text(max_size=20))
def test_any_text_as_maxspeed_gives_a_speed_or_nothing(text: str) -> None:
    speed = osm_tags.speed_kmh(text)
    assert speed != speed or 0 < speed <= 200


def test_a_tram_track_is_rail_and_does_not_cut_the_street_it_crosses(tmp_path: Path) -> None:
    ways = {10: ([1, 5, 2], {"highway": "primary"}), 12: ([3, 5, 4], {"railway": "tram", "oneway": "yes"})}
    segments = osm.read(extract(tmp_path, ways), PLANE)
    assert dict(zip(segments.segment_id, segments.represents, strict=True)) == {
        "w10_1_2_f": "general_traffic",
        "w10_2_1_b": "general_traffic",
        "w12_3_4_f": "rail",
    }


def test_a_street_with_rails_in_it_is_both(tmp_path: Path) -> None:
    segments = read(tmp_path, "highway=tertiary", "railway=tram")
    assert dict(zip(segments.segment_id, segments.represents, strict=True)) == {
        "w10_1_2_f": "general_traffic", "w10_2_1_b": "general_traffic", "w10_1_2_f_t": "rail", "w10_2_1_b_t": "rail",
    }  # fmt: skip


SIGNAL = {"highway": "traffic_signals"}


def test_a_signal_at_the_stop_line_belongs_to_the_segment_that_ends_there(tmp_path: Path) -> None:
    segments = osm.read(extract(tmp_path, CROSS, {6: SIGNAL}), PLANE)
    assert {s for s, signal in zip(segments.segment_id, segments.signal, strict=True) if signal == 1} == {"w10_1_5_f"}


def test_a_signal_on_the_junction_belongs_to_all_that_end_there(tmp_path: Path) -> None:
    segments = osm.read(extract(tmp_path, CROSS, {5: SIGNAL}), PLANE)
    assert {s for s, signal in zip(segments.segment_id, segments.signal, strict=True) if signal == 1} == {
        "w10_1_5_f",
        "w10_2_5_b",
        "w11_3_5_f",
    }


def test_a_signal_for_the_other_direction_is_none(tmp_path: Path) -> None:
    segments = osm.read(extract(tmp_path, CROSS, {6: {**SIGNAL, "traffic_signals:direction": "backward"}}), PLANE)
    assert not segments.signal.any()


def test_a_way_that_leaves_the_extract_is_kept_as_far_as_it_is_known(tmp_path: Path) -> None:
    segments = osm.read(extract(tmp_path, {10: ([1, 5, 2, 999], {"highway": "primary", "oneway": "yes"})}), PLANE)
    assert segments.segment_id == ["w10_1_2_f"]


def test_only_segments_whose_middle_lies_in_the_area_are_kept(tmp_path: Path) -> None:
    lat, lon = PLANE.to_wgs84(*(v + d for v, d in zip(PLANE.to_plane(60.17, 24.94), (-50, 0), strict=True)))
    area = shapely.Point(lon[0], lat[0]).buffer(0.0001)
    assert osm.read(extract(tmp_path, CROSS), PLANE, area=area).segment_id == ["w10_1_5_f", "w10_5_1_b"]


def test_what_is_no_extract_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.osm\.pbf: osm = 'no such file'"):
        osm.read(tmp_path / "missing.osm.pbf", PLANE)
    (tmp_path / "html.osm.pbf").write_text("<html>not found</html>")
    with pytest.raises(ConfigError, match=r"html\.osm\.pbf: osm = "):
        osm.read(tmp_path / "html.osm.pbf", PLANE)
    with pytest.raises(ConfigError, match="no streets in it"):
        osm.read(extract(tmp_path, {}), PLANE)
