"""Streets as the estimator sees them: what to expect of each, and where its queue would come from.

A queue grows against the direction of travel: what happens on a segment tells of those before it, and hardly of those behind it
(Lighthill & Whitham 1955: in congestion waves run upstream; fitted by ``benchmarks/fit_fusion.py``, where information from upstream gained nothing).
So evidence is shared upstream only: fully along the street itself, thinly into every street that feeds it.
Pairs of sums travel as complex numbers, vehicle time in the real part and expected time in the imaginary part: one pass moves both.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def pool(self, sums: C128, reach_m: float, rounds: int) -> C128:
        """Sums of each segment with those straight ahead, fading by e over ``reach_m`` between the middles of segments."""
        has = self.ahead >= 0
        j = np.where(has, self.ahead, 0)
        weight = np.where(has, np.exp(-(self.length_m + self.length_m[j]) / 2 / reach_m), 0.0)
        total = sums
        for _ in range(rounds):
            total = sums + weight * total[j]
        return total

    def spread(self, sums: C128, reach_m: float, share: float, rounds: int) -> C128:
        """Sums of each segment with those that one may reach from it, every way out alike, fading likewise and by ``share`` at each step."""
        if not len(self.link_from):
            return sums
        first = np.flatnonzero(np.r_[True, self.link_from[1:] != self.link_from[:-1]])
        row = self.link_from[first]
        ways = np.diff(np.r_[first, len(self.link_from)])
        gap = (self.length_m[self.link_from] + self.length_m[self.link_to]) / 2
        weight = share * np.exp(-gap / reach_m) / np.repeat(ways, ways)
        total = sums
        for _ in range(rounds):
            inflow = np.add.reduceat(weight * total[self.link_to], first)
            total = sums.copy()
            total[row] += inflow
        return total
