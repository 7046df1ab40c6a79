"""Polling over HTTP, against servers of this machine: what is asked, what is believed, and where it stops."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from connectors import addresses
from connectors.cities import Http
from connectors.polling import MAX_REDIRECTS, Poller, Refused, Unavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[Poller]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A server with one handler on every path, and a poller that asks it."""
    servers: list[TestServer] = []
    pollers: list[Poller] = []

    async def start(
        handler: Handler,
        *,
        allow_private: bool = True,
        public: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        login: tuple[str, str] | None = None,
        **settings: object,
    ) -> Poller:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        http = Http(url=str(server.make_url("/feed")), every_s=1, headers=public or {}, **settings)  # type: ignore[arg-type]
        pollers.append(Poller(http, headers=headers, login=login, allow_private=allow_private))
        return pollers[-1]

    yield start
    for p in pollers:
        await p.close()
    for s in servers:
        await s.close()


async def test_an_unchanged_document_is_asked_for_by_its_validators_and_not_sent_again(serve: Serve) -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.headers.get("If-None-Match"), request.headers.get("If-Modified-Since")))
        headers = {"ETag": '"a"', "Last-Modified": "Tue, 10 Mar 2026 05:30:00 GMT"}
        return web.Response(status=304) if len(seen) > 1 else web.Response(body=b"x", headers=headers)

    poller = await serve(handler)
    first, second = await poller.ask(), await poller.ask()
    assert (first.status, first.body, second.status, second.body) == (200, b"x", 304, None)
    assert seen == [(None, None), ('"a"', "Tue, 10 Mar 2026 05:30:00 GMT")]


async def test_headers_of_the_feed_and_gzip_are_sent(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        h = request.headers
        return web.Response(text="|".join([h["Digitraffic-User"], h["Accept-Encoding"], h["X-Key"], h["Authorization"]]))

    poller = await serve(handler, public={"Digitraffic-User": "org/app"}, headers={"X-Key": "canary"}, login=("me", "canary"))
    assert (await poller.ask()).body == b"org/app|gzip|canary|Basic bWU6Y2FuYXJ5"
    assert "canary" not in repr(poller)


def packed(body: bytes, encoding: str = "gzip") -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Encoding": encoding})

    return handler


async def test_gzip_is_unpacked_also_in_several_members(serve: Serve) -> None:
    poller = await serve(packed(gzip.compress(b"ab" * 100_000) + gzip.compress(b"c")))
    assert (await poller.ask()).body == b"ab" * 100_000 + b"c"


@pytest.mark.parametrize(
    ("body", "encoding", "settings", "field"),
    [
        (gzip.compress(b"0" * 50_000_000), "gzip", {}, "gzip ratio"),
        (gzip.compress(gzip.compress(b"0" * 50_000_000)), "gzip", {}, ""),
        (gzip.compress(bytes(range(256)) * 4096), "gzip", {"max_unpacked_mb": 0.5}, "body unpacked"),
        (b"x" * 600_000, "identity", {"max_mb": 0.5}, "body sent"),
        (gzip.compress(b"whole")[:-4], "gzip", {}, "gzip"),
        (b"not gzip at all", "gzip", {}, "gzip"),
        (b"x", "br", {}, "Content-Encoding"),
        (zlib.compress(b"x"), "deflate", {}, "Content-Encoding"),
    ],
    ids=["bomb", "bomb in a bomb", "large when unpacked", "large as sent", "cut", "lying", "brotli", "deflate"],
)
async def test_a_body_over_a_limit_is_refused_early(
    serve: Serve, body: bytes, encoding: str, settings: dict[str, float], field: str
) -> None:
    poller = await serve(packed(body, encoding), **settings)
    if not field:  # only one layer is ever unpacked
        assert (await poller.ask()).body == gzip.decompress(body)
        return
    with pytest.raises(Refused) as e:
        await poller.ask()
    assert e.value.field == field
    assert len(e.value.start) <= 4096


async def test_an_endless_body_is_cut_at_the_limit(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 65536)
        return response

    with pytest.raises(Refused, match="body sent"):
        await (await serve(handler, max_mb=1.0)).ask()


@pytest.mark.parametrize("status", [204, 400, 401, 404, 429, 500, 503])
async def test_any_other_status_is_no_document_and_says_when_to_come_back(serve: Serve, status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "120"})

    with pytest.raises(Unavailable) as e:
        await (await serve(handler)).ask()
    assert (e.value.status, e.value.retry_after_s) == (status, 120)


async def test_a_slow_drip_ends_at_the_total_time(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    poller = await serve(handler, total_s=0.3)
    with pytest.raises(Unavailable, match="no answer in time"):
        await poller.ask()


async def test_a_silent_server_ends_at_the_read_time(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    with pytest.raises(Unavailable, match="no answer in time"):
        await (await serve(handler, read_s=0.2)).ask()


async def test_a_body_shorter_than_it_says_is_no_document(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"short")
        assert request.transport is not None
        request.transport.close()
        return response

    with pytest.raises(Unavailable):
        await (await serve(handler)).ask()


def redirect(to: str, times: int = 1) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        n = int(request.query.get("n", "0"))
        if n < times:
            return web.Response(status=302, headers={"Location": to.replace("{n}", str(n + 1))})
        return web.Response(text=f"{request.path}:{request.headers.get('Authorization')}")

    return handler


async def test_redirects_are_followed_up_to_three(serve: Serve) -> None:
    poller = await serve(redirect("/moved?n={n}", MAX_REDIRECTS), login=("me", "x"))
    assert (await poller.ask()).body == b"/moved:Basic bWU6eA=="
    with pytest.raises(Unavailable, match="more than 3 redirects"):
        await (await serve(redirect("/moved?n={n}", MAX_REDIRECTS + 1))).ask()


async def test_secrets_do_not_follow_a_redirect_to_another_host(serve: Serve) -> None:
    other = await serve(redirect("", 0))
    poller = await serve(redirect(other.settings.url), login=("me", "x"))
    assert (await poller.ask()).body == b"/feed:None"


async def test_a_redirect_to_a_host_that_the_city_file_does_not_name_is_not_followed(serve: Serve) -> None:
    other = await serve(redirect("", 0))
    elsewhere = other.settings.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Unavailable, match="redirected to another host, localhost") as e:
        await (await serve(redirect(elsewhere))).ask()
    assert e.value.status == 302
    poller = await serve(redirect(elsewhere), login=("me", "x"), redirect_hosts=("localhost",))
    assert (await poller.ask()).body == b"/feed:None"


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://example.org/", "gopher://x"])
async def test_redirects_stay_on_http(serve: Serve, to: str) -> None:
    with pytest.raises(Unavailable, match="redirected to"):
        await (await serve(redirect(to))).ask()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_addresses_of_this_machine_are_refused_unless_allowed(serve: Serve, host: str) -> None:
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(1)
        return web.Response()

    local = await serve(handler)
    settings = Http(url=local.settings.url.replace("127.0.0.1", host), every_s=1)
    guarded = Poller(settings)
    with pytest.raises(Unavailable, match="not a public address"):
        await guarded.ask()
    await guarded.close()
    assert not asked


async def test_a_redirect_to_a_private_address_is_refused(serve: Serve) -> None:
    """The first server stands for a public one: only its own address is let through."""
    reached = []

    async def secret(request: web.Request) -> web.Response:
        reached.append(1)
        return web.Response(text="metadata")

    inner = await serve(secret)
    poller = await serve(redirect(inner.settings.url.replace("127.0.0.1", "127.0.0.2")), allow_private=True, redirect_hosts=("127.0.0.2",))
    poller._allow_private = False
    real = addresses.check
    port_free = {"127.0.0.1"}

    def check(host: str, address: str, allow_private: bool) -> None:
        if address not in port_free:
            real(host, address, allow_private)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connectors.addresses.check", check)
        with pytest.raises(Unavailable, match=r"127\.0\.0\.2, which is not a public address"):
            await poller.ask()
    assert not reached


async def test_nobody_listening_is_unavailable() -> None:
    poller = Poller(Http(url="http://127.0.0.1:9/feed", every_s=1), allow_private=True)
    with pytest.raises(Unavailable):
        await poller.ask()
    await poller.close()


async def test_a_host_without_address_is_unavailable() -> None:
    poller = Poller(Http(url="http://nowhere.invalid/feed", every_s=1))
    with pytest.raises(Unavailable):
        await poller.ask()
    await poller.close()


async def test_a_question_is_posted_as_json_and_never_to_another_address(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.headers['Content-Type']} {await request.text()}")

    poller = await serve(handler, method="POST", body='{"query": "{ carParks { name } }"}')
    answer = await poller.ask()
    assert answer.body == b'POST application/json {"query": "{ carParks { name } }"}'
    with pytest.raises(Unavailable, match="not posted elsewhere"):
        await (await serve(redirect("/moved?n={n}", 1), method="POST", body="{}")).ask()
