"""Laws of line-fluency: what a line's vehicles drive, how late and how regular they are; and that the log alone decides."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import jsonschema
import msgspec
import pytest

from connectors.envelope import Item
from models import schemas
from models.line_records import LineFluency
from streams import partial as wire
from streams.fuse import Fuser, FuseSettings
from streams.offline import Run
from streams.partial import LINE_SLOT_MS, LineRow
from tests.streams import kit

NEVER = 1 << 60


def bus(k: int, begins_s: int, *, seconds: int = 180, speed_mps: float = 10.0, start: str | None = None, **more: Any) -> list[Item]:
    """Bus ``k`` of route 1001 eastward, which leaves at ``begins_s``."""
    leaves = kit.T0 + 1000 * begins_s
    return kit.drive(
        0, speed_mps, seconds=seconds, start_ms=leaves, vehicle=k, route="1001", start=start or f"07:{30 + begins_s // 60:02d}", **more
    )


def line(items: list[Item], key: str = "1001:0", **settings: Any) -> list[LineFluency]:
    out, _ = kit.run_all(kit.cut(kit.in_order(items), range(0, len(items), 150)), **settings)
    return [msgspec.json.decode(o.value, type=LineFluency) for o in out.records["line-fluency"] if o.key == key.encode()]


def test_commercial_speed_is_distance_over_time_of_all_vehicles() -> None:
    records = line(bus(1, 0, speed_mps=12.0, seconds=150) + bus(2, 0, speed_mps=6.0, seconds=300))
    both = records[1]
    assert both.commercial_speed_kmh == pytest.approx(9.0 * 3.6, rel=0.02)
    assert both.commercial_speed_lo95_kmh is not None
    assert both.commercial_speed_hi95_kmh is not None
    assert both.commercial_speed_lo95_kmh < 9.0 * 3.6 < both.commercial_speed_hi95_kmh
    assert both.vehicles == 2
    assert both.coverage_pct > 95.0
    assert both.stopped_share == 0.0
    alone = records[-2]
    assert alone.vehicles == 1
    assert alone.commercial_speed_kmh == pytest.approx(6.0 * 3.6, rel=0.02)
    assert alone.commercial_speed_lo95_kmh is None, "one vehicle tells nothing of others"


def test_even_headways_have_no_variation_and_a_pair_is_bunched() -> None:
    even = line([i for k in range(4) for i in bus(k + 1, 60 * k, seconds=190)])
    last = even[-2]
    assert last.headway_mean_s is None, "two vehicles under way are too few to tell"
    full = next(r for r in even if r.headways == 3)
    assert full.headway_mean_s == pytest.approx(60.0, abs=1.0)
    assert full.headway_cv == pytest.approx(0.0, abs=0.03)
    assert (full.bunched_share, full.headway_basis) == (0.0, "scheduled")
    pairs = line([i for k, s in enumerate((0, 5, 60, 65, 120)) for i in bus(k + 1, s, start=f"07:{10 + k * 10}", seconds=190)])
    worst = max((r for r in pairs if r.headways), key=lambda r: r.headways or 0)
    assert worst.bunched_share == 1.0, "the timetable means ten minutes"
    unknown = line([i for k, s in enumerate((0, 5, 60, 65, 120)) for i in bus(k + 1, s, start="07:30", seconds=190)])
    worst = max((r for r in unknown if r.headways), key=lambda r: r.headways or 0)
    assert worst.headway_basis == "observed", "trips that begin at the same time say nothing of what is meant"
    assert worst.bunched_share == 0.5


def test_delays_are_of_what_each_vehicle_said_last() -> None:
    early_then_late = bus(1, 0, dl=30, seconds=50) + bus(1, 51, dl=-90, seconds=60, start="07:30")
    records = line([*early_then_late, *bus(2, 0, dl=-30, seconds=110), *bus(3, 0, dl=0, seconds=110)])
    assert records[0].delay_p50_s == 0.0
    second = records[1]
    assert (second.delay_p50_s, second.vehicles) == (30.0, 3)
    assert second.delay_p90_s == pytest.approx(78.0)


def test_the_timetable_shows_in_how_the_delay_grows() -> None:
    # 10 m/s, and each minute the delay grows by 12 s: by the timetable 60 s took 48 s
    items = [
        i for m in range(9) for i in kit.drive(2, 7.0, seconds=59, from_m=420.0 * m, start_ms=kit.T0 + 60_000 * m, route="1002", dl=-12 * m)
    ]
    records = line(items, "1002:0")
    assert records[2].scheduled_speed_kmh is None, "too short a ride"
    assert records[7].scheduled_speed_kmh == pytest.approx(7.0 * 3.6 / 0.8, rel=0.03)
    assert records[7].scheduled_speed_source == "delay"


def test_who_waits_at_the_first_stop_is_under_way_but_not_slow() -> None:
    waiting = kit.drive(0, 0.0, seconds=239, from_m=10.0, vehicle=1, start="07:40")
    driving = bus(2, 0, seconds=170)
    first = line(waiting + driving)[0]
    assert first.vehicles == 2
    assert first.commercial_speed_kmh == pytest.approx(36.0, rel=0.02)
    assert first.coverage_pct == pytest.approx(50.0, abs=3.0)


def test_who_has_arrived_at_the_last_stop_is_not_slow_either() -> None:
    records = line(bus(1, 0, seconds=400) + bus(2, 60, seconds=400))
    assert all(r.commercial_speed_kmh == pytest.approx(36.0, rel=0.03) for r in records if r.commercial_speed_kmh is not None)
    assert [r.vehicles for r in records if r.commercial_speed_kmh is None], "it is still told of"


def test_standing_at_stops_and_in_traffic_are_told_apart() -> None:
    drives = kit.drive(0, 10.0, seconds=49, start_ms=kit.T0)
    boards = [kit.hfp(kit.T0 + 1000 * (50 + k), kit.at(0, 500.0), spd=0.0, drst=1) for k in range(30)]
    waits = [kit.hfp(kit.T0 + 1000 * (80 + k), kit.at(0, 500.0), spd=0.0, drst=0) for k in range(40)]
    middle = line(drives + boards + waits)[1]
    assert middle.stopped_share == pytest.approx(1.0, abs=0.05)
    assert middle.dwell_share == pytest.approx(21 / 60, abs=0.05)


def test_a_route_without_direction_has_a_key_that_says_so_and_deadruns_have_none() -> None:
    row = LineRow("a/1", kit.T0, "bus", "7", -1, -1, 1, None)
    run = Run(kit.city(), kit.network(), fuse=FuseSettings(provisional_ms=NEVER))
    out = run.feed("hfp", 0, kit.envelope(kit.drive(0, seconds=120, vehicle=1)))
    run.fuser.lines.hear([row], 0, 0)
    out.extend(run.finish())
    of_seven = [o for o in out.records["line-fluency"] if o.key == b"7:unknown"]
    assert [msgspec.json.decode(o.value, type=LineFluency).vehicles for o in of_seven] == [1]
    dead, _ = kit.run_all(kit.cut(kit.drive(0, seconds=120, journey="deadrun", temporal="")))
    assert not dead.records.get("line-fluency")


def test_of_two_feeds_of_a_vehicle_the_better_one_names_its_line_whatever_comes_first() -> None:
    good, poor = LineRow("a/1", kit.T0, "bus", "7", 0, -1, 1, 5.0), LineRow("a/1", kit.T0 + LINE_SLOT_MS, "bus", "8", 0, -1, 1, 9.0)
    newer = msgspec.structs.replace(good, event_ms=kit.T0 + 2 * LINE_SLOT_MS, delay_s=60.0)
    told = [(good, 0), (poor, 1), (newer, 0)]
    for seed in range(6):
        lines = Fuser(kit.city(), kit.network()).lines
        for row, rank in random.Random(seed).sample(told, 3):
            lines.hear([row], rank, 0)
        assert [r for rows in lines.open.values() for _, r in rows.values()] == [newer]


def _town() -> list[Item]:
    return [
        i
        for v in range(6)
        for i in kit.drive(
            v % 3, 5.0 + v, seconds=420, from_m=60.0 * v, vehicle=v + 1, route=f"100{1 + v % 3 // 2}", direction=1 + v % 3 % 2, dl=-v
        )
    ]


def _partials(cut: int) -> list[wire.Partial]:
    run = Run(kit.city(), kit.network(), fuse=FuseSettings(provisional_ms=NEVER))
    taken: list[wire.Partial] = []
    feed = run.fuser.feed
    run.fuser.feed = lambda p, offset: taken.append(p) or feed(p, offset)  # type: ignore[method-assign,func-returns-value]
    items = kit.in_order(_town())
    for e in kit.cut(items, range(0, len(items), cut)):
        run.feed("hfp", 0, e)
    run.finish()
    return taken


def _told(fuser: Fuser, partials: list[wire.Partial]) -> list[tuple[Any, ...]]:
    return [tuple(o) for k, p in enumerate(partials) for o in fuser.feed(p, k).records.get("line-fluency", [])]


def _fuser(**settings: Any) -> Fuser:
    return Fuser(kit.city(), kit.network(), dataclasses.replace(FuseSettings(provisional_ms=NEVER), **settings))


def test_the_log_alone_decides_finals() -> None:
    log = _partials(150)
    finals = _told(_fuser(), log)
    assert len(finals) > 20
    assert len({o[3] for o in finals}) == len(finals)
    assert _told(_fuser(), _partials(37)) == finals, "however it is cut"
    assert _told(_fuser(), [p for p in log for _ in range(2)]) == finals, "told twice"
    with_rounds = _told(_fuser(provisional_ms=5_000), log)
    assert [o for o in with_rounds if b'"status":"final"' in o[1]] == finals
    assert len(with_rounds) > len(finals)
    for at in (1, len(log) // 2, len(log) - 2):
        first, second = _fuser(), _fuser()
        head = _told(first, log[:at])
        second.restore(first.export())
        assert head + _told(second, log[at:]) == finals
    validator = jsonschema.Draft202012Validator(schemas.schema("line-fluency"))
    for o in with_rounds:
        validator.validate(msgspec.json.decode(o[1]))


def test_vehicles_that_are_gone_are_forgotten() -> None:
    run = Run(kit.city(), kit.network(), fuse=FuseSettings(provisional_ms=NEVER))
    run.feed("hfp", 0, kit.envelope(kit.drive(0, seconds=120)))
    for k in range(1, 80):
        for f in ("hfp", "gtfs_rt", "tms"):
            run.feed(f, 0, kit.tick(kit.T0 + 60_000 * k, f))
    course = run.fuser.lines.course
    assert not course.rides
    assert not run.fuser.lines.open
