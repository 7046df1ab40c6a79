"""What a city's picture has been besides streets' states and vehicles: situations as they changed, lines minute by minute, CO2 of streets.

Bounded by age and by bytes, as the rest of the memory is (``serve/past.py``). Knows no Kafka and no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct

import numpy as np
from numpy.typing import NDArray

#: Oldest that is kept, ms.
KEEP_MS = 24 * 3_600_000
#: Most memory of one city, bytes; of situations and lines, whose records are kept whole.
MOST_SITUATION_BYTES, MOST_LINE_BYTES = 8_000_000, 8_000_000
#: A line that was told longer ago than this is no longer on its way, ms.
LINE_HOLDS_MS = 5 * 60_000
#: CO2 in thousandths of a natural logarithm above 1 g/h: within 0.05 %, up to 10^28 g/h.
_CO2_ROW = Struct("<IHHH")
CO2_ROW = np.dtype([("segment", "<u4"), ("co2", "<u2"), ("lo95", "<u2"), ("hi95", "<u2")])


def packed_co2(number: int, grams_h: tuple[float, float, float]) -> bytes:
    """A row: number of the segment, value and bounds in g/h.

    >>> round(float(grams(np.frombuffer(packed_co2(7, (5200.0, 100.0, 0.0)), CO2_ROW)["co2"])[0]), -1)
    5200.0
    """
    value, lo, hi = (min(65_535, round(1000 * float(np.log1p(max(0.0, g))))) for g in grams_h)
    return _CO2_ROW.pack(number, value, lo, hi)


def grams(packed: NDArray[np.uint16]) -> NDArray[np.float64]:
    """g/h of packed figures, (n,)."""
    return np.expm1(packed / 1000.0)


class Situations:
    """Versions of situations, each from the time at which it was heard until the next one."""

    def __init__(self, most_bytes: int = MOST_SITUATION_BYTES) -> None:
        self.most_bytes = most_bytes
        self.versions: dict[str, list[tuple[int, bytes]]] = {}
        self.bytes = 0
        self.newest_ms = self.horizon_ms = 0

    def add(self, situation_id: str, heard_ms: int, value: bytes) -> None:
        """A version; an empty value: it was taken away. One that was heard before the last one is passed over."""
        held = self.versions.setdefault(situation_id, [])
        if held and (heard_ms < held[-1][0] or value == held[-1][1]):
            return
        held.append((heard_ms, value))
        self.bytes += len(value)
        self.newest_ms = max(self.newest_ms, heard_ms)
        if self.newest_ms - KEEP_MS > self.horizon_ms + KEEP_MS // 96:
            self._cut(self.newest_ms - KEEP_MS)
        while self.bytes > self.most_bytes and self.horizon_ms < self.newest_ms:
            self._cut((self.horizon_ms + self.newest_ms + 1) // 2)

    def _cut(self, horizon_ms: int) -> None:
        """Forget what had been replaced by then."""
        self.horizon_ms = horizon_ms
        for situation_id, held in list(self.versions.items()):
            first = next((n for n in range(len(held) - 1, -1, -1) if held[n][0] <= horizon_ms), 0)
            self.bytes -= sum(len(value) for _, value in held[:first])
            del held[:first]
            if not held[-1][1] and held[-1][0] <= horizon_ms:
                del self.versions[situation_id]

    def at(self, at_ms: int) -> list[bytes]:
        """What was last said of each by then, also of those that were over."""
        return [
            value
            for held in list(self.versions.values())  # answers are made in threads
            if (value := next((value for heard, value in reversed(held) if heard <= at_ms), b""))
        ]


class Lines:
    """Records of lines by the end of their minute."""

    def __init__(self, most_bytes: int = MOST_LINE_BYTES) -> None:
        self.most_bytes = most_bytes
        self.minutes: OrderedDict[int, dict[str, bytes]] = OrderedDict()
        self.bytes = 0

    def add(self, key: str, end_ms: int, value: bytes) -> None:
        newest = max(self.minutes, default=end_ms)
        if end_ms < newest - KEEP_MS:
            return
        minute = self.minutes.setdefault(end_ms, {})
        self.bytes += len(value) - len(minute.get(key, b""))
        minute[key] = value
        while len(self.minutes) > 1 and ((oldest := min(self.minutes)) < newest - KEEP_MS or self.bytes > self.most_bytes):
            self.bytes -= sum(map(len, self.minutes.pop(oldest).values()))

    def at(self, at_ms: int) -> list[bytes]:
        """The last record of each line that was on its way."""
        found: dict[str, bytes] = {}
        for end in sorted(self.minutes):
            if at_ms - LINE_HOLDS_MS < end <= at_ms:
                found |= self.minutes.get(end, {})
        return [found[key] for key in sorted(found)]
