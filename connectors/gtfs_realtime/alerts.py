"""GTFS-Realtime service alerts: one situation an alert."""

from __future__ import annotations

from collections.abc import Callable

from google.transit import gtfs_realtime_pb2 as pb

from connectors.columns import Stated
from connectors.reading import LAST_MS, Refused
from models.clock import rfc3339
from models.records import NamedTrip, Severity, Situation

_SEVERITY: dict[int, Severity] = {pb.Alert.INFO: "low", pb.Alert.WARNING: "medium", pb.Alert.SEVERE: "high"}


def situation(
    entity: pb.FeedEntity,
    index: int,
    ingest_ms: int,
    header_s: int,
    feed: str,
    prefix: str,
    route: Callable[[str], str | None],
    trip: Callable[[pb.TripDescriptor], NamedTrip],
) -> Stated:
    """An alert does not say when it was written: it is as new as the file in which it first came in this form.

    Args:
        prefix: namespace of the id, with its slash.
        route, trip: a route's id, and a trip, as the other feeds of the city write them.

    Raises:
        Refused: no id.
    """
    alert = entity.alert
    check_texts(
        entity.id,
        *(
            t
            for e in alert.informed_entity
            for t in (e.route_id, e.stop_id, e.trip.route_id, e.trip.trip_id, e.trip.start_time, e.trip.start_date)
        ),
        *(
            t
            for texts in (alert.header_text, alert.description_text, alert.url)
            for one in texts.translation
            for t in (one.text, one.language)
        ),
    )
    if not entity.id:
        raise Refused("missing", "id", None, "the entity's id")
    event_ms = min(header_s * 1000, LAST_MS) or ingest_ms
    starts = [_ms(p.start) for p in alert.active_period]
    ends = [_ms(p.end) for p in alert.active_period]
    routes = _once([route(e.route_id or e.trip.route_id) for e in alert.informed_entity])
    key = prefix + entity.id
    record = Situation(
        situation_id=key,
        kind="transit_alert",
        event_time=rfc3339(event_ms),
        ingest_time=rfc3339(ingest_ms),
        feed=feed,
        severity=_SEVERITY.get(alert.severity_level, "unknown") if alert.HasField("severity_level") else "unknown",
        valid_from=None if not starts or None in starts else rfc3339(min(s for s in starts if s is not None)),
        valid_to=None if not ends or None in ends else rfc3339(max(e for e in ends if e is not None)),
        cause=_name(pb.Alert.Cause, alert.cause) if alert.HasField("cause") else None,
        effect=_name(pb.Alert.Effect, alert.effect) if alert.HasField("effect") else None,
        routes=routes or None,
        stops=_once([e.stop_id for e in alert.informed_entity]) or None,
        trips=[trip(e.trip) for e in alert.informed_entity if e.HasField("trip") and (e.trip.trip_id or e.trip.start_time)] or None,
        title=_texts(alert.header_text),
        text=_texts(alert.description_text),
        url=next((t.text for t in alert.url.translation if t.text), None),
    )
    return Stated(index=index, ingest_ms=ingest_ms, event_ms=event_ms, product="situation", key=key, record=record, on_change=True)


def check_texts(*texts: object) -> None:
    """Protobuf's bindings for Python give bytes where a text is not UTF-8.

    Raises:
        Refused: one of them is.
    """
    for t in texts:
        if isinstance(t, bytes):
            raise Refused("bad_utf8", "text", repr(t)[:200], "UTF-8")


def _ms(seconds: int) -> int | None:
    """None where a period is open."""
    return seconds * 1000 if 0 < seconds <= LAST_MS // 1000 else None


def _once(names: list[str | None]) -> list[str]:
    return list(dict.fromkeys(n for n in names if n))


def _name(kind: object, value: int) -> str | None:
    try:
        return str(kind.Name(value))  # type: ignore[attr-defined]
    except ValueError:  # a number that a later version of the standard knows
        return None


def _texts(translated: pb.TranslatedString) -> dict[str, str] | None:
    return {t.language.lower() or "und": t.text for t in translated.translation if t.text} or None
