"""One listener from hello to its end: resumed from its id, or started with a snapshot, or from now; then every change as it happens.

The same for server-sent events and WebSockets. Events of the gateway itself: ``hello``, ``ready``, ``heartbeat`` (with the status as data), ``snapshot`` (begin and
end), ``gap`` (what could not be told, and why), ``overflow`` (too slow; the stream ends). Every other event is a record as published, named by its product.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from serve.hub import CHUNK, Cursor, Hub, Listener, Sink
from serve.log import Stretch
from serve.marks import MAX_ID, Marks, Place, parse
from serve.ring import Entry, Wanted

log = logging.getLogger("serve.listen")

#: Pause between heartbeats, s. A page says "stale" when it has missed two.
HEARTBEAT_S = 4.0
#: Somebody who is not done with what was missed within this time is cut, and goes on from there when it comes back, s.
CATCH_UP_S = 600.0

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    wanted: Wanted
    last_id: str | None = None  #: id of the last event that the client has
    snapshot: bool = False


class TooSlow(Exception):
    """The listener must go."""


async def listen(hubs: Sequence[Hub], asked: Asked, sink: Sink, *, named: bool = False) -> bool:
    """Tell one listener everything until it leaves, is cut, or the gateway stops; True when it was cut. ``named``: events and ids say which city they are of.

    Raises:
        TimeoutError: the client does not take what is written.
        ConnectionError: it is gone.
    """
    for hub in hubs:
        hub.flush()  # what has come before it is not new to it
    listener = Listener(hubs, asked.wanted, named=named)
    for hub in hubs:
        hub.listeners.add(listener)
    try:
        await _Session(listener, asked, sink).run()
    except TooSlow:
        for hub in hubs:
            hub.cut += 1
        await sink.write(
            [sink.pack([sink.frame("overflow", _encode({"detail": "reading too slowly; come back with the last id to go on from there"}))])]
        )
        return True
    except (KafkaError, TimeoutError) as e:
        if not isinstance(e, KafkaError):
            raise
        log.warning("a listener could not be given what it missed: %s: %s", type(e).__name__, e)
        await sink.write([sink.pack([sink.frame("error", _encode({"detail": "the log does not answer now; come back with the last id"}))])])
    finally:
        for hub in hubs:
            hub.listeners.discard(listener)
    return False


class _Session:
    def __init__(self, listener: Listener, asked: Asked, sink: Sink) -> None:
        self.listener, self.asked, self.sink = listener, asked, sink

    async def tell(self, name: str, data: object, event_id: str | None = None) -> None:
        await self.sink.write([self.sink.pack([self.sink.frame(name, _encode(data), event_id)])])

    def status(self) -> dict[str, object]:
        cities = [c.hub.status() for c in self.listener.cursors]
        if not self.listener.named:
            return cities[0]
        return {"ready": all(c.get("ready") for c in cities), "cities": cities}

    async def run(self) -> None:
        fresh = not self.asked.last_id
        await self.tell("hello", self.status(), self.listener.id if fresh and not self.asked.snapshot else None)
        marks, complaint = self._marks()
        if complaint is not None:
            await self._gap([{"reason": complaint}])
        for cursor in self.listener.cursors:
            began = marks.get(cursor.hub.picture.city)
            if began is not None:
                cursor.hub.resumed += 1
                await self._resume(cursor, began)
            elif self.asked.snapshot:
                await self._snapshot(cursor)
        await self._follow()

    def _marks(self) -> tuple[dict[str, Marks], str | None]:
        """By city where the client says it stands; and what is wrong with its id."""
        text = self.asked.last_id
        if not text:
            return {}, None
        try:
            if not self.listener.named:
                return {self.listener.cursors[0].hub.picture.city: parse(text)}, None
            if len(text) > MAX_ID * len(self.listener.cursors):
                raise ValueError("too long for an id of this stream")
            parts = [part.partition("/") for part in text.split(";")]
            return {city: parse(place) for city, _, place in parts}, None
        except ValueError as e:
            return {}, str(e)

    async def _gap(self, missing: list[dict[str, object]]) -> None:
        for cursor in self.listener.cursors:
            cursor.hub.gaps += 1
        await self.tell("gap", {"detail": "some records cannot be told any more", "missing": missing}, self.listener.id)

    async def _snapshot(self, cursor: Cursor) -> None:
        """The latest record of every key, then whatever came after it."""
        hub, wanted, sink = cursor.hub, cursor.wanted, self.sink
        held = [(product, value) for product in sorted(wanted.products) for value in hub.picture.current(product)]
        marks = hub.picture.marks.of(wanted.products)
        name = f"{hub.picture.city}/" if self.listener.named else ""
        await self.tell("snapshot", {"state": "begin", "city": hub.picture.city, "log_time": hub.picture.log_time})
        cursor.own, told, size, frames = Marks(marks), 0, 0, []
        for product, value in held:
            if not wanted.passes(Entry(product, 0, 0, value), hub.picture.box_of):
                continue
            frames.append(sink.frame(name + product, value))
            told, size = told + 1, size + len(value)
            if size > CHUNK:
                await sink.write([sink.pack(frames)])
                frames, size = [], 0
        if frames:
            await sink.write([sink.pack(frames)])
        await self.tell("snapshot", {"state": "end", "city": hub.picture.city, "records": told}, self.listener.id)
        await self._catch_up(cursor)

    async def _resume(self, cursor: Cursor, began: Marks) -> None:
        hub, products = cursor.hub, cursor.wanted.products
        own = Marks(began.of(products))
        known = {product for product, _ in own}
        for place, offset in hub.ring.marks.of(products - known).items():
            own[place] = offset  # that product was not asked for before: from now on
        cursor.own = own
        await self._not_beyond_the_log(cursor)
        await self._catch_up(cursor)

    async def _not_beyond_the_log(self, cursor: Cursor) -> None:
        """Somebody may be ahead of this gateway, having listened to a quicker one; but not of the log itself: then it is another log."""
        hub, own = cursor.hub, cursor.own
        assert own is not None
        ahead = {place: (offset + 1, offset) for place, offset in own.items() if offset > hub.ring.marks.get(place, -1)}
        if not ahead:
            return
        ends: dict[Place, int] = {}
        if hub.log is not None:
            stretch = Stretch(ahead)
            async with hub.log.open(hub.picture.city, stretch):
                ends = stretch.ends
        gone = [place for place, (next_, _) in ahead.items() if next_ > ends.get(place, 0)]
        for place in gone:
            own[place] = hub.ring.marks.get(place, -1)
        if gone:
            await self._gap([_missing(place, ahead[place][0], None, "the log has begun anew") for place in gone])

    async def _catch_up(self, cursor: Cursor) -> None:
        """What is no longer in memory is read from the log, until the rest is."""
        hub, own = cursor.hub, cursor.own
        assert own is not None
        deadline = time.monotonic() + CATCH_UP_S
        while (number := hub.ring.covers(own, cursor.wanted.products)) is None:
            if time.monotonic() > deadline:
                raise TooSlow
            wanted = {
                place: (own.get(place, -1) + 1, last)
                for place, last in hub.ring.marks.of(cursor.wanted.products).items()
                if own.get(place, -1) < last
            }
            if hub.log is None:
                own.raise_to({place: last for place, (_, last) in wanted.items()})
                await self._gap([_missing(place, first, last, "not kept") for place, (first, last) in wanted.items()])
                continue
            stretch = Stretch(wanted)
            async with hub.log.open(hub.picture.city, stretch) as batches:
                gone = [
                    _missing(place, first, min(last, stretch.kept_from[place] - 1), "expired")
                    for place, (first, last) in wanted.items()
                    if stretch.kept_from[place] > first
                ]
                if gone:
                    own.raise_to({place: min(wanted[place][1], kept - 1) for place, kept in stretch.kept_from.items()})
                    await self._gap(gone)
                    if self.asked.snapshot:
                        break
                await self._tell_batches(cursor, batches, deadline)
            own.raise_to({place: last for place, (_, last) in wanted.items()})
            if lacking := stretch.compacted():
                await self._gap([_missing(place, *wanted[place], "compacted", records) for place, records in lacking.items()])
        else:
            cursor.number = number
            return
        await self._snapshot(cursor)

    async def _tell_batches(self, cursor: Cursor, batches: AsyncIterator[list[Entry]], deadline: float) -> None:
        async for entries in batches:
            for at in range(0, len(entries), 200):
                if frames := cursor.compose(entries[at : at + 200], self.sink, self.listener.id_of(cursor)):
                    await self.sink.write([self.sink.pack(frames)])
            if cursor.hub.closed or time.monotonic() > deadline:
                raise TooSlow

    async def _follow(self) -> None:
        listener, sink = self.listener, self.sink
        beat = time.monotonic() + HEARTBEAT_S
        while not any(c.hub.closed for c in listener.cursors):
            listener.wake.clear()
            pieces: list[Any] = []
            for cursor in listener.cursors:
                if cursor.too_slow():
                    raise TooSlow
                pieces += cursor.take(sink, listener.id_of(cursor))
            events = [(name, None) for name in listener.notices]
            listener.notices.clear()
            if time.monotonic() >= beat:
                beat = time.monotonic() + HEARTBEAT_S
                events.append(("heartbeat", None))
            if events:
                status = _encode(self.status())
                pieces.append(sink.pack([sink.frame(name, status, listener.id) for name, _ in events]))
            if pieces:
                await sink.write(pieces)
            elif all(c.number >= c.hub.ring.end for c in listener.cursors):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listener.wake.wait(), max(0.0, beat - time.monotonic()))


def _missing(place: Place, first: int, last: int | None, reason: str, records: int | None = None) -> dict[str, object]:
    out: dict[str, object] = {"product": place[0], "partition": place[1], "first_offset": first, "reason": reason}
    if last is not None:
        out["last_offset"] = last
    out["records"] = records if records is not None else (last - first + 1 if last is not None else None)
    return {key: value for key, value in out.items() if value is not None}
