"""Why a segment has its value, over REST."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

import msgspec
from aiohttp import web
from aiokafka.errors import KafkaError

from models.clock import parse_ms
from models.explain import STANDS, WINDOW_MS, WORDS, Evidence, decode, explain
from serve.http import bad_query, json_answer, only
from serve.rest import served

#: Decoded minutes that are kept, of all cities together.
KEPT = 40


class EvidenceLog(Protocol):
    """Where the evidence of past minutes is."""

    async def read(self, city: str, first: int, last: int) -> list[bytes]: ...


class Explainer:
    """Reads what a question needs, and keeps the minutes that were asked for last."""

    def __init__(self, log: EvidenceLog) -> None:
        self.log = log
        self._kept: OrderedDict[tuple[str, int], list[Evidence]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def heard(self, city: str, window: int) -> list[Evidence]:
        """Evidence of the minutes whose records may stand in ``window``."""
        async with self._lock:
            wanted = range(window - STANDS + 1, window + 1)
            lacking = [w for w in wanted if (city, w) not in self._kept]
            if lacking:
                found: dict[int, list[Evidence]] = {}
                for value in await self.log.read(city, lacking[0], lacking[-1]):
                    e = decode(value)
                    found.setdefault(e.window, []).append(e)
                for w, parts in found.items():
                    if len(parts) == parts[0].parts:  # the newest minute may be half written
                        self._kept[city, w] = parts
            out = [e for w in wanted for e in self._kept.get((city, w), [])]
            for w in wanted:
                if (city, w) in self._kept:
                    self._kept.move_to_end((city, w))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return out


EXPLAINER = web.AppKey("explainer", Explainer)


async def explanation(request: web.Request) -> web.Response:
    """``time``: RFC 3339; without it the newest minute that is final. ``lang``: of the sentences."""
    only(request, "time", "lang")
    s, segment_id = served(request), request.match_info["segment_id"]
    if segment_id not in s.picture.segments:
        raise web.HTTPNotFound(text=f"no segment {segment_id[:80]!r} in {s.city.name}")
    text = request.query.get("time")
    try:
        newest = max((e.order[0] for e in s.picture.states.values()), default=0)
        window = (newest if text is None else parse_ms(text)) // WINDOW_MS
    except ValueError as e:
        raise bad_query(f"time = {text!s:.40}, expected RFC 3339 like 2026-03-10T05:30:00Z") from e
    language = request.query.get("lang", "en")
    if language not in WORDS:
        raise bad_query(f"lang = {language[:20]!r}, expected some of {', '.join(WORDS)}")
    if EXPLAINER not in request.app:
        raise web.HTTPServiceUnavailable(text="this gateway has no log to explain from")
    try:
        heard = await request.app[EXPLAINER].heard(s.city.name, window)
    except (KafkaError, TimeoutError) as e:
        raise web.HTTPServiceUnavailable(text="the log does not answer; try again") from e
    if text is None:  # the newest states are provisional, and evidence is of final ones
        window = max((e.window for e in heard), default=window)
    found = explain(segment_id, window, heard, language)
    if found is None:
        raise web.HTTPNotFound(
            text=f"nothing was said of {segment_id[:80]!r} in the {STANDS} minutes before; evidence is kept for two days"
        )
    return json_answer(request, msgspec.json.encode(found))


def add_routes(app: web.Application, log: EvidenceLog | None) -> None:
    if log is not None:
        app[EXPLAINER] = Explainer(log)
    app.add_routes([web.get("/api/v1/cities/{city}/segments/{segment_id}/explain", explanation)])
