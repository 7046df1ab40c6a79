"""REST views of what has been, as the page needs them: the picture at a time, a segment's last hours, a route's string-line diagram, the day beside the usual.

Told from the gateway's own memory as far as it goes, and from the archive beyond, where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from models.clock import parse_ms, rfc3339
from serve import recalled
from serve.archived import ARCHIVED
from serve.day import course, decode
from serve.history import MAX_SERIES_MS, History
from serve.http import bad_query, interval, json_answer, only
from serve.past import MINUTE_MS, Past
from serve.rest import Served, served
from serve.stringline import diagram

#: What a segment or a route is told for unless another time is asked for, ms.
LAST_MS = 2 * 3_600_000

#: Times beyond are refused, ms.
END_MS = 4_102_444_800_000

_encode = msgspec.json.Encoder().encode


class _Emission(msgspec.Struct):
    class Bounded(msgspec.Struct):
        value: float
        lo95: float
        hi95: float

    segment_id: str
    co2_total: Bounded
    window_end: str


_decode_emission = msgspec.json.Decoder(_Emission).decode


class _Named(msgspec.Struct):
    name: str | None = None


_decode_named = msgspec.json.Decoder(_Named).decode


def _at(request: web.Request, s: Served) -> int:
    """The time that is asked for, ms; that of the picture by default."""
    when = interval(request)
    if when is None:
        return s.picture.log_ms
    if when[0] != when[1] or not 0 <= when[0] < END_MS:
        raise bad_query("datetime: expected one RFC 3339 time between 1970 and 2100, not an interval")
    return when[0]


def _between(request: web.Request, s: Served) -> tuple[int, int]:
    return interval(request) or (s.picture.log_ms - LAST_MS, s.picture.log_ms)


def _archive(request: web.Request) -> History | None:
    held = request.app.get(ARCHIVED)
    return held.history if held is not None else None


def _raws(values: Iterable[bytes]) -> list[msgspec.Raw]:
    return [msgspec.Raw(v) for v in values]


def _remembers(past: Past, first_ms: int) -> bool:
    kept = past.span()
    return kept is not None and kept[0] <= first_ms + MINUTE_MS


async def span(request: web.Request) -> web.Response:
    """From when to when there is something to show, and the days of the archive."""
    only(request)
    s, archive = served(request), _archive(request)
    ends, days = s.picture.past.span(), list[str]()
    if archive is not None:
        days = await asyncio.to_thread(archive.days, s.city.name)
        older = await asyncio.to_thread(archive.span, s.city.name)
        ends = (min(older[0], ends[0]) if ends else older[0], max(older[1], ends[1]) if ends else older[1]) if older else ends
    body = {
        "city": s.city.name,
        "timezone": s.city.timezone,
        "days": days,
        "from": rfc3339(ends[0]) if ends else None,
        "to": rfc3339(ends[1]) if ends else None,
    }
    return json_answer(request, _encode(body))


async def picture_at(request: web.Request) -> web.Response:
    """The picture at a time, in the columns of the live one, with situations and lines as they were last told."""
    only(request, "datetime")
    s, archive = served(request), _archive(request)
    at, past = _at(request, s), s.picture.past

    def make() -> bytes:
        if archive is not None and not _remembers(past, at):
            found = recalled.picture(archive, s.city.name, at)
        else:
            found = {
                "simulated": s.picture.simulated,
                "states": past.states_at(at),
                "vehicles": past.vehicles_at(at),
                "records": {"situation": _raws(past.situations.at(at)), "line-fluency": _raws(past.lines.at(at))},
            }
        return _encode({"city": s.city.name, "at": rfc3339(at), "network": s.network_tag, **found})

    return json_answer(request, await asyncio.to_thread(make))


async def segment_series(request: web.Request) -> web.Response:
    """Finals of a segment in columns, of the last two hours unless another time is asked for."""
    only(request, "datetime")
    s, segment_id, archive = served(request), request.match_info["segment_id"], _archive(request)
    if segment_id not in s.picture.segments:
        raise web.HTTPNotFound(text=f"no segment {segment_id[:80]!r} in {s.city.name}")
    first, last = _between(request, s)
    if archive is not None and not _remembers(s.picture.past, first):
        if last - first > MAX_SERIES_MS:
            raise bad_query(f"datetime: at most {MAX_SERIES_MS // MINUTE_MS} min")
        found = await asyncio.to_thread(recalled.series, archive, s.city.name, segment_id, first, last)
        end = max(found["window_starts_ms"], default=first - 1)
        found = recalled.joined(found, s.picture.past.series(segment_id, end + 1, last))
    else:
        found = s.picture.past.series(segment_id, first, last)
    given_off = s.picture.others["emission-segment"].get(segment_id)
    return json_answer(
        request, _encode({"segment_id": segment_id, **found, "emission": msgspec.Raw(given_off.value) if given_off else None})
    )


async def route(request: web.Request) -> web.Response:
    """A route's string-line diagram, of the last two hours unless another time is asked for."""
    only(request, "datetime", "direction_id")
    s, route_id, archive = served(request), request.match_info["route_id"], _archive(request)
    direction = request.query.get("direction_id")
    if direction not in (None, "0", "1"):
        raise bad_query(f"direction_id = {direction[:20]!r}, expected 0 or 1")
    first, last = _between(request, s)
    way = None if direction is None else int(direction)

    def name_of(segment_id: str) -> str | None:
        held = s.picture.segments.get(segment_id)
        return _decode_named(b"{%b}" % held.properties).name if held is not None else None

    def make() -> bytes:
        past = s.picture.past
        if archive is not None and not _remembers(past, first) and last - first <= LAST_MS:
            past = recalled.fixes(archive, s.city.name, route_id, first, last)
        with past.renumbering:
            body = diagram(past, route_id, way, first, last, name_of)
        return _encode({**body, "first_ms": first, "last_ms": last, "simulated": s.picture.simulated})

    return json_answer(request, await asyncio.to_thread(make))


async def day_of(request: web.Request) -> web.Response:
    """Travel time index and CO2 of a local day beside the usual; of today unless another day is asked for."""
    only(request, "datetime")
    s, days = served(request), []
    for held in s.picture.others["city-day"].values():
        with contextlib.suppress(msgspec.MsgspecError):  # a record that is none
            days.append(decode(held.value))
    told = course(s.picture.past, days, ZoneInfo(s.city.timezone), _at(request, s))
    return json_answer(request, _encode({"city": s.city.name, "simulated": s.picture.simulated, **told}))


def _per_km(s: Served, told: Iterable[tuple[str, tuple[float, float, float]]]) -> dict[str, list[Any]]:
    """Columns of streets whose length is known: g/h over metres is kg/h over kilometres."""
    columns: dict[str, list[Any]] = {"segment_id": [], "co2_kg_h_km": [], "co2_kg_h_km_lo95": [], "co2_kg_h_km_hi95": []}
    for segment_id, grams in told:
        street = s.picture.segments.get(segment_id)
        if street is not None and street.length_m > 0:
            for column, value in zip(columns.values(), (segment_id, *(round(g / street.length_m, 3) for g in grams)), strict=True):
                column.append(value)
    return columns


async def emissions(request: web.Request) -> web.Response:
    """CO2 of every segment in columns, the latest unless another time is asked for: kilograms an hour and kilometre of street, with the bounds that hold for 95 %."""
    only(request, "datetime")
    s, archive = served(request), _archive(request)
    at, past = (None if interval(request) is None else _at(request, s)), s.picture.past
    held = list(s.picture.others["emission-segment"].values())

    def make() -> bytes:
        if at is None:
            given_off = [_decode_emission(h.value) for h in held]
            ends = max((parse_ms(e.window_end) for e in given_off), default=None)
            told = [(e.segment_id, (e.co2_total.value, e.co2_total.lo95, e.co2_total.hi95)) for e in given_off]
        elif archive is not None and not _remembers(past, at):
            ends, told = at, recalled.emissions(archive, s.city.name, at)
        else:
            ids, figures = past.co2_at(at)
            ends, told = at, list(zip(ids, map(tuple, figures.tolist()), strict=True))
        return _encode({"city": s.city.name, "window_end": rfc3339(ends) if ends else None, **_per_km(s, told)})

    return json_answer(request, await asyncio.to_thread(make))


def add_routes(app: web.Application) -> None:
    base = "/api/v1/cities/{city}"
    app.add_routes(
        [
            web.get(base + "/past", span),
            web.get(base + "/past/picture", picture_at),
            web.get(base + "/past/segments/{segment_id}", segment_series),
            web.get(base + "/past/routes/{route_id}", route),
            web.get(base + "/past/day", day_of),
            web.get(base + "/emissions", emissions),
        ]
    )
