"""Snapshots of state and offset on a compacted topic: checked, chunked below the message limit, the last few kept of each owner.

A snapshot is right for its offset whoever wrote it, since state is a function of the ordered log. So the sound snapshot with the highest offset wins; a late
one of a worker that has lost its partition has a lower offset, and can only make its reader read a little more of the log again. It can spoil at most the slots that it
writes over, and there are more slots than a worker writes snapshots before it learns that it has lost a partition.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka import make_consumer
from models.topics import STATE_PARTITIONS
from streams.writer import Writer

SCHEMA = 2
CHUNK_BYTES = 900_000
#: Snapshots kept of an owner: key of a chunk = owner/slot/chunk.
SLOTS = 4
#: How many of the newest messages of a state partition are looked at first.
TAIL = 64


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """Goes before each chunk."""

    schema: int
    owner: str
    offset: int
    sequence: int
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
    sequence: int = 0  #: how many snapshots its writers know to have come before it; names the slot


def state_partition(owner: str) -> int:
    """
    >>> 0 <= state_partition("observe/hfp/0") < STATE_PARTITIONS
    True
    """
    return zlib.crc32(owner.encode()) % STATE_PARTITIONS


def pack(snapshot: Snapshot) -> list[tuple[bytes, bytes]]:
    """Keys and values of the messages that make up a snapshot. A value: length of the header, header, its CRC-32, body."""
    parts = [snapshot.state[i : i + CHUNK_BYTES] for i in range(0, len(snapshot.state), CHUNK_BYTES)] or [b""]
    crc, slot = zlib.crc32(snapshot.state), snapshot.sequence % SLOTS
    out = []
    for k, body in enumerate(parts):
        head = msgspec.msgpack.encode(
            _Header(SCHEMA, snapshot.owner, snapshot.offset, snapshot.sequence, len(snapshot.state), crc, len(parts), k)
        )
        value = len(head).to_bytes(2, "big") + head + zlib.crc32(head).to_bytes(4, "big") + body
        out.append((f"{snapshot.owner}/{slot}/{k}".encode(), value))
    return out


def unpack(messages: list[bytes], owner: str) -> list[Snapshot]:
    """The whole and sound snapshots of an owner among messages of a state partition, highest offset first. What is torn, flipped or of another schema is left out."""
    found: dict[tuple[int, int, int, int, int], dict[int, bytes]] = {}
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
            found.setdefault((h.offset, h.sequence, h.crc, h.size, h.chunks), {})[h.chunk] = body
    out = []
    for (offset, sequence, crc, size, chunks), bodies in sorted(found.items(), reverse=True):
        if sorted(bodies) != list(range(chunks)):
            continue
        state = b"".join(bodies[k] for k in range(chunks))
        if len(state) == size and zlib.crc32(state) == crc:
            out.append(Snapshot(owner, offset, state, sequence))
    return out


class SnapshotStore:
    """Snapshots of one city's workers on its state topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap, self.topic = bootstrap, topic

    async def write(self, writer: Writer, snapshot: Snapshot, log_ms: int) -> None:
        """Hand a snapshot to the producer; durable after ``writer.settle``."""
        for key, value in pack(snapshot):
            await writer.send(self.topic, state_partition(snapshot.owner), key, value, log_ms)

    async def read(self, owner: str, *, whole: bool = False) -> list[Snapshot]:
        """Sound snapshots of an owner, highest offset first. Reads the newest messages of the partition, and more of them until it finds one; ``whole``: all of them."""
        consumer = make_consumer(bootstrap=self.bootstrap, max_partition_fetch_bytes=8 * CHUNK_BYTES)
        await consumer.start()
        try:
            tp = TopicPartition(self.topic, state_partition(owner))
            consumer.assign([tp])
            begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
            upto, look, latest = end, end - begin if whole else TAIL, dict[bytes, bytes]()
            while upto > begin:
                start = max(begin, end - look)
                older = await _between(consumer, tp, start, upto)
                latest = older | latest
                if found := unpack([v for v in latest.values() if v], owner):
                    return found
                upto, look = start, look * 8
            return []
        finally:
            await consumer.stop()


async def _between(consumer: AIOKafkaConsumer, tp: TopicPartition, start: int, end: int) -> dict[bytes, bytes]:
    """Newest value of each key among the messages [start, end) that compaction has left. A deleted key has b""."""
    consumer.seek(tp, start)
    latest: dict[bytes, bytes] = {}
    while await consumer.position(tp) < end:
        for records in (await consumer.getmany(tp, timeout_ms=1000)).values():
            for r in records:
                if r.offset < end and r.key is not None:
                    latest[r.key] = r.value or b""
    return latest
