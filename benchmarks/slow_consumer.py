"""A worker whose broker takes a tenth of what it writes, for ten minutes: its memory, its lag as the metrics show it, a SIGTERM in the middle, and then whether anything was lost.

    python -m benchmarks.slow_consumer [--minutes 10] [--vehicles 100] [--factor 10] [--json FILE]

Input comes at 1 Hz a vehicle in real time to ``tilannekuva process`` as it is. For a minute the broker takes everything, and what the worker writes without its snapshots is measured (bytes on the
broker's disk). From then on the broker itself holds the worker to a tenth of that, snapshots now included, with a quota: ``producer_byte_rate`` of its client id. It answers, and then reads nothing
more of the connection until the rate is kept again, so the producer blocks where it does behind any slow broker; nothing in the worker knows of it, and nobody's bytes are preferred.

Once the time is over the worker is ended with SIGTERM, an ordinary worker works the backlog off, and every record is compared with an undisturbed run. Ends with 1 when a record is missing or
different, when the worker ended by itself, when its stop was not clean or took 15 s, when memory left +-10 % of its mean after warming up (the first fifth of the slow time), or when the lag was
not to be seen.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import measure
from deploy.kafka.broker import KafkaBroker, free_port, kafka_version
from models.topics import open_topic, raw_topic, state_topic
from tests.kafka.harness import OPEN, Town, Worker, compare, end, process, produce, written
from tests.kafka.quota import limit
from tests.streams import world

PRODUCT = "vehicle-position"
PREFIX = "replay.slow."
#: How long the broker takes everything, seconds; the second half of it is measured.
FREE_S = 60


def on_disk(broker: KafkaBroker, town: Town) -> tuple[int, int]:
    """Bytes of this run's outputs (open topics, partials and the like) and of its snapshots."""
    raw, state = {raw_topic(town.city.raw_city, f.name, PREFIX) for f in town.city.feeds}, state_topic(town.city.name, PREFIX)
    outputs = snapshots = 0
    for log in (broker.data_dir / "data").glob(f"{PREFIX}*/*.log"):
        topic, size = log.parent.name.rpartition("-")[0], log.stat().st_size
        outputs, snapshots = outputs + size * (topic not in raw and topic != state), snapshots + size * (topic == state)
    return outputs, snapshots


def asked(port: int) -> tuple[bool, float]:
    """Whether it is ready, and the messages not yet committed, over all partitions, as Prometheus would read them."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
            well = True
    except urllib.error.HTTPError:
        well = False
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return well, sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tilannekuva_lag_messages{"))


async def measured(args: argparse.Namespace, folder: Path, broker: KafkaBroker) -> dict[str, Any]:
    seconds = FREE_S + 33 + int(args.minutes * 60)
    lines = world.recording(1, args.vehicles, seconds, late=0.002, duplicates=0.02, poison=0.002, gtfs_rt_every=10)
    town = Town(folder, lines=[line for line in lines if line.received_ms < lines[0].received_ms + seconds * 1000])
    producing = asyncio.create_task(produce(town, broker.address, "slow", speed=1.0))
    await asyncio.sleep(5)  # the topics are being made
    port, samples, ends = free_port(), list[tuple[float, float, float, bool]](), list[list[Any]]()

    def start() -> Worker:
        return Worker(town, broker.address, PREFIX, "slow", "--metrics-port", str(port))

    child = start()
    try:
        await asyncio.sleep(FREE_S / 2)
        at, before = time.monotonic(), on_disk(broker, town)
        await asyncio.sleep(FREE_S / 2)
        later, after = time.monotonic(), on_disk(broker, town)
        free_s = [(b - a) / (later - at) for a, b in zip(before, after, strict=True)]
        for step in (8, 4, 2, 1):  # at once, the quota would hold the last 11 s against it: 100 s of silence at first
            await limit(broker.address, "tilannekuva-process-toytown-slow", free_s[0] / args.factor * step)
            await asyncio.sleep(11 * (step > 1))
        slow, after = time.monotonic(), on_disk(broker, town)
        out_before = await end(broker.address, open_topic(town.city.name, PRODUCT, PREFIX))
        while time.monotonic() - slow < args.minutes * 60:
            await asyncio.sleep(2)
            if child.process.poll() is not None:  # the supervisor
                ends.append([child.process.returncode, round(time.monotonic() - slow), child.tail().splitlines()[:3]])
                child = start()
            try:
                well, lag = await asyncio.to_thread(asked, port)
            except OSError:
                continue
            samples.append((round(time.monotonic() - slow, 1), round(measure.rss_mb(child.process.pid) or 0.0, 1), lag, well))
        slow_s = [(b - a) / (time.monotonic() - slow) for a, b in zip(after, on_disk(broker, town), strict=True)]
        out = await end(broker.address, open_topic(town.city.name, PRODUCT, PREFIX)) - out_before
        child.process.send_signal(signal.SIGTERM)
        stopping = time.monotonic()
        code = await asyncio.to_thread(child.process.wait, 60)
        stopped_s = time.monotonic() - stopping
    finally:
        child.end()
        if args.log:
            args.log.write_bytes(child.log.read_bytes())
    await producing
    await process(town, broker.address, PREFIX, 1, patience_s=1800)
    found = await written(town, broker.address, PREFIX, OPEN)
    compare(town.offline(PREFIX), found)
    warm = [rss for at, rss, _, _ in samples if at > args.minutes * 12]
    mean = sum(warm) / len(warm)
    return {
        "seconds": round(stopping - slow), "messages": len(town.lines), "free_bytes_s": [round(x) for x in free_s], "slow_bytes_s": [round(x) for x in slow_s],
        "positions_in_s": round(len(found[PRODUCT].by_id) / seconds, 1), "positions_out_s": round(out / (stopping - slow), 1),
        "repeated": found[PRODUCT].records - len(found[PRODUCT].by_id),
        "rss_mean_mb": round(mean, 1), "rss_least": round(min(warm) / mean - 1, 4), "rss_most": round(max(warm) / mean - 1, 4),
        "lag_first": samples[0][2], "lag_last": samples[-1][2], "red": sum(not well for *_, well in samples), "asked": len(samples),
        "ended_by_itself": ends, "exit_on_sigterm": code, "stopped_s": round(stopped_s, 1), "load": round(os.getloadavg()[0], 1),
        "samples": samples,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--vehicles", type=int, default=100)
    parser.add_argument("--factor", type=float, default=10.0, help="how many times too slow")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, help="the slow worker's log goes there")
    args = parser.parse_args()
    facts: dict[str, Any] = {"machine": measure.machine(), "versions": measure.versions({"kafka": kafka_version()})}
    measure.heading("a broker that is too slow", facts["machine"], facts["versions"])
    with tempfile.TemporaryDirectory() as work, KafkaBroker(Path(work) / "kafka") as broker:
        facts |= asyncio.run(measured(args, Path(work), broker))
    f = facts
    (outputs, snapshots), (slow_outputs, slow_snapshots) = f["free_bytes_s"], f["slow_bytes_s"]
    measure.say(f"free      {outputs:,} bytes/s of outputs and {snapshots:,} of snapshots while the broker took all")
    measure.say(
        f"slow      {slow_outputs:,} and {slow_snapshots:,} in the {f['seconds']} s after; a quota of {outputs / args.factor:,.0f} for both"
    )
    measure.say(f"positions {f['positions_in_s']} a second came in, {f['positions_out_s']} a second went out while it was slow")
    measure.say(f"memory    mean {f['rss_mean_mb']:.0f} MB after warming up, {f['rss_least']:+.1%} to {f['rss_most']:+.1%}")
    measure.say(f"lag       {f['lag_first']:,.0f} messages at first, {f['lag_last']:,.0f} at the end, as /metrics says")
    measure.say(f"worker    ended by itself {f['ended_by_itself']}; /readyz red {f['red']} of {f['asked']} times; load {f['load']}")
    measure.say(f"stop      on SIGTERM {f['exit_on_sigterm']} after {f['stopped_s']} s")
    measure.say(f"then      an ordinary worker: nothing missing, nothing different; {f['repeated']:,} positions stand there twice")
    measure.write_json(args.json, facts)
    flat, seen = f["rss_least"] > -0.1 and f["rss_most"] < 0.1, f["lag_last"] > f["lag_first"]
    sys.exit(not (flat and seen and not f["ended_by_itself"] and f["exit_on_sigterm"] == 0 and f["stopped_s"] < 15))


if __name__ == "__main__":
    main()
