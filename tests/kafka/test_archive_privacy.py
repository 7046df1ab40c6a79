"""The real command on a real broker: what the archive of an old day holds when it is read back, and that a young day's is whole."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from connectors.envelope import SCHEMA, Envelope, Item, encode, headers
from connectors.kafka import make_producer
from models.clock import parse_ms, rfc3339
from models.records import VehiclePosition
from models.records import encode as encode_record
from models.topics import raw_topic
from streams.admin import ensure_topics
from streams.outputs import Out, Outputs
from streams.writer import Writer
from tests.kafka.harness import Town
from tests.kafka.test_archive import whole

pytestmark = pytest.mark.kafka
OLD_MS = parse_ms("2026-01-05T06:00:00.000Z")
VEHICLE, TRIP, SECRET = "18/00777", "duty-0815", b'{"veh":777,"jrn":815}'


async def test_vehicle_and_duty_are_in_no_file_of_a_day_older_than_30(kafka: str, tmp_path: Path) -> None:
    town = Town(tmp_path / "town")
    prefix, to = f"replay.{uuid.uuid4().hex[:8]}.", tmp_path / "archive"
    young_ms = time.time_ns() // 1_000_000 - 60_000
    await ensure_topics(kafka, town.city, prefix)
    producer = make_producer(kafka, f"talk-{prefix}")
    await producer.start()
    try:
        out, writer = Outputs(), Writer(producer, town.city, prefix)
        for n, at in enumerate((OLD_MS, OLD_MS + 1_000, young_ms, young_ms + 1_000)):
            record = VehiclePosition(
                vehicle_id=VEHICLE, event_time=rfc3339(at), ingest_time=rfc3339(at), feed="hfp", route_id="1001", trip_id=TRIP,
                operating_day="2026-01-05", start_time="07:15", lat_deg=60.1 + n / 1000, lon_deg=24.9,
            )  # fmt: skip
            out.add("vehicle-position", [Out(VEHICLE.encode(), encode_record(record), at, f"vehicle-position:{VEHICLE}:{at}")])
            e = Envelope(SCHEMA, "toytown", "hfp", "hfp", "messages", at, (Item(at, "/hfp/v2/x", SECRET),))
            await producer.send_and_wait(raw_topic("toytown", "hfp", prefix), encode(e), partition=0, timestamp_ms=at, headers=headers(e))
        await writer.write(out)
        await writer.settle()
    finally:
        await producer.stop()
    whole(town, kafka, prefix, to)
    rows = [r for f in to.glob("product=vehicle-position/**/*.parquet") for r in pq.read_table(f, partitioning=None).to_pylist()]
    old = [r for r in rows if r["event_time"].year == 2026 and r["event_time"].month == 1]
    young = [r for r in rows if r not in old]
    assert [(r["vehicle_id"], r["trip_id"]) for r in young] == [(VEHICLE, TRIP)] * 2
    assert len(old) == 2
    assert all(r["vehicle_id"].startswith("trip/") and r["trip_id"] is None and r["start_time"] is None for r in old)
    raw = [r for f in to.glob("product=raw/**/*.parquet") for r in pq.read_table(f, partitioning=None).to_pylist()]
    assert sorted({r["ingest_time"].date().isoformat() for r in raw}) == [rfc3339(young_ms)[:10]], "raw envelopes of the old day are gone"
    for f in to.rglob("day=2026-01-05/*.parquet"):
        for row in pq.read_table(f, partitioning=None).to_pylist():
            assert not any(word in repr(row) for word in (VEHICLE, TRIP, "777"))
        assert VEHICLE.encode() not in f.read_bytes()
        assert TRIP.encode() not in f.read_bytes()
