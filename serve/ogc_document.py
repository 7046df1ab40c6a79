"""The OpenAPI 3.0 document of the OGC API, which the conformance class oas30 asks for; the gateway's whole is in ``openapi``, in 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.topics import PRODUCTS
from serve.http import GEOJSON

ROOT = "/api/v1/ogc"
OPENAPI_30 = "application/vnd.oai.openapi+json;version=3.0"
JSON = "application/json"
#: Features in one answer: by default, and at most. The standard wants more than that to be cut, not refused.
DEFAULT_LIMIT, MAX_LIMIT = 1_000, 10_000


def collection_ids(cities: Sequence[str]) -> list[str]:
    """
    >>> collection_ids(["oulu"])[0]
    'oulu.vehicle-position'
    """
    return [f"{city}.{product}" for city in cities for product in PRODUCTS]


def document(base: str, cities: Sequence[str]) -> dict[str, Any]:
    """The OpenAPI 3.0 document of these paths: conformance class oas30. The gateway's whole is in 3.1."""

    def parameter(name: str, where: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
        style = {"style": "form", "explode": False} if where == "query" else {}
        return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": text, **style}

    of = parameter("collectionId", "path", {"type": "string", "enum": collection_ids(cities)}, "City and product")
    feature = parameter("featureId", "path", {"type": "string"}, "Kafka key of the record")
    query = [
        parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}, "Features in one answer"),
        parameter("offset", "query", {"type": "integer", "minimum": 0, "default": 0}, "Features to pass over; follow the next links instead"),
        parameter(
            "bbox", "query", {"type": "array", "minItems": 4, "maxItems": 6, "items": {"type": "number"}}, "west,south,east,north, degrees, WGS 84"
        ),
        parameter("datetime", "query", {"type": "string"}, "RFC 3339 time, or two with / between; either may be .. or empty"),
    ]  # fmt: skip

    def get(name: str, text: str, parameters: list[dict[str, Any]], schema: dict[str, Any], kind: str = JSON) -> dict[str, Any]:
        problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        told = {
            "400": "A parameter is unknown or cannot be; detail names it",
            "401": "The key is not known, or one is needed",
            "404": "There is no such thing",
            "429": "Too many requests; Retry-After says when to come back",
            "500": "An error of ours",
            "503": "No answer in time",
            "default": "Anything else that is refused",
        }
        responses: dict[str, Any] = {"200": {"description": text, "content": {kind: {"schema": schema}}}}
        responses["304"] = {"description": "The client has this version (If-None-Match)"}
        responses |= {code: {"description": why, "content": problem} for code, why in told.items()}
        return {"get": {"operationId": name, "summary": text, "parameters": parameters, "responses": responses}}

    anything: dict[str, Any] = {"type": "object"}
    links = {"type": "array", "items": {"type": "object", "required": ["href", "rel"], "properties": {"href": {"type": "string"}, "rel": {"type": "string"}}}}  # fmt: skip
    linked = {"type": "object", "required": ["links"], "properties": {"links": links}}
    a_feature = {
        "type": "object",
        "required": ["type", "id", "geometry", "properties"],
        "properties": {"type": {"type": "string", "enum": ["Feature"]}, "id": {"type": "string"}, "geometry": {"type": "object", "nullable": True}, "properties": anything},
    }  # fmt: skip
    features = {
        "type": "object",
        "required": ["type", "features", "links", "timeStamp", "numberMatched", "numberReturned"],
        "properties": {
            "type": {"type": "string", "enum": ["FeatureCollection"]}, "features": {"type": "array", "items": a_feature}, "links": links,
            "timeStamp": {"type": "string", "format": "date-time"}, "numberMatched": {"type": "integer"}, "numberReturned": {"type": "integer"},
        },
    }  # fmt: skip
    words = {"type": "array", "items": {"type": "string"}}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "tilannekuva: OGC API - Features",
            "version": "1.0.0",
            "description": "The newest records of the open topics as features.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "security": [{}, {"key": []}],
        "paths": {
            "/": get("landing", "Landing page", [], linked),
            "/api": get("definition", "This document", [], anything, OPENAPI_30),
            "/conformance": get("conformance", "What is conformed to", [], {"type": "object", "required": ["conformsTo"], "properties": {"conformsTo": words}}),
            "/collections": get("collections", "The collections", [], linked),
            "/collections/{collectionId}": get("collection", "A collection", [of], linked),
            "/collections/{collectionId}/items": get("items", "Its features", [of, *query], features, GEOJSON),
            "/collections/{collectionId}/items/{featureId}": get("item", "One feature", [of, feature], a_feature, GEOJSON),
        },
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status"],
                    "properties": {"type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}},
                }
            },
        },
    }  # fmt: skip
