"""One vehicle, one wrong moment: what follows is not lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from connectors.envelope import Item
from streams.cells import DIST
from streams.offline import Run
from streams.partial import decode
from tests.streams import kit


def drive(seconds: range, **more: Any) -> list[Item]:
    """Ten metres a second along the first shape."""
    return [kit.hfp(kit.T0 + 1000 * k, kit.at(0, 10.0 * k), ingest_ms=kit.T0 + 1000 * k + 200, spd=10.0, hdg=90, **more) for k in seconds]


def driven_m(items: list[Item]) -> float:
    run = Run(kit.city(), kit.network())
    observer = run.observers["hfp", 0]
    for e in kit.cut(items):
        observer.feed_envelope(e, 0)
    sums = decode(observer.flush()).rows().sums
    return float(np.sum(sums[:, DIST])) / 1000.0


def test_an_event_from_a_clock_ahead_does_not_stop_its_vehicle() -> None:
    good = drive(range(80))
    ahead = kit.hfp(kit.T0 + 20_500 + 90_000, kit.at(0, 205.0), ingest_ms=kit.T0 + 20_500, spd=10.0, hdg=90)
    assert driven_m(good) > 770
    assert driven_m(kit.in_order([*good, ahead])) > 700


def test_a_new_trip_on_the_same_shape_begins_where_it_begins() -> None:
    first = drive(range(40), start="07:00")
    second = [
        kit.hfp(kit.T0 + 1000 * k, kit.at(0, 10.0 * (k - 45)), ingest_ms=kit.T0 + 1000 * k + 200, spd=10.0, hdg=90, start="07:20")
        for k in range(45, 85)
    ]
    apart = driven_m(first) + driven_m(second)
    assert abs(driven_m([*first, *second]) - apart) < 20
