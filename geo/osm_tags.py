"""What OpenStreetMap tags say about a street, one function a question. Tag meanings: https://wiki.openstreetmap.org/wiki/Map_features."""

from __future__ import annotations

import re
from collections.abc import Mapping

Tags = Mapping[str, str]

ROADS = frozenset(
    [
        "motorway",
        "motorway_link",
        "trunk",
        "trunk_link",
        "primary",
        "primary_link",
        "secondary",
        "secondary_link",
        "tertiary",
        "tertiary_link",
        "unclassified",
        "residential",
        "living_street",
        "service",
        "road",
        "busway",
        "bus_guideway",
    ]
)
#: Service roads that carry no through traffic.
MINOR_SERVICE = frozenset({"parking_aisle", "driveway", "drive-through", "emergency_access", "slipway"})
CLOSED = frozenset({"no", "private", "agricultural", "forestry", "emergency", "military"})
OPEN = frozenset({"yes", "designated", "official", "permissive", "destination"})
#: Limits that stand for a kind of road rather than a number, km/h; by the part after the country code.
#: Only countries whose rule is this one: https://wiki.openstreetmap.org/wiki/Default_speed_limits
ZONE_KMH = {
    "FI": {"urban": 50.0, "rural": 80.0, "motorway": 120.0},
    "SE": {"urban": 50.0, "rural": 70.0, "trunk": 90.0, "motorway": 110.0},
    "NO": {"urban": 50.0, "rural": 80.0},
    "DK": {"urban": 50.0, "rural": 80.0, "motorway": 130.0},
    "EE": {"urban": 50.0, "rural": 90.0},
    "DE": {"urban": 50.0, "rural": 100.0, "living_street": 7.0},
    "AT": {"urban": 50.0, "rural": 100.0, "trunk": 100.0, "motorway": 130.0},
    "CH": {"urban": 50.0, "rural": 80.0, "trunk": 100.0, "motorway": 120.0},
    "FR": {"urban": 50.0, "rural": 80.0, "motorway": 130.0, "living_street": 20.0},
    "NL": {"urban": 50.0, "rural": 80.0, "trunk": 100.0, "living_street": 15.0},
    "BE": {"urban": 50.0, "motorway": 120.0, "living_street": 20.0},
    "IT": {"urban": 50.0, "rural": 90.0, "trunk": 110.0, "motorway": 130.0},
    "ES": {"urban": 50.0, "rural": 90.0, "motorway": 120.0, "living_street": 20.0},
    "PL": {"urban": 50.0, "rural": 90.0, "motorway": 140.0, "living_street": 20.0},
    "CZ": {"urban": 50.0, "rural": 90.0, "motorway": 130.0, "living_street": 20.0},
    "GB": {"nsl_restricted": 48.28032, "nsl_single": 96.56064, "nsl_dual": 112.65408, "motorway": 112.65408},
}
_SPEED = re.compile(r"(\d+(?:\.\d+)?)\s*(km/h|kmh|kph|mph|knots)?")
_ZONE = re.compile(r"[A-Z]{2}:zone:?(\d+)")
KMH = {None: 1.0, "km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "knots": 1.852}


def speed_kmh(value: str | None) -> float:
    """A ``maxspeed`` in km/h; NaN where it is no number that holds all day. Of several lanes' limits the lowest.

    >>> speed_kmh("40"), round(speed_kmh("30 mph"), 1), speed_kmh("FI:urban"), speed_kmh("DE:zone:30"), speed_kmh("50;30")
    (40.0, 48.3, 50.0, 30.0, 30.0)
    >>> speed_kmh("none"), speed_kmh("signals"), speed_kmh(None)
    (nan, nan, nan)
    """
    nan = float("nan")
    if value is None:
        return nan
    limits = []
    for part in re.split(r"[;|]", value):
        text = part.strip()
        if found := _SPEED.fullmatch(text):
            limits.append(float(found[1]) * KMH[found[2]])
        elif found := _ZONE.fullmatch(text):
            limits.append(float(found[1]))
        elif text == "walk":
            limits.append(5.0)
        else:
            country, _, zone = text.partition(":")
            limits.append(ZONE_KMH.get(country, {}).get(zone, nan))
    return min((limit for limit in limits if 0 < limit <= 200), default=nan)


def speed_limit_kmh(tags: Tags, forward: bool) -> float:
    """The limit in one direction, km/h, NaN when not tagged."""
    own = speed_kmh(tags.get("maxspeed:forward" if forward else "maxspeed:backward"))
    if own == own:
        return own
    both = speed_kmh(tags.get("maxspeed"))
    return both if both == both else speed_kmh(tags.get("maxspeed:type") or tags.get("source:maxspeed"))


def _first(tags: Tags, *keys: str) -> str | None:
    return next((tags[key] for key in keys if key in tags), None)


def use(tags: Tags) -> str | None:
    """Who drives there: ``general_traffic``, ``bus_lane`` (buses alone) or None (nobody of interest)."""
    road = tags.get("highway")
    if road in ("busway", "bus_guideway") or (road == "service" and tags.get("service") == "bus"):
        return "bus_lane"
    bus = _first(tags, "bus", "psv")
    bus_may = bus in OPEN
    if road == "pedestrian":
        return "bus_lane" if bus_may else None
    if road not in ROADS or tags.get("area") == "yes":
        return None
    if road == "service" and tags.get("service") in MINOR_SERVICE:
        return None
    car = _first(tags, "motorcar", "motor_vehicle", "vehicle", "access")
    if car in CLOSED:
        return "bus_lane" if bus_may else None
    return "general_traffic"


def is_tram(tags: Tags) -> bool:
    """Tracks of trams, light rail included, in service."""
    return tags.get("railway") in ("tram", "light_rail") and tags.get("service") not in ("yard", "siding", "spur")


def oneway(tags: Tags, tram: bool = False) -> int:
    """1: only as drawn, -1: only against it, 0: both ways.

    Roundabouts and motorways are one-way unless said otherwise. For trams only ``oneway`` counts, where the way is not a road as well.
    """
    value = tags.get("railway:oneway", tags.get("oneway")) if tram else tags.get("oneway")
    if value in ("yes", "true", "1"):
        return 1
    if value in ("-1", "reverse"):
        return -1
    if value in ("no", "false", "0", "reversible", "alternating"):
        return 0
    if not tram and (tags.get("junction") in ("roundabout", "circular") or tags.get("highway") == "motorway"):
        return 1
    return 0


def contraflow_bus(tags: Tags) -> bool:
    """May buses drive against the one-way direction?"""
    if tags.get("oneway:bus", tags.get("oneway:psv")) == "no":
        return True
    keys = ("busway", "busway:left", "busway:right", "busway:both")
    return any(tags.get(key, "").startswith("opposite") for key in keys)


def _number(value: str | None) -> int:
    return int(value) if value is not None and value.isascii() and value.isdigit() and int(value) < 20 else -1


def lanes(tags: Tags, forward: bool, way: int) -> int:
    """Lanes in one direction, bus lanes included; -1 when the tags do not tell.

    >>> lanes({"lanes": "4"}, True, 0), lanes({"lanes": "3"}, True, 0), lanes({"lanes": "3", "lanes:backward": "1"}, True, 0)
    (2, -1, 2)
    """
    if (own := _number(tags.get("lanes:forward" if forward else "lanes:backward"))) > 0:
        return own
    total = _number(tags.get("lanes"))
    if total <= 0:
        return -1
    if way:
        return total if forward == (way == 1) else -1
    other = _number(tags.get("lanes:backward" if forward else "lanes:forward"))
    middle = max(0, _number(tags.get("lanes:both_ways")))
    if other > 0:
        return total - other - middle if total - other - middle > 0 else -1
    if total == 1:
        return 1
    return (total - middle) // 2 if (total - middle) % 2 == 0 and total > middle else -1


def bus_lane(tags: Tags, forward: bool, way: int, drive_on_left: bool = False) -> int:
    """1: a bus lane in this direction, 0: the lanes are described and none is for buses, -1: not described."""
    side = "forward" if forward else "backward"
    near = "left" if drive_on_left == forward else "right"
    found = False
    for kind in ("bus", "psv"):
        if way:
            whole = forward == (way == 1)
            found |= whole and _number(tags.get(f"lanes:{kind}")) > 0
            found |= whole and "designated" in tags.get(f"{kind}:lanes", "").split("|")
        found |= _number(tags.get(f"lanes:{kind}:{side}")) > 0
        found |= "designated" in tags.get(f"{kind}:lanes:{side}", "").split("|")
        if not way and _number(tags.get(f"lanes:{kind}")) >= 2:
            found = True
    sides = ("busway", "busway:both", "busway:left", "busway:right") if way else ("busway", "busway:both", f"busway:{near}")
    found |= (not way or forward == (way == 1)) and any(tags.get(key) == "lane" for key in sides)
    if found:
        return 1
    return 0 if tags.get("busway", tags.get("busway:both")) == "no" or "lanes" in tags else -1
