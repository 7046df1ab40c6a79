"""docs/new-city.md works as it stands: its file is written, and every command that it shows is run, on a made-up city."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import FOLDER
from deploy.kafka.broker import why_not

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "new-city.md").read_text("utf-8")
COMMANDS = [
    line[2:] for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.startswith("$ ")
]
START_S = 1_773_120_600
#: Evergreen Terrace runs eastward along this latitude, with a crossing street every 0.005 degrees (277 m).
LAT, WEST, STEP, CROSSINGS = 60.17, 24.90, 0.005, 13


def springfield(folder: Path) -> None:
    """A street with crossings, a bus line along it, four minutes of its bus at 10 m/s, and a bike station."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "springfield.toml").write_text(text, "utf-8")
    nodes, ways = [], []
    for k in range(CROSSINGS):
        for row, lat in enumerate((LAT, LAT + 0.002)):
            nodes.append(f'<node id="{1 + k + 100 * row}" version="1" lat="{lat}" lon="{WEST + STEP * k:.4f}"/>')
        ways.append(f'<way id="{10 + k}" version="1"><nd ref="{1 + k}"/><nd ref="{101 + k}"/><tag k="highway" v="residential"/></way>')
    refs = "".join(f'<nd ref="{1 + k}"/>' for k in range(CROSSINGS))
    ways.append(f'<way id="1" version="1">{refs}<tag k="highway" v="secondary"/><tag k="name" v="Evergreen Terrace"/></way>')
    (folder / "springfield.osm").write_text(f'<?xml version="1.0"?><osm version="0.6">{"".join(nodes + ways)}</osm>', "utf-8")
    end = WEST + STEP * (CROSSINGS - 1)
    tables = {
        "routes.txt": "route_id,route_short_name,route_type\n742,742,3\n",
        "calendar.txt": "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\nd,1,1,1,1,1,1,1,20260101,20261231\n",
        "stops.txt": f"stop_id,stop_name,stop_lat,stop_lon\na,A,{LAT},{WEST}\nb,B,{LAT},{end}\n",
        "trips.txt": "route_id,service_id,trip_id,direction_id,shape_id\n742,d,t1,0,s1\n",
        "shapes.txt": f"shape_id,shape_pt_lat,shape_pt_lon,shape_pt_sequence\ns1,{LAT},{WEST},1\ns1,{LAT},{end},2\n",
        "stop_times.txt": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\nt1,7:30:00,7:30:00,a,1\nt1,7:40:00,7:40:00,b,2\n",
    }
    with zipfile.ZipFile(folder / "springfield.zip", "w") as out:
        for name, table in tables.items():
            out.writestr(name, table)
    (folder / "recordings" / "buses").mkdir(parents=True)
    (folder / "recordings" / "bikes").mkdir()
    for n in range(25):
        seconds = START_S + 10 * n
        message = pb.FeedMessage()
        message.header.gtfs_realtime_version = "2.0"
        message.header.timestamp = seconds + 2
        vehicle = message.entity.add(id="1").vehicle
        vehicle.vehicle.id, vehicle.timestamp = "otto", seconds
        vehicle.trip.route_id, vehicle.trip.trip_id, vehicle.trip.direction_id = "742", "t1", 0
        vehicle.position.latitude, vehicle.position.longitude = LAT, WEST + 100 * n / 55_360
        vehicle.position.speed, vehicle.position.bearing = 10.0, 90.0
        (folder / "recordings" / "buses" / f"positions_{seconds + 2}.pb").write_bytes(message.SerializeToString())
    head = {"last_updated": START_S, "ttl": 60, "version": "2.3"}
    documents = {
        "station_information": {"station_id": "1", "name": "Kwik-E-Mart", "lat": 60.171, "lon": 24.93, "capacity": 12},
        "station_status": {
            "station_id": "1",
            "num_bikes_available": 5,
            "num_docks_available": 7,
            "is_renting": True,
            "last_reported": START_S,
        },
    }
    for name, station in documents.items():
        (folder / "recordings" / "bikes" / f"{name}.json").write_text(json.dumps(head | {"data": {"stations": [station]}}), "utf-8")


def run(command: str, folder: Path, timeout_s: float = 240) -> str:
    """A command of the page, as a person would type it; returns what it prints."""
    program, *arguments = shlex.split(command)
    assert program == "tilannekuva"
    env = {**os.environ, "TILANNEKUVA_DATA": str(folder / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "tilannekuva", *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_page_shows_the_commands_that_these_tests_run() -> None:
    assert [shlex.split(c)[1] for c in COMMANDS] == ["network", "check", "topics", "replay", "up"]
    for family in re.findall(r"^\| [^|]+ \| `(\w+)` \| ", PAGE, re.MULTILINE):
        assert (FOLDER.parent / family / "README.md").is_file()
    for city in re.findall(r"`(?:connectors/cities/)?(\w+)\.toml` \(", PAGE):
        assert (FOLDER / f"{city}.toml").is_file()


def test_a_city_is_added_as_the_page_says(tmp_path: Path) -> None:
    springfield(tmp_path)
    said = {shlex.split(c)[1]: run(c + " --for 0" * (" check " in c), tmp_path) for c in COMMANDS if " up " not in c}
    assert "1 shapes" in said["network"]
    assert "Springfield" in said["check"]
    assert "mobility.springfield.vehicle-position.v1" in said["topics"]
    rows = {p.stem: pq.read_table(p).to_pylist() for p in (tmp_path / "out").glob("*.parquet")}
    positions = rows["vehicle-position"]
    assert len(positions) == 25
    assert sum(p["segment_id"] is not None for p in positions) >= 24
    measured = [s for s in rows["segment-state"] if s["origin"] == "measured"]
    assert measured
    assert all(20 < s["speed_kmh"] < 50 for s in measured)
    (station,) = [s for s in rows["shared-vehicle-station"] if s["vehicles_available"] is not None and s["name"] is not None]
    assert (station["name"], station["capacity"], station["vehicles_available"], station["docks_available"]) == ("Kwik-E-Mart", 12, 5, 7)
    assert not rows.get("dead-letter")


def test_a_wrong_key_is_said_in_words_and_nothing_is_touched(tmp_path: Path) -> None:
    springfield(tmp_path)
    file = tmp_path / "springfield.toml"
    file.write_text(file.read_text("utf-8").replace("cadence_s = 60", "cadense_s = 60"), "utf-8")
    done = subprocess.run([sys.executable, "-m", "tilannekuva", "check", "springfield.toml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 78
    assert "feeds.bikes.cadense_s" in done.stderr
    assert "did you mean cadence_s" in done.stderr


@pytest.mark.kafka
def test_the_city_runs_on_live_feeds_that_do_not_answer_and_stops_when_asked(tmp_path: Path) -> None:
    assert why_not() is None
    springfield(tmp_path)
    run(COMMANDS[0], tmp_path)
    (up,) = [c for c in COMMANDS if " up " in c]
    run(up, tmp_path)
