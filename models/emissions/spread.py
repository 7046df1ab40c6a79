"""A second opinion: COPERT against HBEFA4, published with the factor set.

``data/model_spread.csv`` holds, for sixteen vehicle classes, the geometric mean of COPERT's average-speed value over the value of the HBEFA4
refit in SUMO 1.28, driven over public cycles of the same mean speed, and the spread within the class. It is a spread of two official
models, not an error against truth: a lower bound on what is not known.
"""

from collections.abc import Mapping
from functools import cache
from statistics import median
from typing import NamedTuple

import numpy as np

from models.emissions import tables
from models.emissions.factors import Floats


class Opinion(NamedTuple):
    """How two factor models compare in one pollutant, over classes."""

    classes: int
    median_ratio: float  #: COPERT / HBEFA4
    gsd: float  #: geometric standard deviation of the ratio between classes
    lowest: float
    highest: float


@cache
def second_opinion() -> Mapping[str, Opinion]:
    """Summary by pollutant.

    >>> {p: (round(o.median_ratio, 2), round(o.gsd, 2)) for p, o in second_opinion().items()}["CO2"]
    (0.77, 1.16)
    """
    out = {}
    for pollutant in ("CO2", "NOx", "CO"):
        ratios = [float(r["geo_mean_ratio"]) for r in tables.rows("model_spread") if r["pollutant"] == pollutant]
        gsd = float(np.exp(np.std(np.log(ratios), ddof=1)))
        out[pollutant] = Opinion(len(ratios), median(ratios), gsd, min(ratios), max(ratios))
    return out


def _class_of(name: str) -> tuple[str, str, str]:
    """Category, fuel and Euro class of an HBEFA4 class name, in the words of the factor tables."""
    category = {"PC": "passenger_car", "LCV": "lcv", "UBus": "urban_bus"}[name.split("_")[0]]
    euro = name.partition("Euro-")[2].removesuffix("_(DPF)").removesuffix("_SCR")
    if category == "urban_bus":
        return category, "diesel", "Euro " + {"VI_A-C": "VI A/B/C", "VI_D-E": "VI D/E"}.get(euro, euro)
    return (
        category,
        "petrol" if "petrol" in name else "diesel",
        "Euro " + {"6ab": "6 a/b/c", "6d-temp": "6 d-temp", "6d": "6 d"}.get(euro, euro),
    )


@cache
def _log_ratios(pollutant: str) -> Mapping[tuple[str, str, str], float]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for r in tables.rows("model_spread"):
        if r["pollutant"] == pollutant:
            found.setdefault(_class_of(r["hbefa4_class"]), []).append(float(np.log(float(r["geo_mean_ratio"]))))
    return {key: float(np.mean(values)) for key, values in found.items()}


@cache
def log_ratio(category: str, fuel: str, euro: str, pollutant: str) -> float:
    """ln(COPERT / HBEFA4) of one vehicle class; the mean of its category and fuel where its Euro class was not compared, buses for trucks.

    >>> round(float(np.exp(log_ratio("passenger_car", "diesel", "Euro 5", "CO2"))), 3)
    0.75
    """
    table = _log_ratios(pollutant)
    base = "petrol" if fuel.startswith("petrol") or (fuel == "cng" and category == "passenger_car") else "diesel"
    kind = category if category in ("passenger_car", "lcv") else "urban_bus"
    exact = table.get((kind, base, euro))
    if exact is not None:
        return exact
    alike = [value for (c, f, _), value in table.items() if (c, f) == (kind, base)]
    if not alike:  # petrol vans
        alike = [value for (c, f, _), value in table.items() if (c, f) == ("passenger_car", base)]
    return float(np.mean(alike))


#: Mean speed of the slowest cycle over which the two models were compared, km/h.
SLOWEST_KMH = 14.0


@cache
def _standstill() -> Mapping[tuple[str, str, str], float]:
    return {(r["category"], r["fuel"], r["pollutant"]): float(r["standstill_share"]) for r in tables.rows("model_spread_standstill")}


def correction(category: str, fuel: str, euro: str, pollutant: str, speed_kmh: Floats, rate: Floats, slowest: float) -> Floats:
    """ln(HBEFA4 / COPERT) of one vehicle class at each speed, shape of the speed.

    Above the slowest cycle that was compared it is the constant of ``log_ratio``. Below, no cycle tells. COPERT's rate per hour stays at its value at
    v_min there; HBEFA4's is continued as the straight line that its cycles lie on, to a share of its value at the slowest cycle
    (``data/model_spread_standstill.csv``). That makes HBEFA4's standing car emit nearly twice COPERT's: what a queue emits is the least certain part.

    Args:
        rate: COPERT's rate per hour at those speeds.
        slowest: the same at ``SLOWEST_KMH``.

    >>> v = np.array([0.0, 14.0, 50.0])
    >>> np.exp(correction("passenger_car", "petrol", "Euro 6 d", "CO2", v, np.array([2.0, 4.0, 9.0]), 4.0)).round(2).tolist()
    [1.51, 0.96, 0.96]
    """
    constant = -log_ratio(category, fuel, euro, pollutant)
    base = "petrol" if fuel.startswith("petrol") or (fuel == "cng" and category == "passenger_car") else "diesel"
    share = _standstill().get((category if category in ("passenger_car", "lcv") else "urban_bus", base, pollutant))
    slow = speed_kmh < SLOWEST_KMH
    if share is None or not slow.any():
        return np.full(speed_kmh.shape, constant)
    line = slowest * (share + (1.0 - share) * speed_kmh / SLOWEST_KMH)
    out: Floats = constant + np.where(slow & (rate > 0.0), np.log(line / np.where(rate > 0.0, rate, 1.0)), 0.0)
    return out
