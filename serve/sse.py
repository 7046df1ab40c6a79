"""Server-sent events and WebSockets: the same events, put in two ways. What is told and when is in ``listen``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from models.topics import PRODUCTS
from serve.http import bad_query, box, number
from serve.hub import Hub
from serve.listen import Asked, listen
from serve.ring import Wanted

#: Products that are streamed unless others are asked for.
STREAMED = ("feed-health", "segment-state", "vehicle-position")
#: Every product that can be. The network is too much for an event stream: it is in the tiles.
STREAMABLE = frozenset(PRODUCTS) - {"segment"}
#: A single write that takes longer than this means that the client is gone or does not read, s.
WRITE_TIMEOUT_S = 20.0
#: Clients of one city at once; more are refused with 503.
MAX_CLIENTS = 2_000
MAX_ROUTES = 100
#: What a stream's query may hold.
PARAMETERS = ("product", "bbox", "route", "min_confidence", "snapshot", "last_event_id")
#: How many missed pongs end a WebSocket is aiohttp's matter; this is the pause between pings, s.
PING_S = 20.0

_encode = msgspec.json.Encoder().encode


class SseSink:
    """Events as text/event-stream.

    >>> SseSink(None).frame("feed-health", b"{}", "f0:1")
    b'id: f0:1\\nevent: feed-health\\ndata: {}\\n\\n'
    """

    key = "sse"

    def __init__(self, response: web.StreamResponse | None) -> None:
        self.response = response

    def frame(self, name: str, data: bytes, event_id: str | None = None) -> bytes:
        head = f"id: {event_id}\nevent: {name}\ndata: " if event_id is not None else f"event: {name}\ndata: "
        return b"%b%b\n\n" % (head.encode(), data)

    def pack(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)

    async def write(self, pieces: Sequence[bytes]) -> None:
        assert self.response is not None
        await asyncio.wait_for(self.response.write(b"".join(pieces) if len(pieces) > 1 else pieces[0]), WRITE_TIMEOUT_S)


class WsSink:
    """Events as text messages, each a JSON object.

    >>> WsSink(None).frame("feed-health", b"{}", "f0:1")
    b'{"event":"feed-health","id":"f0:1","data":{}}'
    """

    key = "ws"

    def __init__(self, socket: web.WebSocketResponse | None) -> None:
        self.socket = socket

    def frame(self, name: str, data: bytes, event_id: str | None = None) -> bytes:
        place = b',"id":%b' % _encode(event_id) if event_id is not None else b""
        return b'{"event":%b%b,"data":%b}' % (_encode(name), place, data)

    def pack(self, frames: Sequence[bytes]) -> list[str]:
        return [frame.decode() for frame in frames]

    async def write(self, pieces: Sequence[list[str]]) -> None:
        assert self.socket is not None
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            for piece in pieces:
                for text in piece:
                    await self.socket.send_str(text)


def asked(request: web.Request) -> Asked:
    """What the query and the headers ask for.

    Raises:
        web.HTTPBadRequest: a parameter that is not understood.
    """
    query = request.query
    products = frozenset(p for p in query.get("product", ",".join(STREAMED)).split(",") if p)
    if not products or not products <= STREAMABLE:
        raise bad_query(f"product = {query.get('product', '')[:80]!r}, expected some of {', '.join(sorted(STREAMABLE))}")
    routes = frozenset(r for r in query.get("route", "").split(",") if r)
    if ("route" in query and not routes) or len(routes) > MAX_ROUTES:
        raise bad_query(f"route = {query['route'][:80]!r}, expected 1-{MAX_ROUTES} GTFS route_ids, with commas between")
    snapshot = query.get("snapshot", "false")
    if snapshot not in ("true", "false"):
        raise bad_query(f"snapshot = {snapshot[:40]!r}, expected true or false")
    confidence = number(request, "min_confidence", 0.0, 1.0)
    last_id = request.headers.get("Last-Event-ID") or query.get("last_event_id")
    return Asked(Wanted(products, box(request), routes, confidence), last_id, snapshot == "true")


def _room(hubs: Sequence[Hub]) -> None:
    if any(len(hub.listeners) >= MAX_CLIENTS for hub in hubs):
        raise web.HTTPServiceUnavailable(text="too many stream clients", headers={"Retry-After": "30"})


async def serve_sse(request: web.Request, hubs: Sequence[Hub], *, named: bool = False) -> web.StreamResponse:
    """Answer one request until the client leaves, is cut, or the gateway stops.

    Raises:
        web.HTTPBadRequest: a parameter that is not understood.
        web.HTTPServiceUnavailable: too many clients.
    """
    wish = asked(request)
    _room(hubs)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    try:
        await asyncio.wait_for(response.write(b"retry: 2000\n\n"), WRITE_TIMEOUT_S)
        await listen(hubs, wish, SseSink(response), named=named)
    except TimeoutError:
        hubs[0].cut += 1
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass
    return response


async def serve_ws(request: web.Request, hubs: Sequence[Hub], *, named: bool = False) -> web.WebSocketResponse:
    """As ``serve_sse``, over a WebSocket. What the client sends is not read, but for its closing."""
    wish = asked(request)
    _room(hubs)
    socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=4096, compress=False)
    await socket.prepare(request)
    telling = asyncio.create_task(listen(hubs, wish, WsSink(socket), named=named))
    hearing = asyncio.create_task(_until_closed(socket))
    try:
        await asyncio.wait({telling, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            cut = telling.result()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)  # the client's answer to the close is for ``close`` to read
            await asyncio.wait_for(socket.close(code=WSCloseCode.TRY_AGAIN_LATER if cut else WSCloseCode.GOING_AWAY), WRITE_TIMEOUT_S)
    except TimeoutError:
        hubs[0].cut += 1
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass
    finally:
        for task in (telling, hearing):
            task.cancel()
        await asyncio.gather(telling, hearing, return_exceptions=True)
    return socket


async def _until_closed(socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in socket:
            if message.type in (WSMsgType.ERROR, WSMsgType.CLOSE):
                return
