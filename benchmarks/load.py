"""What the benchmarks feed: a network of Helsinki's size, and the log of its fleet as envelopes or as plain messages, written into Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from benchmarks.fleet import DELAY_MS, Fleet
from benchmarks.measure import CACHE, ROOT
from connectors.cities import City, FeedSettings
from connectors.envelope import TICK_MS, Envelope, Item, Source, encode
from connectors.gather import Gatherer, partition_of
from geo import assemble, store
from geo.build import build
from geo.network import Network, Schedule, Segments
from models.topics import raw_topic
from streams.admin import Probe, admin_of, ensure_topics
from streams.cells import WINDOW_MS

#: Line geometries of HSL, where somebody has put them beside the repository; without them the network is made up.
LINES = ROOT.parent / "shared" / "networks" / "hsl_lines_2021" / "HSL_linjat.zip"
#: How long after its end a window waits for late events (``ObserveSettings.lateness_ms``).
LATENESS_MS = 90_000


# ---------------------------------------------------------------------------------------------------------------------- networks


def grid(city: City, segments: int, shapes: int, *, spacing_m: float = 110.0, pieces_a_shape: int = 160, seed: int = 1) -> Network:
    """Made-up streets: two-way blocks within the city's box, and shapes that wander over them, each a route of its own.

    Args:
        segments: about so many, rounded to a full square of blocks.
        pieces_a_shape: streets that a shape runs over; at 110 m each, 160 are a bus line of 17 km.
    """
    side = max(3, int(np.sqrt(segments / 4)) + 1)
    plane_east, plane_north = 350_000.0, 6_640_000.0  # within the box of Helsinki, on EPSG:3067
    at = [(plane_east + i * spacing_m, plane_north + j * spacing_m) for i in range(side) for j in range(side)]
    streets: list[assemble.Street] = []
    for i in range(side):
        for j in range(side):
            for di, dj in ((1, 0), (0, 1)):
                if i + di < side and j + dj < side:
                    a, b = i * side + j, (i + di) * side + j + dj
                    name, points = f"{i:05d}{j:05d}{di}", np.array([at[a], at[b]])
                    streets.append(assemble.Street(f"{name}f", points, a, b, "residential", opposite=f"{name}b"))
                    streets.append(assemble.Street(f"{name}b", points[::-1], b, a, "residential", opposite=f"{name}f"))
    made = assemble.segments(streets)
    successors: dict[int, list[int]] = {}
    for k, node in enumerate(made.from_node.tolist()):
        successors.setdefault(node, []).append(k)
    rng = np.random.default_rng(seed)
    points, pieces = [], []
    for _ in range(shapes):
        walk = [int(rng.integers(0, len(made)))]
        while len(walk) < pieces_a_shape:
            onward = [k for k in successors[int(made.to_node[walk[-1]])] if k != made.opposite[walk[-1]]]
            straight = [k for k in onward if _same_way(made, walk[-1], k)]
            walk.append(straight[0] if straight and rng.random() < 0.8 else onward[int(rng.integers(0, len(onward)))])
        first = made.geometry.start[walk]
        corners = [(made.geometry.east_m[f], made.geometry.north_m[f]) for f in first]
        end = made.geometry.start[walk[-1] + 1] - 1
        points.append(np.array([*corners, (made.geometry.east_m[end], made.geometry.north_m[end])]))
        pieces.append([(n * spacing_m, (n + 1) * spacing_m, k, 0.0) for n, k in enumerate(walk)])
    routes = [f"{1 + k % 9}{k:04d}" for k in range(shapes)]
    network = Network(
        city.name, "0", city.crs, made, assemble.shapes([f"{r}:0" for r in routes], points, pieces),
        Schedule({}, {}, {(r, 0): (k,) for k, r in enumerate(routes)}), "made-up grid", "CC0-1.0", "", generated=True,
    )  # fmt: skip
    return store.versioned(network)


def _same_way(segments: Segments, a: int, b: int) -> bool:
    lines = segments.geometry
    (i, j), (k, m) = ((int(lines.start[s]), int(lines.start[s + 1]) - 1) for s in (a, b))
    one = (lines.east_m[j] - lines.east_m[i], lines.north_m[j] - lines.north_m[i])
    other = (lines.east_m[m] - lines.east_m[k], lines.north_m[m] - lines.north_m[k])
    return bool(one[0] * other[0] + one[1] * other[1] > 0.9 * np.hypot(*one) * np.hypot(*other))


def helsinki(city: City, lines: Path | None = None) -> tuple[Network, Path, str]:
    """A network of Helsinki's size, the folder it is stored in, and what it is: built once, kept in the cache."""
    lines = lines or (LINES if LINES.exists() else None)
    folder = CACHE / "benchmarks" / ("network-lines" if lines else "network-grid")
    if (folder / "network.json").exists():
        network = store.load(folder)
    else:
        network = (
            build(city.name, lines=lines, crs=city.crs, licence=city.licence, attribution=city.attribution[0])
            if lines
            else grid(city, 30_000, 1_000)
        )
        store.save(network, folder)
    what = f"{len(network.segments):,} segments, {len(network.shapes):,} shapes, {'the lines of HSL' if lines else 'made up'}"
    return network, folder, what


# -------------------------------------------------------------------------------------------------------------------------- logs


@dataclass(frozen=True)
class Record:
    """One message of the raw log."""

    feed: str
    partition: int
    value: bytes
    ingest_ms: int
    items: int


def window_start(ms: int) -> int:
    """The beginning of five full minutes, so that a log of 300 s holds five windows, one of them a heartbeat."""
    return ms // (5 * WINDOW_MS) * 5 * WINDOW_MS


def envelopes(city: City, feed: str, rounds: Iterable[list[Item]]) -> Iterator[tuple[str, int, Envelope]]:
    """The log as a live connector writes it: at most 200 messages, 128 KiB or 250 ms in an envelope, a tick of every feed and partition every 5 s, and at the end
    enough ticks that the last window with data becomes final, and no more."""
    settings = city.feed(feed)
    own = [Gatherer(city, settings, p) for p in range(settings.partitions)]
    others = [(f, Gatherer(city, f, p)) for f in city.feeds if f.name != feed for p in range(f.partitions)]
    alive, tick_ms, last_ms = Source(), 0, 0
    for items in rounds:
        for item in items:
            last_ms = now = item.ingest_ms
            if tick_ms == 0:
                tick_ms = now // TICK_MS * TICK_MS + TICK_MS
            for g in own:
                if g.due_ms is not None and g.due_ms <= now:
                    for e in g.flush():
                        yield feed, g.partition, e
            if now >= tick_ms:
                yield from _ticks(feed, own, others, tick_ms, alive)
                tick_ms += TICK_MS
            g = own[partition_of(settings, item.topic)]
            for e in g.add(item):
                yield feed, g.partition, e
    end_ms = (last_ms // WINDOW_MS + 1) * WINDOW_MS + LATENESS_MS + 1
    while tick_ms < end_ms + TICK_MS:
        yield from _ticks(feed, own, others, tick_ms, alive)
        tick_ms += TICK_MS


def _ticks(
    feed: str, own: list[Gatherer], others: list[tuple[FeedSettings, Gatherer]], ms: int, source: Source
) -> Iterator[tuple[str, int, Envelope]]:
    for g in own:
        for e in g.tick(ms, source):
            yield feed, g.partition, e
    for f, g in others:
        for e in g.tick(ms, source):
            yield f.name, g.partition, e


def raw_log(city: City, feed: str, fleet: Fleet, seconds: int) -> Iterator[Record]:
    """The fleet's log, encoded."""
    for name, partition, e in envelopes(city, feed, fleet.seconds(seconds)):
        yield Record(name, partition, encode(e), e.ingest_ms, len(e.items))


def empty_log(city: City, start_ms: int) -> list[Record]:
    """One tick of every feed and partition: what a worker costs that has nothing to do."""
    ticks = [(f.name, p, Gatherer(city, f, p).tick(start_ms, Source())[0]) for f in city.feeds for p in range(f.partitions)]
    return [Record(name, p, encode(e), e.ingest_ms, 0) for name, p, e in ticks]


# ------------------------------------------------------------------------------------------------------------------ into Kafka


def _producer(bootstrap: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        compression_type="zstd",
        linger_ms=50,
        max_batch_size=1024 * 1024,
        max_request_size=8 * 1024 * 1024,
    )


async def fill_raw(bootstrap: str, city: City, prefix: str, log: Iterable[Record]) -> int:
    """Write a log into the raw topics of a prefix, made if need be; returns the number of messages inside."""
    await ensure_topics(bootstrap, city, prefix)
    producer, items = _producer(bootstrap), 0
    await producer.start()
    try:
        for k, r in enumerate(log):
            await producer.send(raw_topic(city.name, r.feed, prefix), r.value, partition=r.partition, timestamp_ms=r.ingest_ms)
            items += r.items
            if k % 200 == 199:
                await asyncio.sleep(0)
        await producer.flush()
    finally:
        await producer.stop()
    return items


async def make_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """A plain topic that keeps everything."""
    async with admin_of(bootstrap) as admin:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs={"retention.ms": "-1"})])
        await asyncio.sleep(0.5)


async def fill_plain(bootstrap: str, topic: str, items: Iterable[Item]) -> int:
    """One HFP message, one Kafka message: key is the vehicle, value the JSON, timestamp the event time. One partition."""
    await make_topic(bootstrap, topic)
    producer, count = _producer(bootstrap), 0
    await producer.start()
    try:
        batch = producer.create_batch()
        for item in items:
            key = "/".join(item.topic.split("/")[7:9]).encode()
            if batch.append(key=key, value=item.body, timestamp=item.ingest_ms - DELAY_MS) is None:
                await producer.send_batch(batch, topic, partition=0)
                batch = producer.create_batch()
                batch.append(key=key, value=item.body, timestamp=item.ingest_ms - DELAY_MS)
            count += 1
        await producer.send_batch(batch, topic, partition=0)
        await producer.flush()
    finally:
        await producer.stop()
    return count


async def count_records(bootstrap: str, partitions: dict[str, int]) -> dict[str, int]:
    """Records written to each topic so far, from its partitions' offsets. ``partitions``: how many a topic has."""
    probe = Probe(bootstrap, "benchmark")
    await probe.start()
    try:
        ends = await probe.ends([(t, p) for t, n in partitions.items() for p in range(n)])
    finally:
        await probe.stop()
    return {t: sum(end for (topic, _), end in ends.items() if topic == t) for t in partitions}
