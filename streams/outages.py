"""Odometers of vehicles that have lost their position: when the metres of an outage were driven, and where in it the vehicle stood.

What a message without a position says of odometer, doors and stop is kept until the position returns. Then the step over the outage, which is known by its ends alone, is
cut at those readings: its way, along the shape or the matched path, is shared out as the odometer tells, scaled to the whole. Readings that cannot be (going back,
faster than anything) leave the step as it is: at an even pace. Nothing is told of an outage that is longer than a step may be.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from geo.network import F64, I8, I64, Bool
from geo.track import NEVER


class Reading(NamedTuple):
    """What a message without a position said."""

    t_ms: int
    odometer_m: float
    doors: int  #: 1, 0, -1 unknown
    at_stop: int


class Ends(NamedTuple):
    """What k vehicles said with the fixes before and after their steps, columns (k,)."""

    odometer_m: tuple[F64, F64]
    doors: tuple[I8, I8]
    at_stop: tuple[I8, I8]

    def of(self, rows: I64 | Bool) -> Ends:
        odometer_m, doors, at_stop = self.odometer_m, self.doors, self.at_stop
        return Ends((odometer_m[0][rows], odometer_m[1][rows]), (doors[0][rows], doors[1][rows]), (at_stop[0][rows], at_stop[1][rows]))


class Legs(NamedTuple):
    """A step cut at its readings: n legs, n + 1 times and metres driven by then."""

    t_ms: list[int]
    driven_mm: list[int]
    boarding: list[bool]
    arrived: list[bool]


class Outages:
    """Readings by slot, of vehicles that had a fix lately."""

    def __init__(self, max_gap_s: float, max_speed_mps: float) -> None:
        self.longest_ms, self.max_speed_mps = int(max_gap_s * 1000), max_speed_mps
        self.readings: dict[int, list[Reading]] = {}

    def note(self, slot: int, fix_ms: int, reading: Reading) -> None:
        """Keep a reading. ``fix_ms``: time of the vehicle's last fix on a way, ``NEVER`` without one."""
        if fix_ms == NEVER or not 0 < reading.t_ms - fix_ms <= self.longest_ms:
            return
        mine = self.readings.setdefault(slot, [])
        insort(mine, reading)
        del mine[: bisect_left(mine, (fix_ms,))]

    def forget(self, slots: I64) -> None:
        """Their positions are back, or the vehicles are gone."""
        if self.readings:
            for slot in slots.tolist():
                self.readings.pop(slot, None)

    def legs(self, slot: int, row: int, from_ms: int, to_ms: int, ends: Ends) -> Legs | None:
        """How the step of a vehicle, row ``row`` of ``ends``, went from leg to leg. None: nothing was read on the way, or what cannot be."""
        between = [r for r in self.readings.get(slot, ()) if from_ms < r.t_ms < to_ms]
        if not between:
            return None
        first, last = (
            Reading(t, float(ends.odometer_m[k][row]), int(ends.doors[k][row]), int(ends.at_stop[k][row])) for k, t in enumerate((from_ms, to_ms))
        )  # fmt: skip
        stands = [a[1:] == b[1:] == c[1:] for a, b, c in zip(between[:-2], between[1:-1], between[2:], strict=True)]  # on and on: one leg
        told = [first, *(r for r, on in zip(between, [False, *stands, False], strict=False) if not on), last]
        if not all(np.isfinite(r.odometer_m) for r in told) or last.odometer_m <= 0:
            return None
        if any(b.odometer_m < a.odometer_m for a, b in pairwise(told)):
            return None
        for k in range(1, len(told)):
            if told[k].doors < 0:
                told[k] = told[k]._replace(doors=told[k - 1].doors)
        return Legs(
            [r.t_ms for r in told],
            [round((r.odometer_m - first.odometer_m) * 1000) for r in told],
            [b.doors == 1 or a.doors == 1 or (a.at_stop == 1 and b.at_stop == 1) for a, b in pairwise(told)],
            [b.doors == 1 or (a.doors != 1 and b.at_stop == 1) for a, b in pairwise(told)],
        )

    def _along(self, legs: Legs, way_mm: int) -> list[int] | None:
        """How far on a way of ``way_mm`` the vehicle was at each time of the legs."""
        whole = legs.driven_mm[-1]
        if whole == 0 and way_mm > 0:
            return None
        at = [way_mm * d // max(whole, 1) for d in legs.driven_mm]
        fastest = zip(pairwise(at), pairwise(legs.t_ms), strict=True)
        return at if all(b - a <= self.max_speed_mps * (tb - ta) + 5000 for (a, b), (ta, tb) in fastest) else None

    def cut_steps(
        self,
        who: I64,
        shape: I64,
        s0_mm: I64,
        s1_mm: I64,
        t0_ms: I64,
        t1_ms: I64,
        boarding: Bool,
        arrived: Bool,
        red: Bool | None,
        ends: Ends,
    ) -> tuple[I64, I64, I64, I64, I64, I64, Bool, Bool, Bool | None]:
        """Steps along shapes, the arguments of ``Pieces.rows``: each that was read of is replaced by its legs."""
        new = []
        keep = np.ones(len(who), np.bool_)
        for row, slot in enumerate(who.tolist()):
            if slot not in self.readings:
                continue
            s0, legs = int(s0_mm[row]), self.legs(slot, row, int(t0_ms[row]), int(t1_ms[row]), ends)
            at = None if legs is None else self._along(legs, int(s1_mm[row]) - s0)
            if legs is None or at is None:
                continue
            keep[row] = False
            for k, (a, b) in enumerate(pairwise(at)):
                new.append(
                    (slot, int(shape[row]), s0 + a, s0 + b, legs.t_ms[k], legs.t_ms[k + 1], legs.boarding[k], legs.arrived[k], False)
                )
        if not new:
            return who, shape, s0_mm, s1_mm, t0_ms, t1_ms, boarding, arrived, red
        columns = (who, shape, s0_mm, s1_mm, t0_ms, t1_ms, boarding, arrived, np.zeros(len(who), np.bool_) if red is None else red)
        more = zip(*new, strict=True)
        return tuple(np.concatenate([c[keep], np.array(m, c.dtype)]) for c, m in zip(columns, more, strict=True))  # type: ignore[return-value]

    def cut_traversals(self, row: I64, who: I64, segment: I64, dist_mm: I64, t0_ms: I64, t1_ms: I64, boarding: Bool, ends: Ends) -> tuple[I64, I64, I64, I64, I64, Bool]:  # fmt: skip
        """Traversals of matched paths, in order of travel; the arguments of ``Pieces.free_rows``. ``row``: of each traversal's vehicle in ``ends``."""
        columns = (who, segment, dist_mm, t0_ms, t1_ms, boarding)
        keep, new = np.ones(len(who), np.bool_), []
        for slot in [s for s in dict.fromkeys(who.tolist()) if s in self.readings]:
            mine = np.flatnonzero(who == slot)
            legs = self.legs(slot, int(row[mine[0]]), int(t0_ms[mine[0]]), int(t1_ms[mine[-1]]), ends)
            ahead = [0, *accumulate(dist_mm[mine].tolist())]  # borders of the segments on the way
            at = None if legs is None else self._along(legs, ahead[-1])
            if legs is None or at is None:
                continue
            keep[mine] = False
            names, n = segment[mine].tolist(), len(mine)
            for k, (a, b) in enumerate(pairwise(at)):
                ta, tb = legs.t_ms[k], legs.t_ms[k + 1]
                on = next((p for p in range(n) if ahead[p + 1] > a), n - 1)
                while a < b and ahead[on + 1] < b:
                    x = ahead[on + 1]
                    t = ta + (x - a) * (tb - ta) // (b - a)
                    if x > a:
                        new.append((slot, names[on], x - a, ta, t, legs.boarding[k]))
                    a, ta, on = x, t, on + 1
                new.append((slot, names[on], b - a, ta, tb, legs.boarding[k]))
        if not new:
            return columns
        more = zip(*new, strict=True)
        return tuple(np.concatenate([c[keep], np.array(m, c.dtype)]) for c, m in zip(columns, more, strict=True))  # type: ignore[return-value]

    def export(self) -> dict[int, list[Reading]]:
        return self.readings

    def restore(self, data: dict[int, list[list[float]]]) -> None:
        self.readings = {int(s): [Reading(int(t), float(m), int(d), int(at)) for t, m, d, at in rows] for s, rows in data.items()}
