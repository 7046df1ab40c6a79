"""A city that shares another's feeds publishes only what happens on its side of the border."""

from __future__ import annotations

import msgspec
import numpy as np

from streams.sides import Sides
from tests.streams import kit

HELSINKI = msgspec.structs.replace(kit.city(), area="municipalities.geojson#Helsinki")
VANTAA = msgspec.structs.replace(kit.city(), area="municipalities.geojson#Vantaa", raw_of="helsinki", name="vantaa")


def test_vehicles_are_published_in_the_city_where_they_are_and_counted_elsewhere() -> None:
    items = kit.drive(0, seconds=60)
    here, run = kit.run_all(kit.cut(items), HELSINKI)
    there, run2 = kit.run_all(kit.cut(items), VANTAA)
    assert len(kit.records(here, "vehicle-position")) == 61
    assert run.observers["hfp", 0].elsewhere == 0
    assert "vehicle-position" not in there.records
    assert "dead-letter" not in there.records
    assert run2.observers["hfp", 0].elsewhere == 61
    assert run2.observers["hfp", 0].raw_topic == "raw.helsinki.hfp"


def test_a_vehicle_without_a_position_is_in_the_city_where_it_was_last_seen() -> None:
    items = [*kit.drive(0, seconds=1), kit.hfp(kit.T0 + 2_000, None), kit.hfp(kit.T0 + 3_000, None)]
    for rows in ((), (1, 2, 3)):
        here, run = kit.run_all(kit.cut(items, rows), HELSINKI)
        there, run2 = kit.run_all(kit.cut(items, rows), VANTAA)
        assert len(kit.records(here, "vehicle-position")) == 4
        assert run.observers["hfp", 0].elsewhere == 0
        assert "vehicle-position" not in there.records
        assert run2.observers["hfp", 0].elsewhere == 4


def test_a_vehicle_that_was_never_seen_is_in_the_city_that_connects() -> None:
    item = kit.hfp(kit.T0, None)
    assert len(kit.records(kit.run_all(kit.cut([item]), HELSINKI)[0], "vehicle-position")) == 1
    assert "vehicle-position" not in kit.run_all(kit.cut([item]), VANTAA)[0].records


def test_where_vehicles_were_last_seen_is_part_of_the_state() -> None:
    sides = Sides(VANTAA.border, connects=False)  # type: ignore[arg-type]
    nan = float("nan")
    assert sides.mask(["a", "b", "a", "c"], np.array([60.29, 60.17, nan, nan]), np.array([25.04, 24.94, nan, nan])).tolist() == [
        True,
        False,
        True,
        False,
    ]
    again = Sides(VANTAA.border, connects=False)  # type: ignore[arg-type]
    again.restore(sides.export())
    assert again.mask(["b", "a"], np.array([nan, nan]), np.array([nan, nan])).tolist() == [False, True]
