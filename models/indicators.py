"""The two indicators of a city, fluency and environmental effect, by hour and day: sums of its final records, made so that cities compare.

Pure: the same records in, the same figures out, whether they come from the stream, a replay or an archive. What differs between cities only because one is larger is divided out
(per vehicle-kilometre, per kilometre of street and hour); how much was measured stands beside every figure; and cities are compared over the same hours of the day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from models.emission_records import AreaState, EmissionArea, Quantity
from models.indicator_records import CityDay, Environment, Fluency, Hour
from models.line_records import LineFluency

#: Emission outputs in the order of their sums: field of ``EmissionArea``, field of ``Environment``.
OUTPUTS = (
    ("co2_fossil", "co2_fossil_kg"), ("co2_total", "co2_total_kg"), ("co2_electricity", "co2_electricity_kg"), ("nox", "nox_kg"), ("no2", "no2_kg"),
    ("pm_exhaust", "pm_exhaust_kg"), ("pm_nonexhaust", "pm_nonexhaust_kg"), ("co", "co_kg"), ("energy", "energy_mj"),
)  # fmt: skip
#: Hours of a window of ``emission-area``.
BLOCK_H = 5.0 / 60.0
#: An hour with at least so many of its minutes compares.
ENOUGH_MINUTES = 50


@dataclass(slots=True)
class Flowed:
    """Sums of fluency. Plain floats, so that they are kept in a snapshot as they are."""

    minutes: int = 0
    vehicle_km: float = 0.0
    vehicle_h: float = 0.0
    free_h: float = 0.0
    delay_h: float = 0.0
    covered_km: float = 0.0
    sure_km: float = 0.0
    known_km: float = 0.0  #: street kilometres x minutes
    street_km: float = 0.0
    slow_km: float = 0.0
    transit_km: float = 0.0
    transit_h: float = 0.0
    stopped_h: float = 0.0

    def add_state(self, a: AreaState) -> None:
        """A final minute of the whole city."""
        km = a.km_by_los
        known = km.A + km.B + km.C + km.D + km.E + km.F
        self.minutes += 1
        self.known_km += known
        self.street_km += known + km.unknown
        self.slow_km += km.E + km.F
        if a.vehicle_km_h and a.vehicle_h_h and a.travel_time_index:
            driven, spent = a.vehicle_km_h / 60.0, a.vehicle_h_h / 60.0
            self.vehicle_km += driven
            self.vehicle_h += spent
            self.free_h += spent / a.travel_time_index
            self.delay_h += (a.delay_veh_h or 0.0) / 60.0
            self.covered_km += driven * a.coverage_pct / 100.0
            self.sure_km += driven * a.confidence

    def add_line(self, line: LineFluency) -> None:
        """A final minute of one line."""
        if line.commercial_speed_kmh is not None:
            spent = line.vehicles * line.coverage_pct / 100.0 / 60.0
            self.transit_h += spent
            self.transit_km += spent * line.commercial_speed_kmh
            self.stopped_h += spent * (line.stopped_share or 0.0)

    def add(self, other: Flowed) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def record(self) -> Fluency | None:
        """The figures; None where no minute is known."""
        if not self.minutes:
            return None
        driven = self.vehicle_km > 0.0
        return Fluency(
            minutes=self.minutes,
            coverage_pct=_pct(self.covered_km, self.vehicle_km),
            known_km_pct=_pct(self.known_km, self.street_km),
            confidence=round(self.sure_km / self.vehicle_km, 3) if driven else 0.0,
            vehicle_km=round(self.vehicle_km, 1),
            vehicle_h=round(self.vehicle_h, 3),
            delay_veh_h=round(self.delay_h, 3),
            slow_km_share=round(self.slow_km / self.known_km, 4) if self.known_km > 0.0 else None,
            speed_kmh=round(self.vehicle_km / self.vehicle_h, 2) if driven else None,
            travel_time_index=round(self.vehicle_h / self.free_h, 3) if driven else None,
            delay_s_per_vehicle_km=round(3600.0 * self.delay_h / self.vehicle_km, 2) if driven else None,
            transit_vehicle_h=round(self.transit_h, 2) if self.transit_h > 0.0 else None,
            transit_speed_kmh=round(self.transit_km / self.transit_h, 2) if self.transit_h > 0.0 else None,
            transit_stopped_share=round(self.stopped_h / self.transit_h, 3) if self.transit_h > 0.0 else None,
        )


@dataclass(slots=True)
class Emitted:
    """Sums of emissions."""

    blocks: int = 0
    vehicle_km: float = 0.0
    covered_km: float = 0.0
    unstretched_km: float = 0.0
    street_km_h: float = 0.0
    grams: list[float] = field(default_factory=lambda: [0.0] * (3 * len(OUTPUTS)))  #: value, lo95, hi95 of each output

    def add_area(self, a: EmissionArea, street_km: float) -> None:
        """A final window of five minutes of the whole city."""
        driven = a.vehicle_km_h * BLOCK_H
        self.blocks += 1
        self.vehicle_km += driven
        self.covered_km += driven * a.coverage_pct / 100.0
        self.unstretched_km += driven / max(a.coverage_expansion, 1.0)
        self.street_km_h += street_km * BLOCK_H
        for k, (name, _) in enumerate(OUTPUTS):
            q: Quantity = getattr(a, name)
            for b, rate in enumerate((q.value, q.lo95, q.hi95)):
                self.grams[3 * k + b] += rate * BLOCK_H

    def add(self, other: Emitted) -> None:
        for name in ("blocks", "vehicle_km", "covered_km", "unstretched_km", "street_km_h"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.grams = [a + b for a, b in zip(self.grams, other.grams, strict=True)]

    def record(self) -> Environment | None:
        """The figures; None where no window is known."""
        if not self.blocks:
            return None
        sums = {name: self.grams[3 * k : 3 * k + 3] for k, (name, _) in enumerate(OUTPUTS)}
        km = self.vehicle_km
        particles = [a + b for a, b in zip(sums["pm_exhaust"], sums["pm_nonexhaust"], strict=True)]
        return Environment(
            blocks=self.blocks,
            coverage_pct=_pct(self.covered_km, km),
            coverage_expansion=round(km / self.unstretched_km, 4) if self.unstretched_km > 0.0 else 1.0,
            vehicle_km=round(km, 1),
            co2_total_g_per_vehicle_km=_quantity(sums["co2_total"], km) if km > 0.0 else None,
            nox_mg_per_vehicle_km=_quantity(sums["nox"], km / 1000.0) if km > 0.0 else None,
            pm_mg_per_vehicle_km=_quantity(particles, km / 1000.0) if km > 0.0 else None,
            co2_total_kg_per_street_km_h=_quantity(sums["co2_total"], 1000.0 * self.street_km_h) if self.street_km_h > 0.0 else None,
            **{to: _quantity(sums[name], 1.0 if name == "energy" else 1000.0) for name, to in OUTPUTS},
        )


@dataclass(slots=True)
class HourSums:
    """One hour."""

    flowed: Flowed = field(default_factory=Flowed)
    emitted: Emitted = field(default_factory=Emitted)


def total(hours: Iterable[HourSums]) -> HourSums:
    """Hours together."""
    out = HourSums()
    for hour in hours:
        out.flowed.add(hour.flowed)
        out.emitted.add(hour.emitted)
    return out


def sums_of(hour: Hour, street_km: float) -> HourSums:
    """The sums behind a published hour, as exactly as its figures are rounded."""
    out = HourSums()
    if (f := hour.fluency) is not None:
        street = street_km * f.minutes
        known = street * f.known_km_pct / 100.0
        spent = f.transit_vehicle_h or 0.0
        free = f.vehicle_h / f.travel_time_index if f.travel_time_index else 0.0
        out.flowed = Flowed(
            f.minutes, f.vehicle_km, f.vehicle_h, free, f.delay_veh_h, f.vehicle_km * f.coverage_pct / 100.0, f.vehicle_km * f.confidence, known, street,
            known * (f.slow_km_share or 0.0), spent * (f.transit_speed_kmh or 0.0), spent, spent * (f.transit_stopped_share or 0.0),
        )  # fmt: skip
    if (e := hour.environment) is not None:
        grams = [
            x * (1.0 if name == "energy" else 1000.0) for name, to in OUTPUTS for q in (getattr(e, to),) for x in (q.value, q.lo95, q.hi95)
        ]
        out.emitted = Emitted(
            e.blocks,
            e.vehicle_km,
            e.vehicle_km * e.coverage_pct / 100.0,
            e.vehicle_km / max(e.coverage_expansion, 1.0),
            street_km * BLOCK_H * e.blocks,
            grams,
        )
    return out


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cities over the same hours of their days."""

    local_hours: list[int]
    cities: dict[str, tuple[Fluency | None, Environment | None]]


def compared(days: Sequence[CityDay]) -> Comparison:
    """Figures of each city over the local hours in which every one of them has nearly all minutes; no hours where there are none in common."""
    full: dict[str, dict[int, list[Hour]]] = {}
    for day in days:
        mine: dict[int, list[Hour]] = {}
        for hour in day.hours:
            mine.setdefault(hour.local_hour, []).append(hour)
        full[day.city] = {h: hours for h, hours in mine.items() if all(_whole(x) for x in hours)}
    common = sorted(set.intersection(*(set(f) for f in full.values()))) if full else []
    out: dict[str, tuple[Fluency | None, Environment | None]] = {}
    for day in days:
        both = total(sums_of(x, day.street_km) for h in common for x in full[day.city][h])
        out[day.city] = both.flowed.record(), both.emitted.record()
    return Comparison(common, out)


def _whole(hour: Hour) -> bool:
    minutes = hour.fluency.minutes if hour.fluency else 0
    blocks = hour.environment.blocks if hour.environment else 0
    return minutes >= ENOUGH_MINUTES and 5 * blocks >= ENOUGH_MINUTES


_COLUMNS = tuple(
    (part, f.name, "Quantity" in str(f.type))
    for part, kind in (("fluency", Fluency), ("environment", Environment))
    for f in msgspec.structs.fields(kind)
)


def flat(of: Mapping[str, object], fluency: Fluency | None, environment: Environment | None) -> dict[str, object]:
    """One row of a table: ``of`` before the figures, quantities as three columns (``_lo95``, ``_hi95``); what is not known is empty."""
    row: dict[str, object] = dict(of)
    for part, name, three in _COLUMNS:
        value = getattr(fluency if part == "fluency" else environment, name, None)
        key = f"{part}_{name}"
        row[key] = getattr(value, "value", None) if three else value
        if three:
            row |= {f"{key}_{bound}": getattr(value, bound, None) for bound in ("lo95", "hi95")}
    return row


def _pct(part: float, whole: float) -> float:
    return round(min(max(100.0 * part / whole, 0.0), 100.0), 1) if whole > 0.0 else 0.0


def _quantity(three: Sequence[float], over: float) -> Quantity:
    value, lo95, hi95 = (float(f"{x / over:.5g}") for x in three)
    return Quantity(value=value, lo95=min(lo95, value), hi95=max(hi95, value))
