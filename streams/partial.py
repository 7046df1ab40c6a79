"""Partials: what one observer tells the fuse step. Cumulative upserts, so that a repeated or re-ordered one changes nothing.

On the wire like an envelope: msgpack of the struct as an array, then CRC-32. Columns are the bytes of little-endian int64 arrays.
"""

from __future__ import annotations

import zlib

import msgspec
import numpy as np

from connectors.envelope import BadEnvelope
from streams.cells import N_SUMS, Rows

SCHEMA = 1
#: Vehicles tell of their line and delay so often that a minute's last word is at most so old, milliseconds. Shorter: more rows.
LINE_SLOT_MS = 15_000


class SensorRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One reading of one site and direction, placed on a segment (-1: not placed)."""

    site_id: str
    direction: str
    segment: int
    window_end_ms: int
    window_ms: int
    flow_vph: float | None
    speed_kmh: float | None
    free_flow_kmh: float | None
    capacity_vph: float | None


class CrewRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a vehicle said of itself in a window: cumulative upserts, the one with the newest occupancy stands."""

    vehicle_id: str
    window: int
    mode: str
    event_ms: int  #: of the occupancy; -1 without one
    occupancy_pct: float  #: -1: not reported

    def newer(self, other: CrewRow | None) -> bool:
        """Whether it replaces the other, in whatever order they come."""
        return other is None or (self.event_ms, self.occupancy_pct, self.mode) > (other.event_ms, other.occupancy_pct, other.mode)


class LineRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which line a vehicle said that it serves, and how late it was: the first event of a slot of ``LINE_SLOT_MS``; upserts."""

    vehicle_id: str
    event_ms: int
    mode: str
    route_id: str  #: "": under way on no route that the feed names
    direction_id: int  #: -1: not reported
    start_min: int  #: minute of the day, local, at which the trip begins; -1: not reported
    trip: int  #: number that tells the trip from others
    delay_s: float | None
    at_end: bool = False  #: within the last metres of its way

    @property
    def slot(self) -> int:
        return self.event_ms // LINE_SLOT_MS

    def newer(self, other: LineRow | None) -> bool:
        """Whether it replaces the other, in whatever order they come: the first event of the later slot stands."""
        return other is None or self._rank() > other._rank()

    def _rank(self) -> tuple[int, int, str, int, int, int, float]:
        late = -1e9 if self.delay_s is None else self.delay_s
        return self.slot, -self.event_ms, self.route_id, self.direction_id, self.start_min, self.trip, late


class WeatherRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Air temperature at one road weather station."""

    site_id: str
    event_ms: int
    ingest_ms: int
    air_c: float


class GridRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """CO2 of the electricity that is consumed."""

    grid_id: str
    event_ms: int
    ingest_ms: int
    g_per_kwh: float


class HeardRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A vehicle whose position, or a situation (by a name of ``streams.sameness``) that came in a period of ``streams.choice.BUCKET_MS`` of ingest time, of a feed that others are secondary to."""

    vehicle_id: str
    bucket: int


class HeldRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A position or a situation of a secondary feed, ready to be published where no better feed tells of it."""

    vehicle_id: str  #: or the situation's id
    ingest_ms: int
    event_ms: int
    offset: int  #: of its raw message
    ce_id: str
    value: bytes
    names: tuple[str, ...] = ()  #: of a situation: any by which a better feed may tell of it


class NoticeRow(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One version of a situation on streets. Versions are ordered: the greatest that had come by a time is the one that held then."""

    event_ms: int
    ingest_ms: int
    to_ms: int  #: ``OPEN_END`` without one
    from_ms: int
    situation_id: str
    segments: tuple[int, ...]
    closed: bool  #: to general traffic, while it is valid


OPEN_END = 1 << 62


class HealthRow(msgspec.Struct, frozen=True, array_like=True):
    """Counts of one raw partition in one slot of ``streams.health.SLOT_MS`` of ingest time."""

    slot: int
    messages: int
    events: int
    rejects: int
    duplicates: int
    lags: tuple[int, ...]  #: histogram of ingest minus event time, see streams/health.py
    entities: int  #: heard in the last 120 s, at the end of the slot
    newest_event_ms: int | None
    last_message_ms: int | None  #: of all time, at the end of the slot
    ticks: int
    connected: bool
    http_status: int | None
    detail: str | None


class Partial(msgspec.Struct, frozen=True, array_like=True):
    """Sums of one raw partition up to ``raw_offset``, and how far its log time has come."""

    schema: int
    city: str
    feed: str
    partition: int
    raw_offset: int
    watermark_ms: int  #: every event of this partition with an ingest time below this is in
    network: str  #: version of the network that segment numbers refer to
    simulated: bool
    vehicles: tuple[str, ...]  #: ``who`` of the rows is an index into this
    window: bytes
    segment: bytes
    who: bytes
    sums: bytes
    sensors: tuple[SensorRow, ...] = ()
    health: tuple[HealthRow, ...] = ()
    crews: tuple[CrewRow, ...] = ()
    weather: tuple[WeatherRow, ...] = ()
    lines: tuple[LineRow, ...] = ()
    grid: tuple[GridRow, ...] = ()
    heard: tuple[HeardRow, ...] = ()
    held: bytes = b""  #: see ``hold``
    notices: tuple[NoticeRow, ...] = ()
    nearly: bytes = b""  #: see ``streams.nearly``

    def rows(self) -> Rows:
        """The columns as arrays."""
        return Rows(
            np.frombuffer(self.window, "<i8"),
            np.frombuffer(self.segment, "<i8"),
            np.frombuffer(self.who, "<i8"),
            np.frombuffer(self.sums, "<i8").reshape(-1, N_SUMS),
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Partial)
_held_decoder = msgspec.msgpack.Decoder(list[HeldRow])


def hold(rows: list[HeldRow]) -> bytes:
    """Positions packed: a city's snapshot is half a megabyte of JSON, and when catching up a dozen of them may go in one partial."""
    return zlib.compress(_encoder.encode(rows), 1) if rows else b""


def held_rows(data: bytes) -> list[HeldRow]:
    """The same, unpacked."""
    return _held_decoder.decode(zlib.decompress(data)) if data else []


def encode(partial: Partial) -> bytes:
    body = _encoder.encode(partial)
    return body + zlib.crc32(body).to_bytes(4, "big")


def decode(data: bytes | None) -> Partial:
    """
    Raises:
        BadEnvelope: torn, bit-flipped, another schema, or columns of unequal length.
    """
    if not data or len(data) < 5 or zlib.crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "big"):
        raise BadEnvelope("empty, cut or checksum differs")
    try:
        partial = _decoder.decode(memoryview(data)[:-4])
    except msgspec.MsgspecError as e:
        raise BadEnvelope(str(e)) from e
    if partial.schema != SCHEMA:
        raise BadEnvelope(f"schema {partial.schema}, expected {SCHEMA}")
    size = len(partial.window)
    if size % 8 or (len(partial.segment), len(partial.who), len(partial.sums)) != (size, size, size * N_SUMS):
        raise BadEnvelope("columns of unequal length")
    return partial
