"""Digitraffic maintenance tracking (REST): where ploughs, gritters and mowers work now, as situations on the street.

Nobody tells which vehicle it is: ``id`` is that of a stretch of work, and the next stretch has another. So a stretch is no vehicle's position; it is roadwork that
moves, with its last place, and it ends when the list names it no more or when it was heard of ``OLD_MS`` ago. It explains why traffic is slow there.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.cities import Box
from connectors.columns import Parsed, Stated
from connectors.envelope import Item
from connectors.geojson import TooLarge, checked, touches
from connectors.reading import Refused, decoder, iso_ms, iso_ms_or_none, reject
from models.clock import rfc3339
from models.records import Situation

#: The list holds the last hour; who was heard of longer ago works there no more, milliseconds.
OLD_MS = 900_000


class _Properties(msgspec.Struct):
    id: int
    time: str | None = None
    startTime: str | None = None
    endTime: str | None = None
    tasks: list[str] | None = None
    domain: str | None = None
    source: str | None = None


class _Feature(msgspec.Struct):
    properties: _Properties
    geometry: Any = None


class _Document(msgspec.Struct):
    features: list[msgspec.Raw]


_document = decoder(_Document, "a collection of maintenance trackings")
_feature = decoder(_Feature, "a maintenance tracking: id, time, tasks, and where")


def document(before: int, item: Item, parsed: Parsed, feed: str, box: Box) -> int:
    """One answer of ``tracking/routes/latest`` or ``tracking/routes``; returns how many trackings it held."""
    features = _document(item.body).features
    mark = parsed.mark()
    for n, raw in enumerate(features):
        try:
            _tracking(before + n, item, raw, parsed, feed, box)
        except Refused as e:
            parsed.rejects.append(reject(before + n, item, e, raw))
    parsed.listed(item.topic, item.ingest_ms, mark)
    return len(features)


def _tracking(index: int, item: Item, raw: msgspec.Raw, parsed: Parsed, feed: str, box: Box) -> None:
    tracking = _feature(raw)
    p = tracking.properties
    event_ms = iso_ms(p.time or p.endTime, "time")
    start_ms = iso_ms_or_none(p.startTime, "startTime")
    try:
        geometry, positions = checked(tracking.geometry)
    except TooLarge as e:
        raise Refused("over_limit", "geometry", "too many positions", "the way of one vehicle") from e
    if not touches(positions, box):
        parsed.skip("outside_box")
        return
    if item.ingest_ms - event_ms > OLD_MS:
        parsed.skip("not_at_work_now")
        return
    tasks = sorted(p.tasks or [])
    key = f"digitraffic/maintenance/{p.id}"
    record = Situation(
        situation_id=key,
        kind="roadwork",
        event_time=rfc3339(event_ms),
        ingest_time=rfc3339(item.ingest_ms),
        feed=feed,
        valid_from=None if start_ms is None else rfc3339(start_ms),
        valid_to=rfc3339(event_ms + OLD_MS),
        cause=",".join(tasks) or None,
        geometry=geometry,
        title={"en": f"Maintenance vehicle: {', '.join(t.replace('_', ' ').lower() for t in tasks) or 'at work'}"},
        source=p.source or p.domain,
    )
    parsed.stated.append(Stated(index=index, ingest_ms=item.ingest_ms, event_ms=event_ms, product="situation", key=key, record=record))
    parsed.events += 1
