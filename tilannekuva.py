"""The command line; read it first, it names every process. What is not a process is in ``commands/``.

Exit codes: 0 done, 1 failed, 70 our own bug, 78 bad configuration (with the key's name). Logs are JSON lines on stderr; what a command prints for people goes to stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import click

from commands import access, checks, differing, explaining, history, networks, profiles, tables
from commands.shared import (
    data_folder,
    load_cities,
    load_network,
    load_profile,
    monitored,
    network_folder,
    run,
    with_broker,
    with_metrics,
    with_network,
    with_prefix,
    with_profile,
    with_settings,
)
from connectors import cities
from connectors.cities import City
from connectors.tasks import until_first
from models import logs
from models.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_SOFTWARE, ConfigError
from models.topics import raw_topic

log = logging.getLogger("tilannekuva")


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
@click.argument("more", metavar="[FEED]... | [CITY]...", nargs=-1)
@with_metrics
@with_broker
@with_prefix
@with_settings
def connect(
    city: str, more: tuple[str, ...], metrics_host: str, metrics_port: int | None, broker: str, prefix: str, settings: tuple[str, ...]
) -> None:
    """Connectors: feeds of a CITY into raw topics, as received; or all feeds of several cities in one process."""
    from prometheus_client import CollectorRegistry

    from connectors.run import Metrics
    from connectors.run import connect as run_connectors
    from connectors.stops import with_stops
    from streams.admin import ensure_topics
    from streams.monitor import Pulse

    others = {n for n in more if n in cities.names() or n.endswith(".toml")}
    chosen = [with_stops(c, network_folder(c)) for c in load_cities([city, *more] if others and others == set(more) else [city], settings)]
    feeds = [chosen[0].feed(f).name for f in more] if len(chosen) == 1 else []

    registry, pulse = CollectorRegistry(), Pulse()
    metrics = Metrics(registry)

    async def one(c: City, stop: asyncio.Event) -> None:
        raw = {raw_topic(c.raw_city, f, prefix) for f in feeds or [f.name for f in c.feeds]}
        await ensure_topics(broker, c, prefix, only=raw)
        await run_connectors(c, feeds, broker, prefix=prefix, stop=stop, metrics=metrics)

    async def main(stop: asyncio.Event) -> None:
        beat = asyncio.create_task(pulse.run(), name="pulse")
        try:
            with monitored([pulse], registry, broker, metrics_host, metrics_port):
                await until_first(one(c, stop) for c in chosen)
        finally:
            beat.cancel()

    run(main)


@cli.command(epilog="Example: tilannekuva process helsinki --broker kafka1:9092")
@click.argument("names", metavar="CITY...", nargs=-1, required=True)
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
@with_metrics
@with_broker
@with_prefix
@with_network
@with_profile
@with_settings
def process(
    names: tuple[str, ...],
    stages: tuple[str, ...],
    instance: str,
    replication: int,
    until_end: bool,
    session_timeout: float,
    metrics_host: str,
    metrics_port: int | None,
    broker: str,
    prefix: str,
    network: Path | None,
    profile: str | None,
    settings: tuple[str, ...],
) -> None:
    """The Faust worker of a CITY: observe and fuse. Start more of them to share the work; several small cities may share one."""
    from prometheus_client import CollectorRegistry

    from streams import memory
    from streams.metrics import WorkerMetrics
    from streams.worker import CityWorker, WorkerSettings, run_worker

    chosen = load_cities(names, settings)
    if network is not None and len(chosen) > 1:
        raise ConfigError(
            "command line", "--network", str(network), "one CITY; networks of several are read where `network build` puts them"
        )
    if profile not in (None, "none") and len(chosen) > 1:
        raise ConfigError("command line", "--profile", profile, "one CITY; profiles of several are read from the folders of their networks")
    nets = [load_network(c, network) for c in chosen]
    usual = [load_profile(c, network, profile) for c in chosen]
    s = WorkerSettings(
        bootstrap=broker, prefix=prefix, stages=stages or ("observe", "fuse"), instance=instance, replication=replication,  # type: ignore[arg-type]
        until_end=until_end, session_timeout_s=session_timeout,
    )  # fmt: skip

    async def main(stop: asyncio.Event) -> None:
        registry = CollectorRegistry()
        metrics = WorkerMetrics(registry)
        workers = [CityWorker(c, net, s, metrics, p) for c, net, p in zip(chosen, nets, usual, strict=True)]
        memory.settle()
        with monitored([w.watchdog for w in workers], registry, broker, metrics_host, metrics_port):
            await until_first(run_worker(w, stop) for w in workers)

    run(main)


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
@click.option("--archive", help="Folder or address of an archive (`tilannekuva archive`), for views of the past.")
@click.option("--rate-limit", default=3000, show_default=True, help="Requests a minute from one address; 0: no limit (a proxy limits).")
@click.option(
    "--api-keys",
    type=click.Path(path_type=Path),
    help="File of keys with limits of their own, a line each: NAME SHA256-OF-THE-KEY REQUESTS-A-MINUTE.",
)
@click.option(
    "--keys-only", is_flag=True, help="Without a key nothing is answered but the page, /docs and /healthz; the page's own data neither."
)
@with_metrics
@with_broker
@with_prefix
@with_settings
def serve(
    names: tuple[str, ...], host: str, port: int, background: str | None, public_url: str | None, public_kafka: str | None,
    archive: str | None, rate_limit: int, api_keys: Path | None, keys_only: bool, metrics_host: str, metrics_port: int | None,
    broker: str, prefix: str, settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Gateway and dashboard of one or more cities."""
    from serve import gateway
    from serve.door import Keys

    if keys_only and api_keys is None:
        raise ConfigError("command line", "--keys-only", True, "--api-keys FILE beside it")
    keys = Keys.read(api_keys, required=keys_only) if api_keys is not None else None
    chosen = load_cities(names or cities.names(), settings)

    async def main(stop: asyncio.Event) -> None:
        await gateway.serve(
            chosen, broker, host=host, port=port, prefix=prefix, stop=stop, background=background, public_url=public_url,
            public_kafka=public_kafka, per_minute=max(0, rate_limit), archive=archive, keys=keys,
            metrics_apart=(metrics_host, metrics_port) if metrics_port is not None else None,
        )  # fmt: skip

    run(main)


@cli.command(epilog="Example: tilannekuva demo --port 8080")
@click.option("--cities", "names", default="helsinki,espoo,vantaa,tampere,turku,oulu", show_default=True, help="Which, comma-separated.")
@click.option("--for", "for_s", type=float, help="Stop after so many seconds.")
@click.option("--port", default=8080, show_default=True)
@click.option("--embedded", is_flag=True, help="Use the broker that comes with pip even where Apache Kafka is installed (memory only).")
@click.option("--archive", help="Archive all topics to this folder or s3:// address beside, and show the past from it.")
def demo(names: str, for_s: float | None, port: int, embedded: bool, archive: str | None) -> None:
    """Everything on one machine with SIMULATED feeds in the real wire formats, through the real connectors, worker and gateway."""
    from demo.everything import demo as run_demo

    data = data_folder() / "demo"
    sys.exit(asyncio.run(run_demo(names.split(","), for_s=for_s, port=port, embedded=embedded, data=data, archive=archive)))


@cli.command(epilog="Example: tilannekuva up helsinki")
@click.argument("names", metavar="CITY...", nargs=-1, required=True)
@click.option("--broker", help="Kafka address; default: one started here.")
@click.option("--for", "for_s", type=float, help="Stop after so many seconds.")
@click.option("--port", default=8080, show_default=True)
@click.option("--embedded", is_flag=True, help="Use the broker that comes with pip even where Apache Kafka is installed (memory only).")
@click.option("--archive", help="Archive all topics to this folder or s3:// address beside, and show the past from it.")
@with_settings
def up(
    names: tuple[str, ...], broker: str | None, for_s: float | None, port: int, embedded: bool, archive: str | None, settings: tuple[str, ...]
) -> None:  # fmt: skip
    """Everything on one machine with the live feeds."""
    from demo.everything import up as run_up

    for c in load_cities(names, settings):
        load_network(c, None)
    sys.exit(
        asyncio.run(
            run_up(
                list(names),
                broker=broker,
                for_s=for_s,
                port=port,
                embedded=embedded,
                data=data_folder() / "up",
                settings=settings,
                archive=archive,
            )
        )
    )


for command in (
    access.access,
    history.archive,
    history.replay,
    differing.diff,
    networks.network,
    profiles.profile,
    tables.topics,
    checks.check,
    checks.conform,
    tables.tail,
    tables.factors,
    tables.catalog,
    explaining.explain,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    code: object = 0
    try:
        with contextlib.suppress(BrokenPipeError):
            cli.main()
    except SystemExit as e:
        code = e.code or 0
    if any(t is not threading.main_thread() and not t.daemon for t in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code if isinstance(code, int) else EXIT_FAILED)  # the interpreter would wait for a thread that a library has left running
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
