"""TMS stations, readings and constants, over REST and MQTT."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.cities import load
from connectors.columns import Parsed
from connectors.digitraffic.parse import Parser
from connectors.envelope import SCHEMA, Envelope, Item
from models.clock import parse_ms

CITY = load("helsinki")
END = "2026-03-10T05:30:00Z"
END_MS = parse_ms(END)
URL = "https://tie.digitraffic.fi/api/tms/v1/stations/data"


def parse(body: object, topic: str = URL, kind: Any = "snapshot", at: str = END) -> Parsed:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    ingest_ms = parse_ms(at)
    return Parser(CITY.feed("tms"), CITY).parse(
        Envelope(SCHEMA, "helsinki", "tms", "digitraffic", kind, ingest_ms, (Item(ingest_ms, topic, data),))
    )


def value(sensor: int, value: object, measured: str | None = END, **more: object) -> dict[str, object]:
    return {"id": sensor, "stationId": 23001, "name": "X", "unit": "kpl/h", "value": value, "measuredTime": measured} | more


def station(*values: dict[str, object], id: int = 23001) -> dict[str, object]:
    return {"id": id, "tmsNumber": 1, "dataUpdatedTime": END, "sensorValues": list(values)}


def data(*stations: dict[str, object]) -> dict[str, object]:
    return {"dataUpdatedTime": END, "stations": list(stations)}


def rows(parsed: Parsed) -> list[tuple[str, str, float, float]]:
    s = parsed.sensors
    assert s is not None
    return list(zip(s.site_id, s.direction, s.flow_vph.tolist(), s.speed_kmh.tolist(), strict=True))


def test_a_station_gives_one_reading_a_direction() -> None:
    parsed = parse(
        data(station(value(5116, 228.0), value(5122, 27.0), value(5119, 600), value(5125, 55.5), value(60000, 0), value(5158, 90)))
    )
    assert rows(parsed) == [("digitraffic/23001", "1", 228.0, 27.0), ("digitraffic/23001", "2", 600.0, 55.5)]
    s = parsed.sensors
    assert s is not None
    assert (s.window_start_ms.tolist(), s.window_end_ms.tolist()) == ([END_MS - 300_000] * 2, [END_MS] * 2)
    assert (s.kind[0], s.fault[0], s.ingest_ms[0], parsed.events) == ("loop", None, END_MS, 2)
    assert np.isnan(s.occupancy_pct).all()


def test_a_window_that_is_told_is_taken() -> None:
    window = {"timeWindowStart": "2026-03-10T05:24:00Z", "timeWindowEnd": "2026-03-10T05:29:00Z"}
    s = parse(data(station(value(5116, 12, **window)))).sensors
    assert s is not None
    assert (s.window_start_ms[0], s.window_end_ms[0]) == (END_MS - 360_000, END_MS - 60_000)


def test_the_fixed_window_stands_in_where_nothing_slides() -> None:
    parsed = parse(data(station(value(5016, 100), value(5022, 50), value(5116, 228), value(5019, 90), value(5025, 40))))
    assert rows(parsed)[0][2] == 228
    assert math.isnan(rows(parsed)[0][3])
    assert rows(parsed)[1] == ("digitraffic/23001", "2", 90, 40)


def test_nobody_passed_is_flow_zero_without_a_speed() -> None:
    for readings in ([value(5116, 0)], [value(5116, 0), value(5122, 80)]):
        ((_, _, flow, speed),) = rows(parse(data(station(*readings))))
        assert flow == 0
        assert math.isnan(speed)


def test_a_speed_older_than_its_flow_is_not_taken_for_fresh() -> None:
    ((_, _, _, speed),) = rows(parse(data(station(value(5116, 12), value(5122, 80, "2026-03-10T05:20:00Z")))))
    assert math.isnan(speed)


def test_a_value_that_is_missing_is_not_a_zero() -> None:
    assert rows(parse(data(station(value(5116, None)), station(id=23002)))) == []


@pytest.mark.parametrize(
    ("reliability", "fault"), [("OK", None), ("FAULTY", "other"), ("SUSPICIOUS", "intermittentDataValues"), ("NEW", "unknown")]
)
def test_reliability_becomes_a_datex_fault(reliability: str, fault: str | None) -> None:
    s = parse(data(station(value(5116, 12, reliability=reliability)))).sensors
    assert s is not None
    assert s.fault == [fault]


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (value(5116, -1), "range", "sensor 5116"),
        (value(5116, 1, None), "missing", "measuredTime"),
        (value(5116, 1, "yesterday"), "bad_type", "measuredTime"),
        (value(5116, 1, "2026-03-10T05:30:00"), "bad_type", "measuredTime"),
        (value(5116, 1, timeWindowStart=END), "bad_type", "timeWindowStart"),
        (value(5116, "12"), "bad_type", "value"),
        (value(5116, {"a": 1}), "bad_type", "value"),
    ],
)
def test_one_bad_value_is_refused_by_name_and_other_stations_go_on(bad: dict[str, object], reason: str, field: str) -> None:
    parsed = parse(data(station(value(5116, 1)), station(bad, id=23002), station(value(5116, 3), id=23003)))
    assert [(r.index, r.reason, r.field) for r in parsed.rejects] == [(1, reason, field)]
    assert [r[0] for r in rows(parsed)] == ["digitraffic/23001", "digitraffic/23003"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<!DOCTYPE a><a/>",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"stations":5}',
        b'{"stations":[{"id":1,',
        b'{"a":' + b"[" * 100_000,
        b'{"stations":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_no_document_is_refused_whole(body: bytes) -> None:
    parsed = parse(body)
    assert [(r.index, r.reason) for r in parsed.rejects] == [(-1, parsed.rejects[0].reason)]
    assert parsed.rejects[0].reason in ("bad_json", "bad_type")
    assert parsed.rejects[0].body == body


def feature(id: int = 23001, lon: float = 24.94, lat: float = 60.17, **properties: object) -> dict[str, object]:
    p = {"id": id, "tmsNumber": 1, "name": "vt_Mannerheimintie", "collectionStatus": "GATHERING", "bearing": 300} | properties
    return {"type": "Feature", "id": id, "geometry": {"type": "Point", "coordinates": [lon, lat, 0.0]}, "properties": p}


def test_a_station_of_the_list_is_two_sites_that_look_opposite_ways() -> None:
    one, two = parse({"type": "FeatureCollection", "features": [feature(freeFlowSpeed1=80.0, freeFlowSpeed2=70.0)]}).sites
    assert (one.site_id, one.direction, one.lat_deg, one.lon_deg, one.bearing_deg, one.free_flow_kmh) == (
        "digitraffic/23001",
        "1",
        60.17,
        24.94,
        300,
        80,
    )
    assert (two.direction, two.bearing_deg, two.free_flow_kmh) == ("2", 120, 70)


def test_stations_elsewhere_removed_or_without_a_place_are_no_sites() -> None:
    nowhere = feature() | {"geometry": None}
    parsed = parse({"type": "FeatureCollection", "features": [feature(lat=65.0), feature(collectionStatus="REMOVED_PERMANENTLY"), nowhere]})
    assert parsed.sites == []
    assert [(r.index, r.field) for r in parsed.rejects] == [(2, "geometry")]


@pytest.mark.parametrize(("at", "free_flow"), [("2026-01-10T05:30:00Z", 100), ("2026-06-10T05:30:00Z", 105), ("2026-10-31T22:30:00Z", 100)])
def test_constants_are_those_of_the_season_by_the_citys_calendar(shared: Path, at: str, free_flow: float) -> None:
    body = (shared / "feeds/national/digitraffic/tms_rest_shape/stations_sensor-constants.json").read_bytes()
    sites = parse(body, at=at).sites
    assert [(s.site_id, s.direction, s.free_flow_kmh, s.capacity_vph, s.bearing_deg) for s in sites[:2]] == [
        ("digitraffic/20002", "1", free_flow, 4000, 298),
        ("digitraffic/20002", "2", free_flow, 3800, 118),
    ]
    assert math.isnan(sites[0].lat_deg)


@pytest.mark.parametrize(
    ("name", "sites", "readings"),
    [
        ("stations", 4, 0),
        ("stations_23001", 2, 0),
        ("stations_data", 0, 1),
        ("stations_23001_data", 0, 1),
        ("stations_sensor-constants", 4, 0),
    ],
)
def test_lists_and_single_stations_are_read_alike(shared: Path, name: str, sites: int, readings: int) -> None:
    parsed = parse((shared / f"feeds/national/digitraffic/tms_rest_shape/{name}.json").read_bytes())
    assert (len(parsed.sites), len(rows(parsed)), parsed.rejects) == (sites, readings, [])


def test_mqtt_tells_one_number_at_a_time_in_the_window_that_it_names() -> None:
    parsed = parse({"value": 108, "time": 1667972911, "start": 1667966400, "end": 1667970000}, "tms-v2/23001/5116", "messages")
    s = parsed.sensors
    assert s is not None
    assert (s.window_start_ms[0], s.window_end_ms[0], s.flow_vph[0]) == (1667966400_000, 1667970000_000, 108)
    assert math.isnan(s.speed_kmh[0])
    s = parse({"value": 81, "time": 1667972911}, "tms-v2/23001/5125", "messages").sensors
    assert s is not None
    assert (s.direction[0], s.window_end_ms[0] - s.window_start_ms[0], s.speed_kmh[0]) == ("2", 300_000, 81)


@pytest.mark.parametrize("topic", ["tms-v2/status", "tms-v2/23001/5158", "/tms-v2/23001/60000"])
def test_mqtt_topics_that_tell_nothing_of_traffic_are_passed_over(topic: str) -> None:
    parsed = parse({"updated": 1676628995}, topic, "messages")
    assert (parsed.events, parsed.rejects) == (0, [])


@pytest.mark.parametrize(
    ("topic", "body", "field"),
    [
        ("tms-v2/x/5116", {"value": 1, "time": 1}, "topic"),
        ("tms-v2/23001/5116", {"value": "1", "time": 1}, "value"),
        ("tms-v2/23001/5116", {"value": 1}, "time"),
        ("tms-v2/23001/5116", {"value": 1, "time": 0}, "time"),
        ("tms-v2/23001/5116", {"value": 1, "time": 2**60}, "start"),
        ("tms-v2/23001/5116", {"value": 1, "time": 1667972911, "start": 1667972911}, "start"),
        ("tms-v2/23001/5116", {"value": -1, "time": 1667972911}, "value"),
        ("tms-v2/23001/5116", {"time": 1667972911}, "body"),
    ],
)
def test_a_bad_mqtt_message_is_refused_by_name(topic: str, body: object, field: str) -> None:
    parsed = parse(body, topic, "messages")
    assert [(r.index, r.field) for r in parsed.rejects] == [(0, field)]
