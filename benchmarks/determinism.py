"""One hour of buses through the core again and again: other envelopes, other partitions, other numbers of workers, other speeds. Are the finals the same bytes?

    python -m benchmarks.determinism [--seconds 3600] [--vehicles 10] [--no-kafka] [--json FILE]

The hour is made by a seeded generator: vehicles on lines and off them, late, repeated and broken messages, a second feed that reports some of them too. Each run is
compared by a digest of all its records that are not provisional (dead letters and late events without the places of the log that they name). Ends with 1 when two differ.

Left out is feed-health: it counts what connectors wrote into each partition, the ticks too, and here there are none before the end, so that envelopes may be of any size
(``tests/streams/test_health.py`` cuts a log with ticks).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import measure
from connectors import recordings
from connectors.envelope import SCHEMA, Envelope, Item, encode, headers
from connectors.gather import partition_of
from connectors.kafka import make_producer
from deploy.kafka.broker import KafkaBroker, kafka_version
from models.topics import raw_topic
from streams.admin import ensure_topics
from streams.ground import ObserveSettings
from streams.offline import Run, end_of_log, replay
from tests.kafka.harness import Town, Worker, process, written
from tests.streams import world

#: Events an envelope, raw partitions.
OFFLINE = ((200, 2), (1, 2), (7, 1), (7, 4), (200, 1), (200, 4), (5000, 1), (5000, 2), (5000, 4))
#: Events an envelope, raw partitions, workers, times as fast as it was received (None: as fast as it goes).
KAFKA = ((200, 2, 2, None), (1, 1, 1, None), (7, 2, 2, None), (200, 4, 4, None), (5000, 2, 1, None), (200, 2, 2, 60.0), (200, 1, 1, 120.0))
Log = list[tuple[str, int, Envelope]]
#: Where in the log an event stood is not what it says.
PLACES = ("offset", "index", "partition", "topic")


def cut(items: list[tuple[str, Item]], town: Town, size: int) -> Log:
    """The log in envelopes of ``size`` events, in order of their last one, and the ticks that end it."""
    city, gathered, log = town.city, dict[tuple[str, int], list[Item]](), Log()

    def flush(key: tuple[str, int]) -> None:
        held = gathered.pop(key)
        log.append((*key, Envelope(SCHEMA, city.name, key[0], city.feed(key[0]).family, "messages", held[-1].ingest_ms, tuple(held))))

    for feed, item in items:
        key = (feed, partition_of(city.feed(feed), item.topic))
        gathered.setdefault(key, []).append(item)
        if len(gathered[key]) >= size:
            flush(key)
    for key in list(gathered):
        flush(key)
    log.sort(key=lambda x: x[2].ingest_ms)
    end_ms = end_of_log(items[-1][1].ingest_ms, ObserveSettings().lateness_ms)
    ends = [(f.name, p, Envelope(SCHEMA, city.name, f.name, f.family, "tick", end_ms)) for f in city.feeds for p in range(f.partitions)]
    return log + ends


def digest(records: Mapping[str, Iterable[bytes]]) -> tuple[str, dict[str, int]]:
    """Of all records, whatever their order; and how many of each product."""
    whole, counts = hashlib.sha256(), dict[str, int]()
    for product in sorted(set(records) - {"feed-health"}):
        values = sorted(_without_place(product, v) for v in records[product])
        if values:
            counts[product] = len(values)
            whole.update(product.encode())
            for v in values:
                whole.update(len(v).to_bytes(4, "big") + v)
    return whole.hexdigest(), counts


def _without_place(product: str, value: bytes) -> bytes:
    if product not in ("dead-letter", "late"):
        return value
    return json.dumps({k: v for k, v in json.loads(value).items() if k not in PLACES}, sort_keys=True).encode()


def offline(town: Town, log: Log) -> dict[str, list[bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    told = [x for x in log if x[2].kind != "tick"]  # it ends a log itself
    for out in replay(Run(town.city, town.network), told):
        for product, outs in out.records.items():
            found.setdefault(product, {}).update((o.ce_id, o.value) for o in outs if b'"status":"provisional"' not in o.value)
    return {p: list(v.values()) for p, v in found.items()}


async def send(town: Town, log: Log, bootstrap: str, prefix: str, speed: float | None) -> None:
    await ensure_topics(bootstrap, town.city, prefix)
    producer = make_producer(bootstrap, "determinism")
    await producer.start()
    try:
        began_s, first_ms = time.monotonic(), log[0][2].ingest_ms
        for feed, partition, e in log:
            if speed is not None and e.kind != "tick":
                await asyncio.sleep(max(0.0, (e.ingest_ms - first_ms) / 1000 / speed - (time.monotonic() - began_s)))
            topic = raw_topic(town.city.raw_city, feed, prefix)
            await producer.send(topic, encode(e), partition=partition, timestamp_ms=e.ingest_ms, headers=headers(e))
    finally:
        await producer.stop()


async def on_kafka(town: Town, log: Log, bootstrap: str, prefix: str, workers: int, speed: float | None) -> dict[str, list[bytes]]:
    """Workers beside the one who writes, when it takes its time; after it, when it does not."""
    sending = asyncio.create_task(send(town, log, bootstrap, prefix, speed))
    beside: list[Worker] = []
    try:
        if speed is not None:
            await asyncio.sleep(5)  # the topics are being made
            beside = [Worker(town, bootstrap, prefix, f"beside{n}") for n in range(workers)]
        await sending
        for w in beside:
            w.process.send_signal(signal.SIGTERM)
        for w in beside:
            await w.exit_code()
    finally:
        for w in beside:
            w.end()
    await process(town, bootstrap, prefix, workers)
    found = await written(town, bootstrap, prefix)
    return {p: list(w.one_each().values()) for p, w in found.items()}


def runs(folder: Path, lines: list[world.Line], kafka: bool) -> Iterator[dict[str, Any]]:
    """One row a run."""
    towns = {n: Town(folder / f"town{n}", partitions=n, lines=lines) for n in (1, 2, 4)}
    items = list(recordings.read(towns[1].recording, towns[1].city))
    for size, partitions in OFFLINE:
        town, cpu_s = towns[partitions], time.process_time()
        value, counts = digest(offline(town, cut(items, town, size)))
        yield {
            "driver": "offline",
            "size": size,
            "partitions": partitions,
            "digest": value,
            "cpu_s": round(time.process_time() - cpu_s, 1),
            "records": counts,
        }
    if kafka:
        with KafkaBroker(folder / "broker") as broker:
            for n, (size, partitions, workers, speed) in enumerate(KAFKA):
                town, began_s = towns[partitions], time.monotonic()
                found = asyncio.run(on_kafka(town, cut(items, town, size), broker.address, f"replay.d{n}.", workers, speed))
                value, counts = digest(found)
                yield {
                    "driver": "kafka", "size": size, "partitions": partitions, "workers": workers, "speed": speed, "digest": value,
                    "wall_s": round(time.monotonic() - began_s), "records": counts,
                }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600, help="of the recording")
    parser.add_argument("--vehicles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-kafka", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    lines = world.recording(args.seed, args.vehicles, args.seconds, late=0.004, duplicates=0.05, poison=0.01, gtfs_rt_every=10)
    facts: dict[str, Any] = {
        "machine": measure.machine(),
        "versions": measure.versions({"kafka": kafka_version()}),
        "messages": len(lines),
        "runs": [],
    }
    measure.heading("determinism", facts["machine"], facts["versions"])
    with tempfile.TemporaryDirectory() as folder:
        for row in runs(Path(folder), lines, not args.no_kafka):
            facts["runs"].append(row)
            measure.say(f"{row['digest'][:16]}  " + ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("digest", "records")))
    digests = {row["digest"] for row in facts["runs"]}
    measure.say(f"{len(lines):,} messages; records {facts['runs'][0]['records']}")
    measure.say(f"{len(facts['runs'])} runs, {len(digests)} different results")
    measure.write_json(args.json, facts)
    sys.exit(len(digests) != 1)


if __name__ == "__main__":
    main()
