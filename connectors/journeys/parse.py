"""ITS Factory Journeys API v1 (Tampere): ``vehicle-activity`` and ``stop-monitoring``, SIRI VM and SM as JSON in which every number is a text.

Stop monitoring forecasts calls (``connectors/forecasts.py``), and says where a vehicle is without saying since when: that is no observation, and is not taken.

Signs and units: ``delay`` is an ISO duration with its sign in front, late is positive; ``speed`` is km/h; ``directionRef`` is 1 or 2, GTFS 0 or 1. Links inside the answer name a bare host and are not followed: only their last part, an id, is used.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from connectors.cities import City, FeedSettings
from connectors.columns import METHOD_CODE, Parsed, Trip
from connectors.envelope import Envelope, Item
from connectors.forecasts import forecast
from connectors.reading import NAN, Refused, VehicleRows, decoder, duration_s, heading, iso_ms, iso_ms_or_none, number, place, reject

_Text = str | int | float | None
#: A match to a trip that is earlier or later than this is a wrong match: neither delay nor trip is taken, seconds.
EARLIEST_S, LATEST_S = -3600.0, 7200.0
_CLOCK = re.compile(r"([0-2][0-9])([0-5][0-9])")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_METHOD = METHOD_CODE["unknown"]


class _Location(msgspec.Struct):
    longitude: _Text = None
    latitude: _Text = None


class _Framed(msgspec.Struct):
    dateFrameRef: str | None = None
    datedVehicleJourneyRef: str | None = None


class _Call(msgspec.Struct):
    expectedArrivalTime: str | None = None
    expectedDepartureTime: str | None = None
    aimedArrivalTime: str | None = None
    aimedDepartureTime: str | None = None


class _Journey(msgspec.Struct):
    lineRef: _Text = None
    directionRef: _Text = None
    framedVehicleJourneyRef: _Framed | None = None
    vehicleLocation: _Location | None = None
    operatorRef: _Text = None
    bearing: _Text = None
    delay: str | None = None
    vehicleRef: _Text = None
    speed: _Text = None
    originAimedDepartureTime: str | None = None
    call: _Call | None = None


class _Activity(msgspec.Struct):
    recordedAtTime: str | None = None
    monitoredVehicleJourney: _Journey | None = None


class _Document(msgspec.Struct):
    status: str | None = None
    body: list[msgspec.Raw] | dict[str, list[msgspec.Raw]] | None = None


_document = decoder(_Document, "a Journeys API envelope: status, data, body")
_activity = decoder(_Activity, "a vehicle activity of the Journeys API")
_visit = decoder(_Journey, "a stop visit of the Journeys API")


class Parser:
    """Parses envelopes of one Journeys API feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._prefix = f"{feed.id_namespace or feed.name}/"
        self._zone = ZoneInfo(city.timezone)
        self._mode, self._route_modes = feed.mode, feed.route_modes
        self._method = METHOD_CODE[feed.position_method]

    def parse(self, envelope: Envelope) -> Parsed:
        """One row a vehicle activity, one forecast a visit. ``index`` counts activities and visits over all items of a snapshot."""
        parsed, rows, before = Parsed(), VehicleRows(), 0
        for k, item in enumerate(envelope.items):
            try:
                parts = self._parts(item)
            except Refused as e:
                parsed.rejects.append(reject(k if envelope.kind == "messages" else -1, item, e))
                continue
            for n, (stop, raw) in enumerate(parts):
                index = k if envelope.kind == "messages" else before + n
                try:
                    self._row(index, item, stop, raw, rows, parsed)
                except Refused as e:
                    parsed.rejects.append(reject(index, item, e, raw))
            before += len(parts)
        parsed.vehicles = rows.columns()
        parsed.events = len(rows) + len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _parts(self, item: Item) -> list[_Part]:
        document = _document(item.body)
        if document.status != "success":
            raise Refused("bad_status", "status", document.status, "success")
        if isinstance(document.body, dict):
            return [_Part(stop, raw) for stop, visits in document.body.items() for raw in visits]
        if document.body is None:
            raise Refused("missing", "body", None, "a list of vehicle activities, or stop visits by stop")
        return [_Part(None, raw) for raw in document.body]

    def _row(self, index: int, item: Item, stop: str | None, raw: msgspec.Raw, rows: VehicleRows, parsed: Parsed) -> None:
        if stop is None:
            activity = _activity(raw)
            journey = activity.monitoredVehicleJourney
            if journey is None:
                raise Refused("missing", "monitoredVehicleJourney", None, "the journey of the vehicle")
            event_ms = iso_ms(activity.recordedAtTime, "recordedAtTime")
        else:
            self._visit(index, item, stop, _visit(raw), parsed)
            return
        vehicle = "" if journey.vehicleRef is None else str(journey.vehicleRef)
        if not vehicle:
            raise Refused("missing", "vehicleRef", None, "the id of the vehicle")
        location = journey.vehicleLocation or _Location()
        lat, lon = place(location.latitude, location.longitude)
        delay = duration_s(journey.delay, "delay")
        matched = not (delay < EARLIEST_S or delay > LATEST_S)
        kmh = number(journey.speed, "speed", 0, 1000)
        rows.add(
            index,
            item.ingest_ms,
            event_ms,
            vehicle_id=self._prefix + vehicle,
            trip=self._trip(journey, matched),
            lat_deg=lat,
            lon_deg=lon,
            speed_mps=kmh / 3.6,
            heading_deg=heading(journey.bearing, "bearing"),
            delay_s=delay if matched else NAN,
            operator=None if journey.operatorRef is None else str(journey.operatorRef),
            method=self._method,
        )

    def _visit(self, index: int, item: Item, stop: str, journey: _Journey, parsed: Parsed) -> None:
        """A forecast call; the board does not say when it was written, so it is as new as its receipt."""
        call = journey.call or _Call()
        if journey.vehicleRef is None or not str(journey.vehicleRef):
            parsed.skip("no_vehicle")
            return
        stated = forecast(
            index,
            item,
            item.ingest_ms,
            feed=self._feed,
            stop_id=stop,
            vehicle_id=f"{self._prefix}{journey.vehicleRef}",
            operator=None if journey.operatorRef is None else str(journey.operatorRef),
            trip=self._trip(journey, True),
            expected_arrival=iso_ms_or_none(call.expectedArrivalTime, "expectedArrivalTime"),
            expected_departure=iso_ms_or_none(call.expectedDepartureTime, "expectedDepartureTime"),
            aimed_arrival=iso_ms_or_none(call.aimedArrivalTime, "aimedArrivalTime"),
            aimed_departure=iso_ms_or_none(call.aimedDepartureTime, "aimedDepartureTime"),
        )
        if isinstance(stated, str):
            parsed.skip(stated)
        else:
            parsed.stated.append(stated)

    def _trip(self, journey: _Journey, matched: bool) -> Trip:
        framed = journey.framedVehicleJourneyRef
        day = framed.dateFrameRef if framed is not None and framed.dateFrameRef and _DAY.fullmatch(framed.dateFrameRef) else None
        start = None
        text = journey.originAimedDepartureTime or ""
        if found := _CLOCK.fullmatch(text):  # "0900" until 2019
            start = f"{found[1]}:{found[2]}"
        elif text:
            at = datetime.fromtimestamp(iso_ms(text, "originAimedDepartureTime") / 1000, UTC).astimezone(self._zone)
            start, day = at.strftime("%H:%M"), day or at.strftime("%Y-%m-%d")
        route = None if journey.lineRef is None else str(journey.lineRef)
        return Trip(
            mode=self._mode if route is None else self._route_modes.get(route, self._mode),
            route_id=route,
            direction_id={"1": 0, "2": 1}.get(str(journey.directionRef)),
            operating_day=day if matched else None,
            start_time=start if matched else None,
        )


class _Part(NamedTuple):
    """One activity; one visit, with the stop it is listed under."""

    stop: str | None
    raw: msgspec.Raw
