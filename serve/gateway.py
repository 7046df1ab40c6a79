"""The gateway: open topics in, REST, event streams and the live map out. It only serves; everything it knows came through Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest, start_http_server

from connectors.evidence import KafkaEvidence
from models.clock import rfc3339
from models.errors import ConfigError
from serve import archived, assets, city_days, describe, explain, looking_back, metrics, ogc, rest
from serve.describe import PUBLIC, Public
from serve.door import Door, Keys, RateLimit, in_time, limited, listen
from serve.explain import EvidenceLog
from serve.history import History
from serve.http import AccessLogger, errors, on_prepare, security_headers
from serve.hub import Hub
from serve.log import KafkaLog, Log
from serve.reader import Reader
from serve.rest import BACKGROUND, CITIES, City, Served
from serve.state import Applied, Picture
from serve.views import routes as views

log = logging.getLogger("serve")

READER = web.AppKey("reader", Reader)
#: How long open requests may take to end when the gateway stops, s.
SHUTDOWN_S = 5.0


def check_background(background: str | None) -> str | None:
    """The address of raster tiles, if it is one.

    Raises:
        ConfigError: not an http(s) address with ``{z}``, ``{x}`` and ``{y}``.
    """
    if background is None:
        return None
    parts = urlsplit(background)
    sane = parts.netloc and not set(background) & set(" ;,'\"\\") and all(part in background for part in ("{z}", "{x}", "{y}"))
    if parts.scheme not in ("http", "https") or not sane or "{" in parts.netloc or "@" in parts.netloc:
        raise ConfigError("serve", "background", background, "an address like https://tiles.example/{z}/{x}/{y}.png")
    return background


def check_public(url: str | None) -> str | None:
    """The gateway's own address, without a slash at its end.

    Raises:
        ConfigError: not the address of a web server.
    """
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or set(url) & set(" <>\"'"):
        raise ConfigError("serve", "public-url", url, "an address like https://traffic.example")
    return url.rstrip("/")


def make_app(
    cities: Sequence[City],
    *,
    reader: Reader | None = None,
    pictures: dict[str, Picture] | None = None,
    background: str | None = None,
    log: Log | None = None,
    evidence: EvidenceLog | None = None,
    public: Public | None = None,
    per_minute: int = 0,
    archive: History | None = None,
    keys: Keys | None = None,
    door: Door | None = None,
    metrics_apart: tuple[str, int] | None = None,
) -> web.Application:
    """The application.

    Args:
        reader: feeds the pictures; without one it is always ready, and somebody else feeds them.
        pictures: by city; new ones when they are not given.
        log: where those who come back late are given what they missed from; without it only from memory.
        evidence: where the evidence of past minutes is; without it nothing is explained.
        public: how the gateway and the broker are reached.
        per_minute: requests that one address may make; 0: as many as it likes.
        archive: what the past is read from; without it there is none.
        keys: of those who have a limit of their own.
        door: whose figures are told with the others.
        metrics_apart: address and port of a listener of their own for /metrics; without it they are among the pages that everybody may read.
    """
    app = web.Application(middlewares=[errors, limited(RateLimit(per_minute), keys or Keys()), in_time])
    app[PUBLIC] = public or Public()
    by_name: dict[str, Served] = {}

    def status(name: str) -> dict[str, object]:
        s = by_name[name]
        trouble = reader.problem() if reader is not None else None
        return {
            "city": name,
            "ready": trouble is None,
            "detail": trouble,
            "server_time": rfc3339(time.time_ns() // 1_000_000),
            "log_time": s.picture.log_time,
            "network": s.network_tag,
            "simulated": s.picture.simulated,
        }

    for city in cities:
        held = (pictures or {}).get(city.name) or Picture(city.name)
        by_name[city.name] = Served(city, held, Hub(held, partial(status, city.name), log))
    app[CITIES] = by_name
    app[BACKGROUND] = {"tiles": tiles} if (tiles := check_background(background)) else {}
    if reader is not None:
        app[READER] = reader
    figures = metrics.registry(reader, by_name, door)

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(_: web.Request) -> web.Response:
        trouble = reader.problem() if reader is not None else None
        body = {"ready": trouble is None, **({"detail": trouble} if trouble else {})}
        return web.Response(body=msgspec.json.encode(body), status=503 if trouble else 200, content_type="application/json")

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(figures), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    if metrics_apart is None:
        app.add_routes([web.get("/metrics", show_metrics)])
    else:
        host, port = metrics_apart
        server, thread = start_http_server(port, host, figures)

        async def end_metrics(_: web.Application) -> None:
            server.shutdown()
            server.server_close()
            thread.join(5)

        app.on_cleanup.append(end_metrics)
    archived.add_routes(app)
    if archive is not None:
        app[archived.ARCHIVED] = archived.Archived(archive)
    views.add_routes(app)  # before the records of any product: its paths are longer
    rest.add_routes(app)
    ogc.add_routes(app)
    looking_back.add_routes(app)
    city_days.add_routes(app)
    describe.add_routes(app)
    explain.add_routes(app, evidence)
    assets.add_routes(app)
    app.on_response_prepare.append(on_prepare(security_headers(background)))

    async def close_streams(_: web.Application) -> None:
        for s in by_name.values():
            s.hub.close()

    app.on_shutdown.append(close_streams)
    return app


async def serve(
    cities: Sequence[City],
    bootstrap: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    prefix: str = "",
    stop: asyncio.Event,
    background: str | None = None,
    public_url: str | None = None,
    public_kafka: str | None = None,
    per_minute: int = 0,
    archive: str | None = None,
    keys: Keys | None = None,
    metrics_apart: tuple[str, int] | None = None,
) -> None:
    """Serve until ``stop`` is set.

    Args:
        prefix: of the topics, e.g. a replay's.
        public_url, public_kafka: how the gateway and the broker are reached from outside, where that differs from ``host:port`` and ``bootstrap``.
        per_minute: requests that one address may make; 0: as many as it likes.
        archive: folder or address of an archive, for the past.
        keys: of those who have a limit of their own.
        metrics_apart: see ``make_app``.

    Raises:
        ConfigError: ``background`` is not an address of raster tiles, or ``public_url`` not one of a web server.
        OSError: the address cannot be listened on.
    """
    public = Public(check_public(public_url), public_kafka or bootstrap.partition(",")[0], prefix)
    pictures = {city.name: Picture(city.name, prefix) for city in cities}

    def tell(picture: Picture, batch: list[tuple[Applied, int, int]]) -> None:
        app[CITIES][picture.city].hub.publish(batch)

    def begin(picture: Picture, product: str, partition: int, offset: int) -> None:
        app[CITIES][picture.city].hub.begin(product, partition, offset)

    warming: set[asyncio.Task[object]] = set()

    def ready() -> None:
        for s in app[CITIES].values():
            s.hub.announce("ready")
            warming.add(asyncio.create_task(s.tiles.get(0, 0, 0)))  # the network is laid out before somebody waits for it

    reader = Reader(list(pictures.values()), bootstrap, tell, ready, begin)
    app = make_app(
        cities,
        reader=reader,
        pictures=pictures,
        background=background,
        log=KafkaLog(bootstrap, prefix),
        evidence=KafkaEvidence(bootstrap, prefix),
        public=public,
        per_minute=per_minute,
        archive=History(archive) if archive is not None else None,
        keys=keys,
        door=(door := Door()),
        metrics_apart=metrics_apart,
    )
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S, handler_cancellation=True)
    await runner.setup()
    assert runner.server is not None
    watching = asyncio.create_task(door.watch())
    reading: asyncio.Task[None] | None = None
    stopping = asyncio.create_task(stop.wait())
    listening: asyncio.Server | None = None
    try:
        listening = await listen(
            runner.server, host, port, door, security_headers(background),
            access_log_class=AccessLogger, access_log=logging.getLogger("serve.access"),
        )  # fmt: skip
        log.info("serving %s on http://%s:%d/", ", ".join(sorted(pictures)), host, port)
        reading = asyncio.create_task(reader.run(stop))
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
    finally:
        for task in (stopping, watching, *warming):
            task.cancel()
        if listening is not None:
            listening.close()
        await runner.cleanup()
        if reading is not None:
            if not stop.is_set():
                reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
