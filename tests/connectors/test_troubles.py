"""What may befall a feed, from its server through connector, raw log and core to feed-health: told within 90 s of log time with its reason, politely, and over by itself."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from typing import Any

import msgspec
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from google.transit import gtfs_realtime_pb2 as pb

from connectors import run
from connectors.cities import City, Http, load
from connectors.envelope import decode
from connectors.run import FeedConnector
from models.clock import parse_ms
from streams.offline import Run, replay
from tests.streams import kit

#: Log time: the feed is well until ``ILL``, ill until ``WELL``, and listened to until ``END``. Seconds.
ILL, WELL, END = 60, 240, 375
STEP_S = 2.5
TOLD_S = 90


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.ms = kit.T0
        self.waiting: dict[int, float] = {}
        self._next = 0

    @property
    def seconds(self) -> float:
        return (self.ms - kit.T0) / 1000

    async def sleep(self, stop: asyncio.Event, seconds: float) -> None:
        me, self._next = self._next, self._next + 1
        self.waiting[me] = self.ms + 1000 * seconds
        while self.ms < self.waiting[me] and not stop.is_set():
            await asyncio.sleep(0.001)
        del self.waiting[me]

    def idle(self) -> bool:
        """The poller waits for a time that has not come."""
        return bool(self.waiting) and all(until > self.ms for until in self.waiting.values())


class Log:
    """Takes what Kafka would."""

    def __init__(self, topic: str) -> None:
        self.topic, self.envelopes = topic, list[Any]()

    async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[None]:
        if topic == self.topic:
            self.envelopes.append(decode(value))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def positions(at_ms: int, vehicles: int = 2) -> bytes:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = at_ms // 1000
    for k in range(vehicles):
        v = message.entity.add(id=str(k)).vehicle
        v.vehicle.id, v.timestamp = f"18/{k}", at_ms // 1000
        v.position.latitude, v.position.longitude = kit.degrees(kit.EAST + 300.0, kit.NORTH)
    return message.SerializeToString()


Trouble = Callable[[web.Request, Clock], web.StreamResponse]


def _date(clock: Clock, later_s: float = 0) -> str:
    return formatdate(clock.ms / 1000 + later_s, usegmt=True)


def _die(request: web.Request, clock: Clock) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _with_date(status: int, retry: Callable[[Clock], str]) -> Trouble:
    return lambda r, c: web.Response(status=status, headers={"Retry-After": retry(c), "Date": _date(c)})


#: What the server does -> states that feed-health may show for it, status, words of its detail, and how often the server may be asked while it lasts.
ROWS: dict[str, tuple[Trouble, set[str], int | None, str, int]] = {
    "dies": (_die, {"degraded", "dead"}, None, "Disconnected|not reached", 12),
    "freezes": (lambda r, c: web.Response(body=positions(kit.T0 + 1000 * ILL)), {"stale"}, 200, "frozen: nothing newer than", 80),
    "empty": (lambda r, c: web.Response(body=positions(c.ms, 0)), {"empty"}, 200, "hold nothing", 80),
    "unchanged": (lambda r, c: web.Response(status=304), {"stale"}, 304, "unchanged .HTTP 304.", 80),
    "html": (lambda r, c: web.Response(text="<html>maintenance</html>"), {"degraded", "stale"}, 200, "events refused", 80),
    "unauthorised": (lambda r, c: web.Response(status=401), {"degraded", "dead"}, 401, "HTTP 401", 12),
    "not acceptable": (lambda r, c: web.Response(status=406), {"degraded", "dead"}, 406, "HTTP 406", 12),
    "too many, seconds": (_with_date(429, lambda c: "70"), {"degraded", "dead"}, 429, "HTTP 429", 4),
    "too many, date": (_with_date(429, lambda c: _date(c, 70)), {"degraded", "dead"}, 429, "HTTP 429", 4),
    "fails": (lambda r, c: web.Response(status=500), {"degraded", "dead"}, 500, "HTTP 500", 12),
    "redirects": (
        lambda r, c: web.Response(status=302, headers={"Location": "http://elsewhere.example/feed"}),
        {"degraded", "dead"}, 302, "redirected to another host, elsewhere.example", 12,
    ),
    "certificate": (lambda r, c: web.Response(), {"degraded", "dead"}, None, "[Cc]ertificate", 12),
}  # fmt: skip

Lived = Callable[[str], Awaitable[tuple[City, Log, list[float]]]]


@pytest.fixture
async def lived(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AsyncIterator[Lived]:
    """The feed's life: its city, what its connector wrote, and when the server was asked."""
    servers: list[TestServer] = []

    async def live(name: str) -> tuple[City, Log, list[float]]:
        clock, asked = Clock(), list[float]()
        trouble, good, bad = ROWS[name][0], trustme.CA(), trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        good.issue_cert("localhost").configure_cert(context)
        good.cert_pem.write_to_path(tmp_path / "ca.pem")
        tls = name == "certificate"

        async def handler(request: web.Request) -> web.StreamResponse:
            asked.append(clock.seconds)
            ill = ILL <= clock.seconds < WELL
            response = trouble(request, clock) if ill else web.Response(body=positions(clock.ms))
            response.force_close()
            return response

        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        server = TestServer(app, scheme="https" if tls else "http")
        await server.start_server(ssl=context if tls else None)
        servers.append(server)
        url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.port}/feed"
        whole = load("helsinki")
        http = (Http(url=url, every_s=5, ca_file=str(tmp_path / "ca.pem") if tls else None),)
        feed = msgspec.structs.replace(whole.feed("gtfs_rt"), secondary_to=None, allow_private=True, http=http)
        city = msgspec.structs.replace(whole, feeds=(feed,), area=None)
        monkeypatch.setattr(run, "_sleep", clock.sleep)
        monkeypatch.setattr(run, "DRAIN_S", 0.001)
        log, stop = Log("raw.helsinki.gtfs_rt"), asyncio.Event()
        task = asyncio.create_task(FeedConnector(city, feed, now_ms=lambda: clock.ms).run(log, "", stop))  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while clock.seconds < END:
                while not (clock.idle() and log.envelopes and log.envelopes[-1].ingest_ms > clock.ms - 5_000):
                    await asyncio.sleep(0.001)
                clock.ms += int(1000 * STEP_S)
                if tls and clock.seconds in (ILL, WELL):
                    (bad if clock.seconds == ILL else good).issue_cert("localhost").configure_cert(context)
        stop.set()
        await task
        return city, log, asked

    yield live
    for s in servers:
        await s.close()


@pytest.mark.parametrize("name", ROWS)
async def test_feed_health_tells_the_trouble_and_its_end_and_the_server_is_left_in_peace(name: str, lived: Lived) -> None:
    _, states, status, words, most = ROWS[name]
    city, log, asked = await lived(name)
    core = Run(city, kit.network())
    outputs = list(replay(core, [("gtfs_rt", 0, e) for e in log.envelopes]))
    told = [r for out in outputs for r in kit.records(out, "feed-health")]
    at = [(parse_ms(r["event_time"]) - kit.T0) / 1000 for r in told]
    assert {r["state"] for r, t in zip(told, at, strict=True) if 15 < t <= ILL} == {"ok"}
    ill = [r for r, t in zip(told, at, strict=True) if ILL + TOLD_S <= t <= WELL]
    assert {r["state"] for r in ill} <= states
    for r in ill:
        assert r.get("http_status") == status
        assert re.search(words, r["detail"]), r["detail"]
    assert {r["state"] for r, t in zip(told, at, strict=True) if WELL + TOLD_S <= t <= END - 15} == {"ok"}
    if name != "certificate":
        assert 1 <= sum(ILL <= t < WELL for t in asked) <= most
