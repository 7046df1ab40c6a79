"""How fast a street usually is at each time of the week, and how fast without traffic, learned from what was published of other days.

A profile is an input like the network: learned once in a while from finals that are kept, stored, versioned by its content, and named by every record that rests on it. So the
same log with the same profile gives the same bytes, live and replayed, which a profile that grows inside the running state could not.

For each segment, kind of day and quarter of an hour it holds the mean of ln(pace ratio), the pace ratio being time taken over time expected in light traffic (``models/fusion.py``).
The mean of logarithms is that of log-normal travel times (Emam & Al-Deek 2006, TRR 1958), and one bad day moves it little. Weights are minutes of evidence:
the share of a value that rests on vehicles and sites of the street itself times the minutes for which it stood, so that what the fusion took from its own prior teaches nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from models.streets import F64, I64, Bool, Streets

F16 = NDArray[np.float16]

#: Kinds of days. Fridays have afternoons of their own; public holidays count as the day of the week that they fall on.
DAY_TYPES = ("mon-thu", "fri", "sat", "sun")
_TYPE_OF = (0, 0, 0, 0, 1, 2, 3)
#: Days of a week that each kind stands for.
_DAYS = (4.0, 1.0, 1.0, 1.0)
QUARTERS = 96
BINS = len(DAY_TYPES) * QUARTERS
DAY_MS = 86_400_000
_QUARTER_MS = 900_000


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """How a profile is learned. Least evidence and prior: by ``benchmarks/history.py`` on runs other than those it scores; the rest is chosen."""

    #: Weights of the quarters beside a quarter, one and two away: a rush hour moves by some minutes from day to day.
    beside: tuple[float, ...] = (0.5, 0.25)
    #: Least evidence from which on a quarter is known, minutes.
    least_min: float = 5.0
    #: Weight of the expectation of light traffic, minutes.
    prior_min: float = 40.0
    #: A free-flow speed is told where so many of the 672 quarters of a week are known ...
    least_quarters: float = 168.0
    #: ... and where the segment's end (signal, giving way) takes at most this share of the time expected: of short blocks nothing is left to measure.
    most_end: float = 0.5
    #: ... and within these shares of the posted limit or, where there is none, of the class's.
    free_range: tuple[float, float] = (0.5, 1.25)
    #: A profile is used from the first day after those it was learned from for so long, days: seasons change.
    valid_days: int = 60


@dataclass(frozen=True, slots=True)
class Profile:
    """What was learned of m segments."""

    city: str
    timezone: str  #: whose clocks the quarters are of
    segment_id: tuple[str, ...]  #: sorted
    pace: F16  #: (m, BINS) ln(usual pace ratio), NaN where not known
    spread: F16  #: (m,) standard deviation of ln(pace ratio) of a minute about the usual, NaN where not known
    free_flow_kmh: F64  #: (m,) between junctions, NaN where not known
    days: tuple[str, ...]  #: local dates it was learned from
    valid_from_ms: int
    valid_until_ms: int
    simulated: bool = False
    version: str = field(default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", self._version())

    def _version(self) -> str:
        """sha256 of the content, 64 hex digits."""
        digest = hashlib.sha256()
        for part in (
            self.city,
            self.timezone,
            *self.segment_id,
            "",
            *self.days,
            str(self.valid_from_ms),
            str(self.valid_until_ms),
            str(self.simulated),
        ):
            digest.update(part.encode() + b"\n")
        for column in (self.pace, self.spread, self.free_flow_kmh):
            digest.update(np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def bins(start_ms: I64, zone: ZoneInfo) -> I64:
    """Bin of each time: kind of day and quarter of an hour, by the clocks of the zone.

    >>> helsinki = ZoneInfo("Europe/Helsinki")
    >>> friday = int(datetime(2026, 3, 13, 7, 50, tzinfo=helsinki).timestamp() * 1000)
    >>> int(bins(np.array([friday]), helsinki)[0]) == QUARTERS + 7 * 4 + 3
    True
    """
    quarters, back = np.unique(start_ms // _QUARTER_MS, return_inverse=True)
    local = [datetime.fromtimestamp(q * _QUARTER_MS / 1000, UTC).astimezone(zone) for q in quarters.tolist()]
    of = np.array([_TYPE_OF[t.weekday()] * QUARTERS + t.hour * 4 + t.minute // 15 for t in local], np.int64)
    result: I64 = of[back]
    return result


class Learner:
    """Sums of finals, of any number of days, in any order.

    Args:
        streets: those of the network whose finals are taken in.
        timezone: of the city.
    """

    def __init__(self, streets: Streets, timezone: str, settings: ProfileSettings | None = None) -> None:
        self.streets, self.zone, self.settings = streets, ZoneInfo(timezone), settings or ProfileSettings()
        self._key: I64 = np.empty(0, np.int64)  #: segment * BINS + bin, sorted, unique
        self._sums: F64 = np.empty((0, 3))  #: weight, weight x ln(ratio), weight x ln(ratio)^2
        self._days: set[str] = set()

    def add(self, segment: I64, start_ms: I64, speed_kmh: F64, minutes: F64) -> None:
        """Take in n finals.

        Args:
            segment: rows of the network.
            start_ms: when their windows began.
            speed_kmh: > 0.
            minutes: weight of each: minutes for which it stood, times the share that rests on evidence of the street itself.
        """
        if not len(segment):
            return
        pace = np.log(self.streets.expected_kmh[segment] / speed_kmh)
        key = segment * BINS + bins(start_ms, self.zone)
        for q in np.unique(start_ms // _QUARTER_MS).tolist():
            self._days.add(datetime.fromtimestamp(q * _QUARTER_MS / 1000, UTC).astimezone(self.zone).date().isoformat())
        keys = np.r_[self._key, key]
        sums = np.vstack([self._sums, np.column_stack([minutes, minutes * pace, minutes * pace * pace])])
        order = np.argsort(keys, kind="stable")
        keys, sums = keys[order], sums[order]
        first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        self._key, self._sums = keys[first], np.add.reduceat(sums, first, axis=0)

    def profile(self, city: str, segment_id: Sequence[str], *, simulated: bool = False) -> Profile:
        """What was learned.

        Raises:
            ValueError: nothing was taken in.
        """
        if not len(self._key):
            raise ValueError("no final with evidence of its own was taken in")
        rows = np.unique(self._key // BINS)
        dense = np.zeros((3, len(rows), BINS))
        dense[:, np.searchsorted(rows, self._key // BINS), self._key % BINS] = self._sums.T
        pace, spread = self._usual(*dense)
        known = np.isfinite(pace).any(axis=1)
        rows, pace, spread = rows[known], pace[known], spread[known]
        free = self._free(rows, pace)
        order = np.argsort(np.array([segment_id[k] for k in rows.tolist()], dtype=np.str_), kind="stable")
        days = tuple(sorted(self._days))
        end = datetime.fromisoformat(days[-1]).replace(tzinfo=self.zone)
        from_ms = int(end.timestamp() * 1000) + DAY_MS
        return Profile(
            city, self.zone.key, tuple(segment_id[k] for k in rows[order].tolist()), pace[order].astype(np.float16), spread[order].astype(np.float16),
            np.round(free[order], 1), days, from_ms, from_ms + self.settings.valid_days * DAY_MS, simulated,
        )  # fmt: skip

    def _usual(self, weight: F64, first: F64, second: F64) -> tuple[F64, F64]:
        """Mean of each bin with its neighbours, shrunk to light traffic; and the spread of minutes about it, of each segment."""
        cfg = self.settings
        wide, sums = _smooth(weight, cfg.beside), _smooth(first, cfg.beside)
        known = wide >= cfg.least_min
        pace = np.where(known, sums / (np.maximum(wide, 1e-9) + cfg.prior_min), np.nan)
        mean = np.where(known, pace, 0.0)
        total = np.where(known, weight, 0.0).sum(axis=1)
        about = np.where(known, second - 2 * mean * first + mean * mean * weight, 0.0).sum(axis=1)
        return pace, np.sqrt(np.maximum(about, 0.0) / np.maximum(total, 1e-9))

    def _free(self, rows: I64, pace: F64) -> F64:
        """Speed between junctions that 85 of 100 quarters of the week do not exceed, km/h: the 85th percentile of observed speeds, as FHWA's Urban Congestion Report has free flow."""
        cfg, s = self.settings, self.streets
        share_at_end = 1.0 - s.expected_kmh[rows] / s.running_kmh[rows]
        ratio = np.exp(pace) - share_at_end[:, None]  # time between junctions, in units of the time expected over the whole
        with np.errstate(divide="ignore", invalid="ignore"):
            speed = np.where(ratio > 0.05, s.expected_kmh[rows][:, None] / ratio, np.nan)
        of = np.where(np.isfinite(speed), np.repeat(_DAYS, QUARTERS), 0.0)
        free = _quantile(speed, of, 0.85)
        limit = s.free_flow_kmh[rows]
        enough = (of.sum(axis=1) >= cfg.least_quarters) & (share_at_end <= cfg.most_end) & s.known[rows]
        return np.where(enough, np.clip(free, cfg.free_range[0] * limit, cfg.free_range[1] * limit), np.nan)


class Usual:
    """A profile laid on a network's segments.

    Args:
        profile: of the same city; segments that the network does not have any more are left out.
        segment_id: the network's.
    """

    def __init__(self, profile: Profile, segment_id: Sequence[str]) -> None:
        self.profile, self.zone, self._n = profile, ZoneInfo(profile.timezone), len(segment_id)
        row = {s: k for k, s in enumerate(segment_id)}
        at = np.array([row.get(s, -1) for s in profile.segment_id], np.int64)
        self._from = np.flatnonzero(at >= 0)
        self.rows: I64 = at[self._from]
        self._bin, self._last = -1, (np.empty(0), np.empty(0))

    def valid(self, start_ms: int) -> bool:
        return self.profile.valid_from_ms <= start_ms < self.profile.valid_until_ms

    def at(self, start_ms: int) -> tuple[F64, F64]:
        """ln(usual pace ratio) of every segment of the network, NaN where not known, and the spread of minutes about it."""
        b = int(bins(np.array([start_ms]), self.zone)[0])
        if b != self._bin:
            pace, spread = np.full(self._n, np.nan), np.full(self._n, np.nan)
            pace[self.rows] = self.profile.pace[self._from, b]
            spread[self.rows] = self.profile.spread[self._from]
            self._bin, self._last = b, (pace, spread)
        return self._last

    def free_flow(self) -> tuple[I64, F64]:
        """Segments whose free-flow speed is known, and it, km/h."""
        kmh = self.profile.free_flow_kmh[self._from]
        known: Bool = np.isfinite(kmh)
        return self.rows[known], kmh[known]


def _smooth(x: F64, beside: tuple[float, ...]) -> F64:
    """Each quarter with its neighbours on the same kind of day."""
    days = x.reshape(len(x), len(DAY_TYPES), QUARTERS)
    total = days.copy()
    for k, weight in enumerate(beside, 1):
        total[:, :, k:] += weight * days[:, :, :-k]
        total[:, :, :-k] += weight * days[:, :, k:]
    result: F64 = total.reshape(x.shape)
    return result


def _quantile(x: F64, weight: F64, q: float) -> F64:
    """Weighted quantile of each row: the least value that has at least the share ``q`` of the weight at or below it; NaN where there is no weight."""
    order = np.argsort(np.where(weight > 0, x, np.inf), axis=1, kind="stable")
    x, weight = np.take_along_axis(x, order, 1), np.take_along_axis(weight, order, 1)
    below = np.cumsum(weight, axis=1)
    at = (below >= q * below[:, -1:]).argmax(axis=1)
    return np.where(below[:, -1] > 0, np.take_along_axis(x, at[:, None], 1)[:, 0], np.nan)
