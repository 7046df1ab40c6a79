"""Headers, health and figures of the gateway."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

from models.errors import ConfigError
from serve.gateway import check_background, serve
from serve.reader import Reader


@pytest.mark.parametrize("path", ["/", "/assets/app.js", "/api/v1/cities", "/nothing", "/healthz"])
async def test_every_answer_carries_the_security_headers(start: Any, path: str) -> None:
    client = await start()
    headers = (await client.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "worker-src 'self' blob:" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Server"] == "tilannekuva"


async def test_the_page_has_no_inline_script_or_style_and_loads_nothing_from_elsewhere(start: Any) -> None:
    client = await start()
    page = await (await client.get("/")).text()
    assert "<script>" not in page
    assert "<style" not in page
    assert " style=" not in page
    assert " on" + "click=" not in page
    assert "//" not in page.replace("<!doctype", "")
    for path, kind in (
        ("/assets/maplibre-gl.js", "text/javascript"),
        ("/assets/maplibre-gl.css", "text/css"),
        ("/assets/style.css", "text/css"),
    ):
        answer = await client.get(path)
        assert (answer.status, answer.content_type) == (200, kind)
        assert len(await answer.read()) > 1000


async def test_a_background_map_is_allowed_by_its_host_alone(start: Any) -> None:
    client = await start(background="https://tiles.example/a/{z}/{x}/{y}.png")
    answer = await client.get("/api/v1/cities")
    assert "img-src 'self' data: blob: https://tiles.example;" in answer.headers["Content-Security-Policy"]
    assert (await answer.json())["background"] == {"tiles": "https://tiles.example/a/{z}/{x}/{y}.png"}


@pytest.mark.parametrize(
    "address",
    [
        "tiles",
        "ftp://a/{z}/{x}/{y}",
        "https://a/{z}/{x}.png",
        "https:///{z}/{x}/{y}",
        "https://a; script-src *//{z}/{x}/{y}",
        "https://u:p@a/{z}/{x}/{y}",
    ],
)
def test_a_background_that_is_no_tile_address_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigError, match="background"):
        check_background(address)


async def test_metrics_tell_what_is_held_refused_and_listening(fed: Any, start: Any) -> None:
    fed(b"{", product="segment-state")
    client = await start()
    text = await (await client.get("/metrics")).text()
    assert 'tilannekuva_gateway_held{city="town",product="segment"} 5.0' in text
    assert 'tilannekuva_gateway_refused_total{city="town",product="segment-state"} 1.0' in text
    assert 'tilannekuva_gateway_stream_clients{city="town"} 0.0' in text


async def test_the_access_log_has_no_query(
    fed: Any, picture: Any, town: Any, caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    stop = asyncio.Event()
    caplog.set_level(logging.INFO, logger="serve.access")
    running = asyncio.create_task(serve([town.Town()], "127.0.0.1:1", port=unused_tcp_port, stop=stop))
    async with aiohttp.ClientSession() as session:
        for _ in range(100):
            try:
                answer = await session.get(f"http://127.0.0.1:{unused_tcp_port}/readyz?token=s3cret")
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
        assert answer.status == 503
        assert (await answer.json())["ready"] is False
        assert (await session.get(f"http://127.0.0.1:{unused_tcp_port}/healthz")).status == 200
    stop.set()
    await asyncio.wait_for(running, 15)
    lines = [r.getMessage() for r in caplog.records if r.name == "serve.access"]
    assert any(line.startswith("GET /readyz 503") for line in lines)
    assert "s3cret" not in caplog.text


async def test_it_is_not_ready_before_the_reader_is(picture: Any, start: Any) -> None:
    reader = Reader([picture], "127.0.0.1:1", lambda p, b: None)
    client = await start(reader=reader)
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert await answer.json() == {"ready": False, "detail": "the broker has not answered yet"}
