"""What parsers of JSON feeds share: decoding with errors in our words, numbers and times with limits, and rows that become columns.

Every function either returns a value within its limits or raises ``Refused``; nothing here can fail in another way, whatever a body holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import numpy as np

from connectors.columns import EVENT_CODE, Reject, SensorColumns, Trip, VehicleColumns
from connectors.envelope import Item
from models.clock import parse_ms

NAN = math.nan
#: 9999-12-31T23:59:59.999Z: later cannot be written as RFC 3339.
LAST_MS = 253_402_300_799_999
#: Objects and lists may be nested this deep in what is kept as it is (geometry).
MAX_DEPTH = 12
#: Bytes of a refused part that are kept with the refusal.
KEPT = 4096
T = TypeVar("T")
_DURATION = re.compile(
    r"(-)?P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,8})M)?(?:(\d{1,10}(?:\.\d{1,9})?)S)?)?"
)
_NUMBER = re.compile(r"[+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,3})?")
_ERROR_AT = re.compile(r"^(.*?) - at `\$(?:\[\.\.\.\])?\.?([^`]*)`$", re.DOTALL)
_VP = EVENT_CODE["vp"]


class Refused(Exception):
    """One event, or a whole body, that is not what it should be."""

    def __init__(self, reason: str, field: str, value: object, want: str) -> None:
        self.reason, self.field, self.value, self.want = reason, field, value, want
        super().__init__(reason)


def decoder(kind: type[T], want: str) -> Callable[[bytes | msgspec.Raw], T]:
    """A JSON decoder of one type that only raises ``Refused``. ``want``: what a body should have been."""
    inner = msgspec.json.Decoder(kind).decode

    def decode(body: bytes | msgspec.Raw) -> T:
        try:
            value: T = inner(body)
            return value
        except msgspec.ValidationError as e:
            found = _ERROR_AT.match(str(e))
            raise Refused("bad_type", (found[2] if found else "") or "body", found[1] if found else str(e), want) from e
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as e:
            raise Refused("bad_json", "body", str(e), want) from e

    return decode


def reject(index: int, item: Item, e: Refused, body: bytes | msgspec.Raw | None = None) -> Reject:
    """A refusal as the record of it. ``body`` is the part that was refused; the whole item otherwise."""
    value = e.value if isinstance(e.value, str) else repr(e.value)
    kept = item.body if body is None else bytes(body)
    return Reject(index=index, reason=e.reason, field=e.field, value=value[:200], want=e.want, body=kept, source_topic=item.topic)


def number(value: str | int | float | None, field: str, low: float = -1e12, high: float = 1e12) -> float:
    """A number, also one written as text; NaN when there is none.

    Raises:
        Refused: not a finite number, or beyond its limits.

    >>> number("14.4", "speed"), number("", "speed"), number(None, "speed")
    (14.4, nan, nan)
    """
    if value is None or value == "":
        return NAN
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            raise Refused("bad_type", field, value, "a number")
        value = float(value)
    if isinstance(value, bool) or not low <= value <= high:
        raise Refused("range", field, value, f"a number {low:g} to {high:g}")
    return float(value)


def known(value: float) -> float | None:
    """
    >>> known(2.0), known(NAN)
    (2.0, None)
    """
    return value if value == value else None


def whole(value: str | int | float | None, field: str, low: int = 0, high: int = 10_000_000) -> int | None:
    """A whole number, None when there is none.

    Raises:
        Refused: as ``number``.
    """
    x = number(value, field, low, high)
    return None if x != x else round(x)


def place(lat: str | int | float | None, lon: str | int | float | None) -> tuple[float, float]:
    """Latitude and longitude; both NaN when either is missing, or both are exactly zero (a place nobody measured).

    Raises:
        Refused: not numbers, or not on the globe.
    """
    y, x = number(lat, "latitude", -90, 90), number(lon, "longitude", -180, 180)
    return (NAN, NAN) if y != y or x != x or (x == 0 and y == 0) else (y, x)


def epoch_ms(value: str | int | float | None, field: str) -> int:
    """Milliseconds of seconds since 1970, also written as text.

    Raises:
        Refused: none, or not a time of this era.
    """
    seconds = number(value, field, 0, LAST_MS // 1000)
    if seconds != seconds:
        raise Refused("missing", field, value, "seconds since 1970")
    return round(seconds * 1000)


def epoch_ms_or_none(value: str | int | float | None, field: str) -> int | None:
    """As ``epoch_ms``; None when there is none."""
    return None if value is None else epoch_ms(value, field)


def iso_ms(text: str | None, field: str) -> int:
    """Milliseconds of an ISO 8601 time with its zone.

    Raises:
        Refused: none, without zone, or before 1970.
    """
    if not text:
        raise Refused("missing", field, text, "an ISO 8601 time with its zone")
    try:
        ms = parse_ms(text)
    except (ValueError, OverflowError) as e:
        raise Refused("bad_type", field, text, "an ISO 8601 time with its zone") from e
    if not 0 <= ms <= LAST_MS:
        raise Refused("range", field, text, "a time from 1970 on")
    return ms


def iso_ms_or_none(text: str | None, field: str) -> int | None:
    """As ``iso_ms``; None when there is none."""
    return iso_ms(text, field) if text else None


def duration_s(text: str | None, field: str) -> float:
    """Seconds of an ISO 8601 duration with its sign in front; NaN when there is none.

    Raises:
        Refused: not such a text, or one with years or months, which have no fixed length.

    >>> duration_s("-P0Y0M0DT0H0M40.000S", "delay"), duration_s("PT90S", "delay"), duration_s("PT1H2M", "delay")
    (-40.0, 90.0, 3720.0)
    """
    if not text:
        return NAN
    found = _DURATION.fullmatch(text)
    if found is None or text.rstrip("T") in ("P", "-P"):
        raise Refused("bad_type", field, text, "an ISO 8601 duration such as -PT40S")
    sign, years, months, days, hours, minutes, seconds = found.groups()
    if int(years or 0) or int(months or 0):
        raise Refused("range", field, text, "a duration without years and months")
    total = int(days or 0) * 86_400 + int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)
    return 0.0 - total if sign and total else total


def heading(value: str | int | float | None, field: str) -> float:
    """Degrees [0, 360), NaN when unknown.

    Raises:
        Refused: beyond 0 to 360.
    """
    degrees = number(value, field, 0, 360)
    return 0.0 if degrees == 360 else degrees


def shallow(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether a decoded JSON value is nested at most ``depth`` deep.

    >>> shallow([[1]], 2), shallow([[1]], 1)
    (True, False)
    """
    level = [value]
    for _ in range(depth + 1):
        level = [x for v in level if isinstance(v, dict | list) for x in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return True
    return False


class VehicleRows:
    """Vehicle positions while they are gathered, one a call of ``add``."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int]] = []
        self._numbers: list[tuple[float, float, float, float, float]] = []
        self._at_stop: list[int] = []
        self._method: list[int] = []
        self._texts: list[tuple[str, str | None, Trip, str | None]] = []
        self._trips: dict[Trip, Trip] = {}

    def add(
        self,
        index: int,
        ingest_ms: int,
        event_ms: int,
        *,
        vehicle_id: str,
        trip: Trip,
        lat_deg: float = NAN,
        lon_deg: float = NAN,
        speed_mps: float = NAN,
        heading_deg: float = NAN,
        delay_s: float = NAN,
        operator: str | None = None,
        at_stop: bool | None = None,
        stop_id: str | None = None,
        method: int = 0,
    ) -> None:
        """One position; the arguments are those of ``VehicleColumns``."""
        self._rows.append((index, ingest_ms, event_ms))
        self._numbers.append((lat_deg, lon_deg, speed_mps, heading_deg, delay_s))
        self._at_stop.append(-1 if at_stop is None else int(at_stop))
        self._method.append(method)
        self._texts.append((vehicle_id, operator, self._trips.setdefault(trip, trip), stop_id))

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> VehicleColumns:
        n = len(self._rows)
        index, ingest, event = np.array(self._rows, dtype=np.int64).reshape(n, 3).T
        lat, lon, speed, course, delay = np.array(self._numbers, dtype=np.float64).reshape(n, 5).T.copy()
        return VehicleColumns(
            index=index.astype(np.int32),
            ingest_ms=ingest.copy(),
            event_ms=event.copy(),
            event=np.full(n, _VP, dtype=np.int8),
            lat_deg=lat,
            lon_deg=lon,
            speed_mps=speed,
            heading_deg=course,
            odometer_m=np.full(n, np.nan),
            delay_s=delay,
            occupancy_pct=np.full(n, np.nan),
            doors_open=np.full(n, -1, dtype=np.int8),
            at_stop=np.array(self._at_stop, dtype=np.int8),
            method=np.array(self._method, dtype=np.int8),
            vehicle_id=[t[0] for t in self._texts],
            operator=[t[1] for t in self._texts],
            trip=[t[2] for t in self._texts],
            stop_id=[t[3] for t in self._texts],
        )


class SensorRows:
    """Sensor readings while they are gathered."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int]] = []
        self._numbers: list[tuple[float, float, float]] = []
        self._texts: list[tuple[str, str, str, str | None, str]] = []

    def add(
        self,
        index: int,
        ingest_ms: int,
        start_ms: int,
        end_ms: int,
        *,
        site_id: str,
        direction: str,
        flow_vph: float = NAN,
        speed_kmh: float = NAN,
        occupancy_pct: float = NAN,
        kind: str = "loop",
        fault: str | None = None,
        travel_mode: str = "vehicle",
    ) -> None:
        """One reading; the arguments are those of ``SensorColumns``."""
        self._rows.append((index, ingest_ms, start_ms, end_ms))
        self._numbers.append((flow_vph, speed_kmh, occupancy_pct))
        self._texts.append((site_id, direction, kind, fault, travel_mode))

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> SensorColumns:
        n = len(self._rows)
        index, ingest, start, end = np.array(self._rows, dtype=np.int64).reshape(n, 4).T
        flow, speed, occupancy = np.array(self._numbers, dtype=np.float64).reshape(n, 3).T.copy()
        return SensorColumns(
            index=index.astype(np.int32),
            ingest_ms=ingest.copy(),
            window_start_ms=start.copy(),
            window_end_ms=end.copy(),
            flow_vph=flow,
            speed_kmh=speed,
            occupancy_pct=occupancy,
            free_flow_kmh=np.full(n, np.nan),
            capacity_vph=np.full(n, np.nan),
            site_id=[t[0] for t in self._texts],
            direction=[t[1] for t in self._texts],
            kind=[t[2] for t in self._texts],
            fault=[t[3] for t in self._texts],
            travel_mode=[t[4] for t in self._texts],
        )
