"""A worker's figures for Prometheus are those of the records that it writes."""

from __future__ import annotations

import msgspec
from prometheus_client import CollectorRegistry

from streams.metrics import WorkerMetrics
from streams.offline import Run
from streams.outputs import Outputs
from tests.streams import kit


def test_figures_agree_with_the_records() -> None:
    items = kit.drive(0, 5.0, seconds=300)
    broken = msgspec.structs.replace(items[100], body=b"{")
    registry, run, out = CollectorRegistry(), Run(kit.city(), kit.network()), Outputs()
    metrics = WorkerMetrics(registry, now_s=lambda: (kit.T0 + 400_000) / 1000)
    told = [*kit.cut([*items[:100], broken, *items[101:]], range(300))]
    ticks = [kit.tick(kit.T0 + k * 5_000, f) for k in range(1, 110) for f in ("hfp", "gtfs_rt", "tms")]
    for e in sorted([*told, *ticks], key=lambda e: e.ingest_ms):
        got = run.feed(e.feed, 0, e)
        metrics.wrote("testtown", got)
        out.extend(got)
    metrics.fed("testtown", "observe/hfp/0", kit.T0 + 398_000)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"tilannekuva_{name}", {"city": "testtown", **labels})

    positions, dead = kit.records(out, "vehicle-position"), kit.records(out, "dead-letter")
    assert value("records_total", product="vehicle-position") == len(positions) > 200
    assert value("matched_positions_total") == sum("segment_id" in p for p in positions) > 0
    assert [(d["feed"], value("rejected_total", feed=d["feed"], reason=d["reason"])) for d in dead] == [("hfp", 1.0)]
    last = [r for r in kit.records(out, "feed-health") if r["feed"] == "hfp"][-1]
    assert value("feed_state", feed="hfp") == ("ok", "degraded", "stale", "empty", "dead").index(last["state"])
    assert value("feed_gap_seconds", feed="hfp") == last["gap_s"]
    city = [r for r in kit.records(out, "area-state") if r["area_kind"] == "city"][-1]
    assert value("measured_ratio") == city["coverage_pct"] / 100
    assert value("latency_seconds_bucket", step="observe", le="2.0") == 1
    assert value("latency_seconds_bucket", step="observe", le="1.0") == 0
