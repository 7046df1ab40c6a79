"""On which side of a city's border each vehicle is, also while nobody knows where it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from connectors.borders import Border
from geo.network import F64, Bool

#: Vehicles remembered; of more than these the half that was seen first is forgotten.
MAX_VEHICLES = 100_000


class Sides:
    """A vehicle without a position is where it was last seen; one that was never seen belongs to the city that connects to the feed, so that it is in one city."""

    def __init__(self, border: Border, connects: bool) -> None:
        self._border, self._connects = border, connects
        self._here: dict[str, bool] = {}

    def mask(self, vehicle_id: Sequence[str], lat_deg: F64, lon_deg: F64) -> Bool:
        """(n,) whether each event, in order, is this city's."""
        here = self._border.mask(lat_deg, lon_deg)
        unknown = np.flatnonzero(np.isnan(lat_deg))
        last = self._here
        if not len(unknown):
            last.update(zip(vehicle_id, here.tolist(), strict=True))
        else:
            nowhere = set(unknown.tolist())
            for k, vehicle in enumerate(vehicle_id):
                if k in nowhere:
                    here[k] = last.get(vehicle, self._connects)
                else:
                    last[vehicle] = bool(here[k])
        if len(last) > MAX_VEHICLES:
            self._here = dict(islice(last.items(), MAX_VEHICLES // 2, None))
        return here

    def export(self) -> dict[str, bool]:
        return self._here

    def restore(self, state: dict[str, bool]) -> None:
        self._here = dict(state)
