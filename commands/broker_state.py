"""What the topics of a city hold: how old the newest record of each is, and what feed-health says of the feeds."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from connectors.cities import City
from connectors.kafka import make_consumer
from models.records import FeedHealth
from models.topics import PRODUCTS, open_topic, raw_topic

#: Feed-health records of so long ago say nothing of now, milliseconds.
RECENT_MS = 120_000
#: Records of feed-health read back: more than one slot of all feeds.
BACK = 200


async def lines(city: City, bootstrap: str, now_ms: int, timeout_s: float = 20.0) -> list[tuple[str, bool]]:
    """A line and whether it is good, for each topic and each feed."""
    consumer = make_consumer(bootstrap=bootstrap, request_timeout_ms=5000)
    try:
        async with asyncio.timeout(timeout_s):
            await consumer.start()
            return await _lines(consumer, city, now_ms)
    except (KafkaError, TimeoutError) as e:
        return [(f"broker     failed {type(e).__name__}: {e}", False)]
    finally:
        await consumer.stop()


async def _lines(consumer: AIOKafkaConsumer, city: City, now_ms: int) -> list[tuple[str, bool]]:
    out = []
    partitions = {raw_topic(city.raw_city, f.name): f.partitions for f in city.feeds}
    partitions |= {open_topic(city.name, p.name): p.partitions for p in PRODUCTS.values()}
    there = await consumer.topics()
    for topic in partitions:
        if topic not in there:
            out.append((f"topic      missing     {topic}", False))
            continue
        newest = await _newest_ms(consumer, topic, partitions[topic])
        said = "no record" if newest is None else f"newest record {(now_ms - newest) / 1000:,.0f} s old"
        out.append((f"topic      {'ok' if newest is not None else 'empty':11} {topic}  {said}", True))
    if open_topic(city.name, "feed-health") in there:
        out += _health(city, await _last(consumer, TopicPartition(open_topic(city.name, "feed-health"), 0)), now_ms)
    return out


async def _newest_ms(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> int | None:
    """Timestamp of the newest record of a topic."""
    times = []
    for p in range(partitions):
        records = await _last(consumer, TopicPartition(topic, p), 1)
        times += [r.timestamp for r in records]
    return max(times, default=None)


async def _last(consumer: AIOKafkaConsumer, tp: TopicPartition, n: int = BACK) -> list[Any]:
    """The last records of a partition, at most ``n`` offsets back."""
    consumer.assign([tp])
    end = (await consumer.end_offsets([tp]))[tp]
    begin = (await consumer.beginning_offsets([tp]))[tp]
    if end <= begin:
        return []
    out: list[Any] = []
    at = max(begin, end - n)
    while not out and at >= begin:  # the last offsets may be control records or compacted away
        consumer.seek(tp, at)
        while await consumer.position(tp) < end:
            got = await consumer.getmany(tp, timeout_ms=1000, max_records=BACK)
            if not got:
                break
            out += got[tp]
        at = at - n if at > begin else begin - 1
    return out


def _health(city: City, records: list[Any], now_ms: int) -> list[tuple[str, bool]]:
    newest: dict[str, tuple[int, FeedHealth]] = {}
    for r in records:
        if r.value is not None:
            h = msgspec.json.decode(r.value, type=FeedHealth)
            newest[h.feed] = (r.timestamp, h)
    out = []
    for f in city.feeds:
        if f.name not in newest or now_ms - newest[f.name][0] > RECENT_MS:
            out.append((f"health     unknown     {f.name}  nothing was said of it within two minutes: is the worker running?", False))
            continue
        h = newest[f.name][1]
        said = f"since {h.since}" + (f", {h.detail}" if h.detail else "") + (f" (HTTP {h.http_status})" if h.http_status else "")
        out.append((f"health     {h.state:11} {f.name}  {said}", h.state in ("ok", "empty")))
    return out
