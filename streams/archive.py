"""The archiver: topics of some cities into Parquet, each message once.

How far it has come stands in the files and nowhere else (``streams/archive_files.py``): it has no consumer group, and a kill at any moment costs what was not yet in a file, which
is read again. What waits in memory is bounded: the largest heap is written when there is too much.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from prometheus_client import CollectorRegistry, Counter, Gauge

from connectors.cities import City
from connectors.kafka import make_consumer
from models.errors import ConfigError
from models.topics import MAX_MESSAGE_BYTES, PRODUCTS, open_topic, raw_topic
from streams.admin import admin_of
from streams.archive_files import Files, Source
from streams.archive_lease import Lease
from streams.archive_privacy import WITHOUT_VEHICLES, protect
from streams.archive_rows import Row
from streams.archive_store import Store

log = logging.getLogger("tilannekuva.archive")
#: A clean stop writes what it holds for so long at most, seconds; the rest is read again.
STOP_S = 10.0
#: Topics that were not there are looked for again so often, seconds.
LOOK_S = 10.0
#: Overhead of a message in memory beside its key and value, bytes.
_ROW_BYTES = 250


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """When files are written, merged and forgotten. Wall clock: it decides when, never what."""

    #: A file is written at the latest so long after its first message, seconds. More: fewer small files to merge, and history that lags behind more.
    flush_s: float = 60.0
    #: Or when so much of a topic waits, MB. More: memory, and larger row groups.
    flush_mb: float = 24.0
    #: Of all topics together, MB; then the largest heap is written. More: memory.
    memory_mb: float = 160.0
    #: So many files of a size are merged into one. More: more small files to read at a time; fewer: every row is rewritten more often.
    fan_in: int = 8
    #: Merged files grow no larger, MB. More: fewer files, and more to rewrite when a day is made private.
    file_mb: float = 96.0
    #: Seconds between two rounds of merging, retention and privacy. More: small files stay longer.
    keep_house_s: float = 30.0
    #: Days after which open records are deleted; 0: never. The topic ``segment`` stays.
    keep_days: int = 0
    #: Days after which vehicles lose their names and trips, and raw envelopes that tell them are deleted. More than 30 is refused: see ``docs/privacy.md``.
    private_days: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.private_days <= 30:
            raise ConfigError("archive", "private_days", self.private_days, "1 to 30 days: docs/privacy.md")
        if min(self.flush_s, self.flush_mb, self.memory_mb, self.file_mb, self.keep_house_s) <= 0 or self.fan_in < 2 or self.keep_days < 0:
            raise ConfigError("archive", "settings", self, "times and sizes above 0, fan_in at least 2, keep_days at least 0")


class _Metrics:
    """What Prometheus sees of an archiver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ["topic", "partition"]
        self.rows = Counter("tilannekuva_archive_rows_total", "Rows in files", names, registry=registry)
        self.lag = Gauge("tilannekuva_archive_lag_messages", "Messages that are not in a file yet", names, registry=registry)
        self.lost = Counter("tilannekuva_archive_lost_messages_total", "Messages gone before they were read", names, registry=registry)
        self.waiting = Gauge("tilannekuva_archive_waiting_bytes", "Messages in memory", registry=registry)
        self.files = Gauge("tilannekuva_archive_files", "Files held", registry=registry)
        self.merges = Counter("tilannekuva_archive_merges_total", "Merges of files", registry=registry)


@dataclass
class _Heap:
    """What waits of one partition."""

    files: Files
    rows: list[Row] = field(default_factory=list)
    size: int = 0
    since_s: float = 0.0
    next: int = 0  #: offset of the next message


class Progress:
    """Whether the archiver gets on, for its health endpoint."""

    STALLED_S = 90.0

    def __init__(self) -> None:
        self.beat_s = time.monotonic()
        self.reading = False

    def alive(self) -> str | None:
        silent_s = time.monotonic() - self.beat_s
        return f"nothing was read or written for {silent_s:.0f} s" if silent_s > self.STALLED_S else None

    def ready(self) -> str | None:
        return self.alive() if self.reading else "no topic has been found yet"


def sources(cities: Sequence[City], prefix: str = "", *, raw: bool = True) -> dict[str, Source]:
    """What is archived, by topic. Raw topics belong to the city that connects to the feeds."""
    found: dict[str, Source] = {}
    for city in cities:
        for product in PRODUCTS:
            topic = open_topic(city.name, product, prefix)
            streets = product == "segment"
            licence = city.network.licence if streets else city.licence
            found[topic] = Source(city.name, product, topic, licence, (city.network.attribution,) if streets else city.attribution)
        if raw and city.raw_of is None:
            for f in city.feeds:
                topic = raw_topic(city.name, f.name, prefix)
                attribution = (f.attribution,) if f.attribution else city.attribution
                vehicles = f.family not in WITHOUT_VEHICLES
                found[topic] = Source(city.name, "raw", topic, f.licence or city.licence, attribution, f.name, vehicles)
        elif raw:
            log.info("%s: its feeds are those of %s; archive that city for its raw topics", city.name, city.raw_of)
    return found


class Archiver:
    """Reads, heaps up, writes, keeps house.

    Args:
        wanted: what is archived, by topic.
        today: UTC date of now, for retention.
    """

    def __init__(
        self,
        wanted: dict[str, Source],
        store: Store,
        bootstrap: str,
        settings: ArchiveSettings | None = None,
        *,
        registry: CollectorRegistry | None = None,
        today: Callable[[], str] = lambda: datetime.now(UTC).date().isoformat(),
    ) -> None:
        self.wanted, self.store, self.bootstrap = wanted, store, bootstrap
        self.settings, self.today = settings or ArchiveSettings(), today
        self.metrics = _Metrics(registry or CollectorRegistry())
        self.progress = Progress()
        self.heaps: dict[TopicPartition, _Heap] = {}
        self.leases: list[Lease] = []
        self._stopping = False

    async def run(self, stop: asyncio.Event, *, until_end: bool = False) -> None:
        """Until told to stop; with ``until_end`` until everything is in files that was in the topics at the start.

        Raises:
            ConfigError: the folder holds another's rows, or another archiver is at work in it.
            KafkaError: the broker does not answer.
            TimeoutError: the claim on the object store was lost; nothing more is written.
        """
        async with self._alone():
            for folder in sorted({s.product_folder for s in self.wanted.values()}):
                self.store.sweep(folder)
            consumer = make_consumer(
                bootstrap=self.bootstrap,
                auto_offset_reset="none",
                fetch_max_bytes=MAX_MESSAGE_BYTES,
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            )
            await consumer.start()
            try:
                await self._look(consumer)
                ends = await consumer.end_offsets(list(self.heaps)) if until_end and self.heaps else {}
                await self._loop(consumer, stop, ends if until_end else None)
            finally:
                self._stopping = True
                await consumer.stop()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Two archivers of a city in one folder would each write every row."""
        async with AsyncExitStack() as stack:
            for city in sorted({s.city for s in self.wanted.values()}):
                if self.store.local:
                    lock = stack.enter_context((Path(self.store.root) / f"_lock-{city}").open("w"))
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        raise ConfigError("archive", "folder", self.store.root, f"no other archiver of {city} at work in it") from None
                else:
                    lease = Lease(self.store, city)
                    await stack.enter_async_context(lease.held())
                    self.leases.append(lease)
            yield

    def _still_alone(self) -> None:
        for lease in self.leases:
            lease.check()

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Find topics that are there by now, and go on where their files end."""
        known = {tp.topic for tp in self.heaps}
        missing = set(self.wanted) - known
        if not missing:
            return
        async with admin_of(self.bootstrap) as admin:
            described = await admin.describe_topics()  # asking for one by its name may create it
        found = {t["topic"]: len(t["partitions"]) for t in described if t["topic"] in missing and not t["error_code"]}
        new = [TopicPartition(t, p) for t, n in sorted(found.items()) for p in range(n)]
        if not new:
            return
        for topic in sorted(found):
            listed = await asyncio.to_thread(self.store.files, self.wanted[topic].product_folder)
            if listed:
                other = (await asyncio.to_thread(self.store.about, listed[-1].path)).get("topic")
                if other != topic:
                    raise ConfigError(
                        "archive", "folder", self.store.root, f"rows of {topic}; it holds those of {other}: take another folder"
                    )
            for tp in (tp for tp in new if tp.topic == topic):
                self.heaps[tp] = _Heap(await asyncio.to_thread(Files.open, self.store, self.wanted[topic], tp.partition, listed))
        positions = {tp: await consumer.position(tp) for tp in consumer.assignment()}
        consumer.assign([*positions, *new])
        for tp, position in positions.items():
            consumer.seek(tp, position)
        begins, ends = await consumer.beginning_offsets(new), await consumer.end_offsets(new)
        for tp in new:
            await self._resume(consumer, tp, begins[tp], ends[tp])
        self.progress.reading = True
        log.info("archiving %d partitions of %d topics", len(self.heaps), len({tp.topic for tp in self.heaps}))

    async def _resume(self, consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int) -> None:
        heap = self.heaps[tp]
        files, newest = heap.files, heap.files.newest()
        if newest is not None and (files.next_offset > end or not await self._same(consumer, tp, newest.path, newest.part.last, begin)):
            log.warning("%s-%d: the topic was made anew; its rows get a new epoch", tp.topic, tp.partition)
            files.begin_anew()
        heap.next = max(files.next_offset, begin)
        if 0 < files.next_offset < begin:
            lost = begin - files.next_offset
            if "compact" not in PRODUCTS[files.source.product].cleanup if files.source.feed is None else True:
                log.error("%s-%d: %d messages were deleted before they were archived", tp.topic, tp.partition, lost)
                self.metrics.lost.labels(tp.topic, str(tp.partition)).inc(lost)
        consumer.seek(tp, heap.next)

    async def _same(self, consumer: AIOKafkaConsumer, tp: TopicPartition, path: str, last: int, begin: int) -> bool:
        """Whether the topic is the one that the files are of: its message at the archive's end is the same, where it is still there."""
        wanted = (await asyncio.to_thread(self.store.about, path)).get("last_crc32")
        if last < begin or wanted is None:
            return True
        others = [p for p in consumer.assignment() if p != tp]
        consumer.pause(*others)
        consumer.seek(tp, last)
        try:
            found = (await consumer.getmany(tp, timeout_ms=5_000, max_records=1)).get(tp, [])
        finally:
            consumer.resume(*others)
        return not found or found[0].offset != last or crc(found[0].key, found[0].value) == wanted

    # ------------------------------------------------------------------- loop

    async def _loop(self, consumer: AIOKafkaConsumer, stop: asyncio.Event, ends: dict[TopicPartition, int] | None) -> None:
        house: asyncio.Task[None] | None = None
        looked_s = kept_s = time.monotonic()
        while not stop.is_set():
            if ends is not None and all([await consumer.position(tp) >= ends[tp] for tp in ends]):
                break
            batches = await self._read(consumer)
            now_s = time.monotonic()
            for tp, records in batches.items():
                self._heap_up(tp, records, now_s)
            await self._flush_due(consumer, now_s)
            self.progress.beat_s = time.monotonic()
            if house is not None and house.done():
                house.result()
                house = None
            if house is None and ends is None and now_s - kept_s >= self.settings.keep_house_s:
                kept_s, house = now_s, asyncio.create_task(self._keep_house())
            if now_s - looked_s >= LOOK_S:
                looked_s = now_s
                await self._look(consumer)
        deadline_s = time.monotonic() + STOP_S
        for tp in sorted(self.heaps):
            if ends is None and time.monotonic() > deadline_s:
                log.warning("stopped before everything was written; it will be read again")
                break
            await self._flush(tp)
        self._stopping = ends is None
        if house is not None:
            await house
        if ends is not None:
            await self._keep_house(everything=True)

    async def _read(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, Sequence[Any]]:
        if not self.heaps:
            await asyncio.sleep(0.5)
            return {}
        try:
            found: dict[TopicPartition, Sequence[Any]] = await consumer.getmany(timeout_ms=500, max_records=5_000)
            return found
        except OffsetOutOfRangeError as e:  # retention was faster
            gone = list(e.args[0])
            begins, ends = await consumer.beginning_offsets(gone), await consumer.end_offsets(gone)
            for tp in gone:
                await self._flush(tp)
                await self._resume(consumer, tp, begins[tp], ends[tp])
            return {}

    def _heap_up(self, tp: TopicPartition, records: Sequence[Any], now_s: float) -> None:
        heap = self.heaps[tp]
        if not heap.rows and records:
            heap.since_s = now_s
        for r in records:
            if r.offset >= heap.next:
                ce_id = next((v for k, v in r.headers if k == "ce_id"), None)
                heap.rows.append(Row(r.offset, r.timestamp, r.key, r.value, ce_id.decode("utf-8", "replace") if ce_id else None))
                heap.size += len(r.key or b"") + len(r.value or b"") + len(ce_id or b"") + _ROW_BYTES
                heap.next = r.offset + 1

    async def _flush_due(self, consumer: AIOKafkaConsumer, now_s: float) -> None:
        cfg = self.settings
        for tp, heap in self.heaps.items():
            if heap.rows and (heap.size >= cfg.flush_mb * 1e6 or now_s - heap.since_s >= cfg.flush_s):
                await self._flush(tp)
        while sum(h.size for h in self.heaps.values()) > cfg.memory_mb * 1e6:
            await self._flush(max(self.heaps, key=lambda tp: self.heaps[tp].size))
        self.metrics.waiting.set(sum(h.size for h in self.heaps.values()))
        for tp, heap in self.heaps.items():
            end = consumer.highwater(tp)
            if end is not None:
                self.metrics.lag.labels(tp.topic, str(tp.partition)).set(max(0, end - heap.next) + len(heap.rows))

    async def _flush(self, tp: TopicPartition) -> None:
        heap = self.heaps[tp]
        if heap.rows:
            self._still_alone()
            rows, heap.rows, heap.size = heap.rows, [], 0
            written = await asyncio.to_thread(heap.files.write, rows, crc(rows[-1].key, rows[-1].value))
            self.metrics.rows.labels(tp.topic, str(tp.partition)).inc(written)

    # ---------------------------------------------------------------- house

    async def _keep_house(self, *, everything: bool = False) -> None:
        """Retention, privacy, then merging, partition by partition. ``everything``: today's files are merged too."""
        cfg, today = self.settings, self.today()
        yesterday = _days_before(today, 1)
        for heap in list(self.heaps.values()):
            self._still_alone()
            files, source = heap.files, heap.files.source
            if source.feed is not None:
                if source.vehicles:
                    await asyncio.to_thread(files.forget, _days_before(today, cfg.private_days), simulated=False)
            else:
                await asyncio.to_thread(protect, files, _days_before(today, cfg.private_days), lambda: self._stopping)
            if cfg.keep_days and source.product != "segment":
                await asyncio.to_thread(files.forget, _days_before(today, cfg.keep_days))
            for parts in files.mergeable(
                fan_in=cfg.fan_in, most_bytes=int(cfg.file_mb * 1e6), closed=lambda day: everything or day < yesterday
            ):
                if self._stopping:
                    return
                self._still_alone()
                try:
                    await asyncio.to_thread(files.merge, parts, lambda: self._stopping)
                except InterruptedError:
                    return
                self.metrics.merges.inc()
        self.metrics.files.set(sum(len(h.files.held) for h in self.heaps.values()))


def crc(key: bytes | None, value: bytes | None) -> int:
    """By which a message is known again."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


def _days_before(day: str, n: int) -> str:
    return (datetime.fromisoformat(day) - timedelta(days=n)).date().isoformat()
