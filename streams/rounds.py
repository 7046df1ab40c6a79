"""Rounds: the first event of each vehicle, the second, ...; and what becomes of each event on its way through the observe step."""

from __future__ import annotations

import numpy as np

from connectors.columns import I64
from geo.network import F64, I8, Bool

#: Whole degrees, looked up: a sine computed in a vector may differ in the last bit with the vector's length.
_SIN = np.array([float(np.sin(np.float64(d) * np.pi / 180)) for d in range(360)])
_COS = np.array([float(np.cos(np.float64(d) * np.pi / 180)) for d in range(360)])


class Match:
    """What became of each kept event of an envelope, columns (n,)."""

    __slots__ = ("any_dark", "closed", "counts", "dark", "off_route", "offset_m", "on", "profile", "segment", "shape", "trip", "verdict")

    def __init__(self, closed: Bool, dark: Bool) -> None:
        n = len(closed)
        self.closed = closed  #: its window was closed when it was received
        self.dark = dark  #: it has no position
        self.any_dark = bool(dark.any())
        self.verdict: I8 = np.full(n, -1, np.int8)
        self.shape: I64 = np.full(n, -1, np.int64)
        self.trip: I64 = np.zeros(n, np.int64)
        self.profile: I8 = np.zeros(n, np.int8)
        self.counts: Bool = np.zeros(n, np.bool_)
        self.on: Bool = np.zeros(n, np.bool_)
        self.off_route: Bool = np.zeros(n, np.bool_)
        self.segment: I64 = np.full(n, -1, np.int64)
        self.offset_m: F64 = np.zeros(n)


def rounds(slot: I64) -> list[I64]:
    """Indices of the first event of each vehicle, of the second, ...; within a round in the order of the log."""
    if not len(slot):
        return []
    order = np.argsort(slot, kind="stable")
    ordered = slot[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    start = np.maximum.accumulate(np.where(new, np.arange(len(slot)), 0))
    rank = np.empty(len(slot), np.int64)
    rank[order] = np.arange(len(slot)) - start
    if not rank.any():
        return [np.arange(len(slot))]
    by_rank = np.argsort(rank, kind="stable")
    return np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1)


def course(heading_deg: F64, speed_mps: F64) -> tuple[F64, F64]:
    """Unit vector (east, north) of the course; (0, 0) where unknown, or so slow that the course means nothing."""
    usable = np.isfinite(heading_deg) & ~(speed_mps < 1.5)
    index = np.rint(np.where(usable, heading_deg, 0.0)).astype(np.int64) % 360
    return np.where(usable, _SIN[index], 0.0), np.where(usable, _COS[index], 0.0)
