"""Situations of DATEX II 2 and 3: one record a situation, put together from its situation records."""

from __future__ import annotations

from lxml import etree

from connectors import xml
from connectors.cities import Box
from connectors.columns import Stated
from connectors.datex2.alertc import Table, codes
from connectors.datex2.measured import xml_type
from connectors.datex2.places import geometry
from connectors.envelope import Item
from connectors.geojson import touches
from connectors.reading import Refused, iso_ms, iso_ms_or_none, number
from models.clock import rfc3339
from models.records import Severity, Situation, SituationKind

_SEVERITIES: dict[str, Severity] = {
    "none": "none", "lowest": "low", "low": "low", "medium": "medium", "high": "high", "highest": "highest",
}  # fmt: skip
_RANK: tuple[Severity, ...] = ("unknown", "none", "low", "medium", "high", "highest")
_KINDS: dict[str, SituationKind] = {
    "Accident": "incident", "VehicleObstruction": "incident", "GeneralObstruction": "incident", "AnimalPresenceObstruction": "incident",
    "EnvironmentalObstruction": "incident", "InfrastructureDamageObstruction": "incident", "EquipmentOrSystemFault": "incident",
    "DisturbanceActivity": "incident", "AuthorityOperation": "incident", "AbnormalTraffic": "incident",
    "MaintenanceWorks": "roadwork", "ConstructionWorks": "roadwork",
    "WeatherRelatedRoadConditions": "weather", "PoorEnvironmentConditions": "weather", "NonWeatherRelatedRoadConditions": "weather",
    "PublicEvent": "event", "TransitInformation": "transit_alert",
}  # fmt: skip
#: What a situation is, when its records are of several kinds.
_FIRST: tuple[SituationKind, ...] = (
    "incident", "roadwork", "closure", "weight_restriction", "weather", "event", "transit_alert", "information", "unknown",
)  # fmt: skip
_WORKS = ("roadMaintenance", "roadworks", "constructionWork", "roadworksOrMaintenance")
_CLOSED = ("roadClosed", "carriagewayClosures", "closedPermanentlyForTheWinter")
_BLOCKED = ("roadBlocked", "carriagewayBlocked")
MOST_TEXT = 4000


def situation(
    element: etree._Element, index: int, item: Item, feed: str, namespace: str, box: Box, areas: tuple[str, ...], locations: Table
) -> Stated | str:
    """One situation, or why it is not this city's: ``outside_box``, ``outside_areas``.

    Raises:
        Refused: no id, no records, or a time or place that is none.
    """
    identity = element.get("id")
    if not identity:
        raise Refused("missing", "situation.id", None, "an id")
    records = list(xml.children(element, "situationRecord"))
    if not records:
        raise Refused("missing", "situationRecord", None, "at least one record")
    places = [p for r in records for p in xml.children(r, "groupOfLocations", "locationReference")]
    drawn, positions = geometry(places, locations)
    named = list(dict.fromkeys([*_names(places), *_headline(records)]))
    if positions and not touches(positions, box):
        return "outside_box"
    if not positions and areas and not set(areas) & set(named):
        return "outside_areas"
    made = [iso_ms_or_none(xml.text(element, "situationVersionTime"), "situationVersionTime")]
    made += [iso_ms_or_none(xml.text(r, "situationRecordVersionTime"), "situationRecordVersionTime") for r in records]
    event_ms = max((m for m in made if m is not None), default=None)
    if event_ms is None:
        event_ms = iso_ms(xml.text(records[0], "situationRecordCreationTime"), "situationRecordCreationTime")
    starts, ends, open_end, ended = [], [], False, []
    for r in records:
        spec = xml.child(r, "validity", "validityTimeSpecification")
        start = iso_ms_or_none(xml.text(spec, "overallStartTime"), "overallStartTime")
        end = iso_ms_or_none(xml.text(spec, "overallEndTime"), "overallEndTime")
        starts += [] if start is None else [start]
        ends += [] if end is None else [end]
        open_end = open_end or end is None
        life = xml.child(r, "management", "lifeCycleManagement")
        ended.append(xml.text(life, "end") in ("true", "1") or xml.text(life, "cancel") in ("true", "1"))
    versions = [number(v, "version", 0, 1e15) for v in (element.get("version"), *(r.get("version") for r in records)) if v]
    severities = [xml.text(element, "overallSeverity"), *(xml.text(r, "severity") for r in records)]
    key = f"{namespace}/{identity}"
    record = Situation(
        situation_id=key,
        kind=min((_kind(r) for r in records), key=_FIRST.index),
        event_time=rfc3339(event_ms),
        ingest_time=rfc3339(item.ingest_ms),
        feed=feed,
        version=int(max(versions)) if versions else None,
        severity=max((_SEVERITIES.get(s or "", "unknown") for s in severities), key=_RANK.index),
        valid_from=rfc3339(min(starts)) if starts else None,
        valid_to=rfc3339(max(ends)) if ends and not open_end else None,
        ended=True if all(ended) else None,
        closed=True if any(map(_closes, records)) else None,
        cause=next((t for r in records if (t := xml.text(r, "cause", "causeType") or xml.text(r, "causeType"))), None),
        effect=next((t for r in records if (t := _management(r) or xml.text(r, "impact", "trafficConstrictionType"))), None),
        geometry=drawn,
        location_codes=codes(places) or None,
        areas=[n for n in named if n in areas] or None,
        text=_texts(records),
        source=_source(records),
    )
    return Stated(index=index, ingest_ms=item.ingest_ms, event_ms=event_ms, product="situation", key=key, record=record, ended=all(ended))


def _kind(record: etree._Element) -> SituationKind:
    kind = _KINDS.get(xml_type(record))
    if kind is not None:
        return kind
    if xml.text(record, "cause", "causeType") in _WORKS:
        return "roadwork"
    management = _management(record) or ""
    if management == "weightRestrictionInOperation":
        return "weight_restriction"
    if _closes(record):
        return "closure"
    return "information" if xml_type(record) else "unknown"


def _management(record: etree._Element) -> str | None:
    return xml.text(record, "roadOrCarriagewayOrLaneManagementType")


def _closes(record: etree._Element) -> bool:
    """Whether the street is closed: by those who manage it, or by what lies on it. Closed lanes close no street."""
    return _management(record) in _CLOSED or xml.text(record, "impact", "trafficConstrictionType") in _BLOCKED


def _names(places: list[etree._Element]) -> list[str]:
    """Names of places that the locations mention."""
    named = [
        (v.text or "").strip()
        for p in places
        for e in xml.descendants(p, "alertCLocationName", "descriptor", "areaName", "gmlAreaName")
        for v in xml.descendants(e, "value")
    ]
    return list(dict.fromkeys(n for n in named if n))


def _headline(records: list[etree._Element]) -> list[str]:
    """Parts of each comment's first sentence: Finland codes its places, and names the municipality only there ("Tie 50, eli Kehä III, Espoo. Tietyö.")."""
    comments = [v for r in records for c in xml.children(r, "generalPublicComment") for v in xml.descendants(c, "value")]
    return [part.strip() for v in comments for part in (v.text or "").strip().partition(".")[0].split(",")]


def _texts(records: list[etree._Element]) -> dict[str, str] | None:
    """Public comments by language; each once, one a line."""
    found: dict[str, list[str]] = {}
    for r in records:
        for comment in xml.children(r, "generalPublicComment"):
            for v in xml.descendants(comment, "value"):
                said = "\n".join(" ".join(line.split()) for line in (v.text or "").strip().splitlines())
                lines = found.setdefault((v.get("lang") or "und").lower()[:35], [])
                if said and said not in lines:
                    lines.append(said)
    return {language: "\n".join(lines)[:MOST_TEXT] for language, lines in found.items() if lines} or None


def _source(records: list[etree._Element]) -> str | None:
    for r in records:
        source = xml.child(r, "source")
        named = next((t for v in xml.descendants(source, "value") if (t := (v.text or "").strip())), None) if source is not None else None
        said = named or xml.text(source, "sourceIdentification")
        if said:
            return said[:200]
    return None
