"""Writes the messages of the golden cases: ``python -m tests.streams.golden_cases``. The expected answers are written by the tests, and read by people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from connectors.envelope import Item
from models.clock import parse_ms, rfc3339
from tests.streams.kit import T0, at, drive, hfp, in_order

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "observe"


def tunnel_gap() -> list[Item]:
    """A tram of metal walls: no position for 40 s, the odometer runs on; in the dark it stands for 15 s."""
    out = []
    for k in range(121):
        s = 100.0 + 10.0 * (k - min(max(k - 50, 0), 15))
        dark = 40 <= k < 80
        out.append(
            hfp(
                T0 + 1000 * k,
                None if dark else at(0, s),
                spd=None if dark else 10.0,
                hdg=None if dark else 90,
                odo=int(s),
                loc="ODO" if dark else "GPS",
            )
        )
    return out


def terminus_turnaround() -> list[Item]:
    """To the end of the line, a deadrun round the block, waiting as upcoming, and back under another start time. The first messages of the new trip overtake the last of the deadrun."""
    there = drive(0, 8.0, seconds=50, from_m=1600.0)
    block = [hfp(T0 + 1000 * k, (at(0, 2000.0)[0], at(0, 2000.0)[1] + 4.0 * (k - 50)), journey="deadrun", spd=4.0) for k in range(51, 70)]
    wait = [hfp(T0 + 1000 * k, at(1, 5.0), temporal="upcoming", direction=2, start="07:40", spd=0.0) for k in range(70, 90, 2)]
    back = drive(1, 8.0, seconds=40, from_m=5.0, start_ms=T0 + 90_000, direction=2, start="07:40")
    held = [Item(i.ingest_ms + 2300, i.topic, i.body) for i in wait[-2:]]
    return in_order([*there, *block, *wait[:-2], *held, *back])


def detour() -> list[Item]:
    """From 300 m to 900 m round a closed street by fields in the south, and on along the line."""
    out = []
    for k in range(151):
        east, north = at(0, 10.0 * k)
        out.append(hfp(T0 + 1000 * k, (east, north - (220.0 if 30 <= k < 90 else 0.0)), hdg=90))
    return out


def doors_and_red_light() -> list[Item]:
    """Fifteen seconds with open doors at the stop at 500 m, then twenty in front of a red light at 800 m with closed ones."""
    out, s, t = [], 400.0, T0

    def step(speed: float, seconds: int, **more: object) -> None:
        nonlocal s, t
        for _ in range(seconds):
            out.append(hfp(t, at(0, s), spd=speed, hdg=90, **more))
            s, t = s + speed, t + 1000

    step(10.0, 10)
    out.append(hfp(t - 400, at(0, s - 1.0), event="ars", spd=0.0, hdg=90, stop=1000018))
    out.append(hfp(t - 200, at(0, s), event="doo", spd=0.0, hdg=90, stop=1000018, drst=1))
    step(0.0, 15, drst=1, stop=1000018)
    out.append(hfp(t - 100, at(0, s), event="doc", spd=0.0, hdg=90, stop=1000018, drst=0))
    step(10.0, 30)
    step(0.0, 20)
    step(10.0, 15)
    return in_order(out)


def duplicated_storm() -> list[Item]:
    """Every message two to five times and out of order within eight seconds; some that cannot be, and one three minutes late."""
    rng = np.random.default_rng(20260110)
    out = []
    for v in (1, 2):
        for item in drive(0, 6.0 + v, seconds=60, vehicle=v):
            for _ in range(int(rng.integers(2, 6))):
                out.append(Item(item.ingest_ms + int(rng.integers(0, 8000)), item.topic, item.body))
    out.append(hfp(T0 + 30_500, (0.0, 0.0), lat=24.94, long=60.17, vehicle=2))
    out.append(hfp(parse_ms("1970-01-01T00:00:01Z"), at(0, 0.0), ingest_ms=T0 + 31_000))
    out.append(hfp(T0 + 31_250, at(0, 300.0), spd=111.1))
    out.append(hfp(T0 + 20_500, at(0, 143.0), ingest_ms=T0 + 20_500 + 180_000))
    return in_order(out)


def dst_night() -> list[Item]:
    """The night to 25 October 2026: at 01:00 UTC local clocks go from 04:00 back to 03:00. The trip of 03:55 belongs to the operating day before and runs on through the hour that comes twice."""
    start = parse_ms("2026-10-25T00:58:30Z")
    return drive(0, 9.0, seconds=180, start_ms=start, day="2026-10-24", start="03:55", every_s=3)


CASES: dict[str, Callable[[], list[Item]]] = {
    f.__name__: f for f in (tunnel_gap, terminus_turnaround, detour, doors_and_red_light, duplicated_storm, dst_night)
}


def main() -> None:
    for name, make in CASES.items():
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        lines = [
            json.dumps({"topic": i.topic, "payload": json.loads(i.body), "received_at": rfc3339(i.ingest_ms)}, ensure_ascii=False)
            for i in make()
        ]
        (folder / "hfp.ndjson").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
