"""Time, row by row: each wrong or odd clock of each kind of feed, from bytes of the log through parser and driver; its fate, and that log time does not move for it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from google.transit import gtfs_realtime_pb2 as pb

from connectors.envelope import Envelope, Item, encode
from models.clock import rfc3339
from streams import partial as wire
from streams.driver import Logged, ObserveStep
from streams.ground import Ground, Tally
from streams.observe import Observer
from streams.outputs import Outputs
from tests.streams import kit

T0 = kit.T0
HOUR, DAY, YEAR = 3_600_000, 86_400_000, 365 * 86_400_000
GROUND = Ground(kit.network())
#: When everything here is received.
NOW = T0 + 10 * 60_000


def hfp(event: int | str) -> Envelope:
    """One message with such a ``tst``: epoch milliseconds, or what stands there."""
    tst = rfc3339(event) if isinstance(event, int) else event
    item = kit.hfp(T0, kit.at(0, 45.0), ingest_ms=NOW, tst="@")
    return kit.envelope([Item(NOW, item.topic, item.body.replace(b'"@"', tst.encode() if tst == "NaN" else json.dumps(tst).encode()))])


def gtfs_rt(event: int) -> Envelope:
    """A snapshot of one vehicle; ``event`` in milliseconds, sent in the seconds that GTFS-RT has."""
    m = pb.FeedMessage()
    m.header.gtfs_realtime_version, m.header.timestamp = "2.0", NOW // 1000
    v = m.entity.add(id="1").vehicle
    v.vehicle.id, v.timestamp = "18/1", event // 1000
    v.position.latitude, v.position.longitude = kit.degrees(*kit.at(0, 45.0))
    return kit.envelope([Item(NOW, "https://realtime.example/vp", m.SerializeToString())], "gtfs_rt", kind="snapshot")


def tms(event: int | str) -> Envelope:
    """A reading of one station, which the list before it has placed."""
    at = rfc3339(event) if isinstance(event, int) else event
    values = [{"id": i, "stationId": 23001, "value": 60, "measuredTime": at} for i in (5116, 5122)]
    body = {"dataUpdatedTime": rfc3339(NOW), "stations": [{"id": 23001, "sensorValues": values}]}
    return kit.envelope([Item(NOW, "tms", json.dumps(body).encode())], "tms", kind="snapshot")


def stations() -> Envelope:
    lat, lon = kit.degrees(kit.EAST + 500.0, kit.NORTH + 3.0)
    properties: dict[str, Any] = {
        "id": 23001,
        "tmsNumber": 1,
        "name": "x",
        "collectionStatus": "GATHERING",
        "freeFlowSpeed1": 60.0,
        "freeFlowSpeed2": 55.0,
        "bearing": 90,
    }
    feature = {"type": "Feature", "id": 23001, "geometry": {"type": "Point", "coordinates": [lon, lat, 0.0]}, "properties": properties}
    body = {"dataUpdatedTime": rfc3339(T0), "type": "FeatureCollection", "features": [feature]}
    return kit.envelope([Item(T0, "tms", json.dumps(body).encode())], "tms", kind="snapshot")


def through(*envelopes: Envelope) -> tuple[Outputs, Tally, list[int]]:
    """Bytes of the log through the driver's step; what became of all but the list of stations; the watermarks after each message."""
    step = ObserveStep(Observer(kit.city(), envelopes[0].feed, 0, GROUND))
    out, marks = Outputs(), []
    for offset, e in enumerate(envelopes):
        given, _ = step.feed([Logged(encode(e), offset, e.ingest_ms)])
        out.extend(given)
        marks.append(wire.decode(step.flush()).watermark_ms)
    tally = step.observer.tally
    tally.events -= sum(e == stations() for e in envelopes)
    return out, tally, marks


#: When it happened by the sender's clock, and what becomes of it. The window of an event is open until 90 s after its end.
TABLE: list[tuple[str, int, str]] = [
    ("now", NOW - 1000, "accepted"),
    ("a clock two minutes fast", NOW + 120_000, "accepted"),
    ("a clock that is a second faster than that", NOW + 121_000, "clock"),
    ("out of order, its minute still open", NOW - 119_000, "accepted"),
    ("its minute has closed", NOW - 211_000, "late"),
    ("a clock an hour slow", NOW - HOUR, "late"),
    ("a clock an hour fast", NOW + HOUR, "clock"),
    ("six days old", NOW - 6 * DAY, "late"),
    ("a week and a second old", NOW - 7 * DAY - 1000, "clock"),
    ("the epoch", 0, "clock"),
    ("1970: seconds taken for milliseconds", NOW // 1000, "clock"),
    ("next year", NOW + YEAR, "clock"),
    ("next century", NOW + 100 * YEAR, "clock"),
]


@pytest.mark.parametrize("make", [hfp, gtfs_rt, tms])
@pytest.mark.parametrize(("event", "fate"), [(e, f) for _, e, f in TABLE], ids=[name for name, *_ in TABLE])
def test_an_event_has_the_fate_of_its_time_and_log_time_is_the_time_of_receipt(make: Any, event: int, fate: str) -> None:
    first = [stations()] if make is tms else []
    tick = kit.tick(NOW + 5_000, make(NOW).feed)
    if make is gtfs_rt and event == 0:
        fate = "accepted"  # its standard's "not told": the time of the whole snapshot stands in
    out, t, marks = through(*first, make(event), tick)
    assert t.events == t.accepted + t.duplicates + t.rejected + t.late
    assert {"accepted": t.accepted, "late": t.late, "clock": t.rejected}[fate] == t.events > 0
    assert marks[-2:] == [NOW, NOW + 5_000]
    if fate == "clock":
        letters = kit.records(out, "dead-letter")
        assert {r["reason"] for r in letters} == {"clock"}
        assert all(r["field"] and r["offset"] == len(first) and r["index"] >= 0 for r in letters)
        assert len(letters) == t.rejected
    if fate == "late":
        assert len(kit.records(out, "late")) == t.late


@pytest.mark.parametrize(("make", "event"), [
    (hfp, "NaN"), (hfp, "yesterday"), (hfp, ""), (hfp, str(NOW)), (hfp, "2026-03-10T25:00:00.000Z"), (hfp, "2026-03-10T07:30:00"), (gtfs_rt, NOW * 1000), (gtfs_rt, (2**63 - 1)),
    (tms, "NaN"), (tms, str(NOW)), (tms, "2026-03-10T25:00:00.000Z"),
])  # fmt: skip
def test_what_is_no_time_or_is_in_another_unit_is_refused_by_name_and_moves_nothing(make: Any, event: Any) -> None:
    """Milliseconds where seconds belong, too: GTFS-RT's far future."""
    first = [stations()] if make is tms else []
    out, t, marks = through(*first, make(event), kit.tick(NOW + 5_000, make(NOW).feed))
    assert t.rejected == t.events == len(kit.records(out, "dead-letter")) > 0
    assert all(r["reason"] and r["field"] for r in kit.records(out, "dead-letter"))
    assert marks[-2:] == [NOW, NOW + 5_000]


@pytest.mark.parametrize("skew_ms", [-HOUR, HOUR])
def test_a_vehicle_whose_clock_is_an_hour_wrong_says_nothing_of_traffic_and_hides_no_other(skew_ms: int) -> None:
    def finals(*items: Item) -> list[tuple[bytes, bytes, int, str]]:
        return kit.finals(kit.run_all(kit.cut(kit.in_order(items), range(0, 500, 23)))[0])

    good = kit.drive(0, seconds=200)
    skewed = [  # less than a tenth of the feed: of more the feed would be called degraded, and all that it says count for less
        kit.hfp(T0 + 1000 * k + skew_ms, kit.at(1, 5.0 * k), ingest_ms=T0 + 1000 * k + 700, vehicle=9, direction=2)
        for k in range(0, 200, 20)
    ]
    out, run = kit.run_all(kit.cut(kit.in_order([*good, *skewed]), range(0, 500, 23)))
    t = run.tally()["hfp"]
    assert (t.accepted, t.late + t.rejected) == (201, 10)
    assert t.late == (10 if skew_ms < 0 else 0)
    assert finals(*good, *skewed) == finals(*good)
    assert {r["vehicle_id"] for r in kit.records(out, "vehicle-position")} == {"0018/00001"}


def test_a_storm_of_copies_in_any_order_gives_what_each_message_gives_once() -> None:
    """Each message 1 to 50 times, the copies up to a minute later, in pieces of any size."""
    rng = np.random.default_rng(7)
    items = kit.in_order([*kit.drive(0, seconds=120), *kit.drive(1, 7.0, seconds=120, vehicle=2, direction=2)])
    copies = [Item(i.ingest_ms + int(rng.integers(1, 60_000)), i.topic, i.body) for i in items for _ in range(int(rng.integers(0, 50)))]
    # the same end of the log for both, since it is ingest time that closes windows
    end = kit.tick(items[-1].ingest_ms + 120_000)
    once, _ = kit.run_all([*kit.cut(items), end])
    storm = kit.in_order([*items, *copies])
    stormy, run = kit.run_all([*kit.cut(storm, rng.integers(1, len(storm), 60).tolist()), end])
    t = run.tally()["hfp"]
    assert (t.accepted, t.duplicates) == (len(items), len(copies))
    assert kit.finals(stormy) == kit.finals(once)
    assert sorted(stormy.records["vehicle-position"]) == sorted(once.records["vehicle-position"])
