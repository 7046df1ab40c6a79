"""Networks as a user builds them: by the script that downloads, and again with a newer map. The downloads are faked on the PATH; nothing leaves the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import osmium
import pytest
import shapely

from geo import store
from geo.network import Network

ROOT = Path(__file__).resolve().parents[2]
#: A street of five nodes in Espoo and one that crosses it; a third one that a newer map has.
WEST, LAT = 24.640, 60.2055
NODES = {k + 1: (WEST + 0.004 * k, LAT) for k in range(5)} | {11: (WEST + 0.004, LAT - 0.003), 12: (WEST + 0.004, LAT + 0.003)}
NEWER = {21: (WEST + 0.012, LAT - 0.003), 22: (WEST + 0.012, LAT + 0.003)}
WAYS = {7: [1, 2, 3, 4, 5], 8: [11, 2, 12]}
#: Something else that the map of a country has.
FAR = {91: (25.94, 60.20), 92: (25.95, 60.20)}
CURL = """#!/bin/sh
# Stands for curl: gives the file of the same name, nothing when it was given before, and fails where there is none.
while [ $# -gt 0 ]; do
	case $1 in
	--output) out=$2; shift ;;
	--time-cond) [ -n "$NEWER" ] || exit 0; shift ;;
	--config | --retry) shift ;;
	-*) ;;
	*) address=$1 ;;
	esac
	shift
done
cp "$SITE/${address##*/}" "$out"
"""


def write_map(file: Path, newer: bool) -> None:
    nodes, ways = NODES | FAR, dict(WAYS) | {9: [91, 92]}
    if newer:
        nodes, ways = nodes | NEWER, ways | {10: [21, 4, 22]}
    file.unlink(missing_ok=True)
    writer = osmium.SimpleWriter(str(file))
    for node, place in sorted(nodes.items()):
        writer.add_node(osmium.osm.mutable.Node(id=node, version=1, location=place))
    for way, refs in sorted(ways.items()):
        writer.add_way(osmium.osm.mutable.Way(id=way, version=1, nodes=refs, tags={"highway": "secondary"}))
    writer.close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What can be downloaded, and a PATH with our own curl."""
    folder = tmp_path / "site"
    folder.mkdir()
    write_map(folder / "finland-latest.osm.pbf", newer=False)
    end = NODES[5][0]
    tables = {
        "routes.txt": "route_id,route_type\n2550,3\n",
        "calendar.txt": "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\nd,1,1,1,1,1,1,1,20260101,20261231\n",
        "stops.txt": f"stop_id,stop_lat,stop_lon\na,{LAT},{WEST}\nb,{LAT},{end}\n",
        "trips.txt": "route_id,service_id,trip_id,direction_id,shape_id\n2550,d,t,0,s\n",
        "shapes.txt": f"shape_id,shape_pt_lat,shape_pt_lon,shape_pt_sequence\ns,{LAT},{WEST},1\ns,{LAT},{end},2\n",
        "stop_times.txt": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\nt,8:00:00,8:00:00,a,1\nt,8:05:00,8:05:00,b,2\n",
    }
    with zipfile.ZipFile(folder / "hsl.zip", "w") as out:
        for name, text in tables.items():
            out.writestr(name, text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "curl").write_text(CURL)
    (tmp_path / "bin" / "curl").chmod(0o755)
    return folder


def fetch(tmp_path: Path, *names: str, newer: bool = False) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "SITE": str(tmp_path / "site"), "NEWER": "yes" if newer else "", "DOWNLOADS": str(tmp_path / "downloads"),
        "TILANNEKUVA": f"{sys.executable} -m tilannekuva", "TILANNEKUVA_DATA": str(tmp_path / "data"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return subprocess.run(
        [str(ROOT / "deploy" / "networks.sh"), *names], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )


def built(tmp_path: Path, city: str = "espoo") -> Network:
    return store.load(tmp_path / "data" / "networks" / city)


def test_what_is_downloaded_becomes_the_network_that_workers_look_for_and_a_newer_map_keeps_the_ids_of_streets(
    tmp_path: Path, site: Path
) -> None:
    done = fetch(tmp_path, "espoo")
    assert done.returncode == 0, done.stderr
    first = built(tmp_path)
    assert set(first.segments.segment_id) == {
        "w7_1_2_f",
        "w7_2_1_b",
        "w7_2_5_f",
        "w7_5_2_b",
        "w8_11_2_f",
        "w8_2_11_b",
        "w8_2_12_f",
        "w8_12_2_b",
    }
    assert first.schedule.by_trip_id == {"t": 0}
    assert (first.generated, first.licence) == (False, "ODbL-1.0")
    assert fetch(tmp_path, "espoo").returncode == 0
    assert built(tmp_path).version == first.version
    write_map(site / "finland-latest.osm.pbf", newer=True)
    assert fetch(tmp_path, "espoo", newer=True).returncode == 0
    then = built(tmp_path)
    assert then.version != first.version
    gone = set(first.segments.segment_id) - set(then.segments.segment_id)
    assert gone == {"w7_2_5_f", "w7_5_2_b"}  # the new street cuts them
    assert {"w7_2_4_f", "w7_4_5_f", "w10_21_4_f"} <= set(then.segments.segment_id)


def test_without_a_schedule_there_are_streets_and_without_a_map_there_is_a_failure_that_says_so(tmp_path: Path, site: Path) -> None:
    (site / "hsl.zip").unlink()
    done = fetch(tmp_path, "espoo")
    assert done.returncode == 0, done.stderr
    assert "without gtfs" in done.stderr
    assert len(built(tmp_path).shapes) == 0
    done = fetch(tmp_path, "paris")
    assert done.returncode == 1
    assert "not built: paris" in done.stderr


def tilannekuva(*words: str, data: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tilannekuva", *words],
        env={**os.environ, "TILANNEKUVA_DATA": str(data)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_area_of_a_city_is_its_border_or_its_box_or_a_municipality(tmp_path: Path) -> None:
    def area(*words: str) -> shapely.Geometry:
        tilannekuva("network", "area", *words, "--to", str(tmp_path / "a.geojson"), data=tmp_path)
        return shapely.from_geojson(json.dumps(json.loads((tmp_path / "a.geojson").read_text())["features"][0]["geometry"]))

    assert shapely.contains_xy(area("vantaa"), 25.0440, 60.2925)
    assert not shapely.contains_xy(area("vantaa"), 24.9414, 60.1719)
    assert area("oulu").bounds == (24.80, 64.75, 26.80, 65.60)
    assert 0.3 < area("oulu", "--municipality", "Oulu").area / area("oulu").area < 0.9


def test_the_command_builds_real_streets_and_builds_them_again_the_same(tmp_path: Path, extract: Path) -> None:
    (tmp_path / "centre.geojson").write_text(shapely.to_geojson(shapely.box(24.935, 60.165, 24.955, 60.175)))
    whole = tilannekuva("network", "build", "helsinki", "--osm", str(extract), "--to", str(tmp_path / "whole"), data=tmp_path)
    assert "© OpenStreetMap contributors" in whole
    for _ in range(2):
        tilannekuva(
            "network",
            "build",
            "helsinki",
            "--osm",
            str(extract),
            "--area",
            str(tmp_path / "centre.geojson"),
            "--to",
            str(tmp_path / "centre"),
            data=tmp_path,
        )
    cut, all_of_it = store.load(tmp_path / "centre"), store.load(tmp_path / "whole")
    assert 500 < len(cut.segments) < len(all_of_it.segments)
    row = {s: i for i, s in enumerate(all_of_it.segments.segment_id)}
    same = [
        i for i, s in enumerate(cut.segments.segment_id) if s in row and cut.segments.length_m[i] == all_of_it.segments.length_m[row[s]]
    ]
    assert len(same) > 0.97 * len(cut.segments)


def test_an_invented_network_says_so(tmp_path: Path) -> None:
    said = tilannekuva("network", "generate", "oslo", "--seed", "3", "--to", str(tmp_path / "n"), data=tmp_path)
    assert "GENERATED" in said
    assert store.load(tmp_path / "n").generated
