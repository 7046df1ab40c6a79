"""Fintraffic Digitraffic: TMS ("LAM") counting stations, their readings and their constants, over REST and MQTT; and which module reads the other documents.

Road weather, traffic messages and counting sites have modules of their own beside this one; documents are told apart by their address or topic, and in
recordings by what they hold.

Four documents, told apart by what they hold (all stations or one alike): station lists (GeoJSON) and ``sensor-constants`` become sites,
``stations/data`` becomes readings, an MQTT message on ``tms-v2/<station>/<sensor>`` becomes one reading with only its flow or only its speed.
Sensors and their meaning: README.md beside this file. Flow is vehicles an hour, extrapolated from five minutes; speed is a spot mean.

A site of the constants knows no place: its coordinates are NaN, and whoever keeps sites takes over only what is known.
Readings come for every station of the country; sites only for the city's box, so readings of unknown sites are other cities'.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from connectors.cities import City, FeedSettings
from connectors.columns import Parsed, Reject, SensorColumns, Site
from connectors.digitraffic import counting, maintenance, weather
from connectors.digitraffic.messages import Messages
from connectors.envelope import Envelope, Item
from connectors.reading import Refused, SensorRows
from models.clock import parse_ms

WINDOW_MS = 300_000
_NAN = math.nan
#: Flow and speed sensor of directions 1 and 2: the window that slides, else the fixed five minutes.
SLIDING = {"1": (5116, 5122), "2": (5119, 5125)}
FIXED = {"1": (5016, 5022), "2": (5019, 5025)}
_SENSORS = {
    s: (d, q) for table in (SLIDING, FIXED) for d, pair in table.items() for q, s in enumerate(pair)
}  #: sensor -> direction, 0 flow 1 speed
#: Flow and speed of one station may be stamped this far apart and still speak of the same five minutes.
_SAME_MS = 60_000
_TOPIC = re.compile(r"tms-v2/(\d{1,9})/(\d{1,9})")
_BROKER = ("tms-v2/", "weather-v2/", "traffic-message-v3/", "maintenance-v2/")
_STATUS = re.compile(r"(tms-v2|weather-v2|traffic-message-v3|maintenance-v2)/status(/.*)?")
_FAULT = {"OK": None, "SUSPICIOUS": "intermittentDataValues", "FAULTY": "other"}
_Raws = list[msgspec.Raw]


class _Value(msgspec.Struct):
    id: int
    value: float | None = None
    measuredTime: str | None = None
    timeWindowStart: str | None = None
    timeWindowEnd: str | None = None
    reliability: str | None = None


class _Constant(msgspec.Struct):
    name: str
    value: float | None = None
    validFrom: str | None = None
    validTo: str | None = None


class _Document(msgspec.Struct):
    """Any of the documents, or one station of one."""

    id: int | None = None
    stations: _Raws | None = None
    features: _Raws | None = None
    sensorValues: _Raws | None = None
    sensorConstantValues: _Raws | None = None
    geometry: msgspec.Raw = msgspec.Raw(b"")
    properties: msgspec.Raw = msgspec.Raw(b"")


class _Point(msgspec.Struct):
    coordinates: list[float]
    type: str = "Point"


class _Properties(msgspec.Struct):
    id: int | None = None
    name: str | None = None
    names: dict[str, str | None] | None = None
    bearing: float | None = None
    freeFlowSpeed1: float | None = None
    freeFlowSpeed2: float | None = None
    collectionStatus: str | None = None


class _Mqtt(msgspec.Struct):
    value: float
    time: int | None = None
    start: int | None = None
    end: int | None = None


_document = msgspec.json.Decoder(_Document).decode
_value = msgspec.json.Decoder(_Value).decode
_values = msgspec.json.Decoder(list[_Value]).decode
_constant = msgspec.json.Decoder(_Constant).decode
_point = msgspec.json.Decoder(_Point | None).decode
_properties = msgspec.json.Decoder(_Properties).decode
_mqtt = msgspec.json.Decoder(_Mqtt).decode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ERROR_AT = re.compile(r"^(.*?) - at `\$\.?([^`]*)`$", re.DOTALL)


class _Reading(NamedTuple):
    row: int
    ingest_ms: int
    start_ms: int
    end_ms: int
    flow: float
    speed: float
    site_id: str
    direction: str
    fault: str | None


class _Refused(Exception):
    def __init__(self, reason: str, field: str, value: object, want: str) -> None:
        self.reason, self.field, self.value, self.want = reason, field, value, want
        super().__init__(reason)


class Parser:
    """Parses envelopes of one Digitraffic TMS feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._messages = Messages(feed, city.box)
        self._box = city.box
        self._zone = ZoneInfo(city.timezone)

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` is the item's in an envelope of messages, the station's (over all items) in a snapshot."""
        parsed = Parsed()
        readings: list[_Reading] = []
        counts = SensorRows()
        before = 0
        for k, item in enumerate(envelope.items):
            topic = item.topic.lstrip("/")
            try:
                if topic.startswith(_BROKER):
                    if _STATUS.fullmatch(topic):
                        parsed.skip("status")
                    elif topic.startswith("tms-v2/"):
                        found = self._message(k, item, topic)
                        readings += found
                        if not found:
                            parsed.skip("unused_sensor")
                    elif topic.startswith("weather-v2/"):
                        weather.message(k, item, topic, parsed, self._feed)
                    elif topic.startswith("traffic-message-v3/"):
                        self._messages.message(k, item, parsed)
                    else:  # on the broker even the id of the stretch is missing (maintenance.py)
                        parsed.skip("no_vehicle_id")
                    continue
                kind = _kind(topic, item.body)
                if kind == "weather":
                    before += weather.document(before, item, parsed, self._feed, self._box)
                elif kind == "messages":
                    before += self._messages.document(before, item, parsed)
                elif kind == "maintenance":
                    before += maintenance.document(before, item, parsed, self._feed, self._box)
                elif kind == "counting":
                    before += counting.document(before, item, parsed, counts, self._box)
                else:
                    before += self._body(before, item, parsed, readings)
            except (_Refused, Refused) as e:
                parsed.rejects.append(_reject(k if envelope.kind == "messages" else -1, item, e, item.body))
        parsed.sensors = counts.columns() if len(counts) and not readings else _columns(readings)
        parsed.events += len(parsed.sensors) + len(parsed.rejects)
        return parsed

    def _message(self, index: int, item: Item, topic: str) -> list[_Reading]:
        found = _TOPIC.fullmatch(topic)
        if found is None:
            raise _Refused("bad_topic", "topic", item.topic, "tms-v2/<station>/<sensor>")
        station, sensor = int(found[1]), int(found[2])
        if sensor not in _SENSORS:
            return []
        try:
            m = _mqtt(item.body)
        except _ERRORS as e:
            raise _explain(e) from e
        # ``time`` is when the row changed in Digitraffic's database; it stands in where the window is not told.
        end = m.end if m.end is not None else m.time
        if not end or end < 0:
            raise _Refused("missing", "time", end, "seconds since 1970 in end or time")
        start = m.start if m.start is not None else end - WINDOW_MS // 1000
        if max(start, end) > 2**53 // 1000 or not 0 <= start < end:
            raise _Refused("bad_type", "start", start, "seconds since 1970, before end")
        direction, quantity = _SENSORS[sensor]
        value = _amount(m.value, "value")
        flow, speed = (value, _NAN) if quantity == 0 else (_NAN, value)
        return [_Reading(index, item.ingest_ms, start * 1000, end * 1000, flow, speed, f"digitraffic/{station}", direction, None)]

    def _body(self, before: int, item: Item, parsed: Parsed, readings: list[_Reading]) -> int:
        """One REST answer; returns how many stations it held."""
        try:
            document = _document(item.body)
        except _ERRORS as e:
            raise _explain(e) from e
        single = document.features is None and document.stations is None
        parts: _Raws = [msgspec.Raw(item.body)] if single else (document.features or document.stations or [])
        if single and document.sensorValues is None and document.sensorConstantValues is None and not document.properties:
            raise _Refused(
                "bad_json", "body", item.body[:80].decode("utf-8", "replace"), "TMS stations, their data or their sensor constants"
            )
        for n, raw in enumerate(parts):
            index = before + n
            try:
                station = document if single else _document(raw)
                if station.sensorValues is not None:
                    found = self._station(index, item, station, station.sensorValues, parsed)
                    readings += found
                    if not found:
                        parsed.skip("no_value")
                elif station.sensorConstantValues is not None:
                    parsed.sites += self._constants(item, station, station.sensorConstantValues)
                    parsed.events += 1
                else:
                    sites = self._feature(station)
                    parsed.sites += sites
                    if sites:
                        parsed.events += 1
                    else:
                        parsed.skip("outside_box")
            except _Refused as e:
                parsed.rejects.append(_reject(index, item, e, bytes(raw)))
            except _ERRORS as e:
                parsed.rejects.append(_reject(index, item, _explain(e), bytes(raw)))
        return len(parts)

    def _station(self, index: int, item: Item, station: _Document, raws: _Raws, parsed: Parsed) -> list[_Reading]:
        """Readings of one station: at most one a direction."""
        if station.id is None:
            raise _Refused("missing", "id", None, "a station's number")
        values: dict[int, _Value] = {}
        for raw in raws:
            try:
                value = _value(raw)
            except _ERRORS as e:
                parsed.rejects.append(_reject(index, item, _explain(e), bytes(raw)))
                continue
            if value.id in _SENSORS and value.value is not None:
                values[value.id] = value
        out = []
        for direction in ("1", "2"):
            for table in (SLIDING, FIXED):
                flow, speed = (values.get(s) for s in table[direction])
                if flow is not None or speed is not None:
                    out.append(_reading(index, item, f"digitraffic/{station.id}", direction, flow, speed))
                    break
        return out

    def _feature(self, station: _Document) -> list[Site]:
        """Both directions of one station of the list, when it gathers and lies in the city's box."""
        p = _properties(station.properties)
        number = station.id if station.id is not None else p.id
        if number is None:
            raise _Refused("missing", "id", None, "a station's number")
        if (p.collectionStatus or "").startswith("REMOVED"):
            return []
        point = _point(station.geometry) if station.geometry else None
        if point is None or len(point.coordinates) < 2:
            raise _Refused("missing", "geometry", None, "a point: longitude, latitude")
        lon, lat = point.coordinates[:2]
        if not self._box.holds(lat, lon):
            return []
        ahead = None if p.bearing is None else p.bearing % 360
        name = (p.names or {}).get("fi") or p.name
        sides = (("1", ahead, p.freeFlowSpeed1), ("2", None if ahead is None else (ahead + 180) % 360, p.freeFlowSpeed2))
        return [
            Site(
                site_id=f"digitraffic/{number}", direction=d, lat_deg=lat, lon_deg=lon, bearing_deg=b, free_flow_kmh=_positive(v), name=name
            )
            for d, b, v in sides
        ]

    def _constants(self, item: Item, station: _Document, raws: _Raws) -> list[Site]:
        """Free-flow speed, capacity and bearing of the season in which the document was received, by the city's calendar."""
        if station.id is None:
            raise _Refused("missing", "id", None, "a station's number")
        today = datetime.fromtimestamp(item.ingest_ms / 1000, UTC).astimezone(self._zone).strftime("%m-%d")
        now = {c.name: c.value for c in map(_constant, raws) if c.value is not None and _in_season(today, c.validFrom, c.validTo)}
        ahead = now.get("Tien_suunta")
        bearing = {"1": None, "2": None} if ahead is None else {"1": ahead % 360, "2": (ahead + 180) % 360}
        return [
            Site(
                site_id=f"digitraffic/{station.id}",
                direction=d,
                lat_deg=_NAN,
                lon_deg=_NAN,
                bearing_deg=bearing[d],
                free_flow_kmh=_positive(now.get(f"VVAPAAS{d}")),
                capacity_vph=_positive(now.get(f"MS{d}")),
            )
            for d in ("1", "2")
        ]


def _kind(topic: str, body: bytes) -> str:
    """Which document a body without an MQTT topic is: by its address, else (a recording's file) by what it holds."""
    for part, kind in (
        ("/api/tms/", "tms"),
        ("/api/weather/", "weather"),
        ("/api/traffic-message/", "messages"),
        ("/api/counting-site/", "counting"),
        ("/api/maintenance/", "maintenance"),
    ):
        if part in topic:
            return kind
    if b'"situationId"' in body:
        return "messages"
    if b'"tasks"' in body and b'"FeatureCollection"' in body:
        return "maintenance"
    if b'"FeatureCollection"' in body and b'"tmsNumber"' not in body:
        return "weather" if b'"collectionStatus"' in body else "counting"
    return "weather" if weather.is_weather(body) else "counting" if counting.is_counting(body) else "tms"


def _reading(index: int, item: Item, site_id: str, direction: str, flow: _Value | None, speed: _Value | None) -> _Reading:
    leader = flow if flow is not None else speed
    assert leader is not None
    start, end = _window(leader)
    vph = _NAN if flow is None else _amount(flow.value, f"sensor {flow.id}")
    kmh = _NAN if speed is None else _amount(speed.value, f"sensor {speed.id}")
    # A station keeps its last speed when nobody passes: that speed is old, whatever the document's time.
    if flow is not None and speed is not None and (vph == 0 or abs(_window(speed)[1] - end) > _SAME_MS):
        kmh = _NAN
    fault = next((f for v in (flow, speed) if v is not None and (f := _FAULT.get(v.reliability or "OK", "unknown"))), None)
    return _Reading(index, item.ingest_ms, start, end, vph, kmh, site_id, direction, fault)


def _window(value: _Value) -> tuple[int, int]:
    text = value.timeWindowEnd or value.measuredTime
    if text is None:
        raise _Refused("missing", "measuredTime", None, "an ISO 8601 time with its zone")
    try:
        end = parse_ms(text)
        start = parse_ms(value.timeWindowStart) if value.timeWindowStart else end - WINDOW_MS
    except (ValueError, OverflowError) as e:
        raise _Refused("bad_type", "measuredTime", text, "an ISO 8601 time with its zone") from e
    if start >= end:
        raise _Refused("bad_type", "timeWindowStart", value.timeWindowStart, "before timeWindowEnd")
    return start, end


def _amount(value: float | None, field: str) -> float:
    if value is None or value < 0:
        raise _Refused("range", field, value, "0 or more")
    return value


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _in_season(today: str, first: str | None, last: str | None) -> bool:
    """Whether MM-DD lies in a season, which may run over the turn of the year.

    >>> _in_season("01-15", "11-01", "03-31"), _in_season("06-01", "11-01", "03-31"), _in_season("06-01", None, None)
    (True, False, True)
    """
    if not first or not last:
        return True
    return first <= today <= last if first <= last else today >= first or today <= last


def _columns(readings: list[_Reading]) -> SensorColumns:
    n = len(readings)
    return SensorColumns(
        index=np.array([r.row for r in readings], dtype=np.int32),
        ingest_ms=np.array([r.ingest_ms for r in readings], dtype=np.int64),
        window_start_ms=np.array([r.start_ms for r in readings], dtype=np.int64),
        window_end_ms=np.array([r.end_ms for r in readings], dtype=np.int64),
        flow_vph=np.array([r.flow for r in readings], dtype=np.float64),
        speed_kmh=np.array([r.speed for r in readings], dtype=np.float64),
        occupancy_pct=np.full(n, np.nan),
        free_flow_kmh=np.full(n, np.nan),
        capacity_vph=np.full(n, np.nan),
        site_id=[r.site_id for r in readings],
        direction=[r.direction for r in readings],
        kind=["loop"] * n,
        fault=[r.fault for r in readings],
    )


def _explain(error: Exception) -> _Refused:
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        found = _ERROR_AT.match(text)
        return _Refused("bad_type", (found[2] if found else "") or "body", found[1] if found else text, "the type of the TMS interface")
    return _Refused("bad_json", "body", text, "a JSON document, UTF-8")


def _reject(index: int, item: Item, e: _Refused | Refused, body: Any) -> Reject:
    value = e.value if isinstance(e.value, str) else repr(e.value)
    return Reject(index=index, reason=e.reason, field=e.field, value=value[:200], want=e.want, body=bytes(body), source_topic=item.topic)
