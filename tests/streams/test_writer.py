"""Many writers on one producer: each has its turn, and none is ended for waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaTimeoutError

from streams.outputs import Out, Outputs
from streams.writer import Turns, Writer
from tests.streams import world


class Producer:
    """Takes one batch a turn of the event loop, and loses patience each third time, as aiokafka's does when many wait."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.asked = 0
        self.sent: list[asyncio.Future[Any]] = []

    async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[Any]:
        await asyncio.sleep(0)
        self.asked += 1
        if self.asked % 3 == 0:
            raise KafkaTimeoutError
        self.taken.append(value)
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]

    async def send_batch(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        return await self.send(topic, b"batch")


async def test_a_small_hand_waits_for_one_batch_of_each_other_writer_not_for_all_that_they_have(tmp_path: Path) -> None:
    producer, turns = Producer(), Turns()
    writers = [Writer(producer, world.city(tmp_path), turns=turns) for _ in range(5)]  # type: ignore[arg-type]

    async def write(name: int, pieces: int) -> None:
        for k in range(pieces):
            await writers[name].send("state", 0, b"key", f"{name}/{k}".encode(), 0)

    await asyncio.gather(*(write(name, 100) for name in range(4)), write(4, 1))
    assert producer.taken.index(b"4/0") == 4
    assert len(producer.taken) == 401
    assert [b"/".join(producer.taken[k].split(b"/")[:1]) for k in range(5, 13)] == [b"0", b"1", b"2", b"3"] * 2


async def test_settle_waits_for_what_was_given_here_and_for_nobody_elses(tmp_path: Path) -> None:
    producer, turns = Producer(), Turns()
    one, other = (Writer(producer, world.city(tmp_path), turns=turns) for _ in range(2))  # type: ignore[arg-type]
    out = Outputs()
    out.records["dead-letter"] = [Out(b"k", b"v", 0, "id")]
    await one.write(out)
    await other.send("state", 0, b"key", b"state", 0)
    settling = asyncio.create_task(one.settle())
    await asyncio.sleep(0)
    assert (settling.done(), one.waiting, one.taken) == (False, True, 0)
    producer.sent[0].set_result(None)
    await settling
    assert (one.waiting, one.taken, other.waiting, other.taken) == (False, 1, True, 0)
