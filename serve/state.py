"""The latest picture of one city, held in memory: segments, their states, vehicles, feed health, and the last record of each key of every other open product.

Fed with records of the open topics in any order; a record that is older than what is held never replaces it. It knows no Kafka and no clock:
"now" is log time, the newest ingest time seen. Everything that is served often is kept as bytes that are ready to be sent.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from models import topics
from models.clock import parse_ms, rfc3339
from models.topics import open_topic
from serve.marks import Marks
from serve.past import Past

#: A vehicle that has said nothing for this long, by log time, is no longer shown, ms (GTFS-RT good practice: 90 s; two missed polls more).
VEHICLE_MEMORY_MS = 120_000
#: Forgotten vehicles are looked for each time log time has grown by this much, ms.
PRUNE_EVERY_MS = 5_000
#: Bounds of memory: records beyond them are refused and counted.
MAX_SEGMENTS, MAX_VEHICLES, MAX_FEEDS, MAX_OTHERS = 2_000_000, 100_000, 1_000, 200_000
#: What a city's picture cannot do without.
PRODUCTS = ("segment", "segment-state", "feed-health", "vehicle-position")

_Id = Annotated[str, Meta(min_length=1, max_length=512)]


class _Segment(msgspec.Struct, gc=False):
    segment_id: _Id
    network_version: str
    geometry: msgspec.Raw
    length_m: float
    road_class: str
    represents: str
    name: str | None = None
    speed_limit_kmh: float | None = None
    lanes: int | None = None
    bus_lane: bool | None = None
    generated: bool | None = None
    osm_way_ids: msgspec.Raw = msgspec.Raw(b"[]")
    osm_node_ids: msgspec.Raw = msgspec.Raw(b"[]")


class _Line(msgspec.Struct):
    coordinates: Annotated[list[Annotated[list[float], Meta(min_length=2, max_length=3)]], Meta(min_length=2)]
    type: Annotated[str, Meta(pattern="^LineString$")]


class _State(msgspec.Struct, gc=False):
    segment_id: _Id
    window_start: str
    status: str
    revision: int
    origin: str
    confidence: float
    represents: str
    los: str = "unknown"
    closed: bool = False
    simulated: bool = False


class _Vehicle(msgspec.Struct, gc=False):
    vehicle_id: _Id
    event_time: str
    ingest_time: str
    lat_deg: float | None = None
    lon_deg: float | None = None
    simulated: bool = False


class _Health(msgspec.Struct, gc=False):
    feed: _Id
    event_time: str
    simulated: bool = False


class _Other(msgspec.Struct, gc=False):
    event_time: str | None = None
    window_end: str | None = None
    ingest_time: str | None = None
    simulated: bool = False


class HeldSegment(msgspec.Struct, gc=False):
    """A segment of the network, as bytes: its geometry and the properties that never change."""

    mark: tuple[int, int]  #: partition, offset
    geometry: bytes  #: GeoJSON geometry
    properties: bytes  #: JSON members without braces; no name in it is a name of a segment-state
    represents: bytes  #: JSON string
    network_version: str
    name: str  #: lower case, for searching; empty when it has none
    box: tuple[float, float, float, float]  #: west, south, east, north, degrees
    osm: tuple[bytes, bytes]  #: JSON lists of OpenStreetMap ways and nodes, empty where they are not known
    length_m: float


class HeldState(msgspec.Struct, gc=False):
    """Latest state of a segment."""

    order: tuple[int, int]  #: window start (ms), revision: a greater one is newer
    value: bytes  #: the record as published
    los: str
    origin: str
    confidence: float
    closed: bool
    simulated: bool


class HeldVehicle(msgspec.Struct, gc=False):
    """Latest position of a vehicle."""

    event_ms: int
    value: bytes
    lat_deg: float | None
    lon_deg: float | None
    simulated: bool


class HeldHealth(msgspec.Struct, gc=False):
    """Latest health of a feed."""

    event_ms: int
    value: bytes
    simulated: bool


class HeldOther(msgspec.Struct, gc=False):
    """Last record of a key of any other product."""

    mark: tuple[int, int]  #: partition, offset
    event_ms: int  #: when it happened, else when it was received
    value: bytes
    simulated: bool


class Applied(NamedTuple):
    """A record that was read: what it is, its bytes on one line, and whether it is now the latest of its key."""

    product: str
    value: bytes
    latest: bool


_decode_segment = msgspec.json.Decoder(_Segment).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_state = msgspec.json.Decoder(_State).decode
_decode_vehicle = msgspec.json.Decoder(_Vehicle).decode
_decode_health = msgspec.json.Decoder(_Health).decode
_decode_other = msgspec.json.Decoder(_Other).decode
_encode = msgspec.json.Encoder().encode
_DECODERS: dict[str, Any] = {
    "segment-state": _decode_state,
    "vehicle-position": _decode_vehicle,
    "feed-health": _decode_health,
}


def on_one_line(value: bytes) -> bytes:
    """A record's JSON as an event can carry it.

    Raises:
        msgspec.DecodeError: not JSON, where that had to be looked at.
    """
    return value if value.startswith(b"{") and b"\n" not in value and b"\r" not in value else msgspec.json.format(value, indent=-1)


def keeps_contract(product: str, value: bytes) -> bool:
    """True when a record of a streamed product is one that a picture takes in, whatever it holds already."""
    try:
        decoded = _DECODERS.get(product, _decode_other)(value)
        for name in ("window_start", "event_time", "ingest_time"):
            if time := getattr(decoded, name, None):
                parse_ms(time)
    except (msgspec.MsgspecError, ValueError):
        return False
    return True


class Picture:
    """Latest state of one city."""

    def __init__(self, city: str, prefix: str = "") -> None:
        self.city = city
        #: topic -> product, of all topics that are read
        self.topics = {open_topic(city, product, prefix): product for product in topics.PRODUCTS}
        #: topics without which the picture is not whole
        self.required = frozenset(open_topic(city, product, prefix) for product in PRODUCTS)
        self.segments: dict[str, HeldSegment] = {}
        self.states: dict[str, HeldState] = {}
        self.vehicles: dict[str, HeldVehicle] = {}
        self.health: dict[str, HeldHealth] = {}
        self.others: dict[str, dict[str, HeldOther]] = {product: {} for product in topics.PRODUCTS if product not in PRODUCTS}
        self.log_ms = 0  #: newest log time seen, ms; 0 before the first record
        self.marks = Marks()  #: last offsets read
        self.past = Past()  #: what it has been
        self.network_changes = 0  #: grows with each change of the network
        self.state_changes = 0  #: grows with each change of a segment or its state
        self.refused: dict[str, int] = dict.fromkeys(
            topics.PRODUCTS, 0
        )  #: records that were not what their topic promises, or beyond memory
        self.stale: dict[str, int] = dict.fromkeys(topics.PRODUCTS, 0)  #: records older than what was held
        self._simulated_states = 0
        self.generated = False  #: the newest street is an invented one; a network is invented whole or not at all
        self._pruned_ms = 0
        self._order: tuple[int, list[str], NDArray[np.float64]] = (-1, [], np.empty((0, 4)))
        self._version: tuple[int, str | None] = (-1, None)

    def apply(self, topic: str, key: bytes | None, value: bytes | None, offset: int, partition: int = 0) -> Applied | None:
        """Take in one record; None when it was refused or deletes its key (a tombstone).

        Raises:
            KeyError: the topic is not one of this city's.
        """
        product = self.topics[topic]
        self.marks[product, partition] = max(offset, self.marks.get((product, partition), -1))
        if value is None:
            self._forget(product, (key or b"").decode("utf-8", "replace"))
            return None
        try:
            value = on_one_line(value)
            match product:
                case "segment":
                    latest = self._segment(value, partition, offset)
                case "segment-state":
                    latest = self._state(value)
                case "vehicle-position":
                    latest = self._vehicle(value)
                case "feed-health":
                    latest = self._health(value)
                case _:
                    latest = self._other(product, key, value, partition, offset)
        except (msgspec.MsgspecError, ValueError, OverflowError):
            self.refused[product] += 1
            return None
        if not latest:
            self.stale[product] += 1
        return Applied(product, value, latest)

    def _segment(self, value: bytes, partition: int, offset: int) -> bool:
        s = _decode_segment(value)
        line = _decode_line(s.geometry)
        held = self.segments.get(s.segment_id)
        if held is not None and held.mark > (partition, offset):
            return False
        _room(self.segments, s.segment_id, MAX_SEGMENTS)
        lon, lat = [p[0] for p in line.coordinates], [p[1] for p in line.coordinates]
        if not (min(lon) >= -180 and max(lon) <= 180 and min(lat) >= -90 and max(lat) <= 90):
            raise ValueError("not WGS 84")
        fixed: dict[str, Any] = {
            "name": s.name,
            "road_class": s.road_class,
            "length_m": s.length_m,
            "speed_limit_kmh": s.speed_limit_kmh,
            "lanes": s.lanes,
            "bus_lane": s.bus_lane,
            "generated": s.generated,
            "network_version": s.network_version,
        }
        self.segments[s.segment_id] = HeldSegment(
            mark=(partition, offset),
            geometry=bytes(s.geometry),
            properties=_encode({k: v for k, v in fixed.items() if v is not None})[1:-1],
            represents=_encode(s.represents),
            network_version=s.network_version,
            name=sys.intern((s.name or "").lower()),
            box=(min(lon), min(lat), max(lon), max(lat)),
            osm=(bytes(s.osm_way_ids), bytes(s.osm_node_ids)),
            length_m=s.length_m,
        )
        self.generated = bool(s.generated)
        self.network_changes += 1
        self.state_changes += 1
        return True

    def _state(self, value: bytes) -> bool:
        s = _decode_state(value)
        order = (parse_ms(s.window_start), s.revision)
        if s.status == "final":
            self.past.segment(value)  # a final comes after the provisional records of the next minutes
        held = self.states.get(s.segment_id)
        if held is not None and held.order > order:
            return False
        _room(self.states, s.segment_id, MAX_SEGMENTS)
        self._simulated_states += s.simulated - (held.simulated if held else 0)
        self.states[s.segment_id] = HeldState(order, value, s.los, s.origin, s.confidence, s.closed, s.simulated)
        self.state_changes += 1
        return True

    def _vehicle(self, value: bytes) -> bool:
        v = _decode_vehicle(value)
        event_ms = parse_ms(v.event_time)
        self._advance(parse_ms(v.ingest_time))
        held = self.vehicles.get(v.vehicle_id)
        if (held is not None and held.event_ms > event_ms) or event_ms < self.log_ms - VEHICLE_MEMORY_MS:
            return False
        _room(self.vehicles, v.vehicle_id, MAX_VEHICLES)
        self.vehicles[v.vehicle_id] = HeldVehicle(event_ms, value, v.lat_deg, v.lon_deg, v.simulated)
        self.past.vehicle(v.vehicle_id, event_ms, value)
        return True

    def _health(self, value: bytes) -> bool:
        h = _decode_health(value)
        event_ms = parse_ms(h.event_time)
        self._advance(event_ms)
        held = self.health.get(h.feed)
        if held is not None and held.event_ms > event_ms:
            return False
        _room(self.health, h.feed, MAX_FEEDS)
        self.health[h.feed] = HeldHealth(event_ms, value, h.simulated)
        return True

    def _other(self, product: str, key: bytes | None, value: bytes, partition: int, offset: int) -> bool:
        """The last record of a key by its place in the log, as compaction keeps it."""
        o = _decode_other(value)
        ingest_ms = parse_ms(o.ingest_time) if o.ingest_time else 0
        event_ms = parse_ms(o.event_time) if o.event_time else parse_ms(o.window_end) if o.window_end else ingest_ms
        self._advance(ingest_ms)
        held, name = self.others[product], (key or b"").decode("utf-8", "replace")
        before = held.get(name)
        if before is not None and before.mark[0] == partition and before.mark[1] > offset:
            return False
        _room(held, name, MAX_OTHERS)
        self.past.other(product, name, value)
        held[name] = HeldOther((partition, offset), event_ms, value, o.simulated)
        return True

    def begin(self, product: str, partition: int, offset: int) -> None:
        """A partition that will be read from ``offset`` on."""
        self.marks.setdefault((product, partition), offset - 1)

    def current(self, product: str) -> list[bytes]:
        """The latest records of a product, as published.

        Raises:
            KeyError: no such product, or the segments: of those only what is shown is held.
        """
        return [value for _, value in self.keyed(product)]

    def keyed(self, product: str) -> list[tuple[str, bytes]]:
        """The same with their keys, by which they are sorted."""
        held = self._held(product)
        return [(key, held[key].value) for key in sorted(held) if self._lives(held[key])]

    def record(self, product: str, key: str) -> bytes | None:
        """The latest record of one key; None when there is none.

        Raises:
            KeyError: no such product.
        """
        if product == "segment":
            return self.segment_record(key) if key in self.segments else None
        found = self._held(product).get(key)
        return found.value if found is not None and self._lives(found) else None

    def _held(self, product: str) -> Mapping[str, HeldState | HeldVehicle | HeldHealth | HeldOther]:
        match product:
            case "segment-state":
                return self.states
            case "vehicle-position":
                return self.vehicles
            case "feed-health":
                return self.health
            case _:
                return self.others[product]

    def _lives(self, held: HeldState | HeldVehicle | HeldHealth | HeldOther) -> bool:
        """False for a vehicle that has been silent for ``VEHICLE_MEMORY_MS`` of log time."""
        return not isinstance(held, HeldVehicle) or held.event_ms >= self.log_ms - VEHICLE_MEMORY_MS

    def segment_record(self, segment_id: str) -> bytes:
        """A segment's record as JSON, as far as it is held.

        Raises:
            KeyError: there is no such segment.
        """
        s = self.segments[segment_id]
        return b'{"segment_id":%b,"geometry":%b,"represents":%b,"osm_way_ids":%b,"osm_node_ids":%b,%b}' % (
            _encode(segment_id), s.geometry, s.represents, *s.osm, s.properties,
        )  # fmt: skip

    def box_of(self, segment_id: str) -> tuple[float, float, float, float] | None:
        """Where a segment is: west, south, east, north, degrees; None when it is not known."""
        held = self.segments.get(segment_id)
        return held.box if held is not None else None

    def geometry_of(self, segment_id: str) -> bytes | None:
        """A segment's geometry as GeoJSON; None when it is not known."""
        held = self.segments.get(segment_id)
        return held.geometry if held is not None else None

    def _forget(self, product: str, key: str) -> None:
        match product:
            case "segment":
                if self.segments.pop(key, None):
                    self.network_changes += 1
                    self.state_changes += 1
            case "segment-state":
                if gone := self.states.pop(key, None):
                    self._simulated_states -= gone.simulated
                    self.state_changes += 1
            case "vehicle-position":
                self.vehicles.pop(key, None)
            case "feed-health":
                self.health.pop(key, None)
            case _:
                self.others[product].pop(key, None)
                if product == "situation":
                    self.past.situations.add(key, self.log_ms, b"")

    def _advance(self, log_ms: int) -> None:
        self.log_ms = max(self.log_ms, log_ms)
        if self.log_ms - self._pruned_ms >= PRUNE_EVERY_MS:
            self._pruned_ms = self.log_ms
            oldest = self.log_ms - VEHICLE_MEMORY_MS
            for vehicle_id in [k for k, v in self.vehicles.items() if v.event_ms < oldest]:
                del self.vehicles[vehicle_id]

    @property
    def simulated(self) -> bool:
        """True when anything that is shown is simulated."""
        return (
            self._simulated_states > 0 or any(h.simulated for h in self.health.values()) or any(v.simulated for v in self.vehicles.values())
        )

    @property
    def log_time(self) -> str | None:
        """Newest log time seen, RFC 3339."""
        return rfc3339(self.log_ms) if self.log_ms else None

    def live_vehicles(self) -> list[HeldVehicle]:
        """Vehicles that have spoken within ``VEHICLE_MEMORY_MS`` of log time, by id."""
        return [self.vehicles[k] for k in sorted(self.vehicles) if self._lives(self.vehicles[k])]

    def network(self) -> tuple[list[str], NDArray[np.float64]]:
        """Segment ids in the order that the network is served in, and their boxes (n, 4): west, south, east, north, degrees."""
        if self._order[0] != self.network_changes:
            ids = sorted(self.segments)
            boxes = np.array([self.segments[i].box for i in ids], dtype=np.float64).reshape(-1, 4)
            self._order = (self.network_changes, ids, boxes)
        return self._order[1], self._order[2]

    def names(self) -> list[str]:
        """Street names in lower case, in the order of ``network``."""
        return [self.segments[i].name for i in self.network()[0]]

    def network_version(self) -> str | None:
        """Version of the network whose records were read; several joined by "+" while one replaces another."""
        if self._version[0] != self.network_changes:
            versions = sorted({s.network_version for s in self.segments.values()})
            self._version = (self.network_changes, "+".join(versions) or None)
        return self._version[1]

    def mark(self, *products: str) -> str:
        """Where in the log this picture stands: the id of a stream event of these products."""
        return self.marks.of(products).text()


def _room(held: dict[str, Any], key: str, most: int) -> None:
    if len(held) >= most and key not in held:
        raise OverflowError(f"more than {most} keys")
