"""Counting sites of one raw partition: where they are, what they said last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from connectors.columns import Parsed, Reject, SensorColumns, Site
from connectors.families import PLACED_BY_LIST
from models.clock import rfc3339
from models.records import SensorObservation, encode
from streams.cells import WINDOW_MS
from streams.clean import wrong_clock
from streams.outputs import Out, Outputs
from streams.partial import SensorRow
from streams.publish import Where, late

if TYPE_CHECKING:
    from streams.ground import Ground
    from streams.observe import Observer

#: More vehicles an hour than a lane group carries, and faster than any, are errors.
MAX_FLOW_VPH = 20_000.0
MAX_SPEED_KMH = 250.0


class Reading(NamedTuple):
    """One row of ``SensorColumns``, and where in the log it came."""

    site_id: str
    direction: str
    kind: str
    travel_mode: str
    fault: str | None
    start_ms: int
    end_ms: int
    ingest_ms: int
    flow_vph: float | None
    speed_kmh: float | None
    occupancy_pct: float | None
    free_flow_kmh: float | None
    capacity_vph: float | None
    offset: int
    at: int  #: item, or entity, in its envelope

    @property
    def key(self) -> str:
        return f"{self.site_id}:{self.direction}"


class Sensors:
    """Sites with their segments, and the last reading of each direction.

    National feeds tell of the whole country: the sites of the city are those in their list, which is a document of its own and may come after the first readings. Until
    then the newest reading of each site waits; it is published, or found to be elsewhere, when the list comes.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground, self._network, self._plane = ground, ground.network, ground.matching.plane
        self.sites: dict[str, Site] = {}  #: "site:direction" -> site
        self.segment: dict[str, int] = {}
        self.last: dict[str, list[Any]] = {}  #: "site:direction" -> [window_end_ms, flow, speed, ingest_ms]
        self.listed = False  #: a list has told where sites are
        self.waiting: dict[str, Reading] = {}  #: by "site:direction", before that
        self.superseded = 0  #: readings that a newer one replaced while they waited
        self.elsewhere = 0  #: readings of sites that are not this city's
        self._fresh: list[SensorRow] = []

    def feed(self, parsed: Parsed, owner: Observer, rejects: list[Reject], out: Outputs, where: Where) -> int:
        """Take in station lists and readings; returns the number of duplicates."""
        for site in parsed.sites:
            self.listed = self.listed or (site.lat_deg == site.lat_deg and site.lon_deg == site.lon_deg)
            if owner.border is None or site.lat_deg != site.lat_deg or owner.border.holds(site.lat_deg, site.lon_deg):
                self._learn(site)
        duplicates = 0
        if self.listed and self.waiting:
            waiting, self.waiting = list(self.waiting.values()), {}
            duplicates += self._publish(waiting, owner, out, owner.log_ms)
        if parsed.sensors is None or not len(parsed.sensors):
            return duplicates
        readings = _possible(parsed.sensors, owner, rejects, where)
        if self.listed or owner.feed.family not in PLACED_BY_LIST:
            return duplicates + self._publish(readings, owner, out)
        for r in readings:
            before = self.waiting.get(r.key)
            self.superseded += before is not None
            if before is None or r.end_ms > before.end_ms:
                owner.meter.lag(r.ingest_ms, np.array([r.end_ms], np.int64), np.array([r.ingest_ms], np.int64))
            self.waiting[r.key] = r
        return duplicates

    def _learn(self, site: Site) -> None:
        key = f"{site.site_id}:{site.direction}"
        old = self.sites.get(key)
        if old is not None:  # documents that know less must not erase what others told
            known = {f: v for f in site.__struct_fields__ if (v := getattr(site, f)) is not None and v == v}
            site = msgspec.structs.replace(old, **known)
        if old is None or old != site:
            self.sites[key] = site
            if np.isfinite(site.lat_deg) and np.isfinite(site.lon_deg):
                east, north = self._plane.to_plane(np.array([site.lat_deg]), np.array([site.lon_deg]))
                self.segment[key] = self._ground.placer.place(float(east[0]), float(north[0]), site.direction, site.bearing_deg)

    def _publish(self, readings: list[Reading], owner: Observer, out: Outputs, released_ms: int | None = None) -> int:
        duplicates = 0
        records: list[Out] = []
        for r in readings:
            key, end, ingest, flow, speed = r.key, r.end_ms, r.ingest_ms, r.flow_vph, r.speed_kmh
            site = self.sites.get(key) or self.sites.get(f"{r.site_id}:")  # a list may give one place for all directions
            if (self.listed or self.sites) and (site is None or site.lat_deg != site.lat_deg):
                self.elsewhere += 1
                continue
            last = self.last.get(key)
            if last is not None and (end < last[0] or (end == last[0] and flow in (None, last[1]) and speed in (None, last[2]))):
                duplicates += 1
                continue
            if last is not None and end == last[0]:  # MQTT tells flow and speed of one window one by one
                flow, speed = last[1] if flow is None else flow, last[2] if speed is None else speed
            self.last[key] = [end, flow, speed, ingest]
            closed = ((end - 1) // WINDOW_MS + 1) * WINDOW_MS + owner.settings.lateness_ms < (
                ingest if released_ms is None else released_ms
            )
            if closed and r.kind == "loop":
                here = Where([0], [r.offset], [r.at])
                out.add("late", [late(owner, "sensor-observation", key, end, ingest, "window_closed", here, 0)])
                owner.tally.late += 1
                continue
            owner.tally.accepted += 1
            owner.meter.lag(ingest if released_ms is None else released_ms, np.array([end], np.int64), np.array([ingest], np.int64))
            segment = self.segment.get(key, -1)
            free, capacity = r.free_flow_kmh, r.capacity_vph
            free = site.free_flow_kmh if free is None and site is not None else free
            capacity = site.capacity_vph if capacity is None and site is not None else capacity
            record = SensorObservation(
                site_id=r.site_id,
                direction=r.direction,
                window_start=rfc3339(r.start_ms),
                window_end=rfc3339(end),
                ingest_time=rfc3339(ingest),
                feed=owner.feed.name,
                kind=r.kind,  # type: ignore[arg-type]
                travel_mode=r.travel_mode,  # type: ignore[arg-type]
                lat_deg=None if site is None else _finite(site.lat_deg),
                lon_deg=None if site is None else _finite(site.lon_deg),
                bearing_deg=None if site is None else site.bearing_deg,
                segment_id=self._network.segments.segment_id[segment] if segment >= 0 else None,
                flow_vph=flow,
                speed_kmh=speed,
                occupancy_pct=r.occupancy_pct,
                free_flow_kmh=free,
                capacity_vph=capacity,
                fault=r.fault,  # type: ignore[arg-type]
                simulated=True if owner.simulated else None,
            )
            revision = (flow is not None) + 2 * (speed is not None)
            records.append(Out(key.encode(), encode(record), end, f"sensor-observation:{key}:{end}:{revision}"))
            if (
                closed or r.travel_mode != "vehicle"
            ):  # counts of hours and of bicycles are published, and tell nothing of the street's minute
                continue
            self._fresh.append(SensorRow(r.site_id, r.direction, segment, end, end - r.start_ms, flow, speed, free, capacity))
        out.add("sensor-observation", records)
        return duplicates

    def take(self) -> tuple[SensorRow, ...]:
        """Readings since the last call."""
        fresh, self._fresh = tuple(self._fresh), []
        return fresh

    def heard(self, since_ms: int) -> int:
        """Sites that said something new since then."""
        return len({key.rpartition(":")[0] for key, v in self.last.items() if v[3] >= since_ms})

    def export(self) -> dict[str, Any]:
        return {
            "sites": [msgspec.structs.asdict(s) for s in self.sites.values()],
            "last": self.last,
            "listed": self.listed,
            "waiting": [list(r) for r in self.waiting.values()],
            "superseded": self.superseded,
        }

    def restore(self, data: dict[str, Any]) -> None:
        self.sites, self.segment, self._fresh = {}, {}, []
        self.listed, self.superseded = data["listed"], data["superseded"]
        self.waiting = {r.key: r for r in (Reading(*fields) for fields in data["waiting"])}
        # msgspec leaves a field out when it is the very object that is its default: texts that come from a snapshot must be the ones that parsers give.
        self.waiting = {k: r._replace(kind=sys.intern(r.kind), travel_mode=sys.intern(r.travel_mode)) for k, r in self.waiting.items()}
        for s in data["sites"]:
            self._learn(Site(**s))
        self.last = {k: list(v) for k, v in data["last"].items()}


def _possible(c: SensorColumns, owner: Observer, rejects: list[Reject], where: Where) -> list[Reading]:
    """The rows; those that cannot be are refused."""
    clock = wrong_clock(c.window_end_ms, c.ingest_ms, owner.settings.clean)
    readings = []
    for i in range(len(c)):
        flow, speed, end = _none(c.flow_vph[i]), _none(c.speed_kmh[i]), int(c.window_end_ms[i])
        problem = None
        if clock[i]:
            problem = ("clock", "window_end", str(end), "within 7 days before and 2 minutes after ingest, epoch ms")
        elif flow is not None and not 0 <= flow <= MAX_FLOW_VPH:
            problem = ("flow", "flow_vph", str(flow), f"vehicles per hour 0-{MAX_FLOW_VPH:g}")
        elif speed is not None and not 0 <= speed <= MAX_SPEED_KMH:
            problem = ("speed", "speed_kmh", str(speed), f"km/h 0-{MAX_SPEED_KMH:g}")
        if problem is not None:
            rejects.append(Reject(int(c.index[i]), *problem))
            continue
        mode = c.travel_mode[i] if c.travel_mode else "vehicle"
        readings.append(
            Reading(
                c.site_id[i], c.direction[i], c.kind[i], mode, c.fault[i], int(c.window_start_ms[i]), end, int(c.ingest_ms[i]),
                flow, speed, _none(c.occupancy_pct[i]), _none(c.free_flow_kmh[i]), _none(c.capacity_vph[i]), *where.of(int(c.index[i])),
            )
        )  # fmt: skip
    return readings


def _none(x: float) -> float | None:
    value = float(x)
    return None if value != value else value


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
