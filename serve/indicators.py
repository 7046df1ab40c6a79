"""The two indicators of a city, how traffic flows and what it gives off, by hour and by day of local time; and what is usual at a time of day."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from serve.past import MINUTE_MS, CityWindow, Past

By = Literal["hour", "day"]
#: Step of the usual course of a day, minutes.
USUAL_STEP_MIN = 15
#: The usual is told from so many earlier days of the same kind on.
USUAL_DAYS = 2


class Indicators(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One city in one hour or day of local time. Absent: nothing was known."""

    city: str
    period_start: str  #: local time with its offset
    period: By
    known_pct: float  #: part of the period that is told
    coverage_pct: float | None = None  #: part of the vehicle-kilometres whose speed or flow was measured
    travel_time_index: float | None = None  #: mean, weighted by vehicle-kilometres; 1 is free flow
    delay_veh_h: float | None = None  #: vehicle-hours lost against free flow, in what is told of the period
    vehicle_km: float | None = None
    co2_kg: float | None = None  #: fossil and biogenic, at the tailpipe
    co2_kg_lo95: float | None = None
    co2_kg_hi95: float | None = None
    co2_g_per_vehicle_km: float | None = None
    co2_g_per_vehicle_km_lo95: float | None = None
    co2_g_per_vehicle_km_hi95: float | None = None
    nox_kg: float | None = None
    nox_kg_lo95: float | None = None
    nox_kg_hi95: float | None = None
    simulated: bool = False


def _begin(at_ms: int, zone: ZoneInfo, by: By) -> datetime:
    at = datetime.fromtimestamp(at_ms / 1000, zone).replace(minute=0, second=0, microsecond=0)
    return at if by == "hour" else at.replace(hour=0, fold=0)


def _length_ms(begin: datetime, by: By) -> int:
    """A day has 23 hours or 25 where the clocks change."""
    if by == "hour":
        return 60 * MINUTE_MS
    end = (begin.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=begin.tzinfo)
    return round((end.timestamp() - begin.timestamp()) * 1000)


def _sum(parts: Iterable[tuple[float, float]]) -> float:
    return sum(value * hours for value, hours in parts)


def indicators(city: str, past: Past, zone: ZoneInfo, by: By, first_ms: int, last_ms: int) -> list[Indicators]:
    """Of each hour or day of which anything is known, oldest first."""
    periods: dict[float, tuple[list[tuple[int, CityWindow]], list[tuple[int, CityWindow]]]] = {}
    for which, held in enumerate((past.flow, past.emissions)):
        for start, window in sorted(held.items()):
            if first_ms <= start <= last_ms:
                periods.setdefault(_begin(start, zone, by).timestamp(), ([], []))[which].append((start, window))
    return [_one(city, datetime.fromtimestamp(begin, zone), by, *periods[begin]) for begin in sorted(periods)]


def _one(
    city: str, begin: datetime, by: By, flow: Sequence[tuple[int, CityWindow]], given_off: Sequence[tuple[int, CityWindow]]
) -> Indicators:
    def hours(start: int, w: CityWindow) -> float:
        return (w.end_ms - start) / 3_600_000

    told = flow or given_off
    out = Indicators(
        city=city, period_start=begin.isoformat(), period=by,
        known_pct=round(min(100.0, 100 * sum(w.end_ms - start for start, w in told) / _length_ms(begin, by)), 1),
        simulated=any(w.simulated for _, w in (*flow, *given_off)),
    )  # fmt: skip
    weights = [(w, hours(s, w) * (w.vehicle_km_h or 0.0)) for s, w in told]
    if (km := sum(weight for _, weight in weights)) > 0:
        out.vehicle_km = round(km, 1)
        out.coverage_pct = round(sum(w.coverage_pct * weight for w, weight in weights) / km, 1)
    index = [(w.travel_time_index, weight) for w, weight in weights if w.travel_time_index is not None]
    if (weight := sum(x for _, x in index)) > 0:
        out.travel_time_index = round(_sum((float(i), x) for i, x in index) / weight, 3)
    if lost := [(w.delay_veh_h, hours(s, w)) for s, w in flow if w.delay_veh_h is not None]:
        out.delay_veh_h = round(_sum((float(d), h) for d, h in lost), 1)
    for name in ("co2", "nox"):
        told_of = [(q, w, hours(s, w)) for s, w in given_off if (q := w.co2_gh if name == "co2" else w.nox_gh) is not None]
        if not told_of:
            continue
        km = sum((w.vehicle_km_h or 0.0) * h for _, w, h in told_of)
        for k, bound in enumerate(("", "_lo95", "_hi95")):
            grams = sum(q[k] * h for q, _, h in told_of)
            setattr(out, f"{name}_kg{bound}", round(grams / 1000, 3 if name == "nox" else 1))
            if name == "co2" and km > 0:
                setattr(out, f"co2_g_per_vehicle_km{bound}", round(grams / km, 1))
    return out


def as_csv(rows: Sequence[Indicators]) -> str:
    """RFC 4180, a header first; an empty cell: not known."""
    names = [f.name for f in msgspec.structs.fields(Indicators)]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(names)
    for row in rows:
        writer.writerow(["" if (v := getattr(row, n)) is None else str(v).lower() if isinstance(v, bool) else v for n in names])
    return out.getvalue()


def kind_of_day(day: datetime) -> str:
    """Days that are like each other: those of work, Saturdays, Sundays.

    >>> kind_of_day(datetime(2026, 11, 24)), kind_of_day(datetime(2026, 11, 22))
    ('workday', 'sunday')
    """
    return {5: "saturday", 6: "sunday"}.get(day.weekday(), "workday")


def day(past: Past, zone: ZoneInfo, at_ms: int) -> dict[str, object]:
    """The local day of a time, and the usual course of such a day: median, least and most of the earlier days of its kind that are kept."""
    begin = _begin(at_ms, zone, "day")
    first, last = round(begin.timestamp() * 1000), round(begin.timestamp() * 1000) + _length_ms(begin, "day")
    out: dict[str, object] = {"day": begin.date().isoformat(), "first_ms": first, "last_ms": last, "kind": kind_of_day(begin)}

    def of(start: int) -> datetime:
        return datetime.fromtimestamp(start / 1000, zone)

    for name, held in (("travel_time_index", past.flow), ("co2_kg_h", past.emissions)):
        now: list[list[float]] = []
        earlier: dict[int, dict[str, list[float]]] = {}
        for start, w in sorted(held.items()):
            value = w.travel_time_index if name == "travel_time_index" else w.co2_gh[0] / 1000 if w.co2_gh else None
            if value is None or start >= last:
                continue
            if start >= first:
                bounds = [w.co2_gh[1] / 1000, w.co2_gh[2] / 1000] if name == "co2_kg_h" and w.co2_gh else []
                now.append([start, round(value, 4), *(round(b, 3) for b in bounds)])
            elif kind_of_day(at := of(start)) == out["kind"]:
                step = (at.hour * 60 + at.minute) // USUAL_STEP_MIN
                earlier.setdefault(step, {}).setdefault(at.date().isoformat(), []).append(value)
        usual = []
        for step, days in sorted(earlier.items()):
            means = [sum(v) / len(v) for v in days.values()]
            if len(means) >= USUAL_DAYS:
                local = begin.replace(tzinfo=None) + timedelta(minutes=step * USUAL_STEP_MIN)
                start = round(local.replace(tzinfo=zone).timestamp() * 1000)
                usual.append([start, round(median(means), 4), round(min(means), 4), round(max(means), 4)])
        out[name] = {"now": now, "usual": usual, "days": len({d for days in earlier.values() for d in days})}
    return out
