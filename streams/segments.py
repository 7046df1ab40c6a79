"""The network as records of the open topic ``segment``: published once a version, so that any reader can draw what the states are of."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka import make_consumer
from geo.network import I64, Network
from geo.project import Plane
from models.records import Segment, encode
from models.topics import MAX_MESSAGE_BYTES
from streams.outputs import Out, Outputs
from streams.writer import Writer

log = logging.getLogger(__name__)
#: Records made and handed to the producer at a time: bounds the memory that publishing takes.
CHUNK = 4_000


class _Version(msgspec.Struct):
    """What is looked at of a record that is there."""

    segment_id: str
    network_version: str


def records(network: Network, start: int = 0, end: int | None = None) -> Iterator[Segment]:
    """Records of the segments [start, end), in the order of the network. Coordinates: WGS 84, lon lat, 6 decimals (0.1 m)."""
    s = network.segments
    end = len(s) if end is None else end
    first, last = int(s.geometry.start[start]), int(s.geometry.start[end])
    lat, lon = Plane(network.crs).to_wgs84(s.geometry.east_m[first:last], s.geometry.north_m[first:last])
    points = np.column_stack([lon, lat]).round(6).tolist()
    begins, ends = _by_node(s.from_node), _by_node(s.to_node)
    for i in range(start, end):
        a, b = int(s.geometry.start[i]) - first, int(s.geometry.start[i + 1]) - first
        limit, lanes, bus = float(s.speed_limit_kmh[i]), int(s.lanes[i]), int(s.bus_lane[i])
        yield Segment(
            segment_id=s.segment_id[i],
            network_version=network.version,
            geometry={"type": "LineString", "coordinates": points[a:b]},
            length_m=round(float(s.length_m[i]), 2),
            road_class=s.road_class[i],
            represents=s.represents[i],  # type: ignore[arg-type]
            osm_way_ids=list(s.osm_way_ids[i]) or None,
            osm_node_ids=list(s.osm_node_ids[i]) or None if s.osm_node_ids else None,
            name=s.name[i],
            speed_limit_kmh=None if np.isnan(limit) else limit,
            lanes=None if lanes < 0 else lanes,
            bus_lane=None if bus < 0 else bool(bus),
            generated=network.generated or None,
            predecessors=[s.segment_id[k] for k in ends(int(s.from_node[i]))] or None,
            successors=[s.segment_id[k] for k in begins(int(s.to_node[i]))] or None,
        )


def _by_node(node: I64) -> Any:
    """A function that gives the rows with a node, ascending."""
    order = np.argsort(node, kind="stable")
    ordered = node[order]

    def rows(n: int) -> list[int]:
        a, b = np.searchsorted(ordered, [n, n + 1])
        found: list[int] = order[a:b].tolist()
        return found

    return rows


async def publish_segments(bootstrap: str, writer: Writer, network: Network) -> int:
    """Bring the topic ``segment`` to this network; returns the number of records written, 0 when it was there already.

    Segments that are gone get a tombstone first. The network's last segment is written last, and compaction keeps the newest of each key in its place: so a topic that ends
    with that segment in this version holds all of it, and one whose writer was interrupted does not.
    """
    topic, n = writer.topic("segment"), len(network.segments)
    consumer = make_consumer(bootstrap=bootstrap, max_partition_fetch_bytes=MAX_MESSAGE_BYTES)
    await consumer.start()
    try:
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        if not n or await _holds(consumer, tp, begin, end, network):
            return 0
        gone = await _keys(consumer, tp, begin, end) - {i.encode() for i in network.segments.segment_id}
    finally:
        await consumer.stop()
    now_ms = int(time.time() * 1000)
    for key in sorted(gone):
        await writer.send(topic, 0, key, None, now_ms)
    await writer.settle()
    for start in range(0, n, CHUNK):
        out = Outputs()
        out.add(
            "segment",
            [
                Out(r.segment_id.encode(), encode(r), now_ms, f"segment:{r.segment_id}:{network.version[:16]}")
                for r in records(network, start, min(start + CHUNK, n))
            ],
        )
        await writer.write(out)
        await writer.settle()
    log.info("segments of network %s: %d published, %d deleted", network.version[:12], n, len(gone))
    return n


async def _holds(consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int, network: Network) -> bool:
    """Whether the topic ends with the network's last segment in this version."""
    if end <= begin:
        return False
    consumer.seek(tp, max(begin, end - 1))
    last = None
    while await consumer.position(tp) < end:
        for rows in (await consumer.getmany(tp, timeout_ms=1000)).values():
            last = rows[-1] if rows else last
    if last is None or last.value is None:
        return False
    try:
        found = msgspec.json.decode(last.value, type=_Version)
    except msgspec.MsgspecError:
        return False
    return found.network_version == network.version and found.segment_id == network.segments.segment_id[-1]


async def _keys(consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int) -> set[bytes]:
    """Keys that the topic has a record of."""
    keys: set[bytes] = set()
    consumer.seek(tp, begin)
    while end > begin and await consumer.position(tp) < end:
        for rows in (await consumer.getmany(tp, timeout_ms=1000)).values():
            for r in rows:
                if r.key is not None:
                    keys.add(r.key) if r.value is not None else keys.discard(r.key)
    return keys
