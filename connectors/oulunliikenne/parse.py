"""Oulunliikenne (City of Oulu), GraphQL: car parks, city bikes, traffic fluency, announcements, roadworks, and what it passes on from Digitraffic.

One answer may hold any of the queries; a query that failed is an error of its own and the others go on. TMS sensors come by name only and with the station's
time, so that flow and speed cannot be told apart by age. Fluency of signals is a class of delay, not a speed: it is passed over; fluency of Fintraffic's
stations is Digitraffic's own measurement a second time, and is passed over too. There remain the sections whose mean speed only Oulu measures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connectors import road_weather
from connectors.cities import City, FeedSettings
from connectors.columns import Parsed, Site, Stated
from connectors.envelope import Envelope, Item
from connectors.geojson import TooLarge, checked, touches
from connectors.reading import NAN, Refused, SensorRows, decoder, iso_ms, iso_ms_or_none, known, number, place, reject, whole
from models.clock import rfc3339
from models.records import Parking, Severity, SharedVehicleStation, Situation, SituationKind

#: Averages are of five minutes, milliseconds.
WINDOW_MS = 300_000
_FLOW, _SPEED = "OHITUKSET_5MIN_LIUKUVA_SUUNTA", "KESKINOPEUS_5MIN_LIUKUVA_SUUNTA"
_SEVERITY: dict[str, Severity] = {
    "LOW": "low", "LOWEST": "low", "MEDIUM": "medium", "NORMAL": "medium", "HIGH": "high", "HIGHEST": "highest", "NONE": "none",
}  # fmt: skip
_OVER = frozenset(("ENDED", "INACTIVE", "CLOSED", "RETRACTED"))
_Texts = dict[str, str | None]


class _Error(msgspec.Struct):
    message: str | None = None


class _Features(msgspec.Struct):
    features: list[msgspec.Raw] | None = None


class _Data(msgspec.Struct):
    """The queries that are read; others are counted as passed over."""

    tmsStations: list[msgspec.Raw] | None = None
    weatherStations: list[msgspec.Raw] | None = None
    carParks: list[msgspec.Raw] | None = None
    trafficFluencyFeatureCollection: _Features | None = None
    trafficAnnouncements: list[msgspec.Raw] | None = None
    roadworks: list[msgspec.Raw] | None = None
    cameras: list[msgspec.Raw] | None = None
    ecoCounterSites: list[msgspec.Raw] | None = None
    bikeRentalStations: list[msgspec.Raw] | None = None


class _Document(msgspec.Struct):
    data: _Data | None = None
    errors: list[_Error] | None = None


class _SensorValue(msgspec.Struct):
    name: str
    sensorValue: float | None = None


class _Station(msgspec.Struct):
    tmsStationId: str | int | None = None
    weatherStationId: str | int | None = None
    name: str | None = None
    lat: float | None = None
    lon: float | None = None
    measuredTime: str | None = None
    sensorValues: list[_SensorValue] | None = None


class _CarPark(msgspec.Struct):
    carParkId: str | int | None = None
    name: str | None = None
    lat: float | None = None
    lon: float | None = None
    maxCapacity: int | None = None
    spacesAvailable: int | None = None


class _BikeStation(msgspec.Struct):
    stationId: str | int | None = None
    name: str | None = None
    bikesAvailable: int | None = None
    spacesAvailable: int | None = None
    state: str | None = None
    allowDropoff: bool | None = None
    lat: float | None = None
    lon: float | None = None


class _FluencyProperties(msgspec.Struct):
    id: str | int | None = None
    type: str | None = None
    measuredTime: str | None = None
    trafficDirection: str | int | None = None
    speedLimit: float | None = None
    averageSpeed: float | None = None


class _Fluency(msgspec.Struct):
    geometry: Any = None
    properties: _FluencyProperties | None = None


class _Situation(msgspec.Struct):
    id: str | int | None = None
    announcementId: str | int | None = None
    roadworkId: str | int | None = None
    title: _Texts | None = None
    description: _Texts | None = None
    severity: str | None = None
    status: str | None = None
    startTime: str | None = None
    endTime: str | None = None
    geojson: Any = None
    url: str | None = None


_document = decoder(_Document, "an answer of Oulunliikenne's GraphQL: data, errors")
_station = decoder(_Station, "a station with its sensor values")
_car_park = decoder(_CarPark, "a car park")
_bikes = decoder(_BikeStation, "a bike rental station")
_fluency = decoder(_Fluency, "a fluency feature")
_situation = decoder(_Situation, "an announcement or roadwork")
_text = decoder(dict[str, Any], "GeoJSON written as text")
_Read = Callable[[int, Item, msgspec.Raw, SensorRows, Parsed], None]


class Parser:
    """Parses envelopes of one Oulunliikenne feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._prefix = f"{feed.id_namespace or feed.name}/"
        self._box = city.box

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` counts the parts of all queries in the order of this module."""
        parsed, rows, index = Parsed(), SensorRows(), 0
        for k, item in enumerate(envelope.items):
            whole_body = k if envelope.kind == "messages" else -1
            mark = parsed.mark()
            try:
                document = _document(item.body)
                if document.data is None and not document.errors:
                    raise Refused("missing", "data", None, "data of a GraphQL answer")
            except Refused as e:
                parsed.rejects.append(reject(whole_body, item, e))
                continue
            for error in document.errors or []:
                failed = Refused("graphql_error", "errors", (error.message or "")[:200], "an answer without errors")
                parsed.rejects.append(reject(whole_body, item, failed))
            for read, raw in self._parts(document.data or _Data(), parsed):
                try:
                    read(index, item, raw, rows, parsed)
                except Refused as e:
                    parsed.rejects.append(reject(index, item, e, raw))
                index += 1
            if document.data is not None and document.data.trafficAnnouncements is not None and document.data.roadworks is not None:
                parsed.listed(item.topic, item.ingest_ms, mark)
        parsed.sensors = rows.columns()
        parsed.events = len(rows) + len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _parts(self, d: _Data, parsed: Parsed) -> list[tuple[_Read, msgspec.Raw]]:
        for name in ("cameras", "ecoCounterSites"):
            if others := getattr(d, name):
                parsed.skip(f"not_published_{name}", len(others))
        fluency = d.trafficFluencyFeatureCollection
        kinds: list[tuple[_Read, list[msgspec.Raw] | None]] = [
            (self._tms, d.tmsStations),
            (self._weather, d.weatherStations),
            (self._car_park, d.carParks),
            (self._bike_station, d.bikeRentalStations),
            (self._fluency, fluency.features if fluency is not None else None),
            (self._announcement, d.trafficAnnouncements),
            (self._roadwork, d.roadworks),
        ]
        return [(read, raw) for read, raws in kinds for raw in raws or []]

    def _tms(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> None:
        s = _station(raw)
        if s.tmsStationId is None:
            raise Refused("missing", "tmsStationId", None, "the station's number")
        values = {v.name: v.sensorValue for v in s.sensorValues or [] if v.sensorValue is not None}
        if s.measuredTime is None and not values:  # two "Flex" stations have never said anything
            parsed.skip("no_value")
            return
        end = iso_ms(s.measuredTime, "measuredTime")
        lat, lon = place(s.lat, s.lon)
        site_id = f"digitraffic/{s.tmsStationId}"
        readings = []
        for direction in ("1", "2"):
            flow = number(values.get(_FLOW + direction), _FLOW + direction, 0, 100_000)
            speed = number(values.get(_SPEED + direction), _SPEED + direction, 0, 1000)
            if flow == flow or speed == speed:
                readings.append((direction, flow, NAN if flow == 0 else speed))  # nobody passed: the speed is an old one
        if not readings:
            parsed.skip("no_value")
        for direction, flow, speed in readings:
            if lat == lat and self._box.holds(lat, lon):
                parsed.sites.append(Site(site_id=site_id, direction=direction, lat_deg=lat, lon_deg=lon, name=s.name))
            rows.add(index, item.ingest_ms, end - WINDOW_MS, end, site_id=site_id, direction=direction, flow_vph=flow, speed_kmh=speed)

    def _weather(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> None:
        s = _station(raw)
        if s.weatherStationId is None:
            raise Refused("missing", "weatherStationId", None, "the station's number")
        if (s.name or "").upper().startswith(road_weather.TEST):
            parsed.skip("test_station")
            return
        lat, lon = place(s.lat, s.lon)
        if lat == lat and not self._box.holds(lat, lon):
            parsed.skip("outside_box")
            return
        measured_ms = iso_ms(s.measuredTime, "measuredTime")
        values = {v.name: v.sensorValue for v in s.sensorValues or [] if v.sensorValue is not None and v.name in road_weather.USED}
        record, refused = road_weather.record(
            values,
            site_id=f"digitraffic/{s.weatherStationId}",
            event_time=rfc3339(measured_ms),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            name=s.name,
            lat_deg=known(lat),
            lon_deg=known(lon),
        )
        parsed.rejects += [reject(index, item, e, raw) for e in refused]
        parsed.stated.append(
            Stated(index=index, ingest_ms=item.ingest_ms, event_ms=measured_ms, product="road-weather", key=record.site_id, record=record)
        )

    def _car_park(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> None:
        p = _car_park(raw)
        if p.carParkId is None:
            raise Refused("missing", "carParkId", None, "the car park's number")
        lat, lon = place(p.lat, p.lon)
        capacity, free = whole(p.maxCapacity, "maxCapacity"), whole(p.spacesAvailable, "spacesAvailable")
        taken = None if free is None or not capacity else round(min(max(100.0 * (capacity - free) / capacity, 0.0), 100.0), 1)
        record = Parking(
            facility_id=f"{self._prefix}{p.carParkId}",
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            name=p.name,
            lat_deg=known(lat),
            lon_deg=known(lon),
            vehicle_type="car",
            capacity=capacity,
            spaces_available=free,
            occupancy_pct=taken,
        )
        parsed.stated.append(
            Stated(index=index, ingest_ms=item.ingest_ms, event_ms=item.ingest_ms, product="parking", key=record.facility_id, record=record)
        )

    def _bike_station(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> None:
        b = _bikes(raw)
        if b.stationId is None:
            raise Refused("missing", "stationId", None, "the station's number")
        lat, lon = place(b.lat, b.lon)
        if lat == lat and not self._box.holds(lat, lon):
            parsed.skip("outside_box")
            return
        record = SharedVehicleStation(
            station_id=f"{self._prefix}{b.stationId}",
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            name=b.name,
            lat_deg=known(lat),
            lon_deg=known(lon),
            vehicles_available=whole(b.bikesAvailable, "bikesAvailable"),
            docks_available=whole(b.spacesAvailable, "spacesAvailable"),
            is_returning=b.allowDropoff,
        )
        parsed.stated.append(
            Stated(
                index=index,
                ingest_ms=item.ingest_ms,
                event_ms=item.ingest_ms,
                product="shared-vehicle-station",
                key=record.station_id,
                record=record,
                on_change=True,
            )
        )

    def _fluency(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> None:
        p = _fluency(raw).properties
        if p is None or p.id is None:
            raise Refused("missing", "properties.id", None, "the id of the section")
        if "TMS" in (p.type or "").upper() or "LAM" in (p.type or "").upper():
            parsed.skip("republished_tms")
            return
        if p.averageSpeed is None or p.measuredTime is None:
            parsed.skip("no_measured_speed")
            return
        end = iso_ms(p.measuredTime, "measuredTime")
        speed = number(p.averageSpeed, "averageSpeed", 0, 1000)
        direction = "1" if p.trafficDirection is None else str(p.trafficDirection)
        rows.add(index, item.ingest_ms, end - WINDOW_MS, end, site_id=f"{self._prefix}{p.id}", direction=direction, speed_kmh=speed)

    def _announcement(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> None:
        self._state(index, item, _situation(raw), "incident", parsed)

    def _roadwork(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> None:
        self._state(index, item, _situation(raw), "roadwork", parsed)

    def _state(self, index: int, item: Item, s: _Situation, kind: SituationKind, parsed: Parsed) -> None:
        name = next((i for i in (s.announcementId, s.roadworkId, s.id) if i is not None), None)
        if name is None:
            raise Refused("missing", "id", None, "the id of the announcement or roadwork")
        geometry = None
        if s.geojson is not None:
            try:
                geometry, positions = checked(_text(s.geojson.encode()) if isinstance(s.geojson, str) else s.geojson)
                if not touches(positions, self._box):
                    parsed.skip("outside_box")
                    return
            except TooLarge:
                geometry = None
        start, end = iso_ms_or_none(s.startTime, "startTime"), iso_ms_or_none(s.endTime, "endTime")
        ended = (s.status or "").upper() in _OVER
        key = f"digitraffic/{name}" if str(name).startswith("GUID") else f"{self._prefix}{name}"  # Fintraffic's own ids, passed on
        # Oulunliikenne does not say when an entry was written: it is as new as its first receipt in this form.
        record = Situation(
            situation_id=key,
            kind=kind,
            event_time=rfc3339(item.ingest_ms),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            severity=_SEVERITY.get((s.severity or "").upper(), "unknown"),
            valid_from=None if start is None else rfc3339(start),
            valid_to=None if end is None else rfc3339(end),
            ended=True if ended else None,
            geometry=geometry,
            title=_words(s.title),
            text=_words(s.description),
            url=s.url,
            source="Oulunliikenne",
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


def _words(texts: _Texts | None) -> dict[str, str] | None:
    return {language: words for language, words in (texts or {}).items() if words} or None
