"""Outages of positions: the odometer tells when the metres in them were driven."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from connectors.envelope import Item
from streams import partial as wire
from streams.cells import DIST, DWELL, STILL, TIME
from streams.observe import Observer
from streams.outages import Ends, Outages, Reading
from tests.streams import kit
from tests.streams.test_observe import GROUND, observe, told

#: Seconds of the drive without a position, and of standing in them: it stands at 650 m, in the first minute.
DARK, STANDS = range(35, 75), range(45, 59)

Cells = dict[tuple[int, str, str], list[int]]


def tunnel(*, stop: tuple[float, float] | None = None, scale: float = 1.0, route: str = "1001", **odometer: Any) -> list[Item]:
    """100 s at 10 m/s along Main street from 200 m, 14 s of them standing; a position every second but in the dark. ``odometer``: replaces readings of the dark, by name s40."""
    out = []
    for k in range(101):
        s = 200.0 + 10.0 * (k - min(max(k - STANDS[0], 0), len(STANDS)))
        dark = k in DARK
        reads = odometer.get(f"s{k}", int(s * scale)) if dark else int(s * scale)
        doors = int(stop is not None and stop[0] <= k <= stop[1])
        where = None if dark else kit.at(0, s)
        out.append(kit.hfp(kit.T0 + 1000 * k, where, route=route, spd=None if dark else 10.0, hdg=90, odo=reads, drst=doors))
    return out


def cells_of(items: list[Item]) -> Cells:
    return observe([kit.envelope(items)])[1]


def even(**more: Any) -> Cells:
    """The same drive without readings in the dark."""
    return cells_of(tunnel(**{f"s{k}": None for k in DARK}, **more))


def of(cells: Cells, name: str, column: int, minute: int | None = None) -> int:
    return sum(c[column] for (w, s, _), c in cells.items() if s == name and minute in (None, w))


@pytest.mark.parametrize("scale", [1.0, 0.93])
@pytest.mark.parametrize("route", ["1001", "9999"])
def test_a_stand_in_an_outage_stays_on_its_segment_and_in_its_minute(route: str, scale: float) -> None:
    cells = cells_of(tunnel(route=route, scale=scale))
    whole = cells_of(_with_positions(route, scale))
    for name in ("main1_f", "main2_f", "main3_f", "main4_f"):
        for minute in (0, 1):
            assert of(cells, name, TIME, minute) == pytest.approx(of(whole, name, TIME, minute), abs=1600)
            assert of(cells, name, DIST, minute) == pytest.approx(of(whole, name, DIST, minute), abs=16_000)
    assert of(cells, "main2_f", STILL) + of(cells, "main3_f", STILL) == pytest.approx(1000 * len(STANDS), abs=1100)
    evenly = even(route=route, scale=scale)
    assert sum(c[TIME] for c in cells.values()) == sum(c[TIME] for c in evenly.values()) == 100_000
    assert sum(c[DIST] for c in cells.values()) == pytest.approx(sum(c[DIST] for c in evenly.values()), abs=2)
    assert all(of(evenly, name, STILL) == 0 for name in ("main2_f", "main3_f"))


def _with_positions(route: str, scale: float) -> list[Item]:
    """The drive as it was."""
    out = []
    for k in range(101):
        s = 200.0 + 10.0 * (k - min(max(k - STANDS[0], 0), len(STANDS)))
        stands = k in STANDS
        out.append(kit.hfp(kit.T0 + 1000 * k, kit.at(0, s), route=route, spd=0.0 if stands else 10.0, hdg=90, odo=int(s * scale)))
    return out


def test_doors_that_open_in_an_outage_make_dwell_and_not_traffic() -> None:
    cells = cells_of(tunnel(stop=(46, 57)))
    assert sum(c[DWELL] for c in cells.values()) == pytest.approx(13_000, abs=1000)
    assert sum(c[TIME] for c in cells.values()) + sum(c[DWELL] for c in cells.values()) == 100_000


@pytest.mark.parametrize("reading", [{"s50": 20}, {"s36": 899, **{f"s{k}": 899 for k in range(37, 75)}}], ids=["goes back", "faster than anything"])  # fmt: skip
def test_readings_that_cannot_be_leave_the_even_pace(reading: dict[str, int]) -> None:
    assert cells_of(tunnel(**reading)) == even()


def test_readings_in_any_order_and_told_twice_say_the_same() -> None:
    items = tunnel()
    held = np.random.default_rng(4).permutation([*DARK, 40, 44])
    late = [Item(kit.T0 + 75_400, items[k].topic, items[k].body) for k in held]
    assert cells_of([*items[:35], *late, *items[75:]]) == cells_of(items)


def test_a_trip_that_begins_in_an_outage_makes_no_way_of_it() -> None:
    items = [*tunnel()[:75], *(kit.hfp(kit.T0 + 1000 * k, kit.at(0, 10.0 * k), start="08:00", odo=k) for k in range(75, 80))]
    assert sum(c[TIME] for c in cells_of(items).values()) == 34_000 + 4_000


@pytest.mark.parametrize("route", ["1001", "9999"])
def test_a_snapshot_in_an_outage_goes_on_as_if_nothing_had_been(route: str) -> None:
    items = tunnel(route=route, stop=(46, 57))
    first, partials = Observer(kit.city(), "hfp", 0, GROUND), []
    first.feed_envelope(kit.envelope(items[:52]), 0)
    partials.append(first.flush())
    second = Observer(kit.city(), "hfp", 0, GROUND)
    second.restore(first.export())
    for k in range(52, len(items)):
        second.feed_envelope(kit.envelope(items[k : k + 1]), k)
        partials.append(second.flush())
    assert told(partials) == cells_of(items)
    assert wire.decode(partials[-1]).raw_offset == len(items) - 1
    assert not second.outages.readings


def test_a_vehicle_that_never_has_a_position_is_not_remembered_and_a_long_outage_only_for_two_minutes() -> None:
    o = Observer(kit.city(), "hfp", 0, GROUND)
    o.feed_envelope(kit.envelope([kit.hfp(kit.T0 + 1000 * k, None, vehicle=2, odo=k) for k in range(60)]), 0)
    assert not o.outages.readings
    o.feed_envelope(kit.envelope(kit.drive(0, seconds=10, odo=100)), 1)
    o.feed_envelope(kit.envelope([kit.hfp(kit.T0 + 1000 * k, None, odo=100 + k) for k in range(11, 600)]), 2)
    assert [len(r) for r in o.outages.readings.values()] == [120]


def test_a_long_stand_is_one_leg() -> None:
    o = Outages(120.0, 33.0)
    for k in range(1, 100):
        o.note(0, 0, Reading(1000 * k, 500.0, 0, -1))
    none = np.zeros(1, np.int8)
    legs = o.legs(0, 0, 0, 100_000, Ends((np.array([490.0]), np.array([510.0])), (none, none), (none, none)))
    assert legs is not None
    assert legs.t_ms == [0, 1000, 99_000, 100_000]
    assert legs.driven_mm == [0, 10_000, 10_000, 20_000]
