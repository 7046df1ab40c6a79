"""The map of what changed between two replays: one HTML file that opens without a network, with MapLibre GL from the ``maplibre`` wheel inside."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from commands.differing import inputs, text
from serve.assets import maplibre_file
from streams.differences import Differences

#: Digits of a degree that are kept: about a metre.
DIGITS = 5


def page(d: Differences, a: Path, b: Path) -> str:
    """The page. Streets are those of ``segments.geojson`` of both runs."""
    lines: dict[str, Any] = {}
    licences: dict[str, None] = {}
    for run in (b, a):
        found = json.loads((run / "segments.geojson").read_text("utf-8"))
        licences |= {found["attribution"]: None} if found.get("attribution") else {}
        lines |= {f["properties"]["segment_id"]: f["geometry"]["coordinates"] for f in found["features"]}
    rows = {segment: k for k, segment in enumerate(lines)}
    fields = [
        {
            "product": s.product, "name": s.field.removesuffix(".value"), "unit": s.unit,
            "rows": [rows[i] for i in s.means if i in rows], "a": [_short(m[0]) for i, m in s.means.items() if i in rows],
            "b": [_short(m[1]) for i, m in s.means.items() if i in rows],
        }
        for s in d.streets
    ]  # fmt: skip
    data = {
        "ids": list(lines),
        "lines": [[[round(x, DIGITS), round(y, DIGITS)] for x, y in line] for line in lines.values()],
        "fields": fields,
        "attribution": list(licences),
    }
    parts = {
        "title": escape(f"{d.city}: {Path(d.a).name} → {Path(d.b).name}"),
        "simulated": '<p class="banner">SIMULATED DATA</p>' if d.simulated else "",
        "inputs": escape("\n".join(inputs(d.inputs))),
        "table": escape("\n".join(text(d))),
        "css": maplibre_file("maplibre-gl.css").read_text("utf-8"),
        "maplibre": _inside_script(maplibre_file("maplibre-gl.js").read_text("utf-8")),
        "data": _inside_script(json.dumps(data, separators=(",", ":"), ensure_ascii=False)),
    }
    out = (files("commands") / "difference.html").read_text("utf-8")
    pieces = out.split("@@")  # text, name, text, name, … text: what is put in is not looked through again
    return "".join(parts[piece] if k % 2 else piece for k, piece in enumerate(pieces))


def _inside_script(code: str) -> str:
    """What may stand in a script element: its end must not come early."""
    return code.replace("</", "<\\/")


def _short(value: float) -> float:
    """Five digits that count.

    >>> _short(1234.5678), _short(0.0)
    (1234.6, 0.0)
    """
    return float(f"{value:.5g}")
