"""From a real broker to a page's stream: the reader starts from what is there, catches up, follows, and says when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import random
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka.broker import KafkaBroker
from models.clock import rfc3339
from models.records import Record, encode
from models.topics import PRODUCTS, open_topic, settings
from serve import reader, ring
from serve.gateway import serve
from serve.state import Picture


class Log:
    """The open topics of one town under a prefix of its own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"t{secrets.token_hex(4)}."

    async def create(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.create_topics(
                [NewTopic(t.name, t.partitions, 1, topic_configs=t.config) for t in settings("town", {}, self.prefix)]
            )
        finally:
            await admin.close()

    async def write(self, *records: Record) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await producer.start()
        try:
            for record in records:
                product = next(p for p in PRODUCTS.values() if p.record is type(record))
                key = str(getattr(record, product.key)).encode()
                await producer.send_and_wait(open_topic("town", product.name, self.prefix), encode(record), key=key)
        finally:
            await producer.stop()


@contextlib.asynccontextmanager
async def gateway(town: ModuleType, log: Log, port: int) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    stop = asyncio.Event()
    running = asyncio.create_task(serve([town.Town()], log.bootstrap, port=port, prefix=log.prefix, stop=stop))
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session:
        for _ in range(1500):
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await session.get(f"{base}/healthz")
                break
            await asyncio.sleep(0.02)
        try:
            yield session, base
        finally:
            stop.set()
            await asyncio.wait_for(running, 10)


async def ready(session: aiohttp.ClientSession, base: str, status: int = 200, timeout_s: float = 20) -> dict[str, Any]:
    async with asyncio.timeout(timeout_s):
        while True:
            answer = await session.get(f"{base}/readyz")
            body: dict[str, Any] = await answer.json()
            if answer.status == status:
                return body
            await asyncio.sleep(0.1)


async def event(answer: aiohttp.ClientResponse, name: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        found = False
        async for line in answer.content:
            if line == f"event: {name}\n".encode():
                found = True
            elif found and line.startswith(b"data: "):
                body: dict[str, Any] = json.loads(line[6:])
                return body
    raise AssertionError(f"the stream ended without {name}")


def now_s(town: ModuleType) -> float:
    """The present, in seconds of the town's clock."""
    return time.time() - float(town.NOW) / 1000


@pytest.mark.kafka
async def test_what_is_in_the_topics_is_served_and_what_comes_is_streamed(kafka: str, town: ModuleType, unused_tcp_port: int) -> None:
    log, now = Log(kafka), now_s(town)
    async with gateway(town, log, unused_tcp_port) as (session, base):
        waiting = await ready(session, base, status=503)
        assert waiting["ready"] is False
        await log.create()
        await log.write(*(town.street(n) for n in range(5)), town.state(1, los="F"), town.state(1, los="A", minute=-1))
        await log.write(town.vehicle(1, at_s=now), town.health(at_s=now))
        await ready(session, base)
        features = (await (await session.get(f"{base}/api/v1/cities/town/segments")).json())["features"]
        assert [f["properties"]["los"] for f in features] == ["unknown", "F", "unknown", "unknown", "unknown"]
        async with session.get(f"{base}/api/v1/cities/town/stream") as stream:
            await event(stream, "hello")
            await log.write(town.state(2, minute=1, los="D"))
            assert (await event(stream, "segment-state"))["los"] == "D"
            await log.write(town.vehicle(1, at_s=now + 1))
            assert (await event(stream, "vehicle-position"))["event_time"] == rfc3339(town.NOW + int((now + 1) * 1000))
        text = await (await session.get(f"{base}/metrics")).text()
        assert "tilannekuva_gateway_lag_records 0.0" in text
        assert "tilannekuva_gateway_ready 1.0" in text

    async with gateway(town, log, unused_tcp_port) as (session, base):
        await ready(session, base)
        picture = await (await session.get(f"{base}/api/v1/cities/town/picture")).json()
        assert dict(zip(picture["states"]["segment_id"], picture["states"]["los"], strict=True)) == {"w1_1_2_f": "F", "w2_1_2_f": "D"}
        assert len(picture["vehicles"]) == 1, "a restart sees again what was there"


async def test_without_a_broker_it_is_alive_but_not_ready(town: ModuleType, unused_tcp_port: int, unused_tcp_port_factory: Any) -> None:
    log = Log(f"127.0.0.1:{unused_tcp_port_factory()}")
    async with gateway(town, log, unused_tcp_port) as (session, base):
        assert (await session.get(f"{base}/healthz")).status == 200
        body = await ready(session, base, status=503)
        assert body["detail"] == "the broker has not answered yet"
        assert (await session.get(f"{base}/api/v1/cities/town/segments")).status == 200


@pytest.mark.kafka
async def test_a_client_that_is_cut_100_times_sees_each_record_once_in_order_of_its_key(
    kafka: str, town: ModuleType, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 records; ``TILANNEKUVA_RESUME_RECORDS`` says otherwise. Memory is made small, so that most of what is missed comes from Kafka."""
    records = int(os.environ.get("TILANNEKUVA_RESUME_RECORDS", "5000"))
    monkeypatch.setattr(ring.Ring.__init__, "__defaults__", (60_000,))
    log, now, chance = Log(kafka), now_s(town), random.Random(11)
    await log.create()
    await log.write(town.street(1), town.state(1), town.vehicle(1, at_s=now), town.health(at_s=now))
    got: dict[tuple[str, str], list[int]] = {}
    cuts = seen = 0
    written = asyncio.Event()

    async def write() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5)
        await producer.start()
        for n in range(records):
            record = town.vehicle(n % 50, at_s=now + n / 1000, odometer_m=float(n)) if n % 2 else town.state(n % 50, minute=1, revision=n)
            product = "vehicle-position" if n % 2 else "segment-state"
            key = getattr(record, PRODUCTS[product].key).encode()
            await producer.send(open_topic("town", product, log.prefix), encode(record), key=key)
            if n % 100 == 0:
                await asyncio.sleep(0.02)
        await producer.stop()
        written.set()

    async with gateway(town, log, unused_tcp_port) as (session, base):
        await ready(session, base)
        url = f"{base}/api/v1/cities/town/stream?product=segment-state,vehicle-position"
        last_id, writing = "", None
        while seen < records:
            until = seen + (records if cuts >= 100 else chance.randrange(1, max(2, records // 60)))
            async with session.get(url, headers={"Last-Event-ID": last_id} if last_id else {}) as answer, asyncio.timeout(60):
                name = place = ""
                async for line in answer.content:
                    if line.startswith(b"id: "):
                        place = line[4:-1].decode()
                    elif line.startswith(b"event: "):
                        name = line[7:-1].decode()
                        assert name not in ("gap", "error", "overflow")
                    elif line.startswith(b"data: ") and name in ("segment-state", "vehicle-position"):
                        body = json.loads(line[6:])
                        key, at = (
                            (body["segment_id"], body["revision"]) if name == "segment-state" else (body["vehicle_id"], body["odometer_m"])
                        )
                        got.setdefault((name, key), []).append(int(at))
                        seen += 1
                        last_id = place
                        if seen >= min(until, records):
                            break
                    elif line.startswith(b"data: ") and name == "hello":
                        last_id = last_id or place
                        writing = writing or asyncio.create_task(write())
            cuts += 1
        assert writing is not None
        await writing
        text = await (await session.get(f"{base}/metrics")).text()
    assert cuts >= 100
    assert all(values == sorted(set(values)) for values in got.values()), "in order of its key, none twice"
    assert sorted(n for values in got.values() for n in values) == list(range(records)), "none missing"
    resumed = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("tilannekuva_gateway_stream_resumed_total"))
    assert resumed >= 99
    assert 'tilannekuva_gateway_stream_gaps_total{city="town"} 0.0' in text


@pytest.mark.kafka
async def test_a_broker_that_goes_away_makes_it_unready_and_its_return_heals_it(
    town: ModuleType, unused_tcp_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "STALL_S", 3.0)
    broker = KafkaBroker(tmp_path)
    await asyncio.to_thread(broker.start)
    try:
        log, now = Log(broker.address), now_s(town)
        await log.create()
        await log.write(town.street(1), town.state(1), town.vehicle(1, at_s=now), town.health(at_s=now))
        async with gateway(town, log, unused_tcp_port) as (session, base):
            await ready(session, base)
            await asyncio.to_thread(broker.stop)
            body = await ready(session, base, status=503)
            assert "the broker has not answered for" in body["detail"]
            assert (await session.get(f"{base}/healthz")).status == 200, "alive: a restart would not help"
            await asyncio.to_thread(broker.start)
            await ready(session, base, timeout_s=60)
            async with session.get(f"{base}/api/v1/cities/town/stream") as stream:
                await event(stream, "hello")
                await log.write(town.state(1, minute=1, los="E"))
                assert (await event(stream, "segment-state"))["los"] == "E"
    finally:
        await asyncio.to_thread(broker.stop)


def test_a_backlog_that_does_not_shrink_is_a_stall_and_one_that_does_is_not(town: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic=lambda: clock.now))
    picture = Picture("town")
    r = reader.Reader([picture], "nowhere:1", lambda p, b: None)
    assert r.problem() == "the broker has not answered yet"
    r._answered_s = clock.now
    assert "no such topic yet" in (r.problem() or "")
    for topic in picture.required:
        r.partitions[TopicPartition(topic, 0)] = reader._Partition(picture, next=5, end=10, goal=10)
    assert r.problem() == "still reading: 20 records to go"
    for at in r.partitions.values():
        at.next = 10
    r._catch_up()
    assert r.problem() is None
    first = next(iter(r.partitions.values()))
    first.end, r._moved_s = 500, clock.now
    clock.now += 10
    assert r.problem() is None, "some records behind, and just a moment"
    clock.now += 10
    r._answered_s = clock.now
    assert r.problem() == "reading stands still, 490 records behind"
    r._moved_s = clock.now
    assert r.problem() is None


@pytest.mark.kafka
async def test_the_programs_of_the_reference_page_run_as_they_are(kafka: str, town: ModuleType, unused_tcp_port: int) -> None:
    log = Log(kafka)
    await log.create()
    await log.write(town.street(1), town.state(1, los="F"), town.vehicle(1, at_s=now_s(town)), town.health(at_s=now_s(town)))
    async with gateway(town, log, unused_tcp_port) as (session, base):
        await ready(session, base)
        page = await (await session.get(f"{base}/docs/segment-state")).text()
        found = [(kind, html.unescape(text)) for kind, text in re.findall(r'<code class="(\w+)">(.*?)</code></pre>', page, re.DOTALL)]
        programs = {kind: text for kind, text in found if "duckdb" not in text}  # which is no dependency of ours
        running = await asyncio.create_subprocess_exec(sys.executable, "-c", programs["python"], stdout=asyncio.subprocess.PIPE)
        assert running.stdout is not None
        try:
            async with asyncio.timeout(30):
                line = (await running.stdout.readline()).decode()
        finally:
            running.kill()
            await running.wait()
        assert line.startswith("w1_1_2_f {")
        assert "'los': 'F'" in line
        (address,) = re.findall(r'EventSource\("([^"]+)"\)', programs["js"])
        async with session.get(address) as stream:
            assert (await event(stream, "segment-state"))["los"] == "F"


@pytest.mark.kafka
async def test_a_gateway_of_many_cities_reads_their_hundreds_of_topics_without_giving_up(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """aiokafka learns of topics one by one where it is not told of all: 10 s were not enough for six cities."""
    prefix, names = f"t{secrets.token_hex(4)}.", [f"town{n}" for n in range(8)]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(open_topic(n, p, prefix), 1, 1) for n in names for p in PRODUCTS])
    finally:
        await admin.close()
    stop, there = asyncio.Event(), asyncio.Event()
    r = reader.Reader([Picture(n, prefix) for n in names], kafka, lambda p, b: None, there.set)
    running = asyncio.create_task(r.run(stop))
    try:
        await asyncio.wait_for(there.wait(), 120)
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
    assert len(r.partitions) > 100
    assert [x.message for x in caplog.records if "trying again" in x.message] == []
