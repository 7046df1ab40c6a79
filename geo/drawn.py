"""What is drawn on a map (roadworks, incidents) placed on directed segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from geo.network import Network
from geo.project import Plane


class DrawnPlacer:
    """Finds the segments that a GeoJSON geometry lies on. Drawings seldom say which side of the street they mean, so both directions are found."""

    #: A point farther than this from a street is on none, metres; streets within ``SAME_M`` of the nearest are meant with it (the two directions).
    RADIUS_M, SAME_M = 35.0, 8.0
    #: A drawn line runs along a segment when this share of the shorter of the two lies within ``ALONG_M`` of the other.
    ALONG_M, SHARE = 20.0, 0.6
    #: More segments than this are a region, not a place: none is named.
    MOST = 400

    def __init__(self, network: Network, plane: Plane) -> None:
        g = network.segments.geometry
        points = np.column_stack([g.east_m, g.north_m])
        owner = np.repeat(np.arange(len(network.segments)), np.diff(g.start))
        self._ids = network.segments.segment_id
        self._lines = shapely.linestrings(points, indices=owner)
        self._tree = shapely.STRtree(self._lines)
        self._plane = plane

    def place(self, geometry: dict[str, Any]) -> list[str]:
        """Segment ids, in the network's order; empty: on no street, or over a whole region.

        Args:
            geometry: GeoJSON in degrees, as ``connectors.geojson.checked`` gives it.
        """
        found: set[int] = set()
        for part in _parts(geometry):
            found |= self._part(part["type"], part["coordinates"])
            if len(found) > self.MOST:
                return []
        return [self._ids[k] for k in sorted(found)]

    def _part(self, kind: str, coordinates: Any) -> set[int]:
        if kind == "Point":
            return self._near(shapely.Point(self._xy([coordinates])[0]))
        xy = self._xy(coordinates[0] if kind == "Polygon" else coordinates)
        if kind == "LineString":
            return self._along(shapely.linestrings(xy)) if len(xy) > 1 else self._near(shapely.Point(xy[0]))
        if len(xy) < 4:
            return set()
        area = shapely.make_valid(shapely.polygons(xy))
        hit = self._tree.query(area, "intersects")
        if len(hit) > self.MOST:
            return set(hit.tolist())
        lines = self._lines[hit]
        inside = shapely.length(shapely.intersection(lines, area)) >= 0.5 * shapely.length(lines)
        return set(hit[inside].tolist())

    def _near(self, point: shapely.Point) -> set[int]:
        hit = self._tree.query(point, "dwithin", self.RADIUS_M)
        if not len(hit):
            return set()
        far = shapely.distance(self._lines[hit], point)
        return set(hit[far <= far.min() + self.SAME_M].tolist())

    def _along(self, line: shapely.LineString) -> set[int]:
        if line.length < 1.0:
            return self._near(shapely.Point(line.coords[0]))
        around = shapely.buffer(line, self.ALONG_M, quad_segs=4)
        hit = self._tree.query(around, "intersects")
        lines = self._lines[hit]
        shared = shapely.length(shapely.intersection(lines, around))
        shorter = np.minimum(shapely.length(lines), line.length)
        return set(hit[shared >= self.SHARE * shorter].tolist())

    def _xy(self, coordinates: list[list[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        lon, lat = np.array(coordinates, np.float64).T
        east, north = self._plane.to_plane(lat, lon)
        return np.column_stack([east, north])


def _parts(geometry: dict[str, Any]) -> list[dict[str, Any]]:
    """Points, lines and polygons of a geometry, one by one."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        return [p for g in geometry["geometries"] for p in _parts(g)]
    if kind.startswith("Multi"):
        return [{"type": kind.removeprefix("Multi"), "coordinates": c} for c in geometry["coordinates"]]
    return [geometry]
