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


def sum_log_sd(
    value: Floats,
    speed_log_sd: Floats,
    flow_log_var: Floats,
    source: NDArray[np.int8],
    group: NDArray[np.intp],
    groups: int,
    common_log_sd: Floats | None = None,
) -> Floats:
    """Own log standard deviation of sums of segments.

    Independent parts add as variances; the common part of each flow source adds as a standard deviation within the
    source, and as a variance between sources. A sum of one segment has exactly that segment's own deviation.

    Args:
        value: (n, P) rates of the segments.
        speed_log_sd: (P,) or (n, P).
        flow_log_var: (n,).
        source: (n,) codes of ``flow.SOURCES``.
        group: (n,) 0..groups-1.
        common_log_sd: (n,) a further error that all segments have in common, to different degrees (``creep_log_sd``).

    Returns:
        (groups, P); 0 where the sum is 0.

    >>> one = sum_log_sd(np.array([[2.0]]), np.array([0.1]), np.array([0.09]), np.array([3], dtype=np.int8), np.array([0]), 1)
    >>> round(float(one[0, 0]) ** 2, 6)
    0.1
    """
    share = np.asarray(COMMON_SHARE)[source]
    common_sd = np.sqrt(share * flow_log_var)
    independent = np.expm1((flow_log_var * (1.0 - share))[:, None] + speed_log_sd**2)
    by_source = group * len(SOURCES) + source
    out = np.zeros((groups, value.shape[1]))
    for p in range(value.shape[1]):
        total = np.bincount(group, value[:, p], groups)
        weight = value[:, p] / np.where(total > 0.0, total, 1.0)[group]  # of each segment in its sum
        alone = np.bincount(group, weight**2 * independent[:, p], groups)
        part = np.bincount(by_source, weight, groups * len(SOURCES))
        sd = np.bincount(by_source, weight * common_sd, groups * len(SOURCES)) / np.where(part > 0.0, part, 1.0)
        together = (part**2 * np.expm1(sd**2)).reshape(groups, -1).sum(axis=1)
        creep = np.zeros(groups) if common_log_sd is None else np.bincount(group, weight * common_log_sd, groups)
        out[:, p] = np.sqrt(np.log1p(alone) + np.log1p(together) + creep**2) * (total > 0.0)
    return out
