"""The command line; read it first, it names every process.

Exit codes: 0 done, 1 failed, 70 our own bug, 78 bad configuration (with the key's name). Logs are JSON lines on stderr; what a command prints for people goes to stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from connectors import cities
from connectors.cities import City
from models import logs
from models.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_SOFTWARE, ConfigError

log = logging.getLogger("tilannekuva")


# ------------------------------------------------------------------------------------------------------------------ shared parts


def data_folder() -> Path:
    """Where built networks and the broker's data live: ``$TILANNEKUVA_DATA``, else ``~/.local/share/tilannekuva``."""
    named = os.environ.get("TILANNEKUVA_DATA")
    return Path(named) if named else Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "tilannekuva"


def network_folder(city: City) -> Path:
    """Where ``network build`` puts a city's network unless told otherwise."""
    return data_folder() / "networks" / city.name


def _load_network(city: City, folder: Path | None) -> Any:
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


def _city(name: str, settings: tuple[str, ...] = ()) -> City:
    """A city with ``--set KEY=VALUE`` applied; values are JSON, or text where they are not."""
    overrides: dict[str, object] = {}
    for s in settings:
        key, eq, value = s.partition("=")
        if not eq:
            raise ConfigError("command line", "--set", s, "KEY=VALUE")
        try:
            overrides[key] = json.loads(value)
        except ValueError:
            overrides[key] = value
    return cities.load(name, overrides or None)


def _run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run until SIGTERM or Ctrl-C, then stop cleanly."""

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for s in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(s, stop.set)
        await main(stop)

    asyncio.run(body())


_broker = click.option(
    "--broker", default="127.0.0.1:9092", show_default=True, envvar="TILANNEKUVA_BROKER", help="Kafka address, HOST:PORT."
)
_prefix = click.option("--prefix", default="", help="Put before every topic name, e.g. replay.storm. (a replay has topics of its own).")
_network = click.option(
    "--network", type=click.Path(path_type=Path), help="Folder of a built network; default: where `network build` puts it."
)
_set = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the city file, e.g. feeds.hfp.mqtt.url=mqtt://127.0.0.1:1883.",
)


class _Group(click.Group):
    """Turns our errors into exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as e:
            click.echo(f"configuration: {e}", err=True)
            ctx.exit(EXIT_CONFIG)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as e:
            from aiokafka.errors import KafkaError

            if isinstance(e, OSError | KafkaError):
                click.echo(f"failed: {e}", err=True)
                ctx.exit(EXIT_FAILED)
            log.critical("our own bug", exc_info=e)
            ctx.exit(EXIT_SOFTWARE)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), show_default=True)
@click.version_option(package_name="tilannekuva")
def cli(log_level: str) -> None:
    """One live, open, replayable picture of urban traffic, from the feeds that a city already has."""
    logs.to_stderr(log_level)


# --------------------------------------------------------------------------------------------------------------------- processes


@cli.command(epilog="Example: tilannekuva connect helsinki hfp")
@click.argument("city")
@click.argument("feeds", nargs=-1)
@_broker
@_prefix
@_set
def connect(city: str, feeds: tuple[str, ...], broker: str, prefix: str, settings: tuple[str, ...]) -> None:
    """Connectors: feeds of a CITY into raw topics, as received."""
    from connectors.run import connect as run_connectors
    from streams.admin import ensure_topics

    c = _city(city, settings)
    names = [c.feed(f).name for f in feeds] or [f.name for f in c.feeds]

    async def main(stop: asyncio.Event) -> None:
        await ensure_topics(broker, c, prefix)
        await run_connectors(c, names, broker, prefix=prefix, stop=stop)

    _run(main)


@cli.command(epilog="Example: tilannekuva process helsinki --broker kafka1:9092")
@click.argument("city")
@click.option("--stage", "stages", multiple=True, type=click.Choice(["observe", "fuse"]), help="Only this stage; default both.")
@click.option("--instance", default="1", show_default=True, help="Name of this worker among those of the city.")
@click.option("--replication", default=1, show_default=True, help="Copies of topics that are created.")
@click.option("--until-end", is_flag=True, help="Stop when everything in the raw topics is worked off and committed (after a replay).")
@click.option(
    "--session-timeout",
    default=12.0,
    show_default=True,
    help="Seconds after which the partitions of a worker that went silent go to others.",
)
@click.option("--metrics-port", type=int, help="Serve /healthz, /readyz and /metrics on this port of loopback.")
@_broker
@_prefix
@_network
@_set
def process(
    city: str,
    stages: tuple[str, ...],
    instance: str,
    replication: int,
    until_end: bool,
    session_timeout: float,
    metrics_port: int | None,
    broker: str,
    prefix: str,
    network: Path | None,
    settings: tuple[str, ...],
) -> None:
    """The Faust worker of a CITY: observe and fuse. Start more of them to share the work."""
    from streams import memory
    from streams.worker import CityWorker, WorkerSettings, run_worker

    c = _city(city, settings)
    net = _load_network(c, network)
    s = WorkerSettings(
        bootstrap=broker, prefix=prefix, stages=stages or ("observe", "fuse"), instance=instance, replication=replication,  # type: ignore[arg-type]
        until_end=until_end, session_timeout_s=session_timeout, metrics_port=metrics_port,
    )  # fmt: skip

    async def main(stop: asyncio.Event) -> None:
        worker = CityWorker(c, net, s)
        memory.settle()
        await run_worker(worker, stop)

    _run(main)


@cli.command(epilog="Example: tilannekuva serve helsinki --port 8080")
@click.argument("names", metavar="[CITY]...", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True)
@click.option(
    "--background",
    help="Address of raster tiles for a background map, with {z}/{x}/{y}; default: none, streets are drawn from our own network.",
)
@click.option("--public-url", help="Address under which subscribers reach the gateway; default: the one they used.")
@click.option("--public-kafka", help="HOST:PORT under which subscribers reach the broker; default: --broker.")
@click.option("--rate-limit", default=3000, show_default=True, help="Requests a minute from one address; 0: no limit (a proxy limits).")
@_broker
@_prefix
@_set
def serve(
    names: tuple[str, ...], host: str, port: int, background: str | None, public_url: str | None, public_kafka: str | None,
    rate_limit: int, broker: str, prefix: str, settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Gateway and dashboard of one or more cities."""
    from serve import gateway

    chosen = [_city(n, settings) for n in names or cities.names()]

    async def main(stop: asyncio.Event) -> None:
        await gateway.serve(
            chosen, broker, host=host, port=port, prefix=prefix, stop=stop, background=background, public_url=public_url,
            public_kafka=public_kafka, per_minute=max(0, rate_limit),
        )  # fmt: skip

    _run(main)


@cli.command(epilog="Example: tilannekuva demo --port 8080")
@click.option("--cities", "names", default="helsinki", show_default=True, help="Which, comma-separated.")
@click.option("--for", "for_s", type=float, help="Stop after so many seconds.")
@click.option("--port", default=8080, show_default=True)
@click.option("--embedded", is_flag=True, help="Use the broker that comes with pip even where Apache Kafka is installed (memory only).")
def demo(names: str, for_s: float | None, port: int, embedded: bool) -> None:
    """Everything on one machine with SIMULATED feeds in the real wire formats, through the real connectors, worker and gateway."""
    from demo.everything import demo as run_demo

    sys.exit(asyncio.run(run_demo(names.split(","), for_s=for_s, port=port, embedded=embedded, data=data_folder() / "demo")))


@cli.command(epilog="Example: tilannekuva up helsinki")
@click.argument("names", metavar="CITY...", nargs=-1, required=True)
@click.option("--broker", help="Kafka address; default: one started here.")
@click.option("--for", "for_s", type=float, help="Stop after so many seconds.")
@click.option("--port", default=8080, show_default=True)
@click.option("--embedded", is_flag=True, help="Use the broker that comes with pip even where Apache Kafka is installed (memory only).")
@_set
def up(names: tuple[str, ...], broker: str | None, for_s: float | None, port: int, embedded: bool, settings: tuple[str, ...]) -> None:
    """Everything on one machine with the live feeds."""
    from demo.everything import up as run_up

    for n in names:
        _load_network(_city(n, settings), None)
    sys.exit(
        asyncio.run(
            run_up(list(names), broker=broker, for_s=for_s, port=port, embedded=embedded, data=data_folder() / "up", settings=settings)
        )
    )


# ------------------------------------------------------------------------------------------------------------- history and tables


@cli.command(epilog="Example: tilannekuva replay recordings/ --city helsinki --to out/")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--city", required=True)
@click.option("--to", required=True, help="A folder for Parquet files, or 'kafka'.")
@click.option("--simulated", is_flag=True, help="Say in every record that this is simulated data.")
@click.option("--provisional", is_flag=True, help="Write provisional segment states too; default: only finals.")
@click.option(
    "--envelope", "envelope_items", default=200, show_default=True, help="Most messages in one envelope; changes nothing in the results."
)
@click.option("--speed", type=float, help="With --to kafka: times as fast as it was recorded; default: as fast as it goes.")
@click.option("--run", "run_name", default="1", show_default=True, help="With --to kafka: name of the run; topics are replay.<run>.*")
@click.option(
    "--fleet",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A fleet of your own for emissions, CSV: stream,category,fuel,segment,euro,technology,share; default: the city's.",
)
@_broker
@_network
@_set
def replay(
    paths: tuple[Path, ...], city: str, to: str, simulated: bool, provisional: bool, envelope_items: int, speed: float | None, run_name: str, fleet: Path | None,
    broker: str, network: Path | None, settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Recordings through the same core as the live data: into Parquet without a broker, or into Kafka topics of their own."""
    from streams import replays

    c = _city(city, settings)
    if to == "kafka":
        _run(
            lambda stop: replays.to_kafka(paths, c, broker, run_name, speed=speed, max_items=envelope_items, simulated=simulated, stop=stop)
        )
        click.echo(
            f"written to raw topics replay.{run_name}.raw.{c.name}.*; process them: tilannekuva process {c.name} --prefix replay.{run_name}."
        )
        return
    net = _load_network(c, network)
    fuse = replays.with_fleet(fleet)
    summary = replays.to_folder(paths, c, net, Path(to), provisional=provisional, max_items=envelope_items, simulated=simulated, fuse=fuse)
    click.echo(summary)


@cli.group()
def network() -> None:
    """Road networks."""


@network.command("build", epilog="Example: tilannekuva network build helsinki --osm finland.osm.pbf --gtfs hsl.zip")
@click.argument("city")
@click.option("--osm", type=click.Path(exists=True, path_type=Path), help="OSM extract, .osm.pbf")
@click.option("--gtfs", type=click.Path(exists=True, path_type=Path), help="GTFS static, .zip")
@click.option(
    "--lines",
    type=click.Path(exists=True, path_type=Path),
    help="Line geometries (HSL's shapefile as .zip), where there is no GTFS or no OSM.",
)
@click.option("--area", type=click.Path(exists=True, path_type=Path), help="Polygon (GeoJSON or GeoPackage) to cut to.")
@click.option("--to", type=click.Path(path_type=Path), help="Folder for the network; default: where the other commands look.")
@_set
def network_build(
    city: str, osm: Path | None, gtfs: Path | None, lines: Path | None, area: Path | None, to: Path | None, settings: tuple[str, ...]
) -> None:
    """Directed road segments and the shapes of the lines of a CITY, as GeoParquet."""
    from geo import store
    from geo.build import build

    c = _city(city, settings)
    net = build(
        c.name,
        osm=osm,
        gtfs=gtfs,
        lines=lines,
        area=area,
        crs=c.crs,
        licence=c.network.licence if osm else c.licence,
        attribution=c.network.attribution if osm else c.attribution[0],
    )
    folder = to or network_folder(c)
    store.save(net, folder)
    click.echo(f"{folder}: {len(net.segments):,} segments, {len(net.shapes):,} shapes, version {net.version[:12]}; {net.attribution}")


@cli.command(epilog="Example: tilannekuva topics helsinki --check --broker kafka1:9092")
@click.argument("names", metavar="[CITY]...", nargs=-1)
@click.option("--apply", "do", flag_value="apply", help="Create topics that are missing and alter those that differ.")
@click.option("--check", "do", flag_value="check", help="Compare the broker with the definition; exit 1 on any difference.")
@click.option("--replication", default=1, show_default=True, help="Copies of topics that are created.")
@_broker
@_prefix
def topics(names: tuple[str, ...], do: str | None, replication: int, broker: str, prefix: str) -> None:
    """The table of topics of a CITY (name, key, record, retention, licence); on the broker with --apply and --check."""
    from models.topics import PRODUCTS, open_topic

    chosen = [_city(n) for n in names or cities.names()]
    if do is None:
        for c in chosen:
            for p in PRODUCTS.values():
                kept = "for ever" if p.retention_ms < 0 else f"{p.retention_ms / 86_400_000:g} d"
                click.echo(
                    f"{open_topic(c.name, p.name, prefix):45} key {p.key:18} {p.record.__name__:20} {p.cleanup:15} {kept:9} {c.licence}"
                )
        return
    from aiokafka.errors import KafkaError

    from streams import topics_admin

    wanted = topics_admin.wanted_of(chosen, prefix)
    left: list[topics_admin.Difference] = []

    async def main(stop: asyncio.Event) -> None:
        if do == "check":
            left.extend(await topics_admin.check(broker, wanted))
            return
        mended, cannot = await topics_admin.apply(broker, wanted, replication=replication)
        left.extend(cannot)
        for d in mended:
            click.echo(f"mended  {d}")

    try:
        _run(main)
    except (KafkaError, RuntimeError) as e:
        click.echo(f"topics: {e}", err=True)
        sys.exit(EXIT_FAILED)
    for d in left:
        click.echo(f"differs {d}")
    if left:
        sys.exit(EXIT_FAILED)
    click.echo(f"{len(wanted)} topics are as defined")


@cli.command(epilog="Example: tilannekuva check helsinki")
@click.argument("city")
@click.option("--broker", help="Kafka address to look for.")
@_network
def check(city: str, broker: str | None, network: Path | None) -> None:
    """What is in order: settings, network, broker; one line each. Exit 78 where something is wrong."""
    c = _city(city)
    click.echo(f"city       ok    {c.title}: feeds {', '.join(f.name for f in c.feeds)}; {c.licence}")
    net = _load_network(c, network)
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


@cli.command(epilog="Example: tilannekuva conform tampere --recording recordings/tampere")
@click.argument("city")
@click.option(
    "--recording",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="File or folder of recordings; repeatable. Those of the project: tests/recordings/CITY.",
)
@_network
def conform(city: str, paths: tuple[Path, ...], network: Path | None) -> None:
    """Run recordings of a CITY through the core: what became of every message, which fields each product fills. Exit 1 where a product breaks its contract."""
    from streams import conform as kit

    c = _city(city)
    folder = network or network_folder(c)
    report = kit.conform(c, paths, _load_network(c, folder) if network is not None or folder.exists() else None)
    click.echo(kit.text(report))
    if not report.ok:
        sys.exit(EXIT_FAILED)


@cli.command(epilog="Example: tilannekuva tail mobility.helsinki.segment-state.v1 | jq .speed_kmh")
@click.argument("topic")
@click.option("--count", type=int, help="Stop after so many records.")
@click.option("--from-beginning", is_flag=True)
@_broker
def tail(topic: str, count: int | None, from_beginning: bool, broker: str) -> None:
    """Print the records of an open TOPIC as they come, one JSON object a line."""
    from aiokafka import AIOKafkaConsumer

    async def main(stop: asyncio.Event) -> None:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=broker, auto_offset_reset="earliest" if from_beginning else "latest", enable_auto_commit=False
        )
        await consumer.start()
        seen = 0
        try:
            while not stop.is_set() and (count is None or seen < count):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for r in records:
                        if r.value is not None and (count is None or seen < count):
                            click.echo(r.value.decode())
                            seen += 1
        finally:
            await consumer.stop()

    _run(main)


@cli.command(epilog="Example: tilannekuva factors --csv questions.csv > answers.csv")
@click.option(
    "--csv",
    "file",
    required=True,
    type=click.File("r"),
    help="Rows with category, fuel, segment, euro, technology, pollutant, speed_kmh, road_slope, load, mode.",
)
def factors(file: Any) -> None:
    """Emission factors by row: the same rows come back with value, unit, row_id and guard."""
    from models.emissions import csv_rows

    csv_rows.run(file, sys.stdout)


def main() -> None:
    """Entry point of the console script."""
    with contextlib.suppress(BrokenPipeError):
        cli.main()


if __name__ == "__main__":
    main()
