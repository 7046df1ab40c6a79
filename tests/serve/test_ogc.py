"""OGC API - Features by the abstract tests of its standard (17-069): each test below names those that it is."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit

import jsonschema
import msgspec
import pyogrio
import pytest
import schemathesis
import shapely
from aiohttp import ClientSession

from models import schemas
from models.clock import parse_ms
from models.records import Situation
from models.topics import PRODUCTS
from serve.describe import Public
from serve.ogc import CONFORMS, CRS84
from serve.ogc_document import DEFAULT_LIMIT, MAX_LIMIT
from tests.standards import Standards

ROOT = "/api/v1/ogc"
TOWN = f"{ROOT}/collections/town"
STATES = f"{TOWN}.segment-state/items"
T = "2026-03-10T05:30:00.000Z"
VEHICLES = f"{TOWN}.vehicle-position/items"


@pytest.fixture
def more(fed: Any, town: ModuleType) -> None:
    """Beside five streets: a vehicle and a message without place, and a street of ring shape whose box holds what it does not touch."""
    fed(town.vehicle(3, lat_deg=None, lon_deg=None))
    fed(Situation(situation_id="x/1", kind="incident", event_time=T, ingest_time=T, feed="x"))
    bent = {"type": "LineString", "coordinates": [[24.95, 60.17], [24.96, 60.17], [24.96, 60.18]]}
    fed(msgspec.structs.replace(town.street(9), geometry=bent))
    fed(town.state(9))


async def body_of(client: Any, path: str, status: int = 200) -> Any:
    answer = await client.get(path)
    assert answer.status == status, await answer.text()
    return json.loads(await answer.read())


def link(document: Any, rel: str) -> Any:
    return next((found for found in document["links"] if found["rel"] == rel), None)


async def test_root_op_root_success_and_the_links_lead_there(fed: Any, start: Any) -> None:
    client = await start()
    page = await body_of(client, ROOT)
    assert page == await body_of(client, ROOT + "/") | {"links": page["links"]}
    kinds = {"self": "application/json", "service-desc": "application/vnd.oai.openapi+json", "service-doc": "text/html",
             "conformance": "application/json", "data": "application/json"}  # fmt: skip
    for rel, kind in kinds.items():
        found = link(page, rel)
        assert found["type"].startswith(kind)
        answer = await client.get(urlsplit(found["href"]).path)
        assert (answer.status, answer.content_type) == (200, kind)


async def test_conformance_op_and_success(fed: Any, start: Any) -> None:
    body = await body_of(await start(), f"{ROOT}/conformance")
    assert body["conformsTo"] == list(CONFORMS)
    assert f"{CONFORMS[0].rpartition('/')[0]}/core" in CONFORMS


async def test_api_definition_op_and_success_and_oas30(fed: Any, start: Any) -> None:
    """oas-definition-1, -2, oas-impl, completeness, exceptions-codes, security; fc-limit-, fc-bbox- and fc-time-definition."""
    client = await start()
    answer = await client.get(f"{ROOT}/api")
    assert answer.headers["Content-Type"] == "application/vnd.oai.openapi+json;version=3.0"
    document = json.loads(await answer.read())
    schemathesis.openapi.from_dict(document).validate()
    routes = {r.canonical.removeprefix(ROOT) for r in client.app.router.resources() if r.canonical.startswith(ROOT)}
    named = {path.replace("{collectionId}", "{collection}").replace("{featureId}", "{feature_id}") for path in document["paths"]}
    assert routes == named | {""}
    parameters = {p["name"]: p for p in document["paths"]["/collections/{collectionId}/items"]["get"]["parameters"]}
    for name in ("limit", "bbox", "datetime"):
        assert (parameters[name]["in"], parameters[name]["required"], parameters[name]["style"], parameters[name]["explode"]) == (
            "query", False, "form", False,
        )  # fmt: skip
    bbox = parameters["bbox"]["schema"]
    assert (bbox["type"], bbox["minItems"], bbox["maxItems"], bbox["items"]) == ("array", 4, 6, {"type": "number"})
    assert parameters["limit"]["schema"]["type"] == "integer"
    assert parameters["datetime"]["schema"] == {"type": "string"}
    for path in document["paths"].values():
        assert {"200", "304", "400", "401", "404", "429", "500", "503", "default"} == set(path["get"]["responses"])
    assert document["security"] == [{}, {"key": []}]


async def test_fc_md_op_success_links_items_and_extent(more: None, start: Any) -> None:
    """And sfc-md-op, sfc-md-success: each collection alone says the same as in the list."""
    client = await start(public=Public("https://traffic.example", "kafka:9092"))
    listed = await body_of(client, f"{ROOT}/collections")
    assert link(listed, "self") == {"href": f"https://traffic.example{ROOT}/collections", "rel": "self", "type": "application/json"}
    assert [c["id"] for c in listed["collections"]] == [f"town.{product}" for product in PRODUCTS]
    for one in listed["collections"]:
        assert all({"rel", "type", "href"} <= set(found) for found in one["links"])
        items = link(one, "items")
        assert (items["type"], items["href"]) == (
            "application/geo+json",
            f"https://traffic.example{TOWN.removesuffix('town')}{one['id']}/items",
        )
        assert one["crs"] == [CRS84]
        assert await body_of(client, f"{ROOT}/collections/{one['id']}") == one
        features = (await body_of(client, urlsplit(items["href"]).path))["features"]
        shapes = [shapely.from_geojson(json.dumps(f["geometry"])) for f in features if f["geometry"]]
        if shapes:
            (box,) = one["extent"]["spatial"]["bbox"]
            assert shapely.box(*box).covers(shapely.union_all(shapes))
    await body_of(client, f"{ROOT}/collections/town.love", 404)
    await body_of(client, f"{ROOT}/collections/nowhere.segment/items", 404)


async def test_fc_op_response_links_rel_type_timestamp_matched_returned_and_geojson_content(more: None, start: Any) -> None:
    client = await start()
    for product in PRODUCTS:
        answer = await client.get(f"{TOWN}.{product}/items")
        assert (answer.status, answer.content_type) == (200, "application/geo+json")
        page = json.loads(await answer.read())
        assert page["type"] == "FeatureCollection"
        assert link(page, "self")["href"].endswith(f"/town.{product}/items")
        assert all(found["type"] for found in page["links"])
        assert page["numberMatched"] == page["numberReturned"] == len(page["features"])
        assert parse_ms(page["timeStamp"]) > parse_ms("2026-03-10T05:30:00Z"), "when the answer was made"
        ids = [f["id"] for f in page["features"]]
        assert ids == sorted(set(ids))
    assert (await body_of(client, STATES))["numberMatched"] == 5
    assert (await body_of(client, VEHICLES))["numberMatched"] == 3
    assert (await body_of(client, f"{TOWN}.segment/items"))["numberMatched"] == 6
    state = (await body_of(client, STATES))["features"][0]
    jsonschema.Draft202012Validator(schemas.schema("segment-state")).validate(state["properties"])


async def test_fc_limit_response(more: None, start: Any) -> None:
    """A limit above the greatest one is no error; paging by the links gives each feature once."""
    client = await start()
    for path in (STATES, f"{TOWN}.segment/items"):
        whole = [f["id"] for f in (await body_of(client, path))["features"]]
        assert (await body_of(client, f"{path}?limit={MAX_LIMIT + 1}"))["numberReturned"] == len(whole)
        seen, at = [], f"{path}?limit=2"
        while at:
            page = await body_of(client, at)
            assert page["numberReturned"] <= 2
            assert page["numberMatched"] == len(whole)
            seen += [f["id"] for f in page["features"]]
            at = (lambda n: f"{urlsplit(n['href']).path}?{urlsplit(n['href']).query}" if n else "")(link(page, "next"))
        assert seen == whole
        assert link(page, "prev")
    assert DEFAULT_LIMIT <= MAX_LIMIT
    for bad in ("0", "-1", "1.5", "many", ""):
        await body_of(client, f"{STATES}?limit={bad}", 400)


@pytest.mark.parametrize(
    ("box", "states", "vehicles"),
    [
        ("24.931,60.0,24.9355,61", [0, 1, 2], [1, 2]),
        ("24.931,60.0,-5,24.9355,61,90", [0, 1, 2], [1, 2]),
        ("24.951,60.172,24.959,60.179", [], []),  # within the box of the bent street, off its line
        ("24.951,60.169,24.959,60.179", [9], []),
        ("179,60,-179,61", [], []),
        ("170,60,24.9355,61", [0, 1, 2], [1, 2]),  # across the antimeridian and round the world
        ("-180,-90,180,90", [0, 1, 2, 3, 9], [1, 2]),
    ],
)
async def test_fc_bbox_response(more: None, start: Any, box: str, states: list[int], vehicles: list[int]) -> None:
    """Only what intersects the box, and all that has no place."""
    client = await start()
    found = await body_of(client, f"{STATES}?bbox={box}")
    assert [f["id"] for f in found["features"]] == [f"w{n}_1_2_f" for n in states]
    assert found["numberMatched"] == len(states)
    found = await body_of(client, f"{VEHICLES}?bbox={box}")
    assert [f["id"] for f in found["features"]] == [f"0018/{n:05d}" for n in (*vehicles, 3)]
    streets = await body_of(client, f"{TOWN}.segment/items?bbox={box}")
    assert [f["id"] for f in streets["features"] if f["id"] != "w4_1_2_f"] == [f"w{n}_1_2_f" for n in states]


@pytest.mark.parametrize(
    ("when", "states", "vehicles"),
    [
        ("2026-03-10T05:30:30Z", 5, 0),
        ("2026-03-10T05:30:00Z", 5, 3),
        ("2026-03-10T05:29:00Z/2026-03-10T05:30:10Z", 5, 3),
        ("../2026-03-10T05:29:00Z", 0, 0),
        ("/2026-03-10T05:30:00Z", 5, 3),
        ("2026-03-10T05:32:00Z/..", 0, 0),
        ("2026-03-10T05:29:00Z/", 5, 3),
    ],
)
async def test_fc_time_response(more: None, start: Any, when: str, states: int, vehicles: int) -> None:
    """Only what intersects the interval, and all that has no time."""
    client = await start()
    assert (await body_of(client, f"{STATES}?datetime={when}"))["numberMatched"] == states
    assert (await body_of(client, f"{VEHICLES}?datetime={when}"))["numberMatched"] == vehicles
    assert (await body_of(client, f"{TOWN}.segment/items?datetime={when}"))["numberMatched"] == 6


@pytest.mark.parametrize(
    "query", ["f=html", "bbox=1,2,3", "bbox=1,2,3,4,5", "bbox=24,61,25,60", "bbox=24,60,9,25,61,1", "bbox=a,b,c,d", "datetime=now",
              "datetime=../..", "limit=x", "offset=-1"],
)  # fmt: skip
async def test_query_param_unknown_and_invalid(fed: Any, start: Any, query: str) -> None:
    problem = await body_of(await start(), f"{STATES}?{query}", 400)
    assert query.partition("=")[0] in problem["detail"]


@pytest.mark.parametrize("path", ["", "/api", "/conformance", "/collections", "/collections/town.segment"])
async def test_query_param_unknown_elsewhere(fed: Any, start: Any, path: str) -> None:
    await body_of(await start(), f"{ROOT}{path}?x=1", 400)


async def test_f_op_success_and_links(more: None, start: Any) -> None:
    """Every feature of every collection is found again by its id, slashes in it or not."""
    client = await start()
    for product in PRODUCTS:
        for feature in (await body_of(client, f"{TOWN}.{product}/items"))["features"]:
            answer = await client.get(f"{TOWN}.{product}/items/{quote(feature['id'], safe='')}")
            assert (answer.status, answer.content_type) == (200, "application/geo+json")
            one = json.loads(await answer.read())
            assert {k: v for k, v in one.items() if k != "links"} == feature
            assert link(one, "collection")["href"].endswith(f"/collections/town.{product}")
            again = await client.get(urlsplit(link(one, "self")["href"]).path)
            assert (await again.json(content_type=None))["id"] == feature["id"]
    await body_of(client, f"{STATES}/w99", 404)


async def test_a_tag_saves_the_second_download_and_changes_with_the_records(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    tag = (await client.get(STATES)).headers["ETag"]
    again = await client.get(STATES, headers={"If-None-Match": tag})
    assert (again.status, await again.read()) == (304, b"")
    assert (await client.get(f"{STATES}?limit=1")).headers["ETag"] != tag
    fed(town.state(4))
    assert (await client.get(STATES, headers={"If-None-Match": tag})).status == 200


async def test_http_cors_and_codings_are_those_of_the_whole_interface(fed: Any, start: Any) -> None:
    client = await start(per_minute=50)
    async with ClientSession(auto_decompress=False) as raw:
        for coding in ("gzip", "zstd"):
            answer = await raw.get(
                client.make_url(f"{ROOT}/collections"), headers={"Accept-Encoding": coding, "Origin": "https://a.example"}
            )
            assert answer.headers["Content-Encoding"] == coding
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["RateLimit-Limit"] == "50"


async def test_the_official_schemas_take_every_document(more: None, start: Any, standards: Standards) -> None:
    client = await start()
    assert standards.ogc(await body_of(client, ROOT), "landingPage") == []
    assert standards.ogc(await body_of(client, f"{ROOT}/conformance"), "confClasses") == []
    listed = await body_of(client, f"{ROOT}/collections")
    assert standards.ogc(listed, "collections") == []
    assert standards.ogc({**listed, "collections": [{"id": 1}]}, "collections"), "a broken one is noticed"
    for product in PRODUCTS:
        page = await body_of(client, f"{TOWN}.{product}/items")
        assert standards.ogc(page, "featureCollectionGeoJSON") == []
        for feature in page["features"][:1]:
            assert standards.ogc(await body_of(client, f"{TOWN}.{product}/items/{quote(feature['id'], safe='')}"), "featureGeoJSON") == []


GDAL = """
import json, sys, pyogrio
source = "OAPIF:" + sys.argv[1]
layers = [name for name, _ in pyogrio.list_layers(source)]
whole = pyogrio.read_dataframe(source, layer="town.segment-state", PAGE_SIZE=2)
near = pyogrio.read_dataframe(source, layer="town.segment-state", bbox=(24.931, 60.0, 24.9355, 61.0))
print(json.dumps([layers, sorted(whole["segment_id"]), sorted(set(whole.geometry.geom_type)), sorted(near["segment_id"])]))
"""


async def test_gdal_reads_a_collection_whole_and_by_box(more: None, start: Any) -> None:
    """A client that is not ours, by the standard alone; in a process of its own, since it holds the interpreter while it waits."""
    if "OAPIF" not in pyogrio.list_drivers():
        pytest.skip("this GDAL has no OAPIF driver")
    client = await start()
    reading = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        GDAL,
        str(client.make_url(ROOT)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GDAL_HTTP_TIMEOUT": "20"},
    )
    try:
        said, _ = await asyncio.wait_for(reading.communicate(), 60)
    finally:
        if reading.returncode is None:
            reading.kill()
            await reading.wait()
    layers, whole, kinds, near = json.loads(said)
    assert set(layers) == {f"town.{p}" for p in PRODUCTS}
    assert whole == [f"w{n}_1_2_f" for n in (0, 1, 2, 3, 9)]
    assert kinds == ["LineString"]
    assert near == [f"w{n}_1_2_f" for n in (0, 1, 2)]
