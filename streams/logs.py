"""Reading a partition beside the consumer group: what the group has acked and a state does not hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka import make_consumer
from models.topics import MAX_MESSAGE_BYTES

#: How far back a state is made again without a snapshot, milliseconds of log time. Vehicles are forgotten after 30 minutes and windows close after 3.5; the estimator's
#: memory halves every 8 minutes.
REBUILD_MS = 60 * 60_000


class Log:
    """The partitions of one broker.

    Args:
        bootstrap: the broker's address.
        append_times: record timestamps say when a record was appended, not the log time (replays): a state is made again from the beginning then.
    """

    def __init__(self, bootstrap: str, *, append_times: bool = False) -> None:
        self.bootstrap, self.append_times = bootstrap, append_times

    @asynccontextmanager
    async def _consumer(self, tp: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = make_consumer(bootstrap=self.bootstrap, max_partition_fetch_bytes=MAX_MESSAGE_BYTES)
        await consumer.start()
        try:
            consumer.assign([tp])
            yield consumer
        finally:
            await consumer.stop()

    async def begin(self, tp: tuple[str, int]) -> int:
        """Offset of the first message that retention has left."""
        p = TopicPartition(*tp)
        async with self._consumer(p) as consumer:
            return int((await consumer.beginning_offsets([p]))[p])

    async def end(self, tp: tuple[str, int]) -> int:
        """Offset after the last message. Brokers that state it too low (tansu) tell the truth with what they deliver."""
        p = TopicPartition(*tp)
        async with self._consumer(p) as consumer:
            end = int((await consumer.end_offsets([p]))[p])
            if end:
                consumer.seek(p, end - 1)
                await consumer.getmany(p, timeout_ms=1000, max_records=1)
            return max(end, consumer.highwater(p) or 0)

    async def rebuild_from(self, tp: tuple[str, int], offset: int) -> int:
        """First offset to read so that the state at ``offset`` is whole."""
        p = TopicPartition(*tp)
        async with self._consumer(p) as consumer:
            begin = int((await consumer.beginning_offsets([p]))[p])
            if self.append_times or offset <= begin:
                return begin
            consumer.seek(p, offset - 1)
            last = await consumer.getone(p)
            found = (await consumer.offsets_for_times({p: max(0, last.timestamp - REBUILD_MS)}))[p]
            return min(max(begin, found.offset if found is not None else begin), offset)

    async def between(self, tp: tuple[str, int], start: int, end: int) -> AsyncIterator[tuple[int, bytes | None, int]]:
        """Offset, value and timestamp (ms) of the messages [start, end)."""
        p = TopicPartition(*tp)
        async with self._consumer(p) as consumer:
            consumer.seek(p, start)
            while await consumer.position(p) < end:
                for records in (await consumer.getmany(p, timeout_ms=1000)).values():
                    for r in records:
                        if r.offset < end:
                            yield r.offset, r.value, r.timestamp
