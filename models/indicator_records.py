"""Record of a city's day: how its traffic flowed and what it gave off, so that cities compare. What the figures mean: ``docs/indicators.md``."""

from __future__ import annotations

from models.emission_records import Quantity
from models.records import Count, Day, NonNegative, Percent, Record, Share, Status, Utc


class Fluency(Record, frozen=True, kw_only=True):
    """How traffic flowed: sums over final minutes of ``area-state`` of the whole city, and of ``line-fluency``."""

    minutes: Count  #: final minutes that are summed up
    coverage_pct: Percent  #: part of the vehicle-kilometres whose speed or flow was measured, now or lately
    known_km_pct: Percent  #: part of the street kilometres whose speed was known or inferred, mean over the minutes
    confidence: Share  #: of the speeds, mean weighted by vehicle-kilometres
    vehicle_km: NonNegative  #: on streets whose speed was known, transit left out
    vehicle_h: NonNegative  #: spent on them
    delay_veh_h: NonNegative  #: of these, lost against free flow
    slow_km_share: Share | None = None  #: part of the known street kilometres at level of service E or F, mean over the minutes
    speed_kmh: NonNegative | None = None  #: vehicle-kilometres over vehicle-hours
    travel_time_index: NonNegative | None = None  #: vehicle-hours over those that the same kilometres take in free flow
    delay_s_per_vehicle_km: NonNegative | None = None  #: the programme's indicator of fluency: seconds lost on a kilometre driven
    transit_vehicle_h: NonNegative | None = None  #: vehicles of all lines, that were followed along streets and rails
    transit_speed_kmh: NonNegative | None = None  #: commercial speed over all lines, weighted by time
    transit_stopped_share: Share | None = None  #: part of the time in which they stood, at stops and in traffic


class Environment(Record, frozen=True, kw_only=True):
    """What traffic gave off: sums over final five-minute windows of ``emission-area`` of the whole city, stretched to streets that nothing is known of.

    Bounds are summed up as if all errors of the day were the same in every window: a day does not look certain because it is long.
    """

    blocks: Count  #: windows of five minutes that are summed up
    coverage_pct: Percent  #: part of the vehicle-kilometres whose speed or flow was measured, now or lately
    coverage_expansion: NonNegative  #: that the sums were stretched by, mean weighted by vehicle-kilometres
    vehicle_km: NonNegative  #: of all vehicles, transit included
    co2_fossil_kg: Quantity
    co2_total_kg: Quantity
    co2_electricity_kg: Quantity
    nox_kg: Quantity
    no2_kg: Quantity
    pm_exhaust_kg: Quantity
    pm_nonexhaust_kg: Quantity
    co_kg: Quantity
    energy_mj: Quantity
    co2_total_g_per_vehicle_km: Quantity | None = (
        None  #: the programme's indicator of the environment; its bounds also hold what is unsure of the flow
    )
    nox_mg_per_vehicle_km: Quantity | None = None
    pm_mg_per_vehicle_km: Quantity | None = None  #: exhaust and wear; bounds added
    co2_total_kg_per_street_km_h: Quantity | None = None  #: by kilometre of directed street and hour: how much of it there is


class Hour(Record, frozen=True, kw_only=True):
    """One hour of the city's day."""

    hour_start: Utc
    local_hour: Count  #: 0 to 23 by the city's clocks; comes twice when they go back
    fluency: Fluency | None = None  #: absent: no minute is final
    environment: Environment | None = None


class CityDay(Record, frozen=True, kw_only=True):
    """A city's day so far, by its own clocks, and each hour of it. Kafka key: ``city:day``; compacted.

    Written anew every five minutes of log time while the day runs, and a last time (``final``) when the next one has begun. It is a function of the day's final
    records alone. What was not running is missing: ``minutes`` and ``blocks`` say how much of the day is in it.
    """

    city: str
    day: Day  #: local
    window_start: Utc  #: of the day
    window_end: Utc  #: of the last minute that is in it
    status: Status
    revision: Count  #: minutes since the day began
    street_km: NonNegative  #: directed street kilometres open to general traffic
    hours: list[Hour]
    fluency: Fluency | None = None  #: of all hours
    environment: Environment | None = None
    fleet_mix: str | None = None  #: of the last window
    factor_set: str | None = None
    simulated: bool | None = None
