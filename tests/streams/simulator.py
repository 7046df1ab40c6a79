"""A seeded simulation of workers, broker and network around the real drivers, steps and snapshots: crashes at any await, zombies, delays, torn snapshots.

One process, one event loop without timers: everything that happens is decided by one ``random.Random``, so the same seed gives the same trace. Checked all the while:

I1  every event of the raw log ends in an output, a dead letter or the late topic
I2  distinct outputs equal those of an undisturbed run, and so do the finals, byte for byte; an id never has two values
I3  nothing is in the output that the undisturbed run does not have
I4  of each vehicle, positions come up first in the order of the log
I5  a committed offset never passes the first message whose outputs and state are not durable

``crash_at`` kills a worker at one await of its own: every await of the driver and of the recovery at which others may run is a ``Worker.point``, with the place in the code
from which it was reached (``places``), so that a test can see to it that each has been died at.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from streams import snapshots
from streams.driver import DriverSettings, PartitionDriver, Step
from streams.outputs import Outputs
from streams.recovery import close_gap, recover
from streams.snapshots import Snapshot, pack, unpack
from tests.streams.simulated import PARTIALS, TP, Broker, Case, Violation

#: Whose lines name a place.
WATCHED = ("driver.py", "recovery.py", "simulator.py")
Place = tuple[str, ...]


@dataclass
class Message:
    """A message as the driver sees it."""

    worker: Worker
    tp: TP
    offset: int
    value: bytes | None
    timestamp_ms: int = 0

    def ack(self) -> None:
        if not self.worker.dead:
            self.worker.acked.setdefault(self.tp, set()).add(self.offset)


class Worker:
    """One worker process: a driver a partition, an agent a partition, a ticker, and a producer whose writes take their time."""

    def __init__(self, sim: Simulation, number: int) -> None:
        self.sim, self.number, self.broker, self.rng = sim, number, sim.broker, sim.rng
        self.drivers: dict[TP, PartitionDriver] = {}
        self.acked: dict[TP, set[int]] = {}
        self.base: dict[TP, int] = {}
        self.generation = -1
        self.dead = self.frozen = False
        self.tasks: list[asyncio.Task[None]] = []
        self.open: dict[str, int] = {}  #: writes on their way, by topic

    # ------------------------------------------------------------------- sink

    async def point(self) -> None:
        """Any await: others run, the network moves, time passes; a frozen process stands still."""
        self.sim.passed(self)
        self.broker.deliver()
        self.sim.clock += self.rng.random() * 0.4
        for _ in range(self.rng.randint(1, 3)):
            await asyncio.sleep(0)
        while self.frozen:
            await asyncio.sleep(0)
        if self.dead:
            raise asyncio.CancelledError

    def _send(self, topic: str, arrive: Callable[[], None]) -> None:
        self.open[topic] = self.open.get(topic, 0) + 1

        def arrived() -> None:
            self.open[topic] -= 1
            arrive()

        self.broker.wires.setdefault((self.number, topic), deque()).append(arrived)

    async def write(self, outputs: Outputs) -> None:
        for product, outs in outputs.records.items():
            await self.point()
            for o in outs:
                self._send(product, lambda product=product, o=o: self.broker.out(product, o.ce_id, o.value))  # type: ignore[misc]

    async def partial(self, data: bytes, log_ms: int) -> None:
        await self.point()
        self._send("partials", lambda: self.broker.log[PARTIALS].append(data))

    async def snapshot(self, snapshot: Snapshot, log_ms: int) -> None:
        chunks = pack(snapshot)

        def arrive(k: int) -> None:
            key, value = chunks[k]
            self.broker.state[key] = value
            if k == len(chunks) - 1:
                self.broker.arrived[snapshot.owner] = max(self.broker.arrived.get(snapshot.owner, -1), snapshot.offset)

        for k in range(len(chunks)):
            await self.point()
            self._send("state", lambda k=k: arrive(k))  # type: ignore[misc]

    async def settle(self) -> None:
        await self.point()
        while any(self.open.values()):
            await self.point()

    # ------------------------------------------- Store and PartitionLog, as recovery sees them

    async def read(self, owner: str, *, whole: bool = False) -> list[Snapshot]:
        await self.point()
        return unpack(list(self.broker.state.values()), owner)

    async def begin(self, tp: TP) -> int:
        await self.point()
        return 0

    async def end(self, tp: TP) -> int:
        await self.point()
        return len(self.broker.log[tp])

    async def rebuild_from(self, tp: TP, offset: int) -> int:
        await self.point()
        return 0

    async def between(self, tp: TP, start: int, end: int) -> AsyncIterator[tuple[int, bytes | None, int]]:
        for offset in range(start, end):
            await self.point()
            yield offset, self.broker.log[tp][offset], 0

    # ------------------------------------------------------------------ group

    async def start(self, partitions: list[TP], generation: int) -> None:
        """The group gives it partitions: it goes on from what was committed."""
        self.generation = generation
        for tp in set(self.drivers) - set(partitions):
            del self.drivers[tp]
        self.acked, self.base = {}, {tp: self.broker.committed.get(tp, 0) for tp in partitions}
        for tp in sorted(partitions):
            if tp not in self.drivers:
                driver = self.sim.driver(self, tp)
                await recover(driver, tp, self, self)
                self.drivers[tp] = driver
            self.drivers[tp].closed = False
        self.tasks = [asyncio.create_task(self._agent(tp)) for tp in sorted(partitions)]
        self.tasks.append(asyncio.create_task(self._tick()))

    async def revoke(self) -> None:
        """A rebalance: finish what is in hand, make it durable, commit."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for tp in sorted(self.drivers):
            if not self.dead:
                await self.drivers[tp].maybe_snapshot(force=True)
        self._commit()
        for driver in self.drivers.values():
            driver.closed = True
            driver.forget_pending()

    def crash(self) -> None:
        """SIGKILL."""
        self.dead, self.frozen = True, False
        self.broker.lose(self.number)
        for task in self.tasks:
            task.cancel()

    async def _agent(self, tp: TP) -> None:
        offset = self.base[tp]
        while True:
            await self.point()
            if offset >= len(self.broker.log[tp]):
                continue
            driver, message = self.drivers[tp], Message(self, tp, offset, self.broker.log[tp][offset])
            if driver.gap(offset):
                await close_gap(driver, tp, offset, self, self)
            more = offset + 1 < len(self.broker.log[tp]) and self.sim.rng.random() < 0.5
            await asyncio.shield(asyncio.ensure_future(self._feed(driver, message, more)))
            offset += 1

    async def _feed(self, driver: PartitionDriver, message: Message, more: bool) -> None:
        """Not cut short by a rebalance, which waits for what agents have in hand; a crash stops it by ``dead``."""
        with contextlib.suppress(asyncio.CancelledError):
            await driver.feed(message, more=more)

    async def _tick(self) -> None:
        while True:
            await self.point()
            for tp in sorted(self.drivers):
                await asyncio.shield(asyncio.ensure_future(self.drivers[tp].maybe_snapshot()))
            self._commit()

    def _commit(self) -> None:
        for tp in sorted(self.base):
            offset, acked = self.base[tp], self.acked.get(tp, set())
            while offset in acked:
                offset += 1
            if offset > self.base[tp] and self.generation == self.broker.generation and not self.dead:
                self.base[tp] = offset
                self.sim.commit(tp, offset)


@dataclass
class Simulation:
    """One run."""

    case: Case
    seed: int
    disturbances: int = 12
    make: Callable[[Callable[[], Step], Worker, Callable[[], float]], PartitionDriver] | None = None
    reference: Broker | None = None
    crash_at: int = 0  #: the worker that comes to this point dies there; 0: none does
    crashes: int = 0
    zombies: int = 0
    wipes: int = 0  #: the state topic lost all it had, and a worker died
    joins: int = 0
    clock: float = 0.0
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.broker = Broker(self.case, self.rng)
        self.numbers = 0
        self.zombie: list[tuple[Worker, int]] = []
        self.points = 0
        self.places: dict[Place, list[int]] = {}  #: of the points that were passed
        self.died: Place | None = None

    def passed(self, worker: Worker) -> None:
        """A worker comes to a point."""
        if worker.dead:
            raise asyncio.CancelledError
        self.points += 1
        place = _place()
        self.places.setdefault(place, []).append(self.points)
        if self.points == self.crash_at:
            self.died = place
            self.broker.note("dies", worker.number, place)
            self.crashes += 1
            worker.crash()
            raise asyncio.CancelledError

    def driver(self, worker: Worker, tp: TP) -> PartitionDriver:
        settings = DriverSettings(snapshot_s=4.0, snapshot_s_mb=0.0, max_pending=8)
        make = self.make or (lambda step, sink, now: PartitionDriver(step, sink, now, settings))
        return make(lambda: self.case.step(tp), worker, lambda: self.clock)

    def commit(self, tp: TP, offset: int) -> None:
        """I5: outputs and state of everything below are durable."""
        self.broker.note("commit", tp, offset)
        if offset < self.broker.committed.get(tp, 0):
            raise Violation(f"I5: commit of {tp} goes back to {offset}")
        self.broker.committed[tp] = offset
        owner = self.case.owners[tp]
        if self.broker.arrived.get(owner, -1) < offset - 1:
            raise Violation(f"I5: {tp} committed to {offset}, best snapshot {self.broker.arrived.get(owner)}")
        if self.reference is not None and tp != PARTIALS:
            missing = [i for ids in self.case.ids(tp)[:offset] for i in ids if i not in self.broker.values]
            if missing:
                raise Violation(f"I5: {tp} committed to {offset}, without {missing[:3]}")

    # --------------------------------------------------------------------- run

    def run(self) -> Broker:
        """Until everything is worked off. Raises Violation."""
        asyncio.run(self._run())
        self.verify()
        return self.broker

    async def _run(self) -> None:
        await self._join()
        left, rounds = self.disturbances, 0
        while not self._worked_off():
            rounds += 1
            if rounds > 20_000:
                raise Violation(f"no progress: committed {self.broker.committed}")
            for _ in range(self.rng.randint(5, 60)):
                await asyncio.sleep(0)
                self.broker.deliver()
            self._raise_errors()
            if any(w.dead for w in self.workers):
                self.workers = [w for w in self.workers if not w.dead]
                await self._join()
            for pair in [z for z in self.zombie if z[1] <= rounds]:
                self.zombie.remove(pair)
                await self._thaw(pair[0])
            if left and self.rng.random() < 0.25:
                left -= 1
                await self._disturb(rounds)
        for worker, _ in self.zombie:
            await self._thaw(worker)
        await _all(worker.revoke() for worker in self.workers)
        while any(self.broker.wires.values()):
            self.broker.deliver()

    def _worked_off(self) -> bool:
        b = self.broker
        return all(b.committed.get(tp, 0) >= len(v) for tp, v in b.log.items()) and not any(b.wires.values()) and not self.zombie

    def _raise_errors(self) -> None:
        for worker in self.workers:
            for task in worker.tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def _disturb(self, rounds: int) -> None:
        what = self.rng.choices(("crash", "join", "leave", "zombie", "wipe"), (5, 2, 1, 2, 1))[0]
        worker = self.rng.choice(self.workers)
        self.broker.note(what, worker.number)
        if what == "wipe":
            self.wipes += 1
            self.broker.state.clear()
        if what in ("crash", "wipe"):
            self.crashes += 1
            worker.crash()
            await asyncio.gather(*worker.tasks, return_exceptions=True)
            self.workers.remove(worker)
        elif what == "leave" and len(self.workers) > 1:
            self.workers.remove(worker)
            await _all([worker.revoke()])
        elif what == "zombie":
            self.zombies += 1
            worker.frozen = True
            self.workers.remove(worker)
            self.zombie.append((worker, rounds + self.rng.randint(1, 12)))
        if not self.workers or (what == "join" and len(self.workers) < 3):
            self.joins += 1
            await self._join()
        else:
            await self._rebalance()

    async def _join(self) -> None:
        self.numbers += 1
        await self._rebalance(Worker(self, self.numbers))

    async def _rebalance(self, *new: Worker) -> None:
        """Eager: all members give up everything, and get their share of it."""
        await _all(w.revoke() for w in self.workers)
        self.workers += new
        self.broker.generation += 1
        tps = sorted(self.broker.log)
        self.rng.shuffle(tps)
        n = len(self.workers)
        await _all(w.start(tps[k::n], self.broker.generation) for k, w in enumerate(self.workers))

    async def _thaw(self, worker: Worker) -> None:
        """It wakes up, does what it was about to, and learns a little later that it has lost its partitions."""
        self.broker.note("thaw", worker.number)
        worker.frozen = False
        for _ in range(self.rng.randint(0, 300)):
            await asyncio.sleep(0)
            self.broker.deliver()
        if self.rng.random() < 0.5:
            worker.crash()
            await asyncio.gather(*worker.tasks, return_exceptions=True)
        else:
            await _all([worker.revoke()])

    # ------------------------------------------------------------------- verify

    def verify(self) -> None:
        """I1 to I4 against the undisturbed run."""
        if self.reference is None:
            return
        have, want = self.broker.values, self.reference.values
        if missing := sorted(set(want) - set(have)):
            raise Violation(f"I1: {len(missing)} missing, e.g. {missing[:3]}")
        if phantom := sorted(set(have) - set(want)):
            raise Violation(f"I3: {len(phantom)} that should not be, e.g. {phantom[:3]}")
        if wrong := sorted(i for i in want if have[i] != want[i]):
            raise Violation(f"I2: {len(wrong)} differ, e.g.\n{have[wrong[0]]!r}\n{want[wrong[0]]!r}")
        if self._order(self.broker) != self._order(self.reference):
            raise Violation("I4: positions of a vehicle came up in another order")

    @staticmethod
    def _order(broker: Broker) -> dict[str, list[str]]:
        first: dict[str, None] = {}
        for product, ce_id, _ in broker.ledger:
            if product == "vehicle-position":
                first.setdefault(ce_id)
        order: dict[str, list[str]] = {}
        for ce_id in first:
            order.setdefault(ce_id.split(":")[1], []).append(ce_id)
        return order


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until all are done; a worker that dies in the middle of it is not waited for."""
    for error in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
            raise error


def _place() -> Place:
    """From where in the drivers, in recovery and in the life of a worker a point is reached: names of functions, the outermost first, with the lines that await."""
    frame, names = sys._getframe(2), list[str]()
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith(WATCHED) and code.co_name not in ("run", "_run", "point"):
            names.append(f"{code.co_name}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(reversed(names))


def small_chunks(size: int = 4096) -> contextlib.AbstractContextManager[None]:
    """Snapshots in many messages, so that they can be torn."""

    @contextlib.contextmanager
    def patched() -> AsyncIterator[None]:  # type: ignore[misc]
        before = snapshots.CHUNK_BYTES
        snapshots.CHUNK_BYTES = size
        try:
            yield
        finally:
            snapshots.CHUNK_BYTES = before

    return patched()  # type: ignore[return-value]
