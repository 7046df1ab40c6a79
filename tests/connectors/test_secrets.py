"""Secrets of the feeds that need one come from the environment, go to their own host only, and are seen nowhere else."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from connectors.cities import City, FeedSettings, Http, load, names
from connectors.envelope import Envelope, encode
from connectors.polling import Unavailable
from connectors.run import FETCH, FeedConnector
from models.errors import ConfigError

ID, SECRET = "id-canary-51", "hunter2-canary"
ENV = {"OULU_WALTTI_ID": ID, "OULU_WALTTI_SECRET": SECRET}
CITY = load("oulu")
Serve = Callable[[web.Response], Awaitable[str]]


@pytest.fixture
async def seen() -> AsyncIterator[tuple[list[str], str]]:
    """A server that refuses everybody and repeats what it was told, and the Authorization headers that it saw."""
    heard: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        heard.append(request.headers.get("Authorization", ""))
        return web.Response(status=401, reason="Unauthorized", text=str(dict(request.headers)))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    yield heard, str(server.make_url("/feed"))
    await server.close()


def local(url: str) -> tuple[City, FeedSettings]:
    city = load("oulu", {f"feeds.waltti.http.{n}.url": url for n in range(3)} | {"feeds.waltti.allow_private": True})
    return city, city.feed("waltti")


async def test_id_and_secret_are_sent_as_http_basic_and_shown_nowhere(
    seen: tuple[list[str], str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    heard, url = seen
    city, feed = local(url)
    caplog.set_level(logging.DEBUG)
    connector = FeedConnector(city, feed, now_ms=lambda: 1_773_120_600_000, env=ENV)
    poller = connector._pollers[0]
    with pytest.raises(Unavailable) as e:
        await poller.ask()
    stop = asyncio.Event()
    task = asyncio.create_task(connector._poll(poller, stop))
    while connector.source().http_status != 401:
        await asyncio.sleep(0.01)
    stop.set()
    await task
    for p in connector._pollers:
        await p.close()
    assert heard[0] == "Basic " + base64.b64encode(f"{ID}:{SECRET}".encode()).decode()
    source = connector.source()
    tick = encode(Envelope(1, "oulu", "waltti", "gtfs_realtime", "tick", 1, (), source))
    shown = [
        str(e.value),
        repr(source),
        repr(feed),
        repr(city),
        tick.decode("latin-1"),
        *(f"{r.getMessage()} {r.__dict__}" for r in caplog.records),
        *capsys.readouterr(),
    ]
    for secret in (SECRET, ID, heard[0].removeprefix("Basic ")):
        assert not any(secret in text for text in shown)


@pytest.mark.parametrize("env", [{}, {"OULU_WALTTI_ID": ID}, {"OULU_WALTTI_ID": "", "OULU_WALTTI_SECRET": SECRET}])
def test_an_optional_feed_without_its_secrets_is_left_alone_and_says_which_is_missing(env: dict[str, str]) -> None:
    connector = FeedConnector(CITY, CITY.feed("waltti"), now_ms=lambda: 0, env=env)
    source = connector.source()
    assert connector._pollers == []
    assert not source.connected
    assert source.detail is not None
    assert "left alone" in source.detail
    assert "OULU_WALTTI_" in source.detail
    assert SECRET not in source.detail
    assert ID not in source.detail


def test_a_feed_that_is_not_optional_stops_with_the_name_of_the_variable() -> None:
    feed = load("oulu", {"feeds.waltti.optional": False}).feed("waltti")
    with pytest.raises(ConfigError, match="OULU_WALTTI_"):
        FeedConnector(CITY, feed, now_ms=lambda: 0, env={})


@pytest.mark.parametrize("family", sorted(FETCH))
def test_whatever_the_family_settings_hold_names_of_variables_and_never_values(family: str) -> None:
    http = Http(url="https://example.org/x", every_s=60, username_env="A", password_env="B", headers_env={"X-Key": "C"})
    mqtt = load("helsinki").feed("hfp").mqtt if family == "hfp" else None
    feed = FeedSettings(name="x", family=family, cadence_s=60, http=() if mqtt else (http,), mqtt=mqtt)  # type: ignore[arg-type]
    env = {"A": ID, "B": SECRET, "C": SECRET}
    connector = FeedConnector(CITY, feed, now_ms=lambda: 0, env=env)
    settings = [*(p.settings for p in connector._pollers), connector.feed, connector.source()]
    assert all(SECRET not in repr(s) and ID not in repr(s) for s in settings)


@pytest.mark.parametrize("name", names())
def test_no_city_file_holds_a_secret_and_every_feed_has_a_connector(name: str) -> None:
    city = load(name)
    if city.raw_of is None:
        for feed in city.feeds:
            named = {v for h in feed.http for v in (h.username_env, h.password_env, *h.headers_env.values()) if v is not None}
            FeedConnector(city, feed, now_ms=lambda: 0, env=dict.fromkeys(named, "x"))
