"""Traffic lights of Tampere (trafficlights.tampere.fi, API v1, JSON): states of signal groups, counts and queues of their detectors.

``deviceState``: one GRINT character a group (Traffic light state of the Finnish signal controllers' interface); names that start with ``PRIO`` are priority
requests and no lamps, so they are passed over. ``trafficAmount``: vehicles counted in a period; ``queueLength`` and ``congestion`` are passed over, since no
published text says what their numbers mean. A count without the length of its period cannot become a flow, and is refused.
"""

from __future__ import annotations

import msgspec

from connectors.cities import City, FeedSettings
from connectors.columns import Parsed, Stated
from connectors.envelope import Envelope, Item
from connectors.reading import Refused, SensorRows, decoder, iso_ms, number, reject
from models.clock import rfc3339
from models.records import SignalState, TrafficSignal

_Text = str | int | float | None
#: GRINT status characters, as the city's clients read them.
GREEN, RED, AMBER, OFF = "1345678:", "9?@ABCDEFGH", "<>", ";="
RED_WITHOUT_DEMAND = "BE"
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
    trafficAmount: _Text = None
    reliabValue: _Text = None
    queueLength: _Text = None
    congestion: _Text = None


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
            parsed.skip("no_value" if r.queueLength is None and r.congestion is None else "meaning_not_published")
            return
        amount = number(r.trafficAmount, "trafficAmount", 0, 100_000)
        end = iso_ms(r.tsPeriodEnd, "tsPeriodEnd")
        minutes = number(r.interval, "interval", 0, 1440)
        if not r.tsPeriodStart and minutes != minutes:
            raise Refused("missing", "tsPeriodStart", None, "the start of the counting period, or its interval in minutes")
        start = iso_ms(r.tsPeriodStart, "tsPeriodStart") if r.tsPeriodStart else end - round(minutes * 60_000)
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
