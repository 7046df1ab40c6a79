"""What the demo plays is read by the same parsers as the live feeds, and nothing of it is refused."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from connectors import cities
from connectors.columns import Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import parser
from demo.documents import TMS, VEHICLE_POSITIONS
from demo.player import Player, base_at
from demo.recording import load
from demo.run import Addresses, overrides
from models.clock import parse_ms

NOW = parse_ms("2026-11-24T22:10:00Z")
PATHS = frozenset({VEHICLE_POSITIONS, "/realtime/trip-updates/v2/hsl", TMS, f"{TMS}/data", f"{TMS}/sensor-constants"})
CITY = cities.load(
    "helsinki", overrides(cities.load("helsinki"), Addresses(mqtt="mqtt://127.0.0.1:1883", http="http://127.0.0.1:8000"), PATHS)
)


@cache
def player() -> Player:
    recording = load()
    return Player(recording, base_at(recording, NOW))


def parsed(feed: str, topic_bodies: list[tuple[int, str, bytes]]) -> Parsed:
    settings = CITY.feed(feed)
    items = tuple(Item(*item) for item in topic_bodies)
    kind = "messages" if settings.mqtt else "snapshot"
    envelope = Envelope(SCHEMA, CITY.name, feed, settings.family, kind, items[-1].ingest_ms, items, simulated=settings.simulated)
    return parser(settings, CITY).parse(envelope)


def test_hfp() -> None:
    got = parsed("hfp", [player().message_at(1, i) for i in range(0, 30_000, 10)])
    assert got.rejects == []
    columns = got.vehicles
    assert columns is not None
    assert len(columns) == got.events == 3_000
    lag_s = (columns.ingest_ms - columns.event_ms) / 1000
    assert 0 < np.median(lag_s) < 2
    here = ~np.isnan(columns.lat_deg)
    assert here.mean() > 0.99
    assert all(CITY.box.holds(lat, lon) for lat, lon in zip(columns.lat_deg[here], columns.lon_deg[here], strict=True))
    assert {t.operating_day for t in columns.trip} == {"2026-11-24"}


def test_gtfs_realtime_names_the_same_vehicles_and_trips_as_hfp() -> None:
    at = player().begins_ms(1) + 600_000
    published, body = player().vehicle_positions_at(at)
    got = parsed("gtfs_rt", [(at, CITY.feed("gtfs_rt").http[0].url, body)])
    assert got.rejects == []
    assert got.vehicles is not None
    loop, i = player().next_message(published - 60_000)
    hfp = parsed("hfp", [player().message_at(loop, k) for k in range(i, i + 3_000)]).vehicles
    assert hfp is not None
    trips = {(v, t.route_id, t.direction_id, t.operating_day) for v, t in zip(hfp.vehicle_id, hfp.trip, strict=True)}
    named = {(v, t.route_id, t.direction_id, t.operating_day) for v, t in zip(got.vehicles.vehicle_id, got.vehicles.trip, strict=True)}
    assert len(named) >= 20
    assert len(named & trips) > 0.9 * len(named)


def test_counting_stations_their_places_constants_and_readings() -> None:
    at = player().begins_ms(1) + 600_000
    answers = (player().stations_at(at)[1], player().sensor_constants_at(at)[1], player().station_data_at(at)[1])
    stations, constants, data = (
        parsed("tms", [(at, document.url, body)]) for document, body in zip(CITY.feed("tms").http, answers, strict=True)
    )
    assert stations.rejects == constants.rejects == data.rejects == []
    assert {s.site_id for s in stations.sites} == {s.site_id for s in constants.sites}
    assert all(s.bearing_deg is not None for s in stations.sites)
    assert {s.free_flow_kmh for s in constants.sites} <= {30.0, 40.0}
    assert data.sensors is not None
    assert set(data.sensors.site_id) <= {s.site_id for s in stations.sites}
    assert len(data.sensors) >= 33
    assert np.nanmax(data.sensors.flow_vph) > 100


@pytest.mark.parametrize("feed", ["hfp", "gtfs_rt", "tms"])
def test_every_feed_of_the_demo_city_says_simulated(feed: str) -> None:
    assert CITY.feed(feed).simulated
    assert not cities.load("helsinki").feed(feed).simulated
