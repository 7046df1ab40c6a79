"""The gateway under load: many stream clients at once, and a city of 150,000 segments.

``python -m benchmarks.gateway streams`` : CPU, memory and delay with 500 clients at 200 records a second.
``python -m benchmarks.gateway tiles``   : size and time of tiles by zoom, of the picture that a page starts from, beside one GeoJSON of everything.
The page itself: ``python -m benchmarks.page``.

The clients are a process of their own; CPU and memory are the gateway's.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import random
import resource
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from aiohttp import web

from models.clock import rfc3339
from models.records import Segment, SegmentState, VehiclePosition, encode
from models.topics import open_topic
from serve.gateway import make_app
from serve.rest import CITIES, network_geojson, picture_json
from serve.state import Picture
from serve.tiles import MAX_ZOOM, Sheet, Tiles

PORT = 18_765
CLASSES = ["primary"] * 3 + ["secondary"] * 5 + ["tertiary"] * 12 + ["residential"] * 50 + ["service"] * 15 + ["unclassified"] * 15
START_MS = 1_773_120_600_000


@dataclass(frozen=True)
class Town:
    name: str = "town"
    title: str = "Town"
    timezone: str = "Europe/Helsinki"
    licence: str = "CC-BY-4.0"
    attribution: tuple[str, ...] = ("© Town",)


def large_picture(segments: int) -> Picture:
    """Segments spread over 50 by 28 km, each with a state."""
    chance, picture = random.Random(1), Picture("town")
    for n in range(segments):
        lon, lat, points = 24.5 + 0.9 * chance.random(), 60.12 + 0.25 * chance.random(), 2 + int(chance.expovariate(0.25))
        dx, dy = chance.uniform(-8e-4, 8e-4), chance.uniform(-4e-4, 4e-4)
        line = [[round(lon + dx * k / points, 7), round(lat + dy * k / points + chance.uniform(-2e-5, 2e-5), 7)] for k in range(points)]
        segment_id = f"w{chance.randrange(10**9)}_{n}_f"
        segment = Segment(
            segment_id=segment_id, network_version="n1", geometry={"type": "LineString", "coordinates": line}, length_m=80.0,
            road_class=chance.choice(CLASSES), represents="general_traffic", name=f"Katu {n // 20}",
        )  # fmt: skip
        picture.apply(open_topic("town", "segment"), segment_id.encode(), encode(segment), n)
        picture.apply(open_topic("town", "segment-state"), segment_id.encode(), encode(state(segment_id, n, chance)), n)
    return picture


def state(segment_id: str, revision: int, chance: random.Random) -> SegmentState:
    return SegmentState(
        segment_id=segment_id, window_start=rfc3339(START_MS), window_end=rfc3339(START_MS + 60_000), status="provisional",
        revision=revision, origin=chance.choice(("measured", "inferred")), confidence=round(chance.random(), 3),
        represents="general_traffic", algorithm="edie-1", speed_kmh=22.0, speed_p20_kmh=18.0, speed_p80_kmh=27.0, free_flow_kmh=40.0,
        free_flow_method="limit_signal", speed_ratio=0.55, travel_time_s=13.1, delay_s=5.9, los=chance.choice("ABCDEF"),
        datex_status="slow", jam_factor=4.5, data_age_s=8.0, vehicle_count=2,
    )  # type: ignore[arg-type]  # fmt: skip


def clients(count: int, seconds: float, pipe: Connection) -> None:
    """Read streams with bare sockets, and count."""

    async def one(out: dict[str, float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(b"GET /api/v1/cities/town/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                data = await asyncio.wait_for(reader.read(1 << 20), left)
            except TimeoutError:
                break
            if not data:
                out["cut"] += 1
                break
            out["events"] += data.count(b"\nevent: segment-state") + data.count(b"\nevent: vehicle-position")
            out["bytes"] += len(data)
        writer.close()

    async def main() -> dict[str, float]:
        out = {"events": 0.0, "bytes": 0.0, "cut": 0.0}
        await asyncio.gather(*(one(out) for _ in range(count)))
        return out

    pipe.send(asyncio.run(main()))


async def streams(count: int, rate: int, seconds: float) -> None:
    chance, picture = random.Random(2), Picture("town")
    app = make_app([Town()], pictures={"town": picture})
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    hub = app[CITIES]["town"].hub
    here, there = multiprocessing.get_context("spawn").Pipe()
    reading = multiprocessing.get_context("spawn").Process(target=clients, args=(count, seconds + 5, there))
    reading.start()
    while len(hub.listeners) < count:  # noqa: ASYNC110  the clients are another process
        await asyncio.sleep(0.1)
    print(f"{len(hub.listeners)} clients listen")
    began, cpu, told = time.monotonic(), time.process_time(), 0
    while (now := time.monotonic() - began) < seconds:
        batch = []
        for n in range(told, int(rate * now)):
            if n % 2:
                key, record = f"w{n % 5000}_f", state(f"w{n % 5000}_f", n, chance)
                applied = picture.apply(open_topic("town", "segment-state"), key.encode(), encode(record), n // 2)
            else:
                at = rfc3339(START_MS + n)
                position = VehiclePosition(
                    vehicle_id=f"0018/{n % 900:05d}", event_time=at, ingest_time=at, feed="hfp", lat_deg=60.17, lon_deg=24.93,
                    speed_mps=8.0, heading_deg=90.0, mode="bus", route_id="2510", direction_id=0, delay_s=60, operating_day="2026-03-10",
                )  # fmt: skip
                applied = picture.apply(open_topic("town", "vehicle-position"), position.vehicle_id.encode(), encode(position), n // 2)
            assert applied is not None
            batch.append((applied, 0, n // 2))
        told += len(batch)
        hub.publish(batch)
        await asyncio.sleep(0.02)
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out = await asyncio.to_thread(here.recv)
    reading.join()
    print(f"{told / seconds:.0f} records/s to each of {count}: {share:.2f} of a core, {rss_mb:.0f} MB at most")
    print(
        f"told {out['events'] / count:.0f} of {told} records a client, {out['bytes'] / seconds / 1e6:.1f} MB/s, {out['cut']:.0f} were cut"
    )
    await runner.cleanup()


def timed(what: str, began: float, *sizes: int) -> None:
    print(f"{what:38} {time.perf_counter() - began:7.3f} s   {'  '.join(f'{size / 1e6:8.2f} MB' for size in sizes)}")


async def tiles(segments: int) -> None:
    picture = large_picture(segments)
    ids, _ = picture.network()
    began = time.perf_counter()
    Sheet(ids, [picture.segments[i] for i in ids])
    timed(f"laid out once, {segments:,} segments", began)
    kept = Tiles(picture)
    await kept.get(0, 0, 0)
    lon, lat = math.radians(24.95), math.radians(60.245)
    for z in range(6, MAX_ZOOM + 1):
        x, y = int((lon / math.pi + 1) / 2 * 2**z), int((1 - math.asinh(math.tan(lat)) / math.pi) / 2 * 2**z)
        began = time.perf_counter()
        body = await kept.get(z, x, y)
        timed(f"tile {z}/{x}/{y}", began, len(body.data), len(body.zstd))
    began = time.perf_counter()
    timed("picture", began, len(picture_json(picture, "t")))
    began = time.perf_counter()
    timed("one GeoJSON of everything", began, len(network_geojson(picture)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("streams", "tiles"))
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rate", type=int, default=200, help="records a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--segments", type=int, default=150_000)
    a = parser.parse_args()
    if a.what == "streams":
        asyncio.run(streams(a.clients, a.rate, a.seconds))
    else:
        asyncio.run(tiles(a.segments))


if __name__ == "__main__":
    main()
