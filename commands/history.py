"""Commands that look back: what is kept, and what is made of it again."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
from click.core import ParameterSource

from commands.shared import (
    load_cities,
    load_city,
    load_network,
    load_profile,
    monitored,
    run,
    values_of,
    with_broker,
    with_metrics,
    with_network,
    with_prefix,
    with_profile,
    with_settings,
)
from models.errors import EXIT_FAILED, ConfigError


@click.command(epilog="Example: tilannekuva archive helsinki --to archive/")
@click.argument("names", metavar="CITY...", nargs=-1, required=True)
@click.option("--to", required=True, help="A folder, or s3://bucket/folder?region=...&endpoint_override=...")
@click.option("--until-end", is_flag=True, help="Stop when everything is in files that is in the topics now.")
@click.option("--raw/--no-raw", default=True, show_default=True, help="Raw topics too: without them nothing can be replayed.")
@click.option("--flush", "flush_s", default=60.0, show_default=True, help="Seconds until what was read is in a file.")
@click.option("--keep-days", default=0, show_default=True, help="Days after which open records are deleted; 0: never.")
@click.option(
    "--private-days", default=30, show_default=True,
    help="Days after which vehicles lose names and trips, and raw envelopes of vehicles are deleted; 30 at most (docs/privacy.md).",
)  # fmt: skip
@click.option("--memory-mb", default=160.0, show_default=True, help="Most that waits in memory.")
@with_metrics
@with_broker
@with_prefix
@with_settings
def archive(
    names: tuple[str, ...], to: str, until_end: bool, raw: bool, flush_s: float, keep_days: int, private_days: int, memory_mb: float, metrics_host: str,
    metrics_port: int | None, broker: str, prefix: str, settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Open and raw topics of cities into Parquet (GeoParquet where there is geometry), by product, city and day; each message once."""
    from prometheus_client import CollectorRegistry

    from streams import archive as archives
    from streams.archive_store import Store

    cities, registry = load_cities(names, settings), CollectorRegistry()
    limits = archives.ArchiveSettings(flush_s=flush_s, memory_mb=memory_mb, keep_days=keep_days, private_days=private_days)
    wanted = archives.sources(cities, prefix, raw=raw)
    archiver = archives.Archiver(wanted, Store(to, make=True), broker, limits, registry=registry)
    with monitored([archiver.progress], registry, broker, metrics_host, metrics_port):
        run(lambda stop: archiver.run(stop, until_end=until_end))


@click.command(epilog="Example: tilannekuva replay archive/ --city helsinki --day 2026-03-10 --to out/ --set fusion.half_life_s=120")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--city", help="Name or file of a city; default: that of --manifest.")
@click.option("--to", required=True, help="A folder for Parquet files, or 'kafka'.")
@click.option(
    "--manifest", "earlier", type=click.Path(dir_okay=False, path_type=Path),
    help="manifest.json of an earlier run to repeat: its city, days, options and parameters, on the same PATH; exit 1 when other bytes come out.",
)  # fmt: skip
@click.option(
    "--day", "days", multiple=True, metavar="YYYY-MM-DD", help="Of an archive: only what was received on this UTC day; may be repeated."
)
@click.option("--simulated", is_flag=True, help="Say in every record that this is simulated data.")
@click.option("--provisional", is_flag=True, help="Write provisional segment states too; default: only finals.")
@click.option(
    "--envelope", "envelope_items", default=200, show_default=True, help="Most messages in one envelope; changes nothing in the results."
)
@click.option(
    "--speed",
    type=float,
    help="With --to kafka: times as fast as it was recorded; default: as fast as it goes. SIGUSR1 pauses, and goes on.",
)
@click.option("--run", "run_name", default="1", show_default=True, help="With --to kafka: name of the run; topics are replay.<run>.*")
@click.option(
    "--fleet",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A fleet of your own for emissions, CSV: stream,category,fuel,segment,euro,technology,share; default: the city's.",
)
@with_broker
@with_network
@with_profile
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Replace a parameter (fusion.half_life_s=120, emissions.fleet_year=2020; docs/settings.md lists them) or a value of the city file.",
)  # fmt: skip
@click.pass_context
def replay(
    ctx: click.Context, paths: tuple[str, ...], city: str | None, to: str, earlier: Path | None, days: tuple[str, ...], simulated: bool, provisional: bool, envelope_items: int, speed: float | None,
    run_name: str, fleet: Path | None, broker: str, network: Path | None, profile: str | None,
    settings: tuple[str, ...],
) -> None:  # fmt: skip
    """An archive or recordings through the same core as the live data: into Parquet without a broker, or into Kafka topics of their own."""
    from streams import manifest, memory, replays
    from streams.whatif import Parameters, changed, is_parameter

    told = [s for s in settings if is_parameter(s.partition("=")[0])]
    like = manifest.read(earlier) if earlier is not None else None
    if like is not None:
        given = ctx.get_parameter_source("envelope_items") is not ParameterSource.DEFAULT
        if to == "kafka" or told or days or simulated or provisional or given:
            raise ConfigError("command line", "--manifest", str(earlier), "--to DIR, and no options or parameters beside it: it has them")
        days, simulated, provisional = tuple(like["options"]["days"]), like["options"]["simulated"], like["options"]["provisional"]
        envelope_items, city = like["options"]["envelope"], city or like["city"]["name"]
    if city is None:
        raise ConfigError("command line", "--city", "", "the name or file of a city")
    c = load_city(city, [s for s in settings if s not in told])
    parameters = changed(Parameters(fuse=replays.with_fleet(fleet)), values_of(told))
    if like is not None:
        parameters = manifest.parameters_of(like, parameters)
    if to == "kafka":
        if parameters != Parameters():
            raise ConfigError("command line", "--set", " ".join(settings), "--to DIR: with Kafka the worker has the parameters")

        async def main(stop: asyncio.Event) -> None:
            go = asyncio.Event()
            go.set()
            toggle = signal.SIGUSR1
            asyncio.get_running_loop().add_signal_handler(toggle, lambda: go.clear() if go.is_set() else go.set())
            await replays.to_kafka(
                paths, c, broker, run_name, speed=speed, max_items=envelope_items, simulated=simulated, stop=stop, go=go, days=days
            )

        run(main)
        click.echo(
            f"written to raw topics replay.{run_name}.raw.{c.raw_city}.*; process them: tilannekuva process {c.name} --prefix replay.{run_name}."
        )
        return
    net = load_network(c, network)
    memory.settle()
    summary = replays.to_folder(
        paths, c, net, Path(to), provisional=provisional, max_items=envelope_items, simulated=simulated,
        observe=parameters.observe, fuse=parameters.fuse, days=days,
        profile=load_profile(c, network, profile), like=like,
    )  # fmt: skip
    click.echo(summary)
    if like is not None:
        new = manifest.read(Path(to) / manifest.NAME)["outputs"]
        other = sorted(n for n in {*new, *like["outputs"]} if new.get(n) != like["outputs"].get(n))
        click.echo(f"other bytes than in {earlier}: {', '.join(other)}" if other else f"the same bytes as in {earlier}: {len(new)} files")
        if other:
            ctx.exit(EXIT_FAILED)
