"""What vehicles and weather stations say of themselves, on the observe side: one row a vehicle and minute, and again when its occupancy changes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from connectors.columns import VehicleColumns
from geo.network import I64
from models.clock import parse_ms
from models.records import RoadWeather
from streams.cells import WINDOW_MS
from streams.outputs import Out
from streams.partial import CrewRow, WeatherRow


class CrewNotes:
    """Rows that wait for the next flush. What was sent is remembered only to send less: rows may be sent again, which changes nothing."""

    def __init__(self) -> None:
        self._sent: I64 = np.empty((0, 2), np.int64)  #: by slot: window and occupancy last sent
        self._fresh: list[CrewRow] = []

    def note(self, c: VehicleColumns, rows: I64, slot: I64) -> None:
        """Take in accepted events ``rows`` of vehicles ``slot``."""
        if not len(rows):
            return
        if int(slot.max()) >= len(self._sent):
            more = np.full((max(64, 2 * int(slot.max()) + 1 - len(self._sent)), 2), -2, np.int64)
            self._sent = np.concatenate([self._sent, more])
        event_ms = c.event_ms[rows]
        window = event_ms // WINDOW_MS
        share = c.occupancy_pct[rows]
        code = np.where(np.isfinite(share), np.rint(np.nan_to_num(share) * 10), -10).astype(np.int64)
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

    def take(self) -> tuple[CrewRow, ...]:
        """Rows since the last call."""
        fresh, self._fresh = tuple(self._fresh), []
        return fresh

    def export(self) -> bytes:
        """What was sent, for a snapshot; right after ``take``."""
        return self._sent.tobytes()

    def restore(self, data: bytes) -> None:
        self._sent, self._fresh = np.frombuffer(data, np.int64).reshape(-1, 2).copy(), []


def weather_rows(published: Iterable[Out]) -> list[WeatherRow]:
    """Air temperatures among published ``road-weather`` records."""
    rows = []
    for o in published:
        r = msgspec.json.decode(o.value, type=RoadWeather)
        if r.air_c is not None:
            rows.append(WeatherRow(r.site_id, o.time_ms, parse_ms(r.ingest_time), r.air_c))
    return rows
