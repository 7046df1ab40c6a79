"""A street network from the drawn lines of routes alone, for cities (or days) without a street map.

Lines of one city are drawn over the same vertices, so rounding these to 1 m makes them one graph. It is cut where streets meet or
a line begins or ends; each piece of it that a line runs over is a directed segment. It knows directions and lengths; limits, lanes
and names it cannot know.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray

from geo import assemble
from geo.chain import chain
from geo.network import Schedule, Segments, Shapes
from geo.polylines import grid_mm
from geo.project import Plane
from models.errors import ConfigError

Points = NDArray[np.float64]

#: HSL's kinds of line (JL_LAJI) by mode of travel. Train, metro and ferry do not use the streets.
HSL_MODES = {"01": "bus", "21": "bus", "08": "bus", "02": "tram", "06": "metro", "07": "ferry", "12": "train"}
#: Modes whose lines become segments, and what those segments represent.
LAYER = {"bus": "general_traffic", "tram": "rail", "trolleybus": "general_traffic"}

#: Vertices within one cell of this size are one, metres.
CELL_M = 1.0


@dataclass(frozen=True)
class DrawnLine:
    """One direction of one route as it is drawn. ``parts`` follow each other; between two that do not touch lies a gap."""

    route_id: str
    direction_id: int
    mode: str
    parts: tuple[Points, ...]  #: (k, 2) east, north, metres
    sure: bool = True  #: False: it may have been drawn from its last stop to its first

    @property
    def shape_id(self) -> str:
        return f"{self.route_id}_{self.direction_id}"


Cell = tuple[int, int]


def _cells(points: Points) -> list[Cell]:
    grid = np.rint(points / CELL_M).astype(np.int64)
    return list(zip(grid[:, 0].tolist(), grid[:, 1].tolist(), strict=True))


def _walks(line: DrawnLine, corner: dict[Cell, tuple[float, float]]) -> list[list[Cell]]:
    """The line as walks over cells; a cell's corner is the least of the vertices in it, whichever line brings it."""
    walks: list[list[Cell]] = []
    for part in line.parts:
        walk: list[Cell] = []
        for cell, (east, north) in zip(_cells(part), part.tolist(), strict=True):
            corner[cell] = min(corner.get(cell, (east, north)), (east, north))
            if not walk or walk[-1] != cell:
                walk.append(cell)
        if walks and walk and walks[-1][-1] == walk[0]:
            walks[-1].extend(walk[1:])
        elif len(walk) > 1:
            walks.append(walk)
    return walks


def turned(lines: Sequence[DrawnLine]) -> list[DrawnLine]:
    """The lines, with those of unsure direction turned round where the sure ones mostly run against them on the streets they share."""
    driven: set[tuple[str, Cell, Cell]] = set()
    for line in lines:
        if line.sure:
            driven.update((line.mode, a, b) for walk in _walks(line, {}) for a, b in pairwise(walk))
    result = []
    for line in lines:
        votes = 0.0
        if not line.sure:
            for a, b in (edge for walk in _walks(line, {}) for edge in pairwise(walk)):
                votes += ((line.mode, a, b) in driven) * math.dist(a, b) - ((line.mode, b, a) in driven) * math.dist(a, b)
        result.append(replace(line, parts=tuple(part[::-1] for part in reversed(line.parts))) if votes < 0 else line)
    return result


def _cuts(walks: Iterable[list[Cell]]) -> set[Cell]:
    """Cells at which segments end: other than two neighbours, a line's end, or a turn on the spot."""
    neighbours: dict[Cell, set[Cell]] = defaultdict(set)
    cuts: set[Cell] = set()
    for walk in walks:
        cuts.update((walk[0], walk[-1]))
        for a, b in pairwise(walk):
            neighbours[a].add(b)
            neighbours[b].add(a)
        cuts.update(b for a, b, c in zip(walk, walk[1:], walk[2:], strict=False) if a == c)
    cuts.update(cell for cell, others in neighbours.items() if len(others) != 2)
    return cuts


def _segment_id(layer: str, run: Sequence[Cell]) -> str:
    middle = hashlib.sha256(np.array(run[1:-1], "<i8").tobytes()).hexdigest()[:8]
    (e1, n1), (e2, n2) = run[0], run[-1]
    return f"{'t' if layer == 'rail' else 'l'}{e1}_{n1}_{e2}_{n2}_{middle}"


def segments_and_shapes(lines: Sequence[DrawnLine]) -> tuple[Segments, Shapes, Schedule]:
    """Directed segments of the lines, their shapes, and which shapes a route has.

    A segment's id is made of its ends and its middle on a 1 m grid: it stays while that stretch is drawn the same and no new street
    or line's end cuts it. Every shape runs exactly over its own segments. Shapes of modes without streets have no pieces.
    """
    corner: dict[str, dict[Cell, tuple[float, float]]] = defaultdict(dict)
    walks = [_walks(line, corner[LAYER.get(line.mode, line.mode)]) for line in lines]
    cuts = {
        layer: _cuts(walk for line, own in zip(lines, walks, strict=True) if LAYER.get(line.mode, line.mode) == layer for walk in own)
        for layer in sorted(corner)
    }
    streets: dict[str, assemble.Street] = {}
    runs_of: list[list[list[str]]] = []  # per line, per walk: segment ids
    for line, own in zip(lines, walks, strict=True):
        layer = LAYER.get(line.mode)
        runs_of.append([_cut(walk, cuts[layer], layer, corner[layer], streets) if layer else [] for walk in own])
    segments = assemble.segments(list(streets.values()))
    index = {segment_id: i for i, segment_id in enumerate(segments.segment_id)}

    order = sorted((i for i in range(len(lines)) if walks[i]), key=lambda i: lines[i].shape_id)
    points: list[Points] = []
    pieces: list[list[assemble.Piece]] = []
    by_route: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row, i in enumerate(order):
        layer_corner = corner[LAYER.get(lines[i].mode, lines[i].mode)]
        points.append(np.array([layer_corner[cell] for walk in walks[i] for cell in walk]))
        pieces.append(_pieces(walks[i], runs_of[i], layer_corner, segments, index))
        by_route[lines[i].route_id, lines[i].direction_id].append(row)
    shapes = assemble.shapes([lines[i].shape_id for i in order], points, pieces)
    return segments, shapes, Schedule({}, {}, {key: tuple(rows) for key, rows in by_route.items()})


def _cut(
    walk: list[Cell], cuts: set[Cell], layer: str, corner: dict[Cell, tuple[float, float]], streets: dict[str, assemble.Street]
) -> list[str]:
    """Segment ids along one walk; segments that are new are added to ``streets``."""
    at = [0] + [i for i in range(1, len(walk) - 1) if walk[i] in cuts] + [len(walk) - 1]
    ids = []
    for a, b in pairwise(at):
        run = walk[a : b + 1]
        segment_id = _segment_id(layer, run)
        ids.append(segment_id)
        if segment_id not in streets:
            streets[segment_id] = assemble.Street(
                segment_id=segment_id,
                points=np.array([corner[cell] for cell in run]),
                from_node=(layer, run[0]),
                to_node=(layer, run[-1]),
                road_class="tram" if layer == "rail" else "transit_line",
                represents=layer,
                opposite=_segment_id(layer, run[::-1]),
            )
    return ids


def _pieces(
    walks: list[list[Cell]],
    runs: list[list[str]],
    corner: dict[Cell, tuple[float, float]],
    segments: Segments,
    index: dict[str, int],
) -> list[assemble.Piece]:
    """Whole segments one after the other; where one walk ends and the next begins elsewhere there is a gap."""
    pieces: list[assemble.Piece] = []
    along, last = 0.0, None
    for walk, ids in zip(walks, runs, strict=True):
        here = grid_mm(corner[walk[0]])
        if last is not None:
            along += float(np.hypot(*(here - last)))
        last = grid_mm(corner[walk[-1]])
        for segment_id in ids:
            row = index[segment_id]
            length = float(segments.length_m[row])
            pieces.append((along, along + length, row, 0.0))
            along += length
    return pieces


def read_table(path: Path) -> geopandas.GeoDataFrame:
    """The table of a shapefile (or a zip with one) with HSL's columns NUMERO, SUUNTA, JL_LAJI, in WGS 84.

    Raises:
        ConfigError: not readable, or without those columns.
    """
    try:
        frame = geopandas.read_file(path)
    except Exception as error:  # pyogrio and zipfile raise many kinds; all mean that the file is not what was promised
        raise ConfigError(str(path), "lines", type(error).__name__, "a shapefile of lines, or a zip with one") from error
    if missing := [column for column in ("NUMERO", "SUUNTA", "JL_LAJI") if column not in frame.columns]:
        raise ConfigError(str(path), "columns", sorted(map(str, frame.columns)), f"also {', '.join(missing)}")
    if frame.crs is None:
        raise ConfigError(str(path), "crs", None, "a coordinate system (.prj)")
    return frame.to_crs("EPSG:4326")


def bounds(frame: geopandas.GeoDataFrame) -> tuple[float, float, float, float]:
    """(west, south, east, north) of the lines, degrees."""
    west, south, east, north = frame.total_bounds.tolist()
    return west, south, east, north


def drawn_lines(frame: geopandas.GeoDataFrame, plane: Plane, source: str) -> list[DrawnLine]:
    """The rows of such a table; ``source`` names it in errors.

    NUMERO is the route_id of HSL's GTFS and HFP ("1061", "1001 5", "2510"); SUUNTA 1/2 is direction_id 0/1.

    Raises:
        ConfigError: a SUUNTA other than 1 or 2.
    """
    lines = []
    for number, direction, kind, geometry in zip(frame["NUMERO"], frame["SUUNTA"], frame["JL_LAJI"], frame.geometry, strict=True):
        if geometry is None or geometry.is_empty:
            continue
        if str(direction) not in ("1", "2"):
            raise ConfigError(source, f"SUUNTA of line {number}", direction, "1 or 2")
        degrees, part = shapely.get_coordinates(shapely.get_parts([geometry]), return_index=True)
        east, north = plane.to_plane(degrees[:, 1], degrees[:, 0])
        flat = np.column_stack([east, north])
        parts = np.split(flat, np.flatnonzero(np.diff(part)) + 1)
        runs, sure = chain(parts, CELL_M)
        lines.append(DrawnLine(str(number), int(direction) - 1, HSL_MODES.get(str(kind), "other"), tuple(runs), sure))
    return turned(lines)


def read_shapefile(path: Path, plane: Plane) -> list[DrawnLine]:
    """Table and lines at once."""
    return drawn_lines(read_table(path), plane, str(path))
