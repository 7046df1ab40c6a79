"""How lines run, minute by minute: ``line-fluency`` from the same cells that segments are made of, and from what vehicles say of their line and delay.

Pure. Headways need no stops: every segment that the vehicles of a line drive is a place that they pass, and the sums tell when they left it. What is kept between windows:
of each place of a line the vehicle that passed it last, and of each vehicle what it has done on its trip so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from geo.network import F64, I64, Network
from models.clock import rfc3339
from models.headways import regularity
from models.line_records import LineFluency
from models.records import encode
from streams.cells import DIST, DWELL, NEWEST, STILL, TIME, WINDOW_MS
from streams.outputs import Out
from streams.partial import LineRow

#: Nobody is behind somebody who passed longer ago than this, milliseconds.
FORGET_MS = 3_600_000
#: A vehicle that has not driven so far on its trip waits at its first stop, millimetres.
LEFT_MM = 100_000
#: Time by the timetable is told from the growth of the delay over at least so long a ride, milliseconds.
LEAST_RIDE_MS = 300_000
#: Times at one stop that differ by half a day belong to different days, minutes.
DAY_MIN = 1440


@dataclass(slots=True)
class Ride:
    """What a vehicle has done on its trip, up to the last window."""

    trip: int
    heard_ms: int
    mm: int = 0  #: driven on streets and rails since it left its first stop
    ms: int = 0  #: in that time, stops included
    left: bool = False
    delay_s: float | None = None  #: when it had left
    headway_s: float = -1.0  #: behind the vehicle before it, at the last place that both had passed; -1: not known
    meant_s: float = -1.0  #: the same by the start times of their trips


@dataclass(frozen=True, slots=True)
class Passed:
    """Who passed each place last, sorted by place. A place is a segment of a line."""

    place: I64  #: line number x number of segments + segment
    at_ms: I64
    who: I64  #: number of the vehicle
    start_min: I64

    def rows(self, keep: Any) -> Passed:
        return Passed(self.place[keep], self.at_ms[keep], self.who[keep], self.start_min[keep])


def nobody() -> Passed:
    none = np.empty(0, np.int64)
    return Passed(none, none, none, none)


@dataclass(slots=True)
class Course:
    """Everything that is kept of windows that have passed."""

    passed: Passed = field(default_factory=nobody)
    rides: dict[str, Ride] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ridden:
    """Cells of a window: segment, vehicle number and sums, and the vehicles' names."""

    segment: I64
    who: I64
    sums: I64
    names: Sequence[str]


class Lines:
    """Lines of one city."""

    def __init__(self, network: Network) -> None:
        self.n = len(network.segments)
        self.open: dict[int, dict[str, tuple[int, LineRow]]] = {}  #: window -> vehicle -> rank of the feed and its row
        self.line: dict[tuple[str, int], int] = {}  #: route and direction -> number
        self.vehicle: dict[str, int] = {}
        self.course = Course()

    def hear(self, rows: Iterable[LineRow], rank: int, first: int) -> None:
        """What a partial of a feed of this rank says; windows before ``first`` are final. The better feed of a vehicle (the lower rank) stands."""
        for r in rows:
            w = r.event_ms // WINDOW_MS
            if w >= first:
                window = self.open.setdefault(w, {})
                old = window.get(r.vehicle_id)
                if old is None or rank < old[0] or (rank == old[0] and r.newer(old[1])):
                    window[r.vehicle_id] = (rank, r)

    def final(self, w: int, ridden: Ridden, revision: int, *, simulated: bool) -> list[Out]:
        """Records of a window that has become final."""
        out, self.course = self._window(w, ridden, self.course, revision, "final", simulated=simulated)
        for old in [k for k in self.open if k <= w]:
            del self.open[old]
        self._forget((w + 1) * WINDOW_MS)
        return out

    def provisional(self, windows: Sequence[tuple[int, Ridden]], revision: int, *, simulated: bool) -> list[Out]:
        """Records of the last of some open windows, which come one after the other. Nothing final depends on it."""
        course = Course(self.course.passed, {v: replace(r) for v, r in self.course.rides.items()})
        line, vehicle = self.line, self.vehicle
        self.line, self.vehicle = dict(line), dict(vehicle)
        out: list[Out] = []
        for w, ridden in windows[:-1]:
            _, course = self._pass(w, ridden, course)
        for w, ridden in windows[-1:]:
            out, course = self._window(w, ridden, course, revision, "provisional", simulated=simulated)
        self.line, self.vehicle = line, vehicle
        return out

    # --------------------------------------------------------------------- one window

    def _pass(self, w: int, c: Ridden, course: Course) -> tuple[tuple[dict[str, LineRow], dict[str, tuple[int, int, int, int]]], Course]:
        """A window goes by: rows of the vehicles under way on a line, and of those that have left their first stop mm, ms driving, at stops, standing in traffic."""
        rows = {v: r for v, (_, r) in sorted(self.open.get(w, {}).items()) if r.route_id}
        for r in rows.values():
            self.line.setdefault((r.route_id, r.direction_id), len(self.line))
            self.vehicle.setdefault(r.vehicle_id, len(self.vehicle))
        totals = np.zeros((len(c.names), 4), np.int64)
        np.add.at(totals, c.who, c.sums[:, [DIST, TIME, DWELL, STILL]])
        number = {v: k for k, v in enumerate(c.names)}
        rides = course.rides
        moving: dict[str, tuple[int, int, int, int]] = {}
        for v, r in rows.items():
            sums: tuple[int, int, int, int] = tuple(totals[number[v]].tolist()) if v in number else (0, 0, 0, 0)
            ride = rides.get(v)
            if ride is None or ride.trip != r.trip:
                ride = rides[v] = Ride(r.trip, 0)
            ride.heard_ms = (w + 1) * WINDOW_MS
            if ride.left or sums[0] >= LEFT_MM:
                if not ride.left:
                    ride.left, ride.delay_s = True, r.delay_s
                elif not r.at_end:
                    ride.mm, ride.ms = ride.mm + sums[0], ride.ms + sums[1] + sums[2]
                moving[v] = (0, 0, 0, 0) if r.at_end else sums
        return (rows, moving), Course(self._headways(w, c, rows, moving, number, course), rides)

    def _window(self, w: int, c: Ridden, course: Course, revision: int, status: str, *, simulated: bool) -> tuple[list[Out], Course]:
        (rows, moving), course = self._pass(w, c, course)
        by: dict[tuple[str, int], list[LineRow]] = {}
        for r in rows.values():
            by.setdefault((r.route_id, r.direction_id), []).append(r)
        start_ms = w * WINDOW_MS
        times = rfc3339(start_ms), rfc3339(start_ms + WINDOW_MS)
        out = []
        for (route, direction), mine in sorted(by.items()):
            record = self._record(mine, moving, course.rides, start_ms, times, revision, status, simulated=simulated)
            key = f"{route}:{direction if direction >= 0 else 'unknown'}"
            out.append(Out(key.encode(), encode(record), start_ms, f"line-fluency:{key}:{start_ms}:{revision}"))
        return out, course

    def _headways(
        self, w: int, c: Ridden, rows: Mapping[str, LineRow], moving: Mapping[str, Any], number: Mapping[str, int], course: Course
    ) -> Passed:
        """Who passed which place of its line in the window, beside who had passed it before: into the rides; and who passed each place last now."""
        end_ms = (w + 1) * WINDOW_MS
        line, known, start = (np.full(len(c.names), -1, np.int64) for _ in range(3))
        for v in moving:
            if v in number:
                r, k = rows[v], number[v]
                line[k], known[k], start[k] = self.line[r.route_id, r.direction_id], self.vehicle[v], r.start_min
        newest = c.sums[:, NEWEST]
        gone = (line[c.who] >= 0) & (newest < end_ms)  # who is on a segment when the minute ends has not passed it yet
        segment, who = c.segment[gone], c.who[gone]
        old = course.passed.rows(course.passed.at_ms >= end_ms - FORGET_MS)
        place = np.r_[old.place, line[who] * self.n + segment]
        at_ms, vehicle = np.r_[old.at_ms, newest[gone]], np.r_[old.who, known[who]]
        start_min = np.r_[old.start_min, start[who]]
        if not len(place):
            return nobody()
        order = np.lexsort((vehicle, at_ms, place))
        p = Passed(place, at_ms, vehicle, start_min).rows(order)
        fresh = order >= len(old.place)
        same = np.r_[(p.place[1:] == p.place[:-1]) & (p.who[1:] == p.who[:-1]), False]
        p, fresh = p.rows(~same), fresh[~same]  # once more by the same vehicle: the later time
        behind = np.flatnonzero(np.r_[False, p.place[1:] == p.place[:-1]] & fresh)
        if len(behind):
            gap_ms = p.at_ms[behind] - p.at_ms[behind - 1]
            meant = (p.start_min[behind] - p.start_min[behind - 1]) % DAY_MIN
            told = (p.start_min[behind] >= 0) & (p.start_min[behind - 1] >= 0) & (meant > 0) & (meant < DAY_MIN // 2)
            last = np.lexsort((p.place[behind], p.at_ms[behind], p.who[behind]))
            last = last[np.r_[p.who[behind][last][1:] != p.who[behind][last][:-1], True]]
            names = {self.vehicle[v]: v for v in moving}
            for k in last.tolist():
                ride = course.rides[names[int(p.who[behind[k]])]]
                ride.headway_s = int(gap_ms[k]) / 1000.0
                ride.meant_s = float(meant[k]) * 60.0 if told[k] else -1.0
        return p.rows(np.r_[p.place[1:] != p.place[:-1], True])

    def _record(
        self, rows: Sequence[LineRow], moving: Mapping[str, tuple[int, int, int, int]], rides: Mapping[str, Ride],
        start_ms: int, times: tuple[str, str], revision: int, status: str, *, simulated: bool,
    ) -> LineFluency:  # fmt: skip
        """Of the vehicles ``rows`` of one line."""
        sums = [m for r in rows if (m := moving.get(r.vehicle_id)) is not None and m[1] + m[2] > 0]
        mm, driving, dwell, still = map(sum, zip(*sums, strict=True)) if sums else (0, 0, 0, 0)
        ms = driving + dwell
        lo, hi = (
            _bounds(np.array([m[0] for m in sums]) / 1e6, np.array([m[1] + m[2] for m in sums]) / 3.6e6) if len(sums) > 1 else (None, None)
        )
        delays = sorted(r.delay_s for r in rows if r.delay_s is not None)
        followed = [rides[r.vehicle_id] for r in rows if r.vehicle_id in moving and rides[r.vehicle_id].headway_s >= 0.0]
        even = regularity([x.headway_s for x in followed], [x.meant_s if x.meant_s >= 0.0 else np.nan for x in followed])
        meant_kmh = _scheduled(rows, rides)
        first, mode = rows[0], min(r.mode for r in rows)
        return LineFluency(
            route_id=first.route_id, direction_id=first.direction_id if first.direction_id >= 0 else None,
            mode=mode,  # type: ignore[arg-type]
            window_start=times[0], window_end=times[1], status=status, revision=revision,  # type: ignore[arg-type]
            vehicles=len(rows), coverage_pct=round(min(100.0 * ms / (WINDOW_MS * len(rows)), 100.0), 1),
            commercial_speed_kmh=round(mm * 3.6 / ms, 2) if ms else None, commercial_speed_lo95_kmh=lo, commercial_speed_hi95_kmh=hi,
            scheduled_speed_kmh=meant_kmh, scheduled_speed_source=None if meant_kmh is None else "delay",
            delay_p50_s=round(quantile(delays, 0.5), 1) if delays else None,
            delay_p90_s=round(quantile(delays, 0.9), 1) if delays else None,
            headways=even.headways, headway_mean_s=even.mean_s, headway_cv=even.cv,
            headway_basis=even.basis, bunched_share=even.bunched_share,
            stopped_share=round((still + dwell) / ms, 3) if ms else None, dwell_share=round(dwell / ms, 3) if ms else None,
            simulated=True if simulated else None,
        )  # fmt: skip

    # -------------------------------------------------------------------------- state

    def _forget(self, now_ms: int) -> None:
        """Vehicles long unheard go, and when half of the numbers are nobody's the others are numbered anew."""
        c = self.course
        c.rides = {v: r for v, r in c.rides.items() if r.heard_ms >= now_ms - FORGET_MS}
        if len(self.vehicle) > 2 * len(c.rides) + 1_000:
            held = {int(k) for k in np.unique(c.passed.who).tolist()}
            kept = sorted(k for v, k in self.vehicle.items() if k in held or v in c.rides)
            names = {k: v for v, k in self.vehicle.items()}
            self.vehicle = {names[k]: i for i, k in enumerate(kept)}
            c.passed = replace(c.passed, who=np.searchsorted(np.array(kept, np.int64), c.passed.who))

    def export(self) -> dict[str, Any]:
        p = self.course.passed
        return {
            "open": {w: [[rank, r] for rank, r in rows.values()] for w, rows in self.open.items()},
            "lines": [list(k) for k in self.line], "vehicles": list(self.vehicle),
            "passed": [p.place.astype("<i8").tobytes(), p.at_ms.astype("<i8").tobytes(), p.who.astype("<i4").tobytes(), p.start_min.astype("<i2").tobytes()],
            "rides": {v: [r.trip, r.heard_ms, r.mm, r.ms, r.left, r.delay_s, r.headway_s, r.meant_s] for v, r in self.course.rides.items()},
        }  # fmt: skip

    def restore(self, data: dict[str, Any]) -> None:
        self.open = {}
        for w, rows in data["open"].items():
            of_window = [(int(rank), msgspec.convert(r, LineRow)) for rank, r in rows]
            self.open[int(w)] = {r.vehicle_id: (rank, r) for rank, r in of_window}
        self.line = {(str(route), int(direction)): k for k, (route, direction) in enumerate(data["lines"])}
        self.vehicle = {v: k for k, v in enumerate(data["vehicles"])}
        place, at_ms, who, start_min = (
            np.frombuffer(b, t).astype(np.int64) for b, t in zip(data["passed"], ("<i8", "<i8", "<i4", "<i2"), strict=True)
        )
        self.course = Course(Passed(place, at_ms, who, start_min), {v: Ride(*r) for v, r in data["rides"].items()})


def quantile(values: Sequence[float], q: float) -> float:
    """Of sorted numbers, at least one: between two of them on a straight line, to the last bit what ``numpy.quantile`` gives for fifty times the work.

    >>> quantile([1.0, 2.0, 4.0, 8.0], 0.5), quantile([7.0], 0.9)
    (3.0, 7.0)
    """
    at = (len(values) - 1) * q
    k = int(at)
    if k + 1 >= len(values):
        return float(values[-1])
    a, b, part = values[k], values[k + 1], at - k
    return b - (b - a) * (1.0 - part) if part >= 0.5 else a + (b - a) * part


def _bounds(km: F64, hours: F64) -> tuple[float | None, float | None]:
    """95 % of a ratio of sums over vehicles: their residuals, as of a ratio estimator (Cochran, Sampling Techniques, 1977, 6.4)."""
    n, total = len(km), float(hours.sum())
    if n < 2 or total <= 0.0:
        return None, None
    speed = float(km.sum()) / total
    error = float(np.sqrt(n / (n - 1) * ((km - speed * hours) ** 2).sum()) / total)
    return round(max(speed - 1.96 * error, 0.0), 2), round(speed + 1.96 * error, 2)


def _scheduled(rows: Sequence[LineRow], rides: Mapping[str, Ride]) -> float | None:
    """Speed by the timetable over the way that these vehicles have driven on their trips: in their time, less what their delay grew by."""
    mm, ms = 0, 0.0
    for r in rows:
        ride = rides[r.vehicle_id]
        if ride.ms >= LEAST_RIDE_MS and r.delay_s is not None and ride.delay_s is not None:
            planned = ride.ms - 1000.0 * (r.delay_s - ride.delay_s)
            if planned > 0.5 * ride.ms:
                mm, ms = mm + ride.mm, ms + planned
    return round(mm * 3.6 / ms, 2) if ms > 0.0 else None
