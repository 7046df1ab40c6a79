"""Records and snapshots onto Kafka: batches by hand, idempotent producer, nothing counted as written before the broker said so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from connectors.cities import City
from models.clock import rfc3339_column
from models.topics import MAX_MESSAGE_BYTES, PRODUCTS, dead_letter_topic, late_topic, open_topic
from streams.outputs import Out, Outputs

#: A batch is closed at this size, bytes before compression.
BATCH_BYTES = 256 * 1024
SCHEMA_URL = "https://tilannekuva.example/schemas/{product}.v{major}.json"


def make_producer(bootstrap: str, client_id: str, security: dict[str, Any] | None = None) -> AIOKafkaProducer:
    """Idempotent, acks from all in-sync replicas, zstd where ``cramjam`` is installed (it is: a dependency)."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        compression_type="zstd",
        linger_ms=20,
        max_batch_size=BATCH_BYTES,
        max_request_size=MAX_MESSAGE_BYTES,
        request_timeout_ms=30_000,
        **(security or {}),
    )


class Writer:
    """Writes the outputs of one city. Every send gives a future; ``settle`` waits for all of them and raises what went wrong."""

    def __init__(self, producer: AIOKafkaProducer, city: City, prefix: str = "") -> None:
        self.producer, self.city, self.prefix = producer, city, prefix
        self._sent: list[asyncio.Future[Any]] = []
        self._headers: dict[str, list[tuple[str, bytes]]] = {}

    def topic(self, product: str) -> str:
        """Topic of a product, of ``dead-letter`` or of ``late``."""
        if product == "dead-letter":
            return dead_letter_topic(self.city.name, self.prefix)
        if product == "late":
            return late_topic(self.city.name, self.prefix)
        return open_topic(self.city.name, product, self.prefix)

    def _constant(self, product: str) -> list[tuple[str, bytes]]:
        """CloudEvents 1.0 attributes that all records of a product share (Kafka binary mode)."""
        found = self._headers.get(product)
        if found is None:
            major = PRODUCTS[product].major if product in PRODUCTS else 1
            found = self._headers[product] = [
                ("ce_specversion", b"1.0"),
                ("ce_source", f"/{self.city.name}/{'fuse' if product in ('segment-state', 'feed-health') else 'observe'}".encode()),
                ("ce_type", f"tilannekuva.{product}.v{major}".encode()),
                ("ce_dataschema", SCHEMA_URL.format(product=product, major=major).encode()),
                ("content-type", b"application/json"),
                ("ce_license", self.city.licence.encode()),
                ("ce_attribution", "; ".join(self.city.attribution).encode()),
            ]
        return found

    async def write(self, outputs: Outputs) -> None:
        """Hand everything to the producer. Blocks while its buffer is full: back-pressure, not memory."""
        for product, outs in outputs.records.items():
            partitions = PRODUCTS[product].partitions if product in PRODUCTS else 1
            if partitions == 1:
                await self._batches(product, outs, 0)
            else:
                shards: dict[int, list[Out]] = {}
                for o in outs:
                    shards.setdefault((murmur2(o.key) & 0x7FFFFFFF) % partitions, []).append(o)
                for partition in sorted(shards):
                    await self._batches(product, shards[partition], partition)

    async def _batches(self, product: str, outs: Sequence[Out], partition: int) -> None:
        topic, constant = self.topic(product), self._constant(product)
        times = rfc3339_column(np.array([o.time_ms for o in outs], np.int64))
        batch = self.producer.create_batch()
        for o, text in zip(outs, times, strict=True):
            headers = [*constant, ("ce_id", o.ce_id.encode()), ("ce_time", text.encode())]
            if batch.append(key=o.key, value=o.value, timestamp=o.time_ms, headers=headers) is None:
                await self._send(batch, topic, partition)
                batch = self.producer.create_batch()
                batch.append(key=o.key, value=o.value, timestamp=o.time_ms, headers=headers)
        await self._send(batch, topic, partition)

    async def _send(self, batch: Any, topic: str, partition: int) -> None:
        if batch.record_count():
            self._sent.append(await self.producer.send_batch(batch, topic, partition=partition))

    async def send(
        self, topic: str, partition: int, key: bytes, value: bytes, timestamp_ms: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """One message on an internal topic."""
        self._sent.append(
            await self.producer.send(topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers))
        )

    async def settle(self) -> None:
        """Until the broker has everything that was handed over before this call."""
        sent, self._sent = self._sent, []
        if sent:
            await self.producer.flush()
            for done in await asyncio.gather(*sent, return_exceptions=True):
                if isinstance(done, BaseException):
                    raise done
