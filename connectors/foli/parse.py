"""Föli (Turku region, data.foli.fi): SIRI VM and SM as JSON, alerts, city bikes. The documents are told apart by what they hold.

What is Föli's own: ``result`` is an empty *array* while the server starts and an object afterwards; ``delay`` is seconds only, unbounded, and hours off when a
vehicle is matched to a wrong trip; positions are snapped to the planned route; ``directionref`` 2 is GTFS 0. Newer answers carry GTFS ids in
``__tripref``, ``__routeref``, ``__directionid``: these are taken where they are. ``inpanic`` is not passed on.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import msgspec

from connectors.cities import City, FeedSettings
from connectors.columns import METHOD_CODE, Parsed, Stated, Trip
from connectors.envelope import Envelope, Item
from connectors.forecasts import forecast
from connectors.reading import (
    NAN,
    Refused,
    VehicleRows,
    decoder,
    duration_s,
    epoch_ms,
    epoch_ms_or_none,
    known,
    number,
    place,
    reject,
    whole,
)
from models.clock import rfc3339
from models.records import SharedVehicleStation, Situation

_Text = str | int | float | None
#: A delay beyond these is a wrong match of vehicle and trip: neither delay nor trip is taken, seconds.
EARLIEST_S, LATEST_S = -3600.0, 7200.0
#: Trips that start before this hour may belong to the day before; their operating day is not guessed.
DAY_BREAKS = 5
_STOP = re.compile(r"[^/\x00-\x1f\ud800-\udfff]{1,80}")
_SNAPPED = METHOD_CODE["snapped"]


class _Document(msgspec.Struct):
    sys: str | None = None
    status: str | None = None
    servertime: _Text = None
    result: msgspec.Raw = msgspec.Raw(b"")
    messages: list[msgspec.Raw] | None = None
    cancellations: list[msgspec.Raw] | None = None
    global_message: msgspec.Raw = msgspec.Raw(b"")
    emergency_message: msgspec.Raw = msgspec.Raw(b"")
    racks: dict[str, msgspec.Raw] | list[msgspec.Raw] | None = None
    generated: _Text = None


class _Result(msgspec.Struct):
    vehicles: dict[str, msgspec.Raw] | list[msgspec.Raw] | None = None


class _Vehicle(msgspec.Struct):
    """A vehicle of VM; a visit of SM, which has the same names."""

    recordedattime: _Text = None
    lineref: _Text = None
    directionref: _Text = None
    operatorref: _Text = None
    dataframeref: str | None = None
    originaimeddeparturetime: _Text = None
    destinationname: str | None = None
    destinationdisplay: str | None = None
    monitored: bool | None = None
    longitude: _Text = None
    latitude: _Text = None
    delay: str | None = None
    delaysecs: _Text = None
    vehicleref: _Text = None
    vehicleatstop: bool | None = None
    next_stoppointref: _Text = None
    aimedarrivaltime: _Text = None
    expectedarrivaltime: _Text = None
    aimeddeparturetime: _Text = None
    expecteddeparturetime: _Text = None
    tripref: str | None = msgspec.field(default=None, name="__tripref")
    routeref: _Text = msgspec.field(default=None, name="__routeref")
    directionid: _Text = msgspec.field(default=None, name="__directionid")


class _Message(msgspec.Struct):
    message_id: _Text = None
    isactive: bool | None = None
    cause: str | None = None
    effect: str | None = None
    header: str | None = None
    message: str | None = None
    information: str | None = None
    repeat: list[list[_Text]] | None = None
    translations: dict[str, Any] | list[Any] | None = None
    affected_stops: list[str] | None = None
    affected_routes: list[str] | None = None


class _Stop(msgspec.Struct):
    stop: str | None = None
    arrival: _Text = None
    isactive: bool | None = None


class _Cancellation(msgspec.Struct):
    line: str | None = None
    departure: _Text = None
    cause: str | None = None
    stops: list[_Stop] | None = None


class _Rack(msgspec.Struct):
    id: str | None = None
    operator: str | None = None
    name: str | None = None
    last_seen: _Text = None
    lon: _Text = None
    lat: _Text = None
    bikes_avail: _Text = None
    slots_total: _Text = None
    slots_avail: _Text = None


_document = decoder(_Document, "a Föli document: SIRI VM or SM, alerts, or city bikes")
_result = decoder(_Result, "result of SIRI VM: an object with vehicles")
_visits = decoder(list[msgspec.Raw], "result of SIRI SM: a list of visits")
_vehicle = decoder(_Vehicle, "a vehicle of Föli's SIRI VM, or a visit of SM")
_message = decoder(_Message, "a message of Föli's alerts")
_cancellation = decoder(_Cancellation, "a cancellation of Föli's alerts")
_rack = decoder(_Rack, "a rack of Föli's city bikes")


class Parser:
    """Parses envelopes of one Föli feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._prefix = f"{feed.id_namespace or feed.name}/"
        self._box = city.box
        self._zone = ZoneInfo(city.timezone)
        self._mode = feed.mode

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` counts vehicles, visits, messages, cancellations and racks in the order of the document."""
        parsed, rows, index = Parsed(), VehicleRows(), 0
        for k, item in enumerate(envelope.items):
            mark = parsed.mark()
            try:
                for read, raw in self._parts(item):
                    try:
                        read(index, item, raw, rows, parsed)
                    except Refused as e:
                        parsed.rejects.append(reject(index, item, e, raw))
                    index += 1
                parsed.listed(item.topic, item.ingest_ms, mark)
            except Refused as e:
                parsed.rejects.append(reject(k if envelope.kind == "messages" else -1, item, e))
        parsed.vehicles = rows.columns()
        parsed.events = len(rows) + len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _parts(self, item: Item) -> list[tuple[Any, msgspec.Raw]]:
        d = _document(item.body)
        if d.racks is not None:
            racks = d.racks.values() if isinstance(d.racks, dict) else d.racks
            return [(self._rack, raw) for raw in racks]
        if d.messages is not None or d.cancellations is not None:
            parts: list[tuple[Any, msgspec.Raw]] = [
                (partial(self._message, name=name), raw)
                for name, raw in (("global", d.global_message), ("emergency", d.emergency_message))
                if bytes(raw).strip() not in (b"", b"{}", b"[]", b"null")
            ]
            parts += [(self._message, raw) for raw in d.messages or []]
            return parts + [(self._cancellation, raw) for raw in d.cancellations or []]
        if d.sys is None:
            raise Refused("bad_json", "sys", None, "a Föli document: SIRI VM or SM, alerts, or city bikes")
        result = bytes(d.result).strip()
        if d.status != "OK":
            if d.status in ("PENDING", "NO_SIRI_DATA"):  # the server has just started, or has no data: valid and empty
                return []
            raise Refused("bad_status", "status", d.status, "OK, PENDING or NO_SIRI_DATA")
        if result[:1] == b"[":
            return [(self._visit, raw) for raw in _visits(d.result)]
        vehicles = _result(d.result).vehicles if result[:1] == b"{" else None
        if vehicles is None:
            raise Refused("missing", "result", result[:40].decode("utf-8", "replace"), "an object with vehicles, or a list of visits")
        return [(self._vehicle, raw) for raw in (vehicles.values() if isinstance(vehicles, dict) else vehicles)]

    def _vehicle(self, index: int, item: Item, raw: msgspec.Raw, rows: VehicleRows, parsed: Parsed) -> None:
        v = _vehicle(raw)
        if not v.vehicleref:
            raise Refused("missing", "vehicleref", v.vehicleref, "the id of the vehicle")
        event_ms = epoch_ms(v.recordedattime, "recordedattime")
        lat, lon = place(v.latitude, v.longitude)
        delay = duration_s(v.delay, "delay") if v.delay else number(v.delaysecs, "delaysecs", -1e9, 1e9)
        if v.monitored is False:
            parsed.skip("not_monitored")
            return
        matched = not (delay < EARLIEST_S or delay > LATEST_S)
        vehicle = str(v.vehicleref)
        rows.add(
            index,
            item.ingest_ms,
            event_ms,
            vehicle_id=self._prefix + vehicle,
            trip=self._trip(v, matched),
            lat_deg=lat,
            lon_deg=lon,
            delay_s=delay if matched else NAN,
            operator=_operator(v),
            at_stop=v.vehicleatstop,
            stop_id=str(v.next_stoppointref) if v.vehicleatstop and v.next_stoppointref is not None else None,
            method=_SNAPPED if lat == lat else 0,
        )

    def _visit(self, index: int, item: Item, raw: msgspec.Raw, rows: VehicleRows, parsed: Parsed) -> None:
        """A visit forecasts a call at the stop that its address ends in, and tells where its vehicle is."""
        v = _vehicle(raw)
        if not v.vehicleref:
            parsed.skip("no_vehicle")
            return
        if v.monitored is False:  # the timetable's times
            parsed.skip("not_monitored")
            return
        stop = unquote(urlsplit(item.topic).path.rpartition("/siri/sm/")[2]) if "/siri/sm/" in item.topic else ""
        placed = v.latitude is not None and v.longitude is not None
        if _STOP.fullmatch(stop):
            stated = forecast(
                index,
                item,
                epoch_ms(v.recordedattime, "recordedattime"),
                feed=self._feed,
                stop_id=stop,
                vehicle_id=f"{self._prefix}{v.vehicleref}",
                operator=_operator(v),
                trip=self._trip(v, True),
                expected_arrival=epoch_ms_or_none(v.expectedarrivaltime, "expectedarrivaltime"),
                expected_departure=epoch_ms_or_none(v.expecteddeparturetime, "expecteddeparturetime"),
                aimed_arrival=epoch_ms_or_none(v.aimedarrivaltime, "aimedarrivaltime"),
                aimed_departure=epoch_ms_or_none(v.aimeddeparturetime, "aimeddeparturetime"),
            )
            if not isinstance(stated, str):
                parsed.stated.append(stated)
            elif not placed:
                parsed.skip(stated)
        elif not placed:
            parsed.skip("no_stop")
        if placed:
            self._vehicle(index, item, raw, rows, parsed)

    def _trip(self, v: _Vehicle, matched: bool) -> Trip:
        day = start = None
        if v.originaimeddeparturetime is not None:
            ms = epoch_ms(v.originaimeddeparturetime, "originaimeddeparturetime")
            at = datetime.fromtimestamp(ms / 1000, UTC).astimezone(self._zone)
            start, day = at.strftime("%H:%M"), at.strftime("%Y-%m-%d") if at.hour >= DAY_BREAKS else None
        if (
            v.dataframeref
            and len(v.dataframeref) == 10
            and v.dataframeref[:4].isdecimal()
            and v.dataframeref[4] == v.dataframeref[7] == "-"
        ):
            day = v.dataframeref if (v.dataframeref[5:7] + v.dataframeref[8:]).isdecimal() else day
        route = v.routeref if v.routeref is not None else v.lineref
        direction = {"0": 0, "1": 1}.get(str(v.directionid)) if v.directionid is not None else {"1": 1, "2": 0}.get(str(v.directionref))
        return Trip(
            mode=self._mode,
            route_id=None if route is None else str(route),
            direction_id=direction,
            trip_id=v.tripref if matched else None,
            operating_day=day if matched else None,
            start_time=start if matched else None,
            headsign=v.destinationdisplay or v.destinationname,
        )

    def _message(self, index: int, item: Item, raw: msgspec.Raw, rows: VehicleRows, parsed: Parsed, name: str = "") -> None:
        m = _message(raw)
        name = name or ("" if m.message_id is None else str(m.message_id))
        if not name:
            raise Refused("missing", "message_id", None, "the id of the message")
        times = [epoch_ms(t, "repeat") for pair in m.repeat or [] for t in pair if t is not None]
        title, text = {"fi": m.header} if m.header else {}, {"fi": "\n".join(t for t in (m.message, m.information) if t)}
        for language, words in (m.translations or {}).items() if isinstance(m.translations, dict) else ():
            if isinstance(words, dict):
                title |= {language: words["header"]} if isinstance(words.get("header"), str) else {}
                text |= {language: words["message"]} if isinstance(words.get("message"), str) else {}
        self._situation(
            index,
            item,
            parsed,
            name,
            ended=m.isactive is False,
            valid=(min(times, default=None), max(times, default=None)),
            cause=m.cause,
            effect=m.effect,
            routes=m.affected_routes or None,
            stops=m.affected_stops or None,
            title=title or None,
            text={k: v for k, v in text.items() if v} or None,
        )

    def _cancellation(self, index: int, item: Item, raw: msgspec.Raw, rows: VehicleRows, parsed: Parsed) -> None:
        c = _cancellation(raw)
        departure = epoch_ms(c.departure, "departure")
        arrivals = [epoch_ms(s.arrival, "arrival") for s in c.stops or [] if s.arrival is not None]
        active = [s.isactive for s in c.stops or [] if s.isactive is not None]
        self._situation(
            index,
            item,
            parsed,
            f"cancelled/{c.line or ''}/{departure // 1000}",
            ended=bool(active) and not any(active),
            valid=(departure, max(arrivals, default=None)),
            cause=c.cause,
            effect="NO_SERVICE",
            routes=[c.line] if c.line else None,
            stops=[s.stop for s in c.stops or [] if s.stop] or None,
            title=None,
            text=None,
        )

    def _situation(
        self, index: int, item: Item, parsed: Parsed, name: str, *, ended: bool, valid: tuple[int | None, int | None], **fields: Any
    ) -> None:
        """An alert; Föli does not say when it was written, so it is as new as its first receipt."""
        key = self._prefix + name
        start, end = (None if t is None else rfc3339(t) for t in valid)
        record = Situation(
            situation_id=key,
            kind="transit_alert",
            event_time=rfc3339(item.ingest_ms),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            valid_from=start,
            valid_to=end,
            ended=True if ended else None,
            source="Föli",
            **fields,
        )
        parsed.stated.append(
            Stated(
                index=index,
                ingest_ms=item.ingest_ms,
                event_ms=item.ingest_ms,
                product="situation",
                key=key,
                record=record,
                ended=ended,
                on_change=True,
            )
        )

    def _rack(self, index: int, item: Item, raw: msgspec.Raw, rows: VehicleRows, parsed: Parsed) -> None:
        r = _rack(raw)
        if not r.id:
            raise Refused("missing", "id", r.id, "the id of the rack")
        lat, lon = place(r.lat, r.lon)
        if lat == lat and not self._box.holds(lat, lon):
            parsed.skip("outside_box")
            return
        event_ms = epoch_ms(r.last_seen, "last_seen")
        record = SharedVehicleStation(
            station_id=self._prefix + r.id,
            event_time=rfc3339(event_ms),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            system=r.operator,
            name=r.name,
            lat_deg=known(lat),
            lon_deg=known(lon),
            capacity=whole(r.slots_total, "slots_total"),
            vehicles_available=whole(r.bikes_avail, "bikes_avail"),
            docks_available=whole(r.slots_avail, "slots_avail"),
        )
        parsed.stated.append(
            Stated(
                index=index,
                ingest_ms=item.ingest_ms,
                event_ms=event_ms,
                product="shared-vehicle-station",
                key=record.station_id,
                record=record,
            )
        )


def _operator(v: _Vehicle) -> str | None:
    """As sent, else the first two of six digits of the vehicle."""
    if v.operatorref is not None:
        return str(v.operatorref)
    vehicle = str(v.vehicleref)
    return vehicle[:2] if len(vehicle) == 6 and vehicle.isdecimal() else None
