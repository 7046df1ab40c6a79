"""Which segments lines run over and stops lie on, as far as the schedule of the network tells: where an alert that names lines and stops is on the map."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from geo.network import I64, Network

#: An alert of more segments than this concerns a region, and is placed nowhere: a long line has some 600, both ways together.
MOST = 2_000


class ServedPlacer:
    """Finds the segments of routes and stops, by their GTFS ids."""

    def __init__(self, network: Network) -> None:
        shapes = network.shapes
        self._ids = network.segments.segment_id
        self._pieces = [shapes.piece_segment[a:b] for a, b in zip(shapes.piece_start[:-1], shapes.piece_start[1:], strict=True)]
        self.shapes_of: dict[str, set[int]] = {}
        for (route, _), of_route in network.schedule.by_route.items():
            self.shapes_of.setdefault(route, set()).update(of_route)
        self._at_stop: dict[str, dict[int, int]] = {}  #: stop -> shape -> segment
        for k in range(len(shapes)):
            a, b = int(shapes.piece_start[k]), int(shapes.piece_start[k + 1])
            first, last = int(shapes.stop_start[k]), int(shapes.stop_start[k + 1])
            if a == b:
                continue
            row = np.clip(np.searchsorted(shapes.piece_from_m[a:b], shapes.stop_along_m[first:last], side="right") - 1, 0, b - a - 1)
            for stop, segment in zip(shapes.stop_id[first:last], shapes.piece_segment[a:b][row].tolist(), strict=True):
                self._at_stop.setdefault(stop, {})[k] = segment

    def knows(self, routes: Iterable[str]) -> bool:
        """Whether the schedule has one of these routes."""
        return any(r in self.shapes_of for r in routes)

    def place(self, routes: Iterable[str], stops: Iterable[str]) -> list[str]:
        """Segment ids, in the network's order. With stops: where those lie, on the shapes of the routes if any are named; without: all that the routes run over. Empty:
        the schedule knows none of them, or there are more than ``MOST``."""
        routes, stops = list(routes), list(stops)
        shapes = {k for r in routes for k in self.shapes_of.get(r, ())}
        found: set[int] = set()
        for stop in stops:
            found |= {segment for k, segment in self._at_stop.get(stop, {}).items() if not routes or k in shapes}
        if not stops:
            rows: list[I64] = [self._pieces[k] for k in sorted(shapes)]
            found = set(np.unique(np.concatenate(rows)).tolist()) if rows else set()
        return [self._ids[k] for k in sorted(found)] if len(found) <= MOST else []
