"""An invented town: the same each time, inside its border, one piece, and plainly invented."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import shapely

from connectors import cities
from connectors.borders import border
from geo import store
from geo.generated import generate
from geo.network import Network
from geo.project import Plane
from models.errors import ConfigError

#: A lake shore: a square of some kilometres that lacks a bay.
SHORE = shapely.Polygon([(23.60, 61.40), (23.90, 61.40), (23.90, 61.60), (23.78, 61.60), (23.76, 61.51), (23.74, 61.60), (23.60, 61.60)])


def reached(network: Network, ends: Iterable[tuple[int, int]]) -> set[int]:
    after: dict[int, list[int]] = {}
    for a, b in ends:
        after.setdefault(a, []).append(b)
    start = int(network.segments.from_node[[r == "general_traffic" for r in network.segments.represents].index(True)])
    seen, todo = {start}, [start]
    while todo:
        for n in after.get(todo.pop(), []):
            if n not in seen:
                seen.add(n)
                todo.append(n)
    return seen


@pytest.mark.parametrize("seed", [1, 2, 77])
def test_every_street_lies_inside_and_leads_everywhere_and_back(seed: int) -> None:
    network = generate("tampere", SHORE, seed=seed, centre=(61.50, 23.75), trams=("1",))
    s = network.segments
    lat, lon = Plane(network.crs).to_wgs84(s.geometry.east_m, s.geometry.north_m)
    assert shapely.contains_xy(SHORE, lon, lat).all()
    street = [i for i, r in enumerate(s.represents) if r == "general_traffic"]
    ends = [(int(s.from_node[i]), int(s.to_node[i])) for i in street]
    nodes = {n for pair in ends for n in pair}
    assert reached(network, ends) == reached(network, [(b, a) for a, b in ends]) == nodes
    assert s.length_m.min() > 20
    one_way = sum(s.opposite[i] < 0 for i in street) / len(street)
    assert 0.03 < one_way < 0.4
    assert {"trunk", "primary", "secondary", "tertiary", "residential", "tram"} == set(s.road_class)


@pytest.mark.parametrize("seed", [1, 2, 77])
def test_lines_run_over_segments_that_meet_and_trams_on_rails(seed: int) -> None:
    network = generate("tampere", SHORE, seed=seed, lines=("1", "2", "3"), trams=("1",))
    s, shapes = network.segments, network.shapes
    assert set(network.schedule.by_route) == {(r, d) for r in ("1", "2", "3") for d in (0, 1)}
    for (route, _), (row,) in network.schedule.by_route.items():
        walk = shapes.piece_segment[shapes.piece_start[row] : shapes.piece_start[row + 1]]
        assert np.array_equal(s.to_node[walk[:-1]], s.from_node[walk[1:]])
        assert {s.represents[k] for k in walk} == ({"rail"} if route == "1" else {"general_traffic"})
        stops = shapes.stop_along_m[shapes.stop_start[row] : shapes.stop_start[row + 1]]
        assert len(stops) >= 2
        assert (np.diff(stops) > 50).all()
        assert s.length_m[walk].sum() == pytest.approx(shapes.geometry.along_m[shapes.geometry.start[row + 1] - 1], abs=0.1)


def test_the_same_arguments_give_the_same_network_and_another_seed_gives_another(tmp_path: Path) -> None:
    one, again, other = (generate("x", SHORE, seed=seed) for seed in (5, 5, 6))
    assert one.version == again.version != other.version
    store.save(one, tmp_path)
    assert store.load(tmp_path).version == one.version


def test_everything_says_that_it_is_invented(tmp_path: Path) -> None:
    store.save(generate("x", SHORE), tmp_path)
    network = store.load(tmp_path)
    assert network.generated
    assert "GENERATED" in network.attribution
    assert network.source.startswith("generated")
    assert all(
        i.startswith("gen_") and (n or "").startswith("Invented ")
        for i, n in zip(network.segments.segment_id, network.segments.name, strict=True)
    )


@pytest.mark.parametrize("name", ["espoo", "vantaa", "tampere", "turku", "oulu"])
def test_there_is_room_in_the_municipalities(name: str) -> None:
    city = cities.load(name)
    network = generate(name, border(cities.FOLDER / "municipalities.geojson", city.title).polygon, crs=city.crs)
    assert len(network.segments) > 700


def test_a_polygon_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="room for a town"):
        generate("x", shapely.box(24.0, 60.0, 24.005, 60.003))
