"""How the cost of a message grows with vehicles and with segments: the core alone, without Kafka.

    python benchmarks/growth.py [--vehicles 500,1500,5000,15000,50000] [--segments 1000,10000,100000,1000000] [--messages 90000] [--earlier FILE ...] [--json FILE] [--plot docs/img/growth.png]

One fleet at 1 Hz a point, on a made-up grid. Timed is everything from an envelope's bytes to encoded records: observing (decode, clean, dedupe, match, sums, encode
vehicle-position) and fusing (windows, fusion, provisional segment states), after a third of the log has warmed the caches. What does not come from messages but grows
with the network is timed apart and shared out over a minute's messages: a round of provisional emissions each minute; closing a minute, with its emissions; and writing
the records that are told again in their turn, which cost what they are many. CPU-seconds of this process.
"""

import argparse
import gc
import json
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
from streams.driver import Logged, ObserveStep
from streams.fuse import Fuser
from streams.ground import Ground
from streams.observe import Observer
from streams.outputs import Outputs, parts

FEED = "hfp"
#: Envelopes that an observer is fed at once: a quarter of what a worker with a backlog takes, which would be cheaper still.
TOGETHER = 16


def point(city: City, network: Network, vehicles: int, messages: int) -> dict[str, Any]:
    """Costs with so many vehicles on this network."""
    seconds = max(12, -(-messages // vehicles))
    fleet = Fleet(network, vehicles, start_ms=START_MS)
    ground, fuser = Ground(network), Fuser(city, network)
    steps = {(f.name, p): ObserveStep(Observer(city, f.name, p, ground)) for f in city.feeds for p in range(f.partitions)}
    warm_ms = START_MS + seconds * 1000 // 3
    offsets, partials, timed = dict.fromkeys(steps, -1), 0, 0
    held: dict[tuple[str, int], list[Logged]] = {key: [] for key in steps}
    observe_s = fuse_s = 0.0
    rounds: list[float] = []  #: CPU-seconds of provisional emissions

    def feed(key: tuple[str, int], at_ms: int) -> None:
        nonlocal partials, observe_s, fuse_s
        began = time.process_time()
        _, partial = steps[key].feed(held[key])
        held[key] = []
        between = time.process_time()
        told = fuser.emitter.told
        if partial is not None:
            written(fuser.feed(wire.decode(partial), partials))
            partials += 1
        fused = time.process_time() - between
        if told != fuser.emitter.told:
            rounds.append(fused)
            fused = 0.0
        if at_ms >= warm_ms:
            observe_s, fuse_s = observe_s + between - began, fuse_s + fused

    last_ms = START_MS + seconds * 1000 + 250
    for r in load.raw_log(city, FEED, fleet, seconds):
        if r.ingest_ms > last_ms:
            break
        key = (r.feed, r.partition)
        offsets[key] += 1
        held[key].append(Logged(r.value, offsets[key], r.ingest_ms))
        if r.ingest_ms >= warm_ms:
            timed += r.items
        if len(held[key]) == TOGETHER:
            feed(key, r.ingest_ms)
    for key in steps:
        feed(key, last_ms)
    m = minutes(fuser, steps, partials)
    rounds += m.pop("round_s")
    m["round_s"] = min(rounds)  # the first of them makes lookups
    a_minute = 60 * vehicles
    costs = {
        "observe_us": observe_s / timed * 1e6, "fuse_us": fuse_s / timed * 1e6, "minute_us": (m["round_s"] + m["close_s"]) / a_minute * 1e6,
        "write_us": m["write_s"] / a_minute * 1e6,
    }  # fmt: skip
    return {
        "vehicles": vehicles,
        "segments": len(network.segments),
        "messages": timed,
        **costs,
        "total_us": sum(costs.values()),
        **m,
        "record_us": m["write_s"] / m["records"] * 1e6,
    }


def written(out: Outputs) -> int:
    """Make all records, which wait for whoever reads them; how many there are."""
    return sum(len(part) for outs in out.records.values() for part in parts(outs))


def minutes(fuser: Fuser, steps: dict[tuple[str, int], ObserveStep], partials: int) -> dict[str, Any]:
    """CPU-seconds of closing a minute without data, mean of ten: ageing of all estimates, emissions and areas; and of writing the segments whose turn it is to be told
    again, with how many records that makes. Before that, minutes with data end, with a provisional round each at most."""
    close_s = write_s = 0.0
    records = 0
    rounds: list[float] = []
    log_ms = max(s.log_ms() for s in steps.values())
    for k in range(2, 14):
        told = []
        for step in steps.values():
            step.idle((log_ms // WINDOW_MS + k) * WINDOW_MS + 1)
            partial = step.flush()
            assert partial is not None
            told.append(wire.decode(partial))
        due = sum(w > fuser.emitter.told for w in fuser.windows)
        began = time.process_time()
        outs = []
        for p in told:
            outs.append(fuser.feed(p, partials))
            partials += 1
        between = time.process_time()
        n = sum(map(written, outs))
        if k >= 4:
            close_s, write_s, records = close_s + between - began, write_s + time.process_time() - between, records + n
        elif k == 2 and due:
            rounds.append((time.process_time() - began) / due)
    return {"close_s": close_s / 10, "write_s": write_s / 10, "records": records / 10, "round_s": rounds}


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        "| vehicles | segments | observe | fuse | minutes | records | together, µs a message | round + close, ms a minute | records a minute | µs a record |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r['vehicles']:,} | {r['segments']:,} | {r['observe_us']:.1f} | {r['fuse_us']:.1f} | {r['minute_us']:.1f} | {r['write_us']:.1f} | **{r['total_us']:.1f}** "
        f"| {r['round_s'] * 1e3:.0f} + {r['close_s'] * 1e3:.0f} | {r['records']:,.0f} | {r['record_us']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], file: Path) -> bool:
    """Cost against size, where matplotlib is installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return False
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    kinds = (("observe_us", "observe"), ("fuse_us", "fuse"), ("minute_us", "a minute of the whole network"), ("write_us", "its records"))
    for axis, by, rest in zip(axes, ("vehicles", "segments"), ("on 30,000 segments", "with 1,500 vehicles"), strict=True):
        some = sorted((r for r in rows if r["by"] == by), key=lambda r: r[by])
        if not some:
            continue
        sizes = [r[by] for r in some]
        axis.stackplot(sizes, *([r[name] for r in some] for name, _ in kinds), labels=[label for _, label in kinds], alpha=0.8)
        axis.axhline(1.5 * some[0]["total_us"], color="black", linewidth=1, linestyle="--", label="1.5 x the smallest")
        axis.set(xscale="log", ylim=(0, None), xlabel=f"{by}, {rest}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("µs of CPU a message")
    axes[1].legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vehicles", default="500,1500,5000,15000,50000", help="on 30,000 segments; empty for none")
    parser.add_argument("--segments", default="1000,10000,100000,1000000", help="with 1,500 vehicles; empty for none")
    parser.add_argument("--messages", type=int, default=90_000, help="a point, at least 12 s of log")
    parser.add_argument(
        "--earlier", type=Path, nargs="*", default=[], metavar="FILE", help="JSON of runs before, whose points are shown too"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a picture; needs matplotlib: the research extra")
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
    rows = sorted(
        rows + [r for file in args.earlier for r in json.loads(file.read_text())["rows"]], key=lambda r: (r["by"] == "segments", r[r["by"]])
    )
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
