"""The committed recording: small, simulated and saying so, and in the formats of the live feeds."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from google.transit import gtfs_realtime_pb2

from demo.make_data import bearing_deg, check_trips
from demo.player import Player, base_at
from demo.recording import DATA, HELSINKI, About, load
from geo import store
from models.clock import parse_ms
from models.errors import ConfigError

README = (DATA / "README.md").read_text(encoding="utf-8")


def test_the_data_is_at_most_five_megabytes() -> None:
    assert sum(f.stat().st_size for f in DATA.rglob("*") if f.is_file()) <= 5_000_000


def test_everything_says_that_it_is_simulated() -> None:
    about = msgspec.json.decode((HELSINKI / "recording.json").read_bytes(), type=About)
    assert about.simulated
    assert "SIMULATED" in about.attribution
    assert "OpenStreetMap contributors" in about.attribution
    assert "SIMULATED" in README
    assert "ODbL" in README
    stations = msgspec.json.decode(load().stations)
    assert all(f["properties"]["name"].startswith("simulated_") for f in stations["features"])
    with zipfile.ZipFile(HELSINKI / "gtfs.zip") as z:
        assert b"Simulated" in z.read("agency.txt")


def test_every_data_file_is_described() -> None:
    assert [f.name for f in HELSINKI.iterdir() if f.name not in README] == []


def test_a_recording_that_is_not_simulated_is_refused(tmp_path: Path) -> None:
    about = msgspec.json.decode((HELSINKI / "recording.json").read_bytes(), type=About)
    (tmp_path / "recording.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(about, simulated=False)))
    with pytest.raises(ConfigError, match="simulated = False"):
        load(tmp_path)


def test_a_folder_without_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recording\.json"):
        load(tmp_path)


def test_every_trip_on_the_wire_is_in_the_timetable_by_route_and_direction() -> None:
    check_trips(HELSINKI / "gtfs.zip")
    with zipfile.ZipFile(HELSINKI / "gtfs.zip") as z:
        rows = list(csv.DictReader(z.read("trips.txt").decode().splitlines()))
    known = {(row["route_id"], int(row["direction_id"])) for row in rows}
    recording = load()
    hfp = {(levels[9], int(levels[10]) - 1) for line in recording.hfp if (levels := line.topic.split("/"))}
    feeds = [gtfs_realtime_pb2.FeedMessage.FromString(body) for _, body in recording.vehicle_positions]
    realtime = {(e.vehicle.trip.route_id, e.vehicle.trip.direction_id) for feed in feeds for e in feed.entity}
    assert hfp <= known
    assert realtime <= hfp


def test_offsets_are_ordered_and_lie_within_the_recording() -> None:
    recording = load()
    for offsets in (
        [line.offset_ms for line in recording.hfp],
        [offset for offset, _ in recording.vehicle_positions],
        [line.offset_ms for line in recording.station_data],
    ):
        assert offsets == sorted(offsets)
        assert 0 <= offsets[0] <= offsets[-1] < recording.about.length_ms


def test_a_timetable_with_two_shapes_for_a_direction_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "gtfs.zip", "w") as z:
        z.writestr("trips.txt", "route_id,trip_id,direction_id,shape_id\n1,a,0,x\n1,b,0,y\n")
    with pytest.raises(ValueError, match="expected one"):
        check_trips(tmp_path / "gtfs.zip")


@pytest.mark.parametrize(("wkt", "want"), [("LINESTRING (24.94 60.17, 24.94 60.18)", 0), ("LINESTRING (24.95 60.17, 24.94 60.17)", 270)])
def test_a_bearing_follows_the_street(wkt: str, want: float) -> None:
    assert bearing_deg(wkt, 60.172, 24.945) == pytest.approx(want)


def test_the_network_is_built_from_the_timetable_beside_it_and_says_whose_streets_they_are() -> None:
    network = store.load(HELSINKI / "network")
    assert network.city == "helsinki"
    assert network.notes["gtfs_sha256"] == hashlib.sha256((HELSINKI / "gtfs.zip").read_bytes()).hexdigest()
    assert network.licence == "ODbL-1.0"
    assert "OpenStreetMap contributors" in network.attribution
    assert "SIMULATED" in network.attribution
    assert not network.generated


def test_every_moved_trip_still_has_its_shape_and_the_shapes_lie_on_streets() -> None:
    network, recording = store.load(HELSINKI / "network"), load()
    own = {}
    with zipfile.ZipFile(HELSINKI / "gtfs.zip") as z:
        for row in csv.DictReader(z.read("trips.txt").decode().splitlines()):
            own[row["route_id"], int(row["direction_id"])] = row["shape_id"]
    player = Player(recording, base_at(recording, parse_ms("2026-11-24T22:10:00Z")))
    for loop in (0, 7):
        for i in range(0, len(recording.hfp), 100):
            levels = player.message_at(loop, i)[1].split("/")
            route, direction = levels[9], int(levels[10]) - 1
            shape = network.schedule.shape_of(trip_id=None, route_id=route, direction_id=direction, start_time=levels[12])
            assert shape >= 0
            assert network.shapes.shape_id[shape] == own[route, direction]
    lengths = network.shapes.geometry.along_m[network.shapes.geometry.start[1:] - 1]
    covered = np.add.reduceat(network.shapes.piece_to_m - network.shapes.piece_from_m, network.shapes.piece_start[:-1])
    assert (covered / lengths > 0.9).all()
