"""Bad input, row by row of the design's table, through the offline driver: one event is refused with its reason, the rest of its envelope goes on."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from google.transit import gtfs_realtime_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.envelope import BadEnvelope, Envelope, Item, decode, encode
from models.clock import rfc3339
from streams import partial as wire
from streams.ground import Ground
from streams.observe import Observer
from streams.outputs import Outputs
from tests.streams import kit

T0 = kit.T0
GOOD = kit.drive(0, seconds=9)
GROUND = Ground(kit.network())


def body(**change: Any) -> Item:
    return kit.hfp(T0 + 4500, kit.at(0, 45.0), **change)


def raw(data: bytes, topic: str | None = None) -> Item:
    return Item(T0 + 5000, topic or GOOD[0].topic, data)


def changed(old: str, new: str) -> Item:
    item = body()
    assert old.encode() in item.body
    return Item(item.ingest_ms, item.topic, item.body.replace(old.encode(), new.encode(), 1))


TOPIC = GOOD[0].topic
LAT, LON = kit.degrees(*kit.at(0, 45.0))
HFP: list[tuple[str, Item, str, str]] = [
    ("swapped coordinates", body(lat=LON, long=LAT), "swapped_coordinates", "lat, long"),
    ("Gulf of Guinea", body(lat=0.0, long=0.0), "outside_box", "lat, long"),
    ("another city", body(lat=61.5, long=23.76), "outside_box", "lat, long"),
    ("1970", body(tst="1970-01-01T00:00:00.000Z"), "clock", "event_time"),
    ("next year", body(tst="2027-03-10T05:30:04.500Z"), "clock", "event_time"),
    ("2031", body(tst="2031-03-10T05:30:04.500Z"), "clock", "event_time"),
    ("the year 9999", body(tst="9999-12-31T23:59:59.999Z"), "clock", "event_time"),
    ("the year 1", body(tst="0001-01-01T00:00:00.000Z"), "clock", "event_time"),
    ("three minutes ahead", body(tst=rfc3339(T0 + 185_001)), "clock", "event_time"),
    ("a week and a day ago", body(tst=rfc3339(T0 - 8 * 86_400_000)), "clock", "event_time"),
    ("400 km/h", body(spd=111.2), "speed", "speed_mps"),
    ("backwards", body(spd=-3.2), "speed", "speed_mps"),
    ("course 400", body(hdg=400), "heading", "hdg"),
    ("fuller than full", body(occu=101), "occupancy", "occu"),
    ("a delay of ages", body(dl=1e30), "delay", "delay_s"),
    ("NaN", changed('"spd": 10.0', '"spd": NaN'), "bad_json", "payload"),
    ("Infinity", changed('"spd": 10.0', '"spd": Infinity'), "bad_json", "payload"),
    ("1e999", changed('"spd": 10.0', '"spd": 1e999'), "bad_type", "spd"),
    ("a text for a number", body(spd="fast"), "bad_type", "spd"),
    ("a list for a number", body(lat=[60.17]), "bad_type", "lat"),
    ("a time without zone", body(tst="2026-03-10T05:30:04.500"), "bad_type", "tst"),
    ("no time", body(tst=None), "missing", "tst"),
    ("a time that is none", body(tst="yesterday"), "bad_type", "tst"),
    ("a day that is none", body(oday="10.3.2026"), "bad_type", "oday"),
    ("HTML", raw(b"<html><body>502 Bad Gateway</body></html>"), "bad_json", "payload"),
    ("nothing", raw(b""), "bad_json", "payload"),
    ("torn", raw(GOOD[3].body[:100]), "bad_json", "payload"),
    ("not UTF-8", raw(b'{"VP": {"tst": "\xff\xfe"}}'), "bad_json", "payload"),
    ("XML with a DOCTYPE", raw(b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'), "bad_json", "payload"),
    ("nested 100,000 deep", raw(b'{"VP": {"desi": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"), "bad_json", "payload"),
    ("10 MB", raw(b'{"VP": "' + b"x" * 10_000_000 + b'"}'), "bad_type", "payload"),
    ("two events in one", raw(b'{"VP": {"tst": "2026-03-10T05:30:04.500Z"}, "DUE": {}}'), "bad_json", "payload"),
    ("another event than the topic's", raw(GOOD[0].body.replace(b'"VP"', b'"DUE"')), "bad_json", "payload"),
    ("an event that HFP does not have", Item(T0 + 5000, TOPIC.replace("/vp/", "/xyz/"), GOOD[0].body.replace(b'"VP"', b'"XYZ"')), "unknown_event", "event"),
    ("a topic that is none of HFP's", Item(T0 + 5000, "gtfsrt/vp/fi/x", GOOD[0].body), "bad_topic", "topic"),
    ("a topic with blanks for the vehicle", Item(T0 + 5000, TOPIC.replace("00001/", "0 001/"), GOOD[0].body), "bad_topic", "topic"),
    ("an empty topic", Item(T0 + 5000, "", GOOD[0].body), "bad_topic", "topic"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "reason", "field"), [(b, r, f) for _, b, r, f in HFP], ids=[name for name, *_ in HFP])
def test_one_impossible_message_is_a_dead_letter_and_the_rest_of_its_envelope_goes_on(bad: Item, reason: str, field: str) -> None:
    bad = Item(T0 + 5000, bad.topic, bad.body)
    items = [*GOOD[:5], bad, *GOOD[5:]]
    first = kit.envelope(kit.drive(0, seconds=3, start_ms=T0 - 20_000, vehicle=2))
    out, run = kit.run_all([first, kit.envelope(items)])
    (letter,) = kit.records(out, "dead-letter")
    assert (letter["reason"], letter["field"], letter["offset"], letter["index"]) == (reason, field, 1, 5)
    assert (letter["city"], letter["feed"], letter["topic"], letter["partition"]) == ("helsinki", "hfp", "raw.helsinki.hfp", 0)
    assert letter["sha256"] == hashlib.sha256(bad.body).hexdigest()
    assert base64.b64decode(letter["body_base64"]) == bad.body[:4096]
    assert letter["source_topic"] == bad.topic
    assert letter["ingest_time"] == rfc3339(T0 + 5000)
    assert letter["want"]
    assert len(letter["value"]) <= 200
    good, _ = kit.run_all([first, kit.envelope(GOOD)])
    assert out.records["vehicle-position"] == good.records["vehicle-position"]
    assert out.records["segment-state"] == good.records["segment-state"]
    t = run.tally()["hfp"]
    assert (t.events, t.accepted, t.rejected) == (15, 14, 1)
    kit.adds_up(run)


@pytest.mark.parametrize("item", [
    body(lat=None, long=None), body(lat=60.17, long=None), body(lat=None, long=24.94), body(spd=None, hdg=None, odo=None, dl=None, occu=None, drst=None),
    body(something_new={"a": [1, 2, {"b": None}]}), body(headsign="Rautatientori / Järnvägstorget {x} (M)"), body(desi=None, route=None),
    body(veh="1", oper="18"), body(hdg=360), body(odo=-3),
])  # fmt: skip
def test_what_is_only_missing_new_or_odd_is_accepted(item: Item) -> None:
    out, run = kit.run_all([kit.envelope([*GOOD[:5], item])])
    assert run.tally()["hfp"].accepted == 6
    assert "dead-letter" not in out.records
    last = kit.records(out, "vehicle-position")[-1]
    assert ("lat_deg" in last) == ("lon_deg" in last)


def test_a_wrong_clock_never_moves_time_and_never_closes_a_minute() -> None:
    for far in (T0 + 10 * 60_000, T0 + 365 * 86_400_000):
        mad = [kit.hfp(far, kit.at(0, 0.0), ingest_ms=T0 + 4000, vehicle=9) for _ in range(3)]
        ahead = kit.hfp(T0 + 4000 + 119_000, kit.at(0, 0.0), ingest_ms=T0 + 4000, vehicle=8)
        items = kit.in_order([*GOOD, *mad, ahead, kit.hfp(T0 + 1500, kit.at(0, 15.0), ingest_ms=T0 + 60_000)])
        o = Observer(kit.city(), "hfp", 0, GROUND)
        out = o.feed_envelope(kit.envelope(items), 0)
        assert o.log_ms == T0 + 60_000
        assert wire.decode(o.flush()).watermark_ms == T0 + 60_000
        assert "late" not in out.records
        assert [r["reason"] for r in kit.records(out, "dead-letter")] == ["clock"] * 3
        assert o.tally.accepted == len(GOOD) + 2


def vehicle_feed(*changes: dict[str, Any]) -> pb.FeedMessage:
    m = pb.FeedMessage()
    m.header.gtfs_realtime_version = "2.0"
    m.header.timestamp = T0 // 1000
    for k, c in enumerate(changes):
        v = m.entity.add(id=str(k)).vehicle
        v.vehicle.id, v.timestamp = f"18/{k}", c.get("timestamp", T0 // 1000)
        v.position.latitude, v.position.longitude = c.get("lat", LAT), c.get("lon", LON)
        v.position.speed, v.position.bearing = c.get("speed", 10.0), c.get("bearing", 0.0)
        if "odometer" in c:
            v.position.odometer = c["odometer"]
    return m


def poll(data: bytes) -> Envelope:
    return kit.envelope([Item(T0 + 5000, "https://realtime.example/vp", data)], "gtfs_rt", kind="snapshot")


@pytest.mark.parametrize(("change", "reason"), [
    ({"lat": LON, "lon": LAT}, "swapped_coordinates"), ({"lat": float("inf")}, "bad_type"), ({"lat": 0.0, "lon": 0.0}, "outside_box"),
    ({"speed": 111.2}, "speed"), ({"speed": float("inf")}, "bad_type"), ({"timestamp": 1}, "clock"), ({"timestamp": T0 // 1000 + 31_536_000}, "clock"),
    ({"timestamp": 2**63}, "bad_type"), ({"timestamp": T0}, "clock"), ({"bearing": -5.0}, "heading"), ({"odometer": float("inf")}, "bad_type"),
])  # fmt: skip
def test_one_impossible_entity_of_a_snapshot_is_refused_and_the_others_go_on(change: dict[str, Any], reason: str) -> None:
    out, run = kit.run_all([poll(vehicle_feed({}, change, {}).SerializeToString())])
    (letter,) = kit.records(out, "dead-letter")
    assert (letter["reason"], letter["index"], letter["feed"]) == (reason, 1, "gtfs_rt")
    assert {r["vehicle_id"] for r in kit.records(out, "vehicle-position")} == {"0018/00000", "0018/00002"}
    kit.adds_up(run)


@pytest.mark.parametrize("change", [{"speed": float("nan")}, {"lat": float("nan")}, {"bearing": float("nan")}, {"odometer": float("nan")}])
def test_a_nan_of_a_snapshot_is_not_reported(change: dict[str, Any]) -> None:
    out, run = kit.run_all([poll(vehicle_feed(change).SerializeToString())])
    assert run.tally()["gtfs_rt"].accepted == 1
    assert all(b"NaN" not in r.value and b"null" not in r.value for r in out.records["vehicle-position"])


GZIP = bytes.fromhex("1f8b08")


@pytest.mark.parametrize("data", [
    b"<html>Too many requests</html>", vehicle_feed({}, {}).SerializeToString()[:-7], b"", GZIP + b"\0" * 50, b"\xff" * 1000,
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"{" * 10_000, b"\x0a" * 10_000_000,
], ids=["html", "truncated", "empty", "gzip", "0xff", "doctype", "json", "10 MB"])  # fmt: skip
def test_a_response_that_is_not_what_it_claims_is_refused_whole_and_kept(data: bytes) -> None:
    out, run = kit.run_all([poll(data), poll(vehicle_feed({}).SerializeToString())])
    letters = kit.records(out, "dead-letter")
    t = run.tally()["gtfs_rt"]
    kit.adds_up(run)
    assert [(r["index"], r["offset"]) for r in letters] == [(-1, 0)]
    assert letters[0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert base64.b64decode(letters[0].get("body_base64", "")) == data[:4096]
    assert t.accepted == 1
    assert any(r["state"] == "degraded" for r in kit.records(out, "feed-health") if r["feed"] == "gtfs_rt")


@pytest.mark.parametrize("data", [
    b"<html></html>", b"", b"[]", b"null", b'{"stations": 5}', b'{"stations": [{"id": "x"}]}', b'{"a": ' * 50_000, b'{"stations": [{"id": 1, "sensorValues": [7]}]}',
], ids=["html", "empty", "list", "null", "number", "text id", "deep", "wrong value"])  # fmt: skip
def test_a_document_of_stations_that_is_none_is_refused(data: bytes) -> None:
    out, _ = kit.run_all([kit.envelope([Item(T0, "stations/data", data)], "tms", kind="snapshot")])
    assert len(kit.records(out, "dead-letter")) == 1
    assert "sensor-observation" not in out.records


@pytest.mark.parametrize("data", [None, b"", b"hello", b"\0" * 500, encode(kit.envelope(GOOD))[:-1], b"x" + encode(kit.envelope(GOOD))])
def test_bytes_that_are_no_envelope_are_a_dead_letter_and_the_log_goes_on(data: bytes | None) -> None:
    o, out = Observer(kit.city(), "hfp", 0, GROUND), Outputs()
    out.extend(o.feed_envelope(kit.envelope(GOOD[:5]), 0))
    with pytest.raises(BadEnvelope) as e:
        decode(data)
    out.extend(o.undecodable(data, str(e.value), 1, o.log_ms))
    out.extend(o.feed_envelope(kit.envelope(GOOD[5:]), 2))
    (letter,) = kit.records(out, "dead-letter")
    assert (letter["reason"], letter["offset"], letter["index"]) == ("bad_envelope", 1, -1)
    assert o.tally.accepted == len(GOOD)
    assert o.tally.events == len(GOOD) + 1
    assert o.offset == 2


def test_an_envelope_of_another_schema_is_refused() -> None:
    import msgspec

    with pytest.raises(BadEnvelope, match="schema 2"):
        decode(encode(msgspec.structs.replace(kit.envelope(GOOD), schema=2)))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=8,
)
names = ["tst", "spd", "hdg", "lat", "long", "dl", "odo", "occu", "drst", "oday", "start", "route", "dir", "loc", "stop", "veh", "oper"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(names), anything, max_size=3), min_size=1, max_size=4))
def test_whatever_the_fields_hold_every_message_has_one_fate(changes: list[dict[str, Any]]) -> None:
    o = Observer(kit.city(), "hfp", 0, GROUND)
    template = json.loads(GOOD[0].body)["VP"]
    items = [GOOD[0]]
    for k, change in enumerate(changes):
        item = kit.hfp(T0 + 1000 * k + 1, kit.at(0, 5.0))
        payload = json.dumps({"VP": template | {"tst": rfc3339(T0 + 1000 * k + 1)} | change}).encode()
        items.append(Item(T0 + 5000, item.topic, payload))
    out = o.feed_envelope(kit.envelope(items), 0)
    o.flush()
    t = o.tally
    assert t.events == len(items) == t.accepted + t.duplicates + t.rejected + t.late
    assert t.rejected == len(out.records.get("dead-letter", []))
    assert t.accepted == len(out.records.get("vehicle-position", []))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=60), st.binary(max_size=60)), min_size=1, max_size=4))
def test_whatever_bytes_come_on_whatever_topic_every_message_has_one_fate(messages: list[tuple[str, bytes]]) -> None:
    for feed, kind in (("hfp", "messages"), ("gtfs_rt", "messages"), ("tms", "messages"), ("gtfs_rt", "snapshot"), ("tms", "snapshot")):
        o = Observer(kit.city(), feed, 0, GROUND)
        out = o.feed_envelope(kit.envelope([Item(T0, topic, data) for topic, data in messages], feed, kind=kind), 0)
        o.flush()
        assert o.tally.rejected == len(out.records.get("dead-letter", []))
