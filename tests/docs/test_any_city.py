"""A script written against Turku's topics runs unchanged against Oulu's and Paris's: three cities, three kinds of feeds, one running pipeline."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from google.transit import gtfs_realtime_pb2 as pb

from demo.run import DemoFeeds
from demo.servers import Document, http_server, pick_port
from demo.towns import SECRETS, TOWNS
from demo.traffic import Traffic
from geo import store
from geo.generated import generate
from geo.network import Network

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "docs/examples/any_city.py"
KEY = "not a secret"


def paris_positions(traffic: Traffic, now_ms: int) -> tuple[int, bytes]:
    """GTFS-Realtime as Île-de-France Mobilités describes it: the key is asked for, times and trips are the vehicles' own."""
    traffic.advance(now_ms)
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version, message.header.timestamp = "2.0", now_ms // 1000
    for fix in traffic.fixes:
        v = message.entity.add(id=f"IDFM:{fix.number}").vehicle
        v.vehicle.id, v.timestamp = f"IDFM:{fix.number}", traffic.now_ms // 1000
        v.trip.route_id, v.trip.direction_id = fix.route_id, fix.direction_id
        v.position.latitude, v.position.longitude = fix.lat_deg, fix.lon_deg
        v.position.bearing, v.position.speed = fix.heading_deg, fix.speed_mps
    return traffic.now_ms, message.SerializeToString(deterministic=True)


def networks(folder: Path) -> dict[str, Network]:
    from commands.networks import covered
    from connectors import cities

    paris = generate("paris", covered(cities.load("paris")), centre=(48.8566, 2.3522), crs="EPSG:2154", lines=("C01", "C02", "C03"))
    made = {"turku": TOWNS["turku"].network(), "oulu": TOWNS["oulu"].network(), "paris": paris}
    for name, network in made.items():
        store.save(network, folder / "networks" / name)
    return made


async def started(*words: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tilannekuva", *words, cwd=ROOT, env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )


async def said(broker: str, city: str) -> str:
    script = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, broker, city, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert script.stdout is not None
    text = (await asyncio.wait_for(script.stdout.read(), 180)).decode()
    assert await script.wait() == 0, text
    return text


@pytest.mark.kafka
async def test_the_script_for_turku_runs_unchanged_against_oulu_and_paris(tmp_path: Path, kafka: str) -> None:
    made = await asyncio.to_thread(networks, tmp_path)
    now_ms = time.time_ns() // 1_000_000
    paris = Traffic(made["paris"], seed=1, start_ms=now_ms - 130_000, vehicles=20)
    port = pick_port("127.0.0.1", 0, "port")
    asked = Document("/positions", lambda now: paris_positions(paris, now), "application/x-protobuf", key=("apikey", KEY))
    env = {**os.environ, **SECRETS, "IDFM_API_KEY": KEY, "TILANNEKUVA_DATA": str(tmp_path), "TILANNEKUVA_BROKER": kafka}
    async with (
        DemoFeeds(None, towns={n: made[n] for n in ("turku", "oulu")}) as feeds,
        http_server("127.0.0.1", port, [asked], lambda: time.time_ns() // 1_000_000),
    ):
        sets = [f"{n}:{s}" for n in ("turku", "oulu") for s in feeds.set_options(n)[1::2]]
        sets += [f"paris:feeds.gtfs_rt.http.0.url=http://127.0.0.1:{port}/positions", "paris:feeds.gtfs_rt.http.0.every_s=3"]
        sets += [
            "paris:feeds.gtfs_rt.allow_private=true",
            "paris:feeds.gtfs_rt.simulated=true",
            "paris:feeds.velib=null",
            "paris:feeds.bison_fute=null",
        ]
        options = [part for s in sets for part in ("--set", s)]
        running = [await started(command, "turku", "oulu", "paris", *options, env=env) for command in ("process", "connect")]
        try:
            told = await asyncio.gather(*(said(kafka, city) for city in ("turku", "oulu", "paris")))
        finally:
            for process in reversed(running):
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
            log = [(await process.communicate())[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], log[0][-2000:] + log[1][-2000:]
    for city, text in zip(("turku", "oulu", "paris"), told, strict=True):
        assert text.startswith(f"{city}: ")
        assert "% of free flow  Invented street" in text
    assert "half of those that say so are later" in told[0]
    assert "nobody says how late it is" in told[2]  # the feed does not say, and nothing is made up
