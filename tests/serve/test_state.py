"""The laws of a picture."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.records import encode
from models.topics import open_topic
from serve import state as module
from serve.state import Picture

STATES = open_topic("town", "segment-state")
VEHICLES = open_topic("town", "vehicle-position")


@given(orders=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_an_older_state_never_replaces_a_newer_one_however_the_log_is_ordered(town: ModuleType, orders: list[tuple[int, int]]) -> None:
    picture, feed = Picture("town"), None
    feed = town.Feeder(picture)
    for minute, revision in orders:
        before = picture.states.get("w0_1_2_f")
        feed(town.state(0, minute=minute, revision=revision))
        assert before is None or picture.states["w0_1_2_f"].order >= before.order
    newest = max(orders)
    assert picture.states["w0_1_2_f"].value == encode(town.state(0, minute=newest[0], revision=newest[1]))


@given(times=st.lists(st.integers(0, 100), min_size=1, max_size=12))
def test_an_older_fix_never_replaces_a_newer_one(town: ModuleType, times: list[int]) -> None:
    picture = Picture("town")
    feed = town.Feeder(picture)
    for t in times:
        feed(town.vehicle(1, at_s=t))
    assert [v.event_ms for v in picture.live_vehicles()] == [town.NOW + 1000 * max(times)]


def test_older_feed_health_and_older_segments_are_not_taken(fed: Any, picture: Picture, town: ModuleType) -> None:
    fed(town.health(at_s=30, status="stale"))
    applied, _, _ = fed(town.health(at_s=15))
    assert not applied.latest
    assert b'"stale"' in picture.health["hfp"].value
    segment = open_topic("town", "segment")
    assert picture.apply(segment, b"k", encode(town.street(0, version="n0")), 0, 0).latest  # type: ignore[union-attr]
    picture.apply(segment, b"k", encode(town.street(0, version="n2")), 90, 0)
    assert not picture.apply(segment, b"k", encode(town.street(0, version="n1")), 80, 0).latest  # type: ignore[union-attr]
    assert picture.segments["w0_1_2_f"].network_version == "n2"


def test_a_record_written_twice_changes_nothing(fed: Any, picture: Picture, town: ModuleType) -> None:
    before = (dict(picture.states), picture.live_vehicles())
    fed(town.state(0, los="A"))
    fed(town.vehicle(1))
    assert [s.value for s in picture.states.values()] == [s.value for s in before[0].values()]
    assert [v.value for v in picture.live_vehicles()] == [v.value for v in before[1]]


def test_a_vehicle_is_forgotten_120_s_after_its_last_fix_by_log_time(fed: Any, picture: Picture, town: ModuleType) -> None:
    fed(town.health(at_s=119))
    assert len(picture.live_vehicles()) == 2
    fed(town.health(at_s=125))
    assert picture.live_vehicles() == []
    assert not picture.vehicles, "memory is given back"


def test_a_fix_that_arrives_120_s_old_is_not_shown(fed: Any, picture: Picture, town: ModuleType) -> None:
    applied, _, _ = fed(town.vehicle(7, at_s=0, heard_s=150))
    assert not applied.latest
    assert picture.live_vehicles() == []


def test_memory_is_bounded_and_what_does_not_fit_is_counted(
    fed: Any, picture: Picture, town: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VEHICLES", 2)
    assert fed(town.vehicle(9))[0] is None
    assert picture.refused["vehicle-position"] == 1
    assert fed(town.vehicle(1, at_s=1))[0].latest, "a vehicle that is known still moves"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"vehicle_id":"v"}',
        b'{"vehicle_id":7,"event_time":"2026-03-10T05:30:00.000Z","ingest_time":"2026-03-10T05:30:00.000Z"}',
        b'{"vehicle_id":"v","event_time":"yesterday","ingest_time":"2026-03-10T05:30:00.000Z"}',
        b'{"vehicle_id":"v","event_time":"2026-03-10T05:30:00.000Z","ingest_time":"2026-03-10T05:30:00.000Z"}{}',
        b"\xff\xfe",
    ],
)
def test_a_record_that_breaks_its_contract_is_refused_and_counted(feed: Any, picture: Picture, value: bytes) -> None:
    assert feed(value, product="vehicle-position")[0] is None
    assert picture.refused["vehicle-position"] == 1
    assert picture.live_vehicles() == []


def test_a_record_written_over_several_lines_is_told_on_one(feed: Any) -> None:
    value = b'{\n "vehicle_id": "v",\r\n "event_time": "2026-03-10T05:30:00.000Z", "ingest_time": "2026-03-10T05:30:00.000Z"}'
    applied, _, _ = feed(value, product="vehicle-position")
    assert b"\n" not in applied.value
    assert b"\r" not in applied.value


def test_a_tombstone_removes_its_key(fed: Any, picture: Picture) -> None:
    fed(None, product="segment", key="w0_1_2_f")
    fed(None, product="segment-state", key="w1_1_2_f")
    assert "w0_1_2_f" not in picture.segments
    assert picture.network()[0] == ["w1_1_2_f", "w2_1_2_f", "w3_1_2_f", "w4_1_2_f"]
    assert "w1_1_2_f" not in picture.states


def test_simulated_is_said_while_anything_shown_is_simulated(fed: Any, picture: Picture, town: ModuleType) -> None:
    assert not picture.simulated
    fed(town.state(0, revision=2, simulated=True))
    assert picture.simulated
    fed(town.state(0, revision=3))
    assert not picture.simulated
    fed(town.vehicle(1, at_s=2, simulated=True))
    assert picture.simulated


def test_the_picture_does_not_depend_on_the_order_between_keys(town: ModuleType) -> None:
    records = (
        [town.street(n) for n in range(4)]
        + [town.state(n, minute=m) for n in range(4) for m in range(3)]
        + [town.vehicle(n) for n in range(4)]
    )
    views = []
    for seed in range(3):
        picture = Picture("town")
        feed = town.Feeder(picture)
        for record in random.Random(seed).sample(records, len(records)):
            feed(record)
        views.append(({k: s.value for k, s in picture.states.items()}, [v.value for v in picture.live_vehicles()], picture.network()[0]))
    assert views[0] == views[1] == views[2]
