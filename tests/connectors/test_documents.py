"""Documents of SIRI, DATEX II and GBFS are recognised by what they hold, and received when they were made."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from connectors.cities import load
from connectors.families import parser
from connectors.recordings import envelopes, plan, read
from models.clock import parse_ms
from models.errors import ConfigError

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CITY = load(GOLDEN / "fixture.toml")


def test_every_golden_document_is_recognised(tmp_path: Path) -> None:
    for family in ("siri", "gbfs", "datex2"):
        for document in (GOLDEN / family).glob("*/in*"):
            assert [r.feed for r in plan(document, CITY).recordings] == [family]


def test_a_document_is_received_when_it_was_made_or_when_its_name_says(tmp_path: Path) -> None:
    made = {
        "siri/bus_late_tram_at_stop/in.xml": "2026-03-10T05:30:05Z",
        "siri/soap_14_prefixed/in.xml": "2026-03-10T05:30:05Z",
        "datex2/v2_without_table/in.xml": "2026-03-10T05:30:00Z",  # its measurement: publicationTime is earlier
        "datex2/v37_sites/in2_measured.xml": "2026-03-10T05:30:00Z",
        "gbfs/v1_numbers/in1_status.json": "2026-03-10T05:30:00Z",
        "gbfs/v3_texts/in1_information.json": "2026-03-10T05:30:00.969Z",
    }
    for name, time in made.items():
        ((_, item),) = read(GOLDEN / name, CITY)
        assert item.ingest_ms == parse_ms(time)
        stamped = tmp_path / f"x_20260310T053100Z{Path(name).suffix}"
        shutil.copy(GOLDEN / name, stamped)
        ((_, item),) = read(stamped, CITY)
        assert item.ingest_ms == parse_ms("2026-03-10T05:31:00Z")
    shutil.copy(GOLDEN / "gbfs/v1_numbers/in1_status.json", tmp_path / "status_1773120700.json")
    ((_, item),) = read(tmp_path / "status_1773120700.json", CITY)
    assert item.ingest_ms == 1_773_120_700_000


def test_a_packed_document_is_unpacked_and_a_broken_one_passed_on(tmp_path: Path) -> None:
    body = (GOLDEN / "datex2/v2_without_table/in.xml").read_bytes()
    (tmp_path / "a.xml.gz").write_bytes(gzip.compress(body))
    ((_, item),) = read(tmp_path, CITY)
    assert item.body == body
    (tmp_path / "a.xml.gz").write_bytes(gzip.compress(body)[:-8])
    ((_, item),) = read(tmp_path, CITY)
    assert item.body[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("name", "body"), [("a.xml", b"<rss/>"), ("a.xml", b""), ("a.gz", b"x"), ("a.json", b'{"last_updated": 5, "data": {}}')]
)
def test_other_documents_are_no_recordings(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ConfigError, match="expected a recording"):
        plan(tmp_path / name, CITY)


def test_folder_or_file_names_tell_which_of_several_feeds_is_meant(tmp_path: Path) -> None:
    table = {"family": "gbfs", "cadence_s": 60, "http": [{"url": "https://example.org/x", "every_s": 60}]}
    city = load(GOLDEN / "fixture.toml", {"feeds.velib": table})
    status = GOLDEN / "gbfs/v1_numbers/in1_status.json"
    (tmp_path / "velib").mkdir()
    for name, feed in (("velib/status.json", "velib"), ("velib_status.json", "velib"), ("velibre.json", "gbfs"), ("status.json", "gbfs")):
        shutil.copy(status, tmp_path / name)
        assert [r.feed for r in plan(tmp_path / name, city).recordings] == [feed]


def test_snapshots_of_several_feeds_stay_apart(tmp_path: Path) -> None:
    table = {"family": "gtfs_realtime", "cadence_s": 60, "http": [{"url": "https://example.org/x", "every_s": 60}]}
    city = load(GOLDEN / "fixture.toml", {"feeds.buses": table, "feeds.trams": table})
    for feed in ("buses", "trams"):
        (tmp_path / feed).mkdir()
        (tmp_path / feed / "vp_1773120600.pb").write_bytes(b"")
    assert [(r.feed, len(r.paths)) for r in plan(tmp_path, city).recordings] == [("buses", 1), ("trams", 1)]


def test_a_folder_of_documents_goes_through_whole() -> None:
    chosen = plan(GOLDEN / "datex2", CITY)
    assert chosen.skipped  # the files of what is expected
    made = parser(CITY.feed("datex2"), CITY)
    parsed = [made.parse(e) for _, _, e in envelopes(read(chosen, CITY), CITY, chosen.feeds) if e.items]
    assert sum(len(p.sites) for p in parsed) == 3
    assert sum(len(p.sensors or []) for p in parsed) == 3  # the site without a table is not in the tables that came before it


@pytest.mark.parametrize(("folder", "family", "items"), [("siri", "siri", 4), ("datex2", "datex2", 3), ("gbfs", "gbfs", 11)])
def test_real_recordings_are_recognised(shared: Path, folder: str, family: str, items: int) -> None:
    chosen = plan(shared / "feeds/generic" / folder, CITY)
    assert (chosen.feeds, chosen.skipped, len(list(read(chosen, CITY)))) == ([family], (), items)
