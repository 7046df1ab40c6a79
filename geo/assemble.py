"""From loose rows of streets to the columns of a network; every loader ends here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geo import polylines
from geo.network import Schedule, Segments, Shapes


@dataclass(slots=True)
class Street:
    """One directed segment while it is being built. Nodes are any hashable, sortable names of places (OSM node ids, grid cells)."""

    segment_id: str
    points: NDArray[np.float64]  #: (k, 2) east, north, metres
    from_node: object
    to_node: object
    road_class: str
    represents: str = "general_traffic"
    speed_limit_kmh: float = float("nan")
    lanes: int = -1
    bus_lane: int = -1
    signal: int = -1
    opposite: str | None = None  #: segment_id of the same street in the other direction
    name: str | None = None
    osm_way_ids: list[int] = field(default_factory=list)
    osm_node_ids: list[int] = field(default_factory=list)  #: of every vertex, in the direction of travel


def segments(streets: Sequence[Street]) -> Segments:
    """Columns of the streets, ordered by segment_id, so that the order of the source never shows.

    Raises:
        ValueError: two streets share an id.
    """
    rows = sorted(streets, key=lambda street: street.segment_id)
    ids = [row.segment_id for row in rows]
    place = {segment_id: index for index, segment_id in enumerate(ids)}
    if len(place) != len(ids):
        twice = next(a for a, b in pairwise(ids) if a == b)
        raise ValueError(f"segment_id = {twice!r}, expected every id once")
    nodes: dict[object, int] = {}
    ends = np.array([[nodes.setdefault(row.from_node, len(nodes)), nodes.setdefault(row.to_node, len(nodes))] for row in rows], np.int64)
    ends = ends.reshape(-1, 2)
    geometry = polylines.from_parts([row.points for row in rows])
    return Segments(
        segment_id=ids,
        geometry=geometry,
        length_m=polylines.lengths(geometry),
        from_node=np.ascontiguousarray(ends[:, 0]),
        to_node=np.ascontiguousarray(ends[:, 1]),
        road_class=[row.road_class for row in rows],
        represents=[row.represents for row in rows],
        speed_limit_kmh=np.array([row.speed_limit_kmh for row in rows], np.float64),
        lanes=np.array([row.lanes for row in rows], np.int8),
        bus_lane=np.array([row.bus_lane for row in rows], np.int8),
        signal=np.array([row.signal for row in rows], np.int8),
        opposite=np.array([place.get(row.opposite, -1) if row.opposite else -1 for row in rows], np.int64),
        name=[row.name for row in rows],
        osm_way_ids=[list(row.osm_way_ids) for row in rows],
        osm_node_ids=[list(row.osm_node_ids) for row in rows],
    )


#: A piece of a segment under a shape: from_m and to_m along the shape, segment index, offset_m along the segment.
Piece = tuple[float, float, int, float]
#: A stop on a shape: metres along it, stop_id.
Stop = tuple[float, str]


def shapes(
    shape_id: Sequence[str],
    points: Sequence[NDArray[np.float64]],
    pieces: Sequence[Sequence[Piece]],
    stops: Sequence[Sequence[Stop]] | None = None,
) -> Shapes:
    """Columns of shapes with their pieces and stops, in the order given. Distances are rounded to 1 mm."""
    stops = stops if stops is not None else [()] * len(shape_id)
    piece_start = np.zeros(len(shape_id) + 1, np.int64)
    stop_start = np.zeros(len(shape_id) + 1, np.int64)
    np.cumsum([len(p) for p in pieces], out=piece_start[1:])
    np.cumsum([len(s) for s in stops], out=stop_start[1:])
    flat = [piece for own in pieces for piece in own]
    on_shapes = [stop for own in stops for stop in own]
    return Shapes(
        shape_id=list(shape_id),
        geometry=polylines.from_parts(points),
        piece_start=piece_start,
        piece_from_m=polylines.grid_mm([p[0] for p in flat]),
        piece_to_m=polylines.grid_mm([p[1] for p in flat]),
        piece_segment=np.array([p[2] for p in flat], np.int64),
        piece_offset_m=polylines.grid_mm([p[3] for p in flat]),
        stop_start=stop_start,
        stop_along_m=polylines.grid_mm([s[0] for s in on_shapes]),
        stop_id=[s[1] for s in on_shapes],
    )


def no_shapes() -> Shapes:
    """A network without routes."""
    return shapes([], [], [])


def no_schedule() -> Schedule:
    """A network whose trips are not known."""
    return Schedule({}, {}, {})
