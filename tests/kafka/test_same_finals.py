"""The same recording through Apache Kafka and the Faust workers gives what the offline driver gives, byte for byte."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from geo import lines, store
from geo.network import Network
from geo.project import Plane
from tests.kafka.harness import PATIENCE_S, ROOT, Town, Worker, compare, process, produce, written
from tests.streams import world

pytestmark = pytest.mark.kafka


async def check(town: Town, kafka: str, prefix: str, *, max_items: int) -> None:
    expected = town.offline(prefix, max_items=max_items)
    assert len(expected["segment-state"]) > 100
    compare(expected, await written(town, kafka, prefix))


@pytest.mark.parametrize(("max_items", "workers"), [(200, 1), (7, 2)])
async def test_kafka_and_offline_give_the_same_bytes(kafka: str, tmp_path: Path, max_items: int, workers: int) -> None:
    town = Town(tmp_path, lines=world.recording(seconds=400, gtfs_rt_every=5))
    prefix = await produce(town, kafka, uuid.uuid4().hex[:8], max_items=max_items)
    await process(town, kafka, prefix, workers)
    await check(town, kafka, prefix, max_items=max_items)


async def test_two_cities_in_one_worker_give_the_bytes_of_each_alone(kafka: str, tmp_path: Path) -> None:
    run, towns = uuid.uuid4().hex[:8], list[Town]()
    for seed, name in enumerate(("easttown", "westtown"), 1):
        town = Town(tmp_path / name, lines=world.recording(seed, seconds=300, gtfs_rt_every=5), network=world.network(name), name=name)
        store.save(town.network, tmp_path / "data" / "networks" / name)
        prefix = await produce(town, kafka, run)
        towns.append(town)
    files = [str(t.city_file) for t in towns]
    command = [sys.executable, "-m", "tilannekuva", "process", *files, "--broker", kafka, "--prefix", prefix, "--until-end"]
    told = tmp_path / "worker.log"
    with told.open("wb") as log:
        worker = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "TILANNEKUVA_DATA": str(tmp_path / "data")})
    try:
        assert await asyncio.to_thread(worker.wait, PATIENCE_S) == 0, told.read_text()[-3000:]
    finally:
        worker.kill()
        worker.wait(30)
    for town in towns:
        await check(town, kafka, prefix, max_items=200)


async def test_a_worker_killed_in_the_middle_changes_no_byte(kafka: str, tmp_path: Path) -> None:
    town = Town(tmp_path, lines=world.recording(seconds=400, gtfs_rt_every=5))
    prefix = await produce(town, kafka, uuid.uuid4().hex[:8], max_items=1)
    victim = Worker(town, kafka, prefix, "victim")
    try:
        while not (await written(town, kafka, prefix))["vehicle-position"].records:
            assert victim.process.poll() is None, victim.tail()
            await asyncio.sleep(0.3)
    finally:
        victim.kill()
    await process(town, kafka, prefix)
    await check(town, kafka, prefix, max_items=1)


def streets(shared: Path) -> Network:
    """Streets of Helsinki's bus lines from HSL's line geometries of 2021, among them most of line 43's of 2018."""
    table = lines.read_table(shared / "networks" / "hsl_lines_2021" / "HSL_linjat.zip")
    drawn = lines.drawn_lines(table[table["NUMERO"].str.match("10[3-6]|132|134")], Plane(world.CRS), "HSL_linjat.zip")
    segments, shapes, schedule = lines.segments_and_shapes(drawn)
    return store.versioned(Network("toytown", "", world.CRS, segments, shapes, schedule, "bus lines", "CC-BY-4.0", "HSL"))


async def test_the_recording_of_line_43_gives_the_same_finals(kafka: str, tmp_path: Path, shared: Path) -> None:
    town = Town(tmp_path, network=streets(shared))
    town.recording = shared / "feeds" / "helsinki" / "hfp" / "v1_bus43_20181005.txt"
    prefix = await produce(town, kafka, uuid.uuid4().hex[:8])
    await process(town, kafka, prefix, workers=2)
    await check(town, kafka, prefix, max_items=200)
