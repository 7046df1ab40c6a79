"""What is told of invented towns is read by the parsers of the live feeds, every feed of every city, and nothing of it is refused."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import pytest

from connectors import cities
from connectors.cities import STOPS
from connectors.columns import Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import parser
from demo.documents import documents
from demo.player import Player, base_at
from demo.recording import load
from demo.run import told_of
from demo.servers import Document
from demo.towns import TOWNS, Living
from models.clock import parse_ms

NOW = parse_ms("2026-11-24T22:10:30Z")
CASES = [(n, f.name) for n in ("helsinki", "tampere", "turku", "oulu") for f in cities.load(n).feeds]

FEEDS = {
    "helsinki": {"hfp", "gtfs_rt", "tms", "weather", "messages", "datex", "alerts", "bikes", "parking"},
    "tampere": {"journeys", "digitransit", "itsfactory", "waltti", "stops", "lights", "tms", "weather", "messages", "datex"},
    "turku": {"foli", "stops", "digitransit", "alerts", "bikes", "counting", "tms", "weather", "messages", "datex"},
    "oulu": {"digitransit", "waltti", "oulunliikenne", "counting", "tms", "weather", "messages", "datex"},
}


@pytest.fixture(scope="module")
def living() -> Living:
    towns = Living({n: t.network() for n, t in TOWNS.items()}, NOW - 60_000)
    towns.advance(NOW)
    return towns


@pytest.fixture(scope="module")
def served(living: Living) -> dict[tuple[str, str], Document]:
    recording = load()
    found = documents(Player(recording, base_at(recording, NOW)), living)
    assert len({(d.method, d.path) for d in found}) == len(found)
    return {(d.method, d.path): d for d in found}


def read(city: str, feed: str, living: Living, served: dict[tuple[str, str], Document]) -> list[Parsed]:
    c = cities.load(city)
    f = c.feed(feed)
    reading, out = parser(f, c), []
    for h in f.http:
        method = "POST" if f.family == "oulunliikenne" else h.method
        document = served[method, urlsplit(h.url).path]
        stop = next(iter(living.traffic[city].buses)).way.stops[-1][1] if document.of_stops else ""
        body = (document.at(NOW, stop) if stop else document.at(NOW))[1]
        out.append(reading.parse(Envelope(SCHEMA, city, feed, f.family, "snapshot", NOW, (Item(NOW, h.url.replace(STOPS, stop), body),))))
    if f.mqtt is not None:
        begin = f.mqtt.topics[0].rstrip("#")
        items = []
        for _ in range(5):
            items += [Item(NOW, topic, body) for topic, body in living.messages() if topic.startswith(begin)]
            living.advance(NOW + 1000 * len(out) + 1000)
        out.append(reading.parse(Envelope(SCHEMA, city, feed, f.family, "messages", NOW, tuple(items))))
    return out


@pytest.mark.parametrize(("city", "feed"), CASES)
def test_a_feed_is_served_whole_and_nothing_of_it_is_refused(
    city: str, feed: str, living: Living, served: dict[tuple[str, str], Document]
) -> None:
    if not told_of(cities.load(city).feed(feed), frozenset(path for _, path in served)):
        pytest.skip("the demo leaves this feed out")
    said: Counter[str] = Counter()
    for parsed in read(city, feed, living, served):
        assert parsed.rejects == []
        said["vehicles"] += 0 if parsed.vehicles is None else len(parsed.vehicles)
        said["readings"] += 0 if parsed.sensors is None else len(parsed.sensors)
        said.update(s.product for s in parsed.stated)
    expected = {
        "tms": "readings", "counting": "readings", "weather": "road-weather", "messages": "situation", "datex": "situation", "alerts": "situation", "parking": "parking",
        "bikes": "shared-vehicle-station", "oulunliikenne": "parking", "lights": "traffic-signal", "grid": "grid-factor", "stops": "stop-passage",
    }.get(feed, "vehicles")  # fmt: skip
    assert said[expected] > 0, said


def test_the_feeds_of_the_six_cities_are_there(served: dict[tuple[str, str], Document]) -> None:
    paths = frozenset(path for _, path in served)
    for city, feeds in FEEDS.items():
        assert feeds <= {f.name for f in cities.load(city).feeds if told_of(f, paths)}


@pytest.mark.parametrize("city", ["tampere", "turku", "oulu"])
def test_feeds_of_one_city_name_the_same_vehicles_routes_and_starts(
    city: str, living: Living, served: dict[tuple[str, str], Document]
) -> None:
    first: dict[str, tuple[object, ...]] = {}
    c, compared = cities.load(city), 0
    names = {"tampere": ("journeys", "itsfactory", "waltti"), "turku": ("foli", "digitransit"), "oulu": ("waltti", "digitransit")}[city]
    for feed in names:
        (vehicles,) = (p.vehicles for p in read(c.name, feed, living, served) if p.vehicles is not None and len(p.vehicles))
        for vehicle_id, trip in zip(vehicles.vehicle_id, vehicles.trip, strict=True):
            key = (trip.route_id, trip.direction_id, trip.operating_day, (trip.start_time or "")[:5], trip.mode)
            compared += vehicle_id in first
            assert first.setdefault(vehicle_id, key)[0] == key[0]
    assert compared > 10
    assert len(first) == TOWNS[city].vehicles


@pytest.mark.parametrize(("city", "feed"), [("helsinki", "gtfs_rt"), ("tampere", "waltti"), ("oulu", "waltti")])
def test_trip_updates_tell_a_cancelled_trip_and_how_late_the_others_are(
    city: str, feed: str, living: Living, served: dict[tuple[str, str], Document]
) -> None:
    told = read(city, feed, living, served)
    assert "NO_SERVICE" in {getattr(s.record, "effect", None) for p in told for s in p.stated}
    late = [t.delay_s for p in told for t in p.trips]
    assert len(late) >= 24
    assert None not in late


def test_the_stations_of_two_cities_have_no_number_in_common(living: Living) -> None:
    numbers = [p.number for side in living.roadside.values() for p in side.places]
    assert len(set(numbers)) == len(numbers) >= 35
    vehicles = [f.number for t in living.of_hsl for f in t.fixes]
    assert len(set(vehicles)) == len(vehicles)


@pytest.mark.parametrize("city", ["tampere", "turku", "oulu"])
def test_roadworks_in_datex_are_those_in_simple_json(city: str, living: Living, served: dict[tuple[str, str], Document]) -> None:
    def works(feed: str) -> set[str]:
        return {s.key for parsed in read(city, feed, living, served) for s in parsed.stated if "/maintenance/" not in s.key}

    assert works("datex") == works("messages") != set()
