"""A discovery document leads to the system's documents, and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from connectors.cities import City, Http, load
from connectors.envelope import Envelope, decode
from connectors.gbfs.fetch import discover
from connectors.polling import Unavailable
from connectors.run import FeedConnector

CITY = load(Path(__file__).resolve().parents[2] / "golden" / "fixture.toml")
FEED = CITY.feed("gbfs")
HERE = Http(url="https://example.org/gbfs.json", every_s=600, headers_env={"X-Key": "KEY"})


def v3(**named: str) -> bytes:
    return json.dumps({"last_updated": 1, "data": {"feeds": [{"name": n, "url": u} for n, u in named.items()]}}).encode()


def test_status_is_polled_at_the_feeds_cadence_and_places_once_an_hour() -> None:
    found = discover(HERE, FEED, v3(station_status="https://example.org/s", station_information="https://example.org/i", system_alerts="x"))
    assert found is not None
    assert [(h.url, h.every_s, h.headers_env) for h in found[0]] == [
        ("https://example.org/i", 3600, {"X-Key": "KEY"}),
        ("https://example.org/s", 60, {"X-Key": "KEY"}),
    ]
    assert found[1] == ()


def test_older_versions_have_a_list_a_language_and_the_first_is_taken() -> None:
    lists = {code: {"feeds": [{"name": "station_status", "url": f"https://example.org/{code}"}]} for code in ("fi", "en")}
    found = discover(HERE, FEED, json.dumps({"data": lists}).encode())
    assert found is not None
    assert [h.url for h in found[0]] == ["https://example.org/fi"]


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.org/s",
        "http://example.org/s",
        "ftp://example.org/s",
        "https://user:secret@example.org/s",
        "file:///etc/passwd",
        "//example.org/s",
        "https://example.org.evil.org/s",
        "",
    ],
)
def test_an_address_outside_the_configured_hosts_is_not_followed_and_said(url: str) -> None:
    found = discover(HERE, FEED, v3(station_status=url))
    assert found is not None
    assert found[0] == ()
    assert len(found[1]) == 1
    assert "secret" not in found[1][0]


def test_a_host_that_the_city_file_names_is_followed_without_our_secrets() -> None:
    found = discover(HERE, msgspec.structs.replace(FEED, hosts=("elsewhere.org",)), v3(station_status="https://elsewhere.org/s"))
    assert found is not None
    assert [(h.url, h.headers_env) for h in found[0]] == [("https://elsewhere.org/s", {})]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": {"stations": []}}', b'{"data": {"feeds": 5}}', b"[" * 100_000, b"\xff"])
def test_other_documents_are_no_discovery(body: bytes) -> None:
    assert discover(HERE, FEED, body) is None


class Producer:
    """Remembers envelopes."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []

    async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        if topic.startswith("raw."):
            self.sent.append(decode(value))
        return done

    def bodies(self) -> list[bytes]:
        return [i.body for e in self.sent for i in e.items]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_connector_follows_discovery_and_lets_go_of_what_is_no_longer_named() -> None:
    asked: list[str] = []
    names = {"station_status": "/status", "station_information": "/information"}

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/gbfs.json":
            here = f"http://{request.host}"
            return web.Response(body=v3(**{n: here + p for n, p in names.items()}, system_pricing_plans=f"{here}/prices"))
        return web.Response(body=request.path.encode())

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    async with TestServer(app) as server:
        city: City = load(
            Path(__file__).resolve().parents[2] / "golden" / "fixture.toml",
            {
                "feeds.gbfs.http": [{"url": str(server.make_url("/gbfs.json")), "every_s": 0.2}],
                "feeds.gbfs.cadence_s": 0.1,
                "feeds.gbfs.allow_private": True,
            },
        )
        producer, stop = Producer(), asyncio.Event()
        connector = FeedConnector(city, city.feed("gbfs"), now_ms=lambda: 1_773_120_605_000)
        task = asyncio.create_task(connector.run(producer, "", stop))  # type: ignore[arg-type]
        await until(lambda: asked.count("/status") >= 2 and b"/information" in producer.bodies())
        assert asked.count("/information") == 1
        del names["station_information"]
        names["station_status"] = "/status2"
        await until(lambda: asked.count("/status2") >= 2)
        before = asked.count("/status")
        await asyncio.sleep(0.4)
        assert asked.count("/status") <= before + 1
        stop.set()
        await asyncio.wait_for(task, 20)
    assert "/prices" not in asked
    assert connector.source().detail is None


async def test_discovery_does_not_lead_to_private_addresses() -> None:
    found = discover(HERE, msgspec.structs.replace(FEED, hosts=("127.0.0.1",)), v3(station_status="https://127.0.0.1:9/s"))
    assert found is not None
    connector = FeedConnector(CITY, FEED, now_ms=lambda: 1)
    poller = connector._poller(found[0][0], "x", "y")
    with pytest.raises(Unavailable, match="not a public address"):
        await poller.ask()
    await poller.close()
