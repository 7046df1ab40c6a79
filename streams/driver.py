"""The Kafka driver of one partition: feed in order, write, snapshot, and only then ack. ``faust.md``'s safe pattern, without Faust in sight, so that it can be simulated.

A message's life: decoded and fed to the step; its outputs handed to the producer, and waited for until they are durable; the step's state snapshotted with the message's
offset, and waited for; acked. A crash at any point repeats some of that, and everything that is repeated is an upsert by a deterministic id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from connectors.envelope import BadEnvelope, Envelope, decode
from streams import partial as wire
from streams.fuse import Fuser
from streams.observe import Observer
from streams.offline import FLUSH_MS
from streams.outputs import Outputs, since
from streams.snapshots import Snapshot

log = logging.getLogger(__name__)
#: A sender's clock may run so much fast (``streams/clean.py``): events of a minute may come so long before it.
FAST_MS = 120_000


class Sink(Protocol):
    """Where a driver writes. Everything handed over before ``settle`` returns is durable."""

    async def write(self, outputs: Outputs) -> None: ...
    async def partial(self, data: bytes, log_ms: int) -> None: ...
    async def snapshot(self, snapshot: Snapshot, log_ms: int) -> None: ...
    async def settle(self) -> None: ...


class Message(Protocol):
    """One message of the log, as Faust's event shows it."""

    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp_ms(self) -> int: ...
    def ack(self) -> None: ...


class Logged(NamedTuple):
    """What a step is given of a message."""

    value: bytes | None
    offset: int
    timestamp_ms: int


class Step(Protocol):
    """Observe or fuse, seen from the driver."""

    owner: str

    @property
    def offset(self) -> int: ...
    def feed(self, messages: Sequence[Logged]) -> tuple[Outputs, bytes | None]: ...
    def flush(self) -> bytes | None: ...
    def log_ms(self) -> int: ...
    def idle(self, log_ms: int) -> None: ...
    def rebuilt(self) -> None: ...
    def export(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...


class ObserveStep:
    """An observer behind the driver's face."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.owner = f"observe/{observer.feed.name}/{observer.partition}"
        self._flushed_ms = 0

    @property
    def offset(self) -> int:
        return self.observer.offset

    def feed(self, messages: Sequence[Logged]) -> tuple[Outputs, bytes | None]:
        o, out = self.observer, Outputs()
        good: list[tuple[Envelope, int]] = []
        for value, offset, timestamp_ms in messages:
            try:
                good.append((decode(value), offset))
            except BadEnvelope as e:
                out.extend(o.feed_envelopes(good))
                out.extend(o.undecodable(value, str(e), offset, o.log_ms or timestamp_ms))
                good = []
        out.extend(o.feed_envelopes(good))
        return out, self.flush() if o.log_ms - self._flushed_ms >= FLUSH_MS else None

    def flush(self) -> bytes | None:
        self._flushed_ms = self.observer.log_ms
        return self.observer.flush()

    def log_ms(self) -> int:
        return self.observer.log_ms

    def idle(self, log_ms: int) -> None:
        self.observer.idle(log_ms)

    def rebuilt(self) -> None:
        """The next partial tells of everything that is open, since nobody knows what the fuse step has of it."""
        self.observer.resend()

    def export(self) -> bytes:
        return self.observer.export()

    def restore(self, state: bytes) -> None:
        self.observer.restore(state)


#: Products of the fuse step that say something of a window as a whole.
OF_WINDOWS = frozenset(
    {"evidence", "segment-state", "area-state", "emission-segment", "emission-area", "emission-vehicle", "line-fluency", "city-day"}
)


class FuseStep:
    """The fuse step behind the driver's face. A partial that does not decode is our own bug or a torn disk: it is not skipped.

    Its windows are published only from where the log tells all of them: a log that begins in the middle, or partials whose segment numbers belong to another network
    (while a new one is rolled out), would give states made from a part of what was seen.
    """

    def __init__(self, fuser: Fuser) -> None:
        self.fuser = fuser
        self.owner = "fuse/0"
        self.foreign = 0  #: partials of another network, left out
        self._offset = -1
        self._quiet_ms = 0  #: states of windows that begin before this are not published
        self._told: set[str] = set()
        self._missing: set[tuple[str, int]] | None = None  #: raw partitions not yet heard of, when the log began in the middle

    @property
    def offset(self) -> int:
        return max(self._offset, self.fuser.offset)

    def feed(self, messages: Sequence[Logged]) -> tuple[Outputs, bytes | None]:
        out = Outputs()
        for value, offset, _ in messages:
            out.extend(self._feed(value, offset))
        return out, None

    def _feed(self, value: bytes | None, offset: int) -> Outputs:
        p = wire.decode(value)
        if self.offset < 0 and offset > 0:
            self._missing = set(self.fuser.expected)
        self._offset = offset
        if p.network != self.fuser.network.version:
            self.foreign += 1
            self._quiet_ms = max(self._quiet_ms, p.watermark_ms + FAST_MS)
            if p.network not in self._told:
                self._told.add(p.network)
                log.error(
                    "partials of network %s are left out, since this worker has %s: nothing is published before only one of them is in use",
                    p.network,
                    self.fuser.network.version,
                )
            return Outputs()
        if self._missing and (p.feed, p.partition) in self._missing:
            self._missing.discard((p.feed, p.partition))
            self._quiet_ms = max(self._quiet_ms, p.watermark_ms + FAST_MS)
        out = self.fuser.feed(p, offset)
        if self._quiet_ms:
            kept = {p: since(outs, self._quiet_ms) if p in OF_WINDOWS else outs for p, outs in out.records.items()}
            out.records = {p: outs for p, outs in kept.items() if outs}
        return out

    def flush(self) -> bytes | None:
        return None

    def log_ms(self) -> int:
        return self.fuser.log_ms

    def idle(self, log_ms: int) -> None:
        """The fuse step knows time from the observers alone."""

    def rebuilt(self) -> None:
        """What came before was published when it was acked; what comes now is whole."""

    def export(self) -> bytes:
        missing = None if self._missing is None else sorted(self._missing)
        return msgspec.msgpack.encode([self._offset, self._quiet_ms, missing, self.fuser.export()])

    def restore(self, state: bytes) -> None:
        offset, quiet_ms, missing, inner = msgspec.msgpack.decode(state, type=tuple[int, int, list[tuple[str, int]] | None, bytes])
        self.fuser.restore(inner)
        self._offset, self._quiet_ms = offset, quiet_ms
        self._missing = None if missing is None else set(missing)


@dataclass
class DriverSettings:
    """When to make things durable. Wall clock: it decides when, never what."""

    #: Seconds between snapshots while messages come in. Shorter: less to repeat after a crash, more bytes on the state topic.
    snapshot_s: float = 3.0
    #: The same by size, seconds a megabyte of state: a large state is written less often, since the state topic takes every copy.
    snapshot_s_mb: float = 2.0
    #: The same by time, seconds a second that the last one took: a slow broker is given more outputs than snapshots.
    snapshot_s_s: float = 3.0
    #: At most this many unacked messages; then a snapshot is made at once.
    max_pending: int = 2_000
    #: Messages fed to the step at once while more are waiting. More: less cost a message in catching up, and more to lose time with in one go.
    together: int = 64
    #: How long a hand may take, seconds: one that took longer is followed by one with as many messages as that would have been enough for, down to one. So a slow broker, and
    #: its turns among many partitions, hold each up for the time of one message of each.
    slow_s: float = 2.0


@dataclass
class PartitionDriver:
    """One partition of the log and its step, which ``make`` gives in its first state."""

    make: Callable[[], Step]
    sink: Sink
    now_s: Callable[[], float]
    settings: DriverSettings = field(default_factory=DriverSettings)

    def __post_init__(self) -> None:
        self.step = self.make()
        self.held: list[Message] = []  #: come by, not yet fed
        self.pending: list[Message] = []  #: fed, not yet acked
        self.durable = self.step.offset  #: offset of the last durable snapshot
        self.sequence = 0  #: of the next snapshot
        self.last_snapshot_s = self.now_s()
        self.every_s = self.settings.snapshot_s
        self.together = 1  #: at most doubled from hand to hand: the first must not be the one that takes minutes
        self.fed = 0
        self.skipped = 0
        self.closed = False
        self._lock = asyncio.Lock()  #: the ticker and the agent take turns

    async def recover(self, snapshots: list[Snapshot]) -> int:
        """Restore the best snapshot that is ahead of this state and that this step can use; returns the first offset it still has to see (0 where there is none)."""
        async with self._lock:
            await self._drain()
            self.sequence = max([self.sequence, *(s.sequence + 1 for s in snapshots)])
            for s in snapshots:
                if s.offset <= self.step.offset:
                    break
                try:
                    self.step.restore(s.state)
                except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as e:
                    log.warning("%s: snapshot of offset %d is of no use here: %s", s.owner, s.offset, e)
                    self.anew()  # it may be half restored
                    continue
                self.durable = self.step.offset
                break
            return self.step.offset + 1

    def anew(self) -> None:
        """Back to the first state."""
        self.step = self.make()
        self.durable = -1

    async def catch_up(self, messages: AsyncIterator[tuple[int, bytes | None, int]]) -> None:
        """Messages between the snapshot and the first one that the group's offset gives: they were acked once, so they are fed and not acked again."""
        async with self._lock:
            await self._drain()
            async for offset, value, timestamp_ms in messages:
                if offset > self.step.offset:
                    await self._process([Logged(value, offset, timestamp_ms)])
                    await asyncio.sleep(0)

    async def rebuild(self, messages: AsyncIterator[tuple[int, bytes | None, int]]) -> None:
        """There is no snapshot, though messages were acked: make the state again from a part of the log that is long enough for every vehicle and open window.

        What the messages gave was durable before they were acked. It is not written again: made from a part of the log, the oldest of it would be wrong.
        """
        async with self._lock:
            async for offset, value, timestamp_ms in messages:
                if offset > self.step.offset:
                    self.step.feed([Logged(value, offset, timestamp_ms)])
                    await asyncio.sleep(0)
            self.step.flush()
            self.step.rebuilt()

    async def feed(self, message: Message, *, more: bool = False) -> None:
        """One message, in offset order; whoever calls has closed a ``gap`` before it. Messages that the state already holds are only acked.

        ``more``: others are waiting right behind it, so that it may be fed together with them.
        """
        async with self._lock:
            if message.offset <= self._last():
                self.skipped += 1
                if message.offset <= self.durable and not self.pending and not self.held:
                    message.ack()
                else:
                    await self._drain()
                    self.pending.append(message)
                return
            self.held.append(message)
            if not more or len(self.held) >= self.together:
                await self._drain()

    def _last(self) -> int:
        return self.held[-1].offset if self.held else self.step.offset

    def gap(self, offset: int) -> bool:
        """Whether messages before this one are neither in the state nor came by."""
        return offset > self._last() + 1

    async def _drain(self) -> None:
        """Feed what is held."""
        held, self.held = self.held, []
        if held:
            began_s = self.now_s()
            await self._process([Logged(m.value, m.offset, m.timestamp_ms) for m in held])
            took_s, slow_s = self.now_s() - began_s, self.settings.slow_s
            if took_s > slow_s:
                self.together = max(1, int(len(held) * slow_s / took_s))
            else:
                self.together = min(self.settings.together, self.together * 2)
            self.pending += held
            if len(self.pending) >= self.settings.max_pending:
                await self._snapshot()

    async def _process(self, messages: Sequence[Logged]) -> None:
        try:
            out, partial = self.step.feed(messages)
            self.fed += len(messages)
            if out.records:
                await self.sink.write(out)
            if partial is not None:
                await self.sink.partial(partial, self.step.log_ms())
        except BaseException:  # cancelled too: the state is ahead of what was written, so it must not be used, nor anything be acked for it
            self.anew()
            self.forget_pending()
            raise

    async def idle(self, log_ms: int) -> None:
        """Nothing earlier can come any more: let time pass for this partition."""
        async with self._lock:
            await self._drain()
            if log_ms > self.step.log_ms() and not self.closed:
                self.step.idle(log_ms)
                partial = self.step.flush()
                if partial is not None:
                    await self.sink.partial(partial, self.step.log_ms())

    async def maybe_snapshot(self, *, force: bool = False) -> None:
        """Called by a ticker too, so that a held batch always completes; what is held is fed in any case."""
        due = force or self.now_s() - self.last_snapshot_s >= self.every_s
        if self.held or (self.pending and due):
            async with self._lock:
                if not self.closed:
                    await self._drain()
                    if self.pending and due:
                        await self._snapshot()

    def forget_pending(self) -> None:
        """The partition was taken away before these were acked: whoever has it now gets them again."""
        self.held, self.pending = [], []

    async def _snapshot(self) -> None:
        """Outputs durable, then the state durable, then ack in order. A snapshot that arrives before an output would hide it from whoever goes on from there."""
        partial = self.step.flush()
        if partial is not None:
            await self.sink.partial(partial, self.step.log_ms())
        acked, self.pending, began_s = self.pending, [], self.now_s()
        offset, state = self.step.offset, self.step.export()
        await self.sink.settle()
        await self.sink.snapshot(Snapshot(self.step.owner, offset, state, self.sequence), self.step.log_ms())
        await self.sink.settle()
        self.sequence += 1
        self.durable, self.last_snapshot_s = offset, self.now_s()
        s, took_s = self.settings, self.last_snapshot_s - began_s
        self.every_s = max(s.snapshot_s, s.snapshot_s_mb * len(state) / 1e6, s.snapshot_s_s * took_s)
        for message in acked:
            message.ack()
