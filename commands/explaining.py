"""``explain``: why a segment has its value."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from commands.shared import load_city, load_network, run, with_broker, with_network, with_prefix, with_settings
from models.clock import parse_ms
from models.errors import EXIT_FAILED, ConfigError
from models.explain import STANDS, WINDOW_MS, Evidence, Explanation, decode
from models.explain import explain as explained


@click.command(epilog="Example: tilannekuva explain w4217395_25291537_1372441178_f 2026-03-10T06:12:00Z --city helsinki --recording wire/")
@click.argument("segment")
@click.argument("time")
@click.option("--city", required=True)
@click.option(
    "--recording", "paths", multiple=True, type=click.Path(exists=True, path_type=Path),
    help="Explain what a recording gives, without a broker; repeatable. Default: what the worker of the city wrote in the last two days.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The answer as the gateway gives it.")
@with_broker
@with_prefix
@with_network
@with_settings
def explain(
    segment: str, time: str, city: str, paths: tuple[Path, ...], as_json: bool, broker: str, prefix: str, network: Path | None,
    settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Why a SEGMENT had its value in the minute of TIME: which sources said what, with which weight, and what was left out. Exit 1 when nothing was said of it."""
    c = load_city(city, settings)
    try:
        window = parse_ms(time) // WINDOW_MS
    except ValueError as e:
        raise ConfigError("command line", "TIME", time, "RFC 3339, like 2026-03-10T06:12:00Z") from e
    heard: list[Evidence] = []
    if paths:
        from streams.replays import evidence_of_recording

        heard += evidence_of_recording(paths, c, load_network(c, network), window)
    else:
        from connectors.evidence import KafkaEvidence

        async def read(stop: asyncio.Event) -> None:
            heard.extend(decode(v) for v in await KafkaEvidence(broker, prefix).read(c.name, window - STANDS + 1, window))

        run(read)
    found = explained(segment, window, heard)
    if found is None:
        click.echo(f"nothing was said of {segment} in the {STANDS} minutes up to {time}", err=True)
        sys.exit(EXIT_FAILED)
    click.echo(msgspec.json.encode(found).decode() if as_json else _page(found))


def _page(x: Explanation) -> str:
    """For people."""
    value = (
        "no value"
        if x.speed_kmh is None
        else f"{x.speed_kmh:.1f} km/h , 20 % quantile {x.speed_p20_kmh:.1f}, 80 % quantile {x.speed_p80_kmh:.1f}"
    )
    lines = [f"{x.segment_id}  {x.window_start}  {x.origin}, confidence {x.confidence:.2f}: {value}", *(f"  {t}" for t in x.text)]
    for s in x.sources:
        who = s.vehicle_id or f"{s.site_id}:{s.direction}"
        speed = "" if s.speed_kmh is None else f"  {s.speed_kmh:.1f} km/h"
        lines.append(f"    {s.kind} {who}{speed}  weight {s.weight:.3f}" + (f"  ({s.why})" if s.why else ""))
    lines += [f"    ahead {n.segment_id}  weight {n.weight:.3f}" for n in x.neighbours]
    return "\n".join(lines)
