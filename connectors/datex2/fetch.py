"""DATEX II's side of the wire: documents over HTTP, unpacked and cut to what fits an envelope and concerns the city."""

from __future__ import annotations

import msgspec

from connectors.cities import City, FeedSettings, Http, Mqtt
from connectors.datex2 import cut
from connectors.polling import KEPT, Refused
from connectors.reading import Refused as NotThis
from models.errors import ConfigError

_ACCEPT = {"Accept": "application/xml, text/xml;q=0.9, application/gzip;q=0.8"}


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """The settings, asking for XML.

    Raises:
        ConfigError: MQTT: only Finland sends DATEX II over it, and says more in its other messages.
    """
    if feed.mqtt is not None:
        raise ConfigError(file, f"feeds.{feed.name}.mqtt", feed.mqtt.url, "no such table: DATEX II is polled over HTTP")
    return None, tuple(msgspec.structs.replace(h, headers=_ACCEPT | h.headers) for h in feed.http)


class Cutter:
    """Cuts the documents of one feed (``connectors/datex2/cut.py``)."""

    def __init__(self, city: City) -> None:
        self._cut = cut.Cutter(city)

    def __call__(self, body: bytes) -> list[bytes]:
        """The pieces of a document: itself where it is small and not packed.

        Raises:
            Refused: over a limit, packed wrongly, or a document type, before anything is unfolded.
        """
        try:
            return self._cut(body)
        except NotThis as e:
            raise Refused(e.field, e.value, e.want, body[:KEPT]) from e
