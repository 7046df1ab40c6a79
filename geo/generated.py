"""A street network that nobody has built: invented streets and lines inside a real border, for a city whose map is not at hand. For demonstration only.

A jittered grid of streets around a centre, with one-way streets and blocks of different size, and arterials that leave it and meet a ring. Every segment says that it
is invented: its name does, its id begins with ``gen``, and the network's ``generated`` is true. The same arguments give the same network.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from geo import assemble, store
from geo.assemble import Street
from geo.network import Network, Schedule, Segments, Shapes
from geo.project import Plane
from models.errors import ConfigError

LICENCE = "CC-BY-4.0"
ATTRIBUTION = "GENERATED: invented streets, none of them exists. Inside the municipality boundaries © Statistics Finland, CC BY 4.0"
#: Speed limit and lanes of one direction, by class.
CLASSES = {"trunk": (80.0, 2), "primary": (60.0, 2), "secondary": (50.0, 2), "tertiary": (40.0, 1), "residential": (30.0, 1)}

Node = tuple[str, int, int]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the invented city is like. Lengths in metres."""

    blocks: int = 18  #: streets of the grid in each direction, even
    block_m: float = 190.0  #: between two of them
    arterial_every: int = 4  #: every so many-th street of the grid is an arterial, and leaves it
    reach_m: float = 4_200.0  #: how far the arterials go from the centre
    ring_m: float = 2_900.0  #: where a ring road joins them
    one_way: float = 0.25  #: share of small streets that are one-way
    missing: float = 0.12  #: share of small streets that are not there
    stop_every_m: float = 380.0


class _City:
    """Nodes and edges while they are being laid out. Coordinates are east, north from the centre, metres."""

    def __init__(self, plan: Plan, rng: random.Random, inside: shapely.Geometry) -> None:
        self.plan, self.rng, self.inside = plan, rng, inside
        self.turn = rng.uniform(-0.6, 0.6)
        self.place: dict[Node, tuple[float, float]] = {}
        self.edges: dict[tuple[Node, Node], tuple[str, Points]] = {}
        self.half = plan.blocks // 2
        shapely.prepare(inside)
        self._grid()
        self._arterials()
        self._drop_dead_ends()

    def _turned(self, x: float, y: float) -> tuple[float, float]:
        c, s = math.cos(self.turn), math.sin(self.turn)
        return x * c - y * s, x * s + y * c

    def _add_node(self, node: Node, x: float, y: float, jitter: float) -> None:
        x, y = x + self.rng.uniform(-jitter, jitter), y + self.rng.uniform(-jitter, jitter)
        at = self._turned(x, y)
        if shapely.contains_xy(self.inside, *at):
            self.place[node] = at

    def _add_edge(
        self, a: Node, b: Node, kind: str, ways: str = "both", bend: float = 0.0, via: Sequence[tuple[float, float]] = ()
    ) -> None:
        if a not in self.place or b not in self.place:
            return
        start, end = np.array(self.place[a]), np.array(self.place[b])
        across = np.array([-(end - start)[1], (end - start)[0]]) / max(1.0, float(np.hypot(*(end - start))))
        between = np.array(via) if len(via) else ((start + end) / 2 + across * bend)[None]
        points = np.vstack([start, between, end])
        if not shapely.LineString(points).within(self.inside):
            return
        if ways in ("both", "forth"):
            self.edges[a, b] = (kind, points)
        if ways in ("both", "back"):
            self.edges[b, a] = (kind, points[::-1])

    def _class(self, k: int) -> str:
        return "primary" if k == 0 else "secondary" if k % self.plan.arterial_every == 0 else "tertiary" if k % 2 == 0 else "residential"

    def _grid(self) -> None:
        p, h = self.plan, self.half
        for i in range(-h, h + 1):
            for j in range(-h, h + 1):
                main = i % p.arterial_every == 0 or j % p.arterial_every == 0
                self._add_node(("g", i, j), i * p.block_m, j * p.block_m, p.block_m * (0.06 if main else 0.16))
        for i in range(-h, h + 1):
            for j in range(-h, h + 1):
                for k, to in ((j, ("g", i + 1, j)), (i, ("g", i, j + 1))):
                    kind, small = self._class(k), k % p.arterial_every != 0
                    drawn, one_way, bend = self.rng.random(), self.rng.random(), self.rng.uniform(-5, 5)
                    if small and drawn < p.missing:
                        continue
                    ways = "both" if not small or one_way >= p.one_way else "forth" if k % 4 == 1 else "back"
                    self._add_edge(("g", i, j), to, kind, ways, bend)

    def _arterials(self) -> None:
        """Streets of the grid go on outwards, leaning apart; a ring joins those that come far enough."""
        p, h = self.plan, self.half
        marks = [k for k in range(-h, h + 1) if k % p.arterial_every == 0]
        outer = self.half * p.block_m
        ring: list[tuple[float, Node]] = []
        for side, (ux, uy) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1))):
            for k in marks:
                kind = "trunk" if k == 0 else "primary"
                before: Node = ("g", h * ux + k * abs(uy), h * uy + k * abs(ux))
                for step in range(1, round((p.reach_m - outer) / 350) + 1):
                    out = outer + step * 350.0
                    lean = k * p.block_m * (1 + 0.22 * step)
                    node: Node = (f"r{side}", k, step)
                    self._add_node(node, ux * out + abs(uy) * lean, uy * out + abs(ux) * lean, 25.0)
                    self._add_edge(before, node, kind, bend=self.rng.uniform(-20, 20))
                    before = node
                    if node in self.place and abs(out - p.ring_m) <= 175.0:
                        x, y = self.place[node]
                        ring.append((math.atan2(y, x), node))
        ring.sort()
        for (angle, a), (to, b) in zip(ring, [*ring[1:], *((t + 2 * math.pi, n) for t, n in ring[:1])], strict=True):
            if to - angle > 1.6:
                continue
            r0, r1 = math.hypot(*self.place[a]), math.hypot(*self.place[b])
            share = [s / 6 for s in range(1, 6)]
            via = [
                ((r0 + (r1 - r0) * s) * math.cos(angle + (to - angle) * s), (r0 + (r1 - r0) * s) * math.sin(angle + (to - angle) * s))
                for s in share
            ]
            self._add_edge(a, b, "trunk", via=via)

    def _drop_dead_ends(self) -> None:
        """Only what can be reached from the middle and left again stays."""
        if not self.place:
            return
        middle, kept = self.middle(), set(self.place)
        for backwards in (False, True):
            after: dict[Node, list[Node]] = {}
            for a, b in self.edges:
                after.setdefault(b if backwards else a, []).append(a if backwards else b)
            seen, todo = {middle}, [middle]
            while todo:
                for n in after.get(todo.pop(), []):
                    if n not in seen:
                        seen.add(n)
                        todo.append(n)
            kept &= seen
        self.edges = {(a, b): e for (a, b), e in self.edges.items() if a in kept and b in kept}
        self.place = {n: at for n, at in self.place.items() if n in kept}

    def middle(self) -> Node:
        """The junction nearest to the centre."""
        return min(self.place, key=lambda n: (math.hypot(*self.place[n]), n))

    def route(self, start: Node, end: Node) -> list[Node]:
        """The quickest way by the limits; lines prefer arterials."""
        ways: dict[Node, list[tuple[Node, float]]] = {}
        for (a, b), (kind, points) in self.edges.items():
            ways.setdefault(a, []).append((b, float(np.hypot(*np.diff(points, axis=0).T).sum()) / CLASSES[kind][0]))
        best, came, todo = {start: 0.0}, {start: start}, [(0.0, start)]
        while todo:
            cost, n = heapq.heappop(todo)
            if n == end:
                break
            for to, more in ways.get(n, []) if cost <= best[n] else []:
                if cost + more < best.get(to, math.inf):
                    best[to], came[to] = cost + more, n
                    heapq.heappush(todo, (cost + more, to))
        path = [end]
        while path[-1] != start:
            path.append(came[path[-1]])
        return path[::-1]


def generate(
    city: str,
    inside: shapely.Geometry,
    *,
    seed: int = 1,
    centre: tuple[float, float] | None = None,
    crs: str = "EPSG:3067",
    lines: Sequence[str] = ("1", "2", "3", "4", "5", "6", "7", "8"),
    trams: Sequence[str] = (),
    plan: Plan | None = None,
    attribution: str = ATTRIBUTION,
) -> Network:
    """Invent streets and lines.

    Args:
        city: name of the city, as in its file.
        inside: polygon in longitude and latitude; no street leaves it.
        seed: another one gives another town.
        centre: latitude and longitude of the middle; default: where the polygon is widest.
        lines: route ids; each runs across the middle, in both directions.
        trams: those of them that run on rails of their own.

    Raises:
        ConfigError: a polygon with hardly any room around the centre.
    """
    plan, rng, plane = plan or Plan(), random.Random(f"{city} {seed}"), Plane(crs)
    if centre is None:
        widest = shapely.get_point(shapely.maximum_inscribed_circle(inside, tolerance=1e-3), 0)
        centre = (widest.y, widest.x)
    east0, north0 = (round(float(x[0])) for x in plane.to_plane([centre[0]], [centre[1]]))

    def around(lon_lat: Points) -> Points:
        east, north = plane.to_plane(lon_lat[:, 1], lon_lat[:, 0])
        return np.column_stack([east - east0, north - north0])

    laid = _City(plan, rng, shapely.buffer(shapely.transform(inside, around), -60.0))
    if len(laid.place) < 2 * plan.blocks:
        raise ConfigError(
            f"generated network of {city}", "area", f"{len(laid.place)} junctions around {centre}", "a polygon with room for a town"
        )
    ways = _lines(laid, lines)
    rails = {(a, b) for name, _, way in ways if name in trams for a, b in pairwise(way)}
    segments = _segments(laid, sorted(rails), np.array([east0, north0], np.float64))
    shapes, schedule = _shapes(laid, ways, trams, segments)
    source = f"generated: seed {seed}, {plan.blocks} by {plan.blocks} streets around {centre[0]:.4f}, {centre[1]:.4f}"
    return store.versioned(
        Network(city, "", plane.crs, segments, shapes, schedule, source, LICENCE, attribution, generated=True, notes={"seed": str(seed)})
    )


def _lines(laid: _City, names: Sequence[str]) -> list[tuple[str, int, list[Node]]]:
    """Route id, direction and way of each line: across the middle between two ends far apart, there and back."""
    bearing = {
        n: math.atan2(at[1], at[0])
        for n, at in laid.place.items()
        if math.hypot(*at) > 0.6 * laid.plan.reach_m or (n[0] == "g" and max(map(abs, n[1:])) == laid.half)
    }
    middle = laid.middle()
    out = []
    for k, name in enumerate(names):
        wanted = 2 * math.pi * (k / len(names) + laid.rng.uniform(-0.04, 0.04)) - math.pi

        def far(towards: float) -> Node:
            def apart(n: Node) -> float:
                return abs((bearing[n] - towards + math.pi) % (2 * math.pi) - math.pi) - math.hypot(*laid.place[n]) / 20_000

            return min(bearing, key=lambda n: (round(apart(n), 9), n))

        ends = far(wanted), far(wanted + math.pi + laid.rng.uniform(-0.7, 0.7))
        for direction, (a, b) in enumerate((ends, ends[::-1])):
            if a != b and middle not in (a, b):
                out.append((name, direction, laid.route(a, middle)[:-1] + laid.route(middle, b)))
    return out


def _name(a: Node, b: Node, rail: bool = False) -> str:
    return f"gen{'_rail' if rail else ''}_{'_'.join(map(str, a))}_to_{'_'.join(map(str, b))}"


def _segments(laid: _City, rails: list[tuple[Node, Node]], origin: Points) -> Segments:
    into: dict[Node, set[str]] = {}
    for (_, b), (kind, _) in laid.edges.items():
        into.setdefault(b, set()).add(kind)
    crossed = {n for n in into if n[0] == "g" and n[1] % laid.plan.arterial_every == 0 and n[2] % laid.plan.arterial_every == 0}
    streets = []
    for (a, b), (kind, points) in laid.edges.items():
        limit, lanes = CLASSES[kind]
        label = f"Invented street {a[1]}" if a[1] == b[1] else f"Invented street {a[2]} N"
        streets.append(
            Street(
                _name(a, b), np.round(points + origin, 3), a, b, kind, speed_limit_kmh=limit, lanes=lanes, bus_lane=0, signal=int(b in crossed),
                opposite=_name(b, a) if (b, a) in laid.edges else None, name=label,
            )
        )  # fmt: skip
    for a, b in rails:
        _, points = laid.edges[a, b]
        streets.append(
            Street(
                _name(a, b, rail=True), np.round(points + origin, 3), ("rail", *a), ("rail", *b), "tram", represents="rail", speed_limit_kmh=50.0, signal=int(b in crossed),
                opposite=_name(b, a, rail=True) if (b, a) in rails else None, name="Invented tram line",
            )
        )  # fmt: skip
    return assemble.segments(streets)


def _shapes(laid: _City, lines: list[tuple[str, int, list[Node]]], trams: Sequence[str], segments: Segments) -> tuple[Shapes, Schedule]:
    index = {s: i for i, s in enumerate(segments.segment_id)}
    g = segments.geometry
    ids, points, pieces, stops = [], [], [], []
    for name, direction, way in lines:
        rows = [index[_name(a, b, rail=name in trams)] for a, b in pairwise(way)]
        parts = [np.column_stack([g.east_m[g.start[r] : g.start[r + 1]], g.north_m[g.start[r] : g.start[r + 1]]]) for r in rows]
        ends = np.concatenate([[0.0], np.cumsum(segments.length_m[rows])])
        ids.append(f"{name}_{direction}")
        points.append(np.vstack([parts[0], *(p[1:] for p in parts[1:])]))
        pieces.append([(float(a), float(b), r, 0.0) for (a, b), r in zip(pairwise(ends.tolist()), rows, strict=True)])
        count = max(2, round((ends[-1] - 80.0) / laid.plan.stop_every_m))
        stops.append([(40.0 + (ends[-1] - 80.0) * k / (count - 1), f"{name}{'ab'[direction]}{k + 1:02d}") for k in range(count)])
    by_route: dict[tuple[str, int], tuple[int, ...]] = {(name, direction): (row,) for row, (name, direction, _) in enumerate(lines)}
    return assemble.shapes(ids, points, pieces, stops), Schedule({}, {}, by_route)
