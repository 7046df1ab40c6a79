"""Records of any product as GeoJSON features, chosen by place and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from models.clock import parse_ms
from serve.http import Box, Interval
from serve.ring import Facts, box_of_facts, facts_of

_encode = msgspec.json.Encoder().encode


def selected(values: Sequence[bytes], area: Box | None, when: Interval | None, box_of: Callable[[str], Box | None]) -> list[bytes]:
    """Those records that lie in the area, wholly or in part, and happened within the interval; a record without place or time is left out."""
    out = []
    for value in values:
        facts = facts_of(value)
        if area is not None:
            at = box_of_facts(facts, box_of)
            if at is None or at[0] > area[2] or at[2] < area[0] or at[1] > area[3] or at[3] < area[1]:
                continue
        if when is not None:
            end = facts.event_time or facts.window_end or facts.ingest_time
            if end is None or parse_ms(end) < when[0] or parse_ms(facts.window_start or end) > when[1]:
                continue
        out.append(value)
    return out


def record_feature(value: bytes, geometry_of: Callable[[str], bytes | None]) -> bytes:
    """One record as a feature: its place as geometry, the record as published as properties."""
    return b'{"type":"Feature","geometry":%b,"properties":%b}' % (place(facts_of(value), geometry_of), value)


def place(facts: Facts, geometry_of: Callable[[str], bytes | None]) -> bytes:
    """Where a record lies, as GeoJSON: by its own geometry, its position, or its segment's; null when it says none of them."""
    if facts.geometry is not None:
        return _encode(facts.geometry)
    if facts.lat_deg is not None and facts.lon_deg is not None:
        return _encode({"type": "Point", "coordinates": (facts.lon_deg, facts.lat_deg)})
    return (facts.segment_id is not None and geometry_of(facts.segment_id)) or b"null"
