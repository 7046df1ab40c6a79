"""From single messages to envelopes: which raw partition a message belongs to, and when an envelope is full.

Used by the live connectors (time comes from their clock) and by recordings (time comes from the log); neither is read here.
"""

from __future__ import annotations

import zlib

from connectors.cities import City, FeedSettings
from connectors.envelope import MAX_BYTES, MAX_ITEMS, MAX_WAIT_MS, SCHEMA, Envelope, Item, Source


def partition_of(feed: FeedSettings, topic: str) -> int:
    """Raw partition of a message: the same vehicle always in the same one, by CRC-32 of its topic's vehicle.

    Feeds of other families have one partition: their snapshots and station lists belong together.
    """
    if feed.partitions == 1:
        return 0
    return zlib.crc32(vehicle_key(topic).encode("utf-8", "surrogatepass")) % feed.partitions


def vehicle_key(topic: str) -> str:
    """Operator and vehicle of an HFP topic, or the vehicle of a Digitransit topic, as written there; the whole topic when it is neither.

    >>> vehicle_key("/hfp/v2/journey/ongoing/vp/bus/0018/00423/2550/1/A/07:24/1/0/60;24/19/75/80")
    '0018/00423'
    >>> vehicle_key("/hfp/v1/journey/ongoing/bus/0012/01703/1043/2/A"), vehicle_key("/hfp/v2/deadrun/ongoing/vp/bus/0018/01047"), vehicle_key("x")
    ('0012/01703', '0018/01047', 'x')
    >>> vehicle_key("/gtfsrt/vp/tampere/6921/Nysse/TRAM/156920/0/Hervanta/t1/0815/14:38/130092/61;23/47/82/12/1/da2128/")
    '130092'
    >>> vehicle_key("/gtfsrt/vp/tampere////2/0/Pyynikintori//14:38/130092")
    '130092'
    """
    if topic.startswith("/gtfsrt/vp/"):
        levels = topic.split("/")  # until 2019 the vehicle was the last of 13 levels
        return levels[13] if len(levels) > 13 else levels[-1]
    levels = topic.split("/", 9)
    at = 7 if topic.startswith("/hfp/v2/") else 6
    return f"{levels[at]}/{levels[at + 1]}" if len(levels) > at + 1 else topic


class Gatherer:
    """Gathers the messages of one raw partition. Times never fall within it: a clock that steps back stands still."""

    def __init__(
        self,
        city: City,
        feed: FeedSettings,
        partition: int,
        *,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        max_wait_ms: int = MAX_WAIT_MS,
    ) -> None:
        self.partition = partition
        self.last_ms = 0  #: newest ingest time given out or held
        self.due_ms: int | None = None  #: when what is held must leave; None: nothing is held
        self._city, self._feed = city.name, feed
        self._max_items, self._max_bytes, self._max_wait_ms = max_items, max_bytes, max_wait_ms
        self._items: list[Item] = []
        self._bytes = 0

    def add(self, item: Item) -> list[Envelope]:
        """Take a message; returns the envelopes that it fills."""
        size = len(item.body) + len(item.topic)
        out = [self._take()] if self._items and self._bytes + size > self._max_bytes else []
        if item.ingest_ms < self.last_ms:
            item = Item(self.last_ms, item.topic, item.body)
        self.last_ms = item.ingest_ms
        if not self._items:
            self.due_ms = item.ingest_ms + self._max_wait_ms
        self._items.append(item)
        self._bytes += size
        if len(self._items) >= self._max_items or self._bytes >= self._max_bytes:
            out.append(self._take())
        return out

    def flush(self) -> list[Envelope]:
        """What is held, at most one envelope."""
        return [self._take()] if self._items else []

    def snapshot(self, item: Item) -> list[Envelope]:
        """A polled document: an envelope of its own, after what was held."""
        out = self.flush()
        self.last_ms = max(self.last_ms, item.ingest_ms)
        out.append(self._envelope("snapshot", (Item(self.last_ms, item.topic, item.body),)))
        return out

    def tick(self, now_ms: int, source: Source) -> list[Envelope]:
        """Time passed: what was held, then the tick."""
        out = self.flush()
        self.last_ms = max(self.last_ms, now_ms)
        out.append(Envelope(SCHEMA, self._city, self._feed.name, self._feed.family, "tick", self.last_ms, (), source, self._feed.simulated))
        return out

    def _take(self) -> Envelope:
        items, self._items, self._bytes, self.due_ms = tuple(self._items), [], 0, None
        return self._envelope("messages", items)

    def _envelope(self, kind: str, items: tuple[Item, ...]) -> Envelope:
        feed = self._feed
        ingest_ms = items[-1].ingest_ms
        if kind == "snapshot":
            return Envelope(SCHEMA, self._city, feed.name, feed.family, "snapshot", ingest_ms, items, None, feed.simulated)
        return Envelope(SCHEMA, self._city, feed.name, feed.family, "messages", ingest_ms, items, None, feed.simulated)
