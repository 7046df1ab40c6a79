"""From the cells and readings of one window to what the estimator takes in: one row a segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from geo.network import F64, I64
from models.fusion import WindowSums
from streams.cells import DIST, DWELL, NEAR_DIST, NEAR_TIME, NEWEST, TIME
from streams.partial import SensorRow


def evidence(
    segment: I64,
    sums: I64,
    sensors: list[SensorRow],
    worth: F64 | None = None,
    site_worth: Mapping[tuple[str, str], float] | None = None,
) -> WindowSums:
    """Edie sums per segment, and readings of sites.

    Where a vehicle boarded, its time and way within the stop's zone are left out: braking and pulling away belong to the stop. Integers are added before they
    become seconds and metres, so the order of rows changes nothing.

    Args:
        segment: (n,) of each cell.
        sums: (n, N_SUMS).
        sensors: in an order of their names.
        worth: (n,) share of its weight that each cell keeps for the health of its feed; None: all of it.
        site_worth: the same of sites that keep less than all, by site and direction.
    """
    stopped = sums[:, DWELL] > 0
    dist = sums[:, DIST] - np.where(stopped, sums[:, NEAR_DIST], 0)
    time = sums[:, TIME] - np.where(stopped, sums[:, NEAR_TIME], 0)
    some = time > 0
    segment, dist, time, newest = segment[some], dist[some], time[some], sums[some, NEWEST]
    loop = _readings(sensors)
    loop_worth = _sites(loop[0], sensors, site_worth) if site_worth else None
    if not len(segment):
        none = np.empty(0, np.int64)
        return WindowSums(none, np.empty(0), np.empty(0), none, none, *loop, None, loop_worth)
    order = np.argsort(segment, kind="stable")
    segment = segment[order]
    new = np.flatnonzero(np.r_[True, segment[1:] != segment[:-1]])
    return WindowSums(
        segment[new],
        np.add.reduceat(dist[order], new) / 1000.0,
        np.add.reduceat(time[order], new) / 1000.0,
        np.diff(np.r_[new, len(segment)]),
        np.maximum.reduceat(newest[order], new),
        *loop,
        None if worth is None else np.add.reduceat((worth[some] * time)[order], new) / np.add.reduceat(time[order], new),
        loop_worth,
    )


def _sites(segment: I64, sensors: list[SensorRow], worth: Mapping[tuple[str, str], float]) -> F64:
    """Of segments with sites, the best of their feeds' worth."""
    best: dict[int, float] = {}
    for s in sensors:
        best[s.segment] = max(worth.get((s.site_id, s.direction), 1.0), best.get(s.segment, 0.0))
    return np.array([best[k] for k in segment.tolist()], np.float64)


def _readings(sensors: Iterable[SensorRow]) -> tuple[I64, F64, F64, I64]:
    """Segment, spot speed, flow and end of window; several sites on one segment: the mean of their speeds, the largest of their flows (they count one traffic)."""
    by_segment: dict[int, list[SensorRow]] = {}
    for s in sensors:
        if s.segment >= 0 and s.speed_kmh is not None and s.speed_kmh > 0:
            by_segment.setdefault(s.segment, []).append(s)
    rows = sorted(by_segment)
    speed = [sum(s.speed_kmh or 0.0 for s in by_segment[k]) / len(by_segment[k]) for k in rows]
    flow = [max((s.flow_vph for s in by_segment[k] if s.flow_vph is not None), default=np.nan) for k in rows]
    end = [max(s.window_end_ms for s in by_segment[k]) for k in rows]
    return np.array(rows, np.int64), np.array(speed, np.float64), np.array(flow, np.float64), np.array(end, np.int64)
