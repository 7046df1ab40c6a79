"""Record batches of the open topics, built whole: Kafka's message format v2, https://kafka.apache.org/documentation/#recordbatch.

aiokafka's builder is fed one record at a time and encodes every header of each: names, licence and attribution too, the same nine times a record. Here what the
records of a topic share is encoded once, and the records of a ``Block`` are joined by columns, each part of all of them at once; single records are one join of bytes
each. zstd is at level 1, which packs such records as well as level 3 does. ``tests/streams/test_batches.py`` reads them with aiokafka's own reader; the broker checks them too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import repeat

import cramjam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.record.util import calc_crc32c

from connectors.columns import I64
from models.clock import rfc3339, rfc3339_column
from streams.outputs import Block, Out
from streams.texts import instants

#: A batch is closed when its records take so much, bytes before they are packed.
BATCH_BYTES = 768 * 1024
MOST_RECORDS = 8192
FEW = 64  #: So few records are framed one by one: joining columns costs some hundred microseconds, however short they are.
ZSTD, ZSTD_LEVEL = 4, 1
#: Base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and last time, producer id and epoch, base sequence, number of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_TIME_BYTES = len("1970-01-01T00:00:00.000Z")
_NOTHING = pa.scalar(b"")
_LENGTH_FROM, _CHECKSUM_AT, _CHECKED_FROM = 12, 17, 21


def varint(n: int) -> bytes:
    """Zigzag and base 128, as Protocol Buffers' ``sint64``.

    >>> varint(0), varint(-1), varint(150)
    (b'\\x00', b'\\x01', b'\\xac\\x02')
    """
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def varints(values: I64) -> tuple[pa.Array, I64]:
    """The same of n numbers, as Arrow's binary, and how many bytes each takes.

    >>> [bytes(v) for v in varints(np.array([0, -1, 150]))[0].to_pylist()]
    [b'\\x00', b'\\x01', b'\\xac\\x02']
    """
    z = ((values << 1) ^ (values >> 63)).view(np.uint64)
    size, longest = np.ones(len(z), np.int64), 1
    most = int(z.max()) if len(z) else 0
    while most >> 7 * longest:
        size += z >> np.uint64(7 * longest) > 0
        longest += 1
    ends = np.zeros(len(z) + 1, np.int32)
    np.cumsum(size, out=ends[1:])
    data = np.empty(ends[-1], np.uint8)
    for k in range(longest):
        there = slice(None) if k == 0 else size > k
        septet = (z[there] >> np.uint64(7 * k)).astype(np.uint8) & 0x7F
        data[ends[:-1][there] + k] = septet | (size[there] > k + 1).astype(np.uint8) << 7
    return pa.Array.from_buffers(pa.binary(), len(z), [None, pa.py_buffer(ends), pa.py_buffer(data)]), size


class _Varints(dict[int, bytes]):
    """Those of lengths, of places in a batch and of differences of time, remembered as far as they are small."""

    def __missing__(self, n: int) -> bytes:
        made = varint(n)
        if abs(n) < 1 << 14:
            self[n] = made
        return made


_VARINT = _Varints()


class Batch:
    """A closed batch, as aiokafka's accumulator and sender want it (``aiokafka.producer.message_accumulator.BatchBuilder``)."""

    __slots__ = ("_attributes", "_buffer", "_count", "_first_ms", "_last_ms", "_producer", "_records")

    def __init__(self, records: bytes | memoryview, count: int, first_ms: int, last_ms: int) -> None:
        packed = bytes(cramjam.zstd.compress(records, level=ZSTD_LEVEL))
        self._records, self._attributes = (packed, ZSTD) if len(packed) < len(records) else (bytes(records), 0)
        self._count, self._first_ms, self._last_ms = count, first_ms, last_ms
        self._producer = (-1, -1, 0)
        self._buffer: bytearray | None = None

    def record_count(self) -> int:
        """How many records."""
        return self._count

    def size(self) -> int:
        """Bytes as sent."""
        return _HEADER.size + len(self._records)

    def closed(self) -> bool:
        """Nothing can be added."""
        return True

    def close(self) -> None:
        """It is."""

    def append(self, **_: object) -> None:
        """Full: whoever sends a single message begins another batch."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """What makes the producer idempotent: by its number and sequence the broker knows a batch that it has."""
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        """Bytes as sent; the same again in a retry."""
        if self._buffer is None:
            out = bytearray(_HEADER.size) + self._records
            length, last = len(out) - _LENGTH_FROM, self._count - 1
            _HEADER.pack_into(
                out, 0, 0, length, -1, 2, 0, self._attributes, last, self._first_ms, self._last_ms, *self._producer, self._count
            )
            struct.pack_into(">I", out, _CHECKSUM_AT, calc_crc32c(out[_CHECKED_FROM:]))
            self._buffer, self._records = out, b""
        return self._buffer


class Batcher:
    """Makes batches of the records of one topic, whose headers are ``constant`` and then each record's ``ce_id`` and ``ce_time``."""

    def __init__(self, constant: Sequence[tuple[str, bytes]], batch_bytes: int = BATCH_BYTES) -> None:
        shared = b"".join(_text(name.encode()) + _text(value) for name, value in constant)
        self._head = varint(len(constant) + 2) + shared + _text(b"ce_id")
        self._tail = _text(b"ce_time") + varint(_TIME_BYTES)
        self._limit = batch_bytes

    def batches(self, outs: Sequence[Out]) -> Iterator[Batch]:
        """Records in order, in as few batches as their size allows."""
        frame = len(self._head) + len(self._tail) + 48
        if isinstance(outs, Block) and len(outs) >= FEW:
            yield from self._of_block(outs, frame)
            return
        begin = size = 0
        for end, (key, value, _, ce_id) in enumerate(outs):
            n = len(key) + len(value) + len(ce_id) + frame
            if end > begin and (size + n > self._limit or end - begin == MOST_RECORDS):
                yield self._batch(outs[begin:end])
                begin, size = end, 0
            size += n
        if begin < len(outs):
            yield self._batch(outs[begin:])

    def _batch(self, outs: Sequence[Out]) -> Batch:
        times_ms = [o.time_ms for o in outs]
        first_ms = since_ms = times_ms[0]
        last_ms = max(times_ms)
        one = first_ms == last_ms == min(times_ms)  # as with everything of a window
        texts = repeat(rfc3339(first_ms)) if one else rfc3339_column(np.array(times_ms, np.int64))
        v, head, tail, join = _VARINT, self._head, self._tail, b"".join
        since = v[0]
        records: list[bytes] = []
        for place, ((key, value, time_ms, ce_id), text) in enumerate(zip(outs, texts)):  # noqa: B905
            if time_ms != since_ms:
                since_ms, since = time_ms, v[time_ms - first_ms]
            name = ce_id.encode()
            # an empty value is a tombstone: none at all, told by the length -1
            record = join(
                (b"\0", since, v[place], v[len(key)], key, v[len(value) or -1], value, head, v[len(name)], name, tail, text.encode())
            )
            records += (v[len(record)], record)
        return Batch(join(records), len(outs), first_ms, last_ms)

    def _of_block(self, block: Block, frame: int) -> Iterator[Batch]:
        """The same of columns: all records are joined at once, and then cut."""
        n, t, binary = len(block), block.times_ms, pa.binary()
        keys, values, ids = (c.cast(binary) for c in (block.keys, block.values, block.ids))
        key_bytes, value_bytes, id_bytes = _lengths(keys), _lengths(values), _lengths(ids)
        ends = np.cumsum(key_bytes + value_bytes + id_bytes + frame)
        begins = [0]
        while begins[-1] < n:
            begin = begins[-1]
            full = int(np.searchsorted(ends, self._limit + (int(ends[begin - 1]) if begin else 0), "right"))
            begins.append(min(max(full, begin + 1), begin + MOST_RECORDS, n))
        first = np.repeat(begins[:-1], np.diff(begins))  # of the batch that a record is in
        one = bool((t == t[0]).all())  # as with everything of a window
        numbers, sizes = varints(
            np.concatenate(
                [np.arange(n) - first, key_bytes, np.where(value_bytes, value_bytes, -1), id_bytes, *(() if one else (t - t[first],))]
            )
        )
        place, key_n, value_n, id_n = (numbers[n * k : n * (k + 1)] for k in range(4))
        since, time = (_VARINT[0], rfc3339(int(t[0])).encode()) if one else (numbers[4 * n :], instants(t).cast(binary))
        rest = 1 + one + len(self._head) + len(self._tail) + _TIME_BYTES
        length, _ = varints(sizes.reshape(-1, n).sum(0) + key_bytes + value_bytes + id_bytes + rest)
        parts = (length, b"\0", since, place, key_n, keys, value_n, values, self._head, id_n, ids, self._tail, time)
        joined = pc.binary_join_element_wise(*(pa.scalar(p, binary) if isinstance(p, bytes) else p for p in parts), _NOTHING)
        records, at = memoryview(joined.buffers()[2]), _ends(joined)[begins].tolist()
        for a, b, start, stop in zip(begins, begins[1:], at, at[1:], strict=False):
            yield Batch(records[start:stop], b - a, int(t[a]), int(t[a:b].max()))


def _ends(texts: pa.Array) -> I64:
    """(n + 1,) where each text of an array begins in its buffer, and the last ends."""
    wide = np.dtype(np.int64 if texts.type in (pa.large_string(), pa.large_binary()) else np.int32)
    return np.frombuffer(texts.buffers()[1], wide)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)


def _lengths(texts: pa.Array) -> I64:
    """Bytes of each."""
    return np.diff(_ends(texts))


def _text(value: bytes) -> bytes:
    return varint(len(value)) + value
