"""Reads the open topics into pictures: from the beginning what is compacted, the last minutes of what is not, and then for ever.

No consumer group: every gateway reads everything and commits nothing. Topics that do not exist yet are waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from connectors.kafka import learn, make_admin, make_consumer
from models.topics import MAX_MESSAGE_BYTES, PRODUCTS
from serve.state import VEHICLE_MEMORY_MS, Applied, Picture

log = logging.getLogger("serve.reader")

#: Products without compaction: only what is still shown is read.
RECENT = frozenset(p.name for p in PRODUCTS.values() if p.cleanup == "delete")
#: When a recent product has no record of the last minutes by the broker's clock, this many of its last records are read.
RECENT_RECORDS = 20_000
#: How often end offsets and new topics are asked for, s.
PROBE_S = 2.0
#: How often new partitions of known topics are looked for, s.
LOOK_S = 30.0
#: Not ready when the broker has not answered, or a backlog has not shrunk, for this long, s.
STALL_S = 15.0
#: Records taken in one go before everyone else gets a turn.
BATCH = 2_000

#: A batch of one city: the records that were read with their partitions and offsets.
Listener = Callable[[Picture, list[tuple[Applied, int, int]]], None]


@dataclass
class _Partition:
    picture: Picture
    next: int = 0  #: offset of the next record to read
    end: int = 0  #: end offset at the last probe
    goal: int = 0  #: end offset when the partition was first seen: behind it, the picture is not yet whole


@dataclass
class Reader:
    """Feeds the pictures of some cities from one broker."""

    pictures: Sequence[Picture]
    bootstrap: str
    on_batch: Listener
    on_ready: Callable[[], None] = lambda: None
    #: a partition was found: product, partition, offset from which on it is read
    on_begin: Callable[[Picture, str, int, int], None] = lambda picture, product, partition, offset: None
    partitions: dict[TopicPartition, _Partition] = field(default_factory=dict)
    records: int = 0
    last_record_s: float | None = None  #: monotonic time of the last record
    _answered_s: float | None = None
    _moved_s: float = 0.0
    _looked_s: float = 0.0
    _behind: bool = True

    def problem(self) -> str | None:
        """Why the pictures are not to be trusted; None when they are whole and current."""
        if self._answered_s is None:
            return "the broker has not answered yet"
        now = time.monotonic()
        if now - self._answered_s > STALL_S:
            return f"the broker has not answered for {now - self._answered_s:.0f} s"
        there = {tp.topic for tp in self.partitions}
        if missing := sorted(topic for p in self.pictures for topic in p.required if topic not in there):
            return f"no such topic yet: {', '.join(missing)}"
        if self._behind:
            return f"still reading: {sum(max(0, p.goal - p.next) for p in self.partitions.values())} records to go"
        if self.lag() > 0 and now - self._moved_s > STALL_S:
            return f"reading stands still, {self.lag()} records behind"
        return None

    def lag(self) -> int:
        """Records in the log that were not read yet, at the last probe."""
        return sum(max(0, p.end - p.next) for p in self.partitions.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Read until ``stop``. A broker that cannot be reached is tried again, with pauses, for ever."""
        pause_s = 0.5
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self._session(stop)
            except asyncio.CancelledError as e:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # nobody has cancelled us: aiokafka cancels its own requests when a connection breaks, and that comes out here
                log.warning("reader: a request was cancelled (%s); trying again in %.1f s", e, pause_s)
            except (KafkaError, OSError) as e:
                log.warning("reader: %s: %s; trying again in %.1f s", type(e).__name__, e, pause_s)
            if time.monotonic() - began > 60:
                pause_s = 0.5
            await _sleep(stop, pause_s)
            pause_s = min(10.0, pause_s * 2)

    async def _session(self, stop: asyncio.Event) -> None:
        consumer = make_consumer(
            bootstrap=self.bootstrap,
            group_id=None,
            auto_offset_reset="earliest",
            request_timeout_ms=10_000,
            fetch_max_bytes=2 * MAX_MESSAGE_BYTES,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            metadata_max_age_ms=30_000,
        )
        admin = make_admin(self.bootstrap, request_timeout_ms=10_000)
        probe: asyncio.Task[None] | None = None
        try:
            await consumer.start()
            await admin.start()
            await self._probe(consumer, admin, resume=True)
            probe = asyncio.create_task(self._probe_for_ever(consumer, admin))
            while not stop.is_set():
                if probe.done():
                    probe.result()
                if not self.partitions:
                    await _sleep(stop, 0.2)
                    continue
                got = await consumer.getmany(timeout_ms=200, max_records=BATCH)
                self._take(got)
                await asyncio.sleep(0)
        finally:
            if probe is not None:
                probe.cancel()
                await asyncio.gather(probe, return_exceptions=True)
            await admin.close()
            await consumer.stop()

    def _take(self, got: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        for tp, messages in got.items():
            at = self.partitions[tp]
            batch: list[tuple[Applied, int, int]] = []
            for m in messages:
                applied = at.picture.apply(tp.topic, m.key, m.value, m.offset, tp.partition)
                if applied is not None:
                    batch.append((applied, tp.partition, m.offset))
            if messages:
                at.next = messages[-1].offset + 1
                self.records += len(messages)
                self._moved_s = self.last_record_s = time.monotonic()
            if batch:
                self.on_batch(at.picture, batch)
        self._catch_up()

    def _catch_up(self) -> None:
        wanted = {topic for p in self.pictures for topic in p.required}
        if self._behind and {tp.topic for tp in self.partitions} >= wanted and all(p.next >= p.goal for p in self.partitions.values()):
            self._behind = False
            log.info("reader: caught up after %d records", self.records)
            self.on_ready()

    async def _probe_for_ever(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            await self._probe(consumer, admin)

    def _must_look(self) -> bool:
        """Topics are looked for while some are missing, and now and then for new partitions."""
        there = {tp.topic for tp in self.partitions}
        missing = any(topic not in there for p in self.pictures for topic in p.required)
        return missing or time.monotonic() - self._looked_s > LOOK_S

    async def _find(self, admin: AIOKafkaAdminClient) -> dict[TopicPartition, Picture]:
        """Every partition that there is of our topics. All topics are asked for: asking for one by its name may create it."""
        ours = {topic: picture for picture in self.pictures for topic in picture.topics}
        described = await admin.describe_topics()
        self._looked_s = time.monotonic()
        return {
            TopicPartition(t["topic"], p["partition"]): ours[t["topic"]]
            for t in described
            if t["topic"] in ours and not t["error_code"]
            for p in t["partitions"]
            if p["leader"] >= 0  # one that is just being made is there next time
        }

    async def _probe(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, *, resume: bool = False) -> None:
        """Ask for new partitions and for end offsets."""
        found = await self._find(admin) if self._must_look() else {}
        new = [tp for tp in found if tp not in self.partitions]
        if new or resume:
            await learn(consumer, {tp.topic for tp in (*new, *self.partitions)})
        if new:
            starts = await self._starts(consumer, {tp: found[tp].topics[tp.topic] for tp in new})
            ends = await consumer.end_offsets(new)
            for tp in new:
                picture = found[tp]
                self.partitions[tp] = _Partition(picture, next=starts[tp], end=ends[tp], goal=ends[tp])
                picture.begin(picture.topics[tp.topic], tp.partition, starts[tp])
                self.on_begin(picture, picture.topics[tp.topic], tp.partition, starts[tp])
        if (new or resume) and self.partitions:
            consumer.assign(list(self.partitions))
            for tp, at in self.partitions.items():
                consumer.seek(tp, at.next)
        if self.partitions:
            for tp, end in (await consumer.end_offsets(list(self.partitions))).items():
                at = self.partitions[tp]
                # tansu tells the first offset of the last batch instead of the end; the fetched high-water mark is right
                at.end = max(end, consumer.highwater(tp) or 0)
                # a transaction's marker takes an offset and is never delivered: the position tells
                at.next = max(at.next, await consumer.position(tp))
        self._answered_s = time.monotonic()
        if self.lag() == 0:
            self._moved_s = self._answered_s
        self._catch_up()

    async def _starts(self, consumer: AIOKafkaConsumer, new: dict[TopicPartition, str]) -> dict[TopicPartition, int]:
        first, last = await consumer.beginning_offsets(list(new)), await consumer.end_offsets(list(new))
        recent = [tp for tp, product in new.items() if product in RECENT]
        since_ms = int(time.time() * 1000) - VEHICLE_MEMORY_MS
        by_time = await consumer.offsets_for_times(dict.fromkeys(recent, since_ms)) if recent else {}
        out = dict(first)
        for tp in recent:
            found = by_time.get(tp)
            out[tp] = max(first[tp], found.offset if found is not None else last[tp] - RECENT_RECORDS)
        return out


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
