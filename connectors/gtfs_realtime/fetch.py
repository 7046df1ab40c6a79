"""GTFS-RT's side of the wire: polled protobuf, or a broker that sends one FeedMessage a vehicle."""

from __future__ import annotations

import msgspec

from connectors.cities import FeedSettings, Http, Mqtt

_ACCEPT = {"Accept": "application/x-protobuf, application/octet-stream;q=0.9, */*;q=0.1"}


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """The settings, asking for protobuf."""
    return feed.mqtt, tuple(msgspec.structs.replace(h, headers=_ACCEPT | h.headers) for h in feed.http)
