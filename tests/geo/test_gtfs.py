import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo import gtfs
from geo.project import Plane
from models.errors import ConfigError

PLANE = Plane("EPSG:3067")
TABLES = {
    "routes.txt": "route_id,route_short_name,route_type\n1001,1,0\n2550,550,702\n",
    "calendar.txt": "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
    "week,1,1,1,1,1,0,0,20260101,20260131\nsunday,0,0,0,0,0,0,1,20260101,20260131\n",
    "stops.txt": 'stop_id,stop_name,stop_lat,stop_lon\na,"Katu, 1",60.17,24.90\nb,B,60.17,24.91\nc,C,60.17,24.92\n',
    "trips.txt": "route_id,service_id,trip_id,direction_id,shape_id\n"
    "1001,week,t1,0,s1\n1001,sunday,t2,0,s2\n1001,week,t3,1,s3\n2550,week,t4,0,\n",
    "shapes.txt": "shape_id,shape_pt_lat,shape_pt_lon,shape_pt_sequence\n"
    "s1,60.17,24.92,10\ns1,60.17,24.90,2\ns2,60.17,24.90,1\ns2,60.18,24.91,2\ns2,60.17,24.92,3\ns3,60.17,24.92,1\ns3,60.17,24.90,2\n",
    "stop_times.txt": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
    "t1,8:10:00,8:10:00,c,10\nt1,8:00:00,8:00:00,a,1\nt1,8:05:00,8:05:00,b,9\n"
    "t2,08:00:00,08:00:00,a,1\nt2,08:10:00,08:10:00,c,2\nt3,25:30:00,25:30:00,c,1\nt3,25:40:00,25:40:00,a,2\n"
    "t4,09:00:00,09:00:00,b,1\nt4,09:10:00,09:10:00,c,2\n",
}


def feed(tmp_path: Path, **changes: str | None) -> Path:
    """A GTFS zip; a change of None leaves the table out."""
    path = tmp_path / "gtfs.zip"
    with zipfile.ZipFile(path, "w") as out:
        for name, text in TABLES.items():
            own = changes.get(name.removesuffix(".txt"), text)
            if own is not None:
                out.writestr(name, own)
    return path


def test_trips_are_found_by_id_by_start_and_by_route(tmp_path: Path) -> None:
    table = gtfs.read(feed(tmp_path), PLANE)
    ids = [shape.shape_id for shape in table.shapes]
    assert ids[:3] == ["s1", "s2", "s3"]
    shape_of = table.schedule.shape_of
    assert shape_of(trip_id="t2", route_id=None, direction_id=None, start_time=None) == 1
    assert shape_of(trip_id=None, route_id="1001", direction_id=1, start_time="01:30") == 2
    assert shape_of(trip_id=None, route_id="1001", direction_id=1, start_time="25:30:00") == 2
    assert shape_of(trip_id="unknown", route_id="9999", direction_id=0, start_time="08:00") == -1


def test_of_two_trips_with_one_start_the_one_on_more_days_wins(tmp_path: Path) -> None:
    schedule = gtfs.read(feed(tmp_path), PLANE).schedule
    assert schedule.by_start["1001", 0, "08:00"] == 0
    assert schedule.by_route["1001", 0] == (0, 1)


def test_stops_lie_in_order_along_the_shape_whatever_the_order_of_rows(tmp_path: Path) -> None:
    shape = gtfs.read(feed(tmp_path), PLANE).shapes[0]
    assert [stop for _, stop in shape.stops] == ["a", "b", "c"]
    assert [along for along, _ in shape.stops] == pytest.approx([0, 555, 1110], abs=3)
    assert shape.mode == "tram"


@pytest.mark.parametrize("shapes", [None, "shape_id,shape_pt_lat,shape_pt_lon,shape_pt_sequence\n"])
def test_without_shapes_trips_go_straight_from_stop_to_stop(tmp_path: Path, shapes: str | None) -> None:
    table = gtfs.read(feed(tmp_path, shapes=shapes), PLANE)
    assert len(table.schedule.by_trip_id) == 4
    shape = table.shapes[table.schedule.by_trip_id["t1"]]
    assert not shape.drawn
    assert len(shape.points) == 3


def test_a_byte_order_mark_and_optional_columns_do_not_matter(tmp_path: Path) -> None:
    trips = "\ufeffroute_id,service_id,trip_id,shape_id\r\n1001,week,t1,s1\r\n"
    schedule = gtfs.read(feed(tmp_path, trips=trips, calendar=None), PLANE).schedule
    assert schedule.by_route == {("1001", 0): (0,)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trips": None}, r"trips\.txt = 'missing'"),
        ({"routes": "route_id\n1001\n"}, r"routes\.txt = .*route_type"),
        ({"routes": "route_id,route_type\n1001,bus\n"}, r"routes\.txt route_type = 'bus', expected a whole number"),
        ({"stops": "stop_id,stop_lat,stop_lon\na,north,24\n"}, r"stops\.txt stop_lat"),
        ({"calendar": TABLES["calendar.txt"].replace("20260101", "1.1.2026")}, r"calendar\.txt date = '1\.1\.2026'"),
    ],
)
def test_a_feed_that_is_not_gtfs_is_refused_with_table_and_column(tmp_path: Path, changes: dict[str, str | None], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        gtfs.read(feed(tmp_path, **changes), PLANE)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gtfs.zip").write_text("<html>")
    with pytest.raises(ConfigError, match=r"gtfs\.zip: gtfs = "):
        gtfs.read(tmp_path / "gtfs.zip", PLANE)


coordinate = st.integers(0, 300).map(float)


@given(
    st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=8, unique=True),
    st.lists(st.tuples(coordinate, coordinate), max_size=8),
)
def test_stops_never_go_back_along_a_shape(points: list[tuple[float, float]], stops: list[tuple[float, float]]) -> None:
    line = np.array(points)
    along = gtfs.stops_along(line, np.array(stops).reshape(-1, 2))
    assert np.all(np.diff(along) >= 0)
    assert np.all((along >= 0) & (along <= np.hypot(*np.diff(line, axis=0).T).sum() + 1e-6))
