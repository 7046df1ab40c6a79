"""Bounds: a log-normal error in two parts, one that all segments share and one that each has for itself.

95 % of values lie within value x/: exp(1.96 s), s^2 = shared^2 + own^2. In a sum the own part shrinks as independent errors
do; the shared part (factor model, fleet, cold start, grid) stays, so that a city total does not look certain
merely because it adds up many streets. Flow errors of one kind are partly common too: if the calendar is wrong
today, it is wrong on every street without a counter. ``COMMON_SHARE`` says how much of a source's variance that is.

Terms: ``TERMS``, with their basis. "computed" is the spread of COPERT against HBEFA4 (``spread.py``), a lower bound on what is not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.emissions.factors import Floats
from models.emissions.flow import SOURCES
from models.emissions.rates import OUTPUTS, Conditions

#: Standard normal quantile of 97.5 %.
Z95: Final = 1.959963984540054

#: Geometric standard deviation by term and output. factor, fleet, cold, grid are shared; speed is each segment's own.
TERMS: Final[Mapping[str, Mapping[str, float]]] = {
    "factor": {  # CO2, NOx computed; PM, CO judgement; NO2 = NOx x share; electricity: battery fits, bus range 0.8-2.2 kWh/km
        "co2_fossil": 1.19, "co2_total": 1.19, "co2_electricity": 1.30, "nox": 1.66, "no2": 1.83, "pm_exhaust": 2.0,
        "pm_nonexhaust": 2.5, "co": 3.0, "energy": 1.19,
    },
    "fleet": {  # judgement
        "co2_fossil": 1.05, "co2_total": 1.05, "co2_electricity": 1.30, "nox": 1.25, "no2": 1.25, "pm_exhaust": 1.3,
        "pm_nonexhaust": 1.1, "co": 1.3, "energy": 1.05,
    },
    "cold": {  # judgement; wear has none, electricity: heating
        "co2_fossil": 1.06, "co2_total": 1.06, "co2_electricity": 1.15, "nox": 1.15, "no2": 1.15, "pm_exhaust": 1.2,
        "pm_nonexhaust": 1.0, "co": 1.5, "energy": 1.06,
    },
    "speed": {  # Paris study (speed definition, distribution); wear judgement
        "co2_fossil": 1.12, "co2_total": 1.12, "co2_electricity": 1.12, "nox": 1.18, "no2": 1.18, "pm_exhaust": 1.2,
        "pm_nonexhaust": 1.1, "co": 1.2, "energy": 1.12,
    },
}  # fmt: skip

#: Grid factor: the default against the table's range 25-80 around 50; a live one.
_GRID_DEFAULT, _GRID_LIVE = 1.35, 1.05
#: Cold start without a live temperature: the term widened.
_COLD_DEFAULT = 1.5

#: Below this speed the curves leave their ground (most rows end at 5 or 10 km/h, and a queue is no driving cycle) ...
CREEP_BELOW_KMH: Final = 10.0
#: ... and at a standstill the exhaust terms are wider by this. Judgement, from SUMO-HBEFA4: 1.25 g CO2/s against 0.6.
_CREEP_GSD = 1.5

#: Share of a flow source's variance that its segments have in common, by code of ``flow.SOURCES`` (judgement).
COMMON_SHARE: Final = (0.0, 0.1, 0.2, 0.3)
#: Sums below this are nothing, g/h: their squares have no digits left.
_NOTHING: Final = 1e-100


@dataclass(frozen=True, slots=True)
class Bounds:
    """Log standard deviations of the shared and of the speed term, (9,) each, in the order of ``OUTPUTS``."""

    shared: Floats
    speed: Floats


def bounds_of(conditions: Conditions, terms: Mapping[str, Mapping[str, float]] = TERMS) -> Bounds:
    """Log standard deviations under given conditions.

    >>> b = bounds_of(Conditions(temperature_c=5.0))
    >>> round(float(np.exp(Z95 * b.shared[OUTPUTS.index("co2_total")])), 2)
    1.45
    """

    def shared(output: str) -> float:
        cold = log(terms["cold"][output]) * (1.0 if conditions.temperature_source == "measured" else _COLD_DEFAULT)
        grid = log(_GRID_LIVE if conditions.grid_source == "live" else _GRID_DEFAULT) if output == "co2_electricity" else 0.0
        return sqrt(log(terms["factor"][output]) ** 2 + log(terms["fleet"][output]) ** 2 + cold**2 + grid**2)

    return Bounds(np.array([shared(o) for o in OUTPUTS]), np.array([log(terms["speed"][o]) for o in OUTPUTS]))


def creep_log_sd(speed_kmh: Floats) -> Floats:
    """Log standard deviation added at walking pace, shape of the speed; common to all segments that creep.

    >>> creep_log_sd(np.array([0.0, 5.0, 10.0, 50.0])).round(3).tolist()
    [0.405, 0.203, 0.0, 0.0]
    """
    return log(_CREEP_GSD) * np.clip(1.0 - speed_kmh / CREEP_BELOW_KMH, 0.0, 1.0)


def interval(value: Floats, log_sd: Floats) -> tuple[Floats, Floats]:
    """lo95 and hi95 of values with these log standard deviations; 0 stays 0.

    >>> [round(float(x), 1) for x in interval(np.array(100.0), np.array(0.2))]
    [67.6, 148.0]
    """
    spread = np.exp(Z95 * log_sd)
    return value / spread, value * spread


@dataclass(frozen=True, slots=True)
class Sums:
    """What adds up of the emissions of segments and of their errors, by group: sums of sums are sums again.

    Outputs come first in the tables of segments, (P, n): what is summed lies side by side.
    """

    value: Floats  #: (P, S, groups) rates, by code of ``flow.SOURCES``
    common: Floats  #: the same, times each segment's part of its source's common error
    square: Floats  #: (P, groups) squares of rates
    spread: Floats  #: the same, times exp(variance of the logarithm) of each segment's own errors but that of the speed term
    creep: Floats  #: (P, groups) rates times ``creep_log_sd``

    @classmethod
    def none(cls, outputs: int, groups: int) -> "Sums":
        """Nothing yet."""
        tables = (np.zeros((outputs, len(SOURCES), groups)) for _ in range(2))
        return cls(*tables, *(np.zeros((outputs, groups)) for _ in range(3)))

    def add(self, value: Floats, extra_log_var: Floats, flow_log_var: Floats, creep: Floats, code: int, group: NDArray[np.intp]) -> None:
        """Some segments of one source.

        Args:
            value: (P, m) rates; used up.
            extra_log_var: (m,) variance of ln(rate) that is each segment's own, beside that of its flow.
            flow_log_var: (m,).
            creep: (m,) a further error that all segments have in common, to different degrees (``creep_log_sd``).
            code: of ``flow.SOURCES``.
            group: (m,) sorted.
        """
        first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        at, share = group[first], COMMON_SHARE[code]

        def sums(x: Floats) -> Floats:
            return np.add.reduceat(x, first, axis=1)

        self.value[:, code, at] += sums(value)
        if share:
            self.common[:, code, at] += sums(value * np.sqrt(share * flow_log_var))
        if creep.any():
            self.creep[:, at] += sums(value * creep)
        value *= value
        self.square[:, at] += sums(value)
        value *= np.exp((1.0 - share) * flow_log_var + extra_log_var)
        self.spread[:, at] += sums(value)

    def over(self, group: NDArray[np.intp], groups: int) -> "Sums":
        """Sums of groups of groups; those numbered -1 are in none."""
        inside = group >= 0

        def sums(x: Floats) -> Floats:
            flat = x.reshape(-1, x.shape[-1])
            rows: Floats = np.stack([np.bincount(group[inside], row[inside], groups) for row in flat]).astype(np.float64)
            return rows.reshape(*x.shape[:-1], groups)

        return Sums(sums(self.value), sums(self.common), sums(self.square), sums(self.spread), sums(self.creep))

    def total(self) -> Floats:
        """(P, groups) rates, whatever the source of the flow."""
        out: Floats = self.value.sum(axis=1)
        return out

    def own_log_sd(self, speed_log_sd: Floats) -> Floats:
        """Own log standard deviation of the sums, (P, groups); 0 where the sum is 0.

        Independent parts add as variances; the common part of each flow source adds as a standard deviation within the
        source, and as a variance between sources. A sum of one segment has exactly that segment's own deviation.

        Args:
            speed_log_sd: (P,) that of the speed term.

        >>> one = Sums.none(1, 1)
        >>> one.add(np.array([[2.0]]), np.zeros(1), np.array([0.09]), np.zeros(1), 3, np.array([0]))
        >>> round(float(one.own_log_sd(np.array([0.1]))[0, 0]) ** 2, 6)
        0.1
        """
        total = self.total()
        some = np.where(total > _NOTHING, total, 1.0)
        alone = np.maximum(np.exp(speed_log_sd**2)[:, None] * self.spread - self.square, 0.0) / some / some
        part = self.value / some[:, None]
        sd = self.common / np.where(self.value > 0.0, self.value, 1.0)
        together = (part**2 * np.expm1(sd**2)).sum(axis=1)
        out: Floats = np.sqrt(np.log1p(alone) + np.log1p(together) + (self.creep / some) ** 2) * (total > _NOTHING)
        return out
