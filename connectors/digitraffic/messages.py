"""Digitraffic traffic messages in Simple JSON, of REST and of MQTT (base64 of gzip of JSON there): situations.

Two spellings are on the wire, the published one (``ROAD_WORK``, ``FI``, ``HIGHEST``) and the traffic centre's own (``road work``, ``fi``, ``high``); both are read. A message that
is drawn on the map concerns the city when its rectangle touches the city's box; one that only names municipalities or regions, when the city file lists one of them
(``areas``). Times are UTC, texts are local.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

import msgspec

from connectors.cities import Box, FeedSettings
from connectors.columns import Parsed, Stated
from connectors.envelope import Item
from connectors.geojson import TooLarge, checked, touches
from connectors.reading import Refused, decoder, iso_ms, iso_ms_or_none, reject, whole
from models.clock import rfc3339
from models.records import Severity, Situation, SituationKind

#: An MQTT message unpacked is at most this large, bytes; the largest seen is 0.4 MB.
MOST_UNPACKED = 16 * 1024 * 1024
_KIND: dict[str, SituationKind] = {
    "ROAD_WORK": "roadwork", "WEIGHT_RESTRICTION": "weight_restriction", "EXEMPTED_TRANSPORT": "exempted_transport", "TRAFFIC_ANNOUNCEMENT": "information",
}  # fmt: skip
_INCIDENT = frozenset(("ACCIDENT_REPORT", "PRELIMINARY_ACCIDENT_REPORT", "UNCONFIRMED_OBSERVATION"))
_OVER = frozenset(("ENDED", "RETRACTED"))
_SEVERITY: tuple[Severity, ...] = ("none", "low", "medium", "high", "highest")
_CLOSED = frozenset(("ROAD_CLOSED", "CLOSED", "ROADWAY_CLOSED"))
_CLOSED_TEXT = "tie on suljettu liikenteeltä"


class _Named(msgspec.Struct):
    name: str | None = None
    type: str | None = None
    municipality: str | None = None
    province: str | None = None


class _RoadAddress(msgspec.Struct):
    primaryPoint: _Named | None = None
    secondaryPoint: _Named | None = None


class _Areas(msgspec.Struct):
    areas: list[_Named] | None = None


class _Details(msgspec.Struct):
    roadAddressLocation: _RoadAddress | None = None
    areaLocation: _Areas | None = None


class _Location(msgspec.Struct):
    description: str | None = None


class _Duration(msgspec.Struct):
    startTime: str | None = None
    endTime: str | None = None


class _Phase(msgspec.Struct):
    restrictions: list[_Named] | None = None
    severity: str | None = None
    timeAndDuration: _Duration | None = None


class _Announcement(msgspec.Struct):
    language: str | None = None
    title: str | None = None
    location: _Location | None = None
    locationDetails: _Details | None = None
    features: list[_Named] | None = None
    roadWorkPhases: list[_Phase] | None = None
    comment: str | None = None
    timeAndDuration: _Duration | None = None
    sender: str | None = None


class _Properties(msgspec.Struct):
    situationId: str
    situationType: str | None = None
    trafficAnnouncementType: str | None = None
    version: int | None = None
    releaseTime: str | None = None
    versionTime: str | None = None
    announcements: list[_Announcement] | None = None


class _Feature(msgspec.Struct):
    properties: _Properties
    geometry: Any = None


class _Document(msgspec.Struct):
    features: list[msgspec.Raw] | None = None


_document = decoder(_Document, "a collection of traffic messages, or one")
_feature = decoder(_Feature, "a traffic message in Simple JSON")


class Messages:
    """Reads the messages of one feed."""

    def __init__(self, feed: FeedSettings, box: Box) -> None:
        self._feed, self._box = feed.name, box
        self._areas = frozenset(a.casefold() for a in feed.areas)

    def document(self, before: int, item: Item, parsed: Parsed) -> int:
        """One REST answer; returns how many messages it held."""
        listed = _document(item.body).features
        parts = [msgspec.Raw(item.body)] if listed is None else listed
        mark = parsed.mark()
        for n, raw in enumerate(parts):
            try:
                self._feature(before + n, item, raw, parsed)
            except Refused as e:
                parsed.rejects.append(reject(before + n, item, e, raw))
        if listed is not None:
            parsed.listed(item.topic, item.ingest_ms, mark)
        return len(parts)

    def message(self, index: int, item: Item, parsed: Parsed) -> None:
        """One MQTT message. Other forms than Simple JSON, and the status topic, are passed over."""
        levels = item.topic.lstrip("/").split("/")
        if len(levels) < 3 or levels[1] != "simple":
            parsed.skip("status" if len(levels) > 1 and levels[1] == "status" else "other_form")
            return
        self._feature(index, item, msgspec.Raw(unpacked(item.body)), parsed)

    def _feature(self, index: int, item: Item, raw: msgspec.Raw, parsed: Parsed) -> None:
        feature = _feature(raw)
        p = feature.properties
        made_ms = iso_ms(p.versionTime or p.releaseTime, "versionTime")
        said = p.announcements or []
        areas = _areas(said)
        geometry = None
        if feature.geometry is not None:
            try:
                geometry, positions = checked(feature.geometry)
                here = touches(positions, self._box)
            except TooLarge:
                here = not self._areas.isdisjoint(a.casefold() for a in areas)
        else:
            here = not self._areas.isdisjoint(a.casefold() for a in areas)
        if not here:
            parsed.skip("outside_box")
            return
        start = min((t for a in said if (t := _time(a.timeAndDuration, "startTime")) is not None), default=None)
        ends = [_time(a.timeAndDuration, "endTime") for a in said]
        end = None if None in ends or not ends else max(t for t in ends if t is not None)
        announced = _spelt(p.trafficAnnouncementType)
        ended = announced in _OVER
        key = f"digitraffic/{p.situationId}"
        record = Situation(
            situation_id=key,
            kind="incident" if announced in _INCIDENT else _KIND.get(_spelt(p.situationType), "unknown"),
            event_time=rfc3339(made_ms),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            version=whole(p.version, "version", 0, 1_000_000),
            severity=_severity(said),
            valid_from=None if start is None else rfc3339(start),
            valid_to=None if end is None else rfc3339(end),
            ended=True if ended else None,
            closed=True if not ended and _is_closed(said, item.ingest_ms) else None,
            cause=announced or None,
            geometry=geometry,
            areas=areas or None,
            title=_texts(said, lambda a: a.title),
            text=_texts(said, lambda a: "\n".join(t.strip() for t in (a.location.description if a.location else None, a.comment) if t)),
            source=next((a.sender for a in said if a.sender), None),
        )
        parsed.stated.append(
            Stated(index=index, ingest_ms=item.ingest_ms, event_ms=made_ms, product="situation", key=key, record=record, ended=ended)
        )
        parsed.events += 1


def unpacked(body: bytes) -> bytes:
    """JSON of an MQTT message: base64 of gzip, or plain.

    Raises:
        Refused: neither, cut, or larger than ``MOST_UNPACKED``.

    >>> unpacked(b' {"type": "Feature"}')
    b' {"type": "Feature"}'
    """
    if body.lstrip()[:1] == b"{":
        return body
    want = f"base64 of gzip of JSON, at most {MOST_UNPACKED} bytes"
    try:
        z = zlib.decompressobj(16 + zlib.MAX_WBITS)
        out = z.decompress(base64.b64decode(b"".join(body.split()), validate=True), MOST_UNPACKED)
    except (binascii.Error, ValueError, zlib.error) as e:
        raise Refused("bad_packing", "body", str(e), want) from e
    if not z.eof:
        raise Refused("bad_packing", "body", "cut" if not z.unconsumed_tail else "too large", want)
    return out


def _spelt(name: str | None) -> str:
    """
    >>> _spelt("road work"), _spelt("ROAD_WORK"), _spelt(None)
    ('ROAD_WORK', 'ROAD_WORK', '')
    """
    return (name or "").strip().upper().replace(" ", "_").replace("-", "_")


def _time(duration: _Duration | None, field: str) -> int | None:
    return None if duration is None else iso_ms_or_none(getattr(duration, field), field)


def _areas(said: list[_Announcement]) -> list[str]:
    """Municipalities of the ends, and areas by name; each once, in the message's order."""
    out: dict[str, None] = {}
    for details in (a.locationDetails for a in said):
        if details is not None and details.roadAddressLocation is not None:
            for point in (details.roadAddressLocation.primaryPoint, details.roadAddressLocation.secondaryPoint):
                if point is not None and point.municipality:
                    out[point.municipality] = None
        if details is not None and details.areaLocation is not None:
            out |= {area.name: None for area in details.areaLocation.areas or [] if area.name}
    return list(out)


def _severity(said: list[_Announcement]) -> Severity:
    """The worst of the phases."""
    named = [_spelt(phase.severity).lower() for a in said for phase in a.roadWorkPhases or []]
    return max((s for s in _SEVERITY if s in named), key=_SEVERITY.index, default="unknown")


def _is_closed(said: list[_Announcement], now_ms: int) -> bool:
    """Whether the message closes the road now: by its features, or by a phase of roadworks that is under way."""
    for a in said:
        if any((f.name or "").casefold() == _CLOSED_TEXT for f in a.features or []):
            return True
        for phase in a.roadWorkPhases or []:
            start, end = _time(phase.timeAndDuration, "startTime"), _time(phase.timeAndDuration, "endTime")
            if (
                any(_spelt(r.type) in _CLOSED for r in phase.restrictions or [])
                and (start or 0) <= now_ms
                and (end is None or now_ms < end)
            ):
                return True
    return False


def _texts(said: list[_Announcement], words: Any) -> dict[str, str] | None:
    return {(a.language or "und").lower(): w.strip() for a in said if (w := words(a)) and w.strip()} or None
