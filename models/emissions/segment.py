"""Emissions of road segments and of areas, vectorised over segments x streams of vehicles x outputs.

    E = L * sum over streams s of  k_s * R_s(V)       R: ``rates.py``; k: density, flow over speed

``emit`` needs no more than array arithmetic on a lookup, so a city of 150,000 segments takes well under a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.emissions.bounds import Bounds, bounds_of, creep_log_sd, interval, sum_log_sd
from models.emissions.factors import GUARD_NAMES, Floats
from models.emissions.fleet import composition
from models.emissions.flow import CREEP_KMH, PRIOR, ROAD_CLASSES, SOURCES
from models.emissions.rates import GRID_KMH, OUTPUTS, STEP_KMH, TOP_KMH, RateTable

#: Segments worked on at a time: small enough for the processor's cache.
_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is known of the traffic of n directed segments in one window."""

    length_km: Floats  #: (n,)
    speed_kmh: Floats  #: (n,) space mean (harmonic), merged to a few hundred metres where segments are short
    flow_vph: Floats  #: (n,) all streams together
    stream_share: Floats  #: (n, S) or (S,): share of each stream of the rate table in the flow
    urban: NDArray[np.bool_]  #: (n,) cold starts count
    flow_log_var: Floats  #: (n,) variance of ln(flow)
    flow_source: NDArray[np.int8]  #: (n,) codes of ``flow.SOURCES``
    density_vpkm: Floats | None = None  #: (n,) where known apart from flow / speed: standing queues
    jam_density_vpkm: Floats | None = None  #: (n,) cap on flow / speed; 140 per km when not given
    speed_sd_kmh: Floats | None = None  #: (n,) spread of vehicles' speeds, for the distribution correction
    extra_log_sd: Floats | None = None  #: (n,) own error on top: an old or inferred speed

    def __post_init__(self) -> None:
        n = len(self.length_km)
        for name in (
            "length_km", "speed_kmh", "flow_vph", "flow_log_var", "density_vpkm", "jam_density_vpkm", "speed_sd_kmh", "extra_log_sd",
        ):  # fmt: skip
            column = getattr(self, name)
            if column is None:
                continue
            if column.shape != (n,):
                raise ValueError(f"traffic: {name} has shape {column.shape}, expected ({n},)")
            wrong = ~(np.isfinite(column) & (column >= 0.0))
            if wrong.any():
                at = int(np.argmax(wrong))
                raise ValueError(f"traffic: {name}[{at}] = {column[at]}, expected a finite number >= 0")
        if not (np.isfinite(self.stream_share).all() and (self.stream_share >= 0.0).all()):
            raise ValueError("traffic: stream_share, expected finite shares >= 0")

    def part(self, which: slice) -> Traffic:
        """Some of the segments."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return Traffic(**{name: c if c is None or (name == "stream_share" and c.ndim == 1) else c[which] for name, c in columns.items()})


@dataclass(frozen=True, slots=True)
class Emissions:
    """Rates of n segments or areas in the order of ``OUTPUTS``: g/h, energy MJ/h."""

    value: Floats  #: (n, 9)
    lo95: Floats  #: (n, 9)
    hi95: Floats  #: (n, 9)
    shared_log_sd: Floats  #: (9,)
    own_log_sd: Floats  #: (n, 9)
    guard_count: Mapping[str, int]  #: segments at whose speed each guard fired
    factor_set: str
    fleet_mix: str

    def column(self, output: str) -> Floats:
        """Central values of one output, (n,)."""
        column: Floats = self.value[:, OUTPUTS.index(output)]
        return column

    def record(self, i: int, digits: int = 6) -> dict[str, dict[str, float]]:
        """One row as the open topics carry it: {output: {value, lo95, hi95}}, rounded to significant digits."""
        return {
            output: {
                name: float(f"{column[i, p]:.{digits}g}")
                for name, column in (("value", self.value), ("lo95", self.lo95), ("hi95", self.hi95))
            }
            for p, output in enumerate(OUTPUTS)
        }


def stream_shares(road_class: NDArray[np.intp], table: RateTable, mix: Mapping[str, Mapping[str, float]] | None = None) -> Floats:
    """Share of each stream of a rate table in the flow of roads of these classes, (n, S).

    Args:
        road_class: (n,) codes of ``flow.ROAD_CLASSES``.
        table: whose streams.
        mix: road class -> stream -> share; ``fleet.composition()`` by default. A fleet of other streams must give its own.
    """
    shares = composition() if mix is None else mix
    matrix = np.array([[shares.get(c, {}).get(s, 0.0) for s in table.streams] for c in ROAD_CLASSES])
    if not (matrix.sum(axis=1) > 0.0).all():
        raise ValueError(f"stream_shares: no share for streams {', '.join(table.streams)}; give mix")
    chosen: Floats = matrix[road_class]
    return chosen


def density_of(traffic: Traffic) -> Floats:
    """Vehicles per km on each segment: as given, else flow over speed, capped at jam density."""
    if traffic.density_vpkm is not None:
        return traffic.density_vpkm
    jam = np.full(len(traffic.length_km), 140.0) if traffic.jam_density_vpkm is None else traffic.jam_density_vpkm
    return np.minimum(traffic.flow_vph / np.maximum(traffic.speed_kmh, CREEP_KMH), jam)


def _rates(table: Floats, road: NDArray[np.intp], speed_kmh: Floats) -> Floats:
    """Lookup of one stream: table (2, G, 9) -> (n, 9), linear between grid speeds."""
    at = np.minimum(speed_kmh, TOP_KMH) * (1.0 / STEP_KMH)
    i = np.minimum(at.astype(np.intp), len(GRID_KMH) - 2)
    w = (at - i)[:, None]
    flat = table.reshape(-1, table.shape[-1])
    i += road * table.shape[1]
    low = flat.take(i, axis=0)
    high = flat.take(i + 1, axis=0)
    high -= low
    high *= w
    high += low
    return high


def emit(traffic: Traffic, table: RateTable, bounds: Bounds | None = None) -> Emissions:
    """Emissions of every segment in g/h (MJ/h), with 95 % bounds.

    With ``speed_sd_kmh``, R is averaged over speeds at -sqrt(3), 0, +sqrt(3) deviations with weights 1/6, 2/3, 1/6 (Gauss-Hermite).
    """
    n = len(traffic.length_km)
    b = bounds or bounds_of(table.conditions)
    vehicles = density_of(traffic) * traffic.length_km
    share = np.broadcast_to(traffic.stream_share, (n, len(table.streams)))
    road = np.asarray(traffic.urban, dtype=np.intp)
    used = [s for s in range(len(table.streams)) if share[:, s].any()]
    value = np.zeros((n, len(OUTPUTS)))
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        speed = traffic.speed_kmh[part]
        points = [(speed, 1.0)]
        if traffic.speed_sd_kmh is not None:
            away = np.sqrt(3.0) * traffic.speed_sd_kmh[part]
            points = [(np.maximum(speed - away, 0.0), 1.0 / 6.0), (speed, 2.0 / 3.0), (speed + away, 1.0 / 6.0)]
        for s in used:
            weight = vehicles[part] * share[part, s]
            for at, point in points:
                rates = _rates(table.rate[s], road[part], at)
                rates *= (weight * point)[:, None]
                value[part] += rates
    own_var = traffic.flow_log_var + creep_log_sd(traffic.speed_kmh) ** 2
    if traffic.extra_log_sd is not None:
        own_var = own_var + traffic.extra_log_sd**2
    own = np.sqrt(own_var[:, None] + b.speed**2)
    lo95, hi95 = interval(value, np.sqrt(own_var[:, None] + (b.speed**2 + b.shared**2)))
    return Emissions(value, lo95, hi95, b.shared, own, _count_guards(traffic, table, used), table.factor_set, table.fleet.name)


def guards_at(speed_kmh: Floats, table: RateTable, used: list[int]) -> NDArray[np.uint8]:
    """Guards of the factors that fire at speeds (n,), as bits of ``GUARD_NAMES``, for any vehicle of the streams ``used``."""
    bits = np.bitwise_or.reduce(table.guard[used], axis=0) if used else np.zeros(len(GRID_KMH), dtype=np.uint8)
    at = np.minimum(np.rint(speed_kmh / STEP_KMH), len(GRID_KMH) - 1).astype(np.intp)
    fired: NDArray[np.uint8] = bits[at]
    return fired


def _count_guards(traffic: Traffic, table: RateTable, used: list[int]) -> dict[str, int]:
    fired = guards_at(traffic.speed_kmh[traffic.flow_vph > 0.0], table, used)
    return {name: int(((fired & bit) > 0).sum()) for bit, name in GUARD_NAMES.items()}


def sum_areas(
    emissions: Emissions,
    traffic: Traffic,
    group: NDArray[np.intp],
    groups: int,
    bounds: Bounds,
    *,
    expansion: Floats | None = None,
    expansion_log_sd: float = 0.3,
) -> Emissions:
    """Emissions of areas (H3 cells, districts, a city): sums of their segments.

    Args:
        emissions, traffic: of n segments (``emit``).
        group: (n,) area of each segment, 0..groups-1.
        bounds: as given to ``emit``.
        expansion: (groups,) >= 1, vehicle-kilometres of the area over those of its segments; 1 when all are covered.
        expansion_log_sd: log standard deviation per unit of ln(expansion): what is added is a guess.
    """
    value: Floats = np.stack([np.bincount(group, emissions.value[:, p], groups).astype(np.float64) for p in range(len(OUTPUTS))], axis=1)
    extra = np.zeros(len(group)) if traffic.extra_log_sd is None else traffic.extra_log_sd
    speed_sd = np.sqrt(bounds.speed**2 + extra[:, None] ** 2)
    creep = creep_log_sd(traffic.speed_kmh)
    own = sum_log_sd(emissions.value, speed_sd, traffic.flow_log_var, traffic.flow_source, group, groups, creep)
    if expansion is not None:
        factor = np.maximum(expansion, 1.0)[:, None]
        value = value * factor
        own = np.sqrt(own**2 + (expansion_log_sd * np.log(factor)) ** 2)
    lo95, hi95 = interval(value, np.sqrt(own**2 + bounds.shared**2))
    return Emissions(value, lo95, hi95, bounds.shared, own, emissions.guard_count, emissions.factor_set, emissions.fleet_mix)


def main_source(value: Floats, source: NDArray[np.int8], group: NDArray[np.intp], groups: int) -> list[str]:
    """``flow_source`` of areas: the one behind most of a value (n,), e.g. of CO2.

    >>> main_source(np.array([1.0, 3.0]), np.array([0, 3], dtype=np.int8), np.array([0, 0]), 1)
    ['calendar_prior']
    """
    parts = np.stack([np.bincount(group, value * (source == code), groups) for code in range(len(SOURCES))])
    parts[PRIOR] += 1e-12
    return [SOURCES[int(code)] for code in parts.argmax(axis=0)]
