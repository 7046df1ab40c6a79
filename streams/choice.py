"""One vehicle, several feeds: whose positions are published.

Feeds of one city lie in raw partitions of their own, and an observer sees only one of them. The fuse step hears of all. So the observer of a *secondary* feed
(``secondary_to`` in the city file) does not publish the positions that it has made: it hands them on in its partials. The observers of better feeds tell of whom they
heard, by periods of ``BUCKET_MS`` of ingest time, and the fuse step publishes what no better feed has told within ``silent_ms``. Each vehicle thus has one source at
a time, named in the record's ``feed``; when that falls silent, the next takes over, by log time alone. What is withheld is counted (``feed-health``: ``secondary_ratio``).

Situations go the same way (``streams/sameness.py``: by id and version, or by what they say), but both feeds name them minutes apart: one is withheld when a better feed names it
within ``AROUND_MS`` before or ``AFTER_MS`` after, and so is published so much later.

A position is decided on once every partition of every better feed has passed the end of its period: the decision is a function of the raw logs, in whatever
order partials arrive. The price is that positions of a secondary feed are up to some ten seconds older; those of the best feed pay nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.cities import City
from streams.outputs import Out
from streams.partial import HeldRow, Partial, held_rows

#: Ingest time is told by periods of this length, milliseconds; a divisor of the health slot, so that a slot that has ended is decided.
BUCKET_MS = 5_000
#: A feed has told of a vehicle when its position was at most so old on receipt, milliseconds: a feed that lags by minutes is no better source.
FRESH_MS = 60_000
#: So long after the last position of a better feed the next one is published, milliseconds, or three of the better feed's periods if that is longer.
SILENT_MS = 30_000
#: A better feed tells of the same situation when it named it so long before, or after, milliseconds: lists are asked for every minute or five.
AROUND_MS, AFTER_MS = 900_000, 120_000
#: Periods remembered of one vehicle at most.
_MOST = 1_000


class Choice:
    """State of one city: who was heard by which feed, and positions not yet decided on."""

    def __init__(self, city: City) -> None:
        self.better = {f.name: city.better_feeds(f.name) for f in city.feeds}
        self.waits_for = {f: [(b, p) for b in better for p in range(city.feed(b).partitions)] for f, better in self.better.items()}
        self.silent = {f.name: -(-max(SILENT_MS, int(3000 * f.cadence_s)) // BUCKET_MS) for f in city.feeds}
        self.heard: dict[str, dict[str, list[int]]] = {}  #: better feed -> vehicle -> periods, sorted
        self.pending: dict[str, list[HeldRow]] = {}  #: by feed, in the order of its log
        self.situations: dict[str, list[HeldRow]] = {}  #: the same, of situations
        self.told: dict[tuple[str, int], int] = {}  #: raw offset up to which a partition's positions are known
        self.counts: dict[tuple[str, int], list[int]] = {}  #: (feed, health slot) -> published, withheld
        self.totals: dict[str, list[int]] = {}  #: feed -> published, withheld, since the beginning
        self._pruned = 0

    def take(self, partial: Partial) -> None:
        """What one observer heard, and what it holds. A partial that comes again changes nothing."""
        if partial.heard:
            known = self.heard.setdefault(partial.feed, {})
            for row in partial.heard:
                periods = known.setdefault(row.vehicle_id, [])
                if not periods or row.bucket > periods[-1]:
                    periods.append(row.bucket)
                elif periods[bisect_left(periods, row.bucket)] != row.bucket:
                    insort(periods, row.bucket)
        source = (partial.feed, partial.partition)
        before = self.told.get(source, -1)
        if partial.held:
            for r in held_rows(partial.held):
                if r.offset > before:
                    (self.situations if r.names else self.pending).setdefault(partial.feed, []).append(r)
        if self.better.get(partial.feed):
            self.told[source] = max(before, partial.raw_offset)

    def decide(self, watermark: Mapping[tuple[str, int], int], slot_ms: int) -> list[Out]:
        """Positions that are published now. ``watermark``: how far the log time of each raw partition has come."""
        out: list[Out] = []
        for feed, rows in self.pending.items():
            complete = min((watermark.get(s, 0) for s in self.waits_for[feed]), default=0) // BUCKET_MS
            k = 0
            while k < len(rows) and rows[k].ingest_ms // BUCKET_MS < complete:
                row = rows[k]
                withheld = self._told_by_better(feed, row)
                for counts in (self.counts.setdefault((feed, row.ingest_ms // slot_ms), [0, 0]), self.totals.setdefault(feed, [0, 0])):
                    counts[withheld] += 1
                if not withheld:
                    out.append(Out(row.vehicle_id.encode(), row.value, row.event_ms, row.ce_id))
                k += 1
            if k:
                self.pending[feed] = rows[k:]
        self._prune(watermark)
        return out

    def decide_situations(self, watermark: Mapping[tuple[str, int], int]) -> list[Out]:
        """Situations that are published now."""
        out: list[Out] = []
        for feed, rows in self.situations.items():
            complete = min((watermark.get(s, 0) for s in self.waits_for[feed]), default=0) // BUCKET_MS
            k = 0
            while k < len(rows) and rows[k].ingest_ms // BUCKET_MS + AFTER_MS // BUCKET_MS < complete:
                row = rows[k]
                withheld = any(self._named_by_better(feed, name, row.ingest_ms // BUCKET_MS) for name in row.names)
                self.totals.setdefault(feed, [0, 0])[withheld] += 1
                if not withheld:
                    out.append(Out(row.vehicle_id.encode(), row.value, row.event_ms, row.ce_id))
                k += 1
            if k:
                self.situations[feed] = rows[k:]
        return out

    def _named_by_better(self, feed: str, name: str, bucket: int) -> bool:
        first, last = bucket - AROUND_MS // BUCKET_MS, bucket + AFTER_MS // BUCKET_MS
        for better in self.better[feed]:
            periods = self.heard.get(better, {}).get(name, ())
            at = bisect_left(periods, first)
            if at < len(periods) and periods[at] <= last:
                return True
        return False

    def _told_by_better(self, feed: str, row: HeldRow) -> bool:
        bucket = row.ingest_ms // BUCKET_MS
        for better in self.better[feed]:
            periods = self.heard.get(better, {}).get(row.vehicle_id)
            if periods:
                at = bisect_left(periods, bucket - self.silent[better])
                if at < len(periods) and periods[at] <= bucket:
                    return True
        return False

    def share(self, feed: str, slot: int) -> float | None:
        """Share of a slot's positions that were withheld; None without positions or for a feed that is nobody's secondary. Forgets the slot."""
        published, withheld = self.counts.pop((feed, slot), (0, 0))
        return round(withheld / (published + withheld), 4) if published + withheld else None

    def _prune(self, watermark: Mapping[tuple[str, int], int]) -> None:
        """Forget periods that no position still to come can ask for."""
        first = min((t for (f, _), t in watermark.items() if self.better.get(f)), default=0) // BUCKET_MS
        held = [*self.pending.values(), *self.situations.values()]
        first = min([first, *(rows[0].ingest_ms // BUCKET_MS for rows in held if rows)])
        if first <= self._pruned:
            return
        self._pruned = first
        for better, vehicles in self.heard.items():
            of_vehicle, of_situation = first - self.silent[better], first - AROUND_MS // BUCKET_MS
            for vehicle, periods in list(vehicles.items()):
                since = of_situation if vehicle.startswith(("situation:", "said:")) else of_vehicle
                if periods[0] >= since and len(periods) <= _MOST:
                    continue
                periods = periods[-_MOST:]
                del periods[: bisect_left(periods, since)]
                if periods:
                    vehicles[vehicle] = periods
                else:
                    del vehicles[vehicle]

    def export(self) -> dict[str, Any]:
        return {
            "heard": self.heard,
            "pending": self.pending,
            "situations": self.situations,
            "told": [[f, p, o] for (f, p), o in sorted(self.told.items())],
            "counts": [[f, s, *n] for (f, s), n in sorted(self.counts.items())],
            "totals": self.totals,
        }

    def restore(self, data: dict[str, Any]) -> None:
        self.heard = {f: {v: list(p) for v, p in vehicles.items()} for f, vehicles in data["heard"].items()}
        self.pending = {f: [msgspec.convert(r, HeldRow) for r in rows] for f, rows in data["pending"].items()}
        self.situations = {f: [msgspec.convert(r, HeldRow) for r in rows] for f, rows in data.get("situations", {}).items()}
        self.told = {(f, p): o for f, p, o in data["told"]}
        self.counts = {(f, s): list(n) for f, s, *n in data["counts"]}
        self.totals = {f: list(n) for f, n in data["totals"].items()}
        self._pruned = 0
