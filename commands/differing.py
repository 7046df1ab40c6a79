"""``tilannekuva diff``: what changed between two replays, as a table and as a map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from models.errors import EXIT_FAILED


@click.command(epilog="Example: tilannekuva diff run-a/ run-b/ --to what-changed/")
@click.argument("a", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("b", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), help="Folder for map.html (opens without a network) and differences.json."
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 when the runs differ.")
@click.pass_context
def diff(ctx: click.Context, a: Path, b: Path, to: Path | None, exit_code: bool) -> None:
    """What changed between two replays of one city (folders of `replay --to`): which products, which fields, by how much, and where."""
    from commands.difference_page import page
    from streams.differences import compare

    found = compare(a, b)
    click.echo("\n".join(text(found)))
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
        (to / "map.html").write_text(page(found, a, b), "utf-8")
        (to / "differences.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        click.echo(f"\nmap: {to / 'map.html'}")
    if exit_code and not (all(p.same for p in found.products) and not found.files):
        ctx.exit(EXIT_FAILED)


def text(d: Any) -> list[str]:
    """The table, for people."""
    out = [f"a: {d.a}   b: {d.b}   {d.city}{', SIMULATED' if d.simulated else ''}", *inputs(d.inputs), ""]
    out += [*verdict(d), ""]
    out += aligned(
        [("product", "rows a", "rows b", "in both", "only a", "only b", "changed")]
        + [(p.product, *(f"{n:,}" for n in (p.rows_a, p.rows_b, p.both, p.only_a, p.only_b, p.changed))) for p in d.products]
    )
    for p in d.products:
        if p.fields:
            out += ["", f"{p.product}: fields that changed; size of the change, and means over the rows in both"]
            rows = [
                (
                    f.name.removesuffix(".value"),
                    f.unit,
                    f"{f.changed:,}",
                    *map(number, (f.median, f.p95, f.mean_a, f.mean_b)),
                    percent(f.mean_a, f.mean_b),
                )
                for f in shown(p)
            ]
            out += aligned([("field", "unit", "rows", "median", "p95", "mean a", "mean b", "change"), *rows], left=2)
    if d.totals:
        out += ["", "whole city, all final windows"]
        out += aligned(
            [("sum", "unit", "a", "b", "change")] + [(t.name, t.unit, number(t.a), number(t.b), percent(t.a, t.b)) for t in d.totals],
            left=2,
        )
    return out


def shown(product: Any) -> list[Any]:
    """Without the bounds of quantities: they are in ``differences.json``."""
    return [f for f in product.fields if not f.name.endswith((".lo95", ".hi95"))]


def verdict(d: Any) -> list[str]:
    """What changed and what did not, in words."""
    changed, same = ([p.product for p in d.products if p.same is is_same] for is_same in (False, True))
    files = [f"other files that differ: {', '.join(d.files)}"] if d.files else []
    if not changed:
        return [f"nothing changed: {', '.join(same)}", *files]
    return [f"changed: {', '.join(changed)}", f"did not change: {', '.join(same) or 'nothing'}", *files]


def inputs(differ: dict[str, tuple[Any, Any]]) -> list[str]:
    """What was put in otherwise: parameters with their values, other parts by name."""
    if not differ:
        return ["put in: the same"]
    values = [
        f"{k} {told(a)} → {told(b)}" for k, (a, b) in differ.items() if not isinstance(a, dict | list) and not isinstance(b, dict | list)
    ]
    others = [k for k, (a, b) in differ.items() if isinstance(a, dict | list) or isinstance(b, dict | list)]
    return [f"put in otherwise: {v}" for v in values] + ([f"put in otherwise: {', '.join(others)} (see the manifests)"] if others else [])


def told(value: object) -> str:
    return "none" if value is None else value[:12] if isinstance(value, str) else f"{value}"


def number(value: float | None) -> str:
    """Four digits that count.

    >>> number(None), number(0.0), number(12345.678), number(0.012346), number(3.0)
    ('', '0', '12,346', '0.01235', '3')
    """
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(a: float | None, b: float | None) -> str:
    """
    >>> percent(10.0, 12.0), percent(0.0, 1.0), percent(None, 1.0), percent(5.0, 5.0)
    ('+20.00 %', '', '', '0 %')
    """
    if a is None or b is None or a == 0.0:
        return ""
    return "0 %" if a == b else f"{100 * (b - a) / abs(a):+.2f} %"


def aligned(rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Columns of text; the first ``left`` ones to the left.

    >>> aligned([("a", "n"), ("bb", "10")])
    ['a    n', 'bb  10']
    """
    table = list(rows)
    widths = [max(len(r[k]) for r in table) for k in range(len(table[0]))]
    return [
        "  ".join(c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True))).rstrip() for r in table
    ]
