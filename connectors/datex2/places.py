"""Where DATEX II says that something is: points and lines in degrees, else codes of ALERT-C where there is their table. Road numbers and OpenLR alone are no place on a map here."""

from __future__ import annotations

from typing import Any

from lxml import etree

from connectors import xml
from connectors.datex2.alertc import Table
from connectors.datex2.alertc import lines as coded_lines
from connectors.geojson import MOST_POSITIONS, Position
from connectors.reading import Refused, heading, known, number, place

#: Elements that hold latitude and longitude, the best first.
_POINTS = ("pointCoordinates", "coordinatesForDisplay", "locationForDisplay", "openlrCoordinates", "openlrCoordinate")
_LINES = ("gmlLineString", "gmlLinearRing", "exterior")
_WGS84 = ("", "wgs 84", "wgs84", "4326", "4258")
_COMPASS = {
    name: 45.0 * n for n, name in enumerate(("north", "northEast", "east", "southEast", "south", "southWest", "west", "northWest"))
}  # fmt: skip


def point(element: etree._Element | None) -> Position | None:
    """The first point that is told, longitude and latitude; None where there is none.

    Raises:
        Refused: not degrees.
    """
    if element is None:
        return None
    for name in _POINTS:
        for found in xml.descendants(element, name):
            lat, lon = place(xml.text(found, "latitude"), xml.text(found, "longitude"))
            if lat == lat:
                return round(lon, 6), round(lat, 6)
    return None


def geometry(elements: list[etree._Element], locations: Table) -> tuple[dict[str, Any] | None, list[Position]]:
    """GeoJSON of the locations of a situation and all its positions: its lines where there are any, else its points, else what its codes are by the table of locations. Each once;
    too many: none.

    Raises:
        Refused: not degrees.
    """
    lines: list[tuple[Position, ...]] = []
    for element in elements:
        for drawn in xml.descendants(element, *_LINES):
            line = tuple(_positions(drawn))
            if len(line) > 1 and line not in lines:
                lines.append(line)
    dots = [] if lines else list(dict.fromkeys(p for e in elements for p in _points(e)))
    if not lines and not dots and locations:
        coded = coded_lines(elements, locations)
        lines, dots = [x for x in coded if len(x) > 1], [x[0] for x in coded]
    positions = [p for line in lines for p in line] or dots
    if not positions or len(positions) > MOST_POSITIONS:
        return None, positions
    if lines:
        drawn_lines = [[list(p) for p in line] for line in lines]
        if len(lines) == 1:
            return {"type": "LineString", "coordinates": drawn_lines[0]}, positions
        return {"type": "MultiLineString", "coordinates": drawn_lines}, positions
    points = [list(p) for p in positions]
    return ({"type": "Point", "coordinates": points[0]} if len(points) == 1 else {"type": "MultiPoint", "coordinates": points}), positions


def _points(element: etree._Element) -> list[Position]:
    """All points of the best kind that is there: a linear location has its two ends, an itinerary each of its points."""
    for name in _POINTS:
        found = []
        for e in xml.descendants(element, name):
            lat, lon = place(xml.text(e, "latitude"), xml.text(e, "longitude"))
            if lat == lat:
                found.append((round(lon, 6), round(lat, 6)))
        if found:
            return found
    return []


def _positions(drawn: etree._Element) -> list[Position]:
    """DATEX II writes latitude first. A line in another system is not drawn."""
    system = (drawn.get("srsName") or "").lower()
    if system.rpartition(":")[2].rpartition("/")[2] not in _WGS84:
        return []
    values = (xml.text(drawn, "posList") or "").split()
    dimension = int(drawn.get("srsDimension") or 2) if (drawn.get("srsDimension") or "2") in ("2", "3") else 0
    if not dimension or len(values) % dimension:
        raise Refused("bad_type", "posList", f"{len(values)} numbers", "latitude and longitude in turn")
    out: list[Position] = []
    for i in range(0, min(len(values), dimension * (MOST_POSITIONS + 1)), dimension):
        lat, lon = number(values[i], "posList", -90, 90), number(values[i + 1], "posList", -180, 180)
        out.append((round(lon, 6), round(lat, 6)))
    return out


def bearing(element: etree._Element | None, side: str | None) -> float | None:
    """Degrees in which traffic runs: of the point, of OpenLR's line, else of the compass word (``northEastBound``).

    Raises:
        Refused: not an angle.
    """
    for name in ("bearing", "openlrBearing"):
        for found in xml.descendants(element, name) if element is not None else ():
            if (found.text or "").strip():
                return known(heading((found.text or "").strip(), name))
    return _COMPASS.get((side or "").removesuffix("Bound"))
