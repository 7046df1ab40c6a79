"""Records of the open topics. One schema a product, the same in every city; field names carry units.

A record is one Kafka message: JSON, UTF-8. Absent means "not known", zero means zero, false means false; so optional fields
default to None and are left out when encoded, never written as null. Times are RFC 3339 UTC with milliseconds.
The JSON Schemas, the AsyncAPI document and the reference pages are generated from these classes (``models/schemas.py``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from models.fluency import DatexStatus, Los

Utc = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        description="RFC 3339, UTC, milliseconds",
        extra_json_schema={"format": "date-time"},
    ),
]
Lat = Annotated[float, Meta(ge=-90, le=90, description="WGS 84 latitude, degrees")]
Lon = Annotated[float, Meta(ge=-180, le=180, description="WGS 84 longitude, degrees")]
Share = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[float, Meta(ge=0, le=100)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]

PositionMethod = Literal["gnss", "odometer", "dead_reckoning", "snapped", "manual", "unknown"]
#: due soon at a stop; arr within its radius; ars stopped; doo, doc doors opened, closed; pde ready to leave; dep left; pas passed without stopping; wait; tlr, tla priority at
#: signals asked for, answered; da, dout driver in, out; ba, bout block begun, left; vja, vjout signed on to a trip, off.
VehicleEvent = Literal[
    "due", "arr", "ars", "doo", "doc", "pde", "dep", "pas", "wait", "tlr", "tla", "da", "dout", "ba", "bout", "vja", "vjout"
]
SignalPriority = Literal["requested", "granted", "refused"]
Mode = Literal["bus", "tram", "train", "metro", "ferry", "ubus", "robot", "car", "unknown"]
Origin = Literal["measured", "blended", "inferred", "historical", "none"]
Represents = Literal["general_traffic", "bus_lane", "rail"]
Status = Literal["provisional", "final"]
FeedState = Literal["ok", "degraded", "stale", "empty", "dead"]
FlowSource = Literal["measured", "transferred", "fundamental_diagram", "prior", "unknown"]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Clock = Annotated[str, Meta(pattern=r"^\d{2}:\d{2}(:\d{2})?$")]
Direction = Annotated[int, Meta(ge=0, le=1)]
Texts = Annotated[dict[str, str], Meta(description="by language, BCP 47 ('und' where the feed does not say)")]
SignalState = Literal["green", "amber", "red", "red_amber", "flashing", "dark", "off", "unknown"]
SituationKind = Literal[
    "incident",
    "roadwork",
    "closure",
    "weight_restriction",
    "exempted_transport",
    "transit_alert",
    "weather",
    "event",
    "information",
    "unknown",
]
Severity = Literal["none", "low", "medium", "high", "highest", "unknown"]
Precipitation = Literal["none", "light", "moderate", "heavy", "unknown"]
PrecipitationKind = Literal["none", "drizzle", "rain", "sleet", "snow", "ice", "hail", "mixed", "unknown"]
RoadCondition = Literal["dry", "moist", "wet", "wet_salty", "frost", "snow", "ice", "probably_moist_salty", "slushy", "unknown"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of every open record."""


class VehiclePosition(Record, frozen=True, kw_only=True):
    """Where one vehicle was at one instant, as its operator reported it, placed on the network where that was possible.

    Kafka key: ``vehicle_id``, so that one vehicle's fixes stay in one partition, in order.
    """

    vehicle_id: str  #: namespaced ``<operator>/<vehicle>``; HFP: from the topic, zero-padded, "0018/00423"
    event_time: Utc  #: when it happened by the sender's clock
    ingest_time: Utc  #: when the connector received it
    feed: str  #: which feed said so; of several that tell of the vehicle the best one that is not silent
    operator: str | None = None  #: operator's id in the feed
    lat_deg: Lat | None = None  #: absent when the vehicle reported no position; never invented
    lon_deg: Lon | None = None
    speed_mps: NonNegative | None = None  #: as reported; 0.0 means standing still
    heading_deg: Annotated[float, Meta(ge=0, lt=360)] | None = None  #: clockwise from north
    position_method: PositionMethod = msgspec.field(default="unknown")
    mode: Mode | None = None
    route_id: str | None = None  #: GTFS route_id
    direction_id: Annotated[int, Meta(ge=0, le=1)] | None = None  #: GTFS direction_id
    trip_id: str | None = None  #: GTFS trip_id where the feed or the schedule tells it
    operating_day: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    start_time: Annotated[str, Meta(pattern=r"^\d{2}:\d{2}(:\d{2})?$")] | None = None  #: local, may pass 24:00 where the feed says so
    headsign: str | None = None
    delay_s: int | None = None  #: late is positive
    stop_id: str | None = None  #: the stop it stands at or the event is tied to
    at_stop: bool | None = None
    doors_open: bool | None = None
    occupancy_pct: Percent | None = None
    odometer_m: NonNegative | None = None
    segment_id: str | None = None  #: the directed road segment it was matched to
    offset_m: NonNegative | None = None  #: from the start of that segment, along it
    off_route: bool | None = None  #: true: the vehicle has left its route's shape (detour)
    event: VehicleEvent | None = None  #: what it told of beside its position, by HFP's names; absent: the position alone
    signal_id: str | None = None  #: junction whose signals it asks for priority (events tlr, tla), as the feed numbers it
    signal_priority: SignalPriority | None = None  #: of those: asked for, or how it was answered
    simulated: bool | None = None  #: true: this is simulated data


class SensorObservation(Record, frozen=True, kw_only=True):
    """What one counting site measured in one direction in one window. Kafka key: ``site_id:direction``."""

    site_id: str  #: namespaced ``<feed>/<station>``
    direction: str  #: "1" or "2" of the site, or the site's own name of it
    window_start: Utc
    window_end: Utc
    ingest_time: Utc
    feed: str
    kind: Literal["loop", "signal", "counter"] = "loop"
    travel_mode: Literal["vehicle", "bicycle", "pedestrian", "unknown"] = "vehicle"
    lat_deg: Lat | None = None
    lon_deg: Lon | None = None
    bearing_deg: Annotated[float, Meta(ge=0, lt=360)] | None = None
    segment_id: str | None = None  #: the directed segment the site lies on
    flow_vph: NonNegative | None = None  #: vehicles per hour; a sliding 5-minute count extrapolated to an hour
    speed_kmh: NonNegative | None = None  #: spot (time) mean speed, not a space mean
    occupancy_pct: Percent | None = None
    free_flow_kmh: NonNegative | None = None
    capacity_vph: NonNegative | None = None
    queue_m: NonNegative | None = None  #: length of the queue at a signal; a record of its own, with ``/queue`` at the end of ``direction``
    queue_vehicles: NonNegative | None = None  #: vehicles in that queue
    wait_mean_s: NonNegative | None = None  #: mean wait in that queue
    wait_max_s: NonNegative | None = None  #: longest wait in that queue
    fault: Literal["none", "intermittentDataValues", "noDataValuesAvailable", "other", "unknown"] | None = (
        None  #: DATEX II MeasuringEquipmentFaultEnum
    )
    simulated: bool | None = None


class StopPassage(Record, frozen=True, kw_only=True):
    """One vehicle at one stop: when it came, stood, opened its doors and left, as its operator observed it. Kafka key: ``stop_id``.

    It is written when the vehicle has left the stop, or has driven past it. What a stop's board forecasts is marked ``predicted``: nobody has seen it.
    """

    stop_id: str  #: GTFS stop_id as the feed names it
    vehicle_id: str  #: as in vehicle-position
    event_time: Utc  #: when it left, or passed; of a forecast: when it was made
    ingest_time: Utc  #: when the event that completed the passage was received
    feed: str
    operator: str | None = None
    mode: Mode | None = None
    route_id: str | None = None
    direction_id: Direction | None = None
    trip_id: str | None = None
    operating_day: Day | None = None
    start_time: Clock | None = None  #: local, may pass 24:00 where the feed says so
    passed: bool | None = None  #: true: driven past without stopping; false: it stopped; absent: not known
    arrived: Utc | None = None  #: came into the stop's radius
    stopped: Utc | None = None  #: stood still at the stop
    departed: Utc | None = None  #: left the stop's radius
    dwell_s: NonNegative | None = None  #: from standing still (else from arrival) to being ready to leave (else to leaving)
    doors_open_s: NonNegative | None = None  #: sum over all openings at this stop; 0 when it stopped and no door opened
    delay_s: int | None = None  #: when it left, or is expected to; late is positive
    predicted: bool | None = (
        None  #: true: a forecast, which nobody has seen come true: it has no arrived, stopped, departed; absent: observed
    )
    expected_arrival: Utc | None = None  #: of a forecast
    expected_departure: Utc | None = None  #: of a forecast
    aimed_arrival: Utc | None = None  #: by the timetable, where the feed says it
    aimed_departure: Utc | None = None
    simulated: bool | None = None


class TrafficSignal(Record, frozen=True, kw_only=True):
    """State of one signal group of one junction. Kafka key: ``device_id:group``; compacted; written when the state changes."""

    device_id: str  #: namespaced ``<feed>/<junction>``
    group: str  #: the junction's own name of it
    state: SignalState  #: off: flashing amber or dark, and the feed does not say which
    event_time: Utc  #: first seen in this state, by the junction's clock
    ingest_time: Utc
    feed: str
    code: str | None = None  #: as sent
    demand: bool | None = None  #: red: whether somebody asks for green
    lat_deg: Lat | None = None
    lon_deg: Lon | None = None
    simulated: bool | None = None


class RoadWeather(Record, frozen=True, kw_only=True):
    """What one road weather station measures. Kafka key: ``site_id``; compacted."""

    site_id: str  #: namespaced ``<feed>/<station>``
    event_time: Utc  #: of the newest value
    ingest_time: Utc
    feed: str
    name: str | None = None
    lat_deg: Lat | None = None
    lon_deg: Lon | None = None
    air_c: float | None = None
    road_c: float | None = None  #: surface; the first of several sensors
    dew_point_c: float | None = None
    humidity_pct: Percent | None = None
    wind_mps: NonNegative | None = None  #: mean
    wind_gust_mps: NonNegative | None = None
    wind_direction_deg: Annotated[float, Meta(ge=0, lt=360)] | None = None  #: from where it blows
    precipitation: Precipitation | None = None
    precipitation_kind: PrecipitationKind | None = None
    precipitation_mmh: NonNegative | None = None
    visibility_m: NonNegative | None = None
    road_condition: RoadCondition | None = None
    friction: Share | None = None  #: coefficient
    snow_cm: NonNegative | None = None
    simulated: bool | None = None


class Fall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Evidence of a sudden fall of speed that no message explains: what vehicles showed in the first minute it was told."""

    speed_kmh: NonNegative  #: of the street, lately
    usual_kmh: NonNegative  #: of the same street, in the minutes before
    vehicle_s: NonNegative  #: vehicle time on the street behind it, seconds
    ratio: NonNegative  #: time taken over time that light traffic takes
    usual_ratio: NonNegative  #: the same in the minutes before


class NamedTrip(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A trip, as well as the feed names it: by its id, or by route, direction, day and start."""

    trip_id: str | None = None
    route_id: str | None = None
    direction_id: Direction | None = None
    operating_day: Day | None = None
    start_time: Clock | None = None  #: local, may pass 24:00


class Situation(Record, frozen=True, kw_only=True):
    """Something that changes traffic for a while: an incident, roadworks, a closure, a transit alert. Kafka key: ``situation_id``; compacted."""

    situation_id: str  #: namespaced ``<feed>/<id>``
    kind: SituationKind
    event_time: Utc  #: when this version was made
    ingest_time: Utc
    feed: str
    version: Count | None = None  #: grows with every change, where the feed counts versions
    severity: Severity = msgspec.field(default="unknown")
    valid_from: Utc | None = None
    valid_to: Utc | None = None  #: absent: open end
    ended: bool | None = None  #: true: the source says that it is over
    closed: bool | None = None  #: true: the street or the line is closed
    cause: str | None = None  #: as the feed names it
    effect: str | None = None
    geometry: dict[str, Any] | None = None  #: GeoJSON, lon lat
    segment_ids: list[str] | None = None  #: where it is drawn; of an alert of lines and stops: where those run and lie
    routes: list[str] | None = None  #: GTFS route_id
    stops: list[str] | None = None  #: GTFS stop_id
    trips: list[NamedTrip] | None = None  #: single trips; with effect NO_SERVICE they are cancelled
    location_codes: list[str] | None = None  #: ALERT-C, ``country:table:code``; with a geometry where the city has the table of locations
    areas: list[str] | None = None  #: municipalities and regions by name
    title: Texts | None = None
    text: Texts | None = None
    url: str | None = None
    source: str | None = None  #: who says so
    detected: bool | None = None  #: true: nobody said so, this system found it in the traffic; feed and source are "tilannekuva"
    evidence: Fall | None = None  #: of a detected one
    simulated: bool | None = None


class SharedVehicleStation(Record, frozen=True, kw_only=True):
    """One station of shared bicycles, scooters or cars. Kafka key: ``station_id``; compacted."""

    station_id: str  #: namespaced ``<feed>/<station>``
    ingest_time: Utc
    feed: str
    event_time: Utc | None = None  #: when the station last reported; absent where the feed does not say
    system: str | None = None  #: operator or system
    name: str | None = None
    lat_deg: Lat | None = None
    lon_deg: Lon | None = None
    capacity: Count | None = None
    vehicles_available: Count | None = None
    docks_available: Count | None = None
    vehicles_by_type: dict[str, int] | None = None  #: available, by vehicle_type_id
    is_installed: bool | None = None
    is_renting: bool | None = None
    is_returning: bool | None = None
    simulated: bool | None = None


class Parking(Record, frozen=True, kw_only=True):
    """One parking facility for one kind of vehicle. Kafka key: ``facility_id``; compacted."""

    facility_id: str  #: namespaced ``<feed>/<facility>``, with kind of vehicle and use where a facility has several
    ingest_time: Utc
    feed: str
    event_time: Utc | None = None  #: when it was counted; absent where the feed does not say, or says nothing of free spaces
    name: str | None = None
    lat_deg: Lat | None = None
    lon_deg: Lon | None = None
    vehicle_type: Literal["car", "electric_car", "disabled", "motorcycle", "bicycle", "unknown"] | None = None
    capacity: Count | None = None
    spaces_available: Count | None = None  #: absent: not known now
    occupancy_pct: Percent | None = None
    is_open: bool | None = None
    simulated: bool | None = None


class SourceMix(Record, frozen=True, kw_only=True):
    """Weight of each source in a value; they sum to 1, absent ones are zero."""

    probe: Share | None = None  #: vehicles seen on this segment in this window
    loop: Share | None = None  #: counting sites on this segment
    memory: Share | None = None  #: earlier windows of this segment
    network: Share | None = None  #: the street network around it and the prior


class SegmentState(Record, frozen=True, kw_only=True):
    """State of one directed road segment in one minute. Kafka key: ``segment_id``; compacted, so the last one is the state."""

    segment_id: str
    window_start: Utc
    window_end: Utc
    status: Status  #: provisional while the window fills, final once
    revision: Count  #: grows with each provisional record of the window; the final one has the highest
    origin: Origin  #: measured: this segment, this window; blended: with neighbours or memory; inferred: neighbours or prior alone; historical: mostly what is usual at this time of the week
    confidence: Share  #: probability that the true space-mean speed lies within +-max(15 %, 3 km/h) of speed_kmh
    represents: Represents  #: whose speed this is
    algorithm: str  #: name and version of the estimator; "+usual." and the beginning of its version where it knew a speed profile
    speed_kmh: NonNegative | None = None  #: space-mean speed (Edie: distance / time), dwell at stops left out
    speed_p20_kmh: NonNegative | None = None
    speed_p80_kmh: NonNegative | None = None
    free_flow_kmh: NonNegative | None = None
    free_flow_method: Literal["observed_p85", "limit_signal", "limit", "class_default", "sensor_constant"] | None = None
    speed_ratio: NonNegative | None = None
    travel_time_s: NonNegative | None = None
    delay_s: NonNegative | None = None
    flow_vph: NonNegative | None = None
    flow_source: FlowSource | None = None
    los: Los = msgspec.field(default="unknown")
    datex_status: DatexStatus = msgspec.field(default="unknown")
    jam_factor: Annotated[float, Meta(ge=0, le=10)] | None = None
    closed: bool | None = None
    data_age_s: NonNegative | None = None  #: from the newest observation used to the end of the window
    vehicle_count: Count | None = None  #: distinct vehicles that were on the segment in the window
    source_mix: SourceMix | None = None  #: weight of each source in the value, sums to 1
    simulated: bool | None = None


class FeedHealth(Record, frozen=True, kw_only=True):
    """How one feed is doing, by log time. Kafka key: ``feed``."""

    feed: str
    event_time: Utc  #: end of the 15 s window it describes
    state: FeedState
    since: Utc  #: when it entered this state
    messages_s: NonNegative  #: messages a second in the window
    lag_p50_s: float | None = None  #: ingest time minus event time
    lag_p95_s: float | None = None
    gap_s: NonNegative | None = None  #: since the last message
    duplicate_ratio: Share | None = None
    reject_ratio: Share | None = None
    entity_count: Count | None = None  #: vehicles or sites heard in the last 120 s
    secondary_ratio: Share | None = None  #: of its positions: not published, since a better feed told of the same vehicles
    newest_event_time: Utc | None = None
    http_status: int | None = None
    detail: str | None = None
    simulated: bool | None = None


class Segment(Record, frozen=True, kw_only=True):
    """One directed road segment of the network. Kafka key: ``segment_id``; compacted for ever."""

    segment_id: str
    network_version: str
    geometry: dict[str, Any]  #: GeoJSON LineString, lon lat, in the direction of travel
    length_m: NonNegative
    road_class: str  #: OSM highway value, "tram", or "transit_line" where only lines are known
    represents: Represents
    osm_way_ids: list[int] | None = None
    osm_node_ids: list[int] | None = (
        None  #: of every vertex, in the direction of travel; absent where the streets do not come from OpenStreetMap
    )
    openlr: str | None = None  #: OpenLR binary, base64
    name: str | None = None
    speed_limit_kmh: NonNegative | None = None
    lanes: Count | None = None
    bus_lane: bool | None = None
    generated: bool | None = None  #: true: an invented street, for demonstration; it does not exist
    predecessors: list[str] | None = None
    successors: list[str] | None = None


class DeadLetter(Record, frozen=True, kw_only=True):
    """One message, or one event inside an envelope, that was refused, with the reason. Kafka key: the feed."""

    city: str
    feed: str
    topic: str  #: raw topic it was read from
    partition: int
    offset: int
    index: int  #: of the event inside the envelope; -1 for the whole of it
    ingest_time: Utc
    reason: str  #: a short, countable name: "bad_json", "outside_box", "clock"
    field: str
    value: str  #: as shown in the error, cut at 200 characters
    want: str
    error: str  #: the sentence for people
    sha256: str  #: of the whole body
    source_topic: str | None = None  #: MQTT topic or address it came from
    body_base64: str | None = None  #: first 4 KiB


class Late(Record, frozen=True, kw_only=True):
    """One event that came after its window had closed, or too old to order: counted and kept, never merged silently."""

    city: str
    feed: str
    product: str
    key: str  #: vehicle or site
    event_time: Utc
    ingest_time: Utc
    reason: Literal["window_closed", "older_than_memory"]
    topic: str
    partition: int
    offset: int
    index: int


_encoder = msgspec.json.Encoder()


def encode(record: Record) -> bytes:
    """JSON as published: optional fields that are not known are left out.

    >>> encode(FeedHealth(feed="hfp", event_time="2026-03-10T05:30:00.000Z", state="ok", since="2026-03-10T05:29:00.000Z", messages_s=0.0))
    b'{"feed":"hfp","event_time":"2026-03-10T05:30:00.000Z","state":"ok","since":"2026-03-10T05:29:00.000Z","messages_s":0.0}'
    """
    return _encoder.encode(record)
