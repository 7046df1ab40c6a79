"""GTFS-Realtime trip updates: what they say of the past and the present. Forecasts are passed over, and no forecast becomes a passage.

A cancelled trip becomes a situation. How late a trip is, and when its vehicle was at the stops behind it, becomes ``TripNews``: a trip update need not name the
vehicle, so ``streams/trips.py`` joins it to the one that is seen on the trip.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from google.transit import gtfs_realtime_pb2 as pb

from connectors.columns import PassedStop, Stated, Trip, TripNews
from connectors.gtfs_realtime.alerts import check_texts
from connectors.reading import LAST_MS, Refused
from models.clock import rfc3339
from models.records import NamedTrip, Situation

_CANCELED, _DELETED = pb.TripDescriptor.CANCELED, 7
_SCHEDULED = pb.TripUpdate.StopTimeUpdate.SCHEDULED
#: A delay beyond this is a wrong match, seconds.
MOST_DELAY_S = 12 * 3600


def news(
    update: pb.TripUpdate, index: int, ingest_ms: int, header_s: int, trip: Trip, vehicle: str | None, *, certain_is_passed: bool
) -> TripNews | None:
    """How late the trip is now, and the stops that it has passed; None when it only forecasts.

    Late is the trip's own ``delay``, else that of the last stop whose time is over by the sender's clock. A stop is passed when its departure (or, where there is none, its
    arrival) is over and has an ``uncertainty`` of 0, and only where the city file says that the sender means it so.
    """
    check_texts(*(s.stop_id for s in update.stop_time_update))
    now_s = min(update.timestamp or header_s or ingest_ms // 1000, ingest_ms // 1000)
    delay = float(update.delay) if update.HasField("delay") else None
    passed = []
    for s in update.stop_time_update:
        if s.schedule_relationship != _SCHEDULED:
            continue
        left = s.departure if s.HasField("departure") else s.arrival
        if not left.time or left.time > now_s:
            continue
        if left.HasField("delay") and not update.HasField("delay"):
            delay = float(left.delay)
        if certain_is_passed and s.stop_id and left.HasField("uncertainty") and left.uncertainty == 0 and left.time > 0:
            passed.append(PassedStop(
                stop_id=s.stop_id, left_ms=left.time * 1000, departed=s.HasField("departure"),
                arrived_ms=s.arrival.time * 1000 if s.HasField("arrival") and 0 < s.arrival.time <= left.time else None,
                delay_s=float(left.delay) if left.HasField("delay") else None,
            ))  # fmt: skip
    if delay is not None and abs(delay) > MOST_DELAY_S:
        delay = None
    if delay is None and not passed:
        return None
    return TripNews(index=index, ingest_ms=ingest_ms, trip=trip, vehicle_id=vehicle, delay_s=delay, passed=tuple(passed))


def is_cancelled(update: pb.TripUpdate) -> bool:
    return update.trip.schedule_relationship in (_CANCELED, _DELETED)


def cancellation(
    update: pb.TripUpdate, index: int, ingest_ms: int, header_s: int, feed: str, prefix: str, trip: Trip, zone: ZoneInfo
) -> Stated:
    """The situation that a cancelled trip is. It ends when the list names it no more, or says that the trip runs.

    Raises:
        Refused: nothing names the trip.
    """
    name = trip.trip_id or "/".join(str(x) for x in (trip.route_id, trip.direction_id, trip.start_time) if x is not None)
    if not name:
        raise Refused("missing", "trip", None, "trip_id, or route, direction and start of the cancelled trip")
    event_ms = min((update.timestamp or header_s) * 1000, LAST_MS) or ingest_ms
    key = f"{prefix}cancelled/{'/'.join(x for x in (trip.operating_day, name) if x)}"
    start = _start(trip, zone)
    record = Situation(
        situation_id=key, kind="transit_alert", event_time=rfc3339(event_ms), ingest_time=rfc3339(ingest_ms), feed=feed,
        valid_from=start, effect="NO_SERVICE", routes=[trip.route_id] if trip.route_id else None, trips=[named(trip)],
    )  # fmt: skip
    return Stated(index=index, ingest_ms=ingest_ms, event_ms=event_ms, product="situation", key=key, record=record, on_change=True)


def named(trip: Trip) -> NamedTrip:
    return NamedTrip(
        trip_id=trip.trip_id,
        route_id=trip.route_id,
        direction_id=trip.direction_id,
        operating_day=trip.operating_day,
        start_time=trip.start_time,
    )


def _start(trip: Trip, zone: ZoneInfo) -> str | None:
    """When the trip was to start, from its day and its clock, which may pass 24:00; None where either is not told."""
    if trip.operating_day is None or trip.start_time is None:
        return None
    hours, minutes, *_ = (int(x) for x in trip.start_time.split(":"))
    try:
        noon = datetime.strptime(trip.operating_day, "%Y-%m-%d").replace(hour=12, tzinfo=zone)
        at = round(noon.timestamp() + timedelta(hours=hours - 12, minutes=minutes).total_seconds())  # GTFS: from noon minus 12 h
    except (ValueError, OverflowError, OSError):
        return None
    return rfc3339(at * 1000) if 0 <= at <= LAST_MS // 1000 else None
