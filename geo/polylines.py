"""Many polylines as flat columns: building them, measuring along them, finding points on them.

Coordinates are held on a grid of 1 mm and edge lengths on one of 1 µm, so that a line's measure depends on that line alone
(no rounding that differs with the row it stands in) and survives being stored as integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geo.network import F64, I64, Lines


def grid_mm(metres: NDArray[np.float64] | Sequence[float]) -> F64:
    """Metres rounded to 1 mm, exactly as they come back from integers of millimetres."""
    return np.asarray(np.rint(np.asarray(metres, np.float64) * 1000.0) / 1000.0, np.float64)


def from_flat(start: I64, east_m: F64, north_m: F64) -> Lines:
    """Polylines from vertices laid end to end; line i owns the vertices ``start[i]:start[i + 1]``. Rounds to 1 mm.

    >>> from_flat(np.array([0, 3]), np.array([0.0, 3.0, 3.0]), np.array([0.0, 4.0, 5.0])).along_m.tolist()
    [0.0, 5.0, 6.0]
    """
    start = np.asarray(start, np.int64)
    east, north = grid_mm(east_m), grid_mm(north_m)
    if len(east) == 0:
        return Lines(start, east, north, np.zeros(0))
    de, dn = np.diff(east), np.diff(north)
    step_um = np.zeros(len(east), np.int64)
    step_um[1:] = np.rint(np.sqrt(de * de + dn * dn) * 1e6).astype(np.int64)
    first = start[:-1][np.diff(start) > 0]
    step_um[first] = 0
    total = np.cumsum(step_um)
    along_um = total - np.repeat(total[first], np.diff(start)[np.diff(start) > 0])
    return Lines(start, east, north, along_um / 1e6)


def from_parts(parts: Sequence[NDArray[np.float64]]) -> Lines:
    """Polylines from one (k, 2) array of east, north per line, metres."""
    start = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(p) for p in parts], out=start[1:])
    flat = np.concatenate(parts) if parts else np.zeros((0, 2))
    return from_flat(start, flat[:, 0], flat[:, 1])


def lengths(lines: Lines) -> F64:
    """Length of each line, metres; an empty line has 0."""
    out = np.zeros(len(lines))
    some = np.diff(lines.start) > 0
    out[some] = lines.along_m[lines.start[1:][some] - 1]
    return out


def coordinates(lines: Lines, index: int) -> NDArray[np.float64]:
    """(k, 2) east, north of one line, metres."""
    part = slice(int(lines.start[index]), int(lines.start[index + 1]))
    return np.column_stack([lines.east_m[part], lines.north_m[part]])


def edge_at(lines: Lines, line: I64, along_m: F64) -> I64:
    """Index of the vertex that begins the edge on which each position lies; every line must have two vertices or more.

    Ties go to the later edge, except at the very end of a line.
    """
    first, last = lines.start[line], lines.start[line + 1] - 1
    low, high = first.copy(), last.copy()
    while np.any(high - low > 1):  # bisection of all queries at once
        middle = (low + high) // 2
        right = lines.along_m[middle] <= along_m
        low, high = np.where(right & (high - low > 1), middle, low), np.where(~right & (high - low > 1), middle, high)
    return np.minimum(low, last - 1)


def point_at(lines: Lines, line: I64, along_m: F64) -> tuple[F64, F64]:
    """(east, north) of positions along lines, metres; positions beyond an end are clipped to it."""
    edge = edge_at(lines, line, along_m)
    length = lines.along_m[edge + 1] - lines.along_m[edge]
    part = np.clip((along_m - lines.along_m[edge]) / np.where(length > 0, length, 1.0), 0.0, 1.0)
    east = lines.east_m[edge] + part * (lines.east_m[edge + 1] - lines.east_m[edge])
    north = lines.north_m[edge] + part * (lines.north_m[edge + 1] - lines.north_m[edge])
    return east, north
