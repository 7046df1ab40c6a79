"""SIRI-SX: situations of public transport and of roads that it is told of."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from connectors import xml
from connectors.cities import Box
from connectors.columns import Stated
from connectors.envelope import Item
from connectors.geojson import MOST_POSITIONS, Position, touches
from connectors.reading import NAN, Refused, iso_ms, iso_ms_or_none, number, place
from models.clock import rfc3339
from models.records import Severity, Situation, SituationKind

_SEVERITIES: dict[str, Severity] = {
    "noImpact": "none", "verySlight": "low", "slight": "low", "normal": "medium", "severe": "high", "verySevere": "highest",
}  # fmt: skip
#: Longest text that is kept, characters.
MOST_TEXT = 4000
_WORKS = ("roadworks", "constructionwork", "maintenancework", "repairwork", "roadmaintenance")
_WEATHER = ("snow", "ice", "fog", "flood", "storm", "wind", "rain", "hail", "frost", "weather", "avalanche", "freez", "temperature")
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CAUSES = ("AlertCause", "ReasonName", "MiscellaneousReason", "PersonnelReason", "EquipmentReason", "EnvironmentReason", "UndefinedReason")


def situation(element: etree._Element, index: int, item: Item, feed: str, namespace: str, box: Box) -> Stated | None:
    """One PtSituationElement or RoadSituationElement; None when all its places lie outside the city.

    Raises:
        Refused: it has no number, or no time.
    """
    road = xml.name(element) == "RoadSituationElement"
    number_ = xml.text(element, "SituationNumber")
    if number_ is None:
        raise Refused("missing", "SituationNumber", None, "the number of a situation")
    participant = xml.text(element, "ParticipantRef")
    made = xml.text(element, "VersionedAtTime") or xml.text(element, "CreationTime")
    event_ms = iso_ms(made, "VersionedAtTime" if xml.text(element, "VersionedAtTime") else "CreationTime")
    version = number(xml.text(element, "Version"), "Version", 0, 1e15)
    starts, ends, open_end = [], [], False
    for period in xml.children(element, "ValidityPeriod"):
        start = iso_ms_or_none(xml.text(period, "StartTime"), "ValidityPeriod.StartTime")
        end = iso_ms_or_none(xml.text(period, "EndTime"), "ValidityPeriod.EndTime")
        starts += [start] if start is not None else []
        ends += [end] if end is not None else []
        open_end = open_end or end is None
    cause = next((t for name in _CAUSES if (t := xml.text(element, name))), None)
    effects = [t for c in xml.descendants(element, "Consequence") if (t := xml.text(c, "Condition"))]
    ended = xml.text(element, "Progress") in ("closed", "closing")
    title, text = _texts(xml.children(element, "Summary")), _texts(xml.children(element, "Description", "Detail", "Advice"))
    affects = xml.child(element, "Affects")
    places = _places(affects)
    if places and not touches(places, box):
        return None
    key = f"{namespace}/{participant}:{number_}" if participant and participant not in number_ else f"{namespace}/{number_}"
    record = Situation(
        situation_id=key,
        kind=_kind(road, cause),
        event_time=rfc3339(event_ms),
        ingest_time=rfc3339(item.ingest_ms),
        feed=feed,
        version=None if version != version else int(version),
        severity=_SEVERITIES.get(xml.text(element, "Severity") or "", "unknown"),
        valid_from=rfc3339(min(starts)) if starts else None,
        valid_to=rfc3339(max(ends)) if ends and not open_end else None,
        ended=True if ended else None,
        closed=True if any(e in ("cancelled", "lineCancellation", "stopCancelled", "closed") for e in effects) else None,
        cause=cause,
        effect=effects[0] if effects else None,
        geometry=_geometry(places),
        routes=_refs(affects, "LineRef"),
        stops=_refs(affects, "StopPointRef"),
        title=title,
        text=text,
        url=next((t for link in xml.descendants(element, "InfoLink") if (t := xml.text(link, "Uri"))), None),
        source=xml.text(element, "Source", "Name") or participant,
    )
    return Stated(index=index, ingest_ms=item.ingest_ms, event_ms=event_ms, product="situation", key=key, record=record, ended=ended)


def _kind(road: bool, cause: str | None) -> SituationKind:
    if not road:
        return "transit_alert"
    said = (cause or "").lower()
    if said in _WORKS:
        return "roadwork"
    return "weather" if any(word in said for word in _WEATHER) else "incident"


def _texts(elements: Iterable[etree._Element]) -> dict[str, str] | None:
    """By language; several of one language are put one after the other."""
    found: dict[str, str] = {}
    for e in elements:
        said = (e.text or "").strip()
        language = (e.get(_LANGUAGE) or e.get("lang") or "und").lower()[:35]
        if said:
            found[language] = (f"{found[language]}\n{said}" if language in found else said)[:MOST_TEXT]
    return found or None


def _refs(affects: etree._Element | None, name: str) -> list[str] | None:
    if affects is None:
        return None
    return list(dict.fromkeys(t for e in xml.descendants(affects, name) if (t := (e.text or "").strip()))) or None


def _places(affects: etree._Element | None) -> list[Position]:
    """Longitude and latitude of the stops and points that are affected, where they are given."""
    found: list[Position] = []
    for location in xml.descendants(affects, "Location") if affects is not None else ():
        lat, lon = place(xml.text(location, "Latitude"), xml.text(location, "Longitude")) if len(location) else (NAN, NAN)
        if lat == lat:
            found.append((round(lon, 6), round(lat, 6)))
    return list(dict.fromkeys(found))[:MOST_POSITIONS]


def _geometry(places: list[Position]) -> dict[str, object] | None:
    if not places:
        return None
    points = [list(p) for p in places]
    return {"type": "Point", "coordinates": points[0]} if len(points) == 1 else {"type": "MultiPoint", "coordinates": points}
