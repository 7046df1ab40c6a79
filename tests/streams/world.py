"""A small town with streets, two lines and a recording of its buses: what tests of the drivers run on. Seeded: the same arguments give the same bytes."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import City, load
from geo import assemble, store
from geo.assemble import Street
from geo.network import Network, Schedule
from geo.project import Plane
from models.clock import parse_ms, rfc3339

CRS = "EPSG:3067"
EAST, NORTH, STEP = 385_000.0, 6_672_000.0, 250.0
SIZE = 5
#: 2026-03-10 07:00 in Helsinki, a whole minute.
START_MS = parse_ms("2026-03-10T05:00:00Z")

CITY = """
name = "{name}"
title = "Toy town"
timezone = "Europe/Helsinki"
crs = "EPSG:3067"
licence = "CC-BY-4.0"
attribution = ["Nobody"]
[box]
south = 59.9
west = 24.0
north = 60.75
east = 25.7
[feeds.hfp]
family = "hfp"
cadence_s = 1
partitions = {partitions}
licence = "CC-BY-4.0"
attribution = "Nobody"
[feeds.hfp.mqtt]
url = "mqtts://mqtt.example.org:8883"
topics = ["/hfp/v2/journey/#"]
[feeds.gtfs_rt]
family = "gtfs_realtime"
cadence_s = 5
secondary_to = "hfp"
vehicle_id_format = "hsl"
licence = "CC-BY-4.0"
attribution = "Nobody"
[[feeds.gtfs_rt.http]]
url = "https://example.org/vehicles"
every_s = 5
"""


def write_city(folder: Path, name: str = "toytown", partitions: int = 2) -> Path:
    """A city file."""
    path = folder / f"{name}.toml"
    path.write_text(CITY.format(name=name, partitions=partitions))
    return path


def city(folder: Path, name: str = "toytown", partitions: int = 2) -> City:
    """The same, loaded."""
    return load(write_city(folder, name, partitions))


def _at(x: int, y: int) -> tuple[float, float]:
    return EAST + x * STEP, NORTH + y * STEP


def network(city_name: str = "toytown", size: int = SIZE, source: str = "invented") -> Network:
    """A grid of two-way streets; line 1001 runs along row 1 and back, line 1002 along column 2 and back."""
    streets: dict[str, Street] = {}
    for x in range(size):
        for y in range(size):
            for dx, dy in ((1, 0), (0, 1)):
                u, v = x + dx, y + dy
                if u < size and v < size:
                    for a, b in (((x, y), (u, v)), ((u, v), (x, y))):
                        name, back = f"g{a[0]}{a[1]}_{b[0]}{b[1]}", f"g{b[0]}{b[1]}_{a[0]}{a[1]}"
                        streets[name] = Street(name, np.array([_at(*a), _at(*b)]), a, b, "secondary", speed_limit_kmh=40.0, opposite=back)
    segments = assemble.segments(list(streets.values()))
    index = {s: i for i, s in enumerate(segments.segment_id)}
    ways = {
        ("1001", 0): [(x, 1) for x in range(size)],
        ("1001", 1): [(x, 1) for x in reversed(range(size))],
        ("1002", 0): [(2, y) for y in range(size)],
        ("1002", 1): [(2, y) for y in reversed(range(size))],
    }
    points, pieces, stops = [], [], []
    for nodes in ways.values():
        points.append(np.array([_at(*n) for n in nodes]))
        names = [f"g{a[0]}{a[1]}_{b[0]}{b[1]}" for a, b in pairwise(nodes)]
        pieces.append([(k * STEP, (k + 1) * STEP, index[n], 0.0) for k, n in enumerate(names)])
        stops.append([(STEP * k + 60.0, f"s{k}") for k in range(len(names))])
    shapes = assemble.shapes([f"{r}_{d}" for r, d in ways], points, pieces, stops)
    schedule = Schedule({}, {}, {key: (row,) for row, key in enumerate(ways)})
    return store.versioned(Network(city_name, "", CRS, segments, shapes, schedule, source, "CC0-1.0", "Nobody", generated=True))


class Line(NamedTuple):
    """One message as received."""

    received_ms: int
    topic: str
    payload: bytes


def recording(
    seed: int = 1, vehicles: int = 6, seconds: int = 300, *, duplicates: float = 0.03, late: float = 0.003, poison: float = 0.0,
    gtfs_rt_every: int = 0, start_ms: int = START_MS, every_s: int = 1,
) -> list[Line]:  # fmt: skip
    """Buses that drive, stand at stops, turn back; one in six has no line (it wanders the streets and is matched freely).

    Args:
        duplicates: share of messages received twice.
        late: share of messages held back for 4 to 6 minutes, so that their window has closed.
        poison: share of additional messages that are no HFP.
        every_s: seconds between two messages of a vehicle.
        gtfs_rt_every: seconds between GTFS-RT snapshots of two further vehicles; 0: none.
    """
    rng = random.Random(seed)
    plane = Plane(CRS)
    lines: list[Line] = []
    for v in range(vehicles):
        route, direction = ("1001" if v % 2 else "1002"), v // 2 % 2
        s, speed, odometer, length = rng.uniform(0, 400), rng.uniform(4, 11), 0.0, STEP * (SIZE - 1)
        standing = 0
        trip = 0
        for t in range(seconds):
            if standing:
                standing -= 1
                moved = 0.0
            else:
                speed = min(13.0, max(2.0, speed + rng.uniform(-1.5, 1.5)))
                moved = speed
                if rng.random() < 0.02:
                    standing = rng.randrange(5, 20)
            s, odometer = s + moved, odometer + moved
            if s >= length:
                s, odometer, direction, trip = 0.0, 0.0, 1 - direction, trip + 1
            along = s if direction == 0 else length - s
            east, north = (EAST + along, NORTH + STEP) if route == "1001" else (EAST + 2 * STEP, NORTH + along)
            lat, lon = plane.to_wgs84(east + rng.gauss(0, 3), north + rng.gauss(0, 3))
            heading = {("1001", 0): 90, ("1001", 1): 270, ("1002", 0): 0, ("1002", 1): 180}[route, direction]
            if t % every_s:
                continue
            event_ms = start_ms + t * 1000 + v * 37 % 1000
            known = v % 6 != 5
            number = f"{v:05}"
            payload = {
                "VP": {
                    "desi": route[-1], "dir": str(direction + 1), "oper": 18, "veh": v, "tst": rfc3339(event_ms), "tsi": event_ms // 1000,
                    "spd": round(moved, 2), "hdg": heading, "lat": round(float(lat[0]), 6), "long": round(float(lon[0]), 6), "acc": 0.0,
                    "dl": -30, "odo": round(odometer), "drst": 1 if standing else 0, "oday": "2026-03-10", "jrn": trip, "line": 1,
                    "start": "07:00", "loc": "GPS", "stop": None, "route": route if known else "9999", "occu": 0,
                }
            }  # fmt: skip
            topic = f"/hfp/v2/journey/ongoing/vp/bus/0018/{number}/{route if known else '9999'}/{direction + 1}/A/07:00/1/0/60;24/19/75/80"
            received = event_ms + rng.randrange(200, 1500)
            if rng.random() < late:
                received += rng.randrange(240_000, 360_000)
            body = json.dumps(payload, separators=(",", ":")).encode()
            lines.append(Line(received, topic, body))
            if rng.random() < duplicates:
                lines.append(Line(received + rng.randrange(0, 3000), topic, body))
            if poison and rng.random() < poison:
                lines.append(Line(received, topic, rng.choice([b"{", b"null", b'{"VP":{"lat":"x"}}', b"\xff\xfe", b'{"VP":{}}'])))
    if gtfs_rt_every:
        for t in range(0, seconds, gtfs_rt_every):
            lines.append(Line(start_ms + t * 1000 + 900, "/gtfsrt/vp/x", _snapshot(rng, plane, start_ms + t * 1000, t)))
    return sorted(lines, key=lambda x: x.received_ms)


def _snapshot(rng: random.Random, plane: Plane, event_ms: int, t: int) -> bytes:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = event_ms // 1000
    for v in (901, 902):
        lat, lon = plane.to_wgs84(EAST + 7.0 * t % 900 + v % 2 * 50, NORTH + STEP + rng.gauss(0, 2))
        e = message.entity.add(id=f"{v}")
        e.vehicle.vehicle.id = f"18/{v}"
        e.vehicle.position.latitude, e.vehicle.position.longitude = float(lat[0]), float(lon[0])
        e.vehicle.position.bearing, e.vehicle.position.speed = 90.0, 7.0
        e.vehicle.timestamp = event_ms // 1000
        e.vehicle.trip.route_id, e.vehicle.trip.direction_id = "1001", 0
    return message.SerializeToString(deterministic=True)


def write_recording(lines: Iterable[Line], folder: Path) -> Path:
    """A folder with a file of JSON lines (topic, payload, time of receipt) for each feed; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {"hfp": [], "gtfs_rt": []}
    for line in lines:
        row = {"topic": line.topic, "received_at": rfc3339(line.received_ms), "payload_base64": base64.b64encode(line.payload).decode()}
        rows["gtfs_rt" if line.topic.startswith("/gtfsrt/") else "hfp"].append(json.dumps(row) + "\n")
    for feed, text in rows.items():
        if text:
            (folder / f"{feed}.jsonl").write_text("".join(text))
    return folder
