"""Where a city ends: a polygon of a GeoJSON file beside the city files. Every place belongs to one city at most, since neighbours share their border's points."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

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
    try:
        features = json.loads(file.read_text("utf-8"))["features"]
        known = {f["properties"]["name"]: f["geometry"] for f in features}
        polygon = shapely.from_geojson(json.dumps(known[name]))
    except OSError as e:
        raise ConfigError(file.name, "file", str(file), f"a file that can be read ({e.strerror})") from e
    except (ValueError, KeyError, TypeError, shapely.GEOSException) as e:
        raise ConfigError(file.name, "area", name, want) from e
    if polygon.geom_type not in ("Polygon", "MultiPolygon") or polygon.is_empty or not polygon.is_valid:
        raise ConfigError(file.name, "area", name, want)
    return Border(polygon)
