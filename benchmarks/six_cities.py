"""Six cities on one machine, as a person starts the demo: seconds to the first picture, then memory of each process, processor time, latency and disk, minute by minute.

    python benchmarks/six_cities.py --seconds 120 --json demo.json
    python benchmarks/six_cities.py --seconds 3600 --fleet real --json soak.json     (make soak-hour)

``--fleet real`` puts as many vehicles into the invented towns as drive in the real ones at rush hour, together some 600 messages a second; Helsinki stays the recording.

Memory is the proportional set size (PSS: shared pages count once, divided among those who share them) of the demo and all its children, the broker's Java included.
Latency is from the time in a vehicle's message, and from its receipt by the connector, until a reader of the gateway's event stream has its position; the reader listens to
all cities, as a wall of six pages would. Disk is the data folder: log, states, networks. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from demo.everything import CITIES, demo
from demo.servers import pick_port
from demo.towns import TOWNS
from models.clock import parse_ms

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
#: Vehicles on the road at rush hour, about: what the operators' open feeds showed.
REAL = {"espoo": 240, "vantaa": 200, "tampere": 150, "turku": 130, "oulu": 100}
SAMPLE_S = 60.0
#: Until then everything still fills what it keeps for some minutes; the trend of memory is taken from there on.
SETTLED_S = 900.0


def family(root: int) -> list[int]:
    """A process and all that descend from it."""
    parent = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, of in parent.items() if of == pid]
    return found


def name_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if b"java" in words[0]:
        return "broker (Java)"
    if b"--only-demo" in words:
        return "demo (feeds, supervisor)"
    rest = [w.decode() for w in words[words.index(b"tilannekuva") + 1 :]] if b"tilannekuva" in words else []
    return {"serve": "gateway", "process": "workers", "connect": "connectors", "demo": "demo (feeds, supervisor)"}.get(
        next(iter(rest), ""), "other"
    )


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def shown(port: int, city: str) -> bool:
    """Whether a city has vehicles and coloured streets."""
    try:
        for what, sign in (("vehicles", b'"vehicle_id"'), ("segments", b'"los":"')):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/cities/{city}/{what}", timeout=5) as answer:
                body = answer.read()
            if body.count(sign) <= (body.count(b'"los":"unknown"') if what == "segments" else 0):
                return False
    except (urllib.error.URLError, OSError):
        return False
    return True


class Position(msgspec.Struct):
    """What is read of a vehicle-position."""

    event_time: str
    ingest_time: str


class Reader:
    """A page's ear: hears the positions of all cities and how old they are."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.from_event: dict[str, list[float]] = defaultdict(list)
        self.from_receipt: dict[str, list[float]] = defaultdict(list)
        self.broken = 0

    async def hear(self, city: str) -> None:
        """Until cancelled; comes back with its last id when the stream breaks."""
        last: dict[str, str] = {}
        url = f"http://127.0.0.1:{self.port}/api/v1/cities/{city}/stream?product=vehicle-position"
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                timeout = aiohttp.ClientTimeout(total=None)
                async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, headers=last) as answer:
                    await self._lines(city, answer, last)
            self.broken += 1
            await asyncio.sleep(1)

    async def _lines(self, city: str, answer: aiohttp.ClientResponse, last: dict[str, str]) -> None:
        event = ""
        async for line in answer.content:
            if line.startswith(b"id: "):
                last["Last-Event-ID"] = line[4:].strip().decode()
            elif line.startswith(b"event: "):
                event = line[7:].strip().decode()
            elif line.startswith(b"data: ") and event == "vehicle-position":
                now_ms = time.time_ns() / 1e6
                p = msgspec.json.decode(line[6:], type=Position)
                self.from_event[city].append((now_ms - parse_ms(p.event_time)) / 1000)
                self.from_receipt[city].append((now_ms - parse_ms(p.ingest_time)) / 1000)

    def taken(self) -> dict[str, Any]:
        """Seconds since the last call, as quantiles, and forget them."""
        out = {
            "positions": {c: len(v) for c, v in sorted(self.from_receipt.items())},
            "event_to_client_s": {c: quantiles(v) for c, v in sorted(self.from_event.items())},
            "receipt_to_client_s": {c: quantiles(v) for c, v in sorted(self.from_receipt.items())},
            "receipt_to_client_s_all": quantiles([x for v in self.from_receipt.values() for x in v]),
        }
        self.from_event.clear()
        self.from_receipt.clear()
        return out


def quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95, 99)}


def disk_mb(folder: Path) -> float:
    """What the files take, holes not counted."""
    total = 0
    for place, _, names in os.walk(folder):
        for n in names:
            with contextlib.suppress(OSError):
                total += os.stat(Path(place) / n).st_blocks * 512
    return total / 1e6


def sample(root: int, data: Path) -> tuple[dict[int, str], dict[str, float], dict[int, float], float]:
    """Name of each process, MB by name, CPU seconds by process, MB of disk."""
    names, mb, cpu = {}, defaultdict(float), {}
    for pid in family(root):
        with contextlib.suppress(OSError):  # it has just ended
            name = name_of(pid)
            mb[name] += pss_mb(pid)
            cpu[pid] = cpu_s(pid)
            names[pid] = name
    return names, dict(mb), cpu, disk_mb(data)


async def watch(root: int, port: int, data: Path, seconds: float, out: dict[str, Any], file: Path | None) -> None:
    """A row a minute into ``out["minutes"]``; the file is renewed with each, so that an end before its time loses nothing."""
    reader = Reader(port)
    ears = [asyncio.create_task(reader.hear(c)) for c in CITIES]
    began = time.monotonic()
    names, _, before, _ = await asyncio.to_thread(sample, root, data)
    since, seen = began, set(names)
    try:
        while time.monotonic() - began < seconds:
            await asyncio.sleep(min(SAMPLE_S, seconds))
            names, mb, cpu, disk = await asyncio.to_thread(sample, root, data)
            at = time.monotonic()
            cores: dict[str, float] = defaultdict(float)
            for pid, spent in cpu.items():
                cores[names[pid]] += (spent - before.get(pid, 0.0)) / (at - since)
            out["minutes"].append({
                "at_s": round(at - began), "pss_mb": {n: round(v, 1) for n, v in sorted(mb.items())}, "pss_mb_together": round(sum(mb.values()), 1),
                "cores": {n: round(v, 3) for n, v in sorted(cores.items())}, "cores_together": round(sum(cores.values()), 2), "disk_mb": round(disk, 1),
                "load": os.getloadavg()[0], "new_processes": sorted(names[p] for p in set(names) - seen), **reader.taken(),
            })  # fmt: skip
            since, before, seen = at, cpu, seen | set(names)
            out["reader_reconnected"] = reader.broken
            out.update(summary(out["minutes"]))
            if file:
                await asyncio.to_thread(file.write_text, json.dumps(out, indent=1) + "\n")
            row = out["minutes"][-1]
            measure.say(
                f"{row['at_s']:5d} s  {row['pss_mb_together']:7.1f} MB  {row['cores_together']:.2f} cores  {row['disk_mb']:7.1f} MB disk  "
                f"{row['receipt_to_client_s_all']} s  load {row['load']:.1f}  {row['pss_mb']}"
            )
    finally:
        for ear in ears:
            ear.cancel()
        await asyncio.gather(*ears, return_exceptions=True)


def summary(minutes: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows say: highest memory, its trend once settled, mean cores, disk an hour, worst minute of latency."""
    settled = [m for m in minutes if m["at_s"] >= SETTLED_S] or minutes[len(minutes) // 2 :]
    hours = np.array([m["at_s"] for m in settled]) / 3600

    def trend(values: list[float]) -> float | None:
        return round(float(np.polyfit(hours, values, 1)[0]), 1) if len(values) > 2 else None

    processes = sorted({n for m in minutes for n in m["pss_mb"]})
    return {
        "seconds": minutes[-1]["at_s"],
        "pss_mb_peak": {n: max(m["pss_mb"].get(n, 0.0) for m in minutes) for n in processes},
        "pss_mb_peak_together": max(m["pss_mb_together"] for m in minutes),
        "pss_mb_an_hour_once_settled": {n: trend([m["pss_mb"].get(n, 0.0) for m in settled]) for n in processes}
        | {"together": trend([m["pss_mb_together"] for m in settled])},
        "cores": {n: round(float(np.mean([m["cores"].get(n, 0.0) for m in minutes])), 3) for n in processes},
        "cores_together": round(float(np.mean([m["cores_together"] for m in minutes])), 2),
        "disk_mb_an_hour": trend([m["disk_mb"] for m in settled]),
        "positions_a_second": round(sum(sum(m["positions"].values()) for m in minutes) / minutes[-1]["at_s"], 1),
        "receipt_to_client_p95_s_median_and_worst_minute": [
            round(float(f([m["receipt_to_client_s_all"].get("p95", np.nan) for m in minutes])), 2) for f in (np.nanmedian, np.nanmax)
        ],
    }


def run(seconds: float, port: int, data: Path, fleet: str, out: dict[str, Any], file: Path | None) -> None:
    argv = [sys.executable, __file__, "--only-demo", "--fleet", fleet, "--port", str(port)]
    began = time.monotonic()
    process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "TILANNEKUVA_DATA": str(data)}, stdout=subprocess.DEVNULL)
    try:
        first: dict[str, float] = {}
        while len(first) < len(CITIES) and time.monotonic() - began < 300 and process.poll() is None:
            for city in CITIES:
                if city not in first and shown(port, city):
                    first[city] = round(time.monotonic() - began, 1)
            time.sleep(0.5)
        names, _, cpu, _ = sample(process.pid, data)
        until: dict[str, float] = defaultdict(float)
        for pid, spent in cpu.items():
            until[names[pid]] += spent
        out |= {
            "cities": list(CITIES),
            "fleet": fleet,
            "first_picture_s": first,
            "cpu_s_until_picture": {n: round(v, 1) for n, v in until.items()},
            "minutes": [],
        }
        measure.say(f"first picture after {first} s")
        asyncio.run(watch(process.pid, port, data, seconds, out, file))
    finally:
        process.send_signal(signal.SIGINT)
        out["exit"] = process.wait(60)


def only_demo(port: int, fleet: str) -> int:
    """The demo itself, with other fleets than it has of itself."""
    if fleet == "real":
        for name, vehicles in REAL.items():
            TOWNS[name] = dataclasses.replace(TOWNS[name], vehicles=vehicles)
    return asyncio.run(demo(list(CITIES), for_s=None, port=port, embedded=False, data=Path(os.environ["TILANNEKUVA_DATA"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="how long it is watched, after the picture is there")
    parser.add_argument("--fleet", choices=("demo", "real"), default="demo", help="vehicles of the invented towns")
    parser.add_argument("--json", type=Path, help="write the figures there too, each minute")
    parser.add_argument("--only-demo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_demo:
        raise SystemExit(only_demo(args.port, args.fleet))
    out: dict[str, Any] = {"machine": measure.machine(), "versions": measure.versions()}
    with tempfile.TemporaryDirectory() as folder:
        run(args.seconds, pick_port("127.0.0.1", 0, "port"), Path(folder), args.fleet, out, args.json)
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps({k: v for k, v in out.items() if k != "minutes"}, indent=1))


if __name__ == "__main__":
    main()
