"""Where traffic is held by signals: at junctions, once, whatever number of signal nodes the map draws around them.

A map draws signals as points: on the node where streets meet, or on the stop lines before it, for one direction or for both, and at crossings for people in the
middle of a block. Taken one by one they hold a vehicle two or three times at one junction, hold it where it leaves one, and miss the arms that were not drawn.
So: a junction has signals when a signal stands on it or on the last metres before it; junctions a few metres apart are one; and whoever enters is held once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from geo.network import F64, I64, Bool, Segments

#: Classes that make no junction by themselves: drives, aisles and yards.
MINOR = frozenset({"service", "tram", "transit_line"})
#: Who gives way to whom, by OSM highway class; what is not named ranks as a residential street.
RANK = {"motorway": 6, "trunk": 5, "primary": 4, "secondary": 3, "tertiary": 2}


@dataclass(frozen=True, slots=True)
class JunctionSettings:
    """Distances by which signals and nodes belong together."""

    #: A signal belongs to the next junction within this distance downstream, metres (stop lines stand 5-25 m before the middle).
    reach_m: float = 20.0
    #: Junction nodes nearer to each other than this are one junction, metres (two carriageways, offset arms).
    join_m: float = 20.0


@dataclass(frozen=True, slots=True)
class Junctions:
    """What a vehicle meets at the end of each of n segments."""

    held: Bool  #: a junction's signal stops it there
    crossing: Bool  #: a signal away from any junction: a crossing for people
    yields: Bool  #: it meets a street of a higher class there, without a signal
    cluster: I64  #: (nodes,) junction of each node, -1: not a junction


def junctions(s: Segments, settings: JunctionSettings | None = None) -> Junctions:
    """Signals by junction, of the streets of general traffic and of buses."""
    cfg = settings or JunctionSettings()
    n_nodes = int(max(s.from_node.max(initial=-1), s.to_node.max(initial=-1))) + 1
    street = np.array([c not in MINOR for c in s.road_class], np.bool_)
    rows = np.flatnonzero(street)
    start, end = s.from_node, s.to_node
    is_junction = _degree(start[rows], end[rows], n_nodes) >= 3
    east, north = _nodes(s, n_nodes)
    cluster = _clusters(np.flatnonzero(is_junction), east, north, cfg.join_m, n_nodes)

    flagged = street & (s.signal == 1)
    ahead = _ahead(rows, start, end, s.length_m, is_junction, n_nodes, cfg.reach_m)
    governed = np.full(len(s), -1, np.int64)
    governed[flagged] = ahead[end[flagged]]
    has = governed >= 0
    lit = np.zeros(n_nodes + 1, np.bool_)  # by cluster number
    lit[cluster[governed[has]]] = True

    inside_start, inside_end = cluster[start], cluster[end]
    enters = street & (inside_end >= 0) & (inside_end != inside_start)
    enters &= lit[np.maximum(inside_end, 0)]
    # a stop line on the way in holds there; the last metres behind it hold nobody again
    stopped = has & (cluster[np.maximum(governed, 0)] != inside_start) & ~enters
    inward = rows[inside_start[rows] < 0]  # on the way in, not through the junction and out again
    behind = _behind(inward, start, end, s.length_m, stopped, n_nodes, cfg.reach_m)
    held = stopped | (enters & ~behind[start])
    rank = np.array([RANK.get(c.removesuffix("_link"), 1) for c in s.road_class], np.int64)
    highest = np.zeros(n_nodes, np.int64)
    np.maximum.at(highest, np.r_[start[rows], end[rows]], np.r_[rank[rows], rank[rows]])
    yields = street & ~held & is_junction[end] & (highest[end] > rank)
    return Junctions(held, flagged & ~has, yields, cluster)


def _degree(start: I64, end: I64, n_nodes: int) -> I64:
    """Number of distinct neighbours of each node."""
    pairs = np.unique(np.concatenate([start * n_nodes + end, end * n_nodes + start]))
    return np.bincount(pairs // n_nodes, minlength=n_nodes)


def _nodes(s: Segments, n_nodes: int) -> tuple[F64, F64]:
    g = s.geometry
    east, north = np.zeros(n_nodes), np.zeros(n_nodes)
    first, last = g.start[:-1], g.start[1:] - 1
    east[s.from_node], north[s.from_node] = g.east_m[first], g.north_m[first]
    east[s.to_node], north[s.to_node] = g.east_m[last], g.north_m[last]
    return east, north


def _clusters(nodes: I64, east: F64, north: F64, join_m: float, n_nodes: int) -> I64:
    """Nodes within ``join_m`` of each other share a number: the least node of the group (transitively)."""
    cluster = np.full(n_nodes, -1, np.int64)
    if not len(nodes):
        return cluster
    points = shapely.points(east[nodes], north[nodes])
    a, b = shapely.STRtree(points).query(points, "dwithin", join_m)
    label = nodes.copy()
    while True:
        new = label.copy()
        np.minimum.at(new, a, label[b])
        if np.array_equal(new, label):
            break
        label = new
    cluster[nodes] = label
    return cluster


def _ahead(rows: I64, start: I64, end: I64, length: F64, is_junction: Bool, n_nodes: int, reach_m: float) -> I64:
    """Nearest junction within reach downstream of each node (itself, if it is one), -1 none."""
    distance = np.where(is_junction, 0.0, np.inf)
    found = np.where(is_junction, np.arange(n_nodes), -1)
    a, b, d = start[rows], end[rows], length[rows]
    while True:
        via = distance[b] + d
        better = (via <= reach_m) & (via < distance[a])
        if not better.any():
            return found
        k = np.flatnonzero(better)
        k = k[np.lexsort((found[b[k]], via[k], a[k]))]
        k = k[np.r_[True, a[k][1:] != a[k][:-1]]]
        target, new = found[b[k]], via[k]
        distance[a[k]], found[a[k]] = new, target


def _behind(rows: I64, start: I64, end: I64, length: F64, stopped: Bool, n_nodes: int, reach_m: float) -> Bool:
    """Nodes that one reaches within reach after having been stopped."""
    distance = np.full(n_nodes, np.inf)
    distance[end[stopped]] = 0.0
    a, b, d = start[rows], end[rows], length[rows]
    while True:
        new = distance.copy()
        np.minimum.at(new, b, distance[a] + d)
        new[new > reach_m] = np.inf
        if np.array_equal(new, distance):
            reached: Bool = np.isfinite(distance)
            return reached
        distance = new
