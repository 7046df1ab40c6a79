"""SIRI's side of the wire: documents that a GET gives (SIRI Lite as XML, or a server that answers its subscription's state)."""

from __future__ import annotations

import msgspec

from connectors.cities import FeedSettings, Http, Mqtt
from models.errors import ConfigError

_ACCEPT = {"Accept": "application/xml, text/xml;q=0.9"}


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """The settings, asking for XML.

    Raises:
        ConfigError: MQTT: nobody sends SIRI over it.
    """
    if feed.mqtt is not None:
        raise ConfigError(file, f"feeds.{feed.name}.mqtt", feed.mqtt.url, "no such table: SIRI is polled over HTTP")
    return None, tuple(msgspec.structs.replace(h, headers=_ACCEPT | h.headers) for h in feed.http)
