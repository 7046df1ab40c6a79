"""Measured data of DATEX II: what sites measured, put together with the table of sites.

A site has many numbered values: one a lane, a class of vehicle, a kind. Only the table of sites tells what a number is, and only in its own version.
With it: flow is the sum over lanes, speed the mean over lanes weighted by flow, occupancy the mean. Without it a site counts only when it has one value a kind.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lxml import etree

from connectors import xml
from connectors.columns import Site
from connectors.datex2.places import bearing, point
from connectors.reading import NAN, Refused, duration_s, iso_ms, number

_KIND = {"TrafficFlow": "flow", "TrafficSpeed": "speed", "TrafficConcentration": "occupancy"}
_KIND_OF_TABLE = {"trafficFlow": "flow", "trafficSpeed": "speed", "trafficConcentration": "occupancy"}
#: DATEX II's faults, as the record has them.
_FAULTS = {"intermittentDataValues": "intermittentDataValues", "noDataValuesAvailable": "noDataValuesAvailable"}
#: All readings of a site are of one direction: DATEX II has a site for each.
DIRECTION = "1"
MOST_VALUES = 500


class Role(NamedTuple):
    """What one numbered value of a site is, by the table."""

    kind: str  #: flow, speed, occupancy
    lane: str  #: "" is the whole carriageway
    any_vehicle: bool
    period_s: float  #: NaN: not told


class Value(NamedTuple):
    """One value of one site, as measured."""

    kind: str
    number: float  #: NaN: an error, or nobody passed
    inputs: float  #: vehicles that it was made of; NaN: not told
    any_vehicle: bool
    period_s: float
    fault: str | None


class Reading(NamedTuple):
    """A site's values together."""

    end_ms: int
    start_ms: int
    flow_vph: float
    speed_kmh: float
    occupancy_pct: float
    fault: str | None


def site(record: etree._Element, namespace: str) -> tuple[Site | None, str, str, dict[str, Role]]:
    """A record of the table: its place (None: it has none on a map), id, version and the meaning of its numbers.

    Raises:
        Refused: no id, or a place that is none.
    """
    identity, version = record.get("id"), record.get("version") or ""
    if not identity:
        raise Refused("missing", "measurementSite.id", None, "an id")
    roles: dict[str, Role] = {}
    side = xml.text(record, "measurementSide")
    for numbered in list(xml.children(record, "measurementSpecificCharacteristics"))[:MOST_VALUES]:
        c = xml.child(numbered, "measurementSpecificCharacteristics")
        c = numbered if c is None else c
        kind = _KIND_OF_TABLE.get(xml.text(c, "specificMeasurementValueType") or "")
        side = side or xml.text(c, "measurementSide")
        if kind is None:
            continue
        lanes = [t for lane in xml.children(c, "specificLane") if (t := (lane.text or "").strip() or xml.text(lane, "laneNumber"))]
        period = number(xml.text(c, "period"), "period", 0, 86_400)
        whose = xml.child(c, "specificVehicleCharacteristics")
        roles[numbered.get("index") or ""] = Role(kind, "+".join(lanes), _any_vehicle(whose), period)
    location = xml.child(record, "measurementSiteLocation")
    at = point(location)
    if at is None:
        return None, identity, version, roles
    found = Site(
        site_id=f"{namespace}/{identity}",
        direction=DIRECTION,
        lat_deg=at[1],
        lon_deg=at[0],
        bearing_deg=bearing(location, side),
        name=next((t for v in xml.descendants(record, "value") if (t := (v.text or "").strip())), None)
        if xml.child(record, "measurementSiteName") is not None
        else None,
    )
    return found, identity, version, roles


def _any_vehicle(whose: etree._Element | None) -> bool:
    """Whether a value is of all vehicles and not of a class of them."""
    if whose is None or not len(whose):
        return True
    return all(xml.name(c) == "vehicleType" and (c.text or "").strip() == "anyVehicle" for c in whose)


def values(measurements: etree._Element) -> list[tuple[str, Value]]:
    """Index and value of what a site measured; kinds that are no flow, speed or occupancy are left out.

    Raises:
        Refused: a value that is no number.
    """
    out: list[tuple[str, Value]] = []
    for numbered in xml.children(measurements, "measuredValue", "physicalQuantity"):
        inner = xml.child(numbered, xml.name(numbered))
        inner = numbered if inner is None else inner
        data = xml.child(inner, "basicData")
        data = next(xml.descendants(inner, "basicDataValue"), None) if data is None else data
        if data is None:
            continue
        kind = _KIND.get(xml_type(data))
        if kind is None:
            continue
        if len(out) >= MOST_VALUES:
            raise Refused("over_limit", "measuredValue", f"more than {MOST_VALUES}", "the values of one site")
        fault = next(
            (f for e in xml.descendants(inner, "measuringEquipmentFault", "measurementEquipmentFault", "physicalQuantityFaultType")
             if (f := (e.text or "").strip())),
            None,
        )  # fmt: skip
        out.append((numbered.get("index") or "", _value(data, kind, None if fault is None else _FAULTS.get(fault, "other"))))
    return out


def xml_type(element: etree._Element) -> str:
    """``xsi:type`` without its prefix."""
    return str(element.get("{http://www.w3.org/2001/XMLSchema-instance}type") or "").rpartition(":")[2]


def _value(data: etree._Element, kind: str, fault: str | None) -> Value:
    holder, name, most = {
        "flow": ("vehicleFlow", "vehicleFlowRate", 1e6),
        "speed": ("averageVehicleSpeed", "speed", 1e4),
        "occupancy": ("occupancy", "percentage", 1e4),
    }[kind]
    held = xml.child(data, holder)
    period = number(xml.text(data, "measurementOrCalculationPeriod"), "measurementOrCalculationPeriod", 0, 86_400)
    anybody = _any_vehicle(xml.child(data, "forVehiclesWithCharacteristicsOf"))
    if held is None:
        return Value(kind, NAN, NAN, anybody, period, fault)
    inputs = number(held.get("numberOfInputValuesUsed"), "numberOfInputValuesUsed", 0, 1e9)
    wrong = xml.text(held, "dataError") in ("true", "1")
    amount = number(xml.text(held, name), name, -1, most)
    # -1, and a speed that nobody drove, are "not known" in every profile seen.
    if wrong or amount < 0 or (kind == "speed" and inputs == 0):
        amount = NAN
    return Value(kind, amount, inputs, anybody, period, fault or ("other" if wrong else None))


def reading(measurements: etree._Element, roles: dict[str, Role] | None, window_s: float, default_begins: bool) -> Reading | str:
    """A site's values together, or why there are none: ``no_site_table`` (several values of a kind, and no table tells them apart), ``no_traffic_data``.

    Raises:
        Refused: no time, or values that are none.
    """
    told = values(measurements)
    if not told:
        return "no_traffic_data"
    picked: dict[str, list[tuple[Role, Value]]] = {"flow": [], "speed": [], "occupancy": []}
    for index, v in told:
        role = roles.get(index) if roles is not None else Role(v.kind, "", v.any_vehicle, NAN)
        if role is not None and role.kind == v.kind:
            picked[v.kind].append((role, v))
    if roles is None and any(sum(r.any_vehicle for r, _ in of) > 1 for of in picked.values()):
        return "no_site_table"
    picked = {kind: _whole(of) for kind, of in picked.items()}
    if not any(picked.values()):
        return "no_traffic_data"
    used = [(r, v) for of in picked.values() for r, v in of]
    period = next((p for r, v in used for p in (v.period_s, r.period_s) if p == p and p > 0), window_s)
    end_ms, start_ms = _window(measurements, period, default_begins)
    flows = {r.lane: v.number for r, v in picked["flow"]}
    flow = sum(flows.values()) if flows and all(f == f for f in flows.values()) else NAN
    fault = next((v.fault for _, v in used if v.fault is not None), None)
    if all(v.number != v.number for _, v in used) and fault is None and all(v.kind != "speed" for _, v in used):
        fault = "noDataValuesAvailable"
    return Reading(end_ms, start_ms, flow, _speed(picked["speed"], flows), _mean([v.number for _, v in picked["occupancy"]]), fault)


def _whole(of: list[tuple[Role, Value]]) -> list[tuple[Role, Value]]:
    """The values that together are the whole site: of all vehicles where there are such (else of each class), of the carriageway where there is one (else of each lane)."""
    everybody = [rv for rv in of if rv[0].any_vehicle]
    carriageway = [rv for rv in everybody if not rv[0].lane]
    if carriageway:
        return carriageway[:1]
    if everybody:
        return list({r.lane: (r, v) for r, v in reversed(everybody)}.values())[::-1]
    return of if of and of[0][1].kind == "flow" and not any(r.lane == "" for r, _ in of) else of if len(of) == 1 else []


def _speed(of: list[tuple[Role, Value]], flows: dict[str, float]) -> float:
    """Mean over lanes, weighted by the vehicles of each; where those are not told, by lanes alike."""
    known = [(v.number, flows.get(r.lane, v.inputs)) for r, v in of if v.number == v.number]
    if not known:
        return NAN
    if len(known) == 1:
        return known[0][0]
    weights = [w if w == w and w > 0 else 0.0 for _, w in known]
    total = sum(weights)
    if total <= 0:
        return _mean([s for s, _ in known])
    return sum(s * w for (s, _), w in zip(known, weights, strict=True)) / total


def _mean(numbers: list[float]) -> float:
    known = [x for x in numbers if x == x]
    return sum(known) / len(known) if known else NAN


def _window(measurements: etree._Element, period_s: float, default_begins: bool) -> tuple[int, int]:
    """End and start, milliseconds. DATEX II 3 may say what its time means and how long the period was."""
    default = xml.child(measurements, "measurementTimeDefault")
    inner = None if default is None else (xml.text(default, "timeValue") or (default.text or "").strip() or None)
    ms = iso_ms(inner, "measurementTimeDefault")
    duration = duration_s(xml.text(default, "period", "duration"), "period")
    length = round((duration if duration == duration and 0 < duration <= 86_400 else period_s) * 1000)
    meaning = xml.text(default, "timeMeaning") or ("beginTime" if default_begins else "endTime")
    end = ms + (length if meaning == "beginTime" else length // 2 if meaning == "middleTime" else 0)
    return end, end - length


def roles_as_state(roles: dict[str, Role]) -> list[list[Any]]:
    """For the snapshot. NaN does not survive everywhere: a period that is not told is None."""
    return [[index, r.kind, r.lane, r.any_vehicle, None if r.period_s != r.period_s else r.period_s] for index, r in roles.items()]


def roles_from_state(state: list[list[Any]]) -> dict[str, Role]:
    """What ``roles_as_state`` gave."""
    return {s[0]: Role(s[1], s[2], bool(s[3]), NAN if s[4] is None else float(s[4])) for s in state}
