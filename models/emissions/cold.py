"""Cold start of cars and vans: what an engine below its working temperature emits on top of the hot factor.

    E_cold = beta * bc * e_hot * (Q - 1) per km of urban road,  Q = max(1, A V + B ta + C)
    beta = 0.6474 - 0.02545 l - (0.00974 - 0.000385 l) ta,  l = 12.4 km, the mean trip

EMEP/EEA guidebook 1.A.3.b.i-iv, equations 10 and 26, tables 3-39 to 3-44. Petrol cars after Euro 1 take the Euro 1
quotient and a reduction bc. The guidebook multiplies the Euro 1 *hot factor*; the tables here begin with Euro 2, whose
factor stands in (it is lower, so the surcharge is on the low side). Diesel takes table 3-44 with its own hot factor, and for
Euro 6 the printed bc. Energy, and CO2 with it, takes its own hot factor and no bc. Heavy vehicles and gas have none.

Temperatures are clamped to each row's range and speeds to 5..45 km/h; the gap between the
bands (25..26 km/h) is bridged linearly.
"""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from models.emissions import tables
from models.emissions.factors import Floats, evaluate
from models.emissions.lookup import NoSuchRow, find, is_electric, resolve

#: Helsinki by month, degrees C: the default where no road-weather station reports (constants of carculator_utils; daily-high flavour).
DEFAULT_TEMPERATURE_C: Final = (-3.0, -2.0, 1.0, 7.0, 15.0, 18.0, 21.0, 18.0, 13.0, 7.0, 2.0, -1.0)

_TRIP_KM: Final = 12.4
_PETROL: Final = frozenset({"petrol", "petrol_hybrid", "petrol_phev_engine_mode"})
_DIESEL: Final = frozenset({"diesel", "diesel_phev_engine_mode"})
_VAN_AS_CAR: Final = {"N1-I": "Medium", "N1-II": "Large-SUV-Executive", "N1-III": "Large-SUV-Executive"}


def beta(temperature_c: ArrayLike) -> Floats:
    """Share of urban kilometres driven cold, 0..1 (table 3-39, mean trip 12.4 km).

    >>> beta([10.0, -10.0, -20.0]).round(2).tolist()
    [0.28, 0.38, 0.43]
    """
    a0, a1 = tables.constant("cold_beta_a0"), tables.constant("cold_beta_a1")
    b0, b1 = tables.constant("cold_beta_b0"), tables.constant("cold_beta_b1")
    value = a0 - a1 * _TRIP_KM - (b0 - b1 * _TRIP_KM) * np.asarray(temperature_c, dtype=np.float64)
    return np.clip(value, 0.0, 1.0)


@cache
def _quotients() -> dict[tuple[str, str, str], list[tuple[float, ...]]]:
    table: dict[tuple[str, str, str], list[tuple[float, ...]]] = {}
    for r in tables.rows("cold_start"):
        numbers = tuple(float(r[name]) for name in ("v_min", "v_max", "t_min_c", "t_max_c", "A", "B", "C"))
        table.setdefault((r["fuel"], r["segment"], r["pollutant"]), []).append(numbers)
    return table


def quotient(fuel: str, segment: str, pollutant: str, speed_kmh: ArrayLike, temperature_c: float) -> Floats:
    """Cold over hot, Q >= 1, shape of the speed; 1 where the guidebook gives no cold start.

    >>> quotient("petrol", "Medium", "EC", [30.0], 10.0).round(3).tolist()
    [1.38]
    >>> quotient("diesel", "Medium", "NOx", [30.0], -10.0).round(3).tolist()
    [1.43]
    """
    v = np.clip(np.asarray(speed_kmh, dtype=np.float64), 5.0, 45.0)
    table = _quotients()
    found = table.get((fuel, segment, pollutant)) or table.get((fuel, "all", pollutant))
    if not found:
        return np.ones_like(v)
    at = min(max(temperature_c, min(row[2] for row in found)), max(row[3] for row in found))
    chosen = [row for row in found if row[2] <= at <= row[3]]
    cold_rows = [row for row in chosen if row[3] == min(r[3] for r in chosen)]
    low = min(cold_rows, key=lambda row: row[0])
    high = max(cold_rows, key=lambda row: row[0])
    weight = np.clip(v - low[1], 0.0, 1.0) if high is not low else np.zeros_like(v)

    def one(row: tuple[float, ...], speed: Floats) -> Floats:
        return np.maximum(1.0, row[4] * speed + row[5] * at + row[6])

    return one(low, np.minimum(v, low[1])) * (1.0 - weight) + one(high, np.maximum(v, high[0])) * weight


def reduction(fuel: str, euro: str, pollutant: str) -> float:
    """Factor bc on the cold share: tables 3-41 (petrol) and 3-46 (diesel Euro 6).

    >>> reduction("petrol", "Euro 3", "NOx"), round(reduction("diesel", "Euro 6 d", "NOx"), 4)
    (0.32, 0.1037)
    """
    if pollutant == "EC":
        return 1.0
    if fuel == "petrol":
        if euro == "Euro 1" or pollutant not in ("CO", "NOx", "VOC"):
            return 1.0
        step = {"Euro 2": "euro2", "Euro 3": "euro3"}.get(euro, "euro4plus")
        return tables.constant(f"cold_beta_reduction_petrol_{step}_{pollutant}")
    if fuel == "diesel" and euro.startswith("Euro 6"):
        slope = {"CO": (0.2022, 0.0064), "NOx": (0.1719, 0.0055), "VOC": (0.2398, 0.0076)}.get(pollutant)
        return slope[0] - slope[1] * _TRIP_KM if slope else 1.0
    return 1.0


def surcharge_per_km(
    vehicle: tuple[str, str, str, str, str], pollutant: str, speed_kmh: Floats, hot_ef: Floats, temperature_c: float
) -> Floats:
    """Cold-start surcharge per km of urban road, in the unit of ``hot_ef``, shape of the speed; never negative.

    Args:
        vehicle: category, fuel, segment, euro, technology (``lookup.resolve``).
        pollutant: CO, NOx, VOC, PM_exhaust or EC.
        speed_kmh: (n,) space-mean speeds.
        hot_ef: (n,) the vehicle's own hot factor at those speeds.
        temperature_c: ambient air.
    """
    category, fuel, segment, euro, _ = vehicle
    base = "petrol" if fuel in _PETROL else "diesel" if fuel in _DIESEL else ""
    if category not in ("passenger_car", "lcv") or not base or is_electric(fuel):
        return np.zeros_like(hot_ef)
    excess = quotient(base, _VAN_AS_CAR.get(segment, segment), pollutant, speed_kmh, temperature_c) - 1.0
    anchor = hot_ef
    if base == "petrol" and pollutant in ("CO", "NOx", "VOC"):
        try:
            row = find(resolve(category, "petrol", segment, "Euro 2", ""), pollutant)
        except NoSuchRow:
            pass
        else:
            anchor = evaluate(row, speed_kmh)[0]
    return beta(temperature_c) * reduction(base, euro, pollutant) * anchor * excess
