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
#: Light traffic. Cars drive at this share of the limit between junctions; a signal at the end of a segment, or giving way there to a street of a higher class,
#: costs this long on average, seconds. The form and the signal's 4 s are those of the ground truth's no-sensor formula (0.85 and 4 s);
#: 0.87 and 1.5 s: ``benchmarks/fit_fusion.py``. HCM 6 (exhibits 19-8 and 20-2) has control delays of up to 10 s for levels of service A.
LIMIT_SHARE = 0.87
SIGNAL_S = 4.0
YIELD_S = 1.5


def free_flow(limit_kmh: F64, road_class: list[str]) -> tuple[F64, list[str]]:
    """Free-flow speed between junctions, km/h, and the method for each segment: ``limit`` or ``class_default``.

    The posted limit stands for free flow until the system has seen enough to know better.

    >>> free_flow(np.array([30.0, np.nan]), ["residential", "primary"])
    (array([30., 50.]), ['limit', 'class_default'])
    """
    default = np.array([CLASS_LIMIT_KMH.get(c, DEFAULT_LIMIT_KMH) for c in road_class], dtype=np.float64)
    known = np.isfinite(limit_kmh) & (limit_kmh > 0)
    return np.where(known, limit_kmh, default), ["limit" if k else "class_default" for k in known]


def expected_speed(free_flow_kmh: F64, length_m: F64, held: NDArray[np.bool_], yields: NDArray[np.bool_]) -> F64:
    """Space-mean speed over a whole segment in light traffic, km/h, with what its end costs: a signal, or giving way.

    >>> no = np.array([False])
    >>> expected_speed(np.array([40.0]), np.array([100.0]), ~no, no).round(1)
    array([25.1])
    """
    seconds = length_m * 3.6 / (LIMIT_SHARE * free_flow_kmh) + SIGNAL_S * held + YIELD_S * yields
    result: F64 = length_m * 3.6 / np.maximum(seconds, 1e-9)
    return result
