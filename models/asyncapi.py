"""The AsyncAPI 3 document of the open topics: Kafka topics with their settings, and the gateway's event streams. Generated from the records and the table of topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from models import schemas
from models.topics import MAX_MESSAGE_BYTES, PRODUCTS, Product, open_topic

Document = dict[str, Any]
BINDING = "0.5.0"  #: of Kafka
WS_BINDING = "0.1.0"
HTTP_BINDING = "0.3.0"
LICENCE_URLS = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "ODbL-1.0": "https://opendatacommons.org/licenses/odbl/1-0/",
}
#: Query parameters of the event streams: name -> (schema, what it does).
STREAM_QUERY: dict[str, tuple[dict[str, Any], str]] = {
    "product": ({"type": "string"}, "Products, with commas between; by default feed-health, segment-state and vehicle-position."),
    "bbox": ({"type": "string"}, "west,south,east,north in degrees: only what lies in it. Concerns products that have a place."),
    "route": ({"type": "string"}, "GTFS route_ids, with commas between. Concerns products that have one."),
    "min_confidence": ({"type": "number", "minimum": 0, "maximum": 1}, "Concerns products that have a confidence."),
    "snapshot": ({"type": "string", "enum": ["true", "false"]}, "true: the latest record of every key first, then the changes."),
    "last_event_id": ({"type": "string"}, "Id of the last event that was received, where the header Last-Event-ID cannot be sent."),
}
_TEXT = {"type": "string"}
_STATUS = {"type": "object", "properties": {"ready": {"type": "boolean"}, "server_time": {"type": "string", "format": "date-time"}}}
#: Events of the gateway itself.
_CONTROL: dict[str, tuple[str, dict[str, Any]]] = {
    "hello": ("First event of every stream: how the gateway is.", _STATUS),
    "heartbeat": ("Every 4 s, with the place in the log as its id.", _STATUS),
    "ready": ("The gateway has read everything that there is.", _STATUS),
    "snapshot": (
        "Begin and end of a snapshot.",
        {"type": "object", "required": ["state"], "properties": {"state": {"enum": ["begin", "end"]}, "records": {"type": "integer"}}},
    ),
    "gap": (
        "Records that can no longer be told, by topic, with the reason: expired, compacted (a newer one of the same key replaced them), the log has begun anew.",
        {"type": "object", "required": ["missing"], "properties": {"missing": {"type": "array", "items": {"type": "object"}}}},
    ),
    "overflow": ("The client reads too slowly. The stream ends; come back with the last id.", {"type": "object"}),
    "error": ("The log does not answer. The stream ends; come back with the last id.", {"type": "object"}),
}


class CityEntry(Protocol):
    """What the document says of a city."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def attribution(self) -> tuple[str, ...]: ...


def licence_url(licence: str) -> str:
    """Address of a licence that is an SPDX id or an address.

    >>> licence_url("CC-BY-4.0")
    'https://creativecommons.org/licenses/by/4.0/'
    """
    return LICENCE_URLS.get(licence) or (licence if "://" in licence else f"https://spdx.org/licenses/{licence}.html")


def document(
    cities: Sequence[CityEntry], *, kafka_host: str, http_host: str, secure: bool = False, prefix: str = "", replicas: int = 1
) -> Document:
    """The document.

    Args:
        kafka_host, http_host: host and port of the broker and of the gateway.
        secure: the gateway is behind TLS.
    """
    channels: Document = {}
    operations: Document = {}
    for city in cities:
        for product in PRODUCTS.values():
            name = f"{city.name}.{product.name}"
            channels[name] = _topic(city, product, prefix, replicas)
            operations[f"publish.{name}"] = {
                "action": "send",
                "title": f"Publish {product.name} of {city.title}",
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{product.name}"}],
            }
    streamed = [name for name in PRODUCTS if name != "segment"]
    for name, path, protocol in (
        ("sse", "/api/v1/cities/{city}/stream", "sse"),
        ("websocket", "/api/v1/cities/{city}/ws", "ws"),
    ):
        channels[name] = _stream(name, path, protocol, cities, streamed)
        operations[f"tell.{name}"] = {
            "action": "send",
            "title": f"Tell changes ({name})",
            "channel": {"$ref": f"#/channels/{name}"},
            **({"bindings": {"http": {"method": "GET", "query": _query(), "bindingVersion": HTTP_BINDING}}} if protocol == "sse" else {}),
        }
    licences = sorted({city.licence for city in cities})
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "tilannekuva: live traffic and emissions of cities",
            "version": "1.0.0",
            "description": "One schema a product, the same in every city; one Kafka topic a city and product. Fields are only ever added within a major version.",
            **({"license": {"name": licences[0], "url": licence_url(licences[0])}} if len(licences) == 1 else {}),
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {"host": kafka_host, "protocol": "kafka", "bindings": {"kafka": {"bindingVersion": BINDING}}},
            "sse": {"host": http_host, "protocol": "https" if secure else "http", "description": "Server-sent events"},
            "ws": {"host": http_host, "protocol": "wss" if secure else "ws"},
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": {name: _payload(name) for name in PRODUCTS},
            "messages": {
                **{p.name: _message(p) for p in PRODUCTS.values()},
                **{
                    name: {"name": name, "title": text.partition(":")[0].partition(".")[0], "summary": text, "payload": schema}
                    for name, (text, schema) in _CONTROL.items()
                },
            },
        },
    }


def _topic(city: CityEntry, product: Product, prefix: str, replicas: int) -> Document:
    return {
        "address": open_topic(city.name, product.name, prefix),
        "title": f"{product.title}, {city.title}",
        "description": f"Licence {city.licence}. {'; '.join(city.attribution)}. Cadence: {product.cadence}.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {product.name: {"$ref": f"#/components/messages/{product.name}"}},
        "bindings": {
            "kafka": {
                "topic": open_topic(city.name, product.name, prefix),
                "partitions": product.partitions,
                "replicas": replicas,
                "topicConfiguration": {
                    "cleanup.policy": product.cleanup.split(","),
                    "retention.ms": product.retention_ms,
                    "max.message.bytes": MAX_MESSAGE_BYTES,
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _query() -> Document:
    return {"type": "object", "properties": {name: {**schema, "description": text} for name, (schema, text) in STREAM_QUERY.items()}}


def _stream(name: str, path: str, protocol: str, cities: Sequence[CityEntry], products: Sequence[str]) -> Document:
    return {
        "address": path,
        "title": "Changes of a city as they happen" + (" (WebSocket)" if protocol == "ws" else " (server-sent events)"),
        "description": "Events are named by product, data is the record as published; the id tells the place in the log, to come back to with Last-Event-ID.",
        "servers": [{"$ref": f"#/servers/{protocol}"}],
        "parameters": {"city": {"enum": [city.name for city in cities], "description": "Name of the city"}},
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in (*products, *_CONTROL)},
        **({"bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": WS_BINDING}}} if protocol == "ws" else {}),
    }


def _message(product: Product) -> Document:
    return {
        "name": product.name,
        "title": product.title,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "description": "CloudEvents 1.0, Kafka binary mode. Over SSE and WebSocket there are none.",
            "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
            "properties": {
                "ce_specversion": {"const": "1.0"},
                "ce_id": {**_TEXT, "description": "Product, key, event time or window, revision: the same record has the same id"},
                "ce_source": _TEXT,
                "ce_type": {"const": f"tilannekuva.{product.name}.v{product.major}"},
                "ce_time": {"type": "string", "format": "date-time", "description": "Event time"},
                "ce_dataschema": {"const": schemas.schema_url(product.name)},
                "content-type": {"const": "application/json"},
                "ce_license": {**_TEXT, "description": "SPDX id or URL"},
                "ce_attribution": {**_TEXT, "description": "To be printed where the data is shown"},
            },
        },
        "payload": {"$ref": f"#/components/schemas/{product.name}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": product.key}, "bindingVersion": BINDING}},
    }


def _payload(product: str) -> Document:
    """A schema inside the document: AsyncAPI's own dialect, so without the address of another."""
    return {key: value for key, value in schemas.schema(product).items() if key != "$schema"}
