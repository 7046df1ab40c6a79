"""Records as Parquet: typed, complete, and the same bytes for the same records."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import arrow, records
from models.arrow import RECORDS, arrow_schema, table
from models.clock import rfc3339
from models.records import SegmentState, SharedVehicleStation, Situation, SourceMix, VehiclePosition, encode
from streams.outputs import Out
from streams.tables import ParquetSink

T = 1_773_120_600_123


def position(k: int, **more: object) -> bytes:
    return encode(VehiclePosition(vehicle_id=f"0018/{k:05}", event_time=rfc3339(T + k), ingest_time=rfc3339(T + k + 5), feed="hfp", **more))  # type: ignore[arg-type]


def outs(n: int) -> list[Out]:
    return [Out(b"k", position(k, lat_deg=60.0 + k / 1e6, at_stop=None if k % 2 else False), T + k, str(k)) for k in range(n)]


@pytest.mark.parametrize("product", sorted(RECORDS))
def test_every_product_has_a_typed_schema_and_an_empty_table(product: str) -> None:
    schema = arrow_schema(RECORDS[product])
    assert len(schema) == len(RECORDS[product].__struct_fields__)
    assert table(product, []).schema == schema
    assert not any(pa.types.is_null(f.type) for f in schema)


def test_values_come_back_with_their_types_and_absent_is_null_not_zero() -> None:
    t = table("vehicle-position", [position(1, speed_mps=0.0, at_stop=False, delay_s=-5), position(2)])
    first, second = t.to_pylist()
    assert first["event_time"] == datetime.datetime(2026, 3, 10, 5, 30, 0, 124_000, tzinfo=datetime.UTC)
    assert (first["speed_mps"], first["at_stop"], first["delay_s"]) == (0.0, False, -5)
    assert (second["speed_mps"], second["at_stop"], second["delay_s"]) == (None, None, None)


def test_nested_records_become_structs() -> None:
    state = SegmentState(
        segment_id="a", window_start=rfc3339(T), window_end=rfc3339(T + 60_000), status="final", revision=151, origin="measured", confidence=0.5,
        represents="general_traffic", algorithm="x/1", source_mix=SourceMix(probe=0.25, memory=0.75),
    )  # fmt: skip
    (row,) = table("segment-state", [encode(state)]).to_pylist()
    assert row["source_mix"] == {"probe": 0.25, "loop": None, "memory": 0.75, "network": None}


def test_text_with_newlines_quotes_and_letters_survives() -> None:
    head = 'a\n"b"\\ Itäkeskus \u2028 \U0001f68c'
    assert table("vehicle-position", [position(1, headsign=head)]).to_pylist()[0]["headsign"] == head


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_files_do_not_depend_on_how_records_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.tables.GROUP", 50)
    seen = []
    for name, step in (("a", 1), ("b", 17), ("c", 230)):
        sink = ParquetSink(tmp_path / name)
        rows = outs(230)
        for k in range(0, 230, step):
            sink.add("vehicle-position", rows[k : k + step])
        sink.close(("vehicle-position", "late"))
        assert sink.counts["vehicle-position"] == 230
        seen.append(digest(tmp_path / name))
    assert seen[0] == seen[1] == seen[2]
    assert set(seen[0]) == {"vehicle-position.parquet", "late.parquet"}
    f = pq.ParquetFile(tmp_path / "a" / "vehicle-position.parquet")
    assert f.num_row_groups == 5
    assert f.read().column("vehicle_id").to_pylist() == [f"0018/{k:05}" for k in range(230)]
    assert pq.read_table(tmp_path / "a" / "late.parquet").num_rows == 0


def test_a_closed_sink_leaves_files_that_can_be_read_when_the_last_group_was_just_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.tables.GROUP", 10)
    sink = ParquetSink(tmp_path)
    sink.add("vehicle-position", outs(20))
    sink.close(("vehicle-position",))
    assert pq.read_table(tmp_path / "vehicle-position.parquet").num_rows == 20


def test_every_open_record_class_is_known() -> None:
    assert {"dead-letter", "late", "segment-state", "vehicle-position", "feed-health", "sensor-observation"} <= RECORDS.keys()
    assert all(issubclass(r, records.Record) for r in RECORDS.values())


def test_every_product_of_the_feeds_becomes_a_table_with_objects_as_json_and_lists_as_lists() -> None:
    at = "2026-03-10T05:30:00.000Z"
    geometry = {"type": "Point", "coordinates": [24.9, 60.2]}
    situation = Situation(
        situation_id="d/1", kind="roadwork", event_time=at, ingest_time=at, feed="m", geometry=geometry, routes=["1", "2"], title={"fi": "Tietyö\n"},
        text={"fi": 'Katu "poikki"', "sv": "Å"},
    )  # fmt: skip
    bare = Situation(situation_id="d/2", kind="unknown", event_time=at, ingest_time=at, feed="m")
    t = arrow.table("situation", [encode(situation), encode(bare)])
    first, second = t.to_pylist()
    assert json.loads(first["geometry"]) == geometry
    assert json.loads(first["text"]) == situation.text
    assert first["routes"] == ["1", "2"]
    assert (second["geometry"], second["routes"], second["title"]) == (None, None, None)
    station = SharedVehicleStation(station_id="b/1", ingest_time=at, feed="b", vehicles_by_type={"bike": 3})
    (row,) = arrow.table("shared-vehicle-station", [encode(station)]).to_pylist()
    assert json.loads(row["vehicles_by_type"]) == {"bike": 3}
    for product in ("stop-passage", "traffic-signal", "road-weather", "parking"):
        assert arrow.table(product, []).num_columns == len(msgspec.structs.fields(arrow.RECORDS[product]))
