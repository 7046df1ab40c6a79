"""Columns of the observe step turned into records of the open topics, of ``dead-letter`` and of ``late``."""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from connectors.columns import EVENTS, I64, METHODS, Reject, VehicleColumns
from connectors.envelope import Envelope
from geo.network import F64, Bool
from models.clock import rfc3339, rfc3339_column
from models.records import DeadLetter, Late, VehiclePosition, encode
from streams.outputs import Out, outs

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


#: ``models.records.VehiclePosition`` without its checks, made from columns in its fields' order.
_Position = msgspec.defstruct(
    "_Position", [(f.name, Any, None if f.default is msgspec.NODEFAULT else f.default) for f in msgspec.structs.fields(VehiclePosition)],
    omit_defaults=True, gc=False,
)  # fmt: skip
_lines = msgspec.json.Encoder().encode_lines
_KNOWN = (False, True, None)  #: indexed by 0, 1, -1
_ON_ROUTE = (None, False, True)  #: not on a shape, on its shape, has left it


def positions(o: Observer, c: VehicleColumns, at: I64, segment: I64, offset_m: F64, on: Bool, off_route: Bool) -> list[Out]:
    """``vehicle-position`` of the accepted events ``at``; all else are columns over them. This runs for every event of every vehicle, so all of them are encoded at once."""
    if not len(at):
        return []
    feed, segment_ids = o.feed.name, o.network.segments.segment_id
    rows = at.tolist()
    event_ms, vehicle, trips = c.event_ms[at], [c.vehicle_id[i] for i in rows], [c.trip[i] for i in rows]
    values = _lines(
        list(map(  # a list: msgspec 0.22 never lets go of an iterator that it is given here, nor of all that hangs on it
            _Position,
            vehicle, rfc3339_column(event_ms), rfc3339_column(c.ingest_ms[at]), repeat(feed), [c.operator[i] for i in rows],
            _numbers(c.lat_deg[at], 6), _numbers(c.lon_deg[at], 6), _numbers(c.speed_mps[at], 2), _numbers(np.mod(np.round(c.heading_deg[at], 1), 360.0), 1),
            [METHODS[m] for m in c.method[at].tolist()],
            [t.mode for t in trips], [t.route_id for t in trips], [t.direction_id for t in trips], [t.trip_id for t in trips],
            [t.operating_day for t in trips], [t.start_time for t in trips], [t.headsign for t in trips],
            _numbers(c.delay_s[at], 0), [c.stop_id[i] for i in rows], [_KNOWN[k] for k in c.at_stop[at].tolist()], [_KNOWN[k] for k in c.doors_open[at].tolist()],
            _numbers(c.occupancy_pct[at], 1), _numbers(c.odometer_m[at], 1),
            [segment_ids[k] if k >= 0 else None for k in segment.tolist()], _numbers(np.where(segment >= 0, offset_m, np.nan), 3),
            [_ON_ROUTE[k] for k in (on + 2 * (off_route & ~on)).tolist()], *_told(c, at, rows), repeat(True if o.simulated else None),
        ))
    ).split(b"\n")  # fmt: skip
    by = (
        f":{feed}" if o.feed.secondary_to is not None else ""
    )  # the same vehicle at the same second, told by another feed, is another record
    times_ms, events = event_ms.tolist(), c.event[at].tolist()
    ids = [f"vehicle-position:{v}:{ms}:{EVENTS[event]}{by}" for v, ms, event in zip(vehicle, times_ms, events, strict=True)]
    return outs(map(str.encode, vehicle), values, times_ms, ids)  # the last line ends with a newline: one value more than there are records


def _told(c: VehicleColumns, at: I64, rows: list[int]) -> tuple[Iterable[str | None], Iterable[str | None], Iterable[str | None]]:
    """Event, junction and priority; most messages are positions alone."""
    if not c.event[at].any():
        return repeat(None), repeat(None), repeat(None)
    asked = [c.signal.get(i, ("", None)) for i in rows] if c.signal else [("", None)] * len(rows)
    return (
        [EVENTS[e] if e else None for e in c.event[at].tolist()],
        [junction or None for junction, _ in asked],
        [priority for _, priority in asked],
    )


def _numbers(column: F64, digits: int) -> list[Any]:
    """Rounded; None where it is not known."""
    rounded = np.round(column, digits) + 0.0
    unknown = np.isnan(rounded)
    if digits == 0:
        rounded = np.where(unknown, 0.0, rounded).astype(np.int64)
    if unknown.any():
        rounded = rounded.astype(object)
        rounded[unknown] = None
    values: list[Any] = rounded.tolist()
    return values


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
        record = DeadLetter(
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
        out.append(Out(o.feed.name.encode(), encode(record), ingest, f"dead-letter:{o.raw_topic}:{o.partition}:{offset}:{index}:{n}"))
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
    record = Late(
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
    return Out(key.encode(), encode(record), event_ms, f"late:{o.raw_topic}:{o.partition}:{offset}:{index}")
