"""Putting the parts of a drawn line into the order in which they are driven.

Most lines come as parts that follow each other. In some the parts are shuffled, a few are reversed, and a stretch that is driven twice
is drawn once. They are then driven by an Euler trail (Hierholzer 1873), after doubling the shortest stretches that it needs (the
Chinese postman, greedily), turned as most of its length was drawn.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Cell = tuple[int, int]

#: Stretches up to this length may have been drawn once and driven twice, metres: loops at termini hang on such stems.
DOUBLED_M = 1500.0
FAR = (float("inf"), -1)


def chain(parts: Sequence[Points], cell_m: float) -> tuple[list[Points], bool]:
    """The parts joined into as few polylines as their places allow, in driving order, and whether their direction is sure.

    It is sure when the parts follow each other as drawn. Otherwise order is found, but which end is the first is a guess: that most of
    the length was drawn forward.

    Args:
        parts: (k, 2) east, north of each part, metres; k >= 2.
        cell_m: places in one cell of a grid of this size meet, metres.

    >>> one, two = np.array([[0.0, 0], [10, 0]]), np.array([[30.0, 0], [20, 0], [10, 0]])
    >>> chained, sure = chain([one, two], 1.0)
    >>> [p.tolist() for p in chained], sure
    ([[[30.0, 0.0], [20.0, 0.0], [10.0, 0.0], [0.0, 0.0]]], False)
    """
    ends = _ends(parts, cell_m)
    if all(a[1] == b[0] for a, b in pairwise(ends)):
        return [_join(list(parts))], True
    parts = _split(parts, cell_m)
    ends = _ends(parts, cell_m)
    runs = _ordered([_oriented(trail, parts) for trail in _trails(ends, parts)], parts)
    return [_join([parts[i] if forward else parts[i][::-1] for i, forward in trail]) for trail in runs], False


Trail = list[tuple[int, bool]]  #: part index, driven as drawn


def _cells(points: Points, cell_m: float) -> list[Cell]:
    grid = np.rint(points / cell_m).astype(np.int64)
    return list(zip(grid[:, 0].tolist(), grid[:, 1].tolist(), strict=True))


def _ends(parts: Sequence[Points], cell_m: float) -> list[tuple[Cell, Cell]]:
    first, last = (_cells(np.array([part[k] for part in parts]), cell_m) for k in (0, -1))
    return list(zip(first, last, strict=True))


def _length(part: Points) -> float:
    return float(np.sum(np.hypot(*np.diff(part, axis=0).T)))


def _join(parts: Sequence[Points]) -> Points:
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def _split(parts: Sequence[Points], cell_m: float) -> list[Points]:
    """The parts cut wherever another part, or another stretch of the same, passes through one of their vertices."""
    cells = [_cells(part, cell_m) for part in parts]
    passes = Counter(cell for own in cells for cell in (own[0], *own, own[-1]))  # ends count twice: always a place to join
    pieces: list[Points] = []
    for part, own in zip(parts, cells, strict=True):
        at = [0, *(i for i in range(1, len(own) - 1) if passes[own[i]] > 1), len(own) - 1]
        pieces.extend(part[a : b + 1] for a, b in pairwise(at))
    return pieces


def _trails(ends: Sequence[tuple[Cell, Cell]], parts: Sequence[Points]) -> list[Trail]:
    """One trail or more for each set of parts that touch; they use every part."""
    touching: dict[Cell, list[int]] = defaultdict(list)
    for i, (a, b) in enumerate(ends):
        touching[a].append(i)
        touching[b].append(i)
    trails: list[Trail] = []
    unseen = dict.fromkeys(cell for pair in ends for cell in pair)  # a set that keeps the order of drawing
    while unseen:
        component, stack = [], [next(iter(unseen))]
        del unseen[stack[0]]
        while stack:
            component.append(stack.pop())
            for other in (other for i in touching[component[-1]] for other in ends[i]):
                if other in unseen:
                    del unseen[other]
                    stack.append(other)
        odd = sorted(cell for cell in component if len(touching[cell]) % 2)
        trails.extend(_euler(component, odd, ends, touching, [_length(part) for part in parts]))
    return trails


def _paths(
    start: Cell, ends: Sequence[tuple[Cell, Cell]], touching: dict[Cell, list[int]], length: list[float]
) -> dict[Cell, tuple[float, int]]:
    """Dijkstra's distances from a place, up to ``DOUBLED_M``, and the part by which each place is reached."""
    best: dict[Cell, tuple[float, int]] = {start: (0.0, -1)}
    queue = [(0.0, start)]
    while queue:
        far, cell = heapq.heappop(queue)
        if far > best[cell][0]:
            continue
        for i in touching[cell]:
            other = ends[i][1] if ends[i][0] == cell else ends[i][0]
            if far + length[i] <= DOUBLED_M and (other not in best or far + length[i] < best[other][0]):
                best[other] = (far + length[i], i)
                heapq.heappush(queue, (far + length[i], other))
    return best


def _euler(
    component: list[Cell], odd: list[Cell], ends: Sequence[tuple[Cell, Cell]], touching: dict[Cell, list[int]], length: list[float]
) -> list[Trail]:
    """A trail over one set of parts. Of its odd places two stay its ends; the others are joined in pairs, the nearest first, by driving
    the parts between them once more, or where that is too far by a jump, at which the trail is cut again."""
    copies: list[tuple[int, Cell, Cell]] = [(i, *ends[i]) for cell in component for i in touching[cell] if ends[i][0] == cell]
    copies = sorted(dict.fromkeys(copies))
    reach = {cell: _paths(cell, ends, touching, length) for cell in odd} if len(odd) > 2 else {}
    free = list(odd)
    while len(free) > 2:
        far, a, b = min((reach[a].get(b, FAR)[0], a, b) for i, a in enumerate(free) for b in free[i + 1 :])
        free.remove(a)
        free.remove(b)
        if far == FAR[0]:
            copies.append((-1, a, b))
            continue
        while b != a:
            part = reach[a][b][1]
            copies.append((part, *ends[part]))
            b = ends[part][1] if ends[part][0] == b else ends[part][0]
    rest: dict[Cell, list[tuple[int, bool]]] = defaultdict(list)
    for k in reversed(range(len(copies))):
        rest[copies[k][1]].append((k, True))
        rest[copies[k][2]].append((k, False))
    used: set[int] = set()
    stack: list[tuple[Cell, tuple[int, bool] | None]] = [(free[0] if free else min(component), None)]
    path: list[tuple[int, bool]] = []
    while stack:
        cell, step = stack[-1]
        while rest[cell] and rest[cell][-1][0] in used:
            rest[cell].pop()
        if rest[cell]:
            k, forward = rest[cell].pop()
            used.add(k)
            stack.append((copies[k][2] if forward else copies[k][1], (k, forward)))
        else:
            stack.pop()
            if step is not None:
                path.append(step)
    trails: list[Trail] = [[]]
    for k, forward in reversed(path):
        if copies[k][0] < 0:
            trails.append([])
        else:
            trails[-1].append((copies[k][0], forward))
    return [trail for trail in trails if trail]


def _oriented(trail: Trail, parts: Sequence[Points]) -> Trail:
    """The trail turned round when most of its length was drawn the other way."""
    as_drawn = sum(_length(parts[i]) if forward else -_length(parts[i]) for i, forward in trail)
    return trail if as_drawn >= 0 else [(i, not forward) for i, forward in reversed(trail)]


def _ordered(trails: list[Trail], parts: Sequence[Points]) -> list[Trail]:
    """Trails one after the other, turned where that brings them nearer: the order that begins anywhere and jumps least in all."""
    if len(trails) == 1:
        return trails
    turned = [[(i, not forward) for i, forward in reversed(trail)] for trail in trails]
    ways = [*trails, *turned]
    first = np.array([_end(parts, way[0], True) for way in ways])
    last = np.array([_end(parts, way[-1], False) for way in ways])
    jump = np.hypot(*(first[None] - last[:, None]).transpose(2, 0, 1))  # from the end of a way to the start of another
    best: tuple[float, list[int]] | None = None
    for start in range(len(ways)):
        order, free, total = [start], np.ones(len(ways), np.bool_), 0.0
        while True:
            free[[order[-1] % len(trails), order[-1] % len(trails) + len(trails)]] = False
            if not free.any():
                break
            order.append(int(np.argmin(np.where(free, jump[order[-1]], np.inf))))
            total += float(jump[order[-2], order[-1]])
        if best is None or total < best[0] - 1e-6:
            best = (total, order)
    assert best is not None
    chosen = [ways[i] for i in best[1]]
    as_drawn = sum(_length(parts[i]) * (1 if forward else -1) for way in chosen for i, forward in way)
    return chosen if as_drawn >= 0 else [[(i, not forward) for i, forward in reversed(way)] for way in reversed(chosen)]


def _end(parts: Sequence[Points], step: tuple[int, bool], first: bool) -> Points:
    part, forward = step
    place: Points = parts[part][0 if forward == first else -1]
    return place
