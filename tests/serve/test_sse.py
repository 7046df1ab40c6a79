"""The event stream: changes arrive, batches are encoded once, and a slow reader is cut."""

from __future__ import annotations

import asyncio
import json
from types import ModuleType
from typing import Any

import pytest

from serve import sse
from serve.rest import CITIES
from serve.sse import Client, Hub


async def events(answer: Any, want: int) -> list[dict[str, str]]:
    """The next ``want`` events."""
    out: list[dict[str, str]] = []
    block: dict[str, str] = {}
    async for line in answer.content:
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(": ")
            block[name] = value
        elif block:
            if "event" in block:
                out.append(block)
            block = {}
            if len(out) == want:
                break
    return out


async def test_a_client_sees_each_change_with_its_place_in_the_log(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    hub = client.app[CITIES]["town"].hub
    answer = await client.get("/api/v1/cities/town/stream")
    assert answer.content_type == "text/event-stream"
    (hello,) = await events(answer, 1)
    assert hello["event"] == "hello"
    assert json.loads(hello["data"])["ready"] is True
    batch = [fed(town.vehicle(1, at_s=1)), fed(town.state(0, minute=1)), fed(town.health(at_s=15))]
    hub.publish(batch)
    got = await events(answer, 3)
    assert [e["event"] for e in got] == ["vehicle-position", "segment-state", "feed-health"]
    assert [e["id"] for e in got] == ["v0:2", "s0:4,v0:2", "f0:1,s0:4,v0:2"]
    assert json.loads(got[1]["data"])["segment_id"] == "w0_1_2_f"
    answer.close()


async def test_a_client_gets_only_the_products_it_asked_for(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    hub = client.app[CITIES]["town"].hub
    answer = await client.get("/api/v1/cities/town/stream?products=feed-health")
    await events(answer, 1)
    hub.publish([fed(town.vehicle(1, at_s=1)), fed(town.health(at_s=15))])
    (one,) = await events(answer, 1)
    assert one["event"] == "feed-health"
    assert one["id"] == "f0:1,v0:2", "the id tells the whole place, also of what was not asked for"
    bad = await client.get("/api/v1/cities/town/stream?products=love")
    assert (bad.status, bad.content_type) == (400, "application/problem+json")
    answer.close()


async def test_silence_is_filled_with_heartbeats(fed: Any, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_S", 0.05)
    client = await start()
    answer = await client.get("/api/v1/cities/town/stream")
    got = await events(answer, 3)
    assert [e["event"] for e in got] == ["hello", "heartbeat", "heartbeat"]
    assert json.loads(got[1]["data"])["log_time"] == "2026-03-10T05:30:00.800Z"
    answer.close()


async def test_a_batch_is_encoded_once_for_all_clients(fed: Any, town: ModuleType) -> None:
    hub = Hub(dict)
    everyone = frozenset(sse.STREAMED)
    clients = [Client(everyone) for _ in range(3)]
    hub.clients.update(clients)
    hub.publish([fed(town.vehicle(1, at_s=1)), fed(town.state(0, minute=1))])
    pieces = [c._queue[0] for c in clients]
    assert pieces[0] is pieces[1] is pieces[2]
    assert pieces[0].count(b"\n\n") == 2, "one piece a batch, so one write"


async def test_a_client_that_falls_behind_is_told_and_holds_no_memory(fed: Any, town: ModuleType) -> None:
    hub = Hub(dict)
    slow, quick = Client(frozenset(sse.STREAMED), limit=2_000), Client(frozenset(sse.STREAMED), limit=2_000)
    hub.clients.update({slow, quick})
    for n in range(20):
        hub.publish([fed(town.vehicle(1, at_s=n))])
        await quick.take(0)
    assert slow.overflowed
    assert (slow.waiting, len(slow._queue)) == (0, 0)
    assert not quick.overflowed


async def test_a_slow_reader_is_told_of_the_overflow_and_cut(
    fed: Any, start: Any, town: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start()
    hub: Hub = client.app[CITIES]["town"].hub
    monkeypatch.setattr(sse, "QUEUE_BYTES", 100_000)
    monkeypatch.setattr(Hub.serve, "__defaults__", (100_000,))
    answer = await client.get("/api/v1/cities/town/stream")
    await events(answer, 1)
    for n in range(40):
        hub.publish([fed(town.vehicle(k, at_s=n)) for k in range(500)])
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        text = await answer.content.read()
    assert b"event: overflow" in text[-300:]
    assert text.endswith(b"\n\n")
    assert answer.content.at_eof()
    assert hub.cut == 1
    assert not hub.clients


async def test_a_reader_that_never_reads_is_cut_off(fed: Any, start: Any, town: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "WRITE_TIMEOUT_S", 0.2)
    client = await start()
    hub: Hub = client.app[CITIES]["town"].hub
    reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
    writer.write(b"GET /api/v1/cities/town/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readline()
    while not hub.clients:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while hub.clients:
            hub.publish([fed(town.vehicle(k)) for k in range(2000)])
            await asyncio.sleep(0.01)
    assert hub.cut == 1
    writer.close()


async def test_stopping_ends_every_stream(fed: Any, start: Any) -> None:
    client = await start()
    answer = await client.get("/api/v1/cities/town/stream")
    await events(answer, 1)
    client.app[CITIES]["town"].hub.close()
    async with asyncio.timeout(5):
        assert await answer.content.read() == b""
