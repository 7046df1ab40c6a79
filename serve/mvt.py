"""Vector tiles as bytes: lines with properties, encoded as the Mapbox Vector Tile specification 2.1 says (https://github.com/mapbox/vector-tile-spec).

The geometry of all lines of a tile is turned into commands in one go with numpy; the message itself is written by protobuf. (The package mapbox-vector-tile holds
protobuf below 7 and takes about a millisecond a street: a tile of a large city has 40,000.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

#: A tile's own units along its edge.
EXTENT = 4096
_FIELD = descriptor_pb2.FieldDescriptorProto
_MOVE_TO, _LINE_TO = 1, 2
_LINESTRING = 2


def _tile_class() -> Any:
    """The message class of ``vector_tile.proto`` 2.1."""
    file = descriptor_pb2.FileDescriptorProto(name="vector_tile.proto", package="vector_tile", syntax="proto2")
    tile = file.message_type.add(name="Tile")
    kinds = tile.enum_type.add(name="GeomType")
    for number, name in enumerate(("UNKNOWN", "POINT", "LINESTRING", "POLYGON")):
        kinds.value.add(name=name, number=number)

    def fields(message: Any, *wanted: tuple[str, int, int, str, bool]) -> None:
        for name, number, kind, of, repeated in wanted:
            field = message.field.add(
                name=name, number=number, type=kind, label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            )
            if of:
                field.type_name = f".vector_tile.Tile.{of}"
            if repeated and kind == _FIELD.TYPE_UINT32:
                field.options.packed = True

    fields(
        tile.nested_type.add(name="Value"),
        ("string_value", 1, _FIELD.TYPE_STRING, "", False),
        ("float_value", 2, _FIELD.TYPE_FLOAT, "", False),
        ("double_value", 3, _FIELD.TYPE_DOUBLE, "", False),
        ("int_value", 4, _FIELD.TYPE_INT64, "", False),
        ("uint_value", 5, _FIELD.TYPE_UINT64, "", False),
        ("sint_value", 6, _FIELD.TYPE_SINT64, "", False),
        ("bool_value", 7, _FIELD.TYPE_BOOL, "", False),
    )
    fields(
        tile.nested_type.add(name="Feature"),
        ("id", 1, _FIELD.TYPE_UINT64, "", False),
        ("tags", 2, _FIELD.TYPE_UINT32, "", True),
        ("type", 3, _FIELD.TYPE_ENUM, "GeomType", False),
        ("geometry", 4, _FIELD.TYPE_UINT32, "", True),
    )
    fields(
        tile.nested_type.add(name="Layer"),
        ("version", 15, _FIELD.TYPE_UINT32, "", False),
        ("name", 1, _FIELD.TYPE_STRING, "", False),
        ("features", 2, _FIELD.TYPE_MESSAGE, "Feature", True),
        ("keys", 3, _FIELD.TYPE_STRING, "", True),
        ("values", 4, _FIELD.TYPE_MESSAGE, "Value", True),
        ("extent", 5, _FIELD.TYPE_UINT32, "", False),
    )
    fields(tile, ("layers", 3, _FIELD.TYPE_MESSAGE, "Layer", True))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("vector_tile.Tile"))


Tile = _tile_class()


def commands(
    points: NDArray[np.int64], parts: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[list[int], NDArray[np.int64], list[int]]:
    """Draw commands of lines in the units of a tile.

    Args:
        points: (n, 2) whole units, all parts after one another.
        parts: (p + 1,) where each part begins in ``points``, and the end.
        owners: (p,) to which line each part belongs, rising.

    Returns:
        Command integers of all lines after one another; where each drawn line begins in them, and the end; owners that are drawn. Points that repeat the one
        before are left out, then parts with fewer than two points.

    >>> commands(np.array([[2, 2], [2, 2], [2, 10], [10, 10]]), np.array([0, 4]), np.array([7]))[0]
    [9, 4, 4, 18, 0, 16, 16, 0]
    """
    part = np.repeat(np.arange(len(owners)), np.diff(parts))
    first = np.zeros(len(points), dtype=bool)
    first[parts[:-1][np.diff(parts) > 0]] = True
    moved = first | np.r_[True, (points[1:] != points[:-1]).any(axis=1)] if len(points) else first
    points, part = points[moved], part[moved]
    keep = np.bincount(part, minlength=len(owners)) >= 2
    points, part = points[keep[part]], part[keep[part]]
    lengths = np.bincount(part, minlength=len(owners))[keep]
    drawn = owners[keep]
    if not len(drawn):
        return [], np.zeros(1, dtype=np.int64), []
    begin = np.r_[0, np.cumsum(lengths)][:-1]
    # deltas run through a line's parts; its first point is told from the tile's corner
    delta = points.copy()
    delta[1:] -= points[:-1]
    new_line = np.r_[True, drawn[1:] != drawn[:-1]]
    delta[begin[new_line]] = points[begin[new_line]]
    zigzag = (delta << 1) ^ (delta >> 63)
    # a part is MoveTo(1) x y LineTo(n - 1) x y ...: two commands more than coordinates
    at = np.r_[0, np.cumsum(2 + 2 * lengths)]
    out = np.empty(at[-1], dtype=np.int64)
    shift = np.repeat(at[:-1] - 2 * begin, lengths) + 2 * np.arange(len(points)) + 2
    shift[begin] -= 1
    out[shift], out[shift + 1] = zigzag[:, 0], zigzag[:, 1]
    out[at[:-1]] = (1 << 3) | _MOVE_TO
    out[at[:-1] + 3] = ((lengths - 1) << 3) | _LINE_TO
    return out.tolist(), np.r_[at[:-1][new_line], at[-1]], drawn[new_line].tolist()


def lines_layer(
    tile: Any,
    name: str,
    points: NDArray[np.int64],
    parts: NDArray[np.int64],
    owners: NDArray[np.int64],
    properties: Sequence[tuple[str, Sequence[str | int | None]]],
) -> None:
    """Add a layer of lines to ``tile``; a layer in which nothing is left to draw is not added.

    Args:
        points, parts, owners: as for ``commands``.
        properties: columns by name, a value an owner; None is left out.
    """
    drawn, begins, lines = commands(points, parts, owners)
    if not lines:
        return
    layer = tile.layers.add(version=2, name=name, extent=EXTENT)
    layer.keys.extend([key for key, _ in properties])
    known: dict[str | int, int] = {}
    add, at = layer.features.add, begins.tolist()
    for n, line in enumerate(lines):
        tags: list[int] = []
        for k, (_, column) in enumerate(properties):
            value = column[line]
            if value is None:
                continue
            index = known.get(value)
            if index is None:
                index = known[value] = len(known)
            tags += (k, index)
        add(type=_LINESTRING, tags=tags, geometry=drawn[at[n] : at[n + 1]])
    values = layer.values
    for value in known:
        if isinstance(value, str):
            values.add(string_value=value)
        else:
            values.add(uint_value=value)
