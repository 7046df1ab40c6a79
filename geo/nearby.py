"""Segments near a point: a grid of the straight pieces of all segments, asked for many points at once.

Each cell of the grid lists every piece that lies within the radius of any point of the cell, so that one point needs one cell. Measured
beside shapely's STRtree in ``benchmarks/matching.py``; only elementwise arithmetic, so a point's answer never depends on its neighbours in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.network import F64, I8, I32, I64, Bool, Lines


@dataclass(slots=True)
class Near:
    """Candidates, ragged: one row a (point, segment), points ascending, segments ascending within a point."""

    point: I64
    segment: I64
    offset_m: F64  #: along the segment
    distance_m: F64  #: from the point
    toward_east: F64  #: unit vector of the street there, in driving direction
    toward_north: F64


#: Pieces of segments put into the grid at a time.
_TOGETHER = 10_000


class Nearby:
    """Grid over ``lines``; built once, read only."""

    def __init__(self, lines: Lines, radius_m: float, cell_m: float = 50.0) -> None:
        if not (radius_m > 0 and cell_m > 0):
            raise ValueError(f"radius_m = {radius_m}, cell_m = {cell_m}, expected metres > 0")
        self.radius_m, self.cell_m = radius_m, cell_m
        line = np.repeat(np.arange(len(lines)), np.diff(lines.start))
        one = np.flatnonzero(line[1:] == line[:-1])
        east, north = lines.east_m[one + 1] - lines.east_m[one], lines.north_m[one + 1] - lines.north_m[one]
        length = np.sqrt(east * east + north * north)
        one, east, north, length = one[length > 0], east[length > 0], north[length > 0], length[length > 0]
        self._segment: I64 = line[one]
        self._east, self._north, self._along = lines.east_m[one], lines.north_m[one], lines.along_m[one]
        self._toward_east, self._toward_north, self._length = east / length, north / length, length
        self._build()

    def _build(self) -> None:
        a, b = self._east, self._east + self._toward_east * self._length
        c, d = self._north, self._north + self._toward_north * self._length
        self._west = float(np.minimum(a, b).min()) if len(a) else 0.0
        self._south = float(np.minimum(c, d).min()) if len(a) else 0.0
        reach = self.radius_m + 1e-6
        west, east = self._column(np.minimum(a, b) - reach), self._column(np.maximum(a, b) + reach)
        south, north = self._row(np.minimum(c, d) - reach), self._row(np.maximum(c, d) + reach)
        wide, high = east - west + 1, north - south + 1
        parts = [
            self._cells(np.arange(k, min(k + _TOGETHER, len(wide))), west, south, wide, wide * high, reach)
            for k in range(0, len(wide), _TOGETHER)
        ]
        cell = np.concatenate([c for c, _ in parts] or [np.empty(0, np.int64)])
        piece = np.concatenate([p for _, p in parts] or [np.empty(0, np.int64)])
        order = np.argsort(cell, kind="stable")  # pieces stay ascending, hence segments too
        cell = cell[order]
        self._piece: I32 = piece[order].astype(np.int32)
        first = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]]) if len(cell) else np.zeros(0, np.int64)
        self._cell: I64 = cell[first]
        self._start: I64 = np.r_[first, len(cell)]

    def _cells(self, pieces: I64, west: I64, south: I64, wide: I64, count: I64, reach: float) -> tuple[I64, I64]:
        """Cells that some pieces reach into, a few thousand pieces at a time: a network of 150,000 segments would take 700 MB at once."""
        piece = np.repeat(pieces, count[pieces])
        size = count[pieces]
        inner = np.arange(len(piece)) - np.repeat(np.cumsum(size) - size, size)
        column = west[piece] + inner % wide[piece]
        row = south[piece] + inner // wide[piece]
        # a slanting piece does not touch every cell of its box: keep those whose middle is near enough
        middle_e = self._west + (column + 0.5) * self.cell_m - self._east[piece]
        middle_n = self._south + (row + 0.5) * self.cell_m - self._north[piece]
        along = np.clip(middle_e * self._toward_east[piece] + middle_n * self._toward_north[piece], 0.0, self._length[piece])
        off_e, off_n = middle_e - along * self._toward_east[piece], middle_n - along * self._toward_north[piece]
        keep = off_e * off_e + off_n * off_n <= (reach + self.cell_m * 0.7072) ** 2
        return _key(column[keep], row[keep]), piece[keep]

    def _column(self, east_m: F64) -> I64:
        return np.floor((east_m - self._west) / self.cell_m).astype(np.int64)

    def _row(self, north_m: F64) -> I64:
        return np.floor((north_m - self._south) / self.cell_m).astype(np.int64)

    def query(self, east_m: F64, north_m: F64, allowed: Bool | None = None, row: I8 | None = None) -> Near:
        """Every segment within the radius of each point, at its nearest place.

        Args:
            east_m, north_m: (n,) metres on the network's plane, finite.
            allowed: (profiles, segments) which segments may be candidates; None: all.
            row: (n,) the row of ``allowed`` for each point.
        """
        empty = len(self._cell) == 0
        cell = _key(self._column(east_m), self._row(north_m))
        at = np.zeros(len(cell), np.int64) if empty else np.minimum(np.searchsorted(self._cell, cell), len(self._cell) - 1)
        hit = np.zeros(len(cell), bool) if empty else self._cell[at] == cell
        first = np.where(hit, self._start[at], 0)
        count = np.where(hit, self._start[np.minimum(at + 1, len(self._start) - 1)] - first, 0)
        point = np.repeat(np.arange(len(cell)), count)
        piece = self._piece[np.arange(len(point)) + np.repeat(first - (np.cumsum(count) - count), count)]
        toward_east, toward_north = self._toward_east[piece], self._toward_north[piece]
        east, north = east_m[point] - self._east[piece], north_m[point] - self._north[piece]
        along = np.minimum(np.maximum(east * toward_east + north * toward_north, 0.0), self._length[piece])
        off_e, off_n = east - along * toward_east, north - along * toward_north
        square = off_e * off_e + off_n * off_n
        keep = square <= self.radius_m * self.radius_m
        if allowed is not None and row is not None:
            keep &= allowed[row[point], self._segment[piece]]
        kept = np.flatnonzero(keep)
        point, piece, along, square = point[kept], piece[kept], along[kept], square[kept]
        segment = self._segment[piece]
        if len(kept):
            # the nearest piece of each segment; the first of equals
            new = np.ones(len(kept), np.bool_)
            new[1:] = (point[1:] != point[:-1]) | (segment[1:] != segment[:-1])
            start = np.flatnonzero(new)
            group = np.cumsum(new) - 1
            nearest = np.flatnonzero(square == np.minimum.reduceat(square, start)[group])
            group = group[nearest]
            nearest = nearest[np.concatenate([[True], group[1:] != group[:-1]])]
            point, piece, along, square, segment = point[nearest], piece[nearest], along[nearest], square[nearest], segment[nearest]
        return Near(point, segment, self._along[piece] + along, np.sqrt(square), self._toward_east[piece], self._toward_north[piece])


def _key(column: I64, row: I64) -> I64:
    """One number a cell; 2**31 columns and rows are more than the Earth has at 50 m."""
    return (row << 32) + column
