"""Fleets: which vehicles a stream of traffic consists of, by city and date, or given by the user.

A *stream* is traffic whose flow is known apart from the rest: by default one a category (cars, vans, rigid and articulated
trucks, urban buses, coaches). A user's own fleet may name other streams, for one ``general`` for all that a loop counts.
Shares are of vehicle-kilometres and add up to one in each stream.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Final, NamedTuple, TextIO

from models.emissions import tables
from models.emissions.lookup import is_electric, resolve

#: Streams of the default fleets, in the order of ``composition.csv``.
STREAMS: Final = ("passenger_car", "lcv", "rigid_truck", "articulated_truck", "urban_bus", "coach")


class Vehicle(NamedTuple):
    """One kind of vehicle, named as in the factor tables, every field filled."""

    category: str
    fuel: str
    segment: str
    euro: str
    technology: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """Named mixture of vehicles by stream; ``name`` goes into ``fleet_mix`` of every record."""

    name: str
    streams: Mapping[str, tuple[tuple[Vehicle, float], ...]]

    def __post_init__(self) -> None:
        for stream, members in self.streams.items():
            if not members or abs(sum(share for _, share in members) - 1.0) > 1e-9:
                raise ValueError(f"fleet {self.name}: stream {stream}: shares add up to {sum(s for _, s in members)}, expected 1")

    def electric_share(self, stream: str) -> float:
        """Share of the stream's kilometres driven on electricity, plug-ins' electric mode included."""
        return sum(share for vehicle, share in self.streams[stream] if is_electric(vehicle.fuel))


def fleet_from_rows(rows: Iterable[Mapping[str, str | float]], name: str) -> Fleet:
    """A fleet from rows of ``stream, category, fuel, segment, euro, technology, share``.

    Empty fields take the defaults of ``lookup.resolve``; an empty stream is the category. Shares count in
    proportion inside their stream: percent and parts both do.

    Raises:
        NoSuchRow: a vehicle the tables do not have.
        ValueError: a share that is not a number >= 0.

    >>> fleet = fleet_from_rows([
    ...     {"category": "passenger_car", "fuel": "petrol", "euro": "Euro 4", "share": 3},
    ...     {"category": "passenger_car", "fuel": "electric", "share": 1},
    ... ], "mine")
    >>> fleet.electric_share("passenger_car")
    0.25
    """
    sums: dict[str, dict[Vehicle, float]] = {}
    for row in rows:
        fields = [str(row.get(field) or "") for field in Vehicle._fields]
        vehicle = Vehicle(*resolve(*fields))
        try:
            share = float(row["share"])
        except (KeyError, ValueError):
            raise ValueError(f"fleet {name}: share = {row.get('share')!r}, expected a number >= 0") from None
        if not 0.0 <= share < float("inf"):
            raise ValueError(f"fleet {name}: share = {share}, expected a number >= 0")
        members = sums.setdefault(str(row.get("stream") or vehicle.category), {})
        members[vehicle] = members.get(vehicle, 0.0) + share
    streams = {}
    for stream, members in sums.items():
        total = sum(members.values())
        if total <= 0.0:
            raise ValueError(f"fleet {name}: stream {stream}: shares add up to 0")
        streams[stream] = tuple((vehicle, share / total) for vehicle, share in members.items() if share > 0.0)
    return Fleet(name, streams)


def read_fleet(stream: TextIO, name: str) -> Fleet:
    """A fleet from CSV text with the columns of ``fleet_from_rows``; ``data/fleet_example.csv`` is one."""
    return fleet_from_rows(csv.DictReader(stream), name)


@cache
def example_fleet() -> Fleet:
    """The example of a fleet of one's own: a general stream and a bus stream.

    >>> sorted(example_fleet().streams), round(example_fleet().electric_share("general"), 2)
    (['bus', 'general'], 0.12)
    """
    return fleet_from_rows(tables.rows("fleet_example"), "example")


@cache
def fleet_of(city: str, on: date) -> Fleet:
    """Default fleet of a city on a day; a city that the table does not know gets the national one.

    Alternative powertrains of cars (battery, plug-in, gas) are scaled by the region's share against the
    national one, and the rest shrinks to make room. Sources and confidence of every row: ``data/fleets.csv``.

    >>> fleet = fleet_of("helsinki", date(2026, 3, 10))
    >>> fleet.name, round(fleet.electric_share("urban_bus"), 2)
    ('helsinki@2025-01-01', 0.5)
    """
    known = {row["city"]: row for row in tables.rows("cities")}
    row = known.get(city, {"private_fleet": "finland", "bus_fleet": "other_cities", "alternative_ratio": "1.0"})
    day = on.isoformat()
    chosen = [
        r
        for r in tables.rows("fleets")
        if r["fleet"] == (row["bus_fleet"] if r["stream"] == "urban_bus" else row["private_fleet"]) and _valid(r, day)
    ]
    scaled = _scale_alternatives(chosen, float(row["alternative_ratio"]))
    since = max(r["valid_from"] for r in chosen)
    return fleet_from_rows(scaled, f"{city}@{since}")


def _valid(row: Mapping[str, str], day: str) -> bool:
    """Whether a row holds on a day; days before the first period take the first."""
    first = min(r["valid_from"] for r in tables.rows("fleets") if (r["fleet"], r["stream"]) == (row["fleet"], row["stream"]))
    return row["valid_from"] <= max(day, first) <= row["valid_to"]


def _scale_alternatives(rows: Iterable[Mapping[str, str]], ratio: float) -> list[dict[str, str | float]]:
    def alternative(row: Mapping[str, str]) -> bool:
        return row["stream"] == "passenger_car" and row["fuel"] not in ("petrol", "diesel")

    rows = list(rows)
    cars = [r for r in rows if r["stream"] == "passenger_car"]
    total = sum(float(r["share"]) for r in cars)
    before = sum(float(r["share"]) for r in cars if alternative(r)) / total if total else 0.0
    after = min(before * ratio, 0.95)
    out: list[dict[str, str | float]] = []
    for r in rows:
        share = float(r["share"])
        if r["stream"] == "passenger_car" and before > 0.0:
            share *= after / before if alternative(r) else (1.0 - after) / (1.0 - before)
        out.append({**{k: r[k] for k in ("stream", *Vehicle._fields)}, "share": share})
    return out


@cache
def composition() -> Mapping[str, Mapping[str, float]]:
    """Share of each default stream in the flow of a road class (assumption; buses inside the general flow).

    >>> round(sum(composition()["arterial"].values()), 9)
    1.0
    """
    table = {}
    for r in tables.rows("composition"):
        shares = {stream: float(r[stream]) for stream in STREAMS}
        total = sum(shares.values())
        table[r["road_class"]] = {stream: share / total for stream, share in shares.items()}
    return table
