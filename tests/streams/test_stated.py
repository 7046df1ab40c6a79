"""What a feed states is published once; what comes in parts is published whole."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from connectors.columns import Parsed, Reject, Stated
from models.clock import rfc3339
from models.records import SharedVehicleStation, StopPassage, TrafficSignal
from streams.clean import CleanSettings
from streams.health import Meter
from streams.outputs import Outputs
from streams.stated import Statements

NOW = 1_773_120_600_000


class Owner:
    def __init__(self) -> None:
        self.settings = SimpleNamespace(clean=CleanSettings())
        self.simulated = False
        self.border = None
        self.tally = SimpleNamespace(accepted=0)
        self.meter = Meter()
        self.log_ms = NOW


def publish(statements: Statements, *stated: Stated, owner: Any = None) -> tuple[list[dict[str, Any]], int, list[Reject]]:
    out, rejects = Outputs(), []
    duplicates = statements.feed(Parsed(stated=list(stated)), owner or Owner(), rejects, out)
    return [json.loads(o.value) for records in out.records.values() for o in records], duplicates, rejects


def station(part: str | None, event_ms: int = NOW, ingest_ms: int = NOW, **fields: Any) -> Stated:
    record = SharedVehicleStation(station_id="bikes/1", ingest_time=rfc3339(ingest_ms), feed="bikes", **fields)
    return Stated(
        index=0, ingest_ms=ingest_ms, event_ms=event_ms, product="shared-vehicle-station", key="bikes/1", record=record, part=part
    )


def passage(vehicle: str, event_ms: int) -> Stated:
    record = StopPassage(stop_id="S", vehicle_id=vehicle, event_time=rfc3339(event_ms), ingest_time=rfc3339(NOW), feed="sm")
    return Stated(index=0, ingest_ms=NOW, event_ms=event_ms, product="stop-passage", key="S", record=record)


def test_a_repetition_is_counted_and_not_published_again_even_when_it_is_received_later() -> None:
    s = Statements()
    assert publish(s, station(None, vehicles_available=3))[1:] == (0, [])
    assert publish(s, station(None, ingest_ms=NOW + 60_000, vehicles_available=3)) == ([], 1, [])
    assert publish(s, station(None, event_ms=NOW - 1, vehicles_available=4)) == ([], 1, [])


def signal(event_ms: int) -> Stated:
    record = TrafficSignal(
        device_id="lights/tre401", group="A", state="red", event_time=rfc3339(event_ms), ingest_time=rfc3339(event_ms), feed="lights"
    )
    return Stated(
        index=0, ingest_ms=event_ms, event_ms=event_ms, product="traffic-signal", key="lights/tre401:A", record=record, on_change=True
    )


def test_a_signal_that_stays_red_is_published_once_and_its_feed_is_not_frozen() -> None:
    s, owner = Statements(), Owner()
    said = [publish(s, signal(NOW + ms), owner=owner) for ms in range(0, 300_000, 60_000)]
    assert [len(records) for records, _, _ in said] == [1, 0, 0, 0, 0]
    assert max(slot.newest_event_ms or 0 for slot in owner.meter.slots.values()) == NOW + 240_000


def test_parts_of_a_record_are_published_together_whichever_comes_first() -> None:
    for order in (0, 1):
        s = Statements()
        parts = [station("information", name="Kamppi", capacity=20), station("status", vehicles_available=3)]
        first, second = (publish(s, p)[0][0] for p in (parts if order == 0 else parts[::-1]))
        assert ("name" in first) == (order == 0)
        assert (second["name"], second["capacity"], second["vehicles_available"]) == ("Kamppi", 20, 3)


def test_a_part_erases_only_what_it_said_itself() -> None:
    s = Statements()
    publish(s, station("information", name="Kamppi"), station("status", vehicles_available=3, is_renting=True))
    ((record,), _, _) = publish(s, station("status", event_ms=NOW + 1, vehicles_available=2))
    assert (record["name"], record["vehicles_available"], "is_renting" in record) == ("Kamppi", 2, False)


def test_parts_are_remembered_over_a_restart() -> None:
    s, after = Statements(), Statements()
    publish(s, station("information", name="Kamppi"))
    after.restore(json.loads(json.dumps(s.export())))
    ((record,), _, _) = publish(after, station("status", vehicles_available=2))
    assert (record["name"], after.heard(NOW), record["ingest_time"]) == ("Kamppi", 1, rfc3339(NOW))
    assert publish(after, station("information", name="Kamppi"))[1] == 1


def test_two_vehicles_at_one_stop_are_two_passages_also_when_the_earlier_one_is_told_later() -> None:
    s = Statements()
    assert len(publish(s, passage("a", NOW), passage("b", NOW - 30_000))[0]) == 2
    assert publish(s, passage("a", NOW), passage("b", NOW - 30_000))[1] == 2


def test_a_wrong_clock_is_refused() -> None:
    records, _, rejects = publish(Statements(), station(None, event_ms=0, vehicles_available=1))
    assert (records, [r.reason for r in rejects]) == ([], ["clock"])


def test_simulated_data_says_so() -> None:
    owner = Owner()
    owner.simulated = True
    assert publish(Statements(), station("status", vehicles_available=1), owner=owner)[0][0]["simulated"] is True
