"""GTFS-Realtime: a protobuf FeedMessage into columns, one row a vehicle, and into situations, one an alert.

Reference: https://gtfs.org/documentation/realtime/reference/. Read by the official bindings. Of trip updates only what is no forecast is taken (``updates.py``); FULL_DATASET
and DIFFERENTIAL mean the same for vehicles, since a row only says what was said of one.
What single feeds do differently is set in the city file: ``vehicle_id_format``, ``zero_is_unknown``, ``position_method``, ``mode``, ``route_modes``,
``id_namespace``, ``start_time_zone``, ``route_id_ends``, ``certain_is_passed``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from google.protobuf.message import DecodeError
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import City, FeedSettings
from connectors.columns import EVENT_CODE, METHOD_CODE, Parsed, Reject, Trip, VehicleColumns
from connectors.envelope import Envelope, Item
from connectors.gtfs_realtime import alerts, updates
from connectors.reading import Refused

#: Seconds beyond which a time no longer fits milliseconds exactly (the year 287396).
_MAX_SECONDS = 2**53 // 1000
_STOPPED = pb.VehiclePosition.STOPPED_AT
_NAN = math.nan
_TIME = re.compile(r"[0-9]{1,2}:[0-5][0-9]:[0-5][0-9]")
_MODES = {"BUS": "bus", "TRAM": "tram", "RAIL": "train", "SUBWAY": "metro", "FERRY": "ferry"}


class _Refused(Exception):
    def __init__(self, reason: str, field: str, value: object, want: str) -> None:
        self.reason, self.field, self.value, self.want = reason, field, value, want
        super().__init__(reason)


class Parser:
    """Parses envelopes of one GTFS-RT feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        prefix = f"{feed.id_namespace}/" if feed.id_namespace else ""
        self._vehicle: Callable[[str], tuple[str, str | None]] = (
            _hsl_id if feed.vehicle_id_format == "hsl" else lambda id: (prefix + id, None)
        )
        self._feed, self._prefix = feed.name, f"{feed.id_namespace or feed.name}/"
        self._zone = ZoneInfo(city.timezone)
        self._in_utc = feed.start_time_zone == "UTC"
        self._certain_is_passed = feed.certain_is_passed and feed.secondary_to is None  # the better feed tells of its vehicles' stops
        self._ends, self._route_modes = feed.route_id_ends, feed.route_modes
        self._zero_is_unknown = feed.zero_is_unknown
        self._method = METHOD_CODE[feed.position_method]
        self._mode = feed.mode

    def parse(self, envelope: Envelope) -> Parsed:
        """One row a vehicle entity. ``index`` is the item's in an envelope of messages, the entity's (over all items) in a snapshot."""
        rows = _Rows()
        parsed = Parsed()
        rejects = parsed.rejects
        trips: dict[Trip, Trip] = {}
        before = 0
        for k, item in enumerate(envelope.items):
            message = pb.FeedMessage()
            try:
                _read(item.body, message)
            except _Refused as e:
                rejects.append(_reject(k if envelope.kind == "messages" else -1, item, e, item.body))
                continue
            header_s = message.header.timestamp
            mode = self._mode if self._mode != "unknown" else _mode_of(item.topic)
            mark = parsed.mark()
            for n, entity in enumerate(message.entity):
                index = k if envelope.kind == "messages" else before + n
                try:
                    if entity.is_deleted:
                        alerts.check_texts(entity.id)
                        parsed.skip("deleted")
                        parsed.gone.append((self._prefix + entity.id, header_s * 1000 or item.ingest_ms))
                    elif entity.HasField("vehicle"):
                        self._row(rows, index, item.ingest_ms, entity, header_s, trips, mode)
                    elif entity.HasField("alert"):
                        parsed.stated.append(
                            alerts.situation(
                                entity,
                                index,
                                item.ingest_ms,
                                header_s,
                                self._feed,
                                self._prefix,
                                self._route,
                                lambda t: updates.named(self._trip(t, "unknown")),
                            )
                        )
                    elif entity.HasField("trip_update"):
                        self._update(parsed, index, item.ingest_ms, entity.trip_update, header_s, mode)
                    else:
                        parsed.skip("other_entity")
                except (_Refused, Refused) as e:
                    rejects.append(_reject(index, item, e, entity.SerializePartialToString()))
            if message.header.incrementality == pb.FeedHeader.FULL_DATASET:
                parsed.listed(item.topic, item.ingest_ms, mark)
            before += len(message.entity)
        parsed.vehicles = rows.columns(self._method)
        parsed.events = len(parsed.vehicles) + len(parsed.stated) + len(rejects)
        return parsed

    def _row(
        self, rows: _Rows, index: int, ingest_ms: int, entity: pb.FeedEntity, header_s: int, trips: dict[Trip, Trip], mode: str
    ) -> None:
        v, t = entity.vehicle, entity.vehicle.trip
        alerts.check_texts(
            entity.id, v.vehicle.id, v.vehicle.label, v.stop_id, t.trip_id, t.route_id, t.start_time, t.start_date
        )  # fmt: skip
        given = v.vehicle.id or v.vehicle.label or entity.id
        if not given:
            raise _Refused("missing", "vehicle.id", None, "an id of the vehicle or of the entity")
        seconds = v.timestamp or header_s
        if not seconds:
            raise _Refused("missing", "timestamp", None, "seconds since 1970 in the vehicle or the header")
        if seconds > _MAX_SECONDS:
            raise _Refused("bad_type", "timestamp", seconds, "seconds since 1970")
        lat = lon = speed = heading = odometer = _NAN
        if v.HasField("position"):
            p = v.position
            if p.HasField("latitude") and p.HasField("longitude"):
                lat, lon = p.latitude, p.longitude
                if math.isnan(lat) or math.isnan(lon):
                    lat = lon = _NAN
            speed = self._number(p, "speed")
            odometer = self._number(p, "odometer")
            heading = self._number(p, "bearing")
            if heading < 0 or heading > 360:
                raise _Refused("heading", "position.bearing", heading, "degrees 0-360")
            if heading == 360:
                heading = 0.0
            for name, value in (("latitude", lat), ("longitude", lon), ("speed", speed), ("odometer", odometer)):
                if math.isinf(value):
                    raise _Refused("bad_type", f"position.{name}", value, "a finite number")
        trip = self._trip(t, mode)
        vehicle_id, operator = self._vehicle(given)
        rows.index.append(index)
        rows.ingest_ms.append(ingest_ms)
        rows.event_ms.append(seconds * 1000)
        rows.numbers.append((
            lat, lon, speed, heading, odometer if odometer >= 0 else _NAN,
            min(v.occupancy_percentage, 100) if v.HasField("occupancy_percentage") else _NAN,
        ))  # fmt: skip
        rows.at_stop.append(int(v.current_status == _STOPPED) if v.HasField("current_status") else -1)
        rows.vehicle_id.append(vehicle_id)
        rows.operator.append(operator)
        rows.trip.append(trips.setdefault(trip, trip))
        # Under way, stop_id names the next stop, as HFP's topic does: only at or close to a stop is the vehicle's place tied to it.
        tied = v.HasField("current_status") and v.current_status != pb.VehiclePosition.IN_TRANSIT_TO
        rows.stop_id.append((v.stop_id or None) if tied else None)

    def _update(self, parsed: Parsed, index: int, ingest_ms: int, update: pb.TripUpdate, header_s: int, mode: str) -> None:
        t, given = update.trip, update.vehicle.id or update.vehicle.label
        alerts.check_texts(t.trip_id, t.route_id, t.start_time, t.start_date, update.vehicle.id, update.vehicle.label)
        trip = self._trip(t, mode)
        if updates.is_cancelled(update):
            parsed.stated.append(updates.cancellation(update, index, ingest_ms, header_s, self._feed, self._prefix, trip, self._zone))
            return
        vehicle = self._vehicle(given)[0] if given else None
        news = updates.news(update, index, ingest_ms, header_s, trip, vehicle, certain_is_passed=self._certain_is_passed)
        if news is not None:
            parsed.trips.append(news)
        parsed.skip("trip_update")

    def _number(self, position: pb.Position, name: str) -> float:
        if not position.HasField(name):
            return _NAN
        value = float(getattr(position, name))
        return _NAN if value == 0 and self._zero_is_unknown else value

    def _trip(self, t: pb.TripDescriptor, mode: str) -> Trip:
        day, start = _day(t.start_date), _time(t.start_time)
        if self._in_utc:
            day, start = _local(day, start, self._zone)
        route = self._route(t.route_id)
        return Trip(
            mode=self._route_modes.get(route, mode) if route is not None else mode,
            route_id=route,
            direction_id=t.direction_id if t.HasField("direction_id") and t.direction_id in (0, 1) else None,
            trip_id=t.trip_id or None,
            operating_day=day,
            start_time=start,
        )

    def _route(self, route_id: str) -> str | None:
        """A route's id as the other feeds of the city write it."""
        for end in self._ends:
            if route_id.endswith(end) and len(route_id) > len(end):
                return route_id[: -len(end)]
        return route_id or None


class _Rows:
    """Columns while they grow."""

    def __init__(self) -> None:
        self.index: list[int] = []
        self.ingest_ms: list[int] = []
        self.event_ms: list[int] = []
        self.numbers: list[tuple[float, ...]] = []
        self.at_stop: list[int] = []
        self.vehicle_id: list[str] = []
        self.operator: list[str | None] = []
        self.trip: list[Trip] = []
        self.stop_id: list[str | None] = []

    def columns(self, method: int) -> VehicleColumns:
        n = len(self.index)
        lat, lon, speed, heading, odometer, occupancy = np.array(self.numbers, dtype=np.float64).reshape(n, 6).T.copy()
        return VehicleColumns(
            index=np.array(self.index, dtype=np.int32),
            ingest_ms=np.array(self.ingest_ms, dtype=np.int64),
            event_ms=np.array(self.event_ms, dtype=np.int64),
            event=np.full(n, EVENT_CODE["vp"], dtype=np.int8),
            lat_deg=lat,
            lon_deg=lon,
            speed_mps=speed,
            heading_deg=heading,
            odometer_m=odometer,
            delay_s=np.full(n, np.nan),
            occupancy_pct=occupancy,
            doors_open=np.full(n, -1, dtype=np.int8),
            at_stop=np.array(self.at_stop, dtype=np.int8),
            method=np.full(n, method, dtype=np.int8),
            vehicle_id=self.vehicle_id,
            operator=self.operator,
            trip=self.trip,
            stop_id=self.stop_id,
        )


def _read(body: bytes, message: pb.FeedMessage) -> None:
    start = body[:64].lstrip()
    if not start or start[:1] in (b"<", b"{", b"["):
        raise _Refused("not_protobuf", "body", body[:80].decode("utf-8", "replace"), "a GTFS-RT FeedMessage, not text or nothing")
    if body[:2] == b"\x1f\x8b":
        raise _Refused("not_protobuf", "body", "gzip", "a GTFS-RT FeedMessage, unpacked")
    try:
        message.ParseFromString(body)
    except DecodeError as e:
        raise _Refused("bad_protobuf", "body", str(e), "a whole GTFS-RT FeedMessage") from e
    if not message.HasField("header") or not message.header.gtfs_realtime_version:
        raise _Refused("bad_protobuf", "header", None, "a FeedHeader with its version")


def _hsl_id(given: str) -> tuple[str, str | None]:
    """The id that HFP gives the same vehicle, and its operator.

    >>> _hsl_id("18/423"), _hsl_id("ferry 1")
    (('0018/00423', '0018'), ('ferry 1', None))
    """
    operator, slash, vehicle = given.partition("/")
    if not slash or not operator.isdecimal() or not vehicle.isdecimal():
        return given, None
    return f"{operator:0>4}/{vehicle:0>5}", f"{operator:0>4}"


def _day(date: str) -> str | None:
    """
    >>> _day("20250428"), _day(""), _day("2025-4-28")
    ('2025-04-28', None, None)
    """
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isascii() and date.isdigit() else None


def _time(start: str) -> str | None:
    """
    >>> _time("24:05:00"), _time("7:05:00"), _time(""), _time("soon")
    ('24:05:00', '07:05:00', None, None)
    """
    return start.zfill(8) if _TIME.fullmatch(start) else None


def _local(day: str | None, start: str | None, zone: ZoneInfo) -> tuple[str | None, str | None]:
    """Date and time of a start that was given in UTC, in the city's zone; without a date nothing can be said.

    >>> _local("2026-09-28", "21:58:00", ZoneInfo("Europe/Helsinki")), _local(None, "06:00:00", ZoneInfo("Europe/Helsinki"))
    (('2026-09-29', '00:58:00'), (None, None))
    >>> _local("0026-03-10", "08:25:00", ZoneInfo("Europe/Helsinki"))[0]
    '0026-03-10'
    """
    if day is None or start is None:
        return day, None
    hours, minutes, seconds = (int(x) for x in start.split(":"))
    try:
        midnight = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
        at = (midnight + timedelta(hours=hours, minutes=minutes, seconds=seconds)).astimezone(zone)
    except (ValueError, OverflowError):
        return None, None
    return at.date().isoformat(), at.strftime("%H:%M:%S")


def _mode_of(topic: str) -> str:
    """Mode that the Digitransit broker writes into the topic; everything else is read from the message.

    >>> _mode_of("/gtfsrt/vp/tampere/6921/Nysse/TRAM/156920/0/Kaupin kampus"), _mode_of("vp.pb")
    ('tram', 'unknown')
    """
    levels = topic.split("/", 7) if topic.startswith("/gtfsrt/vp/") else []
    return _MODES.get(levels[6], "unknown") if len(levels) == 8 else "unknown"


def _reject(index: int, item: Item, e: _Refused | Refused, body: bytes) -> Reject:
    value = e.value if isinstance(e.value, str) else repr(e.value)
    return Reject(index=index, reason=e.reason, field=e.field, value=value[:200], want=e.want, body=body, source_topic=item.topic)
