"""Columns of the observe step turned into records of the open topics, of ``dead-letter`` and of ``late``."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np

from connectors.columns import EVENTS, I64, METHODS, Reject, VehicleColumns
from connectors.envelope import Envelope
from geo.network import F64, Bool
from models.clock import rfc3339, rfc3339_column
from models.records import DeadLetter, Late, VehiclePosition, encode
from streams.outputs import Out

if TYPE_CHECKING:
    from streams.observe import Observer

BODY_LIMIT = 4096


def positions(o: Observer, c: VehicleColumns, at: I64, segment: I64, offset_m: F64, on: Bool, off_route: Bool) -> list[Out]:
    """``vehicle-position`` of the accepted events ``at``."""
    if not len(at):
        return []
    ids = o.network.segments.segment_id
    simulated = True if o.simulated else None
    feed = o.feed.name
    event_ms = c.event_ms[at]
    out = []
    columns = zip(
        at.tolist(), event_ms.tolist(), rfc3339_column(event_ms), rfc3339_column(c.ingest_ms[at]),
        _optional(c.lat_deg[at], 6), _optional(c.lon_deg[at], 6), _optional(c.speed_mps[at], 2), _optional(c.heading_deg[at], 1),
        _optional(c.odometer_m[at], 1), _optional(c.delay_s[at], 0), _optional(c.occupancy_pct[at], 1),
        c.doors_open[at].tolist(), c.at_stop[at].tolist(), c.method[at].tolist(), c.event[at].tolist(),
        segment.tolist(), np.round(offset_m, 3).tolist(), on.tolist(), off_route.tolist(), strict=True,
    )  # fmt: skip
    for (
        i,
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
        is_on,
        off,
    ) in columns:
        trip = c.trip[i]
        vehicle = c.vehicle_id[i]
        record = VehiclePosition(
            vehicle_id=vehicle,
            event_time=event_time,
            ingest_time=ingest_time,
            feed=feed,
            operator=c.operator[i],
            lat_deg=lat,
            lon_deg=lon,
            speed_mps=speed,
            heading_deg=heading,
            position_method=METHODS[method],  # type: ignore[arg-type]
            mode=trip.mode,
            route_id=trip.route_id,
            direction_id=trip.direction_id,
            trip_id=trip.trip_id,
            operating_day=trip.operating_day,
            start_time=trip.start_time,
            headsign=trip.headsign,
            delay_s=None if delay is None else int(delay),
            stop_id=c.stop_id[i],
            at_stop=None if stop < 0 else bool(stop),
            doors_open=None if doors < 0 else bool(doors),
            odometer_m=odo,
            occupancy_pct=occu,
            segment_id=ids[seg] if seg >= 0 else None,
            offset_m=off_m if seg >= 0 else None,
            off_route=False if is_on else (True if off else None),
            simulated=simulated,
        )
        out.append(Out(vehicle.encode(), encode(record), ms, f"vehicle-position:{vehicle}:{ms}:{EVENTS[event]}"))
    return out


def _optional(column: F64, digits: int) -> list[float | None]:
    return [None if x != x else x for x in np.round(column, digits).tolist()]


def dead_letters(o: Observer, envelope: Envelope, rejects: list[Reject], offset: int) -> list[Out]:
    """One record a reject, with what it takes to find the bytes again and the first of them."""
    out = []
    for n, r in enumerate(rejects):
        item = None
        if envelope.kind == "messages" and 0 <= r.index < len(envelope.items):
            item = envelope.items[r.index]
        elif envelope.items:
            item = envelope.items[0]
        body = r.body or (item.body if item is not None else b"")
        ingest = item.ingest_ms if item is not None else envelope.ingest_ms
        record = DeadLetter(
            city=o.city.name,
            feed=o.feed.name,
            topic=o.raw_topic,
            partition=o.partition,
            offset=offset,
            index=r.index,
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
        out.append(Out(o.feed.name.encode(), encode(record), ingest, f"dead-letter:{o.raw_topic}:{o.partition}:{offset}:{r.index}:{n}"))
    return out


def late_records(o: Observer, c: VehicleColumns, at: I64, reason: Literal["window_closed", "older_than_memory"], offset: int) -> list[Out]:
    """``late`` of the events ``at``."""
    return [
        late(o, "vehicle-position", c.vehicle_id[i], int(c.event_ms[i]), int(c.ingest_ms[i]), reason, offset, int(c.index[i]))
        for i in at.tolist()
    ]


def late(
    o: Observer,
    product: str,
    key: str,
    event_ms: int,
    ingest_ms: int,
    reason: Literal["window_closed", "older_than_memory"],
    offset: int,
    index: int,
) -> Out:
    """One event that came too late for its window."""
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
