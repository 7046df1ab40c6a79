"""Vector tiles of a city's street segments: geometry and what never changes. States are joined to them by ``segment_id`` where they are shown.

So a tile stays the same until the network changes, and can be kept by every cache on its way. Generalised by zoom: from afar only main streets and lines, all of
them simplified to half a pixel.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from typing import Annotated

import msgspec
import numpy as np
import shapely
from msgspec import Meta
from numpy.typing import NDArray

from serve import mvt
from serve.http import Body
from serve.state import HeldSegment, Picture

CONTENT_TYPE = "application/vnd.mapbox-vector-tile"
LAYER = "segments"
#: Deepest zoom with tiles of its own; maps draw them at deeper zooms too (a unit of it is 30 cm at 60° N).
MAX_ZOOM = 14
#: From which zoom on a class of street is in the tiles; seen from farther away, small streets would hide the main ones.
MAIN_ZOOM, ALL_ZOOM = 8, 12
FIRST = frozenset({"motorway", "trunk", "primary", "motorway_link", "trunk_link", "transit_line", "tram"})
MAIN = FIRST | {"secondary", "tertiary", "primary_link", "secondary_link"}
#: Names and lengths are in the tiles from this zoom on.
NAMES_ZOOM = 14
#: Drawn beyond the edge, so that wide lines meet there: tile units, 8 a pixel.
BUFFER = 128
#: A line may be off by this much, tile units. The deepest tile is drawn larger than it is.
TOLERANCE, DEEPEST_TOLERANCE = 4.0, 1.0
#: Tiles kept for each city, bytes.
KEEP_BYTES = 48 * 1024 * 1024
#: Web Mercator ends here.
_MAX_LAT_DEG = 85.051128


class _Line(msgspec.Struct):
    coordinates: Annotated[list[list[float]], Meta(min_length=2)]


_decode = msgspec.json.Decoder(_Line).decode


class _Fixed(msgspec.Struct):
    road_class: str = ""
    length_m: float = 0.0
    name: str | None = None


_decode_fixed = msgspec.json.Decoder(_Fixed).decode


def mercator(lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) places on the square of web maps: x to the east, y to the south, both 0-1.

    >>> mercator(np.array([0.0]), np.array([0.0])).tolist()
    [[0.5, 0.5]]
    """
    lat = np.radians(np.clip(lat_deg, -_MAX_LAT_DEG, _MAX_LAT_DEG))
    return np.column_stack(((lon_deg + 180) / 360, 0.5 - np.arctanh(np.sin(lat)) / (2 * np.pi)))


class Sheet:
    """A network on the plane of web maps, from which tiles are cut. Immutable; made in a thread."""

    def __init__(self, ids: Sequence[str], segments: Sequence[HeldSegment]) -> None:
        self.ids = ids
        coordinates = [_decode(s.geometry).coordinates for s in segments]
        lengths = np.array([len(c) for c in coordinates], dtype=np.int64)
        flat = np.fromiter(
            chain.from_iterable(chain.from_iterable((p[0], p[1]) for p in c) for c in coordinates), np.float64, count=2 * int(lengths.sum())
        ).reshape(-1, 2)
        self.points = mercator(flat[:, 0], flat[:, 1])
        self.begins = np.r_[0, np.cumsum(lengths)]
        starts = self.begins[:-1]
        if len(ids):
            self.boxes = np.column_stack((np.minimum.reduceat(self.points, starts), np.maximum.reduceat(self.points, starts)))
        else:
            self.boxes = np.empty((0, 4))
        fixed = [_decode_fixed(b"{%b}" % s.properties) for s in segments]
        self.classes = [f.road_class for f in fixed]
        self.names = [f.name for f in fixed]
        self.lengths_m = [round(f.length_m) for f in fixed]
        rank = {c: 0 if c in FIRST else 1 if c in MAIN else 2 for c in set(self.classes)}
        self.rank = np.array([rank[c] for c in self.classes], dtype=np.int8)

    def tile(self, z: int, x: int, y: int) -> bytes:
        """One tile; empty when nothing is in it."""
        side = mvt.EXTENT * 2.0**z
        west, north = x * mvt.EXTENT, y * mvt.EXTENT
        edge = np.array([west, north, west + mvt.EXTENT, north + mvt.EXTENT]) + np.array([-BUFFER, -BUFFER, BUFFER, BUFFER])
        low, high = self.boxes[:, :2] * side, self.boxes[:, 2:] * side
        finest = 0 if z < MAIN_ZOOM else 1 if z < ALL_ZOOM else 2
        rows = np.flatnonzero((high >= edge[:2]).all(axis=1) & (low <= edge[2:]).all(axis=1) & (self.rank <= finest))
        if not len(rows):
            return b""
        counts = self.begins[rows + 1] - self.begins[rows]
        owners = np.repeat(np.arange(len(rows)), counts)
        source = np.repeat(self.begins[rows] - np.r_[0, np.cumsum(counts)[:-1]], counts) + np.arange(len(owners))
        local = self.points[source] * side - (west, north)
        lines = shapely.simplify(
            shapely.linestrings(local, indices=owners), DEEPEST_TOLERANCE if z == MAX_ZOOM else TOLERANCE, preserve_topology=False
        )
        over = np.flatnonzero((low[rows] < edge[:2]).any(axis=1) | (high[rows] > edge[2:]).any(axis=1))
        lines[over] = shapely.clip_by_rect(lines[over], -BUFFER, -BUFFER, mvt.EXTENT + BUFFER, mvt.EXTENT + BUFFER)
        pieces, whose = shapely.get_parts(lines, return_index=True)
        is_line = shapely.get_type_id(pieces) == shapely.GeometryType.LINESTRING
        pieces, whose = pieces[is_line], whose[is_line]
        points, piece = shapely.get_coordinates(pieces, return_index=True)
        parts = np.r_[0, np.cumsum(np.bincount(piece, minlength=len(pieces)))]
        of_row = rows.tolist()
        columns: list[tuple[str, Sequence[str | int | None]]] = [
            ("segment_id", [self.ids[r] for r in of_row]),
            ("road_class", [self.classes[r] for r in of_row]),
        ]
        if z >= NAMES_ZOOM:
            columns += [("name", [self.names[r] for r in of_row]), ("length_m", [self.lengths_m[r] for r in of_row])]
        tile = mvt.Tile()
        mvt.lines_layer(tile, LAYER, np.floor(points + 0.5).astype(np.int64), parts.astype(np.int64), whose.astype(np.int64), columns)
        out: bytes = tile.SerializeToString()
        return out


class Tiles:
    """Tiles of one city's picture, made when they are first asked for and kept while the network stays."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._sheet: tuple[int, Sheet] | None = None
        self._kept: OrderedDict[tuple[int, int, int], Body] = OrderedDict()
        self._bytes = 0
        self._lock = asyncio.Lock()

    async def get(self, z: int, x: int, y: int) -> Body:
        """One tile of the network of now. ``x`` and ``y`` must be within the zoom."""
        async with self._lock:
            changes = self.picture.network_changes
            if self._sheet is None or self._sheet[0] != changes:
                ids, _ = self.picture.network()
                held = [self.picture.segments[i] for i in ids]
                self._sheet = (changes, await asyncio.to_thread(Sheet, ids, held))
                self._kept.clear()
                self._bytes = 0
            body = self._kept.get((z, x, y))
            if body is None:
                body = await asyncio.to_thread(_made, self._sheet[1], z, x, y)
                self._kept[z, x, y] = body
                self._bytes += body.size
                while self._bytes > KEEP_BYTES and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].size
            self._kept.move_to_end((z, x, y))
            return body


def _made(sheet: Sheet, z: int, x: int, y: int) -> Body:
    return Body(sheet.tile(z, x, y), CONTENT_TYPE)
