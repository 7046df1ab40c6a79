"""Observed calls of SIRI: a vehicle that was at a stop, with the times that its operator saw. Aimed and expected times make no passage."""

from __future__ import annotations

from typing import NamedTuple

from lxml import etree

from connectors.columns import Stated, Trip
from connectors.envelope import Item
from connectors.forecasts import told
from connectors.reading import Refused, iso_ms_or_none
from models.clock import rfc3339

#: A time that claims to have been observed may lie this far ahead of our clock; what lies further ahead is a forecast, milliseconds.
AHEAD_MS = 120_000
#: Longer than this at one stop is no dwell but a mistake or a break, milliseconds.
MOST_DWELL_MS = 3_600_000


class Call(NamedTuple):
    """One call of a journey."""

    element: etree._Element
    fields: dict[str, etree._Element]
    stop_id: str | None  #: the stop whose board it stands on, where the call itself names none


def passage(call: Call, index: int, item: Item, feed: str, vehicle_id: str | None, operator: str | None, trip: Trip) -> Stated | None:
    """The passage that a call tells of; None when the vehicle has not left the stop yet, or nobody saw it.

    Raises:
        Refused: it was seen, but stop, vehicle or times are missing or impossible.
    """
    departed = _time(call, "ActualDepartureTime")
    if departed is None or departed > item.ingest_ms + AHEAD_MS:
        return None
    arrived = _time(call, "ActualArrivalTime")
    stop_id = _text(call, "StopPointRef") or call.stop_id
    if stop_id is None:
        raise Refused("missing", "StopPointRef", None, "the stop of an observed call")
    if vehicle_id is None:
        raise Refused("missing", "VehicleRef", None, "the vehicle of an observed call")
    if arrived is not None and arrived > departed:
        raise Refused("range", "ActualArrivalTime", _text(call, "ActualArrivalTime"), "a time before ActualDepartureTime")
    aimed = _time(call, "AimedDepartureTime")
    dwell_ms = None if arrived is None or departed - arrived > MOST_DWELL_MS else departed - arrived
    return told(
        index, item, departed, feed=feed, stop_id=stop_id, vehicle_id=vehicle_id, operator=operator, trip=trip,
        arrived=None if arrived is None else rfc3339(arrived), departed=rfc3339(departed), dwell_s=None if dwell_ms is None else dwell_ms / 1000,
        delay_s=None if aimed is None else round((departed - aimed) / 1000),
    )  # fmt: skip


def _text(call: Call, name: str) -> str | None:
    found = call.fields.get(name)
    return None if found is None else (found.text or "").strip() or None


def _time(call: Call, name: str) -> int | None:
    return iso_ms_or_none(_text(call, name), name)
