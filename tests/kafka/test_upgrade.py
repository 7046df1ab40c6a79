"""A new version beside an old one in one group, under load: nothing is lost, nothing is doubled, and no byte of what is final changes."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import uuid
from pathlib import Path

import pytest

from tests.kafka.harness import ROOT, Town, Worker, compare, produce, written
from tests.streams import world

pytestmark = pytest.mark.kafka
ROOMS = ("commands", "connectors", "geo", "models", "streams")
#: What a version writes into its snapshots about their form. A release that changes the form raises these, and can then not go on from the other's snapshots.
FORMS = {"streams/observe.py": "STATE_SCHEMA", "streams/fuse.py": "STATE_SCHEMA"}


def another_version(folder: Path) -> Path:
    """This tree, with snapshots of another form: the hardest kind of release to roll out, and to roll back."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tilannekuva.py", folder)
    for name, constant in FORMS.items():
        path = folder / name
        text, found = re.subn(rf"^({constant}) = (\d+)$", lambda m: f"{m[1]} = {int(m[2]) + 1000}", path.read_text(), flags=re.M)
        assert found == 1, name
        path.write_text(text)
    return folder


async def until_more(town: Town, kafka: str, prefix: str, worker: Worker, than: int) -> int:
    """Wait until positions are being written."""
    while True:
        assert worker.process.poll() is None, worker.tail()
        records = (await written(town, kafka, prefix, ["vehicle-position"]))["vehicle-position"].records
        if records > than:
            return records
        await asyncio.sleep(0.5)


async def test_workers_are_replaced_one_after_the_other_under_load(kafka: str, tmp_path: Path) -> None:
    town = Town(tmp_path / "town", lines=world.recording(seconds=300, gtfs_rt_every=5))
    new = another_version(tmp_path / "new")
    run = uuid.uuid4().hex[:8]
    prefix = f"replay.{run}."
    load = asyncio.create_task(produce(town, kafka, run, max_items=20, speed=20.0))
    workers: list[Worker] = []
    try:
        await asyncio.sleep(2)  # the topics are being made
        workers = [Worker(town, kafka, prefix, f"old-{n}") for n in (1, 2)]
        seen = await until_more(town, kafka, prefix, workers[0], 0)
        for n in (0, 1):
            workers[n].process.send_signal(signal.SIGTERM)
            assert await workers[n].exit_code() == 0, workers[n].tail()
            workers[n] = Worker(town, kafka, prefix, f"new-{n + 1}", root=new)
            seen = await until_more(town, kafka, prefix, workers[n], seen)
        await load
        last = Worker(town, kafka, prefix, "last", "--until-end", root=new)
        workers.append(last)
        assert await last.exit_code() == 0, last.tail()
    finally:
        load.cancel()
        for w in workers:
            w.end()
    expected = town.offline(prefix, max_items=20)
    assert len(expected["segment-state"]) > 100
    compare(expected, await written(town, kafka, prefix))
