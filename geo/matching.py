"""All that matching needs of a network, prepared once and shared by every observer of a process. Read-only, but for caches that never change a result."""

from __future__ import annotations

from dataclasses import dataclass

from geo.graph import BUS, CAR, RAIL, Graph
from geo.hmm import FreeMatcher, HmmSettings
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
    track: TrackSettings
    hmm: HmmSettings

    @classmethod
    def of(cls, network: Network, track: TrackSettings | None = None, hmm: HmmSettings | None = None) -> Matching:
        track = track or TrackSettings()
        return cls(network, Plane(network.crs), ShapePoints(network, track.spacing_m), Graph(network.segments), track, hmm or HmmSettings())

    def free_matcher(self) -> FreeMatcher:
        """A matcher with state of its own on the shared graph."""
        return FreeMatcher(self.network, self.hmm, self.graph)
