"""What stands beside invented streets, in the wire formats of the live feeds: counting stations, road weather, roadworks, traffic lights, car parks, city bikes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from demo.traffic import Traffic
from demo.wire import ZONE, in_hours, iso
from geo import polylines
from models.clock import rfc3339

MINUTE_MS = 60_000
#: Digitraffic's sensors of direction 1 and 2: flow and speed of the sliding five minutes.
SLIDING = ((5116, "OHITUKSET_5MIN_LIUKUVA_SUUNTA1", 5122, "KESKINOPEUS_5MIN_LIUKUVA_SUUNTA1"), (5119, "OHITUKSET_5MIN_LIUKUVA_SUUNTA2", 5125, "KESKINOPEUS_5MIN_LIUKUVA_SUUNTA2"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere on a two-way street."""

    number: int
    lat_deg: float
    lon_deg: float
    bearing_deg: int
    forth: int  #: segment of direction 1
    back: int


class Roadside:
    """The stations of one invented city, and what they say. ``number`` tells its stations from other cities'."""

    def __init__(self, name: str, traffic: Traffic, number: int, stations: int = 8) -> None:
        self.name, self.traffic, self.number = name, traffic, number
        self._rng = random.Random(f"{name} {traffic.network.version}")
        s = traffic.network.segments
        wide = [
            i for i, c in enumerate(s.road_class) if c in ("trunk", "primary", "secondary") and s.opposite[i] > i and s.length_m[i] > 80
        ]
        self.places = [self._place(number * 100 + k, i) for k, i in enumerate(sorted(self._rng.sample(wide, min(stations, len(wide)))))]
        self.lit = sorted({int(s.to_node[i]) for i in range(len(s)) if s.signal[i] == 1 and s.represents[i] == "general_traffic"})
        self.works = self._rng.choice([i for i, c in enumerate(s.road_class) if c == "tertiary"])

    def _place(self, number: int, segment: int) -> Place:
        s, at = self.traffic.network.segments, np.array([segment])
        half = s.length_m[at] / 2
        (e0, n0), (e1, n1) = (polylines.point_at(s.geometry, at, half + d) for d in (-3.0, 3.0))
        lat, lon = self.traffic.plane.to_wgs84((e0 + e1) / 2, (n0 + n1) / 2)
        bearing = round(math.degrees(math.atan2(float(e1[0] - e0[0]), float(n1[0] - n0[0])))) % 360
        return Place(number, round(float(lat[0]), 6), round(float(lon[0]), 6), bearing, segment, int(s.opposite[segment]))

    # ------------------------------------------------------------- Digitraffic

    def stations(self, now_ms: int) -> list[dict[str, Any]]:
        """Features of TMS ``stations``."""
        free = self.traffic.free_mps
        return [
            _feature(p.number, p.lon_deg, p.lat_deg, {
                "tmsNumber": p.number, "name": f"simulated_{self.name}_{p.number % 100}", "bearing": p.bearing_deg, "collectionStatus": "GATHERING",
                "dataUpdatedTime": rfc3339(now_ms), "state": "OK", "freeFlowSpeed1": round(free[p.forth] * 3.6), "freeFlowSpeed2": round(free[p.back] * 3.6),
            })
            for p in self.places
        ]  # fmt: skip

    def constants(self, now_ms: int) -> list[dict[str, Any]]:
        """Stations of TMS ``sensor-constants``."""
        out = []
        for p in self.places:
            free = [round(self.traffic.free_mps[k] * 3.6) for k in (p.forth, p.back)]
            values = {"VVAPAAS1": free[0], "VVAPAAS2": free[1], "Tien_suunta": p.bearing_deg}
            always = [{"name": name, "value": value, "validFrom": "01-01", "validTo": "12-31"} for name, value in values.items()]
            out.append({"id": p.number, "dataUpdatedTime": rfc3339(now_ms), "sensorConstantValues": always})
        return out

    def readings(self, now_ms: int) -> list[dict[str, Any]]:
        """Stations of TMS ``stations/data``: the last five minutes, as of the last whole minute."""
        at_ms = now_ms - now_ms % MINUTE_MS
        out = []
        for p in self.places:
            values = []
            for (flow_id, flow_name, speed_id, speed_name), segment in zip(SLIDING, (p.forth, p.back), strict=True):
                flow, speed = self.traffic.measured(segment, at_ms)
                values.append(_sensor(p.number, flow_id, flow_name, "kpl/h", round(flow / 12) * 12, at_ms))
                values.append(_sensor(p.number, speed_id, speed_name, "km/h", round(speed), at_ms))
            out.append({"id": p.number, "tmsNumber": p.number, "dataUpdatedTime": rfc3339(at_ms), "sensorValues": values})
        return out

    def weather_station(self, now_ms: int) -> dict[str, Any]:
        """Feature of weather ``stations``."""
        p = self.places[0]
        told = {"name": f"simulated_{self.name}", "collectionStatus": "GATHERING", "state": None, "dataUpdatedTime": rfc3339(now_ms)}
        return _feature(p.number, p.lon_deg, p.lat_deg, told)

    def weather(self, now_ms: int) -> dict[str, Any]:
        """Station of weather ``stations/data``: a mild, wet autumn."""
        at_ms = now_ms - now_ms % MINUTE_MS
        slow = math.sin(at_ms / 3.6e6 + self.number)
        told = (
            (1, "ILMA", "°C", round(4 + 2 * slow, 1)), (3, "TIE_1", "°C", round(3 + 2 * slow, 1)), (16, "KESKITUULI", "m/s", round(4 + slow, 1)),
            (22, "SADE", "", 1 if slow > 0 else 0), (27, "KELI_1", "", 3 if slow > 0 else 2), (26, "NÄKYVYYS_KM", "km", 18.0),
        )  # fmt: skip
        values = [_sensor(self.places[0].number, number, name, unit, value, at_ms) for number, name, unit, value in told]
        return {"id": self.places[0].number, "dataUpdatedTime": rfc3339(at_ms), "sensorValues": values}

    def plough(self, now_ms: int) -> dict[str, Any]:
        """Feature of maintenance ``tracking/routes/latest``: one that grits between the stations, a new stretch of work every five minutes."""
        at_ms = now_ms - now_ms % MINUTE_MS
        p = self.places[at_ms // MINUTE_MS % len(self.places)]
        told = {"time": rfc3339(at_ms), "created": rfc3339(at_ms), "tasks": ["SALTING"], "domain": "simulated", "source": "SIMULATED"}
        return _feature(self.number * 1_000_000 + at_ms // (5 * MINUTE_MS) % 1_000_000, p.lon_deg, p.lat_deg, told)

    def roadwork(self, now_ms: int, title: str) -> dict[str, Any]:
        """Feature of ``roadworks``: one lane, for some hours, on a small street."""
        hour = now_ms - now_ms % (60 * MINUTE_MS)
        s = self.traffic.network.segments
        line = polylines.coordinates(s.geometry, self.works)
        lat, lon = self.traffic.plane.to_wgs84(line[:, 0], line[:, 1])
        times = {"startTime": in_hours(hour, -2), "endTime": in_hours(hour, 4)}
        phase = {"restrictions": [{"type": "SINGLE_LANE_CLOSED"}], "severity": "LOW", "timeAndDuration": times}
        announcement = {
            "language": "EN", "title": f"{title}. SIMULATED roadworks.", "location": {"countryCode": 6, "locationTableNumber": 17, "description": title},
            "locationDetails": {"roadAddressLocation": {"primaryPoint": {"municipality": title}}}, "features": [], "roadWorkPhases": [phase],
            "comment": "SIMULATED: there is no such roadwork.", "timeAndDuration": times, "sender": "nobody",
        }  # fmt: skip
        properties = {
            "situationId": f"SIM{self.number}", "situationType": "ROAD_WORK", "trafficAnnouncementType": None, "version": hour // 3_600_000,
            "releaseTime": rfc3339(hour), "versionTime": rfc3339(hour), "announcements": [announcement], "dataUpdatedTime": rfc3339(hour),
        }  # fmt: skip
        where = {"type": "LineString", "coordinates": np.column_stack([lon, lat]).round(6).tolist()}
        return {"type": "Feature", "geometry": where, "properties": properties}

    def roadwork_datex(self, now_ms: int, title: str) -> str:
        """The same in DATEX II: a ``situation`` of ``roadworks/datex2-3.7.xml``."""
        told = self.roadwork(now_ms, title)
        said, line = told["properties"], told["geometry"]["coordinates"]
        announcement = said["announcements"][0]
        times = announcement["timeAndDuration"]
        return (
            f'<sit:situation id="{said["situationId"]}"><sit:overallSeverity>low</sit:overallSeverity>'
            f'<sit:situationRecord xsi:type="sit:MaintenanceWorks" id="{said["situationId"]}01" version="{said["version"]}">'
            f"<sit:situationRecordCreationTime>{said['versionTime']}</sit:situationRecordCreationTime>"
            f"<sit:situationRecordVersionTime>{said['versionTime']}</sit:situationRecordVersionTime>"
            f"<sit:validity><com:validityTimeSpecification><com:overallStartTime>{times['startTime']}</com:overallStartTime>"
            f"<com:overallEndTime>{times['endTime']}</com:overallEndTime></com:validityTimeSpecification></sit:validity>"
            f'<sit:generalPublicComment><sit:comment><com:values><com:value lang="en">{announcement["title"]}</com:value></com:values></sit:comment>'
            '</sit:generalPublicComment><sit:locationReference xsi:type="loc:LinearLocation"><loc:gmlLineString srsName="WGS 84">'
            f"<loc:posList>{' '.join(f'{lat} {lon}' for lon, lat in line)}</loc:posList></loc:gmlLineString></sit:locationReference>"
            "</sit:situationRecord></sit:situation>"
        )

    # ---------------------------------------------------- the cities' own feeds

    def device_state(self, device: str, now_ms: int) -> bytes:
        """Traffic lights of Tampere: the groups of one junction."""
        s = self.traffic.network.segments
        node = self.lit[int(device.removeprefix("tre")) % len(self.lit)]
        arms = [i for i in range(len(s)) if s.to_node[i] == node and s.represents[i] == "general_traffic"]
        groups = [{"idx": k, "name": "ABCDEFGH"[k], "status": "A" if self.traffic.signal_is_red(i) else "3"} for k, i in enumerate(arms)]
        return msgspec.json.encode({"responseTs": iso(now_ms), "device": device.upper(), "timestamp": iso(now_ms), "signalGroup": groups})

    def traffic_amount(self, now_ms: int) -> bytes:
        """Traffic lights of Tampere: vehicles counted in the last quarter that is over."""
        end = now_ms - now_ms % (15 * MINUTE_MS)
        results = []
        for p in self.places:
            for name, segment in (("a35_1", p.forth), ("b35_1", p.back)):
                flow, _ = self.traffic.measured(segment, end, 900)
                results.append({
                    "device": f"TRE{900 + p.number % 100}", "detector": name, "trafficAmount": round(flow / 4), "reliabValue": 100,
                    "tsPeriodStart": iso(end - 15 * MINUTE_MS), "tsPeriodEnd": iso(end),
                })  # fmt: skip
        return msgspec.json.encode({"responseTs": iso(now_ms), "results": results})

    def queue_length(self, now_ms: int) -> bytes:
        """Traffic lights of Tampere: who waited at each detector in the last minute that is over, by how much slower than free it went."""
        end = now_ms - now_ms % MINUTE_MS
        results = []
        for p in self.places:
            for name, segment in (("a35_1", p.forth), ("b35_1", p.back)):
                flow, speed = self.traffic.measured(segment, end, 60)
                waiting = round(flow / 60 * max(0.0, 1 - speed / (3.6 * self.traffic.free_mps[segment])))
                results.append({
                    "device": f"TRE{900 + p.number % 100}", "detector": name, "tsPeriodEnd": iso(end), "redPeriod": 38, "queueLength": 7 * waiting,
                    "unitQueueLength": "m", "vehicleCount": waiting, "unitVehicleCount": "vehicles", "maxWaitTime": 3 * waiting, "avgWaitTime": waiting,
                    "unitWaitTime": "s", "reliabValue": 100,
                })  # fmt: skip
        return msgspec.json.encode({"responseTs": iso(now_ms), "results": results})

    def oulunliikenne(self, now_ms: int) -> bytes:
        """Oulunliikenne's answer to our question: car parks, city bikes, measured sections, nothing announced."""
        at_ms = now_ms - now_ms % MINUTE_MS
        parks = [
            {"carParkId": f"sim{k}", "name": f"SIMULATED {k + 1}", "lat": p.lat_deg, "lon": p.lon_deg, "maxCapacity": 200, "spacesAvailable": round(100 + 80 * math.sin(at_ms / 1.2e6 + k))}
            for k, p in enumerate(self.places[:3])
        ]  # fmt: skip
        bikes = [
            {"stationId": f"sim{k}", "name": f"SIMULATED {k + 1}", "lat": p.lat_deg, "lon": p.lon_deg, "bikesAvailable": round(6 + 5 * math.sin(at_ms / 7e5 + k)), "spacesAvailable": 4, "state": "Station on", "allowDropoff": True}
            for k, p in enumerate(self.places[:2])
        ]  # fmt: skip
        s = self.traffic.network.segments
        sections = []
        for p in self.places:
            speed = self.traffic.measured(p.forth, at_ms)[1]
            limit = float(s.speed_limit_kmh[p.forth])
            line = polylines.coordinates(s.geometry, p.forth)
            lat, lon = self.traffic.plane.to_wgs84(line[:, 0], line[:, 1])
            told = {
                "id": f"sim{p.number}", "type": "BLUETOOTH", "measuredTime": rfc3339(at_ms), "name": f"SIMULATED {p.number}", "trafficDirection": "1",
                "trafficFlow": "green" if speed > limit - 10 else "yellow" if speed > limit - 25 else "red", "speedLimit": limit, "averageSpeed": round(speed, 1),
            }  # fmt: skip
            sections.append(
                {"geometry": {"type": "LineString", "coordinates": np.column_stack([lon, lat]).round(6).tolist()}, "properties": told}
            )
        data = {
            "carParks": parks,
            "bikeRentalStations": bikes,
            "trafficFluencyFeatureCollection": {"features": sections},
            "trafficAnnouncements": [],
            "roadworks": [],
        }
        return msgspec.json.encode({"data": data})

    def city_bikes(self, now_ms: int) -> bytes:
        """Föli's ``citybike``."""
        now = now_ms // MINUTE_MS * 60
        racks = {}
        for k, p in enumerate(self.places):
            free = round(6 + 5 * math.sin(now / 700 + k))
            racks[f"sim_{k}"] = {
                "id": f"sim_{k}", "operator": "SIMULATED", "name": f"SIMULATED {k + 1}", "last_seen": now, "lon": p.lon_deg, "lat": p.lat_deg, "bikes_avail": free,
                "slots_total": 12, "slots_avail": 12 - free,
            }  # fmt: skip
        return msgspec.json.encode({"racks": racks, "operators": {}, "racks_total": len(racks), "generated": now, "lastupdate": now})

    def alerts(self, now_ms: int) -> bytes:
        """Föli's ``alerts``: one detour."""
        hour = now_ms // (60 * MINUTE_MS) * 3600
        message = {
            "message_id": 1, "isactive": True, "cause": "CONSTRUCTION", "effect": "DETOUR", "header": "SIMULATED detour", "message": "There is no such detour.",
            "information": "", "repeat": [[hour - 3600, hour + 7200]], "translations": {}, "affected_stops": [], "affected_routes": [self.traffic.fixes[0].route_id],
        }  # fmt: skip
        return msgspec.json.encode(
            {"servertime": now_ms // 1000, "global_message": {}, "emergency_message": {}, "messages": [message], "cancellations": []}
        )

    def counting_site(self, now_ms: int) -> dict[str, Any]:
        """Feature of counting ``sites``: bicycles."""
        p = self.places[-1]
        told = {"name": f"simulated_{self.name}_bicycles", "lastDataTimestamp": rfc3339(now_ms - now_ms % (15 * MINUTE_MS))}
        return _feature(p.number, p.lon_deg, p.lat_deg, told)

    def counted(self, now_ms: int) -> list[dict[str, Any]]:
        """Counting ``values``: the last four quarters."""
        end = now_ms - now_ms % (15 * MINUTE_MS)
        return [
            {
                "siteId": self.places[-1].number, "travelMode": "bike", "direction": way, "dataTimestamp": rfc3339(end - k * 15 * MINUTE_MS), "granularity": "PT15M",
                "count": 20 + (end // MINUTE_MS // 15 - k) % 17 + (way == "in"),
            }
            for k in range(4, 0, -1)
            for way in ("in", "out")
        ]  # fmt: skip


def _feature(number: int, lon: float, lat: float, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": number,
        "geometry": {"type": "Point", "coordinates": [lon, lat, 0.0]},
        "properties": {"id": number, **properties},
    }


def _sensor(station: int, number: int, name: str, unit: str, value: float, at_ms: int) -> dict[str, Any]:
    return {
        "id": number,
        "stationId": station,
        "name": name,
        "shortName": name[:6],
        "unit": unit,
        "value": value,
        "measuredTime": rfc3339(at_ms),
    }


def features(now_ms: int, parts: Iterable[dict[str, Any]]) -> bytes:
    """A FeatureCollection of Digitraffic."""
    return msgspec.json.encode({"type": "FeatureCollection", "dataUpdatedTime": rfc3339(now_ms), "features": list(parts)})


def of_stations(now_ms: int, parts: Iterable[dict[str, Any]]) -> bytes:
    """``stations/data`` and ``sensor-constants`` of Digitraffic."""
    return msgspec.json.encode({"dataUpdatedTime": rfc3339(now_ms), "stations": list(parts)})


def datex(now_ms: int, situations: Iterable[str]) -> bytes:
    """A SituationPublication of DATEX II 3.7."""
    names = {"d2": "d2Payload", "com": "common", "loc": "locationReferencing", "sit": "situation"}
    spaces = " ".join(f'xmlns:{short}="http://datex2.eu/schema/3/{name}"' for short, name in names.items())
    return (
        f'<d2:payload {spaces} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" lang="en" xsi:type="sit:SituationPublication">'
        f"<com:publicationTime>{rfc3339(now_ms)}</com:publicationTime>{''.join(situations)}</d2:payload>"
    ).encode()


def grid_factor(now_ms: int) -> bytes:
    """Fingrid's data set 265: CO2 of electricity, g/kWh, of the last three minutes."""
    end = now_ms - now_ms % (3 * MINUTE_MS)
    value = round(45 + 10 * math.sin(end / 3.6e6), 1)
    return msgspec.json.encode({"datasetId": 265, "startTime": rfc3339(end - 3 * MINUTE_MS), "endTime": rfc3339(end), "value": value})


def bike_stations(now_ms: int, places: list[tuple[int, float, float]]) -> tuple[bytes, bytes]:
    """GBFS 2.2 ``station_information`` and ``station_status``: number, latitude, longitude of each station."""
    now = now_ms // MINUTE_MS * 60
    head = {"last_updated": now, "ttl": 60, "version": "2.2"}
    known = [{"station_id": str(n), "name": f"SIMULATED {n}", "lat": lat, "lon": lon, "capacity": 20} for n, lat, lon in places]
    status = [
        {"station_id": str(n), "num_bikes_available": (now // 60 + n) % 20, "num_docks_available": 20 - (now // 60 + n) % 20, "last_reported": now,
         "is_installed": True, "is_renting": True, "is_returning": True}
        for n, _, _ in places
    ]  # fmt: skip
    return msgspec.json.encode({**head, "data": {"stations": known}}), msgspec.json.encode({**head, "data": {"stations": status}})


def park_and_ride(now_ms: int, places: list[tuple[int, float, float]]) -> tuple[bytes, bytes]:
    """Liipi's ``facilities`` and ``utilizations``: number, latitude, longitude of each car park."""
    facilities = [
        {"id": n, "name": {"fi": f"SIMULATED {n}"}, "location": {"type": "Point", "coordinates": [lon, lat]}, "status": "IN_OPERATION", "builtCapacity": {"CAR": 300}}
        for n, lat, lon in places
    ]  # fmt: skip
    at = datetime.fromtimestamp(now_ms // MINUTE_MS * 60, UTC).astimezone(ZONE).isoformat()
    taken = [
        {"facilityId": n, "capacityType": "CAR", "usage": "PARK_AND_RIDE", "timestamp": at, "spacesAvailable": 120 + n % 50, "capacity": 300, "openNow": True}
        for n, _, _ in places
    ]  # fmt: skip
    return msgspec.json.encode({"results": facilities}), msgspec.json.encode(taken)
