"""National documents are cut between their records; nothing that is the city's is lost, and nothing explodes."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from connectors import xml
from connectors.cities import load
from connectors.datex2 import cut
from connectors.datex2.fetch import Cutter
from connectors.polling import Refused

CITY = load(Path(__file__).resolve().parents[2] / "golden" / "fixture.toml")
HEAD = (
    '<?xml version="1.0"?><d2LogicalModel xmlns="http://datex2.eu/schema/2/2_0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
    '<payloadPublication xsi:type="{}"><publicationTime>2026-03-10T05:00:00Z</publicationTime>{}'
)
TAIL = "</payloadPublication></d2LogicalModel>"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "PIECE", 4096)
    monkeypatch.setattr(cut, "_CHUNK", 1000)


def table(n: int) -> bytes:
    """Sites 0, 3, 6, ... lie in the city; sites 1, 4, ... far away; sites 2, 5, ... have no place."""
    places = ("<latitude>60.2</latitude><longitude>24.9</longitude>", "<latitude>52</latitude><longitude>4</longitude>", "<alertC/>")
    records = "".join(f'<measurementSiteRecord id="S{k}" version="1"><l>{places[k % 3]}</l></measurementSiteRecord>\n' for k in range(n))
    head = HEAD.format("MeasurementSiteTablePublication", '<measurementSiteTable id="T" version="1">')
    return (head + records + "</measurementSiteTable>" + TAIL).encode()


def measured(n: int) -> bytes:
    records = "".join(f'<siteMeasurements><measurementSiteReference id="S{k}" version="1"/></siteMeasurements>' for k in range(n))
    return (HEAD.format("MeasuredDataPublication", "") + records + TAIL).encode()


def ids(pieces: list[bytes]) -> list[str]:
    return [
        e.get("id") or e[0].get("id") for p in pieces for e in xml.descendants(xml.parse(p), "measurementSiteRecord", "siteMeasurements")
    ]


def test_a_small_document_stays_as_it_was_received() -> None:
    body = measured(2)
    assert Cutter(CITY)(body) == [body]
    assert Cutter(CITY)(b"<html>") == [b"<html>"]


@pytest.mark.parametrize("packed", [False, True])
def test_pieces_are_whole_documents_of_bounded_size_with_every_record_once_and_in_order(packed: bool) -> None:
    body = measured(700)
    pieces = Cutter(CITY)(gzip.compress(body) if packed else body)
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 2 * 4096
    assert ids(pieces) == [f"S{k}" for k in range(700)]


def test_only_sites_that_may_be_the_citys_go_on_and_then_only_their_measurements() -> None:
    cutter = Cutter(CITY)
    here = [f"S{k}" for k in range(300) if k % 3 != 1]
    assert ids(cutter(gzip.compress(table(300)))) == here
    assert ids(cutter(gzip.compress(measured(300)))) == here


def test_a_document_of_which_nothing_is_the_citys_is_a_document_without_records() -> None:
    cutter = Cutter(CITY)
    cutter(table(100))
    body = measured(100).replace(b'id="S', b'id="X')
    (piece,) = cutter(body + b" " * 4096)
    assert ids([piece]) == []


def test_the_cut_does_not_depend_on_where_the_unpacker_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    body = gzip.compress(table(200))
    whole = Cutter(CITY)(body)
    for size in (1, 7, 100, 10_000_000):
        monkeypatch.setattr(cut, "_CHUNK", size)
        monkeypatch.setattr(cut, "MOST_RATIO", 10_000)
        monkeypatch.setattr(cut, "MOST_BYTES", 10_000_000)
        assert Cutter(CITY)(body) == whole


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (gzip.compress(b"\0" * 50_000_000), "document"),
        (gzip.compress(measured(700))[:-30], "gzip"),
        (gzip.compress(measured(700))[:20] + b"\xff" * 400, "gzip"),
        (gzip.compress(measured(700).replace(b"<d2L", b'<!DOCTYPE d [<!ENTITY a "b">]><d2L', 1)), "document"),
        (measured(700).replace(b"<siteMeasurements>", b"</x><siteMeasurements>"), "document"),
        (b"<siteMeasurements>" + b"x" * 3_000_000, "record"),
    ],
)
def test_what_is_too_large_or_not_what_it_seems_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(Refused) as e:
        Cutter(CITY)(body)
    assert e.value.field == field


def test_a_bomb_is_refused_before_it_is_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "_CHUNK", 1024 * 1024)
    record = b"<siteMeasurements>" + b" " * 1000 + b"</siteMeasurements>"
    with pytest.raises(Refused, match=r"gzip = more than"):
        Cutter(CITY)(gzip.compress(b"<d>" + record * 300_000 + b"</d>"))


def test_broken_bytes_are_cut_or_refused() -> None:
    rng = random.Random(5)
    for _ in range(300):
        body = bytearray(table(60))
        for _ in range(rng.randrange(1, 6)):
            i = rng.randrange(len(body))
            body[i : i + rng.randrange(30)] = rng.choice([b"", b"<siteMeasurements>", b"</", b"\xff", b"latitude>", b"9" * 30])
        try:
            pieces = Cutter(CITY)(bytes(body))
        except Refused:
            continue
        assert pieces
