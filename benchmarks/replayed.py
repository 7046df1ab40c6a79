"""A recording through the real path, offline: what the estimator was told each minute, and what it said of every segment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectors.cities import City
from geo.network import F64, I64, Network
from models.fusion import Estimate, WindowSums
from streams.cells import WINDOW_MS
from streams.fuse import FuseSettings
from streams.ground import ObserveSettings
from streams.offline import Run, replay
from streams.outputs import Out
from streams.replays import NEVER_MS, log_of
from streams.states import Columns


@dataclass
class Replayed:
    """M minutes of N segments. Minutes of which nothing was said are NaN, origin 0."""

    network: Network
    told: list[tuple[int, WindowSums]]  #: window number, in order, from the first of the log
    speed: F64  #: (N, M) km/h
    p20: F64
    p80: F64
    confidence: F64
    origin: I64
    flow: F64  #: (N, M) vehicles an hour
    positions: list[bytes]  #: vehicle-position records


def run(wire: Path, city: City, network: Network, start_ms: int, minutes: int) -> Replayed:
    """Replay a folder of recordings; keep the minutes from ``start_ms`` on."""
    path = Run(city, network, ObserveSettings(), replace(FuseSettings(), provisional_ms=NEVER_MS))
    fuser, told, said = path.fuser, [], {}
    advance = fuser.estimator.advance

    def listen(obs: WindowSums) -> Estimate:
        estimate = advance(obs)
        window = fuser.next_window
        assert window is not None
        told.append((window, obs))
        said[window] = estimate
        return estimate

    fuser.estimator.advance = listen  # type: ignore[method-assign]
    flow = np.full((len(network.segments), minutes), np.nan)
    write = fuser.states.records

    def count(start: int, end: int, revision: int, e: Estimate, c: Columns, **more: bool) -> list[Out]:
        if 0 <= start - start_ms < minutes * WINDOW_MS:
            flow[c.rows, (start - start_ms) // WINDOW_MS] = c.flow_vph
        return write(start, end, revision, e, c, **more)

    fuser.states.records = count  # type: ignore[method-assign, assignment]
    positions: list[bytes] = []
    for out in replay(path, log_of([wire], city, max_items=200, simulated=True)):
        positions += [o.value for o in out.records.get("vehicle-position", [])]
    for m in range(1, minutes):  # what is not said anew stands
        flow[:, m] = np.where(np.isfinite(flow[:, m]), flow[:, m], flow[:, m - 1])
    return Replayed(network, told, *grids(said, start_ms, minutes, len(network.segments)), flow, positions)


def grids(said: dict[int, Estimate], start_ms: int, minutes: int, n: int) -> tuple[F64, F64, F64, F64, I64]:
    """Speeds, quantiles, confidences and origins of each minute."""
    first = start_ms // WINDOW_MS
    out = [np.full((n, minutes), np.nan) for _ in range(4)]
    origin = np.zeros((n, minutes), np.int64)
    for w, e in said.items():
        if 0 <= w - first < minutes:
            sure = np.where(np.isfinite(e.speed_kmh), e.confidence, np.nan)  # of what is not told nothing is claimed
            for grid, column in zip(out, (e.speed_kmh, e.p20_kmh, e.p80_kmh, sure), strict=True):
                grid[:, w - first] = column
            origin[:, w - first] = e.origin
    return out[0], out[1], out[2], out[3], origin
