"""The grid's factor, from a local server that answers as Fingrid's documents say, to the records of emissions: with its key, with its time, and without."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from connectors.cities import load
from connectors.envelope import Envelope, decode
from connectors.run import FeedConnector
from models.clock import rfc3339
from models.emission_records import EmissionSegment, EmissionVehicle
from models.emissions import tables
from streams.offline import Run
from tests.streams import kit

KEY = "0123456789abcdef"
NOW = kit.T0 + 30_000


class Log:
    """Keeps the envelopes that a connector writes."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[None]:
        self.envelopes.append(decode(value))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


@pytest.fixture
async def fingrid() -> AsyncIterator[TestServer]:
    async def latest(request: web.Request) -> web.Response:
        if request.headers.get("x-api-key") != KEY:
            body = {"statusCode": 401, "message": "Access denied due to missing subscription key."}
            return web.json_response(body, status=401)
        number = int(request.match_info["number"])
        return web.json_response(
            {"datasetId": number, "startTime": rfc3339(NOW - 60_000), "endTime": rfc3339(NOW + 120_000), "value": 123.4}
        )

    app = web.Application()
    app.router.add_get("/api/datasets/{number}/data/latest", latest)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


async def asked(server: TestServer, env: dict[str, str]) -> list[Envelope]:
    """What the city's own feed writes, with the server in the place of Fingrid's."""
    url = str(server.make_url("/api/datasets/265/data/latest"))
    city = load("helsinki", {"feeds.grid.http.0.url": url, "feeds.grid.allow_private": True})
    log, stop, clock = Log(), asyncio.Event(), itertools.count(NOW, 250)
    task = asyncio.create_task(FeedConnector(city, city.feed("grid"), now_ms=lambda: next(clock), env=env).run(log, "", stop))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        while not any(
            e.kind == "snapshot" or (e.source and (e.source.http_status or "left alone" in (e.source.detail or ""))) for e in log.envelopes
        ):
            await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(task, 20)
    return log.envelopes


def replayed(envelopes: list[Envelope]) -> tuple[list[EmissionSegment], list[EmissionVehicle], list[bytes]]:
    """Emissions of a bus that drives for six minutes, and the factors that were published."""
    city = load("helsinki")
    feeds = tuple(city.feed(name) for name in ("hfp", "grid"))
    city = msgspec.structs.replace(city, feeds=(msgspec.structs.replace(feeds[0], partitions=1), feeds[1]))
    run = Run(city, kit.network())
    bus = kit.cut(kit.drive(2, 8.0, seconds=360, route="1002"), range(0, 360, 60))
    log = sorted([*envelopes, *bus], key=lambda e: e.ingest_ms)
    outs = [run.feed(e.feed, 0, e) for e in log] + [run.finish()]
    said: dict[str, list[bytes]] = {}
    for out in outs:
        for product, records in out.records.items():
            said.setdefault(product, []).extend(o.value for o in records)
    segments = [msgspec.json.decode(v, type=EmissionSegment) for v in said["emission-segment"]]
    vehicles = [msgspec.json.decode(v, type=EmissionVehicle) for v in said["emission-vehicle"]]
    return [r for r in segments if r.status == "final"], [r for r in vehicles if r.status == "final"], said.get("grid-factor", [])


async def test_the_live_factor_reaches_every_emission_with_its_time(fingrid: TestServer) -> None:
    live_s, live_v, published = replayed(await asked(fingrid, {"FINGRID_API_KEY": KEY}))
    usual_s, usual_v, nothing = replayed([])
    assert [msgspec.json.decode(p)["co2_g_per_kwh"] for p in published] == [123.4]
    assert not nothing
    for live, usual in ((live_s, usual_s), (live_v, usual_v)):
        last, default = live[-1], usual[-1]
        assert (last.grid_g_per_kwh, last.grid_source, last.grid_time) == (123.4, "live", rfc3339(NOW - 60_000))
        assert (default.grid_g_per_kwh, default.grid_source, default.grid_time) == (
            tables.constant("grid_gco2_per_kwh_default"),
            "default",
            None,
        )
        ratio = last.co2_electricity.value / default.co2_electricity.value
        assert ratio == pytest.approx(123.4 / default.grid_g_per_kwh, rel=1e-2)
        assert last.co2_electricity.hi95 / last.co2_electricity.value < default.co2_electricity.hi95 / default.co2_electricity.value
        assert last.co2_total == default.co2_total, "the tailpipe knows no grid"


@pytest.mark.parametrize(("env", "said"), [({}, "left alone"), ({"FINGRID_API_KEY": "wrong-canary"}, "401")])
async def test_without_the_right_key_the_default_stands_and_the_feed_says_why(fingrid: TestServer, env: dict[str, str], said: str) -> None:
    envelopes = await asked(fingrid, env)
    details = " ".join(e.source.detail or "" for e in envelopes if e.source)
    assert said in details
    assert "wrong-canary" not in details
    assert {r.grid_source for r in replayed(envelopes)[0]} == {"default"}
