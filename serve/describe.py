"""What the gateway says about its data: the AsyncAPI and OpenAPI documents, the catalogue, and the reference pages. All generated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from models import asyncapi
from models.topics import PRODUCTS
from serve import catalogue, docs, openapi
from serve.catalogue import Entry, Quality
from serve.http import Body, bad_query, json_answer, only
from serve.rest import CITIES, City, Served, served
from serve.state import Picture

#: The catalogue is made anew at most this often, s; feeds tell of their health every 15 s.
CATALOGUE_EVERY_S = 10.0
#: A city of which nothing is known yet lies anywhere.
WORLD = (-180.0, -90.0, 180.0, 90.0)
_SAMPLE = 500
_FORMATS = {"ttl": "text/turtle", "jsonld": "application/ld+json"}

_encode = msgspec.json.Encoder().encode


@dataclass
class Public:
    """How the gateway and the broker are reached by those who subscribe."""

    url: str | None = None  #: without a slash at its end; by default what the request came to
    kafka: str = "localhost:9092"  #: HOST:PORT
    prefix: str = ""  #: of the topics
    entries: dict[str, tuple[float, Entry]] = field(default_factory=dict)  #: what was said of each city, and when
    kept: dict[tuple[str, str, str], tuple[float, Body]] = field(default_factory=dict)  #: catalogues, by base, city and form

    def base(self, request: web.Request) -> str:
        return self.url or str(request.url.origin())

    def entry(self, s: Served) -> Entry:
        """What the catalogue says of a city, looked at anew at most every `CATALOGUE_EVERY_S`."""
        made = self.entries.get(s.city.name)
        if made is None or time.monotonic() - made[0] > CATALOGUE_EVERY_S:
            made = self.entries[s.city.name] = (time.monotonic(), entry(s.city, s.picture, self.prefix))
        return made[1]


PUBLIC = web.AppKey("public", Public)


class _Health(msgspec.Struct):
    feed: str
    state: str
    lag_p95_s: float | None = None
    reject_ratio: float | None = None


class _Feed(msgspec.Struct):
    feed: str | None = None


_decode_health = msgspec.json.Decoder(_Health).decode
_decode_feed = msgspec.json.Decoder(_Feed).decode


def quality(picture: Picture, product: str) -> Quality:
    """How good a product of a city is now, by the health of the feeds behind it: those that its newest records name, or all where they name none."""
    held = picture.current(product) if product != "segment" else []
    count = len(held) if product != "segment" else len(picture.segments)
    health = {h.feed: h for h in (_decode_health(f.value) for f in picture.health.values())}
    named = {f for f in (_decode_feed(value).feed for value in held[-_SAMPLE:]) if f} if product != "feed-health" else set()
    behind = [health[f] for f in sorted(named or health) if f in health]
    if not behind or product == "segment":
        return Quality(records=count)
    lags = [h.lag_p95_s for h in behind if h.lag_p95_s is not None]
    rejects = [h.reject_ratio for h in behind if h.reject_ratio is not None]
    complete = 1 - max(rejects) if rejects else None
    if product == "segment-state" and picture.segments:
        complete = sum(st.origin in ("measured", "blended") for st in picture.states.values()) / max(
            len(picture.segments), len(picture.states)
        )
    return Quality(
        timeliness_s=max(lags) if lags else None,
        availability=sum(h.state == "ok" for h in behind) / len(behind),
        completeness=complete,
        records=count,
    )


def entry(city: City, picture: Picture, prefix: str) -> Entry:
    """What the catalogue says of a city now."""
    _, boxes = picture.network()
    own = getattr(city, "box", None)
    if own is not None:
        box = (own.west, own.south, own.east, own.north)
    elif len(boxes):
        west, south = boxes[:, :2].min(axis=0).tolist()
        east, north = boxes[:, 2:].max(axis=0).tolist()
        box = (west, south, east, north)
    else:
        box = WORLD
    network = getattr(city, "network", None)
    base = f"/api/v1/cities/{city.name}"
    return Entry(
        name=city.name,
        title=city.title,
        licence=city.licence,
        attribution=city.attribution,
        network_licence=getattr(network, "licence", city.licence),
        box=box,
        topics=catalogue.topics_of(city.name, prefix),
        rest={product: f"{base}/records/{product}" if product != "segment" else f"{base}/segments" for product in PRODUCTS},
        log_time=picture.log_time,
        quality={product: quality(picture, product) for product in PRODUCTS},
    )


def wanted_form(request: web.Request) -> str:
    """ "ttl" or "jsonld": by the end of the path, else by what the client accepts, JSON-LD when it does not care.

    Raises:
        web.HTTPNotAcceptable: it takes neither.
    """
    if named := request.match_info.get("form"):
        return named
    best, chosen = 0.0, None
    accept = request.headers.get("Accept", "*/*")
    for part in accept.split(","):
        kind, *parameters = [x.strip().lower() for x in part.split(";")]
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            q = float(weight)
        except ValueError:
            q = 0.0
        form = {"text/turtle": "ttl", "text/*": "ttl"}.get(kind) or (
            "jsonld" if kind in ("application/ld+json", "application/json", "application/*", "*/*", "text/html") else None
        )
        if form and q > best:
            best, chosen = q, form
    if chosen is None:
        raise web.HTTPNotAcceptable(text=f"Accept: {accept[:80]}; offered are {' and '.join(_FORMATS.values())}")
    return chosen


async def catalog(request: web.Request) -> web.Response:
    """The catalogue of one city, or the merged one of all."""
    only(request)
    public, form = request.app[PUBLIC], wanted_form(request)
    name = request.match_info.get("city", "")
    chosen = [served(request)] if name else [s for _, s in sorted(request.app[CITIES].items())]
    base = public.base(request)
    kept = public.kept.get((base, name, form))
    if kept is None or time.monotonic() - kept[0] > CATALOGUE_EVERY_S:
        entries = [public.entry(s) for s in chosen]
        write: Callable[[Any], bytes] = catalogue.turtle if form == "ttl" else catalogue.json_ld

        def make() -> Body:
            return Body(
                write(catalogue.graph(entries, base=base, kafka_host=public.kafka, merged=not name)), f"{_FORMATS[form]}; charset=utf-8"
            )

        kept = (time.monotonic(), await asyncio.to_thread(make))
        if len(public.kept) > 100:  # a client may send any Host
            public.kept.clear()
        public.kept[base, name, form] = kept
    response = kept[1].answer(request)
    response.headers["Vary"] = "Accept, Accept-Encoding"
    response.headers["Link"] = f'<{base}/docs>; rel="describedby"'
    return response


async def async_document(request: web.Request) -> web.Response:
    only(request)
    public = request.app[PUBLIC]
    base = public.base(request)
    scheme, _, host = base.partition("://")
    chosen = [s.city for _, s in sorted(request.app[CITIES].items())]
    body = asyncapi.document(chosen, kafka_host=public.kafka, http_host=host, secure=scheme == "https", prefix=public.prefix)
    return json_answer(request, _encode(body))


async def open_document(request: web.Request) -> web.Response:
    only(request)
    base = request.app[PUBLIC].base(request)
    return json_answer(
        request,
        _encode(openapi.document(base, [name for name, _ in sorted(request.app[CITIES].items())])),
        content_type="application/vnd.oai.openapi+json",
    )


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers={"Cache-Control": "no-cache"})


async def docs_index(request: web.Request) -> web.Response:
    only(request)
    public = request.app[PUBLIC]
    entries = [public.entry(s) for _, s in sorted(request.app[CITIES].items())]
    return _html(docs.index(entries, base=public.base(request), kafka_host=public.kafka))


async def docs_page(request: web.Request) -> web.Response:
    """A page a product. ``city``: whose topic, licence and example are shown; the first by default."""
    only(request, "city")
    public, product = request.app[PUBLIC], request.match_info["product"]
    if product not in PRODUCTS:
        raise web.HTTPNotFound(text=f"no product {product[:40]!r}; /docs lists them")
    known: dict[str, Served] = request.app[CITIES]
    name = request.query.get("city") or next(iter(sorted(known)))
    if name not in known:
        raise bad_query(f"city = {name[:40]!r}, expected one of {', '.join(sorted(known))}")
    s = known[name]
    held = s.picture.current(product) if product != "segment" else []
    example = held[len(held) // 2] if held else None
    page = docs.page(
        PRODUCTS[product],
        entry(s.city, s.picture, public.prefix),
        sorted(known),
        example,
        base=public.base(request),
        kafka_host=public.kafka,
    )
    return _html(page)


def add_routes(app: web.Application) -> None:
    """Documents, catalogue and pages."""
    app.add_routes(
        [
            web.get("/api/v1/asyncapi.json", async_document),
            web.get("/api/v1/openapi.json", open_document),
            web.get("/catalog", catalog),
            web.get("/catalog.{form:ttl|jsonld}", catalog),
            web.get("/catalog/{city:[a-z0-9_-]+}", catalog),
            web.get("/catalog/{city:[a-z0-9_-]+}.{form:ttl|jsonld}", catalog),
            web.get("/docs", docs_index),
            web.get("/docs/{product}", docs_page),
        ]
    )
