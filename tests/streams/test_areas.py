"""Areas: cells, districts of the city's own and the city itself; each segment in one of each kind at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.borders import districts
from connectors.cities import load
from models.emission_records import AreaState, EmissionArea
from models.errors import ConfigError
from streams.areas import areas_of
from streams.emissions import EmissionSettings, Emitter
from streams.outputs import Outputs
from tests.streams import kit
from tests.streams.test_emissions import W, emitter, estimate, seen


def square(west_m: float, south_m: float, east_m: float, north_m: float) -> dict[str, Any]:
    corners = [(west_m, south_m), (east_m, south_m), (east_m, north_m), (west_m, north_m), (west_m, south_m)]
    lat, lon = kit.PLANE.to_wgs84(np.array([c[0] for c in corners]) + kit.EAST, np.array([c[1] for c in corners]) + kit.NORTH)
    return {"type": "Polygon", "coordinates": [list(zip(lon.tolist(), lat.tolist(), strict=True))]}


def written(folder: Path, features: list[dict[str, Any]], name: str = "parts.geojson") -> Path:
    file = folder / name
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    return file


WEST = {"type": "Feature", "id": "91-1", "properties": {"name": "Länsi"}, "geometry": square(-500, -500, 1001, 1500)}
EAST = {"type": "Feature", "properties": {"name": "Itä"}, "geometry": square(900, -500, 2500, 500)}
NOBODY = {"type": "Feature", "properties": {"id": 7}, "geometry": square(9_000, 9_000, 9_500, 9_500)}


def told(file: Path) -> Outputs:
    city = msgspec.structs.replace(kit.city(), districts=str(file))
    e = emitter()
    e = Emitter(city, kit.network(), e.free_flow_kmh, e.expected_kmh, EmissionSettings())
    return e.final(W, seen(W, estimate(30.0), cells=[(0, 1, 200, 20, 0), (0, 2, 200, 20, 0), (1, 1, 200, 20, 0)]))


def test_districts_are_told_of_beside_cells_and_city_and_hold_what_lies_in_them(tmp_path: Path) -> None:
    out = told(written(tmp_path, [WEST, EAST, NOBODY]))
    emissions = {a.area_id: a for a in (msgspec.json.decode(o.value, type=EmissionArea) for o in out.records["emission-area"])}
    states = {a.area_id: a for a in (msgspec.json.decode(o.value, type=AreaState) for o in out.records["area-state"])}
    assert [a for a in states if states[a].area_kind == "district"] == ["district/91-1", "district/Itä"], "an empty one has no record"
    assert set(emissions) == set(states)
    assert (states["district/91-1"].area_name, emissions["district/Itä"].area_name) == ("Länsi", "Itä")
    groups = areas_of(kit.network(), "helsinki", districts(written(tmp_path, [WEST, EAST, NOBODY]))).layers[1].of
    assert states["district/91-1"].segments == int((groups == 0).sum()) > 0
    assert states["district/Itä"].segments == int((groups == 1).sum()) > 0
    assert (groups == -1).any(), "some streets lie in none"
    assert emissions["district/91-1"].co2_total.value + emissions["district/Itä"].co2_total.value < emissions["helsinki"].co2_total.value
    cells = [a for a in emissions.values() if a.area_kind == "h3_8"]
    assert sum(c.co2_total.value for c in cells) == pytest.approx(emissions["helsinki"].co2_total.value, rel=2e-3)


def test_districts_that_cover_the_city_add_up_to_it(tmp_path: Path) -> None:
    halves = [{**WEST, "geometry": square(-500, -900, 1001, 1500)}, {**EAST, "geometry": square(1001, -900, 2500, 1500)}]
    out = told(written(tmp_path, halves))
    areas = [msgspec.json.decode(o.value, type=EmissionArea) for o in out.records["emission-area"]]
    areas = areas[: len(areas) // 2]  # of five minutes; then those of the last minute
    whole = next(a for a in areas if a.area_kind == "city")
    parts = [a for a in areas if a.area_kind == "district"]
    assert sum(a.segments for a in parts) == whole.segments
    assert sum(a.nox.value for a in parts) == pytest.approx(whole.nox.value, rel=2e-3)
    assert all(a.nox.hi95 / a.nox.value >= whole.nox.hi95 / whole.nox.value for a in parts)


def test_a_city_file_names_its_districts_beside_itself(tmp_path: Path) -> None:
    toml = (Path(__file__).parents[2] / "connectors" / "cities" / "turku.toml").read_text("utf-8")
    written(tmp_path, [WEST, EAST])
    (tmp_path / "town.toml").write_text(toml.replace('name = "turku"', 'name = "town"\ndistricts = "parts.geojson"', 1), "utf-8")
    assert [d.district_id for d in load(tmp_path / "town.toml").district_polygons] == ["91-1", "Itä"]
    assert [d.district_id for d in load("hsl").district_polygons][:2] == ["Espoo", "Helsinki"]
    assert not load("turku").district_polygons


@pytest.mark.parametrize(
    "features",
    [
        [], [WEST, WEST], [{**WEST, "id": None, "properties": {}}], [{**WEST, "geometry": None}], [{**WEST, "geometry": {"type": "Point", "coordinates": [1, 2]}}],
        [{**WEST, "geometry": {"type": "Polygon", "coordinates": [[[385600, 6672100], [385700, 6672100], [385700, 6672200], [385600, 6672100]]]}}], [{**WEST, "id": True}],
    ],
)  # fmt: skip
def test_districts_that_cannot_be_are_refused_with_their_file(tmp_path: Path, features: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match=r"odd\.geojson.*FeatureCollection of polygons"):
        districts(written(tmp_path, features, "odd.geojson"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"features": 5}', '{"features": [5]}', "\x00"])
def test_a_file_of_districts_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.geojson").write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        districts(tmp_path / "odd.geojson")
    with pytest.raises(ConfigError, match="can be read"):
        districts(tmp_path / "none.geojson")
