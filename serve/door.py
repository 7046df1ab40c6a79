"""Who may come in, how many at once, and how long they may take: the gateway's limits on connections, on time, and on those without a key.

aiohttp parses requests and bounds lines and heads; what it does not do is here. Behind a proxy every client has the proxy's address: limit each there, and not here.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware
from aiohttp.web_response import StreamResponse

from models.errors import ConfigError
from serve.http import LIMITS, Handler, problem

#: What an `AppRunner` is told: a head that is not complete within ``keepalive_timeout`` ends its connection, so does one that is idle; bodies are neither unpacked nor waited for.
HANDLER: dict[str, Any] = {
    "keepalive_timeout": 20.0,
    "lingering_time": 1.0,
    "max_line_size": 4_096,
    "max_field_size": 8_190,
    "max_headers": 64,
    "auto_decompress": False,
}
#: Connections at once: of all, and of one address.
MOST, MOST_OF_ONE = 4_000, 600
#: An answer that has not moved for so long is not read by anybody, s; and how often that is looked for.
STUCK_S, LOOK_S = 30.0, 5.0
#: An answer takes no longer than this to be made, s. Streams have no end.
ANSWER_S = 30.0
_NO_END = ("/stream", "/ws")
#: Wrong keys that one address may send in a minute; then it is not listened to for a while.
GUESSES = 10
#: What a Host header may hold: it comes back in links and in the catalogue.
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?", re.ASCII)
_KEY_LINE = re.compile(r"([A-Za-z0-9_.-]{1,64})\s+([0-9a-f]{64})\s+([0-9]{1,9})", re.ASCII)


class RateLimit:
    """So many requests a minute from each of those who are told apart (addresses, holders of keys); a bucket that fills evenly. Streams count once, when they begin."""

    MOST = 20_000  #: remembered

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  #: who -> tokens, when

    def take(self, who: str, now_s: float, per_minute: int = 0) -> tuple[bool, int, int]:
        """Whether a request may pass, how many more may, and in how many seconds the bucket is full again (or one may pass again).

        ``per_minute``: where it is not the usual one.
        """
        most = per_minute or self.per_minute
        tokens, since = self._buckets.pop(who, (float(most), now_s))
        tokens = min(float(most), tokens + (now_s - since) * most / 60)
        passes = tokens >= 1
        tokens -= passes
        self._buckets[who] = (tokens, now_s)
        if len(self._buckets) > self.MOST:
            self._buckets.popitem(last=False)
        wait_s = (most - tokens if passes else 1 - tokens) * 60 / most
        return passes, int(tokens), math.ceil(wait_s)

    def empty(self, who: str, now_s: float) -> bool:
        """Whether nothing is left to take."""
        tokens, since = self._buckets.get(who, (float(self.per_minute), now_s))
        return tokens + (now_s - since) * self.per_minute / 60 < 1


@dataclass(frozen=True)
class Keys:
    """Keys that are known: hash -> name and requests a minute. The file holds hashes only, so that it is no secret.

    A line: ``NAME SHA256-OF-THE-KEY REQUESTS-A-MINUTE``; ``#`` begins a comment. A hash: ``printf %s "$KEY" | sha256sum``.
    """

    known: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    required: bool = False  #: without a key nothing under /api and /catalog is answered

    @classmethod
    def read(cls, file: Path, *, required: bool = False) -> Keys:
        """
        Raises:
            ConfigError: the file cannot be read, or a line is none.
        """
        try:
            lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError("serve", "api-keys", str(file), f"a file that can be read ({e})") from e
        known: dict[str, tuple[str, int]] = {}
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            found = _KEY_LINE.fullmatch(line)
            if found is None or int(found[3]) < 1:
                raise ConfigError(str(file), f"line {number}", "…", "NAME SHA256 REQUESTS-A-MINUTE")
            known[found[2]] = (found[1], int(found[3]))
        return cls(known, required)

    def of(self, request: web.Request) -> tuple[str, int] | None:
        """Who asks, and how many requests a minute are theirs; None without a key. Looked up by its hash, so the time it takes says nothing of the key.

        Raises:
            web.HTTPUnauthorized: the key is not known, or one is needed.
        """
        header = request.headers.get("Authorization", "")
        key = request.headers.get("X-API-Key") or (header[7:] if header[:7].lower() == "bearer " else "")
        if not key:
            if self.required:
                raise web.HTTPUnauthorized(
                    text="a key is needed: X-API-Key or Authorization: Bearer", headers={"WWW-Authenticate": "Bearer"}
                )
            return None
        found = self.known.get(hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest())
        if found is None:
            raise web.HTTPUnauthorized(text="this key is not known", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return found


def limited(limit: RateLimit, keys: Keys) -> Middleware:
    """Middleware that holds each address, or holder of a key, to its limit under ``/api`` and ``/catalog``, and says how much is left."""
    guesses = RateLimit(GUESSES)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> StreamResponse:
        if not request.path.startswith(("/api/", "/catalog")) or request.method == "OPTIONS":
            return await handler(request)
        who, most, now = f"address {request.remote}", limit.per_minute, time.monotonic()
        if keys.known or keys.required:
            try:
                holder = None if guesses.empty(request.remote or "", now) else keys.of(request)
            except web.HTTPUnauthorized:
                guesses.take(request.remote or "", now)
                raise
            if holder is not None:
                who, most = f"key {holder[0]}", holder[1]
            elif guesses.empty(request.remote or "", now):
                return problem(429, "Too Many Requests", "too many wrong keys", {"Retry-After": "60"})
        if not most:
            return await handler(request)
        passes, left, reset_s = limit.take(who, now, most)
        request[LIMITS] = {"RateLimit-Limit": str(most), "RateLimit-Remaining": str(left), "RateLimit-Reset": str(reset_s)}
        if not passes:
            return problem(429, "Too Many Requests", f"at most {most} requests a minute", {"Retry-After": str(reset_s)})
        return await handler(request)

    return middleware


@web.middleware
async def in_time(request: web.Request, handler: Handler) -> StreamResponse:
    """No body is taken, no Host that is none, and no answer takes longer than `ANSWER_S` to be made."""
    if not _HOST.fullmatch(request.host):
        return problem(400, "Bad Request", "Host is not the name or address of a server")
    if request.body_exists:
        response = problem(413, "Content Too Large", "requests have no body here")
        response.force_close()
        return response
    if request.path.endswith(_NO_END):
        return await handler(request)
    try:
        async with asyncio.timeout(ANSWER_S):
            return await handler(request)
    except TimeoutError:
        return problem(503, "Service Unavailable", f"no answer within {ANSWER_S:g} s", {"Retry-After": "10"})


class Door:
    """Counts connections, refuses those beyond the limits, and ends those whose answer nobody reads."""

    def __init__(self, most: int = MOST, most_of_one: int = MOST_OF_ONE, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.most_of_one, self.clock = most, most_of_one, clock
        self.refused = 0  #: connections beyond the limits
        self.stuck = 0  #: connections ended because nobody read
        self.unreadable = 0  #: requests that were none
        self._inside: dict[Any, tuple[str, asyncio.Transport]] = {}
        self._of: Counter[str] = Counter()
        self._waiting: dict[Any, tuple[int, float]] = {}  #: connection -> bytes not yet taken, since when

    def enter(self, who: Any, transport: asyncio.Transport) -> bool:
        """False: there are too many, of all or of this address."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if len(self._inside) >= self.most or self._of[address] >= self.most_of_one:
            self.refused += 1
            return False
        self._inside[who] = (address, transport)
        self._of[address] += 1
        return True

    def leave(self, who: Any) -> None:
        """A connection is gone."""
        self._waiting.pop(who, None)
        if (found := self._inside.pop(who, None)) is not None:
            self._of[found[0]] -= 1
            if not self._of[found[0]]:
                del self._of[found[0]]

    def look(self) -> None:
        """End the connections whose unsent bytes have not become fewer for `STUCK_S`."""
        now = self.clock()
        for who, (_, transport) in list(self._inside.items()):
            size = transport.get_write_buffer_size()
            before, since = self._waiting.get(who, (size + 1, now))
            if not size:
                self._waiting.pop(who, None)
            elif size < before:
                self._waiting[who] = (size, now)
            elif now - since > STUCK_S:
                self.stuck += 1
                transport.abort()
            else:
                self._waiting[who] = (size, since)

    async def watch(self) -> None:
        """Look now and then, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()


class _Handler(web.RequestHandler):
    """aiohttp's side of one connection, with the door before it and our words for requests that are none."""

    __slots__ = ("_door", "_headers")

    def __init__(self, server: web.Server, at_the_door: Door, headers: Mapping[str, str], **settings: Any) -> None:
        super().__init__(server, **settings)
        self._door, self._headers = at_the_door, headers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        if not self._door.enter(self, transport):
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.leave(self)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """What cannot be read as a request gets no echo of it and leaves no trace in the logs: anybody could fill them."""
        self._door.unreadable += 1
        response = problem(status, "Bad Request" if status == 400 else "Error", headers=dict(self._headers))
        response.force_close()
        return response


async def listen(
    server: web.Server, host: str, port: int, at_the_door: Door, headers: Mapping[str, str], **settings: Any
) -> asyncio.Server:
    """Listen for connections to an application's server, within the limits.

    Args:
        headers: of answers to what is no request.
        settings: of aiohttp's handlers, beside `HANDLER`.

    Raises:
        OSError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    settings = {**HANDLER, **settings}
    return await loop.create_server(lambda: _Handler(server, at_the_door, headers, loop=loop, **settings), host, port, reuse_address=True)
