"""A worker process on a real broker: how it stops, what it does with poison, when it gives up, what it says of the network."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from connectors.envelope import decode
from connectors.kafka import make_producer
from deploy.kafka.broker import KafkaBroker, free_port
from geo import store
from models.errors import EXIT_SOFTWARE
from models.topics import dead_letter_topic, open_topic, partials_topic, raw_topic
from streams import worker as worker_module
from streams.admin import ensure_topics
from streams.logs import Log
from streams.outputs import Out, Outputs
from streams.snapshots import Snapshot
from streams.watchdog import WatchdogSettings
from streams.worker import CityWorker, WorkerSettings, run_worker
from streams.writer import Writer
from tests.kafka.harness import PATIENCE_S, ROOT, Town, Worker, compare, end, process, produce, read, written
from tests.kafka.proxy import OF_THE_COORDINATOR, OFFSET_COMMIT, PRODUCE, Proxy
from tests.kafka.quota import limit
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


async def test_sigterm_behind_a_broker_that_takes_next_to_nothing_is_a_clean_stop_and_loses_nothing(kafka: str, tmp_path: Path) -> None:
    """What cannot be made durable in time is not acked, and the next worker does it again."""
    town = Town(tmp_path, lines=world.recording(vehicles=8, seconds=300))
    prefix, instance = await produce(town, kafka, name(), max_items=1), name()
    positions = open_topic("toytown", "vehicle-position", prefix)
    worker = Worker(town, kafka, prefix, instance)
    try:
        await until_it_works(worker, kafka, positions)
        await limit(kafka, f"tilannekuva-process-toytown-{instance}", 1_000)
        out = -1
        while out < (now := await end(kafka, positions)):  # until it is held up
            out = now
            await asyncio.sleep(1)
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.exit_code() == 0, worker.tail()  # 70 if it had taken longer than STOP_S
        assert "left to the next start, since the broker is slow: " in worker.tail()
    finally:
        worker.end()
    await process(town, kafka, prefix)
    compare(town.offline(prefix, max_items=1), await written(town, kafka, prefix))


async def test_a_stop_does_not_wait_for_a_partition_that_is_being_recovered(kafka: str, tmp_path: Path) -> None:
    town = Town(tmp_path, lines=world.recording(vehicles=1, seconds=10))
    prefix = await produce(town, kafka, name())
    worker = CityWorker(town.city, town.network, WorkerSettings(bootstrap=kafka, prefix=prefix))
    recovering = asyncio.Event()

    async def never(owner: str, *, whole: bool = False) -> list[Snapshot]:
        recovering.set()
        await asyncio.Event().wait()
        return []

    worker.store.read = never  # type: ignore[method-assign]
    await worker.start()
    async with asyncio.timeout(PATIENCE_S):
        await recovering.wait()
    async with asyncio.timeout(PATIENCE_S) as patience:
        await worker.stop()
    assert not patience.expired()  # Faust would not let itself be cancelled


async def test_a_stop_does_not_wait_for_the_streets_to_be_published(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow broker may take minutes for those of a large city."""
    town, publishing, stop = Town(tmp_path), asyncio.Event(), asyncio.Event()

    async def never(*_: Any) -> None:
        publishing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(worker_module, "publish_segments", never)
    running = asyncio.create_task(run_worker(CityWorker(town.city, town.network, WorkerSettings(bootstrap=kafka, prefix=name())), stop))
    async with asyncio.timeout(PATIENCE_S):
        await publishing.wait()
        stop.set()
        await running


async def test_a_start_ends_where_the_broker_takes_no_streets(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    town, ended = Town(tmp_path), asyncio.Event()

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(worker_module, "publish_segments", never)
    monkeypatch.setattr(worker_module, "fatal", lambda *_: ended.set())
    settings = WorkerSettings(bootstrap=kafka, prefix=name(), watchdog=WatchdogSettings(stalled_s=0.1))
    stop = asyncio.Event()
    running = asyncio.create_task(run_worker(CityWorker(town.city, town.network, settings), stop))
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()
        stop.set()
        await running


@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
async def test_poison_ends_among_the_dead_letters_and_holds_nothing_up(kafka: str, tmp_path: Path, share: float) -> None:
    """One start of one worker works it all off, and each dead letter points at its message in the raw log."""
    lines = world.recording(vehicles=20 if share < 0.01 else 4, seconds=300 if share < 0.01 else 200, poison=share)
    if share == 1.0:
        lines = [line for line in lines if not line.payload.startswith(b'{"VP":{"desi')]
    town = Town(tmp_path, lines=lines)
    prefix = await produce(town, kafka, name())
    raw = raw_topic("toytown", "hfp", prefix)
    await send(kafka, raw, [b"not an envelope", b"", None, b"\x00" * 2_000_000])
    await process(town, kafka, prefix)
    dead = dead_letter_topic("toytown", prefix)
    records = [json.loads(value) for _, value, _, _ in (await read(kafka, [dead]))[dead]]
    broken = Counter(hashlib.sha256(line.payload).hexdigest() for line in lines if not line.payload.startswith(b'{"VP":{"desi'))
    assert sum(broken.values()) >= len(lines) * min(share, 0.5) * 0.5
    reasons = Counter(r["reason"] for r in records)
    assert reasons.pop("bad_envelope") == 4
    assert Counter(r["sha256"] for r in records if r["reason"] != "bad_envelope") == broken
    log = await raw_log(kafka, raw, partitions=2)
    for r in records:
        assert {"field", "want", "topic"} <= r.keys()
        body = log[r["partition"]][r["offset"]]
        if r["index"] >= 0:
            body = decode(body).items[r["index"]].body
        assert hashlib.sha256(body or b"").hexdigest() == r["sha256"]
    sys.stdout.write(
        f"poison {share:.1%}: {len(lines)} messages, {sum(broken.values())} broken, as many dead letters, and 4 of what is no envelope\n"
    )


async def raw_log(kafka: str, topic: str, partitions: int) -> list[list[bytes | None]]:
    """Values by partition and offset."""
    log = Log(kafka)
    return [[value async for _, value, _ in log.between((topic, p), 0, await log.end((topic, p)))] for p in range(partitions)]


@pytest.mark.parametrize("idempotence", ["on", "off"])
async def test_a_batch_whose_answer_is_lost_is_sent_again_and_stands_there_once(tmp_path: Path, idempotence: str) -> None:
    """The broker has written a batch of ours, and its answer never comes: the producer sends it again, and only its number tells the broker that it has it."""
    town, proxy = Town(tmp_path), Proxy()
    await proxy.start()
    address = f"127.0.0.1:{proxy.port}"
    try:
        with KafkaBroker(tmp_path / "broker", properties={"advertised.listeners": f"PLAINTEXT://{address}"}) as broker:
            proxy.target = broker.port
            await ensure_topics(address, town.city)
            producer = make_producer(address, "test", env={"TILANNEKUVA_IDEMPOTENCE": idempotence})
            await producer.start()
            try:
                writer = Writer(producer, town.city)
                for k in range(4):
                    if k in (1, 2):
                        proxy.mute.add(PRODUCE)
                    await writer.write(
                        Outputs({"vehicle-position": [Out(b"v", b'{"n":%d}' % n, 1_773_120_600_000, f"{k}:{n}") for n in range(50)]})
                    )
                    await writer.settle()
            finally:
                await producer.stop()
            topic = open_topic("toytown", "vehicle-position")
            ids = [headers["ce_id"].decode() for _, _, headers, _ in (await read(address, [topic]))[topic]]
    finally:
        await proxy.stop()
    assert proxy.muted == 2
    once = [f"{k}:{n}" for k in range(4) for n in range(50)]
    assert (ids == once) == (idempotence == "on")
    assert Counter(ids) == (Counter(once) if idempotence == "on" else Counter(once + once[50:150]))


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


def ready(port: int) -> tuple[int, str]:
    """What ``/readyz`` answers; 0 when nobody does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
    except OSError:
        return 0, ""


async def stands_still(town: Town, address: str, prefix: str, broken: str, patience: str, breaks: Callable[[], None] | None = None) -> str:
    """A worker of which something breaks: red, then its stacks, then the end. Returns its log."""
    log, port = town.folder / f"{broken}.log", free_port()
    command = [
        sys.executable,
        "-m",
        "tests.kafka.stalling",
        str(town.city_file),
        str(town.network_folder),
        address,
        prefix,
        str(port),
        broken,
        patience,
    ]
    with log.open("wb") as out:
        running = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=dict(os.environ))
    red_s, why, began = None, "", None
    try:
        deadline = time.monotonic() + PATIENCE_S
        while running.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            if began is None:
                if "breaking" in log.read_text():
                    began = time.monotonic()
                    if breaks is not None:
                        breaks()
                continue
            status, body = await asyncio.to_thread(ready, port)
            if status == 503 and red_s is None:
                red_s, why = time.monotonic() - began, json.loads(body)["reason"]
        assert running.poll() == EXIT_SOFTWARE, log.read_text()[-3000:]
    finally:
        running.kill()
        running.wait(30)
    text = log.read_text()
    assert began is not None
    assert red_s is not None, "it ended without having been red"
    assert "Thread 0x" in text
    stalled = text.rpartition("stalled: ")[2].partition('"')[0].partition("\n")[0]
    sys.stdout.write(
        f"{broken}, {patience}: red after {red_s:.0f} s ({why}), ended {time.monotonic() - began:.0f} s after it broke ({stalled})\n"
    )
    return text


#: ``WATCHDOG=patient pytest tests/kafka/test_worker.py -k stands_still -s``: with the times that a worker has in production.
PATIENCE = os.environ.get("WATCHDOG", "impatient")


@pytest.mark.parametrize(("broken", "said"), [("loop", "event loop has not run"), ("snapshot", "stalled: ")])
async def test_a_worker_that_stands_still_is_red_dumps_its_stacks_and_ends(kafka: str, tmp_path: Path, broken: str, said: str) -> None:
    town = Town(tmp_path, lines=world.recording(vehicles=4, seconds=200))
    prefix = await produce(town, kafka, name(), max_items=1)
    assert said in await stands_still(town, kafka, prefix, broken, PATIENCE)


async def test_a_worker_stands_still_too_when_the_coordinator_does_or_takes_no_commits_or_the_broker_no_messages(tmp_path: Path) -> None:
    """The broker gives messages all the while: only one thing is not answered."""
    town = Town(tmp_path, lines=world.recording(vehicles=4, seconds=1200))
    proxy = Proxy()
    await proxy.start()
    address = f"127.0.0.1:{proxy.port}"
    try:
        with KafkaBroker(tmp_path / "broker", properties={"advertised.listeners": f"PLAINTEXT://{address}"}) as broker:
            proxy.target = broker.port
            for deaf in (frozenset({OFFSET_COMMIT}), OF_THE_COORDINATOR, frozenset({PRODUCE})):
                run = name()
                load = asyncio.create_task(produce(town, address, run, max_items=1, speed=4.0))
                await asyncio.sleep(3)  # the topics are being made

                def breaks(deaf: frozenset[int] = deaf) -> None:
                    proxy.deaf = deaf

                try:
                    text = await stands_still(town, address, f"replay.{run}.", "nothing", PATIENCE, breaks)
                finally:
                    load.cancel()
                    proxy.deaf = frozenset()
                    await asyncio.gather(load, return_exceptions=True)
                if deaf == {PRODUCE}:
                    assert "nothing moved" in text
                else:
                    assert "has not been committed" in text or "has not answered" in text or "rebalance" in text
    finally:
        await proxy.stop()


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
