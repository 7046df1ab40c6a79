"""Places that DATEX II only names by ALERT-C codes: on the map where the city has the table of locations, and kept as codes where it has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.cities import load
from connectors.datex2.alertc import table
from connectors.datex2.parse import Parser
from connectors.envelope import SCHEMA, Envelope, Item
from models.errors import ConfigError
from models.records import Situation

FIXTURE = Path(__file__).resolve().parents[2] / "golden" / "fixture.toml"
NOW = 1_773_120_605_000


def feature(code: int, place: list[float] | None, before: int = 0, after: int = 0) -> dict[str, Any]:
    geometry = None if place is None else {"type": "Point", "coordinates": place}
    return {"type": "Feature", "geometry": geometry, "properties": {"locationCode": code, "negOffset": before, "posOffset": after}}


@pytest.fixture
def city(tmp_path: Path) -> Any:
    """Three points on a road one after the other, one on another road far away, and the road itself, which has no place."""
    features = [
        feature(11, [24.90, 60.17], 0, 12),
        feature(12, [24.91, 60.18], 11, 13),
        feature(13, [24.92, 60.17, 0.0], 12),
        feature(40, [27.0, 62.0]),
        feature(1, None),
    ]
    (tmp_path / "codes.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    text = FIXTURE.read_text().replace('family = "datex2"', 'family = "datex2"\nlocations = "codes.geojson"')
    (tmp_path / "town.toml").write_text(text)
    return load(tmp_path / "town.toml")


def stretch(*codes: int, kind: str = "Linear") -> str:
    ends = "".join(
        f"<alertCMethod2{n}PointLocation><alertCLocation><specificLocation>{c}</specificLocation></alertCLocation></alertCMethod2{n}PointLocation>"
        for n, c in zip(("Primary", "Secondary"), codes, strict=False)
    )
    return f"<alertC{kind}><alertCLocationCountryCode>6</alertCLocationCountryCode><alertCLocationTableNumber>17</alertCLocationTableNumber>{ends}</alertC{kind}>"


def parsed(city: Any, *places: str) -> Any:
    group = "".join(f"<groupOfLocations>{p}</groupOfLocations>" for p in places)
    body = (
        '<d2LogicalModel xmlns="http://datex2.eu/schema/2/2_0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><payloadPublication xsi:type="SituationPublication">'
        f'<situation id="A"><situationRecord xsi:type="Accident" id="A1" version="1"><situationRecordVersionTime>2026-03-10T05:20:00Z</situationRecordVersionTime>{group}'
        "</situationRecord></situation></payloadPublication></d2LogicalModel>"
    )  # fmt: skip
    items = (Item(NOW, "https://example.org/situations", body.encode()),)
    return Parser(city.feed("datex2"), city).parse(Envelope(SCHEMA, city.name, "datex2", "datex2", "snapshot", NOW, items))


def said(city: Any, *places: str) -> Situation:
    (stated,) = parsed(city, *places).stated
    assert isinstance(stated.record, Situation)
    return stated.record


@pytest.mark.parametrize("ends", [(11, 13), (13, 11)])
def test_a_stretch_runs_over_the_points_of_its_road(city: Any, ends: tuple[int, int]) -> None:
    way = [[24.90, 60.17], [24.91, 60.18], [24.92, 60.17]]
    record = said(city, stretch(*ends))
    assert record.geometry == {"type": "LineString", "coordinates": way if ends == (11, 13) else way[::-1]}
    assert record.location_codes == [f"6:17:{c}" for c in ends]


def test_points_are_points_and_several_stretches_several_lines(city: Any) -> None:
    assert said(city, stretch(12, kind="Point")).geometry == {"type": "Point", "coordinates": [24.91, 60.18]}
    both = said(city, stretch(11, 12), stretch(12, 13)).geometry
    assert both is not None
    assert both["type"] == "MultiLineString"


def test_where_there_is_no_table_or_no_such_code_the_codes_are_kept_and_nothing_is_drawn(city: Any) -> None:
    assert (said(city, stretch(11, 99)).geometry, said(city, stretch(11, 99)).location_codes) == (None, ["6:17:11", "6:17:99"])
    without = said(load(FIXTURE), stretch(11, 13))
    assert (without.geometry, without.location_codes) == (None, ["6:17:11", "6:17:13"])


def test_coordinates_count_before_codes_and_a_coded_place_elsewhere_is_another_citys(city: Any) -> None:
    point = "<locationForDisplay><latitude>60.2</latitude><longitude>24.95</longitude></locationForDisplay>"
    assert said(city, point + stretch(11, 13)).geometry == {"type": "Point", "coordinates": [24.95, 60.2]}
    assert parsed(city, stretch(40, kind="Point")).passed == {"outside_box": 1}


@pytest.mark.parametrize("text", ["", "{}", '{"features": []}', '{"features": [{"properties": {"locationCode": "x"}}]}'])
def test_a_table_that_is_none_is_named_before_anything_is_touched(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.geojson").write_text(text)
    with pytest.raises(ConfigError, match="locations"):
        table(tmp_path / "t.geojson")


def test_every_code_of_finlands_situations_is_kept(shared: Path) -> None:
    city = load(FIXTURE)
    for file in ("roadworks_20260714.xml", "v3_5_GUID50456943.xml"):
        body = (shared / "feeds/national/digitraffic/datex2_situation" / file).read_bytes()
        feed = msgspec.structs.replace(city.feed("datex2"), areas=())
        got = Parser(feed, city).parse(Envelope(SCHEMA, city.name, "datex2", "datex2", "snapshot", NOW, (Item(NOW, file, body),)))
        assert all(s.record.geometry is None and s.record.location_codes for s in got.stated)  # type: ignore[attr-defined]
        assert got.stated
