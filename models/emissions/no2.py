"""Primary NO2: the share of NOx that leaves the tailpipe as NO2, by mass.

EMEP/EEA guidebook primary NO2 shares (CRAN vein 1.5.0 ``sysdata$nox``); late Euro 6 is ``VIc`` there.
"""

from functools import cache
from typing import Final

from models.emissions import tables
from models.emissions.lookup import NoSuchRow

_EURO: Final = {
    "Euro 1": "I", "Euro 2": "II", "Euro 3": "III", "Euro 4": "IV", "Euro 5": "V",
    "Euro 6 a/b/c": "VI", "Euro 6 d-temp": "VIc", "Euro 6 d": "VIc",
    "Euro I": "I", "Euro II": "II", "Euro III": "III", "Euro IV": "IV", "Euro V": "V", "EEV": "V",
    "Euro VI A/B/C": "VI", "Euro VI D/E": "VI",
}  # fmt: skip
_FUEL: Final = {
    "petrol_hybrid": "petrol",
    "petrol_phev_engine_mode": "petrol",
    "diesel_phev_engine_mode": "diesel",
    "diesel_hybrid": "diesel",
    "biodiesel": "diesel",
}


@cache
def _shares() -> dict[tuple[str, str, str], tuple[str, float]]:
    return {(r["category"], r["fuel"], r["euro"]): (r["row_id"], float(r["no2_mass_share_of_nox"])) for r in tables.rows("no2_fraction")}


def no2_share(category: str, fuel: str, euro: str, technology: str) -> tuple[str, float]:
    """Row id and NO2 mass share of NOx (0..1).

    Raises:
        NoSuchRow: the table has no share for this vehicle (gas buses, for one).

    >>> no2_share("passenger_car", "diesel", "Euro 5", "DPF")
    ('P0015', 0.33)
    >>> no2_share("passenger_car", "diesel", "Euro 3", "DPF")[1], no2_share("passenger_car", "diesel", "Euro 3", "")[1]
    (0.51, 0.27)
    """
    group = category if category in ("passenger_car", "lcv") else "heavy_duty"
    base = _FUEL.get(fuel, fuel)
    roman = _EURO.get(euro, euro)
    names = ([f"{roman}-DPF"] if technology.startswith("DPF") and roman == "III" else []) + [roman]
    for name in names:
        found = _shares().get((group, base, name))
        if found is not None:
            return found
    raise NoSuchRow(f"no row: NO2 share of {group} {base} {roman}")
