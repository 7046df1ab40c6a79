"""A city's network from what the city has: a street map, drawn lines, a schedule, an area.

==========================  ======================  ==========================================
given                       segments from           shapes from
==========================  ======================  ==========================================
osm                         the street map          none
osm + gtfs                  the street map          the schedule, laid onto the streets
osm + lines                 the street map          the drawn lines, laid onto the streets
lines                       the drawn lines         the drawn lines, which lie on them exactly
lines + gtfs                the drawn lines         the schedule, laid onto them
==========================  ======================  ==========================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray

from geo import assemble, shapematch, store
from geo import gtfs as gtfs_loader
from geo import lines as lines_loader
from geo import osm as osm_loader
from geo.network import Bool, Network, Schedule, Segments, Shapes
from geo.noding import noded
from geo.polylines import coordinates
from geo.project import Plane, default_crs
from models.errors import ConfigError

Say = Callable[[str], None]
#: Streets this far around the routes are kept when no area is given, metres.
MARGIN_M = 1000.0


def build(
    city: str,
    *,
    osm: Path | None = None,
    lines: Path | None = None,
    gtfs: Path | None = None,
    area: shapely.Geometry | Path | None = None,
    crs: str | None = None,
    licence: str | None = None,
    attribution: str | None = None,
    drive_on_left: bool = False,
    snap_m: float = 0.0,
    progress: Say | None = None,
) -> Network:
    """Build a network; see the table above for what comes from where.

    Args:
        city: name of the city, as in its file.
        osm: OpenStreetMap extract; it may be larger than the city.
        lines: shapefile (or zip with one) of route lines, with HSL's columns.
        gtfs: GTFS zip.
        area: polygon in longitude and latitude, or a file with polygons (any format of geopandas). Segments whose middle lies inside
            stay, and shapes that touch it. Without it a street map is cut to the box of the shapes, with a margin.
        crs: metric plane; by default the usual one of the place.
        licence: SPDX id or URL; by default that of OpenStreetMap where its map is used, else "see source".
        attribution: text to show; by default OpenStreetMap's where its map is used.
        drive_on_left: on which side of the street traffic drives.
        snap_m: drawn lines that lie so near to each other are one street, metres (``geo/noding.py``); only where there is no street map. 0: only those over the same points.
        progress: is told what is being done.

    Raises:
        ConfigError: nothing to build from, an input that is missing or unusable, or nothing left inside the area.
    """
    say: Say = progress or (lambda _: None)
    if osm is None and lines is None:
        raise ConfigError(f"network of {city}", "osm, lines", None, "a street map (--osm) or drawn lines (--lines)")
    for file in (osm, lines, gtfs):
        if file is not None and not file.is_file():
            raise ConfigError(str(file), f"network of {city}", "no such file", "an existing file")
    polygon = _area(area) if area is not None else None
    frame = lines_loader.read_table(lines) if lines is not None else None
    if polygon is not None:
        west, south, east, north = polygon.bounds
    else:
        west, south, east, north = osm_loader.bounds(osm) if osm is not None else lines_loader.bounds(frame)
    plane = Plane(crs or default_crs((south + north) / 2, (west + east) / 2))

    drawn = lines_loader.drawn_lines(frame, plane, str(lines)) if frame is not None else []
    timetable = gtfs_loader.read(gtfs, plane, say) if gtfs is not None else None
    if timetable is not None and polygon is not None:
        timetable = _timetable_in(timetable, polygon, plane)

    if osm is not None:
        drawn = [line for line in drawn if polygon is None or any(_touches(part, polygon, plane) for part in line.parts)]
        ways = [s.points for s in timetable.shapes if s.mode in shapematch.ON_RAILS] if timetable else []
        ways = ways or [part for line in drawn if line.mode in shapematch.ON_RAILS for part in line.parts]
        segments = osm_loader.read(osm, plane, area=polygon or _box(ways, plane), drive_on_left=drive_on_left, progress=say)
        shapes, schedule = _laid(timetable, drawn, segments, say)
    else:
        say(f"cutting {len(drawn)} drawn lines at junctions")
        segments, shapes, schedule = lines_loader.segments_and_shapes(noded(drawn, snap_m) if snap_m > 0 else drawn)
        if polygon is not None:
            segments, shapes, schedule = _part_in(segments, shapes, schedule, polygon, plane)
        if timetable is not None:
            shapes, schedule = _laid(timetable, [], segments, say)
    if len(segments) == 0:
        raise ConfigError(str(osm or lines), f"network of {city}", "no street left", "streets, inside the area if one is given")
    inputs = {"osm": osm, "lines": lines, "gtfs": gtfs}
    network = Network(
        city=city,
        version="",
        crs=plane.crs,
        segments=segments,
        shapes=shapes,
        schedule=schedule,
        source=", ".join(f"{kind}: {file.name}" for kind, file in inputs.items() if file is not None),
        licence=licence or (osm_loader.LICENCE if osm else "see source"),
        attribution=attribution or (osm_loader.ATTRIBUTION if osm else ""),
        notes={f"{kind}_sha256": _sha256(file) for kind, file in inputs.items() if file is not None},
    )
    return store.versioned(network)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _area(area: shapely.Geometry | Path) -> shapely.Geometry:
    if isinstance(area, Path):
        try:
            frame = geopandas.read_file(area)
            polygon = frame.to_crs("EPSG:4326").union_all() if frame.crs is not None else frame.union_all()
        except Exception as error:  # pyogrio raises many kinds; all mean that the file is not what was promised
            raise ConfigError(str(area), "area", type(error).__name__, "a file of polygons, e.g. GeoJSON") from error
    else:
        polygon = area
    if polygon is None or polygon.is_empty or polygon.geom_type not in ("Polygon", "MultiPolygon"):
        raise ConfigError("area" if not isinstance(area, Path) else str(area), "area", getattr(polygon, "geom_type", None), "polygons")
    west, south, east, north = polygon.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise ConfigError("area" if not isinstance(area, Path) else str(area), "area", polygon.bounds, "longitude and latitude")
    return polygon


def _box(ways: Sequence[NDArray[np.float64]], plane: Plane) -> shapely.Geometry | None:
    if not ways:
        return None
    flat = np.concatenate(ways)
    (west, south), (east, north) = flat.min(axis=0) - MARGIN_M, flat.max(axis=0) + MARGIN_M
    lat, lon = plane.to_wgs84([west, west, east, east], [south, north, south, north])
    return shapely.box(lon.min(), lat.min(), lon.max(), lat.max())


def _touches(points: NDArray[np.float64], polygon: shapely.Geometry, plane: Plane) -> bool:
    shapely.prepare(polygon)
    lat, lon = plane.to_wgs84(points[:, 0], points[:, 1])
    return bool(polygon.intersects(shapely.LineString(np.column_stack([lon, lat]))))


def _schedule_of(schedule: Schedule, kept: list[int]) -> Schedule:
    """The trips that take one of the kept shapes, which are numbered anew."""
    row = {old: new for new, old in enumerate(kept)}
    return Schedule(
        {trip: row[i] for trip, i in schedule.by_trip_id.items() if i in row},
        {key: row[i] for key, i in schedule.by_start.items() if i in row},
        {key: own for key, rows in schedule.by_route.items() if (own := tuple(row[i] for i in rows if i in row))},
    )


def _timetable_in(timetable: gtfs_loader.Timetable, polygon: shapely.Geometry, plane: Plane) -> gtfs_loader.Timetable:
    """The shapes that touch the area, and the trips that take them."""
    kept = [i for i, shape in enumerate(timetable.shapes) if _touches(shape.points, polygon, plane)]
    return gtfs_loader.Timetable([timetable.shapes[i] for i in kept], _schedule_of(timetable.schedule, kept))


def _laid(
    timetable: gtfs_loader.Timetable | None, drawn: list[lines_loader.DrawnLine], segments: Segments, say: Say
) -> tuple[Shapes, Schedule]:
    """Shapes of the schedule, or else of the drawn lines, laid onto the segments."""
    if timetable is not None:
        points = [shape.points for shape in timetable.shapes]
        pieces = shapematch.match(points, [shape.mode for shape in timetable.shapes], segments, progress=say)
        stops = [shape.stops for shape in timetable.shapes]
        return assemble.shapes([shape.shape_id for shape in timetable.shapes], points, pieces, stops), timetable.schedule
    kept = sorted((line for line in drawn if line.parts), key=lambda line: line.shape_id)
    points = [np.concatenate(line.parts) for line in kept]
    pieces = shapematch.match(points, [line.mode for line in kept], segments, progress=say)
    by_route: dict[tuple[str, int], tuple[int, ...]] = {}
    for i, line in enumerate(kept):
        by_route[line.route_id, line.direction_id] = (*by_route.get((line.route_id, line.direction_id), ()), i)
    return assemble.shapes([line.shape_id for line in kept], points, pieces), Schedule({}, {}, by_route)


def _part_in(
    segments: Segments, shapes: Shapes, schedule: Schedule, polygon: shapely.Geometry, plane: Plane
) -> tuple[Segments, Shapes, Schedule]:
    """Of a network of drawn lines the segments whose middle lies in the area, the shapes that touch it, and their trips.

    Cut after building, so that segments are the same as without the area.
    """
    middle = shapely.get_coordinates(shapely.line_interpolate_point(shapematch.linestrings(segments.geometry), 0.5, normalized=True))
    lat, lon = plane.to_wgs84(middle[:, 0], middle[:, 1])
    inside: Bool = shapely.intersects_xy(polygon, lon, lat)
    ids = segments.segment_id
    streets = [
        assemble.Street(
            segment_id=ids[i],
            points=coordinates(segments.geometry, i),
            from_node=int(segments.from_node[i]),
            to_node=int(segments.to_node[i]),
            road_class=segments.road_class[i],
            represents=segments.represents[i],
            opposite=ids[segments.opposite[i]] if segments.opposite[i] >= 0 else None,
        )
        for i in np.flatnonzero(inside).tolist()
    ]
    row = np.cumsum(inside) - 1  # ids stay in order, so rows only move up
    points = [coordinates(shapes.geometry, i) for i in range(len(shapes))]
    kept = [i for i in range(len(shapes)) if _touches(points[i], polygon, plane)]
    pieces: list[list[assemble.Piece]] = [
        [
            (float(shapes.piece_from_m[k]), float(shapes.piece_to_m[k]), int(row[shapes.piece_segment[k]]), float(shapes.piece_offset_m[k]))
            for k in range(int(shapes.piece_start[i]), int(shapes.piece_start[i + 1]))
            if inside[shapes.piece_segment[k]]
        ]
        for i in kept
    ]
    cut = assemble.shapes([shapes.shape_id[i] for i in kept], [points[i] for i in kept], pieces)
    return assemble.segments(streets), cut, _schedule_of(schedule, kept)
