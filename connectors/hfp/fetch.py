"""HFP's side of the wire: what to ask HSL's broker for."""

from __future__ import annotations

from connectors.cities import FeedSettings, Http, Mqtt
from models.errors import ConfigError


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """
    Raises:
        ConfigError: no MQTT, or a filter that does not end with ``#``: new topic levels may be added at the end without notice.
    """
    if feed.mqtt is None:
        raise ConfigError(file, f"feeds.{feed.name}.mqtt", None, "a table: HFP comes over MQTT")
    if feed.http:
        raise ConfigError(file, f"feeds.{feed.name}.http", feed.http[0].url, "no such table: HFP comes over MQTT")
    for topic in feed.mqtt.topics:
        if not topic.endswith("/#"):
            raise ConfigError(file, f"feeds.{feed.name}.mqtt.topics", topic, "filters that end with /#")
    return feed.mqtt, ()
