"""How long a worker takes to take up a city: 2,000 vehicles and 150,000 segments, from snapshots on a real broker.

    python -m benchmarks.recovery --json recovery.json

Both owners' snapshots (the observer's and the fuse step's) are written a dozen times, as in production, then read back and restored into fresh steps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from connectors import recordings
from connectors.envelope import encode
from connectors.kafka import make_producer
from deploy.kafka.broker import KafkaBroker, kafka_version
from geo import assemble, store
from geo.assemble import Street
from geo.network import Network, Schedule
from models.topics import state_topic
from streams.admin import ensure_topics
from streams.driver import FuseStep, Logged, ObserveStep, Step
from streams.fuse import Fuser
from streams.ground import Ground
from streams.observe import Observer
from streams.snapshots import Snapshot, SnapshotStore
from streams.writer import Writer
from tests.streams import world


def large(segments: int) -> Network:
    """The toy town with streets added far away until it has so many segments."""
    town = world.network()
    s = town.segments
    streets = [
        Street(s.segment_id[i], np.column_stack([s.geometry.east_m[2 * i : 2 * i + 2], s.geometry.north_m[2 * i : 2 * i + 2]]), int(s.from_node[i]), int(s.to_node[i]), "secondary", speed_limit_kmh=40.0)
        for i in range(len(s))
    ]  # fmt: skip
    for k in range(segments - len(streets)):
        a = np.array([world.EAST + 5000 + 60.0 * (k % 400), world.NORTH + 60.0 * (k // 400)])
        streets.append(Street(f"x{k:06}", np.array([a, (a[0] + 55.0, a[1])]), 10_000_000 + k, 20_000_000 + k, "residential"))
    grown = assemble.segments(streets)
    at = {i: k for k, i in enumerate(grown.segment_id)}
    shapes = town.shapes
    moved = np.array([at[s.segment_id[k]] for k in shapes.piece_segment])
    shapes = type(shapes)(**{f: moved if f == "piece_segment" else getattr(shapes, f) for f in shapes.__dataclass_fields__})
    return store.versioned(
        Network("toytown", "", world.CRS, grown, shapes, Schedule({}, {}, town.schedule.by_route), "invented", "CC0-1.0", "Nobody")
    )


async def measure(vehicles: int, segments: int, bootstrap: str, folder: Path) -> dict[str, Any]:
    city = world.city(folder, partitions=1)
    city = msgspec.structs.replace(city, feeds=(city.feed("hfp"),))
    network = large(segments)
    begin = time.perf_counter()
    ground = Ground(network)
    prepared_s = time.perf_counter() - begin
    lines = world.recording(vehicles=vehicles, seconds=200, every_s=4)
    path = world.write_recording(lines, folder / "recording")

    def steps() -> list[Step]:
        return [ObserveStep(Observer(city, "hfp", 0, ground)), FuseStep(Fuser(city, network))]

    observe, fuse = steps()
    partials = 0
    for offset, (_, _, e) in enumerate(recordings.envelopes(recordings.read(path, city), city, ["hfp"])):
        _, partial = observe.feed([Logged(encode(e), offset, 0)])
        if partial is not None:
            fuse.feed([Logged(partial, partials, 0)])
            partials += 1
    observe.flush()
    await ensure_topics(bootstrap, city)
    producer = make_producer(bootstrap, "recovery")
    await producer.start()
    snapshots = SnapshotStore(bootstrap, state_topic(city.name))
    result: dict[str, Any] = {"vehicles": vehicles, "segments": segments, "network_prepared_s": round(prepared_s, 2)}
    try:
        writer = Writer(producer, city)
        for name, step in (("observe", observe), ("fuse", fuse)):
            state = step.export()
            for k in range(12):
                await snapshots.write(writer, Snapshot(step.owner, step.offset, state, k), 0)
                await writer.settle()
            result[name] = {"state_mb": round(len(state) / 1e6, 2)}
        begin_all, cpu_s = time.perf_counter(), time.process_time()
        for name, step in zip(("observe", "fuse"), steps(), strict=True):
            begin = time.perf_counter()
            found = await snapshots.read(step.owner)
            read = time.perf_counter()
            step.restore(found[0].state)
            result[name] |= {"read_s": round(read - begin, 3), "restore_s": round(time.perf_counter() - read, 3)}
        result["recovery_s"] = round(time.perf_counter() - begin_all, 2)
        result["recovery_cpu_s"] = round(time.process_time() - cpu_s, 2)
        result["load"] = round(os.getloadavg()[0], 1)
    finally:
        await producer.stop()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vehicles", type=int, default=2_000)
    parser.add_argument("--segments", type=int, default=150_000)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "broker") as broker:
        result = asyncio.run(measure(args.vehicles, args.segments, broker.address, Path(folder)))
    result |= {"kafka": kafka_version(), "python": platform.python_version(), "machine": platform.platform()}
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
