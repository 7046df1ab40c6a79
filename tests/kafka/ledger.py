"""The ledger: uniquely numbered input through workers that are killed, added and removed while the broker is restarted; then every number is looked for."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from deploy.kafka.broker import KafkaBroker
from models.topics import open_topic
from tests.kafka.harness import PATIENCE_S, Town, Worker, compare, end, process, produce, written


@dataclass
class Plan:
    """What is done to the system while it works."""

    seed: int = 1
    kills: int = 3  #: SIGKILLs of workers, at random moments
    changes: int = 2  #: workers added or removed (SIGTERM), 1 to 4 at a time
    restarts: int = 1  #: SIGKILLs of the broker
    freezes: int = 0  #: SIGSTOPs of workers for longer than their session: zombies
    seconds: float = 60.0  #: how long the input takes at least


@dataclass
class Result:
    """What happened."""

    accepted: int = 0
    records: dict[str, int] = field(default_factory=dict)
    distinct: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    changes: int = 0
    restarts: int = 0
    freezes: int = 0
    exits: Counter[int] = field(default_factory=Counter)  #: of workers, by code
    seconds: float = 0.0

    def __str__(self) -> str:
        twice = {p: n - self.distinct[p] for p, n in self.records.items()}
        return (
            f"{self.accepted:,} events accepted; {self.kills} kills, {self.changes} joins and leaves, {self.restarts} broker restarts, {self.freezes} zombies, worker exits "
            f"{dict(sorted(self.exits.items()))}; records {self.records}, of them repeated under the same id {twice}; missing 0, different 0; {self.seconds:.0f} s"
        )


class Fleet:
    """Workers under a supervisor that starts again what ended by itself."""

    def __init__(self, town: Town, bootstrap: str, prefix: str, result: Result) -> None:
        self.town, self.bootstrap, self.prefix, self.result = town, bootstrap, prefix, result
        self.workers: list[Worker] = []
        self.number = 0
        self._frozen: set[asyncio.Task[None]] = set()

    def add(self) -> None:
        self.number += 1
        self.workers.append(Worker(self.town, self.bootstrap, self.prefix, f"w{self.number}", "--session-timeout", "6"))

    def revive(self) -> None:
        """Our own exits (70, or 1 when the broker could not be reached at the start) are followed by a new start."""
        for worker in [w for w in self.workers if w.process.poll() is not None]:
            self.workers.remove(worker)
            self.result.exits[worker.process.returncode] += 1
            assert worker.process.returncode in (70, 1), worker.tail()
            self.add()

    def kill(self, rng: random.Random) -> None:
        working = [w for w in self.workers if b"recovered in" in w.log.read_bytes()] or self.workers  # one that has partitions
        worker = rng.choice(working)
        self.workers.remove(worker)
        worker.kill()
        self.result.exits[-9] += 1
        self.add()

    def freeze(self, rng: random.Random) -> None:
        """It stands still until the group has given its partitions to others, then goes on with what it was doing. Another takes its place."""
        worker = rng.choice(self.workers)
        worker.process.send_signal(signal.SIGSTOP)
        if len(self.workers) < 4:
            self.add()

        async def thaw(seconds: float) -> None:
            await asyncio.sleep(seconds)
            worker.process.send_signal(signal.SIGCONT)

        task = asyncio.create_task(thaw(rng.uniform(8, 16)))
        self._frozen.add(task)
        task.add_done_callback(self._frozen.discard)

    async def remove(self, rng: random.Random) -> None:
        worker = self.workers.pop(rng.randrange(len(self.workers)))
        worker.process.send_signal(signal.SIGTERM)
        code = await worker.exit_code()
        self.result.exits[code] += 1
        assert code in (0, 70, 1, -15), worker.tail()  # -15: it had not come so far as to listen

    async def stop(self) -> None:
        await asyncio.gather(*self._frozen)
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        for worker in self.workers:
            self.result.exits[await worker.exit_code()] += 1
        self.workers = []

    def end(self) -> None:
        for worker in self.workers:
            worker.end()


async def run(town: Town, broker: KafkaBroker, plan: Plan) -> Result:
    """Do it, and compare with the offline driver. Raises AssertionError."""
    rng, result, begin = random.Random(plan.seed), Result(), time.monotonic()
    prefix, bootstrap = f"replay.ledger{plan.seed}.", broker.address
    span_s = (town.lines[-1].received_ms - town.lines[0].received_ms) / 1000
    producing = asyncio.create_task(produce(town, bootstrap, f"ledger{plan.seed}", speed=span_s / plan.seconds))
    fleet = Fleet(town, bootstrap, prefix, result)
    try:
        await _topics_are_there(town, bootstrap, prefix)
        fleet.add()
        fleet.add()
        blows = ["kill"] * plan.kills + ["change"] * plan.changes + ["restart"] * plan.restarts + ["freeze"] * plan.freezes
        rng.shuffle(blows)
        for blow in blows:
            await _progress(town, bootstrap, prefix, fleet)
            await asyncio.sleep(rng.uniform(0, 4))
            fleet.revive()
            if blow == "kill":
                fleet.kill(rng)
                result.kills += 1
            elif blow == "freeze":
                fleet.freeze(rng)
                result.freezes += 1
            elif blow == "restart":
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(rng.uniform(0.5, 3))
                await asyncio.to_thread(broker.start)
                result.restarts += 1
            else:
                n = len(fleet.workers)
                if n < 2 or (n < 4 and rng.random() < 0.5):
                    fleet.add()
                else:
                    await fleet.remove(rng)
                result.changes += 1
        while not producing.done():
            await asyncio.sleep(0.5)
            fleet.revive()
        await producing
        await asyncio.sleep(rng.uniform(0, 5))
        fleet.revive()
        await fleet.stop()
    finally:
        producing.cancel()
        fleet.end()
    await process(town, bootstrap, prefix, workers=2, patience_s=4 * PATIENCE_S)
    found = await written(town, bootstrap, prefix)
    compare(town.offline(prefix), found)
    result.accepted = _account(town, {i for p in ("vehicle-position", "late") for i in found[p].by_id}, found["dead-letter"].records)
    result.records = {p: w.records for p, w in found.items()}
    result.distinct = {p: len(w.by_id) for p, w in found.items()}
    result.seconds = time.monotonic() - begin
    return result


def _account(town: Town, ids: set[str], dead: int) -> int:
    """I1 by the recording itself, without any of our own code: each numbered event is in the output or among the late ones (which are counted below), each broken one a dead letter."""
    sent: Counter[str] = Counter()
    broken = 0
    for line in town.lines:
        if not line.topic.startswith("/hfp/"):
            continue
        try:
            body = json.loads(line.payload)["VP"]
            number = f"0018/{body['veh']:05}:{_epoch_ms(body['tst'])}"
        except (ValueError, KeyError, TypeError):
            broken += 1
            continue
        sent[number] += 1
    published = {i.removeprefix("vehicle-position:").removesuffix(":vp") for i in ids if i.startswith("vehicle-position:")}
    unpublished = set(sent) - published
    late = sum(1 for i in ids if i.startswith("late:"))
    assert len(unpublished) <= late, f"{len(unpublished)} numbered events are neither published nor late ({late})"
    assert dead >= broken, f"{broken} broken messages, {dead} dead letters"
    return sum(sent.values()) + broken


def _epoch_ms(text: str) -> int:
    seconds = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    return int(time.mktime(seconds) - time.mktime(time.gmtime(0))) * 1000 + int(text[20:23])


async def _progress(town: Town, bootstrap: str, prefix: str, fleet: Fleet) -> None:
    """Until positions come out again: a blow at a worker that has not begun is none. At the end of the input there is nothing to wait for."""
    topic, before, deadline = open_topic(town.city.name, "vehicle-position", prefix), None, time.monotonic() + 60
    while time.monotonic() < deadline:
        fleet.revive()
        now = await end(bootstrap, topic)
        if before is not None and now > before:
            return
        before = now
        await asyncio.sleep(0.5)


async def _topics_are_there(town: Town, bootstrap: str, prefix: str) -> None:
    """The producer makes them; a worker would make them too, and both at once is not what is tested."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            await written(town, bootstrap, prefix)
        except Exception:  # topics are not there yet, in whatever words the client says so
            await asyncio.sleep(0.5)
        else:
            return
    raise AssertionError("the topics were not made")
