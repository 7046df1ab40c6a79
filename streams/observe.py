"""Observe: one raw partition in, in order; positions, sensor readings, partial sums and rejects out.

Pure: knows no Kafka, no clock and no files. Everything is decided by the envelopes alone, and an event's fate depends on its own ingest time, so that the
same log cut into other envelopes gives the same finals. What it costs is per envelope; events of one vehicle go through in *rounds* (the first event of each
vehicle, then the second, ...), each round vectorised over vehicles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from connectors.cities import City
from connectors.columns import I64, Parsed, Reject, VehicleColumns
from connectors.envelope import Envelope, Item
from connectors.families import Remembers, parser
from geo.matching import NOT_ON_STREETS
from geo.network import F64, Bool
from geo.track import NEVER, Tracker
from models.records import Situation
from streams import partial as wire
from streams.cells import NEWEST, WINDOW_MS, Rows, added, concat, merge
from streams.choice import BUCKET_MS, FRESH_MS
from streams.clean import impossible
from streams.crews import CrewNotes, LineNotes
from streams.cuts import Part, by_slot, merged, runs
from streams.ground import Ground, Tally
from streams.health import HEARD_MS, SLOT_MS, Meter
from streams.nearly import NearlyThere
from streams.notices import Notices
from streams.outages import Ends, Outages, Reading
from streams.outputs import Outputs
from streams.passages import Passages
from streams.publish import PositionTexts, Where, dead_letters, late_records, positions
from streams.rounds import Match, course, rounds
from streams.routes import Routes
from streams.sameness import heard_names, names
from streams.sensors import Sensors
from streams.sides import Sides
from streams.signals import asks
from streams.stated import Statements
from streams.surroundings import grid_rows, weather_rows
from streams.trips import Trips
from streams.vehicles import DUPLICATE, LATE, NEW, TOO_OLD, Vehicles

#: Version of the state's layout; a snapshot of another one is not used.
STATE_SCHEMA = 11
#: A sender's clock this far ahead of receipt is wrong, though not so wrong as to be refused, milliseconds.
AHEAD_MS = 5_000
_PERIOD = (1 << 40) - 1
#: So much longer than one and a half times speed times time may a way be, metres: noise of two fixes and a corner.
WRONG_WAY_M = 60.0


class Observer:
    """State of one raw partition: vehicles, open windows, dedupe memory."""

    def __init__(self, city: City, feed: str, partition: int, ground: Ground, *, raw_topic: str = "") -> None:
        self.city, self.feed, self.partition = city, city.feed(feed), partition
        self.ground, self.network, self.settings = ground, ground.network, ground.settings
        self.raw_topic = raw_topic or f"raw.{city.raw_city}.{feed}"
        self.parser = parser(self.feed, city)
        self.plane = ground.matching.plane
        self.vehicles = Vehicles()
        self.tracker = Tracker(ground.matching.points, ground.matching.track)
        self.free = ground.matching.free_matcher()
        self.pieces = ground.pieces
        self.nearly = NearlyThere()
        self.outages = Outages(self.settings.track.max_gap_s, self.settings.track.max_speed_mps)
        self.sensors = Sensors(ground)
        self.statements = Statements()
        self.notices = Notices(ground.row_of)
        self.passages = Passages()
        self.trips = Trips()
        self.border = city.border
        self.sides = None if self.border is None else Sides(self.border, connects=city.raw_of is None)
        self.elsewhere = 0  #: events of vehicles beyond the city's border
        #: Positions of a feed that others know better are handed on, not published; and of a feed that knows better it is told whom it heard (streams/choice.py).
        self.secondary = bool(city.better_feeds(feed))
        self.heeded = any(feed in city.better_feeds(f.name) for f in city.feeds)
        self.meter = Meter()
        self.tally = Tally()
        self.log_ms = 0  #: the only "now"
        self.offset = -1  #: of the last envelope in this state
        self.simulated = False
        self._new_rows: list[Rows] = []
        self._crews, self._lines = CrewNotes(), LineNotes()
        self._weather: list[wire.WeatherRow] = []
        self._grid: list[wire.GridRow] = []
        self._held: list[wire.HeldRow] = []
        self._named: set[tuple[str, int]] = set()  #: situations told of, by their names, and the period
        self._heard: list[I64] = []  #: slot and period of ingest time, in one number each
        self._cells = concat([])
        self.routes = Routes(self.network.schedule)
        self.texts = PositionTexts(feed)

    # ------------------------------------------------------------------ feeding

    def feed_envelope(self, envelope: Envelope, offset: int) -> Outputs:
        """Everything that one envelope gives at once. Partial sums wait for ``flush``."""
        return self.feed_envelopes([(envelope, offset)])

    def feed_envelopes(self, batch: Sequence[tuple[Envelope, int]]) -> Outputs:
        """The same for several envelopes in a row, with their offsets. Those of messages are taken together as far as one health slot reaches: the results are
        those of one by one, for less, since most of the cost is per call."""
        out = Outputs()
        for run in runs([part for envelope, offset in batch for part in by_slot(envelope, offset)]):
            self._feed(run, out)
        return out

    def _feed(self, batch: Sequence[Part], out: Outputs) -> None:
        envelope, where = merged(batch)
        self._now(envelope.ingest_ms)
        self.offset = batch[-1].offset
        self.simulated = self.simulated or envelope.simulated
        self.statements.pass_time(self.log_ms, out)
        if envelope.kind == "tick":
            self._hold_situations(out, envelope.ingest_ms)
            self.meter.tick(envelope.ingest_ms, envelope.source)
            return
        parsed = self.parser.parse(envelope)
        self.trips.join(parsed, self.feed, self.log_ms, whole=envelope.kind == "snapshot")
        rejects = list(parsed.rejects)
        duplicates, elsewhere = 0, self.elsewhere + self.sensors.elsewhere + self.statements.elsewhere
        if parsed.vehicles is not None and len(parsed.vehicles):
            duplicates += self._vehicles(parsed.vehicles, where, rejects, out)
        duplicates += self.sensors.feed(parsed, self, rejects, out, where)
        duplicates += self.statements.feed(parsed, self, rejects, stated := Outputs())
        self._weather += weather_rows(stated.records.get("road-weather", ()))
        self._grid += grid_rows(stated.records.get("grid-factor", ()))
        self.notices.read(stated.records.get("situation", ()), self.log_ms)
        out.extend(stated)
        if self.heeded:
            told = (s.record for s in parsed.stated if isinstance(s.record, Situation))
            self._named |= {(name, envelope.ingest_ms // BUCKET_MS) for s in told for name in heard_names(s)}
        self._hold_situations(out, envelope.ingest_ms)
        self._count(envelope, parsed, rejects, duplicates, elsewhere)
        out.add("dead-letter", dead_letters(self, envelope, rejects, where))

    def _hold_situations(self, out: Outputs, ingest_ms: int) -> None:
        """Those of a secondary feed are handed on, as its positions are."""
        if self.secondary:
            for o in out.records.pop("situation", ()):
                key = o.key.decode()
                who = names(msgspec.json.decode(o.value, type=Situation)) if o.value else [f"situation:{key}"]
                self._held.append(wire.HeldRow(key, ingest_ms, o.time_ms, self.offset, o.ce_id, o.value, tuple(who)))

    def undecodable(self, data: bytes | None, reason: str, offset: int, log_ms: int) -> Outputs:
        """A raw message that is no envelope of ours: dead-letter, whole."""
        self.offset = offset
        self._now(log_ms)
        self.tally.events += 1
        self.tally.rejected += 1
        item = Item(log_ms, self.raw_topic, data or b"")
        envelope = Envelope(1, self.city.name, self.feed.name, self.feed.family, "messages", log_ms, (item,))
        out = Outputs()
        out.add(
            "dead-letter",
            dead_letters(self, envelope, [Reject(-1, "bad_envelope", "envelope", reason, "an envelope of schema 1")], Where([0], [offset])),
        )
        return out

    def idle(self, log_ms: int) -> None:
        """The driver knows that nothing with an earlier ingest time can come any more (it is at the end of a silent partition)."""
        self._now(log_ms)

    def _now(self, log_ms: int) -> None:
        """Log time has come so far; health slots that ended before it are closed with what was heard by their end, whenever they are sent."""
        self.log_ms = max(self.log_ms, log_ms)
        for slot in self.meter.ended(self.log_ms):
            since_ms = (slot + 1) * SLOT_MS - HEARD_MS
            heard = int((self.vehicles.heard_ms >= since_ms).sum()) + self.sensors.heard(since_ms) + self.statements.heard(since_ms)
            self.meter.close(slot, heard)

    def _count(self, envelope: Envelope, parsed: Parsed, rejects: list[Reject], duplicates: int, elsewhere: int) -> None:
        events = max(parsed.events, len(rejects))
        self.tally.events += events
        self.tally.rejected += len(rejects)
        self.tally.duplicates += duplicates
        self.tally.passed += sum(parsed.passed.values())
        self.tally.elsewhere += self.elsewhere + self.sensors.elsewhere + self.statements.elsewhere - elsewhere
        self.meter.count(envelope.ingest_ms, len(envelope.items), events, len(rejects), duplicates)

    # ----------------------------------------------------------------- vehicles

    def _vehicles(self, c: VehicleColumns, where: Where, rejects: list[Reject], out: Outputs) -> int:
        """Clean, dedupe, order, match and sum. Returns the number of duplicates."""
        ok, refused = impossible(c, self.city.box, self.settings.clean)
        rejects += refused
        keep = np.flatnonzero(ok)
        if self.sides is not None:
            here = self.sides.mask([c.vehicle_id[i] for i in keep.tolist()], c.lat_deg[keep], c.lon_deg[keep])
            self.elsewhere += int((~here).sum())
            keep = keep[here]
        window = c.event_ms[keep] // WINDOW_MS
        closed = (window + 1) * WINDOW_MS + self.settings.lateness_ms < c.ingest_ms[keep]
        vehicle_id, trips = c.vehicle_id, c.trip
        if len(keep) < len(c):
            kept = keep.tolist()
            vehicle_id, trips = [vehicle_id[i] for i in kept], [trips[i] for i in kept]
        slot, unheard = self.vehicles.slots_of(vehicle_id, c.ingest_ms[keep])
        self.tracker.grow(len(self.vehicles.cursor))
        self._forget(unheard)
        east, north = self.plane.to_plane(c.lat_deg[keep], c.lon_deg[keep])
        m = Match(closed, np.isnan(east))
        m.shape, m.profile, m.counts, m.trip = self.routes.of(trips)
        heading = course(c.heading_deg[keep], c.speed_mps[keep])
        for rows in rounds(slot):
            self._round(c, keep, rows, slot, east, north, heading, m)
        new = m.verdict == NEW
        self._crews.note(c, keep[new], slot[new])
        at_end = m.on[new] & self.pieces.at_end(m.shape[new], m.segment[new], m.offset_m[new])
        self._lines.note(c, keep[new], slot[new], m.trip[new], at_end)
        late = keep[m.verdict == LATE]
        fresh = keep[new | (m.verdict == LATE)]
        self.meter.lag(int(c.ingest_ms[-1]) if len(c) else self.log_ms, c.event_ms[fresh], c.ingest_ms[fresh])
        too_old = keep[m.verdict == TOO_OLD]
        duplicates = int((m.verdict == DUPLICATE).sum())
        written = positions(self, c, keep[new], m.segment[new], m.offset_m[new], m.on[new], m.off_route[new])
        if self.secondary:
            self._held += [
                wire.HeldRow(c.vehicle_id[i], int(c.ingest_ms[i]), o.time_ms, where.of(int(c.index[i]))[0], o.ce_id, o.value)
                for i, o in zip(keep[new].tolist(), written, strict=True)
            ]
        else:
            out.add("vehicle-position", written)
        if self.heeded:
            told = new & np.isfinite(east) & (c.ingest_ms[keep] - c.event_ms[keep] <= FRESH_MS)
            self._heard.append(np.unique((slot[told] << 40) | (c.ingest_ms[keep[told]] // BUCKET_MS)))
        out.add("stop-passage", self.passages.feed(c, keep[new], self))
        out.add("late", late_records(self, c, late, "window_closed", where) + late_records(self, c, too_old, "older_than_memory", where))
        t = self.tally
        t.accepted += int(new.sum())
        t.late += len(late) + len(too_old)
        t.no_position += int((new & np.isnan(east)).sum())
        t.on_shape += int((new & m.on).sum())
        t.matched += int((new & (m.segment >= 0)).sum())
        t.off_route += int((new & m.off_route).sum())
        return duplicates

    def _round(self, c: VehicleColumns, keep: I64, rows: I64, slot: I64, east: F64, north: F64, heading: tuple[F64, F64], m: Match) -> None:
        """One event each of distinct vehicles: remember it, and if it is a newer fix, follow the shape or match freely."""
        i, s = keep[rows], slot[rows]
        verdict = self.vehicles.recall(s, c.event_ms[i], c.event[i])
        verdict[(verdict == NEW) & m.closed[rows]] = LATE  # told for the first time; what a poll repeats stays a duplicate, however old
        m.verdict[rows] = verdict
        last_ms = self.vehicles.last_ms[s]
        self.tally.out_of_order += int((c.event_ms[i] < self.vehicles.previous_ms[s]).sum())
        self.vehicles.previous_ms[s] = c.event_ms[i]
        # One event from a clock ahead must not stop its vehicle until time has caught up: what came before "now" again starts anew.
        ahead = (last_ms > c.ingest_ms[i] + AHEAD_MS) & (c.event_ms[i] <= c.ingest_ms[i] + AHEAD_MS) & (verdict == NEW)
        if ahead.any():
            self._forget(s[ahead].tolist())
            last_ms = np.where(ahead, NEVER, last_ms)
            self.vehicles.last_ms[s[ahead]] = self.vehicles.asked_ms[s[ahead]] = NEVER
        self.vehicles.last_ms[s] = np.maximum(last_ms, c.event_ms[i])
        if c.signal:
            asked = asks(c.event[i]) & (verdict == NEW)
            self.vehicles.asked_ms[s[asked]] = np.maximum(self.vehicles.asked_ms[s[asked]], c.event_ms[i[asked]])
        if m.any_dark:
            dark = (verdict == NEW) & m.dark[rows] & np.isfinite(c.odometer_m[i])
            self._read(c, i[dark], s[dark])
        new = (verdict == NEW) & ~m.dark[rows] & (m.profile[rows] != NOT_ON_STREETS)
        after = c.event_ms[i] > last_ms
        self._locate(c, rows[new & ~after], i[new & ~after], s[new & ~after], east, north, m)
        rows, i, s = rows[new & after], i[new & after], s[new & after]
        if not rows.size:
            return
        event_ms, ingest_ms = c.event_ms[i], c.ingest_ms[i]
        before_doors, before_stop = self.vehicles.doors[s], self.vehicles.at_stop[s]
        doors = np.where(c.doors_open[i] >= 0, c.doors_open[i], before_doors)
        at_stop = c.at_stop[i]
        boarding = (doors == 1) | (before_doors == 1) | ((at_stop == 1) & (before_stop == 1))
        arrived = (doors == 1) | ((before_doors != 1) & (at_stop == 1))
        self.vehicles.doors[s], self.vehicles.at_stop[s] = doors, at_stop
        ends = None
        if self.outages.readings:
            ends = Ends((self.tracker.odometer_m[s], c.odometer_m[i]), (before_doors, doors), (before_stop, at_stop))
        other = m.trip[rows] != self.vehicles.trip[s]
        self.vehicles.asked_ms[s[other]] = NEVER
        self.tracker.reset(s[other])  # another trip begins where it begins, also on the same shape
        self.vehicles.trip[s] = m.trip[rows]
        before_mps, self.vehicles.speed_mps[s] = self.vehicles.speed_mps[s], c.speed_mps[i]
        p = self.tracker.step(
            s, m.shape[rows], event_ms, east[rows], north[rows], (heading[0][rows], heading[1][rows]), c.speed_mps[i], c.odometer_m[i]
        )
        m.on[rows], m.off_route[rows] = p.on, p.off_route
        if p.on.any():
            on, near = rows[p.on], self.vehicles.piece
            near[s[p.on]] = piece = self.pieces.find(p.shape[p.on], p.s_mm[p.on], near[s[p.on]])
            segment, offset_mm = self.pieces.place(p.shape[p.on], p.s_mm[p.on], piece)
            m.segment[on], m.offset_m[on] = segment, offset_mm / 1000.0
            far = p.on & (p.apart_m > self.settings.track.join_m) & (m.segment[rows] >= 0)
            if far.any():
                self.nearly.kept(event_ms[far], m.segment[rows[far]], p.apart_m[far])
            for k in s[p.on & self.vehicles.unshaped[s]].tolist():
                self.free.clear(k)
            self.vehicles.unshaped[s[p.on]] = False
            k = p.step & m.counts[rows]
            if k.any():
                red = self._red(s[k], p.shape[k], p.from_s_mm[k], event_ms[k], m.segment[rows[k]], m.offset_m[rows[k]])
                if red is not None:  # doors have the last word
                    red &= (doors[k] == 0) & (before_doors[k] == 0)
                    boarding[k] &= ~red
                steps = (s[k], p.shape[k], p.from_s_mm[k], p.s_mm[k], p.from_t_ms[k], event_ms[k], boarding[k], arrived[k], red)
                if ends is not None:
                    steps = self.outages.cut_steps(*steps, ends.of(k))
                self._keep_open(self.pieces.rows(*steps, guess=near[steps[0]]), s[k], ingest_ms[k])
            if ends is not None:
                self.outages.forget(s[p.on])
        off = np.flatnonzero(~p.on)
        if off.size:
            ends = None if ends is None else ends.of(off)
            self._match_freely(c, rows[off], i[off], s[off], east, north, boarding[off], before_mps[off], p.apart_m[off], ends, m)

    def _read(self, c: VehicleColumns, i: I64, s: I64) -> None:
        """Odometers of vehicles that have lost their position."""
        tracked_ms = np.where(self.tracker.shape[s] >= 0, self.tracker.t_ms[s], NEVER)
        fix_ms = np.maximum(tracked_ms, self.free.last(s)[0]).tolist()
        told = zip(c.event_ms[i].tolist(), c.odometer_m[i].tolist(), c.doors_open[i].tolist(), c.at_stop[i].tolist(), strict=True)
        for slot, since_ms, what in zip(s.tolist(), fix_ms, told, strict=True):
            self.outages.note(slot, since_ms, Reading(*what))

    def _red(self, s: I64, shape: I64, from_s_mm: I64, event_ms: I64, segment: I64, offset_m: F64) -> Bool | None:
        """Of steps along shapes, those whose vehicle waits for signals if it stands; None: nobody asked. Who has passed the signals asks no more."""
        asked_ms = self.vehicles.asked_ms[s]
        if (asked_ms == NEVER).all():
            return None
        signals, (before, _) = self.ground.signals, self.pieces.place(shape, from_s_mm)
        asked_ms[signals.passed(before, segment)] = NEVER
        self.vehicles.asked_ms[s] = asked_ms
        return signals.wait(asked_ms, event_ms, segment, offset_m)

    def _locate(self, c: VehicleColumns, rows: I64, i: I64, s: I64, east: F64, north: F64, m: Match) -> None:
        """Fixes that a newer one has overtaken: placed, but nothing moves."""
        if not rows.size:
            return
        on, s_mm = self.tracker.locate(s, m.shape[rows], c.event_ms[i], east[rows], north[rows])
        segment, offset_mm = self.pieces.place(m.shape[rows[on]], s_mm[on])
        m.on[rows[on]], m.segment[rows[on]], m.offset_m[rows[on]] = True, segment, offset_mm / 1000.0
        free = self.vehicles.unshaped[s] & ~on
        if free.any():
            rows, i, s = rows[free], i[free], s[free]
            step = self.free.step(
                s, c.event_ms[i], east[rows], north[rows], c.heading_deg[i], c.speed_mps[i], m.profile[rows], c.odometer_m[i]
            )
            m.segment[rows], m.offset_m[rows] = step.segment, np.where(step.segment >= 0, step.offset_m, 0.0)

    def _match_freely(
        self,
        c: VehicleColumns,
        rows: I64,
        i: I64,
        s: I64,
        east: F64,
        north: F64,
        boarding: Bool,
        before_mps: F64,
        apart_m: F64,
        ends: Ends | None,
        m: Match,
    ) -> None:
        """Vehicles without a shape, or that have left it."""
        self.vehicles.unshaped[s] = True
        if ends is not None:
            ends = ends._replace(odometer_m=(self.free.last(s)[1], c.odometer_m[i]))
        step = self.free.step(s, c.event_ms[i], east[rows], north[rows], c.heading_deg[i], c.speed_mps[i], m.profile[rows], c.odometer_m[i])
        m.segment[rows], m.offset_m[rows] = step.segment, np.where(step.segment >= 0, step.offset_m, 0.0)
        if len(step.nearly.fix):
            self.nearly.note(c.event_ms[i], step.segment, step.distance_m, step.nearly)
        left = np.isfinite(apart_m) & (step.segment >= 0)
        if left.any():
            self.nearly.off_line(c.event_ms[i[left]], step.segment[left], step.distance_m[left], apart_m[left])
        t = step.traversals
        if len(t.slot):
            order = np.argsort(s)
            row = order[np.searchsorted(s[order], t.slot)]
            dist = np.maximum(np.rint(t.to_offset_m * 1000).astype(np.int64) - np.rint(t.from_offset_m * 1000).astype(np.int64), 0)
            # A way much longer than the speed that the vehicle tells is a mistaken one: its time and distance are nobody's.
            driven, seconds = np.zeros(len(s)), np.zeros(len(s))
            np.add.at(driven, row, dist / 1000.0)
            np.add.at(seconds, row, (t.t1_ms - t.t0_ms) / 1000.0)
            fastest = np.fmax(before_mps, c.speed_mps[i])
            possible = driven <= np.where(np.isnan(fastest), self.settings.track.max_speed_mps, 1.5 * fastest) * seconds + WRONG_WAY_M
            k = (m.counts[rows] & possible)[row]
            driven_so = (t.slot[k], t.segment[k], dist[k], t.t0_ms[k], t.t1_ms[k], boarding[row][k])
            if ends is not None:
                driven_so = self.outages.cut_traversals(row[k], *driven_so, ends)
            self._keep_open(self.pieces.free_rows(*driven_so), s, c.ingest_ms[i])
        if ends is not None:  # who may yet go on along its shape needs what it read since
            self.outages.forget(s[self.tracker.shape[s] < 0])

    def _keep_open(self, sums: Rows, slots: I64, ingest_ms: I64) -> None:
        """Keep the contributions whose window was still open when their event was received."""
        received_ms = np.empty(len(self.vehicles.cursor), np.int64)
        received_ms[slots] = ingest_ms
        open_ = (sums.window + 1) * WINDOW_MS + self.settings.lateness_ms >= received_ms[sums.who]
        self._new_rows.append(Rows(sums.window[open_], sums.segment[open_], sums.who[open_], sums.sums[open_]))

    # -------------------------------------------------------------------- sums

    def flush(self) -> bytes:
        """Partial sums that changed since the last flush, finished health slots, and how far log time has come."""
        fresh = merge(concat(self._new_rows))
        self._new_rows = []
        heard = np.unique(np.concatenate(self._heard)).tolist() if self._heard else []
        held, self._held, self._heard = self._held, [], []
        ids = self.vehicles.ids
        told = tuple(wire.HeardRow(ids[h >> 40], h & _PERIOD) for h in heard) + tuple(wire.HeardRow(*n) for n in sorted(self._named))
        self._named = set()
        weather, self._weather, grid, self._grid = tuple(self._weather), [], tuple(self._grid), []
        all_cells, changed = added(self._cells, fresh)
        rows = Rows(all_cells.window[changed], all_cells.segment[changed], all_cells.who[changed], all_cells.sums[changed])
        open_ = (all_cells.window + 1) * WINDOW_MS + self.settings.lateness_ms >= self.log_ms
        self._cells = Rows(all_cells.window[open_], all_cells.segment[open_], all_cells.who[open_], all_cells.sums[open_])
        self._forget(self.vehicles.forget(self.log_ms, self._cells.who))
        who, index = np.unique(rows.who, return_inverse=True)
        return wire.encode(
            wire.Partial(
                wire.SCHEMA, self.city.name, self.feed.name, self.partition, self.offset, self.log_ms, self.network.version, self.simulated,
                tuple(self.vehicles.ids[s] for s in who),
                rows.window.astype("<i8").tobytes(), rows.segment.astype("<i8").tobytes(), index.astype("<i8").tobytes(),
                rows.sums.astype("<i8").tobytes(), self.sensors.take(), self.meter.take(), self._crews.take(), weather, self._lines.take(), grid, told, wire.hold(held), self.notices.take(self.log_ms),
                self.nearly.take(self.log_ms, self.settings.lateness_ms),
            )
        )  # fmt: skip

    def _forget(self, slots: list[int]) -> None:
        self.tracker.forget(np.array(slots, np.int64))
        self.outages.forget(np.array(slots, np.int64))
        for k in slots:
            self.free.clear(k)

    def resend(self) -> None:
        """The next ``flush`` tells of all open cells, also of those that did not change."""
        c = self._cells
        nothing_more = np.zeros_like(c.sums)
        nothing_more[:, NEWEST] = c.sums[:, NEWEST]
        self._new_rows.append(Rows(c.window, c.segment, c.who, nothing_more))
        self.notices.resend()
        self.nearly.resend()

    # ------------------------------------------------------------------- state

    def export(self) -> bytes:
        """The whole state as bytes. Call it right after ``flush``: rows not yet flushed would be lost."""
        if self._new_rows or self._held or self._heard or self._named:
            raise RuntimeError("flush before export")
        n = np.arange(len(self.vehicles.ids))
        cells = self._cells
        state = {
            "schema": STATE_SCHEMA, "network": self.network.version, "offset": self.offset, "log_ms": self.log_ms, "simulated": self.simulated,
            "vehicles": self.vehicles.export(), "tracker": self.tracker.export(n), "free": {int(k): self.free.export(int(k)) for k in np.flatnonzero(self.vehicles.unshaped[: len(n)])},
            "meter": self.meter.export(), "sensors": self.sensors.export(), "crews": self._crews.export(), "lines": self._lines.export(), "statements": self.statements.export(), "notices": self.notices.export(), "passages": self.passages.export(), "trips": self.trips.export(), "outages": self.outages.export(), "nearly": self.nearly.export(),
            "sides": {} if self.sides is None else self.sides.export(),
            "tally": {k: getattr(self.tally, k) for k in Tally.__slots__},
            "cells": [a.astype("<i8").tobytes() for a in (cells.window, cells.segment, cells.who, cells.sums)],
            "parser": self.parser.export() if isinstance(self.parser, Remembers) else None,
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
        for k, one in state["free"].items():
            self.free.restore(int(k), one)
        self.meter.restore(state["meter"])
        self.sensors.restore(state["sensors"])
        self.statements.restore(state["statements"])
        self.notices.restore(state["notices"])
        self._crews.restore(state["crews"])
        self._lines.restore(state["lines"])
        self.passages.restore(state.get("passages", []))
        self.trips.restore(state.get("trips", {}))
        self.outages.restore(state["outages"])
        self.nearly.restore(state["nearly"])
        if self.sides is not None:
            self.sides.restore(state.get("sides", {}))
        if isinstance(self.parser, Remembers) and state.get("parser") is not None:
            self.parser.restore(state["parser"])
        self.tally = Tally(**state["tally"])
        w, s, v, sums = (np.frombuffer(b, "<i8") for b in state["cells"])
        self._held, self._heard, self._named = [], [], set()
        self._cells, self._new_rows = Rows(w, s, v, sums.reshape(len(w), -1) if len(w) else concat([]).sums), []
        self.offset, self.log_ms, self.simulated = state["offset"], state["log_ms"], state["simulated"]
