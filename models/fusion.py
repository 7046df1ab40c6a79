"""Fusion: what all sources say about the speed of every segment, as a recursive estimate in log speed ratio.

State of a segment: mean and variance of x = ln(space-mean speed / expected speed in light traffic). Between minutes x drifts back to what the whole network does
(an Ornstein-Uhlenbeck step with a stated half-life); each minute's probes and loops correct it with variances that come from their counts. The posterior is
log-normal, so quantiles and the probability of being within a band follow from it.

This is the first estimator; its figures stand in ``docs/accuracy.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ALGORITHM = "log-ratio-kalman/1"
ORIGINS = ("none", "historical", "inferred", "blended", "measured")
NONE, HISTORICAL, INFERRED, BLENDED, MEASURED = range(5)
#: 20 % and 80 % quantiles of the standard normal distribution.
Z20 = 0.8416212335729143
#: Share of truth within +- this of the value: what ``confidence`` is the probability of.
BAND_RATIO, BAND_KMH = 0.15, 3.0


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """Parameters of the estimator. Values: first guesses in the range of the literature, to be replaced by fits (``docs/accuracy.md``)."""

    #: A disturbance loses half of its effect on a segment in this time, seconds of log time.
    half_life_s: float = 480.0
    #: Standard deviation of x in the long run around the network's own mean.
    spread: float = 0.45
    #: Standard deviation of one vehicle's log pace over a segment around the segment's mean (travel-time coefficients of variation 0.3-0.5: HCM 6, ch. 17).
    vehicle_spread: float = 0.40
    #: What stays however many probes agree: buses are not cars.
    probe_floor: float = 0.15
    #: The same for a loop: a spot is not a segment.
    loop_floor: float = 0.30
    #: Coefficient of variation of spot speeds, for the space mean v_s = v_t (1 - cv^2) (Wardrop 1952: v_t = v_s + var_s / v_s).
    loop_cv: float = 0.25
    #: Ratio of car to bus space-mean speed outside stops; 1: not yet fitted.
    bus_to_car: float = 1.0
    #: The network's mean is believed only from this many segments on.
    min_network: int = 5


@dataclass(slots=True)
class WindowSums:
    """What was observed in one window on m segments (sorted, unique)."""

    segment: I64
    dist_m: F64
    time_s: F64
    vehicles: I64
    newest_ms: I64
    loop_segment: I64
    loop_kmh: F64  #: spot mean
    loop_ms: I64  #: end of its window

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

    def __init__(self, expected_kmh: F64, length_m: F64, window_s: float = 60.0, settings: FusionSettings | None = None) -> None:
        self.settings = cfg = settings or FusionSettings()
        self.expected_kmh, self.length_m = expected_kmh, length_m
        n = len(expected_kmh)
        self.mean: F64 = np.zeros(n)
        self.var: F64 = np.full(n, cfg.spread**2)
        self.network = 0.0  #: mean of x over what was seen lately
        self.network_seen = 0.0  #: how many segments stand behind it, fading
        self.newest_ms: I64 = np.full(n, -1, np.int64)
        self._keep = 0.5 ** (window_s / cfg.half_life_s)

    def advance(self, obs: WindowSums) -> Estimate:
        """Move on by one window and take in what was observed. Returns the estimate of every segment."""
        mean, var = self._predict()
        all_rows = np.arange(len(mean))
        mean, var, probe, loop = self._correct(mean, var, obs, all_rows)
        self.mean, self.var = mean, var
        if len(obs.segment):
            x = self._log_ratio(obs)
            share = len(x) / (len(x) + self.network_seen * self._keep + 1e-9)
            self.network += share * (float(x.mean()) - self.network)
        self.network_seen = self.network_seen * self._keep + len(obs.segment)
        self.newest_ms[obs.segment] = np.maximum(self.newest_ms[obs.segment], obs.newest_ms)
        np.maximum.at(self.newest_ms, obs.loop_segment, obs.loop_ms)
        return self._estimate(mean, var, probe, loop, all_rows)

    def peek(self, obs: WindowSums) -> tuple[I64, Estimate]:
        """Estimate of the observed segments as if the window ended now; the state stays as it is."""
        rows = np.union1d(obs.segment, obs.loop_segment)
        mean, var = self._predict()
        mean, var, probe, loop = self._correct(mean[rows], var[rows], obs, rows)
        return rows, self._estimate(mean, var, probe, loop, rows)

    def _predict(self) -> tuple[F64, F64]:
        cfg, k = self.settings, self._keep
        centre = self.network if self.network_seen >= cfg.min_network else 0.0
        mean = centre + k * (self.mean - centre)
        var = k * k * self.var + (1 - k * k) * cfg.spread**2
        return mean, var

    def _log_ratio(self, obs: WindowSums) -> F64:
        expected = self.expected_kmh[obs.segment] / 3.6
        mps = (obs.dist_m + 0.5 * expected) / (obs.time_s + 0.5)  # half a second of the expected speed: a glimpse of 10 cm says nothing
        x: F64 = np.log(np.maximum(mps * self.settings.bus_to_car / expected, 0.03))
        return x

    def _correct(self, mean: F64, var: F64, obs: WindowSums, rows: I64) -> tuple[F64, F64, F64, F64]:
        """Two scalar updates a segment, probes then loops. Returns mean, var and the weights that probes and loops got."""
        cfg = self.settings
        mean, var = mean.copy(), var.copy()
        probe, loop = np.zeros(len(rows)), np.zeros(len(rows))
        if len(obs.segment):
            at = np.searchsorted(rows, obs.segment)
            effective = np.maximum(np.minimum(obs.vehicles, obs.dist_m / self.length_m[obs.segment] + obs.time_s / 60.0), 0.02)
            noise = cfg.vehicle_spread**2 / effective + cfg.probe_floor**2
            gain = var[at] / (var[at] + noise)
            mean[at] += gain * (self._log_ratio(obs) - mean[at])
            var[at] *= 1 - gain
            probe[at] = gain
        if len(obs.loop_segment):
            at = np.searchsorted(rows, obs.loop_segment)
            kmh = obs.loop_kmh * (1 - cfg.loop_cv**2)
            x = np.log(np.maximum(kmh / self.expected_kmh[obs.loop_segment], 0.03))
            gain = var[at] / (var[at] + cfg.loop_floor**2)
            mean[at] += gain * (x - mean[at])
            var[at] *= 1 - gain
            probe[at] *= 1 - gain
            loop[at] = gain
        return mean, var, probe, loop

    def _estimate(self, mean: F64, var: F64, probe: F64, loop: F64, rows: I64) -> Estimate:
        cfg = self.settings
        sd = np.sqrt(var)
        rest = 1 - probe - loop
        known = np.clip(1 - var / cfg.spread**2, 0.0, 1.0)
        seen = self.newest_ms[rows] >= 0
        informed = self.network_seen >= cfg.min_network
        memory = rest * np.where(seen | (probe + loop > 0), known, 0.0)
        network = rest - memory
        origin = np.where(
            probe + loop >= 0.5,
            MEASURED,
            np.where(probe + loop > 0, BLENDED, np.where(memory > 0.1, BLENDED, INFERRED if informed else NONE)),
        )
        speed = np.where(origin == NONE, np.nan, self.expected_kmh[rows] * np.exp(mean))
        half = np.maximum(BAND_RATIO, BAND_KMH / np.maximum(speed, 0.1))
        upper, lower = np.log1p(half), np.log(np.maximum(1 - half, 1e-3))
        confidence = np.where(origin == NONE, 0.0, normal_cdf(upper / sd) - normal_cdf(lower / sd))
        return Estimate(
            speed, speed * np.exp(-Z20 * sd), speed * np.exp(Z20 * sd), np.clip(confidence, 0.0, 1.0), origin, probe, loop, memory, network
        )

    def export(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tobytes(), "var": self.var.tobytes(), "newest_ms": self.newest_ms.tobytes(),
            "network": self.network, "network_seen": self.network_seen,
        }  # fmt: skip

    def restore(self, data: dict[str, Any]) -> None:
        self.mean = np.frombuffer(data["mean"], np.float64).copy()
        self.var = np.frombuffer(data["var"], np.float64).copy()
        self.newest_ms = np.frombuffer(data["newest_ms"], np.int64).copy()
        self.network, self.network_seen = data["network"], data["network_seen"]


def normal_cdf(z: F64) -> F64:
    """Standard normal distribution function, error below 7.5e-8: Abramowitz & Stegun (1964), 26.2.17.

    >>> normal_cdf(np.array([0.0, 1.0, -1.96])).round(4)
    array([0.5   , 0.8413, 0.025 ])
    """
    a = np.abs(z)
    t = 1.0 / (1.0 + 0.2316419 * a)
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = poly * np.exp(-0.5 * a * a) / np.sqrt(2 * np.pi)
    result: F64 = np.where(z >= 0, 1.0 - upper, upper)
    return result
