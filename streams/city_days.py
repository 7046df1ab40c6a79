"""``city-day``: the day so far of one city, from its own final records as they are published."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from models.clock import parse_ms, rfc3339
from models.emission_records import AreaState, EmissionArea
from models.indicator_records import CityDay, Hour
from models.indicators import BLOCK_H, Emitted, Flowed, HourSums, total
from models.line_records import LineFluency
from models.records import encode
from streams.cells import WINDOW_MS
from streams.outputs import Out, Outputs

HOUR_MS = 3_600_000
#: Windows after which the day is told of.
EVERY = 5


class CityDays:
    """The day that is running."""

    def __init__(self, city: str, timezone: str) -> None:
        self.city, self.key, self.zone = city, city.encode(), ZoneInfo(timezone)
        self.day = ""  #: local, YYYY-MM-DD; "" before the first window
        self.street_km = 0.0
        self.hours: dict[int, HourSums] = {}  #: by their beginning, ms
        self.last: int = -1  #: the last window
        self.fleet_mix: str | None = None
        self.factor_set: str | None = None
        self.simulated = False

    def final(self, w: int, out: Outputs) -> None:
        """Take in what a window that has become final gave, and add the day's record to it when it is time."""
        start_ms = w * WINDOW_MS
        local = datetime.fromtimestamp(start_ms / 1000, UTC).astimezone(self.zone)
        day = local.date().isoformat()
        if day != self.day:
            if self.day and self.hours:
                out.add("city-day", [self._out("final")])
            self.day, self.hours = day, {}
        self.last = w
        # By the hour of the clocks, which in some zones does not begin with an hour of UTC.
        hour = self.hours.setdefault(start_ms - (local.minute * 60 + local.second) * 1000, HourSums())
        for o in out.records.get("area-state", ()):
            if o.key == self.key:
                self._state(msgspec.json.decode(o.value, type=AreaState), hour.flowed)
        for o in out.records.get("line-fluency", ()):
            line = msgspec.json.decode(o.value, type=LineFluency)
            if line.status == "final":
                hour.flowed.add_line(line)
        for o in out.records.get("emission-area", ()):
            if o.key == self.key:
                a = msgspec.json.decode(o.value, type=EmissionArea)
                if parse_ms(a.window_end) - parse_ms(a.window_start) != round(BLOCK_H * 3_600_000):
                    continue  # minutes are within their five
                hour.emitted.add_area(a, self.street_km)
                self.fleet_mix, self.factor_set = a.fleet_mix, a.factor_set
        if (w + 1) % EVERY == 0 and any(h.flowed.minutes for h in self.hours.values()):
            out.add("city-day", [self._out("provisional")])

    def _state(self, a: AreaState, flowed: Flowed) -> None:
        if a.status == "final":
            flowed.add_state(a)
            km = a.km_by_los
            self.street_km = round(km.A + km.B + km.C + km.D + km.E + km.F + km.unknown, 3)
            self.simulated = self.simulated or bool(a.simulated)

    def _out(self, status: str) -> Out:
        midnight = datetime.combine(datetime.fromisoformat(self.day).date(), time(), self.zone)
        begin_ms = round(midnight.astimezone(UTC).timestamp() * 1000)
        end_ms = (self.last + 1) * WINDOW_MS
        whole = total(self.hours[h] for h in sorted(self.hours))
        hours = [
            Hour(hour_start=rfc3339(h), local_hour=self._local(h), fluency=s.flowed.record(), environment=s.emitted.record())
            for h, s in sorted(self.hours.items())
        ]
        revision = (end_ms - begin_ms) // WINDOW_MS + (status == "final")
        record = CityDay(
            city=self.city, day=self.day, window_start=rfc3339(begin_ms), window_end=rfc3339(end_ms), status=status, revision=revision,  # type: ignore[arg-type]
            street_km=self.street_km, hours=hours, fluency=whole.flowed.record(), environment=whole.emitted.record(),
            fleet_mix=self.fleet_mix, factor_set=self.factor_set, simulated=True if self.simulated else None,
        )  # fmt: skip
        key = f"{self.city}:{self.day}"
        return Out(key.encode(), encode(record), end_ms - WINDOW_MS, f"city-day:{key}:{end_ms - WINDOW_MS}:{status}")

    def _local(self, hour_ms: int) -> int:
        return datetime.fromtimestamp(hour_ms / 1000, UTC).astimezone(self.zone).hour

    def export(self) -> list[Any]:
        hours = [[h, list(asdict(s.flowed).values()), list(asdict(s.emitted).values())] for h, s in sorted(self.hours.items())]
        return [self.day, self.street_km, hours, self.last, self.fleet_mix, self.factor_set, self.simulated]

    def restore(self, data: list[Any]) -> None:
        self.day, self.street_km, hours, self.last, self.fleet_mix, self.factor_set, self.simulated = data
        self.hours = {int(h): HourSums(Flowed(*f), Emitted(*e)) for h, f, e in hours}
