"""Edie sums: what vehicles drove and how long it took adds up, to the millimetre and the millisecond, however it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import assemble
from geo.network import Network
from streams.cells import (
    DIST,
    DWELL,
    N_SUMS,
    NEAR_DIST,
    NEAR_TIME,
    NEWEST,
    STEPS,
    STILL,
    TIME,
    WINDOW_MS,
    Pieces,
    Rows,
    added,
    concat,
    merge,
)
from tests.streams import kit

NET = kit.network()
PIECES = Pieces(NET)
LENGTH_MM = [round(1000 * x) for x in (2000, 2000, 4000, 5400, 6000)]


def col(*values: Any, kind: Any = np.int64) -> Any:
    return np.array(values, kind)


def one(shape: int, s0: int, s1: int, t0: int, t1: int, boarding: bool = False, pieces: Pieces = PIECES) -> Rows:
    return pieces.rows(col(7), col(shape), col(s0), col(s1), col(t0), col(t1), col(boarding, kind=np.bool_))


steps = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6_000_000), st.integers(0, 4_000_000), st.integers(0, 10**7), st.integers(1, 300_000), st.booleans()),
    min_size=1,
    max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(steps)
def test_distance_and_time_of_steps_are_the_sums_over_their_cells(drawn: list[tuple[int, int, int, int, int, bool]]) -> None:
    shape = np.array([d[0] for d in drawn])
    s0 = np.array([min(d[1], LENGTH_MM[d[0]]) for d in drawn])
    s1 = np.array([min(a + d[2], LENGTH_MM[d[0]]) for a, d in zip(s0, drawn, strict=True)])
    t0 = kit.T0 + np.array([d[3] for d in drawn])
    t1 = t0 + np.array([d[4] for d in drawn])
    boarding = np.array([d[5] for d in drawn])
    r = PIECES.rows(np.arange(len(drawn)), shape, s0, s1, t0, t1, boarding)
    for k in range(len(drawn)):
        mine = r.sums[r.who == k]
        assert mine[:, TIME].sum() + mine[:, DWELL].sum() == t1[k] - t0[k]
        assert mine[:, DIST].sum() == s1[k] - s0[k] or (boarding[k] and mine[:, DIST].sum() == 0)
        if boarding[k] and s1[k] == s0[k]:
            assert mine[:, TIME].sum() == 0
        if not boarding[k]:
            assert mine[:, DWELL].sum() == 0
        assert mine[:, NEWEST].max() == t1[k]
    assert (r.sums >= 0).all()
    assert (r.sums[:, NEAR_DIST] <= r.sums[:, DIST]).all()
    assert (r.sums[:, NEAR_TIME] <= r.sums[:, TIME]).all()
    assert (r.sums[:, STILL] <= r.sums[:, TIME]).all()
    assert (r.sums[:, TIME] + r.sums[:, DWELL] <= WINDOW_MS).all()


@settings(max_examples=100, deadline=None)
@given(steps)
def test_each_row_lies_in_the_minute_in_which_its_time_was_spent(drawn: list[tuple[int, int, int, int, int, bool]]) -> None:
    for shape, a, more, t, dt, boarding in drawn:
        s0 = min(a, LENGTH_MM[shape])
        r = one(shape, s0, min(s0 + more, LENGTH_MM[shape]), kit.T0 + t, kit.T0 + t + dt, boarding)
        spent = r.sums[:, TIME] + r.sums[:, DWELL]
        assert (r.window * WINDOW_MS <= r.sums[:, NEWEST] - spent).all()
        assert (r.sums[:, NEWEST] <= (r.window + 1) * WINDOW_MS).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 90_000)), min_size=1, max_size=12))
def test_a_drive_cut_into_steps_adds_up_to_the_whole_drive(shape: int, moves: list[tuple[int, int]]) -> None:
    s, t, parts = 0, kit.T0, []
    for ds, dt in moves:
        to = min(s + ds, LENGTH_MM[shape])
        parts.append(one(shape, s, to, t, t + dt))
        s, t = to, t + dt
    total = merge(concat(parts))
    assert total.sums[:, DIST].sum() == s
    assert total.sums[:, TIME].sum() == t - kit.T0
    assert total.sums[:, STEPS].sum() == concat(parts).sums[:, STEPS].sum()


def test_a_step_over_a_border_of_segments_and_a_full_minute_is_shared_in_proportion() -> None:
    t0 = kit.T0 + 55_000
    r = merge(one(0, 150_000, 350_000, t0, t0 + 20_000))
    got = {
        (NET.segments.segment_id[s], int(w - kit.T0 // WINDOW_MS)): (int(x[DIST]), int(x[TIME]))
        for s, w, x in zip(r.segment, r.window, r.sums, strict=True)
    }
    assert got == {("main0_f", 0): (50_000, 5_000), ("main1_f", 1): (150_000, 15_000)}


def test_a_standing_step_gives_its_time_to_the_segment_it_stands_on_also_at_a_border_and_at_either_end_of_the_shape() -> None:
    for shape, s, name in (
        (0, 0, "main0_f"), (0, 200_000, "main1_f"), (0, 300_000, "main1_f"), (0, 2_000_000, "main9_f"), (1, 2_000_000, "main0_b"),
        (4, 6_000_000, "west_f"),
    ):  # fmt: skip
        r = one(shape, s, s, kit.T0, kit.T0 + 1000)
        assert [(NET.segments.segment_id[k], t) for k, t in zip(r.segment, r.sums[:, TIME], strict=True)] == [(name, 1000)], (shape, s)
        assert r.sums[:, STILL].sum() == 1000


def test_boarding_is_dwell_and_never_traffic_but_driving_with_open_doors_is_traffic() -> None:
    r = one(0, 500_000, 500_000, kit.T0, kit.T0 + 15_000, boarding=True)
    assert (r.sums[:, DWELL].sum(), r.sums[:, TIME].sum(), r.sums[:, STILL].sum(), r.sums[:, DIST].sum()) == (15_000, 0, 0, 0)
    r = one(0, 500_000, 600_000, kit.T0, kit.T0 + 10_000, boarding=True)
    assert (r.sums[:, DWELL].sum(), r.sums[:, TIME].sum(), r.sums[:, DIST].sum()) == (0, 10_000, 100_000)


@settings(max_examples=100, deadline=None)
@given(steps, st.booleans())
def test_a_long_step_of_a_bus_that_boards_is_a_drive_and_a_stand_that_add_up(
    drawn: list[tuple[int, int, int, int, int, bool]], arrives: bool
) -> None:
    """At one fix in 10 s hardly a step that ends at a stop is slow as a whole: the rest of its time is boarding, at the end of the step where the doors are open."""
    shape = np.array([d[0] for d in drawn])
    s0 = np.array([min(d[1], LENGTH_MM[d[0]]) for d in drawn])
    s1 = np.array([min(a + d[2], LENGTH_MM[d[0]]) for a, d in zip(s0, drawn, strict=True)])
    t0 = kit.T0 + np.array([d[3] for d in drawn])
    t1 = t0 + np.array([d[4] for d in drawn])
    boarding, arrived = np.array([d[5] for d in drawn]), np.full(len(drawn), arrives)
    r = PIECES.rows(np.arange(len(drawn)), shape, s0, s1, t0, t1, boarding, arrived)
    for k in range(len(drawn)):
        mine, seconds = r.sums[r.who == k], (t1[k] - t0[k]) / 1000.0
        assert mine[:, TIME].sum() + mine[:, DWELL].sum() == t1[k] - t0[k]
        if boarding[k] and (s1[k] - s0[k]) / 1000.0 > 0.6 * seconds + 0.001 and seconds >= 4:
            assert mine[:, DIST].sum() == s1[k] - s0[k]
            assert abs(mine[:, DWELL].sum() / 1000.0 - max(seconds - (s1[k] - s0[k]) / 5000.0, 0.0)) < 0.01
        assert boarding[k] or mine[:, DWELL].sum() == 0


def test_the_stand_of_a_long_step_is_where_the_doors_are_open() -> None:
    """10 s over 30 m across a border: 6 s of drive, 4 s of stand."""
    step = [col(x) for x in (7, 0, 185_000, 215_000, kit.T0, kit.T0 + 10_000)]
    for arrived, name in ((True, "main1_f"), (False, "main0_f")):
        r = merge(PIECES.rows(*step, col(True, kind=np.bool_), col(arrived, kind=np.bool_)))
        dwell = {NET.segments.segment_id[s]: int(x) for s, x in zip(r.segment, r.sums[:, DWELL], strict=True) if x}
        assert list(dwell) == [name]
        assert abs(dwell[name] - 4_000) <= 1
    brief = PIECES.rows(*step[:5], col(kit.T0 + 3_999), col(True, kind=np.bool_), col(True, kind=np.bool_))
    assert brief.sums[:, DWELL].sum() == 0, "short steps tell by themselves when a bus stands"


def test_the_zone_of_a_stop_reaches_from_45_m_before_it_to_35_m_behind() -> None:
    r = one(0, 400_000, 600_000, kit.T0, kit.T0 + 20_000)
    assert r.sums[:, NEAR_DIST].sum() == 80_000
    assert r.sums[:, NEAR_TIME].sum() == 8_000
    assert r.sums[:, DIST].sum() == 200_000
    far = one(0, 545_000, 1_445_000, kit.T0, kit.T0 + 60_000)
    assert far.sums[:, NEAR_DIST].sum() == 0


def gappy() -> Network:
    """A shape of 600 m whose middle third lies on no segment."""
    row = {name: i for i, name in enumerate(NET.segments.segment_id)}
    shapes = assemble.shapes(
        ["gap", "after"],
        [kit.line((0, 0), (600, 0)), kit.line((600, 0), (800, 0))],
        [[(0.0, 200.0, row["main0_f"], 0.0), (400.0, 600.0, row["main2_f"], 0.0)], [(0.0, 200.0, row["main3_f"], 0.0)]],
    )
    return Network("helsinki", "v", "EPSG:3067", NET.segments, shapes, assemble.no_schedule(), "", "", "")


def test_what_falls_into_a_gap_of_a_shape_belongs_to_no_segment_and_never_to_the_next_shape() -> None:
    pieces, ids = Pieces(gappy()), NET.segments.segment_id
    r = one(0, 100_000, 500_000, 0, 40_000, pieces=pieces)
    assert {(ids[s], int(x[DIST]), int(x[TIME])) for s, x in zip(r.segment, r.sums, strict=True)} == {
        ("main0_f", 100_000, 10_000), ("main2_f", 100_000, 10_000),
    }  # fmt: skip
    assert len(one(0, 250_000, 350_000, 0, 10_000, pieces=pieces).who) == 0
    assert len(one(0, 300_000, 300_000, 0, 10_000, pieces=pieces).who) == 0
    end = one(0, 600_000, 600_000, 0, 10_000, pieces=pieces)
    assert [ids[s] for s in end.segment] in ([], ["main2_f"])
    segment, offset = pieces.place(col(0, 0, 0, 0, 1, 1), col(0, 300_000, 450_000, 600_000, 0, 200_000))
    assert [ids[s] if s >= 0 else None for s in segment] == ["main0_f", None, "main2_f", "main2_f", "main3_f", "main3_f"]
    assert offset.tolist() == [0, 0, 50_000, 200_000, 0, 200_000]


def test_a_network_without_shapes_makes_no_rows() -> None:
    net = Network("helsinki", "v", "EPSG:3067", NET.segments, assemble.no_shapes(), assemble.no_schedule(), "", "", "")
    pieces = Pieces(net)
    none = np.empty(0, np.int64)
    assert len(pieces.rows(none, none, none, none, none, none, np.empty(0, np.bool_)).who) == 0
    assert len(pieces.place(none, none)[0]) == 0


def test_free_rows_add_up_and_split_at_full_minutes() -> None:
    r = PIECES.free_rows(col(0, 1), col(3, 4), col(600_000, 0), col(kit.T0 + 30_000, kit.T0), col(kit.T0 + 90_000, kit.T0 + 61_000), col(False, True, kind=np.bool_))  # fmt: skip
    assert r.sums[r.who == 0][:, DIST].tolist() == [300_000, 300_000]
    assert r.sums[r.who == 0][:, TIME].tolist() == [30_000, 30_000]
    assert r.sums[r.who == 1][:, DWELL].tolist() == [60_000, 1_000]
    assert r.sums[r.who == 1][:, TIME].sum() == 0


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 10**9)), max_size=30)


def as_rows(drawn: list[tuple[int, int, int, int]]) -> Rows:
    a = np.array(drawn, np.int64).reshape(len(drawn), 4)
    return Rows(a[:, 0], a[:, 1], a[:, 2], np.repeat(a[:, 3:], N_SUMS, axis=1))


@settings(max_examples=60, deadline=None)
@given(rows, st.data())
def test_merging_is_the_same_in_any_order_and_grouping(drawn: list[tuple[int, int, int, int]], data: Any) -> None:
    shuffled = data.draw(st.permutations(drawn))
    k = data.draw(st.integers(0, len(drawn)))
    whole = merge(as_rows(drawn))
    parts = merge(concat([merge(as_rows(shuffled[:k])), merge(as_rows(shuffled[k:]))]))
    for name in ("window", "segment", "who", "sums"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()
    keys = list(zip(whole.window.tolist(), whole.segment.tolist(), whole.who.tolist(), strict=True))
    assert keys == sorted(set(keys))
    assert whole.sums[:, :NEWEST].sum() == as_rows(drawn).sums[:, :NEWEST].sum()


@settings(max_examples=60, deadline=None)
@given(rows, rows)
def test_adding_a_few_rows_to_many_is_merging_them(many: list[tuple[int, int, int, int]], few: list[tuple[int, int, int, int]]) -> None:
    cells, fresh = merge(as_rows(many)), merge(as_rows(few))
    got, at = added(cells, fresh)
    want = merge(concat([cells, fresh]))
    for name in ("window", "segment", "who", "sums"):
        assert getattr(got, name).tolist() == getattr(want, name).tolist()
    told = set(zip(fresh.window.tolist(), fresh.segment.tolist(), fresh.who.tolist(), strict=True))
    every = zip(want.window.tolist(), want.segment.tolist(), want.who.tolist(), strict=True)
    assert at.tolist() == [k for k, key in enumerate(every) if key in told]


@settings(max_examples=60, deadline=None)
@given(steps, st.data())
def test_a_guess_where_a_vehicle_is_changes_nothing_whatever_it_is(drawn: list[tuple[int, int, int, int, int, bool]], data: Any) -> None:
    for net in (NET, gappy()):
        pieces = Pieces(net)
        ends = np.diff(np.append(pieces.base_mm, pieces.end_mm[-1] + 1000)) - 1
        shape, s0, ds, t, dt, boarding = (np.array(x) for x in zip(*drawn, strict=True))
        shape %= len(ends)
        if data.draw(st.booleans()):  # exactly where pieces begin and end
            at = data.draw(
                st.lists(st.sampled_from([*pieces.start_mm.tolist(), *pieces.end_mm.tolist()]), min_size=len(s0), max_size=len(s0))
            )
            shape = np.searchsorted(pieces.base_mm, at, side="right") - 1
            s0 = np.array(at) - pieces.base_mm[shape]
        s0 = np.minimum(s0, ends[shape])
        s1, t1 = np.minimum(s0 + ds, ends[shape]), t + dt
        guess = np.array(data.draw(st.lists(st.integers(0, len(pieces.start_mm) - 1), min_size=len(s0), max_size=len(s0))))
        before = guess.copy()
        assert pieces.find(shape, s1, guess).tolist() == pieces.find(shape, s1).tolist()
        for a, b in zip(pieces.place(shape, s1, guess), pieces.place(shape, s1), strict=True):
            assert a.tolist() == b.tolist()
        step = (np.arange(len(s0)), shape, s0, s1, t, t1, boarding)
        for arrived in (None, boarding):
            got, want = pieces.rows(*step, arrived, guess=guess), pieces.rows(*step, arrived)
            for name in ("window", "segment", "who", "sums"):
                assert getattr(got, name).tolist() == getattr(want, name).tolist()
        assert guess.tolist() == before.tolist()
