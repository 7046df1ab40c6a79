"""A city's road network in memory: directed segments, the shapes of its routes laid on them, and the schedule that names them.

Everything is columns (numpy), so that matching and fusion vectorise. Positions are metres on the plane ``crs`` (east, north);
distances along a shape or segment are metres in float64. How a network is built and stored: ``geo/build.py``, ``geo/store.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Lines:
    """n polylines, ragged: line i has the vertices ``start[i]:start[i + 1]``."""

    start: I64  #: (n + 1,)
    east_m: F64  #: (vertices,)
    north_m: F64  #: (vertices,)
    along_m: F64  #: (vertices,) distance from the line's own first vertex

    def __len__(self) -> int:
        return len(self.start) - 1


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[list[int]]):
    """n lists of whole numbers in one column: list i is ``values[start[i]:start[i + 1]]``. As objects, the nodes of 150,000 segments would take 40 MB."""

    start: I64  #: (n + 1,)
    values: I64

    def __len__(self) -> int:
        return len(self.start) - 1

    @overload
    def __getitem__(self, i: int) -> list[int]: ...
    @overload
    def __getitem__(self, i: slice) -> list[list[int]]: ...
    def __getitem__(self, i: int | slice) -> list[int] | list[list[int]]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        k = range(len(self))[i]
        found: list[int] = self.values[self.start[k] : self.start[k + 1]].tolist()
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


@dataclass(frozen=True)
class Segments:
    """n directed road segments, split at junctions. Row number = segment index everywhere in the core."""

    segment_id: list[str]  #: stable: from OSM way and node ids and direction, e.g. "w123_4567_8910_f"
    geometry: Lines
    length_m: F64
    from_node: I64  #: (n,) node index 0..nodes-1: a segment's successors are those that start where it ends
    to_node: I64
    road_class: list[str]  #: OSM highway value, "tram", "transit_line"
    represents: list[str]  #: general_traffic, bus_lane, rail
    speed_limit_kmh: F64  #: NaN: unknown
    lanes: I8  #: -1: unknown; lanes in this direction
    bus_lane: I8  #: 1, 0, -1 unknown
    signal: I8  #: 1: a traffic signal at its end, 0 none, -1 unknown
    opposite: I64  #: index of the same street in the other direction, -1 none
    name: list[str | None]
    osm_way_ids: Sequence[list[int]]
    osm_node_ids: Sequence[list[int]] = field(
        default_factory=list
    )  #: of every vertex; empty lists, or none at all, where they are not known

    def __len__(self) -> int:
        return len(self.segment_id)


@dataclass(frozen=True)
class Shapes:
    """Shapes of routes, and the pieces of segments that they run over.

    Pieces of one shape are in order, do not overlap, and may leave gaps (``piece_segment`` -1 is never stored; a gap is where no segment fits).
    """

    shape_id: list[str]
    geometry: Lines
    piece_start: I64  #: (shapes + 1,) pieces of shape i: piece_start[i]:piece_start[i + 1]
    piece_from_m: F64  #: (pieces,) along the shape
    piece_to_m: F64
    piece_segment: I64  #: (pieces,) segment index
    piece_offset_m: F64  #: (pieces,) where on the segment the piece begins, along the segment
    stop_start: I64  #: (shapes + 1,) stops of shape i
    stop_along_m: F64  #: (stops on shapes,) ascending within a shape
    stop_id: list[str]  #: (stops on shapes,)

    def __len__(self) -> int:
        return len(self.shape_id)


@dataclass(frozen=True)
class Schedule:
    """Which shape a trip follows. A trip is known by trip_id, or by route, direction and start time."""

    by_trip_id: dict[str, int]  #: trip_id -> shape index
    by_start: dict[tuple[str, int, str], int]  #: (route_id, direction_id, "HH:MM" 24-hour) -> shape index
    by_route: dict[tuple[str, int], tuple[int, ...]]  #: (route_id, direction_id) -> shape indices, most trips first

    def shape_of(self, *, trip_id: str | None, route_id: str | None, direction_id: int | None, start_time: str | None) -> int:
        """Index of the shape, or -1 when the schedule does not know the trip.

        Start times past 24:00 are folded: feeds differ in whether they use the 30-hour clock, and the pair never collides within a route in practice.
        """
        if trip_id is not None and (found := self.by_trip_id.get(trip_id)) is not None:
            return found
        if route_id is None or direction_id is None:
            return -1
        if start_time is not None:
            hh, _, rest = start_time.partition(":")
            if hh.isdigit():
                found = self.by_start.get((route_id, direction_id, f"{int(hh) % 24:02d}:{rest[:2]}"))
                if found is not None:
                    return found
        candidates = self.by_route.get((route_id, direction_id), ())
        return candidates[0] if candidates else -1


@dataclass(frozen=True)
class Network:
    """A built network. ``version`` is a hash of its content; it travels with every record that depends on it."""

    city: str
    version: str
    crs: str  #: metric plane, e.g. "EPSG:3067"
    segments: Segments
    shapes: Shapes
    schedule: Schedule
    source: str  #: what it was built from, for people
    licence: str
    attribution: str
    generated: bool = False  #: True: invented streets, for demonstration only
    notes: dict[str, str] = field(default_factory=dict)
