"""ALERT-C (EN ISO 14819-3): places by the codes of a location table, which is a file beside the city file.

The table is GeoJSON as Digitraffic answers it (``/api/traffic-message/v1/locations``, table 17 of country 6): points with ``locationCode``, and ``negOffset`` and
``posOffset``, the points before and after them on their road. Tables of others (TISA's exchange format) can be turned into the same. Without a table the codes are
kept, and the situation is on no map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from lxml import etree

from connectors import xml
from connectors.geojson import Position
from models.errors import ConfigError

#: A road is followed over at most so many points from one end of a stretch to the other; farther, the two ends are shown alone.
MOST_STEPS = 200
#: More codes than this of one situation are not kept.
MOST_CODES = 100


class _Properties(msgspec.Struct):
    locationCode: int
    negOffset: int | None = None
    posOffset: int | None = None


class _Point(msgspec.Struct):
    type: str
    coordinates: Any


class _Feature(msgspec.Struct):
    properties: _Properties
    geometry: _Point | None = None


class _Table(msgspec.Struct):
    features: list[_Feature]


class Location(msgspec.Struct, frozen=True):
    """A point of the table."""

    place: Position  #: longitude, latitude
    before: int  #: point before it on its road, against the positive direction; 0: none
    after: int


Table = dict[int, Location]


@cache
def table(path: Path) -> Table:
    """The points of a table of locations; roads and areas have no place of their own.

    Raises:
        ConfigError: no such file, or no such table.
    """
    want = "GeoJSON of points with locationCode, as /api/traffic-message/v1/locations answers"
    try:
        features = msgspec.json.decode(path.read_bytes(), type=_Table).features
    except OSError as e:
        raise ConfigError(path.name, "locations", str(path), f"a file that can be read ({e.strerror})") from e
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise ConfigError(path.name, "locations", str(e), want) from e
    out = {f.properties.locationCode: at for f in features if (at := _location(f)) is not None}
    if not out:
        raise ConfigError(path.name, "locations", f"{len(features)} features", want)
    return out


def _location(f: _Feature) -> Location | None:
    g = f.geometry
    if g is None or g.type != "Point" or not isinstance(g.coordinates, list) or len(g.coordinates) < 2:
        return None
    lon, lat = g.coordinates[:2]
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in (lon, lat)) or not (-180 <= lon <= 180 and -90 <= lat <= 90):
        return None
    return Location((round(float(lon), 6), round(float(lat), 6)), f.properties.negOffset or 0, f.properties.posOffset or 0)


def codes(elements: list[etree._Element]) -> list[str]:
    """All codes that locations name, as ``country:table:code``, each once."""
    found: dict[str, None] = {}
    for reference in _references(elements):
        country, number = xml.text(reference, "alertCLocationCountryCode"), xml.text(reference, "alertCLocationTableNumber")
        for code in _codes(reference):
            if len(found) < MOST_CODES:
                found[f"{(country or '')[:8]}:{(number or '')[:8]}:{code}"] = None
    return list(found)


def lines(elements: list[etree._Element], known: Table) -> list[tuple[Position, ...]]:
    """What the codes are by the table: a point, or the points of a road from one to the other. Those with an unknown code are left out whole."""
    out: list[tuple[Position, ...]] = []
    for reference in _references(elements):
        ends = _codes(reference)
        if not ends or any(c not in known for c in ends):
            continue
        line = tuple(dict.fromkeys(known[c].place for c in _between(ends[0], ends[-1], known)))
        if line not in out:
            out.append(line)
    return out


def _between(first: int, last: int, known: Table) -> list[int]:
    """Points of a road from one to the other, in whichever direction they follow each other."""
    for way in ("after", "before"):
        on = [first]
        while on[-1] != last and len(on) <= MOST_STEPS and (step := getattr(known[on[-1]], way)) in known:
            on.append(step)
        if on[-1] == last:
            return on
    return [first, last]


def _references(elements: list[etree._Element]) -> Iterator[etree._Element]:
    for element in elements:
        yield from xml.descendants(element, "alertCPoint", "alertCLinear")


def _codes(reference: etree._Element) -> list[int]:
    """Codes of a reference: the primary point, and the secondary one of a stretch."""
    texts = [(e.text or "").strip() for e in xml.descendants(reference, "specificLocation")]
    return [int(t) for t in texts[:2] if t.isascii() and t.isdecimal() and len(t) <= 6]
