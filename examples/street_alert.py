"""Alert when my street jams: says so when a street's level of service falls to E or F, and when it flows again. Comes back by itself where it was.

python examples/street_alert.py http://127.0.0.1:8080 tampere Hämeenkatu
"""

import argparse
import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator


def streets(api: str, name: str) -> dict[str, str]:
    """Segments of the street: id -> its name as the map has it."""
    with urllib.request.urlopen(f"{api}/segments?name={urllib.parse.quote(name)}", timeout=30) as answer:
        return {f["id"]: f["properties"].get("name", name) for f in json.load(answer)["features"]}


def events(address: str) -> Iterator[tuple[str, dict]]:
    """Server-sent events, for ever: after a break from the last one on."""
    last = ""
    while True:
        try:
            request = urllib.request.Request(address, headers={"Last-Event-ID": last} if last else {})
            with urllib.request.urlopen(request, timeout=60) as stream:
                name = ""
                for line in stream:
                    field, _, value = line.decode().rstrip("\n").partition(": ")
                    if field == "id":
                        last = value
                    elif field == "event":
                        name = value
                    elif field == "data":
                        yield name, json.loads(value)
        except OSError as e:
            print(f"the stream broke ({e}); going on in 2 s", file=sys.stderr)
            time.sleep(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway")
    parser.add_argument("city")
    parser.add_argument("street")
    parser.add_argument("--los", default="EF", help="levels of service that are a jam")
    parser.add_argument("--min-confidence", type=float, default=0.5)
    args = parser.parse_args()
    api = f"{args.gateway}/api/v1/cities/{args.city}"
    mine = streets(api, args.street)
    if not mine:
        sys.exit(f"no street in {args.city} has {args.street!r} in its name")
    print(f"watching {len(mine)} segments of {', '.join(sorted(set(mine.values())))}", flush=True)
    jammed: set[str] = set()
    query = f"product=segment-state&min_confidence={args.min_confidence}&snapshot=true"
    for name, state in events(f"{api}/stream?{query}"):
        if name != "segment-state" or state["segment_id"] not in mine or state["origin"] not in ("measured", "blended"):
            continue  # what is only inferred is no reason to wake anybody
        segment, jams = state["segment_id"], state["los"] in args.los
        if jams != (segment in jammed):
            (jammed.add if jams else jammed.discard)(segment)
            word = "JAM" if jams else "flows again"
            print(
                f"{state['window_end']} {word}: {mine[segment]} {state.get('speed_kmh', 0):.0f} km/h, level {state['los']} ({segment})",
                flush=True,
            )


if __name__ == "__main__":
    main()
