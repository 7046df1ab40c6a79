"""Which vehicles drive: the city's fleet of the day or one's own, and the lookups made from it for the conditions of the hour.

Transit vehicles are a stream of their own. Where a city's transit vehicles tell where they are, they are counted one by one, with their own speeds; where they do
not, they are the share of the general flow that ``composition.csv`` says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np

from connectors.powertrains import FUELS
from geo.network import F64
from models.emissions.bounds import Bounds, bounds_of
from models.emissions.fleet import STREAMS, Fleet, Vehicle, composition, fleet_of
from models.emissions.flow import ROAD_CLASSES
from models.emissions.lookup import is_electric, resolve
from models.emissions.rates import OUTPUTS, Conditions, RateTable, rate_table
from models.emissions.spread import second_opinion

#: Name of the transit stream of any fleet, here.
TRANSIT: Final = "transit"
#: How powertrains are called on the wire.
POWERTRAINS: Final = ("mix", "diesel", "biodiesel", "gas", "hybrid", "electric")
#: Places in a vehicle that an occupancy in per cent is a part of; standard two-axle city bus, seats and standing room (judgement).
CAPACITY: Final = 75
#: A powertrain with less than this share of the fleet is left out of an unknown vehicle's bounds.
_SEEN_SHARE: Final = 0.025


def powertrain(vehicle: Vehicle) -> str:
    """
    >>> powertrain(Vehicle("urban_bus", "cng", "", "", ""))
    'gas'
    """
    if is_electric(vehicle.fuel):
        return "electric"
    if "hybrid" in vehicle.fuel or "phev" in vehicle.fuel:
        return "hybrid"
    return {"cng": "gas", "biodiesel": "biodiesel"}.get(vehicle.fuel, "diesel")


@dataclass(frozen=True, slots=True)
class Rates:
    """The lookups of one hour: a fleet under conditions, its shares by road class, its bounds."""

    table: RateTable
    fleet_mix: str
    conditions: Conditions
    bounds: Bounds
    alone: F64  #: (road classes, S): shares of the flow without transit vehicles
    together: F64  #: (road classes, S): shares of the flow with them
    transit: Mapping[str, int]  #: powertrain, or powertrain:euro class -> stream of the table; "mix": all of them
    transit_range: Mapping[str, tuple[int, ...]]  #: powertrain -> streams that span its bounds
    transit_cv2: F64  #: (9,) squared coefficient of variation among transit vehicles
    general_cv2: F64  #: (9,) the same among the other vehicles
    factor_rows: str

    def row_ids(self) -> dict[str, list[str]]:
        """Coefficient rows behind each stream."""
        return {stream: list(ids) for stream, ids in self.table.row_ids.items()}


def listed(found: Iterable[Rates]) -> dict[str, Any]:
    """What ``factor_rows`` of emission records stands for, by that digest: fleet, factor set, coefficient rows by stream, and the spread of the second opinion."""
    second = {pollutant: o._asdict() for pollutant, o in second_opinion().items()}
    return {
        r.factor_rows: {"fleet_mix": r.fleet_mix, "factor_set": r.table.factor_set, "rows": r.row_ids(), "second_opinion": second}
        for r in found
    }


def split(fleet: Fleet, city: str, on: date, classes: Iterable[tuple[str, str]] = ()) -> tuple[Fleet, list[str]]:
    """The fleet with its transit vehicles as the streams ``transit``, ``transit:<powertrain>`` and, of the ``classes`` given, ``transit:<powertrain>:<euro>``; and the
    names of its other streams.

    Raises:
        ValueError: a fleet with several streams of buses, or with none of other vehicles.
    """
    buses = [name for name, members in fleet.streams.items() if all(v.category == "urban_bus" for v, _ in members)]
    general = [name for name in fleet.streams if name not in buses]
    if len(buses) > 1 or not general:
        raise ValueError(
            f"fleet {fleet.name}: streams {', '.join(fleet.streams)}: expected one of buses at most, and one of other vehicles"
        )
    members = fleet.streams[buses[0]] if buses else fleet_of(city, on).streams["urban_bus"]
    streams = {name: fleet.streams[name] for name in general}
    streams[TRANSIT] = members
    for kind in POWERTRAINS[1:]:
        mine = [(v, share) for v, share in members if powertrain(v) == kind]
        total = sum(share for _, share in mine)
        if mine:
            streams[f"{TRANSIT}:{kind}"] = tuple((v, share / total) for v, share in mine)
    for kind, euro in classes:
        streams[f"{TRANSIT}:{kind}:{euro}"] = ((Vehicle(*resolve("urban_bus", FUELS[kind], "", euro)), 1.0),)
    return Fleet(fleet.name, streams), general


def shares(general: list[str], streams: tuple[str, ...], mix: Mapping[str, Mapping[str, float]] | None) -> tuple[F64, F64]:
    """Shares of streams in the flow by road class, without and with transit vehicles.

    Raises:
        ValueError: streams of one's own that ``composition.csv`` does not know, and no mix for them.
    """
    known = composition()
    unknown = [s for s in general if s not in STREAMS]
    if mix is None and unknown and len(general) > 1:
        raise ValueError(f"fleet streams {', '.join(unknown)}: give their shares by road class, or use one stream for all but buses")
    alone = np.zeros((len(ROAD_CLASSES), len(streams)))
    together = np.zeros_like(alone)
    for k, road in enumerate(ROAD_CLASSES):
        mine = {general[0]: 1.0} if mix is None and unknown else {s: (mix or known)[road].get(s, 0.0) for s in general}
        total = sum(mine.values())
        bus = (mix or known)[road].get("urban_bus", known[road]["urban_bus"])
        for s, share in mine.items():
            alone[k, streams.index(s)] = share / total
            together[k, streams.index(s)] = share / total * (1.0 - bus)
        together[k, streams.index(TRANSIT)] = bus
    return alone, together


def rates(
    fleet: Fleet,
    city: str,
    on: date,
    conditions: Conditions,
    mix: Mapping[str, Mapping[str, float]] | None = None,
    classes: Iterable[tuple[str, str]] = (),
) -> Rates:
    """Lookups for the fleet of a city on a day, and for transit vehicles of some powertrains and emission classes. Takes some 30 ms.

    >>> from models.emissions.fleet import example_fleet
    >>> r = rates(example_fleet(), "helsinki", date(2026, 3, 10), Conditions(temperature_c=5.0))
    >>> sorted(r.transit), r.alone[2].tolist()
    (['diesel', 'electric', 'mix'], [1.0, 0.0, 0.0, 0.0])
    """
    whole, general = split(fleet, city, on, classes)
    table = rate_table(whole, conditions)
    alone, together = shares(general, table.streams, mix)
    transit = {"mix": table.streams.index(TRANSIT)}
    weight = {}
    for kind in POWERTRAINS[1:]:
        if f"{TRANSIT}:{kind}" in table.streams:
            transit[kind] = table.streams.index(f"{TRANSIT}:{kind}")
            weight[kind] = sum(share for v, share in whole.streams[TRANSIT] if powertrain(v) == kind)
    for name in table.streams:
        if name.count(":") == 2:
            transit[name.removeprefix(f"{TRANSIT}:")] = table.streams.index(name)
    seen = tuple(transit[k] for k, share in weight.items() if share >= _SEEN_SHARE)
    at = table.rate[:, 1, 4 * 20]  # at 20 km/h
    bus = _cv2(np.array([weight[k] for k in weight]), np.array([at[transit[k]] for k in weight]))
    single = rate_table(Fleet("each", {f"{s}/{k}": ((v, 1.0),) for s in general for k, (v, _) in enumerate(whole.streams[s])}), conditions)
    share = np.array([alone[2, table.streams.index(s)] * part for s in general for _, part in whole.streams[s]])
    ids = "|".join(f"{s}={','.join(i)}" for s, i in sorted(table.row_ids.items()))
    return Rates(
        table, fleet.name, conditions, bounds_of(conditions), alone, together, transit,
        {kind: seen if kind == "mix" else (k,) for kind, k in transit.items()}, bus, _cv2(share, single.rate[:, 1, 4 * 20]),
        hashlib.sha256(ids.encode()).hexdigest()[:12],
    )  # fmt: skip


def _cv2(share: F64, value: F64) -> F64:
    """Squared coefficient of variation of each output among vehicles of these shares; 0 where none emits."""
    mean = share @ value
    spread = share @ (value - mean) ** 2
    out: F64 = np.where(mean > 0.0, spread / np.where(mean > 0.0, mean, 1.0) ** 2, 0.0)
    return out


assert OUTPUTS[1] == "co2_total"
