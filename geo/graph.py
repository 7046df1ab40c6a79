"""Which segment follows which, and how far it is from one to another: bounded shortest paths, computed when first asked for.

A *row* holds, for one source segment, every segment whose start lies within ``bound_m`` of the source's end, with the distance between the
two and the segment before it on the way. Rows are pure functions of the network, so what is cached, or dropped, never changes a result.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

import numpy as np

from geo.network import F64, I8, I32, I64, Bool, Segments

#: Who drives: which values of ``Segments.represents`` a vehicle may use. The order is the value of a ``profile`` column.
PROFILES: Final = ("car", "bus", "rail", "any")
CAR, BUS, RAIL, ANY = range(len(PROFILES))
_USES: Final = (
    frozenset({"general_traffic"}),
    frozenset({"general_traffic", "bus_lane"}),
    frozenset({"rail"}),
    frozenset({"general_traffic", "bus_lane", "rail"}),
)
#: Segment pairs beyond which the oldest half of a table is dropped, 20 bytes each.
_MOST_PAIRS: Final = 3_200_000


class Graph:
    """Directed segments joined at their nodes.

    A vehicle does not turn back onto ``opposite`` at a junction, only where the street ends (for its profile). Streets and rails never
    join, whatever nodes they share: no vehicle changes between them.
    """

    def __init__(self, segments: Segments, bounds_m: tuple[float, ...] = (300.0, 1000.0, 3000.0)) -> None:
        """``bounds_m`` ascending: how far the tables of paths reach, metres; the nearest sufficient one answers a question."""
        if not bounds_m or any(not b > 0 for b in bounds_m) or list(bounds_m) != sorted(bounds_m):
            raise ValueError(f"bounds_m = {bounds_m}, expected ascending metres > 0")
        self.segments = segments
        if not len(segments):
            raise ValueError("a network without segments has no graph")
        self.length_m: F64 = np.ascontiguousarray(segments.length_m, np.float64)
        self.opposite: I64 = np.ascontiguousarray(segments.opposite, np.int64)
        self.rail: Bool = np.array([r == "rail" for r in segments.represents], bool)
        self.allowed: Bool = np.array([[r in uses for r in segments.represents] for uses in _USES], bool).reshape(len(_USES), -1)
        self.bounds_m: F64 = np.array(bounds_m)
        self._successors: dict[int, tuple[I64, I64]] = {}
        self._tables = [_Table(self, bound) for bound in bounds_m]

    def successors(self, profile: int) -> tuple[I64, I64]:
        """CSR ``(start (n + 1,), segment)``: where a vehicle may go from the end of each segment, ascending by index."""
        if profile not in self._successors:
            self._successors[profile] = _join(self.segments, self.allowed[profile], self.rail)
        return self._successors[profile]

    def distances(self, profile: I8, source: I64, target: I64, reach_m: F64) -> tuple[F64, I8, I64]:
        """From the end of each ``source`` to the start of its ``target``, all columns (n,).

        Args:
            profile: index into PROFILES.
            reach_m: how far the caller can use; looked up in the smallest table that covers it, or the largest there is.

        Returns:
            ``(distance_m, table, entry)``: metres, inf where there is no way within the table; the last two are for ``path``.
        """
        n = len(source)
        table: I8 = np.minimum(np.searchsorted(self.bounds_m, reach_m), len(self.bounds_m) - 1).astype(np.int8)
        if n and (table == table[0]).all():
            distance_m, entry = self._tables[table[0]].find(profile, source, target)
            return distance_m, table, entry
        distance_m, entry = np.full(n, np.inf), np.full(n, -1, np.int64)
        for number, rows in enumerate(self._tables):
            at = np.flatnonzero(table == number)
            if len(at):
                distance_m[at], entry[at] = rows.find(profile[at], source[at], target[at])
        return distance_m, table, entry

    def before(self, table: I8, entry: I64) -> tuple[I64, I64]:
        """One step back on the ways that ``distances`` found, before any other call: ``(segment, entry)`` of the previous segment,
        both -1 where that is the source itself."""
        segment, previous = np.full(len(entry), -1, np.int64), np.full(len(entry), -1, np.int64)
        for number, rows in enumerate(self._tables):
            at = np.flatnonzero(table == number)
            if len(at):
                step = rows.step[entry[at]]
                has = step != 0
                previous[at] = np.where(has, entry[at] + step, -1)
                segment[at] = np.where(has, rows.key[previous[at]] % len(self.length_m), -1)
        return segment, previous

    def path(self, profile: int, source: int, target: int, reach_m: float) -> list[int] | None:
        """Segments from ``source`` to ``target``, both included; None: no way within the tables."""
        one, reach = np.ones(1, np.int64), np.full(1, float(reach_m))
        distance_m, table, entry = self.distances((one * profile).astype(np.int8), one * source, one * target, reach)
        if not np.isfinite(distance_m[0]):
            return None
        found = [target]
        while True:
            segment, entry = self.before(table, entry)
            if entry[0] < 0:
                return [source, *reversed(found)]
            found.append(int(segment[0]))


class _Table:
    """Rows of one bound, in a pool of columns. Rows are kept by last use; when the pool is full, the half used longest ago is dropped."""

    def __init__(self, graph: Graph, bound_m: float) -> None:
        self.graph, self.bound_m = graph, bound_m
        n = len(graph.length_m) * len(PROFILES)
        # zeros take no memory before they are written, and few rows ever are: place 0 of the pool is nobody's
        self.start: I64 = np.zeros(n, np.int64)  #: 0: no such row yet
        self.size: I64 = np.zeros(n, np.int64)
        self.used: I64 = np.zeros(n, np.int64)
        self.clock = 0
        self.filled = 1
        #: ascending over the whole pool: where the row starts times the number of segments, plus the target; so one search finds a pair
        self.key: I64 = np.zeros(1024, np.int64)
        self.distance_m: F64 = np.zeros(1024)
        self.step: I32 = np.zeros(1024, np.int32)  #: from here to the place of the segment before, 0: that is the source
        self._lists: dict[int, tuple[list[int], list[int]]] = {}
        self._length: list[float] = []

    def find(self, profile: I8, source: I64, target: I64) -> tuple[F64, I64]:
        """Distance and pool index of each pair; inf and -1 where the row lacks the target."""
        row: I64 = profile * np.int64(len(self.graph.length_m)) + source
        self.clock += 1
        missing = row[self.start[row] == 0]
        if len(missing):
            rows = np.unique(missing)
            if self.filled > _MOST_PAIRS:
                self._drop(row)
            for key in rows.tolist():
                self._add(key)
            # dropping may have taken rows of this very call that were not missing before
            for key in np.unique(row[self.start[row] == 0]).tolist():
                self._add(key)
        self.used[row] = self.clock
        start = self.start[row]
        wanted = start * len(self.graph.length_m) + target
        at = np.minimum(np.searchsorted(self.key[: self.filled], wanted), self.filled - 1)
        found = (at < start + self.size[row]) & (self.key[at] == wanted)
        return np.where(found, self.distance_m[at], np.inf), np.where(found, at, -1)

    def _add(self, key: int) -> None:
        profile, source = divmod(key, len(self.graph.length_m))
        if profile not in self._lists:
            start, successor = self.graph.successors(profile)
            self._lists[profile] = (start.tolist(), successor.tolist())
            self._length = self.graph.length_m.tolist()
        target, distance_m, step = _dijkstra(source, *self._lists[profile], self._length, self.bound_m)
        first, last = self.filled, self.filled + len(target)
        if last > len(self.key):
            room = max(2 * len(self.key), last)
            for name in ("key", "distance_m", "step"):
                old = getattr(self, name)
                new = np.empty(room, old.dtype)
                new[:first] = old[:first]
                setattr(self, name, new)
        self.key[first:last], self.distance_m[first:last], self.step[first:last] = (
            first * len(self.graph.length_m) + target,
            distance_m,
            step,
        )
        self.start[key], self.size[key], self.filled = first, len(target), last

    def _drop(self, keep: I64) -> None:
        """Forget the half of the rows that was not used for longest; the rows ``keep`` stay."""
        self.used[keep] = self.clock
        rows = np.flatnonzero(self.start)
        rows = rows[np.lexsort((rows, self.used[rows]))]
        gone, stay = rows[: len(rows) // 2], np.sort(rows[len(rows) // 2 :])
        size = self.size[stay]
        start = np.cumsum(size) - size + 1
        at = np.r_[0, np.repeat(self.start[stay] - start, size) + np.arange(1, int(size.sum()) + 1)]
        self.key = self.key[at] + np.r_[0, np.repeat(start - self.start[stay], size) * len(self.graph.length_m)]
        self.distance_m, self.step = self.distance_m[at], self.step[at]
        self.start[gone], self.start[stay], self.filled = 0, start, len(at)


def _join(segments: Segments, allowed: Bool, rail: Bool) -> tuple[I64, I64]:
    """Successors of every segment for one profile, CSR."""
    n = len(segments)
    into = np.flatnonzero(allowed)
    into = into[np.argsort(segments.from_node[into], kind="stable")]
    node = segments.from_node[into]
    first, last = np.searchsorted(node, segments.to_node, "left"), np.searchsorted(node, segments.to_node, "right")
    count = last - first
    source = np.repeat(np.arange(n), count)
    successor = into[np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)]
    joined = rail[source] == rail[successor]
    source, successor = source[joined], successor[joined]
    back = segments.opposite[source] == successor
    onward = np.bincount(source[~back], minlength=n)
    keep = ~back | (onward[source] == 0)
    source, successor = source[keep], successor[keep]
    start = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(source, minlength=n), out=start[1:])
    return start, successor


def _dijkstra(source: int, start: list[int], successor: list[int], length_m: list[float], bound_m: float) -> tuple[I64, F64, I32]:
    """One row: targets ascending, metres from the source's end to each target's start, steps in the row to the segment before (0: that is the source).

    Ties go to the lower segment index, so that a row does not depend on anything but the network.
    """
    done: dict[int, tuple[float, int]] = {}
    least: dict[int, float] = {}  #: the shortest way so far: a longer one need not wait for its turn
    heap: list[tuple[float, int, int]] = []
    for segment in successor[start[source] : start[source + 1]]:
        heappush(heap, (0.0, segment, -1))
    while heap:
        distance_m, segment, before = heappop(heap)
        if segment in done:
            continue
        done[segment] = (distance_m, before)
        onward_m = distance_m + length_m[segment]
        if onward_m <= bound_m:
            for onward in successor[start[segment] : start[segment + 1]]:
                if onward_m <= least.get(onward, bound_m):
                    least[onward] = onward_m
                    heappush(heap, (onward_m, onward, segment))
    order = sorted(done)
    place = {segment: at for at, segment in enumerate(order)}
    return (
        np.array(order, np.int64),
        np.array([done[s][0] for s in order], np.float64),
        np.array([place[done[s][1]] - place[s] if done[s][1] >= 0 else 0 for s in order], np.int32),
    )
