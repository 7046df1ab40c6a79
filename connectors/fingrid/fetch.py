"""Fingrid's side of the wire: plain polling with a key in a header (README.md beside this file)."""

from __future__ import annotations

import msgspec

from connectors.cities import FeedSettings, Http, Mqtt
from models.errors import ConfigError


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """The settings, asking for JSON.

    Raises:
        ConfigError: MQTT, which this service does not have.
    """
    if feed.mqtt is not None:
        raise ConfigError(file, f"feeds.{feed.name}.mqtt", feed.mqtt.url, "no such table: this service is polled")
    return None, tuple(msgspec.structs.replace(h, headers={"Accept": "application/json"} | h.headers) for h in feed.http)
