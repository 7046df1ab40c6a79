"""The driver of one partition: order of writing, snapshot and ack; recovery; what is made again is not published again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from connectors import recordings
from connectors.envelope import SCHEMA, Envelope, encode
from streams import partial as wire
from streams.driver import OF_WINDOWS, DriverSettings, FuseStep, ObserveStep, PartitionDriver
from streams.fuse import Fuser, FuseSettings
from streams.ground import Ground, ObserveSettings
from streams.observe import Observer
from streams.offline import end_of_log
from streams.outputs import Outputs
from streams.recovery import close_gap, recover
from streams.snapshots import Snapshot
from tests.streams import world

NETWORK = world.network()
GROUND = Ground(NETWORK, ObserveSettings(lateness_ms=5_000))


@dataclass
class Sink:
    """Remembers, in order."""

    done: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)
    partials: list[bytes] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    fail: str = ""

    def note(self, what: str) -> None:
        if what == self.fail:
            raise ConnectionError(what)
        self.done.append(what)

    async def write(self, outputs: Outputs) -> None:
        self.note("write")
        for outs in outputs.records.values():
            self.ids += [o.ce_id for o in outs]
            self.values |= {o.ce_id: o.value for o in outs}

    async def partial(self, data: bytes, log_ms: int) -> None:
        self.note("partial")
        self.partials.append(data)

    async def snapshot(self, snapshot: Snapshot, log_ms: int) -> None:
        self.note("snapshot")
        self.snapshots.append(snapshot)

    async def settle(self) -> None:
        self.note("settle")


@dataclass
class Message:
    offset: int
    value: bytes | None
    sink: Sink
    timestamp_ms: int = 0

    def ack(self) -> None:
        self.sink.note(f"ack {self.offset}")


@dataclass
class Kept:
    """Snapshots and a log, as recovery sees them."""

    snapshots: list[Snapshot]
    values: Sequence[bytes | None]
    first: int = 0

    async def read(self, owner: str, *, whole: bool = False) -> list[Snapshot]:
        """The newest two, or all."""
        return sorted(self.snapshots, key=lambda s: -s.offset)[: None if whole else 2]

    async def begin(self, tp: tuple[str, int]) -> int:
        return self.first

    async def end(self, tp: tuple[str, int]) -> int:
        return len(self.values)

    async def rebuild_from(self, tp: tuple[str, int], offset: int) -> int:
        return self.first

    async def between(self, tp: tuple[str, int], start: int, end: int) -> AsyncIterator[tuple[int, bytes | None, int]]:
        for offset in range(start, end):
            yield offset, self.values[offset], 0


TP = ("hfp", 0)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """One raw partition."""
    folder = tmp_path_factory.mktemp("town")
    city = world.city(folder, partitions=1)
    path = world.write_recording(world.recording(vehicles=3, seconds=150, every_s=3), folder / "recording")
    found = list(recordings.envelopes(recordings.read(path, city), city, ["hfp"], max_wait_ms=4_000))
    last = end_of_log(found[-1][2].ingest_ms, 5_000)
    return [encode(e) for _, _, e in found] + [encode(Envelope(SCHEMA, city.name, "hfp", "hfp", "tick", last))]


@pytest.fixture
def make(tmp_path: Path):  # type: ignore[no-untyped-def]
    city = world.city(tmp_path, partitions=1)
    return lambda: ObserveStep(Observer(city, "hfp", 0, GROUND))


@pytest.fixture
def fuse(tmp_path: Path):  # type: ignore[no-untyped-def]
    city = world.city(tmp_path, partitions=1)
    city = msgspec.structs.replace(city, feeds=(city.feed("hfp"),))
    return lambda: FuseStep(Fuser(city, NETWORK, FuseSettings(lateness_ms=5_000)))


def driver(make, sink: Sink, **settings: float) -> PartitionDriver:  # type: ignore[no-untyped-def]
    return PartitionDriver(make, sink, lambda: 0.0, DriverSettings(**settings))  # type: ignore[arg-type]


async def feed(d: PartitionDriver, sink: Sink, values: Sequence[bytes | None], start: int = 0) -> None:
    for offset, value in enumerate(values[start:], start):
        await d.feed(Message(offset, value, sink))


def _begins_ms(ce_id: str) -> int:
    """When the window of an id begins; keys may hold colons."""
    return next(int(part) for part in ce_id.split(":") if part.isdigit() and len(part) == 13)


async def test_outputs_are_durable_before_the_snapshot_and_both_before_any_ack(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    d = driver(make, sink)
    await feed(d, sink, raw[:30])
    assert not any(x.startswith("ack") for x in sink.done)
    await d.maybe_snapshot(force=True)
    at = [sink.done.index(x) for x in ("snapshot", "ack 0")]
    assert sink.done[at[0] - 2 : at[0]] == ["partial", "settle"]
    assert sink.done[at[0] + 1 : at[1]] == ["settle"]
    assert sink.done[at[1] :] == [f"ack {k}" for k in range(30)]
    assert (d.durable, sink.snapshots[0].offset) == (29, 29)


@pytest.mark.parametrize("fails", ["write", "partial", "snapshot", "settle"])
async def test_nothing_is_acked_when_a_write_fails(make, raw: list[bytes], fails: str) -> None:  # type: ignore[no-untyped-def]
    sink = Sink(fail=fails)
    d = driver(make, sink)

    async def all_of_it() -> None:
        await feed(d, sink, raw[:30])
        await d.maybe_snapshot(force=True)

    with pytest.raises(ConnectionError):
        await all_of_it()
    assert not any(x.startswith("ack") for x in sink.done)


async def test_a_full_hand_is_made_durable_without_waiting_for_the_ticker(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    await feed(driver(make, sink, max_pending=10), sink, raw[:25])
    assert [s.offset for s in sink.snapshots] == [9, 19]
    assert sum(x.startswith("ack") for x in sink.done) == 20


async def test_while_the_sink_is_slow_fewer_messages_are_taken_in_hand_and_the_same_comes_out(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    calm, sink, clock, hands = Sink(), Sink(), [0.0], list[int]()
    await feed(driver(make, calm), calm, raw)
    message_s = [0.0]
    write = sink.write

    async def slowly(outputs: Outputs) -> None:
        clock[0] += message_s[0] * d.together
        await write(outputs)

    sink.write = slowly  # type: ignore[method-assign]
    d = PartitionDriver(make, sink, lambda: clock[0], DriverSettings(slow_s=2.0))
    for offset, value in enumerate(raw):
        message_s[0] = 0.0 if offset <= 20 or offset > 52 else 0.5 if offset <= 45 else 10.0
        before = d.fed
        await d.feed(Message(offset, value, sink), more=offset + 1 < len(raw))
        if d.fed > before:
            hands.append(d.fed - before)
    # The first is small: nobody knows yet how fast the sink is. 16 took 8 s, so 4 are enough for 2; with 10 s a message there is one at a time.
    # Messages that give nothing cost nothing, so there are twos among the ones.
    assert hands[:8] == [1, 2, 4, 8, 16, 4, 8, 4]
    assert 1 in hands[8:13]
    assert max(hands[8:13]) == 2
    assert 8 in hands[13:]
    assert sink.values == calm.values


async def test_behind_a_slow_broker_outputs_get_more_of_its_time_than_snapshots(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink, clock = Sink(), [0.0]
    snapshot = sink.snapshot

    async def slowly(s: Snapshot, log_ms: int) -> None:
        clock[0] += 7.0
        await snapshot(s, log_ms)

    sink.snapshot = slowly  # type: ignore[method-assign]
    d = PartitionDriver(make, sink, lambda: clock[0], DriverSettings(snapshot_s=3.0, snapshot_s_s=3.0))
    await feed(d, sink, raw[:30])
    await d.maybe_snapshot(force=True)
    assert d.every_s == 21.0


async def test_a_large_state_is_written_less_often(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    d = driver(make, sink, snapshot_s=1.0, snapshot_s_mb=1000.0)
    await feed(d, sink, raw[:30])
    await d.maybe_snapshot(force=True)
    assert d.every_s == pytest.approx(len(sink.snapshots[0].state) / 1000)


async def test_messages_that_the_state_holds_are_acked_and_not_fed_again(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    first = driver(make, sink)
    await feed(first, sink, raw[:30])
    await first.maybe_snapshot(force=True)
    again = Sink()
    second = driver(make, again)
    assert await second.recover(sink.snapshots) == 30
    await feed(second, again, raw[:40], start=20)
    await second.maybe_snapshot(force=True)
    assert [x for x in again.done if x.startswith("ack")] == [f"ack {k}" for k in range(20, 40)]
    assert (second.skipped, second.fed) == (10, 10)


async def test_killed_and_recovered_it_gives_what_an_undisturbed_one_gives(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    calm = Sink()
    await feed(driver(make, calm), calm, raw)
    for cut in range(5, len(raw), 11):
        first, second = Sink(), Sink()
        d = driver(make, first)
        await feed(d, first, raw[: cut - 4])
        await d.maybe_snapshot(force=True)
        await feed(d, first, raw[:cut], start=cut - 4)
        d = driver(make, second)
        await recover(d, TP, Kept(first.snapshots, raw), Kept([], raw))
        await feed(d, second, raw, start=cut - 4)
        assert first.values | second.values == calm.values


async def test_a_snapshot_of_another_network_is_not_used(tmp_path: Path, make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    d = driver(make, sink)
    await feed(d, sink, raw[:30])
    await d.maybe_snapshot(force=True)
    city = world.city(tmp_path, partitions=1)
    other = Ground(world.network(size=4), GROUND.settings)
    d = driver(lambda: ObserveStep(Observer(city, "hfp", 0, other)), sink)
    assert await d.recover(sink.snapshots) == 0


async def test_a_half_restored_state_is_thrown_away(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    d = driver(make, sink, max_pending=10)
    await feed(d, sink, raw[:30])
    good, broken = sink.snapshots[0], sink.snapshots[-1]
    state = msgspec.msgpack.decode(broken.state, strict=False)
    del state["cells"]  # restored late
    broken = Snapshot(broken.owner, broken.offset, msgspec.msgpack.encode(state), broken.sequence)
    d = driver(make, sink)
    assert await d.recover([broken, good]) == good.offset + 1
    fresh = driver(make, sink)
    await fresh.recover([good])
    assert d.step.flush() == fresh.step.flush()
    assert d.step.export() == fresh.step.export()


async def test_where_the_newest_snapshots_are_of_no_use_older_ones_are_looked_for(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    d = driver(make, sink, max_pending=10)
    await feed(d, sink, raw[:40])
    others = [Snapshot(s.owner, s.offset + 5, b"of another version", s.sequence) for s in sink.snapshots[-2:]]
    d = driver(make, sink)
    await recover(d, TP, Kept([*sink.snapshots, *others], raw), Kept([], raw))
    assert d.step.offset == sink.snapshots[-1].offset
    d = driver(make, sink)
    await recover(d, TP, Kept(others, raw), Kept([], raw))
    assert d.step.offset == -1


async def test_what_was_acked_and_is_not_in_the_snapshot_is_written_again_under_the_same_ids(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink, again = Sink(), Sink()
    d = driver(make, sink, max_pending=10)
    await feed(d, sink, raw[:40])
    d = driver(make, again)
    kept = Kept(sink.snapshots[:1], raw)
    assert await close_gap(d, TP, 40, kept, kept) == 0
    assert d.step.offset == 39
    assert again.ids
    assert set(again.values.items()) <= set(sink.values.items())


async def test_without_any_snapshot_the_state_is_made_again_and_nothing_is_published_twice(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    calm, again = Sink(), Sink()
    await feed(driver(make, calm), calm, raw)
    d = driver(make, again)
    await close_gap(d, TP, 40, Kept([], raw), Kept([], raw))
    assert again.done == []
    await feed(d, again, raw, start=40)
    later = Sink()
    await feed(driver(make, later), later, raw[:40])
    assert again.values == {i: v for i, v in calm.values.items() if i not in later.values}


async def test_the_fuse_step_made_again_emits_only_windows_that_were_not_final(make, fuse, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    observed = Sink()
    await feed(driver(make, observed), observed, raw)
    partials: list[bytes | None] = list(observed.partials)
    calm, before, after = Sink(), Sink(), Sink()
    await feed(driver(fuse, calm), calm, partials)
    cut = len(partials) * 2 // 3
    await feed(driver(fuse, before), before, partials[:cut])
    d = driver(fuse, after)
    await close_gap(d, TP, cut, Kept([], partials), Kept([], partials))
    await feed(d, after, partials, start=cut)
    finals = {i: v for i, v in calm.values.items() if b'"status":"final"' in v}
    known = {i: v for i, v in before.values.items() if i in finals}
    assert known
    assert {i: v for i, v in after.values.items() if i in finals} == {i: v for i, v in finals.items() if i not in known}


async def test_a_log_that_begins_in_the_middle_gives_no_state_of_a_window_it_does_not_tell_whole(make, fuse, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    observed = Sink()
    await feed(driver(make, observed), observed, raw)
    partials: list[bytes | None] = list(observed.partials)
    calm, cut = Sink(), len(partials) // 4
    await feed(driver(fuse, calm), calm, partials)
    sink = Sink()
    d = driver(fuse, sink)
    kept = Kept([], partials, first=cut)
    assert await close_gap(d, TP, cut, kept, kept) == cut
    await feed(d, sink, partials, start=cut)
    begins_ms = wire.decode(partials[cut]).watermark_ms
    finals = [i for i in sink.ids if i.startswith("segment-state:")]
    assert all(_begins_ms(i) >= begins_ms + 120_000 for i in finals)
    windows = {_begins_ms(i) for i in calm.ids if i.startswith("segment-state:")}
    assert {w for w in windows if w >= begins_ms + 120_000} == {_begins_ms(i) for i in finals}


async def test_partials_of_another_network_are_left_out_and_keep_their_windows_quiet(make, fuse, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    observed = Sink()
    await feed(driver(make, observed), observed, raw)
    foreign = [wire.encode(msgspec.structs.replace(wire.decode(p), network="old")) for p in observed.partials[:20]]
    sink = Sink()
    d = driver(fuse, sink)
    await feed(d, sink, [*foreign, *observed.partials[20:]])
    assert d.step.foreign == 20  # type: ignore[attr-defined]
    quiet_ms = wire.decode(foreign[-1]).watermark_ms + 120_000
    assert all(_begins_ms(i) >= quiet_ms for i in sink.ids if i.split(":")[0] in OF_WINDOWS)


async def test_a_state_that_is_ahead_of_the_log_tells_of_a_topic_made_anew(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    d = driver(make, sink, max_pending=10)
    await feed(d, sink, raw[:40])
    d = driver(make, sink)
    await recover(d, TP, Kept(sink.snapshots, raw[:15]), Kept([], raw[:15]))
    assert d.step.offset == 9


async def test_a_log_cut_by_retention_below_the_snapshot_gives_a_new_state(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink, again = Sink(), Sink()
    d = driver(make, sink, max_pending=10)
    await feed(d, sink, raw[:10])
    d = driver(make, again)
    kept = Kept(sink.snapshots, raw, first=25)
    await close_gap(d, TP, 40, kept, kept)
    assert (d.step.offset, again.done) == (39, [])


async def test_a_partition_that_was_taken_away_writes_nothing_more(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    sink = Sink()
    d = driver(make, sink)
    await feed(d, sink, raw[:30])
    before = list(sink.done)
    d.closed = True
    await d.maybe_snapshot(force=True)
    await d.idle(1 << 50)
    assert sink.done == before


async def test_a_state_whose_outputs_were_cut_short_is_not_used(make, raw: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    calm, sink = Sink(), Sink()
    await feed(driver(make, calm), calm, raw)
    d = driver(make, sink, max_pending=10)
    await feed(d, sink, raw[:25])

    async def hang(outputs: Outputs) -> None:
        await asyncio.sleep(3600)

    sink.write = hang  # type: ignore[method-assign]
    feeding = asyncio.create_task(feed(d, sink, raw[:40], start=25))
    await asyncio.sleep(0)
    feeding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await feeding
    del sink.write  # type: ignore[method-assign]
    assert (d.step.offset, d.pending) == (-1, [])
    assert d.gap(25)
    kept = Kept(sink.snapshots, raw)
    await close_gap(d, TP, 20, kept, kept)
    await feed(d, sink, raw, start=20)
    assert sink.values == calm.values
