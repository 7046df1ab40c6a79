"""Who was heard: slots for the vehicles of one raw partition, their recent events (dedupe, order) and what they last said of doors and stops."""

from __future__ import annotations

from typing import Any

import numpy as np

from connectors.columns import I8, I64
from geo.network import F64, Bool
from geo.track import NEVER

#: Events remembered per vehicle. At 1 Hz this is about a minute: longer than the longest backlog seen on HFP that arrives out of order.
MEMORY = 64
#: A vehicle not heard for this long is forgotten; everything older is late by then anyway.
FORGET_MS = 30 * 60_000
NEW, DUPLICATE, TOO_OLD, LATE = 0, 1, 2, 3


class Vehicles:
    """Slots by vehicle id. All columns grow together; a freed slot is used again."""

    def __init__(self) -> None:
        self.slot: dict[str, int] = {}
        self.ids: list[str] = []  #: by slot; "" where free
        self.free: list[int] = []
        self.recent: I64 = np.empty((0, MEMORY), np.int64)  #: event_ms * 32 + event, a ring
        self.newest: I64 = np.empty(0, np.int64)  #: the largest of them: what is larger needs no search
        self.cursor: I64 = np.empty(0, np.int64)
        self.heard_ms: I64 = np.empty(0, np.int64)  #: log time
        self.last_ms: I64 = np.empty(0, np.int64)  #: newest event time
        self.previous_ms: I64 = np.empty(0, np.int64)  #: event time of the last event received
        self.trip: I64 = np.empty(0, np.int64)  #: number of the trip of the last fix
        self.speed_mps: F64 = np.empty(0)  #: as reported with the last fix
        self.piece: I64 = np.empty(
            0, np.int64
        )  #: of the last place on a shape (``Pieces.find``): a guess for the next, so it is in no snapshot
        self.unshaped: Bool = np.empty(0, np.bool_)  #: matched without a shape
        self.doors: I8 = np.empty(0, np.int8)
        self.at_stop: I8 = np.empty(0, np.int8)
        self.asked_ms: I64 = np.empty(0, np.int64)  #: event time of the last request at signals that it has not passed

    def __len__(self) -> int:
        return len(self.slot)

    def slots_of(self, vehicle_id: list[str], log_ms: I64) -> tuple[I64, list[int]]:
        """Slot of each vehicle, made where it is new; and the slots of vehicles that had been unheard for so long that nothing of them counts any more.

        When ``forget`` is called must not show: it is called whenever sums are flushed.
        """
        known = self.slot
        out = np.array([known[v] if v in known else self._take(v) for v in vehicle_id], np.int64)
        slots, first = np.unique(out, return_index=True)
        before = self.heard_ms[slots]
        unheard: list[int] = slots[(before != NEVER) & (before < log_ms[first] - FORGET_MS)].tolist()
        for s in unheard:
            self._clear(s)
        np.maximum.at(self.heard_ms, out, log_ms)
        return out, unheard

    def _take(self, vehicle_id: str) -> int:
        if self.free:
            s = self.free.pop()
            self.ids[s] = vehicle_id
        else:
            s = len(self.ids)
            self.ids.append(vehicle_id)
            if s >= len(self.cursor):
                self._grow(max(64, 2 * s))
        self.slot[vehicle_id] = s
        self._clear(s)
        return s

    def _clear(self, s: int) -> None:
        self.recent[s] = self.newest[s] = NEVER
        self.cursor[s], self.heard_ms[s], self.last_ms[s], self.previous_ms[s] = 0, NEVER, NEVER, NEVER
        self.trip[s], self.speed_mps[s], self.piece[s], self.unshaped[s] = 0, np.nan, 0, False
        self.doors[s], self.at_stop[s], self.asked_ms[s] = -1, -1, NEVER

    def _grow(self, size: int) -> None:
        more = size - len(self.cursor)
        self.recent = np.concatenate([self.recent, np.full((more, MEMORY), NEVER)])
        self.newest = np.concatenate([self.newest, np.full(more, NEVER)])
        self.cursor = np.concatenate([self.cursor, np.zeros(more, np.int64)])
        self.heard_ms = np.concatenate([self.heard_ms, np.full(more, NEVER)])
        self.last_ms = np.concatenate([self.last_ms, np.full(more, NEVER)])
        self.previous_ms = np.concatenate([self.previous_ms, np.full(more, NEVER)])
        self.trip = np.concatenate([self.trip, np.zeros(more, np.int64)])
        self.speed_mps = np.concatenate([self.speed_mps, np.full(more, np.nan)])
        self.piece = np.concatenate([self.piece, np.zeros(more, np.int64)])
        self.unshaped = np.concatenate([self.unshaped, np.zeros(more, np.bool_)])
        self.doors = np.concatenate([self.doors, np.full(more, -1, np.int8)])
        self.at_stop = np.concatenate([self.at_stop, np.full(more, -1, np.int8)])
        self.asked_ms = np.concatenate([self.asked_ms, np.full(more, NEVER)])

    def recall(self, slot: I64, event_ms: I64, event: I8) -> I8:
        """For k distinct slots: NEW (and remembered from now on), DUPLICATE, or TOO_OLD to know."""
        key = event_ms * 32 + event
        verdict = np.full(len(slot), NEW, np.int8)
        before = np.flatnonzero(key <= self.newest[slot])
        if before.size:
            ring = self.recent[slot[before]]
            seen: Bool = (ring == key[before, None]).any(axis=1)
            oldest = ring.min(axis=1)  # NEVER while the ring is not full
            verdict[before] = np.where(seen, DUPLICATE, np.where(key[before] < oldest, TOO_OLD, NEW))
        new = verdict == NEW
        s, key = slot[new], key[new]
        self.recent[s, self.cursor[s]] = key
        self.newest[s] = np.maximum(self.newest[s], key)
        self.cursor[s] = (self.cursor[s] + 1) % MEMORY
        return verdict

    def forget(self, log_ms: int, busy: I64) -> list[int]:
        """Free the slots of vehicles long unheard, except those in ``busy``; returns them, in order."""
        used = np.array(sorted(self.slot.values()), np.int64)
        if not used.size:
            return []
        old = used[self.heard_ms[used] < log_ms - FORGET_MS]
        gone = [int(s) for s in np.setdiff1d(old, busy)] if old.size else []
        for s in gone:
            del self.slot[self.ids[s]]
            self.ids[s] = ""
        self.free.extend(reversed(gone))
        return gone

    def export(self) -> dict[str, Any]:
        n = len(self.ids)
        return {
            "ids": self.ids,
            "free": self.free,
            "recent": self.recent[:n].tobytes(),
            "cursor": self.cursor[:n].tobytes(),
            "heard_ms": self.heard_ms[:n].tobytes(),
            "last_ms": self.last_ms[:n].tobytes(),
            "previous_ms": self.previous_ms[:n].tobytes(),
            "trip": self.trip[:n].tobytes(),
            "speed_mps": self.speed_mps[:n].tobytes(),
            "unshaped": self.unshaped[:n].tobytes(),
            "doors": self.doors[:n].tobytes(),
            "at_stop": self.at_stop[:n].tobytes(),
            "asked_ms": self.asked_ms[:n].tobytes(),
        }

    def restore(self, data: dict[str, Any]) -> None:
        self.ids, self.free = list(data["ids"]), list(data["free"])
        n = len(self.ids)
        self.slot = {v: s for s, v in enumerate(self.ids) if v}
        self.recent = np.frombuffer(data["recent"], np.int64).reshape(n, MEMORY).copy()
        self.newest, self.piece = self.recent.max(axis=1), np.zeros(n, np.int64)
        self.speed_mps = np.frombuffer(data["speed_mps"], np.float64).copy()
        self.unshaped = np.frombuffer(data["unshaped"], np.bool_).copy()
        for name in ("cursor", "heard_ms", "last_ms", "previous_ms", "trip", "asked_ms"):
            setattr(self, name, np.frombuffer(data[name], np.int64).copy())
        for name in ("doors", "at_stop"):
            setattr(self, name, np.frombuffer(data[name], np.int8).copy())
