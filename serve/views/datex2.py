"""DATEX II 3.7: what sensors measured, what is worked out of every street segment, and what disturbs traffic, as publications of the European standard.

Translations only: each number is one of a record's, in the unit that DATEX II asks for. Emission rates have no place in DATEX II 3.7 and are left out.
Places are told as lines and points of WGS 84, latitude first (EPSG:4326), with our own id beside them as external reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from models.records import SegmentState, SensorObservation, Situation

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<d2:payload xmlns:d2="http://datex2.eu/schema/3/d2Payload" xmlns:com="http://datex2.eu/schema/3/common" '
    'xmlns:loc="http://datex2.eu/schema/3/locationReferencing" xmlns:roa="http://datex2.eu/schema/3/roadTrafficData" '
    'xmlns:sit="http://datex2.eu/schema/3/situation" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
)
#: Characters that XML 1.0 does not allow, whatever a feed may have sent.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
#: The standard's longest text.
_LONGEST = 1024
#: ISO 3166's code for "unknown".
NO_COUNTRY = "ZZ"

#: MeasuringEquipmentFaultEnum of the record -> PhysicalQuantityFaultEnum of the publication.
_FAULTS = {
    "intermittentDataValues": "intermittentDataValues",
    "noDataValuesAvailable": "noDataValuesAvailable",
    "other": "other",
    "unknown": "unspecifiedOrUnknownFault",
}
#: By kind of situation: type of the record, and the elements that only this type has.
_RECORDS = {
    "incident": ("GeneralObstruction", "<sit:obstructionType>incident</sit:obstructionType>"),
    "roadwork": ("MaintenanceWorks", "<sit:roadMaintenanceType>roadworks</sit:roadMaintenanceType>"),
    "closure": (
        "RoadOrCarriagewayOrLaneManagement",
        "<sit:complianceOption>mandatory</sit:complianceOption>"
        "<sit:roadOrCarriagewayOrLaneManagementType>roadClosed</sit:roadOrCarriagewayOrLaneManagementType>",
    ),
    "weight_restriction": (
        "RoadOrCarriagewayOrLaneManagement",
        "<sit:complianceOption>mandatory</sit:complianceOption>"
        "<sit:roadOrCarriagewayOrLaneManagementType>weightRestrictionInOperation</sit:roadOrCarriagewayOrLaneManagementType>",
    ),
    "weather": ("PoorEnvironmentConditions", "<sit:poorEnvironmentType>badWeather</sit:poorEnvironmentType>"),
    "event": ("PublicEvent", "<sit:publicEventType>unknown</sit:publicEventType>"),
}


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes, when."""

    city: str
    country: str | None  #: ISO 3166-1 alpha-2
    time: str  #: RFC 3339, log time
    simulated: bool  #: then the publication is a test, in the standard's own words

    def payload(self, kind: str, body: Iterable[str], *, before_header: str = "", header: bool = True) -> bytes:
        """A publication; ``before_header``: what the schema wants before its header."""
        status = "test" if self.simulated else "real"
        parts = [
            _HEAD,
            f'xsi:type="{kind}" lang="en" modelBaseVersion="3">\n',
            f"<com:publicationTime>{self.time}</com:publicationTime><com:publicationCreator><com:country>{self.country or NO_COUNTRY}</com:country>",
            f"<com:nationalIdentifier>{_text(self.city)}</com:nationalIdentifier></com:publicationCreator>\n",
            before_header,
            f"<{_prefix(kind)}:headerInformation>{_STATUS.format(status)}</{_prefix(kind)}:headerInformation>\n" if header else "",
            *body,
            "</d2:payload>\n",
        ]
        return "".join(parts).encode()


_STATUS = "<com:informationStatus>{}</com:informationStatus>"


def _prefix(kind: str) -> str:
    return kind.partition(":")[0]


def _text(value: object) -> str:
    return escape(_ILLEGAL.sub("", str(value))[:_LONGEST])


def _attribute(value: object) -> str:
    return quoteattr(_ILLEGAL.sub("", str(value))[:_LONGEST])


def _number(value: float) -> str:
    """A decimal without an exponent, which the standard's lists of coordinates do not know."""
    return f"{value:.7f}".rstrip("0").rstrip(".")


def _several(texts: dict[str, str], tag: str) -> str:
    """A text in several languages; one of an unknown language has none."""
    values = "".join(
        f"<com:value>{_text(text)}</com:value>"
        if language == "und"
        else f"<com:value lang={_attribute(language)}>{_text(text)}</com:value>"
        for language, text in sorted(texts.items())
    )
    return f"<{tag}><com:values>{values}</com:values></{tag}>"


def _reference(system: str, code: str) -> str:
    return (
        f"<loc:externalReferencing><loc:externalLocationCode>{_text(code)}</loc:externalLocationCode>"
        f"<loc:externalReferencingSystem>{_text(system)}</loc:externalReferencingSystem></loc:externalReferencing>"
    )


def _line(points: Sequence[Sequence[float]]) -> str:
    listed = " ".join(f"{_number(p[1])} {_number(p[0])}" for p in points)
    return (
        f'<loc:gmlLineString srsName="urn:ogc:def:crs:EPSG::4326" srsDimension="2"><loc:posList>{listed}</loc:posList></loc:gmlLineString>'
    )


def _ring(points: Sequence[Sequence[float]]) -> str:
    listed = " ".join(f"{_number(p[1])} {_number(p[0])}" for p in points)
    return f"<loc:posList>{listed}</loc:posList>"


def _at(lat_deg: float, lon_deg: float) -> str:
    return f"<loc:latitude>{_number(lat_deg)}</loc:latitude><loc:longitude>{_number(lon_deg)}</loc:longitude>"


def _point(lat_deg: float, lon_deg: float, bearing_deg: float | None = None) -> str:
    bearing = "" if bearing_deg is None else f"<loc:bearing>{round(bearing_deg) % 360}</loc:bearing>"
    return f"<loc:pointByCoordinates>{bearing}<loc:pointCoordinates>{_at(lat_deg, lon_deg)}</loc:pointCoordinates></loc:pointByCoordinates>"


def location(tag: str, geometry: dict[str, Any] | None, references: str = "") -> str | None:
    """A GeoJSON geometry as one location; of several lines or points the first. None: there is nothing that the standard could take."""
    kind, at = (geometry or {}).get("type"), (geometry or {}).get("coordinates")
    if kind == "GeometryCollection":
        for part in (geometry or {}).get("geometries") or ():
            if (found := location(tag, part, references)) is not None:
                return found
        return None
    if kind in ("MultiPoint", "MultiLineString") and at:
        kind, at = str(kind).removeprefix("Multi"), at[0]
    if kind == "Point" and at and len(at) >= 2:
        return f'<{tag} xsi:type="loc:PointLocation">{references}{_point(at[1], at[0])}</{tag}>'
    if kind == "LineString" and at and len(at) >= 2:
        return f'<{tag} xsi:type="loc:LinearLocation">{references}{_line(at)}</{tag}>'
    if kind in ("Polygon", "MultiPolygon") and at:
        outer = [p[0] for p in (at if kind == "MultiPolygon" else [at]) if p and len(p[0]) >= 2]
        if outer:
            polygons = "".join(f"<loc:gmlPolygon><loc:exterior>{_ring(ring)}</loc:exterior></loc:gmlPolygon>" for ring in outer)
            return f'<{tag} xsi:type="loc:AreaLocation">{references}<loc:gmlMultiPolygon>{polygons}</loc:gmlMultiPolygon></{tag}>'
    return None


# ------------------------------------------------------------------------------------------------------------------ MeasuredData


def site_of(o: SensorObservation) -> str:
    """The measurement site that a record is of: a station in one direction."""
    return f"{o.site_id}:{o.direction}"


def _single(basic: str, before: str = "") -> str:
    return f'<roa:physicalQuantity xsi:type="roa:SinglePhysicalQuantity">{before}{basic}</roa:physicalQuantity>'


def measured(publisher: Publisher, observations: Sequence[SensorObservation]) -> bytes | None:
    """MeasuredDataPublication: flow, mean (spot) speed and occupancy of each site, and what is wrong with it; None when there is none, which the schema forbids.

    Pedestrians are no vehicles and are left out.
    """
    table = f'<roa:measurementSiteTableReference targetClass="roa:MeasurementSiteTable" id={_attribute(publisher.city)} version="1"/>\n'
    body = [_measurements(o) for o in observations if o.travel_mode != "pedestrian"]
    return publisher.payload("roa:MeasuredDataPublication", body, before_header=table) if body else None


def _measurements(o: SensorObservation) -> str:
    cyclists = "<roa:forVehiclesWithCharacteristicsOf><com:vehicleType>bicycle</com:vehicleType></roa:forVehiclesWithCharacteristicsOf>"
    who = cyclists if o.travel_mode == "bicycle" else ""
    quantities = []
    if o.flow_vph is not None:
        rate = f"<com:vehicleFlowRate>{round(o.flow_vph)}</com:vehicleFlowRate>"
        quantities.append(f'<roa:basicData xsi:type="roa:TrafficFlow">{who}<roa:vehicleFlow>{rate}</roa:vehicleFlow></roa:basicData>')
    if o.speed_kmh is not None:
        speed = f"<com:speed>{_number(o.speed_kmh)}</com:speed>"
        quantities.append(
            f'<roa:basicData xsi:type="roa:TrafficSpeed">{who}<roa:averageVehicleSpeed>{speed}</roa:averageVehicleSpeed></roa:basicData>'
        )
    if o.occupancy_pct is not None:
        share = f"<com:percentage>{_number(o.occupancy_pct)}</com:percentage>"
        quantities.append(f'<roa:basicData xsi:type="roa:TrafficConcentration">{who}<roa:occupancy>{share}</roa:occupancy></roa:basicData>')
    fault = ""
    if o.fault in _FAULTS:
        fault = (
            f"<roa:physicalQuantityFault><com:faultLastUpdateTime>{o.window_end}</com:faultLastUpdateTime>"
            f"<roa:physicalQuantityFaultType>{_FAULTS[o.fault]}</roa:physicalQuantityFaultType></roa:physicalQuantityFault>"
        )
        quantities = quantities or [""]
    listed = "".join(
        f'<roa:physicalQuantity index="{n}">{_single(q, fault)}</roa:physicalQuantity>' for n, q in enumerate(quantities, start=1)
    )
    period = f"<com:startOfPeriod>{o.window_start}</com:startOfPeriod><com:endOfPeriod>{o.window_end}</com:endOfPeriod>"
    return (
        f'<roa:siteMeasurements><roa:measurementSiteReference targetClass="roa:MeasurementSite" id={_attribute(site_of(o))} version="1"/>{listed}'
        f"<roa:measurementTimeDefault><roa:timeMeaning>endTime</roa:timeMeaning><roa:timeValue>{o.window_end}</roa:timeValue>"
        f"<roa:period>{period}</roa:period></roa:measurementTimeDefault></roa:siteMeasurements>\n"
    )


def sites(publisher: Publisher, observations: Sequence[SensorObservation]) -> bytes | None:
    """MeasurementSiteTablePublication: where the sites of ``measured`` stand; None when the place of none is known."""
    body = []
    for o in observations:
        if o.lat_deg is None or o.lon_deg is None or o.travel_mode == "pedestrian":
            continue
        on = _reference("tilannekuva segment_id", o.segment_id) if o.segment_id else ""
        body.append(
            f'<roa:measurementSite id={_attribute(site_of(o))} version="1"><roa:measurementSiteIdentification>{_text(o.site_id)}'
            '</roa:measurementSiteIdentification><roa:measurementSiteLocation xsi:type="loc:PointLocation">'
            f"{on}{_point(o.lat_deg, o.lon_deg, o.bearing_deg)}</roa:measurementSiteLocation></roa:measurementSite>\n"
        )
    if not body:
        return None
    table = [f'<roa:measurementSiteTable id={_attribute(publisher.city)} version="1">\n', *body, "</roa:measurementSiteTable>\n"]
    return publisher.payload("roa:MeasurementSiteTablePublication", table)


# ---------------------------------------------------------------------------------------------------------------- ElaboratedData


def elaborated(publisher: Publisher, states: Sequence[SegmentState], geometry_of: Callable[[str], dict[str, Any] | None]) -> bytes | None:
    """ElaboratedDataPublication: status, speed, flow and travel time of each segment whose state is known; None when there is none.

    ``supplierCalculatedDataQuality`` is the record's confidence, per cent.
    """
    body = []
    for s in states:
        references = _reference("tilannekuva segment_id", s.segment_id)
        place = location("roa:pertinentLocation", geometry_of(s.segment_id), references)
        if s.origin == "none" or place is None:
            continue
        at = (
            f"<roa:measurementOrCalculationTime><roa:timeMeaning>endTime</roa:timeMeaning><roa:timeValue>{s.window_end}</roa:timeValue>"
            "</roa:measurementOrCalculationTime>"
        )
        body += [f"{_single(basic, place)}\n" for basic in _quantities(s, at)]
    return publisher.payload("roa:ElaboratedDataPublication", body) if body else None


def _quantities(s: SegmentState, at: str) -> list[str]:
    good = f' supplierCalculatedDataQuality="{_number(s.confidence * 100)}"'
    counted = f' numberOfInputValuesUsed="{s.vehicle_count}"' if s.vehicle_count else ""
    status = f"<roa:trafficStatusValue>{s.datex_status}</roa:trafficStatusValue>"
    out = [f'<roa:basicData xsi:type="roa:TrafficStatus">{at}<roa:trafficStatus{good}>{status}</roa:trafficStatus></roa:basicData>']
    if s.speed_kmh is not None:
        quantiles = "".join(
            f"<roa:speedPercentile><roa:vehiclePercentage><com:percentage>{share}</com:percentage></roa:vehiclePercentage>"
            f"<roa:speedPercentile><com:speed>{_number(speed)}</com:speed></roa:speedPercentile></roa:speedPercentile>"
            for share, speed in ((20, s.speed_p20_kmh), (80, s.speed_p80_kmh))
            if speed is not None
        )
        out.append(
            f'<roa:basicData xsi:type="roa:TrafficSpeed">{at}<roa:averageVehicleSpeed{counted}{good}>'
            f"<com:speed>{_number(s.speed_kmh)}</com:speed></roa:averageVehicleSpeed>{quantiles}</roa:basicData>"
        )
    if s.flow_vph is not None:
        rate = f"<com:vehicleFlowRate>{round(s.flow_vph)}</com:vehicleFlowRate>"
        out.append(f'<roa:basicData xsi:type="roa:TrafficFlow">{at}<roa:vehicleFlow>{rate}</roa:vehicleFlow></roa:basicData>')
    if s.travel_time_s is not None:
        delay = "" if s.delay_s is None else f"<roa:travelTimeDelay><roa:duration>{_number(s.delay_s)}</roa:duration></roa:travelTimeDelay>"
        free = (
            "" if s.free_flow_kmh is None else f"<roa:freeFlowSpeed><com:speed>{_number(s.free_flow_kmh)}</com:speed></roa:freeFlowSpeed>"
        )
        out.append(
            f'<roa:basicData xsi:type="roa:TravelTimeData">{at}<roa:travelTimeType>estimated</roa:travelTimeType>'
            f"<roa:travelTime{good}><roa:duration>{_number(s.travel_time_s)}</roa:duration></roa:travelTime>{delay}{free}</roa:basicData>"
        )
    return out


# --------------------------------------------------------------------------------------------------------------------- Situation


def situations(publisher: Publisher, found: Sequence[Situation], geometry_of: Callable[[str], dict[str, Any] | None]) -> bytes:
    """SituationPublication of what is not over and has a place: its own, or that of its first segment.

    Kinds that the standard has no type for (transit alerts, which GTFS-RT tells, transports, information) are generic records with the kind as name.
    """
    body = [text for s in found if not s.ended and (text := _situation(publisher, s, geometry_of)) is not None]
    return publisher.payload("sit:SituationPublication", body, header=False)


def _situation(publisher: Publisher, s: Situation, geometry_of: Callable[[str], dict[str, Any] | None]) -> str | None:
    place = location("sit:locationReference", s.geometry)
    for segment_id in s.segment_ids or () if place is None and s.kind != "transit_alert" else ():  # a line is no place
        place = place or location("sit:locationReference", geometry_of(segment_id), _reference("tilannekuva segment_id", segment_id))
    if place is None:
        return None
    kind, own = _RECORDS["closure"] if s.closed else _RECORDS.get(
        s.kind, ("GenericSituationRecord", f"<sit:genericSituationRecordName>{s.kind}</sit:genericSituationRecordName>")
    )  # fmt: skip
    begin = s.valid_from or s.event_time
    end = f"<com:overallEndTime>{s.valid_to}</com:overallEndTime>" if s.valid_to and s.valid_to >= begin else ""
    comments = "".join(
        f"<sit:generalPublicComment>{_several(texts, 'sit:comment')}<sit:commentType>description</sit:commentType></sit:generalPublicComment>"
        for texts in (s.title, s.text)
        if texts
    )
    source = f"<sit:source>{_several({'und': s.source}, 'com:sourceName')}</sit:source>" if s.source else ""
    severity = f"<sit:severity>{s.severity}</sit:severity>"
    status = "test" if s.simulated or publisher.simulated else "real"
    return (
        f"<sit:situation id={_attribute(s.situation_id)}><sit:headerInformation>{_STATUS.format(status)}</sit:headerInformation>"
        f'<sit:situationRecord xsi:type="sit:{kind}" id={_attribute(s.situation_id + "#1")} version="{s.version or 1}">'
        f"<sit:situationRecordCreationTime>{s.event_time}</sit:situationRecordCreationTime>"
        f"<sit:situationRecordVersionTime>{s.event_time}</sit:situationRecordVersionTime>"
        f"<sit:probabilityOfOccurrence>certain</sit:probabilityOfOccurrence>{severity}{source}"
        "<sit:validity><com:validityStatus>definedByValidityTimeSpec</com:validityStatus><com:validityTimeSpecification>"
        f"<com:overallStartTime>{begin}</com:overallStartTime>{end}</com:validityTimeSpecification></sit:validity>"
        f"{comments}{place}{own}</sit:situationRecord></sit:situation>\n"
    )
