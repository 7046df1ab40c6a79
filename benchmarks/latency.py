"""From MQTT publish to vehicle-position, to provisional segment-state, and to an SSE client: p50, p95, p99, with everything on this machine.

    python benchmarks/latency.py [--rates 1500] [--seconds 60] [--json FILE]

Kafka, an MQTT broker, `tilannekuva connect`, `process` and `serve` for helsinki, the fleet's publisher and this reader, each a process. An event's time is the moment at
which it was due to be published (how late the publisher was is printed and included). Position: until its record has been read from Kafka. Segment: until the first
state of the position's segment and minute whose newest data are not older than the position. SSE: the same by a client of the gateway. The first 15 s are left out.
Several rates, e.g. ``--rates 750,1500,3000``, show what this machine can.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import live, load, measure
from benchmarks.measure import say
from connectors import cities
from connectors.cities import City
from deploy.kafka.broker import KafkaBroker, free_port, kafka_version
from models.clock import parse_ms
from models.topics import open_topic
from streams.admin import ensure_topics

WARM_MS = 15_000
#: ``data_age_s`` is rounded to a tenth of a second.
ROUNDED_MS = 60


class Position(msgspec.Struct):
    """What is read of a vehicle-position."""

    event_time: str
    segment_id: str | None = None


class State(msgspec.Struct):
    """What is read of a segment-state."""

    segment_id: str
    window_end: str
    status: str
    data_age_s: float | None = None


def now_ms() -> float:
    return time.time_ns() / 1e6


class Heard:
    """Records with the time at which they came, from Kafka or from SSE."""

    def __init__(self) -> None:
        self.positions: list[tuple[float, bytes]] = []
        self.states: list[tuple[float, bytes]] = []

    def latencies(self, begin_ms: float, end_ms: float) -> dict[str, Any]:
        """Milliseconds from event to position and to segment, of the events between two times."""
        states: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(
            list
        )  # segment and minute -> (newest data, least time of hearing so new ones)
        for at, value in self.states:
            s = msgspec.json.decode(value, type=State)
            if s.status == "provisional" and s.data_age_s is not None:
                end = parse_ms(s.window_end)
                states[s.segment_id, end].append((end - s.data_age_s * 1000, at))
        for told in states.values():
            told.sort()
            for k in range(len(told) - 2, -1, -1):
                told[k] = (told[k][0], min(told[k][1], told[k + 1][1]))
        position, segment, placed = [], [], 0
        for at, value in self.positions:
            p = msgspec.json.decode(value, type=Position)
            event = parse_ms(p.event_time)
            if not begin_ms <= event < end_ms:
                continue
            position.append(at - event)
            if p.segment_id is None:
                continue
            placed += 1
            told = states.get((p.segment_id, event // 60_000 * 60_000 + 60_000), [])
            k = bisect_left(told, (event - ROUNDED_MS, 0.0))
            if k < len(told):
                segment.append(told[k][1] - event)
        return {"position_ms": summary(position), "segment_ms": summary(segment), "segment_told": round(len(segment) / max(placed, 1), 3)}


def summary(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"count": len(values), "p50": round(p50), "p95": round(p95), "p99": round(p99), "most": round(max(values))}


async def read_kafka(bootstrap: str, city: City, prefix: str, heard: Heard) -> None:
    """Read the open topics from their ends until cancelled."""
    topics = {
        open_topic(city.name, "vehicle-position", prefix): heard.positions,
        open_topic(city.name, "segment-state", prefix): heard.states,
    }
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="latest", fetch_max_wait_ms=100
    )
    await consumer.start()
    try:
        while True:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                at = now_ms()
                topics[tp.topic].extend((at, r.value) for r in records)
    finally:
        await consumer.stop()


async def read_sse(url: str, heard: Heard) -> None:
    """Read the gateway's stream until cancelled."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**20) as session, session.get(url) as answer:
        answer.raise_for_status()
        into = None
        async for line in answer.content:
            if line.startswith(b"event: "):
                into = {b"vehicle-position": heard.positions, b"segment-state": heard.states}.get(line[7:].strip())
            elif line.startswith(b"data: ") and into is not None:
                into.append((now_ms(), line[6:].strip()))


async def once(work: Path, bootstrap: str, city: City, network: Path, rate: int, seconds: int, port: int) -> dict[str, Any]:
    """All processes up, the fleet at one rate, everything heard."""
    prefix, watch, web = f"rate{rate}.", free_port(), free_port()
    await ensure_topics(bootstrap, city, prefix)
    kafka, sse = Heard(), Heard()
    with live.processes() as running:
        common = ["--broker", bootstrap, "--prefix", prefix]
        running.append(
            live.Process(work, f"process{rate}", ["process", city.name, *common, "--network", network, "--metrics-port", str(watch)])
        )
        running.append(live.Process(work, f"serve{rate}", ["serve", city.name, *common, "--port", str(web)]))
        running.append(live.Process(work, f"connect{rate}", live.connect_arguments(city.raw_city, bootstrap, prefix, port)))
        await asyncio.to_thread(running[0].answers, f"http://127.0.0.1:{watch}/readyz")
        await asyncio.to_thread(running[1].answers, f"http://127.0.0.1:{web}/readyz")
        await asyncio.to_thread(running[2].says, "mqtt up")
        url = f"http://127.0.0.1:{web}/api/v1/cities/{city.name}/stream?product=vehicle-position,segment-state"
        readers = [asyncio.create_task(read_kafka(bootstrap, city, prefix, kafka)), asyncio.create_task(read_sse(url, sse))]
        await asyncio.sleep(2)
        began_ms = now_ms()
        said = await asyncio.to_thread(live.told, live.publisher(port, network, rate, seconds))
        ended_ms = now_ms()
        await asyncio.sleep(12)
        for reader in readers:
            reader.cancel()
        for done in await asyncio.gather(*readers, return_exceptions=True):
            if isinstance(done, Exception) and not isinstance(done, asyncio.CancelledError):
                raise done
        costs = {p.name.rstrip("0123456789"): (await asyncio.to_thread(p.stop)).cpu_s for p in reversed(running)}
    warm = began_ms + min(WARM_MS, (ended_ms - began_ms) / 3)
    return {
        "rate": rate, **said, "kafka": kafka.latencies(warm, ended_ms), "sse": sse.latencies(warm, ended_ms), "cpu_s": {k: round(v, 1) for k, v in costs.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1500", help="messages a second: so many vehicles at 1 Hz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--lines", type=Path, help="HSL's line geometries (.zip); without them the network is made up")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    city = cities.load("hsl")
    _, folder, what = load.helsinki(city, args.lines)
    facts: dict[str, Any] = {
        "machine": measure.machine(),
        "versions": measure.versions({"kafka": kafka_version()}),
        "network": what,
        "rates": [],
    }
    measure.heading("latency", facts["machine"], facts["versions"])
    with tempfile.TemporaryDirectory() as name, KafkaBroker(Path(name) / "kafka") as broker, live.mqtt(Path(name)) as (port, which):
        say(f"network   {what}; MQTT by {which}")
        for rate in (int(r) for r in args.rates.split(",")):
            found = asyncio.run(once(Path(name), broker.address, city, folder, rate, args.seconds, port))
            facts["rates"].append(found)
            say(
                f"{rate:,} messages/s for {args.seconds} s; published late by p50 {found['late_p50_ms']:g}, p99 {found['late_p99_ms']:g} ms; CPU-s "
                + ", ".join(f"{k} {v:g}" for k, v in found["cpu_s"].items())
            )
            for way, title in (("kafka", "on Kafka"), ("sse", "SSE client")):
                for what_, name_ in (("position_ms", "vehicle-position"), ("segment_ms", "segment-state")):
                    s = found[way][what_]
                    if s["count"]:
                        say(
                            f"  {name_:17}{title:11} p50 {s['p50']:>6,.0f}  p95 {s['p95']:>6,.0f}  p99 {s['p99']:>6,.0f}  most {s['most']:>6,.0f} ms  ({s['count']:,})"
                        )
            say(f"  of the positions on a segment, {found['kafka']['segment_told']:.1%} were followed by a state with them")
    measure.write_json(args.json, facts)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
