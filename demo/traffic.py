"""Invented traffic on a network: buses and trams that follow its lines, stop, wait at signals and sit in queues, and the cars around them as speed and flow.

Deterministic: a seed and the instant of the first step give every later second. Always a rush hour, in waves of about twenty minutes that move through the streets,
so that there is something to see at night too. Nothing here is measured, and the numbers are round guesses: this is for demonstration.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from geo import polylines
from geo.network import F64, Network
from geo.project import Plane

STEP_MS = 1_000
#: How much of the free speed the waves take at their crest, by class; the middle suffers most.
WEIGHT = {"trunk": 0.45, "primary": 0.7, "secondary": 0.65, "tertiary": 0.4, "residential": 0.2}
WAVE_S, WAVE_M = 1_200.0, 2_500.0
ACCELERATION, BRAKING = 1.0, 1.3  #: of a bus with standing passengers, m/s2
CYCLE_S, GREEN_S = 80, 42
JAM_VPKM_LANE = 125.0  #: Greenshields (1935), round
SERVED = 0.5  #: signals let a street go for about this share of the time
SCHEDULE_MPS = 5.5  #: commercial speed that the timetable has
LAYOVER_S = 40
BOARD_M = 6_000.0  #: a stop's board shows who is nearer than this along its line
NOISE_M = 2.5


@dataclass(frozen=True, slots=True)
class Way:
    """A line in one direction: what lies along it."""

    row: int  #: of the network's shapes
    route_id: str
    direction_id: int
    length_m: float
    piece_to_m: list[float]
    piece_segment: list[int]
    stops: list[tuple[float, str]]
    signals: list[tuple[float, int, int]]  #: along, green half of the cycle (0, 1), offset in seconds


@dataclass(slots=True)
class Bus:
    """One vehicle. It goes to and fro on its line for ever."""

    number: int
    way: Way
    back: Way
    along_m: float
    departed_ms: int  #: whole minute
    speed_mps: float = 0.0
    standing_s: int = 0
    piece: int = 0
    stop: int = 0  #: next one
    signal: int = 0
    stopped_at: str | None = None
    odometer_m: float = 0.0
    events: list[str] = field(default_factory=list)  #: of this second: arr, dep


@dataclass(frozen=True, slots=True)
class Fix:
    """What a vehicle knows of itself in one second."""

    number: int
    route_id: str
    direction_id: int
    lat_deg: float
    lon_deg: float
    heading_deg: float
    speed_mps: float
    odometer_m: float
    delay_s: int  #: late is positive
    stop_id: str  #: next one, or that it stands at
    at_stop: bool
    departed_ms: int
    along_share: float
    events: tuple[str, ...]


class Traffic:
    """The traffic of one network, a second a step."""

    def __init__(self, network: Network, *, seed: int, start_ms: int, vehicles: int, first_number: int = 1) -> None:
        self.network, self.plane = network, Plane(network.crs)
        self.now_ms = start_ms - start_ms % STEP_MS
        self._rng = random.Random(f"{network.version} {seed}")
        self._field_s = -1
        self._ratio: list[float] = []
        s = network.segments
        self.free_mps = [max(3.0, v / 3.6) for v in s.speed_limit_kmh.tolist()]
        self._weight = self._weights()
        self._phase = self._phases()
        ways = _ways(network, self._rng)
        pairs = [(w, ways[w.route_id, 1 - w.direction_id]) for w in ways.values() if (w.route_id, 1 - w.direction_id) in ways]
        self.buses = [
            self._bus(first_number + k, *pairs[k % len(pairs)], k // len(pairs), vehicles // len(pairs) + 1) for k in range(vehicles)
        ]
        self.fixes: tuple[Fix, ...] = ()
        for _ in range(120):
            self._step()

    def _bus(self, number: int, way: Way, back: Way, place: int, places: int) -> Bus:
        along = way.length_m * ((place + self._rng.uniform(0.1, 0.9)) / places)
        departed = self.now_ms - round(along / SCHEDULE_MPS * 1000)
        bus = Bus(number, way, back, along, departed - departed % 60_000, odometer_m=along)
        bus.stop = sum(at <= along for at, _ in way.stops)
        return bus

    def _weights(self) -> F64:
        s = self.network.segments
        middle = polylines.point_at(s.geometry, np.arange(len(s)), s.length_m / 2)
        away = np.hypot(*(x - np.median(x) for x in middle))
        weight: F64 = np.array([WEIGHT.get(c, 0.0) for c in s.road_class]) * np.clip(1.15 - away / 6_000.0, 0.4, 1.0)
        return weight

    def _phases(self) -> F64:
        s = self.network.segments
        east, north = polylines.point_at(s.geometry, np.arange(len(s)), s.length_m / 2)
        # Against the direction of travel, as queues grow.
        first, last = s.geometry.start[:-1], s.geometry.start[1:] - 1
        course = np.arctan2(s.geometry.north_m[last] - s.geometry.north_m[first], s.geometry.east_m[last] - s.geometry.east_m[first])
        phase: F64 = ((east - east.mean()) + 1.3 * (north - north.mean())) / WAVE_M + 0.35 * np.sin(course)
        return phase

    # ------------------------------------------------------------------ the cars

    def ratio_at(self, t_s: float) -> F64:
        """(segments,) share of the free speed that is driven."""
        wave = 0.5 + 0.5 * np.sin(2 * math.pi * (t_s / WAVE_S + self._phase))
        ratio: F64 = np.clip(1.0 - self._weight * (0.15 + 0.85 * wave**1.5), 0.12, 1.0)
        return ratio

    def measured(self, segment: int, end_ms: int, window_s: int = 300) -> tuple[float, float]:
        """Flow (vehicles an hour) and speed (km/h) of a segment over a window. Flow follows from speed by Greenshields between the signals, with a floor of free traffic."""
        times = [end_ms / 1000 - window_s * (k + 0.5) / 6 for k in range(6)]
        ratio = np.array([self.ratio_at(t)[segment] for t in times])
        free = self.free_mps[segment] * 3.6
        lanes = max(1, int(self.network.segments.lanes[segment]))
        flow = SERVED * JAM_VPKM_LANE * lanes * free * np.maximum(0.05, 1 - ratio) * ratio
        return float(flow.mean()), float((flow * ratio * free).sum() / flow.sum())

    # ----------------------------------------------------------------- the buses

    def advance(self, now_ms: int) -> None:
        """Steps until ``now_ms``. After a long pause (the machine slept) the fleet goes on where it was, and the missing time is nobody's."""
        if now_ms - self.now_ms > 600_000:
            missing = (now_ms - self.now_ms) // 60_000 * 60_000
            self.now_ms += missing
            for bus in self.buses:
                bus.departed_ms += missing
        while self.now_ms + STEP_MS <= now_ms:
            self._step()

    def _step(self) -> None:
        self.now_ms += STEP_MS
        t = self.now_ms // 1000
        if t - self._field_s >= 10:
            self._field_s, self._ratio = t, self.ratio_at(float(t)).tolist()
        for bus in self.buses:
            bus.events.clear()
            self._drive(bus, t)
        self.fixes = self._fixes()

    def _drive(self, bus: Bus, t: int) -> None:
        if bus.standing_s > 0:
            bus.standing_s -= 1
            if bus.standing_s == 0 and bus.stopped_at is not None:
                bus.events.append("dep")
                bus.stopped_at = None
            return
        way, s = bus.way, bus.along_m
        while bus.piece + 1 < len(way.piece_to_m) and way.piece_to_m[bus.piece] <= s:
            bus.piece += 1
        while bus.signal < len(way.signals) and way.signals[bus.signal][0] <= s:
            bus.signal += 1
        segment = way.piece_segment[bus.piece]
        want = self.free_mps[segment] * self._ratio[segment]
        stop_m = way.stops[bus.stop][0] if bus.stop < len(way.stops) else way.length_m
        end_m = stop_m
        if bus.signal < len(way.signals):
            at, half, offset = way.signals[bus.signal]
            if is_red(t, half, offset) and s < at - 0.5 < end_m:
                end_m = at - 0.5
        left = max(0.0, end_m - s)
        v = min(bus.speed_mps + ACCELERATION, want, 18.0, math.sqrt(2 * BRAKING * left) if left > 0.6 else 0.0)
        moved = min(v, left)
        bus.along_m, bus.odometer_m, bus.speed_mps = s + moved, bus.odometer_m + moved, v
        if stop_m - bus.along_m < 1.0:
            self._arrive(bus)

    def _arrive(self, bus: Bus) -> None:
        bus.speed_mps = 0.0
        if bus.stop < len(bus.way.stops):
            bus.stopped_at = bus.way.stops[bus.stop][1]
            bus.stop += 1
            bus.standing_s = self._rng.randint(8, 26)
            bus.events.append("arr")
            return
        bus.way, bus.back = bus.back, bus.way
        bus.along_m = bus.odometer_m = 0.0
        bus.piece = bus.stop = bus.signal = 0
        bus.standing_s = LAYOVER_S
        bus.departed_ms = -(-(self.now_ms + LAYOVER_S * 1000) // 60_000) * 60_000

    def _fixes(self) -> tuple[Fix, ...]:
        rows = np.array([b.way.row for b in self.buses])
        along = np.array([b.along_m for b in self.buses])
        lengths = np.array([b.way.length_m for b in self.buses])
        east, north = polylines.point_at(self.network.shapes.geometry, rows, along)
        behind, ahead = np.maximum(along - 4, 0), np.minimum(along + 4, lengths)
        (e0, n0), (e1, n1) = (polylines.point_at(self.network.shapes.geometry, rows, x) for x in (behind, ahead))
        heading = np.degrees(np.arctan2(e1 - e0, n1 - n0)) % 360
        noise = np.array([[self._rng.gauss(0, NOISE_M), self._rng.gauss(0, NOISE_M)] for _ in self.buses])
        lat, lon = self.plane.to_wgs84(east + noise[:, 0], north + noise[:, 1])
        return tuple(
            Fix(
                number=b.number,
                route_id=b.way.route_id,
                direction_id=b.way.direction_id,
                lat_deg=round(float(lat[k]), 6),
                lon_deg=round(float(lon[k]), 6),
                heading_deg=round(float(heading[k])) % 360,
                speed_mps=round(b.speed_mps, 2),
                odometer_m=round(b.odometer_m, 1),
                delay_s=round((self.now_ms - b.departed_ms) / 1000 - b.along_m / SCHEDULE_MPS) if b.along_m > 0 else 0,
                stop_id=b.stopped_at or (b.way.stops[min(b.stop, len(b.way.stops) - 1)][1]),
                at_stop=b.stopped_at is not None,
                departed_ms=b.departed_ms,
                along_share=b.along_m / b.way.length_m,
                events=tuple(b.events),
            )
            for k, b in enumerate(self.buses)
        )

    def board(self, stop_id: str) -> list[tuple[Fix, int, int]]:
        """Who calls at a stop within ``BOARD_M``: where it is now, when it is expected there and when the timetable has it, milliseconds, soonest first."""
        calls = []
        for bus, fix in zip(self.buses, self.fixes, strict=True):
            for at, stop in bus.way.stops[bus.stop :]:
                if stop == stop_id and 0 <= at - bus.along_m < BOARD_M:
                    expected = self.now_ms + round((at - bus.along_m) / SCHEDULE_MPS) * 1000
                    calls.append((fix, expected, bus.departed_ms + round(at / SCHEDULE_MPS) * 1000))
                    break
        return sorted(calls, key=lambda c: (c[1], c[0].number))

    def signal_is_red(self, segment: int) -> bool:
        """State of the signal at a segment's end."""
        half, offset = _plan_of(self.network, segment)
        return is_red(self.now_ms // 1000, half, offset)


def is_red(t_s: int, half: int, offset_s: int) -> bool:
    """Of a signal with two stages: crossing streets have different halves."""
    return ((t_s + offset_s) % CYCLE_S < GREEN_S) != (half == 0)


def local_minute(ms: int, zone: ZoneInfo) -> tuple[str, str]:
    """Operating day and HH:MM of a departure, in local time."""
    at = datetime.fromtimestamp(ms / 1000, zone)
    return at.strftime("%Y-%m-%d"), at.strftime("%H:%M")


def _plan_of(network: Network, segment: int) -> tuple[int, int]:
    """Which half of the cycle is green at a segment's end, and the junction's offset."""
    g, last = network.segments.geometry, int(network.segments.geometry.start[segment + 1]) - 1
    course = math.atan2(g.north_m[last] - g.north_m[last - 1], g.east_m[last] - g.east_m[last - 1])
    east, north = round(g.east_m[last] / 50), round(g.north_m[last] / 50)
    return int(abs(math.cos(course - _turn(network))) < math.sqrt(0.5)), (east * 7 + north * 13) % CYCLE_S


def _turn(network: Network) -> float:
    """How the street grid is turned: the course of its first street."""
    g = network.segments.geometry
    first, last = int(g.start[0]), int(g.start[1]) - 1
    return math.atan2(g.north_m[last] - g.north_m[first], g.east_m[last] - g.east_m[first])


def _ways(network: Network, rng: random.Random) -> dict[tuple[str, int], Way]:
    shapes, signal = network.shapes, network.segments.signal
    length = polylines.lengths(shapes.geometry)
    out = {}
    for (route, direction), rows in network.schedule.by_route.items():
        row = rows[0]
        pieces: Sequence[int] | NDArray[np.int64] = range(int(shapes.piece_start[row]), int(shapes.piece_start[row + 1]))
        signals = [
            (float(shapes.piece_to_m[k]), *_plan_of(network, int(shapes.piece_segment[k])))
            for k in pieces
            if signal[shapes.piece_segment[k]] == 1
        ]
        stops = range(int(shapes.stop_start[row]), int(shapes.stop_start[row + 1]))
        out[route, direction] = Way(
            row=row,
            route_id=route,
            direction_id=direction,
            length_m=float(length[row]),
            piece_to_m=[float(shapes.piece_to_m[k]) for k in pieces],
            piece_segment=[int(shapes.piece_segment[k]) for k in pieces],
            stops=[(float(shapes.stop_along_m[k]), shapes.stop_id[k]) for k in stops],
            signals=signals,
        )
    return out
