"""What a city's picture has been, as far as the gateway has seen it: finals of segments minute by minute, thinned tracks of vehicles, the city's own figures.

Kept in memory in packed rows, bounded by age and by bytes; the oldest minutes go first. Whoever wants more asks the archive. Knows no Kafka and no clock: what is
old is told by the newest minute.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct
from threading import Lock
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.clock import parse_ms
from serve.bygone import CO2_ROW, KEEP_MS, Lines, Situations, grams, packed_co2

MINUTE_MS = 60_000
#: Most memory for segments, for vehicles and for CO2 of one city, bytes. A city of 150,000 segments fills the first with about an hour and a half.
MOST_SEGMENT_BYTES, MOST_VEHICLE_BYTES, MOST_CO2_BYTES = 64_000_000, 32_000_000, 24_000_000
#: A segment is told again at least every five minutes; what was told longer ago than this no longer holds, ms.
HOLDS_MS = 6 * MINUTE_MS
#: One fix of a vehicle in so long is kept, ms.
FIX_EVERY_MS = 15_000
#: A vehicle is where its last fix was for so long, ms.
VEHICLE_HOLDS_MS = 120_000
#: Figures of the whole city are small, ms; those of earlier days are in ``city-day``.
KEEP_CITY_MS = 2 * 86_400_000
#: Runs that nothing kept speaks of any more are forgotten when there are so many more than those in use.
SPARE_TRIPS = 10_000
UNKNOWN = 65_535
NO_SEGMENT = 2**32 - 1
NO_DELAY = -32_768

_LOS = ("A", "B", "C", "D", "E", "F", "unknown")
_ORIGINS = ("measured", "blended", "inferred", "historical", "none")
_MODES = ("bus", "tram", "train", "metro", "ferry", "ubus", "robot", "car", "unknown")
_SEGMENT_ROW = Struct("<IHHHHHBBBBBBB")
SEGMENT_ROW = np.dtype(
    [("segment", "<u4"), ("speed", "<u2"), ("p20", "<u2"), ("p80", "<u2"), ("flow", "<u2"), ("delay", "<u2"), ("confidence", "u1"), ("los", "u1"), ("origin", "u1"), ("probe", "u1"), ("loop", "u1"), ("memory", "u1"), ("network", "u1")]
)  # fmt: skip
_VEHICLE_ROW = Struct("<IIIffhHHB")
VEHICLE_ROW = np.dtype(
    [("vehicle", "<u4"), ("trip", "<u4"), ("segment", "<u4"), ("lon", "<f4"), ("lat", "<f4"), ("delay", "<i2"), ("ms", "<u2"), ("heading", "<u2"), ("mode", "u1")]
)  # fmt: skip
#: High bit of ``origin``.
CLOSED = 128


class _Mix(msgspec.Struct):
    probe: float = 0.0
    loop: float = 0.0
    memory: float = 0.0
    network: float = 0.0


class _Final(msgspec.Struct):
    segment_id: str
    window_start: str
    origin: str
    confidence: float
    los: str = "unknown"
    speed_kmh: float | None = None
    speed_p20_kmh: float | None = None
    speed_p80_kmh: float | None = None
    flow_vph: float | None = None
    delay_s: float | None = None
    closed: bool = False
    source_mix: _Mix | None = None


class Fix(msgspec.Struct):
    """What is kept of a vehicle-position."""

    vehicle_id: str
    lat_deg: float | None = None
    lon_deg: float | None = None
    delay_s: int | None = None
    heading_deg: float | None = None
    mode: str = "unknown"
    segment_id: str | None = None
    route_id: str | None = None
    direction_id: int | None = None
    trip_id: str | None = None
    operating_day: str | None = None
    start_time: str | None = None
    headsign: str | None = None


class _Bounded(msgspec.Struct):
    value: float
    lo95: float
    hi95: float


class _Area(msgspec.Struct):
    area_kind: str
    window_start: str
    window_end: str
    revision: int
    travel_time_index: float | None = None
    co2_total: _Bounded | None = None


class _GivenOff(msgspec.Struct):
    segment_id: str
    window_end: str
    co2_total: _Bounded


class _Windowed(msgspec.Struct):
    window_end: str


class _Heard(msgspec.Struct):
    ingest_time: str


class Trip(NamedTuple):
    """Which run of which route a vehicle was on."""

    route_id: str | None
    direction_id: int | None
    trip_id: str | None
    operating_day: str | None
    start_time: str | None
    headsign: str | None


class CityWindow(NamedTuple):
    """Figures of the whole city in one window; None where the record told none."""

    revision: int
    travel_time_index: float | None = None
    co2_gh: tuple[float, float, float] | None = None  #: value and 95 % bounds, g/h, fossil and biogenic, at the tailpipe


_decode_final = msgspec.json.Decoder(_Final).decode
_decode_fix = msgspec.json.Decoder(Fix).decode
_decode_area = msgspec.json.Decoder(_Area).decode
_decode_given_off = msgspec.json.Decoder(_GivenOff).decode
_decode_windowed = msgspec.json.Decoder(_Windowed).decode
_decode_heard = msgspec.json.Decoder(_Heard).decode


class Names:
    """Small numbers for texts, in the order in which they were first seen."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def find(self, text: str) -> int | None:
        """The number of a text that has one."""
        return self._numbers.get(text)


class Minutes:
    """Packed rows by minute, the newest minutes as far as they have room."""

    def __init__(self, dtype: np.dtype[np.void], most_bytes: int) -> None:
        self.dtype, self.most_bytes = dtype, most_bytes
        self.rows: OrderedDict[int, bytearray] = OrderedDict()
        self.bytes = 0

    def add(self, start_ms: int, row: bytes) -> None:
        held = self.rows.get(start_ms)
        if held is None:
            newest = max(self.rows, default=start_ms)
            if start_ms < newest - KEEP_MS:
                return
            held = self.rows[start_ms] = bytearray()
            for old in [m for m in self.rows if m < max(newest, start_ms) - KEEP_MS]:
                self.bytes -= len(self.rows.pop(old))
        held += row
        self.bytes += len(row)
        while self.bytes > self.most_bytes and len(self.rows) > 1:
            self.bytes -= len(self.rows.pop(min(self.rows)))

    def read(self, start_ms: int) -> NDArray[np.void]:
        """Rows of a minute, in the order in which they were told."""
        return np.frombuffer(bytes(self.rows.get(start_ms, b"")), self.dtype)

    def between(self, first_ms: int, last_ms: int) -> list[tuple[int, NDArray[np.void]]]:
        """Minutes that start within the bounds, both included, oldest first."""
        return [(m, self.read(m)) for m in sorted(self.rows) if first_ms <= m <= last_ms]


def _tenths(value: float | None) -> int:
    return UNKNOWN if value is None else min(UNKNOWN - 1, round(value * 10))


class Past:
    """One city's memory."""

    def __init__(self) -> None:
        self.segments = Minutes(SEGMENT_ROW, MOST_SEGMENT_BYTES)
        self.vehicles = Minutes(VEHICLE_ROW, MOST_VEHICLE_BYTES)
        self.co2 = Minutes(CO2_ROW, MOST_CO2_BYTES)  #: of streets, by the start of the minute in which their window ended
        self.situations, self.lines = Situations(), Lines()
        self.segment_ids, self.vehicle_ids = Names(), Names()
        self.trips: list[Trip] = []
        self._trip_numbers: dict[Trip, int] = {}
        self._most_trips = SPARE_TRIPS
        self.renumbering = Lock()  #: held by whoever reads numbers of runs, and who changes them: answers are made in threads
        self._last_fix: dict[str, int] = {}
        self.flow: dict[int, CityWindow] = {}  #: area-state of the whole city, by start of its window
        self.emissions: dict[int, CityWindow] = {}  #: emission-area of the whole city, of five minutes

    def segment(self, value: bytes) -> None:
        """A final segment-state.

        Raises:
            msgspec.DecodeError, ValueError: it is none.
        """
        s = _decode_final(value)
        mix = s.source_mix or _Mix()
        row = _SEGMENT_ROW.pack(
            self.segment_ids(s.segment_id), _tenths(s.speed_kmh), _tenths(s.speed_p20_kmh), _tenths(s.speed_p80_kmh),
            UNKNOWN if s.flow_vph is None else min(UNKNOWN - 1, round(s.flow_vph)), _tenths(s.delay_s), round(s.confidence * 100),
            _LOS.index(s.los), _ORIGINS.index(s.origin) + (CLOSED if s.closed else 0),
            round(mix.probe * 100), round(mix.loop * 100), round(mix.memory * 100), round(mix.network * 100),
        )  # fmt: skip
        self.segments.add(parse_ms(s.window_start), row)

    def vehicle(self, vehicle_id: str, event_ms: int, value: bytes) -> None:
        """A vehicle-position; most are passed over.

        Raises:
            msgspec.DecodeError: it is none.
        """
        last = self._last_fix.get(vehicle_id, 0)
        if not last <= event_ms < last + FIX_EVERY_MS:
            self.fix(_decode_fix(value), event_ms)

    def fix(self, v: Fix, event_ms: int) -> None:
        """A position, unless it is older than the last one that was kept or follows it too closely."""
        last = self._last_fix.get(v.vehicle_id, 0)
        if v.lat_deg is None or v.lon_deg is None or event_ms < last + (FIX_EVERY_MS if last else 0):
            return
        self._last_fix[v.vehicle_id] = event_ms
        trip = Trip(v.route_id, v.direction_id, v.trip_id, v.operating_day, v.start_time, v.headsign)
        number = self._trip_numbers.get(trip)
        if number is None:
            if len(self.trips) >= self._most_trips:
                self._forget_trips()
            number = self._trip_numbers[trip] = len(self.trips)
            self.trips.append(trip)
        minute = event_ms // MINUTE_MS * MINUTE_MS
        row = _VEHICLE_ROW.pack(
            self.vehicle_ids(v.vehicle_id), number, NO_SEGMENT if v.segment_id is None else self.segment_ids(v.segment_id), v.lon_deg, v.lat_deg,
            NO_DELAY if v.delay_s is None else max(NO_DELAY + 1, min(32_767, v.delay_s)), event_ms - minute,
            UNKNOWN if v.heading_deg is None else round(v.heading_deg) % 360, _MODES.index(v.mode) if v.mode in _MODES else len(_MODES) - 1,
        )  # fmt: skip
        self.vehicles.add(minute, row)

    def _forget_trips(self) -> None:
        """Runs that no kept fix belongs to: a city has tens of thousands a day."""
        with self.renumbering:
            kept = {start: np.frombuffer(bytes(rows), VEHICLE_ROW).copy() for start, rows in self.vehicles.rows.items()}
            used = np.unique(np.concatenate([r["trip"] for r in kept.values()])) if kept else np.empty(0, np.int64)
            number = np.zeros(len(self.trips), np.uint32)
            number[used] = np.arange(len(used))
            for start, rows in kept.items():
                rows["trip"] = number[rows["trip"]]
                self.vehicles.rows[start] = bytearray(rows.tobytes())
            self.trips = [self.trips[n] for n in used.tolist()]
            self._trip_numbers = {trip: n for n, trip in enumerate(self.trips)}
            self._most_trips = 2 * len(self.trips) + SPARE_TRIPS

    def area(self, product: str, value: bytes) -> None:
        """An area-state or emission-area; those of the whole city are kept.

        Raises:
            msgspec.DecodeError, ValueError: it is none.
        """
        a = _decode_area(value)
        if a.area_kind != "city":
            return
        held = self.flow if product == "area-state" else self.emissions
        start = parse_ms(a.window_start)
        if product == "emission-area" and parse_ms(a.window_end) - start <= MINUTE_MS:
            return  # minutes are within their five
        if start in held and held[start].revision > a.revision:
            return
        co2 = a.co2_total
        held[start] = CityWindow(a.revision, a.travel_time_index, (co2.value, co2.lo95, co2.hi95) if co2 else None)
        if len(held) % 500 == 0:
            oldest = max(held) - KEEP_CITY_MS
            for old in [m for m in held if m < oldest]:
                del held[old]

    def other(self, product: str, key: str, value: bytes) -> None:
        """A record of another product; most are not kept.

        Raises:
            msgspec.DecodeError, ValueError: it is none.
        """
        match product:
            case "area-state" | "emission-area":
                self.area(product, value)
            case "emission-segment":
                e = _decode_given_off(value)
                q, end = e.co2_total, parse_ms(e.window_end)
                self.co2.add(end // MINUTE_MS * MINUTE_MS, packed_co2(self.segment_ids(e.segment_id), (q.value, q.lo95, q.hi95)))
            case "line-fluency":
                self.lines.add(key, parse_ms(_decode_windowed(value).window_end), value)
            case "situation":
                self.situations.add(key, parse_ms(_decode_heard(value).ingest_time), value)

    def co2_at(self, at_ms: int) -> tuple[list[str], NDArray[np.float64]]:
        """Streets of which something was told in the minutes before a time, and what they gave off last: (n, 3) value and 95 % bounds, g/h."""
        last = at_ms // MINUTE_MS * MINUTE_MS
        minutes = [r for _, r in self.co2.between(last - HOLDS_MS + MINUTE_MS, last)]
        if not minutes:
            return [], np.empty((0, 3))
        rows = np.concatenate(minutes)
        newest: NDArray[np.int64] = np.full(len(self.segment_ids.texts), -1)
        newest[rows["segment"]] = np.arange(len(rows))
        known = np.flatnonzero(newest >= 0)
        shown = rows[newest[known]]
        return [self.segment_ids.texts[n] for n in known.tolist()], np.stack(
            [grams(shown[name]) for name in ("co2", "lo95", "hi95")], axis=1
        )

    def span(self) -> tuple[int, int] | None:
        """From when to when the past can be shown, ms; None before the first final."""
        if not self.segments.rows:
            return None
        return min(self.segments.rows) + MINUTE_MS, max(self.segments.rows) + MINUTE_MS

    def states_at(self, at_ms: int) -> dict[str, object]:
        """States that held at a time, in the columns of the live picture: of each segment the newest final window that had ended by then."""
        last = at_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
        minutes = self.segments.between(last - HOLDS_MS + MINUTE_MS, last)
        newest: NDArray[np.int64] = np.full(len(self.segment_ids.texts), -1)
        window: NDArray[np.int64] = np.zeros(len(self.segment_ids.texts), dtype=np.int64)
        rows = np.concatenate([r for _, r in minutes]) if minutes else np.empty(0, SEGMENT_ROW)
        at = 0
        for n, (_, r) in enumerate(minutes):
            newest[r["segment"]] = np.arange(at, at + len(r))
            window[r["segment"]] = n
            at += len(r)
        known = np.flatnonzero(newest >= 0)
        shown = rows[newest[known]]
        texts = self.segment_ids.texts
        return {
            "segment_id": [texts[n] for n in known.tolist()],
            "window_starts_ms": [m for m, _ in minutes],
            "window": window[known].tolist(),
            "los": "".join([_LOS[n][0] for n in shown["los"].tolist()]),
            "origin": "".join([_ORIGINS[n & ~CLOSED][0] for n in shown["origin"].tolist()]),
            "confidence_pct": shown["confidence"].tolist(),
            "closed": np.flatnonzero(shown["origin"] & CLOSED).tolist(),
        }

    def vehicles_at(self, at_ms: int) -> list[dict[str, object]]:
        """Where vehicles were at a time: of each the last fix of the two minutes before it."""
        with self.renumbering:
            return self._vehicles_at(at_ms)

    def _vehicles_at(self, at_ms: int) -> list[dict[str, object]]:
        minute = at_ms // MINUTE_MS * MINUTE_MS
        minutes = self.vehicles.between(minute - VEHICLE_HOLDS_MS, minute)
        if not minutes:
            return []
        rows = np.concatenate([r for _, r in minutes])
        times = np.concatenate([start + r["ms"].astype(np.int64) for start, r in minutes])
        order = np.argsort(times, kind="stable")
        order = order[(times[order] >= at_ms - VEHICLE_HOLDS_MS) & (times[order] <= at_ms)]
        newest = dict(zip(rows["vehicle"][order].tolist(), order.tolist(), strict=True))
        return [self._vehicle(int(times[n]), rows[n]) for n in newest.values()]

    def _vehicle(self, ms: int, row: NDArray[np.void]) -> dict[str, object]:
        trip = self.trips[int(row["trip"])]
        out: dict[str, object] = {
            "vehicle_id": self.vehicle_ids.texts[int(row["vehicle"])],
            "event_ms": ms,
            "lat_deg": round(float(row["lat"]), 6),
            "lon_deg": round(float(row["lon"]), 6),
            "mode": _MODES[int(row["mode"])],
            "delay_s": int(row["delay"]) if row["delay"] != NO_DELAY else None,
            "heading_deg": int(row["heading"]) if row["heading"] != UNKNOWN else None,
            "route_id": trip.route_id,
            "direction_id": trip.direction_id,
            "headsign": trip.headsign,
        }
        return {key: value for key, value in out.items() if value is not None}

    def series(self, segment_id: str, first_ms: int, last_ms: int) -> dict[str, object]:
        """Finals of one segment in columns; null where a window told nothing of it."""
        number = self.segment_ids.find(segment_id)
        picked: list[tuple[int, NDArray[np.void]]] = []
        for start, rows in self.segments.between(first_ms, last_ms) if number is not None else ():
            mine = rows[rows["segment"] == number]
            if len(mine):
                picked.append((start, mine[-1]))

        def tenths(name: str) -> list[float | None]:
            return [None if row[name] == UNKNOWN else int(row[name]) / 10 for _, row in picked]

        return {
            "window_starts_ms": [start for start, _ in picked],
            "speed_kmh": tenths("speed"),
            "speed_p20_kmh": tenths("p20"),
            "speed_p80_kmh": tenths("p80"),
            "flow_vph": [None if row["flow"] == UNKNOWN else int(row["flow"]) for _, row in picked],
            "delay_s": tenths("delay"),
            "confidence_pct": [int(row["confidence"]) for _, row in picked],
            "los": [_LOS[int(row["los"])] for _, row in picked],
            "origin": [_ORIGINS[int(row["origin"]) & ~CLOSED] for _, row in picked],
            "closed": [bool(row["origin"] & CLOSED) for _, row in picked],
            "source_mix_pct": {name: [int(row[name]) for _, row in picked] for name in ("probe", "loop", "memory", "network")},
        }

    def tracks(self, route_id: str, direction_id: int | None, first_ms: int, last_ms: int) -> dict[tuple[int, int], NDArray[np.void]]:
        """Fixes of a route, by vehicle and trip, each in order of time; ``ms`` is replaced by ``at``, Unix ms."""
        mine = [n for n, t in enumerate(self.trips) if t.route_id == route_id and (direction_id is None or t.direction_id == direction_id)]
        wide = np.dtype([*[(n, VEHICLE_ROW[n]) for n in ("vehicle", "trip", "segment", "lon", "lat", "delay")], ("at", "<i8")])
        parts = []
        for start, rows in self.vehicles.between(first_ms - MINUTE_MS, last_ms):
            rows = rows[np.isin(rows["trip"], mine)]
            part = np.empty(len(rows), wide)
            for name in ("vehicle", "trip", "segment", "lon", "lat", "delay"):
                part[name] = rows[name]
            part["at"] = start + rows["ms"].astype(np.int64)
            parts.append(part[(part["at"] >= first_ms) & (part["at"] <= last_ms)])
        fixes = np.concatenate(parts) if parts else np.empty(0, wide)
        out: dict[tuple[int, int], NDArray[np.void]] = {}
        for vehicle, trip in sorted({(int(v), int(t)) for v, t in zip(fixes["vehicle"], fixes["trip"], strict=True)}):
            run = fixes[(fixes["vehicle"] == vehicle) & (fixes["trip"] == trip)]
            out[vehicle, trip] = run[np.argsort(run["at"], kind="stable")]
        return out
