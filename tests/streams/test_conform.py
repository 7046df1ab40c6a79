"""The conformance kit: every city's recordings keep the contract of every product; what breaks one is named and fails the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from connectors.cities import load, names
from models.errors import ConfigError
from models.records import Parking, StopPassage, encode
from streams.conform import Report, _Checks, conform, nowhere, text
from streams.outputs import Out, Outputs
from tilannekuva import cli

RECORDINGS = Path(__file__).resolve().parent.parent / "recordings"
T = "2026-03-10T05:30:00.000Z"
#: City -> products that must come out of its recordings, beside positions and situations.
PRODUCTS = {
    "helsinki": {"stop-passage", "parking", "road-weather", "sensor-observation"},
    "hsl": {"stop-passage", "parking", "road-weather", "sensor-observation"},
    "espoo": {"stop-passage", "parking", "road-weather", "sensor-observation"},
    "vantaa": {"stop-passage", "parking", "road-weather", "sensor-observation"},
    "tampere": {"traffic-signal", "stop-passage", "sensor-observation", "road-weather"},
    "turku": {"stop-passage", "shared-vehicle-station", "sensor-observation", "road-weather"},
    "oulu": {"parking", "sensor-observation", "road-weather"},
    "oslo": set[str](),
    "amsterdam": {"sensor-observation"},
    "paris": {"shared-vehicle-station"},
}


def recordings(city: str) -> Path:
    return RECORDINGS / ("helsinki" if city == "hsl" else city)


def test_every_city_file_has_recordings() -> None:
    assert set(names()) == set(PRODUCTS)


@pytest.mark.parametrize("city", names())
def test_the_recordings_of_a_city_keep_every_contract_and_every_event_has_one_fate(city: str) -> None:
    report = conform(load(city), [recordings(city)])
    assert report.faults == []
    assert set(report.feeds) >= {f.name for f in load(city).feeds if not f.optional}
    assert {"vehicle-position", "situation", *PRODUCTS[city]} <= set(report.products)
    assert all(c.unaccounted() == 0 and c.messages > 0 and c.accepted > 0 for c in report.feeds.values())
    assert all(p.invalid == 0 and p.checked == p.records for p in report.products.values())


def test_one_region_is_cut_into_its_cities_without_loss() -> None:
    reports = {city: conform(load(city), [RECORDINGS / "helsinki"]) for city in ("helsinki", "espoo", "vantaa")}
    hfp = {city: r.feeds["hfp"] for city, r in reports.items()}
    assert hfp["espoo"].accepted + hfp["vantaa"].accepted < hfp["helsinki"].accepted
    for city in ("espoo", "vantaa"):
        assert hfp[city].accepted > 0
        assert hfp[city].accepted + hfp[city].elsewhere + sum(hfp[city].rejected.values()) == hfp[city].events == 71


def test_the_same_tram_by_three_feeds_has_one_name() -> None:
    report = conform(load("tampere"), [RECORDINGS / "tampere"])
    assert {f for f in ("journeys", "digitransit", "itsfactory") if report.feeds[f].accepted} == {"journeys", "digitransit", "itsfactory"}


@pytest.mark.parametrize(
    ("city", "path"),
    [
        ("tampere", "tampere"),
        ("turku", "turku"),
        ("oulu", "oulu"),
        ("helsinki", "national"),
        ("espoo", "helsinki/hfp/v2_bus520_no_gnss_20240213.dump"),
    ],
)
def test_the_real_recordings_keep_every_contract(shared: Path, city: str, path: str) -> None:
    report = conform(load(city), [shared / "feeds" / path])
    assert [f for f in report.faults if "nothing could be read" not in f] == []
    assert all(c.unaccounted() == 0 for c in report.feeds.values())


def check(product: str, *outs: Out) -> list[str]:
    report = Report("x", "none")
    checks = _Checks(report)
    out = Outputs()
    out.add(product, list(outs))
    checks.take(out)
    return checks.faults()


def passage(key: bytes = b"S", ce_id: str = "1", **fields: object) -> Out:
    record = StopPassage(**({"stop_id": "S", "vehicle_id": "V", "event_time": T, "ingest_time": T, "feed": "f"} | fields))  # type: ignore[arg-type]
    return Out(key, encode(record), 0, ce_id)


def test_records_that_break_their_contract_are_named() -> None:
    good = Out(b"p", encode(Parking(facility_id="p", ingest_time=T, feed="f")), 0, "p")
    assert check("parking", good, good) == []
    for fault, outs in {
        "not the record of its topic": (Out(b"S", b"{", 0, "1"),),
        "not the record": (Out(b"S", b'{"stop_id":"S"}', 0, "1"),),
        "key is not stop_id": (passage(key=b"T"),),
        "one id for two records": (passage(), passage(vehicle_id="W")),
        "not the record of": (passage(event_time="yesterday"),),
        "stop-passage: not": (passage(dwell_s=-1.0),),
    }.items():
        (found,) = check("stop-passage", *outs)
        assert fault in found


def test_a_feed_of_which_nothing_can_be_read_is_a_fault_and_the_command_fails(tmp_path: Path) -> None:
    (tmp_path / "foli.json").write_text('{"sys":"VM","status":"OK","servertime":1773120600,"result":{"vehicles":{"1":{"vehicleref":5}}}}')
    result = CliRunner().invoke(cli, ["conform", "turku", "--recording", str(tmp_path), "--network", str(tmp_path / "none")])
    assert result.exit_code == 78
    report = conform(load("turku"), [tmp_path])
    assert report.faults == ["foli: nothing could be read"]
    assert "FAULT foli: nothing could be read" in text(report)


def test_the_command_prints_the_table_and_succeeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILANNEKUVA_DATA", str(tmp_path))
    result = CliRunner().invoke(cli, ["conform", "turku", "--recording", str(RECORDINGS / "turku")])
    assert result.exit_code == 0, result.output
    assert "every product keeps its contract" in result.output
    assert "network: none" in result.output
    bad = tmp_path / "alerts.json"
    bad.write_text('{"messages":[{}],"cancellations":[]}')
    assert CliRunner().invoke(cli, ["conform", "turku", "--recording", str(bad)]).exit_code == 1


def test_a_recording_of_another_city_is_bad_configuration() -> None:
    with pytest.raises(ConfigError, match="a recording of a family"):
        conform(load("turku"), [RECORDINGS / "helsinki" / "hfp.jsonl"])


@pytest.mark.parametrize("city", names())
def test_without_a_network_there_is_still_somewhere_to_stand(city: str) -> None:
    assert len(nowhere(load(city)).segments) == 1
