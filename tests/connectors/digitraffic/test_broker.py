"""Road weather and traffic messages over MQTT, and real traffic messages."""

from __future__ import annotations

import base64
import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.cities import load
from connectors.columns import Parsed
from connectors.digitraffic.messages import MOST_UNPACKED
from connectors.digitraffic.parse import Parser
from connectors.envelope import SCHEMA, Envelope, Item
from models.clock import parse_ms, rfc3339
from models.records import RoadWeather, Situation
from tests.streams import kit

CITY = load("helsinki")
AT = parse_ms("2026-03-10T05:30:00Z")
SIMPLE = "traffic-message-v3/simple/ROAD_WORK"


def parse(*messages: tuple[str, bytes], kind: Any = "messages", areas: tuple[str, ...] = ()) -> Parsed:
    feed = msgspec.structs.replace(CITY.feed("tms"), areas=areas)
    items = tuple(Item(AT, topic, body) for topic, body in messages)
    return Parser(feed, CITY).parse(Envelope(SCHEMA, "helsinki", "tms", "digitraffic", kind, AT, items))


def feature(situation: str, lon: float = 24.9) -> bytes:
    properties = {"situationId": situation, "situationType": "ROAD_WORK", "version": 1, "versionTime": "2026-03-10T05:00:00Z"}
    return json.dumps({"type": "Feature", "geometry": {"type": "Point", "coordinates": [lon, 60.2]}, "properties": properties}).encode()


def packed(body: bytes) -> bytes:
    return base64.b64encode(gzip.compress(body))


def test_sensors_come_one_by_one_and_make_one_record_of_their_station() -> None:
    topics = {"weather-v2/12019/1": -4.2, "weather-v2/12019/27": 7, "weather-v2/12019/30": 1, "weather-v2/status": 0}
    parsed = parse(*[(t, json.dumps({"value": v, "time": AT // 1000 - 5}).encode()) for t, v in topics.items()])
    assert [(s.key, s.part, s.site) for s in parsed.stated] == [
        ("digitraffic/12019", "ILMA", "digitraffic/12019:weather"),
        ("digitraffic/12019", "KELI_1", "digitraffic/12019:weather"),
    ]
    records = [s.record for s in parsed.stated if isinstance(s.record, RoadWeather)]
    assert (records[0].air_c, records[1].road_condition) == (-4.2, "ice")
    assert parsed.passed == {"unused_sensor": 1, "status": 1}
    assert parsed.events == 2


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("weather-v2/x/1", b'{"value": 1, "time": 1}', "bad_topic"),
        ("weather-v2/1/1", b'{"value": null, "time": 1}', "bad_type"),
        ("weather-v2/1/1", b'{"value": 1, "time": -1}', "range"),
        ("weather-v2/1/1", b'{"value": 1, "time": 99999999999999}', "range"),
        ("weather-v2/1/1", b'{"value": 500, "time": 1773120600}', "range"),
        (SIMPLE, b"", "bad_packing"),
        (SIMPLE, b"not base64!", "bad_packing"),
        (SIMPLE, base64.b64encode(b"not gzip"), "bad_packing"),
        (SIMPLE, base64.b64encode(gzip.compress(feature("G"))[:-9]), "bad_packing"),
        (SIMPLE, packed(b" " * (MOST_UNPACKED + 1)), "bad_packing"),
        (SIMPLE, packed(b'{"geometry":' + b"[" * 100_000), "bad_json"),
        (SIMPLE, packed(b"{}"), "bad_type"),
    ],
)
def test_a_bad_message_is_refused_with_its_reason(topic: str, body: bytes, reason: str) -> None:
    parsed = parse((topic, body))
    assert [(r.index, r.reason) for r in parsed.rejects] == [(0, reason)]


def test_messages_are_unpacked_and_other_forms_left_alone() -> None:
    parsed = parse(
        (SIMPLE, packed(feature("G1"))),
        (SIMPLE, feature("G2")),
        ("traffic-message-v3/datex2-3.5/SRTI", b"x"),
        (SIMPLE, packed(feature("G3", 21.0))),
    )
    assert [s.key for s in parsed.stated] == ["digitraffic/G1", "digitraffic/G2"]
    assert parsed.passed == {"other_form": 1, "outside_box": 1}


def test_vehicles_of_maintenance_have_no_name_and_are_only_counted() -> None:
    assert parse(("maintenance-v2/routes/autori-oulu", b'{"time": 1, "x": 25.0, "y": 65.0}')).passed == {"no_vehicle_id": 1}


def test_the_message_of_the_documentation_is_an_accident_that_is_over(shared: Path) -> None:
    body = (shared / "feeds/national/digitraffic/mqtt_traffic_message_simple.b64").read_bytes()
    parsed = parse((SIMPLE, body))
    assert parsed.passed == {"outside_box": 1}  # Asikkala
    wide = msgspec.structs.replace(CITY, box=msgspec.structs.replace(CITY.box, north=61.5))
    parsed = Parser(CITY.feed("tms"), wide).parse(Envelope(SCHEMA, "c", "tms", "digitraffic", "messages", AT, (Item(AT, SIMPLE, body),)))
    (stated,) = parsed.stated
    record = stated.record
    assert isinstance(record, Situation)
    assert (record.ended, record.version, record.valid_to, stated.ended) == (True, 9, "2023-01-24T09:30:12.313Z", True)
    assert record.areas == ["Asikkala"]


@pytest.mark.parametrize(
    ("name", "severity", "version", "here"),
    [
        ("Roadwork", "highest", 24, False),
        ("Roadwork2", "highest", 15, True),
        ("Roadwork_lane_closed_2", "high", None, True),
    ],
)
def test_both_spellings_of_real_roadworks_are_read(shared: Path, name: str, severity: str, version: int | None, here: bool) -> None:
    body = (shared / f"feeds/national/digitraffic/simple_json/{name}.json").read_bytes()
    parsed = parse(("Roadwork.json", body), kind="snapshot")
    assert not parsed.rejects
    assert len(parsed.stated) == here
    for s in parsed.stated:
        assert isinstance(s.record, Situation)
        assert (s.record.kind, s.record.severity) == ("roadwork", severity)
        assert version in (None, s.record.version)
        assert s.record.title is not None
        assert s.record.geometry is not None


def test_an_area_of_half_the_country_is_named_and_not_drawn(shared: Path) -> None:
    body = (shared / "feeds/national/digitraffic/traffic_message_GUID50409331.json").read_bytes()
    assert parse(("m.json", body), kind="snapshot").passed == {"outside_box": 1}
    (stated,) = parse(("m.json", body), kind="snapshot", areas=("pohjois-pohjanmaa",)).stated
    assert isinstance(stated.record, Situation)
    assert stated.record.geometry is None
    assert stated.record.areas == ["Pohjois-Pohjanmaa"]


def test_counts_over_mqtt_beside_the_lists_of_stations_give_what_rest_gives() -> None:
    """The configuration of the README: lists are polled, numbers come by MQTT; ``end`` is when it was measured, ``time`` is later and is not."""
    readme = (Path(__file__).parents[3] / "connectors/digitraffic/README.md").read_text("utf-8")
    table = tomllib.loads(readme.partition("```toml")[2].partition("```")[0])["feeds"]["tms"]
    city = msgspec.structs.replace(load("helsinki", {"feeds.tms": table}), area=None)
    lat, lon = kit.degrees(kit.EAST + 300.0, kit.NORTH)
    told = {"id": 23118, "tmsNumber": 118, "collectionStatus": "GATHERING", "state": "OK", "bearing": 90}
    station = {"type": "Feature", "id": 23118, "geometry": {"type": "Point", "coordinates": [lon, lat, 0]}, "properties": told}
    stations = json.dumps({"type": "FeatureCollection", "features": [station]}).encode()
    end = kit.T0 // 1000
    numbers = [
        (f"tms-v2/23118/{sensor}", json.dumps({"value": value, "time": end + 55, "start": end - 300, "end": end}).encode())
        for sensor, value in ((5116, 600), (5122, 48))
    ]
    log = [
        Envelope(
            SCHEMA, "helsinki", "tms", "digitraffic", "snapshot", kit.T0 + 1, (Item(kit.T0 + 1, city.feed("tms").http[0].url, stations),)
        ),
        *(Envelope(SCHEMA, "helsinki", "tms", "digitraffic", "messages", kit.T0 + 60_000, (Item(kit.T0 + 60_000, *n),)) for n in numbers),
    ]
    out, run = kit.run_all(log, city)
    assert (run.tally()["tms"].accepted, run.tally()["tms"].rejected) == (2, 0)
    records = kit.records(out, "sensor-observation")
    assert [(r["flow_vph"], r.get("speed_kmh"), r["window_end"]) for r in records] == [
        (600.0, None, rfc3339(kit.T0)),
        (600.0, 48.0, rfc3339(kit.T0)),
    ]
