"""Nothing lost, nothing twice: the short form of the ledger (``make soak`` runs the long one)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.kafka.broker import KafkaBroker
from tests.kafka import ledger
from tests.kafka.harness import Town
from tests.streams import world

pytestmark = pytest.mark.kafka


async def test_killed_workers_and_a_killed_broker_lose_and_change_nothing(tmp_path: Path) -> None:
    lines = world.recording(vehicles=12, seconds=600, late=0.004, duplicates=0.05, poison=0.01, gtfs_rt_every=5)
    town = Town(tmp_path, lines=lines)
    with KafkaBroker(tmp_path / "broker") as broker:
        result = await ledger.run(town, broker, ledger.Plan(kills=3, changes=2, restarts=1))
    assert (result.kills, result.changes, result.restarts) == (3, 2, 1)
    sys.stdout.write(f"{result}\n")
