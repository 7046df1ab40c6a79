"""Situations are published once a version, on the streets where they are drawn, and their ends are told."""

from __future__ import annotations

import json
from typing import Any

from connectors.cities import load
from connectors.envelope import SCHEMA, Envelope, Item
from models.clock import rfc3339
from tests.streams import kit

CITY = load("helsinki")
URL = "https://tie.digitraffic.fi/api/traffic-message/v2/roadworks"


def message(version: int, **more: Any) -> dict[str, Any]:
    lat, lon = kit.degrees(kit.EAST + 300.0, kit.NORTH)
    properties = {"situationId": "GUID1", "situationType": "ROAD_WORK", "version": version, "versionTime": rfc3339(kit.T0 + version)}
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [lon, lat]}, "properties": properties | more}


def document(ms: int, *messages: dict[str, Any]) -> Envelope:
    body = json.dumps({"type": "FeatureCollection", "features": list(messages)}).encode()
    return Envelope(SCHEMA, "helsinki", "messages", "digitraffic", "snapshot", kit.T0 + ms, (Item(kit.T0 + ms, URL, body),))


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
