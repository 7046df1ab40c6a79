"""GBFS 1, 2 and 3: stations of shared bicycles, scooters and cars, where they are and what is free at them.

A document is told by what it holds. ``station_information`` and ``station_status`` are two parts of one record (``Stated.part``), whichever comes first.
Vehicles that stand about freely are counted and passed over: they are no stations, and where one stands tells of its last rider.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.cities import City, FeedSettings
from connectors.columns import Parsed, Stated
from connectors.envelope import Envelope, Item
from connectors.reading import Refused, decoder, epoch_ms, iso_ms, known, place, reject, whole
from models.clock import rfc3339
from models.records import SharedVehicleStation

_WANT = "a GBFS document: last_updated, ttl, data"
_Number = int | float | str | None
_Time = int | float | str | None
_Bool = bool | int | None
_Raws = list[msgspec.Raw]
MOST_TYPES = 100


class _Text(msgspec.Struct):
    text: str
    language: str = "und"


class _Data(msgspec.Struct):
    """What tells the kind of a document."""

    stations: _Raws | None = None
    bikes: _Raws | None = None
    vehicles: _Raws | None = None


class _Document(msgspec.Struct):
    data: msgspec.Raw
    last_updated: _Time = None
    ttl: _Number = None


class _Count(msgspec.Struct):
    count: int
    vehicle_type_id: str | int | None = None


class _Station(msgspec.Struct):
    """A station of either document."""

    station_id: str | int
    name: str | list[_Text] | None = None
    lat: _Number = None
    lon: _Number = None
    capacity: _Number = None
    vehicle_type_capacity: dict[str, int] | None = None
    vehicle_types_capacity: list[_Count] | None = None
    num_bikes_available: _Number = None
    num_vehicles_available: _Number = None
    num_docks_available: _Number = None
    vehicle_types_available: list[_Count] | None = None
    vehicle_docks_available: list[_Count] | None = None
    is_installed: _Bool = None
    is_renting: _Bool = None
    is_returning: _Bool = None
    last_reported: _Time = None


_document = decoder(_Document, _WANT)
_data = decoder(_Data, _WANT)
_station = decoder(_Station, "a station as in GBFS 1 to 3")


class Parser:
    """Parses envelopes of one GBFS feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._namespace = feed.id_namespace or feed.name
        self._box = city.box

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` is the item's in an envelope of messages; in a snapshot it counts stations over all items."""
        parsed = Parsed()
        before = 0
        for k, item in enumerate(envelope.items):
            at = k if envelope.kind == "messages" else None
            try:
                before += self._read(item, at, before, parsed)
            except Refused as e:
                parsed.rejects.append(reject(-1 if at is None else at, item, e))
        parsed.events = len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _read(self, item: Item, at: int | None, before: int, parsed: Parsed) -> int:
        """One document; returns how many stations it held."""
        document = _document(item.body)
        updated_ms = _time(document.last_updated, "last_updated")
        if updated_ms is None:
            raise Refused("missing", "last_updated", document.last_updated, "when the document was made")
        data = _data(document.data) if bytes(document.data).lstrip()[:1] == b"{" else _Data()
        for free in (data.bikes, data.vehicles):
            if free:
                parsed.skip("free_floating", len(free))
        if data.stations is None:
            if data.bikes is None and data.vehicles is None:
                parsed.skip("other_document")
            return 0
        seen: set[str] = set()
        for n, raw in enumerate(data.stations):
            index = before + n if at is None else at
            try:
                station = _station(raw)
                identity = str(station.station_id)
                if not identity:
                    raise Refused("missing", "station_id", "", "an id of the station")
                if identity in seen:  # seen in the wild: two entries of one id; the first counts, or they would take turns for ever
                    parsed.skip("duplicate_station")
                    continue
                seen.add(identity)
                self._state(station, index, item, updated_ms, parsed)
            except Refused as e:
                parsed.rejects.append(reject(index, item, e, raw))
        return len(data.stations)

    def _state(self, s: _Station, index: int, item: Item, updated_ms: int, parsed: Parsed) -> None:
        key = f"{self._namespace}/{s.station_id}"
        if s.lat is not None or s.lon is not None or s.name is not None:
            lat, lon = place(s.lat, s.lon)
            if lat == lat and not self._box.holds(lat, lon):
                if self._box.holds(lon, lat):
                    raise Refused("swapped_coordinates", "lat, lon", f"{lat}, {lon}", "latitude first: the two are swapped")
                parsed.skip("outside_box")
            else:
                record = self._record(
                    key,
                    item,
                    name=_name(s.name),
                    lat_deg=known(lat),
                    lon_deg=known(lon),
                    capacity=_capacity(s),
                )
                parsed.stated.append(_stated(index, item, updated_ms, key, record, "information"))
        elif not _is_status(s):
            raise Refused("missing", "lat", None, "a place (station_information) or what is free (station_status)")
        if _is_status(s):
            by_type = _by_type(s.vehicle_types_available)
            vehicles = whole(s.num_vehicles_available if s.num_bikes_available is None else s.num_bikes_available, "num_vehicles_available")
            docks = whole(s.num_docks_available, "num_docks_available")
            reported_ms = _time(s.last_reported, "last_reported")
            record = self._record(
                key,
                item,
                event_time=None if reported_ms is None else rfc3339(reported_ms),
                vehicles_available=sum(by_type.values()) if vehicles is None and by_type is not None else vehicles,
                docks_available=_sum(s.vehicle_docks_available) if docks is None else docks,
                vehicles_by_type=by_type,
                is_installed=_bool(s.is_installed, "is_installed"),
                is_renting=_bool(s.is_renting, "is_renting"),
                is_returning=_bool(s.is_returning, "is_returning"),
            )
            parsed.stated.append(_stated(index, item, updated_ms, key, record, "status"))

    def _record(self, key: str, item: Item, **fields: Any) -> SharedVehicleStation:
        return SharedVehicleStation(station_id=key, ingest_time=rfc3339(item.ingest_ms), feed=self._feed, **fields)


def _stated(index: int, item: Item, updated_ms: int, key: str, record: SharedVehicleStation, part: str) -> Stated:
    """Statements are in the order of their documents: a station that has not reported for weeks still is in today's."""
    return Stated(
        index=index, ingest_ms=item.ingest_ms, event_ms=updated_ms, product="shared-vehicle-station", key=key, record=record, part=part
    )  # fmt: skip


def _is_status(s: _Station) -> bool:
    told = (s.num_bikes_available, s.num_vehicles_available, s.num_docks_available, s.vehicle_types_available, s.is_installed, s.is_renting)
    return any(t is not None for t in told)


def _time(value: _Time, field: str) -> int | None:
    """Seconds since 1970 (GBFS 1, 2) or ISO 8601 (GBFS 3); 0 and nothing are not known.

    >>> _time(1606727710, "t"), _time("2019-07-04T13:33:03.969Z", "t"), _time(0, "t")
    (1606727710000, 1562247183969, None)
    """
    if value in (None, "", 0):
        return None
    if isinstance(value, str) and not value.isdecimal():
        return iso_ms(value, field)
    return epoch_ms(value, field)


def _bool(value: _Bool, field: str) -> bool | None:
    """GBFS 1 writes 0 and 1."""
    if value is None:
        return None
    if value not in (0, 1):
        raise Refused("range", field, value, "true, false, 1 or 0")
    return bool(value)


def _name(name: str | list[_Text] | None) -> str | None:
    """GBFS 3 has a list by language: the first is the system's own."""
    if isinstance(name, list):
        name = name[0].text if name else None
    return (name or "").strip()[:200] or None


def _capacity(s: _Station) -> int | None:
    """Docks in all; where only capacities by type of vehicle are told, their sum."""
    told = whole(s.capacity, "capacity")
    if told is not None:
        return told
    if s.vehicle_type_capacity:
        return _positive(sum(s.vehicle_type_capacity.values()), "vehicle_type_capacity")
    return _sum(s.vehicle_types_capacity)


def _sum(counts: list[_Count] | None) -> int | None:
    return None if counts is None else _positive(sum(c.count for c in counts), "count")


def _by_type(counts: list[_Count] | None) -> dict[str, int] | None:
    if counts is None:
        return None
    found: dict[str, int] = {}
    for c in counts[:MOST_TYPES]:
        name = "unknown" if c.vehicle_type_id is None else str(c.vehicle_type_id)[:200]
        found[name] = found.get(name, 0) + (_positive(c.count, "vehicle_types_available.count") or 0)
    return found


def _positive(value: int, field: str) -> int | None:
    return whole(value, field)
