"""Wear of tyres, brakes and road: base x size fraction x speed correction.

EMEP/EEA guidebook chapter 1.A.3.b.vi-vii. Cars and vans take the 2025 bases, which tell battery cars from the rest
(heavier tyres and road wear, brakes a fifth: recuperation); heavy vehicles take the 2016 formulas (multiplier 3.13
with the brake base 0.0075; some public code pairs 1.956 with it, which mixes editions). The guidebook itself calls the tyre
PM10 fraction far too high, so the bounds of this term are wide. Studded tyres, sand and resuspension, which drive
the Finnish spring, are not in it.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from models.emissions import tables
from models.emissions.factors import Floats
from models.emissions.lookup import NoSuchRow, is_electric

WEARS: Final = ("tyre", "brake", "road")
FRACTIONS: Final = ("tsp", "pm10", "pm25")
EDITIONS: Final = ("2016", "2019", "2025")

#: Axles of heavy vehicles (judgement; the tyre formula needs them).
AXLES: Final = {"rigid_truck": 3, "articulated_truck": 5, "urban_bus": 2, "coach": 3, "heavy_duty": 3}


@dataclass(frozen=True, slots=True)
class Wear:
    """One wear source of one vehicle kind: grams of the chosen fraction per km before the speed correction."""

    row_id: str
    wear: str
    base_g_per_km: float


def speed_correction(wear: str, speed_kmh: ArrayLike) -> Floats:
    """Speed correction S(V) of one wear source, dimensionless, shape of the speed.

    >>> speed_correction("brake", [20.0, 50.0, 120.0]).round(3).tolist()
    [1.67, 1.4, 0.185]
    """
    v = np.asarray(speed_kmh, dtype=np.float64)
    if wear == "tyre":
        return np.where(v < 40.0, 1.39, np.where(v <= 90.0, -0.00974 * v + 1.78, 0.902))
    if wear == "brake":
        return np.where(v < 40.0, 1.67, np.where(v <= 95.0, -0.0270 * v + 2.75, 0.185))
    if wear == "road":
        return np.ones_like(v)
    raise ValueError(f"wear: {wear!r}, expected one of {', '.join(WEARS)}")


@cache
def _bases() -> dict[tuple[str, str, str], tuple[str, str, float, str]]:
    return {
        (r["wear"], r["category"], r["edition"]): (r["row_id"], r["tsp_g_per_km"], float(r["pm10_fraction"]), r["pm25_fraction"])
        for r in tables.rows("nonexhaust")
    }


def _heavy_tsp(wear: str, category: str, load: float) -> float:
    if wear == "tyre":
        return AXLES[category] / 2.0 * (1.41 + 1.38 * load) * 0.0107
    if wear == "brake":
        return 3.13 * (1.0 + 0.79 * load) * 0.0075
    return 0.076


def wear_base(
    wear: str, category: str, fuel: str = "", segment: str = "", *, load: float = 0.5, fraction: str = "pm10", edition: str = ""
) -> Wear:
    """Base factor of one wear source.

    Args:
        wear: tyre, brake or road.
        category: of the emission tables, or as ``nonexhaust.csv`` names it.
        fuel: electric modes take the battery bases where the edition has them.
        segment: N1-I, N1-II, N1-III for vans.
        load: 0..1, heavy vehicles only.
        fraction: tsp, pm10 or pm25. The 2025 edition prints no pm25; the fraction of 2016 is used.
        edition: 2025 (light) and 2016 (heavy) by default.

    Raises:
        NoSuchRow: no such row.

    >>> base = wear_base("brake", "passenger_car", "petrol")
    >>> base.row_id, round(base.base_g_per_km, 6)
    ('N0016', 0.013916)
    """
    if fraction not in FRACTIONS:
        raise NoSuchRow(f"no row: fraction = {fraction!r}, expected one of {', '.join(FRACTIONS)}")
    heavy = category in AXLES
    name = "heavy_duty" if heavy else category
    edition = edition or ("2016" if heavy or category == "two_wheeler" else "2025")
    if edition == "2025" and category == "passenger_car":
        name = "passenger_car_medium_bev" if is_electric(fuel) else "passenger_car_medium_ice"
    elif edition == "2025" and category == "lcv":
        name = {"N1-I": "lcv_n1_i", "N1-II": "lcv_n1_ii"}.get(segment, "lcv_n1_iii")
    if (wear, name, edition) not in _bases() or (heavy and edition == "2019"):
        raise NoSuchRow(f"no row: {wear} wear of {category}, edition {edition}")
    row_id, tsp_text, pm10, pm25_text = _bases()[wear, name, edition]
    tsp = _heavy_tsp(wear, category, load) if heavy else float(tsp_text)
    if not pm25_text and fraction == "pm25":
        pm25_text = _bases()[wear, "passenger_car", "2016"][3]
    share = {"tsp": 1.0, "pm10": pm10}.get(fraction)
    return Wear(row_id, wear, tsp * (float(pm25_text) if share is None else share))


def wear_g_per_km(
    category: str, fuel: str, segment: str, speed_kmh: ArrayLike, *, load: float = 0.5, fraction: str = "pm10"
) -> tuple[Floats, str]:
    """Tyre, brake and road wear together, g/km of the fraction, shape of the speed; and the row ids used.

    >>> wear_g_per_km("passenger_car", "electric", "Medium", 50.0)[0].round(5).item()
    0.02157
    """
    total = np.zeros_like(np.asarray(speed_kmh, dtype=np.float64))
    ids = []
    for wear in WEARS:
        base = wear_base(wear, category, fuel, segment, load=load, fraction=fraction)
        total = total + base.base_g_per_km * speed_correction(wear, speed_kmh)
        ids.append(base.row_id)
    return total, "+".join(ids)
