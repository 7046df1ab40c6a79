"""Simulated truth: what a folder of ``groundtruth.py`` says, our segments laid over its edges, and the scores of an estimate.

The rules are those of the simulation's own scorer (its README): cars, edges of 20 m or more, windows of five minutes with 30 vehicle-seconds or more; a segment's
sample points, one every 5 m, belong to the nearest edge within 12 m that runs within 40 degrees of the same direction; the speed of an edge is the travel-time mean
over what lies on it. ``benchmarks/accuracy.py`` runs that scorer as well and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from geo.network import F64, I64, Bool, Network
from geo.polylines import coordinates
from geo.project import Plane

#: Limits of the Digitraffic fluency classes, share of free-flow speed.
FLUENCY = (0.10, 0.25, 0.75, 0.90)
MIN_LENGTH_M, MIN_VEHICLE_S = 20.0, 30.0
FIVE = 5


@dataclass(frozen=True)
class Laid:
    """Metres of our segments along the edges: rows of (edge, segment, metres)."""

    edge: I64
    segment: I64
    metres: F64


@dataclass(frozen=True)
class Truth:
    """One run: E edges, M minutes, M / 5 windows."""

    name: str
    start_ms: int
    edges: pd.DataFrame
    speed: F64  #: (E, M / 5) km/h of cars, NaN where too few
    weight: F64  #: (E, M / 5) vehicle-seconds of cars
    minute_speed: F64  #: (E, M)
    minute_weight: F64
    flow: F64  #: (E, M / 5) vehicles per hour of all classes, NaN: nobody
    seen: Bool  #: (E, M / 5) a bus outside its stops or a loop was there
    counted: Bool  #: (E,) has a loop

    @property
    def minutes(self) -> int:
        return self.minute_speed.shape[1]

    @property
    def limit(self) -> F64:
        return self.edges.speed_limit_kmh.to_numpy(np.float64)


def load(folder: Path) -> Truth:
    """Truth tables of one run."""
    edges = pd.read_parquet(folder / "edges.parquet")
    row = {k: i for i, k in enumerate(edges.edge_id)}
    five = pd.read_parquet(folder / "edge_5min.parquet")
    one = pd.read_parquet(folder / "edge_1min_car.parquet")
    start = five.window_start.min()
    windows = round((five.window_end.max() - start) / pd.Timedelta("5min"))
    long = edges.length_m.to_numpy() >= MIN_LENGTH_M

    def grid(t: pd.DataFrame, column: str, columns: int, every: str) -> F64:
        out = np.full((len(edges), columns), np.nan)
        out[t.edge_id.map(row).to_numpy(), ((t.window_start - start) / pd.Timedelta(every)).to_numpy().astype(int)] = t[column]
        return out

    cars = five[five.vehicle_class == "car"]
    weight = np.nan_to_num(grid(cars, "sampled_veh_s", windows, "5min"))
    minute_weight = np.nan_to_num(grid(one, "sampled_veh_s", windows * FIVE, "1min"))
    speed = np.where((weight >= MIN_VEHICLE_S) & long[:, None], grid(cars, "speed_kmh", windows, "5min"), np.nan)
    minute = np.where((minute_weight >= MIN_VEHICLE_S / FIVE) & long[:, None], grid(one, "speed_kmh", windows * FIVE, "1min"), np.nan)
    counted = np.zeros(len(edges), np.bool_)
    counted[pd.read_csv(folder / "detector_stations.csv").edge_id.map(row)] = True
    return Truth(
        folder.name, round(start.timestamp() * 1000), edges, speed, weight, minute, minute_weight,
        grid(five[five.vehicle_class == "all"], "flow_vph", windows, "5min"), _seen(folder, row, start, windows), counted,
    )  # fmt: skip


def _seen(folder: Path, row: dict[str, int], start: datetime, windows: int) -> Bool:
    """Where a bus was outside its stops (8 s before and after included), or a loop counted someone."""
    out = np.zeros((len(row), windows), np.bool_)
    bus = pd.read_parquet(folder / "bus_fcd.parquet", columns=["vid", "sim_s", "time", "edge_id"])
    bus = bus[bus.edge_id != ""]
    at_stop = {
        (r.vid, s)
        for r in pd.read_parquet(folder / "bus_stop_visits.parquet").itertuples()
        for s in range(int(r.sim_s) - 8, int(r.sim_s) + int((r.departed - r.arrived).total_seconds()) + 8)
    }
    bus = bus[[(v, int(s)) not in at_stop for v, s in zip(bus.vid, bus.sim_s, strict=True)]]
    out[bus.edge_id.map(row).to_numpy(), ((bus.time - start) // pd.Timedelta("5min")).to_numpy()] = True
    stations = pd.read_csv(folder / "detector_stations.csv")[["station_id", "direction", "edge_id"]]
    loops = pd.read_parquet(folder / "detectors_5min_sliding.parquet").query("count > 0").merge(stations, on=["station_id", "direction"])
    at = (loops.window_start - start) / pd.Timedelta("5min")
    whole = ((at == np.floor(at)) & (at >= 0) & (at < windows)).to_numpy()
    out[loops.edge_id.map(row).to_numpy()[whole], at.to_numpy()[whole].astype(int)] = True
    return out


def lay(network: Network, edges: pd.DataFrame, *, only: str | None = "general_traffic") -> Laid:
    """Our segments of one kind of traffic (None: of every kind) over the edges."""
    plane = Plane(network.crs)
    points, courses, owner = [], [], []
    for i, wkt in enumerate(edges.geometry_wkt):
        lon_lat = shapely.get_coordinates(shapely.from_wkt(wkt))
        p, d, _ = _samples(np.column_stack(plane.to_plane(lon_lat[:, 1], lon_lat[:, 0])), 2.0)
        points.append(p)
        courses.append(d)
        owner.append(np.full(len(p), i))
    xy, course, edge = np.vstack(points), np.vstack(courses), np.concatenate(owner)
    tree = shapely.STRtree(shapely.points(xy))
    rows: dict[tuple[int, int], float] = {}
    for s, represents in enumerate(network.segments.represents):
        if only is not None and represents != only:
            continue
        p, d, step = _samples(coordinates(network.segments.geometry, s), 5.0)
        sample, near = tree.query(shapely.points(p), "dwithin", 12.0)
        same = (course[near] * d[sample]).sum(axis=1) > np.cos(np.radians(40))
        sample, near = sample[same], near[same]
        distance = np.hypot(*(xy[near] - p[sample]).T)
        order = np.lexsort((near, distance, sample))
        first = order[np.r_[True, np.diff(sample[order]) != 0]] if len(order) else order
        for k in edge[near[first]].tolist():
            rows[(k, s)] = rows.get((k, s), 0.0) + step
    keys = sorted(rows)
    return Laid(np.array([k for k, _ in keys]), np.array([s for _, s in keys]), np.array([rows[k] for k in keys]))


def _samples(xy: NDArray[np.float64], every_m: float) -> tuple[F64, F64, float]:
    """Points, unit courses and the distance between points along a polyline."""
    step = np.diff(xy, axis=0)
    length = np.hypot(*step.T)
    along = np.r_[0.0, np.cumsum(length)]
    n = max(1, round(along[-1] / every_m))
    at = (np.arange(n) + 0.5) * along[-1] / n
    i = np.clip(np.searchsorted(along, at, side="right") - 1, 0, len(length) - 1)
    d = step[i] / np.maximum(length[i], 1e-9)[:, None]
    return xy[i] + d * (at - along[i])[:, None], d, along[-1] / n


def on_edges(laid: Laid, values: F64, n_edges: int) -> F64:
    """(E, M) means by metres of (N, M) values per segment; NaN values are left out."""
    some = np.isfinite(values[laid.segment])
    total, metres = np.zeros((n_edges, values.shape[1])), np.zeros((n_edges, values.shape[1]))
    np.add.at(total, laid.edge, np.where(some, values[laid.segment], 0.0) * laid.metres[:, None])
    np.add.at(metres, laid.edge, some * laid.metres[:, None])
    return np.where(metres > 0, total / np.where(metres > 0, metres, 1.0), np.nan)


def paces(laid: Laid, speed_kmh: F64, n_edges: int) -> F64:
    """(E, M) hours per km of (N, M) speeds per segment."""
    return on_edges(laid, 1.0 / np.maximum(speed_kmh, 0.5), n_edges)


def by_five(minutes: F64) -> F64:
    """Means over five minutes."""
    return minutes.reshape(len(minutes), -1, FIVE).mean(axis=2)


def pooled(pairs: list[tuple[Truth, F64]], where: list[Bool] | None = None) -> dict[str, float]:
    """Scores of (E, M / 5) speeds over several runs, optionally of a part of the edge windows."""
    kept: dict[str, list[F64]] = {k: [] for k in ("error", "weight", "truth", "limit", "said")}
    rows = 0
    for k, (t, said) in enumerate(pairs):
        asked = np.isfinite(t.speed) if where is None else np.isfinite(t.speed) & where[k]
        rows += int(asked.sum())
        has = asked & np.isfinite(said)
        limit = np.broadcast_to(t.limit[:, None], t.speed.shape)
        for name, x in (("error", said - t.speed), ("weight", t.weight), ("truth", t.speed), ("limit", limit), ("said", said)):
            kept[name].append(x[has])
    error, weight, truth, limit, said = (np.concatenate(kept[k]) for k in ("error", "weight", "truth", "limit", "said"))
    if not len(error):
        return {}
    a, b = np.digitize(said / limit, FLUENCY), np.digitize(truth / limit, FLUENCY)
    slow, slow_true = said < 0.5 * limit, truth < 0.5 * limit
    return {
        "rows": float(rows),
        "coverage": len(error) / max(rows, 1),
        "wmae": float((np.abs(error) * weight).sum() / weight.sum()),
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
        "exact": float((a == b).mean()),
        "within_one": float((np.abs(a - b) <= 1).mean()),
        "f1": 2 * float((slow & slow_true).sum()) / max(1.0, float(slow.sum() + slow_true.sum())),
    }


def calibration(confidence: F64, hit: F64, bins: int = 10) -> tuple[float, list[dict[str, Any]]]:
    """Expected calibration error, and share of hits by bins of confidence."""
    k = np.minimum((confidence * bins).astype(int), bins - 1)
    table = [
        {"from": i / bins, "rows": int((k == i).sum()), "said": float(confidence[k == i].mean()), "true": float(hit[k == i].mean())}
        for i in range(bins)
        if (k == i).any()
    ]
    return sum(abs(r["said"] - r["true"]) * r["rows"] for r in table) / max(len(confidence), 1), table
