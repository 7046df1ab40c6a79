"""Is it possible? The same checks for every feed, on the columns of one envelope (the table "Bad input" of ``docs/flow.md``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectors.cities import Box
from connectors.columns import I64, Reject, VehicleColumns
from geo.network import Bool

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class CleanSettings:
    """Limits of the possible."""

    #: An event time further before its ingest time than this means a wrong clock, milliseconds.
    oldest_ms: int = 7 * DAY_MS
    #: So does one further after it than this, milliseconds.
    newest_ms: int = 120_000
    #: Faster than this is an error, metres per second (100 m/s = 360 km/h; the fastest trains in Finland run 61).
    max_speed_mps: float = 100.0
    #: More than this early or late is no delay, seconds.
    max_delay_s: float = 86_400.0


def wrong_clock(event_ms: I64, ingest_ms: I64, limits: CleanSettings) -> Bool:
    """Event times that cannot be: 1970, next year, minutes into the future."""
    return (event_ms < ingest_ms - limits.oldest_ms) | (event_ms > ingest_ms + limits.newest_ms)


def impossible(c: VehicleColumns, box: Box, limits: CleanSettings) -> tuple[Bool, list[Reject]]:
    """Mask of the events that are possible, and a reject for each of the others. The first reason found is the one given.

    A missing position is possible (GNSS outage); half a position, one outside the city, or NaN in a single coordinate is not.
    """
    bad = np.zeros(len(c), np.bool_)
    rejects: list[Reject] = []

    def refuse(mask: Bool, reason: str, field: str, want: str, *columns: object) -> None:
        for i in np.flatnonzero(mask & ~bad):
            value = ", ".join(str(col[i]) for col in columns)  # type: ignore[index]
            rejects.append(Reject(int(c.index[i]), reason, field, value, want))
        bad[:] |= mask

    lat, lon = c.lat_deg, c.lon_deg
    no_lat, no_lon = np.isnan(lat), np.isnan(lon)
    refuse(no_lat != no_lon, "half_position", "lat, long", "both or neither", lat, lon)
    outside = ~no_lat & ~((lat >= box.south) & (lat <= box.north) & (lon >= box.west) & (lon <= box.east))
    swapped = outside & (lon >= box.south) & (lon <= box.north) & (lat >= box.west) & (lat <= box.east)
    refuse(swapped, "swapped_coordinates", "lat, long", "latitude first: the two are swapped", lat, lon)
    refuse(outside, "outside_box", "lat, long", f"within {box.south}-{box.north} N, {box.west}-{box.east} E", lat, lon)
    clock = wrong_clock(c.event_ms, c.ingest_ms, limits)
    refuse(clock, "clock", "event_time", "within 7 days before and 2 minutes after ingest, epoch ms", c.event_ms, c.ingest_ms)
    fast = ~np.isnan(c.speed_mps) & ~((c.speed_mps >= 0) & (c.speed_mps <= limits.max_speed_mps))
    refuse(fast, "speed", "speed_mps", f"metres per second 0-{limits.max_speed_mps:g} or null", c.speed_mps)
    course = ~np.isnan(c.heading_deg) & ~((c.heading_deg >= 0) & (c.heading_deg < 360))
    refuse(course, "heading", "heading_deg", "degrees 0-360 or null", c.heading_deg)
    odometer = ~np.isnan(c.odometer_m) & ~((c.odometer_m >= 0) & (c.odometer_m < 1e8))
    refuse(odometer, "odometer", "odometer_m", "metres >= 0 or null", c.odometer_m)
    crowd = ~np.isnan(c.occupancy_pct) & ~((c.occupancy_pct >= 0) & (c.occupancy_pct <= 100))
    refuse(crowd, "occupancy", "occupancy_pct", "percent 0-100 or null", c.occupancy_pct)
    delay = ~np.isnan(c.delay_s) & ~(np.abs(c.delay_s) <= limits.max_delay_s)
    refuse(delay, "delay", "delay_s", f"seconds within +-{limits.max_delay_s:g} or null", c.delay_s)
    return ~bad, rejects
