"""Fuse: partial sums of all raw partitions of a city in; the state of every street segment and the health of every feed out.

Pure, like observe. A window becomes final when the log time of every raw partition has passed its end plus the allowed lateness; its content then is a function
of the raw log alone: cells are merged by maximum (they are cumulative and never fall), so the order in which partials arrive changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from connectors.cities import City
from geo.network import F64, I64, Bool, Network
from geo.streets import streets
from models.freeflow import free_flow
from models.fusion import Estimate, Estimator, FusionSettings, WindowSums
from models.loops import Minutes
from models.profile import Profile, Usual
from models.records import encode
from streams.cells import N_SUMS, WINDOW_MS
from streams.choice import Choice
from streams.city_days import CityDays
from streams.emissions import EmissionSettings, Emitter, Seen
from streams.evidence import evidence
from streams.explain import evidence_of
from streams.health import SLOT_MS, Judge
from streams.incidents import Incidents, shut
from streams.lines import Lines, Ridden
from streams.nearly import nearly_rows
from streams.outputs import Out, Outputs
from streams.partial import HealthRow, Partial, SensorRow
from streams.states import Columns, States
from streams.windows import Window

STATE_SCHEMA = 12


@dataclass(frozen=True, slots=True)
class FuseSettings:
    """All parameters of the fuse step."""

    #: Must equal the observers' lateness, milliseconds.
    lateness_ms: int = 90_000
    #: Least log time between two provisional rounds, milliseconds. Halving it doubles the provisional records.
    provisional_ms: int = 3_000
    #: Every segment's record is repeated once in so many windows, a part of them in each, so that a new reader has the whole picture after so many minutes.
    heartbeat_windows: int = 5
    #: A final record is published when the speed differs by more than this share from the one last published, observed or not.
    change: float = 0.1
    #: Whether the evidence of final minutes is written too, for explanations (``streams/explain.py``). A worker does; a replay into files does not.
    evidence: bool = False
    fusion: FusionSettings = field(default_factory=FusionSettings)
    emissions: EmissionSettings = field(default_factory=EmissionSettings)


class Fuser:
    """State of one city: open windows, the estimator, feed health."""

    def __init__(self, city: City, network: Network, settings: FuseSettings | None = None, profile: Profile | None = None) -> None:
        self.city, self.network = city, network
        self.settings = cfg = settings or FuseSettings()
        s = network.segments
        self.free_flow_kmh, self.free_flow_method = free_flow(s.speed_limit_kmh, s.road_class)
        self.estimator = Estimator(streets(network), WINDOW_MS / 1000, cfg.fusion)
        known = self.estimator.streets
        self.emitter = Emitter(city, network, self.free_flow_kmh.copy(), known.expected_kmh, cfg.emissions, known.block)
        self.lines = Lines(network)
        self.days = CityDays(city.name, city.timezone)
        self.incidents = Incidents(network, known, cfg.lateness_ms)
        self.usual = None if profile is None else Usual(profile, s.segment_id)
        self._learned = False  #: whether free-flow speeds of the profile stand
        self.states = States(s, self.free_flow_kmh, self.free_flow_method)
        self.minutes = Minutes()
        self._blocks: dict[int, I64] = {}  #: segments that the same vehicles drive as one with a site; found when first asked for
        self.constants: dict[int, float] = {}  #: free-flow speed of segments that a site knows it of, km/h
        self.published_kmh: F64 = np.full(len(s), np.nan)  #: of the last final record of each segment
        self.published_origin: I64 = np.full(len(s), -1)
        self.published_closed: Bool = np.zeros(len(s), np.bool_)
        self.expected = {(f.name, p) for f in city.feeds for p in range(f.partitions)}
        self.choice = Choice(city)
        self.rank = {f.name: r for r, f in enumerate(sorted(city.feeds, key=lambda f: f.secondary_to is not None))}
        self.watermark: dict[tuple[str, int], int] = {}
        self.windows: dict[int, Window] = {}
        self.next_window: int | None = None  #: first that is not final
        self.vehicle: dict[str, int] = {}
        self.judges = {f.name: Judge(f.name, f.cadence_s) for f in city.feeds}
        self.health: dict[int, dict[tuple[str, int], HealthRow]] = {}
        self.next_slot: int | None = None
        self.worth: dict[int, dict[str, float]] = {}  #: slot -> feeds whose evidence counts for less, of slots that open windows end with
        self.site_feed: dict[str, str] = {}  #: who tells of a site
        self.last_provisional_ms = 0
        self.offset = -1
        self.simulated = profile is not None and profile.simulated
        self.late_rows = 0
        self.doubled = 0  #: cells of a vehicle that a better feed told too

    @property
    def log_ms(self) -> int:
        """Log time of the raw partition that is farthest."""
        return max(self.watermark.values(), default=0)

    def feed(self, partial: Partial, offset: int) -> Outputs:
        """
        Raises:
            ValueError: the partial's segment numbers belong to another network.
        """
        if partial.network != self.network.version:
            raise ValueError(
                f"partials of network {partial.network}, this one is {self.network.version}: build and roll out one network first"
            )
        self.offset = offset
        self.simulated = self.simulated or partial.simulated
        source = (partial.feed, partial.partition)
        self.watermark[source] = max(partial.watermark_ms, self.watermark.get(source, 0))
        self._store(partial)
        for h in partial.health:
            if self.next_slot is None or h.slot >= self.next_slot:
                self.health.setdefault(h.slot, {})[source] = h
        self.choice.take(partial)
        out = Outputs()
        out.add("vehicle-position", self.choice.decide(self.watermark, SLOT_MS))
        out.add("situation", self.choice.decide_situations(self.watermark))
        complete_ms = min((self.watermark.get(s, 0) for s in self.expected), default=0)
        self._close_slots(complete_ms, out)
        self._close_windows(complete_ms, out)
        if self.log_ms - self.last_provisional_ms >= self.settings.provisional_ms:
            self.last_provisional_ms = self.log_ms
            self._provisional(out)
        return out

    # ------------------------------------------------------------------ storing

    def _store(self, partial: Partial) -> None:
        rows = partial.rows()
        if len(rows.window):
            known = self.vehicle
            ids = np.array([known.setdefault(v, len(known)) for v in partial.vehicles], np.int64)
            who, rank = ids[rows.who], self.rank[partial.feed]
            for w in np.unique(rows.window).tolist():
                if self.next_window is not None and w < self.next_window:
                    self.late_rows += int((rows.window == w).sum())
                    continue
                at = rows.window == w
                window = self.windows.setdefault(w, Window())
                window.rows.append((rank, rows.segment[at], who[at], rows.sums[at]))
                window.dirty = True
        if self.settings.evidence and partial.nearly:
            self._store_nearly(partial)
        self.emitter.hear(partial, self.next_window or 0)
        self.incidents.hear(partial.notices)
        self.lines.hear(partial.lines, self.rank[partial.feed], self.next_window or 0)
        for s in partial.sensors:
            w = (s.window_end_ms - 1) // WINDOW_MS
            if self.next_window is not None and w < self.next_window:
                self.late_rows += 1
                continue
            window = self.windows.setdefault(w, Window())
            key = f"{s.site_id}:{s.direction}"
            old = window.sensors.get(key)
            if old is None or (s.window_end_ms, s.flow_vph is not None, s.speed_kmh is not None) >= (
                old.window_end_ms,
                old.flow_vph is not None,
                old.speed_kmh is not None,
            ):
                window.sensors[key] = s
                window.dirty = True
                self.site_feed[key] = partial.feed

    def _store_nearly(self, partial: Partial) -> None:
        for w, segment, other, *sums in nearly_rows(partial.nearly).tolist():
            if self.next_window is None or w >= self.next_window:
                mine = self.windows.setdefault(w, Window()).nearly
                key = (partial.feed, partial.partition, segment, other)
                mine[key] = max(mine.get(key, sums), sums)

    def _cells(self, window: Window) -> tuple[I64, I64, I64]:
        """Segment, vehicle and sums of a window: one row a cell, of the best feed that told of the vehicle. Merges what was stored."""
        return self._best(self._told(window))

    def _best(self, told: tuple[I64, I64, I64, I64, Bool]) -> tuple[I64, I64, I64]:
        _, segment, who, sums, keep = told
        self.doubled += int((~keep).sum())
        return segment[keep], who[keep], sums[keep]

    def _told(self, window: Window) -> tuple[I64, I64, I64, I64, Bool]:
        """Feed rank, segment, vehicle and sums of every cell that was told of, by segment, and whether its feed is the best that told of its vehicle."""
        if not window.rows:
            none = np.empty(0, np.int64)
            return none, none, none, np.empty((0, N_SUMS), np.int64), np.empty(0, np.bool_)
        rank = np.concatenate([np.full(len(r[1]), r[0]) for r in window.rows])
        segment, who, sums = (np.concatenate([r[k] for r in window.rows]) for k in (1, 2, 3))
        order = np.lexsort((rank, who, segment))
        rank, segment, who, sums = rank[order], segment[order], who[order], sums[order]
        new = np.flatnonzero(np.r_[True, (segment[1:] != segment[:-1]) | (who[1:] != who[:-1]) | (rank[1:] != rank[:-1])])
        sums = np.maximum.reduceat(sums, new, axis=0)
        rank, segment, who = rank[new], segment[new], who[new]
        window.rows = [(int(r), segment[rank == r], who[rank == r], sums[rank == r]) for r in np.unique(rank)]
        best = np.full(int(who.max()) + 1, 1 << 30)
        np.minimum.at(best, who, rank)
        return rank, segment, who, sums, rank == best[who]

    def _sick(self, w: int) -> dict[str, float]:
        """Feeds of which a window's evidence counts for less than all, and for how much."""
        return self.worth.get(min((w + 1) * WINDOW_MS // SLOT_MS, self.next_slot or 0) - 1, {})

    def _sums(self, w: int, window: Window, cells: tuple[I64, I64, I64]) -> WindowSums:
        """What the window tells the estimator. What a feed told counts as the health of the feed was at the window's end, or is now if that is to come."""
        segment, who, sums = cells
        readings = sorted(window.sensors.items())
        sick = self._sick(w)
        worth, sites = None, {}
        if sick:
            best = np.full(len(self.vehicle) + 1, 1 << 30)
            for rank, _, vehicle, _ in window.rows:
                best[vehicle] = np.minimum(best[vehicle], rank)
            worth = np.ones(len(who))
            for feed, share in sick.items():
                worth[best[who] == self.rank[feed]] = share
            sites = {(r.site_id, r.direction): sick.get(self.site_feed.get(k, ""), 1.0) for k, r in readings}
        return evidence(segment, sums, [r for _, r in readings], worth, sites)

    # ------------------------------------------------------------------ closing

    def _close_windows(self, complete_ms: int, out: Outputs) -> None:
        last = (complete_ms - self.settings.lateness_ms - 1) // WINDOW_MS - 1  # the newest w with (w + 1) * W + lateness < complete
        if self.next_window is None:
            if not self.windows or min(self.windows) > last:
                return
            self.next_window = min(self.windows)
        while self.next_window <= last:
            w = self.next_window
            window = self.windows.pop(w, None) or Window()
            told = self._told(window)
            cells = self._best(told)
            sums = self._sums(w, window, cells)
            self._expect(w)
            estimate = self.estimator.advance(sums)
            out.add("situation", self.incidents.final(w, sums, estimate.speed_kmh, simulated=self.simulated))
            closed = self.incidents.closed(w)
            shut(estimate, closed)
            self._constants(window)
            rows = self._worth(w, estimate, sums, closed)
            seen = self._seen(w, np.arange(len(self.network.segments)), estimate, sums, cells, window, final=True)
            minute = self.emitter.final(w, seen)  # first: it knows the flow
            out.add("segment-state", self._records(w, rows, rows, estimate, sums, window, self.estimator.newest_ms, closed, final=True))
            if self.settings.evidence:
                feeds = sorted(self.rank, key=self.rank.__getitem__)
                out.add(
                    "evidence",
                    evidence_of(
                        self.city.name,
                        self.network,
                        w,
                        rows,
                        estimate,
                        self.estimator,
                        told,
                        list(self.vehicle),
                        feeds,
                        window.sensors,
                        closed,
                        self._sick(w),
                        self.site_feed,
                        window.nearly,
                        simulated=self.simulated,
                    ),
                )
            minute.add("line-fluency", self.lines.final(w, self._ridden(cells), seen.revision, simulated=self.simulated))
            self.days.final(w, minute)
            out.extend(minute)
            self.next_window = w + 1
            self.worth = {k: v for k, v in self.worth.items() if (k + 1) * SLOT_MS > self.next_window * WINDOW_MS}
        if not self.windows:
            self.vehicle.clear()

    def _provisional(self, out: Outputs) -> None:
        """The windows that changed, as they stand, and of them the segments of which there is something new to say; at most the two newest windows, since older ones
        are nearly done."""
        for w in sorted(self.windows)[-2:]:
            window, due = self.windows[w], self.emitter.due(w, self.log_ms)
            if not (window.dirty or due) or w * WINDOW_MS > self.log_ms:
                continue
            window.dirty = False
            cells = self._cells(window)
            sums = self._sums(w, window, cells)
            if sums.empty:
                continue
            self._expect(w)
            rows, estimate = self.estimator.peek(sums)
            closed = self.incidents.closed(w)
            shut(estimate, closed[rows])
            newest = self.estimator.newest_ms.copy()
            newest[sums.segment] = sums.newest_ms
            out.add("segment-state", self._records(w, rows, np.arange(len(rows)), estimate, sums, window, newest, closed, final=False))
            if due:
                seen = self._seen(w, rows, estimate, sums, cells, window, final=False)
                out.extend(self.emitter.provisional(w, seen))
                so_far = [(k, self._ridden(self._cells(self.windows[k]))) for k in sorted(self.windows) if k < w]
                out.add(
                    "line-fluency", self.lines.provisional([*so_far, (w, self._ridden(cells))], seen.revision, simulated=self.simulated)
                )

    def _close_slots(self, complete_ms: int, out: Outputs) -> None:
        last = complete_ms // SLOT_MS - 1
        if self.next_slot is None:
            if not self.health or min(self.health) > last:  # as with windows: another partition may yet tell of an earlier one
                return
            self.next_slot = min(self.health)
        while self.next_slot <= last:
            rows = self.health.pop(self.next_slot, {})
            end_ms = (self.next_slot + 1) * SLOT_MS
            for name, judge in self.judges.items():
                mine = [rows[k] for k in sorted(rows) if k[0] == name]
                share = self.choice.share(name, self.next_slot)
                record = judge.close(self.next_slot, [r for r in mine if r.ticks or r.messages], share, simulated=self.simulated)
                if judge.worth < 1.0:
                    self.worth.setdefault(self.next_slot, {})[name] = judge.worth
                out.add("feed-health", [Out(name.encode(), encode(record), end_ms, f"feed-health:{name}:{end_ms}")])
            self.next_slot += 1
        if self.next_window is None and not self.windows:  # nothing will ask for old ones
            self.worth = {k: v for k, v in self.worth.items() if k >= self.next_slot - WINDOW_MS // SLOT_MS}

    # ---------------------------------------------------------------- publishing

    def _expect(self, w: int) -> None:
        """What the profile, while it is valid, knows of the window: what is usual, and what streets are like without traffic."""
        if self.usual is None:
            return
        valid = self.usual.valid(w * WINDOW_MS)
        self.estimator.expect(self.usual.at(w * WINDOW_MS) if valid else None)
        if valid != self._learned:
            self._learned = valid
            self.states.profile = self.usual.profile if valid else None
            for k, kmh in zip(*(x.tolist() for x in self.usual.free_flow()), strict=True):
                if k not in self.constants:
                    self._know(k, *((kmh, "observed_p85") if valid else (float(self.free_flow_kmh[k]), self.free_flow_method[k])))

    def _know(self, row: int, kmh: float, method: str) -> None:
        """The free-flow speed of a segment, from now on."""
        self.states.know_free_flow(row, kmh, method)
        self.emitter.free_flow_kmh[row] = kmh

    def _constants(self, window: Window) -> None:
        """Free-flow speeds that sites know of their own street stand for what its limit suggests."""
        for _, r in sorted(window.sensors.items()):
            if r.segment >= 0 and r.free_flow_kmh is not None and r.free_flow_kmh > 0 and self.constants.get(r.segment) != r.free_flow_kmh:
                self.constants[r.segment] = r.free_flow_kmh
                self._know(r.segment, r.free_flow_kmh, "sensor_constant")

    def _worth(self, w: int, e: Estimate, sums: WindowSums, closed: Bool) -> I64:
        """Segments whose final record is published: what was observed, what has changed since it was last said, and each one in its turn."""
        cfg = self.settings
        said, is_said = self.published_kmh, np.isfinite(self.published_kmh)
        now = np.isfinite(e.speed_kmh)
        with np.errstate(invalid="ignore"):
            moved = np.abs(e.speed_kmh - said) > cfg.change * said
        due = (np.arange(len(said)) + w) % cfg.heartbeat_windows == 0
        worth = due | (now != is_said) | (now & is_said & moved) | (e.origin != self.published_origin) | (closed != self.published_closed)
        worth[sums.segment] = True
        worth[sums.loop_segment] = True
        rows = np.flatnonzero(worth)
        self.published_kmh[rows], self.published_origin[rows], self.published_closed[rows] = e.speed_kmh[rows], e.origin[rows], closed[rows]
        return rows

    def _records(
        self, w: int, rows: I64, at: I64, e: Estimate, sums: WindowSums, window: Window, newest_ms: I64, closed: Bool, *, final: bool
    ) -> Sequence[Out]:
        """``segment-state`` of the segments ``rows``, whose estimates stand at ``at`` in ``e``."""
        if not len(rows):
            return []
        start_ms, end_ms = w * WINDOW_MS, (w + 1) * WINDOW_MS
        revision = self._revision(w, final=final)
        n = len(self.network.segments)
        vehicles, flow, source = np.zeros(n, np.int64), self.emitter.flow_vph.copy(), self.emitter.flow_source.copy()
        vehicles[sums.segment] = sums.vehicles
        counted: dict[int, list[float]] = {}
        for key, r in sorted(window.sensors.items()):
            if r.segment >= 0 and r.flow_vph is not None:
                now = self.minutes.feed(key, r.window_end_ms, r.window_ms, r.flow_vph) if final else r.flow_vph
                counted.setdefault(r.segment, []).append(now)
        for k, values in counted.items():
            whole = self._blocks.get(k)
            if whole is None:
                whole = self._blocks[k] = np.flatnonzero(self.estimator.streets.block == self.estimator.streets.block[k])
            flow[whole], source[whole] = sum(values) / len(values), 0
        columns = Columns(rows, at, newest_ms[rows], vehicles[rows], flow[rows], source[rows], closed[rows])
        if not final:
            columns = columns.of(window.news(e, columns))
        return self.states.records(start_ms, end_ms, revision, e, columns, final=final, simulated=self.simulated)

    def _revision(self, w: int, *, final: bool) -> int:
        """Seconds of log time since the window began; the final one is above all."""
        start_ms, end_ms = w * WINDOW_MS, (w + 1) * WINDOW_MS
        if final:
            return (WINDOW_MS + self.settings.lateness_ms) // 1000 + 1
        return max(0, min(self.log_ms, end_ms + self.settings.lateness_ms) - start_ms) // 1000

    def _seen(self, w: int, rows: I64, e: Estimate, sums: WindowSums, cells: tuple[I64, I64, I64], window: Window, *, final: bool) -> Seen:
        """The same for the emission step."""
        observed = np.union1d(sums.segment, sums.loop_segment)
        return Seen(rows, e, observed, *cells, list(self.vehicle), window.sensors, self._revision(w, final=final), self.simulated)

    def _ridden(self, cells: tuple[I64, I64, I64]) -> Ridden:
        """The same for lines."""
        return Ridden(*cells, list(self.vehicle))

    # --------------------------------------------------------------------- state

    def export(self) -> bytes:
        """The whole state as bytes."""
        names = {k: v for v, k in self.vehicle.items()}
        windows = {
            w: {
                "rows": [[r, s.astype("<i8").tobytes(), v.astype("<i8").tobytes(), x.astype("<i8").tobytes()] for r, s, v, x in win.rows],
                "sensors": list(win.sensors.values()),
                "dirty": win.dirty,
                "nearly": [[*key, *sums] for key, sums in sorted(win.nearly.items())],
            }
            for w, win in self.windows.items()
        }
        state = {
            "schema": STATE_SCHEMA, "network": self.network.version, "offset": self.offset, "simulated": self.simulated,
            "watermark": [[f, p, t] for (f, p), t in sorted(self.watermark.items())], "windows": windows, "next_window": self.next_window,
            "vehicles": [names[k] for k in range(len(names))], "judges": {n: j.export() for n, j in self.judges.items()},
            "health": {slot: [[f, p, h] for (f, p), h in sorted(rows.items())] for slot, rows in self.health.items()},
            "next_slot": self.next_slot, "last_provisional_ms": self.last_provisional_ms, "late_rows": self.late_rows, "doubled": self.doubled, "choice": self.choice.export(), "worth": self.worth, "site_feed": sorted(self.site_feed.items()),
            "estimator": self.estimator.export(), "emitter": self.emitter.export(), "lines": self.lines.export(), "days": self.days.export(), "incidents": self.incidents.export(), "constants": sorted(self.constants.items()), "minutes": self.minutes.state, "published_kmh": self.published_kmh.tobytes(), "published_origin": self.published_origin.tobytes(), "published_closed": self.published_closed.tobytes(),
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
        self.offset, self.simulated = state["offset"], self.simulated or state["simulated"]
        self.watermark = {(f, p): t for f, p, t in state["watermark"]}
        self.windows = {}
        for w, win in state["windows"].items():
            rows = [
                (int(r), np.frombuffer(s, "<i8"), np.frombuffer(v, "<i8"), np.frombuffer(x, "<i8").reshape(-1, N_SUMS))
                for r, s, v, x in win["rows"]
            ]
            sensors = [msgspec.convert(x, SensorRow) for x in win["sensors"]]
            nearly = {(f, p, s, o): sums for f, p, s, o, *sums in win["nearly"]}
            self.windows[int(w)] = Window(rows, {f"{x.site_id}:{x.direction}": x for x in sensors}, nearly, win["dirty"])
        self.next_window, self.next_slot = state["next_window"], state["next_slot"]
        self.vehicle = {v: k for k, v in enumerate(state["vehicles"])}
        for n, j in state["judges"].items():
            self.judges[n].restore(j)
        self.health = {int(slot): {(f, p): msgspec.convert(h, HealthRow) for f, p, h in rows} for slot, rows in state["health"].items()}
        self.last_provisional_ms, self.late_rows, self.doubled = state["last_provisional_ms"], state["late_rows"], state["doubled"]
        self.choice.restore(state["choice"])
        self.worth = {int(slot): dict(sick) for slot, sick in state.get("worth", {}).items()}
        self.site_feed = dict(state.get("site_feed", ()))
        self.estimator.restore(state["estimator"])
        self.constants = {int(k): v for k, v in state["constants"]}
        self.minutes.state = {k: [float(x) for x in v] for k, v in state["minutes"].items()}
        for k, v in self.constants.items():
            self._know(k, v, "sensor_constant")
        self.emitter.restore(state["emitter"])
        self.lines.restore(state["lines"])
        self.days.restore(state["days"])
        self.incidents.restore(state["incidents"])
        self.published_kmh = np.frombuffer(state["published_kmh"], np.float64).copy()
        self.published_origin = np.frombuffer(state["published_origin"], np.int64).copy()
        self.published_closed = np.frombuffer(state["published_closed"], np.bool_).copy()
