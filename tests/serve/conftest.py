"""A small town for the gateway's tests: a few streets, states, vehicles and feeds, as records of the open topics."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from models.clock import parse_ms, rfc3339
from models.records import FeedHealth, Record, Segment, SegmentState, VehiclePosition, encode
from models.topics import PRODUCTS, open_topic
from serve.gateway import make_app
from serve.state import Picture

NOW = parse_ms("2026-03-10T05:30:00.000Z")


@dataclass(frozen=True)
class Town:
    """As much of a city file as the gateway reads."""

    name: str = "town"
    title: str = "Town"
    timezone: str = "Europe/Helsinki"
    licence: str = "CC-BY-4.0"
    attribution: tuple[str, ...] = ("© Town Transport, CC BY 4.0", "© OpenStreetMap contributors, ODbL 1.0")


class Feeder:
    """Puts records into a picture as the reader would, and remembers offsets."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.offsets: dict[str, int] = {}

    def __call__(self, record: Record | bytes | None, *, product: str = "", key: str = "k"):  # type: ignore[no-untyped-def]
        if isinstance(record, Record):
            product = next(p.name for p in PRODUCTS.values() if p.record is type(record))
            key = ":".join(str(getattr(record, part)) for part in PRODUCTS[product].key.split(":"))
        topic = open_topic(self.picture.city, product)
        offset = self.offsets.get(topic, -1) + 1
        self.offsets[topic] = offset
        value = encode(record) if isinstance(record, Record) else record
        applied = self.picture.apply(topic, key.encode(), value, offset, 0)
        return applied, 0, offset


def street(n: int, *, version: str = "n1", represents: str = "general_traffic", name: str | None = "Aleksanterinkatu") -> Segment:
    lon = 24.93 + 0.002 * n
    return Segment(
        segment_id=f"w{n}_1_2_f",
        network_version=version,
        geometry={"type": "LineString", "coordinates": [[lon, 60.17], [lon + 0.002, 60.171]]},
        length_m=160.0,
        road_class="primary",
        represents=represents,  # type: ignore[arg-type]
        name=name,
        speed_limit_kmh=40.0,
    )


def state(
    n: int, *, minute: int = 0, revision: int = 1, los: str = "C", origin: str = "measured", confidence: float = 0.8, **more: object
) -> SegmentState:
    start = NOW + 60_000 * minute
    return SegmentState(
        segment_id=f"w{n}_1_2_f",
        window_start=rfc3339(start),
        window_end=rfc3339(start + 60_000),
        revision=revision,
        origin=origin,  # type: ignore[arg-type]
        confidence=confidence,
        represents="general_traffic",
        algorithm="edie-1",
        los=los,  # type: ignore[arg-type]
        **{"status": "provisional", "speed_kmh": 22.0, "speed_ratio": 0.55, **more},  # type: ignore[arg-type]
    )


def vehicle(n: int, *, at_s: float = 0.0, heard_s: float | None = None, **more: object) -> VehiclePosition:
    at = NOW + int(at_s * 1000)
    fields: dict[str, object] = {
        "lat_deg": 60.17,
        "lon_deg": 24.93 + 0.002 * n,
        "mode": "bus",
        "route_id": "2510",
        "heading_deg": 90.0,
        "delay_s": 60,
    }
    return VehiclePosition(
        vehicle_id=f"0018/{n:05d}",
        event_time=rfc3339(at),
        ingest_time=rfc3339(at + 800 if heard_s is None else NOW + int(heard_s * 1000)),
        feed="hfp",
        **{**fields, **more},  # type: ignore[arg-type]
    )


def health(feed: str = "hfp", *, at_s: float = 0.0, status: str = "ok", **more: object) -> FeedHealth:
    at = rfc3339(NOW + int(at_s * 1000))
    return FeedHealth(feed=feed, event_time=at, state=status, since=rfc3339(NOW), messages_s=12.5, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def town() -> ModuleType:
    """The makers above, for tests: a folder of tests is no package to import from."""
    return sys.modules[__name__]


@pytest.fixture
def picture() -> Picture:
    return Picture("town")


@pytest.fixture
def feed(picture: Picture) -> Feeder:
    return Feeder(picture)


@pytest.fixture
def fed(feed: Feeder) -> Feeder:
    """Five streets, four with a state, two vehicles, one feed."""
    for n in range(5):
        feed(street(n))
    for n, los in enumerate("ACFB"):
        feed(state(n, los=los))
    feed(vehicle(1))
    feed(vehicle(2))
    feed(health())
    return feed


Start = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


@pytest.fixture
async def start(picture: Picture) -> AsyncIterator[Start]:
    """Start the gateway on the picture."""
    clients: list[TestClient[web.Request, web.Application]] = []

    async def run(**more: object) -> TestClient[web.Request, web.Application]:
        app = make_app([Town()], pictures={"town": picture}, **more)  # type: ignore[arg-type]
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield run
    for client in clients:
        await client.close()
