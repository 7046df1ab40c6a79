"""Level of service, DATEX II status and jam factor: one function, so that the three never contradict each other.

Sources: level of service by the ratio of travel speed to base free-flow speed, HCM 6th ed., exhibit 18-1 (urban street
facilities: 85, 67, 50, 40, 30 %); traffic status names of DATEX II 3 ``TrafficStatusEnum`` with the Digitraffic fluency
limits (10, 25, 75 %); jam factor 0-10 as commonly published by map vendors, 10 only for a closed road.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Los = Literal["A", "B", "C", "D", "E", "F", "unknown"]
DatexStatus = Literal["freeFlow", "heavy", "slow", "queuing", "stationary", "unknown"]

#: Level of service falls below each of these ratios (A above the first).
LOS_LIMITS = (0.85, 0.67, 0.50, 0.40, 0.30)
LOS_GRADES: tuple[Los, ...] = ("A", "B", "C", "D", "E", "F")
STATUS_LIMITS = (0.10, 0.25, 0.75)
STATUS_NAMES: tuple[DatexStatus, ...] = ("stationary", "queuing", "slow", "freeFlow")
#: Heavy: flow above this share of the usual while speed has not dropped (DATEX II "heavy": flow high, speed kept).
HEAVY_FLOW_RATIO = 1.2


class Fluency(NamedTuple):
    """The three derived numbers of one segment."""

    los: Los
    datex_status: DatexStatus
    jam_factor: float | None


def fluency(
    speed_ratio: float | None,
    *,
    closed: bool = False,
    flow_vph: float | None = None,
    capacity_vph: float | None = None,
    usual_flow_vph: float | None = None,
) -> Fluency:
    """Level of service, DATEX II status and jam factor from r = speed / free-flow speed.

    Args:
        speed_ratio: r >= 0, or None when nothing informs the segment.
        closed: the road is closed by a situation; then the jam factor is 10.
        flow_vph, capacity_vph: level of service is F too when flow exceeds capacity.
        usual_flow_vph: status is ``heavy`` when flow is above usual without a drop in speed.

    >>> fluency(0.55)
    Fluency(los='C', datex_status='slow', jam_factor=4.5)
    >>> fluency(0.22)
    Fluency(los='F', datex_status='queuing', jam_factor=7.8)
    >>> fluency(0.93)
    Fluency(los='A', datex_status='freeFlow', jam_factor=0.7)
    >>> fluency(None)
    Fluency(los='unknown', datex_status='unknown', jam_factor=None)
    >>> fluency(0.0, closed=True)
    Fluency(los='F', datex_status='stationary', jam_factor=10.0)
    """
    if closed:
        return Fluency("F", "stationary", 10.0)
    if speed_ratio is None:
        return Fluency("unknown", "unknown", None)
    los, status, jam = fluency_columns(np.array([speed_ratio]))
    grade, name = LOS_GRADES[int(los[0])], STATUS_NAMES[int(status[0])]
    if flow_vph is not None and capacity_vph is not None and flow_vph > capacity_vph:
        grade = "F"
    if name == "freeFlow" and flow_vph is not None and usual_flow_vph is not None and flow_vph > HEAVY_FLOW_RATIO * usual_flow_vph:
        name = "heavy"
    return Fluency(grade, name, float(jam[0]))


def fluency_columns(speed_ratio: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Indices into ``LOS_GRADES`` and ``STATUS_NAMES``, and jam factors rounded to 0.1, of n finite ratios.

    Raises:
        ValueError: a ratio is negative or not finite.
    """
    r: NDArray[np.float64] = np.asarray(speed_ratio, dtype=np.float64)
    if r.size and not (np.isfinite(r).all() and (r >= 0).all()):
        raise ValueError("speed_ratio must be finite and >= 0")
    los: NDArray[np.int64] = np.zeros(r.shape, dtype=np.int64)
    for limit in LOS_LIMITS:
        los += r <= limit
    status: NDArray[np.int64] = np.zeros(r.shape, dtype=np.int64)
    for limit in STATUS_LIMITS:
        status += r >= limit
    jam = np.round(np.minimum(9.9, 10.0 * (1.0 - np.minimum(1.0, r))), 1).astype(np.float64) + 0.0
    return los, status, jam
