"""GTFS-Realtime 2.0: vehicle positions with congestion and occupancy, and service alerts. Translations of the newest records, as the official bindings read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.transit import gtfs_realtime_pb2 as pb

from models.clock import parse_ms
from models.fluency import Los
from models.records import Situation, VehiclePosition

#: Level of service of the street that a vehicle is on, measured and not only inferred -> GTFS-RT's congestion level.
CONGESTION: dict[Los, int] = {
    "A": pb.VehiclePosition.RUNNING_SMOOTHLY,
    "B": pb.VehiclePosition.RUNNING_SMOOTHLY,
    "C": pb.VehiclePosition.STOP_AND_GO,
    "D": pb.VehiclePosition.STOP_AND_GO,
    "E": pb.VehiclePosition.CONGESTION,
    "F": pb.VehiclePosition.SEVERE_CONGESTION,
}


def _feed(log_ms: int) -> pb.FeedMessage:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.incrementality = pb.FeedHeader.FULL_DATASET
    message.header.timestamp = max(0, log_ms) // 1000
    return message


def positions(log_ms: int, vehicles: Sequence[VehiclePosition], los_of: Callable[[str], Los | None]) -> pb.FeedMessage:
    """Every vehicle that reported where it is.

    Args:
        log_ms: time of the feed.
        vehicles: newest record of each vehicle.
        los_of: level of service of a segment where it is measured, else None.
    """
    message = _feed(max([log_ms, *(parse_ms(v.event_time) for v in vehicles)]))
    for v in vehicles:
        if v.lat_deg is None or v.lon_deg is None:
            continue
        entity = message.entity.add(id=v.vehicle_id)
        out = entity.vehicle
        out.vehicle.id = v.vehicle_id
        out.timestamp = parse_ms(v.event_time) // 1000
        out.position.latitude, out.position.longitude = v.lat_deg, v.lon_deg
        for field, value in (("bearing", v.heading_deg), ("speed", v.speed_mps), ("odometer", v.odometer_m)):
            if value is not None:
                setattr(out.position, field, value)
        _trip(out.trip, v)
        if v.at_stop and v.stop_id:
            out.stop_id, out.current_status = v.stop_id, pb.VehiclePosition.STOPPED_AT
        if v.occupancy_pct is not None:
            out.occupancy_percentage = round(v.occupancy_pct)
        level = CONGESTION.get(los_of(v.segment_id) or "unknown") if v.segment_id else None
        if level is not None:
            out.congestion_level = level
    return message


def _trip(trip: pb.TripDescriptor, v: VehiclePosition) -> None:
    for field, value in (("trip_id", v.trip_id), ("route_id", v.route_id), ("direction_id", v.direction_id)):
        if value is not None:
            setattr(trip, field, value)
    if v.start_time is not None:
        trip.start_time = v.start_time if v.start_time.count(":") == 2 else f"{v.start_time}:00"
    if v.operating_day is not None:
        trip.start_date = v.operating_day.replace("-", "")
    if trip.ListFields():
        trip.schedule_relationship = pb.TripDescriptor.SCHEDULED


def _named(enum: object, name: str | None, default: int) -> int:
    """A value that the source named in GTFS-RT's own words, else the default."""
    return int(dict(enum.items()).get((name or "").upper(), default))  # type: ignore[attr-defined]


def alerts(log_ms: int, found: Sequence[Situation]) -> pb.FeedMessage:
    """Situations that touch routes or stops and are not over."""
    message = _feed(max([log_ms, *(parse_ms(s.event_time) for s in found)]))
    for s in found:
        if s.ended or not (s.routes or s.stops):
            continue
        alert = message.entity.add(id=s.situation_id).alert
        if s.valid_from or s.valid_to:
            period = alert.active_period.add()
            if s.valid_from:
                period.start = parse_ms(s.valid_from) // 1000
            if s.valid_to:
                period.end = parse_ms(s.valid_to) // 1000
        for route in s.routes or ():
            alert.informed_entity.add().route_id = route
        for stop in s.stops or ():
            alert.informed_entity.add().stop_id = stop
        alert.cause = _named(pb.Alert.Cause, s.cause, pb.Alert.UNKNOWN_CAUSE)
        alert.effect = _named(pb.Alert.Effect, s.effect, pb.Alert.UNKNOWN_EFFECT)
        for texts, target in ((s.title, alert.header_text), (s.text, alert.description_text)):
            for language, text in sorted((texts or {}).items()):
                translation = target.translation.add(text=text)
                if language != "und":
                    translation.language = language
        if s.url:
            alert.url.translation.add(text=s.url)
    return message
