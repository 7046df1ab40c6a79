"""REST views of an archive: what the picture was. ``serve/history.py`` reads; here are the addresses and their answers, in columns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from aiohttp import web

from models.clock import rfc3339
from models.topics import PRODUCTS
from serve.history import MAX_SERIES_MS, MAX_VEHICLES_MS, MINUTE_MS, History
from serve.http import Body, bad_query, integer, interval, json_answer, only
from serve.rest import served

#: Answers that cannot change any more are kept, so many.
KEPT = 64
#: Questions that are worked on at a time; others wait.
AT_ONCE = 2
#: Windows of these are five minutes long, of the others one.
_SPAN_MS = {"emission-area": 5 * MINUTE_MS}
_encode = msgspec.json.Encoder().encode


class Archived:
    """An archive as it is served: few questions at a time, and answers kept that cannot change any more."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._room = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[tuple[str, str], Body] = OrderedDict()

    async def answer(self, request: web.Request, make: Callable[[], pa.Table], about: Mapping[str, object], until_ms: int) -> web.Response:
        """What ``make`` reads, in a thread. It does not change when the archive has gone beyond ``until_ms``."""
        city = served(request).city.name
        asked = (city, str(request.rel_url))
        if asked in self._kept:
            self._kept.move_to_end(asked)
            return self._kept[asked].answer(request)

        def work() -> tuple[Body, bool]:
            span, rows = self.history.span(city), make()
            body = Body(_encode({"city": city, **about, "rows": rows.num_rows, "columns": columns(rows)}), "application/json")
            return body, span is not None and until_ms + 10 * MINUTE_MS < span[1]

        async with self._room:
            body, stays = await asyncio.to_thread(work)
        if stays:
            self._kept[asked] = body
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return body.answer(request)


ARCHIVED = web.AppKey("archived", Archived)


def archived(request: web.Request) -> Archived:
    """
    Raises:
        web.HTTPNotFound: this gateway has no archive.
    """
    found = request.app.get(ARCHIVED)
    if found is None:
        raise web.HTTPNotFound(text="this gateway has no archive; it is started with --archive")
    return found


def columns(rows: pa.Table) -> dict[str, list[Any]]:
    """Times as Unix ms, numbers short; a column that is empty is left out."""
    out = {}
    for name in rows.column_names:
        column = rows.column(name)
        if column.null_count == len(column):
            continue
        if pa.types.is_timestamp(column.type):
            out[f"{name}_ms"] = pc.cast(column, pa.int64()).to_pylist()
        elif pa.types.is_floating(column.type):
            out[name] = pc.round(column, 5 if name.endswith("_deg") else 2).to_pylist()
        else:
            out[name] = column.to_pylist()
    return out


def _instant(request: web.Request) -> int:
    when = interval(request)
    if when is None or when[0] != when[1]:
        raise bad_query("datetime: one RFC 3339 time is needed")
    return when[0]


def _between(request: web.Request, longest_ms: int) -> tuple[int, int]:
    when = interval(request)
    if when is None or when[1] - when[0] > longest_ms:
        raise bad_query(f"datetime: two RFC 3339 times with / between are needed, at most {longest_ms // MINUTE_MS} min apart")
    return when


async def available(request: web.Request) -> web.Response:
    """Days of each product, and the first and last minute of states."""
    only(request)
    city, past = served(request).city.name, archived(request).history
    days, span = await asyncio.to_thread(past.products, city), await asyncio.to_thread(past.span, city)
    body = {"city": city, "days": days, "from": rfc3339(span[0]) if span else None, "to": rfc3339(span[1]) if span else None}
    return json_answer(request, _encode(body))


async def states(request: web.Request) -> web.Response:
    """State of every segment at a minute."""
    only(request, "datetime")
    city, past, at = served(request).city.name, archived(request), _instant(request)
    minute = at // MINUTE_MS * MINUTE_MS
    return await past.answer(request, lambda: past.history.states_at(city, minute), {"window_start": rfc3339(minute)}, minute)


async def series(request: web.Request) -> web.Response:
    """One segment over hours."""
    only(request, "datetime")
    city, past, (begin, end) = served(request).city.name, archived(request), _between(request, MAX_SERIES_MS)
    segment_id = request.match_info["segment_id"]
    return await past.answer(request, lambda: past.history.segment_series(city, segment_id, begin, end), {"segment_id": segment_id}, end)


async def vehicles(request: web.Request) -> web.Response:
    """Positions between two times, thinned out."""
    only(request, "datetime", "step_s")
    city, past, (begin, end) = served(request).city.name, archived(request), _between(request, MAX_VEHICLES_MS)
    step_ms = integer(request, "step_s", 5, 1, 60) * 1000
    return await past.answer(request, lambda: past.history.vehicles_between(city, begin, end, step_ms), {"step_s": step_ms // 1000}, end)


async def windows(request: web.Request) -> web.Response:
    """Records of any product with windows at a minute: areas, lines, emissions."""
    only(request, "datetime")
    city, past, at, product = served(request).city.name, archived(request), _instant(request), request.match_info["product"]
    if product not in PRODUCTS or "window_start" not in PRODUCTS[product].record.__struct_fields__:
        raise web.HTTPNotFound(text=f"no windows of {product[:40]!r} in the past")
    minute = at // MINUTE_MS * MINUTE_MS
    begin = minute - _SPAN_MS.get(product, MINUTE_MS) + MINUTE_MS
    about = {"product": product, "window_start": rfc3339(minute)}
    return await past.answer(request, lambda: past.history.latest(city, product, begin, minute), about, minute)


def add_routes(app: web.Application) -> None:
    """Everything under ``/history`` of a city."""
    base = "/api/v1/cities/{city}/history"
    app.add_routes(
        [
            web.get(base, available),
            web.get(base + "/states", states),
            web.get(base + "/segments/{segment_id}", series),
            web.get(base + "/vehicles", vehicles),
            web.get(base + "/records/{product}", windows),
        ]
    )
