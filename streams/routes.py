"""What a trip tells of its vehicle: the shape it follows, where it may drive, and whether its speed tells of traffic."""

from __future__ import annotations

import zlib

import numpy as np

from connectors.columns import Trip
from geo.matching import NOT_ON_STREETS, PROFILE_OF_MODE
from geo.network import I8, I64, Bool, Schedule

#: Trips that are remembered; then all are looked up anew.
MOST = 20_000


class Routes:
    """Looks trips up in the schedule of a network, each once."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._known: dict[Trip, tuple[int, int, bool, int]] = {}

    def of(self, trips: list[Trip]) -> tuple[I64, I8, Bool, I64]:
        """Of each event's trip: shape (-1 none), who may drive where, whether its speed tells of traffic, and a number that tells it from others."""
        if len(self._known) > MOST:
            self._known.clear()
        here: dict[int, tuple[int, int, bool, int]] = {}  # a parser gives events of one trip the same object: its fields are compared once
        found = []
        for trip in trips:
            known = here.get(id(trip))
            if known is None:
                known = self._known.get(trip)
                if known is None:
                    known = self._known[trip] = self._look_up(trip)
                here[id(trip)] = known
            found.append(known)
        shape, profile, counts, number = zip(*found, strict=True) if found else ((), (), (), ())
        return np.array(shape, np.int64), np.array(profile, np.int8), np.array(counts, np.bool_), np.array(number, np.int64)

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
