"""Local servers that answer as the live ones do: an MQTT broker like ``mqtt.hsl.fi``, and HTTP like ``realtime.hsl.fi`` and ``tie.digitraffic.fi``.

They hold the clock; what they say is ``demo/player.py``'s. Everything listens on one address, the loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from demo.player import Player
from models.errors import ConfigError

log = logging.getLogger(__name__)
Clock = Callable[[], int]  #: milliseconds since 1970

STOP_S = 3.0  #: a server that has not stopped by then is left behind


def wall_clock(speed: float = 1.0) -> Clock:
    """The wall clock; with another speed, one that shows the right time now and then runs so many times as fast.

    Faster than 1 is for load: the times in the data then run ahead of the wall clock too, and who checks them quarantines them after two minutes.
    """
    began_ns = time.time_ns()
    return lambda: (began_ns + round((time.time_ns() - began_ns) * speed)) // 1_000_000


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate for the broker's TLS listener."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Listener:
    """One door of the broker."""

    kind: str  #: tcp or ws
    port: int
    tls: Tls | None = None


def pick_port(host: str, wanted: int, key: str) -> int:
    """A port that can be bound now: ``wanted``, or any free one when that is 0.

    Raises:
        ConfigError: the wanted port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, wanted))
        except OSError as e:
            raise ConfigError("demo", key, wanted, f"a free port on {host}, or 0 for any ({e.strerror})") from e
        return int(s.getsockname()[1])


@asynccontextmanager
async def mqtt_broker(host: str, listeners: dict[str, Listener]) -> AsyncIterator[None]:
    """An MQTT 3.1.1 broker for anonymous clients (amqtt).

    Raises:
        ConfigError: amqtt is not installed, or a port was taken meanwhile.
    """
    try:
        from amqtt.broker import Broker
        from amqtt.errors import BrokerError
    except ImportError as e:
        raise ConfigError("demo", "install", str(e), "the extra 'demo': pip install 'tilannekuva[demo]'") from e
    for name in ("amqtt", "transitions", "websockets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they log each client's coming and going, and repeat what is raised
    doors: dict[str, dict[str, Any]] = {}
    for name, listener in listeners.items():
        doors[name] = {"type": listener.kind, "bind": f"{host}:{listener.port}", "max_connections": 100}
        if listener.tls is not None:
            doors[name] |= {"ssl": True, "certfile": str(listener.tls.certificate), "keyfile": str(listener.tls.key)}
    broker = Broker({"listeners": doors, "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}})
    try:
        await broker.start()
    except BrokerError as e:
        for server in broker._servers.values():  # amqtt leaves the doors open that it could open
            server.instance.close()
        raise ConfigError(
            "demo", "mqtt", ", ".join(f"{host}:{x.port}" for x in listeners.values()), f"ports that can be listened on ({e})"
        ) from e
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(broker.shutdown(), STOP_S)


@dataclass(frozen=True, slots=True)
class Document:
    """Something that is polled."""

    path: str  #: ``{stops}`` in it stands for a stop
    at: Callable[..., tuple[int, bytes]]  #: now -> when it was last changed (ms since 1970), and what it is
    content_type: str = "application/json"
    gzip_only: bool = False
    key: tuple[str, str] | None = None  #: header without whose value it is refused
    method: str = "GET"
    of_stops: bool = False  #: ``at`` is also told the stops that are asked for, in path or query


@asynccontextmanager
async def http_server(host: str, port: int, documents: Sequence[Document], clock: Clock) -> AsyncIterator[None]:
    """Documents over HTTP.

    Raises:
        ConfigError: the port was taken meanwhile.
    """
    runner = web.AppRunner(http_app(documents, clock), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as e:
            raise ConfigError("demo", "http_port", port, f"a free port on {host} ({e.strerror})") from e
        yield
    finally:
        await runner.cleanup()


def http_app(documents: Sequence[Document], clock: Clock) -> web.Application:
    """The application behind ``http_server``."""

    def route(d: Document) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            gzip = _accepts_gzip(request.headers.get("Accept-Encoding", ""))
            if d.key is not None and request.headers.get(d.key[0]) != d.key[1]:
                return web.Response(status=401)
            if d.gzip_only and not gzip:
                return web.Response(status=406, text="Use of gzip compression is required with Accept-Encoding: gzip header.")
            stops = request.match_info.get("stops") or request.query.get("stops", "")
            changed_ms, body = d.at(clock(), stops) if d.of_stops else d.at(clock())
            etag = hashlib.sha256(body).hexdigest()[:32]
            known = request.if_none_match or ()
            fresh = any(tag.value in (etag, "*") for tag in known)
            response = web.Response(status=304) if fresh else web.Response(body=body, content_type=d.content_type)
            response.etag = etag
            response.last_modified = changed_ms / 1000
            response.headers["Vary"] = "Accept-Encoding"
            response.headers["X-Simulated"] = "true"
            if gzip and not fresh:
                response.enable_compression(web.ContentCoding.gzip)
            return response

        return answer

    app = web.Application()
    for d in documents:
        app.router.add_route(d.method, d.path, route(d))
    return app


def _accepts_gzip(header: str) -> bool:
    for choice in header.lower().split(","):
        coding, _, weight = choice.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


@dataclass(slots=True)
class Published:
    """What the publisher did, for people."""

    messages: int = 0
    skipped: int = 0  #: due while the machine slept or the broker was away


@asynccontextmanager
async def publisher(host: str, port: int, player: Player, clock: Clock, speed: float = 1.0) -> AsyncIterator[Published]:
    """Plays the HFP messages into the broker through an ordinary MQTT client, each when it is due, for ever."""
    async with _client(host, port, "recorded-vehicles") as client:
        done = Published()
        async with _running(_publish(client, player, clock, speed, done)):
            yield done


@asynccontextmanager
async def teller(
    host: str, port: int, advance: Callable[[int], None], say: Callable[[], Iterable[tuple[str, bytes]]], clock: Clock, speed: float = 1.0
) -> AsyncIterator[None]:
    """Lets something live, a second a step, and publishes what it says in each: topics and payloads."""
    async with _client(host, port, "invented-vehicles") as client, _running(_tell(client, advance, say, clock, speed)):
        yield


@asynccontextmanager
async def _client(host: str, port: int, name: str) -> AsyncIterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311)
    client.connect_async(host, port, keepalive=30)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _tell(
    client: mqtt.Client, advance: Callable[[int], None], say: Callable[[], Iterable[tuple[str, bytes]]], clock: Clock, speed: float
) -> None:
    while True:
        now_ms = clock()
        advance(now_ms)
        if client.is_connected():
            for k, (topic, payload) in enumerate(say()):
                client.publish(topic, payload, qos=0)
                if k % 20 == 19:
                    await asyncio.sleep(0)  # let the broker breathe
        await asyncio.sleep(max(0.02, (1000 - clock() % 1000) / 1000 / speed))


async def _publish(client: mqtt.Client, player: Player, clock: Clock, speed: float, done: Published) -> None:
    while not client.is_connected():  # noqa: ASYNC110 paho tells in its own thread
        await asyncio.sleep(0.02)
    at = player.next_message(clock())
    while True:
        due_ms, topic, payload = player.message_at(*at)
        behind_ms = clock() - due_ms
        if behind_ms < 0:
            await asyncio.sleep(-behind_ms / 1000 / speed)
        elif behind_ms > 5_000 * speed or not client.is_connected():
            await asyncio.sleep(0.1)
            now = player.next_message(clock())
            while at != now and at < now:  # count what nobody will hear, then go on with what is due
                at, done.skipped = player.after(*at), done.skipped + 1
            continue
        client.publish(topic, payload, qos=0)
        done.messages += 1
        at = player.after(*at)
        if done.messages % 20 == 0:
            await asyncio.sleep(0)  # let the broker breathe when many are due at once
