"""What vehicles say of themselves, on the observe side: one row a vehicle and minute, and again when its occupancy changes;
which line they serve and how late they are four times a minute."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np

from connectors.columns import Trip, VehicleColumns
from geo.network import I64, Bool
from streams.cells import WINDOW_MS
from streams.partial import LINE_SLOT_MS, CrewRow, LineRow

Row = TypeVar("Row")


class _Notes(Generic[Row]):
    """Rows that wait for the next flush. What was sent is remembered only to send less: rows may be sent again, which changes nothing."""

    def __init__(self) -> None:
        self._sent: I64 = np.empty(
            (0, 2), np.int64
        )  #: by slot of the vehicle, what was sent of it last: when, and what tells it from the next
        self._fresh: list[Row] = []

    def _of(self, slot: I64, told: Bool) -> I64:
        """Events of the vehicles of which any event, ``told``, says what was not sent: mostly few or none."""
        some = np.zeros(len(self._sent), np.bool_)
        some[slot[told]] = True
        return np.flatnonzero(some[slot])

    def take(self) -> tuple[Row, ...]:
        """Rows since the last call."""
        fresh, self._fresh = tuple(self._fresh), []
        return fresh

    def export(self) -> bytes:
        """What was sent, for a snapshot; right after ``take``."""
        return self._sent.tobytes()

    def restore(self, data: bytes) -> None:
        self._sent, self._fresh = np.frombuffer(data, np.int64).reshape(-1, 2).copy(), []


class CrewNotes(_Notes[CrewRow]):
    """One row a vehicle and minute, and again when its occupancy changes: by slot, window and occupancy last sent."""

    def note(self, c: VehicleColumns, rows: I64, slot: I64) -> None:
        """Take in accepted events ``rows`` of vehicles ``slot``."""
        if not len(rows):
            return
        self._sent = _room(self._sent, slot)
        event_ms = c.event_ms[rows]
        window = event_ms // WINDOW_MS
        share = c.occupancy_pct[rows]
        code = np.where(np.isfinite(share), np.rint(np.nan_to_num(share) * 10), -10).astype(np.int64)
        some = self._of(slot, (self._sent[slot, 0] != window) | ((code >= 0) & (self._sent[slot, 1] != code)))
        if not some.size:
            return
        rows, slot, event_ms, window, code = rows[some], slot[some], event_ms[some], window[some], code[some]
        order = np.lexsort((event_ms, code >= 0, window, slot))
        last = order[np.flatnonzero(np.r_[(slot[order][1:] != slot[order][:-1]) | (window[order][1:] != window[order][:-1]), True])]
        new = last[(self._sent[slot[last], 0] != window[last]) | ((code[last] >= 0) & (self._sent[slot[last], 1] != code[last]))]
        self._sent[slot[new], 0], self._sent[slot[new], 1] = window[new], code[new]
        for k in new.tolist():
            i = int(rows[k])
            known = int(code[k]) >= 0
            self._fresh.append(
                CrewRow(
                    c.vehicle_id[i],
                    int(window[k]),
                    c.trip[i].mode or "unknown",
                    int(event_ms[k]) if known else -1,
                    int(code[k]) / 10.0 if known else -1.0,
                )
            )


class LineNotes(_Notes[LineRow]):
    """By slot, slot of time and event time last sent. Of a vehicle's events in a slot the earliest is sent, however the log is cut: also when it says that it serves no line."""

    def note(self, c: VehicleColumns, rows: I64, slot: I64, trip: I64, at_end: Bool) -> None:
        """Take in accepted events ``rows`` of vehicles ``slot``, with the numbers of their trips and whether they are at the end of their way."""
        if not len(rows):
            return
        self._sent = _room(self._sent, slot)
        event_ms = c.event_ms[rows]
        when = event_ms // LINE_SLOT_MS
        some = self._of(slot, (self._sent[slot, 0] != when) | (event_ms < self._sent[slot, 1]))
        if not some.size:
            return
        rows, slot, trip, at_end, event_ms, when = rows[some], slot[some], trip[some], at_end[some], event_ms[some], when[some]
        order = np.lexsort((event_ms, when, slot))
        first = order[np.flatnonzero(np.r_[True, (slot[order][1:] != slot[order][:-1]) | (when[order][1:] != when[order][:-1])])]
        sent = self._sent[slot[first]]
        new = first[(sent[:, 0] != when[first]) | (event_ms[first] < sent[:, 1])]
        self._sent[slot[new], 0], self._sent[slot[new], 1] = when[new], event_ms[new]
        for k in new.tolist():
            i = int(rows[k])
            t = c.trip[i]
            route = t.route_id if t.route_id is not None and t.phase == "ongoing" else ""
            late = float(c.delay_s[i])
            self._fresh.append(
                LineRow(
                    c.vehicle_id[i],
                    int(event_ms[k]),
                    t.mode or "unknown",
                    route,
                    -1 if t.direction_id is None else t.direction_id,
                    start_minute(t),
                    int(trip[k]),
                    late if late == late else None,
                    bool(at_end[k]),
                )
            )


def start_minute(trip: Trip) -> int:
    """Minute of the day at which a trip begins, past 24:00 folded; -1 where the feed does not say.

    >>> start_minute(Trip(start_time="25:10")), start_minute(Trip(start_time="07:05:30")), start_minute(Trip())
    (70, 425, -1)
    """
    hours, _, rest = (trip.start_time or "").partition(":")
    if not (hours.isascii() and hours.isdigit() and rest[:2].isascii() and rest[:2].isdigit()):
        return -1
    return (int(hours) % 24) * 60 + int(rest[:2])


def _room(sent: I64, slot: I64) -> I64:
    """The same rows with room for every slot."""
    short = int(slot.max()) + 1 - len(sent)
    return sent if short <= 0 else np.concatenate([sent, np.full((max(64, short + int(slot.max())), 2), -2, np.int64)])
