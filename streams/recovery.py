"""From what the group has committed to a state without a hole: newer snapshots, messages again, or the state made anew."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Protocol

from streams.driver import PartitionDriver
from streams.snapshots import Snapshot

log = logging.getLogger(__name__)


class Store(Protocol):
    """Where snapshots are."""

    async def read(self, owner: str, *, whole: bool = False) -> list[Snapshot]: ...


class PartitionLog(Protocol):
    """A partition read beside the group; see ``streams/logs.py``."""

    async def begin(self, tp: tuple[str, int]) -> int: ...
    async def end(self, tp: tuple[str, int]) -> int: ...
    async def rebuild_from(self, tp: tuple[str, int], offset: int) -> int: ...
    def between(self, tp: tuple[str, int], start: int, end: int) -> AsyncIterator[tuple[int, bytes | None, int]]: ...


async def recover(driver: PartitionDriver, tp: tuple[str, int], store: Store, partition: PartitionLog) -> None:
    """The best snapshot there is. One that is ahead of the log's end tells of a topic that was deleted and made again: it is of no use.

    Where none of the newest can be used, those of another version's say, all that the topic still has are looked through.
    """
    for whole in (False, True):
        found, end = await store.read(driver.step.owner, whole=whole), await partition.end(tp)
        usable = [s for s in found if s.offset < end]
        if len(usable) < len(found):
            log.error(
                "%s: the log ends at %d, before a snapshot's offset %d: the topic was made anew", driver.step.owner, end, found[0].offset
            )
        await driver.recover(usable)
        if driver.step.offset >= 0 or not found:
            return


async def close_gap(driver: PartitionDriver, tp: tuple[str, int], offset: int, store: Store, partition: PartitionLog) -> int:
    """Bring a driver's state to just before ``offset``, where the group goes on. Returns how many messages are gone from the log unread.

    A sound snapshot that is too old is caught up with: what was acked is fed again, and written again under the same ids. Without one the state is made again from a part of
    the log, silently; see ``PartitionDriver.rebuild``.
    """
    owner = driver.step.owner
    await recover(driver, tp, store, partition)
    if not driver.gap(offset):
        return 0
    begin = await partition.begin(tp)
    if driver.step.offset >= 0 and begin > driver.step.offset + 1:
        log.error("%s: the log begins at %d, after the snapshot's offset %d: the state is made anew", owner, begin, driver.step.offset)
        driver.anew()
    if driver.step.offset >= 0:
        log.warning("%s: offsets %d to %d again: the snapshot is older than the commit", owner, driver.step.offset + 1, offset - 1)
        await driver.catch_up(partition.between(tp, driver.step.offset + 1, offset))
        return 0
    if begin >= offset:
        if begin > 0:
            log.warning("%s: begins at offset %d: what was before it is gone from the log", owner, begin)
        return begin
    start = await partition.rebuild_from(tp, offset)
    log.error("%s: no sound snapshot, though offsets up to %d were acked: state made again from offset %d", owner, offset - 1, start)
    await driver.rebuild(partition.between(tp, start, offset))
    return 0
