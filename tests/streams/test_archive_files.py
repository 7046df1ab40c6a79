"""Files of an archive, in a folder and in an object store: what a kill leaves behind, merging, retention, and what every file says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.envelope import SCHEMA, Envelope, Item, encode
from models.archive import whole
from models.clock import parse_ms, rfc3339
from models.errors import ConfigError
from models.records import SegmentState, VehiclePosition
from models.records import encode as encode_record
from streams.archive import Archiver, ArchiveSettings, _Heap
from streams.archive_files import Files, Source
from streams.archive_log import ArchivedLog
from streams.archive_rows import Row, envelopes, open_table, raw_table
from streams.archive_store import Held, Store
from tests.streams import world

MIDNIGHT = parse_ms("2026-03-10T00:00:00.000Z")
POSITIONS = Source("toytown", "vehicle-position", "mobility.toytown.vehicle-position.v1", "CC-BY-4.0", ("Nobody",))
RAW = Source("toytown", "raw", "raw.toytown.hfp", "CC0-1.0", ("Somebody",), "hfp", True)


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty archive."""
    return str(tmp_path / "archive") if request.param == "folder" else request.getfixturevalue("s3")()


def fix(offset: int, at_ms: int, *, simulated: bool | None = None) -> Row:
    record = VehiclePosition(
        vehicle_id=f"18/{offset % 3}", event_time=rfc3339(at_ms), ingest_time=rfc3339(at_ms), feed="hfp", lat_deg=60.1, lon_deg=24.9,
        trip_id="t", simulated=simulated,
    )  # fmt: skip
    return Row(offset, at_ms, b"k", encode_record(record), f"id-{offset}")


def message(offset: int, at_ms: int) -> Row:
    e = Envelope(SCHEMA, "toytown", "hfp", "hfp", "messages", at_ms, (Item(at_ms, "/hfp/v2/x", b"{%d}" % offset),))
    return Row(offset, at_ms, None, encode(e), None)


def offsets(store: Store, folder: str = "") -> list[int]:
    """All that a reader finds."""
    out: list[int] = []
    held = store.files(folder)
    for h in (h for h in held if h.part in whole(o.part for o in held if o.folder == h.folder)):
        with store.open(h.path) as file:
            out += file.read(columns=["kafka_offset"]).column("kafka_offset").to_pylist()
    return sorted(out)


def copies(store: Store, held: list[Held]) -> dict[str, bytes]:
    return {h.path: store.fs.open_input_stream(store.at(h.path)).read() for h in held}


def put_back(store: Store, found: dict[str, bytes]) -> None:
    for path, content in found.items():
        with store.fs.open_output_stream(store.at(path)) as stream:
            stream.write(content)


def test_a_batch_over_midnight_counts_when_its_last_file_is_there(where: str) -> None:
    store = Store(where, make=True)
    files = Files.open(store, POSITIONS, 0)
    files.write([fix(k, MIDNIGHT - 4_000 + k * 1000) for k in range(8)], 7)
    assert (files.next_offset, [h.part.closes for h in sorted(files.held)]) == (8, [False, True])
    files.write([fix(k, MIDNIGHT - 12_000 + k * 1000) for k in range(8, 16)], 15)
    last = next(h for h in files.held if h.part.closes and h.part.first == 8)
    store.delete(last.path)  # killed between the two files of the second batch
    again = Files.open(store, POSITIONS, 0)
    assert again.next_offset == 8
    assert offsets(store) == list(range(8)), "what nobody closed is deleted, and will be read again"


def test_a_merge_that_was_cut_off_leaves_no_row_twice(where: str, tmp_path: Path) -> None:
    store = Store(where, make=True)
    files = Files.open(store, RAW, 1)
    for k in range(4):
        files.write([message(k * 5 + i, MIDNIGHT + k * 5 + i) for i in range(5)], k)
    parts = sorted(files.held)
    kept = copies(store, parts)
    (run,) = files.mergeable(fan_in=4, most_bytes=1 << 30, closed=lambda day: False)
    files.merge(run)
    assert len(store.files("")) == 1
    put_back(store, kept)  # killed before the parts were deleted
    assert offsets(store) == list(range(20)), "a reader leaves out what the whole holds"
    again = Files.open(store, RAW, 1)
    assert ([h.part.level for h in again.held], again.next_offset) == ([1], 20)
    assert offsets(store) == list(range(20))
    log = list(ArchivedLog(where, world.city(tmp_path)))
    assert [e.items[0].body for _, _, e in log] == [b"{%d}" % k for k in range(20)]


def test_files_are_merged_by_level_within_a_day_and_wholly_once_it_is_over(tmp_path: Path) -> None:
    files = Files.open(Store(tmp_path, make=True), POSITIONS, 0)
    for k in range(7):
        files.write([fix(k, MIDNIGHT + k)], k)
    files.write([fix(7, MIDNIGHT + 86_400_000)], 7)

    def mergeable(closed: Callable[[str], bool] = lambda day: False, most_bytes: int = 1 << 30) -> list[list[int]]:
        return [[h.part.first for h in run] for run in files.mergeable(fan_in=3, most_bytes=most_bytes, closed=closed)]

    assert mergeable() == [[0, 1, 2], [3, 4, 5]]
    assert mergeable(lambda day: day == "2026-03-10") == [[0, 1, 2, 3, 4, 5, 6]]
    assert mergeable(lambda day: True, most_bytes=2 * files.held[0].size + 10) == [[0, 1], [2, 3], [4, 5]]
    for run in files.mergeable(fan_in=3, most_bytes=1 << 30, closed=lambda day: False):
        files.merge(run)
    assert sorted((h.part.level, h.part.first) for h in files.held) == [(0, 6), (0, 7), (1, 0), (1, 3)]
    assert mergeable() == [], "two of level 1 and one of level 0 are left alone"


def test_a_merged_file_is_sorted_and_says_what_its_parts_said(tmp_path: Path) -> None:
    store = Store(tmp_path, make=True)
    files = Files.open(store, POSITIONS, 0)
    for k in range(3):
        files.write([fix(k * 4 + i, MIDNIGHT + (20 - k * 4 - i) * 1000, simulated=True if k == 1 else None) for i in range(4)], 40 + k)
    files.merge(sorted(files.held))
    (h,) = store.files("")
    times = pq.read_table(tmp_path / h.path, partitioning=None).column("event_time").to_pylist()
    assert times == sorted(times)
    told = store.about(h.path)
    assert {k: told[k] for k in ("topic", "partition", "epoch", "first_offset", "last_offset", "rows", "last_crc32", "city", "product", "day")} == {
        "topic": POSITIONS.topic, "partition": 0, "epoch": 0, "first_offset": 0, "last_offset": 11, "rows": 12, "last_crc32": 42,
        "city": "toytown", "product": "vehicle-position", "day": "2026-03-10",
    }  # fmt: skip
    assert (told["licence"], told["attribution"], told["simulated"], told["simulated_rows"]) == ("CC-BY-4.0", ["Nobody"], True, 4)


def test_a_topic_made_anew_begins_an_epoch_and_takes_nothing_from_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path, make=True)
    files = Files.open(store, RAW, 0)
    files.write([message(k, MIDNIGHT + k) for k in range(9)], 0)
    files.begin_anew()
    assert files.next_offset == 0
    files.write([message(k, MIDNIGHT + 100 + k) for k in range(4)], 0)
    again = Files.open(store, RAW, 0)
    assert (again.epoch, again.next_offset) == (1, 4)
    assert offsets(store) == sorted([*range(9), *range(4)])
    assert not again.mergeable(fan_in=2, most_bytes=1 << 30, closed=lambda day: True)


def kept_house(where: str, source: Source, rows: list[list[Row]], **settings: int) -> tuple[Files, Store]:
    """An archiver's round over the batches of one partition, on 2026-03-14."""
    store = Store(where, make=True)
    archiver = Archiver({source.topic: source}, store, "127.0.0.1:1", ArchiveSettings(**settings), today=lambda: "2026-03-14")  # type: ignore[arg-type]
    files = Files.open(store, source, 0)
    for batch in rows:
        files.write(batch, batch[-1].offset)
    archiver.heaps = {("t", 0): _Heap(files)}  # type: ignore[dict-item]
    asyncio.run(archiver._keep_house())
    return files, store


def days_of(store: Store) -> list[str]:
    return sorted({h.folder.rpartition("day=")[2] for h in store.files("")})


def test_retention_deletes_whole_days_and_forgets_no_offset(where: str) -> None:
    day = 86_400_000
    batches = [[fix(d * 10 + k, MIDNIGHT + d * day + k, simulated=True) for k in range(10)] for d in range(4)]
    files, store = kept_house(where, POSITIONS, batches, keep_days=2)
    assert days_of(store) == ["2026-03-12", "2026-03-13"]
    assert offsets(store) == list(range(20, 40))
    assert Files.open(store, POSITIONS, 0).next_offset == files.next_offset == 40


def test_raw_envelopes_of_vehicles_go_with_their_days_even_where_the_archive_ends(where: str) -> None:
    files, store = kept_house(where, RAW, [[message(0, MIDNIGHT), message(1, MIDNIGHT)], [message(2, MIDNIGHT + 5)]], private_days=1)
    assert offsets(store) == []
    (h,) = store.files("")
    assert (store.about(h.path)["rows"], store.about(h.path)["licence"]) == (0, "CC0-1.0")
    assert Files.open(store, RAW, 0).next_offset == files.next_offset == 3
    files, store = kept_house(where, RAW, [[message(3, MIDNIGHT + 86_400_000 * 3)]], private_days=1)
    assert offsets(store) == [3]


def test_no_round_deletes_the_streets(tmp_path: Path) -> None:
    streets = Source("toytown", "segment", "mobility.toytown.segment.v1", "ODbL-1.0", ("OSM",))
    _, store = kept_house(str(tmp_path), streets, [[Row(0, MIDNIGHT, b"w1", None, None)]], keep_days=1)
    assert offsets(store) == [0]


def test_a_file_that_was_not_finished_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, make=True)
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(ValueError, match="schema"), store.writing("x=1/a.parquet", schema, {}) as writer:
        writer.write_table(pa.table({"a": ["no number"]}))
    assert not list(tmp_path.rglob("*.parquet"))
    half = tmp_path / "x=1" / ".000.tmp"
    half.write_bytes(b"PAR1")
    store.sweep("x=1")
    assert not half.exists()


@pytest.mark.parametrize("bad", [{"private_days": 31}, {"private_days": 0}, {"flush_s": 0.0}, {"fan_in": 1}, {"keep_days": -1}])
def test_a_setting_that_cannot_be_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="archive"):
        ArchiveSettings(**bad)


@pytest.mark.parametrize("address", ["s4://x/y", "/nowhere/at/all"])
def test_what_is_no_place_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/folder"):
        Store(address)


# -------------------------------------------------------------------------------------------------------------------- rows


def test_open_records_keep_tombstones_and_what_is_no_record() -> None:
    state = SegmentState(
        segment_id="w1", window_start=rfc3339(MIDNIGHT), window_end=rfc3339(MIDNIGHT + 60_000), status="final", revision=1, origin="none", confidence=0.0,
        represents="general_traffic", algorithm="t/1", los="unknown",
    )  # fmt: skip
    rows = [
        Row(5, MIDNIGHT, b"w1", encode_record(state), "a"),
        Row(6, MIDNIGHT, b"w:2", None, None),
        Row(7, MIDNIGHT, b"w3", b'{"x":\n1}', None),
    ]
    found = open_table("segment-state", 2, rows).to_pylist()
    assert [r["segment_id"] for r in found] == ["w1", "w:2", None]
    assert [(r["deleted"], r["unreadable"], r["kafka_partition"], r["kafka_offset"], r["ce_id"]) for r in found] == [
        (None, None, 2, 5, "a"), (True, None, 2, 6, None), (None, b'{"x":\n1}', 2, 7, None),
    ]  # fmt: skip


def test_raw_messages_come_back_to_the_byte_or_are_kept_as_bytes() -> None:
    messages = [Envelope(SCHEMA, "toytown", "hfp", "hfp", kind, MIDNIGHT + n, (Item(MIDNIGHT, "/x", b"\x00"),) * n, None, True) for n, kind in enumerate(("tick", "messages", "snapshot"))]  # type: ignore[arg-type]  # fmt: skip
    other = encode(Envelope(SCHEMA, "elsewhere", "hfp", "hfp", "tick", MIDNIGHT, (), None))
    rows = [Row(k, MIDNIGHT, None, v, None) for k, v in enumerate([*map(encode, messages), b"\xc1 no envelope", other, None])]
    found = list(envelopes("toytown", "hfp", raw_table("toytown", "hfp", 0, rows)))
    assert [o for o, _ in found] == list(range(6))
    assert [e and encode(e) for _, e in found] == [*map(encode, messages), None, None, None]
    assert raw_table("toytown", "hfp", 0, rows).column("unreadable").to_pylist()[3:] == [b"\xc1 no envelope", other, b""]
