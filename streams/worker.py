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
import tempfile
import time
import traceback
import warnings
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

import faust
from aiokafka import AIOKafkaProducer
from faust.types import TP
from prometheus_client import CollectorRegistry

from connectors.cities import City
from connectors.kafka import make_producer, security
from geo.network import Network
from models.errors import EXIT_SOFTWARE
from models.profile import Profile
from models.topics import partials_topic, raw_topic, state_topic
from streams import memory
from streams.admin import Probe, ensure_topics
from streams.driver import DriverSettings, FuseStep, Message, ObserveStep, PartitionDriver, Step
from streams.fuse import Fuser, FuseSettings
from streams.ground import Ground, ObserveSettings
from streams.logs import Log
from streams.metrics import WorkerMetrics
from streams.observe import Observer
from streams.outputs import Outputs
from streams.recovery import close_gap, recover
from streams.segments import publish_segments
from streams.snapshots import Snapshot, SnapshotStore
from streams.watchdog import Progress, Watchdog, WatchdogSettings
from streams.writer import Turns, Writer

log = logging.getLogger("tilannekuva.process")
#: A connector writes what it received within 30 s or dies, so nothing with an older ingest time than this can still come into a partition that is read to its end.
IDLE_MS = 60_000
#: Of one partition at a time, packed bytes: a hundred full envelopes. What is fetched waits in memory, several times and unpacked, while it is worked off; a larger message
#: comes whole all the same (KIP-74).
FETCH_BYTES = 1024 * 1024
TICK_S = 0.5
PROBE_S = 5.0
#: What minutes and snapshots took for a moment is given back so often, seconds.
TRIM_S = 5.0
#: A question to the broker is asked anew after so long, seconds; a worker that gets a twentieth of a core needs half of it.
ANSWER_S = 40.0
#: A broker that is told to slow us down (a quota) answers a large request only when its share of time is over: not to be taken for a dead one, which the watchdog ends.
PATIENCE_MS = 120_000
#: So long a stop waits for what is in hand to be durable, seconds. What is not by then, behind a slow broker, is not acked: the next start does it again.
DURABLE_S = 7.0
#: A stop takes no longer than this, seconds; then the process is ended.
STOP_S = 12.0


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is to do, and where."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = ""  #: of all topic names; a replay has its own
    stages: tuple[Literal["observe", "fuse"], ...] = ("observe", "fuse")
    instance: str = "1"  #: name of this worker within its group
    until_end: bool = False  #: stop when everything that is in the raw topics now is worked off and committed by the group
    session_timeout_s: float = 12.0
    replication: int = 1
    observe: ObserveSettings = field(default_factory=ObserveSettings)
    fuse: FuseSettings = field(default_factory=lambda: FuseSettings(evidence=True))
    driver: DriverSettings = field(default_factory=DriverSettings)
    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)


class KafkaSink:
    """A driver's sink on real topics."""

    def __init__(self, writer: Writer, store: SnapshotStore, partials: str, metrics: WorkerMetrics) -> None:
        self.writer, self.store, self.partials, self.metrics = writer, store, partials, metrics

    async def write(self, outputs: Outputs) -> None:
        self.metrics.wrote(self.writer.city.name, outputs)
        await self.writer.write(outputs)

    async def partial(self, data: bytes, log_ms: int) -> None:
        await self.writer.send(self.partials, 0, self.writer.city.name.encode(), data, log_ms)

    async def snapshot(self, snapshot: Snapshot, log_ms: int) -> None:
        await self.store.write(self.writer, snapshot, log_ms)
        self.metrics.snapshot_time.labels(self.writer.city.name, snapshot.owner).set(log_ms / 1000)

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
    end(EXIT_SOFTWARE)


def end(code: int) -> None:
    """Leave at once: no handlers, no acks, no commit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def credentials() -> faust.SASLCredentials | faust.SSLCredentials | None:
    """What the other clients are made with (`connectors.kafka.security`), in Faust's words."""
    s = security()
    if "sasl_mechanism" in s:
        return faust.SASLCredentials(
            username=s["sasl_plain_username"],
            password=s["sasl_plain_password"],
            ssl_context=s.get("ssl_context"),
            mechanism=s["sasl_mechanism"],
        )
    return faust.SSLCredentials(context=s["ssl_context"]) if s else None


class CityWorker:
    """All that one worker process holds of one city."""

    def __init__(
        self, city: City, network: Network, settings: WorkerSettings, metrics: WorkerMetrics | None = None, profile: Profile | None = None
    ) -> None:
        self.city, self.network, self.settings, self.profile = city, network, settings, profile
        self.ground = Ground(network, settings.observe)
        self.metrics = metrics or WorkerMetrics(CollectorRegistry())
        self.drivers: dict[TP, PartitionDriver] = {}
        self._making: dict[TP, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.feed_of = {raw_topic(city.raw_city, f.name, settings.prefix): f.name for f in city.feeds}
        self.partials = partials_topic(city.name, settings.prefix)
        self.group = f"{settings.prefix}tilannekuva-{city.name}"
        self.app = self._make_app()
        self.producer: AIOKafkaProducer | None = None
        self.turns = Turns()
        self.sinks: dict[TP, KafkaSink] = {}
        self.store = SnapshotStore(settings.bootstrap, state_topic(city.name, settings.prefix))
        self.log = Log(settings.bootstrap, append_times=bool(settings.prefix))
        self.probe = Probe(settings.bootstrap, self.group)
        self.watchdog = Watchdog(settings.watchdog, exit=lambda _: end(EXIT_SOFTWARE))
        self.stopping = False
        self.gave_up = False  #: the stop did not wait for all that was under way to the broker
        self.done = asyncio.Event()  #: everything is worked off (``until_end``)

    def _make_app(self) -> faust.App:
        s = self.settings
        app = faust.App(
            self.group,
            broker=";".join(f"kafka://{address}" for address in s.bootstrap.split(",")),
            broker_credentials=credentials(),
            autodiscover=False,
            web_enabled=False,
            datadir=tempfile.gettempdir(),  # for its tables, of which there are none
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            broker_client_id=f"tilannekuva-process-{self.city.name}-{s.instance}",
            broker_commit_interval=1.0,
            broker_session_timeout=s.session_timeout_s,
            broker_heartbeat_interval=min(3.0, s.session_timeout_s / 4),
            broker_rebalance_timeout=30.0,
            broker_request_timeout=40.0,
            broker_max_poll_records=100,
            consumer_max_fetch_size=FETCH_BYTES,
            consumer_auto_offset_reset="earliest",
            stream_buffer_maxsize=64,
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
        return app

    # ---------------------------------------------------------------- lifecycle

    async def start(self) -> None:
        """Topics, producer, segments, then the app."""
        created = await ensure_topics(self.settings.bootstrap, self.city, self.settings.prefix, replication=self.settings.replication)
        if created:
            log.info("created topics: %s", ", ".join(created))
        self.producer = make_producer(
            self.settings.bootstrap, f"tilannekuva-process-{self.city.name}-{self.settings.instance}", request_timeout_ms=PATIENCE_MS
        )
        await self.producer.start()
        self._hear_throttling(self.producer.client)
        await self.probe.start()
        if "fuse" in self.settings.stages:
            await self._publish_segments()
        self.watchdog.start()
        self.app.finalize()
        await self.app.start()
        self._start(self._ticker(), "ticker")
        self._start(self._prober(), "prober")

    async def _publish_segments(self) -> None:
        """However long a slow broker takes; the watchdog looks only later, so one that takes nothing ends the process from here."""
        writer, taken = self._writer(), -1
        publishing = asyncio.create_task(publish_segments(self.settings.bootstrap, writer, self.network))
        try:
            while not (await asyncio.wait({publishing}, timeout=self.settings.watchdog.stalled_s))[0]:
                if writer.taken == taken:
                    fatal("segments", TimeoutError("the broker takes none"))
                taken = writer.taken
            publishing.result()
        finally:
            publishing.cancel()

    def _hear_throttling(self, client: Any) -> None:
        """aiokafka leaves unread what the broker says of its quotas (``throttle_time_ms``); the watchdog must know it."""
        send = client.send

        async def heard(*args: Any, **kwargs: Any) -> Any:
            answer = await send(*args, **kwargs)
            if wait_ms := getattr(answer, "throttle_time_ms", 0):
                self.watchdog.throttled(wait_ms / 1000)
            return answer

        client.send = heard

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task whose failure ends the process."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            fatal(task.get_name(), error)

    async def abandon(self, starting: asyncio.Task[None]) -> None:
        """Stop in the middle of the start: nothing is in hand yet."""
        self.stopping = self.gave_up = True
        self.watchdog.stop()
        starting.cancel()
        await asyncio.wait({starting}, timeout=STOP_S)
        if self.producer is not None:
            await self.producer.client.close()

    async def stop(self) -> None:
        """What is in hand is made durable and acked, then the group is left. What waits in buffers is left to whoever comes next."""
        self.stopping = True
        self.watchdog.stop()
        # an assignment that is under way may add some; they have been fed nothing
        closing = [asyncio.create_task(d.maybe_snapshot(force=True), name=d.step.owner) for d in self.drivers.values()]
        late = (await asyncio.wait(closing, timeout=DURABLE_S))[1] if closing else set()
        for driver in self.drivers.values():
            driver.closed = True
        if late:
            log.warning("left to the next start, since the broker is slow: %s", ", ".join(sorted(t.get_name() for t in late)))
            self.gave_up = True
        tasks = [*self._tasks, *late]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in set(closing) - late:
            task.result()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that a late setting may come too late: not this one, which is read at the stop
            self.app.conf.stream_wait_empty = False  # Faust would wait for what is in its buffers; commit what was acked, and go
        await self.app.stop()
        await self.probe.stop()
        if self.producer is None:
            return
        if self.gave_up:
            await self.producer.client.close()  # not flushed: nothing of what is under way was acked
        else:
            await self.producer.stop()

    # ----------------------------------------------------------------- messages

    async def _consume(self, stream: Any) -> None:
        """The agent: in order, acked by the driver after the outputs and the snapshot are durable."""
        try:
            async for event in stream.noack().events():
                if self.stopping:
                    await asyncio.Event().wait()  # neither fed nor acked: the app ends around us
                tp = TP(event.message.topic, event.message.partition)
                message = _Event(event)
                driver = await self._driver(tp, message)
                await driver.feed(message, more=self._more(stream, tp, message.offset))
                self.metrics.fed(self.city.name, driver.step.owner, driver.step.log_ms())
        except asyncio.CancelledError:
            raise
        except Exception as e:
            fatal("agent", e)

    def _more(self, stream: Any, tp: TP, offset: int) -> bool:
        """Whether a message has others right behind it: in the agent's queue, or in the log, from where they come in a moment. The ticker waits for neither."""
        if not stream.channel.queue.empty():
            return True
        end = self.app.consumer.highwater(tp)
        return end is not None and end > offset + 1

    async def _driver(self, tp: TP, first: Message | None) -> PartitionDriver:
        """The driver of a partition, recovered when it is new here, and without a gap before ``first``."""
        found = self.drivers.get(tp)
        if found is not None and (first is None or not found.gap(first.offset)):
            return found
        async with self._making.setdefault(tp, asyncio.Lock()):
            found = self.drivers.get(tp)
            if found is None:
                self.sinks[tp] = KafkaSink(self._writer(), self.store, self.partials, self.metrics)
                found = PartitionDriver(lambda: self._step(tp), self.sinks[tp], time.monotonic, self.settings.driver)
                begin = time.monotonic()
                await recover(found, tp, self.store, self.log)
                memory.settle()
                log.info("%s: state as of offset %d, recovered in %.2f s", found.step.owner, found.step.offset, time.monotonic() - begin)
                self.drivers[tp] = found
            if first is not None and found.gap(first.offset):
                lost = await close_gap(found, tp, first.offset, self.store, self.log)
                self.metrics.lost.labels(self.city.name, found.step.owner).inc(lost)
            return found

    def _writer(self) -> Writer:
        if self.producer is None:
            raise RuntimeError("the worker has not been started")
        return Writer(self.producer, self.city, self.settings.prefix, self._not_taken, self.turns)

    def _not_taken(self, error: BaseException) -> None:
        if not self.gave_up:
            fatal("a record was not taken by the broker", error)

    def _progress(self, tp: TP, committed: int, end: int) -> Progress:
        driver, writer = self.drivers[tp], self.sinks[tp].writer
        return Progress(driver.step.offset, driver.durable, committed, end, writer.taken, writer.waiting)

    def _step(self, tp: TP) -> Step:
        if tp.topic == self.partials:
            return FuseStep(Fuser(self.city, self.network, self.settings.fuse, self.profile))
        return ObserveStep(Observer(self.city, self.feed_of[tp.topic], tp.partition, self.ground, raw_topic=tp.topic))

    # --------------------------------------------------------------- rebalancing

    async def _assigned(self, _app: Any, /, *args: Any, **_: Any) -> None:
        """Drivers of partitions that went elsewhere are dropped, before their state grows old; new ones are recovered. A stop does not wait for that."""
        if not self.stopping:
            mine = {tp for tp in args[0] if tp.topic in self.feed_of or tp.topic == self.partials}
            await asyncio.wait([self._start(self._take_up(mine), "assignment")])

    async def _take_up(self, mine: set[TP]) -> None:
        for tp in set(self.drivers) - mine:
            self.drivers.pop(tp).closed = True
        for tp in sorted(mine):
            (await self._driver(tp, None)).closed = False

    async def _revoked(self, _app: Any, /, *args: Any, **_: Any) -> None:
        """Faust has waited until everything was acked. A state stays right for its offset whoever goes on; until the partition is assigned again it writes nothing."""
        for tp in args[0]:
            if tp in self.drivers:
                self.drivers[tp].closed = True
                self.drivers[tp].forget_pending()

    async def _ticker(self) -> None:
        """Snapshots on time (also when no message comes), and time for silent partitions."""
        trimmed_s, ticks = time.monotonic(), dict[TP, asyncio.Task[None]]()
        while not self.stopping:
            await asyncio.sleep(TICK_S)
            if time.monotonic() - trimmed_s >= TRIM_S:
                memory.trim()
                trimmed_s = time.monotonic()
            rebalancing = bool(self.app.rebalancing)
            self.watchdog.beat(rebalancing=rebalancing)
            for tp, driver in sorted(self.drivers.items()):
                if tp not in ticks or ticks[tp].done():  # a slow sink holds up its own partition, not the others, nor the beat
                    ticks[tp] = self._start(self._tick(tp, driver, rebalancing), "tick")

    async def _tick(self, tp: TP, driver: PartitionDriver, rebalancing: bool) -> None:
        """A snapshot if it is time for one, and time for a silent partition."""
        await driver.maybe_snapshot(force=rebalancing)
        if not rebalancing and not self.settings.prefix and tp.topic in self.feed_of:
            await self._idle(tp, driver)
        owner = driver.step.owner
        self.metrics.log_time.labels(self.city.name, owner).set(driver.step.log_ms() / 1000)
        self.metrics.snapshot.labels(self.city.name, owner).set(driver.durable)
        self.metrics.pending.labels(self.city.name, owner).set(len(driver.pending))

    async def _idle(self, tp: TP, driver: PartitionDriver) -> None:
        """A partition that is read to its end has nothing older than ``IDLE_MS`` to come: let its time pass."""
        now_ms = int(time.time() * 1000)
        if driver.step.log_ms() + IDLE_MS + 5_000 > now_ms:
            return
        end = self.app.consumer.highwater(tp)
        if end is not None and end <= driver.step.offset + 1:
            await driver.idle(now_ms - IDLE_MS)

    # ------------------------------------------------------------------ watching

    async def _prober(self) -> None:
        """Asks the broker, beside Faust's clients, how far the group is. Failures are the watchdog's to judge."""
        every = [(t, p) for t, f in self.feed_of.items() for p in range(self.city.feed(f).partitions)]
        while not self.stopping:
            try:
                async with asyncio.timeout(ANSWER_S):
                    committed = await self.probe.committed()
                    mine = {tp for tp, d in self.drivers.items() if not d.closed}
                    ends = await self.probe.ends(mine | (set(every) if self.settings.until_end else set()))
                    self.watchdog.saw({tp: self._progress(tp, committed.get(tp, 0), ends[tp]) for tp in mine & set(self.drivers)})
                    if self.settings.until_end and await self._worked_off(every, ends, committed):
                        self.done.set()
            except TimeoutError:
                log.warning("the broker has not answered a question within %g s", ANSWER_S)
            except Exception as e:  # whatever a client raises while its broker is away; the watchdog ends us if it lasts
                log.warning("the broker could not be asked: %r", e)
            for (topic, partition), lag in self.watchdog.lag().items():
                self.metrics.lag.labels(self.city.name, topic, str(partition)).set(lag)
            await asyncio.sleep(1.0 if self.settings.until_end else PROBE_S)

    async def _worked_off(
        self, raw: list[tuple[str, int]], ends: dict[tuple[str, int], int], committed: dict[tuple[str, int], int]
    ) -> bool:
        """Whether the group has committed all raw messages and, after that, all partials."""
        partials = (self.partials, 0)
        if not any(ends[tp] for tp in raw) or any(committed.get(tp, 0) < ends[tp] for tp in raw):
            return False
        end = (await self.probe.ends([partials]))[partials]
        return (await self.probe.committed()).get(partials, 0) >= end


async def run_worker(worker: CityWorker, stop: asyncio.Event) -> None:
    """Start the app, run until ``stop`` (or until everything is worked off), stop cleanly: what is in hand is made durable and acked first.

    A crash of the app (broker gone for good, rebalance failed) is fatal as well. So is a clean stop that does not come to its end: everything that was acked is durable.
    """
    starting = asyncio.create_task(worker.start())
    ends = {asyncio.create_task(stop.wait()), asyncio.create_task(worker.done.wait())}
    await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await worker.abandon(starting)
        return
    starting.result()
    while not (await asyncio.wait(ends, timeout=0.5, return_when=asyncio.FIRST_COMPLETED))[0]:
        if worker.app.crashed or worker.app.crash_reason is not None:
            fatal("app", worker.app.crash_reason or RuntimeError("crashed"))
    try:
        await asyncio.wait_for(worker.stop(), STOP_S)
    except TimeoutError as e:
        fatal(f"the clean stop took more than {STOP_S:g} s", e)
    for task in ends:
        task.cancel()
