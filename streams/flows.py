"""Flow of every segment at the end of a window: counters, what they say of streets near by, jams, the calendar.

Pure. The models are in ``models/emissions/flow.py``; here is what they need to know of the network and of the city's time: which counters are
near, what each last said, what hour it is in the city at the end of the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from geo.network import F64, I64, Bool, Network
from geo.polylines import point_at
from geo.through import ThroughSettings, trips_through
from models.emissions.flow import (
    ROAD_CLASSES,
    Flow,
    FlowSettings,
    calendar_prior_vph,
    estimate_flow,
    jam_density_vpkm,
    road_class_code,
    transfer,
)
from streams.balance import Balance, BalanceSettings
from streams.partial import SensorRow
from streams.stretches import Stretches

#: Share of a local street's usual flow on ways that serve plots only, by OSM class (judgement).
USE = {"service": 0.2, "living_street": 0.5, "track": 0.1, "busway": 0.0, "bus_guideway": 0.0}
#: A counter silent for longer has nothing to say any more, milliseconds.
FORGET_MS = 2 * 3_600_000


@dataclass(frozen=True, slots=True)
class FlowsSettings:
    """How counters speak for other streets. Fitted by ``benchmarks/fit_flows.py`` on simulated runs that are not those that are reported, and rounded: the optimum is flat. Standard deviations are
    set so that the bounds hold (``docs/accuracy-emissions.md``)."""

    #: Length of a stretch, metres (``streams/stretches.py``).
    stretch_m: float = 300.0
    #: Usual flow on streets of one class goes with the trips that lead through them to this power; 0: all alike. Higher makes yards emptier and links busier.
    through_power: float = 0.3
    #: No street is taken to lead fewer trips through than this share of its class's mean.
    through_least: float = 0.05
    #: Counters that may speak for a segment.
    neighbours: int = 6
    #: A counter on a street of another name, or in another direction, counts as this much farther away, metres each. Higher trusts them less.
    other_street_m: float = 200.0
    #: A counter on a road of another class counts as this much farther away, metres: the ratio to the calendar is less alike there.
    other_class_m: float = 350.0
    #: Standard deviation of ln(flow) that a count is less sure by on the rest of its block: who parks, turns off into a yard or queues there.
    block_log_sd: float = 0.25
    #: "As the calendar says" weighs as much as so many counters when the level of a road class is taken from its counters.
    level_counters: float = 5.0
    #: Added to what was counted and to what was expected when they are compared: a few vehicles more or less in five minutes must not halve a neighbour.
    few_vph: float = 48.0
    #: What a counter says of other streets loses half of its weight in this time, seconds: five minutes' counts are few vehicles.
    smooth_s: float = 30.0
    #: A stretch is jammed, and its speed tells its density, below this share of its speed in light traffic.
    jam_ratio: float = 0.5
    #: What a counter is taken to be sure to when junctions are balanced, as a share of its count.
    counted_share: float = 0.1
    #: What a guess is at least unsure by then, vehicles an hour.
    least_sd_vph: float = 10.0
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    through: ThroughSettings = field(default_factory=ThroughSettings)
    flow: FlowSettings = field(
        default_factory=lambda: FlowSettings(
            transferred_log_sd=0.55, prior_log_sd=0.75, transfer_reach_m=150.0, transfer_prior_weight=0.075, congested_log_sd=0.2
        )
    )


class Flows:
    """What the counters of a city last said, and the network as the flow model needs it."""

    def __init__(
        self, network: Network, timezone: str, expected_kmh: F64, settings: FlowsSettings | None = None, block: I64 | None = None
    ) -> None:
        self.settings = settings or FlowsSettings()
        self.zone = ZoneInfo(timezone)
        s = network.segments
        n = len(s)
        self.expected_kmh = expected_kmh
        #: pieces of street that the same vehicles drive share a number (``models.streets.Streets.block``)
        self.block = np.arange(n) if block is None else block
        self.road_class: I64 = np.array([road_class_code(c) for c in s.road_class], np.int64)
        self.use: F64 = np.array([USE.get(c, 1.0) for c in s.road_class], np.float64)
        self.lanes: F64 = np.maximum(s.lanes, 1).astype(np.float64)
        self.length_km: F64 = s.length_m / 1000.0
        self.jam_vpkm = jam_density_vpkm(self.road_class, self.lanes)
        rows = np.arange(n)
        self.east_m, self.north_m = point_at(s.geometry, rows, s.length_m / 2.0) if n else (np.empty(0), np.empty(0))
        first, last = s.geometry.start[:-1], s.geometry.start[1:] - 1
        de, dn = s.geometry.east_m[last] - s.geometry.east_m[first], s.geometry.north_m[last] - s.geometry.north_m[first]
        long = np.maximum(np.hypot(de, dn), 1e-9)
        self.course = np.column_stack([de / long, dn / long])
        names: dict[str | None, int] = {}
        self._name: I64 = np.array([names.setdefault(x, len(names)) if x else -1 for x in s.name], np.int64)
        general: Bool = np.array([r == "general_traffic" for r in s.represents], np.bool_)
        driven = general & (self.use > 0.0)
        trips = trips_through(s, expected_kmh, driven, self.settings.through)
        self.use *= _by_class(trips, self.settings, self.road_class, np.where(driven, self.length_km, 0.0))
        self.balance = Balance(network, driven, self.settings.balance)
        self.stretches = Stretches(network, self.course, self.settings.stretch_m)
        self.stretch_expected_kmh = self.stretches.harmonic(expected_kmh, s.length_m)
        self.lanes_of_street = _street_means(self.lanes, s.lanes > 0, self.length_km, self._name, self.road_class)
        self.last: dict[str, list[Any]] = {}  #: "site:direction" -> [segment, end_ms, flow_vph, smoothed flow_vph]
        self._near: tuple[tuple[int, ...], I64, F64] | None = None

    def hear(self, sensors: Mapping[str, SensorRow]) -> None:
        """Readings of a window that has become final."""
        for key, s in sorted(sensors.items()):
            if s.segment >= 0 and s.flow_vph is not None:
                old = self.last.get(key)
                if old is None or s.window_end_ms - old[1] > FORGET_MS:
                    self.last[key] = [s.segment, s.window_end_ms, s.flow_vph, s.flow_vph]
                elif s.window_end_ms >= old[1]:
                    share = 1.0 - 0.5 ** ((s.window_end_ms - old[1]) / 1000.0 / self.settings.smooth_s)
                    self.last[key] = [s.segment, s.window_end_ms, s.flow_vph, old[3] + share * (s.flow_vph - old[3])]

    def forget(self, now_ms: int) -> None:
        """Counters long silent go."""
        self.last = {k: v for k, v in self.last.items() if v[1] >= now_ms - FORGET_MS}

    def local(self, end_ms: int) -> tuple[float, int]:
        """Hour of the day, 0..24, and weekday in the city: daylight saving by its time zone.

        >>> import types
        >>> f = Flows.__new__(Flows)
        >>> f.zone = ZoneInfo("Europe/Helsinki")
        >>> f.local(1774747800000), f.local(1774747800000 - 86_400_000)  # the day the clocks go forward, and the day before
        ((4.5, 6), (3.5, 5))
        """
        t = datetime.fromtimestamp(end_ms / 1000, UTC).astimezone(self.zone)
        return t.hour + t.minute / 60.0 + t.second / 3600.0, t.weekday()

    def prior(self, end_ms: int) -> F64:
        """Calendar prior of every segment, vehicles an hour."""
        hour, weekday = self.local(end_ms)
        return calendar_prior_vph(self.road_class, self.lanes_of_street, hour, weekday, scale=self.use)

    def at(
        self, end_ms: int, speed_kmh: F64, speed_log_sd: F64, stretch_kmh: F64, transit_vph: F64, now: Mapping[str, SensorRow] | None = None
    ) -> Flow:
        """Flow of every segment, transit vehicles left out.

        Args:
            end_ms: end of the window.
            speed_kmh, speed_log_sd: (n,) space means, finite, and the standard deviations of their logarithms.
            stretch_kmh: (n,) speeds over the stretch of street around each segment: what a jam is known by.
            transit_vph: (n,) flow of transit vehicles, which counters count too and which is known from their own positions.
            now: readings of a window that is not final yet.
        """
        cfg = self.settings
        measured, smooth, age = self._counted(end_ms, transit_vph, now)
        usual = self.prior(end_ms)
        prior = usual * self._level(smooth, age, usual)
        moved, moved_var = self._transfer(prior, smooth, age)
        site = np.isfinite(measured)
        measured, age = self._whole_block(measured, age)
        moved = self._balanced(moved, moved_var, measured)
        slow = stretch_kmh < cfg.jam_ratio * self.stretch_expected_kmh
        return estimate_flow(
            speed_kmh=speed_kmh, free_flow_kmh=np.where(slow, self.expected_kmh, speed_kmh), road_class=self.road_class, lanes=self.lanes,
            prior_vph=prior, measured_vph=measured, measured_age_s=age, measured_extra_log_var=np.where(site, 0.0, cfg.block_log_sd**2), transferred_vph=moved, transferred_log_var=moved_var,
            speed_log_sd=speed_log_sd, settings=cfg.flow,
        )  # fmt: skip

    def _balanced(self, moved: F64, moved_var: F64, measured: F64) -> F64:
        """Flows of streets without a counter so that junctions balance."""
        cfg, counted = self.settings, np.isfinite(measured)
        guess = np.where(counted, np.nan_to_num(measured), moved)
        sd = np.where(counted, cfg.counted_share, np.sqrt(moved_var)) * guess + cfg.least_sd_vph * np.where(counted, 0.5, 1.0)
        return np.where(counted, moved, self.balance.flows(guess, sd))

    def _counted(self, end_ms: int, transit_vph: F64, now: Mapping[str, SensorRow] | None) -> tuple[F64, F64, F64]:
        """What counters say of their segments, transit left out, NaN where there is none; the same smoothed; and its age in seconds."""
        n, last = len(transit_vph), self.last
        for k, s in (now or {}).items():
            if s.segment >= 0 and s.flow_vph is not None:
                last = {**last, k: [s.segment, s.window_end_ms, s.flow_vph, last[k][3] if k in last else s.flow_vph]}
        rows = [v for _, v in sorted(last.items()) if end_ms - FORGET_MS <= v[1] <= end_ms]
        segment = np.array([v[0] for v in rows], np.int64)
        age_s = np.array([(end_ms - v[1]) / 1000.0 for v in rows], np.float64)
        vph = np.array([v[2] for v in rows], np.float64)
        at, of = np.unique(segment, return_inverse=True)
        newest = np.full(len(at), np.inf)
        np.minimum.at(newest, of, age_s)
        fresh = age_s <= newest[of] + 60.0  # several counters on one segment: those that still speak
        count = np.bincount(of[fresh], minlength=len(at))
        age = np.zeros(n)
        age[at] = newest

        def mean(column: F64) -> F64:
            out = np.full(n, np.nan)
            out[at] = np.maximum(np.bincount(of[fresh], column[fresh], len(at)) / count - transit_vph[at], 0.0)
            return out

        return mean(vph), mean(np.array([v[3] for v in rows], np.float64)), age

    def _whole_block(self, measured: F64, age_s: F64) -> tuple[F64, F64]:
        """The same vehicles drive a whole block: what is counted on one piece of it holds for the others, of the counters that spoke last."""
        own = np.isfinite(measured)
        at = np.flatnonzero(own)
        if not len(at):
            return measured, age_s
        newest = np.full(len(measured), np.inf)
        np.minimum.at(newest, self.block[at], age_s[at])
        at = at[age_s[at] <= newest[self.block[at]] + 60.0]
        count = np.bincount(self.block[at], minlength=len(measured))
        mean = np.bincount(self.block[at], measured[at], len(measured)) / np.maximum(count, 1)
        rest = np.flatnonzero((count > 0)[self.block] & ~own)
        block = self.block[rest]
        measured, age_s = measured.copy(), age_s.copy()
        measured[rest], age_s[rest] = mean[block], newest[block]
        return measured, age_s

    def _level(self, measured: F64, age_s: F64, usual: F64) -> F64:
        """How far a road class is from the calendar today, by all counters on it; 1 for classes without any."""
        at = np.flatnonzero(np.isfinite(measured) & (age_s <= self.settings.flow.measured_memory_s) & (usual > 0.0))
        road = self.road_class[at]
        counted, expected = (np.bincount(road, x[at], len(ROAD_CLASSES)) for x in (measured, usual))
        some = expected / np.maximum(np.bincount(road, minlength=len(ROAD_CLASSES)), 1) * self.settings.level_counters
        level = np.where(expected > 0.0, (counted + some) / np.where(expected > 0.0, expected + some, 1.0), 1.0)
        out: F64 = level[self.road_class]
        return out

    def _transfer(self, prior: F64, measured: F64, age_s: F64) -> tuple[F64, F64]:
        """Counters that have fallen silent say less and less: as if they moved away."""
        cfg = self.settings.flow
        near, distance_m = self._neighbours(tuple(np.unique([v[0] for v in self.last.values()]).tolist()) if self.last else ())
        at = np.flatnonzero(np.isfinite(measured))
        if not len(at) or not near.size:
            return transfer(prior, np.empty(0), near, distance_m, cfg)
        ratio = np.full(len(prior), np.nan)
        ratio[at] = (measured[at] + self.settings.few_vph) / (prior[at] + self.settings.few_vph)
        fade = np.zeros(len(prior))
        fade[at] = age_s[at] / cfg.measured_memory_s * cfg.transfer_reach_m
        return transfer(prior, ratio, near, distance_m + fade[near], cfg)

    def _neighbours(self, counters: tuple[int, ...]) -> tuple[I64, F64]:
        """For each segment its nearest counters as segment numbers (n, K) and how far they count to be, metres."""
        if self._near is not None and self._near[0] == counters:
            return self._near[1:]
        n, k = len(self.lanes), min(self.settings.neighbours, len(counters))
        near, far = np.full((n, k), -1, np.int64), np.full((n, k), np.inf)
        c = np.array(counters, np.int64)
        for a in range(0, n if k else 0, 4096):
            rows = slice(a, min(a + 4096, n))
            d = np.hypot(self.east_m[rows, None] - self.east_m[None, c], self.north_m[rows, None] - self.north_m[None, c])
            other: Bool = (self._name[rows, None] != self._name[None, c]) | (self._name[rows, None] < 0)
            away: Bool = self.course[rows] @ self.course[c].T < 0.3
            d += self.settings.other_street_m * (other.astype(np.float64) + away)
            d += self.settings.other_class_m * (self.road_class[rows, None] != self.road_class[None, c])
            order = np.sort(np.argpartition(d, k - 1, axis=1)[:, :k], axis=1)  # in the order of segments: sums do not depend on ties
            near[rows], far[rows] = c[order], np.take_along_axis(d, order, axis=1)
        self._near = (counters, near, far)
        return near, far

    def export(self) -> dict[str, Any]:
        return self.last

    def restore(self, data: dict[str, Any]) -> None:
        self.last = {k: list(v) for k, v in data.items()}


def _street_means(lanes: F64, known: Bool, length_km: F64, name: I64, road_class: I64) -> F64:
    """Lanes for the calendar: the mean of the street, so that a turning lane on its last metres brings no traffic of its own."""
    street = np.where(name >= 0, name * 16 + road_class, -1)
    _, group = np.unique(street, return_inverse=True)
    weight = np.where(known & (name >= 0), length_km, 0.0)
    total = np.bincount(group, weight)
    mean: F64 = np.bincount(group, weight * lanes) / np.where(total > 0.0, total, 1.0)
    return np.where(total[group] > 0.0, np.maximum(mean[group], 1.0), lanes)


def _by_class(trips: F64, cfg: FlowsSettings, road_class: I64, weight: F64) -> F64:
    """What trips through a street make of its class's usual flow; 1 on average over the weights of a class.

    >>> _by_class(np.array([1.0, 3.0, 7.0]), FlowsSettings(through_power=1.0), np.array([4, 4, 3]), np.ones(3)).tolist()
    [0.5, 1.5, 1.0]
    """

    def mean(x: F64) -> F64:
        total = np.bincount(road_class, weight)
        out: F64 = (np.bincount(road_class, weight * x) / np.where(total > 0.0, total, 1.0))[road_class]
        return np.where(out > 0.0, out, 1.0)

    share = np.maximum(trips / mean(trips), cfg.through_least) ** cfg.through_power
    return share / mean(share)
