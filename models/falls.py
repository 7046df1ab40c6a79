"""Sudden falls of speed: where a street that vehicles used to get through is all at once much slower, and the street ahead is not.

Pure and deterministic. A fall is told with its evidence: vehicle-seconds, the pace against the usual one. It is the head of a queue that is told, not every
segment of it: what lies ahead must still flow. Whether a message explains it is for the caller to know.

Limits, measured (``docs/accuracy.md``): it sees what vehicles show. A blocked lane beside a free one that takes all traffic shows in no probe and is not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.fusion import WindowSums
from models.streets import C128, F64, I64, Streets


@dataclass(frozen=True, slots=True)
class FallSettings:
    """When a fall is told. Chosen on simulated runs (1, 2, 7, 8 and 1 with harsher noise) for at most one event an hour that the truth does not bear out."""

    #: What was seen lately loses this share a window.
    fade: float = 0.3
    #: Pace of what was seen lately over the usual one. Higher: fewer events.
    times: float = 5.0
    #: Vehicle time behind it, seconds, on the street from here straight on. Higher: fewer and later.
    vehicle_s: float = 120.0
    #: The usual pace ratio must be below this (otherwise the street was slow before), and known from about so many vehicles.
    usual_at_most: float = 1.3
    known_from: float = 5.0
    #: Half-lives of the usual pace while vehicles come, and of the knowledge of it, windows; without vehicles it is forgotten slowly.
    usual_half_life: float = 10.0
    known_half_life: float = 20.0
    forget_half_life: float = 60.0
    #: Expected over estimated speed of the segment straight ahead: above this the queue's head is farther on.
    ahead_at_most: float = 2.5
    #: One event in this circle, metres, and for so many windows.
    apart_m: float = 150.0
    hold: int = 15
    #: Seconds of light traffic added to both sums, so that a glimpse says nothing.
    prior_s: float = 3.0
    #: A fall is over when the pace is back below this many times the usual one, or nothing has been seen for ``hold`` windows.
    over_at_most: float = 2.0
    #: Windows before the first event: the usual is not known before.
    learn: int = 15

    def __post_init__(self) -> None:
        if not (0 < self.fade < 1 and self.times > 1 and self.vehicle_s > 0 and self.usual_at_most < self.times and self.prior_s > 0):
            raise ValueError(f"fall settings out of range: {self}")


class Fall(NamedTuple):
    """One sudden fall of speed."""

    segment: int
    pace_ratio: float  #: vehicle time over expected time, lately
    usual_ratio: float
    vehicle_s: float  #: evidence
    speed_kmh: float  #: of the street, lately


class Falls:
    """State of all segments. Windows in order in, new falls out."""

    def __init__(self, streets: Streets, east_m: F64, north_m: F64, settings: FallSettings | None = None) -> None:
        self.streets, self.settings = streets, settings or FallSettings()
        self._east, self._north = east_m, north_m
        n = len(streets)
        self.lately: C128 = np.zeros(n, np.complex128)
        self.usual: F64 = np.zeros(n)  #: log pace ratio
        self.known: F64 = np.zeros(n)
        self.told: I64 = np.full(n, -(1 << 40))  #: window in which a fall near here was last told
        self.open: dict[int, list[float]] = {}  #: segment -> [usual log pace ratio, window in which it was last seen]
        self.over: list[int] = []  #: of the last window
        self.window = 0

    def advance(self, obs: WindowSums, speed_kmh: F64) -> list[Fall]:
        """Take in one window and the estimate of its end (NaN: nothing known)."""
        cfg, s = self.settings, self.streets
        self.window += 1
        self.lately = self.lately * (1 - cfg.fade)
        self.lately[self.lately.real + self.lately.imag < 1e-6] = 0
        seen = obs.segment
        self.lately.real[seen] += obs.time_s
        self.lately.imag[seen] += obs.dist_m * 3.6 / s.expected_kmh[seen]
        pooled = s.pool(self.lately, 40.0, 8)
        self._end(seen, pooled)
        street = pooled[seen]
        pace = np.log((street.real + cfg.prior_s) / (street.imag + cfg.prior_s))
        falls = self._falls(seen, street.real, pace, speed_kmh)
        keep = 0.5 ** (1 / cfg.usual_half_life)
        usual = keep * self.usual[seen] + (1 - keep) * np.clip(pace, -np.log(2.0), np.log(3.0))
        self.usual *= 0.5 ** (1 / cfg.forget_half_life)
        self.usual[seen] = usual
        self.known *= 0.5 ** (1 / cfg.known_half_life)
        self.known[seen] += 1
        return falls

    def _end(self, seen: I64, pooled: C128) -> None:
        """Which falls are over."""
        cfg, self.over = self.settings, []
        for segment, (usual, last) in sorted(self.open.items()):
            k = int(np.searchsorted(seen, segment))
            if k < len(seen) and seen[k] == segment:
                last = self.open[segment][1] = float(self.window)
            street = pooled[segment]
            pace = np.log((street.real + cfg.prior_s) / (street.imag + cfg.prior_s))
            if pace - usual < np.log(cfg.over_at_most) or self.window - last > cfg.hold:
                self.over.append(segment)
                del self.open[segment]

    def _falls(self, seen: I64, vehicle_s: F64, pace: F64, speed_kmh: F64) -> list[Fall]:
        cfg, s = self.settings, self.streets
        if self.window <= cfg.learn or not len(seen):
            return []
        ahead = s.ahead[seen]
        slowness = np.where(ahead >= 0, s.expected_kmh[ahead] / np.maximum(speed_kmh[ahead], 0.1), 1.0)
        fell = (pace - self.usual[seen] > np.log(cfg.times)) & (vehicle_s > cfg.vehicle_s) & (self.usual[seen] < np.log(cfg.usual_at_most))
        fell &= (self.known[seen] > cfg.known_from) & ~(slowness > cfg.ahead_at_most) & (self.window - self.told[seen] > cfg.hold)
        out = []
        rows = np.flatnonzero(fell)
        for k in rows[np.lexsort((seen[rows], -(pace - self.usual[seen])[rows]))].tolist():
            i = int(seen[k])
            if self.window - self.told[i] <= cfg.hold:
                continue
            near = (self._east - self._east[i]) ** 2 + (self._north - self._north[i]) ** 2 < cfg.apart_m**2
            self.told[near] = self.window
            ratio = float(np.exp(pace[k]))
            self.open[i] = [float(self.usual[i]), float(self.window)]
            out.append(Fall(i, ratio, float(np.exp(self.usual[i])), float(vehicle_s[k]), float(s.expected_kmh[i]) / ratio))
        return out

    def export(self) -> dict[str, Any]:
        return {
            "lately": self.lately.tobytes(), "usual": self.usual.tobytes(), "known": self.known.tobytes(), "told": self.told.tobytes(),
            "window": self.window, "open": sorted(self.open.items()),
        }  # fmt: skip

    def restore(self, data: dict[str, Any]) -> None:
        self.lately = np.frombuffer(data["lately"], np.complex128).copy()
        self.usual = np.frombuffer(data["usual"], np.float64).copy()
        self.known = np.frombuffer(data["known"], np.float64).copy()
        self.told = np.frombuffer(data["told"], np.int64).copy()
        self.window = data["window"]
        self.open = {int(k): [float(x) for x in v] for k, v in data["open"]}
