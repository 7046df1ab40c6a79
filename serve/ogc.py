"""OGC API - Features, part 1 (core, GeoJSON, OpenAPI 3.0): a collection a city and product, for GIS programs that know the standard.

The records are those of ``records/<product>``; what differs is what the standard asks for. Features have ids (the Kafka keys), a ``bbox`` may cross the antimeridian or
hold heights, geometries and not only their boxes are compared with it, and neither ``bbox`` nor ``datetime`` leaves out what has no place or no time at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import shapely
from aiohttp import web

from models.asyncapi import licence_url
from models.clock import parse_ms, rfc3339
from models.topics import PRODUCTS
from serve.catalogue import description_of, licence_of
from serve.describe import PUBLIC
from serve.http import GEOJSON, Box, Interval, bad_query, has, integer, interval, json_answer, not_modified, only
from serve.ogc_document import DEFAULT_LIMIT, JSON, MAX_LIMIT, OPENAPI_30, ROOT, document
from serve.records import place
from serve.rest import BOOT, CITIES, Served
from serve.ring import box_of_facts, facts_of
from serve.state import Picture

CONFORMS = tuple(f"http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/{part}" for part in ("core", "geojson", "oas30"))
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
#: Extents are made anew at most this often, s.
EXTENTS_EVERY_S = 10.0
#: Products whose records lie on a segment.
ON_SEGMENTS = frozenset(p.name for p in PRODUCTS.values() if p.key == "segment_id")
EXTENTS = web.AppKey("extents", dict[str, tuple[float, dict[str, Box | None]]])

Held = Sequence[tuple[str, bytes]]
_encode = msgspec.json.Encoder().encode


def corners(text: str) -> list[Box]:
    """Boxes (west, south, east, north) that a ``bbox`` of four or six numbers means: two where it crosses the antimeridian. Heights are not looked at: nothing here has any.

    Raises:
        web.HTTPBadRequest: not such a box.

    >>> corners("24,60,0,25,61,100"), corners("179,60,-179,61")
    ([(24.0, 60.0, 25.0, 61.0)], [(179.0, 60.0, 180.0, 61.0), (-180.0, 60.0, -179.0, 61.0)])
    """
    try:
        values = [float(part) if part.isascii() else math.nan for part in text.split(",", 6)]
    except ValueError:
        values = []
    if len(values) == 6:
        low, high = values.pop(5), values.pop(2)
        values = values if low >= high else []
    if len(values) == 4:
        west, south, east, north = values
        if -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90:
            return [(west, south, east, north)] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]
    raise bad_query(f"bbox = {text[:80]!r}, expected west,south,east,north in degrees, or west,south,low,east,north,high")


def meets(geometries: Sequence[bytes | None], boxes: Sequence[Box]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which geometries (GeoJSON) intersect one of the boxes; those that are None do."""
    shapes = shapely.from_geojson(np.array(geometries, dtype=object), on_invalid="ignore")
    area = shapely.union_all([shapely.box(*b) for b in boxes])
    shapely.prepare(area)
    found: np.ndarray[Any, np.dtype[np.bool_]] = shapely.is_missing(shapes) | shapely.intersects(area, shapes)
    return found


def chosen(held: Held, geometry_of: Callable[[str], bytes | None], boxes: Sequence[Box] | None, when: Interval | None) -> Held:
    """Those of the records (key, value) that ``bbox`` and ``datetime`` match."""
    kept, places = [], []
    for key, value in held:
        facts = facts_of(value)
        end = facts.event_time or facts.window_end or facts.ingest_time
        if when is not None and end is not None and not (parse_ms(facts.window_start or end) <= when[1] and parse_ms(end) >= when[0]):
            continue
        kept.append((key, value))
        if boxes is not None:
            at = place(facts, geometry_of)
            places.append(None if at == b"null" else at)
    if boxes is None:
        return kept
    return [kept[n] for n in np.flatnonzero(meets(places, boxes))]


def _segments(picture: Picture, boxes: Sequence[Box] | None) -> list[str]:
    """Ids of segments that meet the boxes; all of them without any."""
    ids, around = picture.network()
    if boxes is None:
        return ids
    near = np.zeros(len(ids), np.bool_)
    for west, south, east, north in boxes:
        near |= (around[:, 0] <= east) & (around[:, 2] >= west) & (around[:, 1] <= north) & (around[:, 3] >= south)
    rows = np.flatnonzero(near).tolist()
    return [ids[n] for n, yes in zip(rows, meets([picture.segments[ids[n]].geometry for n in rows], boxes), strict=True) if yes]


def extent(picture: Picture, product: str, box: Box) -> Box | None:
    """Bounds of the city and of whatever lies beyond them; None for a product without places."""
    _, around = picture.network()
    boxes = [box]
    if len(around):
        boxes.append((*around[:, :2].min(axis=0).tolist(), *around[:, 2:].max(axis=0).tolist()))
    if product not in ON_SEGMENTS:
        found = [b for b in (box_of_facts(facts_of(value), picture.box_of) for _, value in picture.keyed(product)) if b is not None]
        if not found:
            return None
        boxes += found
    west, south, east, north = (f(b[n] for b in boxes) for n, f in enumerate((min, min, max, max)))
    return west, south, east, north


def _base(request: web.Request) -> str:
    return request.app[PUBLIC].base(request) + ROOT


def _link(href: str, rel: str, kind: str, title: str = "") -> dict[str, str]:
    return {"href": href, "rel": rel, "type": kind} | ({"title": title} if title else {})


async def landing(request: web.Request) -> web.Response:
    only(request)
    base = _base(request)
    body = {
        "title": "tilannekuva: live traffic and emissions of cities",
        "description": "Records of the open topics as they are now, a collection a city and product.",
        "attribution": " · ".join(sorted({a for s in request.app[CITIES].values() for a in s.city.attribution})),
        "links": [
            _link(base, "self", JSON),
            _link(f"{base}/api", "service-desc", OPENAPI_30, "This interface in OpenAPI 3.0"),
            _link(f"{base.removesuffix(ROOT)}/docs", "service-doc", "text/html", "Fields and units"),
            _link(f"{base}/conformance", "conformance", JSON),
            _link(f"{base}/collections", "data", JSON),
        ],
    }
    return json_answer(request, _encode(body))


async def conformance(request: web.Request) -> web.Response:
    only(request)
    return json_answer(request, _encode({"conformsTo": CONFORMS}))


def _found(request: web.Request) -> tuple[Served, str]:
    """City and product of the collection that is asked for.

    Raises:
        web.HTTPNotFound: there is no such collection.
    """
    name = request.match_info["collection"]
    city, _, product = name.partition(".")
    s = request.app[CITIES].get(city)
    if s is None or product not in PRODUCTS:
        raise web.HTTPNotFound(text=f"no collection {name[:80]!r}; {ROOT}/collections lists them")
    return s, product


async def _extents(request: web.Request, s: Served) -> dict[str, Box | None]:
    kept = request.app[EXTENTS]
    made = kept.get(s.city.name)
    if made is None or time.monotonic() - made[0] > EXTENTS_EVERY_S:
        box = request.app[PUBLIC].entry(s).box
        made = kept[s.city.name] = (time.monotonic(), {product: extent(s.picture, product, box) for product in PRODUCTS})
        await asyncio.sleep(0)
    return made[1]


async def _about(request: web.Request, s: Served, product: str) -> dict[str, Any]:
    """What is told of one collection."""
    entry, base = request.app[PUBLIC].entry(s), _base(request)
    here, top = f"{base}/collections/{s.city.name}.{product}", base.removesuffix(ROOT)
    out: dict[str, Any] = {
        "id": f"{s.city.name}.{product}",
        "title": f"{s.city.title}: {PRODUCTS[product].title}",
        "description": description_of(PRODUCTS[product]),
        "attribution": " · ".join(s.city.attribution),
        "itemType": "feature",
        "crs": [CRS84],
        "links": [
            _link(here, "self", JSON),
            _link(f"{here}/items", "items", GEOJSON),
            _link(f"{top}/api/v1/schemas/{product}", "describedby", "application/schema+json", "Fields of the properties"),
            _link(f"{top}/docs/{product}?city={s.city.name}", "describedby", "text/html"),
            _link(licence_url(licence_of(entry, product)), "license", "text/html"),
        ],
    }
    if (box := (await _extents(request, s))[product]) is not None:
        out["extent"] = {"spatial": {"bbox": [box], "crs": CRS84}}
    return out


async def collections(request: web.Request) -> web.Response:
    only(request)
    listed = [await _about(request, s, product) for _, s in sorted(request.app[CITIES].items()) for product in PRODUCTS]
    return json_answer(request, _encode({"links": [_link(f"{_base(request)}/collections", "self", JSON)], "collections": listed}))


async def collection(request: web.Request) -> web.Response:
    only(request)
    return json_answer(request, _encode(await _about(request, *_found(request))))


def _feature(picture: Picture, key: str, value: bytes, links: bytes = b"") -> bytes:
    return b'{"type":"Feature","id":%b,%b"geometry":%b,"properties":%b}' % (
        _encode(key), links, place(facts_of(value), picture.geometry_of), value,
    )  # fmt: skip


async def items(request: web.Request) -> web.Response:
    only(request, "bbox", "datetime", "limit", "offset")
    (s, product), when = _found(request), interval(request)
    boxes = corners(request.query["bbox"]) if "bbox" in request.query else None
    limit = min(integer(request, "limit", DEFAULT_LIMIT, 1, 10**11), MAX_LIMIT)
    offset, picture = integer(request, "offset", 0, 0, 10**9), s.picture
    state = (picture.mark(product), picture.network_changes, picture.log_ms, request.path_qs, _base(request))
    etag = f"{BOOT}-{hashlib.sha256(repr(state).encode()).hexdigest()[:20]}"
    if has(request, etag):
        return not_modified(etag)
    if product == "segment":
        ids = _segments(picture, boxes)
        matched, page = len(ids), [(i, picture.segment_record(i)) for i in ids[offset : offset + limit]]
    else:
        held: Held = picture.keyed(product)
        if boxes is not None or when is not None:
            held = await asyncio.to_thread(chosen, held, picture.geometry_of, boxes, when)
        matched, page = len(held), list(held[offset : offset + limit])
    here = request.app[PUBLIC].base(request)

    def at(start: int) -> str:
        return here + str(request.rel_url.update_query(offset=str(start), limit=str(limit)))

    links = [_link(here + str(request.rel_url), "self", GEOJSON), _link(f"{here}{request.path.removesuffix('/items')}", "collection", JSON)]
    if offset + limit < matched:
        links.append(_link(at(offset + limit), "next", GEOJSON))
    if offset > 0:
        links.append(_link(at(max(0, offset - limit)), "prev", GEOJSON))
    head = {
        "type": "FeatureCollection",
        "timeStamp": rfc3339(time.time_ns() // 1_000_000),
        "numberMatched": matched,
        "numberReturned": len(page),
        "links": links,
    }
    body = b'%b,"features":[%b]}' % (_encode(head)[:-1], b",".join([_feature(picture, *pair) for pair in page]))
    return json_answer(request, body, content_type=GEOJSON, etag=etag)


async def item(request: web.Request) -> web.Response:
    only(request)
    (s, product), key = _found(request), request.match_info["feature_id"]
    value = s.picture.record(product, key)
    if value is None:
        raise web.HTTPNotFound(text=f"no feature {key[:80]!r} in {s.city.name}.{product} now")
    here = f"{_base(request)}/collections/{s.city.name}.{product}"
    links = [_link(f"{here}/items/{quote(key, safe='')}", "self", GEOJSON), _link(here, "collection", JSON)]
    return json_answer(request, _feature(s.picture, key, value, b'"links":%b,' % _encode(links)), content_type=GEOJSON)


async def definition(request: web.Request) -> web.Response:
    only(request)
    body = document(_base(request), [name for name, _ in sorted(request.app[CITIES].items())])
    response = json_answer(request, _encode(body))
    response.headers["Content-Type"] = OPENAPI_30
    return response


def add_routes(app: web.Application) -> None:
    """Everything under ``/api/v1/ogc``."""
    app[EXTENTS] = {}
    app.add_routes(
        [
            web.get(ROOT, landing),
            web.get(ROOT + "/", landing),
            web.get(ROOT + "/api", definition),
            web.get(ROOT + "/conformance", conformance),
            web.get(ROOT + "/collections", collections),
            web.get(ROOT + "/collections/{collection}", collection),
            web.get(ROOT + "/collections/{collection}/items", items),
            web.get(ROOT + "/collections/{collection}/items/{feature_id}", item),
        ]
    )
