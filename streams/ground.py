"""What the observe step is built on: its settings, what all observers of a process share, and the tally of what became of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import pyarrow as pa

from geo.drawn import DrawnPlacer
from geo.hmm import HmmSettings
from geo.matching import Matching
from geo.network import Network
from geo.served import ServedPlacer
from geo.sites import SitePlacer
from geo.track import TrackSettings
from models.records import Situation
from streams.cells import CellSettings, Pieces
from streams.clean import CleanSettings
from streams.signals import Signals, SignalSettings
from streams.states import names_of
from streams.texts import join


@dataclass(frozen=True, slots=True)
class ObserveSettings:
    """All parameters of the observe step."""

    #: How long after its end a window still takes events, milliseconds of log time. Longest backlog seen on HFP: 61 s. Finals wait for it.
    lateness_ms: int = 90_000
    clean: CleanSettings = field(default_factory=CleanSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    hmm: HmmSettings = field(default_factory=HmmSettings)
    cells: CellSettings = field(default_factory=CellSettings)
    signals: SignalSettings = field(default_factory=SignalSettings)


class Ground:
    """What all observers of a process share: the network made ready for matching, sums and sites. Nothing in it depends on what was observed."""

    def __init__(self, network: Network, settings: ObserveSettings | None = None) -> None:
        self.settings = settings or ObserveSettings()
        self.network = network
        self.matching = Matching.of(network, self.settings.track, self.settings.hmm)
        self.pieces = Pieces(network, self.settings.cells)

    @cached_property
    def placer(self) -> SitePlacer:
        """Made when the first site is heard of."""
        return SitePlacer(self.network)

    @cached_property
    def signals(self) -> Signals:
        """Made when a vehicle asks for priority for the first time."""
        return Signals(self.network, self.settings.signals)

    @cached_property
    def segment_names(self) -> pa.Array:
        """The name of each segment as a field of a record (``streams/texts.py``)."""
        return join(',"segment_id":"', names_of(self.network.segments.segment_id)[1], '"')

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Number of each segment."""
        return {s: k for k, s in enumerate(self.network.segments.segment_id)}

    @cached_property
    def drawn(self) -> DrawnPlacer:
        """Made when the first situation is drawn."""
        return DrawnPlacer(self.network, self.matching.plane)

    @cached_property
    def served(self) -> ServedPlacer:
        """Made when the first alert of lines or stops is heard of."""
        return ServedPlacer(self.network)

    def on_segments(self, s: Situation) -> Situation:
        """The situation with the segments that it is on: where it is drawn, else where the lines and stops that it names are."""
        if s.segment_ids is not None:
            return s
        found = self.drawn.place(s.geometry) if s.geometry is not None else self.served.place(s.routes or (), s.stops or ())
        return msgspec.structs.replace(s, segment_ids=found or None)


@dataclass(slots=True)
class Tally:
    """What happened to the events, for tests, metrics and the summary of a replay."""

    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    rejected: int = 0
    late: int = 0
    elsewhere: int = 0  #: beyond the city's border, or of sites and places that are not this city's
    passed: int = 0  #: understood and left out on purpose: forecasts, vehicles that are not monitored
    no_position: int = 0
    on_shape: int = 0
    matched: int = 0
    off_route: int = 0

    def add(self, other: Tally) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
