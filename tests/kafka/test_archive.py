"""The archive on a real broker: each message once, whatever happens to the archiver."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.envelope import SCHEMA, Envelope, Item, encode, headers
from connectors.kafka import make_producer
from models.clock import rfc3339
from models.records import VehiclePosition
from models.records import encode as encode_record
from models.topics import open_topic, raw_topic
from streams.admin import ensure_topics
from streams.archive_store import Store
from streams.outputs import Out, Outputs
from streams.writer import Writer
from tests.kafka.harness import ROOT, Town, end

pytestmark = pytest.mark.kafka
#: How often the archiver is killed: ARCHIVE_KILLS=20 for the long run.
KILLS = int(os.environ.get("ARCHIVE_KILLS", "3"))
#: Records cross midnight, so that batches touch two days.
MIDNIGHT_MS = 1_773_100_800_000


def start(town: Town, kafka: str, prefix: str, to: str, *more: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tilannekuva",
        "archive",
        str(town.city_file),
        "--broker",
        kafka,
        "--prefix",
        prefix,
        "--to",
        to,
        *more,
    ]
    with (town.folder / "archive.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def whole(town: Town, kafka: str, prefix: str, to: str) -> None:
    process = start(town, kafka, prefix, to, "--until-end")
    try:
        assert process.wait(120) == 0, (town.folder / "archive.log").read_text()[-3000:]
    finally:
        process.kill()


def names(store: Store) -> set[str]:
    return {h.part.name for h in store.files("")}


def offsets(store: Store) -> dict[tuple[str, int], Counter[tuple[int, int]]]:
    """How often each (epoch, offset) of each topic's partition is there."""
    found: dict[tuple[str, int], Counter[tuple[int, int]]] = {}
    for held in store.files(""):
        about = store.about(held.path)
        with store.open(held.path) as file:
            rows = file.read(columns=["kafka_offset"]).column("kafka_offset").to_pylist()
        assert len(rows) == about["rows"]
        found.setdefault((about["topic"], about["partition"]), Counter()).update((about["epoch"], o) for o in rows)
    return found


@contextlib.asynccontextmanager
async def talking(town: Town, kafka: str, prefix: str) -> AsyncIterator[None]:
    """Vehicles and envelopes onto topics, as long as the block lasts."""
    await ensure_topics(kafka, town.city, prefix)
    producer = make_producer(kafka, f"talk-{prefix}")
    await producer.start()
    writer = Writer(producer, town.city, prefix)

    async def talk() -> None:
        for n in range(100_000):
            times = [MIDNIGHT_MS - 30_000 + (n * 20 + k) * 37 for k in range(20)]
            out = Outputs()
            for k, t in enumerate(times):
                record = VehiclePosition(
                    vehicle_id=f"18/{k}", event_time=rfc3339(t), ingest_time=rfc3339(t + 900), feed="hfp", simulated=True
                )
                out.add("vehicle-position", [Out(b"18/%d" % k, encode_record(record), t, f"vehicle-position:18/{k}:{t}")])
            await writer.write(out)
            for p in range(town.partitions):
                e = Envelope(
                    SCHEMA, "toytown", "hfp", "hfp", "messages", times[-1], (Item(times[0], "/hfp/v2/x", b"{%d}" % n),), simulated=True
                )
                await producer.send(raw_topic("toytown", "hfp", prefix), encode(e), partition=p, timestamp_ms=times[-1], headers=headers(e))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await producer.stop()


async def every_message_once(kafka: str, store: Store, topics: list[tuple[str, int]]) -> None:
    found = offsets(store)
    for topic, partition in topics:
        counts = found[topic, partition]
        twice = [o for o, n in counts.items() if n > 1]
        assert not twice, f"{topic}-{partition}: {twice[:5]} are there more than once"
        assert sorted(counts) == [(0, o) for o in range(await end(kafka, topic, partition))]


@pytest.mark.parametrize("place", ["folder", "s3"])
async def test_an_archiver_killed_at_random_moments_has_each_message_once(
    kafka: str, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    town = Town(tmp_path / "town")
    to = str(tmp_path / "archive") if place == "folder" else request.getfixturevalue("s3")()
    kills = KILLS if place == "folder" else -(-KILLS // 3)
    prefix, store, rng = f"replay.{uuid.uuid4().hex[:8]}.", Store(to, make=True), random.Random(8)
    async with talking(town, kafka, prefix):
        for kill in range(kills + 1):
            before = names(store)
            running = start(town, kafka, prefix, to, "--flush", "0.05")
            try:
                deadline = time.monotonic() + 90
                while names(store) <= before and running.poll() is None and time.monotonic() < deadline:
                    await asyncio.sleep(0.01 if place == "folder" else 0.2)
                await asyncio.sleep(rng.uniform(0.0, 1.0))
                if kill == kills:  # and once politely
                    running.send_signal(signal.SIGTERM)
                    assert running.wait(15) == 0, (town.folder / "archive.log").read_text()[-3000:]
            finally:
                running.kill()
                running.wait(30)
    whole(town, kafka, prefix, to)
    topics = [(open_topic("toytown", "vehicle-position", prefix), 0), *((raw_topic("toytown", "hfp", prefix), p) for p in range(2))]
    await every_message_once(kafka, store, topics)
    held = store.files("")
    assert len({h.folder.rpartition("/")[2] for h in held}) == 2
    assert sum("product=vehicle-position" in h.folder for h in held) == 2, "small files are merged"
