"""Messages of topics as rows of an archive, and rows as the messages they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from connectors.envelope import SCHEMA, BadEnvelope, Envelope, Item, Source, decode, encode
from models.archive import time_field
from models.topics import PRODUCTS
from streams.tables import arrow_schema, table

TIME = pa.timestamp("ms", tz="UTC")
_POINT = {"lat_deg", "lon_deg"}
_ITEM = pa.struct([("ingest_time", TIME), ("topic", pa.string()), ("body", pa.binary())])
_SOURCE = pa.struct([("connected", pa.bool_()), ("http_status", pa.int64()), ("detail", pa.string()), ("dropped", pa.int64())])
RAW = pa.schema(
    [
        ("kind", pa.string()),
        ("ingest_time", TIME),
        ("items", pa.list_(_ITEM)),
        ("source", _SOURCE),
        ("family", pa.string()),
        ("simulated", pa.bool_()),
        ("unreadable", pa.binary()),
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
    ]
)


class Row(NamedTuple):
    """One Kafka message."""

    offset: int
    time_ms: int  #: Kafka timestamp
    key: bytes | None
    value: bytes | None
    ce_id: str | None


def has_geometry(product: str) -> bool:
    """Whether the records of a product lie somewhere."""
    fields = set(PRODUCTS[product].record.__struct_fields__)
    return "geometry" in fields or fields >= _POINT


def open_schema(product: str) -> pa.Schema:
    """Columns of an open product in an archive.

    >>> open_schema("segment").field("geometry").type, open_schema("feed-health").names[-2:]
    (DataType(binary), ['kafka_partition', 'kafka_offset'])
    """
    fields = [f for f in arrow_schema(PRODUCTS[product].record) if f.name != "geometry"]
    if has_geometry(product):
        fields.append(pa.field("geometry", pa.binary()))
    fields += [pa.field("ce_id", pa.string()), pa.field("deleted", pa.bool_()), pa.field("unreadable", pa.binary())]
    return pa.schema([*fields, pa.field("kafka_partition", pa.int32()), pa.field("kafka_offset", pa.int64())])


def open_table(product: str, partition: int, rows: Sequence[Row]) -> pa.Table:
    """Records of an open topic, one row a message, in the order of their offsets. Nothing is left out: see ``deleted`` and ``unreadable``."""
    deleted = [r.value is None for r in rows]
    values = [_key_fields(product, r.key) if r.value is None else r.value for r in rows]
    unreadable: list[bytes | None] = [None] * len(rows)
    found = _parsed(product, values)
    if found is None:  # at least one is no record: look at each
        decoder = msgspec.json.Decoder(PRODUCTS[product].record)
        for k, value in enumerate(values):
            if not deleted[k]:
                try:
                    values[k] = msgspec.json.encode(decoder.decode(value))
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    values[k], unreadable[k] = b"{}", value
        found = table(product, values)
    columns = {name: found.column(name) for name in found.column_names}
    if has_geometry(product):
        columns["geometry"] = pa.array(_wkb(found), pa.binary())
    columns["ce_id"] = pa.array([r.ce_id for r in rows], pa.string())
    columns["deleted"] = pa.array([d or None for d in deleted], pa.bool_())
    columns["unreadable"] = pa.array(unreadable, pa.binary())
    columns["kafka_partition"] = pa.array(np.full(len(rows), partition, np.int32))
    columns["kafka_offset"] = pa.array([r.offset for r in rows], pa.int64())
    schema = open_schema(product)
    return pa.table([columns[f.name] for f in schema], schema=schema)


def _parsed(product: str, values: list[bytes]) -> pa.Table | None:
    """The fast way, for values that are one JSON object on one line each."""
    if not all(v[:1] == b"{" and b"\n" not in v for v in values):
        return None
    try:
        found = table(product, values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.num_rows == len(values) else None


def _key_fields(product: str, key: bytes | None) -> bytes:
    """The fields of a record that its key tells."""
    names = PRODUCTS[product].key.split(":")
    parts = (key or b"").decode("utf-8", "replace").rsplit(":", len(names) - 1)
    return msgspec.json.encode(dict(zip(names, parts, strict=False)))


def _wkb(found: pa.Table) -> Any:
    if "geometry" in found.column_names:
        return shapely.to_wkb(shapely.from_geojson(found.column("geometry").to_numpy(zero_copy_only=False), on_invalid="ignore"))
    lon, lat = (found.column(n).to_numpy(zero_copy_only=False).astype(np.float64) for n in ("lon_deg", "lat_deg"))
    points = np.full(len(lon), None, object)
    known = np.isfinite(lon) & np.isfinite(lat)
    points[known] = shapely.points(lon[known], lat[known])
    return shapely.to_wkb(points)


def raw_table(city: str, feed: str, partition: int, rows: Sequence[Row]) -> pa.Table:
    """Messages of a raw topic, one row each. What would not give the same bytes again is kept as bytes."""
    read = [_envelope(city, feed, r.value) for r in rows]
    items = [i for e in read if e is not None for i in e.items]
    offsets = np.cumsum([0, *(len(e.items) if e is not None else 0 for e in read)]).astype(np.int32)
    flat = pa.StructArray.from_arrays(
        [
            pa.array([i.ingest_ms for i in items], pa.int64()).cast(TIME),
            pa.array([i.topic for i in items], pa.string()),
            pa.array([i.body for i in items], pa.binary()),
        ],
        fields=list(_ITEM),
    )
    sources = [None if e is None or e.source is None else msgspec.structs.asdict(e.source) for e in read]
    columns = [
        pa.array([e.kind if e is not None else None for e in read], pa.string()),
        pa.array([e.ingest_ms if e is not None else r.time_ms for e, r in zip(read, rows, strict=True)], pa.int64()).cast(TIME),
        pa.ListArray.from_arrays(pa.array(offsets), flat),
        pa.array(sources, _SOURCE),
        pa.array([e.family if e is not None else None for e in read], pa.string()),
        pa.array([e.simulated if e is not None else None for e in read], pa.bool_()),
        pa.array([r.value or b"" if e is None else None for e, r in zip(read, rows, strict=True)], pa.binary()),
        pa.array(np.full(len(rows), partition, np.int32)),
        pa.array([r.offset for r in rows], pa.int64()),
    ]
    return pa.table(columns, schema=RAW)


def _envelope(city: str, feed: str, value: bytes | None) -> Envelope | None:
    try:
        e = decode(value)
    except BadEnvelope:
        return None
    return e if (e.city, e.feed) == (city, feed) and encode(e) == value else None


def envelopes(city: str, feed: str, rows: pa.Table) -> Iterator[tuple[int, Envelope | None]]:
    """Offset and envelope of rows of ``RAW``; None where the message was none."""
    rows = rows.combine_chunks()
    lists = pa.concat_arrays(rows.column("items").chunks) if rows.num_rows else pa.array([], RAW.field("items").type)
    ends = lists.offsets.to_pylist()
    flat = lists.values
    items = list(map(Item, _ms(flat.field("ingest_time")), flat.field("topic").to_pylist(), flat.field("body").to_pylist()))
    columns = (rows.column(n).to_pylist() for n in ("kafka_offset", "kind", "source", "family", "simulated", "unreadable"))
    for k, (ingest_ms, (offset, kind, source, family, simulated, unreadable)) in enumerate(
        zip(_ms(rows.column("ingest_time")), zip(*columns, strict=True), strict=True)
    ):
        if unreadable is not None:
            yield offset, None
            continue
        told = None if source is None else Source(**source)
        yield offset, Envelope(SCHEMA, city, feed, family, kind, ingest_ms, tuple(items[ends[k] : ends[k + 1]]), told, simulated)


def _ms(times: Any) -> list[int]:
    found: list[int] = pc.cast(times, pa.int64()).to_pylist()
    return found


def days(product: str | None, found: pa.Table, rows: Sequence[Row]) -> list[tuple[str, pa.Table]]:
    """The rows by UTC day, ascending. ``product``: None for raw."""
    name = "ingest_time" if product is None else time_field(product)
    stamps = pa.array([r.time_ms for r in rows], pa.int64()).cast(TIME)
    times = pc.coalesce(found.column(name), stamps) if name is not None else pa.chunked_array([stamps])
    day = pc.cast(times, pa.int64()).to_numpy() // 86_400_000
    return [(str(np.datetime64(int(d), "D")), found.filter(pa.array(day == d))) for d in np.unique(day)]


def in_order(product: str | None, found: pa.Table) -> pa.Table:
    """Open records by status, time, key and offset; raw ones as they are, by offset."""
    if product is None:
        return found
    wanted = ["status", time_field(product), *PRODUCTS[product].key.split(":"), "kafka_offset"]
    keys = [(n, "ascending") for n in dict.fromkeys(wanted) if n is not None and n in found.column_names]
    return found.sort_by(keys)
