"""A built network as a folder of Parquet files, for this project and for anyone with geopandas, QGIS or DuckDB.

``segments.parquet`` and ``shapes.parquet`` are GeoParquet 1.1 (WKB lines, longitude and latitude) and also carry their vertices as
whole millimetres on the network's plane: exact, and faster to load than to parse and project the geometry. ``pieces``, ``stops``,
``trips`` and ``routes`` are plain tables; ``network.json`` names the city, plane, source, licence and the version, a hash of all content.
The same network gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from geo import polylines
from geo.network import Lines, Network, Ragged, Schedule, Segments, Shapes
from geo.project import Plane
from geo.shapematch import linestrings
from models.errors import ConfigError

#: Changes when a folder written before can no longer be read.
FORMAT = 1
#: A column that folders written before it do not have.
LATER = "osm_node_ids"
TABLES = ("segments", "shapes", "pieces", "stops", "trips", "starts", "routes")

_MM = pa.list_(pa.int64())
SCHEMAS: dict[str, pa.Schema] = {
    "segments": pa.schema(
        {
            "segment_id": pa.string(),
            "length_m": pa.float64(),
            "from_node": pa.int64(),
            "to_node": pa.int64(),
            "road_class": pa.string(),
            "represents": pa.string(),
            "speed_limit_kmh": pa.float64(),
            "lanes": pa.int8(),
            "bus_lane": pa.int8(),
            "signal": pa.int8(),
            "opposite": pa.int64(),
            "name": pa.string(),
            "osm_way_ids": pa.list_(pa.int64()),
            "osm_node_ids": pa.list_(pa.int64()),
            "east_mm": _MM,
            "north_mm": _MM,
            "geometry": pa.binary(),
        }
    ),
    "shapes": pa.schema({"shape_id": pa.string(), "east_mm": _MM, "north_mm": _MM, "geometry": pa.binary()}),
    "pieces": pa.schema(
        {"shape": pa.int64(), "from_m": pa.float64(), "to_m": pa.float64(), "segment": pa.int64(), "offset_m": pa.float64()}
    ),
    "stops": pa.schema({"shape": pa.int64(), "along_m": pa.float64(), "stop_id": pa.string()}),
    "trips": pa.schema({"trip_id": pa.string(), "shape": pa.int64()}),
    "starts": pa.schema({"route_id": pa.string(), "direction_id": pa.int64(), "start_time": pa.string(), "shape": pa.int64()}),
    "routes": pa.schema({"route_id": pa.string(), "direction_id": pa.int64(), "shapes": pa.list_(pa.int64())}),
}


def content_version(network: Network) -> str:
    """sha256 of everything in the network but its version, as 64 hex digits."""
    digest = hashlib.sha256()
    head = [FORMAT, network.city, network.crs, network.source, network.licence, network.attribution, network.generated]
    digest.update(json.dumps([*head, sorted(network.notes.items())], ensure_ascii=False).encode())
    for name, columns in _columns(network).items():
        for key, column in columns.items():
            if key == LATER and not any(column):
                continue  # the version of a network without them is what it was
            digest.update(name.encode())
            _update(digest, column)
    return digest.hexdigest()


def _update(digest: Any, column: Any) -> None:
    if isinstance(column, Lines):
        for part in (column.start, _mm(column.east_m), _mm(column.north_m)):
            digest.update(part.astype("<i8").tobytes())
    elif isinstance(column, np.ndarray):
        digest.update(np.ascontiguousarray(column.astype(column.dtype.newbyteorder("<"))).tobytes())
    else:
        column = list(column) if isinstance(column, Ragged) else column
        digest.update(json.dumps(column, ensure_ascii=False, separators=(",", ":")).encode())


def _mm(metres: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(metres * 1000.0).astype(np.int64)


def _columns(network: Network) -> dict[str, dict[str, Any]]:
    """Every table's columns in the order of its schema; geometry as Lines."""
    s, h, d = network.segments, network.shapes, network.schedule
    shape = np.arange(len(h), dtype=np.int64)
    starts, routes = sorted(d.by_start.items()), sorted(d.by_route.items())
    trips = sorted(d.by_trip_id.items())
    return {
        "segments": {
            **{name: getattr(s, name) for name in SCHEMAS["segments"].names if name not in ("east_mm", "north_mm", "geometry", LATER)},
            LATER: s.osm_node_ids or [[]] * len(s),
            "geometry": s.geometry,
        },
        "shapes": {"shape_id": h.shape_id, "geometry": h.geometry},
        "pieces": {
            "shape": np.repeat(shape, np.diff(h.piece_start)),
            "from_m": h.piece_from_m,
            "to_m": h.piece_to_m,
            "segment": h.piece_segment,
            "offset_m": h.piece_offset_m,
        },
        "stops": {"shape": np.repeat(shape, np.diff(h.stop_start)), "along_m": h.stop_along_m, "stop_id": h.stop_id},
        "trips": {"trip_id": [trip for trip, _ in trips], "shape": [row for _, row in trips]},
        "starts": {
            "route_id": [key[0] for key, _ in starts],
            "direction_id": [key[1] for key, _ in starts],
            "start_time": [key[2] for key, _ in starts],
            "shape": [row for _, row in starts],
        },
        "routes": {
            "route_id": [key[0] for key, _ in routes],
            "direction_id": [key[1] for key, _ in routes],
            "shapes": [list(rows) for _, rows in routes],
        },
    }


def versioned(network: Network) -> Network:
    """The network with the version of its content."""
    return replace(network, version=content_version(network))


def save(network: Network, folder: Path) -> None:
    """Write a network into a folder, which is made if need be; a network already there is replaced. ``network.json`` comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.json").unlink(missing_ok=True)
    plane = Plane(network.crs)
    digests: dict[str, str] = {}
    for name, columns in _columns(network).items():
        table = _table(name, columns, plane)
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", compression_level=6)
        digests[name] = hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest()
    about = {
        "format": FORMAT,
        "city": network.city,
        "version": network.version,
        "crs": network.crs,
        "source": network.source,
        "licence": network.licence,
        "attribution": network.attribution,
        "generated": network.generated,
        "notes": dict(sorted(network.notes.items())),
        "counts": {
            "segments": len(network.segments),
            "length_km": round(float(network.segments.length_m.sum()) / 1000, 3),
            "shapes": len(network.shapes),
            "pieces": len(network.shapes.piece_segment),
            "stops_on_shapes": len(network.shapes.stop_id),
            "trips": len(network.schedule.by_trip_id),
        },
        "sha256": digests,
    }
    (folder / "network.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _lon_lat(lines: Lines, plane: Plane) -> Lines:
    lat, lon = plane.to_wgs84(lines.east_m, lines.north_m)
    return replace(lines, east_m=np.round(lon, 7), north_m=np.round(lat, 7))


def _table(name: str, columns: dict[str, Any], plane: Plane) -> pa.Table:
    schema = SCHEMAS[name]
    data: dict[str, Any] = {}
    for key, column in columns.items():
        if not isinstance(column, Lines):
            data[key] = pa.array(column, schema.field(key).type)
            continue
        start = pa.array(column.start, pa.int32())
        data["east_mm"] = pa.ListArray.from_arrays(start, pa.array(_mm(column.east_m)))
        data["north_mm"] = pa.ListArray.from_arrays(start, pa.array(_mm(column.north_m)))
        degrees = _lon_lat(column, plane)
        data["geometry"] = pa.array(shapely.to_wkb(linestrings(degrees), byte_order=1), pa.binary())
        box = [float(f(v)) for f in (np.min, np.max) for v in (degrees.east_m, degrees.north_m)] if len(degrees.east_m) else None
        about: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["LineString"]}
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {**about, **({"bbox": box} if box else {})}}}
        schema = schema.with_metadata({"geo": json.dumps(geo)})
    return pa.table([data[key] for key in schema.names], schema=schema)


def load(folder: Path) -> Network:
    """Read a network that ``save`` wrote.

    Raises:
        ConfigError: the folder, a file or a column is missing or damaged, or of another format; it names the file and what was expected.
    """
    about = _about(folder)
    tables = {name: _read(folder / f"{name}.parquet", name) for name in TABLES}
    count = {name: len(table) for name, table in tables.items()}
    want = about["counts"]
    for name, key in (
        ("segments", "segments"),
        ("shapes", "shapes"),
        ("pieces", "pieces"),
        ("stops", "stops_on_shapes"),
        ("trips", "trips"),
    ):
        if count[name] != want.get(key):
            raise ConfigError(str(folder / f"{name}.parquet"), "rows", count[name], f"{want.get(key)} as network.json says")
    _check_rows(folder, tables, count)
    s = tables["segments"]
    geometry = _lines(s, folder / "segments.parquet")
    segments = Segments(
        geometry=geometry,
        length_m=polylines.lengths(geometry),
        **{name: s[name].to_numpy() for name in ("from_node", "to_node", "speed_limit_kmh", "lanes", "bus_lane", "signal", "opposite")},
        segment_id=s["segment_id"].to_pylist(),
        road_class=_words(s["road_class"]),
        represents=_words(s["represents"]),
        name=_words(s["name"]),
        osm_way_ids=_ragged(s["osm_way_ids"]),
        osm_node_ids=_ragged(s[LATER]) if LATER in s.column_names else [],
    )
    h, pieces, stops = tables["shapes"], tables["pieces"], tables["stops"]
    shapes = Shapes(
        shape_id=h["shape_id"].to_pylist(),
        geometry=_lines(h, folder / "shapes.parquet"),
        piece_start=np.searchsorted(pieces["shape"].to_numpy(), np.arange(len(h) + 1)).astype(np.int64),
        piece_from_m=pieces["from_m"].to_numpy(),
        piece_to_m=pieces["to_m"].to_numpy(),
        piece_segment=pieces["segment"].to_numpy(),
        piece_offset_m=pieces["offset_m"].to_numpy(),
        stop_start=np.searchsorted(stops["shape"].to_numpy(), np.arange(len(h) + 1)).astype(np.int64),
        stop_along_m=stops["along_m"].to_numpy(),
        stop_id=stops["stop_id"].to_pylist(),
    )
    trips, starts, routes = (tables[name].to_pydict() for name in ("trips", "starts", "routes"))
    schedule = Schedule(
        by_trip_id=dict(zip(trips["trip_id"], trips["shape"], strict=True)),
        by_start=dict(
            zip(zip(starts["route_id"], starts["direction_id"], starts["start_time"], strict=True), starts["shape"], strict=True)
        ),
        by_route=dict(zip(zip(routes["route_id"], routes["direction_id"], strict=True), map(tuple, routes["shapes"]), strict=True)),
    )
    names = ("city", "version", "crs", "source", "licence", "attribution", "generated", "notes")
    return Network(segments=segments, shapes=shapes, schedule=schedule, **{name: about[name] for name in names})


def _about(folder: Path) -> dict[str, Any]:
    file = folder / "network.json"
    if not file.is_file():
        raise ConfigError(str(file), "network", "no such file", "a folder written by `tilannekuva network build`")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(str(file), "network", str(error), "JSON") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise ConfigError(str(file), "format", found, f"{FORMAT}; build the network again with `tilannekuva network build`")
    kinds = {
        "city": str,
        "version": str,
        "crs": str,
        "source": str,
        "licence": str,
        "attribution": str,
        "generated": bool,
        "notes": dict,
        "counts": dict,
    }
    for key, kind in kinds.items():
        if not isinstance(about.get(key), kind):
            raise ConfigError(str(file), key, about.get(key), f"a {kind.__name__}")
    return about


def _read(file: Path, name: str) -> pa.Table:
    wanted = [column for column in SCHEMAS[name].names if column not in ("geometry", "length_m", LATER)]
    if not file.is_file():
        raise ConfigError(str(file), "network", "no such file", f"the table of {name}")
    try:
        parquet = pq.ParquetFile(file)
        if missing := [column for column in wanted if column not in parquet.schema_arrow.names]:
            raise ConfigError(str(file), "columns", parquet.schema_arrow.names, f"also {', '.join(missing)}")
        wanted += [column for column in SCHEMAS[name].names if column == LATER and column in parquet.schema_arrow.names]
        return parquet.read(columns=wanted).cast(pa.schema([SCHEMAS[name].field(column) for column in wanted])).combine_chunks()
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(file), "network", str(error)[:200], "a Parquet file as `tilannekuva network build` writes it") from error


def _check_rows(folder: Path, tables: dict[str, pa.Table], count: dict[str, int]) -> None:
    """Indices that point outside would surface far away, in the middle of a stream: refuse them here."""
    points = (
        ("segments", "opposite", -1, count["segments"]),
        ("segments", "from_node", 0, 2 * count["segments"]),
        ("segments", "to_node", 0, 2 * count["segments"]),
        ("pieces", "segment", 0, count["segments"]),
        ("pieces", "shape", 0, count["shapes"]),
        ("stops", "shape", 0, count["shapes"]),
        ("trips", "shape", 0, count["shapes"]),
        ("starts", "shape", 0, count["shapes"]),
    )
    for name, column, low, end in points:
        values = tables[name][column]
        if values.null_count:
            raise ConfigError(str(folder / f"{name}.parquet"), column, None, "a row number in every row")
        found = values.to_numpy()
        if len(found) and not (low <= found.min() and found.max() < end):
            raise ConfigError(
                str(folder / f"{name}.parquet"), column, [int(found.min()), int(found.max())], f"row numbers {low} to {end - 1}"
            )
        if column == "shape" and name in ("pieces", "stops") and np.any(np.diff(found) < 0):
            raise ConfigError(str(folder / f"{name}.parquet"), column, "not ascending", "rows grouped by shape")

    rows = tables["routes"]["shapes"].combine_chunks().flatten().to_numpy()
    if len(rows) and not (rows.min() >= 0 and rows.max() < count["shapes"]):
        raise ConfigError(
            str(folder / "routes.parquet"), "shapes", [int(rows.min()), int(rows.max())], f"row numbers 0 to {count['shapes'] - 1}"
        )


def _words(column: pa.ChunkedArray) -> list[Any]:
    """Texts of which few differ: each is one object, however many rows have it."""
    coded = column.combine_chunks().dictionary_encode()
    words = coded.dictionary.to_pylist()
    return [None if k is None else words[k] for k in coded.indices.to_pylist()]


def _ragged(column: pa.ChunkedArray) -> Ragged:
    lists = column.combine_chunks().fill_null([])
    start = lists.offsets.to_numpy().astype(np.int64)
    return Ragged(start - start[0], lists.flatten().to_numpy())


def _lines(table: pa.Table, file: Path) -> Lines:
    east, north = (table[name].combine_chunks() for name in ("east_mm", "north_mm"))
    if len(table) == 0:
        return polylines.from_parts([])
    start = east.offsets.to_numpy().astype(np.int64)
    start -= start[0]
    if not np.array_equal(start, north.offsets.to_numpy() - north.offsets[0].as_py()) or np.any(np.diff(start) < 2):
        raise ConfigError(str(file), "east_mm, north_mm", "lists of unlike length", "two or more vertices in both")
    return polylines.from_flat(start, east.flatten().to_numpy() / 1000.0, north.flatten().to_numpy() / 1000.0)


def segments_geojson(network: Network) -> bytes:
    """Segments as a GeoJSON FeatureCollection (RFC 7946, 7 decimals), property ``segment_id``; licence and attribution of the network beside them."""
    lines = _lon_lat(network.segments.geometry, Plane(network.crs))
    east, north, start = lines.east_m.tolist(), lines.north_m.tolist(), lines.start.tolist()
    features = [
        {
            "type": "Feature",
            "properties": {"segment_id": segment_id},
            "geometry": {"type": "LineString", "coordinates": list(zip(east[a:b], north[a:b], strict=True))},
        }
        for segment_id, a, b in zip(network.segments.segment_id, start[:-1], start[1:], strict=True)
    ]
    told = {"type": "FeatureCollection", "licence": network.licence, "attribution": network.attribution, "features": features}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
