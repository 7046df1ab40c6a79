"""An open window of the fuse step: what has been told of it, and what has been said of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from geo.network import I64, Bool
from models.fusion import Estimate
from streams.partial import SensorRow
from streams.states import Columns


@dataclass(slots=True)
class Window:
    """For each (feed, partition) the rows of its partials, merged by maximum now and then."""

    rows: list[tuple[int, I64, I64, I64]] = field(default_factory=list)  #: (feed rank, segment, vehicle, sums)
    sensors: dict[str, SensorRow] = field(default_factory=dict)
    #: Where fixes nearly lay, for the evidence: sums by raw partition, segment and the one that lost; the ones with the most fixes stand.
    nearly: dict[tuple[str, int, int, int], list[int]] = field(default_factory=dict)
    dirty: bool = False
    #: Segments of the last provisional round, sorted, and what was said of each. No part of a snapshot: after a restart open windows are told once more.
    said: tuple[I64, I64] | None = None

    def news(self, e: Estimate, c: Columns) -> Bool:
        """Which rows of a provisional round say something else than the round before; from now on all of them are said."""
        columns = (
            e.speed_kmh,
            e.p20_kmh,
            e.p80_kmh,
            e.confidence,
            e.origin,
            e.probe_weight,
            e.loop_weight,
            e.memory_weight,
            e.network_weight,
        )
        stated = (c.newest_ms, c.vehicles, c.flow_vph, c.flow_source, c.closed)
        now = np.column_stack([*(x[c.at] for x in columns), *stated]).astype(np.float64, copy=False).view(np.int64)  # bits: NaN is like NaN
        before, self.said = self.said, (c.rows, now)
        if before is None or not len(before[0]):
            return np.ones(len(c.rows), np.bool_)
        at = np.minimum(np.searchsorted(before[0], c.rows), len(before[0]) - 1)
        out: Bool = (before[0][at] != c.rows) | (before[1][at] != now).any(axis=1)
        return out
