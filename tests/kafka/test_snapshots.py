"""Snapshots on the real state topic, and the way on which a worker reads them: whatever is broken on it, the state that is restored is whole, and the newest that is."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from connectors import recordings
from connectors.envelope import encode
from connectors.kafka import make_producer
from models.topics import state_topic
from streams import snapshots
from streams.admin import ensure_topics
from streams.driver import Logged, ObserveStep, PartitionDriver
from streams.ground import Ground
from streams.observe import Observer
from streams.recovery import recover
from streams.snapshots import Snapshot, SnapshotStore, pack, state_partition
from streams.writer import Writer
from tests.streams import world
from tests.streams.test_driver import Kept, Sink

pytestmark = pytest.mark.kafka
TP = ("hfp", 0)


async def test_what_is_torn_cut_flipped_older_or_a_zombies_is_passed_over_and_the_newest_whole_state_is_restored(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    city = world.city(tmp_path, partitions=1)
    path = world.write_recording(world.recording(vehicles=3, seconds=120), tmp_path / "recording")
    raw = [encode(e) for _, _, e in recordings.envelopes(recordings.read(path, city), city, ["hfp"], max_wait_ms=4_000)]
    ground, prefix = Ground(world.network()), f"s{uuid.uuid4().hex[:8]}."

    def make() -> ObserveStep:
        return ObserveStep(Observer(city, "hfp", 0, ground))

    step, owner, states = make(), "observe/hfp/0", list[bytes]()
    for offset, value in enumerate(raw[:20]):
        step.feed([Logged(value, offset, 0)])
        step.flush()
        states.append(step.export())
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", len(states[15]) // 3)
    await ensure_topics(kafka, city, prefix)
    store, producer = SnapshotStore(kafka, state_topic(city.name, prefix)), make_producer(kafka, "test")
    await producer.start()
    try:
        writer = Writer(producer, city, prefix)

        async def put(messages: list[tuple[bytes, bytes]]) -> None:
            for key, value in messages:
                await writer.send(store.topic, state_partition(owner), key, value, 0)
            await writer.settle()

        async def restored() -> int:
            """Offset of the state that a new worker goes on from; its bytes are those of the step that was there."""
            driver = PartitionDriver(make, Sink(), lambda: 0.0)
            await recover(driver, TP, store, Kept([], raw))
            if driver.step.offset >= 0:
                driver.step.flush()
                assert driver.step.export() == states[driver.step.offset]
            return driver.step.offset

        assert await restored() == -1
        await store.write(writer, Snapshot(owner, 10, states[10], 0), 0)
        await writer.settle()
        assert await restored() == 10
        newer = pack(Snapshot(owner, 15, states[15], 1))
        assert len(newer) > 2
        for arrived in range(len(newer)):
            await put(newer[:arrived])
            assert await restored() == 10
        for place in (0, 1, 20, len(newer[1][1]) // 2, len(newer[1][1]) - 1):
            flipped = bytearray(newer[1][1])
            flipped[place] ^= 4
            await put([*newer[:1], (newer[1][0], bytes(flipped)), *newer[2:]])
            assert await restored() == 10
            await put([(newer[1][0], newer[1][1][:place])])
            assert await restored() == 10
        # each byte of a small one flipped, and cut off there, each as a message of its own behind the good one: more than are looked at in one go
        monkeypatch.setattr(snapshots, "CHUNK_BYTES", 900_000)
        ((_, small),) = pack(Snapshot(owner, 18, b"a state that would not be restored", 2))
        broken = [bytes([*small[:k], small[k] ^ 1 << k % 8, *small[k + 1 :]]) for k in range(len(small))] + [
            small[:k] for k in range(len(small))
        ]
        await put([(f"{owner}/{k}/0".encode(), value) for k, value in enumerate(broken, 100)])
        assert await restored() == 10
        # sound in every bit, but of a form that is not ours: the envelope's schema, and the state within it
        monkeypatch.setattr(snapshots, "SCHEMA", snapshots.SCHEMA - 1)
        await put(pack(Snapshot(owner, 19, states[19], 3)))
        monkeypatch.undo()
        assert await restored() == 10
        await put(pack(Snapshot(owner, 18, b"a state that cannot be restored", 2)))
        assert await restored() == 10
        # a zombie that took up at 10 and writes what it had in hand, after another has gone further
        await put(newer)
        await store.write(writer, Snapshot(owner, 17, states[17], 2), 0)
        await writer.settle()
        assert await restored() == 17
        for offset in (11, 12, 13):
            await store.write(writer, Snapshot(owner, offset, states[offset], offset), 0)
            await writer.settle()
            assert await restored() >= 15
        # ahead of the log: of a topic that was made anew
        await store.write(writer, Snapshot(owner, len(raw) + 5, states[19], 3), 0)
        await writer.settle()
        assert await restored() < len(raw)
    finally:
        await producer.stop()
