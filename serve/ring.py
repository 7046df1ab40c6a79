"""The newest records of one city's topics, in memory, shared by all who listen: each listener is a place in it, not a queue of its own.

What many ask for in the same way is put into bytes once. A listener that has fallen too far behind is known by its place, so nothing is buffered for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from models.topics import PRODUCTS
from serve.http import Box
from serve.marks import Marks, Place

#: Records kept for those who come back after a moment, bytes; older ones are read from Kafka.
KEEP_BYTES = 24 * 1024 * 1024
#: What is put into bytes once is kept for this many blocks; who is farther behind has it made again.
KEEP_PACKED = 64
#: What a record weighs beside its bytes.
_OVERHEAD = 200


class Facts(msgspec.Struct, gc=False):
    """What filters look at, whatever the product."""

    lat_deg: float | None = None
    lon_deg: float | None = None
    route_id: str | None = None
    routes: list[str] | None = None
    confidence: float | None = None
    segment_id: str | None = None
    geometry: Any = None
    event_time: str | None = None
    window_start: str | None = None
    window_end: str | None = None
    ingest_time: str | None = None


facts_of = msgspec.json.Decoder(Facts).decode


class Entry:
    """One record of the log."""

    __slots__ = ("_facts", "offset", "place", "value")

    def __init__(self, product: str, partition: int, offset: int, value: bytes) -> None:
        self.place: Place = (product, partition)
        self.offset = offset
        self.value = value
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = facts_of(self.value)
        return self._facts


def _has(*names: str) -> frozenset[str]:
    return frozenset(p.name for p in PRODUCTS.values() if set(names) & set(p.record.__struct_fields__))


_PLACED = _has("lat_deg", "geometry") | {"segment-state", "emission-segment"}
_ROUTED = _has("route_id", "routes")
_CONFIDENT = _has("confidence")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a listener asked for. A filter concerns the products whose records can have what it looks at; a record of theirs that lacks it is left out."""

    products: frozenset[str]
    bbox: Box | None = None  #: west, south, east, north, degrees
    routes: frozenset[str] = frozenset()
    min_confidence: float | None = None

    @property
    def filters(self) -> bool:
        return self.bbox is not None or bool(self.routes) or self.min_confidence is not None

    def passes(self, entry: Entry, box_of: Callable[[str], Box | None]) -> bool:
        """True when the listener wants it. ``box_of``: where a segment is."""
        product = entry.place[0]
        if product not in self.products:
            return False
        if not self.filters:
            return True
        facts = entry.facts
        if (
            self.min_confidence is not None
            and product in _CONFIDENT
            and (facts.confidence is None or facts.confidence < self.min_confidence)
        ):
            return False
        if self.routes and product in _ROUTED and facts.route_id not in self.routes and not self.routes & set(facts.routes or ()):
            return False
        if self.bbox is not None and product in _PLACED:
            at = box_of_facts(facts, box_of)
            west, south, east, north = self.bbox
            return at is not None and at[0] <= east and at[2] >= west and at[1] <= north and at[3] >= south
        return True


def box_of_facts(facts: Facts, box_of: Callable[[str], Box | None]) -> Box | None:
    """Where a record lies: at its own place, along its own geometry, or on its segment; None when it says none of them."""
    if facts.lat_deg is not None and facts.lon_deg is not None:
        return facts.lon_deg, facts.lat_deg, facts.lon_deg, facts.lat_deg
    if facts.geometry is not None:
        return geometry_box(facts.geometry)
    return box_of(facts.segment_id) if facts.segment_id is not None else None


def geometry_box(geometry: Any) -> Box | None:
    """Bounds of a GeoJSON geometry, degrees; None when it has no coordinates.

    >>> geometry_box({"type": "LineString", "coordinates": [[24, 60], [25, 61]]})
    (24, 60, 25, 61)
    """
    lon: list[float] = []
    lat: list[float] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            walk(node.get("coordinates") or node.get("geometries") or [])
        elif isinstance(node, list):
            if len(node) >= 2 and all(isinstance(v, (int, float)) for v in node[:2]):
                lon.append(node[0])
                lat.append(node[1])
            else:
                for inner in node:
                    walk(inner)

    walk(geometry)
    return (min(lon), min(lat), max(lon), max(lat)) if lon else None


Frame = Callable[[str, bytes, str], bytes]


def compose(entries: Iterable[Entry], wanted: Wanted, marks: Marks, box_of: Callable[[str], Box | None], frame: Frame) -> list[bytes]:
    """Frames of those entries that lie beyond ``marks`` and are wanted; ``marks`` moves along, and each frame's id is where it stands then.

    Args:
        frame: (product, value, id) -> bytes.
    """
    out = []
    for entry in entries:
        if entry.place[0] not in wanted.products or entry.offset <= marks.get(entry.place, -1):
            continue
        marks[entry.place] = entry.offset
        if wanted.passes(entry, box_of):
            out.append(frame(entry.place[0], entry.value, marks.text()))
    return out


@dataclass(slots=True)
class Block:
    """Records that were told together."""

    entries: Sequence[Entry]
    before: Marks  #: where the log stood
    size: int  #: bytes
    total: int  #: bytes of all blocks before it, since the start
    packed: dict[Any, Any] = field(default_factory=dict)  #: by what was asked for and how: made once


class Ring:
    """Blocks by number, the oldest ones forgotten."""

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self.keep_bytes = keep_bytes
        self.marks = Marks()  #: where the newest block ends
        self.first = 0  #: number of the oldest block
        self.total = 0  #: bytes since the start
        self._blocks: deque[Block] = deque()
        self._held = 0

    @property
    def end(self) -> int:
        """Number of the next block."""
        return self.first + len(self._blocks)

    def block(self, number: int) -> Block:
        return self._blocks[number - self.first]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add a block."""
        size = sum(len(e.value) for e in entries) + _OVERHEAD * len(entries)
        self._blocks.append(Block(entries, Marks(self.marks), size, self.total))
        for e in entries:
            if e.offset > self.marks.get(e.place, -1):
                self.marks[e.place] = e.offset
        self.total += size
        self._held += size
        if len(self._blocks) > KEEP_PACKED:
            self._blocks[-1 - KEEP_PACKED].packed.clear()
        while self._held > self.keep_bytes and len(self._blocks) > 1:
            self._held -= self._blocks.popleft().size
            self.first += 1

    def begin(self, place: Place, offset: int) -> None:
        """A partition that is read from ``offset`` on."""
        self.marks.setdefault(place, offset - 1)

    def covers(self, marks: Marks, products: frozenset[str]) -> int | None:
        """Number of the block from which on somebody who stands at ``marks`` finds everything; None when some of it is no longer here."""
        floor = self._blocks[0].before if self._blocks else self.marks
        ours = [place for place in self.marks if place[0] in products]
        if any(marks.get(place, -1) < floor.get(place, -1) for place in ours):
            return None
        low, high = self.first, self.end
        while low < high:  # the last block that begins at or before the marks, in every place
            middle = (low + high) // 2
            before = self.block(middle).before
            if all(before.get(place, -1) <= marks.get(place, -1) for place in ours):
                low = middle + 1
            else:
                high = middle
        return max(self.first, low - 1)
