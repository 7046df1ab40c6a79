"""What a trip tells of its vehicle: the shape it follows, where it may drive, and whether its speed tells of traffic."""

from __future__ import annotations

import zlib

import numpy as np

from connectors.columns import Trip
from geo.matching import NOT_ON_STREETS, PROFILE_OF_MODE
from geo.network import I8, I64, Bool, Schedule

#: Trips that are remembered; then all are looked up anew.
MOST = 20_000
#: Objects of trips that are remembered, equal ones among them: parsers of polled feeds make new ones for each envelope.
MOST_OBJECTS = 5_000


class Routes:
    """Looks trips up in the schedule of a network, each once."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._row: dict[Trip, int] = {}
        self._table: I64 = np.empty((0, 4), np.int64)
        self._forget_objects()

    def _forget_objects(self) -> None:
        self._row_of_object: dict[int, int] = {}  #: a parser gives events of one trip the same object: its fields are compared once
        self._objects: list[Trip] = []  #: those objects: while they are here no other one has their identity

    def of(self, trips: list[Trip]) -> tuple[I64, I8, Bool, I64]:
        """Of each event's trip: shape (-1 none), who may drive where, whether its speed tells of traffic, and a number that tells it from others."""
        if len(self._row) > MOST:
            self._row.clear()
            self._forget_objects()
        if len(self._objects) > MOST_OBJECTS:
            self._forget_objects()
        rows = list(map(self._row_of_object.get, map(id, trips)))
        if None in rows:
            rows = [self._remember(trip) if row is None else row for row, trip in zip(rows, trips, strict=True)]
        shape, profile, counts, number = self._table[np.array(rows, np.int64)].T
        return shape, profile.astype(np.int8), counts.astype(np.bool_), number

    def _remember(self, trip: Trip) -> int:
        """Where in the table a trip is, whose object was not seen before this call."""
        row = self._row_of_object.get(id(trip))
        if row is None:
            row = self._row.get(trip)
            if row is None:
                row = self._row[trip] = len(self._row)
                if row >= len(self._table):
                    self._table = np.concatenate([self._table, np.zeros((max(64, row), 4), np.int64)])
                self._table[row] = self._look_up(trip)
            self._row_of_object[id(trip)] = row
            self._objects.append(trip)
        return row

    def _look_up(self, trip: Trip) -> tuple[int, int, bool, int]:
        """Only a trip under way follows its shape, and only its driving tells of traffic: before it and after it a vehicle waits where it likes."""
        profile = PROFILE_OF_MODE.get(trip.mode, NOT_ON_STREETS)
        number = zlib.crc32(repr((trip.trip_id, trip.route_id, trip.direction_id, trip.operating_day, trip.start_time)).encode())
        if trip.phase != "ongoing" or profile == NOT_ON_STREETS:
            return -1, profile, False, number
        shape = self.schedule.shape_of(
            trip_id=trip.trip_id, route_id=trip.route_id, direction_id=trip.direction_id, start_time=trip.start_time
        )
        return shape, profile, True, number
