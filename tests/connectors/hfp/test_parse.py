"""HFP topics and payloads become columns; what cannot be read is refused by name, and the rest of its envelope goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.cities import load
from connectors.columns import EVENTS, METHODS, Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.hfp.parse import Parser

CITY = load("helsinki")
TOPIC = "/hfp/v2/journey/ongoing/vp/bus/0018/00423/2550/1/Itäkeskus (M)/07:24/1000018/0/60;24/19/75/80"
VP: dict[str, Any] = {
    "desi": "550", "dir": "1", "oper": 6, "veh": 423, "tst": "2026-03-10T05:30:00.272Z", "tsi": 1773120600, "spd": 3.5, "hdg": 358,
    "lat": 60.178905, "long": 24.950726, "acc": 0.0, "dl": -55, "odo": 120, "drst": 1, "oday": "2026-03-10", "jrn": 1, "line": 100,
    "start": "07:24", "loc": "GPS", "stop": 1000018, "route": "2550", "occu": 0,
}  # fmt: skip


def envelope(*messages: tuple[str, bytes]) -> Envelope:
    items = tuple(Item(1_000 + k, topic, body) for k, (topic, body) in enumerate(messages))
    return Envelope(SCHEMA, "helsinki", "hfp", "hfp", "messages", items[-1].ingest_ms if items else 0, items)


def vp(**changes: Any) -> bytes:
    return json.dumps({"VP": {**VP, **changes}}, ensure_ascii=False).encode()


def parse(*messages: tuple[str, bytes]) -> Parsed:
    return Parser(CITY.feed("hfp"), CITY).parse(envelope(*messages))


def test_a_position_becomes_one_row_with_units_and_ids_harmonised() -> None:
    parsed = parse((TOPIC, vp()))
    v = parsed.vehicles
    assert v is not None
    assert parsed.events == len(v) == 1
    assert not parsed.rejects
    assert v.vehicle_id == ["0018/00423"]  # from the topic, though the payload's operator is 6
    assert v.operator == ["0018"]
    assert v.event_ms.tolist() == [1773120600272]
    assert v.ingest_ms.tolist() == [1000]
    assert (v.lat_deg[0], v.lon_deg[0], v.speed_mps[0], v.heading_deg[0], v.odometer_m[0]) == (60.178905, 24.950726, 3.5, 358, 120)
    assert (EVENTS[v.event[0]], METHODS[v.method[0]], v.doors_open[0], v.at_stop[0], v.stop_id[0]) == ("vp", "gnss", 1, 1, "1000018")
    trip = v.trip[0]
    assert (trip.mode, trip.route_id, trip.direction_id, trip.operating_day) == ("bus", "2550", 0, "2026-03-10")
    assert (trip.start_time, trip.headsign, trip.phase, trip.trip_id) == ("07:24", "Itäkeskus (M)", "ongoing", None)


def test_dl_becomes_delay_with_late_positive() -> None:
    v = parse((TOPIC, vp(dl=-55)), (TOPIC, vp(dl=0)), (TOPIC, vp(dl=None))).vehicles
    assert v is not None
    assert v.delay_s[:2].tolist() == [55, 0]
    assert not np.signbit(v.delay_s[1])
    assert np.isnan(v.delay_s[2])


def test_north_is_0_degrees_never_360() -> None:
    v = parse((TOPIC, vp(hdg=360))).vehicles
    assert v is not None
    assert v.heading_deg.tolist() == [0.0]


def test_null_is_not_reported_and_zero_is_zero() -> None:
    names = ("spd", "hdg", "lat", "long", "dl", "odo", "drst", "oday", "start", "loc", "stop", "route", "occu", "dir")
    parsed = parse((TOPIC, vp(**dict.fromkeys(names))), (TOPIC, vp(spd=0, odo=0, drst=0)))
    v = parsed.vehicles
    assert v is not None
    assert not parsed.rejects
    for column in (v.lat_deg, v.lon_deg, v.speed_mps, v.heading_deg, v.odometer_m, v.delay_s, v.occupancy_pct):
        assert np.isnan(column[0])
    assert (v.doors_open[0], v.at_stop[0], v.stop_id[0], METHODS[v.method[0]]) == (-1, 0, None, "unknown")
    assert (v.speed_mps[1], v.odometer_m[1], v.doors_open[1]) == (0, 0, 0)
    # What the payload leaves open, the topic still says.
    assert (v.trip[0].route_id, v.trip[0].direction_id, v.trip[0].start_time, v.trip[0].operating_day) == ("2550", 0, "07:24", None)


def test_half_a_position_is_no_position() -> None:
    v = parse((TOPIC, vp(lat=None)), (TOPIC, vp(long=None))).vehicles
    assert v is not None
    assert np.isnan([v.lat_deg, v.lon_deg]).all()


def test_swapped_coordinates_are_passed_on_as_sent() -> None:
    v = parse((TOPIC, vp(lat=24.95, long=60.17))).vehicles
    assert v is not None
    assert (v.lat_deg[0], v.lon_deg[0]) == (24.95, 60.17)


def test_integers_and_floats_and_numeric_stops_as_text_are_equally_good() -> None:
    parsed = parse((TOPIC, vp(odo=120.5, lat=60, stop="1000018", drst=True, dl=-3.0, dir=2)))
    v = parsed.vehicles
    assert v is not None
    assert (v.odometer_m[0], v.lat_deg[0], v.stop_id[0], v.doors_open[0], v.delay_s[0], v.trip[0].direction_id) == (
        120.5,
        60,
        "1000018",
        1,
        3,
        1,
    )


def test_unknown_keys_are_ignored() -> None:
    parsed = parse((TOPIC, vp(**{"dr-type": 1, "block": {"a": [1, {"b": None}]}, "new": "x"})))
    assert not parsed.rejects
    assert parsed.vehicles is not None
    assert len(parsed.vehicles) == 1


@pytest.mark.parametrize(
    ("topic", "headsign", "start"),
    [
        ("/hfp/v2/journey/ongoing/vp/bus/0018/00423/1004 4/1/Malmi (M) / Malm/07:24/1/0/60;24/19/75/80", "Malmi (M) / Malm", "07:24"),
        ("/hfp/v2/journey/ongoing/vp/bus/0018/00423/1004 4/1//07:24/1/0/60;24/19/75/80", None, "07:24"),
        ("/hfp/v2/journey/ongoing/vp/bus/18/423/1004 4/1/A/07:24/1/0/60;24/19/75/80/added/levels", "A", "07:24"),
        ("/hfp/v2/journey/ongoing/vp/bus/0018/00423/1004 4/1/A/07:24/EOL/0////", "A", "07:24"),
        ("/hfp/v2/journey/ongoing/vp/bus/0018/00423/1004 4/1/A/07:24", "A", "07:24"),
    ],
)
@pytest.mark.parametrize("payload", [{"start": "07:24"}, {"start": None}])
def test_topics_are_read_from_the_left_whatever_their_headsign_and_tail(
    topic: str, headsign: str | None, start: str, payload: dict[str, Any]
) -> None:
    v = parse((topic, vp(route=None, **payload))).vehicles
    assert v is not None
    assert (v.vehicle_id[0], v.trip[0].route_id, v.trip[0].headsign, v.trip[0].start_time) == ("0018/00423", "1004 4", headsign, start)


def test_where_topic_and_payload_differ_the_payload_names_the_trip() -> None:
    v = parse((TOPIC, vp(route="2551", start="07:30", dir="2"))).vehicles
    assert v is not None
    assert (v.trip[0].route_id, v.trip[0].start_time, v.trip[0].direction_id) == ("2551", "07:30", 1)


@pytest.mark.parametrize("journey", ["deadrun", "signoff"])
def test_deadruns_and_signoffs_have_no_journey_levels_and_say_so(journey: str) -> None:
    body = vp(desi=None, dir=None, oper=None, oday=None, jrn=None, line=None, start=None, route=None, stop=None)
    v = parse((f"/hfp/v2/{journey}/ongoing/vp/bus/0018/01047", body)).vehicles
    assert v is not None
    assert v.vehicle_id == ["0018/01047"]
    assert (v.trip[0].phase, v.trip[0].route_id, v.trip[0].start_time) == (journey, None, None)


def test_an_upcoming_trip_is_told_from_an_ongoing_one() -> None:
    v = parse((TOPIC, vp()), (TOPIC.replace("ongoing", "upcoming"), vp())).vehicles
    assert v is not None
    assert [t.phase for t in v.trip] == ["ongoing", "upcoming"]


def test_the_older_layout_has_no_event_level() -> None:
    topic = "/hfp/v1/journey/ongoing/bus/0012/01703/1043/2/Elielinaukio/23:20/1334191/1/60;24/28/68/25"
    body = b'{"VP":{"desi":"43","dir":"2","oper":12,"veh":1703,"tst":"2018-10-05T20:15:00Z","spd":0.00,"hdg":140,"lat":60.262726,"long":24.885673,"start":"23:20","oday":"2018-10-05"}}'
    v = parse((topic, body)).vehicles
    assert v is not None
    assert (EVENTS[v.event[0]], v.event_ms[0], v.at_stop[0], METHODS[v.method[0]]) == ("vp", 1538770500000, -1, "unknown")
    assert (v.trip[0].route_id, v.trip[0].direction_id, v.trip[0].headsign) == ("1043", 1, "Elielinaukio")


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_of_hfp_is_kept_with_its_position(event: str) -> None:
    v = parse((TOPIC.replace("/vp/", f"/{event}/"), json.dumps({event.upper(): VP}).encode())).vehicles
    assert v is not None
    assert EVENTS[v.event[0]] == event
    assert v.lat_deg[0] == 60.178905


def test_equal_trips_are_one_object_over_all_kinds_of_events() -> None:
    ars = (TOPIC.replace("/vp/", "/ars/"), json.dumps({"ARS": VP}).encode())
    v = parse((TOPIC, vp()), ars, (TOPIC.replace("/00423/", "/00424/"), vp())).vehicles
    assert v is not None
    assert v.trip[0] is v.trip[1]
    assert v.trip[0] is v.trip[2]


GOOD = (TOPIC, vp())
BAD: list[tuple[str, tuple[str, bytes], str, str]] = [
    ("html", (TOPIC, b"<!DOCTYPE html><html></html>"), "bad_json", "payload"),
    ("empty", (TOPIC, b""), "bad_json", "payload"),
    ("cut", (TOPIC, vp()[:-5]), "bad_json", "payload"),
    ("two documents", (TOPIC, vp() + b"," + vp()), "bad_json", "payload"),
    ("not UTF-8", (TOPIC, vp().replace(b"2550", b"\xff\xfe")), "bad_json", "payload"),
    ("an array", (TOPIC, b"[1,2]"), "bad_type", "payload"),
    ("no key", (TOPIC, b"{}"), "bad_json", "payload"),
    ("two keys", (TOPIC, b'{"VP":{},"ARS":{}}'), "bad_json", "payload"),
    ("null payload", (TOPIC, b'{"VP":null}'), "bad_type", "payload"),
    ("another event than the topic's", (TOPIC, vp().replace(b'"VP"', b'"ARS"')), "bad_json", "payload"),
    ("text for a number", (TOPIC, vp(lat="60.1")), "bad_type", "lat"),
    ("object for a number", (TOPIC, vp(spd={"a": 1})), "bad_type", "spd"),
    ("number for text", (TOPIC, vp(oday=20260310)), "bad_type", "oday"),
    ("NaN", (TOPIC, vp(lat=float("nan"))), "bad_json", "payload"),
    ("a number beyond floats", (TOPIC, vp().replace(b"3.5", b"1e999")), "bad_type", "spd"),
    ("a huge integer", (TOPIC, vp().replace(b'"stop": 1000018', b'"stop": ' + b"9" * 5000)), "bad_type", "stop"),
    ("deep nesting", (TOPIC, vp()[:-2] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"), "bad_json", "payload"),
    ("no time", (TOPIC, vp(tst=None)), "missing", "tst"),
    ("a time without zone", (TOPIC, vp(tst="2026-03-10T05:30:00.272")), "bad_type", "tst"),
    ("no time at all", (TOPIC, vp(tst="now")), "bad_type", "tst"),
    ("an impossible date", (TOPIC, vp(tst="2026-02-30T05:30:00.272Z")), "bad_type", "tst"),
    ("NaT in a time's length", (TOPIC, vp(tst="NaTNaTNaTNTNaTNaTNaTNaZ")), "bad_type", "tst"),
    ("a day of no calendar", (TOPIC, vp(oday="10.3.2026")), "bad_type", "oday"),
    ("a start of no clock", (TOPIC, vp(start="7:24 am")), "bad_type", "start"),
    ("a heading of no compass", (TOPIC, vp(hdg=361)), "heading", "hdg"),
    ("a negative heading", (TOPIC, vp(hdg=-1)), "heading", "hdg"),
    ("more than full", (TOPIC, vp(occu=101)), "occupancy", "occu"),
    ("a foreign topic", ("/gtfsrt/vp/x", vp()), "bad_topic", "topic"),
    ("an empty topic", ("", vp()), "bad_topic", "topic"),
    ("a future version", (TOPIC.replace("/v2/", "/v3/"), vp()), "bad_topic", "topic"),
    ("a cut topic", ("/hfp/v2/journey/ongoing/vp/bus/0018", vp()), "bad_topic", "topic"),
    ("no vehicle number", (TOPIC.replace("/00423/", "//"), vp()), "bad_topic", "topic"),
    ("letters as vehicle number", (TOPIC.replace("/00423/", "/4x3/"), vp()), "bad_topic", "topic"),
    ("an unknown event", (TOPIC.replace("/vp/", "/xyz/"), vp()), "unknown_event", "event"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "reason", "field"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_one_bad_message_is_refused_by_name_and_the_rest_goes_on(message: tuple[str, bytes], reason: str, field: str) -> None:
    parsed = parse(GOOD, message, GOOD)
    assert parsed.vehicles is not None
    assert parsed.vehicles.index.tolist() == [0, 2]
    assert parsed.events == 3
    (reject,) = parsed.rejects
    assert (reject.index, reject.reason, reject.field, reject.body) == (1, reason, field, message[1])
    assert reject.want
    assert len(reject.value) <= 200


def test_messages_that_complete_each_other_are_not_read_as_one() -> None:
    parsed = parse((TOPIC, b'{"VP":{},"x":[{"a":1}'), (TOPIC, b'{"b":1}]}'), (TOPIC, vp() + b"," + vp()))
    assert [r.index for r in parsed.rejects] == [0, 1, 2]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [GOOD, (TOPIC.replace("/vp/", "/ars/"), json.dumps({"ARS": VP}).encode()), *(b[1] for b in BAD if len(b[1][1]) < 9999)]
        )
    ),
    st.data(),
)
def test_what_a_parser_says_depends_on_the_envelope_alone(messages: list[tuple[str, bytes]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(messages)))
    warm = Parser(CITY.feed("hfp"), CITY)
    for m in data.draw(st.permutations(messages)):
        warm.parse(envelope(m))
    whole, parts = warm.parse(envelope(*messages)), [parse(*messages[:cut]), parse(*messages[cut:])]
    assert whole.vehicles is not None
    rows = [
        (t, v, e) for p in parts if p.vehicles for t, v, e in zip(p.vehicles.trip, p.vehicles.vehicle_id, p.vehicles.event_ms, strict=True)
    ]
    assert list(zip(whole.vehicles.trip, whole.vehicles.vehicle_id, whole.vehicles.event_ms, strict=True)) == rows
    assert [(r.reason, r.field, r.value) for r in whole.rejects] == [(r.reason, r.field, r.value) for p in parts for r in p.rejects]


RECORDED = {
    "v1_bus43_20181005.txt": (4727, 0, 6),
    "v2_bus400_stop_20231029.dump": (14, 0, 1),
    "v2_bus520_no_gnss_20240213.dump": (1034, 940, 3),
    "v2_bus530_first_journey_20231030.dump": (18, 0, 3),
    "v2_bus61_terminus_20231029.dump": (38, 0, 3),
    "v2_bus64_terminus_20231029.dump": (35, 0, 3),
    "v2_bus65_deadrun_20231030.dump": (37, 0, 2),
    "v2_bus735_turnaround_20240513.dump": (511, 0, 7),
}


@pytest.mark.parametrize("name", RECORDED)
def test_real_recordings_are_read_whole(shared: Path, name: str) -> None:
    messages = []
    for line in (shared / "feeds/helsinki/hfp" / name).read_text("utf-8").splitlines():
        head, body = line.split(" {", 1)
        messages.append((head if name.endswith(".txt") else head.split(" ", 1)[1], ("{" + body).encode()))
    parsed = parse(*messages)
    v = parsed.vehicles
    assert v is not None
    assert not parsed.rejects
    assert (len(v), int(np.isnan(v.lat_deg).sum()), len(set(v.trip))) == RECORDED[name]
    assert len(set(v.vehicle_id)) == 1


def test_hsls_own_examples_are_read(shared: Path) -> None:
    for name, event in (("hfp-sample-vp", "vp"), ("hfp-sample-pas", "pas"), ("hfp-tlr-sample", "tlr")):
        body = (shared / f"feeds/helsinki/hfp/{name}.json").read_bytes()
        parsed = parse((TOPIC.replace("/vp/", f"/{event}/"), body))
        assert not parsed.rejects
        assert parsed.vehicles is not None
        assert EVENTS[parsed.vehicles.event[0]] == event


def test_requests_for_priority_and_their_answers_name_the_junction_and_what_became_of_them() -> None:
    def signal(event: str, **changes: Any) -> tuple[str, bytes]:
        body = {event.upper(): {**VP, "sid": 3230, "tlp-decision": None, **changes}}
        return TOPIC.replace("/vp/", f"/{event}/"), json.dumps(body).encode()

    v = parse(
        (TOPIC, vp(sid=1)), signal("tlr"), signal("tla", **{"tlp-decision": "ACK"}), signal("tlr", hdg=400), signal("tla", **{"tlp-decision": "NAK"}), signal("tla", sid=None)
    ).vehicles  # fmt: skip
    assert v is not None
    assert v.signal == {1: ("3230", "requested"), 2: ("3230", "granted"), 3: ("3230", "refused"), 4: ("", "requested")}


@pytest.mark.filterwarnings("error")
def test_dashes_of_another_time_do_not_make_a_zone_of_this_one() -> None:
    parsed = parse((TOPIC, vp(tst="2026-03-10T05:30:00-002Z")), (TOPIC, vp(tst="20260-3310T05:30:00Z")))
    assert [(r.index, r.field) for r in parsed.rejects] == [(0, "tst"), (1, "tst")]
