"""When a vehicle has left a stop, its passage is told from what it did there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors import recordings
from connectors.envelope import Item
from models.clock import rfc3339
from streams.offline import Run
from streams.passages import FORGET_MS, MOST_DWELL_MS
from tests.streams.kit import T0, at, city, cut, hfp, in_order, network, records, run_all

STOP = 1020453


def events(*steps: tuple[str, int], stop: int | None = STOP, **more: Any) -> list[Item]:
    """Stop events of one vehicle, by seconds after the start."""
    return [hfp(T0 + 1000 * s, at(0, 500.0), event=e, stop=stop, dl=-30, **more) for e, s in steps]


def passages(items: list[Item], rows: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    out, _ = run_all(cut(in_order(items), rows))
    return records(out, "stop-passage")


CYCLE = (("due", 0), ("arr", 10), ("ars", 15), ("doo", 17), ("doc", 29), ("pde", 33), ("dep", 40))


def test_a_whole_cycle_tells_when_it_came_stood_opened_and_left() -> None:
    (p,) = passages(events(*CYCLE))
    assert (p["stop_id"], p["vehicle_id"], p["route_id"], p["direction_id"], p["start_time"]) == (
        "1020453",
        "0018/00001",
        "1001",
        0,
        "07:24",
    )
    assert [p[f] for f in ("arrived", "stopped", "departed", "event_time")] == [rfc3339(T0 + 1000 * s) for s in (10, 15, 40, 40)]
    assert (p["dwell_s"], p["doors_open_s"], p["delay_s"], p["passed"]) == (18.0, 12.0, 30, False)


def test_what_nobody_told_is_left_out() -> None:
    (p,) = passages(events(("dep", 40)))
    assert {"arrived", "stopped", "dwell_s", "doors_open_s", "passed"}.isdisjoint(p)
    assert p["departed"] == rfc3339(T0 + 40_000)


def test_a_vehicle_that_drives_past_has_passed_and_left_nothing() -> None:
    (p,) = passages(events(("due", 0), ("arr", 10), ("pas", 14)))
    assert (p["passed"], p["event_time"], p["arrived"]) == (True, rfc3339(T0 + 14_000), rfc3339(T0 + 10_000))
    assert {"departed", "dwell_s", "doors_open_s"}.isdisjoint(p)


def test_a_stop_with_closed_doors_is_a_dwell_of_no_open_second() -> None:
    (p,) = passages(events(("arr", 10), ("ars", 15), ("dep", 40)))
    assert (p["passed"], p["dwell_s"], p["doors_open_s"]) == (False, 25.0, 0.0)


def test_openings_add_up_and_a_door_that_nobody_closed_was_closed_when_it_was_ready() -> None:
    (p,) = passages(events(("ars", 15), ("doo", 16), ("doc", 20), ("doo", 22), ("pde", 30), ("dep", 35)))
    assert (p["doors_open_s"], p["dwell_s"]) == (12.0, 15.0)


def test_the_last_stop_of_a_trip_is_told_when_the_next_trip_begins_there() -> None:
    last, first = (
        events(("arr", 0), ("ars", 5), ("doo", 6), ("doc", 20)),
        events(("doo", 500), ("doc", 520), ("dep", 600), start="08:00", direction=2),
    )
    a, b = passages(last + first)
    assert (a["start_time"], a["event_time"], a["doors_open_s"]) == ("07:24", rfc3339(T0 + 20_000), 14.0)
    assert {"departed", "dwell_s", "delay_s"}.isdisjoint(a)
    assert (b["start_time"], b["direction_id"], b["departed"], b["doors_open_s"]) == ("08:00", 1, rfc3339(T0 + 600_000), 20.0)
    assert "arrived" not in b


def test_a_break_is_no_dwell() -> None:
    seconds = MOST_DWELL_MS // 1000
    keep_alive = [("doc", s) for s in range(600, seconds, 600)]
    (p,) = passages(events(("ars", 0), ("doo", 1), *keep_alive, ("dep", seconds + 60)))
    assert "dwell_s" not in p


def test_what_came_long_ago_does_not_belong_to_this_visit() -> None:
    (p,) = passages(events(("arr", 0), ("dep", FORGET_MS // 1000 + 1)))
    assert "arrived" not in p


@pytest.mark.parametrize("more", [{"stop": None}, {"temporal": "upcoming"}, {"journey": "deadrun"}])
def test_events_without_a_stop_or_outside_a_trip_make_no_passage(more: dict[str, Any]) -> None:
    assert passages(events(*CYCLE, **more)) == []


def test_doubled_messages_change_nothing() -> None:
    assert passages(events(*CYCLE) * 2) == passages(events(*CYCLE))


def test_two_vehicles_at_one_stop_are_told_apart() -> None:
    both = passages(events(*CYCLE) + events(("arr", 12), ("dep", 50), vehicle=2))
    assert [(p["vehicle_id"], p.get("dwell_s")) for p in both] == [("0018/00001", 18.0), ("0018/00002", None)]


def test_however_the_log_is_cut_and_restarted_the_passages_are_the_same() -> None:
    items = in_order(events(*CYCLE) + events(*CYCLE, vehicle=2) + events(("arr", 100), ("ars", 110), ("dep", 130), stop=7))
    whole = passages(items)
    assert len(whole) == 3
    rng = np.random.default_rng(1)
    for _ in range(5):
        rows = tuple(sorted(rng.choice(len(items), 6, replace=False).tolist()))
        assert passages(items, rows) == whole
    run = Run(city(), network())
    got = []
    for e in cut(items, range(len(items))):
        got += records(run.feed("hfp", 0, e), "stop-passage")
        observer = run.observers["hfp", 0]
        observer.flush()
        state, again = observer.export(), Run(city(), network())
        again.observers["hfp", 0].restore(state)
        run = again
    assert got == whole


def test_the_recorded_stop_of_line_400(shared: Path) -> None:
    c = city(4)
    plan = recordings.plan(shared / "feeds/helsinki/hfp/v2_bus400_stop_20231029.dump", c)
    run, got = Run(c, network()), []
    for feed, partition, e in recordings.envelopes(recordings.read(plan, c), c, plan.feeds):
        got += [json.loads(o.value) for o in run.feed(feed, partition, e).records.get("stop-passage", [])]
    (p,) = got
    assert (p["stop_id"], p["vehicle_id"], p["route_id"], p["dwell_s"], p["doors_open_s"], p["delay_s"]) == (
        "1130110", "0012/01913", "4400", 17.025, 12.0, 60,
    )  # fmt: skip
    assert (p["arrived"], p["departed"]) == ("2023-10-29T13:24:36.231Z", "2023-10-29T13:25:05.213Z")
