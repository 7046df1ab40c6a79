"""Feed health by log time: counted per raw partition and slot in observe, put together and judged in fuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from connectors.columns import I64
from connectors.envelope import Source
from models.clock import rfc3339
from models.records import FeedHealth, FeedState
from streams.partial import HealthRow

SLOT_MS = 15_000
HEARD_MS = 120_000
#: Upper edges of the lag histogram, seconds; the last bin is open.
LAG_EDGES_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 90.0, 150.0, 300.0, 600.0)
#: A feed is stale after this long without an event, or after two of its periods if that is longer.
STALE_MS = 60_000
#: Answers that hold nothing make a feed empty when the last that held something is so long ago, or one of its periods if that is longer.
HOLLOW_MS = 30_000


@dataclass(slots=True)
class Slot:
    """Counts of one slot while it fills."""

    messages: int = 0
    events: int = 0
    rejects: int = 0
    duplicates: int = 0
    lags: list[int] = field(default_factory=lambda: [0] * (len(LAG_EDGES_S) + 1))
    newest_event_ms: int | None = None
    ticks: int = 0


class Meter:
    """Counts one raw partition's slots. Its state is plain data (``export``)."""

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}
        self.closed: list[HealthRow] = []  #: ended, not yet handed out
        self.last_message_ms: int | None = None
        self.source = Source()

    def _slot(self, ingest_ms: int) -> Slot:
        return self.slots.setdefault(ingest_ms // SLOT_MS, Slot())

    def tick(self, ingest_ms: int, source: Source | None) -> None:
        self._slot(ingest_ms).ticks += 1
        if source is not None:
            self.source = source

    def count(self, ingest_ms: int, messages: int, events: int, rejects: int, duplicates: int) -> None:
        slot = self._slot(ingest_ms)
        slot.messages += messages
        slot.events += events
        slot.rejects += rejects
        slot.duplicates += duplicates
        if messages:
            self.last_message_ms = max(ingest_ms, self.last_message_ms or ingest_ms)

    def lag(self, ingest_ms: int, event_ms: I64, event_ingest_ms: I64) -> None:
        """Add the lags of accepted events."""
        if not len(event_ms):
            return
        slot = self._slot(ingest_ms)
        bins = np.searchsorted(LAG_EDGES_S, (event_ingest_ms - event_ms) / 1000.0)
        for b, n in enumerate(np.bincount(bins).tolist()):
            slot.lags[b] += n
        newest = int(event_ms.max())
        slot.newest_event_ms = max(newest, slot.newest_event_ms or newest)

    def ended(self, log_ms: int) -> list[int]:
        """Slots that have ended by ``log_ms`` and are not closed."""
        return [s for s in sorted(self.slots) if (s + 1) * SLOT_MS <= log_ms]

    def close(self, slot: int, entities: int) -> None:
        """Nothing more comes into this slot."""
        c, src = self.slots.pop(slot), self.source
        self.closed.append(
            HealthRow(slot, c.messages, c.events, c.rejects, c.duplicates, tuple(c.lags), entities, c.newest_event_ms, self.last_message_ms, c.ticks, src.connected, src.http_status, src.detail)
        )  # fmt: skip

    def take(self) -> tuple[HealthRow, ...]:
        """Closed slots, once each."""
        rows, self.closed = tuple(self.closed), []
        return rows

    def export(self) -> dict[str, Any]:
        slots = {s: [c.messages, c.events, c.rejects, c.duplicates, c.lags, c.newest_event_ms, c.ticks] for s, c in self.slots.items()}
        s = self.source
        return {"slots": slots, "last": self.last_message_ms, "source": [s.connected, s.http_status, s.detail, s.dropped]}

    def restore(self, data: dict[str, Any]) -> None:
        self.slots = {int(s): Slot(v[0], v[1], v[2], v[3], list(v[4]), v[5], v[6]) for s, v in data["slots"].items()}
        self.last_message_ms = data["last"]
        self.source = Source(*data["source"])


def percentile_s(lags: list[int], share: float) -> float | None:
    """Upper edge of the bin that holds the given share of lags: a bound, not an interpolation.

    >>> percentile_s([0, 0, 5, 5] + [0] * 14, 0.5)
    0.2
    """
    total = sum(lags)
    if not total:
        return None
    reached = 0
    for i, n in enumerate(lags):
        reached += n
        if reached >= share * total:
            return LAG_EDGES_S[min(i, len(LAG_EDGES_S) - 1)]
    return LAG_EDGES_S[-1]


#: Share of its weight in the fusion that what a feed told keeps in each state: a feed of which a part is refused, or that fell silent within the last minute or two, told less
#: than what happened, and what it told is surer to be odd. Judgement: the simulated runs have no sick feeds to fit it on.
WORTH: dict[FeedState, float] = {"ok": 1.0, "degraded": 0.5, "stale": 0.25, "empty": 0.25, "dead": 0.25}


def worth(state: FeedState, lag_p50_s: float | None, usual_s: float) -> float:
    """What evidence of a feed counts for, 0..1: less in a worse state, and in proportion less where half of it comes later than ``usual_s``.

    >>> worth("ok", 5.0, 60.0), worth("degraded", 5.0, 60.0), worth("ok", 150.0, 60.0)
    (1.0, 0.5, 0.4)
    """
    return WORTH[state] * min(1.0, usual_s / max(lag_p50_s or 0.0, usual_s))


class Judge:
    """State of one feed over its partitions, slot by slot, in order."""

    def __init__(self, feed: str, cadence_s: float) -> None:
        self.feed = feed
        self.worth = 1.0  #: what evidence of the last slot counts for
        self.stale_ms = max(STALE_MS, int(2000 * cadence_s))
        self.hollow_ms = max(HOLLOW_MS, int(1000 * cadence_s))
        self.state: FeedState | None = None
        self.since_ms = 0
        self.last_message_ms: int | None = None
        self.newest_event_ms: int | None = None
        self.told_ms: int | None = None  #: end of the last slot in which messages told something
        self.hollow = False  #: the last messages told nothing
        self.refused = ""  #: how much of the last messages was refused, when it was more than a tenth

    def close(self, slot: int, rows: list[HealthRow], secondary_ratio: float | None = None, *, simulated: bool) -> FeedHealth:
        """The record of one slot from the rows of all partitions (none: no connector wrote anything, not even a tick)."""
        end_ms = (slot + 1) * SLOT_MS
        messages = sum(r.messages for r in rows)
        events = sum(r.events for r in rows)
        rejects = sum(r.rejects for r in rows)
        duplicates = sum(r.duplicates for r in rows)
        lags = [sum(bins) for bins in zip(*(r.lags for r in rows), strict=True)] if rows else []
        entities = sum(r.entities for r in rows)
        self.last_message_ms = _latest([self.last_message_ms, *(r.last_message_ms for r in rows)])
        self.newest_event_ms = _latest([self.newest_event_ms, *(r.newest_event_ms for r in rows)])
        if messages:
            self.hollow = not events
            self.told_ms = end_ms if events else self.told_ms
            self.refused = f"{rejects} of {events} events refused" if rejects > 0.1 * events else ""
        status = next((r.http_status for r in rows if r.http_status is not None), None)
        state, why = self._judged(end_ms, rows, status)
        if state != self.state:
            self.state, self.since_ms = state, end_ms
        self.worth = worth(state, percentile_s(lags, 0.5), self.stale_ms / 1000.0)
        details = dict.fromkeys([*(r.detail for r in rows if r.detail), why])
        gap_ms = None if self.last_message_ms is None else max(0, end_ms - self.last_message_ms)
        return FeedHealth(
            feed=self.feed,
            event_time=rfc3339(end_ms),
            state=state,
            since=rfc3339(self.since_ms),
            messages_s=round(messages * 1000 / SLOT_MS, 3),
            lag_p50_s=percentile_s(lags, 0.5),
            lag_p95_s=percentile_s(lags, 0.95),
            gap_s=None if gap_ms is None else round(gap_ms / 1000, 3),
            duplicate_ratio=round(duplicates / events, 4) if events else None,
            reject_ratio=round(rejects / events, 4) if events else None,
            entity_count=entities,
            secondary_ratio=secondary_ratio,
            newest_event_time=None if self.newest_event_ms is None else rfc3339(self.newest_event_ms),
            http_status=status,
            detail="; ".join(d for d in details if d) or None,
            simulated=True if simulated else None,
        )

    def _judged(self, end_ms: int, rows: list[HealthRow], status: int | None) -> tuple[FeedState, str]:
        """State at the end of a slot, and why it is not a better one."""
        if not rows:
            return "dead", "its connector writes nothing"
        connected = all(r.connected for r in rows)
        if self.last_message_ms is None or end_ms - self.last_message_ms > self.stale_ms:
            since = "" if self.last_message_ms is None else f" since {rfc3339(self.last_message_ms)}"
            if not connected:
                return "dead", f"not reached, nothing received{since}"
            return "stale", f"{'unchanged (HTTP 304)' if status == 304 else 'nothing received'}{since}"
        if self.hollow and not self.refused and (self.told_ms is None or end_ms - self.told_ms >= self.hollow_ms):
            return "empty", "valid answers that hold nothing of this city"
        if self.newest_event_ms is not None and end_ms - self.newest_event_ms > self.stale_ms:
            return "stale", f"{self.refused or 'frozen'}: nothing newer than {rfc3339(self.newest_event_ms)}"
        if self.refused or not connected or (status is not None and status >= 300 and status != 304) or any(r.detail for r in rows):
            return "degraded", self.refused
        return "ok", ""

    def export(self) -> list[Any]:
        return [self.state, self.since_ms, self.last_message_ms, self.newest_event_ms, self.told_ms, self.hollow, self.refused]

    def restore(self, data: list[Any]) -> None:
        self.state, self.since_ms, self.last_message_ms, self.newest_event_ms, self.told_ms, self.hollow, self.refused = data


def _latest(times: list[int | None]) -> int | None:
    return max((t for t in times if t is not None), default=None)
