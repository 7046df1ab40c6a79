"""Records and snapshots onto Kafka: batches built whole, idempotent producer, nothing counted as written before the broker said so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.partitioner import murmur2

from connectors.cities import City
from models.topics import PRODUCTS, dead_letter_topic, evidence_topic, late_topic, open_topic
from streams.batches import Batcher
from streams.outputs import Out, Outputs, parts

SCHEMA_URL = "https://tilannekuva.example/schemas/{product}.v{major}.json"


class Turns:
    """The way to one producer, for many writers: on each topic partition first come, first served, a batch at a time, so that a small hand waits for one batch of each other
    writer, however many those have in hand.

    The producer takes one batch of a topic partition while another is under way, and has whoever brings more wait; for so long as a request may take, less when several wait. What it
    would not take in that time it is given again: how long is too long, the watchdog says.
    """

    def __init__(self) -> None:
        self._turns: dict[tuple[str, int], asyncio.Lock] = {}

    async def take(self, topic: str, partition: int, hand_over: Callable[[], Awaitable[asyncio.Future[Any]]]) -> asyncio.Future[Any]:
        """Hand over when it is our turn; what comes back is done when the broker has it."""
        async with self._turns.setdefault((topic, partition), asyncio.Lock()):
            while True:
                try:
                    return await hand_over()
                except KafkaTimeoutError:  # raised before anything of it was taken
                    continue


class Writer:
    """Writes the outputs of one partition's step; ``settle`` waits until the broker has them.

    Args:
        producer: started already; see ``connectors/kafka.py``.
        city: whose topics, licence and attribution.
        prefix: of topic names.
        failed: called at once, from the event loop, when the broker did not take something. What was sent later may have arrived all the same, so the caller must end
            the process before it writes anything more: a partial that claims a time must not follow one that was lost.
        turns: shared by all writers of a producer.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        city: City,
        prefix: str = "",
        failed: Callable[[BaseException], None] | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.producer, self.city, self.prefix, self.failed = producer, city, prefix, failed
        self.taken = 0  #: batches and messages that the broker has, so far
        self._turns = turns or Turns()
        self._given = 0  #: batches and messages that came here, so far
        self._sent: set[asyncio.Future[Any]] = set()  #: on their way
        self._error: BaseException | None = None
        self._batchers: dict[str, Batcher] = {}

    def topic(self, product: str) -> str:
        """Topic of a product, of ``dead-letter``, ``late`` or ``evidence``."""
        if product == "dead-letter":
            return dead_letter_topic(self.city.name, self.prefix)
        if product == "late":
            return late_topic(self.city.name, self.prefix)
        if product == "evidence":
            return evidence_topic(self.city.name, self.prefix)
        return open_topic(self.city.name, product, self.prefix)

    def constant(self, product: str) -> list[tuple[str, bytes]]:
        """CloudEvents 1.0 attributes that all records of a product share (Kafka binary mode)."""
        major = PRODUCTS[product].major if product in PRODUCTS else 1
        return [
            ("ce_specversion", b"1.0"),
            ("ce_source", f"/{self.city.name}/{'fuse' if product in ('segment-state', 'feed-health', 'evidence') else 'observe'}".encode()),
            ("ce_type", f"tilannekuva.{product}.v{major}".encode()),
            ("ce_dataschema", SCHEMA_URL.format(product=product, major=major).encode()),
            ("content-type", b"application/msgpack" if product == "evidence" else b"application/json"),
            ("ce_license", self.city.licence.encode()),
            ("ce_attribution", "; ".join(self.city.attribution).encode()),
        ]

    def _batcher(self, product: str) -> Batcher:
        found = self._batchers.get(product)
        if found is None:
            found = self._batchers[product] = Batcher(self.constant(product))
        return found

    async def write(self, outputs: Outputs) -> None:
        """Hand everything to the producer. Blocks while its buffer is full: back-pressure, not memory."""
        for product, outs in outputs.records.items():
            partitions = PRODUCTS[product].partitions if product in PRODUCTS else 1
            for part in parts(outs):
                if partitions == 1:
                    await self._batches(product, part, 0)
                    continue
                shards: dict[int, list[Out]] = {}
                for o in part:
                    shards.setdefault((murmur2(o.key) & 0x7FFFFFFF) % partitions, []).append(o)
                for partition in sorted(shards):
                    await self._batches(product, shards[partition], partition)

    async def _batches(self, product: str, outs: Sequence[Out], partition: int) -> None:
        topic, batcher = self.topic(product), self._batcher(product)
        for batch in batcher.batches(outs):
            await self._give(topic, partition, partial(self.producer.send_batch, batch, topic, partition=partition))

    async def _give(self, topic: str, partition: int, hand_over: Callable[[], Awaitable[asyncio.Future[Any]]]) -> None:
        self._given += 1
        sent = await self._turns.take(topic, partition, hand_over)
        self._sent.add(sent)
        sent.add_done_callback(self._done)

    def _done(self, sent: asyncio.Future[Any]) -> None:
        self._sent.discard(sent)
        self.taken += 1
        error: BaseException | None = RuntimeError("the producer was stopped") if sent.cancelled() else sent.exception()
        if error is not None:
            self._error = self._error or error
            if self.failed is not None:
                self.failed(error)

    async def send(
        self, topic: str, partition: int, key: bytes, value: bytes | None, timestamp_ms: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """One message on an internal topic."""
        send, rest = self.producer.send, {"key": key, "partition": partition, "timestamp_ms": timestamp_ms, "headers": list(headers)}
        await self._give(topic, partition, partial(send, topic, value, **rest))

    @property
    def waiting(self) -> bool:
        """Whether something was given here that the broker does not have yet."""
        return self._given > self.taken

    async def settle(self) -> None:
        """Until the broker has everything that was handed over here before this call.

        Raises:
            Exception: what went wrong with any record since the start; nothing may be acked any more.
        """
        if self._sent:
            await asyncio.wait(list(self._sent))
        if self._error is not None:
            raise self._error
