"""Recorded cases: ``tests/golden/<family>/<case>/`` holds what was received (``in*``, each a document, in order) and what it becomes.

A case is added without code: put the documents there and run this file with ``GOLDEN=write`` in the environment, then read what was written.
All are received by the city of ``tests/golden/fixture.toml`` at 05:30:05 UTC on 10 March 2026.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.cities import load
from connectors.columns import METHODS, Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import parser
from models.clock import parse_ms, rfc3339

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CITY = load(GOLDEN / "fixture.toml")
RECEIVED_MS = parse_ms("2026-03-10T05:30:05Z")
CASES = sorted(p.parent for p in GOLDEN.glob("*/*/expected.json")) + (
    sorted({p.parent for p in GOLDEN.glob("*/*/in*") if not (p.parent / "expected.json").exists()}) if os.environ.get("GOLDEN") else []
)


def shown(parsed: Parsed) -> dict[str, Any]:
    """Everything that was parsed, for people: times in RFC 3339, nothing that is not known."""
    out: dict[str, Any] = {}
    for kind, columns in (("vehicles", parsed.vehicles), ("sensors", parsed.sensors)):
        if columns is None or not len(columns):
            continue
        names = [n for n in columns.__dataclass_fields__ if len(getattr(columns, n))]
        out[kind] = [{n: _shown(n, getattr(columns, n)[i]) for n in names} for i in range(len(columns))]
        out[kind] = [{n: v for n, v in row.items() if v is not None} for row in out[kind]]
    out["sites"] = [msgspec.to_builtins(s) | {"lat_deg": _shown("", s.lat_deg), "lon_deg": _shown("", s.lon_deg)} for s in parsed.sites]
    out["sites"] = [{n: v for n, v in s.items() if v is not None} for s in out["sites"]]
    out["stated"] = [
        {"product": s.product, "key": s.key, "ended": s.ended, "record": msgspec.to_builtins(s.record)}
        | ({} if s.part is None else {"part": s.part})
        for s in parsed.stated
    ]
    out["rejects"] = [{"index": r.index, "reason": r.reason, "field": r.field, "value": r.value} for r in parsed.rejects]
    out["passed"], out["events"] = parsed.passed, parsed.events
    return {name: value for name, value in out.items() if value or name == "events"}


def _shown(name: str, value: Any) -> Any:
    if name == "index" or (isinstance(value, np.integer) and value == -1):
        return None if value == -1 else int(value)
    if name.endswith("_ms"):
        return rfc3339(int(value))
    if name == "method":
        return METHODS[value]
    if isinstance(value, float | np.floating):
        return None if value != value else round(float(value), 6)
    if isinstance(value, np.integer):
        return int(value)
    return {k: v for k, v in msgspec.to_builtins(value).items() if v is not None} if isinstance(value, msgspec.Struct) else value


@pytest.mark.parametrize("case", CASES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_recorded_case_becomes_what_it_should(case: Path) -> None:
    family = case.parent.name
    feed = CITY.feed(family)
    items = tuple(Item(RECEIVED_MS, f"https://example.org/{p.name}", p.read_bytes()) for p in sorted(case.glob("in*")))
    envelope = Envelope(SCHEMA, CITY.name, feed.name, feed.family, "snapshot", RECEIVED_MS, items)
    got = json.loads(json.dumps(shown(parser(feed, CITY).parse(envelope))))
    if os.environ.get("GOLDEN") == "write":
        (case / "expected.json").write_text(json.dumps(got, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert got == json.loads((case / "expected.json").read_text("utf-8"))
