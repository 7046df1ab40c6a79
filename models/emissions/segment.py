"""Emissions of road segments and of areas, vectorised over segments x streams of vehicles x outputs.

    E = L * sum over streams s of  k_s * R_s(V)       R: ``rates.py``; k: density, flow over speed

``emit`` needs no more than array arithmetic on a lookup, so a city of 150,000 segments takes well under a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.emissions.bounds import Bounds, Sums, bounds_of, creep_log_sd, interval
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
    stream_share: Floats  #: (n, S) or (S,): share of each stream of the rate table in the flow; (C, S) with ``kind``
    urban: NDArray[np.bool_]  #: (n,) cold starts count
    flow_log_var: Floats  #: (n,) variance of ln(flow)
    flow_source: NDArray[np.int8]  #: (n,) codes of ``flow.SOURCES``
    density_vpkm: Floats | None = None  #: (n,) where known apart from flow / speed: standing queues
    jam_density_vpkm: Floats | None = None  #: (n,) cap on flow / speed; 140 per km when not given
    speed_sd_kmh: Floats | None = None  #: (n,) spread of vehicles' speeds, for the distribution correction
    extra_log_sd: Floats | None = None  #: (n,) own error on top: an old or inferred speed
    kind: NDArray[np.intp] | None = None  #: (n,) row of ``stream_share`` that holds for each segment: its streams are looked up as one

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

    def of(self, rows: NDArray[np.intp]) -> Traffic:
        """Some of the segments."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        shared = self.kind is not None or self.stream_share.ndim == 1
        return Traffic(**{name: c if c is None or (shared and name == "stream_share") else c[rows] for name, c in columns.items()})


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


def _lookup(flat: Floats, row: NDArray[np.intp], speed_kmh: Floats) -> Floats:
    """Rates (9, m) from a table (9, rows), of which ``row`` is the one at standstill; linear between grid speeds."""
    at = np.minimum(speed_kmh, TOP_KMH) * (1.0 / STEP_KMH)
    i = np.minimum(at.astype(np.intp), len(GRID_KMH) - 2)
    w = at - i
    i += row
    low = flat.take(i, axis=1)
    i += 1
    high = flat.take(i, axis=1)
    high -= low
    high *= w
    high += low
    return high


def mixed(stream_share: Floats, table: RateTable) -> Floats:
    """Rates of the streams of each kind of road together, (9, C x 2 x speeds), for shares (C, S)."""
    out: Floats = np.einsum("cs,sugp->pcug", stream_share, table.rate).reshape(len(OUTPUTS), -1)
    return out


def values(traffic: Traffic, table: RateTable, mix: Floats | None = None) -> Floats:
    """Emissions of every segment in g/h (MJ/h), outputs first: (9, n). ``mix``: as ``mixed`` gives it, where that is at hand.

    With ``speed_sd_kmh``, R is averaged over speeds at -sqrt(3), 0, +sqrt(3) deviations with weights 1/6, 2/3, 1/6 (Gauss-Hermite).
    """
    n = len(traffic.length_km)
    vehicles = density_of(traffic) * traffic.length_km
    row = np.asarray(traffic.urban, dtype=np.intp) * len(GRID_KMH)
    lookups: list[tuple[Floats, Floats]] = []  #: tables (9, rows) and how many vehicles each holds for
    if traffic.kind is not None:  # streams of one kind of road are mixed beforehand
        row += traffic.kind * (2 * len(GRID_KMH))
        lookups = [(mixed(traffic.stream_share, table) if mix is None else mix, vehicles)]
    else:
        share = np.broadcast_to(traffic.stream_share, (n, len(table.streams)))
        lookups = [
            (np.ascontiguousarray(table.rate[s].reshape(-1, len(OUTPUTS)).T), vehicles * share[:, s])
            for s in range(len(table.streams))
            if share[:, s].any()
        ]
    value = np.zeros((len(OUTPUTS), n))
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        speed = traffic.speed_kmh[part]
        points = [(speed, 1.0)]
        if traffic.speed_sd_kmh is not None:
            away = np.sqrt(3.0) * traffic.speed_sd_kmh[part]
            points = [(np.maximum(speed - away, 0.0), 1.0 / 6.0), (speed, 2.0 / 3.0), (speed + away, 1.0 / 6.0)]
        for flat, weight in lookups:
            for at, point in points:
                rates = _lookup(flat, row[part], at)
                rates *= weight[part] * point
                value[:, part] += rates
    return value


def own_log_var(traffic: Traffic) -> Floats:
    """Variance of ln(rate) that is each segment's own, that of the speed term left out."""
    out: Floats = traffic.flow_log_var + creep_log_sd(traffic.speed_kmh) ** 2
    return out if traffic.extra_log_sd is None else out + traffic.extra_log_sd**2


def emit(traffic: Traffic, table: RateTable, bounds: Bounds | None = None) -> Emissions:
    """Emissions of every segment (``values``), with 95 % bounds."""
    b = bounds or bounds_of(table.conditions)
    value = values(traffic, table).T
    own_var = own_log_var(traffic)[:, None]
    lo95, hi95 = interval(value, np.sqrt(own_var + (b.speed**2 + b.shared**2)))
    return Emissions(
        value, lo95, hi95, b.shared, np.sqrt(own_var + b.speed**2), _count_guards(traffic, table), table.factor_set, table.fleet.name
    )


def guards_at(speed_kmh: Floats, table: RateTable, used: list[int]) -> NDArray[np.uint8]:
    """Guards of the factors that fire at speeds (n,), as bits of ``GUARD_NAMES``, for any vehicle of the streams ``used``."""
    bits = np.bitwise_or.reduce(table.guard[used], axis=0) if used else np.zeros(len(GRID_KMH), dtype=np.uint8)
    at = np.minimum(np.rint(speed_kmh / STEP_KMH), len(GRID_KMH) - 1).astype(np.intp)
    fired: NDArray[np.uint8] = bits[at]
    return fired


def _count_guards(traffic: Traffic, table: RateTable) -> dict[str, int]:
    used = np.flatnonzero(traffic.stream_share.reshape(-1, len(table.streams)).any(axis=0)).tolist()
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
    sums = sums_of(lambda rows: emissions.value[rows].T.copy(), traffic, group, groups)
    value, lo95, hi95, own = of_sums(sums, bounds, expansion, expansion_log_sd)
    return Emissions(value, lo95, hi95, bounds.shared, own, emissions.guard_count, emissions.factor_set, emissions.fleet_mix)


def sums_of(
    value: Callable[[NDArray[np.intp]], Floats],
    traffic: Traffic,
    group: NDArray[np.intp],
    groups: int,
    order: NDArray[np.intp] | None = None,
) -> Sums:
    """What adds up of segments, by group, some thousands at a time.

    Args:
        value: ``values`` (9, m) of some segments, anew in each call.
        order: segments sorted by group, where that is known.
    """
    out = Sums.none(len(OUTPUTS), groups)
    order = np.argsort(group, kind="stable") if order is None else order
    of = traffic.flow_source[order]
    for code in range(len(SOURCES)):
        rows = order[of == code]
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            extra = np.zeros(len(part)) if traffic.extra_log_sd is None else traffic.extra_log_sd[part] ** 2
            out.add(value(part), extra, traffic.flow_log_var[part], creep_log_sd(traffic.speed_kmh[part]), code, group[part])
    return out


def of_sums(
    sums: Sums, bounds: Bounds, expansion: Floats | None = None, expansion_log_sd: float = 0.3
) -> tuple[Floats, Floats, Floats, Floats]:
    """Emissions of areas, their bounds and own log standard deviations, (groups, 9) each; the arguments are those of ``sum_areas``."""
    value, own = sums.total().T, sums.own_log_sd(bounds.speed).T
    if expansion is not None:
        factor = np.maximum(expansion, 1.0)[:, None]
        value = value * factor
        own = np.sqrt(own**2 + (expansion_log_sd * np.log(factor)) ** 2)
    lo95, hi95 = interval(value, np.sqrt(own**2 + bounds.shared**2))
    return value, lo95, hi95, own


def main_source(by_source: Floats) -> list[str]:
    """``flow_source`` of areas: the one behind most of a value, e.g. of CO2; (S, groups) sums by source.

    >>> main_source(np.array([[1.0], [0.0], [0.0], [3.0]]))
    ['calendar_prior']
    """
    least = np.zeros((len(SOURCES), 1))
    least[PRIOR] = 1e-12
    return [SOURCES[code] for code in (by_source + least).argmax(axis=0).tolist()]
