"""What the benchmarks feed: a network of Helsinki's size, and the log of its fleet as envelopes or as plain messages, written into Kafka."""

from __future__ import annotations

import asyncio
import logging
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
from geo.network import Lines, Network, Schedule, Segments
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
    node = np.arange(side * side).reshape(side, side)
    a = np.r_[node[:-1].ravel(), node[:, :-1].ravel()]
    b = np.r_[node[1:].ravel(), node[:, 1:].ravel()]
    n = 2 * len(a)
    from_node, to_node, opposite = np.empty(n, np.int64), np.empty(n, np.int64), np.arange(n) ^ 1
    from_node[0::2], to_node[0::2], from_node[1::2], to_node[1::2] = b, a, a, b
    east, north = 350_000.0 + node.ravel() // side * spacing_m, 6_648_000.0 + node.ravel() % side * spacing_m  # in the box of Helsinki
    ends = np.column_stack([from_node, to_node]).ravel()
    length = np.full(n, spacing_m)
    made = Segments(
        segment_id=[f"g{k // 2:08d}{'bf'[k % 2]}" for k in range(n)],
        geometry=Lines(np.arange(0, 2 * n + 1, 2), east[ends], north[ends], np.tile([0.0, spacing_m], n)),
        length_m=length,
        from_node=from_node,
        to_node=to_node,
        road_class=["residential"] * n,
        represents=["general_traffic"] * n,
        speed_limit_kmh=np.full(n, np.nan),
        lanes=np.full(n, -1, np.int8),
        bus_lane=np.full(n, -1, np.int8),
        signal=np.full(n, -1, np.int8),
        opposite=opposite,
        name=[None] * n,
        osm_way_ids=[[]] * n,
    )
    order = np.argsort(from_node, kind="stable")
    first = np.searchsorted(from_node[order], np.arange(side * side + 1))
    along = (a < side * (side - 1))[np.arange(n) // 2] & (b - a == side)[np.arange(n) // 2]  # its axis
    rng = np.random.default_rng(seed)
    points, pieces = [], []
    for _ in range(shapes):
        walk = [int(rng.integers(0, n))]
        while len(walk) < pieces_a_shape:
            here = walk[-1]
            onward = order[first[to_node[here]] : first[to_node[here] + 1]]
            onward = onward[onward != opposite[here]]
            straight = onward[(along[onward] == along[here]) & (onward % 2 == here % 2)]
            walk.append(int(straight[0]) if len(straight) and rng.random() < 0.8 else int(rng.choice(onward)))
        corners = np.r_[from_node[walk], to_node[walk[-1:]]]
        points.append(np.column_stack([east[corners], north[corners]]))
        pieces.append([(k * spacing_m, (k + 1) * spacing_m, s, 0.0) for k, s in enumerate(walk)])
    routes = [f"{1 + k % 9}{k:04d}" for k in range(shapes)]
    network = Network(
        city.name, "0", city.crs, made, assemble.shapes([f"{r}:0" for r in routes], points, pieces),
        Schedule({}, {}, {(r, 0): (k,) for k, r in enumerate(routes)}), "made-up grid", "CC0-1.0", "", generated=True,
    )  # fmt: skip
    return store.versioned(network)


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


def made(city: City, segments: int) -> tuple[Network, Path, str]:
    """The same of made-up streets, about ``segments`` of them."""
    folder = CACHE / "benchmarks" / f"network-grid-{segments}"
    if not (folder / "network.json").exists():
        store.save(grid(city, segments, 1_000), folder)
    network = store.load(folder)
    return network, folder, f"{len(network.segments):,} segments, {len(network.shapes):,} shapes, made up"


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


def raw_name(city: City, feed: str, prefix: str) -> str:
    """The raw topic of a feed."""
    return raw_topic(city.raw_city, feed, prefix)


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


logging.getLogger("aiokafka").setLevel(logging.ERROR)  # "not leader yet" of topics just made is retried and means nothing


async def fill_raw(bootstrap: str, city: City, prefix: str, log: Iterable[Record]) -> int:
    """Write a log into the raw topics of a prefix, made if need be; returns the number of messages inside."""
    await ensure_topics(bootstrap, city, prefix)
    producer, items = _producer(bootstrap), 0
    await producer.start()
    try:
        for k, r in enumerate(log):
            await producer.send(raw_name(city, r.feed, prefix), r.value, partition=r.partition, timestamp_ms=r.ingest_ms)
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
