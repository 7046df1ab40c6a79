"""What the simulation stands on: a case, and a broker with its log, its group and its producers, as models."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from connectors.cities import City
from connectors.envelope import SCHEMA, Envelope, encode
from geo.network import Network
from streams.driver import FuseStep, Logged, ObserveStep, Step
from streams.fuse import Fuser, FuseSettings
from streams.ground import Ground, ObserveSettings
from streams.observe import Observer
from streams.offline import end_of_log

TP = tuple[str, int]
PARTIALS: TP = ("partials", 0)
LATENESS_MS = 5_000


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass
class Case:
    """What is processed: a city, its network and the envelopes of its raw partitions."""

    city: City
    network: Network
    envelopes: list[tuple[str, int, Envelope]]

    def __post_init__(self) -> None:
        self.observe = ObserveSettings(lateness_ms=LATENESS_MS)
        self.fuse = FuseSettings(lateness_ms=LATENESS_MS)
        self.ground = Ground(self.network, self.observe)
        self.raw: dict[TP, list[bytes]] = {(f.name, p): [] for f in self.city.feeds for p in range(f.partitions)}
        last = max(e.ingest_ms for _, _, e in self.envelopes)
        for feed, partition, e in self.envelopes:
            self.raw[feed, partition].append(encode(e))
        for feed, partition in self.raw:
            family = self.city.feed(feed).family
            tick = Envelope(SCHEMA, self.city.name, feed, family, "tick", end_of_log(last, LATENESS_MS))
            self.raw[feed, partition].append(encode(tick))
        self.owners = {tp: self.step(tp).owner for tp in (*self.raw, PARTIALS)}
        self._ids: dict[TP, list[list[str]]] = {}

    def ids(self, tp: TP) -> list[list[str]]:
        """Ids that each message of a raw partition gives."""
        if tp not in self._ids:
            step, known = self.step(tp), []
            for k, value in enumerate(self.raw[tp]):
                out, _ = step.feed([Logged(value, k, 0)])
                known.append([o.ce_id for outs in out.records.values() for o in outs])
            self._ids[tp] = known
        return self._ids[tp]

    def step(self, tp: TP) -> Step:
        if tp == PARTIALS:
            return FuseStep(Fuser(self.city, self.network, self.fuse))
        return ObserveStep(Observer(self.city, tp[0], tp[1], self.ground, raw_topic=f"raw.{tp[0]}"))


@dataclass
class Broker:
    """Logs, the group's offsets, the state topic, and what is on its way to them."""

    case: Case
    rng: random.Random

    def __post_init__(self) -> None:
        self.log: dict[TP, list[bytes]] = {tp: list(v) for tp, v in self.case.raw.items()} | {PARTIALS: []}
        self.committed: dict[TP, int] = {}
        self.state: dict[bytes, bytes] = {}
        self.arrived: dict[
            str, int
        ] = {}  #: highest offset of a snapshot all of which arrived, by owner; another's may have gone over it since
        self.ledger: list[tuple[str, str, bytes]] = []  #: product, ce_id, value
        self.values: dict[str, bytes] = {}  #: by ce_id, provisional states left out
        self.wires: dict[tuple[int, str], deque[Callable[[], None]]] = {}  #: by producer and topic: in order
        self.generation = 0
        self.trace = hashlib.sha256()

    def note(self, *what: object) -> None:
        self.trace.update(repr(what).encode())

    def deliver(self) -> None:
        """Some of what is on its way arrives."""
        ways = [k for k, v in self.wires.items() if v]
        if ways and self.rng.random() < 0.7:
            way = self.wires[self.rng.choice(ways)]
            for _ in range(self.rng.randint(1, 4)):
                if way:
                    way.popleft()()

    def lose(self, producer: int) -> None:
        """A producer is dead: of what it had not handed over whole, the first part may still arrive, at any later time."""
        for (who, _), way in self.wires.items():
            if who == producer and way:
                for _ in range(self.rng.randint(0, len(way))):
                    way.pop()

    def out(self, product: str, ce_id: str, value: bytes) -> None:
        self.ledger.append((product, ce_id, value))
        self.note("out", ce_id)
        if b'"status":"provisional"' in value:
            return
        if self.values.setdefault(ce_id, value) != value:
            raise Violation(f"I2: {ce_id} has two values:\n{self.values[ce_id]!r}\n{value!r}")
