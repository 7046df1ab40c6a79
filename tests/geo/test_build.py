import subprocess
import sys
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from geo import polylines, store
from geo.build import build
from geo.network import Network
from models.errors import ConfigError

#: A street of 24.90 to 24.92 E along 60.17 N and one that crosses it at 24.91 E.
OSM = """<?xml version="1.0"?><osm version="0.6"><bounds minlat="60.16" minlon="24.90" maxlat="60.18" maxlon="24.92"/>
<node id="1" version="1" lat="60.17" lon="24.90"/><node id="2" version="1" lat="60.17" lon="24.91"/><node id="3" version="1" lat="60.17" lon="24.92"/>
<node id="4" version="1" lat="60.16" lon="24.91"/><node id="5" version="1" lat="60.18" lon="24.91"/>
<way id="7" version="1"><nd ref="1"/><nd ref="2"/><nd ref="3"/><tag k="highway" v="primary"/></way>
<way id="8" version="1"><nd ref="4"/><nd ref="2"/><nd ref="5"/><tag k="highway" v="secondary"/></way></osm>"""
GTFS = {
    "routes.txt": "route_id,route_type\n1061,3\n",
    "stops.txt": "stop_id,stop_lat,stop_lon\na,60.17,24.901\nb,60.179,24.91\n",
    "trips.txt": "route_id,service_id,trip_id,direction_id,shape_id\n1061,d,t,0,s\n",
    "shapes.txt": "shape_id,shape_pt_lat,shape_pt_lon,shape_pt_sequence\ns,60.17,24.90,1\ns,60.17,24.91,2\ns,60.18,24.91,3\n",
    "stop_times.txt": "trip_id,departure_time,stop_id,stop_sequence\nt,08:00:00,a,1\nt,08:05:00,b,2\n",
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """The same town as a street map, a schedule and drawn lines."""
    (tmp_path / "town.osm").write_text(OSM)
    with zipfile.ZipFile(tmp_path / "gtfs.zip", "w") as out:
        for name, text in GTFS.items():
            out.writestr(name, text)
    drawn = shapely.LineString([(24.90, 60.17), (24.91, 60.17), (24.91, 60.18)])
    straight = shapely.LineString([(24.90, 60.17), (24.91, 60.17), (24.92, 60.17)])
    frame = geopandas.GeoDataFrame(
        {"NUMERO": ["1061", "1062"], "SUUNTA": ["1", "1"], "JL_LAJI": ["01", "01"]}, geometry=[drawn, straight], crs=4326
    )
    frame.to_file(tmp_path / "lines.shp")
    return {"osm": tmp_path / "town.osm", "gtfs": tmp_path / "gtfs.zip", "lines": tmp_path / "lines.shp"}


def under(network: Network, shape_id: str) -> list[str]:
    i, shapes = network.shapes.shape_id.index(shape_id), network.shapes
    return [network.segments.segment_id[k] for k in shapes.piece_segment[shapes.piece_start[i] : shapes.piece_start[i + 1]]]


def test_a_schedule_is_laid_onto_a_street_map(inputs: dict[str, Path]) -> None:
    network = build("town", osm=inputs["osm"], gtfs=inputs["gtfs"])
    assert under(network, "s") == ["w7_1_2_f", "w8_2_5_f"]
    assert network.schedule.by_trip_id == {"t": 0}
    assert network.shapes.stop_id == ["a", "b"]
    assert (network.crs, network.licence, network.source) == ("EPSG:3067", "ODbL-1.0", "osm: town.osm, gtfs: gtfs.zip")


def test_drawn_lines_are_laid_onto_a_street_map(inputs: dict[str, Path]) -> None:
    network = build("town", osm=inputs["osm"], lines=inputs["lines"])
    assert under(network, "1061_0") == ["w7_1_2_f", "w8_2_5_f"]
    assert network.schedule.by_route == {("1061", 0): (0,), ("1062", 0): (1,)}


def test_drawn_lines_alone_are_a_network_and_a_schedule_fits_it(inputs: dict[str, Path]) -> None:
    alone = build("town", lines=inputs["lines"])
    both = build("town", lines=inputs["lines"], gtfs=inputs["gtfs"])
    assert len(alone.segments) == 3
    assert under(alone, "1061_0") == under(both, "s")


def test_an_area_keeps_its_streets_and_the_shapes_that_touch_it(inputs: dict[str, Path], tmp_path: Path) -> None:
    east_end = shapely.box(24.912, 60.165, 24.925, 60.175)
    geopandas.GeoDataFrame(geometry=[shapely.box(24.912, 60.165, 24.925, 60.175)], crs=4326).to_file(tmp_path / "area.geojson")
    for area in (east_end, tmp_path / "area.geojson"):
        network = build("town", lines=inputs["lines"], area=area)
        assert network.shapes.shape_id == ["1062_0"]
        assert len(network.segments) == len(under(network, "1062_0")) == 1
    mapped = build("town", osm=inputs["osm"], gtfs=inputs["gtfs"], area=east_end)
    assert mapped.segments.segment_id == ["w7_2_3_f", "w7_3_2_b"]
    assert len(mapped.shapes) == len(mapped.schedule.by_trip_id) == 0


def test_the_same_inputs_give_the_same_version_whatever_the_hash_seed(inputs: dict[str, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from geo.build import build; "
        "print(build('town', osm=Path(sys.argv[1]), gtfs=Path(sys.argv[2])).version, build('town', lines=Path(sys.argv[3])).version)"
    )
    files = [str(inputs[name]) for name in ("osm", "gtfs", "lines")]
    run = [
        subprocess.run(
            [sys.executable, "-c", code, *files],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert run[0].stdout == run[1].stdout


def test_nothing_to_build_from_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network of town: osm, lines = None, expected a street map"):
        build("town", gtfs=inputs["gtfs"])
    with pytest.raises(ConfigError, match=r"none\.zip: network of town = 'no such file'"):
        build("town", osm=inputs["osm"], gtfs=tmp_path / "none.zip")
    with pytest.raises(ConfigError, match="no street inside"):
        build("town", osm=inputs["osm"], area=shapely.box(10, 50, 11, 51))
    with pytest.raises(ConfigError, match="longitude and latitude"):
        build("town", osm=inputs["osm"], area=shapely.box(385000, 6670000, 386000, 6671000))


@pytest.fixture(scope="module")
def hsl(shared: Path) -> Network:
    """The network of all lines of Helsinki, Espoo and Vantaa."""
    return build("helsinki", lines=shared / "networks" / "hsl_lines_2021" / "HSL_linjat.zip")


def test_the_lines_of_three_cities_are_one_network(hsl: Network) -> None:
    assert 20_000 < len(hsl.segments) < 40_000
    assert len(hsl.shapes) == 1105
    assert np.all(hsl.segments.length_m > 0)
    assert set(hsl.segments.represents) == {"general_traffic", "rail"}
    assert len(np.unique(hsl.segments.from_node)) > 8_000


@pytest.mark.parametrize("route", ["1061", "1064", "1065", "4735", "2510", "2550", "1001", "1009"])
@pytest.mark.parametrize("direction", [0, 1])
def test_a_line_has_both_directions_and_its_pieces_cover_it(hsl: Network, route: str, direction: int) -> None:
    (row,) = hsl.schedule.by_route[route, direction]
    own = slice(hsl.shapes.piece_start[row], hsl.shapes.piece_start[row + 1])
    covered = float(np.sum(hsl.shapes.piece_to_m[own] - hsl.shapes.piece_from_m[own]))
    assert covered >= 0.999 * float(polylines.lengths(hsl.shapes.geometry)[row])


def test_shapes_begin_where_their_line_begins(hsl: Network) -> None:
    out, back = (hsl.schedule.by_route["2510", d][0] for d in (0, 1))
    first, last = polylines.coordinates(hsl.shapes.geometry, out), polylines.coordinates(hsl.shapes.geometry, back)
    assert np.hypot(*(first[0] - last[-1])) < 500
    assert np.hypot(*(first[-1] - last[0])) < 500


def test_an_extract_of_central_helsinki_becomes_streets_rails_and_bus_lanes(tmp_path: Path, extract: Path) -> None:
    network = build("helsinki", osm=extract)
    assert 1_000 < len(network.segments) < 3_000
    assert set(network.segments.represents) == {"general_traffic", "bus_lane", "rail"}
    store.save(network, tmp_path)
    assert store.load(tmp_path).version == network.version
