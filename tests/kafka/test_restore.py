"""A city whose broker is gone, restored on an empty one from the archive of what its feeds said: the same finals, byte for byte."""

from __future__ import annotations

import asyncio
import re
import shutil
import uuid
from pathlib import Path

import pytest

from deploy.kafka.broker import KafkaBroker
from models.clock import parse_ms
from streams import replays
from tests.kafka.harness import Town, process, written
from tests.kafka.test_archive_replay import archive, tilannekuva
from tests.streams import world

pytestmark = pytest.mark.kafka


async def test_an_archive_makes_the_picture_anew_on_an_empty_broker(kafka: str, tmp_path: Path) -> None:
    town = Town(tmp_path / "town", lines=world.recording(seconds=150, gtfs_rt_every=5, start_ms=parse_ms("2026-03-10T06:00:00.000Z")))
    first, run = uuid.uuid4().hex[:8], "restored"
    await replays.to_kafka([town.recording], town.city, kafka, first, speed=None, max_items=200, simulated=True, stop=asyncio.Event())
    await process(town, kafka, f"replay.{first}.")
    before = await written(town, kafka, f"replay.{first}.")
    assert before["segment-state"].records > 50
    await archive(town, kafka, f"replay.{first}.", tmp_path / "archive")
    for folder in (tmp_path / "archive").iterdir():  # what only the feeds said is enough
        if folder.is_dir() and folder.name != "product=raw":
            shutil.rmtree(folder)

    with KafkaBroker(tmp_path / "empty") as empty:
        await tilannekuva(
            town, "replay", str(tmp_path / "archive"), "--city", str(town.city_file), "--to", "kafka", "--run", run, "--broker", empty.address,
        )  # fmt: skip
        await process(town, empty.address, f"replay.{run}.")
        after = await written(town, empty.address, f"replay.{run}.")
    for product, w in before.items():
        if product not in ("dead-letter", "late"):  # they name topics, which have other names now
            want, have = w.one_each(), after[product].one_each()
            assert want.items() <= have.items(), f"{product}: {sorted(set(want) - set(have))[:3]} or other bytes"
            last_ms = max(map(moment_ms, want), default=0)
            assert all(moment_ms(i) > last_ms for i in have.keys() - want.keys()), product


def moment_ms(ce_id: str) -> int:
    """When it happened. A replay lets time pass for a while after its last message, so it tells of some minutes more."""
    found = re.search(r":(1[0-9]{12})(?::|$)", ce_id)
    assert found, ce_id
    return int(found[1])
