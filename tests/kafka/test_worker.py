"""A worker process on a real broker: how it stops, what it does with poison, when it gives up, what it says of the network."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from connectors.kafka import make_producer
from geo import store
from models.errors import EXIT_SOFTWARE
from models.topics import dead_letter_topic, open_topic, partials_topic, raw_topic
from streams.admin import ensure_topics
from tests.kafka.harness import PATIENCE_S, ROOT, Town, Worker, compare, end, process, produce, read, written
from tests.streams import world

pytestmark = pytest.mark.kafka


def name() -> str:
    return uuid.uuid4().hex[:8]


async def send(kafka: str, topic: str, values: list[bytes | None], partition: int = 0) -> None:
    producer = make_producer(kafka, "test")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"k", partition=partition)
    finally:
        await producer.stop()


async def until_it_works(worker: Worker, kafka: str, topic: str, more_than: int = 0) -> None:
    for _ in range(int(PATIENCE_S)):
        assert worker.process.poll() is None, worker.tail()
        if await end(kafka, topic) > more_than:
            return
        await asyncio.sleep(1)
    raise AssertionError(worker.tail())


async def test_sigterm_in_a_full_hand_is_a_clean_stop_without_a_repetition(kafka: str, tmp_path: Path) -> None:
    town = Town(tmp_path, lines=world.recording(vehicles=8, seconds=500))
    prefix = await produce(town, kafka, name(), max_items=1)
    worker = Worker(town, kafka, prefix, "1")
    try:
        await until_it_works(worker, kafka, open_topic("toytown", "vehicle-position", prefix))
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.exit_code() == 0, worker.tail()  # 70 if it had taken longer than STOP_S
    finally:
        worker.end()
    assert 0 < await end(kafka, open_topic("toytown", "vehicle-position", prefix)) < 3_900  # in the middle of the work
    await process(town, kafka, prefix)
    found = await written(town, kafka, prefix)
    compare(town.offline(prefix, max_items=1), found)
    assert {p: w.records - len(w.by_id) for p, w in found.items()} == dict.fromkeys(found, 0)


@pytest.mark.parametrize("share", [0.1, 1.0])
async def test_poison_ends_among_the_dead_letters_and_holds_nothing_up(kafka: str, tmp_path: Path, share: float) -> None:
    lines = world.recording(vehicles=4, seconds=200, poison=share)
    if share == 1.0:
        lines = [line for line in lines if not line.payload.startswith(b'{"VP":{"desi')]
    town = Town(tmp_path, lines=lines)
    prefix = await produce(town, kafka, name())
    await send(kafka, raw_topic("toytown", "hfp", prefix), [b"not an envelope", b"", None, b"\x00" * 2_000_000])
    await process(town, kafka, prefix)
    found = await read(kafka, [dead_letter_topic("toytown", prefix)])
    records = [json.loads(value) for _, value, _, _ in found[dead_letter_topic("toytown", prefix)]]
    broken = sum(not line.payload.startswith(b'{"VP":{"desi') for line in lines)
    assert broken >= 800 * share * 0.8
    reasons = Counter(r["reason"] for r in records)
    assert reasons.pop("bad_envelope") == 4
    assert sum(reasons.values()) == broken
    assert all({"field", "offset", "index", "sha256", "topic"} <= r.keys() for r in records)


async def test_a_torn_partial_ends_the_process_before_any_ack(kafka: str, tmp_path: Path) -> None:
    """Partials are our own: one that cannot be read is a bug, and is not skipped."""
    town = Town(tmp_path)
    prefix = f"replay.{name()}."
    await ensure_topics(kafka, town.city, prefix)
    await send(kafka, partials_topic("toytown", prefix), [b"garbage"])
    worker = Worker(town, kafka, prefix, "1")
    try:
        assert await worker.exit_code() == EXIT_SOFTWARE
    finally:
        worker.end()
    assert "ending the process before any ack" in worker.log.read_text()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(f"{prefix}tilannekuva-toytown")
        assert [m.offset for tp, m in offsets.items() if tp.topic == partials_topic("toytown", prefix) and m.offset > 0] == []
    finally:
        await admin.close()


@pytest.mark.parametrize("broken", ["loop", "commit"])
async def test_a_worker_that_stands_still_dumps_its_stacks_and_ends(kafka: str, tmp_path: Path, broken: str) -> None:
    town = Town(tmp_path, lines=world.recording(vehicles=4, seconds=200))
    prefix = await produce(town, kafka, name(), max_items=1)
    log = tmp_path / "stalled.log"
    command = [sys.executable, "-m", "tests.kafka.stalling", str(town.city_file), str(town.network_folder), kafka, prefix, broken]
    with log.open("wb") as out:
        running = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=dict(os.environ))
    try:
        assert await asyncio.to_thread(running.wait, PATIENCE_S) == EXIT_SOFTWARE, log.read_text()[-3000:]
    finally:
        running.kill()
    text = log.read_text()
    assert "Current thread" in text or "Thread 0x" in text
    assert ("event loop has not run" in text) == (broken == "loop")


async def test_the_streets_are_published_once_a_version_and_those_that_are_gone_are_deleted(kafka: str, tmp_path: Path) -> None:
    town = Town(tmp_path)
    prefix = await produce(Town(tmp_path / "input", lines=world.recording(vehicles=2, seconds=60)), kafka, name())
    topic = open_topic("toytown", "segment", prefix)
    await process(town, kafka, prefix)
    first = await read(kafka, [topic])
    await send(kafka, raw_topic("toytown", "hfp", prefix), [b""])
    await process(town, kafka, prefix)
    assert await read(kafka, [topic]) == first
    values = [json.loads(v) for _, v, _, _ in first[topic]]
    assert [v["segment_id"] for v in values] == town.network.segments.segment_id
    one = values[town.network.segments.segment_id.index("g11_21")]
    assert one["network_version"] == town.network.version
    assert set(one["successors"]) == {"g21_11", "g21_31", "g21_20", "g21_22"}
    assert set(one["predecessors"]) == {"g21_11", "g01_11", "g10_11", "g12_11"}
    (a, b), length = one["geometry"]["coordinates"], one["length_m"]
    assert (a[0] < b[0], length) == (True, 250.0)
    town.network = world.network(size=4)
    store.save(town.network, town.network_folder)
    await send(kafka, raw_topic("toytown", "hfp", prefix), [b""])
    await process(town, kafka, prefix)
    state: dict[bytes, bytes | None] = {}
    for key, value, _, _ in (await read(kafka, [topic]))[topic]:
        state[key] = value
    assert {k.decode() for k, v in state.items() if v} == set(town.network.segments.segment_id)
    assert {json.loads(v)["network_version"] for v in state.values() if v} == {town.network.version}
