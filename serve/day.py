"""A city's local day beside the usual: travel time index and CO2, minute by minute as far as the gateway remembers, else hour by hour as ``city-day`` tells.

The usual is the median, with the least and the most, of the same hour on earlier days of the same kind that ``city-day`` holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

import msgspec

from models.clock import parse_ms
from models.indicator_records import CityDay, Hour
from serve.past import Past

HOUR_MS = 3_600_000
#: The usual is told from so many earlier days of the same kind on, and taken from so many at most.
USUAL_DAYS, MOST_DAYS = 2, 20
#: An hour counts when at least this part of it is in the figures.
WHOLE = 0.8

Point = list[float]
decode = msgspec.json.Decoder(CityDay).decode


def kind_of_day(day: date) -> str:
    """Days that are like each other: those of work, Saturdays, Sundays.

    >>> kind_of_day(date(2026, 11, 24)), kind_of_day(date(2026, 11, 22))
    ('workday', 'sunday')
    """
    return {5: "saturday", 6: "sunday"}.get(day.weekday(), "workday")


def _index(hours: Iterable[Hour], least: float = 0.0) -> Iterator[tuple[Hour, Point]]:
    for h in hours:
        if h.fluency is not None and h.fluency.travel_time_index is not None and h.fluency.minutes >= 60 * least:
            yield h, [round(h.fluency.travel_time_index, 4)]


def _co2(hours: Iterable[Hour], least: float = 0.0) -> Iterator[tuple[Hour, Point]]:
    for h in hours:
        if h.environment is not None and h.environment.blocks >= max(1.0, 12 * least):
            q, told_h = h.environment.co2_total_kg, h.environment.blocks / 12
            yield h, [round(v / told_h, 3) for v in (q.value, q.lo95, q.hi95)]


def course(past: Past, days: Sequence[CityDay], zone: ZoneInfo, at_ms: int) -> dict[str, object]:
    """The local day of ``at_ms``. ``days``: what is known of the city's days, in any order."""
    today = datetime.fromtimestamp(at_ms / 1000, zone).date()
    begin = datetime(today.year, today.month, today.day, tzinfo=zone)
    end = datetime.combine(today + timedelta(days=1), datetime.min.time(), tzinfo=zone)
    first, last = round(begin.timestamp() * 1000), round(end.timestamp() * 1000)
    kind = kind_of_day(today)
    this = next((d for d in days if d.day == today.isoformat()), None)
    alike = sorted((d for d in days if d.day < today.isoformat() and kind_of_day(date.fromisoformat(d.day)) == kind), key=lambda d: d.day)[
        -MOST_DAYS:
    ]
    minutes: dict[str, list[Point]] = {
        "travel_time_index": [
            [start, round(w.travel_time_index, 4)] for start, w in sorted(past.flow.items()) if first <= start < last and w.travel_time_index is not None
        ],
        "co2_kg_h": [[start, *(round(v / 1000, 3) for v in w.co2_gh)] for start, w in sorted(past.emissions.items()) if first <= start < last and w.co2_gh is not None],
    }  # fmt: skip
    out: dict[str, object] = {"day": today.isoformat(), "first_ms": first, "last_ms": last, "kind": kind}
    for name, of in (("travel_time_index", _index), ("co2_kg_h", _co2)):
        earlier: dict[int, list[float]] = {}
        for d in alike:
            for h, point in of(d.hours, WHOLE):
                earlier.setdefault(h.local_hour, []).append(point[0])
        usual = [
            [round(begin.replace(hour=hour, minute=30).timestamp() * 1000), round(median(v), 4), min(v), max(v)]
            for hour, v in sorted(earlier.items())
            if len(v) >= USUAL_DAYS
        ]
        known_from = minutes[name][0][0] if minutes[name] else last
        hours = [[parse_ms(h.hour_start) + HOUR_MS // 2, *point] for h, point in of(this.hours if this else ())]
        now = [p for p in hours if p[0] + HOUR_MS // 2 <= known_from] + minutes[name]
        out[name] = {"now": now, "usual": usual, "days": len(alike)}
    return out
