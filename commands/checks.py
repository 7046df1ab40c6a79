"""Commands that tell whether a city is in order."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from commands.shared import load_city, load_network, network_folder, with_network
from models.errors import EXIT_FAILED, ConfigError


@click.command(epilog="Example: tilannekuva check helsinki")
@click.argument("city")
@click.option("--broker", help="Kafka address to look for.")
@with_network
def check(city: str, broker: str | None, network: Path | None) -> None:
    """What is in order: settings, network, broker; one line each. Exit 78 where something is wrong."""
    c = load_city(city)
    click.echo(f"city       ok    {c.title}: feeds {', '.join(f.name for f in c.feeds)}; {c.licence}")
    net = load_network(c, network)
    click.echo(f"network    ok    {len(net.segments):,} segments, {len(net.shapes):,} shapes, version {net.version[:12]}, {net.source}")
    if broker:
        host, _, port = broker.rpartition(":")
        if not port.isdigit():
            raise ConfigError("command line", "--broker", broker, "HOST:PORT")
        import socket

        try:
            socket.create_connection((host, int(port)), timeout=3).close()
        except OSError as e:
            raise ConfigError("command line", "--broker", broker, f"a broker that answers ({e})") from e
        click.echo(f"broker     ok    {broker} answers")


@click.command(epilog="Example: tilannekuva conform tampere --recording recordings/tampere")
@click.argument("city")
@click.option(
    "--recording",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="File or folder of recordings; repeatable. Those of the project: tests/recordings/CITY.",
)
@with_network
def conform(city: str, paths: tuple[Path, ...], network: Path | None) -> None:
    """Run recordings of a CITY through the core: what became of every message, which fields each product fills. Exit 1 where a product breaks its contract."""
    from streams import conform as kit

    c = load_city(city)
    folder = network or network_folder(c)
    report = kit.conform(c, paths, load_network(c, folder) if network is not None or folder.exists() else None)
    click.echo(kit.text(report))
    if not report.ok:
        sys.exit(EXIT_FAILED)
