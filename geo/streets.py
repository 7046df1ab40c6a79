"""The estimator's view of a network: expected speeds, and which segment is ahead of which."""

from __future__ import annotations

import numpy as np

from geo import polylines
from geo.junctions import MINOR, JunctionSettings, junctions
from geo.network import F64, I64, Network, Segments
from models.freeflow import LIMIT_SHARE, expected_speed, free_flow
from models.streets import Streets

#: Classes whose class and limit say nothing of who drives there and how: drives, yards, aisles, rails, lines without streets.
UNKNOWN_CLASSES = frozenset({"service", "tram", "transit_line"})
UNINTERRUPTED = frozenset({"motorway", "motorway_link", "trunk", "trunk_link"})
#: Straight on: a turn of less than this, degrees.
STRAIGHT_DEG = 45.0
#: Another name weighs like a turn of this much when several ways go straight on, degrees.
OTHER_NAME_DEG = 28.0
#: Courses are taken over this length at the ends of a segment, metres: the last metres before a node are often drawn askew.
COURSE_M = 15.0


def streets(network: Network, settings: JunctionSettings | None = None) -> Streets:
    """Expected speeds and links of all segments of a network."""
    s = network.segments
    free, _ = free_flow(s.speed_limit_kmh, s.road_class)
    j = junctions(s, settings)
    kind = np.unique(np.array(s.represents, dtype=np.str_), return_inverse=True)[1] if len(s) else np.empty(0, np.int64)
    link_from, link_to = _links(s, kind)
    return Streets(
        expected_kmh=expected_speed(free, s.length_m, j.held, j.yields),
        running_kmh=LIMIT_SHARE * free,
        free_flow_kmh=free,
        length_m=np.maximum(s.length_m, 0.1),
        lanes=np.maximum(s.lanes, 1).astype(np.float64),
        general=np.array([r == "general_traffic" for r in s.represents], np.bool_),
        known=np.array([c not in UNKNOWN_CLASSES for c in s.road_class], np.bool_),
        interrupted=np.array([c not in UNINTERRUPTED for c in s.road_class], np.bool_),
        ahead=_ahead(s, link_from, link_to),
        block=_blocks(s, link_from, link_to),
        link_from=link_from,
        link_to=link_to,
    )


def _links(s: Segments, kind: I64) -> tuple[I64, I64]:
    """Pairs (i, j): j begins where i ends, is of the same kind and does not lead straight back. Sorted."""
    order = np.argsort(s.from_node, kind="stable")
    starts = s.from_node[order]
    low, high = np.searchsorted(starts, s.to_node, "left"), np.searchsorted(starts, s.to_node, "right")
    count = high - low
    i = np.repeat(np.arange(len(s)), count)
    at = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    j = order[at]
    keep = (s.to_node[j] != s.from_node[i]) & (kind[i] == kind[j])
    return i[keep], j[keep]


def _blocks(s: Segments, i: I64, j: I64) -> I64:
    """Number of each segment's block: its least segment. A node ends a block when there is another way out of it or into it, drives and yards apart."""
    street = np.array([c not in MINOR for c in s.road_class], np.bool_)
    keep = street[i] & street[j]
    i, j = i[keep], j[keep]
    out, into = np.bincount(i, minlength=len(s)), np.bincount(j, minlength=len(s))
    only = (out[i] == 1) & (into[j] == 1)
    i, j = i[only], j[only]
    block = np.arange(len(s))
    while True:
        new = block.copy()
        np.minimum.at(new, j, block[i])
        np.minimum.at(new, i, block[j])
        if np.array_equal(new, block):
            return block
        block = new


def _ahead(s: Segments, i: I64, j: I64) -> I64:
    """For each segment the one straight ahead, -1 where none is."""
    ahead = np.full(len(s), -1, np.int64)
    if not len(i):
        return ahead
    begin, end = _courses(s)
    turn = np.abs((begin[j] - end[i] + np.pi) % (2 * np.pi) - np.pi)
    name = np.unique(np.array([n or "" for n in s.name], dtype=np.str_), return_inverse=True)[1]
    cost = np.rint(np.degrees(turn) + np.where(name[i] == name[j], 0.0, OTHER_NAME_DEG))
    straight = turn < np.radians(STRAIGHT_DEG)
    i, j, cost = i[straight], j[straight], cost[straight]
    order = np.lexsort((j, cost, i))
    i, j = i[order], j[order]
    first = np.r_[True, i[1:] != i[:-1]] if len(i) else np.empty(0, np.bool_)
    ahead[i[first]] = j[first]
    return ahead


def _courses(s: Segments) -> tuple[F64, F64]:
    """Course at the beginning and at the end of each segment, radians clockwise from north."""
    rows = np.arange(len(s))
    length = polylines.lengths(s.geometry)
    near, far = np.minimum(COURSE_M, length), np.maximum(length - COURSE_M, 0.0)
    (e0, n0), (e1, n1) = polylines.point_at(s.geometry, rows, np.zeros(len(s))), polylines.point_at(s.geometry, rows, near)
    (e2, n2), (e3, n3) = polylines.point_at(s.geometry, rows, far), polylines.point_at(s.geometry, rows, length)
    return np.arctan2(e1 - e0, n1 - n0), np.arctan2(e3 - e2, n3 - n2)
