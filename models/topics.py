"""The table of topics: names, keys, records, retention, cadence. Everything that must agree with it is generated from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models import emission_records, indicator_records, line_records, records
from models.records import Record

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
#: Largest message on any topic of ours, bytes; a polled GTFS-RT snapshot of a large city is 1-2 MB.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
#: Partitions of the state topic: a worker that recovers reads one of them.
STATE_PARTITIONS = 16


@dataclass(frozen=True, slots=True)
class Product:
    """One open product: the same schema in every city, one topic a city."""

    name: str
    record: type[Record]
    key: str  #: field(s) of the record that make the Kafka key, joined with ":"; one that is absent is "unknown" there
    cleanup: Literal["delete", "compact", "compact,delete"]
    retention_ms: int  #: -1: for ever
    cadence: str
    title: str
    major: int = 1
    partitions: int = 1


PRODUCTS: dict[str, Product] = {
    p.name: p
    for p in (
        Product(
            "vehicle-position",
            records.VehiclePosition,
            "vehicle_id",
            "delete",
            7 * DAY_MS,
            "at most 1 Hz a vehicle",
            "Positions of public transport vehicles",
        ),
        Product(
            "sensor-observation",
            records.SensorObservation,
            "site_id:direction",
            "delete",
            30 * DAY_MS,
            "30 s to 5 min",
            "Counts and speeds of traffic sensors, queues at signals",
        ),
        Product(
            "stop-passage", records.StopPassage, "stop_id", "delete", 7 * DAY_MS, "on event", "Vehicles at stops, observed or forecast"
        ),
        Product(
            "traffic-signal",
            records.TrafficSignal,
            "device_id:group",
            "compact,delete",
            DAY_MS,
            "on change",
            "States of traffic signals",
        ),
        Product("road-weather", records.RoadWeather, "site_id", "compact,delete", 30 * DAY_MS, "1 to 10 min", "Road weather stations"),
        Product(
            "situation",
            records.Situation,
            "situation_id",
            "compact",
            -1,
            "on change; a tombstone 7 days after the end",
            "Incidents, roadworks, closures and transit alerts",
        ),
        Product(
            "shared-vehicle-station",
            records.SharedVehicleStation,
            "station_id",
            "compact,delete",
            7 * DAY_MS,
            "at most 1 min",
            "Stations of shared vehicles",
        ),
        Product("parking", records.Parking, "facility_id", "compact,delete", 7 * DAY_MS, "1 to 5 min", "Parking facilities"),
        Product(
            "segment-state",
            records.SegmentState,
            "segment_id",
            "compact,delete",
            48 * HOUR_MS,
            "provisional within 15 s of the data, final once a minute, heartbeat 5 min",
            "State of every street segment",
        ),
        Product(
            "emission-segment",
            emission_records.EmissionSegment,
            "segment_id",
            "compact,delete",
            48 * HOUR_MS,
            "1 min where something was measured, 5 min for every segment",
            "Emissions of every street segment",
        ),
        Product(
            "emission-area",
            emission_records.EmissionArea,
            "area_id",
            "compact,delete",
            48 * HOUR_MS,
            "1 min, and 5 min",
            "Emissions of areas and of the city",
        ),
        Product(
            "emission-vehicle",
            emission_records.EmissionVehicle,
            "vehicle_id",
            "delete",
            7 * DAY_MS,
            "1 min",
            "Emissions of transit vehicles",
        ),
        Product(
            "area-state", emission_records.AreaState, "area_id", "compact,delete", 48 * HOUR_MS, "1 min", "Traffic in areas and in the city"
        ),
        Product(
            "grid-factor",
            emission_records.GridFactor,
            "grid_id",
            "compact,delete",
            30 * DAY_MS,
            "1 to 5 min",
            "CO2 of the electricity grid",
        ),
        Product(
            "line-fluency",
            line_records.LineFluency,
            "route_id:direction_id",
            "compact,delete",
            48 * HOUR_MS,
            "1 min",
            "How lines of public transport run",
        ),
        Product(
            "city-day",
            indicator_records.CityDay,
            "city:day",
            "compact,delete",
            400 * DAY_MS,
            "5 min",
            "Fluency and environmental effect of a city's day",
        ),
        Product("feed-health", records.FeedHealth, "feed", "compact,delete", 30 * DAY_MS, "15 s", "Health of the source feeds"),
        Product("segment", records.Segment, "segment_id", "compact", -1, "when the network is built", "Street segments"),
    )
}


#: Snapshots come every few seconds and only the last two of each owner matter: small log segments, cleaned soon, keep recovery short.
COMPACT_SOON = {
    "cleanup.policy": "compact",
    "retention.ms": "-1",
    "segment.bytes": str(32 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": "600000",
}


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """What the broker must be told about one topic."""

    name: str
    partitions: int
    config: dict[str, str]


def open_topic(city: str, product: str, prefix: str = "") -> str:
    """
    >>> open_topic("helsinki", "segment-state")
    'mobility.helsinki.segment-state.v1'
    >>> open_topic("helsinki", "segment-state", prefix="replay.x1.")
    'replay.x1.mobility.helsinki.segment-state.v1'
    """
    return f"{prefix}mobility.{city}.{product}.v{PRODUCTS[product].major}"


def raw_topic(city: str, feed: str, prefix: str = "") -> str:
    """Envelopes of bytes as received."""
    return f"{prefix}raw.{city}.{feed}"


def partials_topic(city: str, prefix: str = "") -> str:
    """Sums per segment, window and vehicle on their way from observe to fuse."""
    return f"{prefix}partials.{city}"


def state_topic(city: str, prefix: str = "") -> str:
    """Snapshots of state and offset."""
    return f"{prefix}state.{city}"


def evidence_topic(city: str, prefix: str = "") -> str:
    """What final minutes were made from, for explanations."""
    return f"{prefix}evidence.{city}"


def dead_letter_topic(city: str, prefix: str = "") -> str:
    return f"{prefix}dead-letter.{city}"


def late_topic(city: str, prefix: str = "") -> str:
    return f"{prefix}late.{city}"


def settings(city: str, feeds: dict[str, int], prefix: str = "", raw_of: str | None = None) -> list[TopicSettings]:
    """Every topic of a city. ``feeds``: partitions of each feed's raw topic, by feed name. ``raw_of``: the city whose raw topics they are, when another.

    A prefix (a replay) turns the record timestamps into append times: retention would delete old event times at once.
    """
    common = {"compression.type": "producer", "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    if prefix:
        common["message.timestamp.type"] = "LogAppendTime"

    def topic(name: str, partitions: int, cleanup: str, retention_ms: int) -> TopicSettings:
        return TopicSettings(name, partitions, {**common, "cleanup.policy": cleanup, "retention.ms": str(retention_ms)})

    out = [topic(raw_topic(raw_of or city, f, prefix), n, "delete", 3 * DAY_MS) for f, n in feeds.items()]
    out.append(topic(partials_topic(city, prefix), 1, "delete", DAY_MS))
    out.append(topic(evidence_topic(city, prefix), 1, "delete", 2 * DAY_MS))
    out.append(TopicSettings(state_topic(city, prefix), STATE_PARTITIONS, {**common, **COMPACT_SOON}))
    out.append(topic(dead_letter_topic(city, prefix), 1, "delete", 14 * DAY_MS))
    out.append(topic(late_topic(city, prefix), 1, "delete", 14 * DAY_MS))
    out += [topic(open_topic(city, p.name, prefix), p.partitions, p.cleanup, p.retention_ms) for p in PRODUCTS.values()]
    return out
