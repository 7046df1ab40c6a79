"""Digitraffic road weather: the station list gives places, ``stations/data`` and MQTT give what they measure.

Codes and names of sensors: ``connectors/road_weather.py``. A station's values have times of their own: the newest is the record's, and values an hour older than that are
left out. On MQTT a value comes alone, by the sensor's number, with the time at which its row changed; it is one part of the station's record.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from connectors import road_weather
from connectors.cities import Box
from connectors.columns import Parsed, Site, Stated
from connectors.envelope import Item
from connectors.reading import Refused, decoder, epoch_ms, iso_ms, number, place, reject
from models.clock import rfc3339

#: Values this much older than the station's newest say nothing of now, milliseconds.
OLDER_MS = 3_600_000
#: "direction" of a weather station's place.
PLACE = "weather"
_TOPIC = re.compile(r"weather-v2/(\d{1,9})/(\d{1,9})")


class _Value(msgspec.Struct):
    name: str | None = None
    value: float | None = None
    measuredTime: str | None = None


class _Properties(msgspec.Struct):
    id: int | None = None
    name: str | None = None
    collectionStatus: str | None = None


class _Point(msgspec.Struct):
    coordinates: list[float]


class _Station(msgspec.Struct):
    """One station of the data, or one feature of the list."""

    id: int | None = None
    dataUpdatedTime: str | None = None
    sensorValues: list[_Value] | None = None
    properties: _Properties | None = None
    geometry: _Point | None = None


class _Document(msgspec.Struct):
    stations: list[msgspec.Raw] | None = None
    features: list[msgspec.Raw] | None = None


class _Mqtt(msgspec.Struct):
    value: float
    time: int


_document = decoder(_Document, "road weather stations or their data")
_station = decoder(_Station, "a road weather station")
_mqtt = decoder(_Mqtt, "value and time of one sensor")


def is_weather(body: bytes) -> bool:
    """Whether a document without an address is of road weather."""
    return b'"tmsNumber"' not in body and (b'"ILMA"' in body or b'"KELI_1"' in body)


def document(before: int, item: Item, parsed: Parsed, feed: str, box: Box) -> int:
    """One REST answer; returns how many stations it held."""
    d = _document(item.body)
    raws = d.stations if d.stations is not None else d.features
    parts = [msgspec.Raw(item.body)] if raws is None else raws
    for n, raw in enumerate(parts):
        try:
            station = _station(raw)
            if station.sensorValues is not None:
                _values(before + n, item, raw, station, parsed, feed)
            elif station.properties is not None:
                _place(station, station.properties, parsed, box)
            else:
                raise Refused("missing", "sensorValues", None, "values of a station, or its place")
        except Refused as e:
            parsed.rejects.append(reject(before + n, item, e, raw))
    return len(parts)


def message(index: int, item: Item, topic: str, parsed: Parsed, feed: str) -> None:
    """One MQTT message. Sensors that fill no field are passed over."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        raise Refused("bad_topic", "topic", item.topic, "weather-v2/<station>/<sensor>")
    name = road_weather.NAMES.get(int(found[2]))
    if name is None:
        parsed.skip("unused_sensor")
        return
    m = _mqtt(item.body)
    measured_ms = epoch_ms(m.time, "time")
    _state(index, item, item.body, found[1], {name: number(m.value, name)}, measured_ms, parsed, feed, part=name)


def _values(index: int, item: Item, raw: msgspec.Raw, station: _Station, parsed: Parsed, feed: str) -> None:
    if station.id is None:
        raise Refused("missing", "id", None, "a station's number")
    used = [v for v in station.sensorValues or [] if v.name in road_weather.USED and v.value is not None]
    if not used:
        parsed.skip("no_value")
        return
    times = [iso_ms(v.measuredTime or station.dataUpdatedTime, "measuredTime") for v in used]
    newest = max(times)
    values = {v.name or "": number(v.value, v.name or "") for v, ms in zip(used, times, strict=True) if ms >= newest - OLDER_MS}
    _state(index, item, raw, str(station.id), values, newest, parsed, feed)


def _state(
    index: int,
    item: Item,
    raw: Any,
    station: str,
    values: dict[str, float],
    measured_ms: int,
    parsed: Parsed,
    feed: str,
    part: str | None = None,
) -> None:
    site_id = f"digitraffic/{station}"
    record, refused = road_weather.record(
        values, site_id=site_id, event_time=rfc3339(measured_ms), ingest_time=rfc3339(item.ingest_ms), feed=feed
    )
    parsed.rejects += [reject(index, item, e, raw) for e in refused]
    parsed.stated.append(
        Stated(
            index=index,
            ingest_ms=item.ingest_ms,
            event_ms=measured_ms,
            product="road-weather",
            key=site_id,
            record=record,
            part=part,
            site=f"{site_id}:{PLACE}",
        )
    )
    parsed.events += 1


def _place(station: _Station, p: _Properties, parsed: Parsed, box: Box) -> None:
    number_ = station.id if station.id is not None else p.id
    if number_ is None or station.geometry is None or len(station.geometry.coordinates) < 2:
        raise Refused("missing", "geometry", None, "a station's number and point: longitude, latitude")
    lon, lat = station.geometry.coordinates[:2]
    lat, lon = place(lat, lon)
    if lat != lat or not box.holds(lat, lon):
        parsed.skip("outside_box")
    elif (p.collectionStatus or "").startswith("REMOVED"):
        parsed.skip("removed_station")
    elif (p.name or "").upper().startswith(road_weather.TEST):
        parsed.skip("test_station")
    else:
        parsed.sites.append(Site(site_id=f"digitraffic/{number_}", direction=PLACE, lat_deg=lat, lon_deg=lon, name=p.name))
        parsed.events += 1
