"""Areas of a city: H3 cells of resolution 8 (about 0.7 km2) and the city as a whole; which segment lies in which."""

from __future__ import annotations

from dataclasses import dataclass

import h3
import numpy as np

from geo.network import F64, I64, Network
from geo.polylines import point_at
from geo.project import Plane

RESOLUTION = 8


@dataclass(frozen=True)
class Areas:
    """Cells in the order of their indexes, and the city last. A segment belongs to the cell that its middle lies in."""

    area_id: list[str]
    kind: list[str]
    cell: I64  #: (n,) of each segment

    @property
    def city(self) -> int:
        """Number of the whole city."""
        return len(self.area_id) - 1

    def sums(self, value: F64) -> F64:
        """Sum of a column of the segments over each area, the city among them: (areas,)."""
        cells = np.bincount(self.cell, value, self.city)
        return np.append(cells, value.sum())


def areas_of(network: Network, city: str) -> Areas:
    """Cells of a network, from the middles of its segments.

    Raises:
        ValueError: a segment that lies nowhere on Earth.
    """
    s = network.segments
    if not len(s):
        return Areas([city], ["city"], np.empty(0, np.int64))
    east, north = point_at(s.geometry, np.arange(len(s)), s.length_m / 2.0)
    lat, lon = Plane(network.crs).to_wgs84(east, north)
    if not np.isfinite(lat).all():
        raise ValueError(f"network {network.version[:12]}: segment {s.segment_id[int(np.argmin(np.isfinite(lat)))]} has no place on Earth")
    cells = [h3.latlng_to_cell(a, o, RESOLUTION) for a, o in zip(lat.tolist(), lon.tolist(), strict=True)]
    ids, cell = np.unique(cells, return_inverse=True)
    return Areas([*ids.tolist(), city], ["h3_8"] * len(ids) + ["city"], cell.astype(np.int64))
