"""Server-sent events: every change of a city's picture, told to any number of clients.

A batch of records is encoded once and the same bytes are handed to every client that asked for the same products. A client has a bounded queue: one that reads
too slowly is told so (``event: overflow``) and cut, never buffered without end; it comes back by itself and loads the picture anew.

The id of an event says where in the log the client stands: offsets last read, a letter and number for topic and partition (v vehicle-position, s segment-state,
f feed-health), e.g. ``f0:17,s0:90210,v0:4711``. It is made so that a later version can resume from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from aiohttp import web

from serve.state import Applied, mark_text

#: Products that are streamed, each under its name as the event's type.
STREAMED = ("vehicle-position", "segment-state", "feed-health")
#: A client that is this far behind is cut, bytes. 2,500 records a second of 500 bytes fill it in about 7 s.
QUEUE_BYTES = 8 * 1024 * 1024
#: Pause between heartbeats, s. A page says "stale" when it has missed two.
HEARTBEAT_S = 4.0
#: A single write that takes longer than this means that the client is gone or does not read, s.
WRITE_TIMEOUT_S = 20.0
#: Clients of one city at once; more are refused with 503.
MAX_CLIENTS = 2_000

_encode = msgspec.json.Encoder().encode


def event(name: str, data: bytes, event_id: str | None = None) -> bytes:
    """
    >>> event("feed-health", b"{}", "f0:1")
    b'id: f0:1\\nevent: feed-health\\ndata: {}\\n\\n'
    """
    head = f"id: {event_id}\n".encode() if event_id is not None else b""
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), data)


class Client:
    """One listener: what it asked for, and what waits for it."""

    def __init__(self, products: frozenset[str], limit: int = QUEUE_BYTES) -> None:
        self.products = products
        self.limit = limit
        self.waiting = 0  #: bytes
        self.overflowed = False
        self.last_id = ""
        self._queue: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def put(self, data: bytes, last_id: str) -> None:
        """Queue bytes, or drop all that waits when that would be too much: then the client must go."""
        if self.overflowed or not data:
            return
        if self.waiting + len(data) > self.limit:
            self.overflowed = True
            self._queue.clear()
            self.waiting = 0
        else:
            self._queue.append(data)
            self.waiting += len(data)
            self.last_id = last_id
        self._wake.set()

    async def take(self, timeout_s: float) -> bytes:
        """Everything that waits, as one piece; empty after ``timeout_s`` without anything."""
        if not self._queue and not self.overflowed:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout_s)
        data = b"".join(self._queue)
        self._queue.clear()
        self.waiting = 0
        return data

    def wake(self) -> None:
        """Let a waiting ``take`` return now."""
        self._wake.set()


class Hub:
    """Every client of one city."""

    def __init__(self, status: Callable[[], dict[str, object]]) -> None:
        self.status = status  #: what the heartbeat says
        self.clients: set[Client] = set()
        self.marks: dict[tuple[str, int], int] = {}  #: (product, partition) -> offset last told
        self.cut = 0  #: clients cut because they were too slow
        self.closed = False

    def publish(self, batch: Iterable[tuple[Applied, int, int]]) -> None:
        """Tell a batch of (record, partition, offset), in order.

        Records of the log that do not replace what is held (older, or written again) are told too: the stream is the topic as it is.
        """
        frames: list[tuple[str, bytes]] = []
        for applied, partition, offset in batch:
            if applied.product in STREAMED:
                self.marks[applied.product, partition] = max(offset, self.marks.get((applied.product, partition), -1))
                if self.clients:
                    frames.append((applied.product, event(applied.product, applied.value, mark_text(self.marks))))
        if frames:
            self._send(frames, mark_text(self.marks))

    def announce(self, name: str) -> None:
        """Tell every client an event of the gateway itself, with the status as data."""
        self._send([("", event(name, _encode(self.status())))], "")

    def _send(self, frames: list[tuple[str, bytes]], last_id: str) -> None:
        joined: dict[frozenset[str], bytes] = {}
        for client in self.clients:
            if client.products not in joined:
                joined[client.products] = b"".join(data for product, data in frames if not product or product in client.products)
            client.put(joined[client.products], last_id or client.last_id)

    def close(self) -> None:
        """End every stream; used when the gateway stops."""
        self.closed = True
        for client in self.clients:
            client.wake()

    async def serve(self, request: web.Request, products: frozenset[str], limit: int = QUEUE_BYTES) -> web.StreamResponse:
        """Answer one request until the client leaves, is cut, or the gateway stops.

        Raises:
            web.HTTPServiceUnavailable: too many clients.
        """
        if len(self.clients) >= MAX_CLIENTS:
            raise web.HTTPServiceUnavailable(text="too many stream clients", headers={"Retry-After": "30"})
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        client = Client(products, limit)
        await response.prepare(request)
        self.clients.add(client)
        try:
            await _write(response, b"retry: 2000\n\n" + event("hello", _encode(self.status())))
            beat = time.monotonic() + HEARTBEAT_S
            while not self.closed:
                data = await client.take(max(0.0, beat - time.monotonic()))
                if client.overflowed:
                    self.cut += 1
                    await _write(
                        response, event("overflow", _encode({"detail": "reading too slowly; reconnect and load the picture anew"}))
                    )
                    break
                if time.monotonic() >= beat:
                    beat = time.monotonic() + HEARTBEAT_S
                    data += event("heartbeat", _encode(self.status()))
                if data:
                    await _write(response, data)
        except TimeoutError:
            self.cut += 1
            if request.transport is not None:
                request.transport.abort()
        except (ConnectionResetError, ConnectionError):
            pass
        finally:
            self.clients.discard(client)
        return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    await asyncio.wait_for(response.write(data), WRITE_TIMEOUT_S)
