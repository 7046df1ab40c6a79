"""The OpenAPI 3.1 document of the gateway's REST views. A test holds it and the routes to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models import schemas
from models.asyncapi import STREAM_QUERY
from models.topics import PRODUCTS
from serve import ogc_document as ogc
from serve.ogc_document import ROOT
from serve.sse import STREAMABLE
from serve.tiles import MAX_ZOOM
from serve.views.routes import DATEX2, DEFAULT_LIMIT, GTFS_RT, MAX_LIMIT, NGSI

Document = dict[str, Any]

_BBOX = ("bbox", {"type": "string", "examples": ["24.9,60.1,25.0,60.2"]}, "west,south,east,north in degrees")
_TIME = ("datetime", {"type": "string", "examples": ["2026-03-10T05:30:00Z/.."]}, "RFC 3339 time, or two with / between; either may be ..")
_AT = ("datetime", {"type": "string", "examples": ["2026-03-10T05:30:00Z"]}, "RFC 3339 time; by default that of the picture")
_LIMIT = ("limit", {"type": "integer", "minimum": 1, "maximum": 50_000, "default": 10_000}, "Features in one answer")
_OFFSET = ("offset", {"type": "integer", "minimum": 0, "default": 0}, "Features to pass over; follow the next links instead")
_VERSION = ("version", {"type": "string"}, "Version of the network; for caches")
_GEOJSON = {"application/geo+json": {"schema": {"$ref": "#/components/schemas/FeatureCollection"}}}
_JSON = {"application/json": {"schema": {"type": "object"}}}
_HTML = {"text/html": {"schema": {"type": "string"}}}
_BYTES: Document = {"schema": {"type": "string", "contentMediaType": "application/x-protobuf"}}
_EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}
_XML = {form: {"schema": {"type": "string"}} for form in ("application/xml", "text/xml")}
_PROTOBUF = {"application/x-protobuf": _BYTES, "application/octet-stream": _BYTES, "application/json": {"schema": {"type": "object"}}}
_PARQUET = {
    form: {"schema": {"type": "string", "contentMediaType": form}}
    for form in ("application/vnd.apache.parquet", "application/octet-stream")
}
_NGSI = {form: {"schema": {"type": "array", "items": {"type": "object"}}} for form in ("application/ld+json", "application/json")}
_SPEEDS = {"text/csv": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}}
_SOME = (
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    "Things in one answer; Link names the next",
)
_RDF = {"text/turtle": {"schema": {"type": "string"}}, "application/ld+json": {"schema": {"type": "object"}}}
_STREAM = tuple((name, schema, text) for name, (schema, text) in STREAM_QUERY.items())
_CITIES = ("city", {"type": "string"}, "Cities, with commas between; all by default")
_C = "/api/v1/cities/{city}"
_OF_DAY = (
    _CITIES,
    ("day", {"type": "string", "format": "date"}, "By the clocks of the cities; the newest by default"),
)

#: path -> (summary, query parameters, contents of the answer)
PATHS: dict[str, tuple[str, tuple[Any, ...], Document]] = {
    "/api/v1/cities": ("Cities that are served, with licence, attribution, bounds and links", (), _JSON),
    f"{_C}/segments": (
        "Street segments with their latest state",
        (_BBOX, _TIME, ("name", {"type": "string"}, "Part of the street's name"), _LIMIT, _OFFSET),
        _GEOJSON,
    ),
    f"{_C}/segments/{{segment_id}}": (
        "One segment with its latest state",
        (),
        {"application/geo+json": {"schema": {"$ref": "#/components/schemas/Feature"}}},
    ),
    f"{_C}/segments/{{segment_id}}/explain": (
        "Why a segment has its value: sources, weights, what was left out",
        (
            ("time", {"type": "string", "examples": ["2026-03-10T05:30:00Z"]}, "RFC 3339; default: the newest final minute"),
            ("lang", {"type": "string", "enum": ["en", "fi", "sv"]}, "language of the sentences; default: en"),
        ),
        _JSON,
    ),
    f"{_C}/vehicles": ("Vehicles heard in the last two minutes of log time", (_BBOX, _TIME, _LIMIT, _OFFSET), _GEOJSON),
    f"{_C}/records/{{product}}": ("Latest records of a product", (_BBOX, _TIME, _LIMIT, _OFFSET), _GEOJSON),
    f"{_C}/records/{{product}}.parquet": (
        "Latest records of a product, or the network, as Parquet (GeoParquet where they have a geometry)",
        (_BBOX,),
        _PARQUET,
    ),
    f"{_C}/health": ("Health of the source feeds", (), _JSON),
    f"{_C}/network": ("Geometry of all segments in one piece", (_VERSION,), _GEOJSON),
    f"{_C}/picture": ("What a live map starts from, in columns", (), _JSON),
    f"{_C}/emissions": ("CO2 of every segment with its bounds, in columns: the latest, or that of a time", (_AT,), _JSON),
    f"{_C}/past": ("From when to when the gateway remembers", (), _JSON),
    f"{_C}/past/picture": ("The picture at a time, in the columns of the live one, with situations and lines of then", (_AT,), _JSON),
    f"{_C}/past/segments/{{segment_id}}": ("Finals of one segment in columns; by default of two hours", (_TIME,), _JSON),
    f"{_C}/past/routes/{{route_id}}": (
        "String-line diagram of a route: where each run was along the way, and when; by default of two hours",
        (_TIME, ("direction_id", {"type": "string", "enum": ["0", "1"]}, "GTFS direction_id; both by default")),
        _JSON,
    ),
    f"{_C}/past/day": ("Travel time index and CO2 of a local day beside the usual", (_AT,), _JSON),
    f"{_C}/tiles.json": ("TileJSON of the vector tiles", (), _JSON),
    f"{_C}/tiles/{{z}}/{{x}}/{{y}}.mvt": (
        "Vector tile of the street segments",
        (_VERSION,),
        {"application/vnd.mapbox-vector-tile": {"schema": {"type": "string", "contentMediaType": "application/vnd.mapbox-vector-tile"}}},
    ),
    f"{_C}/stream": ("Changes as server-sent events", _STREAM, _EVENTS),
    f"{_C}/ws": ("Changes over a WebSocket", _STREAM, _JSON),
    f"{_C}/datex2/{{publication}}": (
        "DATEX II 3.7 publication: measurements, their sites, state of segments, situations",
        (_BBOX, _SOME, _OFFSET),
        _XML,
    ),
    f"{_C}/gtfs-rt/{{feed}}": ("GTFS-Realtime 2.0 feed: positions with congestion and occupancy, or alerts", (_BBOX,), _PROTOBUF),
    f"{_C}/ngsi-ld/entities": (
        "NGSI-LD entities: traffic flow of segments and sensors, or emissions",
        (
            ("type", {"type": "string", "enum": list(NGSI), "default": NGSI[0]}, "Type of the entities"),
            (
                "options",
                {"type": "string", "enum": ["normalized", "keyValues"], "default": "normalized"},
                "keyValues: without metadata, as the JSON Schemas want it",
            ),
            _BBOX,
            _SOME,
            _OFFSET,
        ),
        _NGSI,
    ),
    f"{_C}/speeds": (
        "Live speeds for routers: OSRM's from,to,speed of OpenStreetMap nodes in km/h as CSV, or by way as JSON",
        (_BBOX, ("min_confidence", {"type": "number", "minimum": 0, "maximum": 1}, "Leave out what is less sure")),
        _SPEEDS,
    ),
    f"{_C}/history": ("Days of each product in the archive, first and last minute of states", (), _JSON),
    f"{_C}/history/states": ("State of every segment at a minute of the past, in columns", (_TIME,), _JSON),
    f"{_C}/history/segments/{{segment_id}}": ("States of one segment between two times, in columns", (_TIME,), _JSON),
    f"{_C}/history/vehicles": (
        "Positions of vehicles between two times at most 15 min apart, in columns",
        (_TIME, ("step_s", {"type": "integer", "minimum": 1, "maximum": 60, "default": 5}, "One position a vehicle in so many seconds")),
        _JSON,
    ),
    f"{_C}/history/records/{{product}}": ("Records of areas, lines or emissions at a minute of the past, in columns", (_TIME,), _JSON),
    "/api/v1/city-days": (
        "Fluency and environmental effect of the cities' day, by hour, and over the hours they have in common",
        _OF_DAY,
        _JSON,
    ),
    "/api/v1/city-days.csv": (
        "The same as a table",
        (
            *_OF_DAY,
            (
                "by",
                {"type": "string", "enum": ["day", "hour", "common"], "default": "day"},
                "A row a city, an hour, or a city over common hours",
            ),
        ),
        {"text/csv": {"schema": {"type": "string"}}},
    ),
    ROOT: ("OGC API - Features: landing page", (), _JSON),
    f"{ROOT}/": ("The same", (), _JSON),
    f"{ROOT}/api": ("OpenAPI 3.0 document of it", (), {"application/vnd.oai.openapi+json": {"schema": {"type": "object"}}}),
    f"{ROOT}/conformance": ("Conformance classes of it", (), _JSON),
    f"{ROOT}/collections": ("A collection a city and product", (), _JSON),
    f"{ROOT}/collections/{{collection}}": ("One collection", (), _JSON),
    f"{ROOT}/collections/{{collection}}/items": (
        "Its features: the newest records",
        (
            ("bbox", {"type": "string", "examples": ["24.9,60.1,25.0,60.2"]}, "Four numbers, or six with heights"),
            _TIME,
            ("limit", {"type": "integer", "minimum": 1, "maximum": ogc.MAX_LIMIT, "default": ogc.DEFAULT_LIMIT}, "Features in one answer"),
            _OFFSET,
        ),
        _GEOJSON,
    ),
    f"{ROOT}/collections/{{collection}}/items/{{feature_id}}": (
        "One feature by its Kafka key",
        (),
        {"application/geo+json": {"schema": {"$ref": "#/components/schemas/Feature"}}},
    ),
    "/api/v1/stream": ("Changes of several cities as server-sent events, named city/product", (_CITIES, *_STREAM), _EVENTS),
    "/api/v1/ws": ("Changes of several cities over a WebSocket", (_CITIES, *_STREAM), _JSON),
    "/api/v1/schemas": ("JSON Schemas of the products", (), _JSON),
    "/api/v1/schemas/{product}": ("JSON Schema of a product", (), {"application/schema+json": {"schema": {"type": "object"}}}),
    "/api/v1/asyncapi.json": ("AsyncAPI 3 document of topics and streams", (), _JSON),
    "/api/v1/openapi.json": ("This document", (), {"application/vnd.oai.openapi+json": {"schema": {"type": "object"}}}),
    "/catalog": ("mobilityDCAT-AP catalogue of all cities, by content negotiation", (), _RDF),
    "/catalog.{form}": ("The same, by ending", (), _RDF),
    "/catalog/{city}": ("mobilityDCAT-AP catalogue of one city", (), _RDF),
    "/catalog/{city}.{form}": ("The same, by ending", (), _RDF),
    "/docs": ("Reference of the topics", (), _HTML),
    "/docs/{product}": ("Reference of one topic", (("city", {"type": "string"}, "Whose topic is shown"),), _HTML),
}


def document(base: str, cities: Sequence[str]) -> Document:
    """The document. ``base``: address of the gateway."""
    in_path: dict[str, Document] = {
        "city": {"type": "string", "enum": list(cities)},
        "product": {"type": "string", "enum": sorted(STREAMABLE)},
        "segment_id": {"type": "string"},
        "collection": {"type": "string", "enum": ogc.collection_ids(cities)},
        "feature_id": {"type": "string"},
        "publication": {"type": "string", "enum": list(DATEX2)},
        "feed": {"type": "string", "enum": list(GTFS_RT)},
        "route_id": {"type": "string"},
        "z": {"type": "integer", "minimum": 0, "maximum": MAX_ZOOM},
        "x": {"type": "integer", "minimum": 0},
        "y": {"type": "integer", "minimum": 0},
        "form": {"type": "string", "enum": ["ttl", "jsonld"]},
    }
    paths: Document = {}
    for path, (summary, query, contents) in PATHS.items():
        parameters = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "enum": sorted(PRODUCTS)}
                if name == "product" and not path.endswith("/records/{product}")
                else schema,
            }
            for name, schema in in_path.items()
            if f"{{{name}}}" in path
        ]
        parameters += [{"name": name, "in": "query", "schema": schema, "description": text} for name, schema, text in query]
        switching = {"101": {"description": "Switching to WebSocket"}} if path.endswith("/ws") else {}
        paths[path] = {
            "get": {
                "summary": summary,
                "operationId": path[1:].replace("/", "_").replace("{", "").replace("}", "").replace(".", "_"),
                "parameters": parameters,
                "responses": {
                    "200": {"description": summary, "content": contents, "headers": _headers()},
                    **switching,
                    **({"204": {"description": "There is nothing to publish"}} if "/datex2/" in path else {}),
                    "304": {"description": "The client has this version (If-None-Match)"},
                    **{
                        code: {
                            "description": text,
                            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                        }
                        for code, text in (
                            ("400", "A parameter is not understood; detail names it"),
                            ("404", "There is no such thing"),
                            ("406", "None of the forms that are accepted is offered"),
                            ("429", "Too many requests; Retry-After says when to come back"),
                            ("503", "Too many stream clients"),
                        )
                    },
                },
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tilannekuva gateway",
            "version": "1.0.0",
            "description": "Live traffic and emissions of cities, as read from the open Kafka topics. Every answer under /api has CORS headers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "paths": paths,
        "components": {"schemas": {**_components(), **{name: _record(name) for name in PRODUCTS}}},
    }


def _headers() -> Document:
    number = {"schema": {"type": "integer"}}
    return {"ETag": {"schema": {"type": "string"}}, "RateLimit-Limit": number, "RateLimit-Remaining": number, "RateLimit-Reset": number}


def _record(product: str) -> Document:
    return {key: value for key, value in schemas.schema(product).items() if key not in ("$schema", "$id")}


def _components() -> Document:
    return {
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
            },
        },
        "Feature": {
            "type": "object",
            "required": ["type", "geometry", "properties"],
            "properties": {"type": {"const": "Feature"}, "geometry": {"type": ["object", "null"]}, "properties": {"type": "object"}},
        },
        "FeatureCollection": {
            "type": "object",
            "required": ["type", "features"],
            "properties": {
                "type": {"const": "FeatureCollection"},
                "features": {"type": "array", "items": {"$ref": "#/components/schemas/Feature"}},
                "numberMatched": {"type": "integer"},
                "numberReturned": {"type": "integer"},
                "timeStamp": {"type": ["string", "null"], "format": "date-time"},
                "links": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["href", "rel"],
                        "properties": {"href": {"type": "string"}, "rel": {"type": "string"}},
                    },
                },
            },
        },
    }
