"""Connectors against a producer that remembers, and against the real broker: order, ticks, back-pressure, failure, secrets."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaTimeoutError
from paho.mqtt import publish
from prometheus_client import CollectorRegistry

from connectors import run
from connectors.cities import City, load
from connectors.envelope import Envelope, decode
from connectors.run import DeliveryFailed, FeedConnector, Metrics, connect
from models.errors import ConfigError
from models.records import DeadLetter
from tests.connectors.mqtt_brokers import Ports, amqtt

TOPIC = "/hfp/v2/journey/ongoing/vp/bus/0018/{:05}/2550/1/A/07:24/1/0/60;24/19/75/80"
CANARY = "canary-hunter2"


class Producer:
    """Takes what aiokafka's would, and remembers it; ``fail`` makes deliveries fail, ``hold`` makes them wait."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int | None, bytes, int, bytes | None]] = []
        self.fail: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int = 0,
        headers: Any = None,
    ) -> asyncio.Future[None]:
        if self.hold is not None:
            await self.hold.wait()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.fail is not None:
            done.set_exception(self.fail)
        else:
            done.set_result(None)
        self.sent.append((topic, partition, value, timestamp_ms, key))
        return done

    def envelopes(self, topic: str) -> list[tuple[int | None, Envelope]]:
        return [(p, decode(v)) for t, p, v, _, _ in self.sent if t == topic]


@pytest.fixture(scope="module")
def mqtt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with amqtt(tmp_path_factory.mktemp("amqtt")) as at:
        yield at


def local(mqtt: Ports, **more: object) -> City:
    return load("helsinki", {"feeds.hfp.mqtt.url": mqtt.url("mqtt"), "feeds.hfp.allow_private": True, "feeds.hfp.simulated": True, **more})


def send(at: Ports, n: int) -> None:
    publish.multiple([(TOPIC.format(k % 20), str(k).encode(), 0, False) for k in range(n)], hostname="127.0.0.1", port=at.tcp)


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Running:
    def __init__(self, connector: FeedConnector, producer: Producer) -> None:
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(connector.run(producer, "", self.stop))  # type: ignore[arg-type]

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 20)


async def test_mqtt_messages_reach_their_vehicles_partition_in_order_with_ticks_between(mqtt: Ports) -> None:
    clock = [1_773_120_600_000]

    def now_ms() -> int:
        clock[0] += 1
        return clock[0]

    city, producer = local(mqtt), Producer()
    connector = FeedConnector(city, city.feed("hfp"), now_ms=now_ms)
    running = Running(connector, producer)
    await until(lambda: connector.source().connected)
    await asyncio.to_thread(send, mqtt, 500)
    await until(lambda: sum(len(e.items) for _, e in producer.envelopes("raw.helsinki.hfp")) == 500)
    clock[0] += 6_000
    await until(
        lambda: (
            sum(e.kind == "tick" and e.source is not None and e.source.connected for _, e in producer.envelopes("raw.helsinki.hfp")) >= 4
        )
    )
    await running.end()
    out = producer.envelopes("raw.helsinki.hfp")
    for p in range(4):
        mine = [e for q, e in out if q == p]
        assert [e.ingest_ms for e in mine] == sorted(e.ingest_ms for e in mine)
        bodies = [int(i.body) for e in mine for i in e.items]
        assert bodies == sorted(bodies)
        assert mine[-1].kind == "tick"
        assert mine[-1].source is not None
        assert mine[-1].source.detail == "the connector was stopped"
    assert all(e.simulated and e.city == "helsinki" and len(e.items) <= 200 for _, e in out)
    assert all(t == decode(v).ingest_ms for _, _, v, t, _ in producer.sent)


async def test_a_clock_that_is_set_back_stops_neither_messages_nor_ticks_nor_lets_time_fall(mqtt: Ports) -> None:
    clock = [1_773_120_600_000]
    city, producer = local(mqtt), Producer()
    connector = FeedConnector(city, city.feed("hfp"), now_ms=lambda: clock[0])
    running = Running(connector, producer)
    await until(lambda: connector.source().connected)
    clock[0] -= 3_600_000
    await until(lambda: len(producer.sent) >= 8)  # ticks at once
    await asyncio.to_thread(send, mqtt, 10)
    await until(lambda: sum(len(e.items) for _, e in producer.envelopes("raw.helsinki.hfp")) == 10)
    await running.end()
    assert {e.ingest_ms for _, e in producer.envelopes("raw.helsinki.hfp")} == {1_773_120_600_000}


async def test_while_kafka_stands_still_memory_does_not_grow_and_drops_are_told(mqtt: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "QUEUE", 2)
    city, producer = local(mqtt), Producer()
    producer.hold = asyncio.Event()
    registry = CollectorRegistry()
    connector = FeedConnector(city, city.feed("hfp"), now_ms=lambda: 1_773_120_600_000, metrics=Metrics(registry))
    assert connector._mqtt is not None
    connector._mqtt._limit = 100
    running = Running(connector, producer)
    await until(lambda: connector._mqtt is not None and connector._mqtt.connected)
    for _ in range(6):
        await asyncio.to_thread(send, mqtt, 400)
    seen = -1
    while seen != connector.source().dropped or seen < 100:  # the broker has sent everything
        seen = connector.source().dropped
        await asyncio.sleep(1)
    assert connector._queue.qsize() <= 2
    producer.hold.set()
    await until(lambda: registry.get_sample_value("tilannekuva_connector_dropped_total", {"city": "helsinki", "feed": "hfp"}))
    await running.end()
    dropped = connector.source().dropped
    assert sum(len(e.items) for _, e in producer.envelopes("raw.helsinki.hfp")) + dropped == 2400
    ticks = [e for _, e in producer.envelopes("raw.helsinki.hfp") if e.kind == "tick"]
    assert ticks[-1].source is not None
    assert ticks[-1].source.dropped == dropped


async def test_an_envelope_that_kafka_does_not_take_ends_the_connector(mqtt: Ports) -> None:
    city, producer = local(mqtt), Producer()
    producer.fail = KafkaTimeoutError("30 s are over")
    with pytest.raises(DeliveryFailed, match=r"^hfp: KafkaTimeoutError"):
        await asyncio.wait_for(FeedConnector(city, city.feed("hfp"), now_ms=lambda: 5).run(producer, "", asyncio.Event()), 20)  # type: ignore[arg-type]


Answers = list[Callable[[web.Request], web.Response]]
Serve = Callable[[Answers], Awaitable[tuple[str, list[web.Request]]]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(answers: Answers) -> tuple[str, list[web.Request]]:
        asked: list[web.Request] = []

        async def handler(request: web.Request) -> web.Response:
            asked.append(request)
            return answers[min(len(asked), len(answers)) - 1](request)

        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/feed?secret=no")), asked

    yield start
    for s in servers:
        await s.close()


def polled(url: str, **more: object) -> City:
    return load(
        "helsinki",
        {
            "feeds.gtfs_rt.http.1": None,
            "feeds.gtfs_rt.http.0.url": url,
            "feeds.gtfs_rt.http.0.every_s": 0.05,
            "feeds.gtfs_rt.allow_private": True,
            **more,
        },
    )


async def test_a_polled_document_is_one_envelope_and_an_unchanged_one_none(serve: Serve) -> None:
    url, asked = await serve([lambda r: web.Response(body=b"one", headers={"ETag": "x"}), lambda r: web.Response(status=304)])
    city, producer = polled(url), Producer()
    connector = FeedConnector(city, city.feed("gtfs_rt"), now_ms=lambda: 7)
    running = Running(connector, producer)
    await until(lambda: len(asked) >= 4)
    assert connector.source() == msgspec.structs.replace(connector.source(), connected=True, http_status=304, detail=None)
    await running.end()
    snapshots = [e for _, e in producer.envelopes("raw.helsinki.gtfs_rt") if e.kind == "snapshot"]
    assert [(i.topic, i.body, i.ingest_ms) for e in snapshots for i in e.items] == [(url.partition("?")[0], b"one", 7)]
    assert "application/x-protobuf" in asked[0].headers["Accept"]


async def test_html_where_protobuf_was_expected_is_passed_on_for_the_parser_to_refuse(serve: Serve) -> None:
    url, _ = await serve([lambda r: web.Response(text="<html>", content_type="text/html")])
    city, producer = polled(url), Producer()
    running = Running(FeedConnector(city, city.feed("gtfs_rt"), now_ms=lambda: 7), producer)
    await until(lambda: any(e.kind == "snapshot" for _, e in producer.envelopes("raw.helsinki.gtfs_rt")))
    await running.end()


async def test_a_document_over_the_limits_becomes_a_dead_letter_and_the_tick_says_so(serve: Serve) -> None:
    bomb = gzip.compress(b"0" * 30_000_000)
    url, _ = await serve([lambda r: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})])
    city, producer = polled(url), Producer()
    connector = FeedConnector(city, city.feed("gtfs_rt"), now_ms=lambda: 1_773_120_600_000)
    running = Running(connector, producer)
    await until(lambda: any(t == "dead-letter.helsinki" for t, *_ in producer.sent))
    source = connector.source()
    await running.end()
    assert source.http_status == 200
    assert (source.detail or "").startswith("refused: gzip ratio")
    record = msgspec.json.decode(next(v for t, _, v, _, _ in producer.sent if t == "dead-letter.helsinki"), type=DeadLetter)
    assert (record.reason, record.field, record.offset, record.index, record.topic) == (
        "over_limit",
        "gzip ratio",
        -1,
        -1,
        "raw.helsinki.gtfs_rt",
    )
    assert record.body_base64
    assert not [e for _, e in producer.envelopes("raw.helsinki.gtfs_rt") if e.kind == "snapshot"]


async def test_errors_are_told_in_the_tick_and_asked_again_later_and_later(serve: Serve) -> None:
    url, asked = await serve([lambda r: web.Response(status=503)] * 3 + [lambda r: web.Response(body=b"ok")])
    city, producer = polled(url), Producer()
    connector = FeedConnector(city, city.feed("gtfs_rt"), now_ms=lambda: 7)
    running = Running(connector, producer)
    await until(lambda: len(asked) >= 2)
    assert (connector.source().connected, connector.source().http_status, connector.source().detail) == (False, 503, "HTTP 503")
    await until(lambda: len(asked) >= 5)
    await running.end()
    assert connector.source().detail is None


async def test_a_silent_feed_still_ticks(serve: Serve) -> None:
    url, _ = await serve([lambda r: web.Response(status=500)])
    clock = [0]

    def now_ms() -> int:
        clock[0] += 1000
        return clock[0]

    city, producer = polled(url, **{"feeds.gtfs_rt.http.0.every_s": 600}), Producer()
    running = Running(FeedConnector(city, city.feed("gtfs_rt"), now_ms=now_ms), producer)
    await until(lambda: len(producer.sent) >= 4)
    await running.end()
    ticks = [e.ingest_ms for _, e in producer.envelopes("raw.helsinki.gtfs_rt")]
    assert all(5000 <= b - a <= 7000 for a, b in itertools.pairwise(ticks[:-1]))


async def test_secrets_are_used_and_never_shown(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url, asked = await serve([lambda r: web.Response(status=401)])
    extra = {"headers_env": {"X-Key": "KEY"}, "username_env": "ID", "password_env": "SECRET"}
    city = polled(url, **{f"feeds.gtfs_rt.http.0.{k}": v for k, v in extra.items()})
    with pytest.raises(ConfigError, match="the environment variable SECRET to be set"):
        FeedConnector(city, city.feed("gtfs_rt"), now_ms=lambda: 7, env={"ID": "me", "KEY": CANARY})
    producer = Producer()
    connector = FeedConnector(city, city.feed("gtfs_rt"), now_ms=lambda: 7, env={"ID": "me", "SECRET": CANARY, "KEY": CANARY})
    running = Running(connector, producer)
    await until(lambda: len(asked) >= 2)
    await running.end()
    assert asked[0].headers["X-Key"] == CANARY
    assert asked[0].headers["Authorization"].startswith("Basic ")
    shown = (
        caplog.text
        + repr(city)
        + repr(connector)
        + repr(connector.source())
        + "".join(str(r.__dict__) for r in caplog.records)
        + repr(producer.sent)
    )
    assert CANARY not in shown
    assert asked[0].headers["Authorization"][6:] not in shown


async def test_an_unknown_feed_is_refused_before_anything_is_touched() -> None:
    with pytest.raises(ConfigError, match="did you mean hfp"):
        await connect(load("helsinki"), ["hpf"], "127.0.0.1:1", stop=asyncio.Event())


async def test_feeds_go_into_the_real_broker_and_come_out_as_they_were(kafka: str, mqtt: Ports, serve: Serve) -> None:
    url, _ = await serve([lambda r: web.Response(body=b"x" * 3_000_000)])
    more = {"feeds.gtfs_rt.http.1": None, "feeds.gtfs_rt.http.0.url": url, "feeds.gtfs_rt.allow_private": True}
    city = local(mqtt, **more)
    prefix, stop, registry = "test-connect.", asyncio.Event(), CollectorRegistry()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    config = {"max.message.bytes": str(8 * 1024 * 1024)}
    names = [(f"{prefix}raw.helsinki.hfp", 4), (f"{prefix}raw.helsinki.gtfs_rt", 1), (f"{prefix}dead-letter.helsinki", 1)]
    await admin.create_topics([NewTopic(n, p, 1, topic_configs=config) for n, p in names])
    await admin.close()
    task = asyncio.create_task(connect(city, ["hfp", "gtfs_rt"], kafka, stop=stop, prefix=prefix, metrics=Metrics(registry)))
    consumer = AIOKafkaConsumer(*(n for n, _ in names), bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    got: dict[tuple[str, int], list[tuple[int, Envelope, dict[str, bytes]]]] = {}

    async def read(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                assert not task.done()
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    got.setdefault((tp.topic, tp.partition), []).extend((r.timestamp, decode(r.value), dict(r.headers)) for r in records)

    def every(kind: str) -> list[Envelope]:
        return [e for rs in got.values() for _, e, _ in rs if e.kind == kind]

    await read(lambda: any(e.source is not None and e.source.connected and e.feed == "hfp" for e in every("tick")))
    await asyncio.to_thread(send, mqtt, 300)
    await read(lambda: sum(len(e.items) for e in every("messages")) == 300 and len(every("snapshot")) >= 1)
    stop.set()
    await asyncio.wait_for(task, 20)
    await consumer.stop()
    assert len(every("snapshot")[0].items[0].body) == 3_000_000
    for (_, partition), records in got.items():
        assert [t for t, _, _ in records] == sorted(e.ingest_ms for _, e, _ in records)
        assert 0 <= partition < 4
        for _, e, h in records:
            assert (h["kind"], h["count"], h["last_ingest_ms"]) == (e.kind.encode(), str(len(e.items)).encode(), str(e.ingest_ms).encode())
    assert registry.get_sample_value("tilannekuva_connector_messages_total", {"city": "helsinki", "feed": "hfp"}) == 300
