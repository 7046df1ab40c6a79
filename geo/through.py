"""Which streets lead through: how many quickest short trips between any two junctions run over each segment.

A residential street that links two avenues carries more than one that ends in a yard, and the map says which is which. Betweenness of edges (Freeman 1977; for traffic
Kazerani & Winter 2009, "Can betweenness centrality explain traffic flow?"), of trips up to a time limit, from a sample of junctions: trips across a whole city follow its
main roads anyway, and those have counters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.network import F64, I64, Bool, Segments


@dataclass(frozen=True, slots=True)
class ThroughSettings:
    """Which trips are tried."""

    #: Longest trip, seconds in light traffic. Cost grows with its square.
    limit_s: float = 180.0
    #: Junctions that trips begin at, spread evenly over the numbering; all of them in small networks. Cost grows in proportion.
    sources: int = 2048
    #: Sources worked on at once, as a number of (source, junction) pairs: memory, 24 bytes each.
    pairs: int = 2_000_000


def trips_through(s: Segments, speed_kmh: F64, driven: Bool, settings: ThroughSettings | None = None) -> F64:
    """Trips over each segment, (n,): from the sampled junctions to all that are reached within the limit. 0 where general traffic does not drive.

    Args:
        s: the network's segments.
        speed_kmh: (n,) in light traffic, > 0.
        driven: (n,) segments that trips may use.
    """
    cfg = settings or ThroughSettings()
    out: F64 = np.zeros(len(s))
    rows = np.flatnonzero(driven)
    if not len(rows):
        return out
    ends, at = np.unique(np.r_[s.from_node[rows], s.to_node[rows]], return_inverse=True)
    tail, head = at[: len(rows)], at[len(rows) :]
    order = np.lexsort((rows, tail))
    rows, head = rows[order], head[order]
    first = np.searchsorted(tail[order], np.arange(len(ends) + 1))
    cost_s = np.maximum(s.length_m[rows] * 3.6 / speed_kmh[rows], 1e-3)
    sources = np.arange(0, len(ends), max(1, -(-len(ends) // cfg.sources)))
    together = max(1, cfg.pairs // len(ends))
    time_s, by = np.full(together * len(ends), np.inf), np.full(together * len(ends), -1, np.int64)
    tail = tail[order]
    for k in range(0, len(sources), together):
        out[rows] += _trees(sources[k : k + together], len(ends), tail, head, first, cost_s, cfg.limit_s, time_s, by)
    return out


def _trees(sources: I64, nodes: int, tail: I64, head: I64, first: I64, cost_s: F64, limit_s: float, time_s: F64, by: I64) -> F64:
    """Trips over each edge on the quickest ways from some sources. Edges are in the order of their tails; those of node i are first[i]:first[i + 1].

    ``time_s`` (inf) and ``by`` (-1) have a place for each (source, node): when it is reached and by which edge. They are given back as they were.
    """
    reached = np.arange(len(sources)) * nodes + sources
    time_s[reached] = 0.0
    touched = [reached]
    while len(reached):  # every way is tried again from wherever a quicker one has been found
        node = reached % nodes
        count = first[node + 1] - first[node]
        edge = np.repeat(first[node] - (np.cumsum(count) - count), count) + np.arange(count.sum())
        base = np.repeat(reached - node, count)
        t = np.repeat(time_s[reached], count) + cost_s[edge]
        key = base + head[edge]
        better = (t < time_s[key]) & (t <= limit_s)
        t, key, edge = t[better], key[better], edge[better]
        order = np.lexsort((edge, t, key))
        best = order[np.r_[True, np.diff(key[order]) != 0]] if len(order) else order
        reached = key[best]
        time_s[reached], by[reached] = t[best], edge[best]
        touched.append(reached)
    every = np.unique(np.concatenate(touched))
    via = by[every]
    parent = np.searchsorted(every, every - every % nodes + tail[via])
    time_s[every], by[every] = np.inf, -1
    at = np.flatnonzero(via >= 0)
    trips = (via >= 0).astype(np.float64)  # that run to a node or on from it
    onward = np.bincount(parent[at], minlength=len(every))
    reached = at[onward[at] == 0]
    while len(reached):  # from the ends of the ways back to where they begin
        before = parent[reached]
        np.add.at(trips, before, trips[reached])
        np.subtract.at(onward, before, 1)
        before = np.unique(before)
        reached = before[(onward[before] == 0) & (via[before] >= 0)]
    over: F64 = np.bincount(via[at], trips[at], len(head)).astype(np.float64)
    return over
