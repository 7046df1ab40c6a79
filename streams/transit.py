"""What transit vehicles drove in a window, vehicle by vehicle, from the cells of observe; and who is on board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from geo.network import F64, I64
from streams.cells import DIST, DWELL, TIME, WINDOW_MS
from streams.partial import CrewRow

#: Modes that drive on streets by engine; trams and trains are not in the factor tables.
ROAD_MODES = frozenset({"bus", "ubus", "robot", "unknown"})


class Crews:
    """What vehicles said of themselves in the windows that are open."""

    def __init__(self) -> None:
        self.windows: dict[int, dict[str, CrewRow]] = {}

    def hear(self, rows: Iterable[CrewRow], first: int) -> None:
        """Take in what a partial says; windows before ``first`` are final."""
        for r in rows:
            if r.window >= first:
                window = self.windows.setdefault(r.window, {})
                if r.newer(window.get(r.vehicle_id)):
                    window[r.vehicle_id] = r

    def of(self, w: int) -> Mapping[str, CrewRow]:
        return self.windows.get(w, {})

    def forget(self, w: int) -> None:
        """Windows up to ``w`` are final."""
        for old in [k for k in self.windows if k <= w]:
            del self.windows[old]

    def export(self) -> dict[int, list[Any]]:
        return {w: list(rows.values()) for w, rows in self.windows.items()}

    def restore(self, data: Mapping[int, list[Any]]) -> None:
        self.windows = {int(w): {r.vehicle_id: r for r in (msgspec.convert(x, CrewRow) for x in rows)} for w, rows in data.items()}


@dataclass(frozen=True, slots=True)
class Driven:
    """Cells of road vehicles in one window, one row a vehicle and segment, and the vehicles they belong to."""

    segment: I64  #: (m,)
    vehicle: I64  #: (m,) row in the columns below
    time_ms: I64  #: (m,) on the segment, boarding included
    dist_mm: I64  #: (m,)
    vehicle_id: list[str]  #: (v,) sorted
    mode: list[str]
    occupancy_pct: list[float]  #: -1: not reported
    total_ms: I64  #: (v,)
    total_mm: I64

    @property
    def speed_kmh(self) -> F64:
        """Of each vehicle over all its cells, boarding included: what the curves are made for."""
        out: F64 = self.total_mm * 3.6 / np.maximum(self.total_ms, 1)
        return out


def driven(w: int, segment: I64, who: I64, sums: I64, names: Sequence[str], crews: Mapping[str, CrewRow]) -> Driven:
    """Road vehicles of window ``w`` among its cells. A vehicle whose mode nobody has told counts as one."""
    time = sums[:, TIME] + sums[:, DWELL]
    number, inverse = np.unique(who, return_inverse=True)
    ids = [names[k] for k in number.tolist()]
    mode = [crews[v].mode if v in crews else "unknown" for v in ids]
    order = sorted((k for k in range(len(ids)) if mode[k] in ROAD_MODES), key=lambda k: ids[k])
    place = np.full(len(ids), -1, np.int64)
    place[order] = np.arange(len(order))
    vehicle = place[inverse] if len(inverse) else np.empty(0, np.int64)
    keep = (vehicle >= 0) & (time > 0)
    segment, vehicle, time, dist = segment[keep], vehicle[keep], time[keep], sums[keep, DIST]
    by = np.lexsort((vehicle, segment))
    total_ms, total_mm = np.zeros((2, len(order)), np.int64)
    np.add.at(total_ms, vehicle, time)
    np.add.at(total_mm, vehicle, dist)
    return Driven(
        segment[by], vehicle[by], time[by], dist[by], [ids[k] for k in order], [mode[k] for k in order],
        [crews[ids[k]].occupancy_pct if ids[k] in crews else -1.0 for k in order], total_ms, total_mm,
    )  # fmt: skip


class Recent:
    """Cells of the last few windows, for sums over a block and for what counters count."""

    def __init__(self, windows: int) -> None:
        self.keep = windows
        #: window -> segment, time_ms, dist_mm, stream of the rate table, speed of the vehicle in mm/s
        self.cells: dict[int, tuple[I64, I64, I64, I64, I64]] = {}

    def add(self, w: int, d: Driven, stream: I64) -> None:
        """A window that has become final."""
        speed_mms = np.rint(d.speed_kmh / 3.6 * 1000.0).astype(np.int64)
        self.cells[w] = (d.segment, d.time_ms, d.dist_mm, stream[d.vehicle], speed_mms[d.vehicle])
        for old in [k for k in self.cells if k <= w - self.keep]:
            del self.cells[old]

    def between(self, first: int, last: int) -> tuple[I64, I64, I64, I64, I64]:
        """All cells of windows first..last."""
        parts = [self.cells[w] for w in sorted(self.cells) if first <= w <= last]
        if not parts:
            none = np.empty(0, np.int64)
            return none, none, none, none, none
        a, b, c, d, e = (np.concatenate(x) for x in zip(*parts, strict=True))
        return a, b, c, d, e

    def flow_vph(self, last: int, length_km: F64) -> F64:
        """Flow of transit vehicles on every segment over the windows kept, by Edie: distance / (length x time)."""
        segment, _, dist, _, _ = self.between(last - self.keep + 1, last)
        total = np.bincount(segment, dist, len(length_km))
        out: F64 = total / 1e6 / (np.maximum(length_km, 1e-6) * self.keep * WINDOW_MS / 3_600_000)
        return out

    def export(self) -> dict[int, list[bytes]]:
        return {w: [a.astype("<i8").tobytes() for a in cells] for w, cells in self.cells.items()}

    def restore(self, data: Mapping[int, list[bytes]]) -> None:
        self.cells = {}
        for w, columns in data.items():
            a, b, c, d, e = (np.frombuffer(x, "<i8") for x in columns)
            self.cells[int(w)] = (a, b, c, d, e)
