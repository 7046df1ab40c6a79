"""Stretches of street: speeds averaged over some hundred metres.

Emission curves come from whole trips, stops included, so they must be asked for the mean speed over a stretch, never over the 40 m before a
signal. A stretch is what follows and precedes a segment on the same street.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geo.network import F64, I64, Network

#: Segments taken on either side at most.
_HOPS = 6


class Stretches:
    """For each segment the others on its stretch."""

    def __init__(self, network: Network, course: F64, reach_m: float) -> None:
        s = network.segments
        following, preceding = _neighbours(network, course)
        rows = np.arange(len(s))
        #: Segments that have a first, second, ... other one on their stretch, and which that is.
        self._others: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
        for step in (following, preceding):
            at, gone_m = rows, s.length_m / 2.0
            for _ in range(_HOPS):
                to = np.where((at >= 0) & (gone_m < reach_m / 2.0), step[np.maximum(at, 0)], -1)
                to = np.where(to == rows, -1, to)
                has = np.flatnonzero(to >= 0)
                if len(has):
                    self._others.append((has.astype(np.int32), to[has].astype(np.int32)))
                gone_m = gone_m + np.where(to >= 0, s.length_m[np.maximum(to, 0)], 0.0)
                at = to

    def sums(self, value: F64) -> F64:
        """(n,) sum of a column over each segment's stretch, itself first."""
        out = value.copy()
        for has, to in self._others:
            out[has] += value[to]
        return out

    def harmonic(self, speed_kmh: F64, length_m: F64) -> F64:
        """(n,) speed of one vehicle that drives along each segment's stretch: length over travel time."""
        out: F64 = self.sums(length_m) / np.maximum(self.sums(length_m / np.maximum(speed_kmh, 0.1)), 1e-9)
        return out

    def speed(self, vehicle_km_h: F64, vehicle_h_h: F64) -> F64:
        """(n,) space mean over each segment's stretch, km/h: distance over time of all segments on it (Edie).

        Args:
            vehicle_km_h: (n,) flow x length.
            vehicle_h_h: (n,) density x length.
        """
        time = self.sums(vehicle_h_h)
        out: F64 = self.sums(vehicle_km_h) / np.where(time > 0.0, time, 1.0)
        return out


def _neighbours(network: Network, course: F64) -> tuple[I64, I64]:
    """The next segment of the same street and class for each segment, the straightest, and the one before; -1: none."""
    s = network.segments
    n = len(s)
    starting: dict[tuple[int, str, str], list[int]] = {}
    for i, (node, name, road) in enumerate(zip(s.from_node.tolist(), s.name, s.road_class, strict=True)):
        if name:
            starting.setdefault((node, name, road), []).append(i)
    following, preceding = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    best = np.full(n, -2.0)
    for i, (node, name, road) in enumerate(zip(s.to_node.tolist(), s.name, s.road_class, strict=True)):
        choices = [j for j in starting.get((node, name, road), ()) if j != s.opposite[i] and j != i] if name else []
        if choices:
            straight = [float(course[i] @ course[j]) for j in choices]
            k = int(np.argmax(straight))
            following[i] = choices[k]
            if straight[k] > best[choices[k]]:
                best[choices[k]], preceding[choices[k]] = straight[k], i
    return following, preceding
