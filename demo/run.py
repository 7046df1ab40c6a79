"""The demo's feeds: simulated vehicles and loops, played by local servers, under the addresses that a city file may name instead of the live ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import msgspec

from connectors import cities
from connectors.cities import FeedSettings
from demo.documents import documents
from demo.player import Player, base_at
from demo.recording import HELSINKI, Recording, load
from demo.servers import Listener, Published, Tls, http_server, mqtt_broker, pick_port, publisher, teller, wall_clock
from demo.towns import Living
from geo.network import Network


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers listen."""

    mqtt: str
    http: str
    mqtt_ws: str | None = None
    mqtt_tls: str | None = None


def told_of(feed: FeedSettings, paths: frozenset[str]) -> bool:
    """Whether the servers have a feed: all of its documents, or its messages."""
    return all(urlsplit(h.url).path in paths for h in feed.http)


def overrides(city: cities.City, addresses: Addresses, paths: frozenset[str]) -> dict[str, object]:
    """What the demo changes in a city file, by dotted key: the servers' names and ports, that vehicles are simulated, and which feeds there are. Paths, topics,
    cadence stay. Feeds that the servers lack are taken out: nothing is asked of anybody who is not on this machine."""
    changes: dict[str, object] = {}
    for feed in city.feeds:
        at = f"feeds.{feed.name}"
        if not told_of(feed, paths):
            changes[at] = None
            continue
        changes[f"{at}.simulated"] = True
        changes[f"{at}.allow_private"] = True
        if feed.mqtt is not None:
            changes[f"{at}.mqtt.url"] = addresses.mqtt
        for k, http in enumerate(feed.http):
            server, path = urlsplit(addresses.http), urlsplit(http.url)
            changes[f"{at}.http.{k}.url"] = urlunsplit((server.scheme, server.netloc, path.path, path.query, ""))
    return changes


class DemoFeeds:
    """Local servers that play a recording and let invented towns live; an async context manager.

    ``async with DemoFeeds() as feeds: connect(feeds.city())``
    """

    def __init__(
        self,
        folder: Path | None = HELSINKI,
        *,
        towns: Mapping[str, Network] | None = None,
        host: str = "127.0.0.1",
        mqtt_port: int = 0,
        http_port: int = 0,
        mqtt_ws_port: int | None = None,
        mqtt_tls_port: int | None = None,
        tls: Tls | None = None,
        speed: float = 1.0,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """
        Args:
            folder: a recording, see ``demo/data/README.md``; None: none is played.
            towns: networks of invented towns by name, see ``demo/towns.py``.
            mqtt_port, http_port: 0 takes any free port.
            mqtt_ws_port, mqtt_tls_port: None: no such listener; 0 any free port.
            tls: certificate for the TLS listener.
            speed: times as fast as real time, see ``servers.wall_clock``.
            clock: milliseconds since 1970; the wall clock unless told otherwise.

        Raises:
            ValueError: a TLS port without certificate, or a speed not above 0.
        """
        if mqtt_tls_port is not None and tls is None:
            raise ValueError("mqtt_tls_port needs tls, a certificate and its key")
        if not speed > 0:
            raise ValueError(f"speed = {speed}, expected > 0")
        self._folder, self._host, self._speed, self._tls = folder, host, speed, tls
        self._towns = towns or {}
        self._ports = {"mqtt": mqtt_port, "ws": mqtt_ws_port, "tls": mqtt_tls_port, "http": http_port}
        self._clock = clock or wall_clock(speed)
        self._stack = AsyncExitStack()
        self._addresses: Addresses | None = None
        self.published = Published()

    async def __aenter__(self) -> Self:
        """
        Raises:
            ConfigError: no recording there, a port that is taken, amqtt missing. Nothing stays open then.
        """
        if self._folder is not None:
            recording: Recording = load(self._folder)
            self.player: Player | None = Player(recording, base_at(recording, self._clock()))
        else:
            self.player = None
        living = Living(self._towns, self._clock())
        served = documents(self.player, living)
        self._paths = frozenset(d.path for d in served)
        host, ports = self._host, {k: pick_port(self._host, p, f"{k}_port") for k, p in self._ports.items() if p is not None}
        doors = {"default": Listener("tcp", ports["mqtt"])}
        if "ws" in ports:
            doors["ws"] = Listener("ws", ports["ws"])
        if "tls" in ports:
            doors["tls"] = Listener("tcp", ports["tls"], self._tls)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(http_server(host, ports["http"], served, self._clock))
            await stack.enter_async_context(mqtt_broker(host, doors))
            if self.player is not None:
                self.published = await stack.enter_async_context(publisher(host, ports["mqtt"], self.player, self._clock, self._speed))
            if living.traffic:
                await stack.enter_async_context(teller(host, ports["mqtt"], living.advance, living.messages, self._clock, self._speed))
            self._stack = stack.pop_all()
        name = f"[{host}]" if ":" in host else host
        self._addresses = Addresses(
            mqtt=f"mqtt://{name}:{ports['mqtt']}",
            http=f"http://{name}:{ports['http']}",
            mqtt_ws=f"ws://{name}:{ports['ws']}/mqtt" if "ws" in ports else None,
            mqtt_tls=f"mqtts://{name}:{ports['tls']}" if "tls" in ports else None,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._addresses = None
        await self._stack.aclose()

    @property
    def addresses(self) -> Addresses:
        """Where the servers listen.

        Raises:
            RuntimeError: they do not: outside ``async with``.
        """
        if self._addresses is None:
            raise RuntimeError("the feeds are not running; use: async with DemoFeeds() as feeds")
        return self._addresses

    def city(self, city: cities.City | str = "helsinki") -> cities.City:
        """The city as its own file has it, with these servers' addresses.

        Raises:
            ConfigError: no such city.
        """
        return cities.load(city if isinstance(city, str) else city.name, self.overrides(city))

    def overrides(self, city: cities.City | str = "helsinki") -> dict[str, object]:
        """The same as dotted keys, for a process that loads the city file itself."""
        return overrides(cities.load(city) if isinstance(city, str) else city, self.addresses, self._paths)

    def set_options(self, city: cities.City | str = "helsinki") -> list[str]:
        """The same as options of the command line: ``--set KEY=VALUE …``, values as JSON."""
        return [part for key, value in self.overrides(city).items() for part in ("--set", f"{key}={json.dumps(value)}")]
