"""Every official validator over what a running demo really serves, the examples and the README's lines against it; for one city after the other."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import geopandas
import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import schemathesis
from aiokafka import AIOKafkaConsumer
from google.transit import gtfs_realtime_pb2 as pb
from rdflib import RDF, Graph
from rdflib.namespace import DCAT

from models.topics import PRODUCTS, open_topic
from serve.catalogue import DQV
from serve.tiles import mercator
from tests.standards import Standards

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0


class Site:
    """The gateway of a demo."""

    def __init__(self, http: aiohttp.ClientSession, port: int) -> None:
        self.http, self.base = http, f"http://127.0.0.1:{port}"

    async def get(self, path: str, status: int = 200, **headers: str) -> bytes:
        async with self.http.get(self.base + path, headers=headers) as answer:
            data = await answer.read()
            assert answer.status == status, f"{path}: {answer.status} {data[:300]!r}"
            return data

    async def some(self, path: str) -> bytes:
        """As soon as there is something to tell: a feed may take a while to say its first word."""
        for _ in range(int(PATIENCE_S)):
            async with self.http.get(self.base + path) as answer:
                if answer.status == 200:
                    return await answer.read()
            await asyncio.sleep(1)
        raise AssertionError(f"nothing at {path} within {PATIENCE_S:g} s")

    async def features(self, path: str) -> list[dict[str, Any]]:
        """As soon as there are some."""
        for _ in range(int(PATIENCE_S)):
            found: list[dict[str, Any]] = json.loads(await self.get(path))["features"]
            if found:
                return found
            await asyncio.sleep(1)
        raise AssertionError(f"nothing at {path} within {PATIENCE_S:g} s")


async def check_city(site: Site, standards: Standards, city: str, *, broken: bool) -> None:
    """Each view of a city is valid, and, where ``broken`` is wanted (it takes as long again), a broken copy of it is not."""
    api = f"/api/v1/cities/{city}"
    for publication in ("elaborated-data", "measured-data", "measurement-sites", "situations"):
        if publication.startswith("measure") and not json.loads(await site.get(f"{api}/records/sensor-observation"))["features"]:
            await site.get(f"{api}/datex2/{publication}", 204)  # this city has no sensors
            continue
        data = await site.some(f"{api}/datex2/{publication}?limit=10000")
        assert standards.datex2(data) == [], f"{city} {publication}"
        assert standards.datex2(data.replace(b"com:country>", b"com:land>")), "a broken one is noticed"
        assert b"informationStatus>real<" not in data, "what is simulated says so"
    positions = await site.get(f"{api}/gtfs-rt/vehicle-positions")
    assert standards.gtfs_rt(positions, trains=True) == []
    feed = pb.FeedMessage.FromString(positions)
    assert len(feed.entity) > 0
    feed.entity[0].vehicle.position.latitude = 100.0
    assert standards.gtfs_rt(feed.SerializeToString()), "a broken one is noticed"
    assert standards.gtfs_rt(await site.get(f"{api}/gtfs-rt/alerts")) == []
    entities = json.loads(await site.get(f"{api}/ngsi-ld/entities?options=keyValues&limit=200"))
    assert entities
    assert [c for e in entities for c in standards.fiware(e)] == []
    assert standards.fiware({**entities[0], "dateObserved": 1}), "a broken one is noticed"
    emissions = json.loads(await site.get(f"{api}/ngsi-ld/entities?type=EnvironmentObserved&options=keyValues&limit=50"))
    assert [c for e in emissions for c in standards.environment_observed(e)] == []
    page = json.loads(await site.get(f"{api}/records/segment-state?limit=50"))
    assert standards.ogc(page, "featureCollectionGeoJSON") == []
    assert standards.ogc({**page, "type": "Collection"}, "featureCollectionGeoJSON"), "a broken one is noticed"
    items = json.loads(await site.get(f"/api/v1/ogc/collections/{city}.segment-state/items?limit=50"))
    assert 0 < items["numberReturned"] == len(items["features"]) <= 50
    assert standards.ogc(items, "featureCollectionGeoJSON") == []
    await check_tiles(site, api)
    rows = (await site.get(f"{api}/speeds")).decode().splitlines()
    assert all(re.fullmatch(r"\d+,\d+,\d+", row) for row in rows)
    frame = geopandas.read_parquet(io.BytesIO(await site.get(f"{api}/records/segment.parquet")))
    assert len(frame) > 50
    assert pq.read_table(io.BytesIO(await site.get(f"{api}/records/segment-state.parquet"))).num_rows > 0
    catalogue = await site.get(f"/catalog/{city}.ttl")
    assert standards.mobility_dcat(catalogue) == []
    if broken:
        assert standards.mobility_dcat(catalogue.replace(b"accessURL", b"nowhere")), "a broken one is noticed"
    for product in PRODUCTS if broken else ("segment-state",):
        text = (await site.get(f"/docs/{product}?city={city}")).decode()
        (dataset,) = re.findall(r'<script type="application/ld\+json">(.*?)</script>', text)
        assert standards.dataset(json.loads(dataset)) == []


async def check_tiles(site: Site, api: str) -> None:
    """The tile over the middle of the first street, as GDAL reads it."""
    (street,) = json.loads(await site.get(f"{api}/segments?limit=1"))["features"]
    described = json.loads(await site.get(f"{api}/tiles.json"))
    lon, lat = street["geometry"]["coordinates"][0]
    x, y = (int(v * 2**14) for v in mercator(np.array([lon]), np.array([lat]))[0])
    path = described["tiles"][0].partition("127.0.0.1")[2].partition("/")[2].format(z=14, x=x, y=y)
    data = await site.get(f"/{path}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tile.mvt"
        file.write_bytes(data)
        frame = pyogrio.read_dataframe(f"MVT:{file}")
        assert {"segment_id", "road_class"} <= set(frame.columns)
        assert street["properties"]["segment_id"] in set(frame["segment_id"])
        file.write_bytes(data[: len(data) // 2])
        with pytest.raises(Exception, match=r"."):  # GDAL has no one kind of error for it
            assert len(pyogrio.read_dataframe(f"MVT:{file}")) == len(frame)


async def check_openapi(site: Site, cities: list[str]) -> None:
    """The document is one, and what it says of each view of each city is so."""
    document = json.loads(await site.get("/api/v1/openapi.json"))
    schemathesis.openapi.from_dict(document).validate()
    schemathesis.openapi.from_dict(json.loads(await site.get("/api/v1/ogc/api"))).validate()
    with pytest.raises(Exception, match="not of type"):
        schemathesis.openapi.from_dict({**document, "paths": 1}).validate()
    told = 0
    for path, item in document["paths"].items():
        if "{city}" not in path or re.search(r"/(stream|ws|explain)$|/history|/past/", path):
            continue
        for city in cities:
            url = path.replace("{city}", city).replace("{product}", "segment-state").replace("{form}", "ttl")
            url = url.replace("{publication}", "elaborated-data").replace("{feed}", "vehicle-positions")
            if "{segment_id}" in url:
                (street,) = json.loads(await site.get(f"/api/v1/cities/{city}/segments?limit=1"))["features"]
                url = url.replace("{segment_id}", quote(street["properties"]["segment_id"], safe=""))
            for name in "zxy":
                url = url.replace(f"{{{name}}}", "0")
            limit = {"limit": "50"} if any(p["name"] == "limit" for p in item["get"]["parameters"]) else None
            async with site.http.get(site.base + url, params=limit) as answer:
                data = await answer.read()
                want = item["get"]["responses"][str(answer.status)].get("content", {})
                assert answer.status in (200, 204), f"{url}: {answer.status} {data[:200]!r}"
                if answer.status == 204:
                    continue
                assert answer.content_type in want, url
                if "json" in answer.content_type:
                    schema = {**want[answer.content_type]["schema"], "components": document["components"]}
                    jsonschema.Draft202012Validator(schema).validate(json.loads(data))
                told += 1
    assert told >= 15 * len(cities)


async def check_merged(site: Site, cities: list[str]) -> None:
    """One catalogue lists the datasets of all cities, a dataset a product, and each city's own has the same shape."""
    merged = Graph().parse(data=await site.get("/catalog.ttl"), format="turtle")
    datasets = {str(s) for s in merged.subjects(RDF.type, DCAT.Dataset)}
    assert datasets == {f"{site.base}/catalog/{city}/{product}" for city in cities for product in PRODUCTS}
    shapes = set()
    for city in cities:
        own = Graph().parse(data=await site.get(f"/catalog/{city}.ttl"), format="turtle")
        assert {str(s) for s in own.subjects(RDF.type, DCAT.Dataset)} == {d for d in datasets if f"/catalog/{city}/" in d}
        measured = {str(o) for o in own.objects(None, DQV.isMeasurementOf)}
        assert {m.rpartition("#")[2] for m in measured} >= {"timeliness", "availability", "completeness"}, f"{city}: measured live"
        shapes.add(frozenset((str(p), type(o).__name__) for d in own.subjects(RDF.type, DCAT.Dataset) for p, o in own.predicate_objects(d)))
    assert len(shapes) == 1


async def check_all(site: Site, standards: Standards) -> None:
    """What is told of all cities together."""
    for kind, path in (("landingPage", ""), ("confClasses", "/conformance"), ("collections", "/collections")):
        told = json.loads(await site.get(f"/api/v1/ogc{path}"))
        assert standards.ogc(told, kind) == []
        assert standards.ogc({}, kind), "a broken one is noticed"
    assert standards.mobility_dcat(await site.get("/catalog.jsonld"), "jsonld") == []
    document = json.loads(await site.get("/api/v1/asyncapi.json"))
    assert standards.asyncapi(document) == []
    assert standards.asyncapi({**document, "channels": 1}), "a broken one is noticed"


async def check_events(standards: Standards, broker: str, city: str) -> None:
    """Records on Kafka are CloudEvents in binary mode."""
    consumer = AIOKafkaConsumer(open_topic(city, "vehicle-position"), bootstrap_servers=broker, auto_offset_reset="earliest")
    async with consumer:
        message = await asyncio.wait_for(consumer.getone(), 60)
    event: dict[str, Any] = {
        "headers": [[k, v.decode()] for k, v in message.headers],
        "key": message.key.decode(),
        "value": message.value.decode(),
    }
    assert standards.cloudevent_kafka(event) == []
    event["headers"] = [h for h in event["headers"] if h[0] != "ce_id"]
    assert standards.cloudevent_kafka(event), "a broken one is noticed"


async def run(*command: str, until: str = "", codes: tuple[int, ...] = (0,)) -> str:
    """What a program prints: all of it, or up to the line that holds ``until``."""
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    assert running.stdout is not None
    said = ""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while line := (await running.stdout.readline()).decode():
                said += line
                if until and until in line:
                    return said
            await running.wait()
    except TimeoutError:
        raise AssertionError(f"{' '.join(command)} said only: {said[-2000:]}") from None
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode in codes, said
    return said


async def check_examples(site: Site, city: str) -> None:
    """The three products, unchanged, for this city. The map is opened elsewhere: it needs a browser."""
    features = json.loads(await site.get(f"/api/v1/cities/{city}/segments?limit=50000"))["features"]
    named = next(f["properties"]["name"] for f in features if f["properties"].get("name") and f["properties"].get("origin") == "measured")
    assert "watching " in await run(sys.executable, "examples/street_alert.py", site.base, city, named, until="watching ")
    # home and work: the ends of a street whose emissions are known; they come with the first full minutes
    said, found = "", None
    for _ in range(40):
        known = {
            f["properties"]["segment_id"]
            for f in await site.features(f"/api/v1/cities/{city}/records/emission-segment?limit=50000")
            if f["properties"]["flow_vph"]["value"] > 0
        }
        lines = [f["geometry"]["coordinates"] for f in features if f["id"] in known and f["properties"]["represents"] == "general_traffic"]
        for line in lines[:: max(1, len(lines) // 3)][:3]:
            home, work = (f"{p[1]},{p[0]}" for p in (line[0], line[-1]))
            said = await run(sys.executable, "examples/commute_co2.py", site.base, city, home, work, codes=(0, 1))
            found = found or re.search(r"vehicle: (\d+) g, 95 % within (\d+) to (\d+) g", said)
        if found is not None:
            break
        await asyncio.sleep(5)
    assert found is not None, said
    middle, low, high = map(int, found.groups())
    assert low <= middle <= high


async def check_readme(site: Site, broker: str) -> None:
    """A first record by each way that the README shows."""
    said = await run(sys.executable, "docs/examples/first_record.py", broker)
    assert said.split()
    if shutil.which("curl"):
        text = await run("curl", "-sN", f"{site.base}/api/v1/cities/helsinki/stream", until="event: vehicle-position")
        assert "id: " in text
    if shutil.which("kcat"):
        check_kcat(await run(*kcat_line(broker)))


def kcat_line(broker: str) -> list[str]:
    """What the README says to kcat, to this broker."""
    (line,) = re.findall(r"^kcat .*$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    return shlex.split(line.replace("127.0.0.1:9092", broker))


def check_kcat(said: str) -> None:
    """One record and kcat's own remarks."""
    (record,) = [line for line in said.splitlines() if line.startswith("{")]
    assert json.loads(record)["vehicle_id"]


async def check_map(site: Site, chromium: str, cities: list[str]) -> None:
    """The bus map of each city shows its vehicles, in a browser."""
    from playwright.async_api import async_playwright

    async with async_playwright() as p:
        browser = await p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = await browser.new_page()
        for city in cities:
            await tab.goto(f"{(ROOT / 'examples/bus_on_map.html').as_uri()}?gateway={site.base}&city={city}")
            await tab.wait_for_function("document.querySelectorAll('circle').length > 2", timeout=PATIENCE_S * 1000)
            assert "SIMULATED" in await tab.inner_text("small")
        await browser.close()
