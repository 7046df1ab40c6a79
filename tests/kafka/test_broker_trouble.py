"""The broker is stopped and started, and the network between is cut: the workers go on or end for their supervisor, and nothing is lost or changed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from deploy.kafka.broker import KafkaBroker
from models.topics import open_topic
from tests.kafka.harness import PATIENCE_S, Town, compare, end, process, produce, written
from tests.kafka.ledger import Fleet, Result
from tests.kafka.proxy import Proxy
from tests.streams import world

pytestmark = pytest.mark.kafka
#: ``NETWORK_CUT_S=60 pytest tests/kafka/test_broker_trouble.py`` for the long form.
CUT_S = float(os.environ.get("NETWORK_CUT_S", "10"))


async def progress(fleet: Fleet, address: str, topic: str) -> None:
    """Until new positions come out."""
    before = await end(address, topic)
    for _ in range(int(PATIENCE_S)):
        fleet.revive()
        await asyncio.sleep(1)
        if await end(address, topic) > before:
            return
    raise AssertionError([w.tail() for w in fleet.workers])


async def test_a_restarted_broker_and_a_cut_network_lose_and_change_nothing(tmp_path: Path) -> None:
    town = Town(tmp_path, lines=world.recording(vehicles=6, seconds=900, gtfs_rt_every=5))
    proxy = Proxy()
    await proxy.start()
    address = f"127.0.0.1:{proxy.port}"
    with KafkaBroker(tmp_path / "broker", properties={"advertised.listeners": f"PLAINTEXT://{address}"}) as broker:
        proxy.target = broker.port
        prefix = await produce(town, address, "trouble", max_items=1)
        topic = open_topic("toytown", "vehicle-position", prefix)
        fleet = Fleet(town, address, prefix, Result())
        try:
            fleet.add()
            await progress(fleet, address, topic)
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
            await progress(fleet, address, topic)
            proxy.swallowing = True
            await asyncio.sleep(CUT_S)
            proxy.swallowing = False
            await progress(fleet, address, topic)
            await proxy.cut()
            await progress(fleet, address, topic)
            await fleet.stop()
        finally:
            fleet.end()
        await process(town, address, prefix, workers=2)
        compare(town.offline(prefix, max_items=1), await written(town, address, prefix))
        await proxy.stop()
