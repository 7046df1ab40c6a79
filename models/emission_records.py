"""Records of emissions and of areas; their common rules stand in ``models/records.py``.

Rates are per hour, so that windows of different lengths compare: grams in a window = value x hours of the window. What the values cover and how
they are worked out: ``docs/emissions.md``.
"""

from __future__ import annotations

from typing import Literal

from models.records import Count, FlowSource, Mode, NonNegative, Origin, Percent, Record, Share, Status, Utc

AreaKind = Literal["h3_8", "district", "city"]
TemperatureSource = Literal["measured", "default"]
GridSource = Literal["live", "default"]


class Quantity(Record, frozen=True, kw_only=True):
    """A value and the bounds that hold for 95 % of them (log-normal); zero is exact."""

    value: NonNegative
    lo95: NonNegative
    hi95: NonNegative


class Emission(Record, frozen=True, kw_only=True):
    """What every emission record says."""

    window_start: Utc
    window_end: Utc
    status: Status  #: provisional: the window's minute has passed but not its lateness; final once
    revision: Count  #: grows with each record of the window; the final one has the highest
    co2_fossil: Quantity  #: g/h at the tailpipe, of fossil fuel
    co2_total: Quantity  #: g/h at the tailpipe, fossil and biogenic
    co2_electricity: Quantity  #: g/h at power stations, for what was drawn at the plug
    nox: Quantity  #: g/h, as NO2 equivalents
    no2: Quantity  #: g/h, primary
    pm_exhaust: Quantity  #: g/h
    pm_nonexhaust: Quantity  #: g/h, PM10 of tyres, brakes and road surface; no studded tyres, no resuspension
    co: Quantity  #: g/h
    energy: Quantity  #: MJ/h, at the tank or battery
    fleet_mix: str  #: name and date of validity of the fleet
    factor_set: str  #: version of the factor tables; "+hbefa4:w": leaning by w towards the second model
    factor_rows: str  #: digest of the ids of the coefficient rows behind the values; `tilannekuva factors --city` lists them
    scope: str  #: what the values cover
    temperature_c: float  #: of the air, for cold starts
    temperature_source: TemperatureSource  #: measured: median of the city's road weather stations; default: usual for the month
    grid_g_per_kwh: NonNegative  #: CO2 of the grid
    grid_source: GridSource  #: live: the newest grid-factor of the last hour; default: of the tables
    grid_time: Utc | None = None  #: since when the live factor holds
    simulated: bool | None = None


class EmissionSegment(Emission, frozen=True, kw_only=True):
    """What the traffic on one directed road segment gives off. Kafka key: ``segment_id``; compacted.

    A window of one minute where something was measured in it, and one of five minutes for every segment. Tell them apart by their ends.
    """

    segment_id: str
    flow_vph: Quantity  #: vehicles an hour, all kinds
    flow_source: FlowSource  #: what informs the flow most; fundamental_diagram: from speed, only in a jam; prior: the calendar
    speed_kmh: NonNegative | None = None  #: space mean that the factors were taken at, transit apart
    speed_origin: Origin | None = None  #: where that speed comes from, as in segment-state
    transit_share: Share | None = None  #: part of co2_total that comes from transit vehicles seen on the segment, at their own speed


class Guards(Record, frozen=True, kw_only=True):
    """Streets with traffic at whose speed a guard of the factors fired, for some vehicle of the fleet."""

    below_v_min: Count  #: slower than a factor's own range: taken at its lower end, per hour
    above_v_max: Count  #: faster: taken at its upper end
    pole_bridged: Count  #: the formula has a pole there: bridged by a straight line
    negative_floored: Count  #: the formula is negative there: 0


class EmissionArea(Emission, frozen=True, kw_only=True):
    """What the road traffic of an area gives off: the sum of its segments. Kafka key: ``area_id``; compacted.

    The bounds do not shrink as if the errors of the segments were independent: factors, fleet, temperature and the calendar are common to all.
    """

    area_id: str  #: H3 index of resolution 8, "district/" and the district's id, or the city's name
    area_kind: AreaKind
    segments: Count  #: that the sum is made of
    coverage_expansion: (
        NonNegative  #: usual vehicle-kilometres of the area over those of the segments in the sum; the sum was multiplied by it
    )
    coverage_pct: Percent  #: part of the vehicle-kilometres whose speed or flow was measured, now or lately
    vehicle_km_h: NonNegative  #: vehicle-kilometres an hour
    flow_source: FlowSource  #: of the largest part of co2_total
    area_name: str | None = None  #: of a district, for people
    guards: Guards | None = None


class EmissionVehicle(Emission, frozen=True, kw_only=True):
    """What one transit vehicle gives off in one minute, from its own speed track. Kafka key: ``vehicle_id``.

    Rates hold for the part of the minute in which it was seen on streets (``time_s``), stops included.
    """

    vehicle_id: str
    mode: Mode
    distance_m: NonNegative  #: along streets, in the window
    time_s: NonNegative  #: on streets, stops included
    speed_kmh: NonNegative
    powertrain: Literal["diesel", "biodiesel", "gas", "hybrid", "electric", "mix"]  #: mix: what the city's fleet has on average
    euro: str | None = None  #: emission class of its engine, where the register tells it; else the factors are those of the fleet's classes
    powertrain_source: Literal["register", "fleet_mix"]  #: register: this vehicle is known; fleet_mix: an average vehicle
    powertrain_basis: str | None = None  #: how the register knows, in its own words
    energy_kwh_km: Quantity | None = None  #: at the tank or battery; absent while it stands
    occupancy_pct: Percent | None = None  #: as it was last reported in the window
    co2_total_g_per_passenger_km: Quantity | None = None  #: only where the occupancy is known and somebody is on board
    energy_kwh_per_passenger_km: Quantity | None = None  #: the same
    capacity: Count | None = None  #: places that the occupancy is a part of: an assumption by kind of vehicle


class GridFactor(Record, frozen=True, kw_only=True):
    """How much CO2 a kilowatt-hour from the grid stands for. Kafka key: ``grid_id``; compacted."""

    grid_id: str  #: namespaced ``<source>/<data set>``
    window_start: Utc
    window_end: Utc
    ingest_time: Utc
    feed: str
    basis: Literal["consumption", "production"]  #: consumption: imports included; emissions are worked out with this one
    co2_g_per_kwh: NonNegative
    simulated: bool | None = None


class KmByLos(Record, frozen=True, kw_only=True):
    """Kilometres of directed segments by level of service."""

    A: NonNegative
    B: NonNegative
    C: NonNegative
    D: NonNegative
    E: NonNegative
    F: NonNegative
    unknown: NonNegative


class AreaState(Record, frozen=True, kw_only=True):
    """How traffic flows in an area in one minute. Kafka key: ``area_id``; compacted."""

    area_id: str  #: H3 index of resolution 8, "district/" and the district's id, or the city's name
    area_kind: AreaKind
    window_start: Utc
    window_end: Utc
    status: Status
    revision: Count
    km_by_los: KmByLos
    coverage_pct: Percent  #: part of the vehicle-kilometres whose speed or flow was measured, now or lately
    vehicles: Count  #: distinct transit vehicles seen on streets
    segments: Count
    confidence: Share  #: mean of the segments' confidence, weighted by vehicle-kilometres
    travel_time_index: NonNegative | None = (
        None  #: travel time over that in free flow, all vehicles together; absent where no speed is known
    )
    vehicle_km_h: NonNegative | None = None  #: vehicle-kilometres an hour
    delay_veh_h: NonNegative | None = None  #: vehicle-hours an hour lost against free flow
    vehicle_h_h: NonNegative | None = None  #: vehicle-hours an hour: vehicles on the area's streets at a time
    area_name: str | None = None  #: of a district, for people
    simulated: bool | None = None
