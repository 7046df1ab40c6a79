"""Each parser against so many broken messages: ``python benchmarks/fuzz.py [FAMILY ...] [--mutations 1000000] [--seed 1] [--json FILE]``.

Passes when every message became rows and refusals, none an exception, none took longer than two seconds, and memory did not grow by more than 200 MB. A failure prints the
message; the same seed finds it again. The short form runs with the tests (``tests/connectors/test_mutations.py``).
"""

import argparse
import gc
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import fuzzing

#: One message may take so long, seconds, and all of them so much memory, MB.
MOST_S, MOST_MB = 2.0, 200


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(family: str, target: fuzzing.Target, mutations: int, seed: int) -> dict[str, Any]:
    """One family.

    Raises:
        AssertionError: an exception, a slow message, or too much memory.
    """
    rng = random.Random(f"{family}/{seed}")
    for _ in range(min(mutations, 500)):
        fuzzing.tried(target, rng)
    gc.collect()
    before_mb, begun = _memory_mb(), time.perf_counter()
    slowest, rows, refused = 0.0, 0, 0
    for _ in range(mutations):
        t = time.perf_counter()
        parsed = fuzzing.tried(target, rng)
        slowest = max(slowest, time.perf_counter() - t)
        refused += len(parsed.rejects)
        rows += parsed.events - len(parsed.rejects)
    grown_mb = _memory_mb() - before_mb
    assert slowest < MOST_S, f"{family}: a message took {slowest:.1f} s"
    assert grown_mb < MOST_MB, f"{family}: memory grew by {grown_mb:.0f} MB"
    return {
        "mutations": mutations, "rows": rows, "refused": refused, "seconds": round(time.perf_counter() - begun, 1),
        "slowest_ms": round(1000 * slowest, 1), "grown_mb": round(grown_mb, 1),
    }  # fmt: skip


def main() -> None:
    targets = fuzzing.targets()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "families", nargs="*", choices=[*sorted(targets), []], metavar="FAMILY", help=f"of {', '.join(sorted(targets))}; default: all"
    )
    parser.add_argument("--mutations", type=int, default=1_000_000, help="a family")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {}
    for family in args.families or sorted(targets):
        found[family] = f = run(family, targets[family], args.mutations, args.seed)
        print(f"{family:15} {f['mutations']:>9,} messages  {f['rows']:>11,} rows  {f['refused']:>9,} refused  {f['seconds']:>7.0f} s  slowest {f['slowest_ms']:.0f} ms  memory +{f['grown_mb']:.0f} MB", flush=True)  # fmt: skip
        if args.json is not None:
            args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
