"""Where the time of the pipeline goes: the driver's own steps, in this process, each under a clock of CPU time. No profiler: a timer a call, and a call is an envelope.

Publishing is what remains of the process's CPU. The floor, what decoding, encoding and publishing alone would cost, is measured apart.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

import streams.driver
import streams.observe
from benchmarks.load import Record
from connectors.cities import City
from connectors.envelope import decode as decode_envelope
from connectors.hfp.parse import _decode as decode_hfp
from connectors.kafka import make_producer
from geo.network import Network
from models.records import VehiclePosition
from models.topics import partials_topic, state_topic
from streams import partial as wire
from streams.batches import Batcher
from streams.driver import DriverSettings, FuseStep, ObserveStep, PartitionDriver
from streams.fuse import Fuser
from streams.ground import Ground
from streams.observe import Observer
from streams.outputs import Out, Outputs
from streams.snapshots import Snapshot, SnapshotStore
from streams.worker import TICK_S
from streams.writer import Writer

#: What is measured under which name. A timer inside another takes its time away from the outer one.
REST = "observe: columns, routes, bookkeeping"
OBSERVER = {
    "parser.parse": "decode JSON into columns",
    "vehicles.slots_of": "clean, dedupe, order",
    "vehicles.recall": "clean, dedupe, order",
    "plane.to_plane": "match",
    "tracker.step": "match",
    "tracker.locate": "match",
    "free.step": "match",
    "pieces.place": "match",
    "pieces.rows": "sums",
    "pieces.free_rows": "sums",
    "flush": "sums",
    "export": "snapshots",
    "feed_envelopes": REST,
}
FUSER = {
    "feed": "windows and fusion",
    "_records": "encode segment-state",
    "emitter.final": "emissions and their records",
    "emitter.provisional": "emissions and their records",
    "lines.hear": "lines and their records",
    "lines.final": "lines and their records",
    "lines.provisional": "lines and their records",
    "days.final": "indicators of the day",
    "incidents.final": "falls and closures",
    "choice.take": "one source a vehicle",
    "choice.decide": "one source a vehicle",
}


class Clock:
    """CPU time of this thread by name; nested timers are exclusive."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner: list[float] = []

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            began = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                whole = time.thread_time() - began
                self.spent[name] += whole - self._inner.pop()
                self.calls[name] += 1
                if self._inner:
                    self._inner[-1] += whole

        return run

    def wrap(self, owner: Any, path: str, name: str) -> None:
        """Put a timer in front of a method, found by its dotted path."""
        *way, method = path.split(".")
        for step in way:
            owner = getattr(owner, step)
        setattr(owner, method, self.timed(name, getattr(owner, method)))


class _Sink:
    """Publishes what the driver writes at once, as the worker does. What that costs is what is left of the run when all steps are taken away."""

    def __init__(self, writer: Writer, store: SnapshotStore, keep: int) -> None:
        self.writer, self.store, self.keep = writer, store, keep
        self.partials: list[bytes] = []
        self.positions: list[Out] = []  #: the first ``keep``

    async def write(self, outputs: Outputs) -> None:
        await self.writer.write(outputs)
        if len(self.positions) < self.keep:
            self.positions += outputs.records.get("vehicle-position", [])

    async def partial(self, data: bytes, log_ms: int) -> None:
        self.partials.append(data)
        await self.writer.send(partials_topic(self.writer.city.name, self.writer.prefix), 0, b"", data, log_ms)

    async def snapshot(self, snapshot: Snapshot, log_ms: int) -> None:
        await self.store.write(self.writer, snapshot, log_ms)

    async def settle(self) -> None:
        await self.writer.settle()


class _Message:
    __slots__ = ("offset", "timestamp_ms", "value")

    def __init__(self, offset: int, value: bytes, timestamp_ms: int) -> None:
        self.offset, self.value, self.timestamp_ms = offset, value, timestamp_ms

    def ack(self) -> None:
        return


@dataclass(frozen=True)
class Shares:
    """Where the CPU time of a log went."""

    us: dict[str, float]  #: microseconds a message, by step, most first
    snapshot_ms: float  #: what one snapshot of one partition costs to make; a live worker makes one of each every 3 s
    positions: list[Out]  #: some of the records, for the floor


async def shares(bootstrap: str, city: City, network: Network, prefix: str, log: Iterable[Record]) -> Shares:
    """The log through the drivers in this process, what comes out published to the topics of ``prefix``, which are there already."""
    producer = make_producer(bootstrap, "benchmark-steps")
    await producer.start()
    sink = _Sink(Writer(producer, city, prefix), SnapshotStore(bootstrap, state_topic(city.name, prefix)), keep=50_000)
    clock = Clock()
    ground = Ground(network)
    drivers: dict[tuple[str, int], PartitionDriver] = {}

    def observe(feed: str, partition: int) -> PartitionDriver:
        observer = Observer(city, feed, partition, ground)
        for path, name in OBSERVER.items():
            shared = path.startswith("pieces.") or path == "plane.to_plane"  # by all observers: wrapped once
            if not shared and (path != "export" or feed == "hfp"):
                clock.wrap(observer, path, name)
        return PartitionDriver(lambda: ObserveStep(observer), sink, time.monotonic, DriverSettings())

    for path, name in OBSERVER.items():
        if path.startswith("pieces."):
            clock.wrap(ground, path, name)
    clock.wrap(ground.matching, "plane.to_plane", "match")
    fuser = Fuser(city, network)
    for path, name in FUSER.items():
        clock.wrap(fuser, path, name)
    fuse = PartitionDriver(lambda: FuseStep(fuser), sink, time.monotonic, DriverSettings())
    kept = streams.driver.decode, streams.observe.impossible, streams.observe.positions, wire.decode
    streams.driver.decode = clock.timed("unpack envelopes", decode_envelope)
    streams.observe.impossible = clock.timed("clean, dedupe, order", streams.observe.impossible)
    streams.observe.positions = clock.timed("encode vehicle-position", streams.observe.positions)
    wire.decode = clock.timed("windows and fusion", wire.decode)
    gc.collect()
    messages, offsets, fused, tick_s = 0, dict[tuple[str, int], int](), 0, time.monotonic() + TICK_S
    began = time.process_time()
    try:
        for r in log:
            key = (r.feed, r.partition)
            driver = drivers.get(key) or drivers.setdefault(key, observe(*key))
            offset = offsets[key] = offsets.get(key, -1) + 1
            await driver.feed(_Message(offset, r.value, r.ingest_ms), more=True)
            messages += r.items
            while fused < len(sink.partials):
                await fuse.feed(_Message(fused, sink.partials[fused], r.ingest_ms), more=True)
                fused += 1
            if time.monotonic() >= tick_s:  # as the worker's ticker does, which feeds what is held too
                for driver in (*drivers.values(), fuse):
                    await driver.maybe_snapshot()
                tick_s = time.monotonic() + TICK_S
            await asyncio.sleep(0)
        for driver in (*drivers.values(), fuse):
            await driver.maybe_snapshot(force=True)
        await sink.settle()
    finally:
        streams.driver.decode, streams.observe.impossible, streams.observe.positions, wire.decode = kept
        await producer.stop()
    whole_s = time.process_time() - began
    spent = dict(clock.spent)
    snapshot_ms = clock.spent["snapshots"] / max(clock.calls["snapshots"], 1) * 1e3
    spent["publish: headers, batches, zstd, requests"] = whole_s - sum(spent.values())
    return Shares(
        {name: round(s / messages * 1e6, 2) for name, s in sorted(spent.items(), key=lambda x: -x[1])}, snapshot_ms, sink.positions
    )


async def floor(bootstrap: str, city: City, prefix: str, log: list[Record], positions: list[Out]) -> dict[str, float]:
    """Microseconds a message of the least that any pipeline must do: decode the JSON, encode a record, publish it with its headers."""
    bodies = [item.body for r in log if r.items for item in decode_envelope(r.value).items][: len(positions)]
    records = [msgspec.json.decode(o.value, type=VehiclePosition) for o in positions[:20_000]]
    encode = msgspec.json.Encoder().encode

    def each(call: Callable[[Any], Any], values: list[Any]) -> float:
        began = time.process_time()
        for v in values:
            call(v)
        return (time.process_time() - began) / max(len(values), 1) * 1e6

    out = {"decode": each(decode_hfp, bodies), "encode": each(encode, records)}
    producer = make_producer(bootstrap, "benchmark-floor")
    await producer.start()
    writer = Writer(producer, city, prefix)
    topic, batcher = writer.topic("vehicle-position"), Batcher(writer.constant("vehicle-position"))
    began = time.process_time()
    sent = [await producer.send_batch(batch, topic, partition=0) for batch in batcher.batches(positions)]
    await asyncio.gather(*sent)
    out["publish"] = (time.process_time() - began) / max(len(positions), 1) * 1e6
    await producer.stop()
    return out
