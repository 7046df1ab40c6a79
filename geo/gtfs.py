"""Routes, trips and shapes of a GTFS schedule: the ways that vehicles take, the stops along them, and which trip takes which.

Reference: https://gtfs.org/documentation/schedule/reference/. A feed without shapes (they are optional) gets straight lines between
its stops; such shapes are marked ``drawn = False``.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow
import pyarrow.csv
import shapely
from numpy.typing import NDArray

from geo.network import F64, I64, Schedule
from geo.project import Plane
from models.errors import ConfigError

Points = NDArray[np.float64]
_Key = TypeVar("_Key", str, bytes)

#: GTFS route_type -> mode; the extended types by their hundreds: https://developers.google.com/transit/gtfs/reference/extended-route-types
BASIC = {
    0: "tram",
    1: "metro",
    2: "train",
    3: "bus",
    4: "ferry",
    5: "cable_tram",
    6: "gondola",
    7: "funicular",
    11: "trolleybus",
    12: "monorail",
}
EXTENDED = {
    1: "train",
    2: "bus",
    3: "train",
    4: "metro",
    5: "metro",
    6: "metro",
    7: "bus",
    8: "trolleybus",
    9: "tram",
    10: "ferry",
    12: "ferry",
}


def mode_of(route_type: int) -> str:
    """Mode of travel of a route_type.

    >>> mode_of(3), mode_of(0), mode_of(702), mode_of(109), mode_of(1501)
    ('bus', 'tram', 'bus', 'train', 'other')
    """
    return BASIC.get(route_type, "other") if route_type < 100 else EXTENDED.get(route_type // 100, "other")


@dataclass(frozen=True)
class RouteShape:
    """One way that trips take."""

    shape_id: str
    mode: str
    points: Points  #: (k, 2) east, north, metres; k >= 2
    stops: list[tuple[float, str]]  #: metres along the shape, ascending; stop_id
    drawn: bool  #: False: straight lines between stops


@dataclass(frozen=True)
class Timetable:
    """Shapes in order of shape_id, and a schedule whose shape indices are rows of it."""

    shapes: list[RouteShape]
    schedule: Schedule


def read(path: Path, plane: Plane, progress: Callable[[str], None] | None = None) -> Timetable:
    """A GTFS zip.

    Where several trips of a route, direction and start time take different shapes (weekday and Sunday), the one that runs on most days wins.

    Raises:
        ConfigError: not a zip, or a table or column that GTFS requires is missing.
    """
    say = progress or (lambda _: None)
    say(f"reading {path.name}")
    feed = _Feed(path)
    modes = {
        route: mode_of(_integer(kind, feed, "routes.txt", "route_type"))
        for route, kind in feed.rows("routes.txt", "route_id", "route_type")
    }
    days = _service_days(feed)
    stop_ids, stop_points = _stops(feed, plane)
    calls = _calls(feed, stop_ids)
    drawn = _drawn_shapes(feed, plane)

    patterns: dict[str, Counter[bytes]] = defaultdict(Counter)
    shape_mode: dict[str, Counter[str]] = defaultdict(Counter)
    per_route: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    per_start: dict[tuple[str, int, str], Counter[str]] = defaultdict(Counter)
    of_trip: dict[str, str] = {}
    for trip, route, service, direction, shape in feed.rows(
        "trips.txt", "trip_id", "route_id", "service_id", "direction_id", "shape_id", optional=("direction_id", "shape_id")
    ):
        stops, start = calls.get(trip, (b"", None))
        if not shape or shape not in drawn:
            if len(stops) < 16:  # fewer than two stops: the trip goes nowhere
                continue
            shape = "stops-" + hashlib.sha256("\0".join(stop_ids[i] for i in np.frombuffer(stops, np.int64)).encode()).hexdigest()[:12]
        weight = max(1, days.get(service, 1))
        towards = 1 if direction == "1" else 0
        of_trip[trip] = shape
        patterns[shape][stops] += weight
        shape_mode[shape][modes.get(route, "other")] += weight
        per_route[route, towards][shape] += weight
        if start is not None:
            per_start[route, towards, start][shape] += weight

    say(f"projecting stops onto {len(patterns)} shapes")
    shapes: list[RouteShape] = []
    for shape in sorted(patterns):
        calling = np.frombuffer(_most(patterns[shape])[0], np.int64)
        points = drawn[shape] if shape in drawn else stop_points[calling]
        points = points[np.concatenate([[True], np.any(np.diff(points, axis=0) != 0, axis=1)])]
        points = points[np.isfinite(points).all(axis=1)]
        if len(points) < 2:
            continue
        known = calling[np.isfinite(stop_points[calling]).all(axis=1)]
        along = stops_along(points, stop_points[known])
        pairs = [(float(a), stop_ids[i]) for a, i in zip(along, known, strict=True)]
        shapes.append(RouteShape(shape, _most(shape_mode[shape])[0], points, pairs, shape in drawn))
    row = {shape.shape_id: i for i, shape in enumerate(shapes)}
    schedule = Schedule(
        by_trip_id={trip: row[shape] for trip, shape in sorted(of_trip.items()) if shape in row},
        by_start={key: row[found[0]] for key, counts in sorted(per_start.items()) if (found := [s for s in _most(counts) if s in row])},
        by_route={key: tuple(row[s] for s in _most(counts) if s in row) for key, counts in sorted(per_route.items())},
    )
    return Timetable(shapes, schedule)


def stops_along(points: Points, stops: Points) -> F64:
    """Where along a line its stops lie, in order: the ascending choice with the least sum of squared distances.

    On a loop or a road driven twice the nearest place may be the wrong pass; the order of the stops tells.

    >>> there_and_back = np.array([[0.0, 0], [100, 0], [0, 0]])
    >>> stops_along(there_and_back, np.array([[20.0, 5], [90, 5], [20, -5]])).tolist()
    [20.0, 90.0, 180.0]
    """
    if len(stops) == 0:
        return np.zeros(0)
    points = shapely.get_coordinates(shapely.segmentize(shapely.LineString(points), 10.0))  # short edges: order within one does not matter
    step = np.diff(points, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    begins = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    away = stops[:, None, :] - points[None, :-1, :]
    part = np.clip((away * step).sum(axis=2) / np.where(length > 0, length**2, 1.0), 0.0, 1.0)
    cost = ((away - part[:, :, None] * step) ** 2).sum(axis=2)  # (stops, edges) square metres
    position = begins + part * length
    best = cost[0]
    choices: list[I64] = []
    for own in cost[1:]:
        lowest = np.minimum.accumulate(best)
        improves = np.concatenate([[True], lowest[1:] < lowest[:-1]])  # the first of equals: vehicles serve a stop on the first pass
        choices.append(np.maximum.accumulate(np.where(improves, np.arange(len(best)), 0)))
        best = lowest + own
    edge = int(np.argmin(best))
    edges = [edge]
    for came_from in reversed(choices):
        edge = int(came_from[edge])
        edges.append(edge)
    return np.maximum.accumulate(position[np.arange(len(stops)), edges[::-1]])


class _Feed:
    """The tables of a GTFS zip; the folder that some publishers put around them does not matter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ConfigError(str(path), "gtfs", str(error), "a zip with the tables of GTFS") from error
        self._names = {name.rsplit("/", 1)[-1]: name for name in sorted(self._zip.namelist(), reverse=True) if "__MACOSX" not in name}

    def has(self, table: str) -> bool:
        return table in self._names

    def columns(self, table: str, *columns: str, optional: Sequence[str] = ()) -> list[pyarrow.ChunkedArray]:
        """Columns as strings; optional ones that are missing are empty."""
        if table not in self._names:
            raise ConfigError(str(self.path), table, "missing", "a table that GTFS requires")
        with self._zip.open(self._names[table]) as file:
            try:
                head = file.readline().decode("utf-8-sig").strip()
                names = [name.strip().strip('"') for name in head.split(",")]
                if missing := [column for column in columns if column not in names and column not in optional]:
                    raise ConfigError(str(self.path), table, names, f"also the column {missing[0]}")
                found = pyarrow.csv.read_csv(
                    file,
                    read_options=pyarrow.csv.ReadOptions(column_names=names),
                    parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                    convert_options=pyarrow.csv.ConvertOptions(
                        include_columns=[column for column in columns if column in names],
                        column_types={column: pyarrow.string() for column in columns},
                        strings_can_be_null=False,
                    ),
                )
            except (pyarrow.ArrowInvalid, UnicodeDecodeError, zipfile.BadZipFile, EOFError) as error:
                if "Empty CSV" in str(error):
                    found = pyarrow.table({column: pyarrow.array([], pyarrow.string()) for column in columns})
                else:
                    raise ConfigError(str(self.path), table, str(error)[:200], "a table in CSV") from error
        empty = pyarrow.chunked_array([pyarrow.repeat("", len(found))])
        return [found[column] if column in found.column_names else empty for column in columns]

    def rows(self, table: str, *columns: str, optional: Sequence[str] = ()) -> list[tuple[str, ...]]:
        return list(zip(*(column.to_pylist() for column in self.columns(table, *columns, optional=optional)), strict=True))

    def numbers(self, table: str, name: str, column: pyarrow.ChunkedArray) -> F64:
        """A column of numbers; empty fields are NaN."""
        values = np.char.strip(np.array(column.to_pylist(), dtype=np.str_)) if len(column) else np.zeros(0, np.str_)
        try:
            return np.where(values == "", "nan", values).astype(np.float64)
        except ValueError as error:
            raise ConfigError(str(self.path), f"{table} {name}", str(error)[:100], "numbers") from error


def _integer(value: str, feed: _Feed, table: str, column: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ConfigError(str(feed.path), f"{table} {column}", value, "a whole number")
    return int(value)


def _stops(feed: _Feed, plane: Plane) -> tuple[list[str], Points]:
    ids, lat, lon = feed.columns("stops.txt", "stop_id", "stop_lat", "stop_lon", optional=("stop_lat", "stop_lon"))
    east, north = plane.to_plane(feed.numbers("stops.txt", "stop_lat", lat), feed.numbers("stops.txt", "stop_lon", lon))
    return ids.to_pylist(), np.column_stack([east, north])


def _calls(feed: _Feed, stop_ids: list[str]) -> dict[str, tuple[bytes, str | None]]:
    """trip_id -> (stop rows in order as int64 bytes, start time "HH:MM" or None)."""
    trip, stop, sequence, departure, arrival = feed.columns(
        "stop_times.txt",
        "trip_id",
        "stop_id",
        "stop_sequence",
        "departure_time",
        "arrival_time",
        optional=("departure_time", "arrival_time", "stop_id"),
    )
    if len(trip) == 0:
        return {}
    trips = trip.combine_chunks().dictionary_encode()
    stops = stop.combine_chunks().dictionary_encode()
    place = {stop_id: i for i, stop_id in enumerate(stop_ids)}
    row_of = np.array([place.get(stop_id, -1) for stop_id in stops.dictionary.to_pylist()], np.int64)
    code = trips.indices.to_numpy()
    order = np.lexsort((feed.numbers("stop_times.txt", "stop_sequence", sequence), code))
    row = row_of[stops.indices.to_numpy()[order]]
    edges = np.flatnonzero(np.diff(code[order], prepend=-1, append=-1))
    first = pyarrow.array(order[edges[:-1]])
    starts = [d or a for d, a in zip(departure.take(first).to_pylist(), arrival.take(first).to_pylist(), strict=True)]
    names = trips.dictionary.to_pylist()
    out: dict[str, tuple[bytes, str | None]] = {}
    for k, (a, b) in enumerate(pairwise(edges.tolist())):
        own = row[a:b]
        out[names[code[order[a]]]] = (own[own >= 0].tobytes(), fold_clock(starts[k]))
    return out


def fold_clock(text: str) -> str | None:
    """A GTFS time of day as 24-hour "HH:MM"; None when it is none.

    >>> fold_clock("7:05:30"), fold_clock("25:10:00"), fold_clock("")
    ('07:05', '01:10', None)
    """
    hours, _, rest = text.strip().partition(":")
    if not (hours.isascii() and hours.isdigit() and rest[:2].isascii() and rest[:2].isdigit() and len(rest[:2]) == 2):
        return None
    return f"{int(hours) % 24:02d}:{rest[:2]}"


def _drawn_shapes(feed: _Feed, plane: Plane) -> dict[str, Points]:
    if not feed.has("shapes.txt"):
        return {}
    ids, lat, lon, sequence = feed.columns("shapes.txt", "shape_id", "shape_pt_lat", "shape_pt_lon", "shape_pt_sequence")
    if len(ids) == 0:
        return {}
    shapes = ids.combine_chunks().dictionary_encode()
    code = shapes.indices.to_numpy()
    order = np.lexsort((feed.numbers("shapes.txt", "shape_pt_sequence", sequence), code))
    east, north = plane.to_plane(
        feed.numbers("shapes.txt", "shape_pt_lat", lat)[order], feed.numbers("shapes.txt", "shape_pt_lon", lon)[order]
    )
    points = np.column_stack([east, north])
    edges = np.flatnonzero(np.diff(code[order], prepend=-1, append=-1)).tolist()
    names = shapes.dictionary.to_pylist()
    return {names[code[order[a]]]: points[a:b] for a, b in pairwise(edges) if b - a > 1}


def _service_days(feed: _Feed) -> dict[str, int]:
    """Days on which each service runs; services that only calendar_dates knows are counted there."""
    days: Counter[str] = Counter()
    week = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    if feed.has("calendar.txt"):
        for service, start, end, *runs in feed.rows("calendar.txt", "service_id", "start_date", "end_date", *week):
            span = (_day(end, feed) - _day(start, feed)).days + 1
            days[service] += max(0, span) * runs.count("1") // 7 or runs.count("1")
    if feed.has("calendar_dates.txt"):
        for service, kind in feed.rows("calendar_dates.txt", "service_id", "exception_type"):
            days[service] += 1 if kind == "1" else -1
    return dict(days)


def _day(text: str, feed: _Feed) -> date:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError as error:
        raise ConfigError(str(feed.path), "calendar.txt date", text, "YYYYMMDD") from error


def _most(counts: Counter[_Key]) -> list[_Key]:
    """Keys by falling count, ties in order."""
    return [key for key, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
