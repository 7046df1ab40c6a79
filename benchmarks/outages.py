"""What an outage of positions costs: cells of minute, segment and vehicle when positions are cut out of a run, with odometer readings in the outage and without any message.

    python benchmarks/outages.py RUN… --osm EXTRACT.osm.pbf [--outage 60] [--every 300]

RUN: folders of ``groundtruth.py``, one message a second. Every vehicle loses its position for so many seconds in every so many of its own clock. The reference is the same run
with all its positions: told are the seconds of each vehicle, in the minutes that outages touch, that lie in another cell than there (half of the sum of differences), dwell and
traffic apart, as a share of the seconds of the outages.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.matched import networks
from connectors.cities import City
from connectors.cities import load as load_city
from connectors.envelope import Envelope, Item
from streams import partial as wire
from streams.cells import DWELL, TIME
from streams.ground import Ground
from streams.observe import Observer
from streams.replays import log_of

Cells = dict[tuple[str, int, int], tuple[int, int]]  #: vehicle, minute, segment: traffic and dwell, milliseconds


def cells(log: list[Envelope], city: City, ground: Ground) -> Cells:
    """What the observe step sums up."""
    observer, out = Observer(city, "hfp", 0, ground), Cells()
    for offset, envelope in enumerate(log):
        observer.feed_envelope(envelope, offset)
        p = wire.decode(observer.flush())
        rows = p.rows()
        for w, s, v, sums in zip(rows.window.tolist(), rows.segment.tolist(), rows.who.tolist(), rows.sums.tolist(), strict=True):
            out[p.vehicles[v], w, s] = (sums[TIME], sums[DWELL])
    return out


def cut(log: list[Envelope], outage_s: int, every_s: int, *, silent: bool) -> tuple[list[Envelope], dict[tuple[str, int], int]]:
    """The log without positions in outages (``silent``: without any message), and messages lost by vehicle and minute."""
    out, lost = [], defaultdict[tuple[str, int], int](int)
    for e in log:
        kept = []
        for item in e.items:
            event = json.loads(item.body) if e.kind == "messages" else {}
            vp = next(iter(event.values()), {})
            t = int(vp.get("tsi", 0))
            if (t + 37 * int(vp.get("veh", 0))) % every_s < outage_s and event:
                lost[f"{vp['oper']:04}/{vp['veh']:05}", t // 60] += 1
                if silent:
                    continue
                vp |= {"lat": None, "long": None, "spd": None, "hdg": None, "loc": "ODO"}
                kept.append(Item(item.ingest_ms, item.topic, json.dumps(event).encode()))
            else:
                kept.append(item)
        if kept or not e.items:
            out.append(msgspec.structs.replace(e, items=tuple(kept)))
    return out, dict(lost)


def moved(a: Cells, b: Cells, touched: set[tuple[str, int]]) -> tuple[float, float]:
    """Seconds in other cells than in the reference, traffic and dwell together and of these the ones of traffic, in touched minutes."""
    off = np.zeros(2)
    for key in a.keys() | b.keys():
        if key[:2] in touched:
            off += np.abs(np.subtract(a.get(key, (0, 0)), b.get(key, (0, 0))))
    return float(off.sum()) / 2000, float(off[0]) / 2000


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", type=Path)
    p.add_argument("--osm", type=Path, required=True)
    p.add_argument("--outage", type=int, default=60)
    p.add_argument("--every", type=int, default=300)
    p.add_argument("--kinds", default="shapes,free")
    a = p.parse_args()
    city = load_city("helsinki")
    for folder in a.runs:
        log = [e for _, _, e in log_of([folder / "wire" / "hfp.jsonl"], city, max_items=200, simulated=True)]
        for kind, network in networks(folder, a.osm, city).items():
            if kind not in a.kinds:
                continue
            ground = Ground(network)
            truth = cells(log, city, ground)
            for name, silent in (("no message", True), ("odometer only", False)):
                dark, lost = cut(log, a.outage, a.every, silent=silent)
                n = sum(lost.values())
                both, traffic = moved(cells(dark, city, ground), truth, set(lost))
                print(
                    f"{folder.name} {kind}, {name}: {n} messages in outages; {both:.0f} s in other cells ({both / n:.1%}), of traffic {traffic:.0f} s ({traffic / n:.1%})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
