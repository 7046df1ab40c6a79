"""What every command uses: the city with its overrides, its network, common options, running until told to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click

from connectors import cities
from connectors.cities import City
from models.errors import ConfigError

log = logging.getLogger(__name__)
#: How long a process that is done waits for what does not end by itself, seconds.
LEAVE_S = 3.0


def data_folder() -> Path:
    """Where built networks and the broker's data live: ``$TILANNEKUVA_DATA``, else ``~/.local/share/tilannekuva``."""
    named = os.environ.get("TILANNEKUVA_DATA")
    return Path(named) if named else Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "tilannekuva"


def network_folder(city: City) -> Path:
    """Where ``network build`` puts a city's network unless told otherwise."""
    return data_folder() / "networks" / city.name


def load_network(city: City, folder: Path | None) -> Any:
    from geo import store

    folder = folder or network_folder(city)
    if not folder.exists():
        raise ConfigError(
            "network",
            "folder",
            str(folder),
            f"a built network; make one: tilannekuva network build {city.name} --osm FILE (or --lines ZIP)",
        )
    return store.load(folder)


def load_profile(city: City, network: Path | None, named: str | None) -> Any:
    """The city's speed profile: the file that is named, none for ``none``, else the one in the network's folder where there is one.

    Raises:
        ConfigError: not a profile, or another city's.
    """
    from streams import profiles

    file = (network or network_folder(city)) / profiles.NAME if named is None else Path(named)
    if named == "none" or (named is None and not file.is_file()):
        return None
    profile = profiles.load(file)
    if profile.city != city.name:
        raise ConfigError("command line", "--profile", str(file), f"a profile of {city.name}, not of {profile.city}")
    return profile


def values_of(settings: Sequence[str]) -> dict[str, object]:
    """``KEY=VALUE`` texts; values are JSON, or text where they are not.

    Raises:
        ConfigError: one without ``=``.
    """
    out: dict[str, object] = {}
    for s in settings:
        key, eq, value = s.partition("=")
        if not eq:
            raise ConfigError("command line", "--set", s, "KEY=VALUE")
        try:
            out[key] = json.loads(value)
        except ValueError:
            out[key] = value
    return out


def load_cities(names: Sequence[str], settings: Sequence[str] = ()) -> list[City]:
    """Cities with ``--set KEY=VALUE`` applied; values are JSON, or text where they are not. ``CITY:KEY=VALUE`` is for that one alone.

    Raises:
        ConfigError: a city twice, or a setting for a city that is not among them.
    """
    own: dict[str, dict[str, object]] = {Path(n).stem: {} for n in names}
    if len(own) < len(names):
        raise ConfigError("command line", "CITY", " ".join(names), "each city once")
    for s in settings:
        key, eq, value = s.partition("=")
        city, colon, rest = key.rpartition(":")
        if not eq or (colon and city not in own):
            raise ConfigError("command line", "--set", s, f"KEY=VALUE, or CITY:KEY=VALUE with a city of {', '.join(own)}")
        for overrides in [own[city]] if colon else own.values():
            overrides |= values_of([f"{rest}={value}"])
    return [cities.load(n, own[Path(n).stem] or None) for n in names]


def load_city(name: str, settings: Sequence[str] = ()) -> City:
    """One city, see ``load_cities``."""
    return load_cities([name], settings)[0]


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run until SIGTERM or Ctrl-C, then stop cleanly. What ``main`` raises is raised, whatever else still runs then: ``asyncio.run`` would wait for it without end."""

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for s in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(s, stop.set)
        try:
            await main(stop)
        finally:
            await _leave(loop)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(body())
    finally:
        asyncio.set_event_loop(None)
        if not asyncio.all_tasks(loop):
            loop.close()


async def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """What was started and not ended is cancelled, and waited for a little: clients of libraries may take no notice."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        _, left = await asyncio.wait(others, timeout=LEAVE_S)
        if left:
            log.warning("left behind: %s", ", ".join(sorted(t.get_name() for t in left)))
    with suppress(TimeoutError):
        await asyncio.wait_for(loop.shutdown_default_executor(), LEAVE_S)


with_broker = click.option(
    "--broker", default="127.0.0.1:9092", show_default=True, envvar="TILANNEKUVA_BROKER", help="Kafka address, HOST:PORT."
)
with_prefix = click.option("--prefix", default="", help="Put before every topic name, e.g. replay.storm. (a replay has topics of its own).")
with_network = click.option(
    "--network", type=click.Path(path_type=Path), help="Folder of a built network; default: where `network build` puts it."
)
with_profile = click.option(
    "--profile",
    metavar="FILE",
    help="Speed profile (`tilannekuva profile learn`), or `none`; default: the one in the network's folder, if any.",
)
with_settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the city file, e.g. feeds.hfp.mqtt.url=mqtt://127.0.0.1:1883; of several cities, CITY:KEY=VALUE is for one.",
)


def with_metrics(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``monitored``."""
    for option in (
        click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address to listen on for --metrics-port."),
        click.option("--metrics-port", type=int, help="Serve /healthz, /readyz and /metrics on this port."),
    ):
        command = option(command)
    return command


def monitored(watched: Sequence[Any], registry: Any, broker: str, host: str, port: int | None) -> AbstractContextManager[Any]:
    """``/healthz``, ``/readyz`` and ``/metrics`` while the process runs, where a port is given."""
    if port is None:
        return nullcontext()
    from connectors.kafka import security
    from streams.certificates import BrokerCertificate
    from streams.monitor import Monitor

    registry.register(BrokerCertificate(broker, security()))
    return Monitor(watched, registry, port, host)
