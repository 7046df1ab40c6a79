"""Drawn roadworks and incidents lie on the streets that they are drawn along."""

from __future__ import annotations

from typing import Any

import pytest

from geo.drawn import DrawnPlacer
from tests.streams import kit

NET = kit.network()
PLACER = DrawnPlacer(NET, kit.PLANE)


def ll(*points: tuple[float, float]) -> list[list[float]]:
    """GeoJSON positions of places in metres from the little city's corner."""
    out = []
    for east, north in points:
        lat, lon = kit.degrees(kit.EAST + east, kit.NORTH + north)
        out.append([lon, lat])
    return out


def placed(kind: str, coordinates: Any) -> list[str]:
    return PLACER.place({"type": kind, "coordinates": coordinates})


def middle(segment_id: str) -> tuple[float, float]:
    k = NET.segments.segment_id.index(segment_id)
    g = NET.segments.geometry
    a, b = g.start[k], g.start[k + 1] - 1
    return (g.east_m[a] + g.east_m[b]) / 2 - kit.EAST, (g.north_m[a] + g.north_m[b]) / 2 - kit.NORTH


def test_a_point_is_on_both_directions_of_its_street_and_on_no_other() -> None:
    east, north = middle("main1_f")
    assert set(placed("Point", ll((east, north + 3))[0])) == {"main1_f", "main1_b"}


def test_a_point_far_from_every_street_is_on_none() -> None:
    east, north = middle("main1_f")
    assert placed("Point", ll((east, north - 80))[0]) == []


def test_a_line_is_on_the_streets_that_it_runs_along_and_not_on_those_that_it_crosses() -> None:
    (e1, n1), (e2, _) = middle("main0_f"), middle("main3_f")
    found = placed("LineString", ll((e1 - 95, n1 + 4), (e2 + 95, n1 + 4)))
    assert {"main0_f", "main0_b", "main1_f", "main2_b", "main3_f"} <= set(found)
    assert all(s.startswith("main") for s in found)


def test_a_short_line_is_on_the_street_of_which_it_covers_a_part() -> None:
    east, north = middle("main1_f")
    assert set(placed("LineString", ll((east - 15, north), (east + 15, north)))) == {"main1_f", "main1_b"}


def test_an_area_holds_the_streets_in_it_and_a_region_names_none() -> None:
    east, north = middle("main1_f")
    ring = [
        (east - 110, north - 20),
        (east + 110, north - 20),
        (east + 110, north + 20),
        (east - 110, north + 20),
        (east - 110, north - 20),
    ]
    assert set(placed("Polygon", [ll(*ring)])) == {"main1_f", "main1_b"}
    small = DrawnPlacer(NET, kit.PLANE)
    small.MOST = 3
    wide = [(-5000, -5000), (5000, -5000), (5000, 5000), (-5000, 5000), (-5000, -5000)]
    assert small.place({"type": "Polygon", "coordinates": [ll(*wide)]}) == []


def test_parts_add_up_in_the_networks_order() -> None:
    a, b = ll(middle("main3_f"))[0], ll(middle("main0_f"))[0]
    both = placed("MultiPoint", [a, b])
    assert both == sorted(both, key=NET.segments.segment_id.index)
    assert set(both) == set(placed("Point", a)) | set(placed("Point", b))
    assert PLACER.place({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": p} for p in (a, b)]}) == both


@pytest.mark.parametrize(
    ("kind", "coordinates"),
    [
        ("Point", [179.0, 89.0]),
        ("LineString", [[24.9, 60.1]]),
        ("LineString", [[24.9, 60.1], [24.9, 60.1]]),
        ("LineString", [[-179.0, -89.0], [179.0, 89.0]]),
        ("Polygon", [[[24.9, 60.1], [24.91, 60.1]]]),
        ("Polygon", [[[24.9, 60.1], [24.91, 60.11], [24.9, 60.11], [24.91, 60.1], [24.9, 60.1]]]),
    ],
)
def test_a_drawing_that_is_none_is_on_no_street(kind: str, coordinates: Any) -> None:
    assert placed(kind, coordinates) == []
