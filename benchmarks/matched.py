"""Share of fixes on the right way, through the real observe step: as recorded, and thinned to one fix in 10 and in 30 seconds, with the lines' shapes and without.

    python benchmarks/matched.py RUN… --osm EXTRACT.osm.pbf [--try hmm.sigma_m=8 …]

RUN: folders of ``groundtruth.py``. A fix is right when the OSM way of its segment belongs to the true edge of its vehicle, or inside a junction to the edge before or after
it (the rule ``osm_way_id`` of the simulation's own scorer). Without shapes every vehicle is matched freely, as one on a detour, or of a feed without a timetable.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from connectors.cities import City
from connectors.cities import load as load_city
from connectors.envelope import Envelope
from geo.build import build
from geo.network import Network
from streams.ground import Ground, ObserveSettings
from streams.observe import Observer
from streams.replays import log_of

#: Seconds between fixes, and the kinds of matching.
EVERY_S = (1, 10, 30)


def shares(
    folder: Path, city: City, network: Network, settings: ObserveSettings | None = None, every_s: tuple[int, ...] = EVERY_S
) -> dict[int, float]:
    """Share of messages with a position on the right way, by seconds between a vehicle's fixes."""
    ways = _ways_of_edges(folder)
    probes = pd.read_parquet(folder / "wire" / "probe_truth.parquet").query("seq >= 0 and not null_position and not duplicate")
    stamp = probes.tst.dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str[:-3] + "Z"
    vehicle = [f"{o:04}/{v:05}" for o, v in zip(probes.oper, probes.veh, strict=True)]
    right: dict[tuple[str, str], set[int]] = {}
    for v, t, *edges in zip(vehicle, stamp, probes.true_edge_id, probes.true_edge_prev, probes.true_edge_next, strict=True):
        right[v, t] = set().union(*(ways.get(e, set()) for e in edges))
    own = dict(zip(network.segments.segment_id, network.segments.osm_way_ids, strict=True))
    ground = Ground(network, settings)
    log = [e for _, _, e in log_of([folder / "wire" / "hfp.jsonl"], city, max_items=200, simulated=True)]
    out = {}
    for every in every_s:
        observer = Observer(city, "hfp", 0, ground)
        good = n = 0
        for offset, envelope in enumerate(thinned(log, every)):
            for o in observer.feed_envelope(envelope, offset).records.get("vehicle-position", ()):
                p: dict[str, Any] = json.loads(o.value)
                truth = right.get((p["vehicle_id"], p["event_time"]))
                if truth is not None and "lat_deg" in p:
                    n += 1
                    good += not truth.isdisjoint(own.get(p.get("segment_id", ""), ()))
        out[every] = good / n
    return out


def thinned(log: list[Envelope], every_s: int) -> Iterator[Envelope]:
    """Of each vehicle the first message in so many seconds of its own clock; ticks pass."""
    if every_s <= 1:
        yield from log
        return
    last: dict[str, int] = {}
    for e in log:
        kept = []
        for item in e.items:
            vp = json.loads(item.body).get("VP", {}) if e.kind == "messages" else {}
            key, slot = f"{vp.get('oper')}/{vp.get('veh')}", int(vp.get("tsi", 0)) // every_s
            if last.get(key, -1) < slot:
                last[key] = slot
                kept.append(item)
        if kept or not e.items:
            yield msgspec.structs.replace(e, items=tuple(kept))


def _ways_of_edges(folder: Path) -> dict[str, set[int]]:
    edges = pd.read_parquet(folder / "edges.parquet")
    return {e: set(ids) for e, ids in zip(edges.edge_id, edges.osm_way_ids, strict=True)}


def networks(folder: Path, osm: Path, city: City) -> dict[str, Network]:
    """The run's network with the shapes of its lines, and without."""
    return {
        "shapes": build(city.name, osm=osm, gtfs=folder / "wire" / "gtfs.zip", crs=city.crs),
        "free": build(city.name, osm=osm, crs=city.crs),
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", type=Path)
    p.add_argument("--osm", type=Path, required=True)
    p.add_argument("--try", dest="tries", action="append", default=[], metavar="PART.NAME=VALUE")
    p.add_argument("--kinds", default="shapes,free")
    a = p.parse_args()
    city, settings = load_city("helsinki"), ObserveSettings()
    for t in a.tries:
        (part, name), value = t.partition("=")[0].split("."), t.partition("=")[2]
        inner = getattr(settings, part)
        settings = replace(settings, **{part: replace(inner, **{name: type(getattr(inner, name))(value)})})
    found: dict[str, list[dict[int, float]]] = {}
    for folder in a.runs:
        for kind, network in networks(folder, a.osm, city).items():
            if kind in a.kinds:
                s = shares(folder, city, network, settings)
                found.setdefault(kind, []).append(s)
                print(f"{folder.name} {kind}: " + ", ".join(f"{k} s {v:.2%}" for k, v in s.items()), flush=True)
    for kind, all_ in found.items():
        print(f"mean {kind}: " + ", ".join(f"{k} s {np.mean([s[k] for s in all_]):.2%}" for k in EVERY_S))


if __name__ == "__main__":
    main()
