"""Envelopes: how bytes travel from a connector to the agents, many events in one Kafka message.

One envelope is one source and one raw partition: at most ``MAX_ITEMS`` events, ``MAX_BYTES`` or ``MAX_WAIT_MS``; a polled snapshot is one envelope
by nature. ``ingest_ms`` is written into the log and is the only "now" that the core knows. A tick is an envelope without items: time passes in a silent feed too,
and it carries what the connector knows of its source (``Source``).

On the wire: msgpack of the struct as an array, then its CRC-32 (4 bytes, big endian). Kafka headers repeat schema, count and times, so that tools need not decode.
"""

from __future__ import annotations

import zlib
from typing import Literal

import msgspec

SCHEMA = 1
MAX_ITEMS = 200
MAX_BYTES = 128 * 1024
MAX_WAIT_MS = 250
TICK_MS = 5_000


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message as received."""

    ingest_ms: int
    topic: str  #: MQTT topic; for HTTP the address without its query; for a recording the file's name
    body: bytes


class Source(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a connector knows about its source when it writes a tick."""

    connected: bool = True
    http_status: int | None = None
    detail: str | None = None
    dropped: int = 0  #: messages dropped by the connector's own limits since it started


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A few events of one feed, or a tick, in order of receipt."""

    schema: int
    city: str
    feed: str
    family: str  #: connector family that parses the items: hfp, gtfs_realtime, digitraffic
    kind: Literal["messages", "snapshot", "tick"]
    ingest_ms: int  #: of the last item; of a tick: when it was written. Never falls within a raw partition
    items: tuple[Item, ...] = ()
    source: Source | None = None
    simulated: bool = False


class BadEnvelope(ValueError):
    """Bytes that are not an envelope of ours: wrong checksum, schema or shape."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    body = _encoder.encode(envelope)
    return body + zlib.crc32(body).to_bytes(4, "big")


def decode(data: bytes | None) -> Envelope:
    """
    Raises:
        BadEnvelope: empty, torn, bit-flipped, another schema, or not ours at all.

    >>> e = Envelope(SCHEMA, "helsinki", "hfp", "hfp", "messages", 5, (Item(5, "/hfp/v2", b"{}"),))
    >>> decode(encode(e)) == e
    True
    """
    if not data or len(data) < 5:
        raise BadEnvelope("empty or cut")
    view = memoryview(data)
    if zlib.crc32(view[:-4]) != int.from_bytes(view[-4:], "big"):
        raise BadEnvelope("checksum differs")
    try:
        envelope = _decoder.decode(view[:-4])
    except msgspec.MsgspecError as e:
        raise BadEnvelope(str(e)) from e
    if envelope.schema != SCHEMA:
        raise BadEnvelope(f"schema {envelope.schema}, expected {SCHEMA}")
    return envelope


def headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """Kafka headers of a raw message."""
    first = envelope.items[0].ingest_ms if envelope.items else envelope.ingest_ms
    return [
        ("schema", str(envelope.schema).encode()),
        ("kind", envelope.kind.encode()),
        ("count", str(len(envelope.items)).encode()),
        ("first_ingest_ms", str(first).encode()),
        ("last_ingest_ms", str(envelope.ingest_ms).encode()),
    ]
