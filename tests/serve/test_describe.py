"""What the gateway says about its data: documents that agree with what is served, a catalogue that the profile's shapes take, pages to copy from."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import cramjam
import jsonschema
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdflib import RDF, Graph, URIRef
from rdflib.namespace import DCAT, DCTERMS

from connectors import cities
from models.topics import PRODUCTS
from serve import docs, openapi
from serve.describe import Public
from serve.door import RateLimit
from serve.gateway import make_app
from serve.state import Picture
from tests.serve.conftest import NOW
from tests.serve.test_explain import FakeLog, evidence
from tests.standards import Standards
from tilannekuva import cli


async def parsed(client: Any, path: str, form: str, **headers: str) -> Graph:
    answer = await client.get(path, headers=headers)
    assert answer.status == 200
    return Graph().parse(data=await answer.text(), format=form)


# ---- catalogue


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/turtle", "text/turtle"),
        ("application/ld+json", "application/ld+json"),
        ("text/html, */*;q=0.1", "application/ld+json"),
        ("application/ld+json;q=0.5, text/turtle;q=0.9", "text/turtle"),
        ("*/*", "application/ld+json"),
    ],
)
async def test_the_catalogue_comes_in_the_form_that_is_asked_for(fed: Any, start: Any, accept: str, kind: str) -> None:
    client = await start()
    answer = await client.get("/catalog", headers={"Accept": accept})
    assert (answer.status, answer.content_type) == (200, kind)
    assert "Accept" in answer.headers["Vary"]
    assert (await client.get("/catalog", headers={"Accept": "image/png"})).status == 406


async def test_both_forms_say_the_same_and_one_dataset_stands_for_each_product(fed: Any, start: Any) -> None:
    client = await start()
    turtle, json_ld = await parsed(client, "/catalog.ttl", "turtle"), await parsed(client, "/catalog.jsonld", "json-ld")
    assert len(turtle) == len(json_ld) > 500
    names = {str(s).rpartition("/")[2] for s in turtle.subjects(RDF.type, DCAT.Dataset)}
    assert names == set(PRODUCTS)
    assert "http" not in json.loads(await (await client.get("/catalog.jsonld")).text())["@context"], "nothing has to be fetched"
    positions = next(s for s in turtle.subjects(RDF.type, DCAT.Dataset) if str(s).endswith("/vehicle-position"))
    urls = {str(turtle.value(d, DCAT.accessURL)) for d in turtle.objects(positions, DCAT.distribution)}
    assert "kafka://localhost:9092/mobility.town.vehicle-position.v1" in urls
    assert len(urls) == 4
    for url in urls - {"kafka://localhost:9092/mobility.town.vehicle-position.v1"}:
        answer = await client.get(url[url.index("/api/") :])
        assert answer.status == 200, "what the catalogue names is there"
        answer.close()


async def test_quality_is_what_feed_health_says_now(fed: Any, start: Any, town: ModuleType, monkeypatch: Any) -> None:
    monkeypatch.setattr("serve.describe.CATALOGUE_EVERY_S", 0.0)
    fed(town.health(at_s=15, lag_p95_s=2.5, reject_ratio=0.25))
    fed(town.health("other", status="dead"))
    client = await start()

    async def measured(product: str) -> dict[str, float]:
        g = await parsed(client, "/catalog/town.ttl", "turtle")
        dataset = next(s for s in g.subjects(RDF.type, DCAT.Dataset) if str(s).endswith(f"/{product}"))
        dqv = "http://www.w3.org/ns/dqv#"
        return {
            str(g.value(m, URIRef(dqv + "isMeasurementOf"))).rpartition("#")[2]: float(str(g.value(m, URIRef(dqv + "value"))))
            for m in g.objects(dataset, URIRef(dqv + "hasQualityMeasurement"))
        }

    assert await measured("vehicle-position") == {"timeliness": 2.5, "availability": 1.0, "completeness": 0.75}
    assert await measured("segment-state") == {"timeliness": 2.5, "availability": 0.5, "completeness": 0.8}
    fed(town.health(at_s=30, status="stale", lag_p95_s=90.0))
    assert (await measured("vehicle-position"))["availability"] == 0.0


async def gateway_of(*names: str) -> TestClient[web.Request, web.Application]:
    chosen = [cities.load(name) for name in names]
    client = TestClient(
        TestServer(make_app(chosen, pictures={c.name: Picture(c.name) for c in chosen}, public=Public("https://traffic.example")))
    )
    await client.start_server()
    return client


async def test_the_profile_s_shapes_take_the_catalogues_of_cities_with_every_licence(standards: Standards) -> None:
    by_licence = {cities.load(name).licence: name for name in cities.names()}
    client = await gateway_of(*by_licence.values())
    texts = {path: await (await client.get(path)).text() for path in ("/catalog.jsonld", f"/catalog/{min(by_licence.values())}.ttl")}
    await client.close()
    for path, text in texts.items():
        assert standards.mobility_dcat(text.encode(), path.rpartition(".")[2]) == []
    assert standards.mobility_dcat(text.replace("accrualPeriodicity", "nothing").encode()), "a broken one is noticed"


SIX = ("helsinki", "espoo", "vantaa", "tampere", "turku", "oulu")


def shape(g: Graph, city: str) -> set[tuple[str, ...]]:
    """Which kind of thing has which property how often, whatever the city is called."""
    own: dict[Any, str] = {
        s: str(s).replace(f"/{city}", "/CITY").replace(f".{city}.", ".CITY.") for s in g.subjects() if isinstance(s, URIRef)
    }
    licences = set(g.subjects(RDF.type, DCTERMS.LicenseDocument))
    count = Counter((own.get(s, "blank"), str(p)) for s, p, _ in g if s not in licences)
    return {(s, p, str(n) if s != "blank" else "") for (s, p), n in count.items()}


def test_the_catalogues_of_six_cities_have_the_same_shape_and_each_is_what_the_command_writes(standards: Standards) -> None:
    shapes = {}
    for city in SIX:
        done = CliRunner().invoke(cli, ["catalog", city, "--url", "https://traffic.example", "--broker", "kafka.example:9092"])
        assert done.exit_code == 0, done.output
        assert standards.mobility_dcat(done.stdout.encode()) == []
        shapes[city] = shape(Graph().parse(data=done.stdout, format="turtle"), city)
    for city in SIX[1:]:
        assert shapes[city] ^ shapes["helsinki"] == set(), city
    merged = CliRunner().invoke(cli, ["catalog", "--form", "jsonld"])
    datasets = set(Graph().parse(data=merged.stdout, format="json-ld").subjects(RDF.type, DCAT.Dataset))
    assert len(datasets) == len(cities.names()) * len(PRODUCTS)


async def test_the_merged_catalogue_lists_every_product_of_every_city() -> None:
    client = await gateway_of("helsinki", "oulu", "turku")
    g = await parsed(client, "/catalog.ttl", "turtle")
    await client.close()
    found = set(g.subjects(RDF.type, DCAT.Dataset))
    assert found == {URIRef(f"https://traffic.example/catalog/{city}/{p}") for city in ("helsinki", "oulu", "turku") for p in PRODUCTS}
    assert len(set(g.subjects(RDF.type, DCAT.Catalog))) == 1


# ---- documents


async def test_the_asyncapi_document_is_served_for_the_cities_that_are(fed: Any, start: Any) -> None:
    client = await start(public=Public("https://traffic.example", "kafka.example:9093", "replay.x."))
    body = await (await client.get("/api/v1/asyncapi.json")).json()
    assert body["servers"]["kafka"]["host"] == "kafka.example:9093"
    assert body["servers"]["sse"] == {"host": "traffic.example", "protocol": "https", "description": "Server-sent events"}
    assert body["channels"]["town.parking"]["address"] == "replay.x.mobility.town.parking.v1"


async def test_the_openapi_document_and_the_routes_name_the_same_paths(start: Any) -> None:
    client = await start()
    document = await (await client.get("/api/v1/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    routes = set()
    for resource in client.app.router.resources():
        path = re.sub(r"\{(\w+):[^{}]*(\{[^{}]*\})?[^{}]*\}", r"{\1}", resource.canonical)
        if path.startswith(("/api/", "/catalog", "/docs")):
            routes.add(path)
    assert routes == set(document["paths"])
    for path, item in document["paths"].items():
        in_path = {p["name"] for p in item["get"]["parameters"] if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        for parameter in item["get"]["parameters"]:
            jsonschema.Draft202012Validator.check_schema(parameter["schema"])
    ids = [item["get"]["operationId"] for item in document["paths"].values()]
    assert len(set(ids)) == len(ids)


def sample(name: str, path: str) -> str:
    return {
        "city": "town",
        "product": "segment-state",
        "segment_id": "w1_1_2_f",
        "route_id": "2510",
        "z": "3",
        "x": "1",
        "y": "1",
        "form": "ttl",
        "publication": "situations",
        "feed": "vehicle-positions",
        "collection": "town.segment-state",
        "feature_id": "w1_1_2_f",
    }[name]


async def test_every_path_answers_as_the_document_says(fed: Any, start: Any) -> None:
    client = await start(evidence=FakeLog([evidence(NOW // 60_000, segment="w1_1_2_f")]))
    document = await (await client.get("/api/v1/openapi.json")).json()
    for path, item in document["paths"].items():
        if path.endswith("/ws") or "/history" in path:  # no archive here: tests of the past are beside theirs
            continue
        url = re.sub(r"\{(\w+)\}", lambda m, path=path: sample(m[1], path), path)
        answer = await client.get(url)
        want = item["get"]["responses"][str(answer.status)]["content"]
        assert answer.status == 200
        assert answer.content_type in want
        if "stream" not in path and "json" in answer.content_type:
            body = await answer.json(content_type=None)
            schema = {**want[answer.content_type]["schema"], "components": document["components"]}
            jsonschema.Draft202012Validator(schema).validate(body)
        answer.close()


words = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"[0-9.,/:TZ-]{1,30}", fullmatch=True),
    st.sampled_from(
        [
            "24,60,25,61",
            "2026-03-10T05:30:00Z",
            "../2026-03-10T05:30:00Z",
            "10",
            "0.5",
            "true",
            "town",
            "segment-state",
            "v0:1",
            "1e999",
            "nan",
        ]
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_is_asked_the_answer_is_one_that_the_document_knows(fed: Any, picture: Any, town: ModuleType, data: Any) -> None:
    path, (_, query, _) = data.draw(st.sampled_from(sorted((p, v) for p, v in openapi.PATHS.items() if not p.endswith(("/ws", "/stream")))))
    url = re.sub(
        r"\{(\w+)\}",
        lambda m: data.draw(st.one_of(st.just(sample(m[1], path)), st.from_regex(r"[a-z0-9%_.-]{1,12}", fullmatch=True))),
        path,
    )
    names = data.draw(st.lists(st.sampled_from([name for name, _, _ in query] or ["x"]), max_size=3))
    client = TestClient(TestServer(make_app([town.Town()], pictures={"town": picture})))
    await client.start_server()
    try:
        answer = await client.get(url.replace("%", "%25"), params=[(name, data.draw(words)) for name in names])
        assert answer.status in (200, 304, 400, 404) or (answer.status == 503 and path.endswith("/explain"))  # no evidence is kept here
        if answer.status >= 400:
            body = await answer.json(content_type="application/problem+json")
            assert body["status"] == answer.status
        else:
            await answer.read()
    finally:
        await client.close()


# ---- pages


async def test_each_product_has_a_page_with_fields_units_example_licence_and_consumers(fed: Any, start: Any) -> None:
    client = await start(public=Public(None, "kafka.example:9092"))
    index = await (await client.get("/docs")).text()
    for product in PRODUCTS:
        assert f'href="/docs/{product}"' in index
        answer = await client.get(f"/docs/{product}")
        assert (answer.status, answer.content_type) == (200, "text/html")
        page = await answer.text()
        assert f"mobility.town.{product}.v1" in page
        assert "© OpenStreetMap contributors, ODbL 1.0" in page
        assert "AIOKafkaConsumer" in page
        assert "duckdb.sql(" in page
        assert "kcat -C -b kafka.example:9092" in page
        for name, *_ in docs.fields(product):
            assert f"<code>{name}</code>" in page
        assert "<script>" not in page
        assert " style=" not in page
    page = await (await client.get("/docs/segment-state")).text()
    assert "&quot;segment_id&quot;: &quot;w2_1_2_f&quot;" in page, "a record as it is now"
    assert "<td>km/h</td>" in page
    assert "new EventSource(&quot;http://" in page
    assert (await client.get("/docs/segment-state?city=nowhere")).status == 400
    assert (await client.get("/docs/love")).status == 404


def test_the_committed_reference_is_the_generated_one() -> None:
    committed = Path(__file__).parents[2] / "docs" / "topics.md"
    assert committed.read_text("utf-8") == docs.markdown(), "run: python -m serve.docs > docs/topics.md"


async def test_a_page_tells_search_engines_of_its_dataset(fed: Any, start: Any, standards: Standards) -> None:
    client = await start()
    for product in PRODUCTS:
        page = await (await client.get(f"/docs/{product}")).text()
        (data,) = re.findall(r'<script type="application/ld\+json">(.*?)</script>', page)
        assert standards.dataset(json.loads(data)) == []
        assert standards.dataset({k: v for k, v in json.loads(data).items() if k != "description"}) != [], "a broken one is noticed"
        assert json.loads(data)["license"] == "https://creativecommons.org/licenses/by/4.0/"


async def test_a_record_cannot_break_out_of_its_page(feed: Any, start: Any, town: ModuleType) -> None:
    feed(msgspec.structs.replace(town.health(), detail="</code><script>alert(1)</script>"))
    client = await start()
    page = await (await client.get("/docs/feed-health")).text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


# ---- polish


async def test_each_address_has_so_many_requests_and_is_told_how_many_are_left(fed: Any, start: Any) -> None:
    client = await start(per_minute=3)
    left = [(await client.get("/api/v1/schemas")).headers["RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    answer = await client.get("/api/v1/schemas")
    assert (answer.status, answer.content_type, answer.headers["RateLimit-Limit"]) == (429, "application/problem+json", "3")
    assert 1 <= int(answer.headers["Retry-After"]) <= 20
    assert (await client.get("/healthz")).status == 200
    assert (await client.get("/")).status == 200


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5)), max_size=60))
def test_no_address_gets_more_than_its_share(asked: list[tuple[str, float]]) -> None:
    limit, now, passed = RateLimit(12), 0.0, {"a": 0, "b": 0}
    for address, pause in asked:
        now += pause
        passes, left, _ = limit.take(address, now)
        passed[address] += passes
        assert 0 <= left < 12
    assert all(n <= 12 + now * 12 / 60 for n in passed.values())


async def test_zstd_is_given_to_those_who_take_it(fed: Any, start: Any) -> None:
    client = await start()
    async with aiohttp.ClientSession(auto_decompress=False) as raw:
        for path in ("/api/v1/cities/town/segments", "/api/v1/cities/town/network"):
            plain = await (await client.get(path, headers={"Accept-Encoding": "identity"})).read()
            answer = await raw.get(client.make_url(path), headers={"Accept-Encoding": "gzip, zstd"})
            assert answer.headers["Content-Encoding"] == "zstd"
            assert bytes(cramjam.zstd.decompress(await answer.read())) == plain


@pytest.mark.parametrize(
    ("when", "want"),
    [
        ("2026-03-10T05:30:30Z", 4),
        ("2026-03-10T07:30:30+02:00", 4),
        ("../2026-03-10T05:29:59.999Z", 0),
        ("2026-03-10T05:31:00Z/..", 0),
        ("2026-03-10T05:00:00Z/2026-03-10T06:00:00Z", 4),
    ],
)
async def test_datetime_chooses_by_the_minute_of_the_state(fed: Any, start: Any, when: str, want: int) -> None:
    client = await start()
    for path in ("segments", "records/segment-state"):
        body = await (await client.get(f"/api/v1/cities/town/{path}", params={"datetime": when})).json()
        assert body["numberMatched"] == want or (path.startswith("records") and when.startswith("2026-03-10T05:31:00Z"))


@pytest.mark.parametrize(
    "when", ["yesterday", "2026-03-10", "../..", "2026-03-10T05:31:00Z/2026-03-10T05:30:00Z", "2026-13-10T05:30:00Z", ""]
)
async def test_a_datetime_that_is_none_is_a_problem(fed: Any, start: Any, when: str) -> None:
    client = await start()
    answer = await client.get("/api/v1/cities/town/vehicles", params={"datetime": when})
    assert (answer.status, answer.content_type) == (400, "application/problem+json")


async def test_records_of_any_product_are_features_that_page(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    seen, url = [], "/api/v1/cities/town/records/segment-state?limit=3"
    while url:
        body = await (await client.get(url)).json()
        seen += [f["properties"]["segment_id"] for f in body["features"]]
        assert all(f["geometry"]["type"] == "LineString" for f in body["features"])
        url = next((link["href"] for link in body["links"] if link["rel"] == "next"), None)
    assert seen == [f"w{n}_1_2_f" for n in range(4)]
    assert [link["rel"] for link in body["links"]] == ["self", "prev"]
    near = await (await client.get("/api/v1/cities/town/records/segment-state?bbox=24.9341,60,24.9359,61")).json()
    assert [f["properties"]["segment_id"] for f in near["features"]] == ["w2_1_2_f"]
    assert (await client.get("/api/v1/cities/town/records/segment")).status == 404
