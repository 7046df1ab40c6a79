"""How regular a line is: the times between its vehicles, beside those that the timetable means.

Coefficient of variation of headways as in the Transit Capacity and Quality of Service Manual, 3rd edition (TCRP Report 165, 2013), chapter 5, headway
adherence: the standard deviation of what headways deviate from the timetable's, over the mean of the timetable's. 0: as planned; 0.75 and more: most vehicles run
in bunches. Where no timetable is known the mean of what was observed stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: So many headways are the fewest that regularity is told of.
LEAST = 3
#: A vehicle is bunched when it follows the one before within this part of the headway that is meant (judgement; the manual names no threshold).
BUNCHED = 0.25


@dataclass(frozen=True, slots=True)
class Regularity:
    """Of the vehicles of one line at one time; all None where they are too few."""

    headways: int | None = None
    mean_s: float | None = None
    cv: float | None = None
    bunched_share: float | None = None
    basis: Literal["scheduled", "observed"] | None = None


def regularity(headway_s: Sequence[float], scheduled_s: Sequence[float]) -> Regularity:
    """Of the headways of a line's vehicles, each beside what the timetable means between the same two (NaN: not known).

    Those of which the timetable is known decide, where they are enough.

    >>> regularity([600.0, 600.0, 600.0], [600.0] * 3)
    Regularity(headways=3, mean_s=600.0, cv=0.0, bunched_share=0.0, basis='scheduled')
    >>> regularity([60.0, 1140.0, 60.0, 1140.0], [float("nan")] * 4)
    Regularity(headways=4, mean_s=600.0, cv=1.039, bunched_share=0.5, basis='observed')
    >>> regularity([300.0, 900.0, 300.0], [300.0, 900.0, 300.0]).cv  # an uneven timetable that is kept
    0.0
    """
    actual, meant = np.asarray(headway_s, np.float64), np.asarray(scheduled_s, np.float64)
    planned = np.isfinite(meant) & (meant > 0.0)
    scheduled = int(planned.sum()) >= LEAST
    if scheduled:
        actual, meant = actual[planned], meant[planned]
    if len(actual) < LEAST or not actual.mean() > 0.0:
        return Regularity()
    if not scheduled:
        meant = np.full(len(actual), actual.mean())
    cv = float(np.std(actual - meant, ddof=1) / meant.mean())
    bunched = float((actual < BUNCHED * meant).mean())
    return Regularity(
        len(actual), round(float(actual.mean()), 1), round(cv, 3), round(bunched, 3), "scheduled" if scheduled else "observed"
    )
