"""What requests for priority at signals are worth: simulated runs with and without them, through the real path.

    python benchmarks/priority.py RUN… --osm EXTRACT.osm.pbf

RUN: folders of ``groundtruth.py``, whose vehicles ask for nothing. Here each vehicle asks (``tlr``) when it comes onto an edge that ends at signals, and every 20 s while it is on it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import replayed, truth
from benchmarks.fit_fusion import Case, case
from models.fusion import Estimator

AGAIN_S = 20


def asking(run: Path, to: Path) -> Path:
    """A copy of a run whose vehicles ask for priority."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("work", "score"))
    signalised = pd.read_parquet(run / "edges.parquet").set_index("edge_id").signalised
    told = pd.read_parquet(run / "wire" / "probe_truth.parquet").query("seq >= 0")
    edge = dict(zip(told.seq, told.true_edge_id, strict=True))
    last: dict[tuple[int, int], tuple[str, int]] = {}
    lines = []
    for n, line in enumerate((run / "wire" / "hfp.jsonl").read_text().splitlines()):
        lines.append(line)
        if edge.get(n) and signalised[edge[n]]:
            message = json.loads(line)
            body = message["payload"]["VP"]
            vehicle = (body["oper"], body["veh"])
            on, at = last.get(vehicle, ("", 0))
            if on != edge[n] or body["tsi"] - at >= AGAIN_S:
                last[vehicle] = edge[n], body["tsi"]
                asked = {"topic": message["topic"].replace("/vp/", "/tlr/"), "payload": {"TLR": {**body, "sid": 1}}}
                lines.append(json.dumps({**asked, "received_at": message["received_at"]}))
    (to / "wire" / "hfp.jsonl").write_text("\n".join(lines) + "\n")
    return to


def scored(name: str, cases: list[Case]) -> None:
    pairs = []
    for c in cases:
        e = Estimator(c.streets)
        every = {w: e.advance(obs) for w, obs in c.replay.told}
        speed = replayed.grids(every, c.truth.start_ms, c.truth.minutes, len(c.streets))[0]
        pairs.append((c.truth, 1.0 / truth.by_five(truth.paces(c.laid, speed, len(c.truth.edges)))))
    a, s = truth.pooled(pairs), truth.pooled(pairs, [c.truth.seen for c in cases])
    print(f"| {name} | {a['wmae']:.3f} | {s['wmae']:.3f} | {a['mae']:.3f} | {a['f1']:.3f} |")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", type=Path)
    p.add_argument("--osm", type=Path, required=True)
    a = p.parse_args()
    print("| vehicles | wMAE everywhere | where seen | MAE | F1 slow |\n" + "| --- " * 5 + "|")
    scored("ask for nothing", [case(run, a.osm) for run in a.runs])
    with tempfile.TemporaryDirectory() as scratch:
        scored("ask for priority", [case(asking(run, Path(scratch) / run.name), a.osm) for run in a.runs])


if __name__ == "__main__":
    main()
