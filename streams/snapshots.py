"""Snapshots of state and offset on a compacted topic: checked, chunked below the message limit, two kept of each owner.

A snapshot is right for its offset whoever wrote it, since state is a function of the ordered log. So the whole snapshot with the highest offset wins; a late
one of a worker that has lost its partition has a lower offset, and can only make its reader read a little more of the log again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.topics import STATE_PARTITIONS
from streams.writer import Writer

SCHEMA = 1
CHUNK_BYTES = 900_000


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """Goes before each chunk."""

    schema: int
    owner: str
    offset: int
    size: int  #: of the whole state, bytes
    crc: int  #: of the whole state
    chunks: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of one owner after the message with ``offset``."""

    owner: str
    offset: int
    state: bytes


def state_partition(owner: str) -> int:
    """
    >>> 0 <= state_partition("observe/hfp/0") < STATE_PARTITIONS
    True
    """
    return zlib.crc32(owner.encode()) % STATE_PARTITIONS


def pack(snapshot: Snapshot) -> list[bytes]:
    """Messages that make up a snapshot: header length, header, its CRC-32, body."""
    parts = [snapshot.state[i : i + CHUNK_BYTES] for i in range(0, len(snapshot.state), CHUNK_BYTES)] or [b""]
    crc = zlib.crc32(snapshot.state)
    out = []
    for k, body in enumerate(parts):
        head = msgspec.msgpack.encode(_Header(SCHEMA, snapshot.owner, snapshot.offset, len(snapshot.state), crc, len(parts), k))
        out.append(len(head).to_bytes(2, "big") + head + zlib.crc32(head).to_bytes(4, "big") + body)
    return out


def unpack(messages: list[bytes], owner: str) -> list[Snapshot]:
    """The whole and sound snapshots of an owner among messages of a state partition, highest offset first. What is torn, flipped or of another schema is left out."""
    found: dict[tuple[int, int, int, int], dict[int, bytes]] = {}
    for m in messages:
        size = int.from_bytes(m[:2], "big")
        head, check, body = m[2 : 2 + size], m[2 + size : 6 + size], m[6 + size :]
        if len(check) < 4 or zlib.crc32(head) != int.from_bytes(check, "big"):
            continue
        try:
            h = msgspec.msgpack.decode(head, type=_Header)
        except msgspec.MsgspecError:
            continue
        if h.schema == SCHEMA and h.owner == owner:
            found.setdefault((h.offset, h.crc, h.size, h.chunks), {})[h.chunk] = body
    out = []
    for (offset, crc, size, chunks), bodies in sorted(found.items(), reverse=True):
        if sorted(bodies) != list(range(chunks)):
            continue
        state = b"".join(bodies[k] for k in range(chunks))
        if len(state) == size and zlib.crc32(state) == crc:
            out.append(Snapshot(owner, offset, state))
    return out


class SnapshotStore:
    """Snapshots of one city's workers on its state topic."""

    def __init__(self, bootstrap: str, topic: str, security: dict[str, Any] | None = None) -> None:
        self.bootstrap, self.topic, self.security = bootstrap, topic, security or {}
        self._turn: dict[str, int] = {}

    async def write(self, writer: Writer, snapshot: Snapshot, log_ms: int) -> None:
        """Hand a snapshot to the producer; durable after ``writer.settle``. It goes over the older of the owner's two."""
        turn = self._turn[snapshot.owner] = 1 - self._turn.get(snapshot.owner, 1)
        for k, message in enumerate(pack(snapshot)):
            await writer.send(self.topic, state_partition(snapshot.owner), f"{snapshot.owner}/{turn}/{k}".encode(), message, log_ms)

    async def read(self, owner: str) -> list[Snapshot]:
        """Sound snapshots of an owner, highest offset first."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=4 * CHUNK_BYTES, **self.security
        )
        await consumer.start()
        try:
            tp = TopicPartition(self.topic, state_partition(owner))
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            await consumer.seek_to_beginning(tp)
            latest: dict[bytes, bytes] = {}
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(tp, timeout_ms=1000)).values():
                    for r in records:
                        if r.key is not None and r.value is not None:
                            latest[r.key] = r.value
            return unpack(list(latest.values()), owner)
        finally:
            await consumer.stop()
