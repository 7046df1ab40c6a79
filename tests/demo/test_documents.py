"""Every document that the demo's server tells of the invented towns is read by the feed of the city that asks for it, and nothing of it is refused."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from connectors import cities
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import parser
from demo.documents import documents
from demo.towns import TOWNS, Living
from models.clock import parse_ms

NOW = parse_ms("2026-11-24T12:10:30Z")


@pytest.fixture(scope="module")
def told() -> dict[str, bytes]:
    living = Living({n: TOWNS[n].network() for n in ("espoo", "tampere", "turku", "oulu")}, NOW)
    living.advance(NOW)
    return {d.path: d.at(NOW)[1] for d in documents(None, living)}


@pytest.mark.parametrize("name", ["helsinki", "tampere", "turku", "oulu"])
def test_what_is_polled_of_a_city_is_there_and_is_understood(name: str, told: dict[str, bytes]) -> None:
    city = cities.load(name)
    read = 0
    for feed in city.feeds:
        reader = parser(feed, city)
        for http in feed.http:
            assert urlsplit(http.url).path in told, http.url
            items = (Item(NOW + 500, http.url.partition("?")[0], told[urlsplit(http.url).path]),)
            parsed = reader.parse(Envelope(SCHEMA, name, feed.name, feed.family, "snapshot", NOW + 500, items, simulated=True))
            assert parsed.rejects == [], http.url
            assert set(parsed.passed) <= {"outside_box", "priority_request", "trip_update", "not_published_cameras", "other_document"}, (
                http.url,
                parsed.passed,
            )
            read += parsed.events
    assert read > 50


def test_every_city_has_a_cancelled_trip_and_delays_of_the_others(told: dict[str, bytes]) -> None:
    for name, feed_name in (("helsinki", "gtfs_rt"), ("tampere", "waltti"), ("oulu", "waltti")):
        city = cities.load(name)
        feed = city.feed(feed_name)
        url = next(h.url for h in feed.http if "trip" in h.url)
        items = (Item(NOW + 500, url, told[urlsplit(url).path]),)
        parsed = parser(feed, city).parse(Envelope(SCHEMA, name, feed.name, feed.family, "snapshot", NOW + 500, items, simulated=True))
        assert [s.record.effect for s in parsed.stated] == ["NO_SERVICE"]  # type: ignore[attr-defined]
        assert len(parsed.trips) >= 24
        assert all(t.delay_s is not None for t in parsed.trips)
