"""Commands that tell whether a city is in order."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from commands.shared import load_city, load_network, network_folder, run, with_network, with_settings
from models.errors import EXIT_FAILED, ConfigError

with_seconds = click.option(
    "--for", "seconds", default=20.0, show_default=True, type=click.FloatRange(min=0), help="Seconds to listen to the live feeds."
)


@click.command(epilog="Example: tilannekuva check helsinki")
@click.argument("city")
@click.option("--broker", help="Kafka address: how old is the newest record of each topic, how are the feeds?")
@with_seconds
@with_network
@with_settings
def check(city: str, broker: str | None, seconds: float, network: Path | None, settings: tuple[str, ...]) -> None:
    """What is in order: settings, network, broker, and every feed, reached now; one line each.

    Exit 78 where a setting is wrong, 1 where a feed is not reached, not understood or stale. With --for 0 no feed is reached.
    """
    from commands import broker_state, live, words
    from connectors.stops import with_stops
    from streams import conform as kit

    c = load_city(city, settings)
    click.echo(f"city       ok    {c.title}: feeds {', '.join(f.name for f in c.feeds)}; {c.licence}")
    net = load_network(c, network)
    click.echo(f"network    ok    {len(net.segments):,} segments, {len(net.shapes):,} shapes, version {net.version[:12]}, {net.source}")
    wrong = 0
    if broker:
        _reached(broker)
        click.echo(f"broker     ok    {broker} answers")
        for line, good in asyncio.run(broker_state.lines(c, broker, time.time_ns() // 1_000_000)):
            click.echo(line)
            wrong += not good
    if seconds:
        heard: list[Any] = []

        async def listen(stop: asyncio.Event) -> None:
            heard.append(await live.listen(with_stops(c, network or network_folder(c)), seconds, stop, env=os.environ))

        run(listen)
        report = kit.conform_log(c, heard[0].log, net)
        for line, good in words.feeds(c, heard[0], report):
            click.echo(line)
            wrong += not good
    if wrong:
        sys.exit(EXIT_FAILED)


def _reached(broker: str) -> None:
    """
    Raises:
        ConfigError: it is no address, or nobody answers there.
    """
    host, _, port = broker.rpartition(":")
    if not port.isdigit():
        raise ConfigError("command line", "--broker", broker, "HOST:PORT")
    import socket

    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError as e:
        raise ConfigError("command line", "--broker", broker, f"a broker that answers ({e})") from e


@click.command(epilog="Example: tilannekuva conform tampere --recording tests/recordings/tampere")
@click.argument("city")
@click.option(
    "--recording",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File or folder of recordings; repeatable. Those of the project: tests/recordings/CITY. Without any: the live feeds.",
)
@with_seconds
@with_network
@with_settings
def conform(city: str, paths: tuple[Path, ...], seconds: float, network: Path | None, settings: tuple[str, ...]) -> None:
    """Run recordings of a CITY, or its live feeds, through the core: what became of every message, which fields each product fills.

    Exit 1 where a product breaks its contract, a feed is not reached or nothing of it can be read.
    """
    from commands import live
    from connectors.stops import with_stops
    from streams import conform as kit

    c = load_city(city, settings)
    folder = network or network_folder(c)
    net = load_network(c, folder) if network is not None or folder.exists() else None
    if paths:
        report = kit.conform(c, paths, net)
    else:
        heard: list[live.Heard] = []

        async def listen(stop: asyncio.Event) -> None:
            heard.append(await live.listen(with_stops(c, folder), seconds, stop))

        run(listen)
        report = kit.conform_log(c, heard[0].log, net)
        for name, source in heard[0].sources.items():
            if name not in heard[0].left_alone and name not in report.feeds and not source.connected:
                report.faults.append(f"{name}: not reached: {source.detail}")
        for name, why in heard[0].left_alone.items():
            click.echo(f"{name} is left alone: {why.removeprefix('left alone: ')}", err=True)
    click.echo(kit.text(report))
    if not report.ok:
        sys.exit(EXIT_FAILED)
