"""Fits how counters, junctions and the map speak for streets that nobody counts (``streams/flows.py``) on simulated runs, and prints it. Writes nothing.

    python benchmarks/fit_flows.py --runs DIR --osm EXTRACT.osm.pbf [--names 1,2,7,42] [--test 3,4,5,6] [--rounds 2]

Runs are folders of ``groundtruth.py``, as ``benchmarks/accuracy.py`` makes them. They are replayed once, with the simulation's own fleet; what the emission step was told is kept, and its
parameters are then moved one at a time, up and down by a factor that shrinks, while the pooled score falls. The score sums three median errors over five minutes, each over its
aim: flow of edges without a counter where speed is scored (over 32 %), flow of all edges of 20 m or more without one (over 40 %), CO2 after one common factor (over 35 %). The optimum is flat:
the values in the code are rounded. Not fitted: the usual flow of road classes and the composition of traffic, for the simulation's demand is invented.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import truth
from benchmarks.emissions_truth import true_rows
from connectors.cities import load as load_city
from geo.build import build
from geo.network import F64, Bool, Network
from models.emissions.fleet import example_fleet
from streams.emissions import CO2, EmissionSettings, Emitter, Result
from streams.flows import FlowsSettings
from streams.fuse import FuseSettings
from streams.offline import Run, replay
from streams.outputs import Outputs
from streams.replays import NEVER_MS, log_of

#: What is fitted.
PARAMETERS = (
    "through_power", "through_least", "other_street_m", "other_class_m", "level_counters", "few_vph", "smooth_s", "jam_ratio", "balance.share", "balance.few_vph", "flow.transfer_reach_m",
    "flow.transfer_prior_weight", "flow.congested_log_sd", "counted_share", "least_sd_vph",
)  # fmt: skip
AIMS = {"scored": 0.32, "long": 0.40, "co2": 0.35}


@dataclass
class Case:
    """One run: what the emission step was told, and what is true of E edges in W windows of five minutes."""

    network: Network
    emitter: Emitter  #: of the replay: its streets, and settings that are not fitted
    told: list[tuple[Any, ...]]  #: arguments of ``hear`` and of ``final``, in order
    truth: truth.Truth
    laid: truth.Laid
    alike: Bool  #: rows of ``laid`` on a segment of the edge's own class, where there is one
    co2_g: F64  #: (E, W)


def case(folder: Path, osm: Path) -> Case:
    """Replay a run and keep what the emission step was told."""
    t = truth.load(folder)
    city = load_city("helsinki")
    network = build(city.name, osm=osm, gtfs=folder / "wire" / "gtfs.zip", crs=city.crs)
    run = Run(city, network, fuse=replace(FuseSettings(), provisional_ms=NEVER_MS, emissions=EmissionSettings(fleet=example_fleet())))
    emitter, told = run.fuser.emitter, []
    hear, final = emitter.hear, emitter.final

    def heard(*a: Any) -> None:
        told.append(("hear", *a))
        hear(*a)

    def finished(*a: Any) -> Outputs:
        told.append(("final", *a))
        return final(*a)

    emitter.hear, emitter.final = heard, finished  # type: ignore[method-assign]
    for _ in replay(run, log_of([folder / "wire"], city, max_items=200, simulated=True)):
        pass
    laid = truth.lay(network, t.edges)
    same = np.array(network.segments.road_class)[laid.segment] == t.edges.highway.to_numpy()[laid.edge]
    some = np.bincount(laid.edge, same, len(t.edges)) > 0
    co2 = np.full(t.flow.shape, np.nan)
    rows = true_rows(folder)
    number = {e: i for i, e in enumerate(t.edges.edge_id)}
    window = (rows.window_start - pd.Timestamp(t.start_ms, unit="ms", tz="UTC")) / pd.Timedelta("5min")
    co2[rows.edge_id.map(number), window.astype(int)] = rows.true_co2_g
    return Case(network, emitter, told, t, laid, same | ~some[laid.edge], co2)


class Listening(Emitter):
    """An emission step that keeps the results of five minutes and publishes nothing."""

    kept: dict[int, Result]

    def _minute(self, *_: Any) -> None:
        pass

    def _segment_records(self, result: Result, r: Any, first: int, last: int, *_: Any) -> list[Any]:
        self.kept[last] = result
        return []


def said(c: Case, flows: FlowsSettings) -> tuple[F64, F64]:
    """(E, W) flow, vehicles an hour, and CO2, g in five minutes, under these parameters."""
    e = c.emitter
    settings = replace(e.settings, flows=flows)
    step = Listening(e.city, c.network, e.free_flow_kmh, e.expected_kmh, settings, e.flows.block)
    step.kept = {}
    for kind, *a in c.told:
        getattr(step, kind)(*a)
    windows, n = c.truth.flow.shape[1], len(c.truth.edges)
    flow, rate = np.full((2, len(c.network.segments), windows), np.nan)
    first = c.truth.start_ms // 60_000
    for last, result in step.kept.items():
        w = (last - first) // truth.FIVE
        if last >= first and w < windows:
            flow[:, w], rate[:, w] = result.flow_vph, result.values(np.arange(len(result.flow_vph)))[CO2] / 12.0 / step.length_km
    own = truth.Laid(c.laid.edge[c.alike], c.laid.segment[c.alike], c.laid.metres[c.alike])
    km = c.truth.edges.length_m.to_numpy()[:, None] / 1000.0
    return truth.on_edges(c.laid, flow, n), truth.on_edges(own, rate, n) * km


def errors(cases: list[Case], flows: FlowsSettings) -> dict[str, float]:
    """Median errors, pooled over runs."""
    off: dict[str, list[F64]] = {"counted": [], "scored": [], "long": [], "all": []}
    pairs = []
    for c in cases:
        t = c.truth
        flow, co2 = said(c, flows)
        has = (t.flow > 0) & np.isfinite(flow)
        long = np.broadcast_to((t.edges.length_m.to_numpy() >= truth.MIN_LENGTH_M)[:, None], has.shape)
        counted, scored = np.broadcast_to(t.counted[:, None], has.shape), np.isfinite(t.speed)
        error = np.abs(flow - t.flow) / np.where(has, t.flow, 1.0)
        for name, rows in {"counted": counted, "scored": ~counted & scored, "long": ~counted & long, "all": ~counted}.items():
            off[name].append(error[has & rows])
        rows = scored & (c.co2_g > 0) & np.isfinite(co2)
        pairs.append(np.column_stack([co2[rows], c.co2_g[rows]]))
    out = {name: float(np.median(np.concatenate(e))) for name, e in off.items()}
    guess, true = np.concatenate(pairs).T
    return {
        **out,
        "co2": float(np.median(np.abs(guess * true.sum() / guess.sum() - true) / true)),
        "co2_total": float(guess.sum() / true.sum()),
    }


def get(settings: Any, name: str) -> float:
    for part in name.split("."):
        settings = getattr(settings, part)
    return float(settings)


def put(settings: Any, name: str, value: float) -> Any:
    head, _, rest = name.partition(".")
    return replace(settings, **{head: put(getattr(settings, head), rest, value) if rest else value})


def score(e: dict[str, float]) -> float:
    return sum(e[name] / aim for name, aim in AIMS.items())


def fit(cases: list[Case], start: FlowsSettings, rounds: int) -> FlowsSettings:
    """One parameter at a time, up and down, while it helps by more than a thousandth."""
    best, found = start, score(errors(cases, start))
    for k in range(rounds):
        step = 1.5 ** (1.0 / (k + 1))
        for name in PARAMETERS:
            for factor in (step, 1.0 / step):
                while True:
                    tried = put(best, name, get(best, name) * factor)
                    s = score(errors(cases, tried))
                    if s > found - 0.003:
                        break
                    best, found = tried, s
                    print(f"{name} = {get(best, name):.3g}: {found:.3f}", flush=True)
    return best


def show(name: str, e: dict[str, float]) -> None:
    print(f"{name:10} score {score(e):.3f}  " + "  ".join(f"{k} {100 * v:.1f} %" for k, v in e.items()), flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=Path, required=True)
    p.add_argument("--osm", type=Path, required=True)
    p.add_argument("--names", default="1,2,7,42")
    p.add_argument("--test", default="", help="runs that are only scored, before and after")
    p.add_argument("--rounds", type=int, default=2)
    a = p.parse_args()
    cases, held_out = ([case(a.runs / n, a.osm) for n in names.split(",") if n] for names in (a.names, a.test))
    start = FlowsSettings()
    show("as it is", errors(cases, start))
    if held_out:
        show("  test", errors(held_out, start))
    best = fit(cases, start, a.rounds)
    show("fitted", errors(cases, best))
    if held_out:
        show("  test", errors(held_out, best))
    for name in PARAMETERS:
        print(f"{name:32} {get(start, name):8.3g} -> {get(best, name):8.3g}")


if __name__ == "__main__":
    main()
