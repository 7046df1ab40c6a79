"""What a feed states of the whole country is published where the feed's own list of places has told of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from connectors.columns import Parsed, Reject, Site, Stated
from models.clock import rfc3339
from models.records import RoadWeather, TrafficSignal
from streams.clean import CleanSettings
from streams.health import Meter
from streams.outputs import Outputs
from streams.stated import Statements

NOW = 1_773_120_600_000


def owner(**sites: Site) -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(clean=CleanSettings()),
        sensors=SimpleNamespace(sites={s.site_id + ":" + s.direction: s for s in sites.values()}),
        simulated=False,
        border=None,
        tally=SimpleNamespace(accepted=0),
        meter=Meter(),
        log_ms=NOW,
    )


def weather(ms: int, air_c: float = -1.0) -> Stated:
    record = RoadWeather(site_id="d/1", event_time=rfc3339(ms), ingest_time=rfc3339(ms), feed="weather", air_c=air_c)
    return Stated(index=0, ingest_ms=ms, event_ms=ms, product="road-weather", key="d/1", record=record, site="d/1:weather")


def signal(ms: int, state: Any) -> Stated:
    record = TrafficSignal(device_id="x/1", group="A", state=state, event_time=rfc3339(ms), ingest_time=rfc3339(ms), feed="lights")
    return Stated(index=0, ingest_ms=ms, event_ms=ms, product="traffic-signal", key="x/1:A", record=record, on_change=True)


def fed(s: Statements, o: Any, *stated: Stated) -> list[dict[str, Any]]:
    out, rejects = Outputs(), cast(list[Reject], [])
    s.feed(Parsed(stated=list(stated)), o, rejects, out)
    assert not rejects
    return [json.loads(r.value) for rs in out.records.values() for r in rs]


def test_a_station_that_no_list_told_of_is_elsewhere_and_counted() -> None:
    s = Statements()
    assert fed(s, owner(), weather(NOW)) == []
    assert s.elsewhere == 1


def test_a_station_of_the_list_gets_its_place_and_name() -> None:
    place = Site(site_id="d/1", direction="weather", lat_deg=60.2, lon_deg=24.9, name="vt4_Intiö")
    (record,) = fed(Statements(), owner(a=place), weather(NOW))
    assert (record["lat_deg"], record["lon_deg"], record["name"], record["air_c"]) == (60.2, 24.9, "vt4_Intiö", -1.0)


def test_what_is_published_on_change_keeps_the_time_of_the_change() -> None:
    s, o = Statements(), owner()
    states = [(NOW, "red"), (NOW + 5_000, "red"), (NOW + 10_000, "green"), (NOW + 15_000, "green"), (NOW + 20_000, "red")]
    got = [r for ms, state in states for r in fed(s, o, signal(ms, state))]
    assert [(r["state"], r["event_time"]) for r in got] == [
        ("red", rfc3339(NOW)),
        ("green", rfc3339(NOW + 10_000)),
        ("red", rfc3339(NOW + 20_000)),
    ]


def test_a_snapshot_of_the_state_remembers_what_was_said() -> None:
    s, o = Statements(), owner()
    fed(s, o, signal(NOW, "red"))
    again = Statements()
    again.restore(json.loads(json.dumps(s.export())))
    assert fed(again, o, signal(NOW + 5_000, "red")) == []
