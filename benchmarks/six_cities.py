"""The demo of all cities as a person starts it: seconds to the first picture, memory and processor time of everything together.

    python benchmarks/six_cities.py --seconds 120 --json demo.json

Memory is the proportional set size (PSS: shared pages count once, divided among those who share them) of the demo and all its children, the broker's Java included. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from demo.everything import CITIES
from demo.servers import pick_port

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


def family(root: int) -> list[int]:
    """A process and all that descend from it."""
    parent = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, of in parent.items() if of == pid]
    return found


def name_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if b"java" in words[0]:
        return "broker (Java)"
    rest = [w.decode() for w in words[words.index(b"tilannekuva") + 1 :]] if b"tilannekuva" in words else []
    return {"serve": "gateway", "process": "workers", "connect": "connectors", "demo": "demo (feeds, supervisor)"}.get(
        next(iter(rest), ""), "other"
    )


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def shown(port: int, city: str) -> bool:
    """Whether a city has vehicles and coloured streets."""
    try:
        for what, sign in (("vehicles", b'"vehicle_id"'), ("segments", b'"los":"')):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/cities/{city}/{what}", timeout=5) as answer:
                body = answer.read()
            if body.count(sign) <= (body.count(b'"los":"unknown"') if what == "segments" else 0):
                return False
    except (urllib.error.URLError, OSError):
        return False
    return True


def measure(seconds: float, port: int, data: Path) -> dict[str, object]:
    argv = [sys.executable, "-m", "tilannekuva", "demo", "--port", str(port)]
    began = time.monotonic()
    demo = subprocess.Popen(
        argv, cwd=ROOT, env={**os.environ, "TILANNEKUVA_DATA": str(data)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        first: dict[str, float] = {}
        while len(first) < len(CITIES) and time.monotonic() - began < 300 and demo.poll() is None:
            for city in CITIES:
                if city not in first and shown(port, city):
                    first[city] = round(time.monotonic() - began, 1)
            time.sleep(0.5)
        pids = {p: name_of(p) for p in family(demo.pid)}
        to_picture = {n: cpu_s(p) for p, n in pids.items()}
        peak: dict[str, float] = {}
        whole, since, before = 0.0, time.monotonic(), {p: cpu_s(p) for p in pids}
        while time.monotonic() - since < seconds:
            now = {p: pss_mb(p) for p in pids}
            whole = max(whole, sum(now.values()))
            for p, mb in now.items():
                peak[pids[p]] = max(peak.get(pids[p], 0.0), mb)
            time.sleep(2)
        spent = time.monotonic() - since
        cores = {pids[p]: round((cpu_s(p) - before[p]) / spent, 3) for p in pids}
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)
    return {
        "cities": list(CITIES), "first_picture_s": first, "cpu_s_until_picture": {n: round(v, 1) for n, v in to_picture.items()},
        "seconds": round(spent, 1), "pss_mb_peak": {n: round(v) for n, v in peak.items()}, "pss_mb_peak_together": round(whole),
        "cores": cores, "cores_together": round(sum(cores.values()), 2), "exit": demo.returncode,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="how long memory and processor time are watched, after the picture is there"
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.seconds, pick_port("127.0.0.1", 0, "port"), Path(folder))
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
