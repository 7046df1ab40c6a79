"""Attacks on the gateway, tried by hand against the running process's own server: what each of them gets. The table in docs/security-gateway.md names these tests."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from models.errors import ConfigError
from serve import door
from serve.door import STUCK_S, Door, Keys
from serve.gateway import make_app
from serve.http import security_headers

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0


@pytest.fixture
async def port(fed: Any, picture: Any, town: Any) -> AsyncIterator[int]:
    """The gateway as the command serves it, its limits of time and number made small."""
    app = make_app([town.Town()], pictures={"town": picture}, per_minute=100_000)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    assert runner.server is not None
    listening = await door.listen(runner.server, "127.0.0.1", 0, Door(most_of_one=20), security_headers(None), keepalive_timeout=0.5)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await runner.cleanup()


async def said(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the server says until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(1 << 22), PATIENCE_S)
    except ConnectionError:
        return b"(cut)"
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


# ------------------------------------------------------------------------------------------------------- time and connections


async def test_slowloris_a_head_that_never_ends_is_cut_off(port: int) -> None:
    dripped = (b"GET / HTTP/1.1\r\nHost: x\r\n", *(b"X-%d: y\r\n" % n for n in range(4)))
    assert await said(port, *dripped, pause_s=0.05) in (b"", b"(cut)")


async def test_a_connection_that_says_nothing_is_cut_off_and_so_is_an_idle_one(port: int) -> None:
    assert await said(port) in (b"", b"(cut)")
    assert status(await said(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")) == 200  # and then the connection ends, or read() would not


async def test_a_slow_body_is_not_waited_for(port: int) -> None:
    answer = await said(port, b"POST /api/v1/cities HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"x")
    assert status(answer) in (405, 413)


async def test_connections_of_one_address_have_a_limit_and_others_come_in_when_some_leave(port: int) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    assert await said(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") in (b"", b"(cut)")
    for _, writer in held:
        writer.close()
    for _ in range(100):
        if status(await said(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 200:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("nobody is let in any more")


class FakeTransport:
    def __init__(self) -> None:
        self.size, self.aborted = 0, False

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return ("192.0.2.1", 1)

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


def test_an_answer_that_nobody_reads_is_given_up_and_one_that_is_read_slowly_is_not() -> None:
    now = 0.0
    at_the_door = Door(clock=lambda: now)
    slow, stuck = FakeTransport(), FakeTransport()
    assert at_the_door.enter("slow", slow)  # type: ignore[arg-type]
    assert at_the_door.enter("stuck", stuck)  # type: ignore[arg-type]
    slow.size = stuck.size = 1000
    for _ in range(10):
        at_the_door.look()
        now += STUCK_S / 4
        slow.size -= 1
    assert (slow.aborted, stuck.aborted) == (False, True)
    assert at_the_door.stuck > 0


async def test_an_answer_that_takes_too_long_to_make_is_a_problem(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.door.ANSWER_S", 0.05)

    async def never(_: web.Request) -> web.Response:
        return await asyncio.Future()

    async def tried(request: web.Request, handler: Any) -> web.StreamResponse:
        return await door.in_time(request, never)

    monkeypatch.setattr("serve.gateway.in_time", web.middleware(tried))
    client = await start()
    answer = await client.get("/api/v1/cities")
    assert (answer.status, answer.content_type) == (503, "application/problem+json")


# ---------------------------------------------------------------------------------------------------------------------- size


@pytest.mark.parametrize(
    ("attack", "want"),
    [
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 414}, id="a path of 100 kB"),
        pytest.param(b"GET /api/v1/cities?" + b"a=1&" * 800 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 414}, id="800 parameters"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n", {400}, id="a header of 100 kB"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 5_000 + b"\r\n", {400}, id="5,000 headers"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a=b;" * 1_000_000 + b"\r\n\r\n", {0, 400}, id="4 MB of cookies"),
        pytest.param(
            b"GET /api/v1/cities/town/stream HTTP/1.1\r\nHost: x\r\nLast-Event-ID: " + b"v0:1," * 2_000 + b"\r\n\r\n",
            {400},
            id="an event id of 10 kB",
        ),
    ],
)
async def test_what_is_too_large_is_refused(port: int, attack: bytes, want: set[int]) -> None:
    assert status(await said(port, attack)) in want


async def test_a_decompression_bomb_is_not_unpacked(port: int) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    head = b"GET /api/v1/cities HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    answer = await said(port, head + bomb)
    assert status(answer) == 413
    assert b"connection: close" in answer.lower()


async def test_a_chunked_body_without_end_is_refused(port: int) -> None:
    head = b"GET /api/v1/cities HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status(await said(port, head, *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 20)) in (0, 413)


async def test_a_websocket_that_is_sent_much_is_closed(port: int) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/api/v1/cities/town/ws") as socket:
        await socket.send_str("x" * 1_000_000)
        async with asyncio.timeout(PATIENCE_S):
            async for _ in socket:
                pass
        assert socket.close_code in (1006, 1009)


# ------------------------------------------------------------------------------------------------------------ paths and heads


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../pyproject.toml",
        "/assets/../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/pyproject.toml",
        "/assets/..%2f..%2fpyproject.toml",
        "/assets/%252e%252e/pyproject.toml",
        "/assets/..\\..\\pyproject.toml",
        "/assets/%00app.js",
        "/assets/app.js%00.css",
        "/assets//etc/passwd",
        "//etc/passwd",
        "/assets/.git/config",
        "/api/v1/schemas/..%2f..%2f..%2fpyproject.toml",
        "/api/v1/cities/..%2f..%2fetc/segments",
        "/docs/..%2f..%2fpyproject.toml",
        "/catalog/../../etc/passwd.ttl",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
async def test_no_path_leads_out_of_what_is_served(port: int, path: str) -> None:
    answer = await said(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) in (400, 403, 404)
    assert b"root:" not in answer
    assert b"[project]" not in answer


@pytest.mark.parametrize(
    ("head", "want"),
    [
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz",
            {400},
            id="two lengths of a body",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", {400}, id="Content-Length twice"),
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", {0, 400}, id="bare line feeds"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", {400}, id="a blank before the colon"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}, id="TLS on the plain port"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400, 404, 405}, id="HTTP/2"),
        pytest.param(b"TRACE / HTTP/1.1\r\nHost: x\r\nX-Secret: 1\r\nConnection: close\r\n\r\n", {405}, id="TRACE"),
        pytest.param(
            b"CONNECT example.org:80 HTTP/1.1\r\nHost: example.org\r\n\r\n", {0, 400, 404, 405, 413}, id="CONNECT, as through a proxy"
        ),
        pytest.param(b"DELETE /api/v1/cities HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {405}, id="DELETE"),
    ],
)
async def test_a_head_that_is_crooked_or_asks_for_more_than_reading_is_refused(port: int, head: bytes, want: set[int]) -> None:
    answer = await said(port, head)
    assert status(answer) in want
    assert b"X-Secret" not in answer
    if answer.startswith(b"HTTP/"):
        assert b"Server: tilannekuva" in answer
        assert b"nosniff" in answer
        assert b"application/problem+json" in answer


async def test_nothing_of_a_request_gets_into_heads_or_pages(port: int) -> None:
    split = await said(port, b"GET /docs/x%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"\r\nSet-Cookie" not in split
    for path in ("/docs", "/docs/segment-state", "/catalog.ttl", "/api/v1/asyncapi.json", "/api/v1/openapi.json"):
        host = b'"><script>alert(1)</script>'
        answer = await said(port, b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (path.encode(), host))
        assert status(answer) in (200, 400)
        if b"text/html" in answer:
            assert b"<script>alert" not in answer


async def test_an_error_tells_nothing_of_the_inside(port: int) -> None:
    answer = await said(port, b"GET /api/v1/cities/town/segments?bbox=1e999,a,b,c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400
    for trace in (b"Traceback", b".py", str(ROOT).encode(), b"aiohttp"):
        assert trace not in answer


# ---------------------------------------------------------------------------------------------------------------------- keys


def keys(tmp_path: Path, *, required: bool = False) -> Keys:
    file = tmp_path / "keys"
    file.write_text(f"# who may ask more often\nstartup {hashlib.sha256(b'canary-key').hexdigest()} 5\n")
    return Keys.read(file, required=required)


async def test_who_has_a_key_has_a_limit_of_its_own_and_a_wrong_key_is_refused(fed: Any, start: Any, tmp_path: Path) -> None:
    client = await start(per_minute=2, keys=keys(tmp_path))
    for headers in ({"X-API-Key": "canary-key"}, {"Authorization": "Bearer canary-key"}):
        assert (await client.get("/api/v1/schemas", headers=headers)).headers["RateLimit-Limit"] == "5"
    answer = await client.get("/api/v1/schemas", headers={"X-API-Key": "canary-kez"})
    assert (answer.status, answer.content_type) == (401, "application/problem+json")
    assert "canary" not in await answer.text()
    assert (await client.get("/api/v1/schemas")).headers["RateLimit-Limit"] == "2"


async def test_keys_cannot_be_guessed_quickly(fed: Any, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.door.GUESSES", 3)
    client = await start(keys=keys(tmp_path))
    tried = [(await client.get("/api/v1/schemas", headers={"X-API-Key": f"guess-{n}"})).status for n in range(6)]
    assert tried == [401] * 3 + [429] * 3
    assert (await client.get("/api/v1/schemas", headers={"X-API-Key": "canary-key"})).status == 429, (
        "a right guess is not told from a wrong one"
    )


async def test_where_keys_are_needed_only_the_page_docs_and_health_are_open(fed: Any, start: Any, tmp_path: Path) -> None:
    client = await start(keys=keys(tmp_path, required=True))
    assert (await client.get("/api/v1/cities")).status == 401
    assert (await client.get("/catalog")).status == 401
    assert (await client.get("/api/v1/cities", headers={"X-API-Key": "canary-key"})).status == 200
    assert [(await client.get(path)).status for path in ("/", "/docs", "/healthz")] == [200] * 3


@pytest.mark.parametrize("line", ["startup", "startup canary-key 5", f"startup {'0' * 64} 0", f"start up {'0' * 64} 5"])
def test_a_file_of_keys_that_is_none_is_a_configuration_error_without_its_content(tmp_path: Path, line: str) -> None:
    (tmp_path / "keys").write_text(line)
    with pytest.raises(ConfigError) as e:
        Keys.read(tmp_path / "keys")
    assert "canary" not in str(e.value)


# ------------------------------------------------------------------------------------------------------------- schemathesis


def test_schemathesis_finds_no_answer_that_the_openapi_document_does_not_know(fed: Any, picture: Any, town: Any) -> None:
    """Every operation, with inputs that fit the document and such that do not, against the server; streams have no end and are tested elsewhere."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(make_app([town.Town()], pictures={"town": picture}), **door.HANDLER)

    async def begin() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    base = loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        document = schemathesis.openapi.from_url(f"{base}/api/v1/openapi.json")
        tried = 0
        for found in document.exclude(path_regex="/(stream|ws)$").get_all_operations():
            operation = found.ok()

            @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def check(case: Any) -> None:
                case.call_and_validate(base_url=base, excluded_checks=[positive_data_acceptance])

            check()
            tried += 1
        assert tried > 20
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.run_until_complete(runner.cleanup())
        loop.close()
