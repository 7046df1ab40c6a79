"""Columns of the observe step turned into records of the open topics, of ``dead-letter`` and of ``late``."""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from connectors.columns import EVENTS, I64, METHODS, Reject, Trip, VehicleColumns
from connectors.envelope import Envelope
from geo.network import F64, Bool
from models.clock import rfc3339
from models.records import DeadLetter, Late, VehiclePosition, encode
from streams.outputs import Block, Out
from streams.texts import MOST_KNOWN, Known, instants, integers, join, json_text, numbers, pick

if TYPE_CHECKING:
    from streams.observe import Observer

BODY_LIMIT = 4096


class Where:
    """Which message of the raw log an item came in, when several envelopes were taken together."""

    __slots__ = ("firsts", "offsets", "starts")

    def __init__(self, starts: list[int], offsets: list[int], firsts: list[int] | None = None) -> None:
        self.starts, self.offsets = starts, offsets
        self.firsts = firsts or [0] * len(starts)  #: where in its message each run of items begins

    def of(self, index: int) -> tuple[int, int]:
        """Offset of the message, and the index within its envelope; -1 is the whole (first) envelope."""
        if index < 0:
            return self.offsets[0], index
        k = bisect_right(self.starts, index) - 1
        return self.offsets[k], index - self.starts[k] + self.firsts[k]


_METHODS = pa.array([None if m == "unknown" else f',"position_method":"{m}"' for m in METHODS])
_EVENTS = pa.array(EVENTS)
_EVENT_NAMES = pa.array([f',"event":"{e}"' if k else None for k, e in enumerate(EVENTS)])
_FLAGS = ("", "false", "true")  #: unknown, no, yes
#: At a stop, doors open.
_STANDS = pa.array(["".join(f',"{n}":{v}' for n, v in (("at_stop", a), ("doors_open", d)) if v) for a in _FLAGS for d in _FLAGS])
_ON_ROUTE = pa.array([None, ',"off_route":false', ',"off_route":true'])  #: not on a shape, on its shape, has left it
#: Fields of a trip in a position.
_TRIP = tuple(f for f in Trip.__struct_fields__ if f in VehiclePosition.__struct_fields__)


class PositionTexts:
    """What positions say again and again, as JSON."""

    def __init__(self, feed: str) -> None:
        self.feed = f'","feed":{json_text(feed)}'
        self.vehicle, self.operator, self.stop = Known(), Known(',"operator":'), Known(',"stop_id":')
        self._trips: dict[int, tuple[Trip, str]] = {}  #: by identity, which stands as long as the trip is held

    def trips(self, trips: list[Trip]) -> pa.Array:
        """(n,). A trip is one object for as long as its vehicle is on it (``connectors.columns.Trip``), so its text is made once."""
        known = self._trips
        try:
            return pa.array([known[id(t)][1] for t in trips], pa.string())
        except KeyError:
            if len(known) > MOST_KNOWN:
                known.clear()
            for t in trips:
                if id(t) not in known:
                    told = ((name, getattr(t, name)) for name in _TRIP)
                    known[id(t)] = t, "".join(f',"{name}":{json_text(value)}' for name, value in told if value is not None)
            return self.trips(trips)


def positions(o: Observer, c: VehicleColumns, at: I64, segment: I64, offset_m: F64, on: Bool, off_route: Bool) -> Sequence[Out]:
    """``vehicle-position`` of the accepted events ``at``; all else are columns over them. This runs for every event of every vehicle, so all of them are encoded at once;
    ``tests/streams/test_observe.py`` holds them to ``models.records.VehiclePosition``."""
    if not len(at):
        return []
    rows, n, known = at.tolist(), len(at), o.texts
    vehicles, event_ms, event = [c.vehicle_id[i] for i in rows], c.event_ms[at], c.event[at]
    times = instants(np.concatenate([event_ms, c.ingest_ms[at]]))
    lat, lon, speed, heading, delay, occupancy, odometer, offset = numbers(
        lat_deg=(c.lat_deg[at], 6),
        lon_deg=(c.lon_deg[at], 6),
        speed_mps=(c.speed_mps[at], 2),
        heading_deg=(np.mod(np.round(c.heading_deg[at], 1), 360.0), 1),
        delay_s=(c.delay_s[at], 0),
        occupancy_pct=(c.occupancy_pct[at], 1),
        odometer_m=(c.odometer_m[at], 1),
        offset_m=(np.where(segment >= 0, offset_m, np.nan), 3),
    )
    told: tuple[pa.Array | str, ...] = ()
    if event.any():  # most messages are positions alone
        told = (_EVENT_NAMES.take(event),)
        if c.signal:
            asked = [c.signal.get(i, ("", None)) for i in rows]
            told += (Known(',"signal_id":').of(j or None for j, _ in asked), Known(',"signal_priority":').of(p for _, p in asked))
    texts = join(
        '{"vehicle_id":', known.vehicle.of(vehicles), ',"event_time":"', times[:n], '","ingest_time":"', times[n:], known.feed,
        known.operator.of([c.operator[i] for i in rows]), lat, lon, speed, heading, _METHODS.take(c.method[at]),
        known.trips([c.trip[i] for i in rows]), delay, known.stop.of([c.stop_id[i] for i in rows]),
        _STANDS.take(3 * (c.at_stop[at] + 1) + c.doors_open[at] + 1), occupancy, odometer,
        pick(o.ground.segment_names, segment), offset, _ON_ROUTE.take((on + 2 * (off_route & ~on)).astype(np.int8)), *told,
        ',"simulated":true}' if o.simulated else "}",
    )  # fmt: skip
    # the same vehicle at the same second, told by another feed, is another record
    by = "" if o.feed.secondary_to is None else f":{o.feed.name}"
    keys = pa.array(vehicles, pa.string())
    return Block(keys, texts, event_ms, join("vehicle-position:", keys, ":", integers(event_ms), ":", _EVENTS.take(event), by))


def dead_letters(o: Observer, envelope: Envelope, rejects: list[Reject], where: Where) -> list[Out]:
    """One record a reject, with what it takes to find the bytes again and the first of them."""
    out = []
    seen: dict[tuple[int, int], int] = {}  # an entity may be refused for more than one reason
    for r in rejects:
        item = None
        if envelope.kind == "messages" and 0 <= r.index < len(envelope.items):
            item = envelope.items[r.index]
        elif envelope.items:
            item = envelope.items[0]
        body = r.body or (item.body if item is not None else b"")
        ingest = item.ingest_ms if item is not None else envelope.ingest_ms
        offset, index = where.of(r.index)
        n = seen[offset, index] = seen.get((offset, index), -1) + 1
        told = DeadLetter(
            city=o.city.name,
            feed=o.feed.name,
            topic=o.raw_topic,
            partition=o.partition,
            offset=offset,
            index=index,
            ingest_time=rfc3339(ingest),
            reason=r.reason,
            field=r.field,
            value=r.value[:200],
            want=r.want,
            error=f"{o.feed.name}: {r.field} = {r.value[:200]}, expected {r.want}",
            sha256=hashlib.sha256(body).hexdigest(),
            source_topic=r.source_topic or (item.topic if item is not None else None),
            body_base64=base64.b64encode(body[:BODY_LIMIT]).decode(),
        )
        out.append(Out(o.feed.name.encode(), encode(told), ingest, f"dead-letter:{o.raw_topic}:{o.partition}:{offset}:{index}:{n}"))
    return out


def late_records(o: Observer, c: VehicleColumns, at: I64, reason: Literal["window_closed", "older_than_memory"], where: Where) -> list[Out]:
    """``late`` of the events ``at``."""
    return [
        late(o, "vehicle-position", c.vehicle_id[i], int(c.event_ms[i]), int(c.ingest_ms[i]), reason, where, int(c.index[i]))
        for i in at.tolist()
    ]


def late(
    o: Observer,
    product: str,
    key: str,
    event_ms: int,
    ingest_ms: int,
    reason: Literal["window_closed", "older_than_memory"],
    where: Where,
    at: int,
) -> Out:
    """One event that came too late for its window; ``at``: its item."""
    offset, index = where.of(at)
    told = Late(
        city=o.city.name,
        feed=o.feed.name,
        product=product,
        key=key,
        event_time=rfc3339(event_ms),
        ingest_time=rfc3339(ingest_ms),
        reason=reason,
        topic=o.raw_topic,
        partition=o.partition,
        offset=offset,
        index=index,
    )
    return Out(key.encode(), encode(told), event_ms, f"late:{o.raw_topic}:{o.partition}:{offset}:{index}")
