"""All that matching needs of a network, prepared once and shared by every observer of a process. Read-only, but for caches that never change a result."""

from __future__ import annotations

from dataclasses import dataclass

from geo.graph import BUS, CAR, RAIL, Graph
from geo.hmm import FreeMatcher, HmmSettings
from geo.nearby import Nearby
from geo.network import Network
from geo.project import Plane
from geo.track import ShapePoints, TrackSettings

#: Who drives where, by mode of transport (``geo.graph.PROFILES``). Trains, metros and ferries are not on streets and are not matched.
PROFILE_OF_MODE = {"bus": BUS, "ubus": BUS, "robot": BUS, "tram": RAIL, "car": CAR, "unknown": BUS}
NOT_ON_STREETS = -1


@dataclass(frozen=True)
class Matching:
    """A network made ready."""

    network: Network
    plane: Plane
    points: ShapePoints
    graph: Graph
    nearby: Nearby
    track: TrackSettings
    hmm: HmmSettings

    @classmethod
    def of(cls, network: Network, track: TrackSettings | None = None, hmm: HmmSettings | None = None) -> Matching:
        track, hmm = track or TrackSettings(), hmm or HmmSettings()
        points, graph = ShapePoints(network, track.spacing_m), Graph(network.segments)
        return cls(network, Plane(network.crs), points, graph, Nearby(network.segments.geometry, hmm.radius_m), track, hmm)

    def free_matcher(self) -> FreeMatcher:
        """A matcher with state of its own on the shared graph and grid."""
        return FreeMatcher(self.network, self.hmm, self.graph, self.nearby)
