"""REST views of what has been: the picture at a time, a segment's last hours, a route's string-line diagram, the day beside the usual, cities compared."""

from __future__ import annotations

import asyncio
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from models.clock import parse_ms, rfc3339
from serve.http import bad_query, interval, json_answer, only
from serve.indicators import Indicators, as_csv, day, indicators
from serve.rest import CITIES, Served, served
from serve.stringline import diagram

#: What a segment or a route is told for unless another time is asked for, ms.
LAST_MS = 2 * 3_600_000
#: Cities are compared over so long unless another time is asked for, ms.
COMPARED_MS = {"hour": 24 * 3_600_000, "day": 8 * 86_400_000}

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


def _zone(s: Served) -> ZoneInfo:
    return ZoneInfo(s.city.timezone)


async def span(request: web.Request) -> web.Response:
    """From when to when there is something to show."""
    only(request)
    s = served(request)
    kept = s.picture.past.span()
    body = {
        "city": s.city.name,
        "timezone": s.city.timezone,
        "from": rfc3339(kept[0]) if kept else None,
        "to": rfc3339(kept[1]) if kept else None,
    }
    return json_answer(request, _encode(body))


async def picture_at(request: web.Request) -> web.Response:
    """The picture at a time, in the columns of the live one."""
    only(request, "datetime")
    s = served(request)
    at, past = _at(request, s), s.picture.past

    def make() -> bytes:
        return _encode(
            {"city": s.city.name, "at": rfc3339(at), "network": s.network_tag, "simulated": s.picture.simulated, "states": past.states_at(at), "vehicles": past.vehicles_at(at)}
        )  # fmt: skip

    return json_answer(request, await asyncio.to_thread(make))


async def segment_series(request: web.Request) -> web.Response:
    """Finals of a segment in columns, of the last two hours unless another time is asked for."""
    only(request, "datetime")
    s, segment_id = served(request), request.match_info["segment_id"]
    if segment_id not in s.picture.segments:
        raise web.HTTPNotFound(text=f"no segment {segment_id[:80]!r} in {s.city.name}")
    first, last = _between(request, s)
    given_off = s.picture.others["emission-segment"].get(segment_id)
    body = {
        "segment_id": segment_id,
        **s.picture.past.series(segment_id, first, last),
        "emission": msgspec.Raw(given_off.value) if given_off else None,
    }
    return json_answer(request, _encode(body))


async def route(request: web.Request) -> web.Response:
    """A route's string-line diagram, of the last two hours unless another time is asked for."""
    only(request, "datetime", "direction_id")
    s, route_id = served(request), request.match_info["route_id"]
    direction = request.query.get("direction_id")
    if direction not in (None, "0", "1"):
        raise bad_query(f"direction_id = {direction[:20]!r}, expected 0 or 1")
    first, last = _between(request, s)

    def name_of(segment_id: str) -> str | None:
        held = s.picture.segments.get(segment_id)
        return _decode_named(b"{%b}" % held.properties).name if held is not None else None

    way = None if direction is None else int(direction)
    body = diagram(s.picture.past, route_id, way, first, last, name_of)
    return json_answer(request, _encode({**body, "first_ms": first, "last_ms": last, "simulated": s.picture.simulated}))


async def day_of(request: web.Request) -> web.Response:
    """Travel time index and emissions of a local day beside the usual, and today's unless another day is asked for."""
    only(request, "datetime")
    s = served(request)
    return json_answer(
        request, _encode({"city": s.city.name, "simulated": s.picture.simulated, **day(s.picture.past, _zone(s), _at(request, s))})
    )


async def emissions(request: web.Request) -> web.Response:
    """Latest CO2 of every segment in columns: kilograms an hour and kilometre of street, with the bounds that hold for 95 %."""
    only(request)
    s = served(request)
    held = list(s.picture.others["emission-segment"].values())

    def make() -> bytes:
        ids, rows, newest = [], [], 0
        for h in held:
            e = _decode_emission(h.value)
            street = s.picture.segments.get(e.segment_id)
            if street is None or street.length_m <= 0:
                continue
            newest = max(newest, parse_ms(e.window_end))
            q, km = e.co2_total, street.length_m
            ids.append(e.segment_id)
            rows.append((q.value / km, q.lo95 / km, q.hi95 / km))  # g/h over metres is kg/h over kilometres
        columns = {name: [round(r[k], 3) for r in rows] for k, name in enumerate(("co2_kg_h_km", "co2_kg_h_km_lo95", "co2_kg_h_km_hi95"))}
        return _encode({"city": s.city.name, "window_end": rfc3339(newest) if newest else None, "segment_id": ids, **columns})

    return json_answer(request, await asyncio.to_thread(make))


async def compared(request: web.Request) -> web.Response:
    """The two indicators of several cities by local hour or day, as JSON or CSV."""
    only(request, "by", "city", "datetime", "f")
    by, form, known = request.query.get("by", "hour"), request.query.get("f", "json"), request.app[CITIES]
    if by not in ("hour", "day"):
        raise bad_query(f"by = {by[:20]!r}, expected hour or day")
    if form not in ("json", "csv"):
        raise bad_query(f"f = {form[:20]!r}, expected json or csv")
    names = sorted({c for c in request.query.get("city", ",".join(known)).split(",") if c})
    if not names or any(name not in known for name in names):
        raise bad_query(f"city = {request.query.get('city', '')[:80]!r}, expected some of {', '.join(sorted(known))}")
    when, rows = interval(request), list[Indicators]()
    for name in names:
        s = known[name]
        first, last = when or (s.picture.log_ms - COMPARED_MS[by], s.picture.log_ms)
        rows += indicators(name, s.picture.past, _zone(s), by, first, last)  # type: ignore[arg-type]
    if form == "csv":
        headers = {"Content-Disposition": f'attachment; filename="indicators-by-{by}.csv"', "Cache-Control": "no-cache"}
        return web.Response(text=as_csv(rows), content_type="text/csv", charset="utf-8", headers=headers)
    return json_answer(request, _encode({"by": by, "cities": names, "rows": rows}))


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
            web.get("/api/v1/indicators", compared),
        ]
    )
