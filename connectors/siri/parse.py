"""SIRI 1.3-2.1 in XML, bare or in a SOAP envelope: vehicles (VM), observed calls at stops (SM, VM), forecast ones (SM), situations (SX).

Elements are told by their names alone, since senders differ in namespaces and prefixes. What is no observation is passed over and counted: vehicles that are
not monitored (their positions are the timetable's, or of yesterday), forecasts without a vehicle or of ET, cancellations. Field table and traps: README.md beside this file.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from lxml import etree

from connectors import xml
from connectors.cities import City, FeedSettings
from connectors.columns import METHOD_CODE, Parsed, Stated, Trip
from connectors.envelope import Envelope, Item
from connectors.forecasts import forecast
from connectors.reading import NAN, Refused, VehicleRows, duration_s, heading, iso_ms, iso_ms_or_none, number, place, reject
from connectors.siri.passages import Call, passage
from connectors.siri.situations import situation
from geo.project import Plane
from models.errors import ConfigError

#: Earlier or later than this is a wrong trip match, not a delay, seconds.
MOST_DELAY_S = 12 * 3600
_MODES = {
    "bus": "bus", "coach": "bus", "tram": "tram", "metro": "metro", "underground": "metro", "rail": "train", "ferry": "ferry", "water": "ferry",
}  # fmt: skip
#: Words for directions, as the examples of GTFS have them; what numbers mean differs from sender to sender (city file: ``directions``).
_DIRECTIONS = {"outbound": 0, "out": 0, "go": 0, "inbound": 1, "in": 1, "back": 1}
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_EPSG = re.compile(r"(?:.*[:/#])?(\d{4,6})")
_WGS84 = {"", "4326", "wgs84", "wgs 84", "real"}
_DELIVERIES = ("VehicleMonitoringDelivery", "StopMonitoringDelivery", "SituationExchangeDelivery")
_FORECASTS = ("EstimatedVehicleJourney", "DatedTimetableVersionFrame", "TargetedStopVisit", "TargetedCall")
_Fields = dict[str, etree._Element]


class Parser:
    """Parses envelopes of one SIRI feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed
        self._zone = ZoneInfo(city.timezone)
        self._method = METHOD_CODE[feed.position_method]
        self._directions: dict[str, int] = {**_DIRECTIONS, **{k.lower(): v for k, v in feed.directions.items()}}
        self._velocity = {"unknown": None, "mps": 1.0, "kmh": 1 / 3.6}[feed.velocity_unit]
        self._box = city.box

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` is the item's in an envelope of messages; in a snapshot it counts activities, visits and situations over all items."""
        parsed = Parsed()
        rows = VehicleRows()
        before = 0
        for k, item in enumerate(envelope.items):
            at = k if envelope.kind == "messages" else None
            try:
                root = xml.parse(item.body)
                _check_root(root)
                before += self._deliveries(root, item, at, before, rows, parsed)
            except Refused as e:
                parsed.rejects.append(reject(-1 if at is None else at, item, e))
        if len(rows):
            parsed.vehicles = rows.columns()
        parsed.events = len(rows) + len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _deliveries(self, root: etree._Element, item: Item, at: int | None, before: int, rows: VehicleRows, parsed: Parsed) -> int:
        """All that one document holds; returns how many elements it held."""
        n, mark = 0, parsed.mark()
        for delivery in xml.descendants(root, *_DELIVERIES):
            if xml.text(delivery, "Status") in _FALSE:
                said = xml.text(xml.child(delivery, "ErrorCondition"), "Description") or _first_text(xml.child(delivery, "ErrorCondition"))
                parsed.rejects.append(
                    reject(-1 if at is None else at, item, Refused("refused_by_sender", "Status", said or "false", "a delivery"), b"")
                )
            board, situations = xml.text(delivery, "MonitoringRef"), xml.child(delivery, "Situations")
            for element in delivery if situations is None else situations:
                index = before + n if at is None else at
                n += 1
                try:
                    match xml.name(element):
                        case "VehicleActivity":
                            self._activity(element, index, item, rows, parsed)
                        case "MonitoredStopVisit":
                            self._visit(element, index, item, board, parsed)
                        case "PtSituationElement" | "RoadSituationElement":
                            self._situation(element, index, item, parsed)
                        case name if name.endswith("Cancellation"):
                            parsed.skip("cancellation")
                        case name if name.endswith("Notice"):
                            parsed.skip("notice")
                        case _:
                            n -= 1
                except Refused as e:
                    parsed.rejects.append(reject(index, item, e, xml.raw(element)))
        if at is None and all(xml.text(e, "MoreData") not in _TRUE for e in (root, *xml.descendants(root, "ServiceDelivery"))):
            parsed.listed(item.topic, item.ingest_ms, mark)
        for _ in xml.descendants(root, *_FORECASTS):
            parsed.skip("forecast")
        return n

    # ----------------------------------------------------------------- vehicles

    def _activity(self, activity: etree._Element, index: int, item: Item, rows: VehicleRows, parsed: Parsed) -> None:
        a = xml.fields(activity)
        journey = a.get("MonitoredVehicleJourney")
        if journey is None:
            raise Refused("missing", "MonitoredVehicleJourney", None, "a journey in a VehicleActivity")
        j = xml.fields(journey)
        # An observed call stays observed when the vehicle is out of contact now.
        vehicle_id, operator = self._vehicle(j, _t(a, "VehicleMonitoringRef"))
        trip = self._trip(j)
        delay = self._delay(j)
        for call in _calls(j):
            self._call(call, index, item, vehicle_id, operator, trip, parsed)
        if _t(j, "Monitored") in _FALSE:
            parsed.skip("not_monitored")
            return
        if vehicle_id is None:
            raise Refused("missing", "VehicleRef", None, "a VehicleRef or VehicleMonitoringRef")
        lat, lon = self._place(j.get("VehicleLocation"))
        monitored = xml.fields(j.get("MonitoredCall"))
        at_stop = _t(monitored, "VehicleAtStop")
        velocity = number(_t(j, "Velocity"), "Velocity", 0, 1000) if self._velocity is not None else NAN
        rows.add(
            index,
            item.ingest_ms,
            iso_ms(_t(a, "RecordedAtTime"), "RecordedAtTime"),
            vehicle_id=vehicle_id,
            operator=operator,
            trip=trip,
            lat_deg=lat,
            lon_deg=lon,
            speed_mps=velocity * (self._velocity or 1.0),
            heading_deg=heading(_t(j, "Bearing"), "Bearing"),
            delay_s=delay,
            at_stop=True if at_stop in _TRUE else False if at_stop in _FALSE else None,
            stop_id=_t(monitored, "StopPointRef") if at_stop in _TRUE else None,
            method=self._method,
        )

    def _vehicle(self, j: _Fields, monitoring: str | None) -> tuple[str | None, str | None]:
        """The vehicle's name across operators, and its operator. DataSource comes first: an operator is not named while a vehicle serves no line."""
        vehicle = _t(j, "VehicleRef") or monitoring
        operator = _t(j, "OperatorRef") or _t(j, "DataSource")
        owner = self._feed.id_namespace or _t(j, "DataSource") or operator
        if vehicle is None:
            return None, operator
        return (vehicle if owner is None or vehicle.startswith((f"{owner}:", f"{owner}/")) else f"{owner}/{vehicle}"), operator

    def _place(self, location: etree._Element | None) -> tuple[float, float]:
        """Degrees; NaN when the vehicle has no position now. Coordinates in a plane are taken back to degrees."""
        if location is None:
            return NAN, NAN
        f = xml.fields(location)
        if "Coordinates" not in f:
            return place(_t(f, "Latitude"), _t(f, "Longitude"))
        pair = (_t(f, "Coordinates") or "").replace(",", " ").split()
        if len(pair) < 2:
            return NAN, NAN
        system = f["Coordinates"].get("srsName") or location.get("srsName") or ""
        x, y = number(pair[0], "Coordinates"), number(pair[1], "Coordinates")
        found = _EPSG.fullmatch(system)
        code = found[1] if found else system.lower()
        if code in _WGS84:
            return place(y, x)
        try:
            lat, lon = Plane(f"EPSG:{code}").to_wgs84([x], [y])
        except ConfigError as e:
            raise Refused("bad_type", "srsName", system, "WGS 84 or the EPSG code of a plane in metres") from e
        return float(lat[0]), float(lon[0])

    def _delay(self, j: _Fields) -> float:
        delay = duration_s(_t(j, "Delay"), "Delay")
        return delay if abs(delay) <= MOST_DELAY_S else NAN

    def _trip(self, j: _Fields) -> Trip:
        framed = xml.fields(j.get("FramedVehicleJourneyRef"))
        day = _t(framed, "DataFrameRef")
        day = day if day is not None and _DAY.fullmatch(day) else None
        start_ms = iso_ms_or_none(_t(j, "OriginAimedDepartureTime"), "OriginAimedDepartureTime")
        start = None
        if start_ms is not None:
            local = datetime.fromtimestamp(start_ms / 1000, UTC).astimezone(self._zone)
            day = day or local.date().isoformat()
            start = _clock(local, day)
        return Trip(
            mode=_MODES.get((_t(j, "VehicleMode") or "").lower(), self._feed.mode),
            route_id=_t(j, "LineRef"),
            direction_id=self._directions.get((_t(j, "DirectionRef") or "").lower()),
            trip_id=_t(framed, "DatedVehicleJourneyRef") or _t(j, "VehicleJourneyRef"),
            operating_day=day,
            start_time=start,
            headsign=_t(xml.fields(j.get("MonitoredCall")), "DestinationDisplay") or _t(j, "DestinationName"),
        )

    # ---------------------------------------------------------- calls, situations

    def _visit(self, visit: etree._Element, index: int, item: Item, board: str | None, parsed: Parsed) -> None:
        """What was seen at a stop, or is forecast there."""
        v = xml.fields(visit)
        journey = v.get("MonitoredVehicleJourney")
        if journey is None:
            raise Refused("missing", "MonitoredVehicleJourney", None, "a journey in a MonitoredStopVisit")
        j = xml.fields(journey)
        vehicle_id, operator = self._vehicle(j, None)
        trip = self._trip(j)
        before = len(parsed.stated) + len(parsed.rejects)
        calls = _calls(j, _t(v, "MonitoringRef") or board)
        for call in calls:
            self._call(call, index, item, vehicle_id, operator, trip, parsed)
        if len(parsed.stated) + len(parsed.rejects) > before:
            return
        at = iso_ms_or_none(_t(v, "RecordedAtTime"), "RecordedAtTime")
        stated = (
            _forecast(calls[-1], index, item, at or item.ingest_ms, self._feed.name, vehicle_id, operator, trip) if calls else "forecast"
        )
        if isinstance(stated, str):
            parsed.skip(stated)
        else:
            parsed.stated.append(stated)

    def _call(self, call: Call, index: int, item: Item, vehicle_id: str | None, operator: str | None, trip: Trip, parsed: Parsed) -> None:
        try:
            stated = passage(call, index, item, self._feed.name, vehicle_id, operator, trip)
        except Refused as e:
            parsed.rejects.append(reject(index, item, e, xml.raw(call.element)))
            return
        if stated is not None:
            parsed.stated.append(stated)

    def _situation(self, element: etree._Element, index: int, item: Item, parsed: Parsed) -> None:
        stated = situation(element, index, item, self._feed.name, self._feed.id_namespace or self._feed.name, self._box)
        if stated is None:
            parsed.skip("outside_box")
        else:
            parsed.stated.append(stated)


def _check_root(root: etree._Element) -> None:
    """
    Raises:
        Refused: XML, but not of SIRI; or the sender says that something went wrong.
    """
    if xml.name(root) == "Envelope":
        fault = next(xml.descendants(root, "Fault"), None)
        if fault is not None:
            raise Refused("refused_by_sender", "Fault", _first_text(fault), "a delivery")
    if next(xml.descendants(root, *_DELIVERIES, "ServiceDelivery", *_FORECASTS), None) is None:
        raise Refused("not_siri", "root", xml.name(root), "a SIRI ServiceDelivery, bare or in SOAP")
    service = next(xml.descendants(root, "ServiceDelivery"), None)
    if xml.text(service, "Status") in _FALSE:
        raise Refused("refused_by_sender", "Status", _first_text(xml.child(service, "ErrorCondition")) or "false", "a delivery")


def _t(fields: _Fields, name: str) -> str | None:
    """Text of a child without surrounding space; None where it is missing or empty."""
    found = fields.get(name)
    return None if found is None else (found.text or "").strip() or None


def _first_text(element: etree._Element | None) -> str:
    return " ".join(" ".join(element.itertext()).split())[:200] if element is not None else ""


def _forecast(
    call: Call, index: int, item: Item, made_ms: int, feed: str, vehicle_id: str | None, operator: str | None, trip: Trip
) -> Stated | str:
    """The forecast of a call that nobody has seen yet, or why there is none."""
    stop_id = _t(call.fields, "StopPointRef") or call.stop_id
    if stop_id is None or vehicle_id is None:
        return "no_vehicle" if vehicle_id is None else "no_stop"
    arrives, leaves, to_arrive, to_leave = (
        iso_ms_or_none(_t(call.fields, name), name)
        for name in ("ExpectedArrivalTime", "ExpectedDepartureTime", "AimedArrivalTime", "AimedDepartureTime")
    )
    return forecast(
        index,
        item,
        made_ms,
        feed=feed,
        stop_id=stop_id,
        vehicle_id=vehicle_id,
        operator=operator,
        trip=trip,
        expected_arrival=arrives,
        expected_departure=leaves,
        aimed_arrival=to_arrive,
        aimed_departure=to_leave,
    )


def _calls(j: _Fields, monitoring: str | None = None) -> list[Call]:
    """The calls that may have been observed, each with the name of its stop."""
    found = [Call(call, xml.fields(call), None) for call in xml.children(j.get("PreviousCalls"), "PreviousCall")]
    if (monitored := j.get("MonitoredCall")) is not None:
        found.append(Call(monitored, xml.fields(monitored), monitoring))
    return found


def _clock(local: datetime, operating_day: str) -> str | None:
    """Local time of day; past midnight it goes on after 24 as in GTFS.

    >>> _clock(datetime(2026, 3, 11, 1, 5), "2026-03-10"), _clock(datetime(2026, 3, 10, 7, 5), "2026-03-10"), _clock(datetime(2026, 3, 9), "2026-03-10")
    ('25:05:00', '07:05:00', None)
    """
    try:
        days = (local.date() - date.fromisoformat(operating_day)).days
    except ValueError:
        return None
    return f"{local.hour + 24 * days:02}:{local:%M:%S}" if 0 <= days <= 1 else None
