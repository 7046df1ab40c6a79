"""Counting sites on the right side of the street."""

from __future__ import annotations

import numpy as np
import pytest

from connectors.columns import Site
from geo.sites import SitePlacer
from tests.streams import kit

NET = kit.network()
PLACER = SitePlacer(NET)


def where(east: float, north: float, direction: str, bearing: float | None = None) -> str | None:
    k = PLACER.place(kit.EAST + east, kit.NORTH + north, direction, bearing)
    return NET.segments.segment_id[k] if k >= 0 else None


@pytest.mark.parametrize(("north", "one", "two"), [(-6.0, "main1_f", "main1_b"), (6.0, "main1_b", "main1_f")])
def test_without_a_bearing_direction_1_is_the_side_that_the_site_stands_on(north: float, one: str, two: str) -> None:
    assert where(300.0, north, "1") == one
    assert where(300.0, north, "2") == two


def test_on_the_centre_line_without_a_bearing_a_site_is_not_placed() -> None:
    assert where(300.0, 0.1, "1") is None
    assert where(300.0, 0.1, "2") is None


def test_a_site_far_from_every_street_is_not_placed() -> None:
    assert where(300.0, 36.0, "1") is None
    assert where(300.0, 36.0, "1", 90.0) is None
    assert where(300.0, -34.0, "1") == "main1_f"


@pytest.mark.parametrize(("bearing", "name"), [(90.0, "main1_f"), (270.0, "main1_b"), (45.0, "main1_f"), (0.0, None)])
def test_with_the_bearing_of_its_own_direction_a_site_lies_on_the_segment_that_runs_that_way(bearing: float, name: str | None) -> None:
    for north in (-6.0, 0.0, 6.0):
        for direction in ("1", "2"):
            assert where(300.0, north, direction, bearing) == name


def test_at_a_junction_the_bearing_chooses_the_street() -> None:
    assert where(1000.0, 5.0, "1", 0.0) == "side0_f"
    assert where(1000.0, 5.0, "1", 180.0) in ("side0_b", "south_e_f")


def test_both_directions_of_a_site_with_bearings_lie_on_opposite_segments() -> None:
    """As the Digitraffic parser tells them: each direction with its own bearing (``connectors.columns.Site``)."""
    sites = [Site(site_id="digitraffic/1", direction=d, lat_deg=0.0, lon_deg=0.0, bearing_deg=b) for d, b in (("1", 90.0), ("2", 270.0))]
    found = [where(500.0, 3.0, s.direction, s.bearing_deg) for s in sites]
    assert found == ["main2_f", "main2_b"]


def test_the_same_site_is_placed_the_same_every_time() -> None:
    rng = np.random.default_rng(5)
    for x, y in rng.uniform((0, -30), (2000, 30), (50, 2)):
        assert where(x, y, "1", 90.0) == where(x, y, "1", 90.0)
