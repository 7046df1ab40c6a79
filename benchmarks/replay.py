"""How fast a replay runs: an archived quarter of an hour of all of Helsinki's vehicles into Parquet, without a broker, on one core.

    python benchmarks/replay.py [--vehicles 1500] [--seconds 900] [--lines HSL_linjat.zip] [--json FILE]

The archive is written first, with the raw envelopes that a connector makes of that many HFP messages a second. Then `tilannekuva replay ARCHIVE --to DIR` runs in a process of its own, on one
core, with everything on that a replay does: hashes of what goes in, decode, clean, match, sums, windows, fusion, emissions, all products as Parquet, hashes of what comes out. Printed is
log time over CPU time (user and system), of the whole run, its start included, and beside a run over the first third, so that the start drops out.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import load, measure
from benchmarks.fleet import Fleet
from benchmarks.measure import Cost, say
from connectors import cities
from connectors.cities import City
from connectors.envelope import encode
from models.topics import raw_topic
from streams.archive_files import Files, Source
from streams.archive_rows import Row
from streams.archive_store import Store

FEED = "hfp"
#: Rows of a batch, as an archiver would flush.
BATCH = 2_000


def archived(folder: Path, city: City, fleet: Fleet, seconds: int) -> tuple[int, float]:
    """The fleet's raw topics as an archive; messages and MB."""
    city = cities.load(city.raw_city)  # which connects to the feeds
    store, waiting, files, messages = Store(folder, make=True), {}, {}, 0
    next_offset: dict[tuple[str, int], int] = {}
    for feed, partition, e in load.envelopes(city, FEED, fleet.seconds(seconds)):
        key = feed, partition
        if key not in files:
            source = Source(city.raw_city, "raw", raw_topic(city.raw_city, feed), "CC-BY-4.0", ("made up",), feed, True)
            files[key], waiting[key] = Files.open(store, source, partition), []
        offset = next_offset[key] = next_offset.get(key, -1) + 1
        waiting[key].append(Row(offset, e.ingest_ms, None, encode(e), None))
        messages += len(e.items)
        if len(waiting[key]) >= BATCH:
            files[key].write(waiting[key], 0)
            waiting[key] = []
    for key, rows in waiting.items():
        if rows:
            files[key].write(rows, 0)
    return messages, sum(h.size for h in store.files("")) / 1e6


def replayed(archive: Path, to: Path, city: City, network: Path, log: Path, messages: int) -> Cost:
    """Raises ChildFailed, also when not every message was read."""
    command = [
        sys.executable,
        measure.ROOT / "tilannekuva.py",
        "replay",
        archive,
        "--city",
        city.name,
        "--network",
        network,
        "--to",
        to,
        "--simulated",
    ]
    cost = measure.run(command, log=log, timeout_s=3600)
    read = json.loads((to / "summary.json").read_text())["feeds"].get(FEED, {}).get("events")
    if read != messages:
        raise measure.ChildFailed(f"{read} of {messages} messages were read")
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vehicles", type=int, default=1500, help="at 1 Hz each")
    parser.add_argument("--seconds", type=int, default=900, help="of log")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--lines", type=Path, help="HSL's line geometries (.zip); without them the network is made up")
    parser.add_argument("--json", type=Path, help="write the facts there too")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    city = cities.load("hsl")
    network, folder, what = load.helsinki(city, args.lines)
    facts: dict[str, object] = {"machine": measure.machine(), "versions": measure.versions(), "network": what, "vehicles": args.vehicles}
    measure.heading("replay", facts["machine"], facts["versions"])  # type: ignore[arg-type]
    say(f"network   {what}")
    rounds, messages = [], {}
    with tempfile.TemporaryDirectory() as work:
        lengths = {"short": args.seconds // 3, "long": args.seconds}
        for name, seconds in lengths.items():
            messages[name], size_mb = archived(Path(work) / name, city, Fleet(network, args.vehicles), seconds)
            say(f"archive   {name}: {seconds} s, {messages[name]:,} messages of {args.vehicles} vehicles, {size_mb:.0f} MB")
        for k in range(args.repeat):
            costs = {}
            for name, seconds in lengths.items():
                c = costs[name] = replayed(
                    Path(work) / name, Path(work) / f"{name}-{k}", city, folder, Path(work) / f"{name}-{k}.log", messages[name]
                )
                peak = "" if c.peak_mb is None else f", peak {c.peak_mb:.0f} MB"
                say(
                    f"{name:9} {seconds} s of log: {c.cpu_s:.2f} CPU-s, {seconds / c.cpu_s:.1f} times real time with its start; {c.wall_s:.0f} s{peak}"
                )
            net_s = costs["long"].cpu_s - costs["short"].cpu_s
            net = (lengths["long"] - lengths["short"]) / max(net_s, 0.01)
            say(f"net       {net:.1f} times real time on one core, {net * args.vehicles:,.0f} messages per CPU-second")
            rounds.append({"whole": lengths["long"] / costs["long"].cpu_s, "net": net, "peak_mb": costs["long"].peak_mb})
    facts["times_real_time"] = rounds
    measure.write_json(args.json, facts)


if __name__ == "__main__":
    main()
