"""Commands that look back: recordings through the same core."""

from __future__ import annotations

from pathlib import Path

import click

from commands.shared import load_city, load_network, run, with_broker, with_network, with_settings


@click.command(epilog="Example: tilannekuva replay recordings/ --city helsinki --to out/")
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
@with_broker
@with_network
@with_settings
def replay(
    paths: tuple[Path, ...], city: str, to: str, simulated: bool, provisional: bool, envelope_items: int, speed: float | None, run_name: str, fleet: Path | None,
    broker: str, network: Path | None, settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Recordings through the same core as the live data: into Parquet without a broker, or into Kafka topics of their own."""
    from streams import replays

    c = load_city(city, settings)
    if to == "kafka":
        run(
            lambda stop: replays.to_kafka(paths, c, broker, run_name, speed=speed, max_items=envelope_items, simulated=simulated, stop=stop)
        )
        click.echo(
            f"written to raw topics replay.{run_name}.raw.{c.name}.*; process them: tilannekuva process {c.name} --prefix replay.{run_name}."
        )
        return
    net = load_network(c, network)
    fuse = replays.with_fleet(fleet)
    summary = replays.to_folder(paths, c, net, Path(to), provisional=provisional, max_items=envelope_items, simulated=simulated, fuse=fuse)
    click.echo(summary)
