"""Reads a stretch of the open topics again, for those who come back after what is in memory has gone on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka import learn, make_consumer
from models.topics import MAX_MESSAGE_BYTES, PRODUCTS, open_topic
from serve.marks import Place
from serve.ring import Entry
from serve.state import keeps_contract, on_one_line

log = logging.getLogger("serve.log")

#: Stretches that are read at once; more wait for their turn.
AT_ONCE = 8
#: A stretch that brings nothing for this long is given up, s.
STALL_S = 15.0
#: Records taken in one go.
BATCH = 1_000


@dataclass
class Stretch:
    """Part of the log that somebody has missed."""

    wanted: dict[Place, tuple[int, int]]  #: first and last offset, both included
    kept_from: dict[Place, int] = field(default_factory=dict)  #: oldest offset that is still there
    ends: dict[Place, int] = field(default_factory=dict)  #: offset after the last
    seen: dict[Place, int] = field(default_factory=dict)  #: records that were there, refused ones and tombstones too

    def compacted(self) -> dict[Place, int]:
        """Records of compacted topics that a newer one of the same key has replaced, after reading."""
        out = {}
        for place, (first, last) in self.wanted.items():
            lacking = last + 1 - max(first, self.kept_from.get(place, 0)) - self.seen.get(place, 0)
            if lacking > 0 and "compact" in PRODUCTS[place[0]].cleanup:
                out[place] = lacking
        return out


class Log(Protocol):
    """What a listener needs of the log behind the memory."""

    def open(self, city: str, stretch: Stretch) -> Any:
        """Async context manager: fills in ``kept_from`` and ``ends`` and gives an async iterator of batches of entries."""


class KafkaLog:
    """The log as the broker keeps it. A consumer for each stretch: no group, nothing committed."""

    def __init__(self, bootstrap: str, prefix: str = "") -> None:
        self.bootstrap, self.prefix = bootstrap, prefix
        self._turns = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def open(self, city: str, stretch: Stretch) -> AsyncIterator[AsyncIterator[list[Entry]]]:
        """
        Raises:
            KafkaError: the broker does not answer.
            TimeoutError: it brings nothing more, or is too busy with others.
        """
        places = {TopicPartition(open_topic(city, place[0], self.prefix), place[1]): place for place in stretch.wanted}
        await asyncio.wait_for(self._turns.acquire(), STALL_S)
        consumer = make_consumer(
            bootstrap=self.bootstrap,
            group_id=None,
            auto_offset_reset="none",
            request_timeout_ms=10_000,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES // 8,
            fetch_max_bytes=MAX_MESSAGE_BYTES // 4,
            fetch_max_wait_ms=50,
        )
        try:
            await consumer.start()
            await learn(consumer, {tp.topic for tp in places})
            stretch.kept_from = {places[tp]: first for tp, first in (await consumer.beginning_offsets(list(places))).items()}
            stretch.ends = {places[tp]: end for tp, end in (await consumer.end_offsets(list(places))).items()}
            yield self._read(consumer, places, stretch)
        finally:
            self._turns.release()
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, places: dict[TopicPartition, Place], stretch: Stretch) -> AsyncIterator[list[Entry]]:
        open_: dict[TopicPartition, int] = {}
        for tp, place in places.items():
            first, last = stretch.wanted[place]
            first = max(first, stretch.kept_from[place])
            if first <= last:
                open_[tp] = last
        consumer.assign(list(open_))
        for tp in open_:
            place = places[tp]
            consumer.seek(tp, max(stretch.wanted[place][0], stretch.kept_from[place]))
        idle_since = asyncio.get_running_loop().time()
        while open_:
            got = await consumer.getmany(*open_, timeout_ms=200, max_records=BATCH)
            now = asyncio.get_running_loop().time()
            out: list[Entry] = []
            for tp, messages in got.items():
                place, last = places[tp], open_[tp]
                for m in messages:
                    if m.offset > last:
                        break
                    stretch.seen[place] = stretch.seen.get(place, 0) + 1
                    if m.value is not None and keeps_contract(place[0], m.value):
                        out.append(Entry(place[0], place[1], m.offset, on_one_line(m.value)))
            for tp in list(open_):
                if await consumer.position(tp) > open_[tp]:
                    del open_[tp]
                    consumer.pause(tp)
            if out:
                yield out
            if got:
                idle_since = asyncio.get_running_loop().time()
            elif now - idle_since > STALL_S:
                raise TimeoutError("the broker brings nothing more")
