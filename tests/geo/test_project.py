import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.project import Plane, default_crs
from models.errors import ConfigError


@given(st.lists(st.tuples(st.floats(59.5, 70.0), st.floats(20.0, 31.5)), min_size=1, max_size=20))
def test_there_and_back_is_the_same_place(places: list[tuple[float, float]]) -> None:
    plane = Plane("EPSG:3067")
    lat, lon = np.array(places).T
    lat2, lon2 = plane.to_wgs84(*plane.to_plane(lat, lon))
    assert np.allclose(lat, lat2, atol=1e-8)
    assert np.allclose(lon, lon2, atol=1e-8)


def test_a_point_does_not_depend_on_its_neighbours() -> None:
    plane = Plane("EPSG:3067")
    lat, lon = np.linspace(60.0, 60.4, 501), np.linspace(24.5, 25.3, 501)
    together = np.column_stack(plane.to_plane(lat, lon))
    alone = np.array([np.concatenate(plane.to_plane(a, b)) for a, b in zip(lat, lon, strict=True)])
    assert together.tobytes() == alone.tobytes()


def test_what_cannot_be_on_the_plane_is_nan() -> None:
    east, north = Plane("EPSG:3067").to_plane([np.nan, 95.0, 60.2], [24.9, 24.9, 24.9])
    assert np.isnan(east).tolist() == np.isnan(north).tolist() == [True, True, False]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:999999", "nonsense", "EPSG:2263"])
def test_a_crs_that_is_no_metric_plane_is_refused_by_name(crs: str) -> None:
    with pytest.raises(ConfigError, match=r"network: crs = .*expected a"):
        Plane(crs)


@given(st.floats(-80, 84), st.floats(-180, 180))
def test_every_place_has_a_metric_plane(lat_deg: float, lon_deg: float) -> None:
    east, north = Plane(default_crs(lat_deg, lon_deg)).to_plane(lat_deg, lon_deg)
    assert np.isfinite([east[0], north[0]]).all()
