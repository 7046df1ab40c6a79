"""A process that is done, or that failed, ends: whatever a library has left running in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import EXIT_FAILED, EXIT_SOFTWARE
from streams.worker import TP, CityWorker, WorkerSettings
from tests.streams import kit

ROOT = Path(__file__).resolve().parent.parent
#: A command whose task takes no notice of being cancelled, beside a thread that does not end.
STUBBORN = """
import asyncio, threading, click
import tilannekuva
from commands import shared

shared.LEAVE_S = 0.2

async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@click.command()
def odd():
    async def main(stop):
        threading.Thread(target=threading.Event().wait).start()
        task = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        {end}
    shared.run(main)

tilannekuva.cli.add_command(odd)
tilannekuva.main()
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("return", 0, "left behind: stubborn"), ("raise OSError('no such broker')", EXIT_FAILED, "no such broker"), ("raise KeyError('ours')", EXIT_SOFTWARE, "ours")],
)  # fmt: skip
def test_what_does_not_end_is_left_behind_and_the_exit_code_is_the_command_s(end: str, code: int, said: str) -> None:
    program = STUBBORN.replace("{end}", end)
    done = subprocess.run([sys.executable, "-c", program, "odd"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


async def test_a_worker_that_is_stopped_while_partitions_are_being_assigned_stops() -> None:
    worker = CityWorker(kit.city(), kit.network(), WorkerSettings(bootstrap="127.0.0.1:1"))
    saved: list[int] = []

    class Driver:
        closed = False

        def __init__(self, partition: int) -> None:
            self.partition = partition
            self.step = SimpleNamespace(owner=f"observe/hfp/{partition}")

        async def maybe_snapshot(self, *, force: bool) -> None:
            saved.append(self.partition)
            worker.drivers[TP("raw.testtown.hfp", self.partition + 10)] = Driver(self.partition + 10)  # type: ignore[assignment]

    async def nothing(*_: Any) -> None:
        """The app was never started."""

    worker.drivers = {TP("raw.testtown.hfp", p): Driver(p) for p in (0, 1)}  # type: ignore[misc]
    worker.app.stop = nothing
    await worker.stop()
    assert saved == [0, 1]
