"""Free-flow speed and the speed to expect when nothing is known, from what a network says of a street."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

#: Speed limit where OSM gives none, km/h. Finland: 50 in built-up areas and 80 outside unless signed (Road Traffic Act 729/2018, section 97 ff.);
#: residential and service streets of the six cities are signed 30-40 almost everywhere. "transit_line": only a route's geometry is known.
CLASS_LIMIT_KMH = {
    "motorway": 100.0, "motorway_link": 60.0, "trunk": 80.0, "trunk_link": 60.0, "primary": 50.0, "primary_link": 50.0,
    "secondary": 50.0, "secondary_link": 50.0, "tertiary": 40.0, "tertiary_link": 40.0, "unclassified": 40.0, "residential": 30.0,
    "living_street": 20.0, "service": 20.0, "busway": 40.0, "tram": 40.0, "transit_line": 40.0,
}  # fmt: skip
DEFAULT_LIMIT_KMH = 40.0
#: Cars drive at this share of the limit between junctions, and a signal at the end of a segment costs this long on average, seconds, when nothing is
#: congested: the no-sensor formula that the ground truth's README gives as the figure to beat (MAE 3.8 km/h on simulated Helsinki streets).
LIMIT_SHARE = 0.85
SIGNAL_S = 4.0


def free_flow(limit_kmh: F64, road_class: list[str]) -> tuple[F64, list[str]]:
    """Free-flow speed between junctions, km/h, and the method for each segment: ``limit`` or ``class_default``.

    The posted limit stands for free flow until the system has seen enough to know better.

    >>> free_flow(np.array([30.0, np.nan]), ["residential", "primary"])
    (array([30., 50.]), ['limit', 'class_default'])
    """
    default = np.array([CLASS_LIMIT_KMH.get(c, DEFAULT_LIMIT_KMH) for c in road_class], dtype=np.float64)
    known = np.isfinite(limit_kmh) & (limit_kmh > 0)
    return np.where(known, limit_kmh, default), ["limit" if k else "class_default" for k in known]


def expected_speed(free_flow_kmh: F64, length_m: F64, signal: NDArray[np.int8]) -> F64:
    """Space-mean speed over a whole segment in light traffic, km/h, its signal included.

    >>> expected_speed(np.array([40.0]), np.array([100.0]), np.array([1], np.int8)).round(1)
    array([24.7])
    """
    seconds = length_m * 3.6 / (LIMIT_SHARE * free_flow_kmh) + SIGNAL_S * (signal == 1)
    result: F64 = length_m * 3.6 / seconds
    return result
