"""Free map matching: CPU per fix in rounds of 10, 100 and 1000 vehicles, and the share of fixes on the right street of a simulation.

    python benchmarks/matching.py [--osm EXTRACT.osm.pbf] [--fixes 40000] [--json FILE]
    python benchmarks/matching.py --osm EXTRACT.osm.pbf --truth DIR [--try beta_m=10,30,60 …] [--matches FILE --segments FILE]

Without ``--osm`` the network is a grid town of 40 x 40 blocks. The fixes come from vehicles that drive the network at random, one fix a second,
6 m of noise. Beside it the naive peer in the same run: the nearest segment, by shapely's STRtree. CPU-seconds of this process (``process_time``).

``--truth``: a folder of simulated truth (``wire/hfp.jsonl``, ``wire/probe_truth.parquet``, ``edges.parquet``). A fix is right when its segment's OSM
way belongs to the vehicle's true edge or the one before or after it; every message, every 10th and every 30th of a vehicle. ``--try`` runs every
combination of settings. ``--matches`` writes seq and segment_id of the every-message run for another scorer, with the segments as GeoJSON.
"""

import argparse
import csv
import itertools
import json
import os
import platform
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from geo import assemble, osm, store
from geo.graph import BUS, Graph
from geo.hmm import FreeMatcher, HmmSettings
from geo.network import Network
from geo.project import FINLAND, Plane

Columns = tuple[np.ndarray, ...]  #: slot, t_ms, east, north, heading, speed


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "shapely": shapely.__version__,
    }


def grid_town(side: int = 40, spacing_m: float = 90.0) -> list[assemble.Street]:
    """Two-way streets, every fifth one-way."""
    rows: list[assemble.Street] = []
    for i, j, (di, dj) in itertools.product(range(side), range(side), ((1, 0), (0, 1))):
        if i + di < side and j + dj < side:
            name, a, b = f"{i:02d}{j:02d}{di}", (i * spacing_m, j * spacing_m), ((i + di) * spacing_m, (j + dj) * spacing_m)
            both = (i + j) % 5 != 0
            points = np.array([a, b])
            rows.append(assemble.Street(f"{name}_f", points, a, b, "residential", opposite=f"{name}_b" if both else None))
            if both:
                rows.append(assemble.Street(f"{name}_b", points[::-1], b, a, "residential", opposite=f"{name}_f"))
    return rows


def network_of(extract: Path | None) -> Network:
    segments = osm.read(extract, Plane(FINLAND)) if extract else assemble.segments(grid_town())
    source = extract.name if extract else "grid town"
    return Network(
        "benchmark", "0", FINLAND, segments, assemble.no_shapes(), assemble.no_schedule(), source, "", "", generated=extract is None
    )


def drives(network: Network, graph: Graph, vehicles: int, seconds: int, seed: int = 1) -> list[Columns]:
    """One round a second: vehicles that drive at 3 to 14 m/s and take any street at a junction, with 6 m of noise."""
    rng = np.random.default_rng(seed)
    lines, start, successor = network.segments.geometry, *graph.successors(BUS)
    usable = np.flatnonzero(graph.allowed[BUS] & (np.diff(start) > 0))
    segment, offset, pace = rng.choice(usable, vehicles), np.zeros(vehicles), rng.uniform(3, 14, vehicles)
    rounds = []
    for second in range(seconds):
        offset = offset + pace
        while (over := np.flatnonzero(offset >= graph.length_m[segment])).size:
            offset[over] -= graph.length_m[segment[over]]
            count = start[segment[over] + 1] - start[segment[over]]
            onward = successor[
                np.minimum(start[segment[over]] + rng.integers(0, 2**31, len(over)) % np.maximum(count, 1), len(successor) - 1)
            ]
            segment[over] = np.where(count > 0, onward, rng.choice(usable, len(over)))
        # the vertex at or before each place: a segment's vertices start at 0, so one sorted key serves all lines
        reach = float(lines.along_m.max()) + 1.0
        key = lines.along_m + np.repeat(np.arange(len(lines)), np.diff(lines.start)) * reach
        at = np.minimum(np.searchsorted(key, offset + segment * reach, "right") - 1, lines.start[segment + 1] - 2)
        de, dn = lines.east_m[at + 1] - lines.east_m[at], lines.north_m[at + 1] - lines.north_m[at]
        share = (offset - lines.along_m[at]) / np.maximum(np.hypot(de, dn), 1e-9)
        noise = rng.normal(0, 6, (2, vehicles))
        heading = (np.degrees(np.arctan2(de, dn)) + rng.normal(0, 5, vehicles)) % 360
        rounds.append((
            np.arange(vehicles), np.full(vehicles, second * 1000), lines.east_m[at] + share * de + noise[0],
            lines.north_m[at] + share * dn + noise[1], heading, pace.copy(),
        ))  # fmt: skip
    return rounds


def tree_of(network: Network) -> shapely.STRtree:
    lines = network.segments.geometry
    owner = np.repeat(np.arange(len(lines)), np.diff(lines.start))
    return shapely.STRtree(shapely.linestrings(np.column_stack([lines.east_m, lines.north_m]), indices=owner))


def cost(network: Network, fixes: int) -> list[dict[str, float]]:
    """Microseconds of CPU a fix, ours and the peer's, by size of round; the tables of paths are warm after a fifth of the rounds."""
    graph, tree, found = Graph(network.segments), tree_of(network), []
    for vehicles in (10, 100, 1000):
        rounds = drives(network, graph, vehicles, max(25, fixes // vehicles))
        matcher, profile = FreeMatcher(network, graph=graph), np.full(vehicles, BUS, np.int8)
        warm = len(rounds) // 5
        began = time.process_time()
        for batch in rounds[:warm]:
            matcher.step(*batch, profile)
        cold_us = (time.process_time() - began) / (warm * vehicles) * 1e6
        began = time.process_time()
        for batch in rounds[warm:]:
            matcher.step(*batch, profile)
        own = time.process_time() - began
        began = time.process_time()
        for batch in rounds[warm:]:
            tree.query_nearest(shapely.points(batch[2], batch[3]), max_distance=50.0, all_matches=False)
        peer = time.process_time() - began
        n = (len(rounds) - warm) * vehicles
        found.append({
            "vehicles": vehicles, "fixes": n, "us_per_fix": own / n * 1e6, "fixes_per_cpu_s": n / own, "cold_us_per_fix": cold_us,
            "strtree_nearest_us_per_fix": peer / n * 1e6,
        })  # fmt: skip
    return found


def recording(folder: Path) -> tuple[Columns, np.ndarray, list[tuple[str, str, str]]]:
    """Messages with a position: columns in order of receipt, their seq, and the true edge with its neighbours."""
    truth = (
        pq.read_table(folder / "wire/probe_truth.parquet").select(["seq", "true_edge_id", "true_edge_prev", "true_edge_next"]).to_pydict()
    )
    edges = {seq: around for seq, *around in zip(*truth.values(), strict=True) if seq >= 0}
    rows, seqs, slots = [], [], {}
    with open(folder / "wire/hfp.jsonl", encoding="utf-8") as file:
        for seq, line in enumerate(file):
            vp = json.loads(line)["payload"]["VP"]
            if vp["lat"] is not None:
                t_ms = round(datetime.fromisoformat(vp["tst"]).timestamp() * 1000)
                slot = slots.setdefault((vp["oper"], vp["veh"]), len(slots))
                rows.append((slot, t_ms, vp["lat"], vp["long"], vp["hdg"], vp["spd"]))
                seqs.append(seq)
    slot, t_ms, lat, lon, heading, speed = (np.array(c, float) for c in zip(*rows, strict=True))
    east, north = Plane(FINLAND).to_plane(lat, lon)
    return (slot.astype(np.int64), t_ms.astype(np.int64), east, north, heading, speed), np.array(seqs), [tuple(edges[s]) for s in seqs]


def thinned(slot: np.ndarray, every: int) -> np.ndarray:
    """Rows of every n-th message of each vehicle."""
    order = np.argsort(slot, kind="stable")
    rank = np.arange(len(slot)) - np.searchsorted(slot[order], slot[order])
    return np.sort(order[rank % every == every // 3])


def match(matcher: FreeMatcher, columns: Columns) -> np.ndarray:
    """Segment of each row, fed in rounds that never hold a vehicle twice."""
    found, first, seen = [], 0, set()
    slots = columns[0].tolist()
    for row in range(len(slots) + 1):
        if row == len(slots) or slots[row] in seen:
            part = slice(first, row)
            found.append(matcher.step(*(c[part] for c in columns), np.full(row - first, BUS, np.int8)).segment)
            first, seen = row, set()
        if row < len(slots):
            seen.add(slots[row])
    return np.concatenate(found)


def accuracy(network: Network, folder: Path, tries: list[str], matches: Path | None) -> list[dict[str, object]]:
    columns, seqs, around = recording(folder)
    edges = pq.read_table(folder / "edges.parquet").select(["edge_id", "osm_way_ids"]).to_pydict()
    ways = {edge: set(ids) for edge, ids in zip(edges["edge_id"], edges["osm_way_ids"], strict=True)}
    near_ways = [set().union(*(ways.get(edge, set()) for edge in three)) for three in around]
    own_ways = network.segments.osm_way_ids

    def right(rows: np.ndarray, segment: np.ndarray) -> float:
        return float(
            np.mean([s >= 0 and not near_ways[row].isdisjoint(own_ways[s]) for row, s in zip(rows, segment.tolist(), strict=True)])
        )

    sets = {f"every {n}": thinned(columns[0], n) for n in (1, 10, 30)}
    nearest = np.full(len(seqs), -1)
    at, segment = tree_of(network).query_nearest(shapely.points(columns[2], columns[3]), max_distance=50.0, all_matches=False)
    nearest[at] = segment
    rows: list[dict[str, object]] = [{"matcher": "nearest"} | {name: right(r, nearest[r]) for name, r in sets.items()}]
    graph = Graph(network.segments)
    names = [t.partition("=")[0] for t in tries]
    kinds = {name: type(getattr(HmmSettings(), name)) for name in names}
    for values in itertools.product(*(t.partition("=")[2].split(",") for t in tries)):
        changed = {name: kinds[name](value) for name, value in zip(names, values, strict=True)}
        result: dict[str, object] = {"matcher": "free", **changed}
        for name, r in sets.items():
            segment = match(FreeMatcher(network, HmmSettings(**changed), graph), tuple(c[r] for c in columns))
            result[name] = right(r, segment)
            if matches and name == "every 1":
                with open(matches, "w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(["seq", "segment_id"])
                    writer.writerows((int(seqs[i]), network.segments.segment_id[s]) for i, s in zip(r, segment, strict=True) if s >= 0)
        rows.append(result)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osm", type=Path)
    parser.add_argument("--fixes", type=int, default=40_000)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="NAME=VALUE,…")
    parser.add_argument("--matches", type=Path)
    parser.add_argument("--segments", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.truth and not args.osm:
        parser.error("--truth needs --osm: the extract that was simulated")
    network = network_of(args.osm)
    result = {"machine": machine(), "network": {"source": network.source, "segments": len(network.segments)}}
    result |= {"accuracy": accuracy(network, args.truth, args.tries, args.matches)} if args.truth else {"cost": cost(network, args.fixes)}
    if args.segments:
        args.segments.write_bytes(store.segments_geojson(network))
    print(*(f"{key}: {value}" for key, value in (result["machine"] | result["network"]).items()), sep="\n")
    for row in result.get("accuracy", []) + result.get("cost", []):
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
