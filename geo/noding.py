"""Lines that were drawn by several hands over the same streets, brought onto one set of points, so that they make one graph of streets.

Vertices within a few metres of each other become one, and a line that passes by another's vertex goes through it. What lies farther apart stays apart: the two roadways of a wide
street, which are drawn apart, but also streets that were drawn carelessly. Ways may turn back on themselves by as much.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from geo.lines import LAYER, DrawnLine
from geo.network import I64

Points = NDArray[np.float64]


def noded(lines: Sequence[DrawnLine], within_m: float) -> list[DrawnLine]:
    """The lines over common points, each kind of street by itself; lines without streets as they are.

    Args:
        within_m: how far a vertex may be moved, and how far beside a line a vertex may lie that the line is led through, metres.
    """
    out = list(lines)
    layers = defaultdict[str, list[int]](list)
    for i, line in enumerate(lines):
        if line.mode in LAYER:
            layers[LAYER[line.mode]].append(i)
    for own in layers.values():
        grid = {i: [np.rint(part).astype(np.int64) for part in lines[i].parts] for i in own}
        vertices = np.unique(np.concatenate([part for parts in grid.values() for part in parts]), axis=0)
        node = _nodes(vertices.astype(np.float64), within_m)
        row = {tuple(v): k for k, v in enumerate(vertices.tolist())}
        nodes = np.unique(node)
        points = vertices.astype(np.float64)
        tree = shapely.STRtree(shapely.points(points[nodes]))
        for i in own:
            walks = [_through([int(node[row[tuple(v)]]) for v in part.tolist()], points, nodes, tree, within_m) for part in grid[i]]
            out[i] = replace(lines[i], parts=tuple(points[walk] for walk in walks if len(walk) > 1))
    return out


def _nodes(points: Points, within_m: float) -> I64:
    """Of each point the one that stands for it: the first, in order of coordinates, that is near and stands for itself."""
    a, b = shapely.STRtree(shapely.points(points)).query(shapely.points(points), "dwithin", within_m)
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    begin = np.searchsorted(a, np.arange(len(points) + 1))
    node: I64 = np.full(len(points), -1, np.int64)
    for k in range(len(points)):
        if node[k] < 0:
            near = b[begin[k] : begin[k + 1]]
            node[near[node[near] < 0]] = k
    return node


def _through(walk: list[int], points: Points, nodes: I64, tree: shapely.STRtree, within_m: float) -> list[int]:
    """A walk over nodes led through all nodes that it passes by."""
    walk = [n for n, _ in groupby(walk)]
    if len(walk) < 2:
        return walk
    ends = points[walk]
    leg, near = tree.query(shapely.linestrings(np.stack([ends[:-1], ends[1:]], axis=1)), "dwithin", within_m)
    passed = defaultdict[int, list[tuple[float, int]]](list)
    for k, n in zip(leg.tolist(), nodes[near].tolist(), strict=True):
        if n not in (walk[k], walk[k + 1]):
            way = ends[k + 1] - ends[k]
            share = float((points[n] - ends[k]) @ way / (way @ way))
            if 0.0 < share < 1.0:
                passed[k].append((share, n))
    out = [walk[0]]
    for k, (_, to) in enumerate(pairwise(walk)):
        out += [*(n for _, n in sorted(passed[k])), to]
    return [n for n, _ in groupby(out)]
