"""The page in headless Chromium over a city of 150,000 segments: when streets are first drawn and coloured, and how many frames a second a pan makes.

``python -m benchmarks.page [--segments N] [--json FILE]``. Software rendering (SwiftShader) unless ``--gpu`` lets Chromium use the machine's graphics.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import statistics
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.gateway import PORT, Town, large_picture
from benchmarks.measure import machine
from models.records import VehiclePosition, encode
from models.topics import open_topic
from serve.gateway import make_app
from serve.rest import CITIES
from serve.state import Picture

FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
SOFTWARE = ["--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
#: Whole city, districts, quarter, streets: zoom of each pan.
ZOOMS = (10.5, 12.0, 13.0, 14.5)
VEHICLES = 1_500
WATCH = """
window.seen = {};
const look = () => {
  const map = window.tilannekuva?.map?.map;
  const drawn = map?.getLayer("flow") ? map.queryRenderedFeatures([[600, 350], [680, 450]], { layers: ["flow"] }) : [];
  if (drawn.length) window.seen.streets ??= performance.now();
  if (drawn.some((f) => f.state.los)) window.seen.coloured ??= performance.now();
  if (!window.seen.coloured) setTimeout(look, 20);
};
look();
"""
PAN = """([zoom, seconds]) => new Promise((done) => {
  const map = window.tilannekuva.map.map;
  map.jumpTo({ center: [24.9, 60.24], zoom });
  map.once("idle", () => {
    const frames = [], began = performance.now(), home = map.project([24.9, 60.24]);
    const step = (now) => {
      const t = (now - began) / 1000;
      map.jumpTo({ center: map.unproject([home.x + 6, home.y]) });
      if (t > seconds) { map.off("render", drawn); return done(frames); }
      requestAnimationFrame(step);
    };
    const drawn = () => frames.push(performance.now());
    map.on("render", drawn);
    requestAnimationFrame(step);
  });
})"""


def with_vehicles(picture: Picture, count: int) -> Picture:
    """Vehicles at rest, spread over the city."""
    log_ms = 1_773_120_660_000
    from models.clock import rfc3339

    at = rfc3339(log_ms)
    for n in range(count):
        v = VehiclePosition(
            vehicle_id=f"0018/{n:05d}", event_time=at, ingest_time=at, feed="hfp", lat_deg=60.13 + 0.23 * (n * 0.618 % 1),
            lon_deg=24.55 + 0.8 * (n * 0.382 % 1), speed_mps=8.0, heading_deg=90.0, mode="bus", route_id=str(n % 90), direction_id=0, delay_s=60,
        )  # fmt: skip
        picture.apply(open_topic("town", "vehicle-position"), v.vehicle_id.encode(), encode(v), n)
    return picture


def children_cpu_s() -> float:
    """CPU-seconds so far of all living processes below this one: the browser's, its renderer's, its graphics process's."""
    below, took = {os.getpid()}, 0.0
    stats = [(int(p.parent.name), p.read_text().rpartition(")")[2].split()) for p in Path("/proc").glob("[0-9]*/stat")]
    for pid, fields in sorted(stats):
        if int(fields[1]) in below:
            below.add(pid)
            took += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return took


def frames_of(stamps: list[float]) -> dict[str, float]:
    """Frames a second over the whole pan, and the longest frames.

    >>> frames_of([0.0, 20.0, 40.0, 60.0])["fps"]
    50.0
    """
    gaps = sorted(b - a for a, b in itertools.pairwise(stamps))
    return {
        "fps": round(1000 * len(gaps) / (stamps[-1] - stamps[0]), 1),
        "median_ms": round(statistics.median(gaps), 1),
        "p95_ms": round(gaps[int(0.95 * (len(gaps) - 1))], 1),
    }


async def measure(segments: int, seconds: float, gpu: bool) -> dict[str, Any]:
    from playwright.async_api import async_playwright

    picture = with_vehicles(large_picture(segments), VEHICLES)
    app = make_app([Town()], pictures={"town": picture})
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    await app[CITIES]["town"].tiles.get(0, 0, 0)  # as the gateway does when it has read the network
    out: dict[str, Any] = {
        "segments": segments,
        "vehicles": VEHICLES,
        "cores": os.cpu_count(),
        "rendering": "gpu" if gpu else "software",
        "pan": {},
    }
    async with async_playwright() as p:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = await p.chromium.launch(executable_path=chromium, args=FLAGS + ([] if gpu else SOFTWARE))
        starts = []
        for _ in range(3):
            tab = await browser.new_page(viewport={"width": 1280, "height": 800})
            await tab.add_init_script(WATCH)
            await tab.goto(f"http://127.0.0.1:{PORT}/")
            await tab.wait_for_function("() => window.seen.coloured", timeout=60_000)
            starts.append(await tab.evaluate("window.seen"))
            if len(starts) < 3:
                await tab.close()
        out["streets_s"] = [round(s["streets"] / 1000, 2) for s in starts]
        out["coloured_s"] = [round(s["coloured"] / 1000, 2) for s in starts]
        for zoom in ZOOMS:
            await tab.evaluate(PAN, [zoom, 1])  # its tiles and what they bring are there now
            before = children_cpu_s()
            stamps = await tab.evaluate(PAN, [zoom, seconds])
            out["pan"][str(zoom)] = frames_of(stamps) | {"cpu_ms": round(1000 * (children_cpu_s() - before) / len(stamps), 1)}
        await browser.close()
    await runner.cleanup()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=150_000)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    out = asyncio.run(measure(a.segments, a.seconds, a.gpu))
    m = machine()
    print(f"{m['cpu']}, {m['cores']} cores, load {m['load_before']} before, {m['date']}")
    print(f"{out['segments']:,} segments, {out['vehicles']:,} vehicles, {out['cores']} cores, {out['rendering']} rendering")
    print(f"first streets after {out['streets_s']} s, coloured after {out['coloured_s']} s")
    for zoom, f in out["pan"].items():
        print(
            f"pan at zoom {zoom:>4}: {f['fps']:5.1f} frames/s, median {f['median_ms']} ms, 95 % within {f['p95_ms']} ms, {f['cpu_ms']} ms of CPU a frame"
        )
    if a.json:
        a.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
