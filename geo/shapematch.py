"""Laying the shapes of routes onto the segments of a network, once, when the network is built.

Every shape is sampled about every 10 m. A sample's candidates are the segments near it that run its way; the chain of candidates
that fits best, counting distance, heading and whether the network leads from one to the next in about the distance of the samples,
is found by dynamic programming (Viterbi; the model of Newson & Krumm 2009, https://doi.org/10.1145/1653771.1653818, on drawn lines
instead of noisy fixes). All shapes advance together, one sample a step, so that numpy does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geo import polylines
from geo.assemble import Piece
from geo.network import F64, I64, Bool, Lines, Segments

Points = NDArray[np.float64]

#: What each mode's vehicles drive on: True for rails. Other modes (train, metro, ferry) are not on the streets and get no pieces.
ON_RAILS = {"bus": False, "trolleybus": False, "other": False, "tram": True, "cable_tram": True}


@dataclass(frozen=True, slots=True)
class ShapeMatchSettings:
    """How a shape is laid onto a network. Costs are negative log-likelihoods, without unit."""

    #: Distance between samples of a shape, metres. Halving it doubles the work.
    step_m: float = 10.0
    #: Segments farther than this from a sample are not candidates, metres. Drawn lines err by less than 15 m.
    radius_m: float = 25.0
    #: Standard deviation of a drawn line's distance from its street, metres.
    sigma_m: float = 6.0
    #: The way along the network may differ this much from the way along the shape at a cost of 1, metres.
    beta_m: float = 4.0
    #: Cost of opposing the shape's heading at a right angle.
    heading_cost: float = 4.0
    #: Candidates whose heading differs by more than this cosine are none.
    min_cos: float = 0.25
    #: Cost of a sample on no segment; it equals a candidate about 20 m away. Higher: fewer gaps, more wrong streets.
    off_cost: float = 6.0
    #: Cost of leaving the network and of coming back to it.
    switch_cost: float = 4.0
    #: Cost of turning round on the street.
    turn_cost: float = 8.0
    #: Service roads run beside the streets that buses use: cost of a sample on one.
    service_cost: float = 0.15
    #: Between two samples the network may pass segments without samples of this total length, metres.
    hop_m: float = 60.0
    #: Candidates kept per sample.
    candidates: int = 10


def match(
    points: Sequence[Points],
    modes: Sequence[str],
    segments: Segments,
    settings: ShapeMatchSettings | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[list[Piece]]:
    """Pieces of segments under each shape, in order; gaps where nothing fits or the network does not connect.

    Args:
        points: (k, 2) east, north of each shape, metres on the network's plane; k >= 2.
        modes: of each shape: bus, tram, ...; trams keep to rails, and take streets only where the network has no rails for them.
        segments: of the network.

    Returns:
        Per shape (from_m, to_m, segment, offset_m). A piece's length differs a little from that of the segment below it,
        where the shape cuts a corner.
    """
    settings = settings or ShapeMatchSettings()
    say = progress or (lambda _: None)
    result: list[list[Piece]] = [[] for _ in points]
    rails = np.array([kind == "rail" for kind in segments.represents], np.bool_)
    retry: list[int] = []
    for on_rails in (False, True):
        rows = [i for i, mode in enumerate(modes) if ON_RAILS.get(mode) is on_rails]
        if rows and (rails == on_rails).any():
            say(f"laying {len(rows)} shapes onto {'rails' if on_rails else 'streets'}")
            for i, pieces in zip(rows, _match_layer([points[i] for i in rows], segments, rails == on_rails, settings), strict=True):
                result[i] = pieces
        if on_rails:
            retry = [i for i in rows if sum(p[1] - p[0] for p in result[i]) < 0.5 * float(np.hypot(*np.diff(points[i], axis=0).T).sum())]
    if retry and not rails.all():
        for i, pieces in zip(retry, _match_layer([points[i] for i in retry], segments, ~rails, settings), strict=True):
            result[i] = max(result[i], pieces, key=lambda own: sum(p[1] - p[0] for p in own))
    return result


def _match_layer(points: Sequence[Points], segments: Segments, allowed: Bool, settings: ShapeMatchSettings) -> list[list[Piece]]:
    """Equal shapes are matched once; shapes of similar length advance together."""
    unique: dict[bytes, int] = {}
    which = [unique.setdefault(own.tobytes(), len(unique)) for own in points]
    first = [which.index(k) for k in range(len(unique))]
    lines = polylines.from_parts([points[i] for i in first])
    length = polylines.lengths(lines)
    count = np.maximum(np.ceil(length / settings.step_m), 1).astype(np.int64) + 1
    hops = _Hops(segments, allowed, settings.hop_m)
    tree_rows = np.flatnonzero(allowed)
    geometry = linestrings(segments.geometry)
    tree = shapely.STRtree(geometry[tree_rows])
    done: dict[int, list[Piece]] = {}
    order = np.lexsort((np.arange(len(count)), -count))
    at = 0
    while at < len(order):
        size = max(1, min(len(order) - at, 400_000 // int(count[order[at]])))
        rows = order[at : at + size]
        at += size
        chunk = _candidates(lines, rows, count[rows], length[rows], segments, geometry, tree, tree_rows, settings)
        chosen = _viterbi(chunk, count[rows], length[rows] / (count[rows] - 1), segments, hops, settings)
        for k, row in enumerate(rows.tolist()):
            n = int(count[row])
            along = np.linspace(0.0, float(length[row]), n)
            pick = chosen[k, :n]
            on = pick < settings.candidates
            slot = np.where(on, pick, 0)
            segment = np.where(on, chunk.segment[k, np.arange(n), slot], -1)
            done[row] = _pieces(along, segment, chunk.offset_m[k, np.arange(n), slot], segments, hops)
    return [done[k] for k in which]


def linestrings(lines: Lines) -> NDArray[np.object_]:
    """Shapely geometry of polylines."""
    owner = np.repeat(np.arange(len(lines)), np.diff(lines.start))
    made: NDArray[np.object_] = shapely.linestrings(np.column_stack([lines.east_m, lines.north_m]), indices=owner)
    return made


@dataclass(slots=True)
class _Candidates:
    """(shapes, samples, candidates); segment -1: no candidate in that slot."""

    segment: I64
    offset_m: F64
    cost: F64


def _direction(lines: Lines, line: I64, along_m: F64, length: F64, reach_m: float) -> tuple[F64, F64]:
    """Unit vector of the chord from ``reach_m`` before each position to ``reach_m`` after it."""
    e1, n1 = polylines.point_at(lines, line, np.maximum(along_m - reach_m, 0.0))
    e2, n2 = polylines.point_at(lines, line, np.minimum(along_m + reach_m, length))
    de, dn = e2 - e1, n2 - n1
    size = np.hypot(de, dn)
    size[size == 0] = 1.0
    return de / size, dn / size


def _candidates(
    lines: Lines,
    rows: I64,
    count: I64,
    length: F64,
    segments: Segments,
    geometry: NDArray[np.object_],
    tree: shapely.STRtree,
    tree_rows: I64,
    settings: ShapeMatchSettings,
) -> _Candidates:
    k, t = settings.candidates, int(count.max())
    shape = np.repeat(np.arange(len(rows)), count)
    sample = np.arange(len(shape)) - np.repeat(np.cumsum(count) - count, count)
    along = sample * (length / (count - 1))[shape]
    east, north = polylines.point_at(lines, rows[shape], along)
    he, hn = _direction(lines, rows[shape], along, length[shape], 6.0)
    point = shapely.points(east, north)
    near, hit = tree.query(point, predicate="dwithin", distance=settings.radius_m)
    segment = tree_rows[hit]
    distance = shapely.distance(geometry[segment], point[near])
    offset = np.minimum(shapely.line_locate_point(geometry[segment], point[near]), segments.length_m[segment])
    se, sn = _direction(segments.geometry, segment, offset, segments.length_m[segment], 6.0)
    cos = he[near] * se + hn[near] * sn
    service = np.array([kind == "service" for kind in segments.road_class], np.bool_)
    cost = 0.5 * (distance / settings.sigma_m) ** 2 + settings.heading_cost * (1.0 - cos) + settings.service_cost * service[segment]
    keep = np.flatnonzero((cos >= settings.min_cos) & (cost < settings.off_cost + 2 * settings.switch_cost))
    order = keep[np.lexsort((segment[keep], cost[keep], near[keep]))]
    rank = np.arange(len(order)) - np.searchsorted(near[order], near[order])
    order, rank = order[rank < k], rank[rank < k]
    out = _Candidates(np.full((len(rows), t, k), -1, np.int64), np.zeros((len(rows), t, k)), np.full((len(rows), t, k), np.inf))
    place = (shape[near[order]], sample[near[order]], rank)
    out.segment[place], out.offset_m[place], out.cost[place] = segment[order], offset[order], cost[order]
    return out


def _viterbi(
    chunk: _Candidates, count: I64, step_m: F64, segments: Segments, hops: _Hops, settings: ShapeMatchSettings
) -> NDArray[np.int8]:
    """(shapes, samples) chosen slot of each sample; ``settings.candidates`` means none. Shapes come longest first."""
    s, t, k = chunk.segment.shape
    back = np.full((s, t, k + 1), k, np.int8)
    score = np.full((s, k + 1), np.inf)
    score[:, :k] = chunk.cost[:, 0]
    score[:, k] = settings.off_cost
    final = np.zeros((s, k + 1))
    for i in range(1, t):
        live = int(np.searchsorted(-count, -i, side="left"))  # shapes with more than i samples
        ended = slice(live, len(score))
        final[ended], score = score[ended], score[:live]
        seg, off = chunk.segment[:live, i - 1 : i + 1], chunk.offset_m[:live, i - 1 : i + 1]
        total = np.full((live, k + 1, k + 1), np.inf)
        total[:, :k, :k] = score[:, :k, None] + _transition(seg, off, step_m[:live], segments, hops, settings)
        total[:, k, :k] = score[:, k, None] + settings.switch_cost
        total[:, :k, k] = score[:, :k] + settings.switch_cost
        total[:, k, k] = score[:, k]
        back[:live, i] = np.argmin(total, axis=1)
        score = np.min(total, axis=1)
        score[:, :k] += chunk.cost[:live, i]
        score[:, k] += settings.off_cost
    final[: len(score)] = score
    chosen = np.full((s, t), k, np.int8)
    for row in range(s):
        slot = int(np.argmin(final[row]))
        for i in range(int(count[row]) - 1, -1, -1):
            chosen[row, i] = slot
            slot = int(back[row, i, slot])
    return chosen


def _transition(seg: I64, off: F64, step_m: F64, segments: Segments, hops: _Hops, settings: ShapeMatchSettings) -> F64:
    """(shapes, k, k) cost of going from each candidate of one sample to each of the next; inf where the network does not lead there."""
    cost = np.full((len(seg), seg.shape[2], seg.shape[2]), np.inf)
    row, i, j = np.nonzero((seg[:, 0, :, None] >= 0) & (seg[:, 1, None, :] >= 0))
    a, b, o, p, step = seg[row, 0, i], seg[row, 1, j], off[row, 0, i], off[row, 1, j], step_m[row]
    through = segments.length_m[a] - o + hops.distance(segments.to_node[a], segments.from_node[b]) + p
    best = np.abs(through - step) / settings.beta_m
    same = a == b
    ahead = p - o
    best = np.where(same & (ahead > -3.0), np.minimum(best, np.abs(ahead - step) / settings.beta_m), best)
    turned = segments.opposite[a] == b
    moved = np.abs(segments.length_m[b] - p - o)
    best = np.where(turned, np.minimum(best, np.abs(moved - step) / settings.beta_m + settings.turn_cost), best)
    cost[row, i, j] = best
    return cost


class _Hops:
    """Distances between nodes along allowed segments, up to a bound, all found at once by relaxing every pair."""

    def __init__(self, segments: Segments, allowed: Bool, bound_m: float) -> None:
        rows = np.flatnonzero(allowed)
        rows = rows[np.lexsort((rows, segments.from_node[rows]))]
        self._nodes = int(max(segments.from_node.max(initial=0), segments.to_node.max(initial=0))) + 1
        begins = np.searchsorted(segments.from_node[rows], np.arange(self._nodes + 1))
        nodes = np.unique(np.concatenate([segments.from_node[rows], segments.to_node[rows]]))
        key, far, last = nodes * self._nodes + nodes, np.zeros(len(nodes)), np.full(len(nodes), -1, np.int64)
        front_key, front_far = key, far
        while len(front_key):
            begin, end = front_key // self._nodes, front_key % self._nodes
            fan = begins[end + 1] - begins[end]
            taken = rows[np.repeat(begins[end], fan) + np.arange(fan.sum()) - np.repeat(np.cumsum(fan) - fan, fan)]
            new_far = np.repeat(front_far, fan) + segments.length_m[taken]
            new_key = np.repeat(begin, fan) * self._nodes + segments.to_node[taken]
            near = new_far <= bound_m
            new_key, new_far, taken = new_key[near], new_far[near], taken[near]
            order = np.lexsort((taken, new_far, new_key))
            new_key, new_far, taken = new_key[order], new_far[order], taken[order]
            least = np.concatenate([[True], new_key[1:] != new_key[:-1]]) if len(new_key) else np.zeros(0, np.bool_)
            new_key, new_far, taken = new_key[least], new_far[least], taken[least]
            place = np.minimum(np.searchsorted(key, new_key), len(key) - 1)
            known = key[place] == new_key
            better = known & (new_far < far[place])
            far[place[better]], last[place[better]] = new_far[better], taken[better]
            fresh = ~known
            where = np.searchsorted(key, new_key[fresh])
            key = np.insert(key, where, new_key[fresh])
            far, last = np.insert(far, where, new_far[fresh]), np.insert(last, where, taken[fresh])
            front_key, front_far = new_key[fresh | better], new_far[fresh | better]
        self._key, self._far, self._last, self._from = key, far, last, segments.from_node

    def distance(self, begin: I64, end: I64) -> F64:
        """Metres from node to node; inf beyond the bound."""
        wanted = begin * self._nodes + end
        place = np.minimum(np.searchsorted(self._key, wanted), len(self._key) - 1)
        return np.where(self._key[place] == wanted, self._far[place], np.inf)

    def way(self, begin: int, end: int) -> list[int]:
        """Segments from node to node, in order."""
        segments: list[int] = []
        while begin != end:
            place = int(np.searchsorted(self._key, begin * self._nodes + end))
            segments.append(int(self._last[place]))
            end = int(self._from[segments[-1]])
        return segments[::-1]


def _pieces(along: F64, segment: I64, offset: F64, segments: Segments, hops: _Hops) -> list[Piece]:
    """Runs of samples on one segment, joined where the network leads from one to the next."""
    jump = np.flatnonzero((segment[1:] != segment[:-1]) | ((segment[1:] >= 0) & (offset[1:] < offset[:-1] - 3.0)))
    pieces: list[Piece] = []
    start_m, start_offset = float(along[0]), float(offset[0])
    for i in [*jump.tolist(), len(segment) - 1]:
        a = int(segment[i])
        here = float(along[i])
        b = int(segment[i + 1]) if i + 1 < len(segment) else -1
        after = float(along[i + 1]) if i + 1 < len(segment) else here
        if a < 0 or b < 0:
            if a >= 0:
                pieces.append((start_m, here, a, start_offset))
            start_m, start_offset = after, float(offset[min(i + 1, len(segment) - 1)])
            continue
        o, p = float(offset[i]), float(offset[i + 1])
        length_a, length_b = float(segments.length_m[a]), float(segments.length_m[b])
        through = length_a - o + float(hops.distance(segments.to_node[[a]], segments.from_node[[b]])[0]) + p
        if (int(segments.opposite[a]) == b and abs(length_b - p - o) + 20.0 < abs(through - (after - here))) or not np.isfinite(through):
            middle = (here + after) / 2
            pieces.append((start_m, middle, a, start_offset))
            start_m, start_offset = middle, max(0.0, p - (after - middle))
            continue
        scale = (after - here) / through if through > 0 else 0.0
        mark = here + (length_a - o) * scale
        pieces.append((start_m, mark, a, start_offset))
        for hop in hops.way(int(segments.to_node[a]), int(segments.from_node[b])):
            ahead = mark + float(segments.length_m[hop]) * scale
            pieces.append((mark, ahead, hop, 0.0))
            mark = ahead
        start_m, start_offset = mark, 0.0
    return [piece for piece in pieces if piece[1] - piece[0] > 0.001]
