"""Record of how a line of public transport runs; the common rules stand in ``models/records.py``."""

from __future__ import annotations

from typing import Literal

from models.records import Count, Direction, Mode, NonNegative, Percent, Record, Share, Status, Utc


class LineFluency(Record, frozen=True, kw_only=True):
    """How one route runs in one direction in one minute, from the vehicles that are under way on it. Kafka key: ``route_id:direction_id``; compacted.

    Speeds and standing are sums over all vehicles of distance and time along streets and rails (Edie), stops included, waiting at the first and the last stop left out.
    Headways: of each vehicle behind the one before it, at the last place that both have passed.
    """

    route_id: str  #: GTFS route_id
    direction_id: Direction | None = None  #: absent, and "unknown" in the key, where the feed does not say
    mode: Mode
    window_start: Utc
    window_end: Utc
    status: Status  #: provisional: the window's minute has passed but not its lateness; final once
    revision: Count  #: grows with each record of the window; the final one has the highest
    vehicles: Count  #: that said in the window that they serve this route and direction
    coverage_pct: Percent  #: part of these vehicles' time that speed and standing are known of
    commercial_speed_kmh: NonNegative | None = (
        None  #: distance over time, stops included; absent where nothing was followed along streets or rails
    )
    commercial_speed_lo95_kmh: NonNegative | None = (
        None  #: what the next vehicles' mean would lie above, by how unlike these are; from two vehicles on
    )
    commercial_speed_hi95_kmh: NonNegative | None = None  #: the same, below
    scheduled_speed_kmh: NonNegative | None = None  #: of the same kind, by the timetable; absent where it is not known
    scheduled_speed_source: Literal["timetable", "delay"] | None = (
        None  #: timetable: length of the trips' ways over their time; delay: distance driven over time less the delay that grew on it
    )
    delay_p50_s: float | None = None  #: median over vehicles of what they last said, or the timetable; late is positive
    delay_p90_s: float | None = None
    headways: Count | None = None  #: that the following are made of; absent, with them, below three
    headway_mean_s: NonNegative | None = None
    headway_cv: NonNegative | None = None  #: standard deviation of headways less the timetable's, over the timetable's mean (TCQSM 3rd ed.)
    headway_basis: Literal["scheduled", "observed"] | None = (
        None  #: what the headways were held against: start times of the trips, or their own mean
    )
    bunched_share: Share | None = None  #: vehicles that follow the one before within a quarter of the headway that is meant
    stopped_share: Share | None = None  #: part of the time in which vehicles stood, at stops and in traffic
    dwell_share: Share | None = None  #: part of the time in which they stood at stops; what is left of stopped_share is traffic and signals
    simulated: bool | None = None
