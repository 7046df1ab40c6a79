"""NGSI-LD entities: TrafficFlowObserved of Smart Data Models for segments and sensors, EnvironmentObserved for what traffic emits.

Key-values fit the published JSON Schemas; normalized is the form of context brokers. FIWARE reads a missing ``congested`` as false: here it is missing only where
it is not known. EnvironmentObserved has no attributes for emission rates; ours are additional ones and carry their unit in the name, as the topics do.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from models.clock import parse_ms
from models.emission_records import EmissionSegment, Quantity
from models.records import SegmentState, SensorObservation

Entity = dict[str, Any]
#: Terms of the core context and of the two data models.
CONTEXT = (
    "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld",
    "https://raw.githubusercontent.com/smart-data-models/dataModel.Transportation/master/context.jsonld",
    "https://raw.githubusercontent.com/smart-data-models/dataModel.Environment/master/context.jsonld",
)
_RATES = ("co2_fossil", "co2_total", "co2_electricity", "nox", "no2", "pm_exhaust", "pm_nonexhaust", "co")
#: UN/CEFACT codes of the attributes that have a unit.
_UNITS = {"averageVehicleSpeed": "KMH", "intensity": "E51", "occupancy": "C62"}
_CONGESTED = {"queuing": True, "stationary": True, "slow": False, "heavy": False, "freeFlow": False}


def _urn(kind: str, city: str, key: str) -> str:
    return f"urn:ngsi-ld:{kind}:{quote(city)}:{quote(key, safe='-._~:')}"


def _known(entity: Entity) -> Entity:
    return {name: value for name, value in entity.items() if value is not None}


def _window(start: str, end: str) -> Entity:
    return {"dateObserved": f"{start}/{end}", "dateObservedFrom": start, "dateObservedTo": end}


def of_segment(city: str, s: SegmentState, geometry: dict[str, Any] | None) -> Entity | None:
    """A segment's state; None when nothing is known of it. A flow that was not counted is no ``intensity``."""
    if s.origin == "none" or s.speed_kmh is None:
        return None
    hours = (parse_ms(s.window_end) - parse_ms(s.window_start)) / 3_600_000
    return _known(
        {
            "id": _urn("TrafficFlowObserved", city, s.segment_id),
            "type": "TrafficFlowObserved",
            **_window(s.window_start, s.window_end),
            "averageVehicleSpeed": s.speed_kmh,
            "intensity": round(s.flow_vph * hours, 3) if s.flow_vph is not None and s.flow_source == "measured" else None,
            "congested": _CONGESTED.get(s.datex_status),
            "refRoadSegment": _urn("RoadSegment", city, s.segment_id),
            "location": geometry,
            "confidence": s.confidence,
            "origin": s.origin,
            "simulated": s.simulated,
        }
    )


def of_sensor(city: str, o: SensorObservation) -> Entity | None:
    """What a site counted; None when it counted nothing, or pedestrians."""
    if o.travel_mode == "pedestrian" or (o.flow_vph is None and o.speed_kmh is None and o.occupancy_pct is None):
        return None
    hours = (parse_ms(o.window_end) - parse_ms(o.window_start)) / 3_600_000
    at = {"type": "Point", "coordinates": [o.lon_deg, o.lat_deg]} if o.lon_deg is not None and o.lat_deg is not None else None
    return _known(
        {
            "id": _urn("TrafficFlowObserved", city, f"{o.site_id}:{o.direction}"),
            "type": "TrafficFlowObserved",
            **_window(o.window_start, o.window_end),
            "averageVehicleSpeed": o.speed_kmh,
            "intensity": round(o.flow_vph * hours, 3) if o.flow_vph is not None else None,
            "occupancy": round(o.occupancy_pct / 100, 6) if o.occupancy_pct is not None else None,
            "vehicleType": "bicycle" if o.travel_mode == "bicycle" else None,
            "refRoadSegment": _urn("RoadSegment", city, o.segment_id) if o.segment_id else None,
            "location": at,
            "simulated": o.simulated,
        }
    )


def of_emission(city: str, e: EmissionSegment, geometry: dict[str, Any] | None) -> Entity:
    """What the traffic of a segment emits: each rate with its 95 % bounds, g/h; energy MJ/h."""
    rates: Entity = {}
    for name, unit in (*((n, "g_h") for n in _RATES), ("energy", "mj_h")):
        q: Quantity = getattr(e, name)
        rates |= {f"{name}_{unit}": q.value, f"{name}_lo95_{unit}": q.lo95, f"{name}_hi95_{unit}": q.hi95}
    return _known(
        {
            "id": _urn("EnvironmentObserved", city, e.segment_id),
            "type": "EnvironmentObserved",
            **_window(e.window_start, e.window_end),
            **rates,
            "scope": e.scope,
            "factorSet": e.factor_set,
            "fleetMix": e.fleet_mix,
            "refRoadSegment": _urn("RoadSegment", city, e.segment_id),
            "location": geometry,
            "simulated": e.simulated,
        }
    )


def normalized(entity: Entity) -> Entity:
    """The entity as context brokers exchange it."""
    out: Entity = {}
    for name, value in entity.items():
        if name in ("id", "type"):
            out[name] = value
        elif name == "location":
            out[name] = {"type": "GeoProperty", "value": value}
        elif name.startswith("ref"):
            out[name] = {"type": "Relationship", "object": value}
        elif name in ("dateObservedFrom", "dateObservedTo"):
            out[name] = {"type": "Property", "value": {"@type": "DateTime", "@value": value}}
        else:
            unit = {"unitCode": _UNITS[name]} if name in _UNITS else {}
            out[name] = {"type": "Property", "value": value, **unit}
    return {**out, "@context": list(CONTEXT)}
