"""What every answer of the gateway has in common: errors as problem+json, security and CORS headers, caching, compression, the access log."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from urllib.parse import urlsplit

import cramjam
import msgspec
from aiohttp import ETag, web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_response import StreamResponse

log = logging.getLogger("serve")

Handler = Callable[[web.Request], Awaitable[StreamResponse]]
Box = tuple[float, float, float, float]

GEOJSON = "application/geo+json"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
#: Longest request target that is answered, characters.
MAX_TARGET = 2_048
#: Smaller bodies are not worth compressing, bytes.
MIN_GZIP = 1_024


def security_headers(background: str | None) -> dict[str, str]:
    """Headers of every answer. ``background``: address of the raster tiles that the page may load, or None.

    MapLibre GL runs its worker from a blob and reads images as blobs and data; nothing else leaves ``'self'``.
    """
    tiles = ""
    if background:
        parts = urlsplit(background)
        tiles = f" {parts.scheme}://{parts.netloc}"
    policy = (
        "default-src 'self'; script-src 'self'; style-src 'self'; worker-src 'self' blob:; child-src blob:; "
        f"img-src 'self' data: blob:{tiles}; connect-src 'self'{tiles}; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Server": "tilannekuva",
    }


def problem(status: int, title: str, detail: str | None = None, headers: dict[str, str] | None = None) -> web.Response:
    """An error as RFC 9457 says."""
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status}
    if detail:
        body["detail"] = detail
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/problem+json", headers=headers)


def bad_query(detail: str) -> web.HTTPBadRequest:
    """An error for the middleware to dress."""
    return web.HTTPBadRequest(text=detail)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> StreamResponse:
    """Every error is problem+json; an error of our own tells nothing of its inside."""
    try:
        if len(request.raw_path) > MAX_TARGET:
            return problem(414, "URI Too Long", f"at most {MAX_TARGET} characters")
        if request.path.startswith(("/api/", "/catalog")) and request.method == "OPTIONS":
            return web.Response(status=204)
        return await handler(request)
    except web.HTTPException as e:
        if e.status < 400:
            raise
        kept = {name: e.headers[name] for name in ("Allow", "Retry-After", "WWW-Authenticate") if name in e.headers}
        return problem(e.status, e.reason, e.text if e.text != f"{e.status}: {e.reason}" else None, kept)
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return problem(500, "Internal Server Error")


def on_prepare(headers: dict[str, str]) -> Callable[[web.Request, StreamResponse], Awaitable[None]]:
    """Signal handler that adds ``headers``, and CORS where the answer is open data."""

    async def prepare(request: web.Request, response: StreamResponse) -> None:
        response.headers.update(headers)
        response.headers.update(request.get(LIMITS, {}))
        if request.path.startswith(("/api/", "/catalog")):
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Expose-Headers"] = (
                "ETag, Link, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After"
            )
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, OPTIONS"
                response.headers["Access-Control-Allow-Headers"] = "Last-Event-ID, If-None-Match, Cache-Control, Authorization, X-API-Key"
                response.headers["Access-Control-Max-Age"] = "86400"
        else:
            response.headers["Cross-Origin-Resource-Policy"] = "same-origin"

    return prepare


LIMITS: web.RequestKey[dict[str, str]] = web.RequestKey("limits", dict[str, str])


class AccessLogger(AbstractAccessLogger):
    """One line a request, without its query: a query may hold what is nobody's business."""

    def log(self, request: web.BaseRequest, response: StreamResponse, time: float) -> None:
        self.logger.info("%s %s %d %d B %.0f ms", request.method, request.path[:200], response.status, response.body_length, time * 1000)


class Body:
    """Bytes that are served again and again: their compressed forms and their tag are made once. Made in a thread where they are large."""

    def __init__(self, data: bytes, content_type: str) -> None:
        self.data = data
        self.content_type = content_type
        self.small = len(data) < MIN_GZIP
        self.zstd = b"" if self.small else zstd(data)
        self._gzip = b""
        self.etag = hashlib.sha256(data).hexdigest()[:24]

    @property
    def size(self) -> int:
        """What it takes of memory, bytes."""
        return len(self.data) + len(self.zstd) + len(self._gzip) + 200

    def gzip(self) -> bytes:
        """For those who do not take zstd."""
        if not self._gzip:
            self._gzip = zlib.compress(self.data, 4, wbits=31)
        return self._gzip

    def answer(self, request: web.Request) -> web.Response:
        """The whole, or 304 when the client has it."""
        if has(request, self.etag):
            return not_modified(self.etag)
        response = web.Response(headers={"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
        if not self.small and takes(request, "zstd"):
            response.body = self.zstd
            response.headers["Content-Encoding"] = "zstd"
        elif not self.small and takes(request, "gzip"):
            response.body = self.gzip()
            response.headers["Content-Encoding"] = "gzip"
        else:
            response.body = self.data
        response.headers["Content-Type"] = self.content_type
        response.etag = ETag(self.etag, is_weak=True)
        return response


def takes(request: web.Request, coding: str) -> bool:
    """True when the client names the coding in Accept-Encoding, and not with ``q=0``."""
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, *parameters = (p.strip() for p in part.split(";"))
        if name == coding:
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", p) for p in parameters)
    return False


def zstd(data: bytes) -> bytes:
    """Compressed with Zstandard, quickly."""
    return bytes(cramjam.zstd.compress(data, 3))


def has(request: web.Request, etag: str) -> bool:
    """True when the client already has this version."""
    return any(e.value in (etag, "*") for e in request.if_none_match or ())


def not_modified(etag: str) -> web.Response:
    """304 with the tag repeated."""
    response = web.Response(status=304, headers={"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
    response.etag = ETag(etag, is_weak=True)
    return response


def json_answer(request: web.Request, data: bytes, *, content_type: str = "application/json", etag: str | None = None) -> web.Response:
    """JSON, compressed where the client takes it; 304 when it has it. The tag is weak: it names the content, whatever its coding; the content's own hash where none is given."""
    etag = etag or hashlib.blake2b(data, digest_size=12).hexdigest()
    if has(request, etag):
        return not_modified(etag)
    response = web.Response(content_type=content_type, headers={"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
    response.etag = ETag(etag, is_weak=True)
    if len(data) >= MIN_GZIP and takes(request, "zstd"):
        response.body = zstd(data)
        response.headers["Content-Encoding"] = "zstd"
    else:
        response.body = data
        if len(data) >= MIN_GZIP and takes(request, "gzip"):
            response.enable_compression(web.ContentCoding.gzip)
    return response


def only(request: web.Request, *allowed: str) -> None:
    """
    Raises:
        web.HTTPBadRequest: a query parameter that is not known, or twice.
    """
    for name in request.query:
        if name not in allowed:
            raise bad_query(f"unknown parameter {name[:40]!r}; expected {', '.join(allowed) or 'none'}")
        if len(request.query.getall(name)) > 1:
            raise bad_query(f"{name} is given twice")


def integer(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """
    Raises:
        web.HTTPBadRequest: not an integer within the limits.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise bad_query(f"{name} = {text[:40]!r}, expected an integer {least}-{most}")
    return int(text)


def number(request: web.Request, name: str, least: float, most: float) -> float | None:
    """None when it is not given.

    Raises:
        web.HTTPBadRequest: not a number within the limits.
    """
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = float(text) if text.isascii() else math.nan
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise bad_query(f"{name} = {text[:40]!r}, expected a number {least:g}-{most:g}")
    return value


Interval = tuple[int, int]


def interval(request: web.Request) -> Interval | None:
    """``datetime`` of OGC API Features as Unix ms, both ends included: an instant, or ``from/to`` where either may be ``..``; None when it is not given.

    Raises:
        web.HTTPBadRequest: not such a time.
    """
    text = request.query.get("datetime")
    if text is None:
        return None
    try:
        parts = text.split("/")
        if len(parts) == 1:
            at = _instant(parts[0])
            return at, at
        begin, end = parts
        if {begin, end} <= {"", ".."}:
            raise ValueError
        low = _instant(begin) if begin not in ("", "..") else -(2**60)
        high = _instant(end) if end not in ("", "..") else 2**60
        if low > high:
            raise ValueError
        return low, high
    except (ValueError, OverflowError):
        raise bad_query(f"datetime = {text[:80]!r}, expected an RFC 3339 time, or two with / between, either may be ..") from None


def _instant(text: str) -> int:
    if not _RFC3339.fullmatch(text):
        raise ValueError
    return round(datetime.fromisoformat(text.upper()).timestamp() * 1000)


def pages(request: web.Request, content_type: str, offset: int, limit: int, matched: int) -> list[dict[str, str]]:
    """Links of OGC API Features to this page, the next and the one before."""

    def link(rel: str, at: int) -> dict[str, str]:
        return {"rel": rel, "type": content_type, "href": str(request.rel_url.update_query(offset=str(at), limit=str(limit)))}

    out = [{"rel": "self", "type": content_type, "href": str(request.rel_url)}]
    if offset + limit < matched:
        out.append(link("next", offset + limit))
    if offset > 0:
        out.append(link("prev", max(0, offset - limit)))
    return out


def box(request: web.Request) -> Box | None:
    """``bbox=west,south,east,north`` in degrees (OGC API Features); None when it is not given.

    Raises:
        web.HTTPBadRequest: not such a box.
    """
    text = request.query.get("bbox")
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",", 4)]
    except ValueError:
        values = []
    if len(values) == 4 and all(math.isfinite(v) for v in values):
        west, south, east, north = values
        if -180 <= west <= east <= 180 and -90 <= south <= north <= 90:
            return west, south, east, north
    raise bad_query(f"bbox = {text[:80]!r}, expected west,south,east,north in degrees")
