"""Which parser reads which family of feeds. Only the parse side: whoever imports this can open no connection."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from connectors.cities import City, Family, FeedSettings
from connectors.columns import Parsed
from connectors.datex2.parse import Parser as Datex2Parser
from connectors.digitraffic.parse import Parser as DigitrafficParser
from connectors.envelope import Envelope
from connectors.fingrid.parse import Parser as FingridParser
from connectors.foli.parse import Parser as FoliParser
from connectors.gbfs.parse import Parser as GbfsParser
from connectors.gtfs_realtime.parse import Parser as GtfsRealtimeParser
from connectors.hfp.parse import Parser as HfpParser
from connectors.journeys.parse import Parser as JourneysParser
from connectors.liipi.parse import Parser as LiipiParser
from connectors.oulunliikenne.parse import Parser as OulunliikenneParser
from connectors.siri.parse import Parser as SiriParser
from connectors.tampere_lights.parse import Parser as TampereLightsParser
from connectors.wider import OfTheCity


class Parser(Protocol):
    """Parses the envelopes of one feed. What it remembers saves time only: results depend on the envelope alone, unless it also is ``Remembers``."""

    def __init__(self, feed: FeedSettings, city: City) -> None: ...

    def parse(self, envelope: Envelope) -> Parsed: ...


@runtime_checkable
class Remembers(Protocol):
    """A parser that needs earlier documents to read later ones (DATEX II: the table of sites): its memory is part of the observer's snapshot."""

    def export(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


PARSERS: dict[Family, type[Parser]] = {
    "hfp": HfpParser,
    "gtfs_realtime": GtfsRealtimeParser,
    "digitraffic": DigitrafficParser,
    "siri": SiriParser,
    "gbfs": GbfsParser,
    "datex2": Datex2Parser,
    "fingrid": FingridParser,
    "foli": FoliParser,
    "journeys": JourneysParser,
    "liipi": LiipiParser,
    "oulunliikenne": OulunliikenneParser,
    "tampere_lights": TampereLightsParser,
}

#: Families whose sensor readings tell no place: a list of sites, a document of its own, tells which are the city's.
PLACED_BY_LIST: frozenset[Family] = frozenset(("digitraffic", "datex2"))


def parser(feed: FeedSettings, city: City) -> Parser:
    """The parser of one feed."""
    made = PARSERS[feed.family](feed, city)
    return OfTheCity(made, city.box) if feed.wider and not isinstance(made, Remembers) else made
