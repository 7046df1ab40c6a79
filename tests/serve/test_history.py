"""The past, read from an archive: what was published for a minute, a street over hours, vehicles between two times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.clock import parse_ms, rfc3339
from models.records import Record, SegmentState, VehiclePosition, encode
from serve.history import History
from streams.archive_files import Files, Source
from streams.archive_rows import Row
from streams.archive_store import Store

BEGIN = parse_ms("2026-03-10T23:50:00.000Z")  #: so that hours cross midnight
MINUTE = 60_000
SEGMENTS, MINUTES = 40, 30


def state(k: int, minute: int, status: str = "final", revision: int = 9) -> Record:
    start = BEGIN + minute * MINUTE
    return SegmentState(
        segment_id=f"w{k}_f", window_start=rfc3339(start), window_end=rfc3339(start + MINUTE), status=status, revision=revision,  # type: ignore[arg-type]
        origin="measured", confidence=0.5, represents="general_traffic", algorithm="t/1", speed_kmh=10.0 + k + minute / 100, los="B", simulated=True,
    )  # fmt: skip


def vehicle(k: int, second: int) -> Record:
    at = rfc3339(BEGIN + second * 1000)
    return VehiclePosition(
        vehicle_id=f"18/{k}", event_time=at, ingest_time=at, feed="hfp", lat_deg=60.1 + second / 1e5, lon_deg=24.9, simulated=True
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Each segment is published every fifth minute, and in minute 12 all are; batches of a few minutes each."""
    store = Store(tmp_path / "archive", make=True)
    states = [
        (m, state(k, m, status, r)) for m in range(MINUTES) for status, r in (("provisional", 1), ("final", 9)) for k in range(SEGMENTS)
        if (k + m) % 5 == 0 or m == 12
    ]  # fmt: skip
    fixes = [(s // 60, vehicle(k, s)) for s in range(0, 1800, 2) for k in range(3)]
    for product, records in (("segment-state", states), ("vehicle-position", fixes)):
        files = Files.open(store, Source("town", product, f"mobility.town.{product}.v1", "CC-BY-4.0", ("Town",)), 0)
        rows = [Row(n, BEGIN + m * MINUTE, b"k", encode(r), str(n)) for n, (m, r) in enumerate(records)]
        for at in range(0, len(rows), 150):
            files.write(rows[at : at + 150], 0)
        for parts in files.mergeable(fan_in=4, most_bytes=1 << 30, closed=lambda day: day == "2026-03-10"):
            files.merge(parts)
    return tmp_path / "archive"


def test_a_past_minute_has_each_segments_newest_final_state_and_no_provisional_one(archive: Path) -> None:
    found = History(archive).states_at("town", BEGIN + 20 * MINUTE + 31_000).to_pylist()
    assert [r["segment_id"] for r in found] == sorted(f"w{k}_f" for k in range(SEGMENTS))
    for r in found:
        k, minute = int(r["segment_id"][1:-2]), round((r["window_start"].timestamp() * 1000 - BEGIN) / MINUTE)
        assert 16 <= minute <= 20
        assert (k + minute) % 5 == 0
        assert r["speed_kmh"] == 10.0 + k + minute / 100


def test_a_minute_of_which_the_archive_knows_nothing_is_empty(archive: Path) -> None:
    assert History(archive).states_at("town", BEGIN + 60 * MINUTE).num_rows == 0
    assert History(archive).states_at("nowhere", BEGIN).num_rows == 0


def test_a_segment_over_hours_crosses_midnight_in_order(archive: Path) -> None:
    found = History(archive).segment_series("town", "w5_f", BEGIN, BEGIN + 40 * MINUTE).to_pylist()
    minutes = [round((r["window_start"].timestamp() * 1000 - BEGIN) / MINUTE) for r in found]
    assert minutes == [m for m in range(MINUTES) if m % 5 == 0 or m == 12]


def test_a_minute_reads_few_rows_of_what_is_there(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = pq.ParquetFile.read_row_groups

    def count(self: Any, groups: list[int], **more: Any) -> Any:
        found = read(self, groups, **more)
        asked.append(found.num_rows)
        return found

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", count)
    History(archive).states_at("town", BEGIN + 2 * MINUTE)
    assert sum(asked) < 2 * SEGMENTS * MINUTES / 5


def test_vehicles_are_thinned_to_one_position_a_step(archive: Path) -> None:
    found = History(archive).vehicles_between("town", BEGIN + 60_000, BEGIN + 119_999, 10_000).to_pylist()
    assert len(found) == 3 * 6
    assert {round(r["event_time"].timestamp() * 1000 - BEGIN) % 10_000 for r in found} == {8_000}
    assert [r["event_time"] for r in found] == sorted(r["event_time"] for r in found)


async def test_the_gateway_serves_the_past_and_says_what_it_lacks(archive: Path, start: Callable[..., Any]) -> None:
    client = await start(archive=History(archive))
    about = await (await client.get("/api/v1/cities/town/history")).json()
    assert about["days"]["segment-state"] == ["2026-03-10", "2026-03-11"]
    assert about["from"] == rfc3339(BEGIN)
    at = rfc3339(BEGIN + 20 * MINUTE)
    url = f"/api/v1/cities/town/history/states?datetime={at}"
    answer = await client.get(url)
    body = await answer.json()
    assert body["rows"] == SEGMENTS == len(body["columns"]["speed_kmh"])
    assert body["columns"]["simulated"] == [True] * SEGMENTS
    assert (await client.get(url, headers={"If-None-Match": answer.headers["ETag"]})).status == 304
    span = f"{rfc3339(BEGIN)}/{rfc3339(BEGIN + 30 * MINUTE)}"
    series = await (await client.get(f"/api/v1/cities/town/history/segments/w5_f?datetime={span}")).json()
    assert series["columns"]["window_start_ms"][0] == BEGIN
    short = f"{rfc3339(BEGIN)}/{rfc3339(BEGIN + MINUTE)}"
    vehicles = await (await client.get(f"/api/v1/cities/town/history/vehicles?datetime={short}&step_s=20")).json()
    assert set(vehicles["columns"]["vehicle_id"]) == {"18/0", "18/1", "18/2"}
    assert (await client.get(f"/api/v1/cities/town/history/vehicles?datetime={span}")).status == 400
    assert (await client.get("/api/v1/cities/town/history/states")).status == 400
    assert (await client.get(f"/api/v1/cities/town/history/records/segment?datetime={at}")).status == 404
    none = await start()
    answer = await none.get("/api/v1/cities/town/history")
    assert (answer.status, "--archive" in await answer.text()) == (404, True)
