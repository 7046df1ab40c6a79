"""GeoJSON that feeds send, checked before it is passed on: two dimensions, six decimals, on the globe, not endless."""

from __future__ import annotations

from typing import Any

from connectors.cities import Box
from connectors.reading import Refused

#: More positions than this are an area of the country drawn along its lakes: it is named, not drawn.
MOST_POSITIONS = 5_000
#: Nesting of ``coordinates`` down to one position.
_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_WANT = "a GeoJSON geometry: longitude, latitude in degrees"
Position = tuple[float, float]


class TooLarge(Exception):
    """A geometry of more than ``MOST_POSITIONS``."""


def checked(geometry: Any) -> tuple[dict[str, Any], list[Position]]:
    """A geometry as it may be published, and all its positions (longitude, latitude). Features and collections of them become their geometries.

    Raises:
        Refused: not a geometry.
        TooLarge: more positions than are passed on.

    >>> checked({"type": "Point", "coordinates": [25.3407061, 61.236357, 0]})
    ({'type': 'Point', 'coordinates': [25.340706, 61.236357]}, [(25.340706, 61.236357)])
    """
    geometries = [g for g in _geometries(geometry, 3) if g is not None]
    positions: list[Position] = []
    out = [_one(g, positions) for g in geometries]
    if not out:
        raise Refused("missing", "geometry", None, _WANT)
    return (out[0] if len(out) == 1 else {"type": "GeometryCollection", "geometries": out}), positions


def touches(positions: list[Position], box: Box) -> bool:
    """Whether the rectangle around the positions touches the box."""
    lons, lats = [p[0] for p in positions], [p[1] for p in positions]
    return min(lons) <= box.east and max(lons) >= box.west and min(lats) <= box.north and max(lats) >= box.south


def middle(positions: list[Position]) -> tuple[float, float]:
    """Latitude and longitude of the middle of the rectangle around the positions."""
    lons, lats = [p[0] for p in positions], [p[1] for p in positions]
    return (min(lats) + max(lats)) / 2, (min(lons) + max(lons)) / 2


def _geometries(value: Any, levels: int) -> list[Any]:
    if not isinstance(value, dict) or levels == 0:
        raise Refused("bad_type", "geometry", type(value).__name__, _WANT)
    kind = value.get("type")
    if kind == "Feature":
        inner = value.get("geometry")
        return [] if inner is None else _geometries(inner, levels - 1)
    if kind in ("FeatureCollection", "GeometryCollection"):
        members = value.get("features" if kind == "FeatureCollection" else "geometries")
        if not isinstance(members, list):
            raise Refused("bad_type", "geometry", kind, _WANT)
        return [g for m in members for g in _geometries(m, levels - 1)]
    return [value]


def _one(geometry: dict[str, Any], positions: list[Position]) -> dict[str, Any]:
    kind = geometry.get("type")
    if not isinstance(kind, str) or kind not in _DEPTH:
        raise Refused("bad_type", "geometry.type", str(kind)[:60], f"one of {', '.join(_DEPTH)}")
    return {"type": kind, "coordinates": _coordinates(geometry.get("coordinates"), _DEPTH[kind], positions)}


def _coordinates(value: Any, depth: int, positions: list[Position]) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise Refused("bad_type", "geometry.coordinates", type(value).__name__, _WANT)
    if depth:
        return [_coordinates(v, depth - 1, positions) for v in value]
    if len(value) < 2 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value[:2]):
        raise Refused("bad_type", "geometry.coordinates", str(value[:2])[:60], _WANT)
    lon, lat = value[0], value[1]
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise Refused("range", "geometry.coordinates", str(value[:2])[:60], _WANT)
    if len(positions) >= MOST_POSITIONS:
        raise TooLarge
    position = (round(float(lon), 6), round(float(lat), 6))
    positions.append(position)
    return list(position)
