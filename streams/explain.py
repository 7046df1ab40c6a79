"""Evidence of a final minute, as the fuse step used it: what ``models.explain`` answers from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from geo.network import I64, Bool, Network
from models.explain import AHEAD, CELL, NEARLY, SCHEMA, VALUES, Evidence, Reading, encode
from models.fusion import Estimate, Estimator
from streams.cells import SUMS, WINDOW_MS
from streams.outputs import Out
from streams.partial import SensorRow

#: Segments in one message: some 100 KB.
PART = 1_000
#: Streets that nearly had fixes of a segment: so many are told, those with the most.
MOST_NEARLY = 5
_SUMS = [SUMS.index(name) for name in CELL[4:]]


def evidence_of(
    city: str, network: Network, w: int, rows: I64, e: Estimate, estimator: Estimator, cells: tuple[I64, I64, I64, I64, Bool],
    vehicles: Sequence[str], feeds: Sequence[str], sensors: Mapping[str, SensorRow], closed: Bool, sick: Mapping[str, float],
    site_feed: Mapping[str, str], nearly: Mapping[tuple[str, int, int, int], Sequence[int]], *, simulated: bool,
) -> list[Out]:  # fmt: skip
    """Messages of the internal topic ``evidence``.

    Args:
        rows: segments whose final record is published, ascending.
        e: of all segments.
        estimator: as it stands at the end of the minute.
        cells: feed rank, segment, vehicle, sums and whether it was used, sorted by segment.
        feeds: by rank.
        closed: of all segments.
        sick: feeds of which evidence counts for less than all, and for how much, 0..1.
        site_feed: feed by key of ``sensors``.
        nearly: sums (``streams.nearly.SUMS``) by feed, partition, segment and the one that lost.
    """
    rank, segment, who, sums, used = cells
    ids = network.segments.segment_id
    values = np.stack(
        [
            e.speed_kmh[rows], e.p20_kmh[rows], e.p80_kmh[rows], e.confidence[rows], e.origin[rows], estimator.streets.expected_kmh[rows],
            e.probe_weight[rows], e.loop_weight[rows], e.memory_weight[rows], *estimator.reasons(rows), closed[rows],
        ], axis=1,
    )  # fmt: skip
    assert values.shape[1] == len(VALUES)
    ahead, weight = estimator.straight(rows, AHEAD)
    readings: dict[int, list[tuple[SensorRow, float]]] = {}
    for key, s in sorted(sensors.items()):
        readings.setdefault(s.segment, []).append((s, sick.get(site_feed.get(key, ""), 1.0)))
    pairs = _most(nearly)
    out = []
    parts = -(-len(rows) // PART)
    for part in range(parts):
        at = rows[part * PART : (part + 1) * PART]
        of = slice(part * PART, part * PART + len(at))
        a, b = np.searchsorted(segment, [at[0], at[-1] + 1])
        row = np.searchsorted(at, segment[a:b])
        mine = at[np.minimum(row, len(at) - 1)] == segment[a:b]
        known, who_at = np.unique(who[a:b][mine], return_inverse=True)
        table = np.column_stack([row[mine], who_at, rank[a:b][mine], used[a:b][mine], sums[a:b][mine][:, _SUMS]])
        told = pairs[np.isin(pairs[:, 0], at) | np.isin(pairs[:, 1], at)]
        near = np.unique(np.concatenate([at, np.maximum(ahead[of].ravel(), 0), told[:, 0], told[told[:, 1] >= 0, 1]]))
        other = np.setdiff1d(near, at)
        place = np.full(len(ids), -1, np.int32)
        place[at], place[other] = np.arange(len(at)), len(at) + np.arange(len(other))
        told[:, 0] = place[told[:, 0]]
        told[:, 1] = np.where(told[:, 1] >= 0, place[told[:, 1]], told[:, 1])
        e_part = Evidence(
            SCHEMA, city, w, part, parts, network.version, simulated, tuple(ids[k] for k in [*at.tolist(), *other.tolist()]),
            values[of].astype("<f4").tobytes(), np.where(ahead[of] >= 0, place[np.maximum(ahead[of], 0)], -1).astype("<i4").tobytes(),
            weight[of].astype("<f4").tobytes(), tuple(vehicles[k] for k in known.tolist()), tuple(feeds), table.astype("<i8").tobytes(),
            tuple(
                Reading(k, s.site_id, s.direction, s.window_end_ms, s.flow_vph, s.speed_kmh, worth)
                for k, i in enumerate(at.tolist())
                for s, worth in readings.get(i, ())
            ),
            tuple(sick.get(name, 1.0) for name in feeds), told.astype("<i8").tobytes(),
        )  # fmt: skip
        out.append(Out(f"{w}:{part}".encode(), encode(e_part), w * WINDOW_MS, f"evidence:{city}:{w}:{part}"))
    return out


def _most(nearly: Mapping[tuple[str, int, int, int], Sequence[int]]) -> I64:
    """Rows of ``NEARLY`` over all raw partitions: segment, the one that lost, sums; of each segment the few with the most fixes."""
    sums: dict[tuple[int, int], I64] = {}
    for (_, _, segment, other), one in sorted(nearly.items()):
        sums[segment, other] = sums.get((segment, other), 0) + np.array(one, np.int64)
    told: dict[int, int] = {}
    rows = []
    for (segment, other), total in sorted(sums.items(), key=lambda x: (x[0][0], -int(x[1][0]), x[0][1])):
        told[segment] = told.get(segment, 0) + 1
        if told[segment] <= MOST_NEARLY:
            rows.append([segment, other, *total.tolist()])
    return np.array(rows, np.int64).reshape(-1, len(NEARLY))
