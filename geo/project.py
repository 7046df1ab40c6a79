"""Between degrees and the metric plane of a city."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geo.network import F64
from models.errors import ConfigError

#: ETRS-TM35FIN, the plane of Finland's open data, and the box (south, west, north, east) in which it is the default.
FINLAND = "EPSG:3067"
FINLAND_BOX_DEG = (59.4, 19.0, 70.2, 31.7)


@lru_cache(maxsize=32)
def _transformers(crs: str) -> tuple[Transformer, Transformer]:
    try:
        plane = CRS.from_user_input(crs)
    except CRSError as error:
        raise ConfigError("network", "crs", crs, "a coordinate system that PROJ knows, e.g. EPSG:3067") from error
    axes = plane.axis_info
    if not plane.is_projected or any(axis.unit_conversion_factor != 1.0 for axis in axes):
        raise ConfigError("network", "crs", crs, "a projected coordinate system in metres, e.g. EPSG:3067")
    return (
        Transformer.from_crs("EPSG:4326", plane, always_xy=True),
        Transformer.from_crs(plane, "EPSG:4326", always_xy=True),
    )


class Plane:
    """A metric plane such as EPSG:3067. Each point is transformed by itself: the result does not depend on its neighbours.

    A point that cannot be on the plane (NaN, a latitude of 91) becomes NaN, never infinity.

    >>> east, north = Plane("EPSG:3067").to_plane(60.1699, 24.9384)
    >>> round(float(east[0])), round(float(north[0]))
    (385611, 6672118)
    """

    def __init__(self, crs: str) -> None:
        self.crs = crs
        self._forward, self._backward = _transformers(crs)

    def to_plane(self, lat_deg: ArrayLike, lon_deg: ArrayLike) -> tuple[F64, F64]:
        """(east_m, north_m) of WGS 84 degrees."""
        return _apply(self._forward, lon_deg, lat_deg)

    def to_wgs84(self, east_m: ArrayLike, north_m: ArrayLike) -> tuple[F64, F64]:
        """(lat_deg, lon_deg) of metres on the plane."""
        lon, lat = _apply(self._backward, east_m, north_m)
        return lat, lon


def _apply(transformer: Transformer, x: ArrayLike, y: ArrayLike) -> tuple[F64, F64]:
    a, b = transformer.transform(np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64)))
    bad = ~(np.isfinite(a) & np.isfinite(b))
    if bad.any():
        a, b = np.where(bad, np.nan, a), np.where(bad, np.nan, b)
    return a, b


def default_crs(lat_deg: float, lon_deg: float) -> str:
    """The usual metric plane at a place: ETRS-TM35FIN in Finland, elsewhere the UTM zone of WGS 84.

    >>> default_crs(60.17, 24.94), default_crs(48.85, 2.35), default_crs(-33.9, 151.2)
    ('EPSG:3067', 'EPSG:32631', 'EPSG:32756')
    """
    if not (-90 <= lat_deg <= 90 and -180 <= lon_deg <= 180):
        raise ValueError(f"place = {lat_deg}, {lon_deg}, expected degrees of latitude and longitude")
    south, west, north, east = FINLAND_BOX_DEG
    if south <= lat_deg <= north and west <= lon_deg <= east:
        return FINLAND
    zone = min(60, int((lon_deg + 180) // 6) + 1)
    return f"EPSG:{(32600 if lat_deg >= 0 else 32700) + zone}"
