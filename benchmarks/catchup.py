"""A backlog worked off: how many times real time, and whether memory stays flat.

    python benchmarks/catchup.py [--messages 1000000] [--vehicles 1500] [--segments 150000] [--json FILE]
    python benchmarks/catchup.py --live --segments 150000 --messages 900000      the same without a backlog: what a worker holds that keeps up

``--messages 10000000`` is what a worker finds after two hours' absence at HSL's peak; it takes half an hour and 3 GB of disk. The backlog is written first, then
`tilannekuva process` works it off; its resident memory is read every second. The first quarter of the time is warming up.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import load, measure
from benchmarks.fleet import Fleet
from benchmarks.measure import say
from connectors import cities
from deploy.kafka.broker import KafkaBroker, kafka_version

FEED, PREFIX = "hfp", "catchup."


def paced(log: Iterator[load.Record], start_ms: int) -> Iterator[load.Record]:
    """Each record when it is its time, for a thread of its own."""
    for record in log:
        time.sleep(max(0.0, (record.ingest_ms - start_ms) / 1000 - time.time() + start_ms / 1000))
        yield record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--vehicles", type=int, default=1500, help="at 1 Hz each")
    parser.add_argument("--segments", type=int, help="about so many made-up streets: 150,000 are all of Helsinki's region")
    parser.add_argument("--lines", type=Path, help="HSL's line geometries (.zip); without them the network is made up")
    parser.add_argument(
        "--live", action="store_true", help="written as it happens, while the worker runs, which is ended with SIGTERM after the last"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    city = cities.load("hsl")
    network, folder, what = load.made(city, args.segments) if args.segments else load.helsinki(city, args.lines)
    facts: dict[str, Any] = {"machine": measure.machine(), "versions": measure.versions({"kafka": kafka_version()}), "network": what}
    measure.heading("catch-up", facts["machine"], facts["versions"])
    say(f"network   {what}")
    seconds = -(-args.messages // args.vehicles)
    now_ms = int(time.time() * 1000)
    start_ms = now_ms + 15_000 if args.live else load.window_start(now_ms - (seconds + 600) * 1000)
    samples: list[tuple[float, float]] = []
    ended = False

    def sample(pid: int, at_s: float) -> None:
        nonlocal ended
        if args.live and not ended and time.time() * 1000 > start_ms + seconds * 1000 + 5_000:
            os.kill(pid, signal.SIGTERM)
            ended = True
        rss = measure.rss_mb(pid)
        if rss is not None:
            samples.append((round(at_s, 1), round(rss, 1)))

    with tempfile.TemporaryDirectory() as work, KafkaBroker(Path(work) / "kafka") as broker:
        log = load.raw_log(city, FEED, Fleet(network, args.vehicles, start_ms=start_ms), seconds)
        command = [sys.executable, measure.ROOT / "tilannekuva.py", "--log-level", "WARNING", "process", city.name]
        command += ["--broker", broker.address, "--prefix", PREFIX, "--network", folder]
        if args.live:
            messages = seconds * args.vehicles
            threading.Thread(
                target=lambda: asyncio.run(load.fill_raw(broker.address, city, PREFIX, paced(log, start_ms))), daemon=True
            ).start()
        else:
            messages = asyncio.run(load.fill_raw(broker.address, city, PREFIX, log))
            command.append("--until-end")
        say(f"{'live' if args.live else 'backlog'}      {messages:,} messages, {seconds:,} s of {args.vehicles:,} vehicles at 1 Hz")
        cost = measure.run(command, log=Path(work) / "worker.log", timeout_s=4 * 3600, every=sample, every_s=1.0)
    warm = [rss for at, rss in samples if at > cost.wall_s / 4]
    half = len(warm) // 2
    first, second = (sum(part) / max(len(part), 1) for part in (warm[:half], warm[half:]))
    facts |= {
        "messages": messages, "seconds_of_log": seconds, "wall_s": round(cost.wall_s, 1), "cpu_s": round(cost.cpu_s, 2), "times_real_time": round(seconds / cost.wall_s, 2),
        "messages_per_second": round(messages / cost.wall_s), "peak_mb": cost.peak_mb, "rss_mb": samples, "rss_first_half_mb": first, "rss_second_half_mb": second,
    }  # fmt: skip
    say(
        f"worked    in {cost.wall_s:.0f} s, start and stop included: {seconds / cost.wall_s:.1f} x real time, {messages / cost.wall_s:,.0f} messages/s; {cost.cpu_s:.0f} CPU-s"
    )
    if warm:
        say(
            f"memory    {min(warm):.0f} to {max(warm):.0f} MB after warming up, median {sorted(warm)[half]:.0f}, more than 600 in {sum(m > 600 for m in warm) / len(warm):.0%} of the time; mean {first:.0f} MB in its first half, {second:.0f} MB in its second "
            f"({second / first - 1:+.1%}); peak {cost.peak_mb or 0:.0f} MB"
        )
        for at, rss in samples[:: max(1, len(samples) // 12)]:
            say(f"  {at:7.1f} s  {rss:6.0f} MB")
    measure.write_json(args.json, facts)


if __name__ == "__main__":
    main()
