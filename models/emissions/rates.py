"""What one vehicle emits per hour at each speed, for a fleet and the day's conditions: the lookup that streaming uses.

The quantity tabulated is the rate per vehicle and hour R(V) = EF(V') V', V' = max(V, v_min of the row). A segment with density k
then emits k L R(V). Above v_min this is flow x EF; below, it is density x EF(v_min) x v_min, so that a standing queue emits a finite
rate and no idling is added twice: the curves come from trips that contain stops. R is also the form in which
averaging over speeds does least harm: where EF = A + B/V, R is linear and the space-mean speed gives the exact mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.emissions import cold, tables
from models.emissions.factors import Floats, Guards, evaluate, hot_table
from models.emissions.fleet import Fleet, Vehicle
from models.emissions.lookup import NoSuchRow, find, is_electric
from models.emissions.no2 import no2_share
from models.emissions.nonexhaust import wear_g_per_km
from models.emissions.spread import SLOWEST_KMH, correction

#: What a segment publishes; g/h, energy in MJ/h.
OUTPUTS: Final = ("co2_fossil", "co2_total", "co2_electricity", "nox", "no2", "pm_exhaust", "pm_nonexhaust", "co", "energy")
OUTPUT_UNIT: Final = {name: "MJ/h" if name == "energy" else "g/h" for name in OUTPUTS}

#: Speeds of the lookup: 0, 0.25, ... 140 km/h. Every v_min, v_max and kink of the wear curves lies on it.
STEP_KMH: Final = 0.25
TOP_KMH: Final = 140.0
GRID_KMH: Final = np.arange(0.0, TOP_KMH + STEP_KMH / 2.0, STEP_KMH)

#: Primary NO2 of gas buses, which the table lacks: the gas car's (P0032).
_NO2_OF_GAS: Final = 0.02
#: Outputs that the second model has an opinion of.
_OPINION: Final[Mapping[str, tuple[str, ...]]] = {"CO2": ("energy", "co2_fossil", "co2_total"), "NOx": ("nox", "no2"), "CO": ("co",)}
#: Speeds for which the constants by driving mode stand; between them they are interpolated.
_MODE_KMH: Final = (("Urban Peak", 50.0), ("Rural", 80.0), ("Highway", 110.0))


def _default_bio() -> Mapping[str, float]:
    share = tables.constant("distribution_obligation_2023_2024")
    return MappingProxyType({"petrol": share, "diesel": share, "gas": 0.0})


@dataclass(frozen=True, slots=True)
class Conditions:
    """What changes from hour to hour and scales factors."""

    #: Ambient air, degrees C; colder air means more cold-start surcharge.
    temperature_c: float
    #: "measured" by road weather, or "default" by month (``cold.DEFAULT_TEMPERATURE_C``).
    temperature_source: str = "measured"
    #: Consumption factor of the grid, g CO2 per kWh.
    grid_g_per_kwh: float = field(default_factory=lambda: tables.constant("grid_gco2_per_kwh_default"))
    #: "live", or "default" from the table.
    grid_source: str = "default"
    #: Energy share of biogenic fuel by petrol, diesel, gas.
    bio_share: Mapping[str, float] = field(default_factory=_default_bio)
    #: Battery energy over energy at the plug (judgement; the electric rows are battery side).
    charging_efficiency: float = 0.9
    #: 0: EMEP/EEA alone. 1: scaled to HBEFA4 class by class (``spread.py``). 0.5: the geometric mean of the two models.
    hbefa_weight: float = 0.0

    def __post_init__(self) -> None:
        if not -60.0 <= self.temperature_c <= 60.0:
            raise ValueError(f"temperature_c = {self.temperature_c}, expected degrees C between -60 and 60")
        if not 0.0 <= self.grid_g_per_kwh <= 2000.0:
            raise ValueError(f"grid_g_per_kwh = {self.grid_g_per_kwh}, expected g/kWh between 0 and 2000")
        if any(not 0.0 <= share <= 1.0 for share in self.bio_share.values()):
            raise ValueError(f"bio_share = {dict(self.bio_share)}, expected shares between 0 and 1")
        if not 0.0 < self.charging_efficiency <= 1.0:
            raise ValueError(f"charging_efficiency = {self.charging_efficiency}, expected a share between 0 and 1")
        if not 0.0 <= self.hbefa_weight <= 1.0:
            raise ValueError(f"hbefa_weight = {self.hbefa_weight}, expected a share between 0 and 1")

    @classmethod
    def of_month(cls, month: int) -> "Conditions":
        """Defaults for a month where nothing live is known.

        >>> Conditions.of_month(1).temperature_c, Conditions.of_month(1).grid_g_per_kwh
        (-3.0, 50.0)
        """
        return cls(temperature_c=cold.DEFAULT_TEMPERATURE_C[month - 1], temperature_source="default")


@dataclass(frozen=True, slots=True)
class RateTable:
    """Rates per vehicle and hour of every stream on ``GRID_KMH``.

    ``rate[s, u, g, p]``: stream, road kind (0 no cold start, 1 urban), speed, output.
    ``guard[s, g]``: bits of every guard that fires in the stream at that speed.
    """

    fleet: Fleet
    conditions: Conditions
    streams: tuple[str, ...]
    rate: Floats
    guard: Guards
    row_ids: Mapping[str, tuple[str, ...]]  #: coefficient rows behind each stream
    factor_set: str = tables.FACTOR_SET

    def rate_at(self, stream: str, speed_kmh: ArrayLike, *, urban: bool = True) -> Floats:
        """g/h (MJ/h) of one vehicle of a stream, shape of the speed + (9,)."""
        v = np.clip(np.asarray(speed_kmh, dtype=np.float64), 0.0, TOP_KMH) / STEP_KMH
        i = np.minimum(v.astype(np.intp), len(GRID_KMH) - 2)
        table = self.rate[self.streams.index(stream), int(urban)]
        w = (v - i)[..., None]
        value: Floats = table[i] * (1.0 - w) + table[i + 1] * w
        return value


def carbon_g_per_mj(fuel: str) -> tuple[float, str]:
    """Tailpipe CO2 per MJ of a fuel of the tables, and the kind of fuel for its biogenic share.

    >>> carbon_g_per_mj("petrol_hybrid"), carbon_g_per_mj("cng")[0], carbon_g_per_mj("electric")[0]
    ((71.7, 'petrol'), 56.9, 0.0)
    """
    if is_electric(fuel):
        return 0.0, "electric"
    if fuel == "cng":
        return tables.constant("co2_g_per_mj_natural_gas"), "gas"
    if fuel.startswith("petrol"):
        return tables.constant("co2_g_per_mj_petrol"), "petrol"
    return tables.constant("co2_g_per_mj_diesel"), "biodiesel" if fuel == "biodiesel" else "diesel"


def _hot(vehicle: Vehicle, pollutant: str, speed_kmh: Floats) -> tuple[Floats, Floats, NDArray[np.uint8], tuple[str, ...]]:
    """Factor per km at the clamped speed, that speed, guard bits and row ids of one pollutant."""
    table = hot_table()
    try:
        rows = [find(vehicle, pollutant)]
        if table.key[rows[0]][6]:  # constants by driving mode
            rows = [find(vehicle, pollutant, mode) for mode, _ in _MODE_KMH]
    except NoSuchRow:
        zero = np.zeros_like(speed_kmh)
        return zero, speed_kmh, np.zeros(speed_kmh.shape, dtype=np.uint8), ()
    floor = np.maximum(speed_kmh, table.v_min_kmh[rows[0]])
    ids = tuple(table.row_id[row] for row in rows)
    if len(rows) == 1:
        ef, guard = evaluate(rows[0], speed_kmh)
        return ef, floor, guard, ids
    constants = [float(evaluate(row, 50.0)[0]) for row in rows]
    guard = evaluate(rows[0], speed_kmh)[1]
    return np.interp(speed_kmh, [kmh for _, kmh in _MODE_KMH], constants), floor, guard, ids


def vehicle_rates(vehicle: Vehicle, conditions: Conditions, speed_kmh: Floats) -> tuple[Floats, Floats, Guards, tuple[str, ...]]:
    """Rates per hour of one vehicle at each of n speeds, exactly (no lookup).

    Returns:
        hot (n, 9) and cold surcharge on urban road (n, 9) in the order of ``OUTPUTS``, guard bits (n,), row ids.
    """
    hot, extra = np.zeros((2, len(speed_kmh), len(OUTPUTS)))
    guard = np.zeros(len(speed_kmh), dtype=np.uint8)
    ids: list[str] = []

    def at(output: str) -> int:
        return OUTPUTS.index(output)

    electric = is_electric(vehicle.fuel)
    ec, floor, bits, used = _hot(vehicle, "EC", speed_kmh)
    guard |= bits
    ids += used
    hot[:, at("energy")] = ec * floor
    if electric:
        hot[:, at("co2_electricity")] = ec * floor / 3.6 / conditions.charging_efficiency * conditions.grid_g_per_kwh
    else:
        extra[:, at("energy")] = cold.surcharge_per_km(vehicle, "EC", floor, ec, conditions.temperature_c) * floor
        carbon, kind = carbon_g_per_mj(vehicle.fuel)
        fossil = 1.0 - (1.0 if kind == "biodiesel" else conditions.bio_share.get(kind, 0.0))
        for part in (hot, extra):
            part[:, at("co2_total")] = part[:, at("energy")] * carbon
            part[:, at("co2_fossil")] = part[:, at("co2_total")] * fossil
        for output, pollutant in (("nox", "NOx"), ("pm_exhaust", "PM_exhaust"), ("co", "CO")):
            ef, floor, bits, used = _hot(vehicle, pollutant, speed_kmh)
            guard |= bits
            ids += used
            hot[:, at(output)] = ef * floor
            extra[:, at(output)] = cold.surcharge_per_km(vehicle, pollutant, floor, ef, conditions.temperature_c) * floor
        try:
            share_id, share = no2_share(vehicle.category, vehicle.fuel, vehicle.euro, vehicle.technology)
        except NoSuchRow:
            share_id, share = "P0032", _NO2_OF_GAS
        ids.append(share_id)
        for part in (hot, extra):
            part[:, at("no2")] = part[:, at("nox")] * share
        if conditions.hbefa_weight > 0.0:
            for pollutant, outputs in _OPINION.items():
                at_14, floor_14, _, _ = _hot(vehicle, "EC" if pollutant == "CO2" else pollutant, np.array([SLOWEST_KMH]))
                rate = hot[:, at(outputs[0])].copy()
                log = correction(*vehicle[:2], vehicle.euro, pollutant, speed_kmh, rate, float(at_14[0] * floor_14[0]))
                for output in outputs:
                    for part in (hot, extra):
                        part[:, at(output)] *= np.exp(conditions.hbefa_weight * log)
    wear, wear_ids = wear_g_per_km(vehicle.category, vehicle.fuel, vehicle.segment, speed_kmh)
    hot[:, at("pm_nonexhaust")] = wear * speed_kmh
    return hot, extra, guard, (*ids, *wear_ids.split("+"))


@lru_cache(maxsize=512)
def _cached(
    vehicle: Vehicle, key: tuple[float, float, float, float, tuple[tuple[str, float], ...]]
) -> tuple[Floats, Floats, Guards, tuple[str, ...]]:
    temperature_c, grid, efficiency, weight, bio = key
    conditions = Conditions(temperature_c, grid_g_per_kwh=grid, bio_share=dict(bio), charging_efficiency=efficiency, hbefa_weight=weight)
    return vehicle_rates(vehicle, conditions, GRID_KMH)


def rate_table(fleet: Fleet, conditions: Conditions) -> RateTable:
    """The lookup of a fleet under given conditions. Takes some 10 ms; make one when either changes.

    >>> from models.emissions.fleet import example_fleet
    >>> table = rate_table(example_fleet(), Conditions(temperature_c=5.0))
    >>> table.rate.shape
    (2, 2, 561, 9)
    """
    key = (
        conditions.temperature_c,
        conditions.grid_g_per_kwh,
        conditions.charging_efficiency,
        conditions.hbefa_weight,
        tuple(sorted(conditions.bio_share.items())),
    )
    streams = tuple(fleet.streams)
    rate = np.zeros((len(streams), 2, len(GRID_KMH), len(OUTPUTS)))
    guard = np.zeros((len(streams), len(GRID_KMH)), dtype=np.uint8)
    row_ids: dict[str, tuple[str, ...]] = {}
    for s, stream in enumerate(streams):
        used: list[str] = []
        for vehicle, share in fleet.streams[stream]:
            hot, extra, bits, ids = _cached(vehicle, key)
            rate[s, 0] += share * hot
            rate[s, 1] += share * (hot + extra)
            guard[s] |= bits
            used += ids
        row_ids[stream] = tuple(dict.fromkeys(used))
    version = tables.FACTOR_SET + (f"+hbefa4:{conditions.hbefa_weight:g}" if conditions.hbefa_weight else "")
    return RateTable(fleet, conditions, streams, rate, guard, MappingProxyType(row_ids), version)
