"""What a blocked lane shows in loops and buses, from the simulation's truth tables, without any noise; and what a change detector on its loops would find.

    python benchmarks/blocked_lane.py RUN…

RUN: folders of ``groundtruth.py``. The detector is a one-sided CUSUM (Page 1954) of each station's minute values against the mean and deviation of its last 15 minutes, slack 0.75
deviations, one event a station in 15 minutes. A hit: on the blocked edge, or on one that follows it, within 5 minutes. Everything else is another event, true jams included.

Then the same of buses that stand where they should not: outside their stops (8 s before and after included), more than 60 m before the end of their edge, where no other bus stood within
30 m in the half hour before. A hit: in the 60 m before the car that blocks the lane.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

HISTORY, HOLD, SLACK = 15, 15, 0.75
BEFORE_END_M = 60.0


def incident(folder: Path) -> tuple[str, pd.Timestamp, set[str]]:
    """The blocked edge, since when, and the edges that follow it."""
    one = json.loads((folder / "incidents.json").read_text())[0]
    edges = pd.read_parquet(folder / "edges.parquet").set_index("edge_id")
    ahead = set(edges.index[edges.from_node == edges.loc[one["edge_id"]].to_node])
    return one["edge_id"], pd.Timestamp(one["start"]), ahead


def loops(folder: Path) -> pd.DataFrame:
    """Counts, speeds and occupancies by minute, with the edge of each station."""
    stations = pd.read_csv(folder / "detector_stations.csv")[["station_id", "direction", "edge_id"]]
    return pd.read_parquet(folder / "detectors_1min.parquet").merge(stations, on=["station_id", "direction"]).sort_values("window_start")


def shown(folder: Path) -> str:
    """A row of the table: 12 minutes before and minutes 1 to 10 of it."""
    edge, start, ahead = incident(folder)
    cars = pd.read_parquet(folder / "edge_1min_car.parquet").query("edge_id == @edge")
    buses = pd.read_parquet(folder / "bus_fcd.parquet", columns=["edge_id", "vid", "time"]).query("edge_id == @edge")
    buses = buses.groupby("vid").time.agg(["min", "size"])
    sites = loops(folder)
    columns: list[list[str]] = [[] for _ in range(6)]
    for stands, (a, b) in enumerate(((-12, 0), (1, 10))):

        def within(t: pd.Series, a: int = a, b: int = b) -> pd.Series:
            return (t >= start + pd.Timedelta(minutes=a)) & (t < start + pd.Timedelta(minutes=b))

        q = cars[within(cars.window_start)]
        driven, spent = (q.speed_kmh * q.sampled_veh_s).sum(), q.sampled_veh_s.sum()
        here, next_ = (sites[sites.edge_id.isin(e) & within(sites.window_start)] for e in ({edge}, ahead))
        speeds = [(x.mean_speed_kmh * x["count"]).sum() / max(x["count"].sum(), 1) for x in (here, next_)]
        took = buses[within(buses["min"])]["size"]
        row = (driven / spent, driven / (spent - stands * 60 * len(q)), speeds[0], here.occupancy_pct.mean(), speeds[1])
        for column, value in zip(columns, (*(f"{x:.1f}" for x in row), f"{took.median():.0f} ({len(took)})"), strict=True):
            column.append(value)
    return f"| {folder.name} | " + " | ".join(" / ".join(c) for c in columns) + " |"


def cusum(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Page's sum of falls of each minute's value, in deviations."""
    out, total = np.zeros(len(value)), 0.0
    for k in range(10, len(value)):
        before, w = value[max(k - HISTORY, 0) : k], weight[max(k - HISTORY, 0) : k]
        has = np.isfinite(before)
        if has.sum() >= 5 and np.isfinite(value[k]):
            mean = (before[has] * w[has]).sum() / max(w[has].sum(), 1.0)
            total = max(0.0, total + (mean - value[k]) / max(float(before[has].std()), 0.03) - SLACK)
        out[k] = total
    return out


def detected(folders: list[Path], kind: str, limits: tuple[int, ...]) -> None:
    """Hits and other events an hour, by the limit of the sum."""
    found = []
    for folder in folders:
        edge, start, ahead = incident(folder)
        for of, g in loops(folder).groupby("edge_id"):
            count, speed = g["count"].to_numpy(float), g.mean_speed_kmh.to_numpy(float)
            falls = (
                np.log(np.maximum(np.where(count > 0, speed, np.nan), 1.0))
                if kind == "speed"
                else -np.log(g.occupancy_pct.to_numpy(float) + 1)
            )
            late = (g.window_start + pd.Timedelta("1min") - start).dt.total_seconds().to_numpy()
            found.append((folder, of == edge or of in ahead, late, cusum(falls, count)))
    for limit in limits:
        hit: set[Path] = set()
        others = 0
        for folder, near, late, total in found:
            last = -HOLD
            for k in np.flatnonzero(total > limit).tolist():
                if k - last >= HOLD:
                    last = k
                    if near and 0 <= late[k] <= 300:
                        hit.add(folder)
                    else:
                        others += 1
        print(f"| {kind} | {limit} | {len(hit)} of {len(folders)} | {others / len(folders):.0f} |")


def stands(folder: Path) -> pd.DataFrame:
    """Times that buses stood away from stops and from the ends of edges, by their true trajectories: ``vid``, ``edge_id``, ``time``, ``pos_m``, ``seconds``."""
    bus = pd.read_parquet(folder / "bus_fcd.parquet", columns=["vid", "sim_s", "time", "edge_id", "pos_m", "speed_ms"])
    length = pd.read_parquet(folder / "edges.parquet").set_index("edge_id").length_m
    calls = {
        (r.vid, s)
        for r in pd.read_parquet(folder / "bus_stop_visits.parquet").itertuples()
        for s in range(int(r.sim_s) - 8, int(r.sim_s + (r.departed - r.arrived).total_seconds()) + 8)
    }
    bus = bus[(bus.edge_id != "") & (bus.speed_ms < 1.0)].sort_values(["vid", "sim_s"])
    bus = bus[[(v, int(s)) not in calls for v, s in zip(bus.vid, bus.sim_s, strict=True)]]
    bus = bus[bus.edge_id.map(length) - bus.pos_m > BEFORE_END_M]
    new = (bus.vid != bus.vid.shift()) | (bus.edge_id != bus.edge_id.shift()) | (bus.sim_s.diff() > 2)
    one = bus.groupby(new.cumsum()).agg(
        vid=("vid", "first"), edge_id=("edge_id", "first"), time=("time", "min"), pos_m=("pos_m", "min"), seconds=("sim_s", "size")
    )
    return one.sort_values("time")


def stood(folders: list[Path], limits: tuple[int, ...]) -> None:
    """Hits and other events an hour, by how long a bus stood at least."""
    for least in limits:
        hits = others = 0
        for folder in folders:
            edge, start, _ = incident(folder)
            block = 0.55 * pd.read_parquet(folder / "edges.parquet").set_index("edge_id").length_m[edge]
            every, hit = stands(folder), False
            for r in every[every.seconds >= least].itertuples():
                near = every[(every.edge_id == r.edge_id) & ((every.pos_m - r.pos_m).abs() < 30) & (every.vid != r.vid)]
                if ((near.time < r.time) & (near.time > r.time - pd.Timedelta("30min"))).any():
                    continue
                here = r.edge_id == edge and 0 <= (r.time - start).total_seconds() <= 300 and block - 60 <= r.pos_m <= block
                hit, others = hit or here, others + (not here)
            hits += hit
        print(f"| {least} | {hits} of {len(folders)} | {others / len(folders):.0f} |")


def main() -> None:
    folders = [Path(x) for x in sys.argv[1:]]
    print("| run | cars | without the one that stands | loop | its occupancy | loops ahead | buses took |\n" + "| --- " * 7 + "|")
    for folder in folders:
        print(shown(folder))
    print("\n| sum of | limit | found | other events an hour |\n" + "| --- " * 4 + "|")
    detected(folders, "speed", (2, 3, 4, 5, 10, 20))
    detected(folders, "occupancy", (2, 3, 5, 10, 20))
    print("\n| a bus stands for, s | found | other events an hour |\n" + "| --- " * 3 + "|")
    stood(folders, (2, 5, 10, 20, 60))


if __name__ == "__main__":
    main()
