"""Directed segments from an OpenStreetMap extract: roads, bus roads and tram tracks, cut where they meet.

A segment's id is ``w<way>_<from node>_<to node>_<f|b>``: the way, the nodes at its two ends in driving order, and whether it runs as
the way is drawn. So a street keeps its ids in the next extract until it is redrawn or a new street joins it. A second piece of one way
between the same two nodes gets ``.2``; tram tracks on a way that is also a road get ``_t``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import osmium
import shapely
from numpy.typing import NDArray

from geo import assemble, osm_tags
from geo.network import Segments
from geo.project import Plane
from models.errors import ConfigError

#: A signal within this distance before the end of a segment governs that end, metres: stop lines stand before the junction's node.
SIGNAL_REACH_M = 40.0

LICENCE = "ODbL-1.0"
ATTRIBUTION = "© OpenStreetMap contributors"


@dataclass(frozen=True, slots=True)
class _Way:
    way_id: int
    tags: dict[str, str]
    nodes: list[int]
    lon_lat: NDArray[np.float64]  #: (k, 2); NaN where the extract lacks the node
    use: str | None
    tram: bool


def _read(path: Path) -> tuple[list[_Way], dict[int, str]]:
    """Kept ways, and signals: node id -> direction ("forward", "backward" or "both")."""
    ways: list[_Way] = []
    signals: dict[int, str] = {}
    if not path.is_file():
        raise ConfigError(str(path), "osm", "no such file", "an OpenStreetMap extract (.osm.pbf, .osm)")
    try:
        kinds = osmium.osm.NODE | osmium.osm.WAY
        for item in osmium.FileProcessor(str(path), kinds).with_locations().with_filter(osmium.filter.KeyFilter("highway", "railway")):
            if isinstance(item, osmium.osm.Node):
                if item.tags.get("highway") == "traffic_signals":
                    signals[item.id] = item.tags.get("traffic_signals:direction") or "both"
                continue
            if not isinstance(item, osmium.osm.Way):
                continue
            tags = {tag.k: tag.v for tag in item.tags}
            use, tram = osm_tags.use(tags), osm_tags.is_tram(tags)
            if use is None and not tram:
                continue
            nodes, places, last = [], [], None
            for node in item.nodes:
                if node.ref != last:  # a node twice in a row is a mapping error
                    nodes.append(node.ref)
                    places.append((node.location.lon, node.location.lat) if node.location.valid() else (np.nan, np.nan))
                last = node.ref
            if len(nodes) > 1:
                ways.append(_Way(item.id, tags, nodes, np.array(places), use, tram))
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(str(path), "osm", str(error)[:200], "an OpenStreetMap extract (.osm.pbf, .osm)") from error
    if not ways:
        raise ConfigError(str(path), "osm", "no streets in it", "an OpenStreetMap extract with ways tagged highway")
    ways.sort(key=lambda way: way.way_id)
    return ways, signals


def bounds(path: Path) -> tuple[float, float, float, float]:
    """(west, south, east, north) of an extract, degrees: its header's box, else that of its streets."""
    try:
        box = osmium.io.Reader(str(path), osmium.osm.NOTHING).header().box()
    except RuntimeError as error:
        raise ConfigError(str(path), "osm", str(error)[:200], "an OpenStreetMap extract (.osm.pbf, .osm)") from error
    if box.valid():
        return box.bottom_left.lon, box.bottom_left.lat, box.top_right.lon, box.top_right.lat
    places = np.concatenate([way.lon_lat for way in _read(path)[0]])
    west, south = np.nanmin(places, axis=0).tolist()
    east, north = np.nanmax(places, axis=0).tolist()
    return west, south, east, north


def read(
    path: Path,
    plane: Plane,
    *,
    area: shapely.Geometry | None = None,
    drive_on_left: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Segments:
    """Segments of an extract.

    Args:
        path: .osm.pbf or .osm, anything that libosmium reads.
        plane: where lengths are measured.
        area: keep only segments whose middle lies in this polygon, WGS 84 longitude and latitude.
        drive_on_left: on which side of a two-way street ``busway:left`` runs with the way.
        progress: is told what is being done.

    Raises:
        ConfigError: the file is missing, not an extract, or has no streets (in the area).
    """
    say = progress or (lambda _: None)
    say(f"reading streets of {path.name}")
    ways, signals = _read(path)
    say(f"cutting {len(ways)} ways at junctions")
    uses: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for way in ways:
        for layer in _layers(way):
            uses[layer].update(way.nodes)
            uses[layer].update((way.nodes[0], way.nodes[-1]))  # ends count twice: always a cut
    streets: list[assemble.Street] = []
    for way in ways:
        east, north = plane.to_plane(way.lon_lat[:, 1], way.lon_lat[:, 0])
        for tram in _layers(way):
            streets.extend(_streets(way, np.column_stack([east, north]), uses[tram], signals, tram, drive_on_left))
    if area is not None:
        streets = _inside(streets, area, plane)
        if not streets:
            raise ConfigError(str(path), "area", "no street inside", "an area that the extract covers")
    return assemble.segments(streets)


def _layers(way: _Way) -> list[bool]:
    """False: as a road, True: as a tram track. Roads and tracks are cut apart from each other: a track that crosses cuts no street."""
    return ([False] if way.use else []) + ([True] if way.tram else [])


def _runs(way: _Way, uses: Counter[int]) -> list[tuple[int, int]]:
    """Vertex ranges (first, last) between cuts, without those that touch a node outside the extract."""
    known = np.isfinite(way.lon_lat[:, 0])
    at = [i for i, node in enumerate(way.nodes) if uses[node] > 1 or i in (0, len(way.nodes) - 1) or not known[max(i - 1, 0) : i + 2].all()]
    return [(a, b) for a, b in pairwise(at) if known[a : b + 1].all()]


def _streets(
    way: _Way, points: NDArray[np.float64], uses: Counter[int], signals: dict[int, str], tram: bool, drive_on_left: bool
) -> list[assemble.Street]:
    tags, direction = way.tags, osm_tags.oneway(way.tags, tram and way.use is None)
    contraflow = not tram and direction != 0 and osm_tags.contraflow_bus(tags)
    seen: Counter[tuple[int, int]] = Counter()
    streets = []
    for a, b in _runs(way, uses):
        ends = (way.nodes[a], way.nodes[b])
        seen[ends] += 1
        suffix = ("_t" if tram and way.use else "") + (f".{seen[ends]}" if seen[ends] > 1 else "")
        ids = {True: f"w{way.way_id}_{ends[0]}_{ends[1]}_f{suffix}", False: f"w{way.way_id}_{ends[1]}_{ends[0]}_b{suffix}"}
        run, nodes = points[a : b + 1], way.nodes[a : b + 1]
        if not np.any(np.diff(run, axis=0)):
            continue
        driven = [True, False] if direction == 0 or contraflow else [direction == 1]
        for forward in driven:
            against = direction != 0 and forward != (direction == 1)
            streets.append(
                assemble.Street(
                    segment_id=ids[forward],
                    points=run if forward else run[::-1],
                    from_node=ends[0] if forward else ends[1],
                    to_node=ends[1] if forward else ends[0],
                    road_class="tram" if tram else tags["highway"],
                    represents="rail" if tram else "bus_lane" if against else way.use or "general_traffic",
                    speed_limit_kmh=osm_tags.speed_limit_kmh(tags, forward),
                    lanes=-1 if tram else max(1, osm_tags.lanes(tags, forward, 0)) if against else osm_tags.lanes(tags, forward, direction),
                    bus_lane=0
                    if tram
                    else 1
                    if against or way.use == "bus_lane"
                    else osm_tags.bus_lane(tags, forward, direction, drive_on_left),
                    signal=_signal(nodes if forward else nodes[::-1], run if forward else run[::-1], signals, forward),
                    opposite=ids[not forward] if len(driven) == 2 else None,
                    name=tags.get("name"),
                    osm_way_ids=[way.way_id],
                    osm_node_ids=nodes if forward else nodes[::-1],
                )
            )
    return streets


def _signal(nodes: list[int], run: NDArray[np.float64], signals: dict[int, str], forward: bool) -> int:
    """1 when a traffic signal for this direction stands on the last metres of the segment, nearer to its end than to its start."""
    marked = [i for i in range(1, len(nodes)) if nodes[i] in signals and signals[nodes[i]] != ("backward" if forward else "forward")]
    if not marked:
        return 0
    steps = np.hypot(*np.diff(run, axis=0).T)
    to_end = [float(steps[i:].sum()) for i in marked]
    return int(any(rest <= SIGNAL_REACH_M and rest <= float(steps.sum()) / 2 for rest in to_end))


def _inside(streets: list[assemble.Street], area: shapely.Geometry, plane: Plane) -> list[assemble.Street]:
    middle = shapely.line_interpolate_point([shapely.LineString(street.points) for street in streets], 0.5, normalized=True)
    place = shapely.get_coordinates(middle)
    lat, lon = plane.to_wgs84(place[:, 0], place[:, 1])
    shapely.prepare(area)
    return [street for street, inside in zip(streets, shapely.intersects_xy(area, lon, lat), strict=True) if inside]
