"""Write the recording that the demo plays, from a folder of the ground-truth generator (SUMO on real streets, and the feeds a real system would get).

Run: ``python -m demo.make_data --truth DIR``. The same folder gives the same bytes. Feeds are cut to whole minutes, and written as HSL sends them where the
generator's dialect differs: HSL's GTFS-Realtime has no trip ids, and names its entities ``vehicle_position_<operator>/<vehicle>``.
"""

from __future__ import annotations

import csv
import json
import lzma
import math
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec
import shapely
from google.transit import gtfs_realtime_pb2
from pyarrow import parquet

from demo.player import MINUTE_MS
from demo.recording import HELSINKI, VEHICLE_STEP, About
from geo import store
from geo.build import build
from models.clock import parse_ms

LICENCE = "ODbL-1.0"
ATTRIBUTION = "SIMULATED: no real vehicles. Streets © OpenStreetMap contributors (ODbL); traffic simulated with Eclipse SUMO."


NETWORK_ATTRIBUTION = "© OpenStreetMap contributors (extract of 21 April 2019); SIMULATED timetable"
#: West, south, east, north: what the simulation covers, with a margin.
AREA = (24.930, 60.160, 24.960, 60.182)


@click.command(help="Write the demo's recording. Example: python -m demo.make_data --truth groundtruth/ --minutes 15")
@click.option(
    "--truth",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="output folder of the ground-truth generator",
)
@click.option("--minutes", type=click.IntRange(1, 60), default=15, show_default=True)
@click.option("--to", type=click.Path(path_type=Path), default=HELSINKI, show_default=False, help="default: the demo's own data folder")
@click.option("--osm", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="OpenStreetMap extract: builds the network anew")
def main(truth: Path, minutes: int, to: Path, osm: Path | None) -> None:
    summary = json.loads((truth / "summary.json").read_text())
    wire, start_ms, length_ms = truth / "wire", parse_ms(summary["measured_start"]), minutes * MINUTE_MS
    to.mkdir(parents=True, exist_ok=True)
    check_trips(wire / "gtfs.zip")
    counts = {
        "hfp": write_lines(to / "hfp.jsonl.xz", hfp(wire / "hfp.jsonl", start_ms, length_ms)),
        "tms": write_lines(to / "tms-data.jsonl.xz", station_data(wire / "tms_data.jsonl", start_ms, length_ms)),
        "gtfs-rt": write_snapshots(to / "vehicle-positions.zip", wire, start_ms, length_ms),
    }
    station_list, constants = stations(truth)
    write_json(to / "tms-stations.json", station_list)
    write_json(to / "tms-sensor-constants.json", constants)
    shutil.copyfile(wire / "gtfs.zip", to / "gtfs.zip")
    settings = summary["config"]
    about = About(
        city="helsinki",
        zone="Europe/Helsinki",
        start_ms=start_ms,
        length_ms=length_ms,
        simulated=True,
        made_with=f"ground-truth generator, SUMO; seed {settings['seed']}, {settings['duration']} s, headway {settings['bus_headway']} s",
        licence=LICENCE,
        attribution=ATTRIBUTION,
    )
    write_json(to / "recording.json", about)
    if osm is not None:
        network = build(
            "helsinki", osm=osm, gtfs=to / "gtfs.zip", area=shapely.box(*AREA), crs="EPSG:3067", attribution=NETWORK_ATTRIBUTION
        )
        store.save(network, to / "network")
        click.echo(f"network: {len(network.segments)} segments, {len(network.shapes)} shapes", err=True)
    size = sum(f.stat().st_size for f in to.rglob("*") if f.is_file())
    click.echo(
        f"{to}: {counts['hfp']} HFP messages, {counts['gtfs-rt']} GTFS-RT snapshots, {counts['tms']} TMS answers, {size / 1e6:.2f} MB",
        err=True,
    )


def hfp(path: Path, start_ms: int, length_ms: int) -> Iterable[dict[str, Any]]:
    """Lines of ``hfp.jsonl.xz``: messages in order of receipt, within the cut.

    Raises:
        ValueError: a vehicle number that a later loop would meet again.
    """
    with path.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            offset = parse_ms(line["received_at"]) - start_ms
            if not 0 <= offset < length_ms:
                continue
            if int(line["topic"].split("/")[8]) >= VEHICLE_STEP:
                raise ValueError(f"{path}: {line['topic']}: vehicle number, expected below {VEHICLE_STEP}")
            yield {"offset_ms": offset, "topic": line["topic"], "payload": line["payload"]}


def station_data(path: Path, start_ms: int, length_ms: int) -> Iterable[dict[str, Any]]:
    """Lines of ``tms-data.jsonl.xz``."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            body = json.loads(text)
            if 0 <= (offset := parse_ms(body["dataUpdatedTime"]) - start_ms) < length_ms:
                yield {"offset_ms": offset, "body": body}


def stations(truth: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Answers of ``stations`` and ``stations/sensor-constants``, in the fields that Digitraffic sends; free flow is the posted limit.

    A station's bearing is that of its direction 1, as the street runs where the loop lies.
    """
    source = json.loads((truth / "wire" / "tms_stations.json").read_bytes())
    changed = source["dataUpdatedTime"]
    lines = {
        row["edge_id"]: row["geometry_wkt"]
        for row in parquet.read_table(truth / "edges.parquet", columns=["edge_id", "geometry_wkt"]).to_pylist()
    }
    bearings: dict[int, int] = {}
    with (truth / "detector_stations.csv").open(newline="", encoding="utf-8") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: row["direction"], reverse=True):  # direction 1 last: it wins
            towards = bearing_deg(lines[row["edge_id"]], float(row["lat"]), float(row["lon"])) + (180 if row["direction"] == "2" else 0)
            bearings[int(row["station_id"])] = round(towards) % 360
    constants = []
    for feature in source["features"]:
        properties, station = feature["properties"], int(feature["id"])
        feature["properties"] = {
            "id": station,
            "tmsNumber": properties["tmsNumber"],
            "name": f"simulated_{properties['name'].removeprefix('vt_')}",
            "bearing": bearings[station],
            "collectionStatus": properties["collectionStatus"],
            "dataUpdatedTime": changed,
            "state": properties["state"],
        }
        values = {
            "VVAPAAS1": round(properties["freeFlowSpeed1"]),
            "VVAPAAS2": round(properties["freeFlowSpeed2"]),
            "Tien_suunta": bearings[station],
        }
        always = [{"name": name, "value": value, "validFrom": "01-01", "validTo": "12-31"} for name, value in values.items()]
        constants.append({"id": station, "dataUpdatedTime": changed, "sensorConstantValues": always})
    return source, {"dataUpdatedTime": changed, "stations": constants}


def bearing_deg(wkt: str, lat_deg: float, lon_deg: float) -> float:
    """Compass bearing of a line (lon lat) beside a point, over 10 m of it."""
    shrink = math.cos(math.radians(lat_deg))
    line = shapely.transform(shapely.from_wkt(wkt), lambda lon_lat: lon_lat * [shrink, 1.0])
    along, half = line.project(shapely.Point(lon_deg * shrink, lat_deg)), 5 / 111_320
    a, b = line.interpolate(max(0.0, along - half)), line.interpolate(min(line.length, along + half))
    return math.degrees(math.atan2(b.x - a.x, b.y - a.y)) % 360


def write_json(to: Path, value: Any) -> None:
    to.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def write_snapshots(to: Path, wire: Path, start_ms: int, length_ms: int) -> int:
    """Members ``<offset ms, 9 digits>.pb`` of ``vehicle-positions.zip``."""
    count = 0
    with (wire / "gtfs_rt_index.csv").open(newline="") as index, zipfile.ZipFile(to, "w", zipfile.ZIP_LZMA) as z:
        for row in csv.DictReader(index):
            offset = parse_ms(row["published_at"]) - start_ms
            if not 0 <= offset < length_ms:
                continue
            feed = gtfs_realtime_pb2.FeedMessage.FromString((wire / row["file"]).read_bytes())
            for entity in feed.entity:
                entity.id = f"vehicle_position_{entity.vehicle.vehicle.id}"
                entity.vehicle.trip.ClearField("trip_id")
                entity.vehicle.vehicle.ClearField("label")
            z.writestr(
                zipfile.ZipInfo(f"{offset:09d}.pb", (2026, 1, 1, 0, 0, 0)), feed.SerializeToString(deterministic=True), zipfile.ZIP_LZMA
            )
            count += 1
    return count


def write_lines(to: Path, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with lzma.open(to, "wb", preset=9 | lzma.PRESET_EXTREME) as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")
            count += 1
    return count


def check_trips(gtfs: Path) -> None:
    """Moved trips have start times that the timetable lacks, so route and direction alone must name the shape.

    Raises:
        ValueError: a route and direction with more than one shape.
    """
    shapes: dict[tuple[str, str], set[str]] = {}
    with zipfile.ZipFile(gtfs) as z:
        for row in csv.DictReader(z.read("trips.txt").decode("utf-8-sig").splitlines()):
            shapes.setdefault((row["route_id"], row["direction_id"]), set()).add(row["shape_id"])
    for key, found in shapes.items():
        if len(found) > 1:
            raise ValueError(f"{gtfs}: route and direction {key} have the shapes {sorted(found)}, expected one")


if __name__ == "__main__":
    main()
