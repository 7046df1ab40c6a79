"""Traffic lights of Tampere (trafficlights.tampere.fi, API v1, JSON): states of signal groups, counts and queues of their detectors.

``deviceState``: one GRINT character a group (Traffic light state of the Finnish signal controllers' interface); names that start with ``PRIO`` are priority
requests and no lamps, so they are passed over. ``trafficAmount``: vehicles counted in a period; one without the length of its period cannot become a flow, and is refused.
``queueLength`` and ``congestion``: queues and waits of detectors, in the units that stand beside the numbers; a number in a unit that is not known is passed over.
"""

from __future__ import annotations

import msgspec

from connectors.cities import City, FeedSettings
from connectors.columns import Parsed, Stated
from connectors.envelope import Envelope, Item
from connectors.reading import Refused, SensorRows, decoder, iso_ms, known, number, reject
from models.clock import rfc3339
from models.records import SensorObservation, SignalState, TrafficSignal

_Text = str | int | float | None
#: GRINT status characters, as the city's clients read them.
GREEN, RED, AMBER, OFF = "1345678:", "9?@ABCDEFGH", "<>", ";="
RED_WITHOUT_DEMAND = "BE"
_METRES = frozenset(("m", "meter", "meters", "metre", "metres", "metri", "metriä"))
_VEHICLES = frozenset(("veh", "vehicle", "vehicles", "pcs", "kpl", "count", "ajoneuvo", "ajoneuvoa"))
_SECONDS = frozenset(("s", "sec", "second", "seconds", "sekunti", "sekuntia"))
#: A period of at most so many is in minutes, one of at least so many in seconds: no count is shorter than half a minute, and none here longer than an hour.
MOST_MINUTES, LEAST_SECONDS = 30.0, 120.0
#: Counting periods outside of this are errors, milliseconds.
SHORTEST_MS, LONGEST_MS = 10_000, 24 * 3_600_000


class _Group(msgspec.Struct):
    name: str | None = None
    status: str | int | None = None


class _Device(msgspec.Struct):
    device: str | None = None
    timestamp: str | None = None
    signalGroup: list[msgspec.Raw] | None = None
    results: list[msgspec.Raw] | None = None
    responseTs: str | None = None


class _Result(msgspec.Struct):
    device: str | None = None
    detector: str | None = None
    tsPeriodStart: str | None = None
    tsPeriodEnd: str | None = None
    interval: _Text = None  #: minutes
    countPeriod: _Text = None  #: seconds or minutes, see ``_period_ms``
    trafficAmount: _Text = None
    reliabValue: _Text = None
    redPeriod: _Text = None  #: seconds
    queueLength: _Text = None
    unitQueueLength: str | None = None
    vehicleCount: _Text = None
    unitVehicleCount: str | None = None
    maxWaitTime: _Text = None
    avgWaitTime: _Text = None
    unitWaitTime: str | None = None


_list = decoder(list[msgspec.Raw], "deviceState of one device or a list of them, or results of detectors")
_device = decoder(_Device, "deviceState of one device, or results of detectors")
_group = decoder(_Group, "a signal group: name, status")
_result = decoder(_Result, "a detector's result: device, detector, period, trafficAmount")


class Parser:
    """Parses envelopes of one traffic light feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._prefix = f"{feed.id_namespace or feed.name}/"

    def parse(self, envelope: Envelope) -> Parsed:
        """One statement a signal group, one reading a detector and period. ``index`` counts both over all items of a snapshot."""
        parsed, rows, index = Parsed(), SensorRows(), 0
        for k, item in enumerate(envelope.items):
            try:
                listed = item.body.lstrip()[:1] == b"["
                for raw in _list(item.body) if listed else [msgspec.Raw(item.body)]:
                    index = self._document(index, item, raw, rows, parsed)
            except Refused as e:
                parsed.rejects.append(reject(k if envelope.kind == "messages" else -1, item, e))
        parsed.sensors = rows.columns()
        parsed.events = len(rows) + len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _document(self, index: int, item: Item, raw: msgspec.Raw, rows: SensorRows, parsed: Parsed) -> int:
        document = _device(raw)
        if document.signalGroup is None and document.results is None:
            raise Refused("missing", "signalGroup", None, "signalGroup of a device, or results of detectors")
        event_ms = 0
        if document.signalGroup is not None:
            if not document.device:
                raise Refused("missing", "device", None, "the junction's name")
            event_ms = iso_ms(document.timestamp or document.responseTs, "timestamp")
        for part in document.signalGroup or document.results or []:
            try:
                if document.signalGroup is not None:
                    self._signal(index, item, (document.device or "").lower(), event_ms, _group(part), parsed)
                else:
                    self._reading(index, item, _result(part), rows, parsed)
            except Refused as e:
                parsed.rejects.append(reject(index, item, e, part))
            index += 1
        return index

    def _signal(self, index: int, item: Item, device: str, event_ms: int, group: _Group, parsed: Parsed) -> None:
        if not group.name:
            raise Refused("missing", "name", None, "the signal group's name")
        if group.name.startswith("PRIO"):
            parsed.skip("priority_request")
            return
        code = "" if group.status is None else str(group.status)
        if len(code) != 1:
            raise Refused("bad_type", "status", code, "one GRINT character")
        record = TrafficSignal(
            device_id=self._prefix + device,
            group=group.name,
            state=state_of(code),
            event_time=rfc3339(event_ms),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            code=code,
            demand=code not in RED_WITHOUT_DEMAND if code in RED else None,
        )
        parsed.stated.append(
            Stated(
                index=index,
                ingest_ms=item.ingest_ms,
                event_ms=event_ms,
                product="traffic-signal",
                key=f"{record.device_id}:{record.group}",
                record=record,
                on_change=True,
            )
        )

    def _reading(self, index: int, item: Item, r: _Result, rows: SensorRows, parsed: Parsed) -> None:
        if not r.device or not r.detector:
            raise Refused("missing", "detector", r.detector, "device and detector")
        if r.trafficAmount is None:
            self._queue(index, item, r, parsed)
            return
        amount = number(r.trafficAmount, "trafficAmount", 0, 100_000)
        end = iso_ms(r.tsPeriodEnd, "tsPeriodEnd")
        start = _start(r, end)
        if start is None:
            raise Refused("missing", "tsPeriodStart", None, "the start of the counting period, or its length as interval or countPeriod")
        if not SHORTEST_MS <= end - start <= LONGEST_MS:
            raise Refused("range", "tsPeriodEnd", r.tsPeriodEnd, "a counting period of 10 s to a day")
        reliability = number(r.reliabValue, "reliabValue", 0, 1e6)
        rows.add(
            index,
            item.ingest_ms,
            start,
            end,
            site_id=f"{self._prefix}{r.device.lower()}",
            direction=r.detector,
            flow_vph=amount * 3_600_000 / (end - start),
            kind="signal",
            fault="intermittentDataValues" if reliability == 0 else None,
        )

    def _queue(self, index: int, item: Item, r: _Result, parsed: Parsed) -> None:
        """Queue and wait at a detector: a record of its own, so that the newest count and the newest queue of a detector stand side by side."""
        length, vehicles = number(r.queueLength, "queueLength", 0, 10_000), number(r.vehicleCount, "vehicleCount", 0, 10_000)
        mean, longest = number(r.avgWaitTime, "avgWaitTime", 0, 86_400), number(r.maxWaitTime, "maxWaitTime", 0, 86_400)
        metres = known(length) if _unit(r.unitQueueLength) in _METRES else None
        queued = (
            known(length) if _unit(r.unitQueueLength) in _VEHICLES else known(vehicles) if _unit(r.unitVehicleCount) in _VEHICLES else None
        )
        timed = _unit(r.unitWaitTime) in _SECONDS
        told = (metres, queued, known(mean) if timed else None, known(longest) if timed else None)
        if all(v is None for v in told):
            parsed.skip("no_value" if all(v != v for v in (length, vehicles, mean, longest)) else "unknown_unit")
            return
        end = iso_ms(r.tsPeriodEnd, "tsPeriodEnd")
        start = _start(r, end)
        red = number(r.redPeriod, "redPeriod", 0, 86_400)
        record = SensorObservation(
            site_id=f"{self._prefix}{(r.device or '').lower()}",
            direction=f"{r.detector}/queue",
            window_start=rfc3339(min(end, start if start is not None else end if red != red else end - round(red * 1000))),
            window_end=rfc3339(end),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            kind="signal",
            queue_m=told[0],
            queue_vehicles=told[1],
            wait_mean_s=told[2],
            wait_max_s=told[3],
            fault="intermittentDataValues" if number(r.reliabValue, "reliabValue", 0, 1e6) == 0 else None,
        )
        parsed.stated.append(
            Stated(
                index=index,
                ingest_ms=item.ingest_ms,
                event_ms=end,
                product="sensor-observation",
                key=f"{record.site_id}:{record.direction}",
                record=record,
            )
        )


def _start(r: _Result, end: int) -> int | None:
    """Beginning of a detector's period, milliseconds since 1970; None where its length is not said.

    Raises:
        Refused: a ``countPeriod`` of which nobody can tell whether it is in minutes or seconds.
    """
    if r.tsPeriodStart:
        return iso_ms(r.tsPeriodStart, "tsPeriodStart")
    minutes = number(r.interval, "interval", 0, 1440)
    if minutes != minutes:
        period = number(r.countPeriod, "countPeriod", 0, 86_400)
        if period != period:
            return None
        if MOST_MINUTES < period < LEAST_SECONDS:
            raise Refused(
                "range",
                "countPeriod",
                r.countPeriod,
                f"at most {MOST_MINUTES:g} minutes, or at least {LEAST_SECONDS:g} seconds: between, no unit is said",
            )
        minutes = period if period <= MOST_MINUTES else period / 60
    return max(end - round(minutes * 60_000), 0)


def _unit(text: str | None) -> str:
    return (text or "").strip().lower().rstrip(".")


def state_of(code: str) -> SignalState:
    """What a GRINT character means on the street.

    >>> [state_of(c) for c in "1B0<;I"]
    ['green', 'red', 'red_amber', 'amber', 'off', 'unknown']
    """
    if code in GREEN:
        return "green"
    if code in RED:
        return "red"
    if code == "0":
        return "red_amber"
    if code in AMBER:
        return "amber"
    return "off" if code in OFF else "unknown"
