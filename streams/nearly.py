"""Where fixes nearly lay: per minute and pair of streets, how many fixes one had that the other nearly had, and why the other lost. For explanations alone.

Sums are integers and cumulative, as the cells are, so that a repeated partial changes nothing and no order or cut does.
"""

from __future__ import annotations

import numpy as np

from geo.hmm import Nearly
from geo.network import F64, I64
from models.explain import LEFT_LINE, OWN_LINE
from streams.cells import WINDOW_MS

#: Sums of a pair: fixes; their distances from the street that had them and from the other, mm; by how much that lost, thousandths of a nat, and of it by distance and by heading.
SUMS = ("fixes", "distance_mm", "other_mm", "margin", "by_distance", "by_heading")
#: Columns of a row on the wire.
ROW = ("window", "segment", "other", *SUMS)


class NearlyThere:
    """Sums of one raw partition's open windows."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, int, int], list[int]] = {}
        self.changed: set[tuple[int, int, int]] = set()

    def note(self, event_ms: I64, segment: I64, distance_m: F64, nearly: Nearly) -> None:
        """What a step of free matching told: event time, segment and distance of its fixes, and those that another street nearly had."""
        n = nearly.fix
        parts = (distance_m[n], nearly.distance_m, nearly.margin, nearly.by_distance, nearly.by_heading)
        self._add(event_ms[n], segment[n], nearly.segment, *parts)

    def off_line(self, event_ms: I64, segment: I64, distance_m: F64, apart_m: F64) -> None:
        """Fixes that lay too far from their vehicle's line and went to a street."""
        none = np.zeros(len(segment))
        self._add(event_ms, segment, np.full(len(segment), OWN_LINE), distance_m, apart_m, none, none, none)

    def kept(self, event_ms: I64, segment: I64, apart_m: F64) -> None:
        """Fixes that lay far from their vehicle's line and were kept on it all the same."""
        none = np.zeros(len(segment))
        self._add(event_ms, segment, np.full(len(segment), LEFT_LINE), apart_m, none, none, none, none)

    def _add(self, event_ms: I64, segment: I64, other: I64, *parts: F64) -> None:
        sums = np.rint(np.stack(parts, axis=1) * 1000.0).astype(np.int64).tolist()
        for w, s, o, more in zip((event_ms // WINDOW_MS).tolist(), segment.tolist(), other.tolist(), sums, strict=True):
            mine = self.sums.setdefault((w, s, o), [0] * len(SUMS))
            mine[0] += 1
            for k, x in enumerate(more, 1):
                mine[k] += x
            self.changed.add((w, s, o))

    def take(self, log_ms: int, lateness_ms: int) -> bytes:
        """Rows that changed, (n, ROW) int64; windows that have closed are forgotten."""
        rows = [[*key, *self.sums[key]] for key in sorted(self.changed)]
        self.changed.clear()
        closed = [key for key in self.sums if (key[0] + 1) * WINDOW_MS + lateness_ms < log_ms]
        for key in closed:
            del self.sums[key]
        return np.array(rows, "<i8").tobytes()

    def resend(self) -> None:
        """The next ``take`` tells of all open windows."""
        self.changed.update(self.sums)

    def export(self) -> list[list[int]]:
        return [[*key, *sums] for key, sums in sorted(self.sums.items())]

    def restore(self, rows: list[list[int]]) -> None:
        self.sums = {(w, s, o): sums for w, s, o, *sums in rows}
        self.changed = set()


def nearly_rows(data: bytes) -> I64:
    """(n, ROW) of what ``NearlyThere.take`` gave."""
    return np.frombuffer(data, "<i8").reshape(-1, len(ROW))
