"""The Faust worker of one city: observers on the raw topics, the fuse step on the partials. Thin: what happens to a message is in ``streams/driver.py``.

Faust brings the consumer group, rebalancing and the agents. Not used: its tables, windows, ``take``, sinks, codecs, transactions and its web server
(``docs/flow.md`` says why). Whatever goes wrong in an agent ends the process at once with exit code 70, before any ack.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from faust.types import TP
from prometheus_client import CollectorRegistry, Counter, Gauge

from connectors.cities import City
from geo.network import Network
from models.errors import EXIT_SOFTWARE
from models.topics import MAX_MESSAGE_BYTES, partials_topic, raw_topic, state_topic
from streams.admin import ensure_topics
from streams.driver import DriverSettings, FuseStep, Message, ObserveStep, PartitionDriver, Step
from streams.fuse import Fuser, FuseSettings
from streams.observe import Ground, Observer, ObserveSettings
from streams.outputs import Outputs
from streams.snapshots import Snapshot, SnapshotStore
from streams.writer import Writer, make_producer

log = logging.getLogger("tilannekuva.process")
#: A connector writes what it received within 30 s or dies, so nothing with an older ingest time than this can still come into a partition that is read to its end.
IDLE_MS = 60_000
TICK_S = 0.5


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is to do, and where."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = ""  #: of all topic names; a replay has its own
    stages: tuple[Literal["observe", "fuse"], ...] = ("observe", "fuse")
    instance: str = "1"  #: name of this worker within its group
    session_timeout_s: float = 12.0
    replication: int = 1
    observe: ObserveSettings = field(default_factory=ObserveSettings)
    fuse: FuseSettings = field(default_factory=FuseSettings)
    driver: DriverSettings = field(default_factory=DriverSettings)


class WorkerMetrics:
    """What Prometheus sees of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages = Counter("tilannekuva_messages_total", "Messages fed to a step", ["city", "owner"], registry=registry)
        self.records = Counter("tilannekuva_records_total", "Records written", ["city", "product"], registry=registry)
        self.log_time = Gauge("tilannekuva_log_time_seconds", "Log time of a partition", ["city", "owner"], registry=registry)
        self.snapshot = Gauge("tilannekuva_snapshot_offset", "Offset of the last durable snapshot", ["city", "owner"], registry=registry)
        self.pending = Gauge("tilannekuva_pending_messages", "Messages fed and not yet acked", ["city", "owner"], registry=registry)


class KafkaSink:
    """The driver's sink on real topics."""

    def __init__(self, writer: Writer, store: SnapshotStore, partials: str, metrics: WorkerMetrics) -> None:
        self.writer, self.store, self.partials, self.metrics = writer, store, partials, metrics

    async def write(self, outputs: Outputs) -> None:
        for product, outs in outputs.records.items():
            self.metrics.records.labels(self.writer.city.name, product).inc(len(outs))
        await self.writer.write(outputs)

    async def partial(self, data: bytes, log_ms: int) -> None:
        await self.writer.send(self.partials, 0, self.writer.city.name.encode(), data, log_ms)

    async def snapshot(self, snapshot: Snapshot, log_ms: int) -> None:
        await self.store.write(self.writer, snapshot, log_ms)

    async def settle(self) -> None:
        await self.writer.settle()


class _Event:
    """Faust's event as the driver wants it."""

    __slots__ = ("_event", "offset", "timestamp_ms", "value")

    def __init__(self, event: Any) -> None:
        self._event = event
        self.offset: int = event.message.offset
        self.value: bytes | None = event.message.value
        self.timestamp_ms = int((event.message.timestamp or 0) * 1000)

    def ack(self) -> None:
        self._event.ack()


def fatal(what: str, error: BaseException) -> None:
    """Our own bug, or a broker that refuses our writes: no ack, no clean-up, the supervisor starts us again from the last snapshot."""
    log.critical("%s: %r; ending the process before any ack\n%s", what, error, "".join(traceback.format_exception(error)))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(EXIT_SOFTWARE)


class CityWorker:
    """All that one worker process holds of one city."""

    def __init__(self, city: City, network: Network, settings: WorkerSettings, registry: CollectorRegistry | None = None) -> None:
        self.city, self.network, self.settings = city, network, settings
        self.ground = Ground(network, settings.observe)
        self.metrics = WorkerMetrics(registry or CollectorRegistry())
        self.drivers: dict[TP, PartitionDriver] = {}
        self._making: dict[TP, asyncio.Lock] = {}
        self.feed_of = {raw_topic(city.name, f.name, settings.prefix): f.name for f in city.feeds}
        self.partials = partials_topic(city.name, settings.prefix)
        self.app = self._make_app()
        self.producer: AIOKafkaProducer | None = None
        self.sink: KafkaSink | None = None
        self.store = SnapshotStore(settings.bootstrap, state_topic(city.name, settings.prefix))

    def _make_app(self) -> faust.App:
        s = self.settings
        app = faust.App(
            f"{s.prefix}tilannekuva-{self.city.name}",
            broker=f"kafka://{s.bootstrap}",
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            broker_commit_interval=1.0,
            broker_session_timeout=s.session_timeout_s,
            broker_heartbeat_interval=min(3.0, s.session_timeout_s / 4),
            broker_rebalance_timeout=30.0,
            broker_request_timeout=40.0,
            broker_max_poll_records=500,
            consumer_max_fetch_size=MAX_MESSAGE_BYTES,
            consumer_auto_offset_reset="earliest",
            stream_buffer_maxsize=256,
            stream_wait_empty=True,
            producer_acks=-1,
            worker_redirect_stdouts=False,
            cython_optimizations=False,
        )

        def topic(name: str) -> Any:
            return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

        names = [*self.feed_of] if "observe" in s.stages else []
        names += [self.partials] if "fuse" in s.stages else []
        for name in names:
            app.agent(topic(name), name=f"{'fuse' if name == self.partials else 'observe'}-{name}", concurrency=1)(self._consume)
        app.on_partitions_assigned.connect(self._assigned, weak=False)
        app.on_partitions_revoked.connect(self._revoked, weak=False)
        app.task(self._ticker)
        return app

    # ---------------------------------------------------------------- lifecycle

    async def prepare(self) -> None:
        """Topics and producer; before the app starts."""
        created = await ensure_topics(self.settings.bootstrap, self.city, self.settings.prefix, replication=self.settings.replication)
        if created:
            log.info("created topics: %s", ", ".join(created))
        self.producer = make_producer(self.settings.bootstrap, f"tilannekuva-process-{self.city.name}-{self.settings.instance}")
        await self.producer.start()
        self.sink = KafkaSink(Writer(self.producer, self.city, self.settings.prefix), self.store, self.partials, self.metrics)

    async def close(self) -> None:
        if self.producer is not None:
            await self.producer.stop()

    # ----------------------------------------------------------------- messages

    async def _consume(self, stream: Any) -> None:
        """The agent: in order, acked by the driver after the outputs and the snapshot are durable."""
        try:
            async for event in stream.noack().events():
                tp = TP(event.message.topic, event.message.partition)
                message = _Event(event)
                driver = await self._driver(tp, message)
                await driver.feed(message)
                self.metrics.messages.labels(self.city.name, driver.step.owner).inc()
        except asyncio.CancelledError:
            raise
        except Exception as e:
            fatal("agent", e)

    async def _driver(self, tp: TP, first: Message | None) -> PartitionDriver:
        """The driver of a partition; recovered from its snapshot, and brought up to the first message, when it is new here."""
        found = self.drivers.get(tp)
        if found is None:
            async with self._making.setdefault(tp, asyncio.Lock()):
                found = self.drivers.get(tp)
                if found is None:
                    found = await self._make(tp)
                if first is not None and first.offset > found.step.offset + 1 and not found.fed:
                    await found.catch_up(self._between(tp, found.step.offset + 1, first.offset))
                self.drivers[tp] = found
        elif first is not None and not found.fed and not found.skipped and first.offset > found.step.offset + 1:
            await found.catch_up(self._between(tp, found.step.offset + 1, first.offset))
        return found

    async def _make(self, tp: TP) -> PartitionDriver:
        assert self.sink is not None
        step: Step
        if tp.topic == self.partials:
            step = FuseStep(Fuser(self.city, self.network, self.settings.fuse))
        else:
            feed = self.feed_of[tp.topic]
            step = ObserveStep(Observer(self.city, feed, tp.partition, self.ground, raw_topic=tp.topic))
        driver = PartitionDriver(step, self.sink, time.monotonic, self.settings.driver)
        begin = time.monotonic()
        next_offset = await driver.recover(await self.store.read(step.owner))
        log.info("%s: state as of offset %d, recovered in %.2f s", step.owner, next_offset - 1, time.monotonic() - begin)
        return driver

    async def _between(self, tp: TP, start: int, end: int) -> AsyncIterator[tuple[int, bytes | None, int]]:
        """Messages [start, end) of a partition, read beside the group: what was acked but is not in the snapshot that could be used."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=MAX_MESSAGE_BYTES
        )
        await consumer.start()
        try:
            p = TopicPartition(tp.topic, tp.partition)
            consumer.assign([p])
            first = (await consumer.beginning_offsets([p]))[p]
            if first > start:
                log.error(
                    "%s-%d: offsets %d to %d are gone from the log (retention): their windows stay incomplete",
                    tp.topic,
                    tp.partition,
                    start,
                    first - 1,
                )
            consumer.seek(p, max(start, first))
            log.warning(
                "%s-%d: reading offsets %d to %d again, since the snapshot is older than the commit",
                tp.topic,
                tp.partition,
                max(start, first),
                end - 1,
            )
            while await consumer.position(p) < end:
                for records in (await consumer.getmany(p, timeout_ms=1000)).values():
                    for r in records:
                        if r.offset < end:
                            yield r.offset, r.value, r.timestamp
        finally:
            await consumer.stop()

    # --------------------------------------------------------------- rebalancing

    async def _assigned(self, _app: Any, /, *args: Any, **_: Any) -> None:
        try:
            for tp in sorted(args[0]):
                if tp.topic in self.feed_of or tp.topic == self.partials:
                    await self._driver(tp, None)
        except Exception as e:
            fatal("assignment", e)

    async def _revoked(self, _app: Any, /, *args: Any, **_: Any) -> None:
        """Faust has waited until everything was acked. The state goes with the partition."""
        for tp in args[0]:
            self.drivers.pop(tp, None)

    async def _ticker(self) -> None:
        """Snapshots on time (also when no message comes), and time for silent partitions."""
        try:
            while not self.app.should_stop:
                await asyncio.sleep(TICK_S)
                rebalancing = bool(self.app.rebalancing)
                for tp, driver in sorted(self.drivers.items()):
                    await driver.maybe_snapshot(force=rebalancing)
                    if not rebalancing and not self.settings.prefix and tp.topic in self.feed_of:
                        await self._idle(tp, driver)
                    owner = driver.step.owner
                    self.metrics.log_time.labels(self.city.name, owner).set(driver.step.log_ms() / 1000)
                    self.metrics.snapshot.labels(self.city.name, owner).set(driver.durable)
                    self.metrics.pending.labels(self.city.name, owner).set(len(driver.pending))
        except asyncio.CancelledError:
            raise
        except Exception as e:
            fatal("ticker", e)

    async def _idle(self, tp: TP, driver: PartitionDriver) -> None:
        """A partition that is read to its end has nothing older than ``IDLE_MS`` to come: let its time pass."""
        now_ms = int(time.time() * 1000)
        if driver.step.log_ms() + IDLE_MS + 5_000 > now_ms:
            return
        end = self.app.consumer.highwater(tp)
        if end is not None and end <= driver.step.offset + 1:
            await driver.idle(now_ms - IDLE_MS)


async def run_worker(worker: CityWorker, stop: asyncio.Event) -> None:
    """Start the app, run until ``stop``, stop cleanly: what is in hand is made durable and acked first.

    A crash of the app (broker gone for good, rebalance failed) is fatal as well.
    """
    await worker.prepare()
    app = worker.app
    app.finalize()
    await app.start()
    try:
        waiting = asyncio.create_task(stop.wait())
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=0.5)
            if app.crashed or app.crash_reason is not None:
                fatal("app", app.crash_reason or RuntimeError("crashed"))
    finally:
        for driver in worker.drivers.values():
            await driver.maybe_snapshot(force=True)
        await app.stop()
        await worker.close()
