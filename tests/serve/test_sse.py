"""The event streams: changes arrive, whoever comes back goes on where it was, filters and snapshots leave no hole, and a slow reader is cut."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest

from models.records import Situation
from serve import hub as hub_module
from serve import listen, sse
from serve.hub import Hub, Listener
from serve.log import Stretch
from serve.marks import Marks, Place, parse
from serve.rest import CITIES
from serve.ring import Entry, Ring, Wanted
from serve.sse import SseSink

STREAM = "/api/v1/cities/town/stream"


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


class MemoryLog:
    """What a broker would keep of a town's topics."""

    def __init__(self) -> None:
        self.kept: dict[Place, list[tuple[int, bytes]]] = {}
        self.kept_from: dict[Place, int] = {}
        self.opened = 0

    def add(self, batch: list[Any]) -> None:
        for applied, partition, offset in batch:
            self.kept.setdefault((applied.product, partition), []).append((offset, applied.value))

    @asynccontextmanager
    async def open(self, city: str, stretch: Stretch) -> AsyncIterator[Any]:
        self.opened += 1
        for place in stretch.wanted:
            held = self.kept.get(place, [])
            stretch.kept_from[place] = self.kept_from.get(place, 0)
            stretch.ends[place] = held[-1][0] + 1 if held else 0

        async def read() -> AsyncIterator[list[Entry]]:
            for place, (first, last) in stretch.wanted.items():
                found = [(o, v) for o, v in self.kept.get(place, []) if max(first, stretch.kept_from[place]) <= o <= last]
                stretch.seen[place] = len(found)
                yield [Entry(*place, o, v) for o, v in found]

        yield read()


def tell(client: Any, *batch: Any, log: MemoryLog | None = None) -> Hub:
    hub: Hub = client.app[CITIES]["town"].hub
    if log is not None:
        log.add(list(batch))
    hub.publish(batch)
    hub.flush()
    return hub


async def test_a_client_sees_each_change_with_its_place_in_the_log(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    answer = await client.get(STREAM)
    assert answer.content_type == "text/event-stream"
    (hello,) = await events(answer, 1)
    assert hello["event"] == "hello"
    assert json.loads(hello["data"])["ready"] is True
    tell(client, fed(town.vehicle(1, at_s=1)), fed(town.state(0, minute=1)), fed(town.health(at_s=15)))
    got = await events(answer, 3)
    assert [e["event"] for e in got] == ["vehicle-position", "segment-state", "feed-health"]
    assert [e["id"] for e in got] == ["f0:0,s0:3,v0:2", "f0:0,s0:4,v0:2", "f0:1,s0:4,v0:2"]
    assert json.loads(got[1]["data"])["segment_id"] == "w0_1_2_f"
    answer.close()


@pytest.mark.parametrize(
    ("query", "want"),
    [
        ("product=feed-health", ["feed-health"]),
        ("product=segment-state,vehicle-position&bbox=24.9315,60,24.9335,61", ["segment-state 0", "segment-state 1", "vehicle-position 1"]),
        ("product=vehicle-position&route=2510,2550", ["vehicle-position 1", "vehicle-position 2"]),
        ("route=1", ["segment-state 0", "segment-state 1", "segment-state 2", "feed-health", "vehicle-position 3"]),
        ("product=segment-state&min_confidence=0.5", ["segment-state 0", "segment-state 2"]),
        ("product=situation", ["situation"]),
    ],
)
async def test_filters_leave_what_was_asked_for(fed: Any, start: Any, town: ModuleType, query: str, want: list[str]) -> None:
    client = await start()
    answer = await client.get(f"{STREAM}?{query}")
    await events(answer, 1)
    alert = Situation(
        situation_id="x/1", kind="incident", event_time="2026-03-10T05:30:00.000Z", ingest_time="2026-03-10T05:30:00.000Z", feed="x"
    )
    tell(client, fed(town.state(0, minute=1)), fed(town.state(1, minute=1, confidence=0.4)), fed(town.state(2, minute=1)), fed(alert))
    tell(client, fed(town.health(at_s=1)), *(fed(town.vehicle(n, at_s=9, route_id="1" if n == 3 else "2510")) for n in (1, 2, 3)))
    got = await events(answer, len(want))
    names = []
    for e in got:
        record = json.loads(e["data"])
        if e["event"] == "segment-state":
            names.append(f"segment-state {record['segment_id'][1]}")
        else:
            names.append(e["event"] + (f" {record['vehicle_id'][-1]}" if "vehicle_id" in record else ""))
    assert names == want
    asked = query.partition("product=")[2].partition("&")[0].split(",") if "product=" in query else sse.STREAMED
    assert {product for product, _ in parse(got[-1]["id"])} <= set(asked), "the id tells the place in what was asked for, no more"
    answer.close()


@pytest.mark.parametrize(
    "query", ["product=love", "product=segment", "route=", "min_confidence=2", "min_confidence=x", "snapshot=yes", "bbox=1", "x=1"]
)
@pytest.mark.parametrize("path", ["/api/v1/cities/town/stream", "/api/v1/stream", "/api/v1/cities/town/ws"])
async def test_a_wish_that_is_not_understood_is_a_problem(fed: Any, start: Any, path: str, query: str) -> None:
    client = await start()
    answer = await client.get(f"{path}?{query}")
    assert (answer.status, answer.content_type) == (400, "application/problem+json")


async def test_silence_is_filled_with_heartbeats_that_tell_the_place(fed: Any, start: Any, town: ModuleType, monkeypatch: Any) -> None:
    monkeypatch.setattr(listen, "HEARTBEAT_S", 0.05)
    client = await start()
    answer = await client.get(f"{STREAM}?product=feed-health,segment-state&min_confidence=0.9")
    tell(client, fed(town.state(0, minute=1)))
    got = await events(answer, 3)
    assert [e["event"] for e in got] == ["hello", "heartbeat", "heartbeat"]
    assert json.loads(got[1]["data"])["log_time"] == "2026-03-10T05:30:00.800Z"
    assert got[2]["id"] == "f0:0,s0:4", "what a filter kept back need not be looked at again"
    answer.close()


async def test_a_batch_is_put_into_bytes_once_for_all_who_asked_alike(fed: Any, picture: Any, town: ModuleType) -> None:
    hub = Hub(picture, dict)
    wanted = Wanted(frozenset(sse.STREAMED))
    listeners = [Listener([hub], wanted) for _ in range(3)]
    hub.publish([fed(town.vehicle(1, at_s=1)), fed(town.state(0, minute=1))])
    hub.flush()
    sink = SseSink(None)
    pieces = [lst.cursors[0].take(sink, None) for lst in listeners]
    assert pieces[0][0] is pieces[1][0] is pieces[2][0]
    assert pieces[0][0].count(b"\n\n") == 2, "one piece a batch, so one write"


async def test_records_that_come_together_are_told_together(fed: Any, picture: Any, town: ModuleType) -> None:
    hub = Hub(picture, dict)
    for n in range(10):
        hub.publish([fed(town.vehicle(1, at_s=n))])
    assert hub.ring.end == 1, "the first at once"
    await asyncio.sleep(2 * hub_module.TOGETHER_S)
    assert hub.ring.end == 2
    assert hub.ring.marks["vehicle-position", 0] == 11


async def test_a_reader_that_reads_too_slowly_is_told_and_cut(fed: Any, start: Any, town: ModuleType, monkeypatch: Any) -> None:
    monkeypatch.setattr(hub_module, "BEHIND_BYTES", 100_000)
    client = await start()
    answer = await client.get(STREAM)
    await events(answer, 1)
    for n in range(60):
        hub = tell(client, *(fed(town.vehicle(k, at_s=n)) for k in range(500)))
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        text = await answer.content.read()
    assert b"event: overflow" in text[-300:]
    assert text.endswith(b"\n\n")
    assert hub.cut == 1
    assert not hub.listeners
    assert hub.ring._held <= hub.ring.keep_bytes


async def test_a_reader_that_never_reads_is_cut_off(fed: Any, start: Any, town: ModuleType, monkeypatch: Any) -> None:
    monkeypatch.setattr(sse, "WRITE_TIMEOUT_S", 0.2)
    client = await start()
    hub: Hub = client.app[CITIES]["town"].hub
    reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
    writer.write(b"GET /api/v1/cities/town/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readline()
    while not hub.listeners:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while hub.listeners:
            tell(client, *(fed(town.vehicle(k)) for k in range(2000)))
            await asyncio.sleep(0.01)
    assert hub.cut == 1
    writer.close()


async def test_stopping_ends_every_stream(fed: Any, start: Any) -> None:
    client = await start()
    answer = await client.get(STREAM)
    await events(answer, 1)
    client.app[CITIES]["town"].hub.close()
    async with asyncio.timeout(5):
        assert await answer.content.read() == b""


# ---- coming back


@pytest.mark.parametrize("keep_bytes", [2_000, 10_000_000], ids=["from the log", "from memory"])
async def test_who_is_cut_many_times_sees_each_record_once_in_order(
    fed: Any, start: Any, town: ModuleType, monkeypatch: Any, keep_bytes: int
) -> None:
    log, chance = MemoryLog(), random.Random(7)
    client = await start(log=log)
    hub: Hub = client.app[CITIES]["town"].hub
    hub.ring.keep_bytes = keep_bytes
    told, got, last_id, done = [], [], "", asyncio.Event()

    async def write() -> None:
        for n in range(300):
            batch = [fed(town.vehicle(k, at_s=n)) if k % 3 else fed(town.state(k % 5, minute=n)) for k in range(chance.randrange(1, 6))]
            told.extend((a.product, p, o) for a, p, o in batch)
            tell(client, *batch, log=log)
            await asyncio.sleep(0.001)
        done.set()

    answer = await client.get(STREAM)
    last_id = (await events(answer, 1))[0]["id"]
    writing = asyncio.create_task(write())
    while not done.is_set() or len(got) < len(told):
        for _ in range(chance.randrange(1, 20)):
            if done.is_set() and len(got) == len(told):
                break
            (e,) = await asyncio.wait_for(events(answer, 1), 6)
            last_id = e.get("id", last_id)
            assert e["event"] not in ("gap", "error", "overflow")
            if e["event"] in ("vehicle-position", "segment-state"):
                got.append((e["event"], 0, parse(e["id"])[e["event"], 0]))
        answer.close()
        answer = await client.get(STREAM, headers={"Last-Event-ID": last_id})
    await writing
    assert sorted(got) == sorted(told)
    for product in ("vehicle-position", "segment-state"):
        mine = [o for p, _, o in got if p == product]
        assert mine == sorted(mine)
    assert (log.opened > 0) == (keep_bytes < 10_000)


async def test_what_the_log_no_longer_has_is_a_gap_and_the_rest_follows(fed: Any, start: Any, town: ModuleType) -> None:
    log = MemoryLog()
    client = await start(log=log)
    hub: Hub = client.app[CITIES]["town"].hub
    hub.ring.keep_bytes = 1
    for n in range(10):
        tell(client, fed(town.health(at_s=n)), log=log)
    log.kept_from["feed-health", 0] = 5
    answer = await client.get(f"{STREAM}?product=feed-health", headers={"Last-Event-ID": "f0:1"})
    got = await events(answer, 3)
    assert [e["event"] for e in got] == ["hello", "gap", "feed-health"]
    assert json.loads(got[1]["data"])["missing"] == [
        {"product": "feed-health", "partition": 0, "first_offset": 2, "last_offset": 4, "reason": "expired", "records": 3}
    ]
    assert (got[1]["id"], got[2]["id"]) == ("f0:4", "f0:5")
    assert hub.gaps == 1
    answer.close()


async def test_records_that_compaction_took_are_told_as_a_gap_after_those_it_left(fed: Any, start: Any, town: ModuleType) -> None:
    log = MemoryLog()
    client = await start(log=log)
    client.app[CITIES]["town"].hub.ring.keep_bytes = 1
    for n in range(6):
        tell(client, fed(town.health(at_s=n)), log=log)
    log.kept["feed-health", 0] = [kept for kept in log.kept["feed-health", 0] if kept[0] not in (2, 3)]
    answer = await client.get(f"{STREAM}?product=feed-health", headers={"Last-Event-ID": "f0:0"})
    got = await events(answer, 6)
    assert got[-1]["id"] == "f0:6"
    gap = next(e for e in got if e["event"] == "gap")
    assert json.loads(gap["data"])["missing"][0]["reason"] == "compacted"
    assert json.loads(gap["data"])["missing"][0]["records"] == 2
    answer.close()


@pytest.mark.parametrize("last_id", ["nonsense", "v0:1;s0:2", "v0:٣", "v0:1,v0:2", "x" * 3000, "v0:99999"])
async def test_an_id_that_fits_no_log_is_a_gap_and_the_stream_goes_on(fed: Any, start: Any, town: ModuleType, last_id: str) -> None:
    client = await start(log=MemoryLog())
    tell(client, fed(town.vehicle(1, at_s=1)))
    answer = await client.get(
        f"{STREAM}?product=vehicle-position",
        params={"last_event_id": last_id} if len(last_id) < 2000 else None,
        headers={"Last-Event-ID": last_id} if last_id.isascii() else None,
    )
    got = await events(answer, 2)
    assert [e["event"] for e in got] == ["hello", "gap"]
    tell(client, fed(town.vehicle(1, at_s=2)))
    (record,) = await events(answer, 1)
    assert record["id"] == "v0:3"
    answer.close()


async def test_who_was_ahead_of_this_gateway_hears_nothing_twice(fed: Any, start: Any, town: ModuleType) -> None:
    log = MemoryLog()
    client = await start(log=log)
    ahead = [fed(town.vehicle(1, at_s=n)) for n in range(4)]
    log.add(ahead)
    tell(client, ahead[0])
    answer = await client.get(f"{STREAM}?product=vehicle-position", headers={"Last-Event-ID": "v0:4"})
    await events(answer, 1)
    tell(client, *ahead[1:])
    (only,) = await events(answer, 1)
    assert only["id"] == "v0:5"
    answer.close()


# ---- snapshots, several cities, WebSockets


async def test_a_snapshot_comes_first_and_then_the_changes_without_a_hole(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    tell(client, fed(town.state(0, minute=1, los="E")))
    tell(client, fed(town.vehicle(2, at_s=1)))
    hub: Hub = client.app[CITIES]["town"].hub
    hub.publish([fed(town.state(1, minute=1))])  # waits to be told: already part of the snapshot
    answer = await client.get(f"{STREAM}?snapshot=true")
    got = await events(answer, 1 + 1 + 7 + 1)
    assert [e["event"] for e in got[:2]] == ["hello", "snapshot"]
    assert "id" not in got[0], "who is cut in the middle of a snapshot begins with it again"
    assert [e["event"] for e in got[2:9]] == ["feed-health"] + 4 * ["segment-state"] + 2 * ["vehicle-position"]
    assert json.loads(got[9]["data"]) == {"state": "end", "city": "town", "records": 7}
    assert got[9]["id"] == "f0:0,s0:5,v0:2"
    hub.flush()
    tell(client, fed(town.state(1, minute=2)))
    (change,) = await events(answer, 1)
    assert change["id"] == "f0:0,s0:6,v0:2", "what was in the snapshot is not told again"
    answer.close()
    again = await client.get(f"{STREAM}?snapshot=true", headers={"Last-Event-ID": change["id"]})
    tell(client, fed(town.state(1, minute=3)))
    assert [e["event"] for e in await events(again, 2)] == ["hello", "segment-state"], "no second snapshot for one that knows its place"
    again.close()


async def test_a_snapshot_keeps_to_the_filters(fed: Any, start: Any) -> None:
    client = await start()
    answer = await client.get(f"{STREAM}?snapshot=true&product=vehicle-position&bbox=24.931,60,24.933,61")
    got = await events(answer, 4)
    assert [e["event"] for e in got] == ["hello", "snapshot", "vehicle-position", "snapshot"]
    answer.close()


async def test_a_stream_of_cities_names_the_city_in_event_and_id(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    answer = await client.get("/api/v1/stream?city=town&product=feed-health")
    await events(answer, 1)
    tell(client, fed(town.health(at_s=1)))
    (one,) = await events(answer, 1)
    assert (one["event"], one["id"]) == ("town/feed-health", "town/f0:1")
    answer.close()
    tell(client, fed(town.health(at_s=2)))
    answer = await client.get("/api/v1/stream?city=town&product=feed-health", headers={"Last-Event-ID": one["id"]})
    assert [e.get("id") for e in await events(answer, 2)] == [None, "town/f0:2"]
    answer.close()
    assert (await client.get("/api/v1/stream?city=nowhere")).status == 400


async def test_a_websocket_tells_and_resumes_the_same(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    async with client.ws_connect("/api/v1/cities/town/ws?product=feed-health&snapshot=true") as socket:
        got = [await socket.receive_json() for _ in range(4)]
        assert [m["event"] for m in got] == ["hello", "snapshot", "feed-health", "snapshot"]
        tell(client, fed(town.health(at_s=1)))
        one = await socket.receive_json()
        assert (one["event"], one["id"], one["data"]["feed"]) == ("feed-health", "f0:1", "hfp")
    tell(client, fed(town.health(at_s=2)))
    async with client.ws_connect("/api/v1/cities/town/ws", params={"product": "feed-health", "last_event_id": one["id"]}) as socket:
        assert [(await socket.receive_json()).get("id") for _ in range(2)] == [None, "f0:2"]
        client.app[CITIES]["town"].hub.close()
        assert (await socket.receive()).type.name in ("CLOSE", "CLOSING", "CLOSED")
    async with asyncio.timeout(5):
        while client.app[CITIES]["town"].hub.listeners:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("query", "want"),
    [
        ({"product": "segment-state,vehicle-position", "bbox": "24.9315,60,24.9335,61"}, {"w0_1_2_f", "w1_1_2_f", "0018/00001"}),
        ({"product": "vehicle-position", "route": "7"}, {"0018/00002"}),
        ({"product": "segment-state", "min_confidence": "0.5"}, {"w0_1_2_f"}),
        ({"product": "feed-health"}, {"hfp"}),
    ],
)
async def test_a_websocket_keeps_to_the_filters(fed: Any, start: Any, town: ModuleType, query: dict[str, str], want: set[str]) -> None:
    client = await start()
    async with client.ws_connect("/api/v1/cities/town/ws", params=query) as socket:
        assert (await socket.receive_json())["event"] == "hello"
        tell(client, fed(town.state(0, minute=1)), fed(town.state(1, minute=1, confidence=0.4)), fed(town.health(at_s=1)))
        tell(client, fed(town.vehicle(1, at_s=1)), fed(town.vehicle(2, at_s=1, route_id="7")))
        client.app[CITIES]["town"].hub.announce("ready")
        got = []
        while (message := await socket.receive_json())["event"] != "ready":
            got.append(message["data"])
    assert {r.get("segment_id") or r.get("vehicle_id") or r["feed"] for r in got} == want
    assert len(got) == len(want)


async def test_a_websocket_is_told_of_a_gap(fed: Any, start: Any, town: ModuleType) -> None:
    log = MemoryLog()
    client = await start(log=log)
    client.app[CITIES]["town"].hub.ring.keep_bytes = 1
    for n in range(10):
        tell(client, fed(town.health(at_s=n)), log=log)
    log.kept_from["feed-health", 0] = 5
    async with client.ws_connect("/api/v1/cities/town/ws?product=feed-health&last_event_id=f0:1") as socket:
        got = [await socket.receive_json() for _ in range(3)]
    assert [m["event"] for m in got] == ["hello", "gap", "feed-health"]
    assert got[1]["data"]["missing"][0]["records"] == 3
    assert (got[1]["id"], got[2]["id"]) == ("f0:4", "f0:5")


async def test_a_websocket_that_reads_too_slowly_is_told_and_cut_and_the_next_one_only_closed(
    fed: Any, start: Any, town: ModuleType, monkeypatch: Any
) -> None:
    monkeypatch.setattr(hub_module, "BEHIND_BYTES", 100_000)
    client = await start()
    async with client.ws_connect("/api/v1/cities/town/ws") as socket:
        await socket.receive_json()
        for n in range(60):
            tell(client, *(fed(town.vehicle(k, at_s=n)) for k in range(500)))
            await asyncio.sleep(0)
        last = None
        async with asyncio.timeout(20):
            async for message in socket:
                last = message.json()["event"]
        assert (last, socket.close_code) == ("overflow", 1013)
    hub: Hub = client.app[CITIES]["town"].hub
    assert hub.cut == 1
    async with client.ws_connect("/api/v1/cities/town/ws") as socket:
        await socket.receive_json()
        hub.close()
        await socket.receive()
        assert socket.close_code == 1001, "it was not slow"


# ---- the ring


def test_the_ring_knows_from_where_on_it_has_everything() -> None:
    ring = Ring(keep_bytes=10**9)
    ring.begin(("feed-health", 0), 5)
    for n in range(5, 15):
        ring.append([Entry("feed-health", 0, n, b"{}"), Entry("segment-state", 0, n, b"{}")])
    everything = frozenset(sse.STREAMED)
    assert ring.covers(Marks({("feed-health", 0): 4}), everything) == 0
    assert ring.covers(Marks({("feed-health", 0): 3, ("segment-state", 0): 9}), everything) is None
    assert ring.covers(Marks({("feed-health", 0): 9, ("segment-state", 0): 11}), everything) == 5
    assert ring.covers(Marks({("feed-health", 0): 14, ("segment-state", 0): 14}), everything) == 9
    ring.keep_bytes = 1
    ring.append([Entry("feed-health", 0, 15, b"{}")])
    assert (ring.first, ring.end) == (10, 11)
    assert ring.covers(Marks({("feed-health", 0): 13, ("segment-state", 0): 14}), everything) is None
    assert ring.covers(Marks({("feed-health", 0): 14, ("segment-state", 0): 14}), everything) == 10
