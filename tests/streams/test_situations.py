"""Situations are published once a version, on the streets where they are drawn, and their ends are told."""

from __future__ import annotations

import json
from typing import Any

from connectors.cities import load
from connectors.columns import Listing
from connectors.envelope import SCHEMA, Envelope, Item, Source
from models.clock import rfc3339
from streams.endings import Lists
from streams.offline import Run
from tests.streams import kit

CITY = load("helsinki")
URL = "https://tie.digitraffic.fi/api/traffic-message/v2/roadworks"


def message(version: int, **more: Any) -> dict[str, Any]:
    lat, lon = kit.degrees(kit.EAST + 300.0, kit.NORTH)
    properties = {"situationId": "GUID1", "situationType": "ROAD_WORK", "version": version, "versionTime": rfc3339(kit.T0 + version)}
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [lon, lat]}, "properties": properties | more}


def document(ms: int, *messages: dict[str, Any], url: str = URL) -> Envelope:
    body = json.dumps({"type": "FeatureCollection", "features": list(messages)}).encode()
    return Envelope(SCHEMA, "helsinki", "messages", "digitraffic", "snapshot", kit.T0 + ms, (Item(kit.T0 + ms, url, body),))


def test_a_situation_is_placed_on_both_sides_of_its_street_and_told_once_a_version() -> None:
    out, run = kit.run_all([document(ms, message(v)) for ms, v in ((0, 1), (60_000, 1), (120_000, 2), (180_000, 1))], CITY)
    got = kit.records(out, "situation")
    assert [r["version"] for r in got] == [1, 2]
    assert all(set(r["segment_ids"]) == {"main1_f", "main1_b"} for r in got)
    assert run.tally()["messages"].duplicates == 2
    kit.adds_up(run)


def test_an_end_is_a_version_of_its_own() -> None:
    ended = {"situationType": "TRAFFIC_ANNOUNCEMENT", "trafficAnnouncementType": "ENDED"}
    out, _ = kit.run_all([document(0, message(1)), document(60_000, message(2, **ended))], CITY)
    assert [r.get("ended", False) for r in kit.records(out, "situation")] == [False, True]


def test_what_is_drawn_nowhere_near_a_street_has_no_segment() -> None:
    far = message(1)
    far["geometry"]["coordinates"] = [25.2, 60.27]
    ((record,)) = kit.records(kit.run_all([document(0, far)], CITY)[0], "situation")
    assert "segment_ids" not in record


def ids(envelopes: list[Envelope], city: Any = CITY) -> list[tuple[str, bool, str | None]]:
    out, run = kit.run_all(envelopes, city)
    kit.adds_up(run)
    return [(r["situation_id"].rpartition("/")[2], r.get("ended", False), r.get("valid_to")) for r in kit.records(out, "situation")]


def second() -> dict[str, Any]:
    return message(1) | {"properties": message(1)["properties"] | {"situationId": "GUID2"}}


def test_a_situation_that_two_lists_in_a_row_leave_out_has_ended_when_the_first_of_them_came() -> None:
    log = [document(0, message(1), second()), document(60_000, second()), document(120_000, second()), document(180_000, second())]
    assert ids(log) == [("GUID1", False, None), ("GUID2", False, None), ("GUID1", True, rfc3339(kit.T0 + 60_000))]


def test_a_situation_that_one_list_left_out_goes_on_and_one_that_comes_back_after_its_end_is_told_again() -> None:
    assert ids([document(60_000 * k, *([] if k == 1 else [message(1)])) for k in range(4)]) == [("GUID1", False, None)]
    gone = [document(60_000 * k, *([] if 0 < k < 4 else [message(1)])) for k in range(6)]
    assert [ended for _, ended, _ in ids(gone)] == [False, True, False]


def test_a_list_of_which_something_was_refused_and_another_document_end_nothing() -> None:
    bad = {"type": "Feature", "properties": {"situationId": 7}}
    assert ids([document(60_000 * k, *([message(1)] if k == 0 else [bad])) for k in range(4)])[0] == ("GUID1", False, None)
    assert len(ids([document(60_000 * k, *([message(1)] if k == 0 else [bad])) for k in range(4)])) == 1
    other = [
        document(60_000 * k, second(), url="https://tie.digitraffic.fi/api/traffic-message/v2/traffic-announcements") for k in range(1, 4)
    ]
    assert [ended for _, ended, _ in ids([document(0, message(1)), *other])] == [False, False]


def test_the_record_of_a_situation_is_deleted_seven_days_after_its_end_and_not_while_it_is_still_named() -> None:
    day = 86_400_000
    valid = {"announcements": [{"language": "FI", "timeAndDuration": {"startTime": rfc3339(kit.T0), "endTime": rfc3339(kit.T0 + day)}}]}
    log = [document(0, message(1, **valid))]
    log += [Envelope(SCHEMA, "helsinki", "messages", "digitraffic", "tick", kit.T0 + day * k, (), Source()) for k in range(1, 10)]
    out, run = kit.run_all(log, CITY)
    (told, deleted) = out.records["situation"]
    assert (deleted.key, deleted.value, deleted.time_ms) == (told.key, b"", kit.T0 + 8 * day)
    assert not run.observers["messages", 0].statements.last
    named = sorted([*log, *(document(day * k + 1, message(1, **valid)) for k in range(1, 9))], key=lambda e: e.ingest_ms)
    out, _ = kit.run_all(named, CITY)
    assert len(out.records["situation"]) == 1


def test_an_older_version_changes_nothing_even_when_it_says_that_it_was_made_later() -> None:
    older = message(1) | {"properties": message(1)["properties"] | {"versionTime": rfc3339(kit.T0 + 5)}}
    out, _ = kit.run_all([document(0, message(2)), document(60_000, older)], CITY)
    assert [r["version"] for r in kit.records(out, "situation")] == [2]


def test_ends_survive_a_restart() -> None:
    def observers() -> Any:
        return Run(CITY, kit.network()).observers["messages", 0]

    log = [document(0, message(1), second()), document(60_000, second()), document(120_000, second()), document(180_000, second())]
    a = observers()
    told = [o for k, e in enumerate(log) for o in a.feed_envelope(e, k).records.get("situation", [])]
    for cut in range(1, 4):
        first, after = observers(), observers()
        got = [o for k, e in enumerate(log[:cut]) for o in first.feed_envelope(e, k).records.get("situation", [])]
        first.flush()
        after.restore(first.export())
        got += [o for k, e in enumerate(log[cut:], cut) for o in after.feed_envelope(e, k).records.get("situation", [])]
        assert got == told


def test_a_list_in_pieces_ends_nothing_before_its_last_piece() -> None:
    lists = Lists()

    def piece(ms: int, k: int, *keys: str) -> list[tuple[str, int]]:
        return lists.read_one(Listing(name="x", ingest_ms=ms, keys=keys, piece=k, pieces=2))

    assert [piece(0, 1, "a"), piece(1, 2, "b")] == [[], []]
    assert [piece(60_000, 1, "a"), piece(60_001, 2)] == [[], []]
    assert piece(120_000, 1, "a") == []
    assert piece(120_001, 2) == [("b", 60_001)]
    assert [piece(180_000, 2), piece(240_000, 2), piece(300_000, 2)] == [[], [], []]
