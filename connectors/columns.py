"""What every parser returns: the events of one envelope as columns, ready for numpy, and the events it had to refuse.

A parser only reads and harmonises (late is positive, m/s, UTC milliseconds, direction_id 0/1, ids namespaced). Whether a value is
*possible* (inside the city's box, a sane clock, a sane speed) is checked once for all feeds, on these columns, by ``streams/clean.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.records import Record

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]

#: Kinds of vehicle events, by HFP's names (``vp`` is a plain position). Feeds without events only have ``vp``.
EVENTS = (
    "vp", "due", "arr", "ars", "doo", "doc", "pde", "dep", "pas", "wait",
    "tlr", "tla", "da", "dout", "ba", "bout", "vja", "vjout",
)  # fmt: skip
EVENT_CODE = {name: code for code, name in enumerate(EVENTS)}
#: How a position was made; index = code in ``VehicleColumns.method``. The order is part of the snapshot format.
METHODS = ("unknown", "gnss", "odometer", "dead_reckoning", "snapped", "manual")
METHOD_CODE = {name: code for code, name in enumerate(METHODS)}


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """The trip a vehicle says it serves; parsers intern it, so that equal trips are one object within an envelope."""

    mode: str = "unknown"
    route_id: str | None = None
    direction_id: int | None = None
    trip_id: str | None = None
    operating_day: str | None = None  #: YYYY-MM-DD
    start_time: str | None = None  #: local HH:MM[:SS]
    headsign: str | None = None
    phase: str = "ongoing"  #: ongoing, upcoming, deadrun, signoff: only ongoing trips are on their route's shape


class Reject(msgspec.Struct, frozen=True):
    """One event that was refused."""

    index: int  #: item in the envelope; for a polled snapshot the entity's index; -1: the whole body
    reason: str  #: short and countable: bad_json, bad_topic, bad_type, missing, outside_box, clock, speed, ...
    field: str
    value: str
    want: str
    body: bytes = b""  #: what was refused (a message's payload, or an entity re-serialised); may be empty when index tells
    source_topic: str | None = None


@dataclass(slots=True)
class VehicleColumns:
    """n vehicle events in order of receipt. NaN in a float column and -1 in an int8 column mean "not reported"."""

    index: I32  #: (n,) item or entity index in the envelope
    ingest_ms: I64  #: (n,) when the connector received it
    event_ms: I64  #: (n,) when it happened by the sender's clock
    event: I8  #: (n,) index into EVENTS
    lat_deg: F64
    lon_deg: F64
    speed_mps: F64
    heading_deg: F64  #: [0, 360)
    odometer_m: F64
    delay_s: F64  #: late is positive
    occupancy_pct: F64
    doors_open: I8  #: 1, 0, -1 unknown
    at_stop: I8  #: 1, 0, -1 unknown
    method: I8  #: index into METHODS
    vehicle_id: list[str]
    operator: list[str | None]
    trip: list[Trip]
    stop_id: list[str | None]
    #: Of requests for priority at signals and their answers, by row: junction, and whether it was requested, granted or refused.
    signal: dict[int, tuple[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vehicle_id)


@dataclass(slots=True)
class SensorColumns:
    """n sensor readings, one a site, direction and window."""

    index: I32
    ingest_ms: I64
    window_start_ms: I64
    window_end_ms: I64
    flow_vph: F64
    speed_kmh: F64  #: spot mean
    occupancy_pct: F64
    free_flow_kmh: F64
    capacity_vph: F64
    site_id: list[str]
    direction: list[str]
    kind: list[str]  #: loop, signal, counter
    fault: list[str | None]
    travel_mode: list[str] = field(default_factory=list)  #: vehicle, bicycle, pedestrian, unknown; empty: all are vehicles

    def __len__(self) -> int:
        return len(self.site_id)


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A counting site's place, from the feed's station list."""

    site_id: str
    direction: str
    lat_deg: float
    lon_deg: float
    bearing_deg: float | None = None
    free_flow_kmh: float | None = None
    capacity_vph: float | None = None
    name: str | None = None


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """One record that a feed states as it is: road weather, a parking facility, a situation. The parser harmonises, ``streams/stated.py`` publishes it once."""

    index: int  #: item or entity in the envelope
    ingest_ms: int
    event_ms: int  #: when it was true by the sender's clock
    product: str  #: a name in ``models.topics.PRODUCTS``
    key: str  #: Kafka key
    record: Record  #: without ``simulated``, which the publisher adds
    ended: bool = False  #: it is over: a compacted topic gets a tombstone later
    on_change: bool = False  #: ``event_time`` alone is no change: the record is published when something else in it differs
    #: The record says only this part of what is known of its key (GBFS: "information", "status"): it is published together with the last
    #: statement of every other part, so that documents that know less erase nothing.
    part: str | None = None
    #: ``site_id:direction`` of a ``Site`` that tells where this is; the record is published only when the feed's list of places has told it,
    #: since the lists hold the city's places and the values the whole country's.
    site: str | None = None


class PassedStop(msgspec.Struct, frozen=True, kw_only=True):
    """A stop that is behind a trip's vehicle, as it was observed."""

    stop_id: str
    left_ms: int
    departed: bool  #: False: ``left_ms`` is when it came, and nothing is said of its leaving
    arrived_ms: int | None = None
    delay_s: float | None = None  #: late is positive


class TripNews(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed says of a trip beside its vehicle's positions. ``streams/trips.py`` joins it to the vehicle that is seen on the trip."""

    index: int  #: item or entity in the envelope
    ingest_ms: int
    trip: Trip
    vehicle_id: str | None = None  #: where the feed names it
    delay_s: float | None = None  #: now; late is positive
    passed: tuple[PassedStop, ...] = ()


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One document that names all situations that are on: those that it names no more have ended. A large document may come in pieces."""

    name: str  #: which document of the feed: its address
    ingest_ms: int
    keys: tuple[str, ...]  #: Kafka keys of its situations, without those of other cities
    piece: int = 1
    pieces: int = 1


@dataclass(slots=True)
class Parsed:
    """Everything one envelope said."""

    vehicles: VehicleColumns | None = None
    sensors: SensorColumns | None = None
    sites: list[Site] = field(default_factory=list)
    stated: list[Stated] = field(default_factory=list)
    trips: list[TripNews] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    gone: list[tuple[str, int]] = field(
        default_factory=list
    )  #: situations that are said to be over without being told again: key, event time
    rejects: list[Reject] = field(default_factory=list)
    #: Understood and left out on purpose, by reason (not_monitored, prediction, outside_box): no dead letters, but counted.
    passed: dict[str, int] = field(default_factory=dict)
    events: int = 0  #: parsed + rejected; what was passed over comes on top

    def listed(self, name: str, ingest_ms: int, before: tuple[int, int], piece: int = 1, pieces: int = 1) -> None:
        """A document was read that names all situations that are on. When one of them was refused it says nothing of those that it does not name.

        Args:
            before: ``mark`` before the document was read.
        """
        if len(self.rejects) == before[1]:
            keys = tuple(s.key for s in self.stated[before[0] :] if s.product == "situation")
            self.listings.append(Listing(name=name, ingest_ms=ingest_ms, keys=keys, piece=piece, pieces=pieces))

    def mark(self) -> tuple[int, int]:
        """How much has been said so far, for ``listed``."""
        return len(self.stated), len(self.rejects)

    def skip(self, reason: str, n: int = 1) -> None:
        """Count what is left out on purpose."""
        self.passed[reason] = self.passed.get(reason, 0) + n
