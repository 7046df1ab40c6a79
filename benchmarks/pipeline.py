"""The whole pipeline on real Kafka: messages per CPU-second of the worker, where they go, and other frameworks beside it in the same run.

    python benchmarks/pipeline.py [--vehicles 1500] [--seconds 300] [--free] [--peers] [--json FILE]

The raw HFP topic is filled first, as a live connector fills it. Then `tilannekuva process hsl --until-end` works it off in a process of its own, with everything
on: decode, clean, dedupe, match, sums, windows, fusion, emissions, all open topics, snapshots, acks. Its CPU is the child's user and system time less that of a worker that finds
one tick in each partition; both are printed. ``--free``: routes that the network does not know, so that every fix is matched freely. ``--peers``: the small job of
``benchmarks/peers/`` on a plain topic of the same fleet. Measurements are repeated in turns (the machine is seldom quiet): median, least and most.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import load, measure, small_job, steps
from benchmarks.fleet import Fleet
from benchmarks.measure import Cost, say
from connectors import cities
from deploy.kafka.broker import KafkaBroker, kafka_version
from models.topics import PRODUCTS, open_topic

FEED = "hfp"


class Bench:
    """One broker, one network, one fleet."""

    def __init__(self, args: argparse.Namespace, work: Path, bootstrap: str) -> None:
        self.args, self.work, self.bootstrap = args, work, bootstrap
        self.city = cities.load("hsl")
        self.network, self.folder, self.what = load.helsinki(self.city, args.lines)
        self.start_ms = load.window_start(int(time.time() * 1000) - (args.seconds + 600) * 1000)

    def fleet(self, *, known_routes: bool = True, vehicles: int | None = None) -> Fleet:
        return Fleet(self.network, vehicles or self.args.vehicles, known_routes=known_routes, start_ms=self.start_ms)

    def worker(self, prefix: str, log: Iterable[load.Record]) -> tuple[int, Cost]:
        """Fill the raw topics under a prefix, work them off; messages and cost."""
        messages = asyncio.run(load.fill_raw(self.bootstrap, self.city, prefix, log))
        command = [sys.executable, measure.ROOT / "tilannekuva.py", "--log-level", "WARNING", "process", self.city.name, "--until-end"]
        command += ["--broker", self.bootstrap, "--prefix", prefix, "--network", self.folder]
        return messages, measure.run(command, log=self.work / f"{prefix}log", timeout_s=1800)

    def published(self, prefix: str) -> dict[str, int]:
        """Records of each product."""
        topics = {open_topic(self.city.name, p.name, prefix): p for p in PRODUCTS.values()}
        counts = asyncio.run(load.count_records(self.bootstrap, {t: p.partitions for t, p in topics.items()}))
        return {topics[t].name: n for t, n in counts.items() if n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vehicles", type=int, default=1500, help="at 1 Hz each")
    parser.add_argument("--seconds", type=int, default=300, help="of log; 300 hold exactly one heartbeat of all segments")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--free", action="store_true", help="free matching too")
    parser.add_argument("--free-seconds", type=int, default=60, help="of log for it")
    parser.add_argument("--peers", action="store_true", help="the small job on other frameworks too")
    parser.add_argument("--peer-messages", type=int, default=90_000, help="for each of them, over two minutes of event time")
    parser.add_argument("--lines", type=Path, help="HSL's line geometries (.zip); without them the network is made up")
    parser.add_argument("--json", type=Path, help="write the facts there too")
    args = parser.parse_args()
    facts: dict[str, object] = {"machine": measure.machine(), "versions": measure.versions({"kafka": kafka_version()})}
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka") as broker:
        bench = Bench(args, Path(folder), broker.address)
        python = None
        if args.peers:
            python, why = small_job.peers_python()
            facts["versions"] |= small_job.peers_versions(python) if python else {}  # type: ignore[operator]
            facts["peers_missing"] = {p: why for p in small_job.PEERS if not p.startswith("faust")} if why else {}
        measure.heading("pipeline", facts["machine"], facts["versions"])  # type: ignore[arg-type]
        say(f"network   {bench.what}")
        facts["network"] = bench.what
        measured(bench, facts, python)
        shares(bench, facts)
    measure.write_json(args.json, facts)


def measured(bench: Bench, facts: dict[str, object], python: Path | None) -> None:
    """Rounds of all measurements in turns."""
    args = bench.args
    log = list(load.raw_log(bench.city, FEED, bench.fleet(), args.seconds))
    free = list(load.raw_log(bench.city, FEED, bench.fleet(known_routes=False), args.free_seconds)) if args.free else []
    plain = (
        small_job.fill(bench.bootstrap, bench.fleet(vehicles=max(1, args.peer_messages // 120)), args.peer_messages) if args.peers else None
    )
    rates: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for k in range(args.repeat):
        _, start = bench.worker(f"empty{k}.", load.empty_log(bench.city, bench.start_ms))
        for name, records in (("pipeline", log), ("free_matching", free)):
            if not records:
                continue
            messages, cost = bench.worker(f"{name.replace('_', '-')}{k}.", records)
            net = max(cost.cpu_s - start.cpu_s, 0.01)
            rates.setdefault(name, []).append(messages / net)
            peak = "" if cost.peak_mb is None else f", peak {cost.peak_mb:.0f} MB"
            say(
                f"{name:14} {messages:,} messages, {cost.cpu_s:.2f} CPU-s whole, {start.cpu_s:.2f} to start: {net:.2f} CPU-s, "
                f"{messages / net:,.0f} messages per CPU-second, {net / messages * 1e6:.1f} us a message; {cost.wall_s:.0f} s{peak}"
            )
            if k == 0:
                facts[f"{name}_published"] = counts = bench.published(f"{name.replace('_', '-')}{k}.")
                say("               published " + ", ".join(f"{n:,} {p}" for p, n in sorted(counts.items(), key=lambda x: -x[1])))
        for peer in small_job.PEERS if plain is not None else ():
            if (python is None and not peer.startswith("faust")) or peer in failed:
                continue
            try:
                rate, whole, began, means = small_job.measure(peer, bench.bootstrap, plain, bench.work, f"{peer}{k}", python or Path())
            except measure.ChildFailed as error:
                failed[peer] = str(error)
                say(f"{peer:14} failed: {error}")
                continue
            rates.setdefault(peer, []).append(rate)
            say(
                f"{peer:14} {plain.messages:,} messages, {whole.cpu_s:.2f} CPU-s whole, {began.cpu_s:.2f} to start: "
                f"{rate:,.0f} messages per CPU-second; {means:,} means published"
            )
    spread = {name: measure.spread(values) for name, values in rates.items()}
    facts["spread"], facts["failed"] = spread, failed
    facts["pipeline"] = spread["pipeline"]["median"]
    if "free_matching" in spread:
        facts["free_matching"] = spread["free_matching"]["median"]
    facts["peers"] = {p: spread[p]["median"] for p in small_job.PEERS if p in spread}
    say()
    faust = spread.get("faust", {}).get("median")
    for name, s in spread.items():
        say(
            f"{name:14} {s['median']:>9,.0f} messages per CPU-second ({s['least']:,.0f} to {s['most']:,.0f})"
            + (f", {s['median'] / faust:.1f} x Faust" if faust else "")
        )
    for peer, why in {**dict(facts.get("peers_missing") or {}), **failed}.items():  # type: ignore[call-overload]
        say(f"{peer:14} not measured: {why}")


def shares(bench: Bench, facts: dict[str, object]) -> None:
    """Where the time goes, and the floor. Of several runs the cheapest: what disturbs a run only adds to it."""
    args = bench.args
    found: dict[str, object] = {}
    for name, known, seconds in (("pipeline", True, args.seconds), ("free_matching", False, args.free_seconds if args.free else 0)):
        if not seconds:
            continue
        log = list(load.raw_log(bench.city, FEED, bench.fleet(known_routes=known), seconds))
        runs, floors = [], []
        for k in range(args.repeat):
            prefix = f"shares-{name.replace('_', '-')}{k}."
            asyncio.run(load.fill_raw(bench.bootstrap, bench.city, prefix, []))
            runs.append(asyncio.run(steps.shares(bench.bootstrap, bench.city, bench.network, prefix, log)))
            if known:
                floors.append(asyncio.run(steps.floor(bench.bootstrap, bench.city, prefix, log, runs[-1].positions)))
        went = min(runs, key=lambda r: sum(r.us.values()))
        total = sum(went.us.values())
        found[name] = went.us
        facts[f"{name}_snapshot_ms"] = round(went.snapshot_ms, 2)
        say()
        say(
            f"{name}: the same work in this process, without Faust and its consumer: {total:.1f} us a message at best of {len(runs)} "
            f"({max(sum(r.us.values()) for r in runs):.1f} at worst; the worker's median is {1e6 / float(facts[name]):.1f})"  # type: ignore[arg-type]
        )
        for step, us in went.us.items():
            say(f"  {us:7.2f} us  {us / total:6.1%}  {step}")
        say(f"  a snapshot of one partition takes {went.snapshot_ms:.1f} ms; a live worker makes one every 3 s")
        if floors:
            least = {part: min(f[part] for f in floors) for part in floors[0]}
            found["floor"] = {k: round(v, 2) for k, v in least.items()}
            say(
                f"floor: decode {least['decode']:.2f} + encode {least['encode']:.2f} + publish {least['publish']:.2f} = {sum(least.values()):.2f} us, "
                f"{1e6 / sum(least.values()):,.0f} messages per CPU-second"
            )
    facts["steps_us"] = found


if __name__ == "__main__":
    main()
