"""Records and snapshots onto Kafka: batches built whole, idempotent producer, nothing counted as written before the broker said so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from connectors.cities import City
from models.topics import PRODUCTS, dead_letter_topic, evidence_topic, late_topic, open_topic
from streams.batches import Batcher
from streams.outputs import Out, Outputs, parts

SCHEMA_URL = "https://tilannekuva.example/schemas/{product}.v{major}.json"


class Writer:
    """Writes the outputs of one city; ``settle`` waits until the broker has them.

    Args:
        producer: started already; see ``connectors/kafka.py``.
        city: whose topics, licence and attribution.
        prefix: of topic names.
        failed: called at once, from the event loop, when the broker did not take something. What was sent later may have arrived all the same, so the caller must end
            the process before it writes anything more: a partial that claims a time must not follow one that was lost.
    """

    def __init__(
        self, producer: AIOKafkaProducer, city: City, prefix: str = "", failed: Callable[[BaseException], None] | None = None
    ) -> None:
        self.producer, self.city, self.prefix, self.failed = producer, city, prefix, failed
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
            self._keep(await self.producer.send_batch(batch, topic, partition=partition))

    def _keep(self, sent: asyncio.Future[Any]) -> None:
        self._sent.add(sent)
        sent.add_done_callback(self._done)

    def _done(self, sent: asyncio.Future[Any]) -> None:
        self._sent.discard(sent)
        error: BaseException | None = RuntimeError("the producer was stopped") if sent.cancelled() else sent.exception()
        if error is not None:
            self._error = self._error or error
            if self.failed is not None:
                self.failed(error)

    async def send(
        self, topic: str, partition: int, key: bytes, value: bytes | None, timestamp_ms: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """One message on an internal topic."""
        self._keep(await self.producer.send(topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)))

    async def settle(self) -> None:
        """Until the broker has everything that was handed over before this call, by whomever.

        Raises:
            Exception: what went wrong with any record since the start; nothing may be acked any more.
        """
        if self._sent:
            waiting = list(self._sent)
            await self.producer.flush()
            await asyncio.wait(waiting)
        if self._error is not None:
            raise self._error
