"""HTTP polling: one document, or one after the other of a list of stops, asked for again and again, with limits on everything that a server could send too much of.

Conditional requests (ETag, If-Modified-Since), gzip counted while it is unpacked, at most three redirects, each checked like the first address and to no
other host than the city file names, time
limits on connecting, on silence and on the whole. Content is not judged here: HTML where protobuf was expected is the parser's to refuse.
"""

from __future__ import annotations

import base64
import socket
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from connectors import addresses
from connectors.cities import STOPS, FeedSettings, Http, Mqtt
from models.errors import ConfigError, FeedUnavailable

MAX_REDIRECTS = 3
#: Unpacked may be this many times what was sent; below the floor it does not matter.
MAX_RATIO, RATIO_FLOOR = 100, 1024 * 1024
#: Start of a refused body that is kept for the dead letter.
KEPT = 4096
_CHUNK = 64 * 1024
#: The longest wait that a server may ask for, seconds.
MOST_RETRY_S = 3600.0
_REDIRECTS = (301, 302, 303, 307, 308)


def polled(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """Sources of a feed whose service is only polled, asking for JSON.

    Raises:
        ConfigError: MQTT, which such a service does not have.
    """
    if feed.mqtt is not None:
        raise ConfigError(file, f"feeds.{feed.name}.mqtt", feed.mqtt.url, "no such table: this service is polled")
    return None, tuple(msgspec.structs.replace(h, headers={"Accept": "application/json"} | h.headers) for h in feed.http)


class Refused(Exception):
    """A body over a limit, or packed in a way that cannot be read: not worth asking again at once, and kept as a dead letter."""

    def __init__(self, field: str, value: object, want: str, start: bytes) -> None:
        self.field, self.value, self.want, self.start = field, value, want, start
        super().__init__(f"{field} = {value}, expected {want}")


class Unavailable(FeedUnavailable):
    """No good answer."""

    def __init__(self, detail: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        self.status, self.retry_after_s = status, retry_after_s
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Answer:
    """A document, or None when it has not changed."""

    status: int
    body: bytes | None
    url: str  #: what was asked for


class _Checked(AbstractResolver):
    """Resolves names to addresses that may be called."""

    def __init__(self, allow_private: bool) -> None:
        self._inner = ThreadedResolver()
        self._allow_private = allow_private

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            addresses.check(host, one["host"], self._allow_private)
        return found

    async def close(self) -> None:
        await self._inner.close()


class Poller:
    """Asks for one document; remembers only its validators."""

    def __init__(
        self,
        settings: Http,
        *,
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
        allow_private: bool = False,
    ) -> None:
        self.settings = settings
        self._allow_private = allow_private
        self._headers = {**settings.headers, "Accept-Encoding": "gzip"}
        if settings.body is not None:
            self._headers.setdefault("Content-Type", "application/json")
        self._hosts = {urlsplit(settings.url).hostname, *settings.redirect_hosts}
        self._secret = dict(headers or {})
        if login is not None:
            self._secret["Authorization"] = "Basic " + base64.b64encode(f"{login[0]}:{login[1]}".encode()).decode()
        self._urls = _urls(settings)
        self._turn = 0
        self._validators: dict[str, dict[str, str]] = {}  #: by address
        self._tls = ssl.create_default_context(cafile=settings.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self) -> Answer:
        """What the address says now; of several, the next one's turn.

        Raises:
            Unavailable: no connection, a time limit, a status other than 200 and 304, a redirect too many, or an address that may not be called.
            Refused: a body over the limits or wrongly packed.
        """
        asked = self._urls[self._turn % len(self._urls)]
        self._turn += 1
        try:
            return await self._follow(asked)
        except addresses.ForbiddenAddress as e:
            raise Unavailable(str(e)) from e
        except TimeoutError as e:
            raise Unavailable(f"no answer in time ({type(e).__name__})") from e
        except (aiohttp.ClientError, OSError, ValueError) as e:
            inner: BaseException | None = e
            while inner is not None and not isinstance(inner, addresses.ForbiddenAddress):
                inner = inner.__cause__ or inner.__context__
            raise Unavailable(str(inner) if inner is not None else f"{type(e).__name__}: {e}") from e

    async def _follow(self, asked: str) -> Answer:
        url, origin = asked, _origin(asked)
        for _ in range(MAX_REDIRECTS + 1):
            host = urlsplit(url).hostname or ""
            if addresses.is_literal(host):  # a name is checked when it is resolved
                addresses.check(host, host, self._allow_private)
            headers = {**self._headers, **self._validators.get(asked, {})}
            if _origin(url) == origin:
                headers |= self._secret
            body = None if self.settings.body is None else self.settings.body.encode()
            async with self._open().request(self.settings.method, url, data=body, headers=headers, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    if self.settings.method != "GET":
                        raise Unavailable("redirected; a question that is posted is not posted elsewhere", response.status)
                    after = urljoin(url, response.headers.get("Location", ""))
                    scheme = urlsplit(after).scheme
                    if scheme not in ("http", "https") or (scheme == "http" and urlsplit(url).scheme == "https"):
                        raise Unavailable(f"redirected to {scheme or 'nothing'}", response.status)
                    if urlsplit(after).hostname not in self._hosts:
                        raise Unavailable(f"redirected to another host, {urlsplit(after).hostname}", response.status)
                    url = after
                    continue
                return await self._read(asked, response)
        raise Unavailable(f"more than {MAX_REDIRECTS} redirects", 310)

    async def _read(self, asked: str, response: aiohttp.ClientResponse) -> Answer:
        if response.status == 304:
            return Answer(304, None, asked)
        if response.status != 200:
            raise Unavailable(
                f"HTTP {response.status}", response.status, _retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
            )
        packing = response.headers.get("Content-Encoding", "").strip().lower()
        unpack = _Unpack(self.settings, packing)
        async for chunk in response.content.iter_chunked(_CHUNK):
            unpack.feed(chunk)
        body = unpack.end()
        pairs = (("If-None-Match", response.headers.get("ETag")), ("If-Modified-Since", response.headers.get("Last-Modified")))
        self._validators[asked] = {name: value for name, value in pairs if value}
        return Answer(200, body, asked)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            s = self.settings
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_Checked(self._allow_private), ssl=self._tls, limit=2, use_dns_cache=False),
                timeout=aiohttp.ClientTimeout(total=s.total_s, connect=s.connect_s, sock_connect=s.connect_s, sock_read=s.read_s),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


class _Unpack:
    """Unpacks while it counts; stops at the first limit."""

    def __init__(self, settings: Http, packing: str) -> None:
        self._max_sent = int(settings.max_mb * 1024 * 1024)
        self._max_out = int(settings.max_unpacked_mb * 1024 * 1024)
        self._sent = self._size = 0
        self._out: list[bytes] = []
        if packing not in ("", "identity", "gzip", "x-gzip"):
            raise Refused("Content-Encoding", packing, "gzip or none", b"")
        self._gzip = packing.endswith("gzip")
        self._z = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def feed(self, chunk: bytes) -> None:
        self._sent += len(chunk)
        if self._sent > self._max_sent:
            raise self._refused("body sent", f"more than {self._max_sent} bytes")
        if not self._gzip:
            self._keep(chunk)
            return
        try:
            while chunk:
                if self._z.eof:  # gzip may be several members, one after the other
                    self._z = zlib.decompressobj(16 + zlib.MAX_WBITS)
                self._keep(self._z.decompress(chunk, _CHUNK * 16))
                chunk = self._z.unconsumed_tail or self._z.unused_data
        except zlib.error as e:
            raise self._refused("gzip", str(e)) from e

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        self._out.append(data)
        if self._size > self._max_out:
            raise self._refused("body unpacked", f"more than {self._max_out} bytes")
        if self._size > RATIO_FLOOR and self._size > MAX_RATIO * self._sent:
            raise self._refused("gzip ratio", f"more than {MAX_RATIO}")

    def end(self) -> bytes:
        if self._gzip and self._sent and not self._z.eof:
            raise self._refused("gzip", "cut")
        return b"".join(self._out)

    def _refused(self, field: str, value: str) -> Refused:
        want = f"at most {self._max_sent} bytes sent, {self._max_out} unpacked, {MAX_RATIO} times the one; whole gzip"
        return Refused(field, value, want, b"".join(self._out[:2])[:KEPT])


def _urls(settings: Http) -> list[str]:
    """The addresses of one document; several where stops are asked for in turn.

    >>> _urls(Http(url="http://x/sm?stops={stops}", every_s=1, stops=("1", "2 b", "3"), stops_a_request=2))
    ['http://x/sm?stops=1,2%20b', 'http://x/sm?stops=3']
    """
    if not settings.stops:
        return [settings.url]
    n = settings.stops_a_request
    groups = [settings.stops[k : k + n] for k in range(0, len(settings.stops), n)]
    return [settings.url.replace(STOPS, ",".join(quote(s, safe=":") for s in g)) for g in groups]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _retry_after(value: str | None, date: str | None = None) -> float | None:
    """Seconds to wait, at most an hour. A date is taken against the answer's own ``Date``, so that no clock of ours matters; without one the back-off decides.

    >>> _retry_after("120"), _retry_after(None), _retry_after("soon"), _retry_after("999999")
    (120.0, None, None, 3600.0)
    >>> _retry_after("Tue, 10 Mar 2026 05:32:00 GMT", "Tue, 10 Mar 2026 05:30:00 GMT"), _retry_after("Tue, 10 Mar 2026 05:32:00 GMT")
    (120.0, None)
    """
    value = (value or "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), MOST_RETRY_S)
    try:
        wait = (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), MOST_RETRY_S)
