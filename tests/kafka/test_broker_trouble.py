"""The broker is stopped, killed, frozen, and the network between is cut: the workers go on or end for their supervisor, nothing is lost or changed, no commit passes an output."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from deploy.kafka.broker import KafkaBroker
from models.topics import open_topic
from streams.admin import Probe, ensure_topics
from tests.kafka.harness import PATIENCE_S, Drip, Town, committed_is_out, compare, end, process, produce, written
from tests.kafka.ledger import Fleet, Result
from tests.kafka.proxy import Proxy
from tests.streams import world

pytestmark = pytest.mark.kafka
#: ``NETWORK_CUT_S=60 BROKER_FROZEN_S=40 pytest -s tests/kafka/test_broker_trouble.py`` for the long form.
CUT_S = float(os.environ.get("NETWORK_CUT_S", "10"))
FROZEN_S = float(os.environ.get("BROKER_FROZEN_S", "5"))


async def progress(fleet: Fleet, address: str, topic: str, feeding: asyncio.Task[str]) -> tuple[float, float]:
    """Until new positions have come out, and more is committed than before; how many seconds each took."""
    probe = Probe(address, f"{fleet.prefix}tilannekuva-{fleet.town.city.name}")
    await probe.start()
    try:
        began, before, positions_s = time.monotonic(), None, None
        end_before = await end(address, topic)
        while (passed_s := time.monotonic() - began) < PATIENCE_S:
            assert not feeding.done(), "the whole log was fed before the last trouble: make it longer"
            fleet.revive()
            await asyncio.sleep(1)
            try:
                committed = sum((await probe.committed()).values())
                if positions_s is None and await end(address, topic) > end_before:
                    positions_s = passed_s
            except KafkaError:  # its coordinator is not there yet
                continue
            before = committed if before is None else before
            if positions_s is not None and committed > before:
                return positions_s, passed_s
    finally:
        await probe.stop()
    raise AssertionError([w.tail() for w in fleet.workers])


async def test_a_broker_that_goes_and_comes_back_and_a_cut_network_lose_and_change_nothing(tmp_path: Path) -> None:
    seconds = 600 + int(4 * (CUT_S + FROZEN_S))
    town = Town(tmp_path, lines=world.recording(vehicles=4, seconds=seconds, gtfs_rt_every=5))
    proxy = Proxy()
    await proxy.start()
    address = f"127.0.0.1:{proxy.port}"
    with KafkaBroker(tmp_path / "broker", properties={"advertised.listeners": f"PLAINTEXT://{address}"}) as broker:
        proxy.target = broker.port

        async def restart() -> None:
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)

        async def kill() -> None:
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)

        async def freeze() -> None:
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGSTOP)
            await asyncio.sleep(FROZEN_S)
            os.kill(broker.pid, signal.SIGCONT)

        async def swallow() -> None:
            proxy.swallowing = True
            await asyncio.sleep(CUT_S)
            proxy.swallowing = False

        troubles: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("a clean restart", restart), ("kill -9", kill), (f"frozen for {FROZEN_S:g} s", freeze), (f"a cut of {CUT_S:g} s", swallow), ("all connections broken", proxy.cut),
        ]  # fmt: skip
        prefix, drip = "replay.trouble.", Drip()
        await ensure_topics(address, town.city, prefix)
        observed = town.observed(prefix, max_items=1)
        feeding = asyncio.create_task(produce(town, address, "trouble", max_items=1, go=drip))  # lives through all of it
        topic = open_topic("toytown", "vehicle-position", prefix)
        fleet = Fleet(town, address, prefix, Result())
        try:
            fleet.add()
            await progress(fleet, address, topic, feeding)
            for what, trouble in troubles:
                exits = fleet.result.exits.total()
                await trouble()
                positions_s, commits_s = await progress(fleet, address, topic, feeding)
                committed = await committed_is_out(town, address, prefix, observed)
                ended = fleet.result.exits.total() - exits
                sys.stdout.write(
                    f"{what}: new positions {positions_s:.0f} s and commits {commits_s:.0f} s after the return, {ended} workers ended and were started again; "
                    f"{committed} raw messages committed, all of them out\n"
                )
            drip.set()
            await feeding
            await fleet.stop()
        finally:
            feeding.cancel()
            fleet.end()
        await process(town, address, prefix, workers=2, patience_s=4 * PATIENCE_S)
        compare(town.offline(prefix, max_items=1), await written(town, address, prefix))
        await proxy.stop()
