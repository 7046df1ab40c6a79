"""Where a city ends, and which districts it has: polygons of GeoJSON files. Every place belongs to one city at most, since neighbours share their border's points."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from models.errors import ConfigError


class Border:
    """A polygon in degrees, WGS 84."""

    def __init__(self, polygon: shapely.Geometry) -> None:
        shapely.prepare(polygon)
        self.polygon = polygon

    def mask(self, lat_deg: NDArray[np.float64], lon_deg: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether each place lies inside; a place that is not known (NaN) does not."""
        inside: NDArray[np.bool_] = shapely.contains_xy(self.polygon, lon_deg, lat_deg)
        return inside

    def holds(self, lat_deg: float, lon_deg: float) -> bool:
        return bool(shapely.contains_xy(self.polygon, lon_deg, lat_deg))

    def touches(self, geometry: dict[str, object]) -> bool:
        """Whether a GeoJSON geometry and the polygon have a point in common."""
        return bool(self.polygon.intersects(shapely.from_geojson(json.dumps(geometry))))


@lru_cache(maxsize=64)
def border(file: Path, name: str) -> Border:
    """The polygon of the feature called ``name``.

    Raises:
        ConfigError: no such file or feature, or it is not a polygon.
    """
    want = f"the name of a polygon in {file.name}"
    for feature in _features(file, "area", name, want):
        if feature.get("properties", {}).get("name") == name:
            return Border(_polygon(feature, file, "area", name, want))
    raise ConfigError(file.name, "area", name, want)


@dataclass(frozen=True)
class District:
    """A part of a city that figures are summed up for."""

    district_id: str
    name: str | None
    polygon: shapely.Geometry


@lru_cache(maxsize=16)
def districts(file: Path) -> tuple[District, ...]:
    """Every feature of a GeoJSON file, in its order: ``id`` (of the feature or among its properties), else ``name``, names it.

    Raises:
        ConfigError: no such file, no features, one without a name or with that of another, or one that is not a polygon.
    """
    want = "a GeoJSON FeatureCollection of polygons in degrees, each with an id or a name of its own"
    out: dict[str, District] = {}
    for k, feature in enumerate(_features(file, "districts", str(file), want)):
        properties = feature.get("properties") or {}
        named = next((x for x in (feature.get("id"), properties.get("id"), properties.get("name")) if x not in (None, "")), None)
        if not isinstance(named, str | int) or isinstance(named, bool) or str(named) in out or len(str(named)) > 100:
            raise ConfigError(file.name, f"features.{k}", named, want)
        name = properties.get("name")
        polygon = _polygon(feature, file, f"features.{k}", str(named), want)
        out[str(named)] = District(str(named), name if isinstance(name, str) and name else None, polygon)
    if not out:
        raise ConfigError(file.name, "features", [], want)
    return tuple(out.values())


def _features(file: Path, key: str, value: str, want: str) -> list[dict[str, Any]]:
    try:
        features = json.loads(file.read_text("utf-8-sig"))["features"]
    except OSError as e:
        raise ConfigError(file.name, "file", str(file), f"a file that can be read ({e.strerror})") from e
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise ConfigError(file.name, key, value, want) from e
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise ConfigError(file.name, key, value, want)
    return features


def _polygon(feature: dict[str, Any], file: Path, key: str, name: str, want: str) -> shapely.Geometry:
    try:
        polygon = shapely.from_geojson(json.dumps(feature.get("geometry")))
    except (ValueError, TypeError, shapely.GEOSException) as e:
        raise ConfigError(file.name, key, name, want) from e
    if polygon is None or polygon.geom_type not in ("Polygon", "MultiPolygon") or polygon.is_empty or not polygon.is_valid:
        raise ConfigError(file.name, key, name, want)
    west, south, east, north = polygon.bounds
    if not (west >= -180 and south >= -90 and east <= 180 and north <= 90):
        raise ConfigError(file.name, key, name, f"{want}; these are not degrees")
    return polygon
