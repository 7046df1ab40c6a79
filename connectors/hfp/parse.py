"""HFP, HSL's high-frequency positioning over MQTT, v2 and the older v1: topics and JSON payloads into columns.

Topic v2: ``/hfp/v2/<journey_type>/<temporal_type>/<event>/<mode>/<operator>/<vehicle>/<route>/<direction>/<headsign>/<start>/<next_stop>/...``;
v1 has no event level; topics of ``deadrun`` and ``signoff`` stop after the vehicle. New levels may be added at the end and a headsign
is free text, so nothing is counted from the right. Sources of every field and trap: README.md beside this file.

The vehicle is ``operator/vehicle`` of the *topic* (the payload's ``oper`` is who runs the trip, and may be another one). ``dl`` is positive when early:
negated here. Null means "not reported". Swapped latitude and longitude are not put right here: ``streams/clean.py`` quarantines them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from connectors.cities import City, FeedSettings
from connectors.columns import EVENT_CODE, EVENTS, I64, METHOD_CODE, Parsed, Reject, Trip, VehicleColumns
from connectors.envelope import Envelope, Item
from models.clock import parse_ms

#: Heads of topics remembered: about one a vehicle, trip and kind of event. Forgotten whole, between envelopes, when full.
CACHE_SIZE = 50_000
MODES = frozenset(("bus", "tram", "train", "metro", "ferry", "ubus", "robot"))
_TEMPORAL = frozenset(("ongoing", "upcoming"))
_JOURNEYS = frozenset(("journey", "deadrun", "signoff"))
_METHOD = {
    "GPS": METHOD_CODE["gnss"],
    "ODO": METHOD_CODE["odometer"],
    "MAN": METHOD_CODE["manual"],
    "DR": METHOD_CODE["dead_reckoning"],
    "N/A": METHOD_CODE["unknown"],
    None: METHOD_CODE["unknown"],
}
_VP, _TLR, _TLA = (EVENT_CODE[e] for e in ("vp", "tlr", "tla"))
#: Answers to requests for priority. A request may carry one too, of what was decided before it.
_DECISION = {"ACK": "granted", "NAK": "refused"}
#: Events that say by themselves whether the vehicle stands at its stop. ``vp`` says it with ``stop``; the rest do not say.
_AT_STOP = np.array(
    [1 if e in ("ars", "doo", "doc", "pde", "wait") else 0 if e in ("due", "dep", "pas") else -1 for e in EVENTS], dtype=np.int8
)
_DAY = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]")
_START = re.compile(r"[0-4][0-9]:[0-5][0-9](?::[0-5][0-9])?")
_ERROR_AT = re.compile(r"^(.*?) - at `\$(?:\[\.\.\.\])?\.?([^`]*)`$", re.DOTALL)

_Number = float | None


class _Payload(msgspec.Struct, gc=False):
    """The fields that are used; the rest is skipped unread. Null and absent differ for ``stop`` only."""

    tst: str | None = None
    spd: _Number = None
    hdg: _Number = None
    lat: _Number = None
    long: _Number = None
    dl: _Number = None
    odo: _Number = None
    occu: _Number = None
    drst: bool | int | None = None
    oday: str | None = None
    start: str | None = None
    route: str | None = None
    dir: str | int | None = None
    loc: str | None = None
    stop: int | str | UnsetType | None = UNSET
    sid: int | str | None = None
    tlp_decision: str | None = msgspec.field(default=None, name="tlp-decision")


_NUMBERS, _OTHERS = (
    [_Payload.__struct_fields__.index(f) for f in fields]
    for fields in (("lat", "long", "spd", "hdg", "odo", "dl", "occu"), ("drst", "loc", "stop"))
)
_decode = msgspec.json.Decoder(dict[str, _Payload]).decode


class _Head(NamedTuple):
    """What the constant part of a topic, with the payload's own trip fields, says."""

    event: int  #: -1: v1, the payload's key says it
    key: str  #: the payload's only key must be this; "" in v1
    vehicle_id: str
    operator: str
    trip: Trip
    oday: str | None
    start: str | None
    route: str | None
    dir: str | int | None


class _Refused(Exception):
    def __init__(self, reason: str, field: str, value: object, want: str) -> None:
        self.reason, self.field, self.value, self.want = reason, field, value, want
        super().__init__(reason)


class Parser:
    """Parses envelopes of one HFP feed. Its memory only saves time: results never depend on it."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._heads: dict[str, _Head] = {}
        self._trips: dict[tuple[object, ...], Trip] = {}

    def parse(self, envelope: Envelope) -> Parsed:
        """Columns of the envelope's messages in their order, and what was refused with its reason."""
        if len(self._heads) > CACHE_SIZE or len(self._trips) > CACHE_SIZE:  # never inside an envelope: its equal trips stay one object
            self._heads.clear()
            self._trips.clear()
        items: Sequence[Item] = envelope.items
        rejects: list[Reject] = []
        index: list[int] = []
        try:
            decoded = [_decode(item.body) for item in items]
            index = list(range(len(items)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            decoded = []
            for k, item in enumerate(items):
                try:
                    decoded.append(_decode(item.body))
                    index.append(k)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
                    rejects.append(_reject(k, item, _explain(e)))
        kept: list[int] = []
        payloads: list[_Payload] = []
        heads: list[_Head] = []
        events: list[int] = []
        remembered = self._heads.get
        for k, message in zip(index, decoded, strict=True):
            item = items[k]
            topic = item.topic
            try:
                if len(message) != 1:
                    raise _Refused("bad_json", "payload", sorted(message)[:5], "one key, the kind of event")
                ((key, p),) = message.items()
                start = p.start
                # The levels up to the start time do not change during a trip: they are the key of what was already understood.
                cut = topic.find(f"/{start}/", 20) if start else -1
                name = topic[: cut + len(start) + 1] if cut > 0 and start else topic
                head = remembered(name)
                if head is None or head.oday != p.oday or head.route != p.route or head.dir != p.dir or head.start != start:
                    head = self._understand(name, p)
                event = head.event
                if event < 0:
                    event = EVENT_CODE.get(key.lower(), -1)
                    if event < 0:
                        raise _Refused("unknown_event", "event", key, "an HFP event")
                elif key != head.key:
                    raise _Refused("bad_json", "payload", key, f"{head.key}, as the topic says")
                if p.tst is None:
                    raise _Refused("missing", "tst", None, "an ISO 8601 time with its zone")
            except _Refused as e:
                rejects.append(_reject(k, item, e))
                continue
            kept.append(k)
            payloads.append(p)
            heads.append(head)
            events.append(event)
        columns = _columns(items, kept, payloads, heads, events, rejects)
        rejects.sort(key=lambda r: r.index)
        return Parsed(vehicles=columns, rejects=rejects, events=len(items))

    def _understand(self, name: str, p: _Payload) -> _Head:
        """Read the constant part of a topic and remember it."""
        levels = name.split("/")
        version = levels[2] if len(levels) > 2 and levels[0] == "" and levels[1] == "hfp" else ""
        if version not in ("v1", "v2"):
            raise _Refused("bad_topic", "topic", name, "/hfp/v2/... or /hfp/v1/...")
        shift = 1 if version == "v2" else 0
        if len(levels) < 8 + shift or levels[3] not in _JOURNEYS or levels[4] not in _TEMPORAL:
            raise _Refused("bad_topic", "topic", name, "journey type, temporal type, event (v2), mode, operator, vehicle")
        event, key = -1, ""
        if shift:
            event, key = EVENT_CODE.get(levels[5], -1), levels[5].upper()
            if event < 0:
                raise _Refused("unknown_event", "event", levels[5], "an HFP event")
        mode, operator, vehicle = levels[5 + shift : 8 + shift]
        if not (
            operator.isascii()
            and operator.isdigit()
            and len(operator) <= 6
            and vehicle.isascii()
            and vehicle.isdigit()
            and len(vehicle) <= 8
        ):
            raise _Refused("bad_topic", "topic", name, "numbers as operator and vehicle")
        if p.oday is not None and not _DAY.fullmatch(p.oday):
            raise _Refused("bad_type", "oday", p.oday, "YYYY-MM-DD")
        if p.start is not None and not _START.fullmatch(p.start):
            raise _Refused("bad_type", "start", p.start, "HH:MM")
        route, direction, headsign, start = _journey(levels[8 + shift :])
        trip = self._trip(
            MODE_OF.get(mode, "unknown"),
            p.route or route or None,
            _direction(p.dir if p.dir is not None else direction),
            p.oday,
            p.start or start,
            headsign,
            levels[4] if levels[3] == "journey" else levels[3],
        )
        head = _Head(event, key, f"{operator:0>4}/{vehicle:0>5}", f"{operator:0>4}", trip, p.oday, p.start, p.route, p.dir)
        self._heads[name] = head
        return head

    def _trip(
        self,
        mode: str,
        route: str | None,
        direction: int | None,
        oday: str | None,
        start: str | None,
        headsign: str | None,
        phase: str,
    ) -> Trip:
        key = (mode, route, direction, oday, start, headsign, phase)
        trip = self._trips.get(key)
        if trip is None:
            trip = self._trips[key] = Trip(
                mode=mode, route_id=route, direction_id=direction, operating_day=oday, start_time=start, headsign=headsign, phase=phase
            )
        return trip


MODE_OF = {mode: mode for mode in MODES}


def _journey(levels: list[str]) -> tuple[str | None, str | None, str | None, str | None]:
    """Route, direction, headsign, start of the levels after the vehicle; a headsign may itself hold slashes.

    >>> _journey(["1043", "2", "Malmi/Malm", "23:20", "1334191", "1"])
    ('1043', '2', 'Malmi/Malm', '23:20')
    >>> _journey([])
    (None, None, None, None)
    """
    route = levels[0] if levels else None
    direction = levels[1] if len(levels) > 1 else None
    for k in range(2, len(levels)):
        if k > 2 and _START.fullmatch(levels[k]):
            return route, direction, "/".join(levels[2:k]) or None, levels[k]
    return route, direction, None, None


def _direction(value: str | int | None) -> int | None:
    """GTFS direction_id of HFP's 1 or 2; None of anything else.

    >>> _direction("1"), _direction(2), _direction(None), _direction("x")
    (0, 1, None, None)
    """
    return {"1": 0, "2": 1, 1: 0, 2: 1}.get(value) if value is not None else None


def _columns(
    items: Sequence[Item],
    kept: list[int],
    payloads: list[_Payload],
    heads: list[_Head],
    events: list[int],
    rejects: list[Reject],
) -> VehicleColumns:
    event_ms, bad = _instants([p.tst or "" for p in payloads])
    columns: list[Sequence[Any]] = list(zip(*map(astuple, payloads), strict=True)) or [()] * len(_Payload.__struct_fields__)
    numbers = np.array([columns[k] for k in _NUMBERS], dtype=np.float64)
    hdg, occu = numbers[3], numbers[6]
    wrong: dict[int, tuple[str, object, str, str]] = {
        k: ("tst", payloads[k].tst, "bad_type", "an ISO 8601 time with its zone") for k in bad
    }
    for k in np.flatnonzero((hdg < 0) | (hdg > 360)).tolist():
        wrong.setdefault(k, ("hdg", payloads[k].hdg, "heading", "degrees 0-360 or null"))
    for k in np.flatnonzero((occu < 0) | (occu > 100)).tolist():
        wrong.setdefault(k, ("occu", payloads[k].occu, "occupancy", "per cent 0-100 or null"))
    if wrong:
        for k, (field, value, reason, want) in wrong.items():
            rejects.append(_reject(kept[k], items[kept[k]], _Refused(reason, field, value, want)))
        rows = [k for k in range(len(kept)) if k not in wrong]
        numbers, event_ms = numbers[:, rows], event_ms[rows]
        columns = [[column[k] for k in rows] for column in columns]
        kept, events = [kept[k] for k in rows], [events[k] for k in rows]
        payloads, heads = [payloads[k] for k in rows], [heads[k] for k in rows]
    lat, lon, spd, hdg, odo, dl, occu = numbers
    nowhere = np.isnan(lat) | np.isnan(lon)
    doors, methods, stops = (columns[k] for k in _OTHERS)
    event = np.array(events, dtype=np.int8)
    named = np.array([0 if s is None else -1 if s is UNSET else 1 for s in stops], dtype=np.int8)
    return VehicleColumns(
        index=np.array(kept, dtype=np.int32),
        ingest_ms=np.array([items[k].ingest_ms for k in kept], dtype=np.int64),
        event_ms=event_ms,
        event=event,
        lat_deg=np.where(nowhere, np.nan, lat),
        lon_deg=np.where(nowhere, np.nan, lon),
        speed_mps=spd.copy(),
        heading_deg=np.where(hdg == 360.0, 0.0, hdg),
        odometer_m=np.where(odo >= 0, odo, np.nan),
        delay_s=0.0 - dl,  # HFP: positive is early; 0.0 - 0.0 is 0.0, never -0.0
        occupancy_pct=occu.copy(),
        doors_open=np.array([-1 if d is None else 1 if d else 0 for d in doors], dtype=np.int8),
        at_stop=np.where(event == _VP, named, _AT_STOP[event]),
        method=np.array([_METHOD.get(m, 0) for m in methods], dtype=np.int8),
        vehicle_id=[h.vehicle_id for h in heads],
        operator=[h.operator for h in heads],
        trip=[h.trip for h in heads],
        stop_id=[None if s is None or s is UNSET else str(s) for s in stops],
        signal={k: _signal(payloads[k], event[k] == _TLA) for k in np.flatnonzero((event == _TLR) | (event == _TLA)).tolist()},
    )


def _signal(p: _Payload, answered: bool) -> tuple[str, str]:
    """Junction ("" when it is not told), and what became of the request.

    >>> _signal(_Payload(sid=2107, tlp_decision="NAK"), True), _signal(_Payload(sid="2107"), False)
    (('2107', 'refused'), ('2107', 'requested'))
    """
    return "" if p.sid is None else str(p.sid)[:20], _DECISION.get(p.tlp_decision or "", "requested") if answered else "requested"


def _instants(texts: list[str]) -> tuple[I64, list[int]]:
    """Milliseconds of n times, and the rows that are none. HFP's own two forms are read at once, others one by one.

    >>> _instants(["2018-10-05T20:15:00Z", "2026-03-10T05:30:00.272Z", "yesterday", "2026-03-10T07:30:00.272+02:00"])
    (array([1538770500000, 1773120600272,             0, 1773120600272]), [2])
    """
    joined = "".join(texts)  # no zone but the last Z: numpy would take another one in, and warn
    if (
        joined.count("-") == 2 * len(texts)
        and joined.count("Z") == len(texts)
        and "+" not in joined
        and all((len(t) == 24 or len(t) == 20) and t[10] == "T" and t[-1] == "Z" and t[4] == t[7] == "-" for t in texts)
    ):
        try:
            return np.array([t[:-1] for t in texts], dtype="datetime64[ms]").astype(np.int64), []
        except ValueError:
            pass
    out = np.zeros(len(texts), dtype=np.int64)
    bad = []
    for k, text in enumerate(texts):
        try:
            out[k] = parse_ms(text)
        except (ValueError, OverflowError):
            bad.append(k)
    return out, bad


def _explain(error: Exception) -> _Refused:
    """A decoder's error as reason, field and expectation."""
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        found = _ERROR_AT.match(text)
        what, field = (found[1], found[2]) if found else (text, "payload")
        return _Refused("bad_type", field or "payload", what, "the type of HFP's table")
    return _Refused("bad_json", "payload", text, "one JSON object, UTF-8")


def _reject(index: int, item: Item, e: _Refused) -> Reject:
    value = e.value if isinstance(e.value, str) else repr(e.value)
    return Reject(index=index, reason=e.reason, field=e.field, value=value[:200], want=e.want, body=item.body, source_topic=item.topic)
