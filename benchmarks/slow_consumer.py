"""A worker whose sink takes a tenth of what comes in, for ten minutes: its memory, its lag as the metrics show it, and then whether anything was lost.

    python -m benchmarks.slow_consumer [--minutes 10] [--vehicles 100] [--factor 10] [--json FILE]

Input comes at 1 Hz a vehicle in real time. The worker is ``tilannekuva process`` but for its sink, which lets a record pass only so often; once the time is over it is ended
with SIGTERM, an ordinary worker works the backlog off, and every record is compared with an undisturbed run. Ends with 1 when one is missing or different, when memory
left +-10 % of its mean after the warming up (the first fifth), or when the lag was not to be seen.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks import measure
from connectors import cities
from deploy.kafka.broker import KafkaBroker, free_port, kafka_version
from geo import store
from streams import memory, worker
from streams.metrics import WorkerMetrics
from streams.monitor import Monitor
from streams.outputs import Outputs
from tests.kafka.harness import OPEN, ROOT, Town, compare, process, produce, written
from tests.streams import world

PRODUCT = "vehicle-position"


class SlowSink(worker.KafkaSink):
    """One position each ``every_s`` seconds, whichever partition it comes from."""

    every_s = 0.0
    free_s = 0.0

    async def write(self, outputs: Outputs) -> None:
        now_s = time.monotonic()
        SlowSink.free_s = max(now_s, SlowSink.free_s) + len(outputs.records.get(PRODUCT, ())) * self.every_s
        await asyncio.sleep(SlowSink.free_s - now_s)
        await super().write(outputs)


async def slow(city: str, network: str, bootstrap: str, prefix: str, port: int, every_s: float) -> None:
    """The worker."""
    SlowSink.every_s = every_s
    worker.KafkaSink = SlowSink  # type: ignore[misc]
    registry, stop = CollectorRegistry(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    one = worker.CityWorker(
        cities.load(city), store.load(Path(network)), worker.WorkerSettings(bootstrap=bootstrap, prefix=prefix), WorkerMetrics(registry)
    )
    memory.settle()
    with Monitor([one.watchdog], registry, port):
        await worker.run_worker(one, stop)


def lag_of(port: int) -> float:
    """Messages not yet committed, over all partitions, as Prometheus would read them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tilannekuva_lag_messages{"))


async def measured(args: argparse.Namespace, folder: Path, broker: KafkaBroker) -> dict[str, Any]:
    seconds = int(args.minutes * 60)
    town = Town(folder, lines=world.recording(1, args.vehicles, seconds, late=0.002, duplicates=0.02, poison=0.002, gtfs_rt_every=10))
    producing = asyncio.create_task(produce(town, broker.address, "slow", speed=1.0))
    await asyncio.sleep(5)  # the topics are being made
    port, log, samples = free_port(), folder / "slow.log", []
    command = [
        sys.executable,
        "-m",
        "benchmarks.slow_consumer",
        "--worker",
        str(town.city_file),
        str(town.network_folder),
        broker.address,
        "replay.slow.",
        str(port),
    ]
    ends, began, told = list[list[Any]](), time.monotonic(), 0

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen([*command, str(args.factor / args.vehicles)], cwd=ROOT, stdout=out, stderr=out)

    child = start()
    try:
        while time.monotonic() - began < seconds:
            await asyncio.sleep(2)
            if child.poll() is not None:  # the supervisor
                lines = log.read_text(errors="replace").splitlines()
                ends.append([child.returncode, *(line[:300] for line in lines[told:] if "ending the process" in line or "stalled" in line)])
                told = len(lines)
                child = start()
            try:
                lag = await asyncio.to_thread(lag_of, port)
            except OSError:
                continue
            samples.append((round(time.monotonic() - began, 1), round(measure.rss_mb(child.pid) or 0.0, 1), lag))
        child.send_signal(signal.SIGTERM)
        stopping = time.monotonic()
        code = await asyncio.to_thread(child.wait, 60)
        stopped_s = time.monotonic() - stopping
    finally:
        child.kill()
    await producing
    at_end = {p: w.records for p, w in (await written(town, broker.address, "replay.slow.", [PRODUCT])).items()}
    await process(town, broker.address, "replay.slow.", 1, patience_s=1800)
    found = await written(town, broker.address, "replay.slow.", OPEN)
    compare(town.offline("replay.slow."), found)
    warm = [rss for at, rss, _ in samples if at > seconds / 5]
    mean = sum(warm) / len(warm)
    return {
        "seconds": seconds, "messages": len(town.lines), "positions_when_slow": at_end[PRODUCT], "positions": found[PRODUCT].records, "rss_mean_mb": round(mean, 1),
        "rss_least": round(min(warm) / mean - 1, 4), "rss_most": round(max(warm) / mean - 1, 4), "lag_first": samples[0][2], "lag_last": samples[-1][2],
        "ended_by_itself": ends, "exit_on_sigterm": code, "stopped_s": round(stopped_s, 1), "samples": samples,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--vehicles", type=int, default=100)
    parser.add_argument("--factor", type=float, default=10.0, help="how many times too slow")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        city, network, bootstrap, prefix, port, every_s = args.worker
        asyncio.run(slow(city, network, bootstrap, prefix, int(port), float(every_s)))
        return
    facts: dict[str, Any] = {"machine": measure.machine(), "versions": measure.versions({"kafka": kafka_version()})}
    measure.heading("a consumer that is too slow", facts["machine"], facts["versions"])
    with tempfile.TemporaryDirectory() as work, KafkaBroker(Path(work) / "kafka") as broker:
        facts |= asyncio.run(measured(args, Path(work), broker))
    f = facts
    measure.say(
        f"input     {f['messages']:,} messages in {f['seconds']} s; {f['positions_when_slow']:,} positions of {f['positions']:,} passed the slow sink"
    )
    measure.say(f"memory    mean {f['rss_mean_mb']:.0f} MB after warming up, {f['rss_least']:+.1%} to {f['rss_most']:+.1%}")
    measure.say(f"lag       {f['lag_first']:,.0f} messages at first, {f['lag_last']:,.0f} at the end, as /metrics says")
    measure.say(f"worker    ended by itself {f['ended_by_itself']}; on SIGTERM {f['exit_on_sigterm']} after {f['stopped_s']} s")
    measure.say("then      an ordinary worker: nothing missing, nothing different")
    measure.write_json(args.json, facts)
    sys.exit(not (f["rss_least"] > -0.1 and f["rss_most"] < 0.1 and f["lag_last"] > f["lag_first"]))


if __name__ == "__main__":
    main()
