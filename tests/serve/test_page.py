"""The live map in a real browser: streets coloured, vehicles moving, staleness said, nothing on the console."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import axe_playwright_python.base
import msgspec
import pytest
from aiohttp import web
from playwright.async_api import Page, async_playwright

from models.clock import rfc3339
from models.records import encode
from serve.gateway import make_app
from serve.history import History
from serve.rest import CITIES
from streams.archive_files import Files, Source
from streams.archive_rows import Row
from streams.archive_store import Store
from tests.models.test_indicators import day, hour

WEB = Path(__file__).resolve().parents[2] / "serve" / "web"
AXE = Path(axe_playwright_python.__file__ or next(iter(axe_playwright_python.__path__))).parent / "axe.min.js"
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


async def test_a_phone_in_the_dark_and_in_finnish_sees_it_too(fed: Any, start: Any, town: ModuleType, browse: Any, tmp_path: Path) -> None:
    fed(town.vehicle(1, at_s=1, headsign="Pohjoisesplanadi ja Kauppatori", delay_s=-71))
    client = await start()
    page = await browse(str(client.make_url("/?lang=fi")), viewport={"width": 390, "height": 800}, color_scheme="dark")
    await until(page, COLOURED)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.locator("#lines .route").first.wait_for()
    assert await page.evaluate("document.querySelector('#lines').offsetWidth <= document.querySelector('#lines').parentElement.clientWidth")
    assert await axe(page) == []
    assert "Selite" in await page.locator("#legend").inner_text()
    await page.screenshot(path=tmp_path / "phone.png")
    assert page.said == []


async def axe(page: Page) -> list[str]:
    """Violations of WCAG 2.2 A and AA, by axe-core."""
    found = await page.context.new_cdp_session(page)
    await found.send("Runtime.evaluate", {"expression": AXE.read_text()})
    answer = await found.send(
        "Runtime.evaluate",
        {
            "expression": "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}).then(r => JSON.stringify(r.violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 120)} ${n.failureSummary}`))))",
            "awaitPromise": True,
        },
    )
    return list(json.loads(answer["result"]["value"]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["map", "lines", "compare"])
async def test_axe_finds_no_violation_in_any_view_now_and_an_hour_ago(fed: Any, start: Any, browse: Any, view: str, scheme: str) -> None:
    fed(msgspec.structs.replace(day("town", {6: hour(tti=1.5), 7: hour(tti=1.1)}), day="2026-03-10"))
    client = await start()
    page = await browse(str(client.make_url(f"/?view={view}&segment=w2_1_2_f")), color_scheme=scheme)
    await until(page, "window.tilannekuva?.network !== undefined && window.tilannekuva.network !== null")
    await page.locator("#panel").wait_for()
    if view == "compare":
        await page.locator("#compare-chart .bar").first.wait_for()
    assert await axe(page) == []
    await page.locator("#hour-ago").click()
    await page.locator("#past").wait_for()
    await until(page, "document.body.dataset.time === 'past'")
    assert await page.evaluate("document.body.dataset.view") == view
    assert await axe(page) == []


async def test_a_dead_feed_is_ranked_and_greys_what_hangs_on_it(feed: Any, start: Any, town: ModuleType, browse: Any) -> None:
    now = time.time() - town.NOW / 1000
    feed(town.street(0))
    feed(town.vehicle(0, at_s=now))
    feed(town.health(at_s=now))
    client = await start()
    page = await browse(str(client.make_url("/")))
    await until(page, SAYS_LIVE)
    client.app[CITIES]["town"].hub.publish([feed(town.health(at_s=now + 1, status="dead", detail="no answer"))])
    await until(page, "/hfp: dead/.test(document.querySelector('#wrong').textContent)")
    assert await page.locator("#feeds li").get_attribute("data-state") == "dead"
    await until(page, "[...window.tilannekuva.map.fleet.vehicles.values()].every(v => v.properties.silent)")
    await until(page, "document.querySelector('#map').classList.contains('stale')")
    await page.locator("#wrong button").first.click()
    assert "no answer" in await page.locator("#panel").inner_text()


async def test_an_hour_ago_looks_like_the_past_and_now_comes_back(fed: Any, start: Any, town: ModuleType, browse: Any) -> None:
    fed(town.state(1, minute=-61, los="A", status="final"))
    fed(town.state(1, minute=1, los="F", status="final"))
    fed(town.vehicle(1, at_s=65))
    client = await start()
    page = await browse(str(client.make_url("/")))
    await until(page, COLOURED)
    await page.locator("#hour-ago").click()
    await page.locator("#past").wait_for()
    assert "this is not live" in await page.locator("#past").inner_text()
    assert "EET" in await page.locator("#past").inner_text()
    await until(page, "window.tilannekuva.map.segments.get('w1_1_2_f')?.los === 'A'")
    assert "time=2026-03-10T04%3A31" in page.url
    await page.locator("#back-to-live").click()
    await until(page, "window.tilannekuva.map.segments.get('w1_1_2_f')?.los === 'F'")
    assert await page.locator("#past").is_hidden()
    assert page.said == []


SITUATION = b'{"situation_id":"t/%d","kind":"incident","severity":"high","feed":"t","event_time":"%b","ingest_time":"%b","title":{"en":"%b"},"geometry":{"type":"Point","coordinates":[24.935,60.17]}%b}'
ICONS = "[...new Set(window.tilannekuva.map.map.querySourceFeatures('situations').map(f => f.properties.id))]"


async def test_what_was_wrong_an_hour_ago_is_shown_with_the_lines_and_the_emissions_of_then(
    fed: Any, start: Any, town: ModuleType, browse: Any
) -> None:
    def at(minute: float) -> bytes:
        return rfc3339(town.NOW + int(minute * 60_000)).encode()

    fed(town.state(1, minute=-61, los="A", status="final"))
    for n, minute, title, more in (
        (1, -70, b"Crash of then", b""),
        (1, -30, b"Crash of then", b',"ended":true'),
        (2, 0, b"Crash of now", b""),
    ):
        fed(SITUATION % (n, at(minute), at(minute), title, more), product="situation", key=f"t/{n}")
    for minute, delay in ((-61, 900), (0, 0)):
        line = b'{"route_id":"2510","direction_id":0,"window_end":"%b","delay_p50_s":%d,"vehicles":4}' % (at(minute + 1), delay)
        fed(line, product="line-fluency", key="2510:0")
        co2 = b'{"segment_id":"w1_1_2_f","window_start":"%b","window_end":"%b","co2_total":{"value":%d,"lo95":800.0,"hi95":90000.0}}'
        fed(co2 % (at(minute), at(minute + 1), 16_000 if minute else 64_000), product="emission-segment", key="w1_1_2_f")
    fed(town.vehicle(1, at_s=65))
    client = await start()
    page = await browse(str(client.make_url("/?layer=co2&segment=w1_1_2_f")))
    await until(page, "/Crash of now/.test(document.querySelector('#wrong').textContent)")
    await until(page, "window.tilannekuva.map.co2.get('w1_1_2_f')?.[0] === 400")
    await page.locator("#hour-ago").click()
    await until(page, "/Crash of then/.test(document.querySelector('#wrong').textContent)")
    wrong = await page.locator("#wrong").inner_text()
    assert "Crash of now" not in wrong
    assert "late by +15:00 min" in wrong
    assert "hfp" not in wrong
    await until(page, f"{ICONS}.join() === 't/1'")
    await until(page, "Math.round(window.tilannekuva.map.co2.get('w1_1_2_f')?.[0]) === 100")
    assert "+15:00 min" in await page.locator("#lines").inner_text()
    await until(page, "/CO₂\\s+100/.test(document.querySelector('#panel').innerText)")
    assert await axe(page) == []
    await page.locator("#hour-ago").click()
    await until(page, "/No CO₂ of this time/.test(document.querySelector('#past').textContent)")
    assert "Nothing is kept of this time" in await page.locator("#past").inner_text()
    await page.locator("#back-to-live").click()
    await until(page, "/Crash of now/.test(document.querySelector('#wrong').textContent)")
    await until(page, "window.tilannekuva.map.co2.get('w1_1_2_f')?.[0] === 400")
    assert page.said == []


async def test_a_share_link_brings_back_city_view_layer_and_time_and_playing_goes_on_from_there(
    fed: Any, start: Any, town: ModuleType, browse: Any
) -> None:
    for minute in range(-61, 2):
        fed(town.state(1, minute=minute, los="A" if minute < -50 else "F", status="final"))
    fed(town.vehicle(1, at_s=65))
    client = await start()
    page = await browse(str(client.make_url("/?layer=co2")))
    await until(page, COLOURED)
    await page.locator("#hour-ago").click()
    await until(page, "window.tilannekuva.map.segments.get('w1_1_2_f')?.los === 'A'")
    await page.locator("#views button[value=lines]").click()
    await page.locator("#share").click()
    again = await browse(page.url)
    await until(again, "window.tilannekuva?.map.segments.get('w1_1_2_f')?.los === 'A'")
    assert await again.evaluate("[window.tilannekuva.city.name, window.tilannekuva.view, window.tilannekuva.layer]") == [
        "town",
        "lines",
        "co2",
    ]
    assert await again.evaluate("window.tilannekuva.at") == await page.evaluate("window.tilannekuva.at")
    await again.locator("#speed").select_option("60")
    await again.locator("#play").click()
    before = await again.evaluate("window.tilannekuva.at")
    await until(again, f"window.tilannekuva.at >= {before} + 180000")
    await again.locator("#play").click()
    await until(again, "window.tilannekuva.speed === 0")
    assert await axe(again) == []
    assert again.said == []


async def test_a_day_of_the_archive_is_shown_by_its_date(fed: Any, start: Any, town: ModuleType, browse: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "archive", make=True)
    files = Files.open(store, Source("town", "segment-state", "mobility.town.segment-state.v1", "CC-BY-4.0", ("Town",)), 0)
    days = 20
    states = [town.state(1, minute=m - days * 1440, los="E", status="final") for m in range(-10, 10)]
    files.write([Row(n, town.NOW - days * 86_400_000, b"k", encode(s), str(n)) for n, s in enumerate(states)], 0)
    fed(town.state(1, minute=0, los="F", status="final"))
    client = await start(archive=History(tmp_path / "archive"))
    page = await browse(str(client.make_url("/")))
    await until(page, COLOURED)
    await page.locator("#day").fill("2026-02-18")
    await until(page, "window.tilannekuva.map.segments.get('w1_1_2_f')?.los === 'E'")
    assert "18 Feb 2026" in await page.locator("#past").inner_text()
    assert page.said == []


async def test_the_night_on_which_clocks_change_has_25_hours_on_the_scrubber_and_in_the_charts(
    fed: Any, start: Any, town: ModuleType, browse: Any
) -> None:
    client = await start()
    page = await browse(str(client.make_url("/?lang=en&time=2025-10-26T12:00:00Z")))
    await until(page, "window.tilannekuva?.at === Date.parse('2025-10-26T12:00:00Z')")
    await until(page, "document.querySelector('#scrub').max - document.querySelector('#scrub').min === 25 * 3600000")
    assert await page.locator("#when").inner_text() == "Sun, 26 Oct 2025, 14:00 EET"
    first, last = 1_761_426_000_000, 1_761_516_000_000  # local midnights
    ticks = await page.evaluate(
        """([first, last]) => Promise.all([import('/assets/charts.js'), import('/assets/format.js')]).then(([c, f]) =>
           [4, 30].map((n) => c.timeTicks(first, last, n, f.aheadMs).map(f.hourMinute)))""",
        [first, last],
    )
    assert ticks[0] == ["00:00", "12:00", "00:00"] or ticks[0] == ["00:00", "06:00", "12:00", "18:00", "00:00"]
    assert ticks[1].count("03:00") == 2
    await page.goto(str(client.make_url("/?lang=en&time=2024-02-29T12:00:00Z")))
    await until(page, "window.tilannekuva?.at === Date.parse('2024-02-29T12:00:00Z')")
    assert await page.locator("#when").inner_text() == "Thu, 29 Feb 2024, 14:00 EET"
    assert await page.locator("#day").input_value() == "2024-02-29"


async def test_languages_change_and_the_keyboard_alone_reaches_a_street(fed: Any, start: Any, browse: Any) -> None:
    client = await start()
    page = await browse(str(client.make_url("/?lang=en")))
    await until(page, COLOURED)
    await page.locator("#language").select_option("sv")
    await until(page, "document.documentElement.lang === 'sv' && /Fel just nu/.test(document.body.textContent)")
    await until(page, COLOURED)
    await page.locator("#query").focus()
    await page.keyboard.type("aleks")
    await page.locator("#found button").first.wait_for()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.locator("#panel").wait_for()
    assert await page.evaluate("document.activeElement.id") == "panel"
    await page.keyboard.press("Escape")
    assert await page.locator("#panel").is_hidden()


def test_every_language_has_every_word() -> None:
    keys = {
        code: set(re.findall(r"(?:^|[ {,])([A-Za-z_0-9]+): \"", (WEB / f"text-{code}.js").read_text(), re.M)) for code in ("en", "fi", "sv")
    }
    assert keys["en"] == keys["fi"] == keys["sv"]
    used = {key for file in WEB.glob("*.js") for key in re.findall(r"\bt\(\"(\w+)\"", file.read_text())}
    assert used <= keys["en"]
