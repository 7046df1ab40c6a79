"""Records that a feed states as they are: each published once, when it is new or has changed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from connectors.borders import Border
from connectors.columns import Parsed, Reject, Site
from models.clock import parse_ms, rfc3339
from models.records import Record, Situation, StopPassage, encode
from streams.endings import KEPT_MS, Lists
from streams.outputs import TOMBSTONE, Out, Outputs

if TYPE_CHECKING:
    from streams.observe import Observer


#: More keys than this, and the half not stated for longest is forgotten. Stated again, they are published again, which changes nothing for a reader.
MOST_KEYS = 100_000
#: Products whose ``event_time`` is when something was measured: by it a feed is found to be frozen.
DATED = frozenset(("road-weather", "parking", "shared-vehicle-station", "stop-passage", "traffic-signal"))


class Statements:
    """The last statement of every product and key of one raw partition, and of every part where records come in parts."""

    def __init__(self) -> None:
        #: "product:key" or "product:key\\npart" -> [event_ms, CRC-32 of the content, ingest_ms, what a part or a situation said (JSON), version]
        self.last: dict[str, list[Any]] = {}
        self._parts: dict[str, list[str]] = {}  #: "product:key" -> names of its parts in ``last``, sorted
        self.elsewhere = 0  #: statements of places that are not this city's
        self.lists = Lists()
        self._due: dict[str, int] = {}  #: situation -> when its record is deleted

    def feed(self, parsed: Parsed, owner: Observer, rejects: list[Reject], out: Outputs) -> int:
        """Publish what is new; returns the number of repetitions. An older statement than the last one of its key changes nothing either."""
        duplicates = 0
        limits = owner.settings.clean
        lags: list[tuple[int, int]] = []
        for s in parsed.stated:
            if not s.ingest_ms - limits.oldest_ms <= s.event_ms <= s.ingest_ms + limits.newest_ms and s.product != "situation":
                want = "within 7 days before and 2 minutes after ingest, epoch ms"
                rejects.append(Reject(s.index, "clock", "event_time", str(s.event_ms), want))
                continue
            name = f"{s.product}:{s.key}"
            who = f"{name}:{_call(s.record)}" if isinstance(s.record, StopPassage) else name
            who = who if s.part is None else f"{who}\n{s.part}"
            stated = s.record if s.site is None else _placed(s.record, owner.sensors.sites.get(s.site))
            if stated is None or not _inside(stated, owner.border) or _of_others(stated, owner):
                self.elsewhere += 1
                continue
            said = encode(_without(stated, ("ingest_time",)))
            crc = zlib.crc32(encode(_without(stated, ("ingest_time", "event_time"))) if s.on_change else said)
            last = self.last.get(who)
            situation = isinstance(stated, Situation)
            version = stated.version if isinstance(stated, Situation) else None
            if s.product in DATED and (last is None or s.event_ms > last[0]):
                lags.append((s.event_ms, s.ingest_ms))
            older = last is not None and (s.event_ms < last[0] or (version is not None and last[4] is not None and version < last[4]))
            if last is not None and (older or crc == last[1]):
                last[2] = max(last[2], s.ingest_ms)
                duplicates += 1
                continue
            kept = encode(stated).decode() if situation else said.decode() if s.part is not None else None
            self.last[who] = [s.event_ms, crc, s.ingest_ms, kept, version]
            record = stated if s.part is None else self._whole(name, who, stated)
            if isinstance(record, Situation):
                record = owner.ground.on_segments(record)
                self._expect_end(s.key, record, s.event_ms)
            value = encode(msgspec.structs.replace(record, simulated=True) if owner.simulated else record)
            owner.tally.accepted += 1
            out.add(s.product, [Out(s.key.encode(), value, s.event_ms, f"{who.replace(chr(10), ':')}:{s.event_ms}:{crc:08x}")])
        if lags:
            events, ingests = np.array(lags, np.int64).T
            owner.meter.lag(int(ingests.max()), events, ingests)
        for key, end_ms in parsed.gone:
            self._end(key, end_ms, owner, out)
        for listing in parsed.listings:
            for key, end_ms in self.lists.read_one(listing):
                self._end(key, end_ms, owner, out)
        if len(self.last) > MOST_KEYS:
            newest = sorted(self.last.items(), key=lambda kv: (kv[1][2], kv[0]))[len(self.last) // 2 :]
            self._keep(dict(newest))
        return duplicates

    def _expect_end(self, key: str, record: Situation, event_ms: int) -> None:
        """Note when the record will have to go."""
        end_ms = event_ms if record.ended else parse_ms(record.valid_to) if record.valid_to is not None else None
        if end_ms is None:
            self._due.pop(key, None)
        else:
            self._due[key] = end_ms + KEPT_MS

    def _end(self, key: str, end_ms: int, owner: Observer, out: Outputs) -> None:
        """A situation that is named no more: its last record once more, with its end."""
        last = self.last.get(f"situation:{key}")
        if last is None:
            return
        record = msgspec.json.decode(last[3], type=Situation)
        if record.ended:
            return
        valid_to = record.valid_to if record.valid_to is not None and parse_ms(record.valid_to) <= end_ms else rfc3339(end_ms)
        if record.valid_from is not None and record.valid_from > valid_to:
            valid_to = record.valid_from  # called off before it began
        record = msgspec.structs.replace(
            record, ended=True, closed=None, valid_to=valid_to, event_time=rfc3339(end_ms), ingest_time=rfc3339(owner.log_ms)
        )
        record = owner.ground.on_segments(record)
        last[1] = None  # stated again, it is published again
        last[3] = encode(record).decode()
        self._expect_end(key, record, end_ms)
        value = encode(msgspec.structs.replace(record, simulated=True) if owner.simulated else record)
        out.add("situation", [Out(key.encode(), value, end_ms, f"situation:{key}:{end_ms}:ended")])

    def pass_time(self, log_ms: int, out: Outputs) -> None:
        """Delete the records of situations that ended ``KEPT_MS`` ago and have not been named since."""
        if not self._due or min(self._due.values()) > log_ms:
            return
        for key in sorted(k for k, due in self._due.items() if due <= log_ms):
            last = self.last.get(f"situation:{key}")
            due = self._due[key]
            if last is not None and last[2] + KEPT_MS > log_ms:
                self._due[key] = last[2] + KEPT_MS
                continue
            del self._due[key]
            self.last.pop(f"situation:{key}", None)
            out.add("situation", [Out(key.encode(), TOMBSTONE, due, f"situation:{key}:{due}:deleted")])

    def _whole(self, name: str, who: str, record: Record) -> Record:
        """What a record says, and what the other parts of its key said last where it says nothing; earlier names of parts win among those."""
        parts = self._parts.setdefault(name, [])
        if who not in parts:
            parts.append(who)
            parts.sort()
        whole: dict[str, Any] = {}
        for other in [*(p for p in reversed(parts) if p != who), who]:
            said = msgspec.json.decode(self.last[other][3]) if other != who else msgspec.to_builtins(record)
            whole |= {field: value for field, value in said.items() if value is not None}
        return msgspec.convert(whole, type(record))

    def heard(self, since_ms: int) -> int:
        """Keys stated since then."""
        return len({k.partition("\n")[0] for k, v in self.last.items() if v[2] >= since_ms})

    def export(self) -> dict[str, Any]:
        return {"last": self.last, "lists": self.lists.export(), "due": self._due}

    def restore(self, data: dict[str, Any]) -> None:
        self._keep({k: list(v) for k, v in data["last"].items()})
        self.lists.restore(data["lists"])
        self._due = dict(data["due"])

    def _keep(self, last: dict[str, list[Any]]) -> None:
        self.last = last
        self._parts = {}
        for who in sorted(self.last):
            name, in_parts, _ = who.partition("\n")
            if in_parts:
                self._parts.setdefault(name, []).append(who)


def _call(p: StopPassage) -> str:
    """Which call at its stop a passage tells of: a vehicle calls once at a time, but several of its calls are forecast."""
    return f"{p.vehicle_id}:forecast:{p.trip_id or p.route_id}:{p.start_time}" if p.predicted else p.vehicle_id


def _of_others(record: Record, owner: Observer) -> bool:
    """Whether a feed of a whole country says this of lines that are none of the city's."""
    if not isinstance(record, Situation) or not owner.feed.wider or record.geometry is not None or not record.routes:
        return False
    served = owner.ground.served
    return bool(served.shapes_of) and not served.knows(record.routes)


def _without(record: Record, fields: tuple[str, ...]) -> Record:
    """The record with some of its texts emptied."""
    return msgspec.structs.replace(record, **{f: "" for f in fields if getattr(record, f, None)})


def _placed(record: Record, site: Site | None) -> Record | None:
    """The record with what a list of places tells of it; None when no list has told of it."""
    if site is None:
        return None
    told = {"lat_deg": site.lat_deg, "lon_deg": site.lon_deg, "name": site.name}
    return msgspec.structs.replace(record, **{f: v for f, v in told.items() if getattr(record, f) is None and v == v})


def _inside(record: Record, border: Border | None) -> bool:
    """Whether a record concerns the city: what has a place, by it; an alert of routes and stops has none, and concerns all who share the lines."""
    if border is None:
        return True
    geometry = getattr(record, "geometry", None)
    if geometry is not None:
        return border.touches(geometry)
    lat, lon = getattr(record, "lat_deg", None), getattr(record, "lon_deg", None)
    return lat is None or lon is None or border.holds(lat, lon)
