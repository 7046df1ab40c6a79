"""How many vehicles: measured, carried over from counters near by, from a jam, or from the calendar.

Speed tells flow only on the congested branch of the fundamental diagram. In free flow it does not: 3 % of speed there
is a quarter of the flow. So Van Aerde's curve is used where free-flow speed over speed exceeds 1.1 *and* the speed is below
that at capacity; everywhere else, without a counter, the calendar prior stands, named as such, with its wide variance.

    k = 1 / (c1 + c2/(v_f - v) + c3 v)      Van Aerde; Rakha & Crowther (2002), Transportation Research Record 1802
    m = (2 v_c - v_f) / (v_f - v_c)^2,  c2 = 1 / (k_j (m + 1/v_f)),  c1 = m c2,  c3 = (-c1 + v_c/q_c - c2/(v_f - v_c)) / v_c

Variances are of ln(flow). Road-class parameters: ``data/flow_classes.csv``, assumptions to be calibrated by counters.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.emissions import tables
from models.emissions.factors import Floats

Codes = NDArray[np.int8]

#: ``flow_source`` on the wire, by code.
SOURCES: Final = ("measured", "transferred", "congested_branch", "calendar_prior")
MEASURED, TRANSFERRED, CONGESTED, PRIOR = range(4)

#: Free-flow speed over speed above which a jam may tell the flow.
CONGESTED_RATIO: Final = 1.1
#: Speeds below this do not enlarge density any further, km/h.
CREEP_KMH: Final = 1.0

ROAD_CLASSES: Final = ("motorway", "trunk", "arterial", "collector", "local")
_OSM: Final = {
    "motorway": "motorway", "trunk": "trunk", "primary": "arterial", "secondary": "arterial", "tertiary": "collector",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """Standard deviations of ln(flow), and reach of counters. MODEL values (judgement), to be fitted by leave-one-out."""

    #: Where a counter of the segment's own tells it.
    measured_log_sd: float = float(np.log(1.05))
    #: Where counters near by do.
    transferred_log_sd: float = float(np.log(1.2))
    #: Of what the speed tells where a street is jammed.
    congested_log_sd: float = float(np.log(1.3))
    #: Where only the calendar does.
    prior_log_sd: float = float(np.log(1.5))
    #: Distance over which a counter's say falls by e, m. Higher trusts far counters.
    transfer_reach_m: float = 1500.0
    #: Weight of "as the calendar says" against one counter at distance 0. Higher trusts counters less.
    transfer_prior_weight: float = 0.3
    #: Time over which a silent counter's last value turns into no better than the prior, s.
    measured_memory_s: float = 1800.0

    def __post_init__(self) -> None:
        sds = (self.measured_log_sd, self.transferred_log_sd, self.congested_log_sd, self.prior_log_sd)
        if not all(0.0 < sd < 5.0 for sd in sds):
            raise ValueError(f"flow log sds = {sds}, expected > 0")
        if not self.measured_log_sd <= self.transferred_log_sd <= self.prior_log_sd:
            raise ValueError("flow log sds: expected measured <= transferred <= prior")
        if min(self.transfer_reach_m, self.transfer_prior_weight, self.measured_memory_s) <= 0.0:
            raise ValueError("transfer_reach_m, transfer_prior_weight, measured_memory_s: expected > 0")


@dataclass(frozen=True, slots=True)
class Flow:
    """Traffic of n directed segments, all lanes and vehicles together."""

    flow_vph: Floats
    density_vpkm: Floats
    log_var: Floats  #: variance of ln(flow)
    source: Codes  #: index into SOURCES
    density_log_var: Floats  #: variance of ln(density)
    jammed: NDArray[np.bool_]  #: the congested branch had a say in the density

    def source_names(self) -> list[str]:
        """``flow_source`` of each segment."""
        return [SOURCES[code] for code in self.source]


@cache
def _class_columns() -> dict[str, Floats]:
    rows = {row["road_class"]: row for row in tables.rows("flow_classes")}
    names = ("capacity_vph_lane", "jam_density_vpkm_lane", "speed_at_capacity_ratio", "prior_peak_ratio", "congested_branch", "urban")
    return {name: np.array([float(rows[c][name]) for c in ROAD_CLASSES]) for name in names}


def road_class_code(highway: str) -> int:
    """Index into ROAD_CLASSES of a road class, or of an OSM ``highway`` value; what is not known is local.

    >>> [ROAD_CLASSES[road_class_code(h)] for h in ("motorway_link", "secondary", "residential", "arterial")]
    ['motorway', 'arterial', 'local', 'arterial']
    """
    name = highway.removesuffix("_link")
    return ROAD_CLASSES.index(_OSM.get(name, name if name in ROAD_CLASSES else "local"))


def urban_of(road_class: ArrayLike) -> NDArray[np.bool_]:
    """Whether cold starts count on roads of these class codes.

    >>> urban_of([0, 2, 4]).tolist()
    [False, True, True]
    """
    return _class_columns()["urban"][np.asarray(road_class, dtype=np.intp)] > 0.0


def jam_density_vpkm(road_class: ArrayLike, lanes: ArrayLike) -> Floats:
    """Jam density of all lanes, vehicles per km."""
    return _class_columns()["jam_density_vpkm_lane"][np.asarray(road_class, dtype=np.intp)] * np.maximum(lanes, 1.0)


def van_aerde_density(
    speed_kmh: ArrayLike, free_flow_kmh: ArrayLike, speed_at_capacity_kmh: ArrayLike, capacity_vph: ArrayLike, jam_density_vpkm: ArrayLike
) -> Floats:
    """Density of one lane at a speed, vehicles per km; 0 at and above free flow.

    Where the capacity asked for cannot be had (c3 would be negative) it is lowered until it can.

    >>> van_aerde_density([0.0, 30.0, 50.0], 50.0, 30.0, 900.0, 140.0).round(3).tolist()
    [140.0, 30.0, 0.0]
    """
    v_f = np.asarray(free_flow_kmh, dtype=np.float64)
    v_c = np.asarray(speed_at_capacity_kmh, dtype=np.float64)
    v = np.clip(np.asarray(speed_kmh, dtype=np.float64), 0.0, v_f)
    m = (2.0 * v_c - v_f) / (v_f - v_c) ** 2
    c2 = 1.0 / (np.asarray(jam_density_vpkm, dtype=np.float64) * (m + 1.0 / v_f))
    c1 = m * c2
    c3 = np.maximum(0.0, (-c1 + v_c / np.asarray(capacity_vph, dtype=np.float64) - c2 / (v_f - v_c)) / v_c)
    gap = v_f - v
    with np.errstate(divide="ignore"):
        density: Floats = np.where(gap > 0.0, 1.0 / (c1 + c2 / np.where(gap > 0.0, gap, 1.0) + c3 * v), 0.0)
    return density


def congested_density(speed_kmh: ArrayLike, free_flow_kmh: ArrayLike, road_class: ArrayLike, lanes: ArrayLike) -> Floats:
    """Density of all lanes on the congested branch, vehicles per km; NaN where the speed does not tell it.

    >>> congested_density([10.0, 46.0, 10.0], 50.0, [2, 2, 4], 1).round(1).tolist()
    [67.9, nan, nan]
    """
    code = np.asarray(road_class, dtype=np.intp)
    v = np.asarray(speed_kmh, dtype=np.float64)
    v_f = np.maximum(np.asarray(free_flow_kmh, dtype=np.float64), CREEP_KMH)
    columns = _class_columns()
    v_c = v_f * columns["speed_at_capacity_ratio"][code]
    density = van_aerde_density(v, v_f, v_c, columns["capacity_vph_lane"][code], columns["jam_density_vpkm_lane"][code])
    tells = (columns["congested_branch"][code] > 0.0) & (v < v_c) & (v_f > CONGESTED_RATIO * v)
    return np.where(tells, density * np.maximum(lanes, 1.0), np.nan)


def calendar_prior_vph(
    road_class: ArrayLike, lanes: ArrayLike, local_hour: ArrayLike, weekday: ArrayLike, *, scale: ArrayLike = 1.0
) -> Floats:
    """Usual flow of a road class at a time of week, all lanes; interpolated between the middles of hours.

    Args:
        road_class: codes of ROAD_CLASSES.
        lanes: number of lanes of the direction.
        local_hour: local time of day, hours, 0..24.
        weekday: 0 Monday .. 6 Sunday (holidays are Sundays).
        scale: level of the city or area against the table, from its counters.

    >>> calendar_prior_vph(2, 2, [3.5, 16.5], 1).round(0).tolist()
    [40.0, 810.0]
    """
    code = np.asarray(road_class, dtype=np.intp)
    profile = _profile()
    kind = np.asarray([0, 0, 0, 0, 0, 1, 2])[np.asarray(weekday, dtype=np.intp) % 7]
    at = (np.asarray(local_hour, dtype=np.float64) - 0.5) % 24.0
    hour = at.astype(np.intp) % 24
    part = at - np.floor(at)
    shape = profile[kind, hour] * (1.0 - part) + profile[kind, (hour + 1) % 24] * part
    columns = _class_columns()
    peak = columns["capacity_vph_lane"][code] * columns["prior_peak_ratio"][code] * np.maximum(lanes, 1.0)
    value: Floats = peak * shape * np.asarray(scale, dtype=np.float64)
    return value


@cache
def _profile() -> Floats:
    rows = tables.rows("flow_profile")
    return np.array([[float(row[day]) for row in rows] for day in ("weekday", "saturday", "sunday")])


def transfer(
    prior_vph: Floats, counter_ratio: Floats, neighbour: NDArray[np.intp], distance_m: Floats, settings: FlowSettings | None = None
) -> tuple[Floats, Floats]:
    """Flow of segments without a counter from counters near by.

    Counters say how far today is from the calendar; that ratio, not the flow, is carried over, with weight
    exp(-distance/reach) against a fixed weight for "as the calendar says".

    Args:
        prior_vph: (n,) calendar prior.
        counter_ratio: (m,) measured flow over calendar prior at each counter; NaN where dead.
        neighbour: (n, K) counter positions, -1 for none.
        distance_m: (n, K) network or beeline distance.

    Returns:
        Flow (n,) and variance of its logarithm (n,): the prior's own where no counter is near.

    >>> flow, var = transfer(np.array([100.0, 100.0]), np.array([2.0]), np.array([[0], [-1]]), np.array([[0.0], [0.0]]))
    >>> flow.round(0).tolist(), bool(var[0] < var[1])
    ([170.0, 100.0], True)
    """
    s = settings or FlowSettings()
    near, far = s.transferred_log_sd**2, s.prior_log_sd**2
    if counter_ratio.size == 0 or neighbour.size == 0:
        return prior_vph.copy(), np.full(prior_vph.shape, far)
    log_ratio = np.log(np.clip(counter_ratio, 0.05, 20.0))
    taken = np.where(neighbour >= 0, log_ratio[neighbour], np.nan)
    known = np.isfinite(taken)
    weight = np.where(known, np.exp(-distance_m / s.transfer_reach_m), 0.0)
    total = weight.sum(axis=1)
    moved = (weight * np.where(known, taken, 0.0)).sum(axis=1) / (total + s.transfer_prior_weight)
    trust = total / (total + s.transfer_prior_weight)
    return prior_vph * np.exp(moved), near * trust + far * (1.0 - trust)


def measured_log_var(age_s: ArrayLike, settings: FlowSettings | None = None) -> Floats:
    """Variance of ln(flow) of a counter's value of a given age; grows towards the prior's.

    >>> measured_log_var([0.0, 1800.0]).round(4).tolist()
    [0.0024, 0.1048]
    """
    s = settings or FlowSettings()
    fresh, stale = s.measured_log_sd**2, s.prior_log_sd**2
    aged = 1.0 - np.exp(-np.maximum(np.asarray(age_s, dtype=np.float64), 0.0) / s.measured_memory_s)
    value: Floats = fresh + (stale - fresh) * aged
    return value


def estimate_flow(
    *,
    speed_kmh: Floats,
    free_flow_kmh: Floats,
    road_class: NDArray[np.intp],
    lanes: Floats,
    prior_vph: Floats,
    measured_vph: Floats | None = None,
    measured_age_s: Floats | None = None,
    measured_extra_log_var: Floats | None = None,
    transferred_vph: Floats | None = None,
    transferred_log_var: Floats | None = None,
    speed_log_sd: Floats | None = None,
    settings: FlowSettings | None = None,
) -> Flow:
    """The best flow of each of n segments, with where it comes from.

    A counter's value is taken as it is, until it is so old that the rest knows better; else the calendar prior (moved by counters near by, where there are).
    In a jam that is weighed against the congested branch by inverse variance of logarithms, at equal speed, so in density: flow over a crawling speed is as
    uncertain as that speed. ``source`` names what weighs most in the flow.

    Args:
        speed_kmh, free_flow_kmh, lanes, prior_vph: (n,).
        road_class: (n,) codes of ROAD_CLASSES.
        measured_vph: (n,) NaN where no counter.
        measured_age_s: (n,) age of that value; fresh if not given.
        measured_extra_log_var: (n,) what it is less sure by, where it was counted elsewhere on the same block.
        transferred_vph, transferred_log_var: (n,) of ``transfer``.
        speed_log_sd: (n,) standard deviation of ln(speed); exact if not given.

    >>> flow = estimate_flow(
    ...     speed_kmh=np.array([45.0, 8.0, 45.0]), free_flow_kmh=np.full(3, 48.0), road_class=np.full(3, 2), lanes=np.ones(3),
    ...     prior_vph=np.full(3, 300.0), measured_vph=np.array([np.nan, np.nan, 420.0]))
    >>> flow.source_names(), flow.flow_vph.round(0).tolist()
    (['calendar_prior', 'congested_branch', 'measured'], [300.0, 496.0, 420.0])
    """
    s = settings or FlowSettings()
    jam = jam_density_vpkm(road_class, lanes)
    pace = np.maximum(speed_kmh, CREEP_KMH)
    flow = np.maximum(prior_vph if transferred_vph is None else transferred_vph, 0.0)
    log_var = np.full(flow.shape, s.prior_log_sd**2) if transferred_log_var is None else transferred_log_var.copy()
    source = np.where(log_var < 0.999 * s.prior_log_sd**2, TRANSFERRED, PRIOR)
    counted = np.zeros(flow.shape, dtype=np.bool_)
    if measured_vph is not None:
        age_var = measured_log_var(np.zeros(flow.shape) if measured_age_s is None else measured_age_s, s)
        if measured_extra_log_var is not None:
            age_var = age_var + measured_extra_log_var
        counted = np.isfinite(measured_vph) & (age_var <= log_var)
        flow = np.where(counted, np.maximum(measured_vph, 0.0), flow)
        log_var = np.where(counted, age_var, log_var)
        source = np.where(counted, MEASURED, source)
    density = np.minimum(flow / pace, jam)
    density_var = log_var.copy() if speed_log_sd is None else log_var + speed_log_sd**2
    slow = np.flatnonzero(free_flow_kmh > CONGESTED_RATIO * speed_kmh)
    branch = np.full(flow.shape, np.nan)
    branch[slow] = congested_density(speed_kmh[slow], free_flow_kmh[slow], road_class[slow], lanes[slow])
    tells = np.isfinite(branch) & (~counted if speed_log_sd is None else (flow > 0.0) | ~counted)
    if tells.any():
        w_jam, w_base = 1.0 / s.congested_log_sd**2, 1.0 / density_var[tells]
        logs = w_jam * np.log(branch[tells]) + w_base * np.log(np.maximum(density[tells], 1e-3))
        density[tells] = np.minimum(np.exp(logs / (w_jam + w_base)), jam[tells])
        density_var[tells] = 1.0 / (w_jam + w_base)
        told = tells & ~counted
        flow = np.where(told, density * speed_kmh, flow)
        log_var = np.where(told, density_var, log_var)
        source[tells] = np.where((w_jam >= w_base) & ~counted[tells], CONGESTED, source[tells])
    return Flow(flow, density, log_var, source.astype(np.int8), density_var, tells)
