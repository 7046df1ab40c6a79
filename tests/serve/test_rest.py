"""REST views of a fed picture."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from models import schemas
from models.topics import PRODUCTS
from serve.state import Picture

BASE = "/api/v1/cities/town"


async def test_cities_are_listed_with_what_a_page_must_print(fed: Any, start: Any) -> None:
    client = await start()
    body = await (await client.get("/api/v1/cities")).json()
    (town,) = body["cities"]
    assert (town["name"], town["timezone"], town["segments"], town["vehicles"]) == ("town", "Europe/Helsinki", 5, 2)
    assert town["attribution"][1] == "© OpenStreetMap contributors, ODbL 1.0"
    assert town["bbox"] == pytest.approx([24.93, 60.17, 24.94, 60.171])
    assert town["topics"]["segment-state"] == "mobility.town.segment-state.v1"
    assert body["background"] is None


async def test_segments_are_geojson_with_the_latest_state_as_published(fed: Any, start: Any) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/segments")
    assert answer.content_type == "application/geo+json"
    body = json.loads(await answer.text(), object_pairs_hook=_no_twice)
    assert (body["type"], body["numberMatched"], body["numberReturned"]) == ("FeatureCollection", 5, 5)
    first, last = body["features"][0], body["features"][4]
    assert first["geometry"]["type"] == "LineString"
    assert (first["properties"]["los"], first["properties"]["name"], first["properties"]["speed_kmh"]) == ("A", "Aleksanterinkatu", 22.0)
    jsonschema.Draft202012Validator(schemas.schema("segment-state")).validate(first["properties"])
    assert last["properties"]["origin"] == "none", "no state is said, never free flow in disguise"
    assert "speed_kmh" not in last["properties"]


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({k for k, _ in pairs}) == len(pairs), f"a member twice: {[k for k, _ in pairs]}"
    return dict(pairs)


async def test_bbox_limit_and_offset_page_through_the_segments(fed: Any, start: Any) -> None:
    client = await start()
    seen: list[str] = []
    url: str | None = f"{BASE}/segments?bbox=24.931,60.0,24.9355,61&limit=2"
    while url:
        body = await (await client.get(url)).json()
        assert body["numberMatched"] == 3
        seen += [f["id"] for f in body["features"]]
        url = next((link["href"] for link in body["links"] if link["rel"] == "next"), None)
    assert seen == ["w0_1_2_f", "w1_1_2_f", "w2_1_2_f"]


async def test_segments_are_found_by_a_part_of_their_name(fed: Any, start: Any, town: ModuleType) -> None:
    fed(town.street(7, name="Hämeentie"))
    client = await start()
    body = await (await client.get(f"{BASE}/segments", params={"name": "HÄMEEN"})).json()
    assert [f["id"] for f in body["features"]] == ["w7_1_2_f"]
    body = await (await client.get(f"{BASE}/segments?name=katu&limit=2")).json()
    assert (body["numberMatched"], body["numberReturned"]) == (5, 2)


@pytest.mark.parametrize(
    "query",
    [
        "bbox=1,2,3",
        "bbox=24,61,25,60",
        "bbox=nan,60,25,61",
        "bbox=24,60,25,95",
        "limit=0",
        "limit=50001",
        "limit=-1",
        "limit=1e3",
        "limit=٣",
        "limit=1&limit=2",
        "bboks=1",
    ],
)
async def test_a_query_that_is_not_understood_is_a_problem_that_names_it(fed: Any, start: Any, query: str) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/segments?{query}")
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert query.partition("=")[0] in (await answer.json())["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/cities/nowhere/segments", 404),
        (f"{BASE}/segments/w99", 404),
        ("/api/v1/schemas/love", 404),
        ("/nothing", 404),
        ("/" + "x" * 3000, 414),
    ],
)
async def test_what_is_not_there_is_a_problem(fed: Any, start: Any, path: str, status: int) -> None:
    client = await start()
    answer = await client.get(path)
    assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert (await answer.json())["status"] == status


async def test_other_methods_are_refused_and_preflight_is_answered(fed: Any, start: Any) -> None:
    client = await start()
    answer = await client.post(f"{BASE}/segments")
    assert (answer.status, answer.content_type, answer.headers["Allow"]) == (405, "application/problem+json", "GET,HEAD")
    answer = await client.options(f"{BASE}/segments", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "GET"})
    assert answer.status == 204
    assert "GET" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_an_etag_saves_the_second_download_until_something_changes(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    for view in ("segments", "network", "picture"):
        first = await client.get(f"{BASE}/{view}")
        again = await client.get(f"{BASE}/{view}", headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
    tag = (await client.get(f"{BASE}/segments")).headers["ETag"]
    network = (await client.get(f"{BASE}/network")).headers["ETag"]
    fed(town.state(4))
    assert (await client.get(f"{BASE}/segments", headers={"If-None-Match": tag})).status == 200
    assert (await client.get(f"{BASE}/network", headers={"If-None-Match": network})).status == 304, "geometry did not change"
    fed(town.street(5))
    assert (await client.get(f"{BASE}/network", headers={"If-None-Match": network})).status == 200


async def test_large_answers_are_compressed_for_those_who_ask(fed: Any, start: Any) -> None:
    client = await start()
    for view in ("segments", "network"):
        assert (await client.get(f"{BASE}/{view}", headers={"Accept-Encoding": "gzip"})).headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in (await client.get(f"{BASE}/{view}", headers={"Accept-Encoding": "identity"})).headers


async def test_vehicles_without_a_position_have_no_geometry(fed: Any, start: Any, town: ModuleType) -> None:
    fed(town.vehicle(2, at_s=1, lat_deg=None, lon_deg=None))
    client = await start()
    body = await (await client.get(f"{BASE}/vehicles")).json()
    assert [f["geometry"] and f["geometry"]["coordinates"] for f in body["features"]] == [[24.932, 60.17], None]
    jsonschema.Draft202012Validator(schemas.schema("vehicle-position")).validate(body["features"][0]["properties"])
    inside = await (await client.get(f"{BASE}/vehicles?bbox=24,60,25,61")).json()
    assert inside["numberReturned"] == 1


async def test_the_picture_holds_what_a_page_starts_from(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    body = await (await client.get(f"{BASE}/picture")).json()
    assert body["states"]["los"] == "ACFB"
    assert body["states"]["origin"] == "mmmm"
    assert body["states"]["window_starts_ms"][body["states"]["window"][0]] == town.NOW
    assert body["states"]["segment_id"][0] == "w0_1_2_f"
    assert len(body["vehicles"]) == 2
    assert body["health"][0]["feed"] == "hfp"
    assert body["mark"] == "f0:0,s0:3,v0:1"
    network = await (await client.get(f"{BASE}/network")).json()
    assert [f["properties"]["segment_id"] for f in network["features"]] == [f"w{n}_1_2_f" for n in range(5)]
    assert network["network_version"] == "n1"


async def test_health_says_how_each_feed_is(fed: Any, start: Any, town: ModuleType) -> None:
    fed(town.health("gtfs_rt", status="dead", detail="HTTP 503"))
    client = await start()
    body = await (await client.get(f"{BASE}/health")).json()
    assert [(f["feed"], f["state"]) for f in body["feeds"]] == [("gtfs_rt", "dead"), ("hfp", "ok")]


async def test_every_schema_is_served_as_committed(start: Any) -> None:
    client = await start()
    listed = (await (await client.get("/api/v1/schemas")).json())["schemas"]
    assert set(listed) == set(PRODUCTS)
    for product, path in listed.items():
        answer = await client.get(path)
        assert answer.content_type == "application/schema+json"
        assert await answer.read() == schemas.encoded(product)


async def test_a_name_with_markup_stays_data(feed: Any, picture: Picture, start: Any, town: ModuleType) -> None:
    feed(town.street(0, name='</script><b onclick="x">"\\'))
    client = await start()
    body = await (await client.get(f"{BASE}/segments/w0_1_2_f")).json()
    assert body["properties"]["name"] == '</script><b onclick="x">"\\'
