"""Record batches that were built whole, read by aiokafka's own reader."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from models.clock import rfc3339
from streams.batches import Batch, Batcher, varint, varints
from streams.outputs import Block, Out

CONSTANT = [("ce_specversion", b"1.0"), ("ce_attribution", "© Väylävirasto".encode()), ("empty", b"")]
TIMES = st.integers(0, 4_102_444_800_000)  # to 2100
OUTS = st.lists(
    st.builds(Out, st.binary(max_size=40), st.binary(max_size=400), TIMES, st.text(st.characters(codec="utf-8"), max_size=40)),
    min_size=1,
    max_size=60,
)


def block(outs: list[Out]) -> Block:
    """The same records as columns; not from the beginning of their buffers, as a slice of others has it."""
    keys, values, times_ms, ids = zip(Out(b"before", b"this", 0, "one"), *outs, strict=True)
    return Block(pa.array(keys, pa.binary()), pa.array(values, pa.binary()), np.array(times_ms, np.int64), pa.array(ids, pa.string()))[1:]


def read(batch: Batch) -> tuple[DefaultRecordBatch, list[tuple[int, int, bytes, bytes, list[tuple[str, bytes]]]]]:
    """The only batch in the bytes, and its records."""
    records = MemoryRecords(bytes(batch._build()))
    assert records.has_next()
    found = records.next_batch()
    assert not records.has_next()
    assert found.validate_crc()
    return found, [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in found]


@given(OUTS, st.integers(1, 4000))
def test_what_was_written_is_read_in_order_with_its_headers(outs: list[Out], batch_bytes: int) -> None:
    """Also when keys and values are empty, times go back, and one record is larger than a batch."""
    found = []
    for batch in Batcher(CONSTANT, batch_bytes).batches(outs):
        _, rows = read(batch)
        assert [r[0] for r in rows] == list(range(batch.record_count()))
        found += [r[1:] for r in rows]
    wanted = [
        (o.time_ms, o.key, o.value or None, [*CONSTANT, ("ce_id", o.ce_id.encode()), ("ce_time", rfc3339(o.time_ms).encode())])
        for o in outs
    ]
    assert found == wanted


@given(OUTS, st.integers(1, 4000))
def test_columns_give_the_same_bytes_as_single_records(outs: list[Out], batch_bytes: int) -> None:
    (one,), (other,) = (list(Batcher(CONSTANT).batches(o)) for o in (outs, block(outs)))
    assert bytes(one._build()) == bytes(other._build())
    cut, rows = list(Batcher(CONSTANT, batch_bytes).batches(block(outs))), read(one)[1]
    assert [r[1:] for b in cut for r in read(b)[1]] == [r[1:] for r in rows]
    assert all(b.record_count() == 1 or len(b._build()) <= batch_bytes + 61 for b in cut)


def test_a_block_is_a_sequence_of_its_records() -> None:
    outs = [Out(b"a", b"1", 1, "x"), Out(b"b", b"", 2, "y"), Out("ä".encode(), b"3", 3, "z")]
    b = block(outs)
    assert [*b] == outs == b and len(b) == 3 and b[-1] == b[2] == outs[2]  # noqa: PT018
    assert b[1:] == outs[1:]
    assert b.take(np.array([2, 0])) == [outs[2], outs[0]]
    assert b != outs[1:]


@given(OUTS)
def test_a_batch_says_what_aiokafkas_own_builder_says_of_the_same_records(outs: list[Out]) -> None:
    (batch,) = Batcher(CONSTANT).batches(outs)
    batch._set_producer_state(7, 3, 41)
    theirs = BatchBuilder(1 << 20, 4)
    for o in outs:
        headers = [*CONSTANT, ("ce_id", o.ce_id.encode()), ("ce_time", rfc3339(o.time_ms).encode())]
        assert theirs.append(key=o.key, value=o.value or None, timestamp=o.time_ms, headers=headers) is not None
    theirs._set_producer_state(7, 3, 41)
    other = DefaultRecordBatch(bytes(theirs._build()))
    found, rows = read(batch)
    for name in (
        "base_offset",
        "magic",
        "last_offset_delta",
        "first_timestamp",
        "max_timestamp",
        "producer_id",
        "producer_epoch",
        "base_sequence",
        "is_transactional",
    ):
        assert getattr(found, name) == getattr(other, name), name
    assert rows == [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in other]
    assert batch.record_count() == theirs.record_count()


def test_a_batch_is_cut_at_its_size_and_what_does_not_pack_is_sent_as_it_is() -> None:
    outs = [Out(b"k", b"v" * 1000, 1_000 + k, str(k)) for k in range(100)]
    batches = list(Batcher(CONSTANT, 10_000).batches(outs))
    assert [b.record_count() for b in batches] == [8] * 12 + [4]
    assert all(b.size() == len(b._build()) < 1_000 for b in batches)
    loose = Batch(bytes(range(16)), 1, 0, 0)
    assert bytes(loose._build()).endswith(bytes(range(16)))
    assert not list(Batcher(CONSTANT).batches([]))


def test_a_retry_sends_the_same_bytes() -> None:
    (batch,) = Batcher(CONSTANT).batches([Out(b"k", b"v", 5, "i")])
    batch._set_producer_state(1, 0, 9)
    assert batch._build() is batch._build()


async def test_aiokafkas_accumulator_takes_it_for_one_of_its_own() -> None:
    """All that its ``MessageBatch`` does with a builder: a later release that asks for more fails here, not at three in the morning."""
    (batch,) = Batcher(CONSTANT).batches([Out(b"k", b"v", 5, "i"), Out(b"k", b"w", 6, "j")])
    held = MessageBatch(TopicPartition("t", 0), batch, 30, 20)
    assert held.record_count == 2
    assert not held.is_empty()
    assert held.remaining_linger() is None  # it is full: it goes at once
    assert held.append(b"k", b"v", 1) is None
    held.set_producer_state(5, 1, 2)
    held.drain_ready()
    assert DefaultRecordBatch(bytes(held.get_data_buffer())).base_sequence == 2
    held.done(base_offset=17)
    assert (await asyncio.wait_for(held.future, 1)).offset == 17
    missing = {n for n in vars(BatchBuilder) if not n.startswith("__")} - set(dir(Batch)) - {"_serialize"}
    assert not missing


@pytest.mark.parametrize("n", [0, 1, -1, 63, 64, -64, -65, 8191, 1 << 31, -(1 << 40), (1 << 63) - 1, -(1 << 63)])
def test_varints_are_those_of_aiokafka(n: int) -> None:
    from aiokafka.record.util import encode_varint_py

    out = bytearray()
    encode_varint_py(n, out.append)
    assert varint(n) == bytes(out)
    column, sizes = varints(np.array([5, n, -300]))
    assert column.to_pylist() == [varint(5), bytes(out), varint(-300)]
    assert sizes.tolist() == [1, len(out), 2]
