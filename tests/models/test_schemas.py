"""Published schemas: generated, committed, and only ever growing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from models import schemas
from models.emission_records import AreaState, KmByLos
from models.line_records import LineFluency
from models.records import FeedHealth, Segment, SegmentState, SourceMix, VehiclePosition, encode
from models.topics import PRODUCTS

COMMITTED = Path(__file__).parents[2] / "docs" / "schemas"
T = "2026-03-10T05:30:00.000Z"
EXAMPLES = {
    "vehicle-position": VehiclePosition(vehicle_id="0018/00423", event_time=T, ingest_time=T, feed="hfp", lat_deg=60.1, lon_deg=24.9, delay_s=-3),
    "segment-state": SegmentState(
        segment_id="w1_2_3_f", window_start=T, window_end=T, status="final", revision=3, origin="measured", confidence=0.8,
        represents="general_traffic", algorithm="edie-1", speed_kmh=0.0, los="F", source_mix=SourceMix(probe=1.0),
    ),
    "area-state": AreaState(
        area_id="881126d33bfffff", area_kind="h3_8", window_start=T, window_end=T, status="final", revision=3,
        km_by_los=KmByLos(A=1.0, B=0.0, C=0.0, D=0.0, E=0.0, F=0.0, unknown=0.0), coverage_pct=0.0, vehicles=0, segments=4, confidence=0.0,
    ),
    "line-fluency": LineFluency(
        route_id="1001", direction_id=0, mode="bus", window_start=T, window_end=T, status="final", revision=3, vehicles=2, coverage_pct=99.0
    ),
    "feed-health": FeedHealth(feed="hfp", event_time=T, state="ok", since=T, messages_s=0.0),
    "segment": Segment(
        segment_id="w1_2_3_f", network_version="v", geometry={"type": "LineString", "coordinates": [[24.9, 60.1], [24.91, 60.1]]}, length_m=1.0,
        road_class="primary", represents="general_traffic",
    ),
}  # fmt: skip


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_committed_schema_is_the_generated_one(product: str) -> None:
    committed = COMMITTED / schemas.file_name(PRODUCTS[product])
    assert committed.read_bytes() == schemas.encoded(product), "run: python -c 'from models import schemas; schemas.write(...)' and commit"


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_schema_is_valid_2020_12_has_no_null_and_allows_unknown_fields(product: str) -> None:
    schema = schemas.schema(product)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert b"null" not in schemas.encoded(product)
    assert schema["additionalProperties"] is True
    assert schema["$id"].endswith(f"/{product}.v1.json")
    assert schema["title"]
    assert schema["description"]


@pytest.mark.parametrize("product", EXAMPLES)
def test_a_record_as_published_fits_its_schema_and_a_null_does_not(product: str) -> None:
    validator = jsonschema.Draft202012Validator(schemas.schema(product))
    value = msgspec.json.decode(encode(EXAMPLES[product]))
    validator.validate(value)
    validator.validate({**value, "a_field_of_next_year": 1})
    optional = next(name for name in schemas.schema(product)["properties"] if name not in schemas.schema(product)["required"])
    assert list(validator.iter_errors({**value, optional: None}))


def test_a_field_comment_becomes_its_description_also_when_it_stands_on_the_next_line() -> None:
    position = schemas.schema("vehicle-position")["properties"]
    assert position["delay_s"]["description"] == "late is positive"
    assert position["event_time"]["description"] == "when it happened by the sender's clock (RFC 3339, UTC, milliseconds)"
    mix = schemas.schema("segment-state")["properties"]["source_mix"]
    assert mix["properties"]["loop"]["description"] == "counting sites on this segment", "a record inside a record too"
    assert "DATEX II" in schemas.schema("sensor-observation")["properties"]["fault"]["description"]


def test_what_a_record_inherits_keeps_its_descriptions() -> None:
    vehicle = schemas.schema("emission-vehicle")["properties"]
    assert vehicle["nox"]["description"].startswith("g/h, as NO2 equivalents")
    assert vehicle["nox"]["properties"]["lo95"]["minimum"] == 0


def _changed(edit: str) -> dict[str, Any]:
    schema = copy.deepcopy(schemas.schema("segment-state"))
    match edit:
        case "removed field":
            del schema["properties"]["delay_s"]
        case "newly required":
            schema["required"].append("speed_kmh")
        case "no longer required":
            schema["required"].remove("origin")
        case "changed type":
            schema["properties"]["revision"]["type"] = "number"
        case "changed limit":
            schema["properties"]["confidence"]["maximum"] = 100
        case "narrowed enum":
            schema["properties"]["origin"]["enum"].remove("none")
        case "changed inner type":
            schema["properties"]["source_mix"]["properties"]["probe"]["type"] = "string"
        case "new optional field":
            schema["properties"]["queue_m"] = {"type": "number"}
        case "wider enum":
            schema["properties"]["origin"]["enum"].append("simulated")
        case "other words":
            schema["properties"]["speed_kmh"]["description"] = "other words"
    return schema


@pytest.mark.parametrize(
    "edit",
    ["removed field", "newly required", "no longer required", "changed type", "changed limit", "narrowed enum", "changed inner type"],
)
def test_a_change_that_is_not_additive_is_refused(edit: str) -> None:
    assert len(schemas.breaking_changes(schemas.schema("segment-state"), _changed(edit))) == 1


@pytest.mark.parametrize("edit", ["new optional field", "wider enum", "other words"])
def test_an_additive_change_is_accepted(edit: str) -> None:
    assert schemas.breaking_changes(schemas.schema("segment-state"), _changed(edit)) == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_todays_records_only_add_to_the_committed_schemas(product: str) -> None:
    committed = msgspec.json.decode((COMMITTED / schemas.file_name(PRODUCTS[product])).read_bytes())
    assert schemas.breaking_changes(committed, schemas.schema(product)) == []


def test_write_refuses_to_break_what_is_published_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    assert len(schemas.write(tmp_path)) == len(PRODUCTS)
    older = copy.deepcopy(schemas.schema("feed-health"))
    older["properties"]["colour"] = {"type": "string"}
    path = tmp_path / "feed-health.v1.json"
    path.write_bytes(msgspec.json.encode(older))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"feed-health.v1.json: colour: removed"):
        schemas.write(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
