"""Evidence of past minutes, read from its topic for whoever explains a value."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from connectors.kafka import make_consumer
from models.topics import MAX_MESSAGE_BYTES, evidence_topic

#: Minutes are written 90 s after their end, and at once when a backlog is worked off: messages are in the order of minutes.
#: Reading that brings nothing for this long is given up, s.
STALL_S = 10.0
#: Readers at once; more wait for their turn.
AT_ONCE = 4


class KafkaEvidence:
    """Reads stretches of ``evidence.<city>``. A consumer for each: no group, nothing committed."""

    def __init__(self, bootstrap: str, prefix: str = "") -> None:
        self.bootstrap, self.prefix = bootstrap, prefix
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, city: str, first: int, last: int) -> list[bytes]:
        """Messages of the minutes ``first`` to ``last``, both included, as they were written.

        Raises:
            KafkaError: the broker does not answer, or has no such topic.
            TimeoutError: it brings nothing more, or is too busy with others.
        """
        await asyncio.wait_for(self._turns.acquire(), STALL_S)
        consumer = make_consumer(
            bootstrap=self.bootstrap, group_id=None, auto_offset_reset="none", request_timeout_ms=10_000,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES, fetch_max_wait_ms=50,
        )  # fmt: skip
        try:
            await consumer.start()
            return await asyncio.wait_for(self._read(consumer, city, first, last), 3 * STALL_S)
        finally:
            self._turns.release()
            await consumer.stop()

    async def _read(self, consumer, city: str, first: int, last: int) -> list[bytes]:  # type: ignore[no-untyped-def]
        tp = TopicPartition(evidence_topic(city, self.prefix), 0)
        begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        consumer.assign([tp])
        if not self.prefix:  # topics of a replay carry the time of writing
            at = (await consumer.offsets_for_times({tp: first * 60_000}))[tp]
            begin = end if at is None else max(begin, at.offset)
        out: dict[bytes, bytes] = {}
        if begin < end:
            consumer.seek(tp, begin)
        while begin < end:
            got = (await consumer.getmany(tp, timeout_ms=int(STALL_S * 1000))).get(tp, [])
            if not got:
                raise TimeoutError("the broker brings nothing more")
            for m in got:
                begin = m.offset + 1
                window = int((m.key or b"-1:").partition(b":")[0])
                if window > last:
                    return list(out.values())
                if window >= first and m.value is not None:
                    out[m.key] = m.value  # written again after a crash: the same
            begin = max(begin, await consumer.position(tp))
        return list(out.values())
