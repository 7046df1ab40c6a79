"""The Kafka driver of one partition: feed in order, write, snapshot, and only then ack. ``faust.md``'s safe pattern, without Faust in sight, so that it can be simulated.

A message's life: decoded and fed to the step; its outputs handed to the producer; the step's state snapshotted with the message's offset; the producer flushed, so that
outputs and snapshot are durable; acked. A crash at any point repeats some of that, and everything that is repeated is an upsert by a deterministic id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from connectors.envelope import BadEnvelope, decode
from streams import partial as wire
from streams.fuse import Fuser
from streams.observe import Observer
from streams.offline import FLUSH_MS
from streams.outputs import Outputs
from streams.snapshots import Snapshot


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


class Step(Protocol):
    """Observe or fuse, seen from the driver."""

    owner: str

    @property
    def offset(self) -> int: ...
    def feed(self, value: bytes | None, offset: int, timestamp_ms: int) -> tuple[Outputs, bytes | None]: ...
    def flush(self) -> bytes | None: ...
    def log_ms(self) -> int: ...
    def idle(self, log_ms: int) -> None: ...
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

    def feed(self, value: bytes | None, offset: int, timestamp_ms: int) -> tuple[Outputs, bytes | None]:
        o = self.observer
        try:
            envelope = decode(value)
        except BadEnvelope as e:
            return o.undecodable(value, str(e), offset, o.log_ms or timestamp_ms), None
        out = o.feed_envelope(envelope, offset)
        return out, self.flush() if o.log_ms - self._flushed_ms >= FLUSH_MS else None

    def flush(self) -> bytes | None:
        self._flushed_ms = self.observer.log_ms
        return self.observer.flush()

    def log_ms(self) -> int:
        return self.observer.log_ms

    def idle(self, log_ms: int) -> None:
        self.observer.idle(log_ms)

    def export(self) -> bytes:
        return self.observer.export()

    def restore(self, state: bytes) -> None:
        self.observer.restore(state)


class FuseStep:
    """The fuse step behind the driver's face. A partial that does not decode is our own bug or a torn disk: it is not skipped."""

    def __init__(self, fuser: Fuser) -> None:
        self.fuser = fuser
        self.owner = "fuse/0"

    @property
    def offset(self) -> int:
        return self.fuser.offset

    def feed(self, value: bytes | None, offset: int, timestamp_ms: int) -> tuple[Outputs, bytes | None]:
        return self.fuser.feed(wire.decode(value), offset), None

    def flush(self) -> bytes | None:
        return None

    def log_ms(self) -> int:
        return self.fuser.log_ms

    def idle(self, log_ms: int) -> None:
        """The fuse step knows time from the observers alone."""

    def export(self) -> bytes:
        return self.fuser.export()

    def restore(self, state: bytes) -> None:
        self.fuser.restore(state)


@dataclass
class DriverSettings:
    """When to make things durable. Wall clock: it decides when, never what."""

    #: Seconds between snapshots while messages come in. Shorter: less to repeat after a crash, more bytes on the state topic.
    snapshot_s: float = 3.0
    #: At most this many unacked messages; then a snapshot is made at once.
    max_pending: int = 2_000


@dataclass
class PartitionDriver:
    """One partition of the log and its step."""

    step: Step
    sink: Sink
    now_s: Callable[[], float]
    settings: DriverSettings = field(default_factory=DriverSettings)

    def __post_init__(self) -> None:
        self.pending: list[Message] = []
        self.durable = self.step.offset  #: offset of the last durable snapshot
        self.last_snapshot_s = self.now_s()
        self.fed = 0
        self.skipped = 0
        self._lock = asyncio.Lock()  #: the ticker and the agent take turns

    async def recover(self, snapshots: list[Snapshot]) -> int:
        """Restore the best snapshot that this step can use; returns the first offset it still has to see (0 where there is none)."""
        for s in snapshots:
            try:
                self.step.restore(s.state)
            except (ValueError, KeyError, TypeError):
                continue
            self.durable = self.step.offset
            break
        return self.step.offset + 1

    async def catch_up(self, messages: AsyncIterator[tuple[int, bytes | None, int]]) -> None:
        """Messages between the snapshot and the first one that the group's offset gives: they were acked once, so they are fed and not acked again."""
        async for offset, value, timestamp_ms in messages:
            if offset > self.step.offset:
                await self._process(value, offset, timestamp_ms)

    async def feed(self, message: Message) -> None:
        """One message, in offset order. Messages that the state already holds are only acked."""
        async with self._lock:
            await self._feed(message)

    async def _feed(self, message: Message) -> None:
        if message.offset <= self.step.offset:
            self.skipped += 1
            if message.offset <= self.durable and not self.pending:
                message.ack()
            else:
                self.pending.append(message)
            return
        await self._process(message.value, message.offset, message.timestamp_ms)
        self.pending.append(message)
        if len(self.pending) >= self.settings.max_pending:
            await self._snapshot()

    async def _process(self, value: bytes | None, offset: int, timestamp_ms: int) -> None:
        out, partial = self.step.feed(value, offset, timestamp_ms)
        self.fed += 1
        if out.records:
            await self.sink.write(out)
        if partial is not None:
            await self.sink.partial(partial, self.step.log_ms())

    async def idle(self, log_ms: int) -> None:
        """Nothing earlier can come any more: let time pass for this partition."""
        async with self._lock:
            if log_ms > self.step.log_ms():
                self.step.idle(log_ms)
                partial = self.step.flush()
                if partial is not None:
                    await self.sink.partial(partial, self.step.log_ms())

    async def maybe_snapshot(self, *, force: bool = False) -> None:
        """Called by a ticker too, so that a held batch always completes."""
        if self.pending and (force or self.now_s() - self.last_snapshot_s >= self.settings.snapshot_s):
            async with self._lock:
                await self._snapshot()

    async def _snapshot(self) -> None:
        """Outputs, then state, durable; then ack in order."""
        partial = self.step.flush()
        if partial is not None:
            await self.sink.partial(partial, self.step.log_ms())
        acked, self.pending = self.pending, []
        offset = self.step.offset
        await self.sink.snapshot(Snapshot(self.step.owner, offset, self.step.export()), self.step.log_ms())
        await self.sink.settle()
        self.durable, self.last_snapshot_s = offset, self.now_s()
        for message in acked:
            message.ack()
