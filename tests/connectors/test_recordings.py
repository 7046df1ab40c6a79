"""Recordings are read in order of receipt and cut as a live connector would."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import load
from connectors.envelope import TICK_MS, Envelope, Item
from connectors.families import parser
from connectors.recordings import MAX_SILENCE_MS, envelopes, plan, read
from models.clock import parse_ms, rfc3339
from models.errors import ConfigError

CITY = load("helsinki")
START = parse_ms("2026-03-10T05:30:00Z")
TOPIC = "/hfp/v2/journey/ongoing/vp/bus/0018/{:05}/2550/1/Itäkeskus (M)/07:24/1000018/0/60;24/19/75/80"


def hfp_line(ms: int, vehicle: int = 1, payload: str = '{"VP": {"lat": 60.170000}}') -> str:
    return f'{{"topic": "{TOPIC.format(vehicle)}", "payload": {payload}, "received_at": "{rfc3339(ms)}"}}\n'


def snapshot(seconds: int) -> bytes:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = seconds
    return message.SerializeToString()


def test_a_payload_keeps_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "hfp.jsonl").write_text(hfp_line(START), "utf-8")
    assert list(read(tmp_path, CITY)) == [("hfp", Item(START, TOPIC.format(1), b'{"VP": {"lat": 60.170000}}'))]


def test_a_dump_splits_at_the_first_brace_after_a_blank(tmp_path: Path) -> None:
    topic = "/hfp/v2/journey/ongoing/vp/bus/0018/00001/1004 4/1/Malmi (M) {x/07:24"
    (tmp_path / "a.dump").write_text(f'2026-03-10T05:30:00.123456Z {topic.replace(" {", "{")} {{"VP":{{"a":" {{"}}}}\n', "utf-8")
    ((_, item),) = read(tmp_path / "a.dump", CITY)
    assert item == Item(START + 123, topic.replace(" {", "{"), b'{"VP":{"a":" {"}}')


def test_without_receive_times_the_newest_event_time_stands_in_and_never_falls(tmp_path: Path) -> None:
    times = ["05:30:00", "05:30:05", "05:30:02", "05:30:06"]
    lines = [f'/hfp/v1/journey/ongoing/bus/0012/01703/1043/2/A/23:20/1 {{"VP":{{"tst":"2026-03-10T{t}Z"}}}}\n' for t in times]
    (tmp_path / "v1.txt").write_text("".join(lines), "utf-8")
    assert [i.ingest_ms - START for _, i in read(tmp_path, CITY)] == [0, 5000, 5000, 6000]


def test_a_folder_is_merged_in_order_of_receipt_and_what_is_no_recording_is_told(tmp_path: Path) -> None:
    (tmp_path / "hfp.jsonl").write_text(hfp_line(START + 1000) + hfp_line(START + 10_000), "utf-8")
    (tmp_path / "rt").mkdir()
    for s in (START // 1000 + 10, START // 1000 + 20):
        (tmp_path / "rt" / f"vp_{s}.pb").write_bytes(snapshot(s))
    (tmp_path / "tms_stations.json").write_text(json.dumps({"dataUpdatedTime": rfc3339(START), "features": [{"tmsNumber": 1}]}))
    (tmp_path / "tms_data.jsonl").write_text(
        "".join(json.dumps({"dataUpdatedTime": rfc3339(START + k * 15_000), "stations": []}) + "\n" for k in range(2))
    )
    for name in ("notes.md", "faults.json", "gtfs.zip"):
        (tmp_path / name).write_text("[]")
    chosen = plan(tmp_path, CITY)
    assert chosen.feeds == ["hfp", "gtfs_rt", "tms"]
    assert [p.name for p in chosen.skipped] == ["faults.json", "gtfs.zip", "notes.md"]
    assert [(f, i.ingest_ms - START) for f, i in read(chosen, CITY)] == [
        ("tms", 0), ("tms", 0), ("hfp", 1000), ("hfp", 10_000), ("gtfs_rt", 10_000), ("tms", 15_000), ("gtfs_rt", 20_000),
    ]  # fmt: skip


def test_an_index_tells_when_snapshots_were_published(tmp_path: Path) -> None:
    (tmp_path / "gtfs_rt").mkdir()
    (tmp_path / "gtfs_rt" / "a.pb").write_bytes(snapshot(5))
    (tmp_path / "gtfs_rt" / "b.pb").write_bytes(snapshot(START // 1000 + 7))
    (tmp_path / "gtfs_rt_index.csv").write_text(f"published_at,file,entities\n{rfc3339(START)},gtfs_rt/a.pb,0\n")
    assert [(i.topic, i.ingest_ms - START) for _, i in read(tmp_path, CITY)] == [("a.pb", 0), ("b.pb", 7000)]


@pytest.mark.parametrize("broken", ["{\n", "\n", '{"topic": 5}\n', "\xff\n", hfp_line(0).replace("1970-01-01T", "yesterday")])
def test_a_broken_line_ends_among_the_rejects_at_the_time_of_its_neighbour(tmp_path: Path, broken: str) -> None:
    (tmp_path / "hfp.jsonl").write_bytes(hfp_line(START).encode() + broken.encode("latin-1") + hfp_line(START + 1).encode())
    items = [i for _, i in read(tmp_path, CITY)]
    assert [i.ingest_ms - START for i in items] == [0, 0, 1]
    assert items[1].topic == "hfp.jsonl"


@pytest.mark.parametrize("name", ["x.parquet", "x.json", "x.jsonl", "x.txt", "x.csv"])
def test_a_file_that_is_no_recording_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"a": 1}')
    with pytest.raises(ConfigError, match=rf"{name}.*expected a recording: \.jsonl"):
        plan(tmp_path / name, CITY)
    with pytest.raises(ConfigError, match="expected a recording"):
        plan(tmp_path, CITY)
    with pytest.raises(ConfigError, match="that exists"):
        plan(tmp_path / "nowhere", CITY)


def test_every_feeds_partitions_tick_on_the_grid_of_log_time() -> None:
    items = [("hfp", Item(START + ms, TOPIC.format(1), b"{}")) for ms in (100, 200, 400, 12_000)]
    out = list(envelopes(items, CITY, ["hfp", "tms"], tail_ms=10_000))
    ticks = Counter((f, p, e.ingest_ms - START) for f, p, e in out if e.kind == "tick")
    assert ticks == {
        (f, p, t): 1 for f, p in [("hfp", 0), ("hfp", 1), ("hfp", 2), ("hfp", 3), ("tms", 0)] for t in (5000, 10_000, 15_000, 20_000)
    }
    assert [len(e.items) for _, _, e in out if e.kind == "messages"] == [2, 1, 1]  # 250 ms after 100 comes before 400


def test_a_long_silence_is_jumped_over_to_just_before_the_next_message() -> None:
    items = [("hfp", Item(START + ms, TOPIC.format(1), b"{}")) for ms in (1, 10 * 86_400_000)]
    ticks = sorted({e.ingest_ms - START for _, _, e in envelopes(items, CITY, ["hfp"]) if e.kind == "tick"})
    assert ticks[-2:] == [MAX_SILENCE_MS, 10 * 86_400_000]
    assert len(ticks) == MAX_SILENCE_MS // TICK_MS + 1


@pytest.mark.parametrize("max_items", [1, 3, 200])
@pytest.mark.parametrize("max_wait_ms", [0, 250, 10_000])
def test_however_it_is_cut_a_partition_holds_the_same_messages_in_the_same_order(max_items: int, max_wait_ms: int) -> None:
    items = [("hfp", Item(START + 37 * k, TOPIC.format(k % 11), str(k).encode())) for k in range(700)]
    out = list(envelopes(items, CITY, ["hfp"], max_items=max_items, max_wait_ms=max_wait_ms))
    got: dict[int, list[Item]] = {}
    last: dict[int, int] = {}
    for _, p, e in out:
        assert e.ingest_ms >= last.get(p, 0)
        last[p] = e.ingest_ms
        assert len(e.items) <= max_items
        got.setdefault(p, []).extend(e.items)
    assert sorted((i for x in got.values() for i in x), key=lambda i: int(i.body)) == [i for _, i in items]
    assert all([int(i.body) for i in x] == sorted(int(i.body) for i in x) for x in got.values())


def parsed_events(pairs: list[tuple[str, int, Envelope]]) -> tuple[int, int]:
    parsers = {f.name: parser(f, CITY) for f in CITY.feeds}
    done = [parsers[f].parse(e) for f, _, e in pairs if e.items]
    return sum(p.events for p in done), sum(len(p.rejects) for p in done)


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("helsinki/hfp/v1_bus43_20181005.txt", 4727),
        ("helsinki/hfp/v2_bus520_no_gnss_20240213.dump", 1034),
        ("helsinki/hfp", 4727 + 14 + 1034 + 18 + 38 + 35 + 37 + 511),
        ("helsinki/gtfsrt", 1178),
        ("generic/gtfsrt", 627 + 176 + 1),  # vehicles of King County and Columbus, an alert of BART
        ("national/digitraffic/tms_rest_shape", 2 + 1 + 1 + 2),  # one station of the list is another city's
    ],
)
def test_real_recordings_go_through_whole(shared: Path, path: str, events: int) -> None:
    chosen = plan(shared / "feeds" / path, CITY)
    assert parsed_events(list(envelopes(read(chosen, CITY), CITY, chosen.feeds))) == (events, 0)
