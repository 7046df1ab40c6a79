"""Putting the parts of a drawn line into the order in which they are driven.

Most lines come as parts that follow each other. In some the parts are shuffled and a few are reversed; they are then driven by an
Euler trail over their ends (Hierholzer 1873), which uses every part once, turned as most of its length was drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Cell = tuple[int, int]


def chain(parts: Sequence[Points], cell_m: float) -> list[Points]:
    """The parts joined into as few polylines as their ends allow, in driving order.

    Args:
        parts: (k, 2) east, north of each part, metres; k >= 2.
        cell_m: ends in one cell of a grid of this size meet, metres.

    >>> one, two = np.array([[0.0, 0], [10, 0]]), np.array([[30.0, 0], [20, 0], [10, 0]])
    >>> [p.tolist() for p in chain([two, one], 1.0)]
    [[[30.0, 0.0], [20.0, 0.0], [10.0, 0.0], [0.0, 0.0]]]
    """
    ends = [(_cell(part[0], cell_m), _cell(part[-1], cell_m)) for part in parts]
    if all(a[1] == b[0] for a, b in pairwise(ends)):
        return [_join(list(parts))]
    trails = [_oriented(trail, parts) for trail in _trails(ends, parts)]
    return [_join([parts[i] if forward else parts[i][::-1] for i, forward in trail]) for trail in _ordered(trails, parts)]


Trail = list[tuple[int, bool]]  #: part index, driven as drawn


def _cell(point: Points, cell_m: float) -> Cell:
    return int(np.rint(point[0] / cell_m)), int(np.rint(point[1] / cell_m))


def _length(part: Points) -> float:
    return float(np.sum(np.hypot(*np.diff(part, axis=0).T)))


def _join(parts: Sequence[Points]) -> Points:
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def _trails(ends: Sequence[tuple[Cell, Cell]], parts: Sequence[Points]) -> list[Trail]:
    """Trails that use every part once. Odd places beyond the first two are paired by imaginary parts, at which the trail is cut again."""
    touching: dict[Cell, list[tuple[int, bool]]] = defaultdict(list)
    for i, (a, b) in enumerate(ends):
        touching[a].append((i, True))
        touching[b].append((i, False))
    trails: list[Trail] = []
    unseen = dict.fromkeys(cell for pair in ends for cell in pair)  # a set that keeps the order of drawing
    while unseen:
        component, stack = [], [next(iter(unseen))]
        del unseen[stack[0]]
        while stack:
            cell = stack.pop()
            component.append(cell)
            for i, _ in touching[cell]:
                for other in ends[i]:
                    if other in unseen:
                        del unseen[other]
                        stack.append(other)
        trails.extend(_euler(component, ends, touching))
    return trails


def _euler(component: list[Cell], ends: Sequence[tuple[Cell, Cell]], touching: dict[Cell, list[tuple[int, bool]]]) -> list[Trail]:
    odd = sorted(cell for cell in component if len(touching[cell]) % 2)
    # Imaginary parts have negative numbers -1, -2, ...; the first two odd places stay the ends of the trail.
    links: dict[Cell, list[tuple[int, bool]]] = defaultdict(list)
    imaginary: list[tuple[Cell, Cell]] = []
    for a, b in zip(odd[2::2], odd[3::2], strict=True):
        imaginary.append((a, b))
        links[a].append((-len(imaginary), True))
        links[b].append((-len(imaginary), False))
    start = odd[0] if odd else min(component)
    used: set[int] = set()
    rest = {cell: [*links[cell], *reversed(touching[cell])] for cell in component}
    stack: list[tuple[Cell, tuple[int, bool] | None]] = [(start, None)]
    path: list[tuple[int, bool]] = []
    while stack:
        cell, step = stack[-1]
        while rest[cell] and rest[cell][-1][0] in used:
            rest[cell].pop()
        if rest[cell]:
            part, forward = rest[cell].pop()
            used.add(part)
            pair = ends[part] if part >= 0 else imaginary[-part - 1]
            stack.append((pair[1] if forward else pair[0], (part, forward)))
        else:
            stack.pop()
            if step is not None:
                path.append(step)
    path.reverse()
    trails: list[Trail] = [[]]
    for part, forward in path:
        if part < 0:
            trails.append([])
        else:
            trails[-1].append((part, forward))
    return [trail for trail in trails if trail]


def _oriented(trail: Trail, parts: Sequence[Points]) -> Trail:
    """The trail turned round when most of its length was drawn the other way."""
    as_drawn = sum(_length(parts[i]) if forward else -_length(parts[i]) for i, forward in trail)
    return trail if as_drawn >= 0 else [(i, not forward) for i, forward in reversed(trail)]


def _ordered(trails: list[Trail], parts: Sequence[Points]) -> list[Trail]:
    """Trails one after the other: first the one with the first part drawn, then always the one that begins nearest."""
    rest = sorted(trails, key=lambda trail: min(i for i, _ in trail))
    ordered = [rest.pop(0)]
    while rest:
        i, forward = ordered[-1][-1]
        here = parts[i][-1 if forward else 0]
        starts = [parts[t[0][0]][0 if t[0][1] else -1] for t in rest]
        ordered.append(rest.pop(int(np.argmin([np.hypot(*(s - here)) for s in starts]))))
    return ordered
