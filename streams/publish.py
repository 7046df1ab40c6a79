"""Columns of the observe step turned into records of the open topics, of ``dead-letter`` and of ``late``."""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from connectors.columns import EVENTS, I64, METHODS, Reject, Trip, VehicleColumns
from connectors.envelope import Envelope
from geo.network import F64, Bool
from models.clock import rfc3339, rfc3339_column
from models.records import DeadLetter, Late, encode
from streams.outputs import Out

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


class PositionWriter:
    """``vehicle-position`` records, written straight as JSON: this runs for every event of every vehicle.

    The part that stays the same while a vehicle serves a trip is encoded once per slot and trip; the rest is one format string. A test holds that what comes out
    is what encoding a ``models.records.VehiclePosition`` gives, but for the order of the fields.
    """

    def __init__(self, segment_text: list[str]) -> None:
        self.segment_text = segment_text  #: see ``segment_text``; shared by all writers of a process
        self._heads: dict[int, tuple[Trip, str, str | None, str]] = {}  #: slot -> trip, vehicle, operator, text
        self._stops: dict[str | None, str] = {None: ""}

    def _head(self, vehicle: str, operator: str | None, trip: Trip, feed: str, simulated: bool) -> str:
        fields = {
            "vehicle_id": vehicle, "feed": feed, "operator": operator, "mode": trip.mode, "route_id": trip.route_id, "direction_id": trip.direction_id,
            "trip_id": trip.trip_id, "operating_day": trip.operating_day, "start_time": trip.start_time, "headsign": trip.headsign,
            "simulated": True if simulated else None,
        }  # fmt: skip
        return msgspec.json.encode({k: v for k, v in fields.items() if v is not None}).decode()[:-1]

    def write(
        self, o: Observer, c: VehicleColumns, at: I64, slot: I64, segment: I64, offset_m: F64, on: Bool, off_route: Bool
    ) -> list[Out]:
        """Records of the accepted events ``at``."""
        if not len(at):
            return []
        heads, stops, texts, feed = self._heads, self._stops, self.segment_text, o.feed.name
        if len(heads) > 50_000 or len(stops) > 50_000:
            heads.clear()
            stops.clear()
            stops[None] = ""
        event_ms = c.event_ms[at]
        columns = zip(
            at.tolist(), slot.tolist(), event_ms.tolist(), rfc3339_column(event_ms), rfc3339_column(c.ingest_ms[at]),
            _text(c.lat_deg[at], "lat_deg", 6), _text(c.lon_deg[at], "lon_deg", 6),
            _text(c.speed_mps[at], "speed_mps", 2), _text(np.mod(np.round(c.heading_deg[at], 1), 360.0), "heading_deg", 1), _text(c.odometer_m[at], "odometer_m", 1),
            _text(c.delay_s[at], "delay_s", 0), _text(c.occupancy_pct[at], "occupancy_pct", 1),
            c.doors_open[at].tolist(), c.at_stop[at].tolist(), c.method[at].tolist(), c.event[at].tolist(),
            segment.tolist(), _text(offset_m, "offset_m", 3), (on + 2 * (off_route & ~on)).tolist(), strict=True,
        )  # fmt: skip
        vehicles, trips, operators, stop_ids = c.vehicle_id, c.trip, c.operator, c.stop_id
        by = (
            f":{feed}" if o.feed.secondary_to is not None else ""
        )  # the same vehicle at the same second, told by another feed, is another record
        out = []
        for (
            i,
            k,
            ms,
            event_time,
            ingest_time,
            lat,
            lon,
            speed,
            heading,
            odo,
            delay,
            occu,
            doors,
            stop,
            method,
            event,
            seg,
            off_m,
            route,
        ) in columns:
            vehicle, trip = vehicles[i], trips[i]
            head = heads.get(k)
            if head is None or head[0] is not trip or head[1] != vehicle or head[2] != operators[i]:
                head = heads[k] = (trip, vehicle, operators[i], self._head(vehicle, operators[i], trip, feed, o.simulated))
            stop_id = stop_ids[i]
            stop_text = stops.get(stop_id)
            if stop_text is None:
                stop_text = stops[stop_id] = f',"stop_id":{msgspec.json.encode(stop_id).decode()}'
            segment_of = f"{texts[seg]}{off_m}" if seg >= 0 else ""
            value = (
                f'{head[3]},"event_time":"{event_time}","ingest_time":"{ingest_time}"{lat}{lon}{speed}{heading}{odo}{delay}{occu}'
                f"{_DOORS[doors]}{_AT_STOP[stop]}{_METHOD[method]}{stop_text}{segment_of}{_ROUTE[route]}}}"
            )
            out.append(Out(vehicle.encode(), value.encode(), ms, f"vehicle-position:{vehicle}:{ms}:{EVENTS[event]}{by}"))
        return out


def segment_text(segment_ids: list[str]) -> list[str]:
    """The JSON of each segment's id, as a field."""
    return [f',"segment_id":{msgspec.json.encode(s).decode()}' for s in segment_ids]


#: Indexed by 0, 1, -1: false, true, not known.
_DOORS = (',"doors_open":false', ',"doors_open":true', "")
_AT_STOP = (',"at_stop":false', ',"at_stop":true', "")
_METHOD = ("", *(f',"position_method":"{m}"' for m in METHODS[1:]))
#: not on a shape, on its shape, has left it
_ROUTE = ("", ',"off_route":false', ',"off_route":true')


def _text(column: F64, name: str, digits: int) -> list[str]:
    """The field as JSON, or nothing where it is not known. The whole column is encoded at once: a tenth of the cost of formatting float by float."""
    rounded = np.round(column, digits) + 0.0
    unknown = np.isnan(rounded)
    if digits == 0:
        rounded = np.where(unknown, 0.0, rounded).astype(np.int64)
    start = f',"{name}":'
    texts = msgspec.json.encode(rounded.tolist()).decode()[1:-1].split(",")
    if not unknown.any():
        return [start + t for t in texts]
    return ["" if u else start + t for t, u in zip(texts, unknown.tolist(), strict=True)]


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
