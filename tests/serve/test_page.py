"""The live map in a real browser: streets coloured, vehicles moving, staleness said, nothing on the console."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page, async_playwright

from serve.gateway import make_app
from serve.rest import CITIES

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


@pytest.fixture
async def browse(chromium: str) -> AsyncIterator[Any]:
    """Open a page; what it says on the console is kept in ``page.said``."""
    async with async_playwright() as p:
        browser = await p.chromium.launch(executable_path=chromium, args=FLAGS, headless=True)

        async def run(url: str, **more: Any) -> Page:
            page = await browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **more})
            said: list[str] = []
            page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") and "GPU stall" not in m.text else None)
            page.on("pageerror", lambda e: said.append(str(e)))
            page.said = said  # type: ignore[attr-defined]
            await page.goto(url)
            return page

        yield run
        await browser.close()


async def until(page: Page, expression: str, timeout_s: float = 30) -> None:
    function = expression if expression.startswith("()") else f"() => ({expression})"  # the page's own policy forbids to evaluate text
    await page.wait_for_function(function, timeout=timeout_s * 1000, polling=100)


SAYS_OLD = "/^not live – the data is \\d+ d old$/.test(document.querySelector('#status-text').textContent)"
SAYS_LIVE = "document.querySelector('#status').dataset.state === 'live'"
COLOURED = """() => {
  const map = window.tilannekuva?.map?.map;
  if (!map || !map.loaded()) return false;
  const drawn = map.queryRenderedFeatures({layers: ['flow']}).filter(f => f.state.los === 'F' && f.state.origin === 'measured');
  return drawn.length > 0 && map.queryRenderedFeatures({layers: ['vehicles']}).length >= 2;
}"""


async def test_the_page_shows_coloured_streets_and_moving_vehicles(
    fed: Any, start: Any, town: ModuleType, browse: Any, tmp_path: Path
) -> None:
    fed(town.state(0, revision=2, los="A", simulated=True))
    client = await start()
    hub = client.app[CITIES]["town"].hub
    page = await browse(str(client.make_url("/")))
    await until(page, COLOURED)
    hub.publish([fed(town.vehicle(1, at_s=1)), fed(town.health(at_s=15))])
    await until(page, SAYS_OLD)
    assert await page.locator("#simulated").is_visible()
    assert await page.locator("#feeds li").get_attribute("data-state") == "ok"
    assert "© OpenStreetMap contributors" in (await page.locator("#attribution").text_content() or "")
    at = "[...window.tilannekuva.map.map.querySourceFeatures('vehicles')].find(f => f.properties.id === '0018/00001')?.geometry.coordinates[0]"
    before = await page.evaluate(at)
    hub.publish([fed(town.vehicle(1, at_s=3, lon_deg=24.9345))])
    await until(page, f"Math.abs({at} - {before}) > 0.0001")
    await page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert page.said == []


async def test_records_of_now_are_live(feed: Any, start: Any, town: ModuleType, browse: Any) -> None:
    now = time.time() - town.NOW / 1000
    feed(town.street(0))
    client = await start()
    page = await browse(str(client.make_url("/")))
    await until(page, "document.querySelector('#status-text').textContent === 'no data yet'")
    client.app[CITIES]["town"].hub.publish([feed(town.vehicle(0, at_s=now)), feed(town.health(at_s=now))])
    await until(page, SAYS_LIVE)
    assert page.said == []


async def test_a_click_on_a_street_tells_where_its_value_is_from(fed: Any, start: Any, town: ModuleType, browse: Any) -> None:
    client = await start()
    page = await browse(str(client.make_url("/")))
    await until(page, COLOURED)
    x, y = await page.evaluate("(() => { const p = window.tilannekuva.map.map.project([24.935, 60.1705]); return [p.x, p.y]; })()")
    await page.locator("#map").click(position={"x": x, "y": y})
    panel = page.locator("#panel")
    await panel.wait_for(state="visible")
    text = await panel.inner_text()
    assert "Aleksanterinkatu" in text
    assert "mobility.town.segment-state.v1" in text
    assert "80 %" in text
    client.app[CITIES]["town"].hub.publish([fed(town.state(2, minute=1, origin="inferred", confidence=0.2))])
    await panel.locator(".caution").wait_for()
    await page.keyboard.press("Escape")
    await panel.wait_for(state="hidden")
    await page.locator("#query").fill("0018/00002")
    await page.keyboard.press("Enter")
    await panel.wait_for(state="visible")
    assert "2510" in await panel.inner_text()
    assert page.said == []


async def test_a_lost_stream_is_said_within_10_s_and_heals_by_itself(
    fed: Any, town: ModuleType, picture: Any, browse: Any, unused_tcp_port: int
) -> None:
    async def run() -> web.AppRunner:
        runner = web.AppRunner(make_app([town.Town()], pictures={"town": picture}), shutdown_timeout=1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        return runner

    runner = await run()
    page = await browse(f"http://127.0.0.1:{unused_tcp_port}/")
    await until(page, COLOURED)
    await runner.cleanup()
    await until(page, "document.querySelector('#status').dataset.state === 'stale'", timeout_s=10)
    assert "stale – no data since" in await page.locator("#status").inner_text()
    assert await page.locator("#map").evaluate("e => e.classList.contains('stale')")
    fed(town.state(1, minute=1, los="F"))
    runner = await run()
    runner.app[CITIES]["town"].hub.publish([fed(town.vehicle(1, at_s=2))])
    await until(page, "document.querySelector('#status').dataset.state !== 'stale'", timeout_s=20)
    await until(
        page,
        "window.tilannekuva.map.map.queryRenderedFeatures({layers: ['flow']}).filter(f => f.state.los === 'F').length >= 2",
        timeout_s=20,
    )
    await asyncio.sleep(0)
    await runner.cleanup()
    assert all("ERR_" in line or "Failed to" in line for line in page.said)


async def test_a_phone_in_the_dark_and_in_finnish_sees_it_too(fed: Any, start: Any, browse: Any, tmp_path: Path) -> None:
    client = await start()
    page = await browse(str(client.make_url("/?lang=fi")), viewport={"width": 390, "height": 800}, color_scheme="dark")
    await until(page, COLOURED)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "Selite" in await page.locator("#legend").inner_text()
    await page.screenshot(path=tmp_path / "phone.png")
    assert page.said == []
