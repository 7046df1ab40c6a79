"""CO2 of my commute: the quickest way by car as the streets flow now, and what one average vehicle emits on it, with bounds.

    python examples/commute_co2.py http://127.0.0.1:8080 tampere 61.498,23.761 61.503,23.808

Emissions of a segment are told in grams an hour of all its traffic: divided by its flow they are grams of one vehicle. Where a segment has no emission record yet, the mean
per kilometre of the others stands in, and the output says for how much of the way.
"""

import argparse
import heapq
import json
import math
import sys
import urllib.request

Node = tuple[float, float]


def features(address: str) -> list[dict]:
    """All pages of a collection."""
    out: list[dict] = []
    root = "/".join(address.split("/")[:3])
    while address:
        with urllib.request.urlopen(address, timeout=60) as answer:
            page = json.load(answer)
        out += page["features"]
        following = [link["href"] for link in page["links"] if link["rel"] == "next"]
        address = root + following[0] if following else ""
    return out


def nearest(nodes: set[Node], place: str) -> Node:
    lat, lon = map(float, place.split(","))
    return min(nodes, key=lambda n: math.hypot((n[0] - lon) * math.cos(math.radians(lat)), n[1] - lat))


def quickest(streets: list[dict], begin: Node, end: Node) -> list[dict]:
    """Segments of the quickest way (Dijkstra over travel times of now; where none is known, over the speed limit, else 30 km/h)."""
    leaving: dict[Node, list[tuple[float, Node, dict]]] = {}
    for f in streets:
        p, line = f["properties"], f["geometry"]["coordinates"]
        if p["represents"] != "general_traffic" or p.get("closed"):
            continue
        seconds = p.get("travel_time_s") or p["length_m"] * 3.6 / (p.get("speed_limit_kmh") or 30)
        leaving.setdefault(tuple(line[0][:2]), []).append((seconds, tuple(line[-1][:2]), f))
    best: dict[Node, tuple[float, Node | None, dict | None]] = {begin: (0.0, None, None)}
    queue = [(0.0, begin)]
    while queue:
        so_far, node = heapq.heappop(queue)
        if node == end or so_far > best[node][0]:
            continue
        for seconds, there, f in leaving.get(node, ()):
            if so_far + seconds < best.get(there, (math.inf,))[0]:
                best[there] = (so_far + seconds, node, f)
                heapq.heappush(queue, (so_far + seconds, there))
    way, node = [], end
    while node in best and best[node][2] is not None:
        way.append(best[node][2])
        node = best[node][1]
    return way[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gateway")
    parser.add_argument("city")
    parser.add_argument("home", help="LAT,LON")
    parser.add_argument("work", help="LAT,LON")
    args = parser.parse_args()
    api = f"{args.gateway}/api/v1/cities/{args.city}"
    streets = features(f"{api}/segments")
    emitted = {f["properties"]["segment_id"]: f["properties"] for f in features(f"{api}/records/emission-segment")}
    nodes = {
        tuple(f["geometry"]["coordinates"][k][:2]) for f in streets if f["properties"]["represents"] == "general_traffic" for k in (0, -1)
    }
    way = quickest(streets, nearest(nodes, args.home), nearest(nodes, args.work))
    if not way:
        sys.exit("there is no way by car from there to there")
    length_km = sum(f["properties"]["length_m"] for f in way) / 1000
    minutes = sum(f["properties"].get("travel_time_s") or f["properties"]["length_m"] * 3.6 / 30 for f in way) / 60
    print(f"{length_km:.1f} km, {minutes:.0f} min now")
    known_km, grams = 0.0, {"lo95": 0.0, "value": 0.0, "hi95": 0.0}
    for f in way:
        e = emitted.get(f["properties"]["segment_id"])
        if e is not None and e["flow_vph"]["value"] > 0:
            known_km += f["properties"]["length_m"] / 1000
            for bound in grams:
                grams[bound] += e["co2_total"][bound] / e["flow_vph"]["value"]
    if not known_km:
        sys.exit("the emissions of this way are not known yet: they come with the first full minute of data")
    low, middle, high = (grams[b] * length_km / known_km for b in ("lo95", "value", "hi95"))
    print(
        f"CO2 of one average vehicle: {middle:.0f} g, 95 % within {low:.0f} to {high:.0f} g; {middle / length_km:.0f} g/km (known for {known_km / length_km:.0%} of the way)"
    )


if __name__ == "__main__":
    main()
