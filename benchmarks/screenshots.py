"""Screenshots of the page for ``docs/dashboard.md``, made in headless Chromium over the stage (``benchmarks/stage.py``): ``python -m benchmarks.screenshots [NAME…]``."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from benchmarks import stage
from benchmarks.page import FLAGS, SOFTWARE
from serve.gateway import make_app

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "img"
WIDE = {"width": 1200, "height": 740}
HIGH = {"width": 1200, "height": 900}  # the whole panel
PHONE = {"width": 390, "height": 844}
READY = "() => window.tilannekuva?.map?.map.loaded() && window.tilannekuva.network !== null && window.tilannekuva.map.told.size > 100"
CENTRE = "24.9415,60.1725,14.6"
SLOW = """() => [...window.tilannekuva.segments].filter(([, s]) => s.origin === 'measured' && 'DEF'.includes(s.los)).sort((a, b) => b[1].confidence - a[1].confidence)[0][0]"""


async def open_page(browser: Browser, url: str, **more: Any) -> Page:
    page = await browser.new_page(**{"viewport": WIDE, "locale": "en-GB", **more})
    page.on("console", lambda m: print("console:", m.text) if m.type in ("error", "warning") and "GPU stall" not in m.text else None)
    await page.goto(url)
    await page.wait_for_function(READY, timeout=30_000)
    await page.wait_for_timeout(1500)
    return page


async def take(base: str, browser: Browser, name: str) -> None:
    """One screenshot by its name."""
    phone = {"viewport": PHONE, "device_scale_factor": 1}
    address = {
        "map": f"?lang=en&at={CENTRE}",
        "dark": f"?lang=fi&at={CENTRE}",
        "emissions": f"?lang=en&layer=co2&at={CENTRE}",
        "segment": f"?lang=en&at={CENTRE}",
        "stringline": "?lang=en&view=lines",
        "comparison": "?lang=en&view=compare",
        "past": f"?lang=sv&at={CENTRE}&time=2026-11-23T05:20:00Z",
        "phone": "?lang=fi&at=24.9443,60.172,14.3",
        "phone-lines": "?lang=fi&view=lines",
    }[name]
    more: dict[str, Any] = {"color_scheme": "dark"} if name == "dark" else {"viewport": HIGH} if name == "segment" else {}
    page = await open_page(browser, f"{base}{address}&city=helsinki", **(phone if name.startswith("phone") else {}), **more)
    if name == "segment":
        segment_id = await page.evaluate(SLOW)
        await page.evaluate("id => import('/assets/store.js').then(m => m.look({selected: {kind: 'segment', id}}))", segment_id)
        await page.locator("#panel").wait_for()
    if name == "emissions":
        await page.wait_for_timeout(2000)
        await page.mouse.move(
            *await page.evaluate(
                "() => { const p = window.tilannekuva.map.map.getCanvas().getBoundingClientRect(); return [p.x + p.width / 2, p.y + p.height / 2]; }"
            )
        )
    await page.wait_for_timeout(2500)
    FOLDER.mkdir(exist_ok=True)
    await page.screenshot(path=FOLDER / f"{name}.png", full_page=name == "phone")
    await page.close()


NAMES = ("map", "segment", "stringline", "comparison", "emissions", "past", "dark", "phone", "phone-lines")


async def run(names: list[str], cache: Path | None) -> None:
    pictures = stage.pictures(cache)
    with patch("serve.gateway.time.time_ns", lambda: (stage.NOW_MS + 2_000) * 1_000_000):
        runner = web.AppRunner(make_app(stage.towns(), pictures=pictures))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        base = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"  # type: ignore[union-attr]
        async with async_playwright() as p:
            chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
            browser = await p.chromium.launch(executable_path=chromium, args=[*FLAGS, *SOFTWARE, "--lang=en-GB"])
            for name in names:
                await take(base, browser, name)
            await browser.close()
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--cache", type=Path, help="Where the replayed records are kept between runs.")
    a = parser.parse_args()
    asyncio.run(run(list(a.names), a.cache))


if __name__ == "__main__":
    main()
