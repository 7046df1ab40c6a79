"""Explanations of matching: which streets nearly had the fixes of a minute, and why they lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from connectors.envelope import Item
from models import explain as explaining
from models.explain import Candidate, Evidence, explain
from streams import partial as wire
from streams.fuse import Fuser, FuseSettings
from streams.nearly import nearly_rows
from streams.observe import Observer
from tests.streams import kit
from tests.streams.test_fuse import NEVER
from tests.streams.test_observe import GROUND

MINUTE = kit.T0 // 60_000
ENGLISH = explaining.WORDS["en"]


def crossing(seconds: int = 50, *, route: str = "9999", vehicle: int = 1) -> list[Item]:
    """Along Main street over the crossing with Side street at 1000 m, with noise and no heading that would tell."""
    rng = np.random.default_rng(vehicle)
    return kit.drive(0, 5.0, seconds=seconds, from_m=900.0, noise=rng, route=route, vehicle=vehicle, hdg=None)


def evidence(items: list[Item], cuts: list[int], *, snapshot: bool = False, twice: bool = False) -> list[Evidence]:
    """Evidence of a log in some cut; ``snapshot``: both steps are exported and restored at each of them; ``twice``: every partial comes twice."""
    city, settings = kit.city(), FuseSettings(provisional_ms=NEVER, evidence=True)
    o, f = Observer(city, "hfp", 0, GROUND), Fuser(city, kit.network(), settings)
    out: list[Evidence] = []
    far = kit.T0 + 600_000
    envelopes = [*kit.cut(items, cuts), kit.tick(far)]
    others = [
        wire.Partial(wire.SCHEMA, city.name, n, 0, 0, far, kit.network().version, False, (), b"", b"", b"", b"") for n in ("gtfs_rt", "tms")
    ]
    for k, e in enumerate(envelopes):
        o.feed_envelope(e, k)
        told = [wire.decode(o.flush())]
        for p in [*(others if k == 0 else []), *(told * 2 if twice else told)]:
            out += [explaining.decode(x.value) for x in f.feed(p, k).records.get("evidence", [])]
        if snapshot:
            o2, f2 = Observer(city, "hfp", 0, GROUND), Fuser(city, kit.network(), settings)
            o2.restore(o.export())
            f2.restore(f.export())
            o, f = o2, f2
    return out


def named(heard: list[Evidence], segment: str, minute: int = MINUTE) -> list[Candidate]:
    x = explain(segment, minute, heard)
    assert x is not None
    return x.candidates


def test_the_street_that_nearly_had_a_fix_is_named_on_both_sides_with_the_same_reasons() -> None:
    heard = evidence(crossing(), [])
    streets = [
        (s, c) for s in kit.network().segments.segment_id if explain(s, MINUTE, heard) for c in named(heard, s) if c.kind == "street"
    ]
    won = [(s, c) for s, c in streets if c.won]
    assert won
    for s, c in won:
        assert c.segment_id is not None
        assert c.margin_nats is not None
        assert c.distance_m is not None
        assert 0 <= c.margin_nats < GROUND.settings.hmm.nearly
        parts = (c.distance_nats or 0.0) + (c.heading_nats or 0.0) + (c.way_nats or 0.0)
        assert parts == pytest.approx(c.margin_nats, abs=0.02)
        assert c.heading_nats == pytest.approx(0.0, abs=0.01), "no heading was told"
        back = explain(c.segment_id, MINUTE, heard)
        if back is not None:
            mirror = next(x for x in back.candidates if x.segment_id == s and not x.won)
            assert (mirror.fixes, mirror.margin_nats, mirror.distance_m, mirror.other_distance_m) == (c.fixes, c.margin_nats, c.other_distance_m, c.distance_m)  # fmt: skip
    x = explain(won[0][0], MINUTE, heard)
    assert x is not None
    assert any(t.startswith("Matching:") and f"nearly went to {won[0][1].segment_id}" in t for t in x.text)


def test_a_street_that_only_goes_on_from_the_chosen_one_is_no_other_street() -> None:
    heard = evidence(crossing(), [])
    row = {s: i for i, s in enumerate(kit.network().segments.segment_id)}
    ends, begins = kit.network().segments.to_node, kit.network().segments.from_node
    for s in row:
        for c in named(heard, s) if explain(s, MINUTE, heard) else ():
            if c.segment_id is not None:
                a, b = row[s], row[c.segment_id]
                assert (ends[a] == begins[b]) == (ends[b] == begins[a])


@pytest.mark.parametrize("cuts", [[7, 8, 30], list(range(1, 100))])
def test_evidence_is_the_same_bytes_in_any_cut_after_any_restart_and_if_partials_come_twice(cuts: list[int]) -> None:
    items = kit.in_order([*crossing(), *crossing(vehicle=2), *_detour(vehicle=3)])
    once = evidence(items, [])
    assert any(e.nearly for e in once)
    assert evidence(items, cuts) == once
    assert evidence(items, cuts, snapshot=True) == once
    assert evidence(items, cuts, twice=True) == once


def _detour(north_m: float = 60.0, vehicle: int = 1) -> list[Item]:
    """Along the shape of Main street, from the tenth second beside it."""
    out = []
    for k in range(50):
        east, north = kit.at(0, 300.0 + 5.0 * k)
        out.append(kit.hfp(kit.T0 + 1000 * k, (east, north + (north_m if k >= 10 else 0.0)), vehicle=vehicle, hdg=90, spd=5.0))
    return out


def test_fixes_far_from_the_line_that_were_kept_on_it_are_told() -> None:
    heard = evidence(_detour(38.0), [])
    kept = [c for s in ("main1_f", "main2_f") for c in named(heard, s) if c.kind == "left_line"]
    assert sum(c.fixes for c in kept) == 40
    assert all(c.won and c.distance_m == pytest.approx(38.0, abs=0.5) for c in kept)
    x = explain("main2_f", MINUTE, heard)
    assert x is not None
    assert any("38 m from the vehicle's line and were kept on it" in t for t in x.text)


def test_fixes_that_left_the_line_are_told_where_they_went() -> None:
    heard = evidence(_detour(48.0), [])
    found: list[Any] = [
        c for s in kit.network().segments.segment_id if explain(s, MINUTE, heard) for c in named(heard, s) if c.kind == "own_line"
    ]
    assert found
    assert all(c.won and c.other_distance_m == pytest.approx(48.0, abs=0.5) for c in found)


def test_a_vehicle_that_runs_on_its_line_costs_no_row() -> None:
    o = Observer(kit.city(), "hfp", 0, GROUND)
    o.feed_envelope(kit.envelope(kit.drive(0, seconds=50)), 0)
    assert not len(nearly_rows(wire.decode(o.flush()).nearly))


def test_only_the_streets_with_the_most_fixes_are_named_and_closed_minutes_are_forgotten() -> None:
    from streams.explain import MOST_NEARLY, _most

    many = {("hfp", p, 3, other): [other, 10, 20, 30, 40, 50] for p in (0, 1) for other in range(10)}
    rows = _most(many)
    assert rows[:, 1].tolist() == [9, 8, 7, 6, 5][:MOST_NEARLY]
    assert rows[0].tolist() == [3, 9, 18, 20, 40, 60, 80, 100]
    o = Observer(kit.city(), "hfp", 0, GROUND)
    o.feed_envelope(kit.envelope(crossing()), 0)
    o.flush()
    assert o.nearly.sums
    o.feed_envelope(kit.tick(kit.T0 + 200_000), 1)
    o.flush()
    assert not o.nearly.sums
