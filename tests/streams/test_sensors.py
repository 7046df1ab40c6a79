"""Counting stations through the observe step: placed on the right side, each reading once, the city's only."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from connectors.envelope import Envelope, Item
from models.clock import parse_ms, rfc3339
from streams import partial as wire
from streams.ground import Ground
from streams.observe import Observer
from streams.outputs import Outputs
from tests.streams import kit

GROUND = Ground(kit.network())
T0 = kit.T0


def observer() -> Observer:
    return Observer(kit.city(), "tms", 0, GROUND)


def station(number: int = 23001, place: tuple[float, float] = (500.0, 3.0), **properties: Any) -> dict[str, Any]:
    lat, lon = kit.degrees(kit.EAST + place[0], kit.NORTH + place[1])
    p = {
        "id": number,
        "tmsNumber": 1,
        "name": "x",
        "collectionStatus": "GATHERING",
        "freeFlowSpeed1": 60.0,
        "freeFlowSpeed2": 55.0,
        "bearing": 90,
    }
    return {"type": "Feature", "id": number, "geometry": {"type": "Point", "coordinates": [lon, lat, 0.0]}, "properties": p | properties}


def snapshot(ms: int, **body: Any) -> Envelope:
    return kit.envelope([Item(ms, "tms", json.dumps({"dataUpdatedTime": rfc3339(ms)} | body).encode())], "tms", kind="snapshot")


def stations(*features: dict[str, Any], ms: int = T0) -> Envelope:
    return snapshot(ms, type="FeatureCollection", features=list(features))


def data(ms: int, *readings: tuple[int, float, float], measured_ms: int | None = None) -> Envelope:
    """Readings (station, flow, speed) of direction 1; direction 2 has half the flow."""
    at = rfc3339(ms - 20_000 if measured_ms is None else measured_ms)
    out = []
    for number, flow, speed in readings:
        values = [
            {"id": i, "stationId": number, "value": v, "measuredTime": at}
            for i, v in ((5116, flow), (5122, speed), (5119, flow / 2), (5125, speed))
        ]
        out.append({"id": number, "sensorValues": values})
    return snapshot(ms, stations=out)


def feed(*envelopes: Envelope) -> tuple[list[dict[str, Any]], Observer, Outputs]:
    o, out = observer(), Outputs()
    for k, e in enumerate(envelopes):
        out.extend(o.feed_envelope(e, k))
    return kit.records(out, "sensor-observation"), o, out


def test_both_directions_of_a_station_lie_on_the_two_sides_of_its_street() -> None:
    seen, _, _ = feed(stations(station()), data(T0 + 60_000, (23001, 600, 55)))
    got = {r["direction"]: (r["segment_id"], r["bearing_deg"], r["flow_vph"], r["free_flow_kmh"]) for r in seen}
    assert got == {"1": ("main2_f", 90.0, 600.0, 60.0), "2": ("main2_b", 270.0, 300.0, 55.0)}


def test_without_a_bearing_the_side_on_which_it_stands_tells() -> None:
    seen, _, _ = feed(stations(station(place=(500.0, 6.0), bearing=None)), data(T0 + 60_000, (23001, 600, 55)))
    assert {r["direction"]: r["segment_id"] for r in seen} == {"1": "main2_b", "2": "main2_f"}


def test_a_station_far_from_every_street_is_published_without_a_segment() -> None:
    seen, _, _ = feed(stations(station(place=(500.0, 300.0))), data(T0 + 60_000, (23001, 600, 55)))
    assert len(seen) == 2
    assert not any("segment_id" in r for r in seen)


def test_stations_of_the_rest_of_the_country_are_left_out() -> None:
    seen, o, _ = feed(stations(station()), data(T0 + 60_000, (23001, 600, 55), (777, 900, 80)))
    assert {r["site_id"] for r in seen} == {"digitraffic/23001"}
    assert o.tally.rejected == 0


def test_a_reading_is_published_once_however_often_it_is_polled() -> None:
    same = [data(T0 + 60_000 * k, (23001, 600, 55), measured_ms=T0 + 40_000) for k in range(1, 4)]
    seen, o, _ = feed(stations(station()), *same)
    assert len(seen) == 2
    assert o.tally.accepted == 2
    assert o.tally.duplicates == 4


def test_a_clock_that_is_wrong_is_quarantined_and_holds_nothing_up() -> None:
    for off in (-8 * 86_400_000, 121_000, 365 * 86_400_000):
        ms = T0 + 60_000
        seen, o, out = feed(stations(station()), data(ms, (23001, 600, 55), measured_ms=ms + off), data(ms + 60_000, (23001, 500, 50)))
        assert [r["flow_vph"] for r in seen] == [500.0, 250.0]
        assert {r["reason"] for r in kit.records(out, "dead-letter")} == {"clock"}
        assert o.tally.rejected == 2
        assert o.log_ms == ms + 60_000


@pytest.mark.parametrize(("flow", "speed", "reason"), [(25_000, 50, "flow"), (600, 400, "speed")])
def test_the_impossible_is_refused_with_its_reason(flow: float, speed: float, reason: str) -> None:
    seen, _, out = feed(stations(station()), data(T0 + 60_000, (23001, flow, speed)))
    assert {r["reason"] for r in kit.records(out, "dead-letter")} == {reason}
    assert all(r["direction"] == "2" for r in seen)


def test_a_reading_whose_minute_has_closed_is_late() -> None:
    ms = T0 + 600_000
    seen, o, out = feed(stations(station()), data(ms, (23001, 600, 55), measured_ms=ms - 300_000))
    assert seen == []
    assert [r["product"] for r in kit.records(out, "late")] == ["sensor-observation"] * 2
    assert o.tally.late == 2


def test_the_partial_tells_each_reading_once_with_its_segment() -> None:
    _, o, _ = feed(stations(station()), data(T0 + 60_000, (23001, 600, 55)))
    p = wire.decode(o.flush())
    ids = kit.network().segments.segment_id
    assert [(s.direction, ids[s.segment], s.flow_vph, s.speed_kmh) for s in p.sensors] == [
        ("1", "main2_f", 600.0, 55.0),
        ("2", "main2_b", 300.0, 55.0),
    ]
    assert wire.decode(o.flush()).sensors == ()


def test_a_restored_observer_knows_its_stations_and_what_they_said_last() -> None:
    _, a, _ = feed(stations(station()), data(T0 + 60_000, (23001, 600, 55)))
    a.flush()
    b = observer()
    b.restore(a.export())
    for e in (data(T0 + 120_000, (23001, 600, 55), measured_ms=T0 + 40_000), data(T0 + 180_000, (23001, 400, 30))):
        assert a.feed_envelope(e, 5).records == b.feed_envelope(e, 5).records
        assert a.flush() == b.flush()
    assert dataclasses.asdict(a.tally) == dataclasses.asdict(b.tally)


def test_a_station_list_that_comes_again_changes_nothing_and_one_that_moved_is_placed_anew() -> None:
    seen, _, _ = feed(
        stations(station()), stations(station(), ms=T0 + 1000), data(T0 + 60_000, (23001, 600, 55)),
        stations(station(place=(900.0, 3.0)), ms=T0 + 61_000), data(T0 + 120_000, (23001, 600, 55)),
    )  # fmt: skip
    assert [r["segment_id"] for r in seen] == ["main2_f", "main2_b", "main4_f", "main4_b"]


def test_a_fast_loop_speed_is_shown_on_its_segment_in_the_final_state() -> None:
    out, _ = kit.run_all([stations(station()), *(data(T0 + 60_000 * k, (23001, 600, 55)) for k in range(1, 6))])
    states = {(r["segment_id"], parse_ms(r["window_start"])): r for r in kit.records(out, "segment-state")}
    r = states["main2_f", T0 + 120_000]
    assert r["flow_vph"] == 600.0
    assert 35 < r["speed_kmh"] < 60
    assert r["source_mix"]["loop"] > 0


def test_readings_that_come_before_the_list_of_stations_wait_for_it_and_the_rest_of_the_country_is_elsewhere() -> None:
    first, newer = data(T0 + 60_000, (23001, 600, 55), (777, 900, 80)), data(T0 + 90_000, (23001, 480, 50), (777, 900, 80))
    seen, o, _ = feed(first, newer)
    assert (seen, o.tally.accepted, o.sensors.elsewhere, len(o.sensors.waiting), o.sensors.superseded) == ([], 0, 0, 4, 4)
    assert o.sensors.heard(0) == 0
    out = o.feed_envelope(stations(station(), ms=T0 + 91_000), 2)
    got = kit.records(out, "sensor-observation")
    assert {(r["direction"], r["segment_id"], r["flow_vph"], r["ingest_time"]) for r in got} == {
        ("1", "main2_f", 480.0, rfc3339(T0 + 90_000)), ("2", "main2_b", 240.0, rfc3339(T0 + 90_000)),
    }  # fmt: skip
    assert (o.tally.accepted, o.sensors.elsewhere, o.sensors.waiting, o.sensors.superseded) == (2, 2, {}, 4)
    assert len(wire.decode(o.flush()).sensors) == 2


def test_readings_whose_minute_has_closed_while_they_waited_are_late_with_the_place_where_they_are_in_the_log() -> None:
    seen, o, out = feed(data(T0 + 60_000, (23001, 600, 55)), stations(station(), ms=T0 + 600_000))
    assert (seen, o.tally.late) == ([], 2)
    assert {(r["offset"], r["index"]) for r in kit.records(out, "late")} == {(0, 0)}


def test_what_waits_survives_a_restart_and_constants_without_places_are_no_list() -> None:
    _, a, _ = feed(
        data(T0 + 60_000, (23001, 600, 55)),
        snapshot(T0 + 61_000, stations=[{"id": 23001, "sensorConstantValues": [{"name": "VVAPAAS1", "value": 60}]}]),
    )
    a.flush()
    b = observer()
    b.restore(a.export())
    e = stations(station(), ms=T0 + 62_000)
    assert len(b.sensors.waiting) == 2
    assert a.feed_envelope(e, 5).records == b.feed_envelope(e, 5).records != {}
