"""What trip updates and alerts say of lines: joined to the vehicles that serve a trip, and placed on the streets that the line runs over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import City, load
from connectors.envelope import SCHEMA, Envelope, Item
from streams.ground import Ground
from streams.observe import Observer
from tests.streams import kit

T0_S = kit.T0 // 1000
TRIP = {"route_id": "1001", "direction_id": 0, "start_date": "20260310", "start_time": "07:20:00"}
URL = "https://example.org/"


def city(**settings: Any) -> City:
    whole = load("helsinki")
    feed = msgspec.structs.replace(whole.feed("gtfs_rt"), **{"secondary_to": None, "certain_is_passed": True} | settings)
    return msgspec.structs.replace(whole, feeds=(feed,), area=None)


def answer(s: int, *entities: dict[str, Any], of: str = "vp", kind: Any = "snapshot") -> Envelope:
    header = {"gtfs_realtime_version": "2.0", "incrementality": "FULL_DATASET", "timestamp": T0_S + s}
    named = [{"id": str(n)} | e for n, e in enumerate(entities)]
    body = json_format.ParseDict({"header": header, "entity": named}, pb.FeedMessage()).SerializePartialToString()
    ms = kit.T0 + 1000 * s + 500
    return Envelope(SCHEMA, "helsinki", "gtfs_rt", "gtfs_realtime", kind, ms, (Item(ms, URL + of, body),))


def position(s: int, vehicle: str = "18/7", **trip: Any) -> dict[str, Any]:
    lat, lon = kit.degrees(*kit.at(0, 5.0 * s + 100.0))
    return {
        "vehicle": {"vehicle": {"id": vehicle}, "trip": TRIP | trip, "timestamp": T0_S + s, "position": {"latitude": lat, "longitude": lon}}
    }


def call(stop: str, left_s: int, uncertainty: int | None = 0, delay: int | None = None) -> dict[str, Any]:
    left = (
        {"time": T0_S + left_s}
        | ({} if uncertainty is None else {"uncertainty": uncertainty})
        | ({} if delay is None else {"delay": delay})
    )
    return {"stop_id": stop, "arrival": left | {"time": T0_S + left_s - 20}, "departure": left}


def update(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"trip_update": {"trip": TRIP, "stop_time_update": list(calls)} | more}


def records(envelopes: list[Envelope], product: str, c: City | None = None) -> list[dict[str, Any]]:
    out, run = kit.run_all(envelopes, c or city())
    kit.adds_up(run)
    return kit.records(out, product)


@pytest.mark.parametrize("kind", ["snapshot", "messages"])
def test_a_vehicle_is_as_late_as_its_trip_was_told_to_be_a_moment_ago(kind: Any) -> None:
    late = update(call("S1", 2, delay=95), call("S2", 400, delay=300))
    got = records(
        [answer(0, position(0), kind=kind), answer(5, late, of="tu", kind=kind), answer(8, position(8), position(8, "18/8", start_time="07:40:00"), kind=kind),
         answer(240, position(240), kind=kind)], "vehicle-position",
    )  # fmt: skip
    assert [(r["vehicle_id"], r.get("delay_s")) for r in got] == [
        ("0018/00007", None), ("0018/00007", 95), ("0018/00008", None), ("0018/00007", None),
    ]  # fmt: skip


def test_a_delay_of_the_whole_trip_counts_before_those_of_its_stops_and_an_absurd_one_is_none() -> None:
    def delay(d: int) -> Any:
        return records([answer(0, update(call("S1", -9, delay=95), delay=d), of="tu"), answer(2, position(2))], "vehicle-position")[0].get(
            "delay_s"
        )

    assert (delay(-30), delay(90_000)) == (-30, None)


def test_stops_that_are_certainly_behind_are_passages_of_the_vehicle_that_is_seen_on_the_trip_and_each_is_told_once() -> None:
    behind, forecast, guess = call("S1", 10, delay=61), call("S2", 400), call("S9", 12, uncertainty=None)
    log = [answer(5, position(5)), answer(20, update(behind, guess, forecast), of="tu"), answer(35, update(behind, guess, forecast), of="tu"),
           answer(410, position(410)), answer(420, update(behind, guess, forecast), of="tu")]  # fmt: skip
    got = records(log, "stop-passage")
    assert [(r["stop_id"], r["vehicle_id"], r["route_id"], r.get("delay_s")) for r in got] == [
        ("S1", "0018/00007", "1001", 61), ("S2", "0018/00007", "1001", None),
    ]  # fmt: skip
    assert (got[0]["arrived"], got[0]["departed"]) == ("2026-03-10T05:29:50.000Z", "2026-03-10T05:30:10.000Z")
    assert records(log, "stop-passage", city(certain_is_passed=False)) == []


def test_nobody_has_passed_where_two_vehicles_serve_the_trip_or_none_is_seen() -> None:
    behind = update(call("S1", 10))
    assert records([answer(20, behind, of="tu")], "stop-passage") == []
    assert records([answer(5, position(5), position(5, "18/8")), answer(20, behind, of="tu")], "stop-passage") == []
    named = update(call("S1", 10), vehicle={"id": "18/9"})
    assert [r["vehicle_id"] for r in records([answer(20, named, of="tu")], "stop-passage")] == ["0018/00009"]
    assert records([answer(20, named, of="tu")], "stop-passage", city(wider=True)) == []


def test_a_cancelled_trip_is_a_situation_until_the_list_names_it_no_more() -> None:
    off = update() | {}
    off["trip_update"]["trip"] = TRIP | {"schedule_relationship": "CANCELED"}
    got = records(
        [answer(0, off, of="tu"), answer(30, off, of="tu"), answer(120, update(), of="tu"), answer(150, update(), of="tu")], "situation"
    )
    assert [(r["situation_id"], r["effect"], r.get("ended", False)) for r in got] == [
        ("gtfs_rt/cancelled/2026-03-10/1001/0/07:20:00", "NO_SERVICE", e) for e in (False, True)
    ]
    assert got[0]["trips"] == [{"route_id": "1001", "direction_id": 0, "operating_day": "2026-03-10", "start_time": "07:20:00"}]
    assert got[0]["valid_from"] == "2026-03-10T05:20:00.000Z"
    assert {f"main{k}_f" for k in range(10)} <= set(got[0]["segment_ids"])


def alert(**informed: Any) -> dict[str, Any]:
    return {"id": "a", "alert": {"informed_entity": [informed], "effect": "DETOUR"}}


def segments(informed: dict[str, Any], c: City | None = None) -> list[list[str]]:
    return [r.get("segment_ids", []) for r in records([answer(0, alert(**informed))], "situation", c)]


def test_an_alert_is_placed_on_the_streets_of_its_line_or_where_its_stops_lie() -> None:
    (line,) = segments({"route_id": "1001"})
    assert set(line) == {f"main{k}_{d}" for k in range(10) for d in "fb"}
    assert segments({"stop_id": "S2"}) == segments({"route_id": "1001", "stop_id": "S2"}) == [["main7_f"]]
    assert segments({"route_id": "1002", "stop_id": "S2"}) == segments({"stop_id": "no such stop"}) == [[]]


def test_a_feed_of_a_country_tells_a_city_of_its_own_lines_only() -> None:
    assert len(segments({"route_id": "1001"}, city(wider=True))) == 1
    assert segments({"route_id": "a line elsewhere"}, city(wider=True)) == []


def test_what_is_known_of_trips_is_part_of_the_snapshot() -> None:
    log = [
        answer(5, position(5)),
        answer(6, update(call("S1", 4, delay=40)), of="tu"),
        answer(9, position(9)),
        answer(11, update(call("S1", 4), call("S2", 10)), of="tu"),
    ]
    ground = Ground(kit.network())

    def told(broken_after: int) -> list[bytes]:
        observer, out = Observer(city(), "gtfs_rt", 0, ground), list[bytes]()
        for k, e in enumerate(log):
            out += [o.value for outs in observer.feed_envelope(e, k).records.values() for o in outs]
            if k == broken_after:
                observer.flush()
                state = observer.export()
                observer = Observer(city(), "gtfs_rt", 0, ground)
                observer.restore(state)
        return out

    assert len(told(99)) == 4
    assert all(told(k) == told(99) for k in range(len(log)))


def test_what_could_not_be_joined_is_counted() -> None:
    observer = Observer(city(), "gtfs_rt", 0, Ground(kit.network()))
    observer.feed_envelope(answer(20, update(call("S1", 10)), of="tu"), 0)
    assert observer.tally.passed == 2  # the trip update itself, and the passage of nobody
