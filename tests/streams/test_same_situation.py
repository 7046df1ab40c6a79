"""The same message in two feeds is one situation: by id and version, or by what it says. The better feed is published, the other counted, and heard when the better one does not tell."""

from __future__ import annotations

import json

import msgspec
import pytest
from google.protobuf import json_format
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import City, load
from connectors.envelope import SCHEMA, Envelope, Item
from models.clock import rfc3339
from streams import partial as wire
from streams.fuse import Fuser, FuseSettings
from streams.offline import Run
from tests.streams import kit

MINUTE = 60_000
LAT, LON = kit.degrees(kit.EAST + 300.0, kit.NORTH)


def city() -> City:
    """Fintraffic's messages in Simple JSON, and the same in DATEX II; a city's alerts by two senders."""
    whole = load("helsinki")
    messages, alerts = whole.feed("messages"), whole.feed("alerts")
    change = msgspec.structs.replace
    feeds = (
        messages,
        whole.feed("datex"),
        alerts,
        change(alerts, name="waltti", secondary_to="alerts"),
    )
    return change(whole, feeds=feeds, area=None)


def envelope(feed: str, ms: int, body: bytes | None, url: str = "https://example.org/traffic-message") -> Envelope:
    items = () if body is None else (Item(kit.T0 + ms, url, body),)
    return Envelope(SCHEMA, "helsinki", feed, city().feed(feed).family, "tick" if body is None else "snapshot", kit.T0 + ms, items)


def simple(ms: int, *versions: tuple[str, int]) -> Envelope:
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [LON, LAT]},
         "properties": {"situationId": guid, "situationType": "ROAD_WORK", "version": v, "versionTime": rfc3339(kit.T0 + v)}}
        for guid, v in versions
    ]  # fmt: skip
    return envelope(
        "messages",
        ms,
        json.dumps({"type": "FeatureCollection", "features": features}).encode(),
        "https://example.org/api/traffic-message/v2/roadworks",
    )


def datex(ms: int, *versions: tuple[str, int]) -> Envelope:
    said = "".join(
        f'<situation id="{guid}" version="{v}"><situationVersionTime>{rfc3339(kit.T0 + v)}</situationVersionTime><situationRecord xsi:type="MaintenanceWorks" id="R" version="{v}">'
        f"<groupOfLocations><locationForDisplay><latitude>{LAT}</latitude><longitude>{LON}</longitude></locationForDisplay></groupOfLocations></situationRecord></situation>"
        for guid, v in versions
    )
    body = f'<d2LogicalModel xmlns="http://datex2.eu/schema/2/2_0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><payloadPublication xsi:type="SituationPublication">{said}</payloadPublication></d2LogicalModel>'
    return envelope("datex", ms, body.encode())


def alert(feed: str, ms: int, entity_id: str, title: str, route: str = "1001") -> Envelope:
    header = {"gtfs_realtime_version": "2.0", "incrementality": "FULL_DATASET", "timestamp": (kit.T0 + ms) // 1000}
    one = {
        "id": entity_id,
        "alert": {"informed_entity": [{"route_id": route}], "header_text": {"translation": [{"text": title, "language": "fi"}]}},
    }
    return envelope(feed, ms, json_format.ParseDict({"header": header, "entity": [one]}, pb.FeedMessage()).SerializeToString())


def log(*events: Envelope, minutes: int = 9) -> list[Envelope]:
    ticks = [envelope(f.name, 30_000 * k + 1, None) for k in range(minutes * 2) for f in city().feeds]
    return sorted([*events, *ticks], key=lambda e: e.ingest_ms)


def told(*events: Envelope, minutes: int = 9) -> tuple[list[tuple[str, str, int | None, bool]], dict[str, list[int]]]:
    out, run = kit.run_all(log(*events, minutes=minutes), city())
    kit.adds_up(run)
    records = kit.records(out, "situation")
    return [(r["situation_id"], r["feed"], r.get("version"), r.get("ended", False)) for r in records], run.fuser.choice.totals


@pytest.mark.parametrize("first", ["messages", "datex"])
def test_one_message_in_simple_json_and_in_datex_is_one_situation_whichever_comes_first(first: str) -> None:
    polls = [(0, 30_000) if first == "messages" else (30_000, 0)]
    both = [e for a, b in polls for k in range(5) for e in (simple(a + k * MINUTE, ("GUID1", 1)), datex(b + k * MINUTE, ("GUID1", 1)))]
    records, totals = told(*both)
    assert records == [("digitraffic/GUID1", "messages", 1, False)]
    assert totals["datex"] == [0, 1]


def test_a_version_and_a_situation_that_only_the_other_feed_knows_are_published_of_it() -> None:
    a, b = ("GUID1", 1), ("GUID2", 7)
    polls = [e for k in range(5) for e in (simple(k * MINUTE, a), datex(k * MINUTE + 1000, a if k < 3 else ("GUID1", 2), b))]
    records, totals = told(*polls)
    assert sorted(records) == [
        ("digitraffic/GUID1", "datex", 2, False),
        ("digitraffic/GUID1", "messages", 1, False),
        ("digitraffic/GUID2", "datex", 7, False),
    ]
    assert totals["datex"] == [2, 1]


def test_an_end_that_the_other_feed_sees_first_is_not_told_while_the_better_one_names_the_situation() -> None:
    polls = [e for k in range(6) for e in (simple(k * MINUTE, ("GUID1", 1)), datex(k * MINUTE + 1000, *([("GUID1", 1)] if k < 3 else [])))]
    records, totals = told(*polls)
    assert [r[3] for r in records] == [False]
    assert totals["datex"] == [0, 2]


def test_alerts_of_two_senders_with_ids_of_their_own_are_one_when_they_say_the_same_of_the_same_lines() -> None:
    title = "Linja 1001 poikkeusreitillä Hämeenkadulla"
    polls = [e for k in range(4) for e in (
        alert("alerts", k * MINUTE, "fac-1", title), alert("waltti", k * MINUTE + 2000, "9911", title.upper()),
    )]  # fmt: skip
    assert [r[:2] for r in told(*polls)[0]] == [("alerts/fac-1", "alerts")]
    of_another_line = [alert("alerts", 0, "fac-1", title), alert("waltti", 2000, "9911", title, route="1002")]
    assert [r[1] for r in told(*of_another_line)[0]] == ["alerts", "waltti"]


def test_who_tells_is_decided_by_the_logs_alone() -> None:
    polls = [e for k in range(3) for e in (simple(k * MINUTE + 20_000, ("GUID1", 1)), datex(k * MINUTE, ("GUID1", 1), ("GUID2", 1)))]
    whole = [e for e in log(*polls, minutes=6) if e.feed in ("messages", "datex")]
    two = msgspec.structs.replace(city(), feeds=city().feeds[:2])
    observers = Run(two, kit.network()).observers
    partials: dict[str, list[wire.Partial]] = {}
    for k, e in enumerate(whole):
        o = observers[e.feed, 0]
        o.feed_envelope(e, k)
        if k % 5 == 0 or k >= len(whole) - 2:
            partials.setdefault(e.feed, []).append(wire.decode(o.flush()))
    for order in (["messages", "datex"], ["datex", "messages"]):
        fuser, out = Fuser(two, kit.network(), FuseSettings()), []
        for k, p in enumerate(p for feed in order for p in [*partials[feed], partials[feed][0]]):
            out += list(fuser.feed(p, k).records.get("situation", ()))
            if k == 4:
                state = fuser.export()
                fuser = Fuser(two, kit.network(), FuseSettings())
                fuser.restore(state)
        assert [o.key for o in out] == [b"digitraffic/GUID2"]
