"""GTFS-RT vehicle positions become columns; a body that is not what it claims is refused whole, an entity by itself."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from google.protobuf import json_format
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import City, load
from connectors.columns import METHODS, Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.gtfs_realtime.parse import Parser
from models.records import Situation

CITY = load("helsinki")
NOW_S = 1_773_120_600


def parse(*bodies: bytes, kind: Any = "snapshot", city: City = CITY, **settings: Any) -> Parsed:
    feed = msgspec.structs.replace(city.feed("gtfs_rt"), **settings)
    items = tuple(Item(NOW_S * 1000 + 500, "https://example.org/vp", body) for body in bodies)
    return Parser(feed, city).parse(Envelope(SCHEMA, "helsinki", "gtfs_rt", "gtfs_realtime", kind, NOW_S * 1000 + 500, items))


def feed(*entities: dict[str, Any], timestamp: int = NOW_S, incrementality: str = "FULL_DATASET") -> bytes:
    header = {"gtfs_realtime_version": "2.0", "incrementality": incrementality, "timestamp": timestamp}
    return json_format.ParseDict({"header": header, "entity": list(entities)}, pb.FeedMessage()).SerializePartialToString()


def entity(**changes: Any) -> dict[str, Any]:
    vehicle = {
        "trip": {"route_id": "2550", "direction_id": 1, "start_date": "20260310", "start_time": "24:05:00"},
        "vehicle": {"id": "18/423"},
        "position": {"latitude": 60.25, "longitude": 24.75, "bearing": 90, "speed": 8.5, "odometer": 1200},
        "timestamp": NOW_S - 3,
        "current_status": "STOPPED_AT",
        "stop_id": "1220104",
    } | changes
    return {"id": "vehicle_position_18/423", "vehicle": {k: v for k, v in vehicle.items() if v is not None}}


def test_an_entity_becomes_one_row_of_the_same_vehicle_as_in_hfp() -> None:
    parsed = parse(feed(entity()))
    v = parsed.vehicles
    assert v is not None
    assert (parsed.events, len(v), parsed.rejects) == (1, 1, [])
    assert (v.vehicle_id[0], v.operator[0], v.event_ms[0], v.ingest_ms[0]) == ("0018/00423", "0018", (NOW_S - 3) * 1000, NOW_S * 1000 + 500)
    assert (v.lat_deg[0], v.lon_deg[0], v.heading_deg[0], v.speed_mps[0], v.odometer_m[0]) == (60.25, 24.75, 90, 8.5, 1200)
    assert (v.at_stop[0], v.stop_id[0], v.doors_open[0], METHODS[v.method[0]]) == (1, "1220104", -1, "unknown")
    t = v.trip[0]
    assert (t.route_id, t.direction_id, t.trip_id, t.operating_day, t.start_time) == ("2550", 1, None, "2026-03-10", "24:05:00")


def test_ids_stay_as_sent_where_the_city_does_not_say_otherwise() -> None:
    v = parse(feed(entity()), vehicle_id_format="as_sent").vehicles
    assert v is not None
    assert (v.vehicle_id[0], v.operator[0]) == ("18/423", None)


def test_a_vehicle_without_id_is_named_by_its_label_then_its_entity() -> None:
    v = parse(feed(entity(vehicle={"label": "Suomenlinna II"}), entity(vehicle=None))).vehicles
    assert v is not None
    assert v.vehicle_id == ["Suomenlinna II", "vehicle_position_18/423"]


def test_zero_means_unknown_only_where_the_city_says_so() -> None:
    zero = entity(position={"latitude": 60.25, "longitude": 24.75, "bearing": 0, "speed": 0, "odometer": 0})
    known, unknown = parse(feed(zero), zero_is_unknown=False).vehicles, parse(feed(zero), zero_is_unknown=True).vehicles
    assert known is not None
    assert unknown is not None
    assert [known.speed_mps[0], known.odometer_m[0], known.heading_deg[0]] == [0, 0, 0]
    assert np.isnan([unknown.speed_mps[0], unknown.odometer_m[0], unknown.heading_deg[0]]).all()


def test_what_is_not_sent_is_not_known() -> None:
    bare = {"id": "1", "vehicle": {"position": {"latitude": 60.25, "longitude": 24.75}, "vehicle": {"id": "x"}}}
    v = parse(feed(bare, {"id": "2", "vehicle": {"vehicle": {"id": "y"}}})).vehicles
    assert v is not None
    assert v.event_ms.tolist() == [NOW_S * 1000] * 2  # the header's
    assert np.isnan([v.speed_mps, v.heading_deg, v.odometer_m, v.delay_s, v.occupancy_pct]).all()
    assert (v.at_stop.tolist(), v.stop_id, v.trip[0].route_id, v.trip[0].direction_id) == ([-1, -1], [None, None], None, None)
    assert np.isnan(v.lat_deg[1])


def test_an_entity_without_any_time_is_refused() -> None:
    parsed = parse(feed(entity(timestamp=0), entity(), timestamp=0))
    assert [(r.index, r.reason, r.field) for r in parsed.rejects] == [(0, "missing", "timestamp")]
    assert parsed.rejects[0].body
    assert parsed.vehicles is not None
    assert parsed.vehicles.index.tolist() == [1]


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"timestamp": 2**64 - 1}, "bad_type", "timestamp"),
        ({"position": {"latitude": 60, "longitude": 25, "bearing": -1}}, "heading", "position.bearing"),
        ({"position": {"latitude": 60, "longitude": 25, "bearing": "Infinity"}}, "heading", "position.bearing"),
    ],
)
def test_one_bad_entity_is_refused_by_name_and_the_rest_goes_on(changes: dict[str, Any], reason: str, field: str) -> None:
    parsed = parse(feed(entity(), entity(**changes), entity()))
    assert [(r.index, r.reason, r.field) for r in parsed.rejects] == [(1, reason, field)]
    assert parsed.vehicles is not None
    assert parsed.vehicles.index.tolist() == [0, 2]
    assert parsed.events == 3


def test_nan_is_no_position() -> None:
    v = parse(feed(entity(position={"latitude": "NaN", "longitude": 24.75, "speed": "NaN"}))).vehicles
    assert v is not None
    assert np.isnan([v.lat_deg[0], v.lon_deg[0], v.speed_mps[0]]).all()


def test_deleted_entities_and_forecasts_are_passed_over_and_counted() -> None:
    update = {"id": "t", "trip_update": {"trip": {"trip_id": "1"}}}
    parsed = parse(feed(entity() | {"is_deleted": True}, update, entity(), incrementality="DIFFERENTIAL"))
    assert (parsed.events, parsed.passed) == (1, {"deleted": 1, "trip_update": 1})
    assert parsed.vehicles is not None
    assert parsed.vehicles.index.tolist() == [2]


def alert(**changes: Any) -> dict[str, Any]:
    return {
        "id": "hsl:alert:1",
        "alert": {
            "active_period": [{"start": 1745840000, "end": 1745850000}, {"start": 1745860000, "end": 1745870000}],
            "informed_entity": [{"route_id": "1001"}, {"route_id": "1001"}, {"stop_id": "1020453"}, {"trip": {"route_id": "1004"}}],
            "cause": "CONSTRUCTION",
            "effect": "DETOUR",
            "severity_level": "WARNING",
            "url": {"translation": [{"text": "https://www.hsl.fi/", "language": "fi"}]},
            "header_text": {"translation": [{"text": "Poikkeusreitti", "language": "fi"}, {"text": "Detour", "language": "EN"}]},
            "description_text": {"translation": [{"text": "Mannerheimintie on poikki"}]},
        }
        | changes,
    }


def test_an_alert_becomes_a_situation() -> None:
    (stated,) = parse(feed(alert())).stated
    record = stated.record
    assert isinstance(record, Situation)
    assert (stated.product, stated.key, stated.on_change) == ("situation", "gtfs_rt/hsl:alert:1", True)
    assert (record.kind, record.cause, record.effect, record.severity) == ("transit_alert", "CONSTRUCTION", "DETOUR", "medium")
    assert (record.valid_from, record.valid_to) == ("2025-04-28T11:33:20.000Z", "2025-04-28T19:53:20.000Z")
    assert (record.routes, record.stops) == (["1001", "1004"], ["1020453"])
    assert (record.title, record.text) == ({"fi": "Poikkeusreitti", "en": "Detour"}, {"und": "Mannerheimintie on poikki"})


def test_an_alert_without_an_end_has_none_and_one_without_anything_is_still_one() -> None:
    open_end, bare = parse(feed(alert(active_period=[{"start": 1745840000}, {"start": 1, "end": 2}]), {"id": "b", "alert": {}})).stated
    assert isinstance(open_end.record, Situation)
    assert isinstance(bare.record, Situation)
    assert (open_end.record.valid_from, open_end.record.valid_to) == ("1970-01-01T00:00:01.000Z", None)
    assert (bare.record.valid_from, bare.record.title, bare.record.severity) == (None, None, "unknown")


def test_an_alert_without_an_id_is_refused() -> None:
    parsed = parse(feed(alert() | {"id": ""}))
    assert [(r.index, r.reason, r.field) for r in parsed.rejects] == [(0, "missing", "id")]


def test_starts_in_utc_become_local_also_over_midnight() -> None:
    trips = [{"start_date": "20250428", "start_time": t} for t in ("03:00:00", "22:30:00", "")] + [{"start_time": "03:00:00"}]
    v = parse(feed(*(entity(trip=t) for t in trips)), start_time_zone="UTC").vehicles
    assert v is not None
    got = [(t.operating_day, t.start_time) for t in v.trip]
    assert got == [("2025-04-28", "06:00:00"), ("2025-04-29", "01:30:00"), ("2025-04-28", None), (None, None)]


def test_two_feeds_that_write_routes_and_vehicles_differently_name_one_vehicle_alike() -> None:
    names = {"id_namespace": "nysse", "route_id_ends": ("56920", "6921"), "route_modes": {"1": "tram"}, "vehicle_id_format": "as_sent"}
    seen = []
    for route in ("1", "156920", "16921", "6921"):
        v = parse(feed(entity(vehicle={"id": "56920_12"}, trip={"route_id": route})), **names).vehicles
        assert v is not None
        seen.append((v.vehicle_id[0], v.trip[0].route_id, v.trip[0].mode))
    assert seen == [("nysse/56920_12", "1", "tram")] * 3 + [("nysse/56920_12", "6921", "unknown")]


def test_a_valid_feed_without_entities_is_empty_not_bad() -> None:
    parsed = parse(feed())
    assert (parsed.events, parsed.rejects) == (0, [])
    assert parsed.vehicles is not None


WHOLE = feed(entity(), entity())
BODIES = {
    "html": (b"<!DOCTYPE html><html><body>503</body></html>", "not_protobuf"),
    "xml with blanks before": (b"\n <?xml version='1.0'?><!DOCTYPE x>", "not_protobuf"),
    "json": (b'{"header":{}}', "not_protobuf"),
    "empty": (b"", "not_protobuf"),
    "blanks": (b"  \n", "not_protobuf"),
    "gzip": (gzip.compress(WHOLE), "not_protobuf"),
    "cut": (WHOLE[:-7], "bad_protobuf"),
    "no header": (WHOLE[WHOLE.index(b"\x12") :], "bad_protobuf"),
    "noise": (bytes(range(128, 256)) * 9, "bad_protobuf"),
    "text": (b"Too many requests", "bad_protobuf"),
}


@pytest.mark.parametrize(("body", "reason"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_feed_is_refused_whole(body: bytes, reason: str) -> None:
    parsed = parse(body)
    assert [(r.index, r.reason, r.body) for r in parsed.rejects] == [(-1, reason, body)]
    assert parsed.events == 1
    assert parsed.vehicles is None or len(parsed.vehicles) == 0


def test_unknown_fields_are_ignored() -> None:
    parsed = parse(WHOLE + b"\xfa\x3f\x03abc")
    assert (parsed.events, parsed.rejects) == (2, [])


def test_equal_trips_are_one_object() -> None:
    v = parse(feed(entity(), entity())).vehicles
    assert v is not None
    assert v.trip[0] is v.trip[1]


@pytest.mark.parametrize(
    ("name", "vehicles"),
    [("king_county_vehicle_positions_1", 627), ("cota_vehicle_positions", 176), ("caltrain_trip_updates", 0), ("bart_trip_updates", 0)],
)
def test_feeds_of_other_cities_are_read_whole(shared: Path, name: str, vehicles: int) -> None:
    parsed = parse((shared / f"feeds/generic/gtfsrt/{name}.pb").read_bytes(), vehicle_id_format="as_sent")
    assert (parsed.events, parsed.rejects) == (vehicles, [])
    assert parsed.vehicles is not None
    assert not np.isnan(parsed.vehicles.lat_deg).any()


def test_a_real_alert_is_read(shared: Path) -> None:
    (stated,) = parse((shared / "feeds/generic/gtfsrt/bart_alerts.pb").read_bytes()).stated
    assert isinstance(stated.record, Situation)
    assert (stated.record.effect, stated.record.valid_from) == ("SIGNIFICANT_DELAYS", None)
    assert stated.record.title is not None
    assert stated.record.title["en-us"].startswith("There is a major delay")


def test_the_real_hsl_snapshot_is_read_whole(shared: Path) -> None:
    (file,) = (shared / "feeds/helsinki/gtfsrt").glob("vehicle_positions_*.json")
    parsed = parse(feed(*json.loads(file.read_text("utf-8")), timestamp=1745845454))
    v = parsed.vehicles
    assert v is not None
    assert (len(v), parsed.rejects) == (1178, [])
    assert all(len(id) == 10 and id[4] == "/" for id in v.vehicle_id)
    assert int((v.at_stop == -1).sum()) == 4


def test_messages_of_the_digitransit_broker_are_read_by_item(shared: Path) -> None:
    lines = (shared / "feeds/tampere/gtfsrt/digitransit_mqtt_20190315.jsonl").read_text("utf-8").splitlines()
    parsed = parse(*(base64.b64decode(json.loads(line)["payload_base64"]) for line in lines), kind="messages", vehicle_id_format="as_sent")
    v = parsed.vehicles
    assert v is not None
    assert v.index.tolist() == list(range(len(lines)))
    assert (v.vehicle_id[1], v.trip[1].route_id, v.trip[1].trip_id) == ("TKL_63", "326921", "5669904647")
