"""Ways between two positions on the network, and what a vehicle drove on each segment of one.

A position is (segment, offset along it in metres). Everything here is columns over many pairs, elementwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.graph import Graph
from geo.network import F64, I8, I64

#: Kinds of way: none, along one segment, turning round in the street, through other segments or past a node
NONE, SAME, TURN, PATH = -1, 0, 1, 2


@dataclass(slots=True)
class Ways:
    """n ways, columns (n,)."""

    kind: I8
    distance_m: F64  #: inf without a way; negative: backwards on one segment, at most the noise allowed
    extra: F64  #: cost of turning round, nats
    table: I8  #: for ``Graph.before``
    entry: I64


@dataclass(slots=True)
class Traversals:
    """What vehicles drove: one row a segment, in order of driving within a vehicle. The times of a vehicle's rows in one step follow each other
    without a gap from its last match to this one, in proportion to distance; a standing vehicle has one row without distance."""

    slot: I64
    segment: I64
    from_offset_m: F64
    to_offset_m: F64
    t0_ms: I64
    t1_ms: I64


@dataclass(slots=True)
class Walked:
    """Pieces of ways, ragged, last piece first: ``way`` indexes the columns given to ``walk``."""

    way: I64
    step: I64  #: 0 for the last piece of a way, 1 for the one before, ...
    segment: I64
    from_offset_m: F64
    to_offset_m: F64


def find_ways(
    graph: Graph, profile: I8, a: I64, a_offset: F64, b: I64, b_offset: F64,
    *, reach_m: F64, expected_m: F64, beta_m: F64, turn_cost: float, back_m: float,
) -> Ways:  # fmt: skip
    """The way from each position a to its position b, all columns (n,).

    Between a street and its opposite there are two ways: turning round, at ``turn_cost``, and driving on to a place where that is usual. The one
    whose length fits ``expected_m`` better (scale ``beta_m``) is taken. ``reach_m`` bounds what lies between the two segments. ``back_m``: on one segment, so much backwards is noise and not a way round the block.
    """
    n = len(a)
    length = graph.length_m
    delta = b_offset - a_offset
    same = (a == b) & (delta >= -back_m)
    kind, distance, extra = np.full(n, NONE, np.int8), np.full(n, np.inf), np.zeros(n)
    table, entry = np.zeros(n, np.int8), np.full(n, -1, np.int64)
    kind[same], distance[same] = SAME, delta[same]
    other = np.flatnonzero(~same)
    if len(other):
        between, table[other], entry[other] = graph.distances(profile[other], a[other], b[other], reach_m[other])
        through = np.where(between <= reach_m[other], (length[a[other]] - a_offset[other]) + between + b_offset[other], np.inf)
        distance[other] = through
        kind[other] = np.where(np.isfinite(through), PATH, NONE)
        turn = other[graph.opposite[a[other]] == b[other]]
        if len(turn):
            turned = np.abs((length[b[turn]] - b_offset[turn]) - a_offset[turn])
            cheaper = (
                np.abs(turned - expected_m[turn]) / beta_m[turn] + turn_cost < np.abs(distance[turn] - expected_m[turn]) / beta_m[turn]
            )
            turn, turned = turn[cheaper], turned[cheaper]
            kind[turn], distance[turn], extra[turn] = TURN, turned, turn_cost
    return Ways(kind, distance, extra, table, entry)


def walk(graph: Graph, ways: Ways, a: I64, a_offset: F64, b: I64, b_offset: F64) -> Walked:
    """The pieces of segments that the ways run over; each must have one. Call before the graph is asked anything else."""
    length = graph.length_m
    kind = ways.kind
    way: list[I64] = []
    step: list[I64] = []
    segment: list[I64] = []
    begin: list[F64] = []
    end: list[F64] = []

    def piece(w: I64, s: int, seg: I64, from_m: F64, to_m: F64) -> None:
        for column, values in ((way, w), (step, np.full(len(w), s, np.int64)), (segment, seg), (begin, from_m), (end, to_m)):
            column.append(values)  # type: ignore[arg-type]

    w = np.flatnonzero(kind == SAME)
    piece(w, 0, b[w], a_offset[w], b_offset[w])
    w = np.flatnonzero(kind == TURN)
    facing = length[b[w]] - b_offset[w]  # b's place, seen from a
    turns_at = np.minimum(np.maximum(a_offset[w], facing), length[a[w]])
    piece(w, 0, b[w], np.minimum(np.maximum(length[b[w]] - turns_at, 0.0), b_offset[w]), b_offset[w])
    piece(w, 1, a[w], a_offset[w], turns_at)
    w = np.flatnonzero(kind == PATH)
    piece(w, 0, b[w], np.zeros(len(w)), b_offset[w])
    entry, s = ways.entry[w], 1
    while len(w):
        seg, entry = graph.before(ways.table[w], entry)
        first = seg < 0
        done = w[first]
        piece(done, s, a[done], a_offset[done], length[a[done]])
        w, seg, entry = w[~first], seg[~first], entry[~first]
        piece(w, s, seg, np.zeros(len(w)), length[seg])
        s += 1
    return Walked(np.concatenate(way), np.concatenate(step), np.concatenate(segment), np.concatenate(begin), np.concatenate(end))


def expand(walked: Walked, slot: I64, t0_ms: I64, t1_ms: I64) -> Traversals:
    """Share the time of each way among its pieces by distance, in whole milliseconds that leave nothing over."""
    n = len(slot)
    total, step = np.zeros(n), walked.step
    steps = [np.flatnonzero(step == s) for s in range(int(step.max(initial=-1)) + 1)]
    driven = walked.to_offset_m - walked.from_offset_m
    for rows in steps:
        total[walked.way[rows]] += driven[rows]
    left, until = np.zeros(n), t1_ms.copy()
    begin, end = np.zeros(len(step), np.int64), np.zeros(len(step), np.int64)
    last = np.full(n, -1, np.int64)  # the row of each way's first piece, the last one walked; -1: a way without pieces
    for rows in steps:
        w = walked.way[rows]
        last[w] = rows
        end[rows] = until[w]
        left[w] += driven[rows]
        share = np.where(total[w] > 0, left[w] / np.where(total[w] > 0, total[w], 1.0), 0.0)
        until[w] = t1_ms[w] - np.floor((t1_ms[w] - t0_ms[w]) * share).astype(np.int64)
        begin[rows] = until[w]
    some = last >= 0
    begin[last[some]] = t0_ms[some]
    keep = np.flatnonzero((driven > 0) | (end > begin) | (step == 0))  # the last piece always: there the vehicle is
    keep = keep[np.lexsort((-step[keep], walked.way[keep]))]
    return Traversals(
        slot[walked.way[keep]], walked.segment[keep], walked.from_offset_m[keep], walked.to_offset_m[keep], begin[keep], end[keep]
    )
