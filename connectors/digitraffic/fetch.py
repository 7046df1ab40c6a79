"""Digitraffic's side of the wire, with the manners it asks for (README.md beside this file)."""

from __future__ import annotations

import msgspec

from connectors.cities import FeedSettings, Http, Mqtt

_HEADERS = {"Accept": "application/json", "Digitraffic-User": "tilannekuva/connector"}


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """The settings, with Digitraffic-User in every request, and a status topic, since the broker drops clients whose topics are quiet."""
    mqtt = feed.mqtt
    if mqtt is not None:
        roots = sorted({topic.split("/")[0] for topic in mqtt.topics if not topic.startswith(("+", "#"))})
        missing = [f"{root}/status" for root in roots if not {f"{root}/status", f"{root}/#"} & set(mqtt.topics)]
        mqtt = msgspec.structs.replace(mqtt, topics=(*mqtt.topics, *missing))
    return mqtt, tuple(msgspec.structs.replace(h, headers=_HEADERS | h.headers) for h in feed.http)
