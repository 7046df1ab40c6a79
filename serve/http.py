"""What every answer of the gateway has in common: errors as problem+json, security and CORS headers, caching, compression, the access log."""

from __future__ import annotations

import hashlib
import logging
import math
import zlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import msgspec
from aiohttp import ETag, web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_response import StreamResponse

log = logging.getLogger("serve")

Handler = Callable[[web.Request], Awaitable[StreamResponse]]
Box = tuple[float, float, float, float]

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
        if request.path.startswith("/api/") and request.method == "OPTIONS":
            return web.Response(status=204)
        return await handler(request)
    except web.HTTPException as e:
        if e.status < 400:
            raise
        kept = {name: e.headers[name] for name in ("Allow", "Retry-After") if name in e.headers}
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
        if request.path.startswith("/api/"):
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Expose-Headers"] = "ETag"
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, OPTIONS"
                response.headers["Access-Control-Allow-Headers"] = "Last-Event-ID, If-None-Match, Cache-Control"
                response.headers["Access-Control-Max-Age"] = "86400"
        else:
            response.headers["Cross-Origin-Resource-Policy"] = "same-origin"

    return prepare


class AccessLogger(AbstractAccessLogger):
    """One line a request, without its query: a query may hold what is nobody's business."""

    def log(self, request: web.BaseRequest, response: StreamResponse, time: float) -> None:
        self.logger.info("%s %s %d %d B %.0f ms", request.method, request.path[:200], response.status, response.body_length, time * 1000)


class Body:
    """Bytes that are served again and again: their gzip form and their tag are made once."""

    def __init__(self, data: bytes, content_type: str, level: int = 6) -> None:
        self.data = data
        self.content_type = content_type
        self.zipped = zlib.compress(data, level, wbits=31) if len(data) >= MIN_GZIP else b""
        self.etag = hashlib.sha256(data).hexdigest()[:24]

    def answer(self, request: web.Request) -> web.Response:
        """The whole, or 304 when the client has it."""
        if has(request, self.etag):
            return not_modified(self.etag)
        zipped = bool(self.zipped) and "gzip" in request.headers.get("Accept-Encoding", "")
        response = web.Response(body=self.zipped if zipped else self.data, headers={"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
        response.headers["Content-Type"] = self.content_type
        if zipped:
            response.headers["Content-Encoding"] = "gzip"
        response.etag = ETag(self.etag, is_weak=True)
        return response


def has(request: web.Request, etag: str) -> bool:
    """True when the client already has this version."""
    return any(e.value in (etag, "*") for e in request.if_none_match or ())


def not_modified(etag: str) -> web.Response:
    """304 with the tag repeated."""
    response = web.Response(status=304, headers={"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
    response.etag = ETag(etag, is_weak=True)
    return response


def json_answer(data: bytes, *, content_type: str = "application/json", etag: str | None = None) -> web.Response:
    """JSON, compressed where the client takes it. The tag is weak: it names the content, whatever its coding."""
    response = web.Response(body=data, content_type=content_type, headers={"Cache-Control": "no-cache", "Vary": "Accept-Encoding"})
    if etag is not None:
        response.etag = ETag(etag, is_weak=True)
    if len(data) >= MIN_GZIP:
        response.enable_compression()
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
