"""A day of an archive, replayed live through Kafka at ten times its speed and offline: the same bytes; and the archive of what came out is what the offline replay writes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from models.archive import EXTRA
from models.clock import parse_ms
from models.topics import PRODUCTS
from streams import replays
from streams.offline import Run, replay
from tests.kafka.harness import PATIENCE_S, ROOT, Town, Worker, compare, written
from tests.streams import world

pytestmark = pytest.mark.kafka
DAY = "2026-03-10"
#: The recording begins this long before the day does, seconds, and lasts so long.
BEFORE_S, SECONDS = 40, 130


async def tilannekuva(town: Town, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tilannekuva", *words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, said.decode()[-3000:]


async def archive(town: Town, kafka: str, prefix: str, to: Path) -> None:
    await tilannekuva(town, "archive", str(town.city_file), "--broker", kafka, "--prefix", prefix, "--to", str(to), "--until-end")


def offline(town: Town, where: Path, prefix: str) -> dict[str, dict[str, bytes]]:
    """Finals by ce_id, by product."""
    found: dict[str, dict[str, bytes]] = {}
    log = replays.log_of([where], town.city, max_items=200, simulated=False, days=[DAY])
    for out in replay(Run(town.city, town.network, raw_prefix=prefix), log):
        for product, outs in out.records.items():
            found.setdefault(product, {}).update((o.ce_id, o.value) for o in outs if b'"status":"provisional"' not in o.value)
    return found


def finals(found: pa.Table, product: str) -> list[str]:
    """Rows of a product as they compare, without what an archive adds: sorted."""
    if "status" in found.column_names:
        found = found.filter(pc.equal(found.column("status"), "final"))
    columns = [f for f in PRODUCTS[product].record.__struct_fields__ if f != "geometry"]
    return sorted(map(repr, found.select(columns).to_pylist()))


def once(where: Path, product: str) -> pa.Table:
    """What an archive holds of a product; a record that was published twice is there once."""
    rows = ds.dataset(where / f"product={product}", format="parquet").to_table()
    assert set(EXTRA) <= set(rows.column_names)
    assert not any(rows.column("unreadable").to_pylist())
    first: dict[str, int] = {}
    for k, ce_id in enumerate(rows.column("ce_id").to_pylist()):
        first.setdefault(ce_id, k)
    return rows.take(pa.array(first.values(), pa.int64()))


async def test_an_archived_day_live_at_ten_times_its_speed_and_offline_gives_the_same_bytes(kafka: str, tmp_path: Path) -> None:
    start_ms = parse_ms(f"{DAY}T00:00:00.000Z") - BEFORE_S * 1000
    town = Town(tmp_path, lines=world.recording(seconds=SECONDS, gtfs_rt_every=5, poison=0.01, start_ms=start_ms))
    first, run = uuid.uuid4().hex[:8], uuid.uuid4().hex[:8]
    # simulated: or the archiver would take the names out of days so old
    await replays.to_kafka([town.recording], town.city, kafka, first, speed=None, max_items=200, simulated=True, stop=asyncio.Event())
    await archive(town, kafka, f"replay.{first}.", tmp_path / "archive")

    prefix = f"replay.{run}."
    expected = offline(town, tmp_path / "archive", prefix)
    assert len(expected["segment-state"]) > 30
    assert len(expected["dead-letter"]) > 2
    worker = Worker(town, kafka, prefix, "live")
    try:
        await tilannekuva(
            town, "replay", str(tmp_path / "archive"), "--city", str(town.city_file), "--to", "kafka", "--day", DAY, "--speed", "10",
            "--run", run, "--broker", kafka,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            while {p for p, w in (await written(town, kafka, prefix)).items() if set(w.by_id) < set(expected.get(p, ()))}:
                assert worker.process.poll() is None, worker.tail()
                await asyncio.sleep(0.5)
    finally:
        worker.end()
    compare(expected, await written(town, kafka, prefix))

    await archive(town, kafka, prefix, tmp_path / "again")
    replays.to_folder([tmp_path / "archive"], town.city, town.network, tmp_path / "run", days=[DAY])
    for product in ("segment-state", "vehicle-position", "emission-segment", "emission-area", "area-state", "line-fluency", "feed-health"):
        rows = finals(pq.read_table(tmp_path / "run" / f"{product}.parquet"), product)
        assert rows, product
        assert finals(once(tmp_path / "again", product), product) == rows, product
