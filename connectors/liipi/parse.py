"""Liipi, the park-and-ride service of the Helsinki region: ``facilities`` (what there is) and ``utilizations`` (how full it is).

A facility is one record a kind of vehicle; other uses than park and ride (``COMMERCIAL``, ``HSL_TRAVEL_CARD``) have records of their own. The time of a
utilisation may be years old: then the facility is known and its free spaces are not, so they are left out, never shown as fresh.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from connectors.cities import City, FeedSettings
from connectors.columns import Parsed, Site, Stated
from connectors.envelope import Envelope, Item
from connectors.geojson import TooLarge, checked, middle
from connectors.reading import Refused, decoder, iso_ms, reject, whole
from models.clock import rfc3339
from models.records import Parking

#: A utilisation older than this says nothing of now, milliseconds.
OLDEST_MS = 24 * 3_600_000
VehicleType = Literal["car", "electric_car", "disabled", "motorcycle", "bicycle", "unknown"]
_TYPES: dict[str, VehicleType] = {
    "CAR": "car", "ELECTRIC_CAR": "electric_car", "DISABLED": "disabled", "MOTORCYCLE": "motorcycle", "BICYCLE": "bicycle",
    "BICYCLE_SECURE_SPACE": "bicycle",
}  # fmt: skip
_OPEN = {"IN_OPERATION": True, "TEMPORARILY_CLOSED": False, "INACTIVE": False}
_PLACE = "parking"  #: "direction" of the facility's site


class _Facility(msgspec.Struct):
    id: int
    name: dict[str, str | None] | None = None
    location: Any = None
    status: str | None = None
    builtCapacity: dict[str, int | None] | None = None


class _Utilization(msgspec.Struct):
    facilityId: int
    capacityType: str
    timestamp: str
    usage: str | None = None
    spacesAvailable: int | None = None
    capacity: int | None = None
    openNow: bool | None = None


class _Facilities(msgspec.Struct):
    results: list[msgspec.Raw]


class _Hub(msgspec.Struct):
    facilityIds: list[int] | None = None


_list = decoder(list[msgspec.Raw], "a list of utilizations")
_facilities = decoder(_Facilities, "facilities: an object with results")
_facility = decoder(_Facility, "a park-and-ride facility")
_utilization = decoder(_Utilization, "a utilization: facilityId, capacityType, timestamp")
_hub = decoder(_Hub, "a hub")


class Parser:
    """Parses envelopes of one Liipi feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._prefix = f"{feed.id_namespace or feed.name}/"
        self._box = city.box

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` counts facilities, or utilizations, over all items of a snapshot."""
        parsed, before = Parsed(), 0
        for k, item in enumerate(envelope.items):
            try:
                listed = item.body.lstrip()[:1] == b"["
                parts = _list(item.body) if listed else _facilities(item.body).results
            except Refused as e:
                parsed.rejects.append(reject(k if envelope.kind == "messages" else -1, item, e))
                continue
            for n, raw in enumerate(parts):
                try:
                    if listed:
                        self._use(before + n, item, _utilization(raw), parsed)
                    elif _hub(raw).facilityIds is not None:
                        parsed.skip("hub")
                    else:
                        self._facility(before + n, item, _facility(raw), parsed)
                except Refused as e:
                    parsed.rejects.append(reject(before + n, item, e, raw))
            before += len(parts)
        parsed.events = len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _facility(self, index: int, item: Item, f: _Facility, parsed: Parsed) -> None:
        try:
            _, positions = checked(f.location)
        except TooLarge as e:
            raise Refused("range", "location", "too many positions", "a polygon of a facility") from e
        lat, lon = middle(positions)
        if not self._box.holds(lat, lon):
            parsed.skip("outside_box")
            return
        names = f.name or {}
        name = names.get("fi") or names.get("en") or names.get("sv")
        parsed.sites.append(Site(site_id=f"{self._prefix}{f.id}", direction=_PLACE, lat_deg=lat, lon_deg=lon, name=name))
        for kind, built in (f.builtCapacity or {}).items():
            self._state(
                index,
                item,
                parsed,
                f"{f.id}/{kind}",
                item.ingest_ms,
                part="facility",
                lat_deg=lat,
                lon_deg=lon,
                name=name,
                vehicle_type=_TYPES.get(kind, "unknown"),
                capacity=whole(built, "builtCapacity"),
                is_open=_OPEN.get(f.status or ""),
            )

    def _use(self, index: int, item: Item, u: _Utilization, parsed: Parsed) -> None:
        counted_ms = iso_ms(u.timestamp, "timestamp")
        free, capacity = whole(u.spacesAvailable, "spacesAvailable"), whole(u.capacity, "capacity")
        fresh = counted_ms >= item.ingest_ms - OLDEST_MS
        use = "" if u.usage in (None, "PARK_AND_RIDE") else f"/{u.usage}"
        taken = None if free is None or not capacity else min(max(100.0 * (capacity - free) / capacity, 0.0), 100.0)
        self._state(
            index,
            item,
            parsed,
            f"{u.facilityId}/{u.capacityType}{use}",
            counted_ms if fresh else item.ingest_ms,
            part="use",
            site=f"{self._prefix}{u.facilityId}:{_PLACE}",
            event_time=rfc3339(counted_ms) if fresh else None,
            vehicle_type=_TYPES.get(u.capacityType, "unknown"),
            capacity=capacity,
            spaces_available=free if fresh else None,
            occupancy_pct=None if taken is None or not fresh else round(taken, 1),
            is_open=u.openNow,
        )

    def _state(
        self, index: int, item: Item, parsed: Parsed, facility: str, event_ms: int, *, part: str, site: str | None = None, **fields: Any
    ) -> None:
        record = Parking(facility_id=self._prefix + facility, ingest_time=rfc3339(item.ingest_ms), feed=self._feed, **fields)
        parsed.stated.append(
            Stated(
                index=index,
                ingest_ms=item.ingest_ms,
                event_ms=event_ms,
                product="parking",
                key=record.facility_id,
                record=record,
                part=part,
                site=site,
            )
        )
