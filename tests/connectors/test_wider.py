"""Of a national feed only the city's vehicles go on, and the others are no mistakes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import City, load
from connectors.columns import Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import Remembers, parser
from connectors.run import FeedConnector
from models.clock import parse_ms

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
NOW = parse_ms("2026-03-10T05:30:05Z")


def parse(city: City, feed: str, body: bytes, at: int = NOW) -> Parsed:
    settings = city.feed(feed)
    envelope = Envelope(SCHEMA, city.name, feed, settings.family, "snapshot", at, (Item(at, "x", body),))
    return parser(settings, city).parse(envelope)


def test_vehicles_outside_and_without_a_place_are_counted_and_swapped_ones_stay_a_mistake() -> None:
    city = load("amsterdam")
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = NOW // 1000
    for name, lat, lon in (("here", 52.37, 4.9), ("Groningen", 53.2, 6.6), ("swapped", 4.9, 52.37), ("nowhere", None, None)):
        entity = message.entity.add(id=name)
        entity.vehicle.vehicle.id = name
        if lat is not None and lon is not None:
            entity.vehicle.position.latitude, entity.vehicle.position.longitude = lat, lon
    parsed = parse(city, "gtfs_rt", message.SerializeToString())
    assert parsed.vehicles is not None
    assert parsed.vehicles.vehicle_id == ["here", "swapped"]
    assert parsed.vehicles.index.tolist() == [0, 2]
    assert (parsed.passed, parsed.events, parsed.rejects) == ({"no_place": 1, "outside_box": 1}, 2, [])


def test_calls_are_those_of_vehicles_that_are_here() -> None:
    body = (GOLDEN / "siri/bus_late_tram_at_stop/in.xml").read_bytes()
    narrow = load(GOLDEN / "fixture.toml", {"feeds.siri.wider": True})
    parsed = parse(narrow, "siri", body)
    assert parsed.vehicles is not None
    assert parsed.vehicles.vehicle_id == ["FIX/701", "FIX/T9", "FIX/705"]
    assert len(parsed.stated) == 1
    elsewhere = msgspec.structs.replace(narrow, box=msgspec.structs.replace(narrow.box, north=60.05))
    parsed = parse(elsewhere, "siri", body)
    assert (len(parsed.vehicles or []), parsed.stated) == (0, [])
    assert parsed.passed == {"cancellation": 1, "not_monitored": 1, "no_place": 1, "outside_box": 4}
    assert parsed.events == len(parsed.rejects) == 2


def test_a_parser_that_remembers_is_not_wrapped() -> None:
    city = load(GOLDEN / "fixture.toml", {"feeds.datex2.wider": True})
    assert isinstance(parser(city.feed("datex2"), city), Remembers)


@pytest.mark.parametrize("city", ["oslo", "amsterdam", "paris"])
def test_the_worked_examples_are_ready_to_connect(city: str) -> None:
    c = load(city)
    for feed in c.feeds:
        FeedConnector(c, feed, now_ms=lambda: 0, env={"IDFM_API_KEY": "x"})
        parser(feed, c)


def test_oslo_takes_its_vehicles_from_the_national_delivery(shared: Path) -> None:
    body = (shared / "feeds/generic/siri/entur_vm_20181017.xml").read_bytes()
    city = load("oslo")
    parsed = parse(city, "siri_vm", body, parse_ms("2018-10-17T05:56:48.098+02:00"))
    v = parsed.vehicles
    assert v is not None
    assert len(v) > 150
    assert all(city.box.holds(lat, lon) for lat, lon in zip(v.lat_deg, v.lon_deg, strict=True))
    assert parsed.passed["outside_box"] > 300
    assert np.isfinite(v.delay_s).any()
    assert parsed.events + sum(n for reason, n in parsed.passed.items()) == 1129 + 20  # activities, and the calls that some of them tell of
