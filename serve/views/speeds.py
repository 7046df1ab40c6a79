"""Live speeds for routers: OSRM's segment speed file, and the same by OpenStreetMap way for tools that fill Valhalla's traffic tiles.

OSRM takes ``from,to,speed`` of neighbouring OpenStreetMap nodes, km/h (``osrm-contract --segment-speed-file``, ``osrm-customize``); 0 closes the street.
Only general traffic, and only where something was measured: a router has its own idea of the rest. Our speed is the space mean with the waits at signals in it,
so a profile that adds its own waits counts them twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from models.records import SegmentState


class Street(NamedTuple):
    """A segment's state beside its ways and nodes."""

    state: SegmentState
    way_ids: list[int]
    node_ids: list[int]  #: of every vertex, in the direction of travel


def known(streets: Iterable[Street], min_confidence: float) -> Iterator[tuple[Street, float]]:
    """Streets whose nodes are known, with the speed to use, km/h; 0: closed."""
    for street in streets:
        s = street.state
        if s.represents != "general_traffic" or len(street.node_ids) < 2:
            continue
        if s.closed:
            yield street, 0.0
        elif s.speed_kmh and s.origin in ("measured", "blended") and s.confidence >= min_confidence:
            yield street, s.speed_kmh


def osrm(streets: Iterable[Street], min_confidence: float = 0.0) -> bytes:
    """``from,to,speed`` without a head, as OSRM reads it; a pair of nodes once."""
    rows: dict[tuple[int, int], float] = {}
    for street, speed_kmh in known(streets, min_confidence):
        for pair in pairwise(street.node_ids):
            rows.setdefault(pair, speed_kmh)
    return "".join(f"{a},{b},{max(1, round(v)) if v else 0}\n" for (a, b), v in rows.items()).encode()


def by_way(streets: Iterable[Street], min_confidence: float = 0.0) -> list[dict[str, Any]]:
    """A row a segment: its way, first and last node (the direction), speed, how sure it is, and how old."""
    out = []
    for street, speed_kmh in known(streets, min_confidence):
        s = street.state
        row = {
            "segment_id": s.segment_id,
            "osm_way_ids": street.way_ids,
            "from_node": street.node_ids[0],
            "to_node": street.node_ids[-1],
            "speed_kmh": speed_kmh,
            "free_flow_kmh": s.free_flow_kmh,
            "confidence": s.confidence,
            "closed": s.closed,
            "window_end": s.window_end,
            "data_age_s": s.data_age_s,
        }
        out.append({name: value for name, value in row.items() if value is not None})
    return out
