"""What a feed says of trips, joined to the vehicles that it shows on them: how late they are, and the stops that they have passed.

A trip is known by its id, and by route, direction, day and start, since some feeds (HSL's) give no id. Decided by the order of the log: news of a trip holds for
positions that come after it, within an answer for all of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from connectors.cities import FeedSettings
from connectors.columns import Parsed, PassedStop, Stated, Trip, TripNews, VehicleColumns
from models.clock import rfc3339
from models.records import StopPassage

#: A delay that was told longer ago than this says nothing of a position, milliseconds; trip updates come every 15 to 60 s.
FRESH_MS = 180_000
#: Who was last seen on a trip longer ago than this does not serve it, milliseconds.
SEEN_MS = 600_000
FORGET_MS = 6 * 3_600_000
_SWEEP_MS = 600_000


class Trips:
    """State of one raw partition."""

    def __init__(self) -> None:
        self.late: dict[str, tuple[int, float]] = {}  #: trip -> when told, delay
        self.seen: dict[str, tuple[int, str | None]] = {}  #: trip -> when, vehicle; None: several serve it
        self.left: dict[str, tuple[int, int]] = {}  #: trip and vehicle -> when told, newest passage published
        self._joins = False  #: the feed tells of passages without naming vehicles
        self._swept_ms = 0

    def join(self, parsed: Parsed, feed: FeedSettings, log_ms: int, *, whole: bool) -> None:
        """Delays into the vehicles' columns, passages into what is stated.

        Args:
            whole: the events are one answer, and not messages one after the other.
        """
        news, vehicles = parsed.trips, parsed.vehicles
        rows = 0 if vehicles is None else len(vehicles)
        if not news and not self.late and not self._joins:
            return
        self._joins = self._joins or any(n.passed and (n.vehicle_id is None or feed.wider) for n in news)
        at = 0
        if whole:
            for n in news:
                self._hear(n)
            at = len(news)
        for k in range(rows):
            assert vehicles is not None
            while at < len(news) and news[at].index <= vehicles.index[k]:
                self._hear(news[at])
                self._pass(news[at], parsed, feed)
                at += 1
            self._vehicle(vehicles, k)
        for n in news if whole else news[at:]:
            if not whole:
                self._hear(n)
            self._pass(n, parsed, feed)
        self._sweep(log_ms)

    def _hear(self, n: TripNews) -> None:
        if n.delay_s is not None:
            for name in names(n.trip):
                self.late[name] = n.ingest_ms, n.delay_s

    def _vehicle(self, c: VehicleColumns, k: int) -> None:
        trip, ingest_ms = c.trip[k], int(c.ingest_ms[k])
        for name in names(trip):
            told = self.late.get(name)
            if told is not None and ingest_ms - told[0] <= FRESH_MS and np.isnan(c.delay_s[k]):
                c.delay_s[k] = told[1]
            if self._joins:
                before = self.seen.get(name)
                other = before is not None and before[1] != c.vehicle_id[k] and ingest_ms - before[0] <= SEEN_MS
                self.seen[name] = ingest_ms, None if other else c.vehicle_id[k]

    def _pass(self, n: TripNews, parsed: Parsed, feed: FeedSettings) -> None:
        if not n.passed:
            return
        named = None if feed.wider else n.vehicle_id  # of a country's vehicles those are the city's that are seen in it
        vehicle = named or next((v for s in names(n.trip) if (v := self._serves(s, n.ingest_ms)) is not None), None)
        if vehicle is None:
            parsed.skip("passed_by_unknown_vehicle", len(n.passed))
            return
        who = f"{next(iter(names(n.trip)), '')}\n{vehicle}"
        newest = self.left.get(who, (0, 0))[1]
        for p in n.passed:
            if p.left_ms > newest:
                parsed.stated.append(_passage(n, p, vehicle, feed.name))
                parsed.events += 1
        self.left[who] = n.ingest_ms, max(newest, *(p.left_ms for p in n.passed))

    def _serves(self, name: str, now_ms: int) -> str | None:
        seen_ms, vehicle = self.seen.get(name, (0, None))
        return vehicle if now_ms - seen_ms <= SEEN_MS else None

    def _sweep(self, log_ms: int) -> None:
        if log_ms - self._swept_ms >= _SWEEP_MS:
            self._swept_ms = log_ms
            self.late = {k: v for k, v in self.late.items() if log_ms - v[0] <= FRESH_MS}
            self.seen = {k: v for k, v in self.seen.items() if log_ms - v[0] <= SEEN_MS}
            self.left = {k: v for k, v in self.left.items() if log_ms - v[0] <= FORGET_MS}

    def export(self) -> dict[str, Any]:
        return {"late": self.late, "seen": self.seen, "left": self.left, "joins": self._joins, "swept": self._swept_ms}

    def restore(self, data: dict[str, Any]) -> None:
        if data:
            self.late, self.seen, self.left = ({k: tuple(v) for k, v in data[part].items()} for part in ("late", "seen", "left"))
            self._joins, self._swept_ms = data["joins"], data["swept"]


def names(trip: Trip) -> list[str]:
    """What a trip may be known by, the surest first.

    >>> names(Trip(route_id="2550", direction_id=1, operating_day="2026-03-10", start_time="07:30:00"))
    ['2550/1/2026-03-10/07:30']
    """
    out = [f"{trip.trip_id}/{trip.operating_day or ''}", trip.trip_id] if trip.trip_id is not None else []
    if trip.route_id is not None and trip.start_time is not None:
        out.append(
            f"{trip.route_id}/{'' if trip.direction_id is None else trip.direction_id}/{trip.operating_day or ''}/{trip.start_time[:5]}"
        )
    return out


def _passage(n: TripNews, p: PassedStop, vehicle: str, feed: str) -> Stated:
    trip = n.trip
    record = StopPassage(
        stop_id=p.stop_id, vehicle_id=vehicle, event_time=rfc3339(p.left_ms), ingest_time=rfc3339(n.ingest_ms), feed=feed,
        mode=trip.mode, route_id=trip.route_id, direction_id=trip.direction_id, trip_id=trip.trip_id,  # type: ignore[arg-type]
        operating_day=trip.operating_day, start_time=trip.start_time, arrived=None if p.arrived_ms is None else rfc3339(p.arrived_ms),
        departed=rfc3339(p.left_ms) if p.departed else None, delay_s=None if p.delay_s is None else round(p.delay_s),
    )  # fmt: skip
    return Stated(index=n.index, ingest_ms=n.ingest_ms, event_ms=p.left_ms, product="stop-passage", key=p.stop_id, record=record)
