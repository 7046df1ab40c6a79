"""Areas of a city: H3 cells of resolution 8 (about 0.7 km2), districts where the city names some, and the city as a whole; which segment lies in which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import h3
import numpy as np
import shapely

from connectors.borders import District
from geo.network import F64, I64, Network
from geo.polylines import point_at
from geo.project import Plane

RESOLUTION = 8


@dataclass(frozen=True)
class Layer:
    """Areas of one kind, none of which overlap: ``begin`` is the number of the first, ``of`` the area of each segment within the layer, -1 for none."""

    begin: int
    size: int
    of: I64


@dataclass(frozen=True)
class Areas:
    """Cells in the order of their indexes, districts in the order of their file, and the city last. A segment belongs to the area that its middle lies in.

    Sums are made of pieces, which no border of any layer cuts: over the segments of each piece once, then over the pieces of each area.
    """

    area_id: list[str]
    kind: list[str]
    name: list[str | None]  #: for people
    layers: list[Layer]
    piece: I64  #: of each segment
    order: I64  #: segments by piece
    parts: list[I64]  #: for each layer the area of each piece, -1 for none

    @property
    def pieces(self) -> int:
        """How many pieces."""
        return len(self.parts[-1])

    def sums(self, value: F64) -> F64:
        """Sum of a column of the segments over each area: (areas,)."""
        return self.of_pieces(np.bincount(self.piece, value, self.pieces).astype(np.float64))

    def of_pieces(self, value: F64) -> F64:
        """The same from sums over each piece, (pieces,)."""
        out = []
        for layer, of in zip(self.layers, self.parts, strict=True):
            inside = of >= 0
            out.append(np.bincount(of[inside], value[inside], layer.size))
        return np.concatenate(out).astype(np.float64)

    def by_code(self, code: I64, codes: int, value: F64 | None = None) -> F64:
        """Sum of a column, or number of segments, of each code 0..codes-1 over each area: (codes, areas)."""
        sums = np.bincount(self.piece * codes + code, value, self.pieces * codes).reshape(-1, codes).astype(np.float64)
        return np.stack([self.of_pieces(sums[:, k]) for k in range(codes)])

    def distinct(self, segment: I64, thing: I64) -> list[int]:
        """How many different things are on the segments of each area; (k,) rows of segment and thing."""
        counts: list[int] = []
        for layer in self.layers:
            pairs = np.column_stack([layer.of[segment], thing])
            pairs = np.unique(pairs[pairs[:, 0] >= 0], axis=0)
            counts += np.bincount(pairs[:, 0], minlength=layer.size).tolist()
        return counts


def areas_of(network: Network, city: str, districts: Sequence[District] = ()) -> Areas:
    """Areas of a network, by the middles of its segments. Where districts overlap the first one has what lies in both.

    Raises:
        ValueError: a segment that lies nowhere on Earth.
    """
    s = network.segments
    whole = Layer(0, 1, np.zeros(len(s), np.int64))
    if not len(s):
        return Areas([city], ["city"], [None], [whole], whole.of, whole.of, [np.zeros(1, np.int64)])
    east, north = point_at(s.geometry, np.arange(len(s)), s.length_m / 2.0)
    lat, lon = Plane(network.crs).to_wgs84(east, north)
    if not np.isfinite(lat).all():
        raise ValueError(f"network {network.version[:12]}: segment {s.segment_id[int(np.argmin(np.isfinite(lat)))]} has no place on Earth")
    cells = [h3.latlng_to_cell(a, o, RESOLUTION) for a, o in zip(lat.tolist(), lon.tolist(), strict=True)]
    ids, cell = np.unique(cells, return_inverse=True)
    layers = [Layer(0, len(ids), cell.astype(np.int64))]
    if districts:
        of = np.full(len(s), -1, np.int64)
        for k, district in enumerate(districts):
            of[(of < 0) & shapely.contains_xy(district.polygon, lon, lat)] = k
        layers.append(Layer(len(ids), len(districts), of))
    layers.append(replace(whole, begin=sum(x.size for x in layers)))
    pieces, piece = np.unique(np.column_stack([layer.of for layer in layers]), axis=0, return_inverse=True)
    piece = piece.reshape(-1).astype(np.int64)
    return Areas(
        [*ids.tolist(), *(f"district/{d.district_id}" for d in districts), city],
        ["h3_8"] * len(ids) + ["district"] * len(districts) + ["city"],
        [None] * len(ids) + [d.name for d in districts] + [None],
        layers, piece, np.argsort(piece, kind="stable"), list(np.ascontiguousarray(pieces.T)),
    )  # fmt: skip
