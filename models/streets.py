"""Streets as the estimator sees them: what to expect of each, and where its queue would come from.

A queue grows against the direction of travel: what happens on a segment tells of those before it, and hardly of those behind it
(Lighthill & Whitham 1955: in congestion waves run upstream; fitted by ``benchmarks/fit_fusion.py``, where information from upstream gained nothing).
So evidence is shared upstream only: fully along the street itself, thinly into every street that feeds it.
Pairs of sums travel as complex numbers, vehicle time in the real part and expected time in the imaginary part: one pass moves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
C128 = NDArray[np.complex128]


@dataclass(frozen=True)
class Streets:
    """n directed segments. Links join segments of the same kind (general traffic, bus lane, rail) where one may be driven after the other."""

    expected_kmh: F64  #: space mean over the segment in light traffic, its signal included
    running_kmh: F64  #: between junctions in light traffic
    free_flow_kmh: F64
    length_m: F64
    lanes: F64  #: >= 1; 1 where unknown
    general: Bool  #: speaks for general traffic: buses on it are measured against cars
    known: Bool  #: its class and limit tell what to expect there; of drives, yards and rails only vehicles tell
    interrupted: Bool  #: with junctions in its course (not a motorway): HCM's interrupted flow
    ahead: I64  #: the segment straight ahead, -1 none
    block: I64  #: pieces of one street with no other street between them share a number: the same vehicles drive them
    link_from: I64  #: (m,) links, sorted by link_from: from here ...
    link_to: I64  #: ... one may go there

    def __len__(self) -> int:
        return len(self.length_m)

    @cached_property
    def _behind(self) -> _Reverse:
        """Segments that have each one straight ahead."""
        return _Reverse(np.arange(len(self)), self.ahead, len(self))

    @cached_property
    def _feeding(self) -> _Reverse:
        """Segments from which one may go to each."""
        return _Reverse(self.link_from, self.link_to, len(self))

    @cached_property
    def _links(self) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Where the links from each segment begin, and metres between the middles of the two that a link joins."""
        begin = np.searchsorted(self.link_from, np.arange(len(self) + 1)).astype(np.int32)
        return begin, (self.length_m[self.link_from] + self.length_m[self.link_to]) / 2

    def pool(self, sums: C128, reach_m: float, rounds: int) -> C128:
        """Sums of each segment with those straight ahead, fading by e over ``reach_m`` between the middles of segments.

        Most streets of a large network have none, and are not looked at.
        """
        rows = self._behind.reach(np.flatnonzero(sums), rounds)
        place = _places(rows, len(self))
        ahead = self.ahead[rows]
        has = ahead >= 0
        j = np.where(has, ahead, 0)
        weight = np.where(has, np.exp(-(self.length_m[rows] + self.length_m[j]) / 2 / reach_m), 0.0)
        to = np.where(has, place[j], len(rows))
        own = np.append(sums[rows], 0.0)
        total = own.copy()
        for _ in range(rounds):
            total[:-1] = own[:-1] + weight * total[to]
        out = np.zeros(len(self), np.complex128)
        out[rows] = total[:-1]
        return out

    def spread(self, sums: C128, reach_m: float, share: float, rounds: int) -> C128:
        """Sums of each segment with those that one may reach from it, every way out alike, fading likewise and by ``share`` at each step."""
        rows = self._feeding.reach(np.flatnonzero(sums), rounds)
        first_link, gap = self._links
        begin = first_link[rows].astype(np.int64)
        ways = first_link[rows + 1] - begin
        at = np.flatnonzero(ways)
        ways = ways[at]
        link = ranges(begin[at], ways)
        first = np.cumsum(ways) - ways
        weight = share * np.exp(-gap[link] / reach_m) / np.repeat(ways, ways)
        to = _places(rows, len(self))[self.link_to[link]]
        own = np.append(sums[rows], 0.0)
        total = own.copy()
        for _ in range(rounds if len(at) else 0):
            inflow = np.add.reduceat(weight * total[to], first)
            total = own.copy()
            total[at] += inflow
        out = np.zeros(len(self), np.complex128)
        out[rows] = total[:-1]
        return out


class _Reverse:
    """For each segment those that lead to it."""

    def __init__(self, origin: I64, to: I64, n: int) -> None:
        inside = to >= 0
        order = np.argsort(to[inside], kind="stable")
        self.origin = origin[inside][order].astype(np.int32)
        self.begin = np.searchsorted(to[inside][order], np.arange(n + 1)).astype(np.int32)

    def reach(self, rows: I64, steps: int) -> I64:
        """``rows`` and all that lead to them in so many steps, sorted."""
        found, mark = np.zeros(len(self.begin) - 1, np.bool_), np.empty(len(self.begin) - 1, np.int32)
        new = rows
        found[new] = True
        for _ in range(steps):
            begin = self.begin[new].astype(np.int64)
            before = self.origin[ranges(begin, self.begin[new + 1] - begin)]
            before = before[~found[before]]
            if not len(before):
                break
            found[before] = True
            mark[before] = np.arange(len(before))
            new = before[mark[before] == np.arange(len(before))]  # each once
        return np.flatnonzero(found)


def _places(rows: I64, n: int) -> I64:
    """Where each of n segments is among ``rows``; behind them if it is not."""
    out = np.full(n, len(rows), np.int64)
    out[rows] = np.arange(len(rows))
    return out


def ranges(begin: I64, count: I64) -> I64:
    """begin[0], begin[0] + 1, ... count[0] of them, then those of begin[1], ...

    >>> ranges(np.array([7, 2]), np.array([2, 3])).tolist()
    [7, 8, 2, 3, 4]
    """
    out: I64 = np.repeat(begin - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
    return out
