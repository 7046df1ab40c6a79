"""Every folder of tests/golden/observe is a situation with its right answer (README.md there)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from connectors import recordings
from models.clock import rfc3339
from streams import partial as wire
from streams.cells import SUMS, WINDOW_MS
from streams.ground import Ground
from streams.observe import Observer
from streams.outputs import Outputs
from tests.streams import kit

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "observe"
CASES = sorted(p.parent.name for p in FOLDER.glob("*/hfp.ndjson"))
GROUND = Ground(kit.network())
#: Of a position what the core adds or decides; the rest is what the feed said.
SHOWN = ("vehicle_id", "event_time", "lat_deg", "direction_id", "operating_day", "start_time", "segment_id", "offset_m", "off_route", "doors_open", "at_stop")  # fmt: skip


def answer(folder: Path, *, max_items: int) -> list[str]:
    """What the observe step says of a recording, a line each."""
    o, out, cells = Observer(kit.city(), "hfp", 0, GROUND), Outputs(), dict[tuple[Any, ...], Any]()
    items = recordings.read(folder / "hfp.ndjson", kit.city())
    for k, (_, _, e) in enumerate(recordings.envelopes(items, kit.city(), ["hfp"], max_items=max_items)):
        out.extend(o.feed_envelope(e, k))
        p = wire.decode(o.flush())
        rows = p.rows()
        for w, s, v, sums in zip(rows.window.tolist(), rows.segment.tolist(), rows.who.tolist(), rows.sums.tolist(), strict=True):
            cells[p.vehicles[v], rfc3339(w * WINDOW_MS), kit.network().segments.segment_id[s]] = dict(zip(SUMS, sums, strict=True))
    lines: list[dict[str, Any]] = []
    for r in kit.records(out, "vehicle-position"):
        lines.append({"position": {k: r[k] for k in SHOWN if k in r}})
    for product in ("late", "dead-letter"):
        for r in kit.records(out, product):
            lines.append({product: {k: r[k] for k in ("key", "event_time", "ingest_time", "reason", "field", "value") if k in r}})
    for (vehicle, start, segment), sums in sorted(cells.items()):
        lines.append({"cell": {"vehicle_id": vehicle, "window_start": start, "segment_id": segment} | sums})
    lines.append(
        {"tally": {k: getattr(o.tally, k) for k in ("events", "accepted", "duplicates", "rejected", "late", "no_position", "off_route")}}
    )
    return [json.dumps(line, ensure_ascii=False) for line in lines]


@pytest.mark.parametrize("case", CASES)
def test_the_situation_has_its_right_answer_in_any_cut(case: str) -> None:
    folder = FOLDER / case
    assert (folder / "README.md").is_file(), "a case says what it shows"
    got = answer(folder, max_items=200)
    expected = folder / "expected.ndjson"
    if os.environ.get("TILANNEKUVA_GOLDEN") == "write":
        expected.write_text("\n".join(got) + "\n", "utf-8")
    assert got == expected.read_text("utf-8").splitlines()
    assert sorted(answer(folder, max_items=7)) == sorted(got)


def test_there_are_cases() -> None:
    assert len(CASES) >= 6
