"""Whoever asked for priority and stands with shut doors before the signals waits for them; at the same place without a request, or with open doors, it calls at its stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from connectors.envelope import Item
from geo.network import Network
from streams import partial as wire
from streams.cells import DWELL, NEAR_TIME, STILL, TIME
from streams.ground import Ground
from streams.observe import Observer
from streams.signals import Signals
from tests.streams import kit


def network() -> Network:
    """The little city with signals where main and side street meet, 1000 m along the first shape, and a stop 35 m before them."""
    net = kit.network()
    segments, shapes = net.segments, net.shapes
    signal = np.where(np.array([s == "main4_f" for s in segments.segment_id]), 1, segments.signal).astype(segments.signal.dtype)
    along = shapes.stop_along_m.copy()
    along[0] = 965.0
    return replace(net, segments=replace(segments, signal=signal), shapes=replace(shapes, stop_along_m=along))


GROUND = Ground(network())


def call(*, doors_s: int = 10, shut_s: int = 15, asks_s: int | None = None, answers: bool = False, opens_again: bool = False) -> list[Item]:
    """A bus that drives to the stop, boards, stands with shut doors, and drives on over the junction. ``asks_s``: seconds after it stopped."""
    t, items, at = kit.T0, [], 865.0
    for k in range(11):
        items.append(kit.hfp(t + 1000 * k, kit.at(0, at + 10.0 * k)))
    t += 11_000
    for k in range(doors_s + shut_s):
        opened = k < doors_s or (opens_again and k >= doors_s + shut_s - 5)
        items.append(kit.hfp(t + 1000 * k, kit.at(0, 965.0), spd=0.0, stop=1, drst=int(opened)))
        if k == asks_s:
            event, more = ("tla", {"tlp-decision": "ACK"}) if answers else ("tlr", {})
            items.append(kit.hfp(t + 1000 * k + 300, None, event=event, sid=3230, spd=None, stop=1, drst=int(opened), **more))
    t += 1000 * (doors_s + shut_s)
    for k in range(12):
        items.append(kit.hfp(t + 1000 * k, kit.at(0, 975.0 + 10.0 * k)))
    return items


def sums(items: list[Item], cuts: tuple[int, ...] = (), restart: bool = False) -> dict[str, Any]:
    """Sums by segment, whatever the minute."""
    o = Observer(kit.city(), "hfp", 0, GROUND)
    cells: dict[tuple[int, int], Any] = {}
    for k, e in enumerate(kit.cut(items, cuts)):
        o.feed_envelope(e, k)
        p = wire.decode(o.flush())
        rows = p.rows()
        cells |= {(int(w), int(s)): x for w, s, x in zip(rows.window, rows.segment, rows.sums, strict=True)}
        if restart:
            kept, o = o.export(), Observer(kit.city(), "hfp", 0, GROUND)
            o.restore(kept)
    out: dict[str, Any] = {}
    for (_, s), x in cells.items():
        name = GROUND.network.segments.segment_id[s]
        out[name] = out.get(name, 0) + x
    return out


def seconds(items: list[Item], column: int) -> float:
    return float(sums(items)["main4_f"][column]) / 1000.0


def test_standing_with_shut_doors_after_a_request_is_traffic_also_in_the_zone_of_the_stop() -> None:
    silent, asked = call(), call(asks_s=11)
    assert seconds(silent, DWELL) == pytest.approx(24.0, abs=0.5)
    for items in (asked, call(asks_s=3), call(asks_s=11, answers=True)):
        assert seconds(items, DWELL) == pytest.approx(10.0, abs=1.5)
        assert seconds(items, STILL) == pytest.approx(14.0, abs=1.5)
        outside = seconds(items, TIME) - seconds(items, NEAR_TIME)
        assert outside - (seconds(silent, TIME) - seconds(silent, NEAR_TIME)) == pytest.approx(14.0, abs=1.5)
    assert seconds(asked, DWELL) + seconds(asked, TIME) == pytest.approx(seconds(silent, DWELL) + seconds(silent, TIME))


def test_doors_have_the_last_word() -> None:
    assert seconds(call(doors_s=25, shut_s=0, asks_s=3), DWELL) == pytest.approx(seconds(call(doors_s=25, shut_s=0), DWELL))
    assert seconds(call(asks_s=3, opens_again=True), DWELL) == pytest.approx(16.0, abs=1.5)


def test_a_request_of_long_ago_says_nothing() -> None:
    items = call(shut_s=150, asks_s=11)
    assert seconds(items, STILL) == pytest.approx(120.0, abs=2.0)
    assert seconds(items, DWELL) == pytest.approx(10.0 + 150.0 - 120.0, abs=3.0)


@pytest.mark.parametrize("restart", [False, True])
def test_cuts_and_restarts_change_nothing(restart: bool) -> None:
    items = call(asks_s=11, opens_again=True)
    whole, cut = sums(items), sums(items, tuple(range(1, len(items))), restart)
    assert {k: v.tolist() for k, v in whole.items()} == {k: v.tolist() for k, v in cut.items()}


def test_who_has_passed_the_signals_asks_no_more() -> None:
    o = Observer(kit.city(), "hfp", 0, GROUND)
    items = call(asks_s=11)
    asked = []
    for k, e in enumerate(kit.cut(items, tuple(range(1, len(items))))):
        o.feed_envelope(e, k)
        asked.append(int(o.vehicles.asked_ms[0]) > 0)
    assert asked.index(True) == 23
    assert not asked[-1]
    assert asked.count(True) in range(17, 21)  # until the stop line, 35 m on


def test_only_before_signals_that_are_close() -> None:
    signals, row = Signals(GROUND.network), GROUND.row_of
    at = [("main4_f", 165.0), ("main4_f", 100.0), ("main3_f", 165.0), ("main5_f", 165.0)]
    segment = np.array([row[name] for name, _ in at] + [-1])
    now = np.full(5, kit.T0)
    assert signals.wait(now, now + 1000, segment, np.array([x for _, x in at] + [0.0])).tolist() == [True, False, False, False, False]
    assert signals.passed(segment, np.full(5, row["main5_f"])).tolist() == [True, True, False, False, False]
