"""Counting sites placed on directed segments."""

from __future__ import annotations

import math

import numpy as np
import shapely

from geo.network import Network


class SitePlacer:
    """Finds the segment that a site counts on, by place and direction."""

    #: A site farther than this from a street is not placed, metres.
    RADIUS_M = 35.0

    def __init__(self, network: Network) -> None:
        s = network.segments
        self._segments = s
        self._rows = np.array([i for i, r in enumerate(s.represents) if r == "general_traffic"], np.int64)
        g = s.geometry
        self._lines = [
            shapely.linestrings(np.column_stack([g.east_m[g.start[i] : g.start[i + 1]], g.north_m[g.start[i] : g.start[i + 1]]]))
            for i in self._rows
        ]
        self._tree = shapely.STRtree(self._lines)

    def place(self, east_m: float, north_m: float, direction: str, bearing_deg: float | None) -> int:
        """Segment index, or -1 when the place or the direction stays unknown.

        With a bearing (the course of the traffic of this very direction), the nearest segment that runs that way. Without one, direction "1" is the side of the street
        that the site stands on (traffic keeps right), and "2" the other; a site on the centre line of a two-way street stays unplaced.
        """
        point = shapely.Point(east_m, north_m)
        near = sorted((float(shapely.distance(point, self._lines[k])), int(k)) for k in self._tree.query(point, "dwithin", self.RADIUS_M))
        if not near:
            return -1
        if bearing_deg is not None:
            want = math.radians(bearing_deg)
            for _, k in near:
                dx, dy, _ = self._course(k, point)
                if dx * math.sin(want) + dy * math.cos(want) > math.cos(math.radians(60)):
                    return int(self._rows[k])
            return -1
        first = int(self._rows[near[0][1]])
        opposite = int(self._segments.opposite[first])
        if opposite < 0:
            return first if direction == "1" else -1
        right = self._course(near[0][1], point)[2]
        if abs(right) < 0.5:
            return -1
        this, other = (first, opposite) if right > 0 else (opposite, first)
        return this if direction == "1" else other

    def _course(self, k: int, point: shapely.Point) -> tuple[float, float, float]:
        """Unit direction of a segment at its foot point, and how far to the right of it the point lies, metres."""
        line = self._lines[k]
        at = float(shapely.line_locate_point(line, point))
        a = shapely.line_interpolate_point(line, max(0.0, at - 2.0))
        b = shapely.line_interpolate_point(line, min(float(line.length), at + 2.0))
        dx, dy = b.x - a.x, b.y - a.y
        norm = math.sqrt(dx * dx + dy * dy) or 1.0
        dx, dy = dx / norm, dy / norm
        return dx, dy, (point.x - a.x) * dy - (point.y - a.y) * dx
