"""REST views of the pictures: GeoJSON of segments and vehicles, feed health, the network's geometry, and the picture that a page starts from."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from aiohttp import web

from models import schemas
from models.topics import PRODUCTS
from serve.http import GEOJSON, Body, bad_query, box, has, integer, interval, json_answer, not_modified, only, pages
from serve.hub import Hub
from serve.records import record_feature, selected
from serve.sse import PARAMETERS, STREAMABLE, STREAMED, serve_sse, serve_ws
from serve.state import HeldVehicle, Picture
from serve.tiles import LAYER, MAX_ZOOM, NAMES_ZOOM, Tiles

#: Features in one answer: by default, and at most.
DEFAULT_LIMIT, MAX_LIMIT = 10_000, 50_000
#: A segment's state is that of one minute, ms.
WINDOW_MS = 60_000
#: The picture is made anew at most this often, s. An older one misses nothing: the stream goes on from where it stands.
PICTURE_EVERY_S = 5.0
#: What a page follows; the mark of its picture is for a stream of these.
PAGE = tuple(p for p in (*STREAMED, "situation", "line-fluency", "area-state", "emission-area") if p in PRODUCTS)
#: Part of every tag: offsets and counters start again with the process.
BOOT = secrets.token_hex(4)

_encode = msgspec.json.Encoder().encode


class City(Protocol):
    """What the gateway needs to know about a city; a city file has it."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def attribution(self) -> tuple[str, ...]: ...
    @property
    def licence(self) -> str: ...


@dataclass
class Served:
    """One city as it is served."""

    city: City
    picture: Picture
    hub: Hub
    tiles: Tiles = field(init=False)
    _network: tuple[int, Body] | None = None
    _starting: tuple[float, str, Body] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.tiles = Tiles(self.picture)

    @property
    def network_tag(self) -> str:
        """Changes when a page must load the network again."""
        return f"{BOOT}-{self.picture.network_changes}"

    async def network(self) -> Body:
        """Geometry of every segment, made again only when the network has changed."""
        async with self._lock:
            changes = self.picture.network_changes
            if self._network is None or self._network[0] != changes:
                data = network_geojson(self.picture)
                self._network = (changes, await asyncio.to_thread(_both, data))
            return self._network[1]

    async def start(self) -> Body:
        """The picture that a page starts from."""
        async with self._lock:
            tag, now = self.network_tag, time.monotonic()
            if self._starting is None or self._starting[1] != tag or now - self._starting[0] > PICTURE_EVERY_S:
                data = picture_json(self.picture, tag)
                self._starting = (now, tag, await asyncio.to_thread(Body, data, "application/json"))
            return self._starting[2]


def _both(data: bytes) -> Body:
    body = Body(data, GEOJSON)
    body.gzip()
    return body


CITIES = web.AppKey("cities", dict[str, Served])
BACKGROUND = web.AppKey("background", dict[str, str])


def served(request: web.Request) -> Served:
    """
    Raises:
        web.HTTPNotFound: no such city here.
    """
    found = request.app[CITIES].get(request.match_info["city"])
    if found is None:
        raise web.HTTPNotFound(text=f"no city {request.match_info['city'][:40]!r}; /api/v1/cities lists those that are served")
    return found


def segment_feature(picture: Picture, segment_id: str) -> bytes:
    """One GeoJSON feature: what never changes, and the latest state as published. A segment without state says ``origin`` none."""
    segment, state = picture.segments[segment_id], picture.states.get(segment_id)
    quoted = _encode(segment_id)
    if state is not None:
        dynamic = state.value.strip()[1:-1]
    else:
        dynamic = b'"segment_id":%b,"represents":%b,"origin":"none","los":"unknown"' % (quoted, segment.represents)
    return b'{"type":"Feature","id":%b,"geometry":%b,"properties":{%b,%b}}' % (quoted, segment.geometry, segment.properties, dynamic)


def network_geojson(picture: Picture) -> bytes:
    """Geometry and fixed properties of all segments, in the order of their ids."""
    ids, _ = picture.network()
    features = [
        b'{"type":"Feature","geometry":%b,"properties":{"segment_id":%b,"represents":%b,%b}}'
        % (s.geometry, _encode(i), s.represents, s.properties)
        for i in ids
        for s in (picture.segments[i],)
    ]
    return b'{"type":"FeatureCollection","network_version":%b,"features":[%b]}' % (_encode(picture.network_version()), b",".join(features))


def picture_json(picture: Picture, network_tag: str) -> bytes:
    """Everything a page needs beside the geometry, in columns: states of segments (150,000 of them should be read quickly), vehicles, feeds, and where in the log it stands."""
    states = list(picture.states.values())
    starts = {start: n for n, start in enumerate(sorted({s.order[0] for s in states}))}
    columns = {
        "segment_id": list(picture.states),
        "window_starts_ms": list(starts),
        "window": [starts[s.order[0]] for s in states],  # index of its start
        "revision": [s.order[1] for s in states],
        "los": "".join([s.los[0] for s in states]),  # first letters
        "origin": "".join([s.origin[0] for s in states]),
        "confidence_pct": [round(s.confidence * 100) for s in states],
        "closed": [n for n, s in enumerate(states) if s.closed],
    }
    return _encode(
        {
            "city": picture.city,
            "products": PAGE,
            "mark": picture.mark(*PAGE),
            "log_time": picture.log_time,
            "network": network_tag,
            "simulated": picture.simulated,
            "generated": picture.generated,
            "states": columns,
            "vehicles": [msgspec.Raw(v.value) for v in picture.live_vehicles()],
            "health": [msgspec.Raw(picture.health[feed].value) for feed in sorted(picture.health)],
            "records": {
                product: [msgspec.Raw(value) for value in _whole_city(picture, product)] for product in PAGE if product not in STREAMED
            },
        }
    )


def _whole_city(picture: Picture, product: str) -> list[bytes]:
    """Latest records of a product; of areas only the city itself: what it is divided into is in ``records``."""
    if product in ("area-state", "emission-area"):
        held = picture.others[product].get(picture.city)
        return [held.value] if held is not None else []
    return picture.current(product)


def vehicle_feature(vehicle: HeldVehicle) -> bytes:
    """A vehicle that reported no position is a feature without geometry: none is invented."""
    at = b"null"
    if vehicle.lat_deg is not None and vehicle.lon_deg is not None:
        at = _encode({"type": "Point", "coordinates": (vehicle.lon_deg, vehicle.lat_deg)})
    return b'{"type":"Feature","geometry":%b,"properties":%b}' % (at, vehicle.value)


async def cities(request: web.Request) -> web.Response:
    only(request)
    out = []
    for name, s in sorted(request.app[CITIES].items()):
        _, boxes = s.picture.network()
        base = f"/api/v1/cities/{name}"
        out.append(
            {
                "name": name,
                "title": s.city.title,
                "timezone": s.city.timezone,
                "licence": s.city.licence,
                "attribution": s.city.attribution,
                "bbox": [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()] if len(boxes) else None,
                "segments": len(boxes),
                "vehicles": len(s.picture.live_vehicles()),
                "network_version": s.picture.network_version(),
                "simulated": s.picture.simulated,
                "generated": s.picture.generated,
                "log_time": s.picture.log_time,
                "network": s.network_tag,
                "topics": {product: topic for topic, product in s.picture.topics.items()},
                "links": {
                    view: f"{base}/{view}" for view in ("segments", "vehicles", "health", "network", "picture", "stream", "tiles.json")
                },
            }
        )
    return json_answer(request, _encode({"cities": out, "background": request.app[BACKGROUND] or None}))


def _within(picture: Picture, segment_id: str, when: tuple[int, int]) -> bool:
    """True when the state's minute and the interval have a time in common."""
    state = picture.states.get(segment_id)
    return state is not None and state.order[0] <= when[1] and when[0] < state.order[0] + WINDOW_MS


async def segments(request: web.Request) -> web.Response:
    only(request, "bbox", "datetime", "limit", "name", "offset")
    s, area, when = served(request), box(request), interval(request)
    limit, offset = integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT), integer(request, "offset", 0, 0, 10**9)
    name = request.query.get("name", "").strip().lower()
    asked = hashlib.sha256(repr((limit, offset, area, when, name)).encode()).hexdigest()[:12]
    etag = f"{BOOT}-{s.picture.state_changes}-{asked}"
    if has(request, etag):
        return not_modified(etag)
    ids, boxes = s.picture.network()
    rows = np.arange(len(ids))
    if area is not None:
        west, south, east, north = area
        rows = np.flatnonzero((boxes[:, 0] <= east) & (boxes[:, 2] >= west) & (boxes[:, 1] <= north) & (boxes[:, 3] >= south))
    if name:
        names = s.picture.names()
        rows = rows[[name in names[n] for n in rows.tolist()]]
    if when is not None:
        rows = rows[[_within(s.picture, ids[n], when) for n in rows.tolist()]]
    page = rows[offset : offset + limit]
    head = _encode(
        {
            "type": "FeatureCollection",
            "timeStamp": s.picture.log_time,
            "network_version": s.picture.network_version(),
            "numberMatched": len(rows),
            "numberReturned": len(page),
            "links": pages(request, GEOJSON, offset, limit, len(rows)),
        }
    )
    features = b",".join([segment_feature(s.picture, ids[n]) for n in page.tolist()])
    return json_answer(request, b'%b,"features":[%b]}' % (head[:-1], features), content_type=GEOJSON, etag=etag)


async def segment(request: web.Request) -> web.Response:
    only(request)
    s, segment_id = served(request), request.match_info["segment_id"]
    if segment_id not in s.picture.segments:
        raise web.HTTPNotFound(text=f"no segment {segment_id[:80]!r} in {s.city.name}")
    return json_answer(request, segment_feature(s.picture, segment_id), content_type=GEOJSON)


async def network(request: web.Request) -> web.Response:
    """``version`` is for the caches between here and the page; whatever it says, the network of now is served."""
    only(request, "version")
    return (await served(request).network()).answer(request)


async def tile_json(request: web.Request) -> web.Response:
    """What a map needs to know of the tiles: TileJSON 3.0.0."""
    only(request)
    s = served(request)
    _, boxes = s.picture.network()
    body: dict[str, object] = {
        "tilejson": "3.0.0",
        "name": f"Street segments of {s.city.title}",
        "tiles": [f"{request.url.origin()}/api/v1/cities/{s.city.name}/tiles/{{z}}/{{x}}/{{y}}.mvt?version={s.network_tag}"],
        "minzoom": 0,
        "maxzoom": MAX_ZOOM,
        "attribution": " · ".join(s.city.attribution),
        "vector_layers": [
            {
                "id": LAYER,
                "description": "Directed street segments; join segment-state by segment_id.",
                "fields": {
                    "segment_id": "String; key of segment-state",
                    "road_class": "String; OSM highway value, tram or transit_line",
                    "name": f"String; from zoom {NAMES_ZOOM}",
                    "length_m": f"Number, metres; from zoom {NAMES_ZOOM}",
                },
            }
        ],
    }
    if len(boxes):
        body["bounds"] = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    return json_answer(request, _encode(body))


async def tile(request: web.Request) -> web.Response:
    """One vector tile. With the ``version`` of the network of now it may be kept for long; another version gets the network of now too."""
    only(request, "version")
    s = served(request)
    z, x, y = (int(request.match_info[part]) for part in "zxy")
    if z > MAX_ZOOM or x >= 2**z or y >= 2**z:
        raise web.HTTPNotFound(text=f"no tile {z}/{x}/{y}: zoom 0-{MAX_ZOOM}, columns and rows below 2 to the power of zoom")
    version = s.network_tag
    response = (await s.tiles.get(z, x, y)).answer(request)
    if request.query.get("version") == version == s.network_tag:
        response.headers["Cache-Control"] = "public, max-age=86400, immutable"
    return response


async def picture(request: web.Request) -> web.Response:
    only(request)
    return (await served(request).start()).answer(request)


async def vehicles(request: web.Request) -> web.Response:
    only(request, "bbox", "datetime", "limit", "offset")
    s, area, when = served(request), box(request), interval(request)
    limit, offset = integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT), integer(request, "offset", 0, 0, 10**9)
    found = s.picture.live_vehicles()
    if area is not None:
        west, south, east, north = area
        found = [
            v
            for v in found
            if v.lat_deg is not None and v.lon_deg is not None and south <= v.lat_deg <= north and west <= v.lon_deg <= east
        ]
    if when is not None:
        found = [v for v in found if when[0] <= v.event_ms <= when[1]]
    page = found[offset : offset + limit]
    head = _encode(
        {
            "type": "FeatureCollection",
            "timeStamp": s.picture.log_time,
            "numberMatched": len(found),
            "numberReturned": len(page),
            "links": pages(request, GEOJSON, offset, limit, len(found)),
        }
    )
    body = b'%b,"features":[%b]}' % (head[:-1], b",".join([vehicle_feature(v) for v in page]))
    return json_answer(request, body, content_type=GEOJSON)


async def records(request: web.Request) -> web.Response:
    """The latest records of any product, as GeoJSON; those of segments get the segment's geometry."""
    only(request, "bbox", "datetime", "limit", "offset")
    s, product = served(request), request.match_info["product"]
    if product not in STREAMABLE:
        raise web.HTTPNotFound(text=f"no records of {product[:40]!r}; expected one of {', '.join(sorted(STREAMABLE))}")
    area, when = box(request), interval(request)
    limit, offset = integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT), integer(request, "offset", 0, 0, 10**9)
    held = s.picture.current(product)
    if area is not None or when is not None:
        held = await asyncio.to_thread(selected, held, area, when, s.picture.box_of)
    page = held[offset : offset + limit]
    head = _encode(
        {
            "type": "FeatureCollection",
            "product": product,
            "timeStamp": s.picture.log_time,
            "numberMatched": len(held),
            "numberReturned": len(page),
            "links": pages(request, GEOJSON, offset, limit, len(held)),
        }
    )
    geometry_of = s.picture.geometry_of
    body = b'%b,"features":[%b]}' % (head[:-1], b",".join([record_feature(value, geometry_of) for value in page]))
    return json_answer(request, body, content_type=GEOJSON)


async def health(request: web.Request) -> web.Response:
    only(request)
    s = served(request)
    feeds = [msgspec.Raw(s.picture.health[feed].value) for feed in sorted(s.picture.health)]
    return json_answer(request, _encode({"city": s.city.name, "log_time": s.picture.log_time, "feeds": feeds}))


async def stream(request: web.Request) -> web.StreamResponse:
    """Changes of one city as they happen."""
    only(request, *PARAMETERS)
    return await serve_sse(request, [served(request).hub])


async def socket(request: web.Request) -> web.StreamResponse:
    """The same over a WebSocket."""
    only(request, *PARAMETERS)
    return await serve_ws(request, [served(request).hub])


def _several(request: web.Request) -> list[Hub]:
    """Hubs of the cities that are asked for, all by default."""
    only(request, "city", *PARAMETERS)
    known = request.app[CITIES]
    names = sorted({c for c in request.query.get("city", ",".join(known)).split(",") if c})
    if not names or any(name not in known for name in names):
        raise bad_query(f"city = {request.query.get('city', '')[:80]!r}, expected some of {', '.join(sorted(known))}")
    return [known[name].hub for name in names]


async def stream_of_cities(request: web.Request) -> web.StreamResponse:
    """Changes of several cities; events are named city/product."""
    return await serve_sse(request, _several(request), named=True)


async def socket_of_cities(request: web.Request) -> web.StreamResponse:
    """The same over a WebSocket."""
    return await serve_ws(request, _several(request), named=True)


async def schema_list(request: web.Request) -> web.Response:
    only(request)
    return json_answer(request, _encode({"schemas": {product: f"/api/v1/schemas/{product}" for product in sorted(PRODUCTS)}}))


_schemas: dict[str, Body] = {}


async def schema(request: web.Request) -> web.Response:
    only(request)
    product = request.match_info["product"]
    if product not in PRODUCTS:
        raise web.HTTPNotFound(text=f"no product {product[:40]!r}; /api/v1/schemas lists them")
    if product not in _schemas:
        _schemas[product] = Body(schemas.encoded(product), "application/schema+json")
    return _schemas[product].answer(request)


def add_routes(app: web.Application) -> None:
    """Everything under ``/api/v1``."""
    base = "/api/v1/cities"
    app.add_routes(
        [
            web.get(base, cities),
            web.get(base + "/{city}/segments", segments),
            web.get(base + "/{city}/segments/{segment_id}", segment),
            web.get(base + "/{city}/network", network),
            web.get(base + "/{city}/tiles.json", tile_json),
            web.get(base + r"/{city}/tiles/{z:[0-9]{1,2}}/{x:[0-9]{1,7}}/{y:[0-9]{1,7}}.mvt", tile),
            web.get(base + "/{city}/picture", picture),
            web.get(base + "/{city}/vehicles", vehicles),
            web.get(base + "/{city}/records/{product}", records),
            web.get(base + "/{city}/health", health),
            web.get(base + "/{city}/stream", stream, allow_head=False),
            web.get(base + "/{city}/ws", socket, allow_head=False),
            web.get("/api/v1/stream", stream_of_cities, allow_head=False),
            web.get("/api/v1/ws", socket_of_cities, allow_head=False),
            web.get("/api/v1/schemas", schema_list),
            web.get("/api/v1/schemas/{product}", schema),
        ]
    )
