"""Snapshots that were torn, cut, flipped, of another schema or of a zombie: a state is whole and its owner's, or it is not used."""

from __future__ import annotations

import random
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import snapshots
from streams.snapshots import SLOTS, Snapshot, pack, state_partition, unpack

STATE = random.Random(5).randbytes(50_000)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 8_192)


def topic(*written: Snapshot) -> dict[bytes, bytes]:
    """The compacted topic after these were written whole."""
    return {key: value for s in written for key, value in pack(s)}


def read(latest: dict[bytes, bytes], owner: str = "fuse/0") -> list[int]:
    """Offsets of the sound snapshots."""
    return [s.offset for s in unpack(list(latest.values()), owner)]


def test_a_snapshot_comes_back_whole_from_its_chunks_in_any_order() -> None:
    chunks = [value for _, value in pack(Snapshot("fuse/0", 41, STATE, 7))]
    assert len(chunks) == 7
    random.Random(1).shuffle(chunks)
    assert unpack(chunks, "fuse/0") == [Snapshot("fuse/0", 41, STATE, 7)]


def test_an_empty_state_is_a_state() -> None:
    assert unpack([v for _, v in pack(Snapshot("a", 3, b""))], "a") == [Snapshot("a", 3, b"")]


def test_the_last_few_are_kept_and_the_highest_offset_comes_first() -> None:
    latest = topic(*(Snapshot("fuse/0", 10 * k, STATE[: 9_000 + k], k) for k in range(10)))
    assert read(latest) == [90, 80, 70, 60]
    assert len(read(latest)) == SLOTS


def test_of_a_torn_snapshot_the_one_before_is_used() -> None:
    before, torn = Snapshot("fuse/0", 10, STATE, 0), pack(Snapshot("fuse/0", 20, STATE[::-1], 1))
    for arrived in range(len(torn)):
        assert read(topic(before) | dict(torn[:arrived])) == [10]
    assert read(topic(before) | dict(torn)) == [20, 10]


def test_one_that_is_written_over_by_halves_is_not_mixed_with_the_other() -> None:
    old, new = Snapshot("fuse/0", 10, STATE, 0), pack(Snapshot("fuse/0", 50, STATE[::-1], SLOTS))
    for arrived in range(1, len(new)):
        assert read(topic(old) | dict(new[:arrived])) == []


@settings(max_examples=200, deadline=None)
@given(chunk=st.integers(0, 6), position=st.integers(0, 8_300), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(chunk: int, position: int, bit: int) -> None:
    values = [bytearray(v) for _, v in pack(Snapshot("fuse/0", 41, STATE, 7))]
    value = values[chunk % len(values)]
    value[position % len(value)] ^= 1 << bit
    assert unpack([bytes(v) for v in values], "fuse/0") == []


@settings(max_examples=100, deadline=None)
@given(chunk=st.integers(0, 6), size=st.integers(0, 8_300))
def test_no_cut_goes_unseen(chunk: int, size: int) -> None:
    values = [v for _, v in pack(Snapshot("fuse/0", 41, STATE, 7))]
    at = chunk % len(values)
    values[at] = values[at][: size % len(values[at])]
    assert unpack(values, "fuse/0") == []


def test_every_bit_of_every_byte_and_every_cut_of_a_small_one_is_seen() -> None:
    ((_, whole),) = pack(Snapshot("fuse/0", 41, b"a small state", 7))
    assert unpack([whole], "fuse/0")
    for at in range(len(whole)):
        for bit in range(8):
            assert unpack([bytes([*whole[:at], whole[at] ^ 1 << bit, *whole[at + 1 :]])], "fuse/0") == [], (at, bit)
        assert unpack([whole[:at]], "fuse/0") == [], at


def test_another_schema_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    good = topic(Snapshot("fuse/0", 10, STATE, 0))
    monkeypatch.setattr(snapshots, "SCHEMA", snapshots.SCHEMA - 1)
    older = topic(Snapshot("fuse/0", 99, STATE, 1))
    monkeypatch.undo()
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 8_192)
    assert read(good | older) == [10]


def test_a_header_of_another_shape_is_left_out() -> None:
    head = msgspec.msgpack.encode([1, "fuse/0", 99])
    strange = len(head).to_bytes(2, "big") + head + zlib.crc32(head).to_bytes(4, "big") + STATE
    assert read(topic(Snapshot("fuse/0", 10, STATE, 0)) | {b"fuse/0/1/0": strange, b"x": b"", b"y": b"\x00"}) == [10]


def test_owners_of_one_partition_do_not_see_each_other() -> None:
    latest = topic(Snapshot("observe/hfp/0", 10, STATE, 0), Snapshot("observe/hfp/1", 20, STATE, 0))
    assert (read(latest, "observe/hfp/0"), read(latest, "observe/hfp/1")) == ([10], [20])


def test_a_zombies_late_snapshot_neither_wins_nor_leaves_nothing() -> None:
    """A worker stops for a while after its 5th snapshot; another goes on; the first wakes up and writes what it had begun, over one slot."""
    latest = topic(*(Snapshot("fuse/0", 10 * k, STATE[:20_000], k) for k in range(6)))
    taken_over = unpack(list(latest.values()), "fuse/0")[0]
    successor = [Snapshot("fuse/0", 50 + 7 * k, STATE[:20_000], taken_over.sequence + k) for k in range(1, 4)]
    zombie = pack(Snapshot("fuse/0", 60, STATE[1:20_001], 6))
    for written in range(1, 4):
        for arrived in range(len(zombie) + 1):
            found = read(latest | topic(*successor[:written]) | dict(zombie[:arrived]))
            best = successor[written - 1].offset
            # the first that the successor writes lies where the zombie writes too
            assert found[0] == best if written > 1 or arrived == 0 else found[0] in (50, 60)


def test_every_owner_has_its_partition() -> None:
    assert {state_partition(f"observe/hfp/{p}") for p in range(64)} <= set(range(16))
