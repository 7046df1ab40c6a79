"""What the demo's HTTP server answers, under the paths of the live feeds: the recording's documents and those of invented towns, one document where the live feed has one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from demo import roadside, wire
from demo.player import Player
from demo.roadside import Roadside
from demo.servers import Document
from demo.towns import LOGIN, Living
from demo.traffic import Traffic

VEHICLE_POSITIONS = "/realtime/vehicle-positions/v2/hsl"
TMS, WEATHER, MESSAGES = "/api/tms/v1/stations", "/api/weather/v1/stations", "/api/traffic-message/v2"
MAINTENANCE, GBFS = "/api/maintenance/v1/tracking/routes/latest", "/gbfs/2.2/helsinki/en"
COUNTING, LIIPI, NYSSE = "/api/counting-site/v2", "/api/v1", "/journeys/api/1"
PROTOBUF = "application/x-protobuf"
#: What Waltti's and Fingrid's clients must show.
BASIC, API_KEY = ("Authorization", "Basic " + b64encode(":".join(LOGIN).encode()).decode()), ("x-api-key", LOGIN[1])
_Told = Callable[[int], bytes]


def documents(player: Player | None, living: Living) -> list[Document]:
    """Everything that is polled.

    Args:
        player: plays what is recorded of Helsinki; its stations and vehicles come first in documents that tell of more.
    """
    out = [*_national(player, living)]
    if player is not None or living.of_hsl:
        out += _region(player, living)
    out += [
        d
        for name, of in (("tampere", _tampere), ("turku", _turku), ("oulu", _oulu))
        if name in living.traffic
        for d in of(living.traffic[name], living.roadside[name])
    ]
    return out


def _document(path: str, told: _Told, **how: Any) -> Document:
    return Document(path, lambda now_ms: (now_ms - now_ms % 1000, told(now_ms)), **how)


def _national(player: Player | None, living: Living) -> Iterator[Document]:
    """Fintraffic's: one document for all cities."""
    sides = list(living.roadside.values())

    def both(recorded: Callable[[int], tuple[int, bytes]] | None, key: str, told: str) -> Document:
        def at(now_ms: int) -> tuple[int, bytes]:
            changed_ms, body = recorded(now_ms) if recorded is not None else (now_ms - now_ms % 60_000, b"{}")
            if not sides:
                return changed_ms, body
            first: dict[str, Any] = msgspec.json.decode(body)
            parts = [*first.get(key, ()), *(part for side in sides for part in getattr(side, told)(changed_ms))]
            join = roadside.features if key == "features" else roadside.of_stations
            return changed_ms, join(changed_ms, parts)

        path = {"stations": TMS, "constants": f"{TMS}/sensor-constants", "readings": f"{TMS}/data"}[told]
        return Document(path, at, gzip_only=True)

    yield both(player.stations_at if player else None, "features", "stations")
    yield both(player.sensor_constants_at if player else None, "stations", "constants")
    yield both(player.station_data_at if player else None, "stations", "readings")
    if not sides:
        return
    told: dict[str, _Told] = {
        WEATHER: lambda now: roadside.features(now - now % 3_600_000, (s.weather_station(now - now % 3_600_000) for s in sides)),
        f"{WEATHER}/data": lambda now: roadside.of_stations(now - now % 60_000, (s.weather(now) for s in sides)),
        f"{MESSAGES}/roadworks": lambda now: roadside.features(now - now % 60_000, (s.roadwork(now, s.name.title()) for s in sides)),
        f"{MESSAGES}/traffic-announcements": lambda now: roadside.features(now - now % 60_000, ()),
        f"{MESSAGES}/weight-restrictions": lambda now: roadside.features(now - now % 60_000, ()),
        MAINTENANCE: lambda now: roadside.features(now - now % 60_000, (s.plough(now) for s in sides)),
        f"{COUNTING}/sites": lambda now: roadside.features(now - now % 900_000, (s.counting_site(now) for s in sides)),
        f"{COUNTING}/values": lambda now: msgspec.json.encode([v for s in sides for v in s.counted(now)]),
    }
    for path, tell in told.items():
        yield _document(path, tell, gzip_only=True)
    same: dict[str, _Told] = {  # what was announced, once more
        "roadworks": lambda now: roadside.datex(now - now % 60_000, (s.roadwork_datex(now, s.name.title()) for s in sides)),
        "traffic-announcements": lambda now: roadside.datex(now - now % 60_000, ()),
    }
    for what, tell in same.items():
        yield _document(f"{MESSAGES}/{what}/datex2-3.7.xml", tell, content_type="application/xml", gzip_only=True)
    yield _document("/api/datasets/265/data/latest", roadside.grid_factor, key=API_KEY)


def _region(player: Player | None, living: Living) -> list[Document]:
    """HSL's, and park and ride."""

    def vehicles(now_ms: int) -> tuple[int, bytes]:
        changed_ms, recorded = player.vehicle_positions_at(now_ms) if player is not None else (now_ms - now_ms % 1000, wire.nobody(now_ms))
        return (living.of_hsl[0].now_ms, wire.hsl_vehicle_positions(recorded, living.of_hsl)) if living.of_hsl else (changed_ms, recorded)

    out = [
        Document(VEHICLE_POSITIONS, vehicles, PROTOBUF),
        _document("/realtime/trip-updates/v2/hsl", lambda now: wire.trip_updates(now, living.of_hsl), content_type=PROTOBUF),
    ]
    if living.of_hsl:
        places = [
            (p.number, p.lat_deg, p.lon_deg) for n in ("espoo", "vantaa") if n in living.roadside for p in living.roadside[n].places[:2]
        ]
        route = living.of_hsl[0].fixes[0].route_id
        out += [
            _document("/realtime/service-alerts/v2/hsl", partial(_alert, route), content_type=PROTOBUF),
            _document(f"{GBFS}/station_information.json", lambda now: roadside.bike_stations(now, places)[0]),
            _document(f"{GBFS}/station_status.json", lambda now: roadside.bike_stations(now, places)[1]),
            _document(f"{LIIPI}/facilities.json", lambda now: roadside.park_and_ride(now, places)[0]),
            _document(f"{LIIPI}/utilizations.json", lambda now: roadside.park_and_ride(now, places)[1]),
        ]
    return out


def _alert(route_id: str, now_ms: int) -> bytes:
    return wire.alert(now_ms - now_ms % 60_000, route_id, "SIMULATED detour: there is none")


def _waltti(city: str, what: str) -> str:
    return f"/{city}/api/gtfsrealtime/v1.0/feed/{what}"


def _tampere(traffic: Traffic, side: Roadside) -> list[Document]:
    alert = partial(_alert, traffic.fixes[0].route_id)
    lights = [_document(f"/api/v1/deviceState/{d}", partial(side.device_state, d)) for d in ("tre401", "tre428")]
    return [
        _document(f"{NYSSE}/vehicle-activity", lambda _: wire.journeys(traffic)),
        Document(f"{NYSSE}/stop-monitoring", lambda now, stops: (now - now % 1000, wire.stop_monitoring(traffic, stops)), of_stops=True),
        _document(f"{NYSSE}/gtfs-rt/vehicle-positions", lambda _: wire.itsfactory(traffic), content_type=PROTOBUF),
        _document(f"{NYSSE}/gtfs-rt/service-alerts", alert, content_type=PROTOBUF),
        _document(
            _waltti("tampere", "vehicleposition"),
            lambda _: wire.waltti(traffic, wire.NYSSE_VEHICLE, wire.NYSSE_OPERATOR),
            content_type=PROTOBUF,
            key=BASIC,
        ),
        _document(
            _waltti("tampere", "tripupdate"),
            lambda now: wire.trip_updates(now, [traffic], wire.NYSSE_OPERATOR, trip_ids=True),
            content_type=PROTOBUF,
            key=BASIC,
        ),
        _document(_waltti("tampere", "servicealert"), alert, content_type=PROTOBUF, key=BASIC),
        _document("/api/v1/trafficAmount", side.traffic_amount),
        _document("/api/v1/queueLength", side.queue_length),
        *lights,
    ]


def _turku(traffic: Traffic, side: Roadside) -> list[Document]:
    return [
        _document("/siri/vm", lambda _: wire.foli_vm(traffic)),
        Document("/siri/sm/{stops}", lambda now, stop: (now - now % 1000, wire.foli_sm(traffic, stop)), of_stops=True),
        _document("/alerts", side.alerts),
        _document("/citybike", side.city_bikes),
    ]


def _oulu(traffic: Traffic, side: Roadside) -> list[Document]:
    return [
        _document(_waltti("oulu", "vehicleposition"), lambda _: wire.waltti(traffic, "{}"), content_type=PROTOBUF, key=BASIC),
        _document(
            _waltti("oulu", "tripupdate"), lambda now: wire.trip_updates(now, [traffic], trip_ids=True), content_type=PROTOBUF, key=BASIC
        ),
        _document(_waltti("oulu", "servicealert"), partial(_alert, traffic.fixes[0].route_id), content_type=PROTOBUF, key=BASIC),
        _document("/proxy/graphql", side.oulunliikenne, method="POST"),
    ]
