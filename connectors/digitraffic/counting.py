"""Digitraffic counting sites v2: bicycles, pedestrians and others counted in quarters, hours or days, mostly by the cities of Oulu and Turku.

``sites`` (GeoJSON) gives places, ``values`` (a list) gives counts. ``dataTimestamp`` is the start of the interval that ``granularity`` names. Counts come late,
by an hour or a day: they are published, and never enter the state of a street.
"""

from __future__ import annotations

import msgspec

from connectors.cities import Box
from connectors.columns import Parsed, Site
from connectors.envelope import Item
from connectors.reading import Refused, SensorRows, decoder, duration_s, iso_ms, number, place, reject

#: Digitraffic's travel modes that are none of these are "unknown".
_MODE = {
    "bike": "bicycle", "cargobike": "bicycle", "bicycle": "bicycle", "pedestrian": "pedestrian", "car": "vehicle", "truck": "vehicle", "bus": "vehicle",
    "minibus": "vehicle", "motorbike": "vehicle",
}  # fmt: skip
#: Counts of a week and longer are no traffic data.
LONGEST_S = 86_400.0


class _Properties(msgspec.Struct):
    id: int | str | None = None
    name: str | None = None


class _Point(msgspec.Struct):
    coordinates: list[float]


class _Feature(msgspec.Struct):
    properties: _Properties
    geometry: _Point | None = None


class _Sites(msgspec.Struct):
    features: list[msgspec.Raw]


class _Value(msgspec.Struct):
    siteId: int | str
    dataTimestamp: str
    granularity: str
    count: float | None = None
    travelMode: str | None = None
    direction: str | None = None


_list = decoder(list[msgspec.Raw], "a list of values")
_sites = decoder(_Sites, "counting sites")
_feature = decoder(_Feature, "a counting site")
_value = decoder(_Value, "a value: siteId, dataTimestamp, granularity, count")


def is_counting(body: bytes) -> bool:
    """Whether a document without an address is a list of counts."""
    return body.lstrip()[:1] == b"[" and b'"dataTimestamp"' in body


def document(before: int, item: Item, parsed: Parsed, rows: SensorRows, box: Box) -> int:
    """One REST answer; returns how many sites or values it held. Values leave in the order of their ends."""
    listed = item.body.lstrip()[:1] == b"["
    parts = _list(item.body) if listed else _sites(item.body).features
    values: list[tuple[int, int, int, _Value]] = []
    for n, raw in enumerate(parts):
        try:
            if not listed:
                _site(_feature(raw), parsed, box)
                continue
            v = _value(raw)
            seconds = duration_s(v.granularity, "granularity")
            if not 60 <= seconds <= LONGEST_S:
                raise Refused("range", "granularity", v.granularity, "a minute to a day")
            start = iso_ms(v.dataTimestamp, "dataTimestamp")
            if v.count is None:
                parsed.skip("no_value")
                continue
            number(v.count, "count", 0, 1e6)
            values.append((start + round(seconds * 1000), start, before + n, v))
        except Refused as e:
            parsed.rejects.append(reject(before + n, item, e, raw))
    for end, start, index, v in sorted(values, key=lambda row: row[:3]):
        mode = (v.travelMode or "undefined").lower()
        rows.add(
            index,
            item.ingest_ms,
            start,
            end,
            site_id=f"counting/{v.siteId}",
            direction=f"{(v.direction or 'undefined').lower()}/{mode}",
            flow_vph=(v.count or 0.0) * 3_600_000 / (end - start),
            kind="counter",
            travel_mode=_MODE.get(mode, "unknown"),
        )
    return len(parts)


def _site(feature: _Feature, parsed: Parsed, box: Box) -> None:
    p = feature.properties
    if p.id is None or feature.geometry is None or len(feature.geometry.coordinates) < 2:
        raise Refused("missing", "geometry", None, "a site's number and point: longitude, latitude")
    lat, lon = place(feature.geometry.coordinates[1], feature.geometry.coordinates[0])
    if lat != lat or not box.holds(lat, lon):
        parsed.skip("outside_box")
        return
    parsed.sites.append(Site(site_id=f"counting/{p.id}", direction="", lat_deg=lat, lon_deg=lon, name=p.name))
    parsed.events += 1
