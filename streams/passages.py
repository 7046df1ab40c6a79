"""Stop passages, from the events that vehicles tell of themselves at stops (HFP: arr, ars, doo, doc, pde, dep, pas).

A passage is written at once when the vehicle has left the stop or has driven past it, and when it ends its trip there. What arrives later than that, out
of order, adds nothing: the record then says less, never something wrong. Decided event by event in the order of the log, so that it does not depend on envelopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from connectors.columns import EVENT_CODE, EVENTS, I64, Trip, VehicleColumns
from models.clock import rfc3339
from models.records import StopPassage, encode
from streams.outputs import Out

if TYPE_CHECKING:
    from streams.observe import Observer

_ARR, _ARS, _DOO, _DOC, _PDE, _DEP, _PAS = (EVENT_CODE[e] for e in ("arr", "ars", "doo", "doc", "pde", "dep", "pas"))
#: By kind of event, whether it tells of a passage.
_USED = np.isin(np.arange(len(EVENTS)), [_ARR, _ARS, _DOO, _DOC, _PDE, _DEP, _PAS])
#: A visit of which nothing was heard for longer than this is over without a departure, milliseconds.
FORGET_MS = 3_600_000
#: Longer than this at one stop is no dwell but a break, milliseconds.
MOST_DWELL_MS = 3_600_000


@dataclass(slots=True)
class Visit:
    """One vehicle at one stop, so far. Times are by its own clock, milliseconds; -1: not seen."""

    trip: Trip
    heard_ms: int  #: ingest time of the last event
    last_ms: int
    arrived: int = -1
    stopped: int = -1
    ready: int = -1
    opened: int = -1  #: since when a door is open
    doors_ms: int = -1  #: sum of the openings that have ended


class Passages:
    """Visits under way in one raw partition."""

    def __init__(self) -> None:
        self.visits: dict[tuple[str, str], Visit] = {}  #: by vehicle and stop
        self._swept_ms = 0

    def feed(self, c: VehicleColumns, at: I64, owner: Observer) -> list[Out]:
        """Passages that the accepted events ``at`` complete."""
        out: list[Out] = []
        for i in at[_USED[c.event[at]]].tolist():
            stop, trip = c.stop_id[i], c.trip[i]
            if stop is not None and trip.phase == "ongoing":
                self._event(c, i, stop, trip, owner, out)
        if len(at) and owner.log_ms - self._swept_ms > FORGET_MS:
            self._swept_ms = owner.log_ms
            self.visits = {k: v for k, v in self.visits.items() if v.heard_ms >= owner.log_ms - FORGET_MS}
        return out

    def _event(self, c: VehicleColumns, i: int, stop: str, trip: Trip, owner: Observer, out: list[Out]) -> None:
        key = (c.vehicle_id[i], stop)
        event, ms, ingest_ms = int(c.event[i]), int(c.event_ms[i]), int(c.ingest_ms[i])
        visit = self.visits.get(key)
        if visit is not None and visit.heard_ms < ingest_ms - FORGET_MS:
            visit = None
        if visit is not None and visit.trip is not trip and _name(visit.trip) != _name(trip):
            # Its trip ended here, and the next one begins: the first was here too.
            out.append(_record(c, i, stop, visit, None, visit.last_ms, owner, delay=False))
            visit = None
        if event in (_DEP, _PAS):
            self.visits.pop(key, None)
            visit = visit or Visit(trip, ingest_ms, ms)
            out.append(_record(c, i, stop, visit, event, ms, owner, delay=True))
            return
        if visit is None:
            visit = self.visits[key] = Visit(trip, ingest_ms, ms)
        visit.heard_ms, visit.last_ms = max(visit.heard_ms, ingest_ms), max(visit.last_ms, ms)
        if event == _ARR and visit.arrived < 0:
            visit.arrived = ms
        elif event == _ARS and visit.stopped < 0:
            visit.stopped = ms
        elif event == _PDE:
            visit.ready = max(visit.ready, ms)
        elif event == _DOO and visit.opened < 0:
            visit.opened = ms
        elif event == _DOC and visit.opened >= 0:
            visit.doors_ms = max(visit.doors_ms, 0) + max(ms - visit.opened, 0)
            visit.opened = -1

    def export(self) -> list[Any]:
        return [[v, s, *msgspec.to_builtins(visit).values()] for (v, s), visit in self.visits.items()]

    def restore(self, data: list[Any]) -> None:
        self.visits = {(v, s): Visit(msgspec.convert(trip, Trip), *numbers) for v, s, trip, *numbers in data}


def _record(c: VehicleColumns, i: int, stop: str, visit: Visit, event: int | None, ms: int, owner: Observer, *, delay: bool) -> Out:
    vehicle, trip = c.vehicle_id[i], visit.trip
    departed = ms if event == _DEP else -1
    doors = visit.doors_ms
    if visit.opened >= 0 and departed >= visit.opened:  # nobody said that it closed: it had, by the time it left
        doors = max(doors, 0) + (visit.ready if visit.ready >= visit.opened else departed) - visit.opened
    stood = visit.stopped >= 0 or doors >= 0
    start = visit.stopped if visit.stopped >= 0 else visit.arrived
    end = visit.ready if visit.ready >= 0 else departed
    dwell = end - start if stood and start >= 0 and 0 <= end - start <= MOST_DWELL_MS else -1
    late = float(c.delay_s[i])
    record = StopPassage(
        stop_id=stop,
        vehicle_id=vehicle,
        event_time=rfc3339(ms),
        ingest_time=rfc3339(int(c.ingest_ms[i])),
        feed=owner.feed.name,
        operator=c.operator[i],
        mode=trip.mode,  # type: ignore[arg-type]
        route_id=trip.route_id,
        direction_id=trip.direction_id,
        trip_id=trip.trip_id,
        operating_day=trip.operating_day,
        start_time=trip.start_time,
        passed=True if event == _PAS else False if stood else None,
        arrived=_time(visit.arrived),
        stopped=_time(visit.stopped),
        departed=_time(departed),
        dwell_s=dwell / 1000 if dwell >= 0 else None,
        doors_open_s=doors / 1000 if doors >= 0 else 0.0 if visit.stopped >= 0 and event == _DEP else None,
        delay_s=round(late) if delay and late == late else None,
        simulated=True if owner.simulated else None,
    )
    return Out(stop.encode(), encode(record), ms, f"stop-passage:{stop}:{vehicle}:{ms}")


def _name(trip: Trip) -> tuple[object, ...]:
    """What makes it this trip; the rest of it may be known now and not then."""
    return trip.route_id, trip.direction_id, trip.operating_day, trip.start_time


def _time(ms: int) -> str | None:
    return rfc3339(ms) if ms >= 0 else None
