"""``profile``: how fast streets usually are, learned from what was published."""

from __future__ import annotations

from pathlib import Path

import click

from commands.shared import load_city, load_network, network_folder, with_network, with_settings
from models.clock import rfc3339


@click.group()
def profile() -> None:
    """Speed profiles: what is usual at each time of the week."""


@profile.command("learn", epilog="Example: tilannekuva profile learn helsinki archive/ --last-days 28")
@click.argument("city")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--day", "days", multiple=True, metavar="YYYY-MM-DD", help="Of an archive: only this UTC day; may be repeated.")
@click.option("--last-days", type=click.IntRange(min=1), help="Of an archive: only the newest days, so many.")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="File; default: where `process` and `replay` look for it.")
@with_network
@with_settings
def profile_learn(
    city: str,
    paths: tuple[str, ...],
    days: tuple[str, ...],
    last_days: int | None,
    to: Path | None,
    network: Path | None,
    settings: tuple[str, ...],
) -> None:
    """From the finals of a CITY in archives, or in runs of `replay --to DIR`: usual speeds by kind of day and quarter of an hour, and free-flow speeds."""
    from streams import profiles

    c = load_city(city, settings)
    net = load_network(c, network)
    chosen = days or (profiles.newest(paths, c, last_days) if last_days is not None else ())
    made = profiles.learn(paths, c, net, chosen)
    file = to or (network or network_folder(c)) / profiles.NAME
    profiles.save(made, file)
    s = profiles.summary(made, len(net.segments))
    click.echo(
        f"{file}: {s['segments']:,} of {s['of']:,} segments, {s['quarters_known']:.0%} of the quarters of their week, free flow of {s['free_flow']:,}, "
        f"from {len(made.days)} days ({made.days[0]} to {made.days[-1]}), valid {rfc3339(made.valid_from_ms)[:10]} to {rfc3339(made.valid_until_ms)[:10]}, "
        f"version {made.version[:12]}{'; SIMULATED' if made.simulated else ''}"
    )
