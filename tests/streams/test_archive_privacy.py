"""After 30 days an archive names no vehicle together with its duty: read back from the files that the archiver's own round leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.clock import rfc3339
from models.records import StopPassage, VehiclePosition, encode
from models.topics import PRODUCTS, open_topic
from streams.archive import Archiver, ArchiveSettings, _Heap
from streams.archive_files import Files, Source
from streams.archive_privacy import DUTY, WITHOUT_VEHICLES
from streams.archive_rows import Row
from streams.archive_store import Store

DAY_MS = 86_400_000
NOW_MS = 1_773_100_800_000  # 2026-03-10
TODAY = "2026-03-10"


def position(offset: int, vehicle: str, trip: str, at_ms: int, *, simulated: bool | None = None, route: str | None = "1001") -> Row:
    record = VehiclePosition(
        vehicle_id=vehicle, event_time=rfc3339(at_ms), ingest_time=rfc3339(at_ms), feed="hfp", lat_deg=60.1, lon_deg=24.9, route_id=route,
        direction_id=0, trip_id=trip or None, operating_day="2026-01-05" if trip else None, start_time="07:00" if trip else None,
        odometer_m=float(offset), simulated=simulated,
    )  # fmt: skip
    return Row(offset, at_ms, vehicle.encode(), encode(record), f"vehicle-position:{vehicle}:{at_ms}")


def kept(where: Path, product: str, rows: Sequence[Row], today: str = TODAY) -> Store:
    """What an archiver's round leaves of these rows."""
    source = Source("toytown", product, open_topic("toytown", product), "CC-BY-4.0", ("Nobody",))
    store = Store(where, make=True)
    archiver = Archiver({source.topic: source}, store, "127.0.0.1:1", ArchiveSettings(), today=lambda: today)
    files = Files.open(store, source, 0)
    for at in range(0, len(rows), 3):
        files.write(rows[at : at + 3], 0)
    archiver.heaps = {("t", 0): _Heap(files)}  # type: ignore[dict-item]
    asyncio.run(archiver._keep_house())
    return store


def read(where: Path) -> list[dict[str, Any]]:
    return [r for f in sorted(where.rglob("*.parquet")) for r in pq.read_table(f, partitioning=None).to_pylist()]


def test_a_vehicle_and_its_duties_are_kept_30_days_and_then_only_single_trips_without_names(tmp_path: Path) -> None:
    old, young = NOW_MS - 31 * DAY_MS, NOW_MS - 29 * DAY_MS
    trips = [("18/77", "A"), ("18/77", "A"), ("18/77", "B"), ("18/78", "A"), ("18/78", "A"), ("18/77", "B")]
    rows = [position(n, v, t, old + n * 60_000) for n, (v, t) in enumerate(trips)]
    rows += [position(6 + n, v, t, young + n * 60_000) for n, (v, t) in enumerate(trips)]
    kept(tmp_path, "vehicle-position", rows)
    found = sorted(read(tmp_path), key=lambda r: r["kafka_offset"])
    assert [r["kafka_offset"] for r in found] == list(range(12)), "no row is lost"
    before, after = found[:6], found[6:]
    assert {(r["vehicle_id"], r["trip_id"]) for r in after} == set(trips), "younger days are as they were"
    for r in before:
        assert r["vehicle_id"].startswith("trip/")
        assert [r[name] for name in (*DUTY["vehicle-position"], "ce_id")] == [None] * 5
        assert (r["route_id"], r["lat_deg"]) == ("1001", 60.1), "what traffic is studied by stays"
    names = [r["vehicle_id"] for r in before]
    assert names[0] == names[1] != names[2] == names[5], "one trip hangs together, two trips of a vehicle do not"
    assert names[3] == names[4] not in (names[0], names[2])
    whole = b"".join(f.read_bytes() for f in tmp_path.rglob("day=2026-02-07/*.parquet"))
    assert whole
    assert b"18/77" not in whole, "not in the statistics of the columns either"


def test_the_same_vehicle_has_another_name_on_another_day(tmp_path: Path) -> None:
    old = NOW_MS - 40 * DAY_MS
    kept(tmp_path, "vehicle-position", [position(n, "18/77", "A", old + n * DAY_MS) for n in range(4)])
    assert len({r["vehicle_id"] for r in read(tmp_path)}) == 4


def test_a_vehicle_without_route_or_trip_has_no_name_and_one_without_trip_one_for_an_hour(tmp_path: Path) -> None:
    old = NOW_MS - 40 * DAY_MS
    rows = [position(0, "18/77", "", old, route=None)]
    rows += [position(1 + n, "18/77", "", old + n * 1_800_000) for n in range(4)]
    kept(tmp_path, "vehicle-position", rows)
    names = [r["vehicle_id"] for r in sorted(read(tmp_path), key=lambda r: r["kafka_offset"])]
    assert names[0] is None
    assert names[1] == names[2] != names[3] == names[4]


def test_passages_lose_vehicle_and_duty_too(tmp_path: Path) -> None:
    at = rfc3339(NOW_MS - 40 * DAY_MS)
    record = StopPassage(
        stop_id="s1", vehicle_id="18/77", event_time=at, ingest_time=at, feed="hfp", route_id="1001", trip_id="A", operating_day="2026-01-29",
        start_time="07:00", delay_s=42,
    )  # fmt: skip
    kept(tmp_path, "stop-passage", [Row(0, NOW_MS, b"s1", encode(record), "x")])
    (row,) = read(tmp_path)
    assert [row[n] for n in ("trip_id", "operating_day", "start_time", "ce_id")] == [None] * 4
    assert (row["vehicle_id"][:5], row["stop_id"], row["delay_s"]) == ("trip/", "s1", 42)


def test_what_is_simulated_is_left_as_it_is(tmp_path: Path) -> None:
    kept(tmp_path, "vehicle-position", [position(0, "18/77", "A", NOW_MS - 40 * DAY_MS, simulated=True)])
    assert [(r["vehicle_id"], r["trip_id"]) for r in read(tmp_path)] == [("18/77", "A")]


def test_every_product_that_names_vehicles_is_protected_and_every_product_with_duties_too() -> None:
    """A new product with such fields must be added to what is protected."""
    named = {p.name for p in PRODUCTS.values() if "vehicle_id" in p.record.__struct_fields__}
    assert named == set(DUTY)
    telling = {"trip_id", "operating_day", "start_time", "odometer_m"}
    for p in PRODUCTS.values():
        assert telling & set(p.record.__struct_fields__) == set(DUTY.get(p.name, ()))


@pytest.mark.parametrize("family", sorted(WITHOUT_VEHICLES))
def test_a_family_whose_raw_messages_are_kept_yields_no_vehicles(family: str) -> None:
    import importlib

    parse = importlib.import_module(f"connectors.{family}.parse")
    assert "VehicleColumns" not in vars(parse)
