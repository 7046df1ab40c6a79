"""Playing a recording for ever as if it were now: every time in it moved by one whole number of minutes a loop, everything else as recorded.

Pure: what is sent when is a function of the recording and of ``base_ms``, the instant at which loop 0 begins. Servers (``demo/servers.py``) hold the clock.

Loop k begins at ``base_ms + k * length``. Start times HH:MM stay exact because the move is a whole number of minutes; they and the operating day are local,
so they are moved as instants and written as local time again, over midnight and over a change of clocks too. Negative loops are well defined: a poll
in the first seconds is answered with the end of loop -1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from google.transit import gtfs_realtime_pb2

from demo.recording import LOOPS_BEFORE_REUSE, VEHICLE_STEP, Recording
from models.clock import parse_ms, rfc3339

MINUTE_MS = 60_000
#: HSL's operating day lasts until 04:30 of the next morning.
DAY_ENDS = timedelta(hours=4, minutes=30)
#: Levels of an HFP v2 topic, from the left (it begins with an empty one).
_VEHICLE, _START = 8, 12
_TMS_TIMES = frozenset({"dataUpdatedTime", "measuredTime", "timeWindowStart", "timeWindowEnd"})


def base_at(recording: Recording, now_ms: int) -> int:
    """The latest instant not after ``now_ms`` that is a whole number of minutes away from the recording's own start."""
    return now_ms - (now_ms - recording.about.start_ms) % MINUTE_MS


def shift_start(operating_day: date, start: time, shift_ms: int, zone: ZoneInfo) -> tuple[date, time, int]:
    """Move a departure.

    Args:
        operating_day, start: as HFP names a departure: 24-hour local wall time; before 04:30 it is on the morning after the operating day.
        shift_ms: whole minutes, either sign.
        zone: of the timetable.

    Returns:
        operating day, wall time, and the hours to write where a timetable counts past 24:00.

    >>> shift_start(date(2026, 3, 10), time(23, 50), 20 * 60_000, ZoneInfo("Europe/Helsinki"))
    (datetime.date(2026, 3, 10), datetime.time(0, 10), 24)
    """
    calendar_day = operating_day + timedelta(days=1) if timedelta(hours=start.hour, minutes=start.minute) < DAY_ENDS else operating_day
    instant = datetime.combine(calendar_day, start, tzinfo=zone).astimezone(UTC) + timedelta(milliseconds=shift_ms)
    local = instant.astimezone(zone)
    day = (local.replace(tzinfo=None) - DAY_ENDS).date()
    return day, local.time(), local.hour + 24 * (local.date() - day).days


class Player:
    """A recording placed in time."""

    def __init__(self, recording: Recording, base_ms: int) -> None:
        """
        Args:
            base_ms: when loop 0 begins; see ``base_at``.

        Raises:
            ValueError: not a whole number of minutes from the recording's own start.
        """
        if (base_ms - recording.about.start_ms) % MINUTE_MS:
            raise ValueError(f"base_ms = {base_ms}, expected a whole number of minutes from {recording.about.start_ms}")
        self.recording, self.base_ms = recording, base_ms
        self._zone = recording.zone
        self._hfp_offsets = [line.offset_ms for line in recording.hfp]
        self._rt_offsets = [offset for offset, _ in recording.vehicle_positions]
        self._tms_offsets = [line.offset_ms for line in recording.station_data]
        self._start = lru_cache(maxsize=4096)(self._shifted_start)

    def begins_ms(self, loop: int) -> int:
        return self.base_ms + loop * self.recording.about.length_ms

    def shift_ms(self, loop: int) -> int:
        """What is added to every time of the recording in this loop."""
        return self.begins_ms(loop) - self.recording.about.start_ms

    def _shifted_start(self, operating_day: str, start: str, loop: int) -> tuple[str, str, int]:
        day, at, hours = shift_start(date.fromisoformat(operating_day), time.fromisoformat(start), self.shift_ms(loop), self._zone)
        return day.isoformat(), at.strftime("%H:%M"), hours

    # HFP

    def message_at(self, loop: int, i: int) -> tuple[int, str, bytes]:
        """Message ``i`` of a loop.

        Returns:
            when it is due (ms since 1970), MQTT topic, payload.
        """
        line, shift = self.recording.hfp[i], self.shift_ms(loop)
        payload: dict[str, dict[str, Any]] = msgspec.json.decode(line.payload)
        for event in payload.values():
            moved_ms = parse_ms(event["tst"]) + shift
            event["tst"], event["tsi"] = rfc3339(moved_ms), moved_ms // 1000
            event["veh"] += _fleet(loop)
            if event.get("oday") is not None and event.get("start") is not None:
                event["oday"], event["start"], _ = self._start(event["oday"], event["start"], loop)
                start = event["start"]
        levels = line.topic.split("/")
        levels[_VEHICLE] = f"{int(levels[_VEHICLE]) + _fleet(loop):05d}"
        levels[_START] = start
        return self.begins_ms(loop) + line.offset_ms, "/".join(levels), msgspec.json.encode(payload)

    def next_message(self, now_ms: int) -> tuple[int, int]:
        """(loop, i) of the first message that is due at ``now_ms`` or later."""
        loop, offset = divmod(now_ms - self.base_ms, self.recording.about.length_ms)
        i = bisect_left(self._hfp_offsets, offset)
        return (loop, i) if i < len(self._hfp_offsets) else (loop + 1, 0)

    def after(self, loop: int, i: int) -> tuple[int, int]:
        """(loop, i) of the message that follows."""
        return (loop, i + 1) if i + 1 < len(self._hfp_offsets) else (loop + 1, 0)

    # GTFS-Realtime

    def vehicle_positions_at(self, now_ms: int) -> tuple[int, bytes]:
        """The newest snapshot published by ``now_ms``: when it was published, and a FeedMessage."""
        loop, i = self._latest(self._rt_offsets, now_ms)
        return self.begins_ms(loop) + self._rt_offsets[i], self._vehicle_positions(loop, i)

    @lru_cache(maxsize=4)  # noqa: B019 one player a process
    def _vehicle_positions(self, loop: int, i: int) -> bytes:
        shift_s = self.shift_ms(loop) // 1000
        feed = gtfs_realtime_pb2.FeedMessage.FromString(self.recording.vehicle_positions[i][1])
        feed.header.timestamp += shift_s
        for entity in feed.entity:
            vehicle, trip = entity.vehicle, entity.vehicle.trip
            vehicle.timestamp += shift_s
            operator, _, number = vehicle.vehicle.id.partition("/")
            vehicle.vehicle.id = f"{operator}/{int(number) + _fleet(loop)}"
            entity.id = f"vehicle_position_{vehicle.vehicle.id}"
            day, start, hours = self._start(
                f"{trip.start_date[:4]}-{trip.start_date[4:6]}-{trip.start_date[6:]}", trip.start_time[:5], loop
            )
            trip.start_date, trip.start_time = day.replace("-", ""), f"{hours:02d}:{start[3:]}{trip.start_time[5:]}"
        data: bytes = feed.SerializeToString(deterministic=True)
        return data

    # Digitraffic TMS

    def stations_at(self, now_ms: int) -> tuple[int, bytes]:
        """The answer of ``stations``: when it was last changed (once a loop), and JSON."""
        loop = (now_ms - self.base_ms) // self.recording.about.length_ms
        return self.begins_ms(loop), self._moved(self.recording.stations, loop)

    def sensor_constants_at(self, now_ms: int) -> tuple[int, bytes]:
        """The answer of ``stations/sensor-constants``: when it was last changed (once a loop), and JSON."""
        loop = (now_ms - self.base_ms) // self.recording.about.length_ms
        return self.begins_ms(loop), self._moved(self.recording.sensor_constants, loop)

    def station_data_at(self, now_ms: int) -> tuple[int, bytes]:
        """The newest answer of ``stations/data`` published by ``now_ms``: when it was published, and JSON."""
        loop, i = self._latest(self._tms_offsets, now_ms)
        return self.begins_ms(loop) + self._tms_offsets[i], self._moved(bytes(self.recording.station_data[i].body), loop)

    @lru_cache(maxsize=8)  # noqa: B019 one player a process
    def _moved(self, body: bytes, loop: int) -> bytes:
        return msgspec.json.encode(_move_times(msgspec.json.decode(body), self.shift_ms(loop)))

    def _latest(self, offsets: Sequence[int], now_ms: int) -> tuple[int, int]:
        """(loop, i) of the last publication at or before ``now_ms``."""
        loop, offset = divmod(now_ms - self.base_ms, self.recording.about.length_ms)
        i = bisect_right(offsets, offset) - 1
        return (loop, i) if i >= 0 else (loop - 1, len(offsets) - 1)


def _fleet(loop: int) -> int:
    return loop % LOOPS_BEFORE_REUSE * VEHICLE_STEP


def _move_times(value: Any, shift_ms: int) -> Any:
    if isinstance(value, dict):
        return {
            k: rfc3339(parse_ms(v) + shift_ms).replace(".000Z", "Z") if k in _TMS_TIMES and isinstance(v, str) else _move_times(v, shift_ms)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [_move_times(v, shift_ms) for v in value]
    return value
