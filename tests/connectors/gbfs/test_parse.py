"""GBFS of every version becomes stations. More in ``tests/golden/gbfs``."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from connectors.cities import load
from connectors.columns import Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.gbfs.parse import Parser

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CITY = load(GOLDEN / "fixture.toml")
HELSINKI = load("helsinki")
NOW = 1_773_120_605_000


def parse(*bodies: bytes, city: Any = CITY, kind: Any = "snapshot") -> Parsed:
    items = tuple(Item(NOW, "https://example.org/x.json", b) for b in bodies)
    return Parser(CITY.feed("gbfs"), city).parse(Envelope(SCHEMA, "fixture", "gbfs", "gbfs", kind, NOW, items))


def document(*stations: dict[str, Any], **head: Any) -> bytes:
    return json.dumps({"last_updated": 1773120600, "ttl": 60, "data": {"stations": list(stations)}} | head).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b'{"data": {"stations": []}}',
        b'{"last_updated": "yesterday", "data": {}}',
        b'{"last_updated": 1e400, "data": {}}',
        b'{"last_updated": -5, "data": {}}',
        b'{"last_updated": 5, "data": {"stations": 7}}',
        b'{"last_updated": 5',
        b'{"last_updated": 5, "data": ' + b"[" * 100_000,
        b'\xff\xfe{"last_updated": 5, "data": {}}',
    ],
)
def test_what_is_no_gbfs_document_is_refused_whole(body: bytes) -> None:
    parsed = parse(body)
    assert ([r.index for r in parsed.rejects], parsed.stated, parsed.events) == ([-1], [], 1)
    assert parse(body, kind="messages").rejects[0].index == 0


@pytest.mark.parametrize("data", [{"stations": []}, {"bikes": []}, {"vehicles": []}])
def test_an_empty_system_is_valid(data: dict[str, Any]) -> None:
    parsed = parse(json.dumps({"last_updated": 1773120600, "data": data}).encode())
    assert (parsed.rejects, parsed.stated, parsed.passed) == ([], [], {})


@pytest.mark.parametrize("data", [{}, None, {"system_id": "x"}, {"feeds": []}, {"en": {"feeds": []}}, {"vehicle_types": []}])
def test_documents_of_other_kinds_are_counted(data: Any) -> None:
    assert parse(json.dumps({"last_updated": 1773120600, "data": data}).encode()).passed == {"other_document": 1}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_bikes_available": "many"}, "num_vehicles_available"),
        ({"num_bikes_available": 1e30}, "num_vehicles_available"),
        ({"num_docks_available": -3}, "num_docks_available"),
        ({"is_renting": 2}, "is_renting"),
        ({"last_reported": "2026-03-10"}, "last_reported"),
        ({"vehicle_types_available": [{"vehicle_type_id": "x", "count": -1}]}, "vehicle_types_available.count"),
        ({"station_id": ""}, "station_id"),
        ({"station_id": None}, "station_id"),
        ({"lat": 91, "lon": 0}, "latitude"),
    ],
)
def test_one_bad_station_is_refused_by_name_and_the_rest_goes_on(changes: dict[str, Any], field: str) -> None:
    good = {"station_id": "a", "num_bikes_available": 1}
    parsed = parse(document(good, good | {"station_id": "b"} | changes, good | {"station_id": "c"}))
    assert [(r.index, r.field) for r in parsed.rejects] == [(1, field)]
    assert [s.key for s in parsed.stated] == ["gbfs/a", "gbfs/c"]


def test_a_station_that_says_nothing_is_refused() -> None:
    assert [r.reason for r in parse(document({"station_id": "a"})).rejects] == ["missing"]


def test_broken_bytes_end_as_refusals_and_nothing_else() -> None:
    rng = random.Random(5)
    originals = [p.read_bytes() for p in sorted((GOLDEN / "gbfs").glob("*/in*"))]
    for _ in range(800):
        body = bytearray(rng.choice(originals))
        for _ in range(rng.randrange(1, 5)):
            i = rng.randrange(len(body))
            new = rng.choice(
                [b"", b"null", b"-1", b"1e999", b"NaN", b'"', b"[", b"}", b"\xff", b"9" * 40, b"true", bytes([rng.randrange(256)])]
            )
            body[i : i + rng.randrange(8)] = new
        parsed = parse(bytes(body))
        assert parsed.events == len(parsed.stated) + len(parsed.rejects)


@pytest.mark.parametrize(
    ("folder", "parts", "passed", "nameless"),
    [
        ("generic/gbfs/v3.0", {"information": 23, "status": 1}, {"free_floating": 7, "other_document": 3}, 0),
        ("helsinki/gbfs", {"information": 8, "status": 10}, {"other_document": 2}, 2),
    ],
)
def test_real_systems_are_read_whole(shared: Path, folder: str, parts: dict[str, int], passed: dict[str, int], nameless: int) -> None:
    city = HELSINKI if folder.startswith("helsinki") else load(GOLDEN / "fixture.toml", {"box": PARIS})
    parsed = parse(*(p.read_bytes() for p in sorted((shared / "feeds" / folder).glob("*.json"))), city=city)
    assert [r.field for r in parsed.rejects] == ["station_id"] * nameless  # null in the recording
    assert {p: sum(s.part == p for s in parsed.stated) for p in parts} == parts
    assert parsed.passed == passed


PARIS = {"south": 48.0, "west": 1.0, "north": 50.0, "east": 3.5}
