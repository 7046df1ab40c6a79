"""How the cost of a message grows with vehicles and with segments: the core alone, without Kafka.

    python benchmarks/growth.py [--vehicles 500,1500,5000,15000,50000] [--segments 1000,10000,100000,1000000] [--messages 90000] [--json FILE] [--plot FILE.svg]

One fleet at 1 Hz a point, on a made-up grid. Timed is everything from an envelope's bytes to encoded records: observing (decode, clean, dedupe, match, sums, encode
vehicle-position) and fusing (windows, fusion, provisional segment states), after a third of the log has warmed the caches. What does not come from messages but
grows with the network is timed apart and then shared out over a minute's messages: closing a minute, with the segments that are told again in their turn. CPU-seconds
of this process.
"""

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import load, measure
from benchmarks.fleet import START_MS, Fleet
from benchmarks.measure import say
from connectors import cities
from connectors.cities import City
from geo.network import Network
from streams import partial as wire
from streams.cells import WINDOW_MS
from streams.driver import DriverSettings, Logged, ObserveStep
from streams.fuse import Fuser
from streams.ground import Ground
from streams.observe import Observer

FEED = "hfp"


def point(city: City, network: Network, vehicles: int, messages: int) -> dict[str, Any]:
    """Costs with so many vehicles on this network."""
    seconds = max(12, -(-messages // vehicles))
    fleet = Fleet(network, vehicles, start_ms=START_MS)
    ground, fuser = Ground(network), Fuser(city, network)
    steps = {(f.name, p): ObserveStep(Observer(city, f.name, p, ground)) for f in city.feeds for p in range(f.partitions)}
    warm_ms = START_MS + seconds * 1000 // 3
    offsets, partials, timed, together = dict.fromkeys(steps, -1), 0, 0, DriverSettings().together
    held: dict[tuple[str, int], list[Logged]] = {key: [] for key in steps}
    observe_s = fuse_s = 0.0
    for r in load.raw_log(city, FEED, fleet, seconds):
        if r.ingest_ms > START_MS + seconds * 1000 + 250:
            break
        key = (r.feed, r.partition)
        offsets[key] += 1
        held[key].append(Logged(r.value, offsets[key], r.ingest_ms))
        if r.ingest_ms >= warm_ms:
            timed += r.items
        if len(held[key]) < together:
            continue
        began = time.process_time()
        _, partial = steps[key].feed(held[key])
        held[key] = []
        between = time.process_time()
        if partial is not None:
            fuser.feed(wire.decode(partial), partials)
            partials += 1
        if r.ingest_ms >= warm_ms:
            observe_s, fuse_s = observe_s + between - began, fuse_s + time.process_time() - between
    minute_s = minutes(fuser, steps, partials)
    costs = {"observe_us": observe_s / timed * 1e6, "fuse_us": fuse_s / timed * 1e6, "minute_us": minute_s / (60 * vehicles) * 1e6}
    return {
        "vehicles": vehicles,
        "segments": len(network.segments),
        "messages": timed,
        **costs,
        "total_us": sum(costs.values()),
        "minute_s": minute_s,
    }


def minutes(fuser: Fuser, steps: dict[tuple[str, int], ObserveStep], partials: int) -> float:
    """CPU-seconds of closing a minute without data, mean of ten: ageing of all estimates, and the segments whose turn it is to be told again."""
    took = 0.0
    log_ms = max(s.log_ms() for s in steps.values())
    for k in range(2, 14):
        told = []
        for step in steps.values():
            step.idle((log_ms // WINDOW_MS + k) * WINDOW_MS + 1)
            partial = step.flush()
            assert partial is not None
            told.append(wire.decode(partial))
        began = time.process_time()
        for p in told:
            fuser.feed(p, partials)
            partials += 1
        if k >= 4:  # before that, minutes with data end
            took += time.process_time() - began
    return took / 10


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        "| vehicles | segments | observe µs | fuse µs | minutes µs | together µs | a minute ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r['vehicles']:,} | {r['segments']:,} | {r['observe_us']:.1f} | {r['fuse_us']:.1f} | {r['minute_us']:.1f} | {r['total_us']:.1f} | {r['minute_s'] * 1e3:.0f} |"
        for r in rows
    ]
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], file: Path) -> bool:
    """Cost against size, where matplotlib is installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return False
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, by in zip(axes, ("vehicles", "segments"), strict=True):
        some = sorted((r for r in rows if r["by"] == by), key=lambda r: r[by])
        axis.plot([r[by] for r in some], [r["total_us"] for r in some], "o-")
        axis.set(xscale="log", ylim=(0, None), xlabel=by)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("µs of CPU a message")
    figure.tight_layout()
    figure.savefig(file)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vehicles", default="500,1500,5000,15000,50000", help="on 30,000 segments; empty for none")
    parser.add_argument("--segments", default="1000,10000,100000,1000000", help="with 1,500 vehicles; empty for none")
    parser.add_argument("--messages", type=int, default=90_000, help="a point, at least 12 s of log")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="needs matplotlib")
    args = parser.parse_args()
    city = cities.load("hsl")
    facts: dict[str, Any] = {"machine": measure.machine(), "versions": measure.versions()}
    measure.heading("growth", facts["machine"], facts["versions"])
    rows: list[dict[str, Any]] = []
    vehicles, segments = ([int(x) for x in text.split(",") if x] for text in (args.vehicles, args.segments))
    if vehicles:
        network = load.grid(city, 30_000, 1_000)
        rows += [{"by": "vehicles", **point(city, network, n, args.messages)} for n in vehicles]
    for n in segments:
        gc.collect()
        rows.append({"by": "segments", **point(city, load.grid(city, n, 1_000), 1_500, args.messages)})
    say(table(rows))
    for by in ("vehicles", "segments"):
        costs = [r["total_us"] for r in rows if r["by"] == by]
        if costs:
            say(f"{by}: dearest point {max(costs) / min(costs):.2f} x the cheapest; last {costs[-1] / costs[0]:.2f} x the first")
    if args.plot is not None and not plot(rows, args.plot):
        say("no plot: matplotlib is not installed")
    measure.write_json(args.json, facts | {"rows": rows})


if __name__ == "__main__":
    main()
