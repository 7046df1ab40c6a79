"""Edie sums: distance driven and time spent, per segment, minute and vehicle, as integers.

Speed of a segment in a window is total distance over total time of all vehicles in that space-time cell (Edie 1963,
"Discussion of traffic stream measurements and definitions", 2nd Int. Symp. on the Theory of Road Traffic Flow). Millimetres and milliseconds
in int64 add up to the same sums in whatever order and grouping they arrive; floats would not.

A cell is kept per *vehicle*, not merely per raw partition: then the fuse step can count distinct vehicles, take real quantiles over them, use one feed per vehicle
where two report it, and explain a value (``docs/flow.md`` says why this departs from sums per partition).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.network import F64, I64, Bool, Network

WINDOW_MS = 60_000

#: Sums of a cell, in the order they travel. All cumulative, all non-decreasing while their window fills.
#: dist, time: outside dwell. near_*: the part of them within a stop's zone. dwell: boarding. still: standing, not boarding.
SUMS = ("dist_mm", "time_ms", "near_dist_mm", "near_time_ms", "dwell_ms", "still_ms", "steps", "newest_ms")
N_SUMS = len(SUMS)
DIST, TIME, NEAR_DIST, NEAR_TIME, DWELL, STILL, STEPS, NEWEST = range(N_SUMS)


@dataclass(frozen=True, slots=True)
class CellSettings:
    """Where and when time at a stop is boarding rather than traffic."""

    #: Zone of a stop along the shape before it, metres: braking belongs to the stop (0.5-1 m/s2 from 10 m/s).
    stop_before_m: float = 45.0
    #: And after it, metres: so does pulling away.
    stop_after_m: float = 35.0
    #: Within so many metres of its end a shape is driven to the end: who stands there has arrived.
    end_m: float = 60.0
    #: Slower than this counts as standing, metres per second.
    still_mps: float = 0.6
    #: Between two fixes at least this far apart, milliseconds, a bus that boards both drives and stands ...
    long_ms: int = 4_000
    #: ... and drives at about this speed: braking to a stop or pulling away, metres per second (1 m/s2 to and from 10 m/s).
    calling_mps: float = 5.0


@dataclass(slots=True)
class Rows:
    """n contributions to cells: one row a step, piece and minute. ``who`` is whatever the caller numbers vehicles by."""

    window: I64  #: minutes since 1970
    segment: I64
    who: I64
    sums: I64  #: (n, N_SUMS)


class Pieces:
    """Pieces of all shapes on one axis of millimetres, cut at the borders of stop zones."""

    def __init__(self, network: Network, settings: CellSettings | None = None) -> None:
        self.settings = cfg = settings or CellSettings()
        shapes = network.shapes
        n = len(shapes)
        lengths = np.array(
            [
                shapes.geometry.along_m[b - 1] if b > a else 0.0
                for a, b in zip(shapes.geometry.start[:-1], shapes.geometry.start[1:], strict=True)
            ]
        )
        #: where shape k begins on the common axis
        self.base_mm: I64 = np.concatenate([[0], np.cumsum(np.ceil(lengths).astype(np.int64) + 1000)[:-1]]).astype(np.int64)[:n] * 1000
        start, end, segment, offset, near = [], [], [], [], []
        for k in range(n):
            a, b = shapes.piece_start[k], shapes.piece_start[k + 1]
            p0 = np.rint(shapes.piece_from_m[a:b] * 1000).astype(np.int64)
            p1 = np.rint(shapes.piece_to_m[a:b] * 1000).astype(np.int64)
            stops = np.rint(shapes.stop_along_m[shapes.stop_start[k] : shapes.stop_start[k + 1]] * 1000).astype(np.int64)
            z0, z1 = stops - int(cfg.stop_before_m * 1000), stops + int(cfg.stop_after_m * 1000)
            cuts = np.unique(np.concatenate([p0, p1, z0, z1]))
            lo, hi = cuts[:-1], cuts[1:]
            owner = np.searchsorted(p0, lo, side="right") - 1
            keep = (owner >= 0) & (hi > lo)
            keep &= hi <= np.where(owner >= 0, p1[np.maximum(owner, 0)], 0) if len(p1) else False
            lo, hi, owner = lo[keep], hi[keep], owner[keep]
            zone = np.searchsorted(np.sort(z0), lo, side="right") > np.searchsorted(np.sort(z1), lo, side="right")
            start.append(lo + self.base_mm[k])
            end.append(hi + self.base_mm[k])
            segment.append(shapes.piece_segment[a:b][owner])
            offset.append(np.rint(shapes.piece_offset_m[a:b][owner] * 1000).astype(np.int64) + lo - p0[owner])
            near.append(zone)
        some = np.diff(shapes.piece_start) > 0
        last = np.where(some, shapes.piece_start[1:] - 1, 0)
        #: segment that each shape ends on, -1 for none, and how far on it
        self.end_segment: I64 = np.where(some, shapes.piece_segment[last], -1) if some.any() else np.full(n, -1)
        self.end_m: F64 = (shapes.piece_offset_m + shapes.piece_to_m - shapes.piece_from_m)[last] if some.any() else np.zeros(n)
        none = [np.empty(0, np.int64)]
        self.start_mm: I64 = np.concatenate(start or none)
        self.end_mm: I64 = np.concatenate(end or none)
        self.segment: I64 = np.concatenate(segment or none)
        self.offset_mm: I64 = np.concatenate(offset or none)
        self.near: Bool = np.concatenate(near or none).astype(np.bool_)
        self._next_mm: I64 = np.append(self.start_mm[1:], np.iinfo(np.int64).max)  #: where the next piece begins

    def find(self, shape: I64, s_mm: I64, guess: I64 | None = None) -> I64:
        """The last piece that begins at or before positions on shapes; the first of all before any begins; 0 where there is none at all.

        ``guess``: where each may be, any piece: one that is right saves a search, which costs more than all else of a step.
        """
        return self._find(self.base_mm[shape] + s_mm, guess) if len(self.start_mm) else np.zeros(len(s_mm), np.int64)

    def _find(self, at: I64, guess: I64 | None) -> I64:
        if guess is None:
            return np.maximum(np.searchsorted(self.start_mm, at, side="right") - 1, 0)
        wrong = np.flatnonzero((at < self.start_mm[guess]) | (at >= self._next_mm[guess]))
        if wrong.size:
            guess = guess.copy()
            guess[wrong] = self._find(at[wrong], None)
        return guess

    def place(self, shape: I64, s_mm: I64, guess: I64 | None = None) -> tuple[I64, I64]:
        """Segment (-1: a gap of the shape) and offset in mm of positions on shapes. ``guess``: as for ``find``."""
        if not len(self.start_mm):
            return np.full(len(s_mm), -1), np.zeros(len(s_mm), np.int64)
        at = self.base_mm[shape] + s_mm
        i = self._find(at, guess)
        inside = (at >= self.start_mm[i]) & (at <= self.end_mm[i])
        return np.where(inside, self.segment[i], -1), np.where(inside, self.offset_mm[i] + at - self.start_mm[i], 0)

    def at_end(self, shape: I64, segment: I64, offset_m: F64) -> Bool:
        """Whether places on shapes (-1: on none) are those where the shapes end."""
        on = shape >= 0
        if not on.any():
            return on
        at = np.where(on, shape, 0)
        out: Bool = on & (segment == self.end_segment[at]) & (segment >= 0) & (np.abs(self.end_m[at] - offset_m) <= self.settings.end_m)
        return out

    def rows(
        self,
        who: I64,
        shape: I64,
        s0_mm: I64,
        s1_mm: I64,
        t0_ms: I64,
        t1_ms: I64,
        boarding: Bool,
        arrived: Bool | None = None,
        red: Bool | None = None,
        guess: I64 | None = None,
    ) -> Rows:
        """Contributions of n steps: from s0 at t0 to s1 >= s0 at t1 > t0, at even speed in between.

        ``red``: who stands in this step waits for signals, not at a stop, also within a stop's zone; None: nobody. ``guess``: as for ``find``.
        A long step of a bus that boards is two: it drives to its stop and stands (``arrived``: it boards at the end of the step), or stands and pulls away.

        Distance and time of a step are shared out over the pieces it crosses so that the shares add up to the whole, to the millimetre and millisecond;
        what falls into a gap of the shape belongs to no segment. A standing step (s0 = s1) gives its time to the piece it stands on.
        """
        if arrived is not None:
            stands = self._stands(s1_mm - s0_mm, t1_ms - t0_ms, boarding)
            if stands.any():
                at_end = stands * arrived
                drive = self.rows(
                    who, shape, s0_mm, s1_mm, t0_ms + stands - at_end, t1_ms - at_end, boarding & (stands == 0), red=red, guess=guess
                )
                k = np.flatnonzero(stands)
                where, since = np.where(arrived, s1_mm, s0_mm)[k], np.where(arrived, t1_ms - stands, t0_ms)[k]
                return concat([drive, self.rows(who[k], shape[k], where, where, since, since + stands[k], boarding[k])])
        if not len(self.start_mm):
            return concat([])
        g0, g1 = self.base_mm[shape] + s0_mm, self.base_mm[shape] + s1_mm
        first = self._find(g0, guess)
        first = first + (self.end_mm[first] <= g0)  # the first piece that ends behind it
        # who stands where a shape or a piece before a gap ends stands on that piece
        before = np.maximum(first - 1, 0)
        after = np.minimum(first, len(self.end_mm) - 1)
        at_end = (g0 == g1) & (self.end_mm[before] == g0) & (self.start_mm[after] != g0)
        first = np.where(at_end, before, first)
        last = self._find(g1, guess)
        last = np.maximum(last - (self.start_mm[last] == g1), first)  # the last piece that begins before it
        count = last - first + 1
        step = np.repeat(np.arange(len(who)), count)
        piece = np.arange(len(step)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        ok = piece < len(self.start_mm)
        step, piece = step[ok], piece[ok]
        a0, a1, b0, b1 = g0[step], g1[step], t0_ms[step], t1_ms[step]
        x0, x1 = np.maximum(a0, self.start_mm[piece]), np.minimum(a1, self.end_mm[piece])
        moving = a1 > a0
        span = np.where(moving, a1 - a0, 1)
        ta = np.where(moving, b0 + (x0 - a0) * (b1 - b0) // span, b0)
        tb = np.where(moving, b0 + (x1 - a0) * (b1 - b0) // span, b1)
        ok = np.where(moving, x1 > x0, (x0 == a0) & (x1 == a0))
        step, piece, ta, tb, dist = step[ok], piece[ok], ta[ok], tb[ok], (x1 - x0)[ok]
        slow = (g1 - g0) <= (self.settings.still_mps * (t1_ms - t0_ms)).astype(np.int64)
        near = self.near[piece] if red is None else self.near[piece] & ~(red & slow)[step]
        return self._split(who[step], self.segment[piece], ta, tb, dist, near, boarding[step], slow[step])

    def _stands(self, dist_mm: I64, time_ms: I64, boarding: Bool) -> I64:
        """Of steps, the time that is boarding though the step is not slow as a whole, milliseconds, less than all of it."""
        cfg = self.settings
        drives_ms = (dist_mm / cfg.calling_mps).astype(np.int64) + 1
        mixed = boarding & (time_ms >= cfg.long_ms) & (dist_mm > (cfg.still_mps * time_ms).astype(np.int64))
        return np.where(mixed, np.maximum(time_ms - drives_ms, 0), 0)

    def free_rows(self, who: I64, segment: I64, dist_mm: I64, t0_ms: I64, t1_ms: I64, boarding: Bool) -> Rows:
        """Contributions of n traversals of free matching: on one segment each, from t0 to t1. Stop zones are not known there."""
        slow = dist_mm <= (self.settings.still_mps * (t1_ms - t0_ms)).astype(np.int64)
        return self._split(who, segment, t0_ms, t1_ms, dist_mm, np.zeros(len(who), np.bool_), boarding, slow)

    @staticmethod
    def _split(who: I64, segment: I64, ta: I64, tb: I64, dist: I64, near: Bool, boarding: Bool, slow: Bool) -> Rows:
        """Cut at full minutes and fill the sums."""
        w0 = ta // WINDOW_MS
        count = np.maximum((tb - 1) // WINDOW_MS - w0, 0) + 1
        i = np.repeat(np.arange(len(who)), count)
        window = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count) + w0[i]
        lo, hi = np.maximum(ta[i], window * WINDOW_MS), np.minimum(tb[i], (window + 1) * WINDOW_MS)
        span = np.maximum(tb - ta, 1)[i]
        d = np.where(tb[i] > ta[i], dist[i] * (hi - ta[i]) // span - dist[i] * (lo - ta[i]) // span, dist[i])
        t = hi - lo
        board, slowly, near = boarding[i] & slow[i], slow[i], near[i]
        sums = np.zeros((len(i), N_SUMS), np.int64)
        sums[:, DIST] = np.where(board, 0, d)
        sums[:, TIME] = np.where(board, 0, t)
        sums[:, NEAR_DIST] = np.where(near & ~board, d, 0)
        sums[:, NEAR_TIME] = np.where(near & ~board, t, 0)
        sums[:, DWELL] = np.where(board, t, 0)
        sums[:, STILL] = np.where(slowly & ~board, t, 0)
        sums[:, STEPS] = 1
        sums[:, NEWEST] = hi
        return Rows(window, segment[i], who[i], sums)


def merge(rows: Rows) -> Rows:
    """Rows of equal (window, segment, who) added together (``newest_ms``: the largest), sorted by that key."""
    if not len(rows.who):
        return rows
    (key,) = _keys(rows)
    order = np.argsort(key)  # what is added are integers: the order of equals does not show
    key = key[order]
    new = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    sums = np.add.reduceat(rows.sums[order], new, axis=0)
    sums[:, NEWEST] = np.maximum.reduceat(rows.sums[order, NEWEST], new)
    first = order[new]
    return Rows(rows.window[first], rows.segment[first], rows.who[first], sums)


def added(cells: Rows, fresh: Rows) -> tuple[Rows, I64]:
    """``merge`` of both, each merged before; and where the keys of ``fresh`` are in it, ascending. Costs little where ``fresh`` is few of them."""
    if not len(cells.who) or not len(fresh.who):
        return (fresh if len(fresh.who) else cells), np.arange(len(fresh.who))
    key, more = _keys(cells, fresh)
    at = np.searchsorted(key, more)
    new = key[np.minimum(at, len(key) - 1)] != more
    known, rows = ~new, at[~new]
    sums = cells.sums.copy()
    sums[rows] += fresh.sums[known]
    sums[rows, NEWEST] = np.maximum(cells.sums[rows, NEWEST], fresh.sums[known, NEWEST])
    columns = ((cells.window, fresh.window), (cells.segment, fresh.segment), (cells.who, fresh.who), (sums, fresh.sums))
    return Rows(*(np.insert(old, at[new], add[new], axis=0) for old, add in columns)), at + np.cumsum(new) - new


def _keys(*parts: Rows) -> list[I64]:
    """One number a row in the order of (window, segment, who). It fits into 63 bits for 10^6 segments, 10^6 vehicles and windows of 15 years."""
    keys = [np.zeros(len(p.who), np.int64) for p in parts]
    for columns in ([p.window for p in parts], [p.segment for p in parts], [p.who for p in parts]):
        low = min(int(c.min()) for c in columns)
        span = max(int(c.max()) for c in columns) - low + 1
        keys = [key * span + (c - low) for key, c in zip(keys, columns, strict=True)]
    return keys


def concat(parts: list[Rows]) -> Rows:
    """One after the other."""
    if not parts:
        none = np.empty(0, np.int64)
        return Rows(none, none, none, np.empty((0, N_SUMS), np.int64))
    return Rows(
        np.concatenate([p.window for p in parts]),
        np.concatenate([p.segment for p in parts]),
        np.concatenate([p.who for p in parts]),
        np.concatenate([p.sums for p in parts]),
    )
