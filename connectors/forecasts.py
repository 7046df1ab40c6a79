"""Calls that a stop's board forecasts, as ``stop-passage`` with ``predicted``: expected and aimed times, and never an observed one."""

from __future__ import annotations

from typing import Any

from connectors.columns import Stated, Trip
from connectors.envelope import Item
from models.clock import rfc3339
from models.records import StopPassage

#: A call that is expected more than this after the board was written is not worth telling yet; one more than ``BEHIND_MS`` before it is over, milliseconds.
AHEAD_MS, BEHIND_MS = 3 * 3_600_000, 300_000
#: A delay beyond these is a wrong match of vehicle and trip, seconds.
EARLIEST_S, LATEST_S = -3600, 7200


def forecast(
    index: int,
    item: Item,
    made_ms: int,
    *,
    feed: str,
    stop_id: str,
    vehicle_id: str,
    operator: str | None,
    trip: Trip,
    expected_arrival: int | None,
    expected_departure: int | None,
    aimed_arrival: int | None,
    aimed_departure: int | None,
) -> Stated | str:
    """One forecast, or why it is none: ``no_forecast``, ``contradictory`` (it would leave before it comes), ``far_ahead``, ``over``, ``wrong_trip``.

    Args:
        made_ms: when the board was written, milliseconds since 1970; so are the other times.
    """
    leaves = expected_departure if expected_departure is not None else expected_arrival
    if leaves is None:
        return "no_forecast"
    if expected_arrival is not None and expected_arrival > leaves:
        return "contradictory"
    if leaves > made_ms + AHEAD_MS:
        return "far_ahead"
    if leaves < made_ms - BEHIND_MS:
        return "over"
    aimed = aimed_departure if aimed_departure is not None and expected_departure is not None else aimed_arrival
    delay_s = None if aimed is None else round((leaves - aimed) / 1000)
    if delay_s is not None and not EARLIEST_S <= delay_s <= LATEST_S:
        return "wrong_trip"
    return told(
        index, item, made_ms, feed=feed, stop_id=stop_id, vehicle_id=vehicle_id, operator=operator, trip=trip, on_change=True, delay_s=delay_s, predicted=True,
        expected_arrival=_time(expected_arrival), expected_departure=_time(expected_departure), aimed_arrival=_time(aimed_arrival), aimed_departure=_time(aimed_departure),
    )  # fmt: skip


def told(
    index: int,
    item: Item,
    event_ms: int,
    *,
    feed: str,
    stop_id: str,
    vehicle_id: str,
    operator: str | None,
    trip: Trip,
    on_change: bool = False,
    **said: Any,
) -> Stated:
    """A ``stop-passage`` of a trip, seen or forecast; ``said`` is what else the record holds."""
    record = StopPassage(
        stop_id=stop_id,
        vehicle_id=vehicle_id,
        event_time=rfc3339(event_ms),
        ingest_time=rfc3339(item.ingest_ms),
        feed=feed,
        operator=operator,
        mode=None if trip.mode == "unknown" else trip.mode,  # type: ignore[arg-type]
        route_id=trip.route_id,
        direction_id=trip.direction_id,
        trip_id=trip.trip_id,
        operating_day=trip.operating_day,
        start_time=trip.start_time,
        **said,
    )
    return Stated(
        index=index, ingest_ms=item.ingest_ms, event_ms=event_ms, product="stop-passage", key=stop_id, record=record, on_change=on_change
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
