"""The long ledger: 10^5 numbered events, 20 killed workers, workers that come and go or stand still for a while, a killed broker, poison; run by ``make soak``.

    python -m benchmarks.soak --events 100000 --kills 20 --json soak.json

Ends with 0 when every accepted event is in the output, among the dead letters or among the late ones, and every record has the bytes of an undisturbed run.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import platform
import tempfile
from pathlib import Path

from deploy.kafka.broker import KafkaBroker, kafka_version
from tests.kafka import ledger
from tests.kafka.harness import Town
from tests.streams import world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000, help="HFP messages, about")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of workers")
    parser.add_argument("--changes", type=int, default=8, help="workers added or removed")
    parser.add_argument("--restarts", type=int, default=1, help="SIGKILLs of the broker")
    parser.add_argument("--freezes", type=int, default=0, help="SIGSTOPs of workers for longer than their session")
    parser.add_argument("--seconds", type=float, default=480.0, help="how long the input takes at least")
    parser.add_argument("--poison", type=float, default=0.01, help="share of broken messages")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    vehicles = 40
    lines = world.recording(args.seed, vehicles, args.events // vehicles, late=0.004, duplicates=0.05, poison=args.poison, gtfs_rt_every=5)
    with tempfile.TemporaryDirectory() as folder:
        town = Town(Path(folder), lines=lines)
        plan = ledger.Plan(args.seed, args.kills, args.changes, args.restarts, args.freezes, args.seconds)
        with KafkaBroker(Path(folder) / "broker") as broker:
            result = asyncio.run(ledger.run(town, broker, plan))
    print(f"Apache Kafka {kafka_version()}, Python {platform.python_version()}, {platform.platform()}")
    print(result)
    if args.json:
        args.json.write_text(json.dumps({"plan": dataclasses.asdict(plan), **vars(result)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
