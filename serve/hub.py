"""Who listens to a city, and where in its log each of them stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from serve.log import Log
from serve.marks import Marks
from serve.ring import Entry, Ring, Wanted, compose
from serve.state import Applied, Picture

#: A listener that is this far behind is cut, bytes. 2,500 records a second of 500 bytes make it in about 6 s.
BEHIND_BYTES = 8 * 1024 * 1024
#: Records that come within this time are told together, s: one write for each listener instead of many.
TOGETHER_S = 0.1
#: What is written to one listener in one go, bytes, once a block is beyond it.
CHUNK = 128 * 1024


class Sink(Protocol):
    """How events are put and sent."""

    key: str  #: sinks with the same one put events the same way

    def frame(self, name: str, data: bytes, event_id: str | None = None) -> bytes: ...
    def pack(self, frames: Sequence[bytes]) -> Any: ...
    async def write(self, pieces: Sequence[Any]) -> None: ...


class Hub:
    """One city's ring and its listeners."""

    def __init__(self, picture: Picture, status: Callable[[], dict[str, object]], log: Log | None = None) -> None:
        self.picture = picture
        self.status = status  #: what hello and heartbeat say
        self.log = log
        self.ring = Ring()
        self.ring.marks.raise_to({place: offset for place, offset in picture.marks.items() if place[0] != "segment"})
        self.listeners: set[Listener] = set()
        self.cut = 0  #: listeners cut because they were too slow
        self.resumed = 0  #: listeners that came back with an id
        self.gaps = 0  #: times that somebody could not be given everything
        self.closed = False
        self._pending: list[Entry] = []
        self._told_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, product: str, partition: int, offset: int) -> None:
        """A partition that will be read from ``offset`` on."""
        if product != "segment":
            self.ring.begin((product, partition), offset)

    def publish(self, batch: Iterable[tuple[Applied, int, int]]) -> None:
        """Tell a batch of (record, partition, offset), in order.

        Records of the log that do not replace what is held (older, or written again) are told too: the stream is the topic as it is.
        """
        self._pending += [Entry(a.product, partition, offset, a.value) for a, partition, offset in batch if a.product != "segment"]
        if not self._pending or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._told_s + TOGETHER_S - loop.time()
        if wait_s <= 0:
            self.flush()
        else:
            self._timer = loop.call_later(wait_s, self.flush)

    def flush(self) -> None:
        """Tell what waits to be told together."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            self._told_s = asyncio.get_running_loop().time()
            self.ring.append(self._pending)
            self._pending = []
            for listener in self.listeners:
                listener.wake.set()

    def announce(self, name: str) -> None:
        """Tell every listener an event of the gateway itself, with the status as data."""
        for listener in self.listeners:
            listener.notices.append(name)
            listener.wake.set()

    def close(self) -> None:
        """End every stream; used when the gateway stops."""
        self.closed = True
        for listener in self.listeners:
            listener.wake.set()


class Cursor:
    """Where one listener stands in one city."""

    def __init__(self, hub: Hub, wanted: Wanted) -> None:
        self.hub = hub
        self.wanted = wanted
        self.number = hub.ring.end
        #: its own place, while it is not the one of everybody else who is at this block
        self.own: Marks | None = None
        self._catching_up = True

    @property
    def marks(self) -> Marks:
        """Where it stands."""
        ring = self.hub.ring
        if self.own is not None:
            return self.own
        return (ring.marks if self.number >= ring.end else ring.block(self.number).before).of(self.wanted.products)

    def too_slow(self) -> bool:
        """True when it is too far behind; one that came back may first catch up with what is in memory."""
        ring = self.hub.ring
        if self.number < ring.first:
            return True
        behind = ring.total - ring.block(self.number).total if self.number < ring.end else 0
        self._catching_up = self._catching_up and behind > BEHIND_BYTES
        return behind > BEHIND_BYTES and not self._catching_up

    def take(self, sink: Sink, id_of: Callable[[str], str] | None) -> list[Any]:
        """The next blocks, ready to be written: up to ``CHUNK`` bytes of log. ``id_of``: makes the listener's id of this city's; None when they are the same."""
        ring, out, size = self.hub.ring, [], 0
        while self.number < ring.end and size < CHUNK:
            block = ring.block(self.number)
            if self.own is not None and self.own == block.before.of(self.wanted.products):
                self.own = None
            if self.own is None and id_of is None:
                key = (self.wanted, sink.key)
                if key not in block.packed:
                    frames = compose(block.entries, self.wanted, block.before.of(self.wanted.products), self.hub.picture.box_of, sink.frame)
                    block.packed[key] = sink.pack(frames) if frames else None
                if (packed := block.packed[key]) is not None:
                    out.append(packed)
            else:
                if self.own is None:
                    self.own = block.before.of(self.wanted.products)
                if frames := self.compose(block.entries, sink, id_of):
                    out.append(sink.pack(frames))
            size += block.size
            self.number += 1
        return out

    def compose(self, entries: Iterable[Entry], sink: Sink, id_of: Callable[[str], str] | None) -> list[bytes]:
        """Frames of its own; its own marks move along."""
        assert self.own is not None
        city = self.hub.picture.city

        def frame(product: str, value: bytes, event_id: str) -> bytes:
            return sink.frame(product, value, event_id) if id_of is None else sink.frame(f"{city}/{product}", value, id_of(event_id))

        return compose(entries, self.wanted, self.own, self.hub.picture.box_of, frame)


class Listener:
    """One client: a cursor for each city that it asked for."""

    def __init__(self, hubs: Sequence[Hub], wanted: Wanted, *, named: bool = False) -> None:
        self.cursors = [Cursor(hub, wanted) for hub in hubs]
        self.named = named  #: events and ids say which city they are of
        self.wake = asyncio.Event()
        self.notices: list[str] = []

    def id_of(self, cursor: Cursor) -> Callable[[str], str] | None:
        """Turns the id of one city into the listener's; None when it has just that city."""
        if not self.named:
            return None
        others = {c.hub.picture.city: c.marks.text() for c in self.cursors}
        city = cursor.hub.picture.city

        def whole(text: str) -> str:
            return ";".join(f"{name}/{text if name == city else other}" for name, other in others.items())

        return whole

    @property
    def id(self) -> str:
        """Where it stands."""
        first = self.cursors[0]
        whole = self.id_of(first)
        text = first.marks.text()
        return whole(text) if whole else text
