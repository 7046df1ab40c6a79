"""The languages of the trade over HTTP: where each view is, in which forms, and how much of it. What a view says is in the module of its language."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from google.protobuf import json_format

from models.clock import rfc3339
from models.emission_records import EmissionSegment
from models.fluency import Los
from models.records import SegmentState, SensorObservation, Situation, VehiclePosition
from models.topics import PRODUCTS
from serve.http import Body, Box, bad_query, box, integer, number, only
from serve.records import selected
from serve.rest import Served, served
from serve.state import Picture
from serve.views import datex2, gtfs_rt, ngsi_ld, parquet, speeds

GTFS_RT = ("vehicle-positions", "alerts")
NGSI = ("TrafficFlowObserved", "EnvironmentObserved")
PROTOBUF = "application/x-protobuf"
PARQUET = "application/vnd.apache.parquet"
#: Things of one answer: by default, and at most. A segment takes a kilobyte or two of XML.
DEFAULT_LIMIT, MAX_LIMIT = 2_000, 10_000
#: An answer is made anew at most this often, s; so much is kept, bytes.
EVERY_S, KEEP_BYTES = 2.0, 64 * 1024 * 1024

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_state = msgspec.json.Decoder(SegmentState).decode
_sensor = msgspec.json.Decoder(SensorObservation).decode
_vehicle = msgspec.json.Decoder(VehiclePosition).decode
_situation = msgspec.json.Decoder(Situation).decode
_emission = msgspec.json.Decoder(EmissionSegment).decode
_ids = msgspec.json.Decoder(list[int]).decode

_GeometryOf = Callable[[str], dict[str, Any] | None]
#: By name of a DATEX II publication: the product that it tells of, and how.
DATEX2: dict[str, tuple[str, Callable[[datex2.Publisher, list[bytes], _GeometryOf], bytes | None]]] = {
    "measured-data": ("sensor-observation", lambda p, values, _: datex2.measured(p, decoded(_sensor, values))),
    "measurement-sites": ("sensor-observation", lambda p, values, _: datex2.sites(p, decoded(_sensor, values))),
    "elaborated-data": ("segment-state", lambda p, values, geometry_of: datex2.elaborated(p, decoded(_state, values), geometry_of)),
    "situations": ("situation", lambda p, values, geometry_of: datex2.situations(p, decoded(_situation, values), geometry_of)),
}
#: Answers by address and form, with when they were made; and one lock, so that many who ask at once have it made once.
_Kept = dict[tuple[str, ...], tuple[float, Body | None]]
VIEWS = web.AppKey("views", tuple[_Kept, asyncio.Lock])


def decoded(decode: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    """Records; one that does not keep its schema is left out: a view is not the place to complain of it."""
    out = []
    for value in values:
        try:
            out.append(decode(value))
        except msgspec.MsgspecError:
            continue
    return out


def negotiated(request: web.Request, *offered: str) -> str:
    """The first of the offered forms that the client takes.

    Raises:
        web.HTTPNotAcceptable: it takes none.
    """
    accept = request.headers.get("Accept", "*/*")
    kinds = {part.split(";")[0].strip().lower() for part in accept.split(",") if ";q=0" not in part.replace(" ", "") or ";q=0." in part}
    for form in offered:
        if kinds & {form, "*/*", f"{form.partition('/')[0]}/*"}:
            return form
    raise web.HTTPNotAcceptable(text=f"Accept: {accept[:80]}; offered are {' and '.join(offered)}")


async def answer(
    request: web.Request, form: str, content_type: str, make: Callable[[], bytes | None], following: str | None = None
) -> web.Response:
    """What ``make`` gives (in a thread, it must not look at the picture), kept for a moment; 204 where the standard has no way to say "nothing"."""
    kept, lock = request.app[VIEWS]
    key = (request.path, *(f"{k}={v}" for k, v in sorted(request.query.items())), form)
    async with lock:
        found = kept.get(key)
        if found is None or time.monotonic() - found[0] > EVERY_S:
            data = await asyncio.to_thread(make)
            body = await asyncio.to_thread(Body, data, content_type) if data is not None else None
            if sum(b.size for _, b in kept.values() if b) > KEEP_BYTES:
                kept.clear()
            found = kept[key] = (time.monotonic(), body)
    response = found[1].answer(request) if found[1] is not None else web.Response(status=204)
    response.headers["Vary"] = "Accept, Accept-Encoding"
    if following:
        response.headers["Link"] = f'<{following}>; rel="next"'
    return response


def some(request: web.Request, picture: Picture, product: str) -> list[bytes]:
    """The newest records of a product, within ``bbox``."""
    held, area = picture.current(product), box(request)
    return held if area is None else selected(held, area, None, picture.box_of)


def page(request: web.Request, held: Sequence[T]) -> tuple[list[T], str | None]:
    """As many as ``limit``, from ``offset`` on; and the address of the next page."""
    limit, offset = integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT), integer(request, "offset", 0, 0, 10**9)
    more = offset + limit < len(held)
    return list(held[offset : offset + limit]), str(request.rel_url.update_query(offset=str(offset + limit))) if more else None


def geometries(picture: Picture) -> Callable[[str], dict[str, Any] | None]:
    """Geometry of a segment, decoded when it is asked for; safe to use from a thread."""
    segments = dict(picture.segments)

    def of(segment_id: str) -> dict[str, Any] | None:
        found = segments.get(segment_id)
        geometry: dict[str, Any] | None = msgspec.json.decode(found.geometry) if found is not None else None
        return geometry

    return of


async def datex2_publication(request: web.Request) -> web.Response:
    """A DATEX II 3.7 publication."""
    only(request, "bbox", "limit", "offset")
    s, name = served(request), request.match_info["publication"]
    if name not in DATEX2:
        raise web.HTTPNotFound(text=f"no publication {name[:40]!r}; expected one of {', '.join(DATEX2)}")
    product, make = DATEX2[name]
    form = negotiated(request, "application/xml", "text/xml")
    publisher = datex2.Publisher(s.city.name, getattr(s.city, "country", None), s.picture.log_time or rfc3339(0), s.picture.simulated)
    geometry_of = geometries(s.picture)
    values, following = page(request, some(request, s.picture, product))
    return await answer(request, form, f"{form}; charset=utf-8", lambda: make(publisher, values, geometry_of), following)


async def gtfs_rt_feed(request: web.Request) -> web.Response:
    """A GTFS-Realtime feed: protobuf, or the same as JSON."""
    only(request, "bbox")
    s, name = served(request), request.match_info["feed"]
    form = negotiated(request, PROTOBUF, "application/octet-stream", "application/json")
    picture, log_ms = s.picture, s.picture.log_ms
    if name not in GTFS_RT:
        raise web.HTTPNotFound(text=f"no feed {name[:40]!r}; expected one of {', '.join(GTFS_RT)}")
    values = some(request, picture, "vehicle-position" if name == "vehicle-positions" else "situation")
    states = {i: (h.los, h.origin) for i, h in picture.states.items()} if name == "vehicle-positions" else {}

    def los_of(segment_id: str) -> Los | None:
        los, origin = states.get(segment_id, ("unknown", "none"))
        return los if origin in ("measured", "blended") else None  # type: ignore[return-value]

    def make() -> bytes:
        if name == "alerts":
            message = gtfs_rt.alerts(log_ms, decoded(_situation, values))
        else:
            message = gtfs_rt.positions(log_ms, decoded(_vehicle, values), los_of)
        if form == "application/json":
            return str(json_format.MessageToJson(message, preserving_proto_field_name=True)).encode()
        return bytes(message.SerializeToString())

    return await answer(request, form, form, make)


async def ngsi_ld_entities(request: web.Request) -> web.Response:
    """NGSI-LD entities of a type; normalized, or ``options=keyValues``."""
    only(request, "type", "options", "bbox", "limit", "offset")
    s, kind, options = served(request), request.query.get("type", NGSI[0]), request.query.get("options", "normalized")
    if kind not in NGSI:
        raise bad_query(f"type = {kind[:40]!r}, expected one of {', '.join(NGSI)}")
    if options not in ("normalized", "keyValues"):
        raise bad_query(f"options = {options[:40]!r}, expected normalized or keyValues")
    form = negotiated(request, "application/json" if options == "keyValues" else "application/ld+json", "application/json")
    city, geometry_of = s.city.name, geometries(s.picture)
    products = ("sensor-observation", "segment-state") if kind == NGSI[0] else ("emission-segment",)
    chosen, following = page(request, [(p, value) for p in products for value in some(request, s.picture, p)])

    def entity(product: str, value: bytes) -> ngsi_ld.Entity | None:
        match product:
            case "sensor-observation":
                return ngsi_ld.of_sensor(city, _sensor(value))
            case "segment-state":
                state = _state(value)
                return ngsi_ld.of_segment(city, state, geometry_of(state.segment_id))
            case _:
                emission = _emission(value)
                return ngsi_ld.of_emission(city, emission, geometry_of(emission.segment_id))

    def make() -> bytes:
        found = [e for e in decoded(lambda x: entity(*x), chosen) if e is not None]
        return _encode(found if options == "keyValues" else [ngsi_ld.normalized(e) for e in found])

    return await answer(request, form, form, make, following)


async def router_speeds(request: web.Request) -> web.Response:
    """Speeds for routers: OSRM's CSV, or JSON by OpenStreetMap way."""
    only(request, "bbox", "min_confidence")
    s, area, least = served(request), box(request), number(request, "min_confidence", 0.0, 1.0) or 0.0
    form = negotiated(request, "text/csv", "application/json")
    chosen = [(held.value, s.picture.segments[i].osm) for i, held in s.picture.states.items() if _in(s, i, area)]

    def make() -> bytes:
        streets = [speeds.Street(_state(value), _ids(ways), _ids(nodes)) for value, (ways, nodes) in chosen]
        return (
            speeds.osrm(streets, least) if form == "text/csv" else _encode({"city": s.city.name, "speeds": speeds.by_way(streets, least)})
        )

    return await answer(request, form, form, make)


async def parquet_file(request: web.Request) -> web.Response:
    """The newest records of a product, or the network, as Parquet."""
    only(request, "bbox")
    s, product = served(request), request.match_info["product"]
    if product not in PRODUCTS:
        raise web.HTTPNotFound(text=f"no records of {product[:40]!r}; expected one of {', '.join(sorted(PRODUCTS))}")
    form = negotiated(request, PARQUET, "application/octet-stream")
    if product == "segment":
        area = box(request)
        values = [s.picture.segment_record(i) for i in s.picture.network()[0] if _in(s, i, area)]
    else:
        values = some(request, s.picture, product)
    licence = getattr(getattr(s.city, "network", None), "licence", s.city.licence) if product == "segment" else s.city.licence
    return await answer(request, form, form, lambda: parquet.file(product, values, licence, s.city.attribution))


def _in(s: Served, segment_id: str, area: Box | None) -> bool:
    at = s.picture.box_of(segment_id)
    if at is None or area is None:
        return at is not None
    return at[0] <= area[2] and at[2] >= area[0] and at[1] <= area[3] and at[3] >= area[1]


def add_routes(app: web.Application) -> None:
    """Views of each city."""
    app[VIEWS] = ({}, asyncio.Lock())
    base = "/api/v1/cities/{city}"
    app.add_routes(
        [
            web.get(base + "/datex2/{publication}", datex2_publication),
            web.get(base + "/gtfs-rt/{feed}", gtfs_rt_feed),
            web.get(base + "/ngsi-ld/entities", ngsi_ld_entities),
            web.get(base + "/speeds", router_speeds),
            web.get(base + "/records/{product}.parquet", parquet_file),
        ]
    )
