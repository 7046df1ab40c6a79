"""Real departures on real road links: 12 runs of bus 2510 of 23 September 2020 (HFP, HSL, CC BY 4.0) on the Digiroad links of Helsinki (Fintraffic, CC BY 4.0).

    python benchmarks/links.py ../shared/networks/hfp_2510_2020-09-23 [HSL_linjat.zip]
    python benchmarks/links.py --recordings HSL_linjat.zip RECORDING… [--osm EXTRACT.osm.pbf | --snap METRES]

With HSL's drawn lines the shape of line 2510 is laid onto the links and runs are followed along it, as in a city that knows its lines; without, they are matched freely, which is hard
here: the recording has neither speed nor heading. The links cover the line's way in Helsinki only; what lies farther than 50 m from all of them is left out. Link times of ours are the
sums that the picture is made from, boarding included.
The second form takes other HFP recordings trip by trip, on the streets of HSL's drawn lines (``--snap``: those so near to each other are one street) or of an OSM extract.
Those by the odometer: its reading says when each link's end was passed. It is stretched to the length of the matched way, anew every ``--stretch`` metres that it counts (500): over a
whole run one wrong turn of the matched way, or an odometer that counts too little, would put the time of all later links on others. ``--stretch inf`` stretches it once.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from connectors import recordings
from connectors.cities import load
from connectors.envelope import SCHEMA, Envelope, Item
from geo import assemble, lines, polylines, shapematch, store
from geo.build import build
from geo.network import Network, Schedule
from geo.project import Plane
from models.clock import parse_ms, rfc3339
from streams import partial as wire
from streams.cells import DWELL, TIME, WINDOW_MS
from streams.ground import Ground
from streams.observe import Observer

#: The odometer is stretched to the matched way over so many metres.
STRETCH_M = 500.0
#: The rest of the city file does not matter here: its border would leave out what lies beyond.
CITY = load("helsinki", {"feeds.hfp.partitions": 1, "area": None})


@dataclass(frozen=True)
class Run:
    """One departure."""

    start: str
    fixes: int  #: within 50 m of a link
    near: float  #: share of them within 20 m of the link they were put on
    links: list[int]  #: in order, runs of the same link once
    breaks: int  #: links that do not begin where the one before ends
    ours_s: np.ndarray  #: travel time of each link that was driven whole
    odometer_s: np.ndarray
    length_m: np.ndarray


def network(folder: Path, drawn: Path | None = None) -> Network:
    """Digiroad links as segments; those open to both directions twice. ``drawn``: HSL's lines, for the shape of 2510."""
    streets = []
    for row in csv.DictReader((folder / "link.csv").open(encoding="utf-8")):
        points = shapely.get_coordinates(shapely.from_wkt(row["geom_wkt"]))
        a, b = (tuple(np.rint(p).astype(int).tolist()) for p in (points[0], points[-1]))
        both, name = row["oneway"] != "TRUE", row["link_label"] or None
        f, back = f"d{row['link_id']}_f", f"d{row['link_id']}_b"
        streets.append(assemble.Street(f, points, a, b, "secondary", opposite=back if both else None, name=name))
        if both:
            streets.append(assemble.Street(back, points[::-1], b, a, "secondary", opposite=f, name=name))
    licence = (
        "Digiroad, Finnish Transport Infrastructure Agency",
        "CC-BY-4.0",
        "© Finnish Transport Infrastructure Agency, Digiroad, CC BY 4.0",
    )
    segments = assemble.segments(streets)
    if drawn is None:
        return store.versioned(Network("helsinki", "", "EPSG:3067", segments, assemble.no_shapes(), assemble.no_schedule(), *licence))
    plane = Plane("EPSG:3067")
    mine = [x for x in lines.drawn_lines(lines.read_table(drawn), plane, drawn.name) if (x.route_id, x.direction_id) == ("2510", 0)]
    points = [np.concatenate(x.parts) for x in mine]
    shapes = assemble.shapes([x.shape_id for x in mine], points, shapematch.match(points, ["bus"] * len(mine), segments))
    schedule = Schedule({}, {}, {("2510", 0): tuple(range(len(mine)))})
    return store.versioned(Network("helsinki", "", "EPSG:3067", segments, shapes, schedule, *licence))


def departures(folder: Path) -> dict[str, list[tuple[int, float, bool, float, float]]]:
    """Start -> (ms, odometer, doors open, east, north) in order; standing fixes that were merged are told every 5 s again."""
    starts = {r["jrnid"]: r["start_tst"] for r in csv.DictReader((folder / "jrn_2510_1_2020-09-23.csv").open())}
    out: dict[str, list[tuple[int, float, bool, float, float]]] = defaultdict(list)
    with gzip.open(folder / "obs_2510_1_2020-09-23.csv.gz", "rt") as file:
        for r in csv.DictReader(file):
            if not r["X"] or not r["odo"]:
                continue
            at = (float(r["odo"]), r["drst"] == "TRUE", float(r["X"]), float(r["Y"]))
            ms, lasts_s = parse_ms(r["tst"]), float(r["represents_time_s"] or 0)
            for k in range(0, max(round(lasts_s), 1), 5):
                out[starts[r["jrnid"]]].append((ms + 1000 * k, *at))
    return {k: sorted(v) for k, v in sorted(out.items())}


def measure(
    net: Network, ground: Ground, start: str, rows: list[tuple[int, float, bool, float, float]], stretch_m: float = STRETCH_M
) -> Run:
    """Match one departure."""
    plane, g = Plane(net.crs), net.segments.geometry
    owner = np.repeat(np.arange(len(g)), np.diff(g.start))
    tree = shapely.STRtree(shapely.linestrings(np.column_stack([g.east_m, g.north_m]), indices=owner))
    points = shapely.points([r[3] for r in rows], [r[4] for r in rows])
    here = set(tree.query(points, "dwithin", 50.0)[0].tolist())
    o, cells = Observer(CITY, "hfp", 0, ground), {}
    placed: dict[int, tuple[int, float]] = {}
    row_of = {i: k for k, i in enumerate(net.segments.segment_id)}
    for k, (ms, odometer, doors, east, north) in enumerate(rows):
        (lat,), (lon,) = plane.to_wgs84(np.array([east]), np.array([north]))
        body: dict[str, Any] = {
            "dir": "1", "oper": 22, "veh": 1, "tst": rfc3339(ms), "tsi": ms // 1000, "lat": float(lat), "long": float(lon), "odo": odometer,
            "drst": int(doors), "oday": start[:10], "start": start[11:16], "route": "2510", "loc": "GPS", "jrn": 1, "line": 1, "desi": "510",
        }  # fmt: skip
        topic = f"/hfp/v2/journey/ongoing/vp/bus/0022/00001/2510/1/Itälahti/{start[11:16]}/1/0/60;24/19/75/80"
        item = Item(ms + 500, topic, json.dumps({"VP": body}).encode())
        out = o.feed_envelope(Envelope(SCHEMA, "helsinki", "hfp", "hfp", "messages", ms + 500, (item,)), k)
        for record in out.records.get("vehicle-position", ()):
            p = msgspec.json.decode(record.value)
            if "segment_id" in p:
                placed[k] = (row_of[p["segment_id"]], p["offset_m"])
        if k % 20 == 0 or k == len(rows) - 1:
            told = wire.decode(o.flush()).rows()
            cells.update({(int(w), int(s)): x for w, s, x in zip(told.window, told.segment, told.sums, strict=True)})
    fixes = sorted(here)
    off = [shapely.distance(points[k], shapely.linestrings(polylines.coordinates(g, placed[k][0]))) for k in fixes if k in placed]
    links: list[int] = []
    for k in sorted(placed):
        if not links or links[-1] != placed[k][0]:
            links.append(placed[k][0])
    links = _with_short_ones(net, ground, links)
    s = net.segments
    breaks = sum(int(s.to_node[a] != s.from_node[b]) for a, b in pairwise(links))
    seconds: dict[int, float] = defaultdict(float)
    for (_, segment), x in cells.items():
        seconds[segment] += (x[TIME] + x[DWELL]) / 1000.0
    return Run(
        start,
        len(fixes),
        float((np.array(off) <= 20.0).sum() / len(fixes)),
        links,
        breaks,
        *_times(net, links, placed, rows, seconds, stretch_m),
    )


def recorded(ground: Ground, path: Path, stretch_m: float = STRETCH_M) -> list[Run]:
    """The trips of a recording, on whatever streets ``ground`` has; fixes farther than 50 m from all of them are left out, trips of less than 500 m of them too."""
    net, plane = ground.network, Plane(ground.network.crs)
    g = net.segments.geometry
    owner = np.repeat(np.arange(len(g)), np.diff(g.start))
    lines_ = shapely.linestrings(np.column_stack([g.east_m, g.north_m]), indices=owner)
    tree, row_of = shapely.STRtree(lines_), {i: k for k, i in enumerate(net.segments.segment_id)}
    o, cells, trips = Observer(CITY, "hfp", 0, ground), {}, defaultdict(list)
    batches = list(recordings.envelopes(recordings.read(path, CITY), CITY, ["hfp"], max_wait_ms=5000))
    for k, (_, _, e) in enumerate(batches):
        for record in o.feed_envelope(e, k).records.get("vehicle-position", ()):
            p = msgspec.json.decode(record.value)
            if {"lat_deg", "odometer_m", "route_id", "start_time"} <= p.keys():
                trips[p["vehicle_id"], p["route_id"], p.get("direction_id"), p["start_time"]].append(p)
        if k % 20 == 0 or k == len(batches) - 1:
            told = wire.decode(o.flush()).rows()
            cells.update({(int(w), int(s)): x for w, s, x in zip(told.window, told.segment, told.sums, strict=True)})
    out = []
    for (_, route, direction, start), positions in sorted(trips.items(), key=repr):
        positions.sort(key=lambda p: str(p["event_time"]))
        east, north = plane.to_plane(*(np.array([p[k] for p in positions]) for k in ("lat_deg", "lon_deg")))
        points = shapely.points(east, north)
        here = sorted(set(tree.query(points, "dwithin", 50.0)[0].tolist()))
        rows = [(parse_ms(p["event_time"]), float(p["odometer_m"]), False, 0.0, 0.0) for p in positions]
        placed = {k: (row_of[p["segment_id"]], p["offset_m"]) for k, p in enumerate(positions) if "segment_id" in p}
        if len(here) < 20 or not placed or rows[-1][1] - rows[0][1] < 500:
            if len(positions) >= 20:
                driven = rows[-1][1] - rows[0][1]
                print(
                    f"{path.stem} {route}/{direction} {start}: left out, {len(here)} of {len(rows)} fixes within 50 m of a street, {driven:.0f} m by the odometer"
                )
            continue
        off = np.array([shapely.distance(points[k], lines_[placed[k][0]]) for k in here if k in placed])
        links: list[int] = []
        for k in sorted(placed):
            if not links or links[-1] != placed[k][0]:
                links.append(placed[k][0])
        links = _with_short_ones(net, ground, links)
        first, last = rows[0][0] // WINDOW_MS, rows[-1][0] // WINDOW_MS
        seconds: dict[int, float] = defaultdict(float)
        for (w, segment), x in cells.items():
            if first <= w <= last:
                seconds[segment] += (x[TIME] + x[DWELL]) / 1000.0
        breaks = sum(int(net.segments.to_node[a] != net.segments.from_node[b]) for a, b in pairwise(links))
        near = float((off <= 20.0).sum() / len(here))
        out.append(
            Run(
                f"{path.stem} {route}/{direction} {start}",
                len(here),
                near,
                links,
                breaks,
                *_times(net, links, placed, rows, seconds, stretch_m),
            )
        )
    return out


def _with_short_ones(net: Network, ground: Ground, links: list[int]) -> list[int]:
    """Between two fixes a bus passes whole links of a few metres: the way through them is the network's."""
    out = links[:1]
    for link in links[1:]:
        way = None
        if net.segments.to_node[out[-1]] != net.segments.from_node[link]:
            way = ground.matching.graph.path(1, out[-1], link, 300.0)
        out += way[1:] if way is not None else [link]
    return out


def _times(
    net: Network,
    links: list[int],
    placed: dict[int, tuple[int, float]],
    rows: list[tuple[int, float, bool, float, float]],
    seconds: dict[int, float],
    stretch_m: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the links driven once and whole: our times, those by the odometer, lengths."""
    length = net.segments.length_m
    none = np.empty(0)
    keys = sorted(placed)
    if len(links) < 3 or not keys:
        return none, none, none
    begin = np.r_[0.0, np.cumsum(length[links])]
    t = np.array([rows[k][0] for k in keys]) / 1000.0
    odometer = np.maximum.accumulate(np.array([rows[k][1] for k in keys]))
    if odometer[-1] <= odometer[0]:
        return none, none, none
    at, j = np.empty(len(keys)), 0  # where along the way each fix was put
    for i, k in enumerate(keys):
        while links[j] != placed[k][0]:
            j += 1
        at[i] = begin[j] + placed[k][1]
    pieces = max(1, int((odometer[-1] - odometer[0]) // stretch_m))
    ends = np.searchsorted(odometer, np.linspace(odometer[0], odometer[-1], pieces + 1))
    along = np.interp(odometer, odometer[ends], np.maximum.accumulate(at[ends]))
    # a standing bus has many times at one place: the link's end is passed at the last of them
    passed = np.array([np.interp(b, along + 1e-6 * np.arange(len(along)), t) for b in begin])
    whole = [j for j in range(1, len(links) - 1) if links.count(links[j]) == 1 and seconds.get(links[j], 0.0) > 0]
    ours = np.array([seconds[links[j]] for j in whole])
    return ours, np.array([passed[j + 1] - passed[j] for j in whole]), length[[links[j] for j in whole]]


def _print(r: Run) -> None:
    long = r.length_m >= 50.0
    error = np.abs(r.ours_s[long] / r.odometer_s[long] - 1)
    print(
        f"{r.start}: {r.fixes:,} fixes, {r.near:.1%} within 20 m; {len(r.links)} links, {r.breaks} breaks, {len(r.links) - len(set(r.links))} driven again; {long.sum()} links of 50 m or more driven "
        f"whole: median error {np.median(error) if len(error) else np.nan:.1%}, together {r.ours_s.sum() / max(r.odometer_s.sum(), 1e-9) - 1:+.1%}",
        flush=True,
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("first", type=Path, help="folder of line 2510; with --recordings HSL's lines")
    p.add_argument("rest", nargs="*", type=Path)
    p.add_argument("--recordings", action="store_true")
    p.add_argument("--osm", type=Path)
    p.add_argument("--snap", type=float, default=0.0)
    p.add_argument("--stretch", type=float, default=STRETCH_M)
    a = p.parse_args()
    if a.recordings:
        ground = Ground(build("helsinki", osm=a.osm, lines=a.first, crs="EPSG:3067", snap_m=a.snap))
        for path in a.rest:
            for r in recorded(ground, path, a.stretch):
                _print(r)
        return
    net = network(a.first, a.rest[0] if a.rest else None)
    ground = Ground(net)
    for start, rows in departures(a.first).items():
        _print(measure(net, ground, start, rows, a.stretch))


if __name__ == "__main__":
    main()
