"""The cities side by side: fluency and environmental effect of a day, as JSON and CSV, from the ``city-day`` records that the pictures hold."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Sequence

import msgspec
from aiohttp import web

from models.indicator_records import CityDay, Environment, Fluency
from models.indicators import compared, flat
from models.records import Record
from serve.http import Body, bad_query, json_answer, only
from serve.rest import CITIES, Served

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_decode = msgspec.json.Decoder(CityDay).decode
_encode = msgspec.json.Encoder().encode


class Side(Record, frozen=True, kw_only=True):
    """One city over the hours that all have in common."""

    city: str
    fluency: Fluency | None = None
    environment: Environment | None = None


class Compared(Record, frozen=True, kw_only=True):
    """The cities over the same local hours, those in which every one of them has nearly all minutes."""

    local_hours: list[int]
    cities: list[Side]


class Days(Record, frozen=True, kw_only=True):
    """Days of several cities."""

    cities: list[CityDay]
    missing: list[str]  #: asked for, and nothing is known of the day
    days: list[str]  #: that any of them has, newest first
    compared: Compared
    day: str | None = None  #: absent: none of them has any


def asked(request: web.Request) -> list[Served]:
    """
    Raises:
        web.HTTPBadRequest: a city that is not served here.
    """
    served = request.app[CITIES]
    text = request.query.get("city")
    names = sorted(served) if text is None else list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in served:
            raise bad_query(f"city: no city {name[:40]!r}; expected some of {', '.join(sorted(served))}, with commas between")
    return [served[name] for name in names]


def days_of(cities: Sequence[Served], day: str | None) -> Days:
    """Of a day, the newest that any of the cities has when none is named."""
    held = {s.city.name: s.picture.others["city-day"] for s in cities}
    days = sorted({key.rpartition(":")[2] for records in held.values() for key in records}, reverse=True)
    day = day or next(iter(days), None)
    found = []
    for name, records in held.items():
        with contextlib.suppress(KeyError, msgspec.MsgspecError):  # nothing of the day, or a record that is none
            found.append(_decode(records[f"{name}:{day}"].value))
    here = {record.city for record in found}
    side = compared(found)
    return Days(
        day=day,
        days=days,
        cities=found,
        missing=[name for name in held if name not in here],
        compared=Compared(
            local_hours=side.local_hours,
            cities=[Side(city=name, fluency=f, environment=e) for name, (f, e) in side.cities.items()],
        ),
    )


def table(found: Days, by: str) -> str:
    """Rows of CSV: of each city's day so far, of each of its hours, or of the hours in common."""
    rows: list[dict[str, object]] = []
    for record in found.cities:
        of: dict[str, object] = {"city": record.city, "day": record.day, "status": record.status, "simulated": bool(record.simulated)}
        if by == "hour":
            rows += [flat({**of, "hour_start": h.hour_start, "local_hour": h.local_hour}, h.fluency, h.environment) for h in record.hours]
        elif by == "day":
            more = {"window_end": record.window_end, "street_km": record.street_km}
            rows.append(flat({**of, **more}, record.fluency, record.environment))
        else:
            side = next(x for x in found.compared.cities if x.city == record.city)
            hours = " ".join(map(str, found.compared.local_hours))
            rows.append(flat({**of, "local_hours": hours}, side.fluency, side.environment))
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def _day(request: web.Request) -> str | None:
    day = request.query.get("day")
    if day is not None and not _DAY.fullmatch(day):
        raise bad_query(f"day = {day[:40]!r}, expected YYYY-MM-DD, by the clocks of the cities")
    return day


async def as_json(request: web.Request) -> web.Response:
    only(request, "city", "day")
    return json_answer(request, _encode(days_of(asked(request), _day(request))))


async def as_csv(request: web.Request) -> web.Response:
    only(request, "by", "city", "day")
    by = request.query.get("by", "day")
    if by not in ("day", "hour", "common"):
        raise bad_query(f"by = {by[:40]!r}, expected day, hour or common")
    body = table(days_of(asked(request), _day(request)), by).encode()
    return Body(body, "text/csv; charset=utf-8").answer(request)


def add_routes(app: web.Application) -> None:
    app.add_routes([web.get("/api/v1/city-days", as_json), web.get("/api/v1/city-days.csv", as_csv)])
