"""Vehicles of invented traffic in the wire formats of the live feeds: HFP, GTFS-Realtime (of HSL, Waltti, ITS Factory, the Digitransit broker), the Journeys API, Föli's SIRI."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from google.transit import gtfs_realtime_pb2 as pb

from demo.traffic import Fix, Traffic, local_minute
from models.clock import rfc3339

ZONE = ZoneInfo("Europe/Helsinki")
HFP_OPERATOR = 99  #: of nobody
NYSSE_OPERATOR, FOLI_OPERATOR = "56920", "16"
NYSSE_VEHICLE, FOLI_VEHICLE = f"{NYSSE_OPERATOR}_{{}}", f"{FOLI_OPERATOR}{{:04d}}"


def iso(ms: int) -> str:
    """Local time with its offset, whole seconds, as Tampere's services write it."""
    return datetime.fromtimestamp(ms // 1000, ZONE).isoformat()


def hfp(fix: Fix, now_ms: int, event: str = "vp") -> tuple[str, bytes]:
    """Topic and payload of one HFP v2 message."""
    day, start = local_minute(fix.departed_ms, ZONE)
    lat, lon = f"{fix.lat_deg:.3f}", f"{fix.lon_deg:.3f}"
    geohash = "/".join([f"{lat[:2]};{lon[:2]}", *(a + b for a, b in zip(lat[3:], lon[3:], strict=True))])
    payload = {
        "desi": fix.route_id[1:].lstrip("0"), "dir": str(fix.direction_id + 1), "oper": HFP_OPERATOR, "veh": fix.number, "tst": rfc3339(now_ms),
        "tsi": now_ms // 1000, "spd": fix.speed_mps, "hdg": round(fix.heading_deg), "lat": fix.lat_deg, "long": fix.lon_deg, "acc": 0.0, "dl": -fix.delay_s,
        "odo": round(fix.odometer_m), "drst": int(fix.at_stop), "oday": day, "jrn": 1, "line": 1, "start": start, "loc": "GPS",
        "stop": fix.stop_id if fix.at_stop else None, "route": fix.route_id, "occu": 0,
    }  # fmt: skip
    topic = (
        f"/hfp/v2/journey/ongoing/{event}/bus/{HFP_OPERATOR:04d}/{fix.number:05d}/{fix.route_id}/{fix.direction_id + 1}/SIMULATED/{start}"
        f"/{fix.stop_id}/4/{geohash}"
    )
    return topic, msgspec.json.encode({event.upper(): payload})


def _entity(
    message: pb.FeedMessage, fix: Fix, now_ms: int, *, entity_id: str, vehicle_id: str, route_id: str, zone: ZoneInfo, trip_id: str | None = None,
    own_time: bool = True, speed: bool = True,
) -> None:  # fmt: skip
    at = datetime.fromtimestamp(fix.departed_ms // 1000, zone)
    v = message.entity.add(id=entity_id).vehicle
    v.vehicle.id = vehicle_id
    v.trip.route_id, v.trip.direction_id = route_id, fix.direction_id
    v.trip.start_date, v.trip.start_time = at.strftime("%Y%m%d"), at.strftime("%H:%M:%S")
    if trip_id is not None:
        v.trip.trip_id = trip_id
    v.position.latitude, v.position.longitude, v.position.bearing = fix.lat_deg, fix.lon_deg, fix.heading_deg
    if speed:
        v.position.speed = fix.speed_mps
    if own_time:
        v.timestamp = now_ms // 1000
        v.current_status = pb.VehiclePosition.STOPPED_AT if fix.at_stop else pb.VehiclePosition.IN_TRANSIT_TO
        v.stop_id = fix.stop_id


def _message(now_ms: int, version: str, incrementality: int = pb.FeedHeader.FULL_DATASET) -> pb.FeedMessage:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = version
    message.header.incrementality = incrementality  # type: ignore[assignment]
    message.header.timestamp = now_ms // 1000
    return message


def _bytes(message: pb.FeedMessage) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def nobody(now_ms: int) -> bytes:
    """A snapshot without vehicles."""
    return _bytes(_message(now_ms, "2.0"))


def hsl_vehicle_positions(recorded: bytes, traffics: list[Traffic]) -> bytes:
    """The recording's snapshot with the invented vehicles added: no trip ids, as HSL's."""
    message = pb.FeedMessage.FromString(recorded)
    for traffic in traffics:
        for fix in traffic.fixes:
            name = f"{HFP_OPERATOR}/{fix.number}"
            _entity(message, fix, traffic.now_ms, entity_id=f"vehicle_position_{name}", vehicle_id=name, route_id=fix.route_id, zone=ZONE)
    return _bytes(message)


def itsfactory(traffic: Traffic) -> bytes:
    """ITS Factory's: route, date and start time in UTC, no trip id, no time of its own and no speed."""
    message = _message(traffic.now_ms, "1.0")
    for fix in traffic.fixes:
        name = NYSSE_VEHICLE.format(fix.number)
        _entity(
            message,
            fix,
            traffic.now_ms,
            entity_id=name,
            vehicle_id=name,
            route_id=fix.route_id,
            zone=ZoneInfo("UTC"),
            own_time=False,
            speed=False,
        )
    return _bytes(message)


def waltti(traffic: Traffic, names: str, route_end: str = "") -> bytes:
    """Waltti's: trip ids, local start times."""
    message = _message(traffic.now_ms, "2.0")
    for fix in traffic.fixes:
        name = names.format(fix.number)
        _entity(
            message, fix, traffic.now_ms, entity_id=name, vehicle_id=name, route_id=fix.route_id + route_end, zone=ZONE, trip_id=_trip(fix)
        )
    return _bytes(message)


def digitransit(traffic: Traffic, fix: Fix, feed_id: str, names: str, route_end: str = "", mode: str = "BUS") -> tuple[str, bytes]:
    """Topic and payload of the Digitransit broker: one vehicle, DIFFERENTIAL."""
    message = _message(traffic.now_ms, "1.0", pb.FeedHeader.DIFFERENTIAL)
    name, route = names.format(fix.number), fix.route_id + route_end
    _entity(message, fix, traffic.now_ms, entity_id=name, vehicle_id=name, route_id=route, zone=ZONE, trip_id=_trip(fix))
    _, start = local_minute(fix.departed_ms, ZONE)
    topic = f"/gtfsrt/vp/{feed_id}/1/SIMULATED/{mode}/{route}/{fix.direction_id}/SIMULATED/{_trip(fix)}/{fix.stop_id}/{start}/{name}/60;24/19/75/80/{fix.route_id}/"
    return topic, _bytes(message)


def _trip(fix: Fix) -> str:
    return f"gen_{fix.route_id}_{fix.direction_id}_{fix.departed_ms // 60_000}_{fix.number}"


def journeys(traffic: Traffic) -> bytes:
    """``vehicle-activity`` of the Journeys API: every number is a text, speed in km/h, late is positive."""
    body = []
    for fix in traffic.fixes:
        day, start = local_minute(fix.departed_ms, ZONE)
        delay = f"{'-' if fix.delay_s < 0 else ''}P0Y0M0DT0H{abs(fix.delay_s) // 60}M{abs(fix.delay_s) % 60}.000S"
        journey = {
            "lineRef": fix.route_id,
            "directionRef": str(fix.direction_id + 1),
            "framedVehicleJourneyRef": {
                "dateFrameRef": day,
                "datedVehicleJourneyRef": f"http://192.0.2.1/journeys/api/1/journeys/{fix.route_id}_{start.replace(':', '')}_SIM_SIM",
            },
            "vehicleLocation": {"longitude": str(fix.lon_deg), "latitude": str(fix.lat_deg)},
            "operatorRef": NYSSE_OPERATOR,
            "bearing": str(round(fix.heading_deg)),
            "delay": delay,
            "vehicleRef": NYSSE_VEHICLE.format(fix.number),
            "journeyPatternRef": fix.route_id,
            "originShortName": "SIM",
            "destinationShortName": "SIM",
            "speed": f"{fix.speed_mps * 3.6:.1f}",
            "originAimedDepartureTime": iso(fix.departed_ms),
            "onwardCalls": [],
        }
        activity = {
            "recordedAtTime": iso(traffic.now_ms),
            "validUntilTime": iso(traffic.now_ms + 30_000),
            "monitoredVehicleJourney": journey,
        }
        body.append(activity)
    paging = {"startIndex": 0, "pageSize": len(body), "moreData": False}
    return msgspec.json.encode({"status": "success", "data": {"headers": {"paging": paging}}, "body": body})


def foli_vm(traffic: Traffic) -> bytes:
    """Föli's ``siri/vm``: vehicles by id, times in seconds since 1970, ``delay`` in seconds, direction 2 is GTFS 0."""
    now = traffic.now_ms // 1000
    vehicles = {
        FOLI_VEHICLE.format(fix.number): {
            "recordedattime": now,
            "validuntiltime": now + 600,
            "linkdistance": 400,
            "percentage": round(100 * fix.along_share, 2),
            "lineref": fix.route_id,
            "directionref": "2" if fix.direction_id == 0 else "1",
            "publishedlinename": fix.route_id,
            "operatorref": FOLI_OPERATOR,
            "destinationname": "SIMULATED",
            "originaimeddeparturetime": fix.departed_ms // 1000,
            "monitored": True,
            "incongestion": fix.speed_mps < 1 and not fix.at_stop,
            "inpanic": False,
            "longitude": fix.lon_deg,
            "latitude": fix.lat_deg,
            "delay": f"{'-' if fix.delay_s < 0 else ''}PT{abs(fix.delay_s)}S",
            "vehicleref": FOLI_VEHICLE.format(fix.number),
            "vehicleatstop": fix.at_stop,
            "next_stoppointref": fix.stop_id,
        }
        for fix in traffic.fixes
    }
    result = {"responsetimestamp": now, "producerref": "SIMULATED", "status": True, "moredata": False, "vehicles": vehicles}
    return msgspec.json.encode({"sys": "VM", "status": "OK", "servertime": now, "result": result})


def foli_sm(traffic: Traffic, stop_id: str) -> bytes:
    """Föli's ``siri/sm/<stop>``: a list, which does not say of which stop."""
    now = traffic.now_ms // 1000
    visits = [
        {
            "recordedattime": now, "lineref": fix.route_id, "dataframeref": local_minute(fix.departed_ms, ZONE)[0],
            "directionname": "2" if fix.direction_id == 0 else "1", "originaimeddeparturetime": fix.departed_ms // 1000, "monitored": True,
            "incongestion": False, "longitude": fix.lon_deg, "latitude": fix.lat_deg, "vehicleref": FOLI_VEHICLE.format(fix.number),
            "vehicleatstop": fix.at_stop and fix.stop_id == stop_id, "destinationdisplay": "SIMULATED", "aimedarrivaltime": aimed // 1000,
            "expectedarrivaltime": expected // 1000, "aimeddeparturetime": aimed // 1000, "expecteddeparturetime": expected // 1000 + 15,
            "__tripref": _trip(fix), "__routeref": fix.route_id, "__directionid": str(fix.direction_id),
        }
        for fix, expected, aimed in traffic.board(stop_id)
    ]  # fmt: skip
    return msgspec.json.encode({"sys": "SM", "status": "OK", "servertime": now, "result": visits})


def stop_monitoring(traffic: Traffic, stop_ids: str) -> bytes:
    """``stop-monitoring`` of the Journeys API: visits by stop, of the stops that are named with commas between."""
    body = {}
    for stop_id in stop_ids.split(","):
        body[stop_id] = [
            {
                "lineRef": fix.route_id, "directionRef": "0", "vehicleLocation": {"longitude": str(fix.lon_deg), "latitude": str(fix.lat_deg)},
                "operatorRef": NYSSE_OPERATOR, "bearing": str(round(fix.heading_deg)), "delay": "P0Y0M0DT0H0M0.000S",
                "vehicleRef": NYSSE_VEHICLE.format(fix.number), "journeyPatternRef": fix.route_id, "originAimedDepartureTime": iso(fix.departed_ms),
                "call": {
                    "vehicleAtStop": fix.at_stop and fix.stop_id == stop_id, "expectedArrivalTime": iso(expected), "expectedDepartureTime": iso(expected + 15_000),
                    "aimedArrivalTime": iso(aimed), "aimedDepartureTime": iso(aimed), "visitNumber": "1",
                },
            }
            for fix, expected, aimed in traffic.board(stop_id)
        ]  # fmt: skip
    paging = {"startIndex": 0, "pageSize": len(body), "moreData": False}
    return msgspec.json.encode({"status": "success", "data": {"headers": {"paging": paging}}, "body": body})


def alert(now_ms: int, route_id: str, header: str) -> bytes:
    """Service alerts of GTFS-Realtime: one detour."""
    message = _message(now_ms, "2.0")
    a = message.entity.add(id="simulated-1").alert
    a.active_period.add(start=now_ms // 1000 - 3600, end=now_ms // 1000 + 3600)
    a.informed_entity.add().route_id = route_id
    a.cause, a.effect = pb.Alert.CONSTRUCTION, pb.Alert.DETOUR
    a.header_text.translation.add(text=header, language="en")
    return _bytes(message)


def trip_updates(now_ms: int, traffics: list[Traffic], route_end: str = "", *, trip_ids: bool = False) -> bytes:
    """How late each trip is, and one trip that is cancelled: the first line's of the coming hour."""
    message = _message(now_ms, "2.0")
    for traffic in traffics:
        for fix in traffic.fixes:
            update = message.entity.add(id=f"{fix.route_id}/{fix.number}").trip_update
            _name_trip(update.trip, fix.route_id + route_end, fix.direction_id, fix.departed_ms)
            if trip_ids:
                update.trip.trip_id = _trip(fix)
            update.timestamp, update.delay = now_ms // 1000, fix.delay_s
    if traffics:
        off = message.entity.add(id="cancelled").trip_update
        first = traffics[0].fixes[0]
        _name_trip(off.trip, first.route_id + route_end, first.direction_id, now_ms // 3_600_000 * 3_600_000 + 3_600_000)
        off.trip.schedule_relationship = pb.TripDescriptor.CANCELED
        off.timestamp = now_ms // 3_600_000 * 3600
    return _bytes(message)


def _name_trip(trip: pb.TripDescriptor, route_id: str, direction_id: int, departed_ms: int) -> None:
    at = datetime.fromtimestamp(departed_ms // 1000, ZONE)
    trip.route_id, trip.direction_id = route_id, direction_id
    trip.start_date, trip.start_time = at.strftime("%Y%m%d"), at.strftime("%H:%M:%S")


def in_hours(ms: int, hours: float) -> str:
    """UTC, as Digitraffic writes it."""
    return (datetime.fromtimestamp(ms // 1000, UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
