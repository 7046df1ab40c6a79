"""Cost of one minute of emissions: 150,000 segments x all streams x 9 outputs with bounds, and the city's sum.

    python benchmarks/emissions.py [--segments 150000] [--repeat 5] [--json FILE]

CPU-seconds of this process (``process_time``), median of the repeats; the lookup of the fleet is built once an hour and timed apart. Then the whole step as the
worker runs it, records as JSON included, on a made-up grid of as many segments: five minutes, of which the last one publishes every segment and area.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import load
from connectors.cities import load as load_city
from geo.streets import streets
from models.emissions import bounds, factors, flow, rates, segment
from models.emissions.fleet import fleet_of
from models.fusion import INFERRED, Estimate
from streams.cells import DIST, N_SUMS, TIME
from streams.emissions import Emitter, Seen
from streams.partial import SensorRow


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
        "system": platform.platform(),
    }


def city(n: int) -> dict[str, np.ndarray]:
    """A made-up city of n segments; the same every time."""
    rng = np.random.default_rng(7)
    free = rng.uniform(28.0, 95.0, n)
    return {
        "length_km": rng.lognormal(-2.3, 0.8, n),
        "free_flow_kmh": free,
        "speed_kmh": free * rng.beta(5.0, 2.0, n),
        "road_class": rng.choice(5, n, p=[0.02, 0.03, 0.15, 0.2, 0.6]),
        "lanes": rng.integers(1, 4, n).astype(np.float64),
        "measured_vph": np.where(rng.random(n) < 0.02, rng.uniform(0.0, 2000.0, n), np.nan),
        "area": rng.integers(0, 500, n),
    }


def measure(n: int, repeat: int) -> dict[str, float]:
    """Median CPU-seconds of each stage."""
    took: dict[str, list[float]] = {}

    def clock(name: str, since: float) -> float:
        now = time.process_time()
        took.setdefault(name, []).append(now - since)
        return now

    began = time.process_time()
    factors.hot_table()
    began = clock("tables_read_s", began)
    table = rates.rate_table(fleet_of("helsinki", date(2026, 3, 10)), rates.Conditions(temperature_c=-4.0))
    clock("lookup_built_s", began)
    c = city(n)
    for _ in range(repeat):
        began = start = time.process_time()
        prior = flow.calendar_prior_vph(c["road_class"], c["lanes"], 8.25, 1)
        f = flow.estimate_flow(
            speed_kmh=c["speed_kmh"], free_flow_kmh=c["free_flow_kmh"], road_class=c["road_class"], lanes=c["lanes"], prior_vph=prior,
            measured_vph=c["measured_vph"],
        )  # fmt: skip
        began = clock("flow_s", began)
        traffic = segment.Traffic(
            c["length_km"], c["speed_kmh"], f.flow_vph, segment.stream_shares(c["road_class"], table), flow.urban_of(c["road_class"]), f.log_var,
            f.source, density_vpkm=f.density_vpkm,
        )  # fmt: skip
        b = bounds.bounds_of(table.conditions)
        out = segment.emit(traffic, table, b)
        began = clock("segments_s", began)
        segment.sum_areas(out, traffic, c["area"], 500, b)
        began = clock("areas_s", began)
        took.setdefault("minute_s", []).append(began - start)
    return {name: statistics.median(times) for name, times in took.items()}


def step(n: int) -> dict[str, float]:
    """CPU-seconds of ``streams.emissions`` over five minutes, 4,000 segments observed in each, 300 counters, 1,500 vehicles."""
    network = load.grid(load_city("helsinki"), n, 10)
    s = network.segments
    st = streets(network)
    rng = np.random.default_rng(7)
    emitter = Emitter(load_city("helsinki"), network, st.free_flow_kmh, st.expected_kmh, block=st.block)
    zero = np.zeros(len(s))
    at = rng.integers(0, len(s), 300).tolist()
    took = []
    for w in range(29_552_010, 29_552_020):
        v = st.free_flow_kmh * rng.beta(5.0, 2.0, len(s))
        e = Estimate(v, v * 0.8, v * 1.2, zero + 0.5, np.full(len(s), INFERRED), zero, zero, zero, zero)
        who = np.repeat(np.arange(1500), 4)
        segment = rng.integers(0, len(s), 6000)
        sums = np.zeros((6000, N_SUMS), np.int64)
        sums[:, DIST], sums[:, TIME] = rng.integers(10_000, 150_000, 6000), rng.integers(5_000, 15_000, 6000)
        sensors = {f"{k}:1": SensorRow(str(k), "1", x, (w + 1) * 60_000, 300_000, 400.0, 40.0, None, None) for k, x in enumerate(at)}
        observed = np.unique(segment)[:4000]
        began = time.process_time()
        out = emitter.final(w, Seen(np.arange(len(s)), e, observed, segment, who, sums, [str(k) for k in range(1500)], sensors, 151, False))
        took.append(time.process_time() - began)
    records = {p: len(o) for p, o in out.records.items()}
    last = took[5:]
    return {
        "minute": statistics.median(last[:-1]),
        "fifth_minute": last[-1],
        "mean": sum(last) / 5,
        **{f"records_{p}": float(k) for p, k in records.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=150_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    a = parser.parse_args()
    figures = {
        "segments": a.segments,
        "streams": 6,
        "outputs": len(rates.OUTPUTS),
        "machine": machine(),
        "cpu": measure(a.segments, a.repeat),
        "step": step(a.segments),
    }
    for name, value in figures["machine"].items():  # type: ignore[union-attr]
        print(f"{name:16} {value}")
    for name, value in figures["cpu"].items():  # type: ignore[union-attr]
        print(f"{name:16} {value:.3f} CPU-s")
    for name, value in figures["step"].items():  # type: ignore[union-attr]
        print(f"step {name:32} {value:.3f}" if not name.startswith("records") else f"step {name:32} {value:,.0f}")
    if a.json:
        a.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
