"""How sure a speed is: a log-normal spread whose width is fitted to simulated truth, the probability of a band, and quantiles.

The width depends on the evidence on the street itself, on how slow it and the streets ahead are (queues come and go), and on how much of the expected time is spent
at the segment's end. The log-normal is wrong at both ends, so its probability is put right by a monotone map (isotonic calibration: Zadrozny & Elkan 2002, KDD).
Coefficients and map: ``benchmarks/fit_fusion.py``; figures: ``docs/accuracy.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.streets import F64

#: ``confidence`` is the probability that the truth lies within +-max(BAND_RATIO x value, BAND_KMH) of the value.
BAND_RATIO, BAND_KMH = 0.15, 3.0
#: 20 % and 80 % quantiles of the standard normal distribution.
Z20 = 0.8416212335729143


@dataclass(frozen=True, slots=True)
class Spread:
    """Coefficients of ln(width): constant, own evidence, log pace ratio ahead, log pace ratio, the same up to 1, share of the expected time at the end."""

    base: float
    own: float
    ahead: float
    slow: float
    slow_first: float
    at_end: float

    def __post_init__(self) -> None:
        if self.own > 0:
            raise ValueError("evidence must narrow the spread")

    def width(self, own: F64, ahead: F64, pace: F64, at_end: F64) -> F64:
        """Of ln(speed), n values, > 0.

        Args:
            own: share of the value that rests on evidence of the street itself, 0..1.
            ahead: ln(pace / expected pace) of the streets ahead.
            pace: the same of the street itself.
            at_end: share of the expected time spent at the segment's end.
        """
        slow = np.maximum(pace, 0.0)
        exponent = self.base + self.own * own + self.ahead * np.clip(ahead, 0.0, 1.0)
        exponent += self.slow * slow + self.slow_first * np.minimum(slow, 1.0) + self.at_end * at_end
        result: F64 = np.exp(np.clip(exponent, -4.0, 2.0))
        return result


#: Width of the band's probability, and of the 20 % and 80 % quantiles below and above the value: ``benchmarks/fit_fusion.py``, on four runs of default noise and three
#: harsher ones. The band: half against the truth of single minutes and half against that of five; the quantiles against that of five. Bases are scaled as it says.
BAND = Spread(-2.177, -0.205, 1.942, -0.204, 0.693, 4.288)
BELOW = Spread(-2.308, -0.547, 1.490, 0.080, 0.560, 2.463)
ABOVE = Spread(-2.115, -0.567, 1.989, -0.453, 1.009, 0.934)
#: What a probability of 0, 0.1, ... 1 by the log-normal turned out to be: the map with the least calibration error against one and five minutes on the same runs.
CALIBRATED = (0.291, 0.291, 0.299, 0.308, 0.334, 0.350, 0.434, 0.442, 0.734, 0.937, 0.976)


def band_probability(speed_kmh: F64, width: F64) -> F64:
    """Probability that the truth lies within the band around each speed (> 0)."""
    result: F64 = np.interp(log_normal_probability(speed_kmh, width), np.linspace(0.0, 1.0, len(CALIBRATED)), CALIBRATED)
    return result


def log_normal_probability(speed_kmh: F64, width: F64) -> F64:
    """The same if the spread were log-normal."""
    half = np.maximum(BAND_RATIO, BAND_KMH / np.maximum(speed_kmh, 0.01))
    upper = normal_cdf(np.log1p(half) / width)
    lower = np.where(half < 1.0, normal_cdf(np.log1p(-np.minimum(half, 1.0 - 1e-9)) / width), 0.0)
    result: F64 = upper - lower
    return result


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
