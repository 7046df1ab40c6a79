"""A second opinion: COPERT against HBEFA4, published with the factor set.

``data/model_spread.csv`` holds, for sixteen vehicle classes, the geometric mean of COPERT's average-speed value over the value of the HBEFA4
refit in SUMO 1.28, driven over public cycles of the same mean speed, and the spread within the class. It is a spread of two official
models, not an error against truth: a lower bound on what is not known.
"""

from collections.abc import Mapping
from functools import cache
from statistics import median
from typing import NamedTuple

import numpy as np

from models.emissions import tables


class Opinion(NamedTuple):
    """How two factor models compare in one pollutant, over classes."""

    classes: int
    median_ratio: float  #: COPERT / HBEFA4
    gsd: float  #: geometric standard deviation of the ratio between classes
    lowest: float
    highest: float


@cache
def second_opinion() -> Mapping[str, Opinion]:
    """Summary by pollutant.

    >>> {p: (round(o.median_ratio, 2), round(o.gsd, 2)) for p, o in second_opinion().items()}["CO2"]
    (0.77, 1.17)
    """
    out = {}
    for pollutant in ("CO2", "NOx", "CO"):
        ratios = [float(r["geo_mean_ratio"]) for r in tables.rows("model_spread") if r["pollutant"] == pollutant]
        gsd = float(np.exp(np.std(np.log(ratios), ddof=1)))
        out[pollutant] = Opinion(len(ratios), median(ratios), gsd, min(ratios), max(ratios))
    return out
