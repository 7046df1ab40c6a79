"""How right the emissions are: simulated rush hours through the real path, with the simulation's fleet, beside its HBEFA4 truth.

    python benchmarks/emissions_truth.py --runs DIR --osm EXTRACT.osm.pbf [--seeds 3,4,5,6,8] [--to docs/accuracy-emissions.md] [--json FILE]

Runs are folders of ``../shared/groundtruth/groundtruth.py``, named ``s<seed>`` or ``<seed>``. Each is replayed offline through the same core as live data. Where the
simulation's own scorer lies beside the repo it is asked too.

The truth covers the edges without the insides of junctions. Our segments reach to the middle of a junction, so what they emit per kilometre is laid on the
edges' own lengths ("on edges"); the scorer's rule for ``segment_id`` shares whole segments out to the edges that they touch, which brings in the junctions
("by segment").
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import truth
from connectors.cities import load as load_city
from geo.build import build
from geo.network import Network
from models.emission_records import EmissionArea, EmissionSegment
from models.emissions.fleet import example_fleet
from models.emissions.rates import Conditions, rate_table
from streams.emissions import EmissionSettings
from streams.fleets import rates
from streams.fuse import FuseSettings
from streams.offline import Run, replay
from streams.replays import NEVER_MS, log_of

ROOT = Path(__file__).resolve().parent.parent
SCORER = ROOT.parent / "shared" / "groundtruth" / "score.py"
COLUMNS = ("co2_g", "co2_lo95_g", "co2_hi95_g", "nox_g", "nox_lo95_g", "nox_hi95_g")
#: Bars of the project.
TOTAL, TOTAL_AIM, NOX, MEDIAN, MEDIAN_AIM, INSIDE = 0.25, 0.15, 0.50, 0.42, 0.35, (0.90, 0.98)


@dataclass
class Said:
    """One run: what was said and what was true, a row an edge and five minutes."""

    seed: str
    edges: pd.DataFrame  #: per-kilometre rates on the edges' own lengths
    segments: pd.DataFrame  #: whole segments, by the scorer's rule
    city: pd.DataFrame  #: bounds of the whole city's sum


def five(record: EmissionSegment | EmissionArea) -> bool:
    """Whether a record is of five minutes."""
    return (int(record.window_end[14:16]) - int(record.window_start[14:16])) % 60 == 5


def said(wire: Path, network: Network, settings: EmissionSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``emission-segment`` of five minutes as grams in the window; ``emission-area`` of the city."""
    city = load_city("helsinki")
    run = Run(city, network, fuse=replace(FuseSettings(), provisional_ms=NEVER_MS, emissions=settings))
    rows, areas = [], []
    for out in replay(run, log_of([wire], city, max_items=200, simulated=True)):
        for o in out.records.get("emission-segment", []):
            r = msgspec.json.decode(o.value, type=EmissionSegment)
            if five(r):
                grams = [getattr(q, b) / 12.0 for q in (r.co2_total, r.nox) for b in ("value", "lo95", "hi95")]
                rows.append((r.segment_id, r.window_start, *grams, r.flow_vph.value, r.flow_source))
        for o in out.records.get("emission-area", []):
            a = msgspec.json.decode(o.value, type=EmissionArea)
            if a.area_kind == "city" and five(a):
                areas.append((a.window_start, a.co2_total.value, a.co2_total.lo95, a.co2_total.hi95))
    table = pd.DataFrame(rows, columns=["segment_id", "window_start", *COLUMNS, "flow_vph", "flow_source"])
    table["window_start"] = pd.to_datetime(table.window_start, utc=True)
    return table, pd.DataFrame(areas, columns=["window_start", "value", "lo95", "hi95"])


def true_rows(folder: Path) -> pd.DataFrame:
    """Emissions of all vehicles on every edge and window, with the cars' time there and the flow."""
    five = pd.read_parquet(folder / "edge_5min.parquet")
    key = ["edge_id", "window_start"]
    cars = five[five.vehicle_class == "car"][[*key, "sampled_veh_s"]]
    every = five[five.vehicle_class == "all"][[*key, "flow_vph", "speed_kmh"]].rename(
        columns={"flow_vph": "true_vph", "speed_kmh": "true_kmh"}
    )
    em = pd.read_parquet(folder / "emissions_5min.parquet").query("vehicle_class == 'all'")[[*key, "co2_g", "nox_g"]]
    em = em.rename(columns={"co2_g": "true_co2_g", "nox_g": "true_nox_g"})
    return em.merge(cars, on=key, how="left").merge(every, on=key, how="left").fillna({"sampled_veh_s": 0.0})


def measure(folder: Path, seed: str, osm: Path, settings: EmissionSettings) -> Said:
    """Replay one run and put what was said beside the truth."""
    city = load_city("helsinki")
    network = build(city.name, osm=osm, gtfs=folder / "wire" / "gtfs.zip", crs=city.crs)
    estimates, areas = said(folder / "wire", network, settings)
    edges = pd.read_parquet(folder / "edges.parquet")
    laid = truth.lay(network, edges)
    s = network.segments
    x = pd.DataFrame(
        {
            "edge_id": edges.edge_id.to_numpy()[laid.edge], "segment_id": np.array(s.segment_id)[laid.segment], "overlap_m": laid.metres,
            "edge_m": edges.length_m.to_numpy()[laid.edge], "segment_m": s.length_m[laid.segment],
            "alike": np.array(s.road_class)[laid.segment] == edges.highway.to_numpy()[laid.edge],
        }
    )  # fmt: skip
    whole = x.groupby("segment_id").overlap_m.transform("sum")
    own = x[x.alike | ~x.groupby("edge_id").alike.transform("any")]  # a yard beside the street is not the street
    rows = true_rows(folder)
    key = ["edge_id", "window_start"]
    out = []
    for table, share in ((own, own.overlap_m / own.segment_m), (x, x.overlap_m / whole)):
        m = table.assign(share=share).merge(estimates, on="segment_id")
        for c in COLUMNS:
            m[c] *= m.share
        m["flow_vph"] *= m.overlap_m
        sums = m.groupby(key)[[*COLUMNS, "flow_vph", "overlap_m"]].sum()
        sums["flow_source"] = m.sort_values("overlap_m").groupby(key).flow_source.last()
        sums["edge_m"] = m.groupby(key).edge_m.first()
        sums["flow_vph"] /= sums.overlap_m
        if table is own:
            for c in COLUMNS:
                sums[c] *= sums.edge_m / sums.overlap_m
        out.append(rows.merge(sums.reset_index(), on=key))
    return Said(seed, out[0], out[1], areas)


def scores(m: pd.DataFrame) -> dict[str, float]:
    """Totals of all rows, and medians and bounds of rows with 30 vehicle-seconds of cars or more on edges of 20 m or more."""
    x = m[(m.sampled_veh_s >= truth.MIN_VEHICLE_S) & (m.edge_m >= truth.MIN_LENGTH_M) & (m.true_co2_g > 0)]
    factor = x.true_co2_g.sum() / x.co2_g.sum()

    def ape(said: pd.Series[float], true: pd.Series[float]) -> float:
        return float(((said - true) / true).abs().median())

    counted = x[x.flow_source == "measured"]
    others = x[(x.flow_source != "measured") & (x.true_vph > 0)]
    return {
        "rows": float(len(x)),
        "co2": float(m.co2_g.sum() / m.true_co2_g.sum()),
        "nox": float(m.nox_g.sum() / m.true_nox_g.sum()),
        "median": ape(x.co2_g, x.true_co2_g),
        "median_one_factor": ape(x.co2_g * factor, x.true_co2_g),
        "inside": float(((x.true_co2_g >= x.co2_lo95_g) & (x.true_co2_g <= x.co2_hi95_g)).mean()),
        "inside_nox": float(((x.true_nox_g >= x.nox_lo95_g) & (x.true_nox_g <= x.nox_hi95_g)).mean()),
        "median_counted": ape(counted.co2_g, counted.true_co2_g) if len(counted) else float("nan"),
        "flow_uncounted": ape(others.flow_vph, others.true_vph),
    }


def factors_alone(folder: Path) -> dict[str, float]:
    """Our factors at true speeds and true vehicle times over HBEFA4: CO2 of the hour, hot engines and with the month's cold starts."""
    five = pd.read_parquet(folder / "edge_5min.parquet")
    em = pd.read_parquet(folder / "emissions_5min.parquet")[["edge_id", "window_start", "vehicle_class", "co2_g", "nox_g"]]
    x = five.merge(em, on=["edge_id", "window_start", "vehicle_class"])
    out = {}
    for name, weight, urban in (("emep", 0.0, False), ("middle", 0.5, False), ("hbefa", 1.0, False), ("middle_cold", 0.5, True)):
        table = rate_table(example_fleet(), Conditions(1.0, hbefa_weight=weight))
        co2 = true = 0.0
        for kind, stream in (("car", "general"), ("bus", "bus")):
            c = x[x.vehicle_class == kind]
            rate = table.rate_at(stream, c.speed_kmh.to_numpy(), urban=urban)
            co2 += float((rate[:, 1] * c.sampled_veh_s.to_numpy() / 3600.0).sum())
            true += float(c.co2_g.sum())
        out[name] = co2 / true
    cars = x[x.vehicle_class == "car"]
    standing = cars[cars.speed_kmh < 3.0]
    out["standing_co2"] = float(standing.co2_g.sum() / cars.co2_g.sum())
    out["standing_g_s"] = float(standing.co2_g.sum() / standing.sampled_veh_s.sum())
    return out


def scorer(folder: Path, estimates: pd.DataFrame) -> dict[str, Any] | None:
    """The simulation's own scorer on the same rows, given by edge."""
    if not SCORER.exists():
        return None
    spec = importlib.util.spec_from_file_location("score", SCORER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cars, _ = module.truth_cars(folder)
    em = pd.read_parquet(folder / "emissions_5min.parquet").query("vehicle_class == 'all'")
    em = em.merge(cars[["edge_id", "window_start", "sampled_veh_s"]], on=["edge_id", "window_start"], how="left").fillna(
        {"sampled_veh_s": 0.0}
    )
    own = estimates[["edge_id", "window_start", "co2_g", "co2_lo95_g", "co2_hi95_g"]]
    m = em.merge(own, on=["edge_id", "window_start"], suffixes=("", "_est"))
    return {"total_ratio": round(float(m.co2_g_est.sum() / m.co2_g.sum()), 3), **module.spread(m[m.sampled_veh_s >= 30], "co2_g")}


def _pct(x: float) -> str:
    return f"{100 * x:.1f} %"


def text(runs: list[Said], alone: dict[str, dict[str, float]], theirs: dict[str, Any], fleet_rows: str) -> str:
    """``docs/accuracy-emissions.md``."""
    pooled = {"on edges": scores(pd.concat([r.edges for r in runs])), "by segment": scores(pd.concat([r.segments for r in runs]))}
    each = {r.seed: (scores(r.edges), scores(r.segments)) for r in runs}
    p = pooled["on edges"]
    width = np.concatenate([np.sqrt(r.city.hi95 / r.city.lo95) for r in runs])
    worst = max(abs(a["co2"] - 1.0) for pair in each.values() for a in pair)
    worst_nox = max(abs(a["nox"] - 1.0) for pair in each.values() for a in pair)

    def verdict(ok: bool) -> str:
        return "holds" if ok else "**missed**"

    lines = [
        "# Accuracy of the emissions",
        "",
        f"Generated by `benchmarks/emissions_truth.py` from simulated rush hours (seeds {', '.join(r.seed for r in runs)}; SUMO, central Helsinki, truth by its refit of HBEFA4).",
        "The wire streams of each run go through the real path offline, with the simulation's own fleet (`models/emissions/data/fleet_example.csv`) and everything else as live.",
        "",
        "What was known of the simulation before: the settings of the flow estimate (`streams/flows.py`, `streams/balance.py`) were fitted by `benchmarks/fit_flows.py` on the runs 1, 2, 7 and 42, as those of the speed estimate were; these are not among those reported. "
        "The usual flow of local streets was raised from 36 to 60 vehicles in the peak hour after the flows of runs 42 and 7 had been looked at. That the second opinion reaches down to standstill was decided after the queues of run 42 had come out "
        "too low; its numbers come from public cycles, not from the runs. Widths of the bounds of flow were set on runs 1, 2 and 3, by an earlier form of the estimate.",
        "",
        "| | bar | found, on edges (by segment) | |",
        "| --- | --- | --- | --- |",
        f"| CO2 of the hour, worst seed | ±25 %, aim ±15 % | {_pct(max(abs(a['co2'] - 1) for a, _ in each.values()))} ({_pct(max(abs(b['co2'] - 1) for _, b in each.values()))}) | {verdict(worst <= TOTAL)} |",
        f"| NOx of the hour, worst seed | ±50 % | {_pct(max(abs(a['nox'] - 1) for a, _ in each.values()))} ({_pct(max(abs(b['nox'] - 1) for _, b in each.values()))}) | {verdict(worst_nox <= NOX)} |",
        f"| CO2 of an edge and five minutes, median error after one common factor | ≤ 42 %, aim 35 % | {_pct(p['median_one_factor'])} ({_pct(pooled['by segment']['median_one_factor'])}) | {verdict(round(p['median_one_factor'], 3) <= MEDIAN)} |",
        f"| the same, as it is | - | {_pct(p['median'])} ({_pct(pooled['by segment']['median'])}) | |",
        f"| truth inside the 95 % bounds, CO2 | 90–98 % | {_pct(p['inside'])} ({_pct(pooled['by segment']['inside'])}) | {verdict(INSIDE[0] <= p['inside'] <= INSIDE[1])} |",
        f"| truth inside the 95 % bounds, NOx | - | {_pct(p['inside_nox'])} ({_pct(pooled['by segment']['inside_nox'])}) | |",
        f"| bounds of the whole city's CO2 in five minutes, ×/÷, median (widest) | - | {np.median(width):.2f} ({width.max():.2f}) | |",
        "",
        "The truth leaves out the insides of junctions, and simulated edges end where junctions begin, while our segments reach to the middle. *On edges*: our rates per kilometre on the edges' own "
        "lengths. *By segment*: whole segments shared out to the edges that they touch, the scorer's rule for `segment_id`; that brings the junctions in, about a fifth more street.",
        "",
        "| seed | CO2, on edges (by segment) | NOx | median error | after one factor | inside, CO2 | median error where counted | flow without a counter, median error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for seed, (a, b) in each.items():
        lines.append(
            f"| {seed} | {a['co2']:.3f} ({b['co2']:.3f}) | {a['nox']:.3f} ({b['nox']:.3f}) | {_pct(a['median'])} ({_pct(b['median'])}) | {_pct(a['median_one_factor'])} ({_pct(b['median_one_factor'])}) "
            f"| {_pct(a['inside'])} ({_pct(b['inside'])}) | {_pct(a['median_counted'])} | {_pct(a['flow_uncounted'])} |"
        )
    q = pooled["by segment"]
    lines.append(
        f"| pooled, {p['rows']:,.0f} rows | {p['co2']:.3f} ({q['co2']:.3f}) | {p['nox']:.3f} ({q['nox']:.3f}) | {_pct(p['median'])} ({_pct(q['median'])}) | {_pct(p['median_one_factor'])} ({_pct(q['median_one_factor'])}) "
        f"| {_pct(p['inside'])} ({_pct(q['inside'])}) | {_pct(p['median_counted'])} | {_pct(p['flow_uncounted'])} |"
    )
    if theirs:
        lines += ["", "The simulation's own scorer on the rows by edge says the same:", ""]
        lines += [f"- seed {seed}: {json.dumps({k: float(v) for k, v in t.items()})}" for seed, t in theirs.items()]
    lines += [
        "",
        "## What is factors and what is traffic",
        "",
        "Our factors at *true* speeds and vehicle times, CO2 of the hour over HBEFA4. The simulation has no cold starts; a replay has those of the month (March, +1 °C), as a live day would.",
        "",
        "| seed | EMEP/EEA | middle of both (used) | HBEFA4-like | middle, with cold starts | CO2 of cars that stand (below 3 km/h) | g/s of a standing car in the simulation |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for seed, a in alone.items():
        lines.append(
            f"| {seed} | {a['emep']:.3f} | {a['middle']:.3f} | {a['hbefa']:.3f} | {a['middle_cold']:.3f} | {_pct(a['standing_co2'])} | {a['standing_g_s']:.2f} |"
        )
    lines += [
        "",
        "So two errors of the totals partly cancel here, and neither was tuned away: our factors say less of a standing queue than SUMO's refit (a car of this fleet 0.60 g/s by EMEP/EEA, which is 0.9 l of petrol an hour, "
        "0.71 in the middle of the two models, against the last column), and a real March morning has cold starts that the simulation lacks.",
        "",
        "Chosen, and why: `hbefa_weight` is 0.5, the geometric mean of the two official models, because nothing says which is nearer to the street; the factor-set name says so, and each segment's bounds reach beyond both. "
        "Below the slowest cycle at which the models were compared (14 km/h) HBEFA4's rate per hour is continued as the straight line that its cycles lie on.",
        "",
        f"Coefficient rows used: digest `{fleet_rows}`; a replay lists them in `emission-factors.json`.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=Path, required=True)
    p.add_argument("--osm", type=Path, required=True)
    p.add_argument("--seeds", default="3,4,5,6,8")
    p.add_argument("--hbefa-weight", type=float, default=EmissionSettings().hbefa_weight)
    p.add_argument("--to", type=Path)
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    settings = EmissionSettings(fleet=example_fleet(), hbefa_weight=a.hbefa_weight)
    runs, alone, theirs = [], {}, {}
    for seed in a.seeds.split(","):
        folder = next((f for f in (a.runs / f"s{seed}", a.runs / seed) if f.exists()), None)
        if folder is None:
            sys.exit(f"{a.runs}: no run of seed {seed}")
        run = measure(folder, seed, a.osm, settings)
        runs.append(run)
        alone[seed] = factors_alone(folder)
        if (found := scorer(folder, run.edges)) is not None:
            theirs[seed] = found
        print(seed, json.dumps({"on_edges": scores(run.edges), "by_segment": scores(run.segments)}), file=sys.stderr)
    digest = rates(example_fleet(), "helsinki", date(2026, 3, 10), Conditions(1.0, hbefa_weight=a.hbefa_weight)).factor_rows
    page = text(runs, alone, theirs, digest)
    print(page)
    if a.to:
        a.to.write_text(page, encoding="utf-8")
    if a.json:
        figures = {r.seed: {"on_edges": scores(r.edges), "by_segment": scores(r.segments), "factors": alone[r.seed]} for r in runs}
        a.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
