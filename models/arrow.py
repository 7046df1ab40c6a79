"""Records as Arrow tables: columns typed from the record classes, the same table for the same records."""

from __future__ import annotations

import io
import types
import typing
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pj

from models.records import DeadLetter, Late, Record
from models.topics import PRODUCTS

RECORDS: dict[str, type[Record]] = {**{p.name: p.record for p in PRODUCTS.values()}, "dead-letter": DeadLetter, "late": Late}


def arrow_schema(record: type[msgspec.Struct]) -> pa.Schema:
    """Columns of a record class; times become timestamps in UTC, nested records become structs.

    >>> from models.records import FeedHealth
    >>> arrow_schema(FeedHealth).field("messages_s").type, arrow_schema(FeedHealth).field("since").type
    (DataType(double), TimestampType(timestamp[ms, tz=UTC]))
    """
    hints = typing.get_type_hints(record, include_extras=True)
    return pa.schema([pa.field(f.encode_name, _arrow(hints[f.name])) for f in msgspec.structs.fields(record)])


def _arrow(hint: Any) -> pa.DataType:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _arrow(next(a for a in typing.get_args(hint) if a is not type(None)))
    if origin is typing.Annotated:
        extra = [m.extra_json_schema or {} for m in hint.__metadata__ if isinstance(m, msgspec.Meta)]
        return pa.timestamp("ms", tz="UTC") if any(e.get("format") == "date-time" for e in extra) else _arrow(hint.__origin__)
    if origin is typing.Literal:
        return pa.string()
    if origin is list:
        return pa.list_(_arrow(typing.get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return pa.struct(list(arrow_schema(hint)))
    if origin is dict or hint is dict:
        return pa.string()
    return {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[hint]


def table(product: str, values: list[bytes]) -> pa.Table:
    """JSON records of one product as a table."""
    schema = arrow_schema(RECORDS[product])
    if not values:
        return schema.empty_table()
    objects = [f.encode_name for f in msgspec.structs.fields(RECORDS[product]) if _is_object(f.type)]
    data = b"\n".join(_as_text(v, objects) for v in values) if objects else b"\n".join(values)
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return pj.read_json(io.BytesIO(data), read_options=pj.ReadOptions(block_size=len(data) + 1, use_threads=False), parse_options=options)


def _is_object(hint: Any) -> bool:
    """Whether a field is a JSON object of any content: GeoJSON, texts by language."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _is_object(hint.__origin__)
    if origin in (typing.Union, types.UnionType):
        return any(_is_object(a) for a in typing.get_args(hint))
    return origin is dict or hint is dict


def _as_text(value: bytes, objects: list[str]) -> bytes:
    """The record with its objects written as JSON texts, which is what their columns hold."""
    fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    fields |= {name: msgspec.Raw(msgspec.json.encode(bytes(fields[name]).decode())) for name in objects if name in fields}
    return msgspec.json.encode(fields)
