"""Workers as processes on a real broker, and what they wrote, read back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.cities import City
from connectors.envelope import encode
from geo import store
from geo.network import Network
from models.topics import PRODUCTS, dead_letter_topic, late_topic, open_topic, raw_topic
from streams import replays
from streams.admin import Probe
from streams.driver import Logged, ObserveStep
from streams.ground import Ground
from streams.observe import Observer
from streams.offline import Run, replay
from tests.streams import world

ROOT = Path(__file__).resolve().parents[2]
#: Two cores shared with others: a test waits long before it gives up.
PATIENCE_S = 240.0
#: Products that come from the input; "segment" comes from the network.
OPEN = tuple(p for p in PRODUCTS if p != "segment")

#: What an observer writes of each event, and nobody else.
OBSERVED = ("vehicle-position", "dead-letter", "late")


@dataclass
class Town:
    """A city file, a built network and a recording in a folder."""

    folder: Path
    partitions: int = 2
    lines: list[world.Line] = field(default_factory=list)
    network: Network = field(default_factory=world.network)
    name: str = "toytown"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.city_file = world.write_city(self.folder, self.name, self.partitions)
        self.city: City = world.city(self.folder, self.name, self.partitions)
        self.network_folder = self.folder / "network"
        store.save(self.network, self.network_folder)
        self.recording = world.write_recording(self.lines, self.folder / "recording")

    def offline(self, prefix: str = "", *, max_items: int = 200) -> dict[str, dict[str, bytes]]:
        """What the offline driver makes of the recording: value by ce_id, by product; without the provisional ones."""
        run = Run(self.city, self.network, raw_prefix=prefix)
        found: dict[str, dict[str, bytes]] = {}
        for out in replay(run, replays.log_of([self.recording], self.city, max_items=max_items, simulated=False)):
            for product, outs in out.records.items():
                for o in outs:
                    if b'"status":"provisional"' not in o.value:
                        found.setdefault(product, {})[o.ce_id] = o.value
        return found

    def observed(self, prefix: str, *, max_items: int = 200) -> dict[tuple[str, int], list[set[str]]]:
        """Ids that each raw message gives by itself, by topic and partition: what must stand on the open topics before it may be committed."""
        ground, steps, found = Ground(self.network), dict[tuple[str, int], ObserveStep](), dict[tuple[str, int], list[set[str]]]()
        for feed, partition, e in replays.log_of([self.recording], self.city, max_items=max_items, simulated=False):
            tp = (raw_topic(self.city.raw_city, feed, prefix), partition)
            step = steps.setdefault(tp, ObserveStep(Observer(self.city, feed, partition, ground, raw_topic=tp[0])))
            rows = found.setdefault(tp, [])
            out, _ = step.feed([Logged(encode(e), len(rows), e.ingest_ms)])
            rows.append({o.ce_id for p in OBSERVED for o in out.records.get(p, ())})
        return found


class Worker:
    """One ``tilannekuva process``."""

    def __init__(
        self, town: Town, bootstrap: str, prefix: str, name: str, *more: str, env: dict[str, str] | None = None, root: Path = ROOT
    ) -> None:
        self.log = town.folder / f"{prefix}{name}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "tilannekuva", "process", str(town.city_file), "--broker", bootstrap, "--prefix", prefix]
        command += ["--network", str(town.network_folder), "--instance", name, *more]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, env={**os.environ, **(env or {})})

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        self.process.kill()
        self.process.wait(30)

    def end(self) -> int:
        """Whatever it takes."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        return self.process.wait(30)

    async def exit_code(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for it to end by itself."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"still running after {timeout_s:g} s; its log ends with: {self.tail()}")
            await asyncio.sleep(0.2)
        return self.process.returncode

    def tail(self) -> str:
        """What it ended for, and the end of its log."""
        text = self.log.read_text(errors="replace")
        return "\n".join([*(line for line in text.splitlines() if '"critical"' in line), text[-3000:]])


class Drip(asyncio.Event):
    """Lets a few envelopes of a replay through at a time, as a feed does, until it is set: then the rest."""

    def __init__(self, envelopes: int = 2) -> None:
        super().__init__()
        self.envelopes = self._left = envelopes

    def is_set(self) -> bool:
        if super().is_set():
            return True
        self._left -= 1
        if self._left < 0:
            self._left = self.envelopes
        return self._left < self.envelopes


async def produce(
    town: Town, bootstrap: str, run: str, *, max_items: int = 200, speed: float | None = None, go: asyncio.Event | None = None
) -> str:
    """The recording onto raw topics; returns the prefix."""
    await replays.to_kafka(
        [town.recording], town.city, bootstrap, run, speed=speed, max_items=max_items, simulated=False, stop=asyncio.Event(), go=go
    )
    return f"replay.{run}."


async def process(town: Town, bootstrap: str, prefix: str, workers: int = 1, patience_s: float = PATIENCE_S) -> None:
    """Workers until everything is worked off."""
    running = [Worker(town, bootstrap, prefix, str(n), "--until-end") for n in range(workers)]
    try:
        codes = await asyncio.gather(*(w.exit_code(patience_s) for w in running))
        assert set(codes) == {0}, [w.tail() for w in running]
    finally:
        for w in running:
            w.end()


@dataclass
class Written:
    """What stands on one topic."""

    by_id: dict[str, set[bytes]] = field(default_factory=dict)  #: values by ce_id; more than one is a contradiction
    records: int = 0

    def one_each(self) -> dict[str, bytes]:
        """Value by ce_id."""
        torn = {i: v for i, v in self.by_id.items() if len(v) != 1}
        assert not torn, f"{len(torn)} ids with different values, e.g. {next(iter(torn.items()))}"
        return {i: next(iter(v)) for i, v in self.by_id.items()}


async def end(bootstrap: str, topic: str, partition: int = 0) -> int:
    """Offset after the last message of a partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition(topic, partition)
        return int((await consumer.end_offsets([tp]))[tp])
    finally:
        await consumer.stop()


async def read(bootstrap: str, topics: Sequence[str]) -> dict[str, list[tuple[bytes, bytes, dict[str, bytes], int]]]:
    """Key, value, headers and offset of every record of topics with one partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    found: dict[str, list[tuple[bytes, bytes, dict[str, bytes], int]]] = {t: [] for t in topics}
    try:
        for topic in topics:
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
            consumer.seek(tp, begin)
            while begin < end and await consumer.position(tp) < end:
                for rows in (await consumer.getmany(tp, timeout_ms=1000)).values():
                    found[topic] += [(r.key, r.value, dict(r.headers), r.offset) for r in rows]
    finally:
        await consumer.stop()
    return found


async def written(town: Town, bootstrap: str, prefix: str, products: Iterable[str] = OPEN) -> dict[str, Written]:
    """Records by product; without the provisional ones."""
    names = {p: open_topic(town.city.name, p, prefix) for p in products if p in PRODUCTS}
    names |= {"dead-letter": dead_letter_topic(town.city.name, prefix), "late": late_topic(town.city.name, prefix)}
    found = await read(bootstrap, list(names.values()))
    out: dict[str, Written] = {}
    for product, topic in names.items():
        w = out[product] = Written()
        for _, value, headers, _ in found[topic]:
            if b'"status":"provisional"' in value:
                continue
            w.records += 1
            w.by_id.setdefault(headers["ce_id"].decode(), set()).add(value)
    return out


async def committed_is_out(town: Town, bootstrap: str, prefix: str, observed: dict[tuple[str, int], list[set[str]]]) -> int:
    """No commit has passed an output that is not there. Returns how many raw messages are committed."""
    probe = Probe(bootstrap, f"{prefix}tilannekuva-{town.city.name}")
    await probe.start()
    try:
        committed = await probe.committed()
    finally:
        await probe.stop()
    found = await written(town, bootstrap, prefix, OBSERVED)  # after the commits: what they cover was there before
    have = {i for w in found.values() for i in w.by_id}
    for tp, rows in observed.items():
        missing = [(k, i) for k, ids in enumerate(rows[: committed.get(tp, 0)]) for i in sorted(ids - have)]
        assert not missing, f"{tp} is committed up to {committed[tp]}, without {missing[:3]} and {len(missing)} in all"
    return sum(committed.get(tp, 0) for tp in observed)


def compare(expected: dict[str, dict[str, bytes]], found: dict[str, Written]) -> None:
    """Every record that the offline driver makes is there, nothing else is, and each has the offline driver's bytes."""
    for product, w in found.items():
        have, want = w.one_each(), expected.get(product, {})
        missing, phantom = sorted(set(want) - set(have)), sorted(set(have) - set(want))
        assert not missing, f"{product}: {len(missing)} of {len(want)} are missing, e.g. {missing[:3]}"
        assert not phantom, f"{product}: {len(phantom)} should not be there, e.g. {phantom[:3]}"
        wrong = sorted(i for i in want if have[i] != want[i])
        assert not wrong, f"{product}: {len(wrong)} differ, e.g. {have[wrong[0]]!r}, expected {want[wrong[0]]!r}"
