"""The drivers under crashes, zombies and delays: hundreds of seeds, and broken drivers that must not get through."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors import recordings
from streams import driver, recovery
from streams.driver import DriverSettings, PartitionDriver
from tests.streams import world
from tests.streams.simulated import Broker, Case, Violation
from tests.streams.simulator import Place, Simulation, small_chunks

#: ``SIMULATION_SEEDS=5000 pytest tests/streams/test_simulation.py`` for a long look.
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "200"))
#: ``SIMULATION_POINTS=100000``: a worker dies at each single point of a run, not only at some of each place.
POINTS = int(os.environ.get("SIMULATION_POINTS", "2"))


def make_case(folder: Path, vehicles: int, seconds: int) -> Case:
    city = world.city(folder)
    lines = world.recording(vehicles=vehicles, seconds=seconds, every_s=4, late=0.08, duplicates=0.3, poison=0.04, gtfs_rt_every=20)
    path = world.write_recording(lines, folder / "recording")
    feeds = [f.name for f in city.feeds]
    envelopes = list(recordings.envelopes(recordings.read(path, city), city, feeds, max_wait_ms=8_000))
    return Case(city, world.network(), [e for e in envelopes if e[2].kind != "tick" or e[2].ingest_ms % 20_000 == 0])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("town"), 3, 150)


@pytest.fixture(scope="module", autouse=True)
def _chunks() -> Iterator[None]:
    with small_chunks():
        yield


@pytest.fixture(scope="module")
def calm(case: Case) -> Broker:
    return Simulation(case, seed=0, disturbances=0).run()


def test_an_undisturbed_run_publishes_every_kind_of_record(calm: Broker) -> None:
    products = {product for product, _, _ in calm.ledger}
    assert products >= {"vehicle-position", "segment-state", "feed-health", "dead-letter", "late"}
    assert sum(i.startswith("segment-state") for i in calm.values) > 50


def test_no_crash_zombie_or_delay_loses_doubles_or_changes_anything(case: Case, calm: Broker) -> None:
    crashes = zombies = joins = wipes = 0
    for seed in range(1, SEEDS + 1):
        simulation = Simulation(case, seed, reference=calm)
        try:
            simulation.run()
        except Violation as e:
            raise AssertionError(f"seed {seed}: {e}") from e
        crashes, zombies, joins = crashes + simulation.crashes, zombies + simulation.zombies, joins + simulation.joins
        wipes += simulation.wipes
    assert wipes > SEEDS / 10
    assert min(crashes, zombies, joins) > SEEDS / 2  # the simulator does what it says


#: Awaits at which no worker dies here: time that passes by the wall clock is not simulated; a restore, and what is held back when it begins, does not wait; the sleeps
#: only let others run before the next message, at whose reading it dies.
NOT_DIED_AT = {
    ("idle", "self._drain()"), ("idle", "self.sink.partial(partial, self.step.log_ms())"), ("recover", "self._drain()"), ("recover", "driver.recover(usable)"),
    ("catch_up", "self._drain()"), ("catch_up", "asyncio.sleep(0)"), ("rebuild", "asyncio.sleep(0)"),
}  # fmt: skip


def awaits() -> dict[str, tuple[str, str]]:
    """Function and expression of each await in the driver and in recovery, by the name that a ``Place`` has for it."""
    found: dict[str, tuple[str, str]] = {}
    for module in (driver, recovery):
        for function in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(function, ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Await):
                        found[f"{function.name}:{node.lineno}"] = (function.name, ast.unparse(node.value))
    return found


def test_a_worker_that_dies_at_any_await_loses_doubles_and_changes_nothing(tmp_path: Path) -> None:
    """Every place of the code from which a worker waits, in runs with zombies, wiped snapshots and members that come and go besides."""
    case = make_case(tmp_path, 2, 64)
    calm = Simulation(case, seed=0, disturbances=0).run()
    places: dict[Place, list[tuple[int, int]]] = {}
    known, missing = awaits(), set[tuple[str, str]]()
    for seed in range(1, 201):  # some places are rare: more seeds until all were passed
        simulation = Simulation(case, seed, disturbances=6, reference=calm)
        simulation.run()
        for place, points in simulation.places.items():
            places.setdefault(place, []).extend((seed, k) for k in points)
        seen = {name for place in places for name in place}
        missing = set(known.values()) - {what for name, what in known.items() if name in seen}
        if seed >= 40 and missing == NOT_DIED_AT:
            break
    assert missing == NOT_DIED_AT
    for place, points in places.items():
        for seed, k in points[:: max(1, len(points) // POINTS)][:POINTS]:
            simulation = Simulation(case, seed, disturbances=6, reference=calm, crash_at=k)
            try:
                simulation.run()
            except Violation as e:
                raise AssertionError(f"seed {seed}, died at point {k}, {' > '.join(place)}: {e}") from e
            assert simulation.died == place


def test_the_same_seed_gives_the_same_trace(case: Case, calm: Broker) -> None:
    for seed in (3, 7):
        first, second = (Simulation(case, seed, reference=calm).run().trace.hexdigest() for _ in range(2))
        assert first == second


class AcksFirst(PartitionDriver):
    """Acks before the snapshot is durable."""

    async def _snapshot(self) -> None:
        for message in self.pending:
            message.ack()
        await super()._snapshot()


class NeverSettles(PartitionDriver):
    """Does not wait until the broker has it."""

    async def _snapshot(self) -> None:
        settle, self.sink.settle = self.sink.settle, _at_once  # type: ignore[method-assign]
        try:
            await super()._snapshot()
        finally:
            self.sink.settle = settle  # type: ignore[method-assign]


class ForgetsTheSums(PartitionDriver):
    """Snapshots without sending what was summed since the last partial."""

    async def _snapshot(self) -> None:
        flush, self.step.flush = self.step.flush, lambda: (flush(), None)[1]  # type: ignore[method-assign]
        try:
            await super()._snapshot()
        finally:
            self.step.flush = flush  # type: ignore[method-assign]


class LeavesHoles(PartitionDriver):
    """Does not look whether messages are missing before the one it gets."""

    def gap(self, offset: int) -> bool:
        return False


async def _at_once() -> None:
    """Nothing."""


@pytest.mark.parametrize("broken", [AcksFirst, NeverSettles, ForgetsTheSums])
def test_a_broken_driver_is_caught(case: Case, calm: Broker, broken: type[PartitionDriver]) -> None:
    settings = DriverSettings(snapshot_s=4.0, snapshot_s_mb=0.0, max_pending=15)

    def run(seed: int) -> None:
        Simulation(case, seed, reference=calm, make=lambda step, sink, now: broken(step, sink, now, settings)).run()

    caught = 0
    for seed in range(1, 11):
        try:
            run(seed)
        except Violation:
            caught += 1
    assert caught > 0
