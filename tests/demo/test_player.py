"""Playing: every time moves by one whole number of minutes, and nothing else moves."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from google.transit import gtfs_realtime_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.player import DAY_ENDS, MINUTE_MS, Player, base_at, shift_start
from demo.recording import VEHICLE_STEP, Recording, load
from models.clock import parse_ms

HELSINKI = ZoneInfo("Europe/Helsinki")


@cache
def recording() -> Recording:
    return load()


def player(base: str) -> Player:
    return Player(recording(), parse_ms(base))


#: Bases from 2020 to 2035, whole minutes.
bases = st.integers(parse_ms("2020-01-01T00:00:00Z") // MINUTE_MS, parse_ms("2035-01-01T00:00:00Z") // MINUTE_MS).map(
    lambda m: m * MINUTE_MS
)
loops = st.integers(-3, 200)
messages = st.integers(0, 30_000)


@settings(max_examples=60, deadline=None)
@given(bases, loops, messages)
def test_a_message_is_the_recorded_one_with_its_times_and_vehicle_number_moved(base: int, loop: int, i: int) -> None:
    p = Player(recording(), base)
    recorded, shift = recording().hfp[i], p.shift_ms(loop)
    due, topic, payload = p.message_at(loop, i)
    assert shift % MINUTE_MS == 0
    assert due == recording().about.start_ms + recorded.offset_ms + shift
    (before,), (after,) = msgspec.json.decode(recorded.payload).values(), msgspec.json.decode(payload).values()
    assert parse_ms(after["tst"]) == parse_ms(before["tst"]) + shift
    assert after["tsi"] == parse_ms(after["tst"]) // 1000
    moved = {"tst", "tsi", "oday", "start", "veh"}
    assert {k: v for k, v in after.items() if k not in moved} == {k: v for k, v in before.items() if k not in moved}
    assert list(after) == list(before)
    levels, was = topic.split("/"), recorded.topic.split("/")
    assert [x for k, x in enumerate(levels) if k not in (8, 12)] == [x for k, x in enumerate(was) if k not in (8, 12)]
    assert levels[12] == after["start"]
    assert len(levels[8]) == 5
    assert int(levels[8]) == after["veh"]
    assert after["veh"] % VEHICLE_STEP == before["veh"]


@settings(max_examples=200, deadline=None)
@given(
    st.dates(date(2020, 1, 1), date(2035, 1, 1)),
    st.integers(0, 24 * 60 - 1),
    st.integers(-40_000, 400_000),
    st.sampled_from(["Europe/Helsinki", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_a_departure_moves_as_an_instant_and_keeps_its_minute(day: date, minute: int, shift_minutes: int, zone_name: str) -> None:
    zone, start = ZoneInfo(zone_name), time(minute // 60, minute % 60)
    calendar = day + timedelta(days=1) if timedelta(minutes=minute) < DAY_ENDS else day
    wanted = datetime.combine(calendar, start, tzinfo=zone).astimezone(UTC) + timedelta(minutes=shift_minutes)
    new_day, new_start, hours = shift_start(day, start, shift_minutes * MINUTE_MS, zone)
    assert new_start.second == new_start.microsecond == 0
    local = datetime.combine(new_day, time(), tzinfo=zone) + timedelta(hours=hours, minutes=new_start.minute)
    assert local.replace(fold=wanted.astimezone(zone).fold).astimezone(UTC) == wanted
    assert 0 <= hours - new_start.hour <= 24
    assert DAY_ENDS <= timedelta(hours=hours, minutes=new_start.minute) < DAY_ENDS + timedelta(days=1)


def test_after_midnight_the_operating_day_is_still_yesterday() -> None:
    p = player("2026-11-24T22:20:00Z")  # 00:20 local on the 25th
    _, topic, payload = p.message_at(0, 0)
    vp = msgspec.json.decode(payload)["VP"]
    assert (vp["oday"], vp["start"]) == ("2026-11-24", topic.split("/")[12])
    assert vp["start"].startswith("00:")
    trip = gtfs_realtime_pb2.FeedMessage.FromString(p.vehicle_positions_at(p.begins_ms(1) - 1)[1]).entity[0].vehicle.trip
    assert trip.start_date == "20261124"
    assert trip.start_time[:2] in {"23", "24"}


@pytest.mark.parametrize(
    ("base", "hours"),
    [
        ("2027-03-28T00:45:00Z", {"02", "04"}),  # clocks go from 03:00 to 04:00 local at 01:00Z
        ("2026-10-25T00:45:00Z", {"03"}),  # and from 04:00 back to 03:00
    ],
)
def test_start_times_are_local_on_both_sides_of_a_change_of_clocks(base: str, hours: set[str]) -> None:
    p = player(base)
    seen = set()
    for i in range(0, len(recording().hfp), 500):
        _, _, payload = p.message_at(1, i)
        vp, before = msgspec.json.decode(payload)["VP"], msgspec.json.decode(recording().hfp[i].payload)["VP"]
        departed = datetime.fromisoformat(f"{before['oday']}T{before['start']}").replace(tzinfo=HELSINKI).astimezone(UTC)
        moved = (departed + timedelta(milliseconds=p.shift_ms(1))).astimezone(HELSINKI)
        assert vp["start"] == moved.strftime("%H:%M")
        seen.add(vp["start"][:2])
    assert seen & hours


@settings(max_examples=40, deadline=None)
@given(bases, st.integers(0, 10**8))
def test_now_lies_within_the_first_minute_of_a_loop_that_starts_now(base: int, ms: int) -> None:
    now = base + ms
    p = Player(recording(), base_at(recording(), now))
    assert 0 <= now - p.begins_ms(0) < MINUTE_MS


@settings(max_examples=60, deadline=None)
@given(bases, st.integers(-(10**7), 10**8))
def test_the_next_message_is_the_first_that_is_not_yet_due(base: int, ms: int) -> None:
    p = Player(recording(), base)
    loop, i = p.next_message(base + ms)
    assert p.message_at(loop, i)[0] >= base + ms
    before = (loop, i - 1) if i else (loop - 1, len(recording().hfp) - 1)
    assert p.message_at(*before)[0] < base + ms
    assert p.after(*before) == (loop, i)


def test_over_the_seam_time_goes_on_and_every_vehicle_is_another() -> None:
    p = player("2026-11-24T08:00:00Z")
    n = len(recording().hfp)
    times, vehicles = [], {0: set(), 1: set()}
    for loop, indices in ((0, range(n - 400, n)), (1, range(400))):
        for i in indices:
            due, topic, _ = p.message_at(loop, i)
            times.append(due)
            vehicles[loop].add(topic.split("/")[8])
    assert times == sorted(times)
    assert max(b - a for a, b in pairwise(times)) < 5_000
    assert vehicles[0].isdisjoint(vehicles[1])


@settings(max_examples=30, deadline=None)
@given(bases, st.integers(0, 10**7))
def test_a_snapshot_is_of_the_vehicles_on_the_road_now(base: int, ms: int) -> None:
    p, now = Player(recording(), base), base + ms
    published, body = p.vehicle_positions_at(now)
    feed = gtfs_realtime_pb2.FeedMessage.FromString(body)
    assert published <= now < published + 25_000
    assert feed.header.timestamp == published // 1000
    assert len(feed.entity) >= 10
    on_air = {int(e.vehicle.vehicle.id.split("/")[1]) // VEHICLE_STEP for e in feed.entity}
    assert on_air == {(published - base) // recording().about.length_ms % 10}
    for e in feed.entity:
        assert e.id == f"vehicle_position_{e.vehicle.vehicle.id}"
        assert not e.vehicle.trip.HasField("trip_id")
        assert -200 < feed.header.timestamp - e.vehicle.timestamp < 300


@settings(max_examples=30, deadline=None)
@given(bases, st.integers(0, 10**7))
def test_station_data_is_at_most_a_minute_and_its_own_delay_old(base: int, ms: int) -> None:
    p, now = Player(recording(), base), base + ms
    published, body = p.station_data_at(now)
    data = msgspec.json.decode(body)
    assert published <= now < published + 61_000
    assert parse_ms(data["dataUpdatedTime"]) == published
    values = [v for s in data["stations"] for v in s["sensorValues"]]
    assert values
    for v in values:
        assert published - 120_000 < parse_ms(v["measuredTime"]) <= published
        assert parse_ms(v["timeWindowEnd"]) - parse_ms(v["timeWindowStart"]) == 300_000


def test_a_move_by_half_a_minute_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of minutes"):
        Player(recording(), recording().about.start_ms + 30_000)
