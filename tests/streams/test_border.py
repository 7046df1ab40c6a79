"""A city that shares another's feeds publishes only what happens on its side of the border."""

from __future__ import annotations

import msgspec

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


def test_a_vehicle_that_nobody_knows_where_it_is_belongs_to_the_region_only() -> None:
    item = kit.hfp(kit.T0, None)
    assert len(kit.records(kit.run_all(kit.cut([item]))[0], "vehicle-position")) == 1
    assert "vehicle-position" not in kit.run_all(kit.cut([item]), HELSINKI)[0].records
