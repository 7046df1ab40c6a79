"""A tiny city for tests: streets and shapes on a plane, HFP messages from where a vehicle truly is, and the core fed with them in any cut."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.cities import City, load
from connectors.envelope import SCHEMA, Envelope, Item, Source
from geo import assemble, polylines, store
from geo.network import Network, Schedule
from geo.project import Plane
from models.clock import parse_ms, rfc3339
from streams.offline import Run
from streams.outputs import Outputs

#: Where the little city lies on EPSG:3067, metres: the middle of Helsinki.
EAST, NORTH = 385_600.0, 6_672_100.0
PLANE = Plane("EPSG:3067")
#: A whole minute.
T0 = parse_ms("2026-03-10T05:30:00Z")

XY = tuple[float, float]


@functools.cache
def city(partitions: int = 1) -> City:
    """Helsinki with ``partitions`` raw partitions of HFP, and with the feeds that these tests tick: hfp, gtfs_rt and tms."""
    whole = load("helsinki", {"feeds.hfp.partitions": partitions})
    return msgspec.structs.replace(whole, feeds=tuple(whole.feed(name) for name in ("hfp", "gtfs_rt", "tms")))


def line(*points: XY) -> NDArray[np.float64]:
    """Vertices in metres from the little city's corner."""
    return np.array(points, np.float64) + np.array([EAST, NORTH])


@functools.cache
def network() -> Network:
    """Streets of 200 m and the shapes that run over them.

    Main street from (0, 0) to (2000, 0), both ways; Side street from (1000, 0) to (1000, 1000), both ways; a roundabout way back in the north.

    ====== =========================================================== =====
    route  shape                                                       long
    ====== =========================================================== =====
    1001/0 main street, eastward, stops at 500 m and 1500 m            2000
    1001/1 main street, westward                                       2000
    1002/0 main street east and back again (one shape, out and back)   4000
    1003/0 a figure of eight that crosses itself at (1000, 0)          see below
    1004/0 a ring: main street, and back in the north to its beginning
    ====== =========================================================== =====
    """
    streets: list[assemble.Street] = []

    def both(name: str, a: XY, b: XY) -> None:
        for i, (p, q) in enumerate(((a, b), (b, a))):
            ids = (f"{name}_f", f"{name}_b")
            streets.append(
                assemble.Street(
                    ids[i],
                    line(p, q),
                    p,
                    q,
                    "secondary",
                    speed_limit_kmh=50.0,
                    lanes=1,
                    bus_lane=0,
                    signal=0,
                    opposite=ids[1 - i],
                    name=name,
                )
            )

    for k in range(10):
        both(f"main{k}", (200.0 * k, 0.0), (200.0 * k + 200.0, 0.0))
    for k in range(5):
        both(f"side{k}", (1000.0, 200.0 * k), (1000.0, 200.0 * k + 200.0))
    both("east", (2000.0, 0.0), (2000.0, 1000.0))
    both("north_e", (2000.0, 1000.0), (1000.0, 1000.0))
    both("north_w", (1000.0, 1000.0), (0.0, 1000.0))
    both("west", (0.0, 1000.0), (0.0, 0.0))
    both("south_e", (1000.0, 0.0), (1000.0, -400.0))
    segments = assemble.segments(streets)
    row = {name: i for i, name in enumerate(segments.segment_id)}

    def laid(*names: str) -> tuple[NDArray[np.float64], list[assemble.Piece]]:
        points, pieces, at = [], [], 0.0
        for n in names:
            points.append(polylines.coordinates(segments.geometry, row[n]))
            long = float(segments.length_m[row[n]])
            pieces.append((at, at + long, row[n], 0.0))
            at += long
        flat = np.concatenate(points)
        keep = np.concatenate([[True], np.any(np.diff(flat, axis=0) != 0, axis=1)])
        return flat[keep], pieces

    out = [f"main{k}_f" for k in range(10)]
    back = [f"main{k}_b" for k in reversed(range(10))]
    eight = [*out[:5], *(f"side{k}_f" for k in range(5)), "north_e_b", "east_b", *back[:5], "south_e_f"]
    ring = [*out, "east_f", "north_e_f", "north_w_f", "west_f"]
    shapes = [laid(*out), laid(*back), laid(*out, *back), laid(*eight), laid(*ring)]
    stops = [[(500.0, "S1"), (1500.0, "S2")], [], [], [], []]
    schedule = Schedule(
        {}, {}, {("1001", 0): (0,), ("1001", 1): (1,), ("1002", 0): (2,), ("1003", 0): (3,), ("1004", 0): (4,)}
    )  # fmt: skip
    return store.versioned(
        Network(
            "helsinki", "", "EPSG:3067", segments,
            assemble.shapes(["out", "back", "outback", "eight", "ring"], [p for p, _ in shapes], [q for _, q in shapes], stops),
            schedule, "test", "CC0-1.0", "nobody",
        )
    )  # fmt: skip


def at(shape: int, s_m: float) -> XY:
    """Metres on the plane of a place along a shape."""
    east, north = polylines.point_at(network().shapes.geometry, np.array([shape]), np.array([s_m]))
    return float(east[0]), float(north[0])


def degrees(east_m: float, north_m: float) -> XY:
    """Latitude and longitude as HFP sends them, 6 digits."""
    lat, lon = PLANE.to_wgs84(east_m, north_m)
    return round(float(lat[0]), 6), round(float(lon[0]), 6)


def hfp(
    ms: int,
    place: XY | None,
    *,
    ingest_ms: int | None = None,
    vehicle: int = 1,
    route: str | None = "1001",
    direction: int = 1,
    start: str = "07:24",
    day: str = "2026-03-10",
    event: str = "vp",
    journey: str = "journey",
    temporal: str = "ongoing",
    mode: str = "bus",
    headsign: str = "Itäkeskus (M)",
    **payload: Any,
) -> Item:
    """One HFP message of a vehicle at ``place`` (metres on the plane; None: no position); ``payload`` replaces or adds fields."""
    lat, lon = degrees(*place) if place is not None else (None, None)
    body: dict[str, Any] = {
        "desi": "1", "dir": str(direction), "oper": 18, "veh": vehicle, "tst": rfc3339(ms), "tsi": ms // 1000, "spd": 10.0, "hdg": None,
        "lat": lat, "long": lon, "acc": 0.0, "dl": 0, "odo": None, "drst": 0, "oday": day, "jrn": 1, "line": 1, "start": start, "loc": "GPS",
        "stop": None, "route": route, "occu": 0,
    }  # fmt: skip
    body |= payload
    topic = f"/hfp/v2/{journey}/{temporal}/{event}/{mode}/0018/{vehicle:05}"
    if journey == "journey":
        topic += f"/{route}/{direction}/{headsign}/{start}/1000018/0/60;24/19/75/80"
    else:
        body |= {"dir": None, "oday": None, "start": None, "route": None, "desi": None, "line": None}
    return Item(ms + 500 if ingest_ms is None else ingest_ms, topic, json.dumps({event.upper(): body}, ensure_ascii=False).encode())


def drive(
    shape: int,
    speed_mps: float = 10.0,
    *,
    seconds: int,
    from_m: float = 0.0,
    start_ms: int = T0,
    every_s: int = 1,
    noise: Any = None,
    **more: Any,
) -> list[Item]:
    """Fixes of a vehicle that runs at even speed along a shape. ``noise``: a numpy Generator; 10 m standard deviation."""
    items = []
    for k in range(0, seconds + 1, every_s):
        east, north = at(shape, from_m + speed_mps * k)
        if noise is not None:
            dx, dy = noise.normal(0.0, 10.0, 2)
            east, north = east + dx, north + dy
        items.append(hfp(start_ms + 1000 * k, (east, north), **{"spd": speed_mps, **more}))
    return items


def envelope(items: Sequence[Item], feed: str = "hfp", *, kind: Any = "messages", simulated: bool = False) -> Envelope:
    """One envelope of one feed."""
    f = city().feed(feed)
    return Envelope(SCHEMA, "helsinki", feed, f.family, kind, items[-1].ingest_ms, tuple(items), None, simulated)


def tick(ms: int, feed: str = "hfp", source: Source | None = None) -> Envelope:
    """Time passed."""
    return Envelope(SCHEMA, "helsinki", feed, city().feed(feed).family, "tick", ms, (), source or Source())


def cut(items: Sequence[Item], at_rows: Iterable[int] = ()) -> list[Envelope]:
    """Envelopes of the items, cut before the given rows."""
    rows = sorted({0, len(items), *(r for r in at_rows if 0 < r < len(items))})
    return [envelope(items[a:b]) for a, b in pairwise(rows)]


def in_order(items: Iterable[Item]) -> list[Item]:
    """By time of receipt, as they stand in a log."""
    return sorted(items, key=lambda i: i.ingest_ms)


def run_all(envelopes: Iterable[Envelope], c: City | None = None, **settings: Any) -> tuple[Outputs, Run]:
    """Everything that a log of partition 0 gives through the offline driver. Provisional rounds are left out."""
    from streams.fuse import FuseSettings

    run = Run(c or city(), network(), fuse=dataclasses.replace(FuseSettings(), provisional_ms=1 << 60), **settings)
    out = Outputs()
    for e in envelopes:
        out.extend(run.feed(e.feed, 0, e))
    out.extend(run.finish())
    return out, run


def records(out: Outputs, product: str) -> list[dict[str, Any]]:
    """Records of a product, decoded."""
    return [json.loads(o.value) for o in out.records.get(product, [])]


def finals(out: Outputs) -> list[tuple[bytes, bytes, int, str]]:
    """Segment states as published: key, bytes, time, id."""
    return [tuple(o) for o in out.records.get("segment-state", [])]


def adds_up(run: Run) -> None:
    """Every event has exactly one fate."""
    for feed, t in run.tally().items():
        assert t.events == t.accepted + t.duplicates + t.rejected + t.late + t.elsewhere, (feed, t)
