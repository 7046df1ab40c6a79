"""Observe: one raw partition in, in order; positions, sensor readings, partial sums and rejects out.

Pure: knows no Kafka, no clock and no files. Everything is decided by the envelopes alone, and an event's fate depends on its own ingest time, so that the
same log cut into other envelopes gives the same finals. What it costs is per envelope; events of one vehicle go through in *rounds* (the first event of each
vehicle, then the second, ...), each round vectorised over vehicles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from connectors.cities import City
from connectors.columns import I64, Parsed, Reject, Trip, VehicleColumns
from connectors.envelope import Envelope, Item
from connectors.families import parser
from geo.network import F64, Network
from geo.project import Plane
from geo.track import Tracker, TrackSettings
from streams import partial as wire
from streams.cells import WINDOW_MS, CellSettings, Pieces, Rows, concat, merge
from streams.clean import CleanSettings, impossible
from streams.health import HEARD_MS, Meter
from streams.outputs import Outputs
from streams.publish import dead_letters, late_records, positions
from streams.sensors import Sensors
from streams.vehicles import DUPLICATE, NEW, TOO_OLD, Vehicles

#: Version of the state's layout; a snapshot of another one is not used.
STATE_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ObserveSettings:
    """All parameters of the observe step."""

    #: How long after its end a window still takes events, milliseconds of log time. Longest backlog seen on HFP: 61 s. Finals wait for it.
    lateness_ms: int = 90_000
    clean: CleanSettings = field(default_factory=CleanSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    cells: CellSettings = field(default_factory=CellSettings)


@dataclass(slots=True)
class Tally:
    """What happened to the events, for tests, metrics and the summary of a replay."""

    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    rejected: int = 0
    late: int = 0
    no_position: int = 0
    on_shape: int = 0
    matched: int = 0
    off_route: int = 0

    def add(self, other: Tally) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Observer:
    """State of one raw partition: vehicles, open windows, dedupe memory."""

    def __init__(
        self, city: City, feed: str, partition: int, network: Network, settings: ObserveSettings | None = None, *, raw_topic: str = ""
    ) -> None:
        self.city, self.feed, self.partition, self.network = city, city.feed(feed), partition, network
        self.settings = settings or ObserveSettings()
        self.raw_topic = raw_topic or f"raw.{city.name}.{feed}"
        self.parser = parser(self.feed, city)
        self.plane = Plane(network.crs)
        self.vehicles = Vehicles()
        self.tracker = Tracker(network, self.settings.track)
        self.pieces = Pieces(network, self.settings.cells)
        self.sensors = Sensors(network, self.plane)
        self.meter = Meter()
        self.tally = Tally()
        self.log_ms = 0  #: the only "now"
        self.offset = -1  #: of the last envelope in this state
        self.simulated = False
        self._new_rows: list[Rows] = []
        self._cells = concat([])
        self._shape_of: dict[Trip, int] = {}

    # ------------------------------------------------------------------ feeding

    def feed_envelope(self, envelope: Envelope, offset: int) -> Outputs:
        """Everything that one envelope gives at once. Partial sums wait for ``flush``."""
        self.log_ms = max(self.log_ms, envelope.ingest_ms)
        self.offset = offset
        self.simulated = self.simulated or envelope.simulated
        out = Outputs()
        if envelope.kind == "tick":
            self.meter.tick(envelope.ingest_ms, envelope.source)
            return out
        parsed = self.parser.parse(envelope)
        rejects = list(parsed.rejects)
        duplicates = 0
        if parsed.vehicles is not None and len(parsed.vehicles):
            duplicates += self._vehicles(parsed.vehicles, offset, rejects, out)
        duplicates += self.sensors.feed(parsed, self, rejects, out, offset)
        self._count(envelope, parsed, rejects, duplicates)
        out.add("dead-letter", dead_letters(self, envelope, rejects, offset))
        return out

    def undecodable(self, data: bytes | None, reason: str, offset: int, log_ms: int) -> Outputs:
        """A raw message that is no envelope of ours: dead-letter, whole."""
        self.offset = offset
        self.log_ms = max(self.log_ms, log_ms)
        self.tally.events += 1
        self.tally.rejected += 1
        item = Item(log_ms, self.raw_topic, data or b"")
        envelope = Envelope(1, self.city.name, self.feed.name, self.feed.family, "messages", log_ms, (item,))
        out = Outputs()
        out.add(
            "dead-letter", dead_letters(self, envelope, [Reject(-1, "bad_envelope", "envelope", reason, "an envelope of schema 1")], offset)
        )
        return out

    def idle(self, log_ms: int) -> None:
        """The driver knows that nothing with an earlier ingest time can come any more (it is at the end of a silent partition)."""
        self.log_ms = max(self.log_ms, log_ms)

    def _count(self, envelope: Envelope, parsed: Parsed, rejects: list[Reject], duplicates: int) -> None:
        events = max(parsed.events, len(rejects))
        self.tally.events += events
        self.tally.rejected += len(rejects)
        self.tally.duplicates += duplicates
        self.meter.count(envelope.ingest_ms, len(envelope.items), events, len(rejects), duplicates)

    # ----------------------------------------------------------------- vehicles

    def _vehicles(self, c: VehicleColumns, offset: int, rejects: list[Reject], out: Outputs) -> int:
        """Clean, dedupe, order, match and sum. Returns the number of duplicates."""
        ok, refused = impossible(c, self.city.box, self.settings.clean)
        rejects += refused
        keep = np.flatnonzero(ok)
        window = c.event_ms[keep] // WINDOW_MS
        closed = (window + 1) * WINDOW_MS + self.settings.lateness_ms < c.ingest_ms[keep]
        late = keep[closed]
        keep = keep[~closed]
        slot = self.vehicles.slots_of([c.vehicle_id[i] for i in keep], c.ingest_ms[keep])
        self.tracker.grow(len(self.vehicles.cursor))
        m = _Match.empty(len(keep))
        east, north = self.plane.to_plane(c.lat_deg[keep], c.lon_deg[keep])
        heading = _course(c.heading_deg[keep], c.speed_mps[keep])
        shape = self._shapes([c.trip[i] for i in keep])
        for rows in _rounds(slot):
            self._round(c, keep, rows, slot, shape, east, north, heading, m)
        self.meter.lag(int(c.ingest_ms[-1]) if len(c) else self.log_ms, c.event_ms[keep], c.ingest_ms[keep])

        new = m.verdict == NEW
        too_old = keep[m.verdict == TOO_OLD]
        duplicates = int((m.verdict == DUPLICATE).sum())
        out.add(
            "vehicle-position", positions(self, c, keep[new], m.segment[new], m.offset_mm[new], m.on[new], m.off_route[new], shape[new])
        )
        out.add("late", late_records(self, c, late, "window_closed", offset) + late_records(self, c, too_old, "older_than_memory", offset))
        t = self.tally
        t.accepted += int(new.sum())
        t.late += len(late) + len(too_old)
        t.no_position += int((new & np.isnan(east)).sum())
        t.on_shape += int((new & m.on).sum())
        t.matched += int((new & (m.segment >= 0)).sum())
        t.off_route += int((new & m.off_route).sum())
        return duplicates

    def _round(
        self, c: VehicleColumns, keep: I64, rows: I64, slot: I64, shape: I64, east: F64, north: F64, heading: tuple[F64, F64], m: _Match
    ) -> None:
        """One event each of distinct vehicles."""
        i, s = keep[rows], slot[rows]
        verdict = self.vehicles.recall(s, c.event_ms[i], c.event[i])
        m.verdict[rows] = verdict
        new = verdict == NEW
        rows, i, s = rows[new], i[new], s[new]
        after = c.event_ms[i] > self.tracker.t_ms[s]
        located = np.isfinite(east[rows])
        self.tally.out_of_order += int((~after).sum())
        fix = after & located
        rows, i, s = rows[fix], i[fix], s[fix]
        if not rows.size:
            return
        before_doors, before_stop = self.vehicles.doors[s], self.vehicles.at_stop[s]
        doors = np.where(c.doors_open[i] >= 0, c.doors_open[i], before_doors)
        at_stop = c.at_stop[i]
        p = self.tracker.step(
            s, shape[rows], c.event_ms[i], east[rows], north[rows], (heading[0][rows], heading[1][rows]), c.speed_mps[i], c.odometer_m[i]
        )
        self.vehicles.doors[s], self.vehicles.at_stop[s] = doors, at_stop
        m.on[rows], m.off_route[rows] = p.on, p.off_route
        on = rows[p.on]
        m.segment[on], m.offset_mm[on] = self.pieces.place(p.shape[p.on], p.s_mm[p.on])
        if p.step.any():
            k = p.step
            boarding = (doors[k] == 1) | (before_doors[k] == 1) | ((at_stop[k] == 1) & (before_stop[k] == 1))
            done = self.pieces.rows(s[k], p.shape[k], p.from_s_mm[k], p.s_mm[k], p.from_t_ms[k], c.event_ms[i][k], boarding)
            open_ = (done.window + 1) * WINDOW_MS + self.settings.lateness_ms >= _by(done.who, s[k], c.ingest_ms[i][k])
            self._new_rows.append(Rows(done.window[open_], done.segment[open_], done.who[open_], done.sums[open_]))

    def _shapes(self, trips: list[Trip]) -> I64:
        """Shape of each event's trip; only a trip under way follows one."""
        cache, out, last = self._shape_of, np.empty(len(trips), np.int64), None
        k = -1
        for n, trip in enumerate(trips):
            if trip is not last:
                last = trip
                found = cache.get(trip)
                if found is None:
                    found = self._shape(trip)
                    if len(cache) > 20_000:
                        cache.clear()
                    cache[trip] = found
                k = found
            out[n] = k
        return out

    def _shape(self, trip: Trip) -> int:
        if trip.phase != "ongoing":
            return -1
        return self.network.schedule.shape_of(
            trip_id=trip.trip_id, route_id=trip.route_id, direction_id=trip.direction_id, start_time=trip.start_time
        )

    # -------------------------------------------------------------------- sums

    def flush(self) -> bytes:
        """Partial sums that changed since the last flush, finished health slots, and how far log time has come."""
        fresh = merge(concat(self._new_rows))
        self._new_rows = []
        all_cells = merge(concat([self._cells, fresh])) if len(fresh.who) else self._cells
        changed = _member(all_cells, fresh)
        rows = Rows(all_cells.window[changed], all_cells.segment[changed], all_cells.who[changed], all_cells.sums[changed])
        open_ = (all_cells.window + 1) * WINDOW_MS + self.settings.lateness_ms >= self.log_ms
        self._cells = Rows(all_cells.window[open_], all_cells.segment[open_], all_cells.who[open_], all_cells.sums[open_])
        gone = self.vehicles.forget(self.log_ms, np.unique(self._cells.who))
        self.tracker.reset(np.array(gone, np.int64))
        who, index = np.unique(rows.who, return_inverse=True)
        entities = int((self.vehicles.heard_ms >= self.log_ms - HEARD_MS).sum()) + self.sensors.heard(self.log_ms - HEARD_MS)
        return wire.encode(
            wire.Partial(
                wire.SCHEMA, self.city.name, self.feed.name, self.partition, self.offset, self.log_ms, self.network.version, self.simulated,
                tuple(self.vehicles.ids[s] for s in who),
                rows.window.astype("<i8").tobytes(), rows.segment.astype("<i8").tobytes(), index.astype("<i8").tobytes(),
                rows.sums.astype("<i8").tobytes(), self.sensors.take(), self.meter.rows(self.log_ms, entities),
            )
        )  # fmt: skip

    # ------------------------------------------------------------------- state

    def export(self) -> bytes:
        """The whole state as bytes. Call it right after ``flush``: rows not yet flushed would be lost."""
        if self._new_rows:
            raise RuntimeError("flush before export")
        n = np.arange(len(self.vehicles.ids))
        cells = self._cells
        state = {
            "schema": STATE_SCHEMA, "network": self.network.version, "offset": self.offset, "log_ms": self.log_ms, "simulated": self.simulated,
            "vehicles": self.vehicles.export(), "tracker": self.tracker.export(n), "meter": self.meter.export(), "sensors": self.sensors.export(),
            "tally": {k: getattr(self.tally, k) for k in Tally.__slots__},
            "cells": [a.astype("<i8").tobytes() for a in (cells.window, cells.segment, cells.who, cells.sums)],
        }  # fmt: skip
        return msgspec.msgpack.encode(state)

    def restore(self, data: bytes) -> None:
        """
        Raises:
            ValueError: another schema or another network.
        """
        state: dict[str, Any] = msgspec.msgpack.decode(data, strict=False)
        if state.get("schema") != STATE_SCHEMA or state.get("network") != self.network.version:
            raise ValueError(f"snapshot of schema {state.get('schema')}, network {state.get('network')}")
        self.vehicles.restore(state["vehicles"])
        self.tracker.grow(len(self.vehicles.cursor))
        self.tracker.restore(np.arange(len(self.vehicles.ids)), state["tracker"])
        self.meter.restore(state["meter"])
        self.sensors.restore(state["sensors"])
        self.tally = Tally(**state["tally"])
        w, s, v, sums = (np.frombuffer(b, "<i8") for b in state["cells"])
        self._cells, self._new_rows = Rows(w, s, v, sums.reshape(len(w), -1) if len(w) else concat([]).sums), []
        self.offset, self.log_ms, self.simulated = state["offset"], state["log_ms"], state["simulated"]


@dataclass(slots=True)
class _Match:
    """What became of each kept event of an envelope."""

    verdict: I64
    on: I64
    off_route: I64
    segment: I64
    offset_mm: I64

    @classmethod
    def empty(cls, n: int) -> _Match:
        return cls(np.full(n, -1), np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.full(n, -1), np.zeros(n, np.int64))


def _rounds(slot: I64) -> list[I64]:
    """Indices of the first event of each vehicle, of the second, ...; within a round in the order of the log."""
    if not len(slot):
        return []
    order = np.argsort(slot, kind="stable")
    ordered = slot[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    start = np.maximum.accumulate(np.where(new, np.arange(len(slot)), 0))
    rank = np.empty(len(slot), np.int64)
    rank[order] = np.arange(len(slot)) - start
    if not rank.any():
        return [np.arange(len(slot))]
    by_rank = np.argsort(rank, kind="stable")
    return np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1)


def _course(heading_deg: F64, speed_mps: F64) -> tuple[F64, F64]:
    """Unit vector (east, north) of the course; (0, 0) where unknown, or so slow that the course means nothing."""
    usable = np.isfinite(heading_deg) & ~(speed_mps < 1.5)
    index = np.rint(np.where(usable, heading_deg, 0.0)).astype(np.int64) % 360
    return np.where(usable, _SIN[index], 0.0), np.where(usable, _COS[index], 0.0)


#: Whole degrees, looked up: a sine computed in a vector may differ in the last bit with the vector's length.
_SIN = np.array([float(np.sin(np.float64(d) * np.pi / 180)) for d in range(360)])
_COS = np.array([float(np.cos(np.float64(d) * np.pi / 180)) for d in range(360)])


def _by(who: I64, slots: I64, values: I64) -> I64:
    """Value of each ``who`` from a column over distinct ``slots``."""
    order = np.argsort(slots)
    return values[order[np.searchsorted(slots[order], who)]]


def _member(cells: Rows, fresh: Rows) -> I64:
    """Rows of ``cells`` (sorted, unique) that also are in ``fresh``."""
    if not len(fresh.who):
        return np.empty(0, np.int64)
    both = np.lexsort((np.r_[cells.who, fresh.who], np.r_[cells.segment, fresh.segment], np.r_[cells.window, fresh.window]))
    key = [np.r_[a, b][both] for a, b in ((cells.window, fresh.window), (cells.segment, fresh.segment), (cells.who, fresh.who))]
    same = (key[0][1:] == key[0][:-1]) & (key[1][1:] == key[1][:-1]) & (key[2][1:] == key[2][:-1])
    return np.sort(np.minimum(both[1:][same], both[:-1][same]))
