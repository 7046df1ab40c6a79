"""Commands about topics and tables: what is published, and emission factors by row."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

import click

from commands.shared import load_city, run, with_broker, with_prefix
from connectors import cities
from models.errors import EXIT_FAILED, ConfigError


@click.command(epilog="Example: tilannekuva topics helsinki --check --broker kafka1:9092")
@click.argument("names", metavar="[CITY]...", nargs=-1)
@click.option("--apply", "do", flag_value="apply", help="Create topics that are missing and alter those that differ.")
@click.option("--check", "do", flag_value="check", help="Compare the broker with the definition; exit 1 on any difference.")
@click.option("--replication", default=1, show_default=True, help="Copies of topics that are created.")
@with_broker
@with_prefix
def topics(names: tuple[str, ...], do: str | None, replication: int, broker: str, prefix: str) -> None:
    """The table of topics of a CITY (name, key, record, retention, licence); on the broker with --apply and --check."""
    from models.topics import PRODUCTS, open_topic

    chosen = [load_city(n) for n in names or cities.names()]
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
        run(main)
    except (KafkaError, RuntimeError) as e:
        click.echo(f"topics: {e}", err=True)
        sys.exit(EXIT_FAILED)
    for d in left:
        click.echo(f"differs {d}")
    if left:
        sys.exit(EXIT_FAILED)
    click.echo(f"{len(wanted)} topics are as defined")


@click.command(epilog="Example: tilannekuva tail mobility.helsinki.segment-state.v1 | jq .speed_kmh")
@click.argument("topic")
@click.option("--count", type=int, help="Stop after so many records.")
@click.option("--from-beginning", is_flag=True)
@with_broker
def tail(topic: str, count: int | None, from_beginning: bool, broker: str) -> None:
    """Print the records of an open TOPIC as they come, one JSON object a line."""
    from connectors.kafka import make_consumer

    async def main(stop: asyncio.Event) -> None:
        consumer = make_consumer(topic, bootstrap=broker, auto_offset_reset="earliest" if from_beginning else "latest")
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

    run(main)


@click.command(epilog="Example: tilannekuva catalog helsinki --url https://traffic.example --form ttl > catalogue.ttl")
@click.argument("names", metavar="[CITY]...", nargs=-1)
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Address of the gateway that the catalogue leads to.")
@click.option("--form", type=click.Choice(["ttl", "jsonld"]), default="ttl", show_default=True)
@with_broker
@with_prefix
def catalog(names: tuple[str, ...], url: str, form: str, broker: str, prefix: str) -> None:
    """The mobilityDCAT-AP catalogue of a CITY, or the merged one of several (all by default), as the gateway serves it but for what is measured live."""
    from connectors import cities
    from serve import catalogue, describe
    from serve.gateway import check_public
    from serve.state import Picture

    base = check_public(url) or url
    chosen = [load_city(n) for n in names or cities.names()]
    entries = [describe.entry(c, Picture(c.name, prefix), prefix) for c in chosen]
    g = catalogue.graph(entries, base=base, kafka_host=broker.partition(",")[0], merged=len(entries) > 1)
    click.echo((catalogue.turtle if form == "ttl" else catalogue.json_ld)(g).decode())


@click.command(epilog="Example: tilannekuva factors --csv questions.csv > answers.csv")
@click.option(
    "--csv",
    "file",
    type=click.File("r", encoding="utf-8-sig"),
    help="Rows with category, fuel, segment, euro, technology, pollutant, speed_kmh, road_slope, load, mode.",
)
@click.option("--city", help="What `factor_rows` in this city's emission records stands for: its fleet and every coefficient row, as JSON.")
@click.option("--on", type=click.DateTime(["%Y-%m-%d"]), help="With --city: the day; default: today.")
def factors(file: Any, city: str | None, on: datetime | None) -> None:
    """Emission factors: of rows of a CSV file, which come back with value, unit, row_id and guard; or the rows behind the records of a city."""
    import csv
    import json

    from models.emissions import csv_rows

    if (file is None) == (city is None):
        raise ConfigError("command line", "factors", "", "either --csv or --city")
    if city is not None:
        from models.emissions.cold import DEFAULT_TEMPERATURE_C
        from models.emissions.fleet import fleet_of
        from models.emissions.rates import Conditions
        from streams.emissions import EmissionSettings
        from streams.fleets import listed, rates

        c, day = load_city(city), (on or datetime.now(UTC)).date()
        made = rates(
            fleet_of(c.name, day),
            c.name,
            day,
            Conditions(DEFAULT_TEMPERATURE_C[day.month - 1], "default", hbefa_weight=EmissionSettings().hbefa_weight),
            None,
            c.powertrain_register.classes(),
        )
        click.echo(json.dumps(listed([made]), indent=1, sort_keys=True))
        return
    try:
        csv_rows.run(file, sys.stdout)
    except (ValueError, csv.Error) as e:
        raise ConfigError("command line", "--csv", file.name, f"CSV in UTF-8 with commas between ({e})") from e
