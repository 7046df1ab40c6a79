"""Fusion: what all sources say about the speed of every segment, minute by minute.

State of a segment: two sums that fade, the time that vehicles took on it and the time that they would have taken in light traffic (Edie's sums, the second
divided by the expected speed). Their ratio is the pace ratio; it adds up over vehicles, over minutes and along streets, so one bus that waits at a red light on
the last ten metres of a block and another that gets through green give together what they should, which the mean of their logarithms does not.

Of a segment one asks in turn, each answer being the prior of the next, worth a stated number of seconds of expected time:
1. what its class and limit lead one to expect (ratio 1), or what is usual there at this time of the week where a profile tells it (``models/profile.py``);
2. what is going on ahead, in all the streets that it leads into (queues grow upstream);
3. what is going on on the street itself, from here straight on.
What vehicles said counts as many seconds as they spent, so the variance follows the count; it fades with log time, so it follows the age; and it counts for less where
its feed is sick or late (``streams/health.py``).
A ratio of sums with a prior of so many seconds is the posterior mean of a gamma-distributed pace ratio under discounting, the power steady model of Smith (1979,
J. R. Statist. Soc. B 41) as West & Harrison (1997, ch. 10) give it: a recursive estimate in which evidence fades with log time.

The logarithm of the ratio is then shrunk where it is small: one vehicle's red light looks like mild congestion but is not; a jam does not look like a red light.
Measured on simulated truth against the log-ratio Kalman filter that stood here first: ``docs/accuracy.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.confidence import ABOVE, BAND, BELOW, Z20, band_probability
from models.loops import LoopSettings, space_mean
from models.streets import C128, F64, I64, Streets

ALGORITHM = "edie-ratio-discount/1"
ORIGINS = ("none", "historical", "inferred", "blended", "measured")
NONE, HISTORICAL, INFERRED, BLENDED, MEASURED = range(5)


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """Parameters of the estimator, fitted by ``benchmarks/fit_fusion.py`` on several runs of simulated truth and rounded; the optimum is flat."""

    #: Evidence of vehicles loses half of its weight in this time, seconds of log time. More: steadier and later.
    half_life_s: float = 90.0
    #: The same for a site that falls silent; while it reports, its newest value stands.
    loop_half_life_s: float = 120.0
    #: Weight of a site's reading, seconds of expected time (a vehicle that drives through a block of 40 m brings about 5).
    loop_weight_s: float = 8.0
    #: Weight of what is known from ahead against the street's own evidence, seconds of expected time.
    own_prior_s: float = 2.0
    #: Weight of the expectation of light traffic against what is known from ahead.
    ahead_prior_s: float = 3.0
    #: Weight of what is usual at this time of the week, where a profile tells it, in place of that expectation.
    usual_prior_s: float = 2.0
    #: Evidence on the same street straight ahead fades by e over this distance, metres ...
    own_reach_m: float = 40.0
    #: ... and reaches so many segments.
    own_rounds: int = 8
    #: Evidence of all streets ahead fades by e over this distance, metres ...
    ahead_reach_m: float = 150.0
    #: ... keeps this share at each step ...
    ahead_share: float = 0.9
    #: ... and reaches so many segments.
    ahead_rounds: int = 6
    #: A bus loses this much more than a car, seconds per second of expected time, outside stops (slower pulling away); in a jam that is nothing.
    #: Applied to general traffic only, where vehicles were seen.
    bus_loss: float = 0.05
    #: Log pace ratios below this are mostly single red lights; see the module's text.
    doubt: float = 0.5
    #: The picture of unseen streets is published as inferred only while at least so many segments were seen lately.
    min_network: int = 5
    #: A value is called measured from this share of it on that comes from this segment and window ...
    measured_share: float = 0.3
    #: ... and blended from this share on that comes from this segment at all.
    blended_share: float = 0.1
    loops: LoopSettings = field(default_factory=LoopSettings)

    def __post_init__(self) -> None:
        positive = (self.half_life_s, self.loop_half_life_s, self.own_prior_s, self.ahead_prior_s, self.own_reach_m, self.ahead_reach_m)
        if (
            min(positive) <= 0
            or self.usual_prior_s <= 0
            or not 0 <= self.ahead_share < 1
            or not 0 <= self.bus_loss < 1
            or self.loop_weight_s < 0
            or self.doubt < 0
        ):
            raise ValueError(f"fusion settings out of range: {self}")


@dataclass(slots=True)
class WindowSums:
    """What was observed in one window on m segments (sorted, unique)."""

    segment: I64
    dist_m: F64
    time_s: F64
    vehicles: I64
    newest_ms: I64
    loop_segment: I64  #: sorted, unique
    loop_kmh: F64  #: spot mean, > 0
    loop_vph: F64  #: NaN: not told
    loop_ms: I64  #: end of its window
    #: Share of their weight that what vehicles and sites said keeps, 0..1 by segment: the variance of what a sick or late feed tells is larger. None: all of it.
    worth: F64 | None = None
    loop_worth: F64 | None = None

    @property
    def empty(self) -> bool:
        return not (len(self.segment) or len(self.loop_segment))


@dataclass(slots=True)
class Estimate:
    """Per segment, n rows for the segments asked for."""

    speed_kmh: F64  #: NaN: nothing informs it
    p20_kmh: F64
    p80_kmh: F64
    confidence: F64
    origin: I64
    probe_weight: F64  #: shares of the value, sum to 1 where there is one
    loop_weight: F64
    memory_weight: F64
    network_weight: F64


class Estimator:
    """State of all segments of a city. Pure and deterministic: windows in order in, estimates out."""

    def __init__(self, streets: Streets, window_s: float = 60.0, settings: FusionSettings | None = None) -> None:
        self.streets = streets
        self.settings = cfg = settings or FusionSettings()
        n = len(streets)
        #: vehicle time + i x expected time, seconds, fading: of vehicles, and of sites
        self.probes: C128 = np.zeros(n, np.complex128)
        self.sites: C128 = np.zeros(n, np.complex128)
        self.network_seen = 0.0  #: segments seen, fading
        self.newest_ms: I64 = np.full(n, -1, np.int64)
        self._keep = 0.5 ** (window_s / cfg.half_life_s)
        self._keep_site = 0.5 ** (window_s / cfg.loop_half_life_s)
        self._usual: tuple[F64, F64] | None = None
        #: Of segments that no evidence reaches: whether the picture was alive, and speed, quantiles, confidence, origin.
        self._untold: tuple[bool, tuple[F64, F64, F64, F64, I64]] | None = None
        self._at_end = np.clip(1.0 - streets.expected_kmh / streets.running_kmh, 0.0, 1.0)
        self._share()

    def expect(self, usual: tuple[F64, F64] | None) -> None:
        """What is usual in the window that comes next: ln(pace ratio) of every segment and the spread of minutes about it, NaN where not known; None: nothing is known."""
        self._usual = usual

    def advance(self, obs: WindowSums) -> Estimate:
        """Move on by one window and take in what was observed. Returns the estimate of every segment."""
        self.probes = _faded(self._keep * self.probes)
        memory = self.probes.copy()
        self.sites = _faded(self._keep_site * self.sites)
        memory += self.sites
        new, read = self._new(obs)
        self.probes[obs.segment] += new
        memory[obs.loop_segment] -= self.sites[obs.loop_segment]
        self.sites[obs.loop_segment] = read
        self.network_seen = self.network_seen * self._keep + len(obs.segment) + len(obs.loop_segment)
        self.newest_ms[obs.segment] = np.maximum(self.newest_ms[obs.segment], obs.newest_ms)
        self.newest_ms[obs.loop_segment] = np.maximum(self.newest_ms[obs.loop_segment], obs.loop_ms)
        self._share()
        probe, loop = np.zeros(len(self.probes)), np.zeros(len(self.probes))
        probe[obs.segment], loop[obs.loop_segment] = _weight(new), _weight(read)
        return self._everywhere(probe, loop, memory)

    def _everywhere(self, probe: F64, loop: F64, memory: C128) -> Estimate:
        """Estimate of every segment. Those that no evidence reaches are as they were: only the others are worked out anew."""
        alive = self.network_seen >= self.settings.min_network
        if self._untold is None or self._untold[0] != alive:
            zero, none = np.zeros(len(self.probes)), np.zeros(len(self.probes), np.complex128)
            e = self._estimate(np.arange(len(zero)), none, none, zero, zero, zero, told=False)
            self._untold = alive, (e.speed_kmh, e.p20_kmh, e.p80_kmh, e.confidence, e.origin)
        rows = self._told
        if self._usual is not None:
            rows = np.union1d(rows, np.flatnonzero(np.isfinite(self._usual[0])))
        speed, p20, p80, confidence, origin = self._untold[1]
        zero = np.zeros(len(speed))
        whole = Estimate(
            speed.copy(), p20.copy(), p80.copy(), confidence.copy(), origin.copy(), zero, zero.copy(), zero.copy(), np.ones(len(speed))
        )
        some = self._estimate(rows, self._street[rows], self._ahead[rows], probe[rows], loop[rows], _weight(memory[rows]))
        for name in Estimate.__slots__:
            getattr(whole, name)[rows] = getattr(some, name)
        return whole

    def peek(self, obs: WindowSums) -> tuple[I64, Estimate]:
        """Estimate of the observed segments as if the window ended now; the state stays as it is. What the window tells of their neighbours waits for its end."""
        rows = np.union1d(obs.segment, obs.loop_segment)
        new, read = self._new(obs)
        at, site = np.searchsorted(rows, obs.segment), np.searchsorted(rows, obs.loop_segment)
        street, ahead = self._keep * self._street[rows], self._keep * self._ahead[rows]
        memory = self._keep * self.probes[rows] + self._keep_site * self.sites[rows]
        old = self._keep_site * self.sites[obs.loop_segment]
        memory[site] -= old
        street[site] += read - self._keep * self.sites[obs.loop_segment]
        street[at] += new
        probe, loop = np.zeros(len(rows)), np.zeros(len(rows))
        probe[at], loop[site] = _weight(new), _weight(read)
        return rows, self._estimate(rows, street, ahead, probe, loop, _weight(memory))

    def _share(self) -> None:
        """Sums of the street straight on, and of all streets ahead."""
        cfg, sums = self.settings, self.probes + self.sites
        self._street = self.streets.pool(sums, cfg.own_reach_m, cfg.own_rounds)
        self._ahead = self.streets.spread(sums, cfg.ahead_reach_m, cfg.ahead_share, cfg.ahead_rounds)
        self._told = np.flatnonzero((self._street != 0) | (self._ahead != 0))  #: segments that any evidence reaches

    def _new(self, obs: WindowSums) -> tuple[C128, C128]:
        """Sums of the window: of vehicles, and of sites."""
        cfg, s = self.settings, self.streets
        expected = obs.dist_m * 3.6 / s.expected_kmh[obs.segment]
        loss = np.where(s.general[obs.segment], cfg.bus_loss * expected, 0.0)
        new = _pair(np.maximum(obs.time_s - loss, 0.25 * obs.time_s), expected)
        if obs.worth is not None:
            new *= obs.worth
        at = obs.loop_segment
        speed = space_mean(obs.loop_kmh, obs.loop_vph, s.free_flow_kmh[at], s.lanes[at], s.interrupted[at], cfg.loops)
        weight = np.full(len(at), cfg.loop_weight_s) if obs.loop_worth is None else cfg.loop_weight_s * obs.loop_worth
        return new, _pair(weight * s.running_kmh[at] / speed, weight)

    def features(self, rows: I64, street: C128, ahead: C128, *, told: bool = True) -> tuple[tuple[F64, F64, F64, F64], F64]:
        """What the spread depends on (own evidence, log pace ratio ahead, log pace ratio, share of the time at the end), and all evidence and priors, seconds."""
        cfg = self.settings
        usual, spread = self._usually(rows, told=told)
        weight = np.where(np.isnan(spread), cfg.ahead_prior_s, cfg.usual_prior_s)
        prior = (ahead.real + weight * np.exp(usual)) / (ahead.imag + weight)
        pace = np.log((street.real + cfg.own_prior_s * prior) / (street.imag + cfg.own_prior_s))
        own = street.real + street.imag
        total = own + cfg.own_prior_s * (1 + prior)
        return (own / total, np.log(prior), pace, self._at_end[rows]), total

    def _estimate(self, rows: I64, street: C128, ahead: C128, probe: F64, loop: F64, memory: F64, *, told: bool = True) -> Estimate:
        """``told`` false: without what is usual."""
        cfg, s = self.settings, self.streets
        features, total = self.features(rows, street, ahead, told=told)
        usual, spread = self._usually(rows, told=told)
        unusual = features[2] - usual
        square = unusual * unusual
        speed = s.expected_kmh[rows] * np.exp(-usual - unusual * square / (square + cfg.doubt**2))

        weights = np.stack([probe, loop, np.maximum(memory, 0.0)]) / total
        weights /= np.maximum(weights.sum(axis=0), 1.0)
        fresh, own = weights[0] + weights[1], weights.sum(axis=0)
        alive = s.known[rows] & (self.network_seen >= cfg.min_network)
        origin = np.where(
            fresh >= cfg.measured_share,
            MEASURED,
            np.where((fresh > 0) | (own >= cfg.blended_share), BLENDED, np.where(alive, INFERRED, NONE)),
        )
        # what is usual weighs more there than what goes on in the streets ahead
        past = np.isfinite(spread) & (origin <= INFERRED) & (ahead.real + ahead.imag < cfg.usual_prior_s * (1 + np.exp(usual)))
        origin = np.where(past, HISTORICAL, origin)
        nothing = origin == NONE
        speed = np.where(nothing, np.nan, speed)

        least = np.where(past, spread, 0.0)  # what is usual is no surer than days are alike
        confidence = np.where(nothing, 0.0, band_probability(np.where(nothing, 1.0, speed), np.maximum(BAND.width(*features), least)))
        p20 = speed * np.exp(-Z20 * np.maximum(BELOW.width(*features), least))
        p80 = speed * np.exp(Z20 * np.maximum(ABOVE.width(*features), least))
        return Estimate(speed, p20, p80, confidence, origin, weights[0], weights[1], weights[2], np.maximum(1 - own, 0.0))

    def _usually(self, rows: I64, *, told: bool = True) -> tuple[F64, F64]:
        """ln(pace ratio) that is usual, 0 where not known, and the spread about it, NaN where not known."""
        if self._usual is None or not told:
            return np.zeros(len(rows)), np.full(len(rows), np.nan)
        usual, spread = self._usual[0][rows], self._usual[1][rows]
        known = np.isfinite(usual)
        return np.where(known, usual, 0.0), np.where(known, spread, np.nan)

    def straight(self, rows: I64, steps: int) -> tuple[I64, F64]:
        """Segments straight ahead of ``rows``, nearest first (n, steps; -1 none), and the share of each in the value."""
        s, sums = self.streets, self.probes + self.sites
        _, total = self.features(rows, self._street[rows], self._ahead[rows])
        ahead, share = np.full((len(rows), steps), -1, np.int64), np.zeros((len(rows), steps))
        at, fade = rows, np.ones(len(rows))
        for k in range(min(steps, self.settings.own_rounds)):
            to = np.where(at >= 0, s.ahead[at], -1)
            gap = (s.length_m[at] + s.length_m[to]) / 2
            fade = np.where(to >= 0, fade * np.exp(-gap / self.settings.own_reach_m), 0.0)
            ahead[:, k], share[:, k] = to, fade * _weight(sums[to]) / total
            at = to
        return ahead, share

    def reasons(self, rows: I64) -> tuple[F64, F64, F64, F64]:
        """Share of the prior in the value, the pace ratios of the streets ahead and of the street itself, and the one that is usual, NaN where not known."""
        features, total = self.features(rows, self._street[rows], self._ahead[rows])
        ratio, (usual, spread) = np.exp(features[1]), self._usually(rows)
        return (
            self.settings.own_prior_s * (1 + ratio) / total,
            ratio,
            np.exp(features[2]),
            np.where(np.isnan(spread), np.nan, np.exp(usual)),
        )

    def export(self) -> dict[str, Any]:
        return {
            "probes": self.probes.tobytes(), "sites": self.sites.tobytes(), "newest_ms": self.newest_ms.tobytes(), "network_seen": self.network_seen,
        }  # fmt: skip

    def restore(self, data: dict[str, Any]) -> None:
        self.probes = np.frombuffer(data["probes"], np.complex128).copy()
        self.sites = np.frombuffer(data["sites"], np.complex128).copy()
        self.newest_ms = np.frombuffer(data["newest_ms"], np.int64).copy()
        self.network_seen = data["network_seen"]
        self._share()


def _faded(sums: C128) -> C128:
    """Nothing is left of what is less than a microsecond; tiny numbers would slow arithmetic down a hundredfold."""
    sums[sums.real + sums.imag < 1e-6] = 0.0
    return sums


def _pair(time_s: F64, expected_s: F64) -> C128:
    sums = np.empty(len(time_s), np.complex128)
    sums.real, sums.imag = time_s, expected_s
    return sums


def _weight(sums: C128) -> F64:
    result: F64 = sums.real + sums.imag
    return result
