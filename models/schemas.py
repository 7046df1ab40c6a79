"""JSON Schemas (draft 2020-12) of the open products, generated from the records; and the law that they only ever grow within one major version.

A product's schema is its record as it is written: optional fields are left out, never null; field comments become descriptions;
unknown fields are allowed, because a later version may add some.
"""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from pathlib import Path
from typing import Any

import msgspec

from models import emission_records, indicator_records, line_records, records
from models.records import Record
from models.topics import PRODUCTS, Product

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BASE_URL = "https://tilannekuva.example/schemas/"
#: Keywords that say which values are possible; a consumer may rely on each of them.
_VALUE_KEYWORDS = (
    "type",
    "const",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
)


def schema_url(product: str) -> str:
    """
    >>> schema_url("segment-state")
    'https://tilannekuva.example/schemas/segment-state.v1.json'
    """
    return f"{BASE_URL}{file_name(PRODUCTS[product])}"


def file_name(product: Product) -> str:
    """Name of a product's schema file."""
    return f"{product.name}.v{product.major}.json"


def schema(product: str) -> Schema:
    """The schema of one product.

    Raises:
        KeyError: no such product.
    """
    p = PRODUCTS[product]
    body: Schema = _inlined(p.record)
    first, _, rest = inspect.cleandoc(p.record.__doc__ or "").partition("\n")
    return {
        "$schema": DIALECT,
        "$id": schema_url(product),
        "title": p.title,
        "description": " ".join(f"{first} {rest}".split()),
        "x-topic": f"mobility.{{city}}.{p.name}.v{p.major}",
        "x-key": p.key,
        "type": "object",
        "required": body["required"],
        "properties": body["properties"],
        "additionalProperties": True,
    }


def _inlined(record: type[Record]) -> Schema:
    """Schema of one record with its parts inside and its field comments as descriptions."""
    generated = msgspec.json.schema(record)["$defs"][record.__name__]
    body: Schema = _with_parts(_without_null(generated))
    comments = field_comments(record)
    for name, field in body["properties"].items():
        if comment := comments.get(name):
            known = field.get("description")
            field["description"] = f"{comment} ({known})" if known else comment
    return body


def _with_parts(node: Any) -> Any:
    """The same schema with each reference to another record replaced by that record's schema."""
    if isinstance(node, list):
        return [_with_parts(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        part = _inlined(_record(node["$ref"].rpartition("/")[2]))
        part["additionalProperties"] = True
        return {**part, **{key: value for key, value in node.items() if key != "$ref"}}
    return {key: _with_parts(value) for key, value in node.items()}


def _record(name: str) -> type[Record]:
    """The record class of this name."""
    found: type[Record] = next(getattr(m, name) for m in (records, emission_records, line_records, indicator_records) if hasattr(m, name))
    return found


def _without_null(node: Any) -> Any:
    """The same schema without null alternatives and null defaults, at every depth."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _without_null(value) for key, value in node.items() if not (key == "default" and value is None)}
    if "anyOf" in out:
        kept = [option for option in out["anyOf"] if option != {"type": "null"}]
        if len(kept) == 1:
            del out["anyOf"]
            out = {**kept[0], **out}
        else:
            out["anyOf"] = kept
    return out


def field_comments(record: type) -> dict[str, str]:
    """The ``#:`` comment of each field that has one, as written in the source of the class: beside the field, or in the lines right above it.

    >>> from models.records import FeedHealth
    >>> field_comments(FeedHealth)["lag_p50_s"]
    'ingest time minus event time'
    """
    inherited = [field_comments(base) for base in record.__bases__ if base.__module__ == record.__module__]
    source = textwrap.dedent(inspect.getsource(record))
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT and t.string.startswith("#:")]
    by_line = {t.start[0]: t.string[2:].strip() for t in tokens}
    alone = {t.start[0] for t in tokens if not t.line[: t.start[1]].strip()}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    out: dict[str, str] = {name: comment for known in inherited for name, comment in known.items()}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in alone:
                first -= 1
            lines = [by_line[n] for n in range(first, (node.end_lineno or node.lineno) + 1) if n in by_line]
            if lines:
                out[node.target.id] = " ".join(lines)
    return out


def breaking_changes(old: Schema, new: Schema, path: str = "") -> list[str]:
    """What in ``new`` would break someone who relies on ``old``: each a sentence; empty when the change is only additive.

    Allowed: new optional fields, new values of an enum (every consumer must expect ``unknown`` ones), other words in descriptions.

    >>> breaking_changes({"properties": {"a": {"type": "string"}}}, {"properties": {}})
    ['a: removed']
    """
    out: list[str] = []
    where = path or "record"
    for name, field in old.get("properties", {}).items():
        inner = f"{path}.{name}".lstrip(".")
        if name not in new.get("properties", {}):
            out.append(f"{inner}: removed")
        else:
            out += breaking_changes(field, new["properties"][name], inner)
    was, now = set(old.get("required", [])), set(new.get("required", []))
    out += [f"{path}.{name}: newly required".lstrip(".") for name in sorted(now - was)]
    out += [f"{path}.{name}: no longer always there".lstrip(".") for name in sorted(was - now) if name in new.get("properties", {})]
    for keyword in _VALUE_KEYWORDS:
        if old.get(keyword) != new.get(keyword):
            out.append(f"{where}: {keyword} changed from {old.get(keyword)!r} to {new.get(keyword)!r}")
    if "enum" in old or "enum" in new:
        if "enum" not in old or "enum" not in new:
            out.append(f"{where}: was {'an' if 'enum' in old else 'no'} enumeration, is {'one' if 'enum' in new else 'none'} now")
        else:
            out += [f"{where}: value {value!r} removed" for value in old["enum"] if value not in new["enum"]]
    for keyword in ("items", "additionalProperties"):
        was_inner, now_inner = old.get(keyword), new.get(keyword)
        if isinstance(was_inner, dict) and isinstance(now_inner, dict):
            out += breaking_changes(was_inner, now_inner, f"{path}[]")
        elif was_inner != now_inner:
            out.append(f"{where}: {keyword} changed")
    if len(old.get("anyOf", [])) != len(new.get("anyOf", [])):
        out.append(f"{where}: alternatives changed")
    else:
        for was_option, now_option in zip(old.get("anyOf", []), new.get("anyOf", []), strict=True):
            out += breaking_changes(was_option, now_option, path)
    return out


def encoded(product: str) -> bytes:
    """The schema as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(schema(product)), indent=2) + b"\n"


def write(directory: Path) -> list[Path]:
    """Write every product's schema file. Refuses, before anything is written, a change that is not additive.

    Raises:
        ValueError: a schema that is there already would be broken; the new one needs a new major version.
    """
    directory.mkdir(parents=True, exist_ok=True)
    broken: list[str] = []
    for name, product in PRODUCTS.items():
        path = directory / file_name(product)
        if path.exists():
            broken += [f"{path.name}: {change}" for change in breaking_changes(msgspec.json.decode(path.read_bytes()), schema(name))]
    if broken:
        raise ValueError("not additive, needs a new major version: " + "; ".join(broken))
    out = []
    for name, product in PRODUCTS.items():
        path = directory / file_name(product)
        path.write_bytes(encoded(name))
        out.append(path)
    return out
