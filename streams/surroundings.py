"""What emissions depend on besides traffic: the air and the grid, as stations and services said them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from models.clock import parse_ms
from models.emission_records import GridFactor
from models.records import RoadWeather
from streams.outputs import Out
from streams.partial import GridRow, WeatherRow

#: A weather station silent for longer has nothing to say, milliseconds.
WEATHER_MS = 2 * 3_600_000
#: Nor a grid whose newest factor began to hold longer ago: it comes every three minutes, and wind may turn it within hours.
GRID_MS = 3_600_000
#: Readings kept of each source.
KEPT = 64


def weather_rows(published: Iterable[Out]) -> list[WeatherRow]:
    """Air temperatures among published ``road-weather`` records."""
    rows = []
    for o in published:
        r = msgspec.json.decode(o.value, type=RoadWeather)
        if r.air_c is not None:
            rows.append(WeatherRow(r.site_id, o.time_ms, parse_ms(r.ingest_time), r.air_c))
    return rows


def grid_rows(published: Iterable[Out]) -> list[GridRow]:
    """Factors of what is consumed among published ``grid-factor`` records."""
    rows = []
    for o in published:
        r = msgspec.json.decode(o.value, type=GridFactor)
        if r.basis == "consumption":
            rows.append(GridRow(r.grid_id, o.time_ms, parse_ms(r.ingest_time), r.co2_g_per_kwh))
    return rows


class Readings:
    """The last readings of each source: [event_ms, ingest_ms, value], newest last. Told twice or in another order they are the same."""

    def __init__(self, age_ms: int) -> None:
        self.age_ms = age_ms
        self.of: dict[str, list[list[Any]]] = {}

    def hear(self, source: str, event_ms: int, ingest_ms: int, value: float) -> None:
        mine = self.of.setdefault(source, [])
        reading = [event_ms, ingest_ms, value]
        if reading not in mine:
            mine.append(reading)
            mine.sort()
            del mine[:-KEPT]

    def newest(self, at_ms: int) -> list[tuple[int, float]]:
        """Time and value of each source that is not too old, of what had been received by then; in order of the sources."""
        out = []
        for _, readings in sorted(self.of.items()):
            usable = [r for r in readings if r[1] <= at_ms and at_ms - self.age_ms <= r[0] <= at_ms]
            if usable:
                out.append((usable[-1][0], usable[-1][2]))
        return out

    def restore(self, data: dict[str, list[list[Any]]]) -> None:
        self.of = {k: [list(r) for r in v] for k, v in data.items()}


class Surroundings:
    """Air and grid of one city."""

    def __init__(self) -> None:
        self.air, self.grid = Readings(WEATHER_MS), Readings(GRID_MS)

    def hear(self, weather: Iterable[WeatherRow], grid: Iterable[GridRow]) -> None:
        """What a partial says."""
        for r in weather:
            if -60.0 <= r.air_c <= 60.0:
                self.air.hear(r.site_id, r.event_ms, r.ingest_ms, r.air_c)
        for g in grid:
            if 0.0 <= g.g_per_kwh <= 2000.0:
                self.grid.hear(g.grid_id, g.event_ms, g.ingest_ms, g.g_per_kwh)

    def air_c(self, at_ms: int) -> float | None:
        """Median over the stations."""
        said = [value for _, value in self.air.newest(at_ms)]
        return float(np.median(said)) if said else None

    def grid_at(self, at_ms: int) -> tuple[int, float] | None:
        """Since when, and g/kWh: of the grid that spoke last."""
        return max(self.grid.newest(at_ms), default=None)

    def export(self) -> dict[str, Any]:
        return {"air": self.air.of, "grid": self.grid.of}

    def restore(self, data: dict[str, Any]) -> None:
        self.air.restore(data["air"])
        self.grid.restore(data["grid"])
