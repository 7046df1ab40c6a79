"""Laws of the estimator, on streets in a row and streets that branch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.confidence import ABOVE, BAND, BELOW, Spread, band_probability
from models.fusion import BLENDED, INFERRED, MEASURED, NONE, Estimator, FusionSettings, WindowSums
from models.streets import Streets

N = 8


def row_of_streets(n: int = N, *, known: bool = True, general: bool = True) -> Streets:
    """One street of n segments of 50 m, driven from the first to the last."""
    i = np.arange(n)
    return Streets(
        expected_kmh=np.full(n, 30.0), running_kmh=np.full(n, 35.0), free_flow_kmh=np.full(n, 40.0), length_m=np.full(n, 50.0), lanes=np.ones(n),
        general=np.full(n, general), known=np.full(n, known), interrupted=np.ones(n, np.bool_), ahead=np.where(i + 1 < n, i + 1, -1),
        block=i, link_from=i[:-1], link_to=i[1:],
    )  # fmt: skip


def seen(segment: list[int], kmh: list[float], *, metres: float = 50.0, vehicles: int = 1, ms: int = 60_000) -> WindowSums:
    """Vehicles that drove ``metres`` each at these speeds."""
    dist = np.full(len(segment), metres * vehicles)
    none = np.empty(0)
    return WindowSums(
        np.array(segment, np.int64), dist, dist * 3.6 / np.array(kmh), np.full(len(segment), vehicles), np.full(len(segment), ms),
        none.astype(np.int64), none, none, none.astype(np.int64),
    )  # fmt: skip


def counted(segment: list[int], kmh: list[float], vph: list[float], ms: int = 60_000) -> WindowSums:
    """Readings of sites."""
    empty = seen([], [])
    return WindowSums(
        empty.segment, empty.dist_m, empty.time_s, empty.vehicles, empty.newest_ms,
        np.array(segment, np.int64), np.array(kmh), np.array(vph), np.full(len(segment), ms),
    )  # fmt: skip


ALL = seen(list(range(N)), [28.0] * N)
NOTHING = seen([], [])

windows = st.lists(
    st.dictionaries(
        st.integers(0, N - 1),
        st.tuples(
            st.floats(0.0, 500.0), st.floats(0.001, 240.0), st.one_of(st.none(), st.tuples(st.floats(0.5, 90.0), st.floats(0, 3000)))
        ),
    ),
    min_size=1,
    max_size=6,
)


def window(cells: dict[int, tuple[float, float, tuple[float, float] | None]]) -> WindowSums:
    at = np.array(sorted(cells), np.int64)
    loops = np.array([k for k in sorted(cells) if cells[k][2] is not None], np.int64)
    return WindowSums(
        at, np.array([cells[k][0] for k in at.tolist()]), np.array([cells[k][1] for k in at.tolist()]), np.ones(len(at), np.int64),
        np.full(len(at), 60_000), loops, np.array([cells[k][2][0] for k in loops.tolist()]), np.array([cells[k][2][1] for k in loops.tolist()]),  # type: ignore[index]
        np.full(len(loops), 60_000),
    )  # fmt: skip


@given(windows)
@settings(max_examples=150, deadline=None)
def test_speeds_are_positive_and_finite_quantiles_are_in_order_and_weights_sum_to_one(
    rounds: list[dict[int, tuple[float, float, tuple[float, float] | None]]],
) -> None:
    est = Estimator(row_of_streets(), settings=FusionSettings(min_network=0))
    for cells in rounds:
        e = est.advance(window(cells))
        assert np.isfinite(e.speed_kmh).all()
        assert (e.speed_kmh > 0).all()
        assert (e.p20_kmh < e.speed_kmh).all()
        assert (e.speed_kmh < e.p80_kmh).all()
        assert ((e.confidence >= 0) & (e.confidence <= 1)).all()
        shares = e.probe_weight + e.loop_weight + e.memory_weight + e.network_weight
        assert np.allclose(shares, 1.0)
        assert min(e.probe_weight.min(), e.loop_weight.min(), e.memory_weight.min(), e.network_weight.min()) >= 0


@given(windows, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_restored_in_the_middle_it_goes_on_bit_by_bit_and_peeking_changes_nothing(
    rounds: list[dict[int, tuple[float, float, tuple[float, float] | None]]], at: int
) -> None:
    one, two = Estimator(row_of_streets()), Estimator(row_of_streets())
    for k, cells in enumerate(rounds):
        if k == at:
            state = two.export()
            two = Estimator(row_of_streets())
            two.restore(state)
        two.peek(window(cells))
        a, b = one.advance(window(cells)), two.advance(window(cells))
        for name in ("speed_kmh", "p20_kmh", "p80_kmh", "confidence", "origin", "memory_weight"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    assert one.export() == two.export()


def test_without_data_a_measured_segment_becomes_blended_then_inferred_and_its_speed_returns_to_the_expectation() -> None:
    est = Estimator(row_of_streets())
    est.advance(ALL)
    origins, speeds = [], []
    for k in range(40):
        e = est.advance(seen([0], [5.0], metres=50.0, vehicles=3) if k == 0 else seen([4, 5, 6, 7], [30.0] * 4))
        origins.append(int(e.origin[0]))
        speeds.append(float(e.speed_kmh[0]))
    assert origins[0] == MEASURED
    assert origins == sorted(origins, reverse=True)
    assert {MEASURED, BLENDED, INFERRED} <= set(origins)
    assert speeds[0] < 12
    assert speeds == sorted(speeds)
    assert abs(speeds[-1] - 30.0) < 1.0


def test_when_every_feed_is_silent_nothing_is_published_as_if_it_were_known() -> None:
    est = Estimator(row_of_streets())
    est.advance(ALL)
    for _ in range(60):
        e = est.advance(NOTHING)
    assert (e.origin == NONE).all()
    assert np.isnan(e.speed_kmh).all()
    assert (e.confidence == 0).all()


def test_streets_of_which_only_vehicles_can_tell_stay_none_until_one_comes() -> None:
    est = Estimator(row_of_streets(known=False), settings=FusionSettings(min_network=0))
    assert (est.advance(NOTHING).origin == NONE).all()
    e = est.advance(seen([3], [20.0]))
    assert int(e.origin[3]) in (MEASURED, BLENDED)
    assert np.isfinite(e.speed_kmh[3])
    assert int(e.origin[7]) == NONE


def test_a_queue_is_expected_upstream_of_where_it_was_seen_and_not_downstream() -> None:
    est = Estimator(row_of_streets(), settings=FusionSettings(min_network=0))
    for _ in range(3):
        e = est.advance(seen([4], [2.0]))
    assert e.speed_kmh[3] < 0.6 * 30.0
    assert e.speed_kmh[4] < e.speed_kmh[3] < e.speed_kmh[2]
    assert abs(e.speed_kmh[5] - 30.0) < 0.5
    assert int(e.origin[3]) == INFERRED


@given(st.floats(0.02, 3.0), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_more_vehicles_that_agree_with_what_is_known_never_lower_confidence(length: float, few: int, more: int) -> None:
    confidences = []
    for vehicles in (few, few + more):
        est = Estimator(row_of_streets(), settings=FusionSettings(min_network=0, bus_loss=0.0))
        confidences.append(est.advance(seen([N - 1], [30.0], metres=50.0 * length, vehicles=vehicles)).confidence[N - 1])
    assert confidences[1] >= confidences[0] - 1e-12


def test_evidence_narrows_the_spread_at_any_pace() -> None:
    own = np.linspace(0, 1, 11)
    for ahead in (0.0, 0.5, 1.0):
        for pace in (0.0, 0.5, 3.0):
            width = BAND.width(own, np.full(11, ahead), np.full(11, pace), np.full(11, 0.2))
            assert (np.diff(band_probability(np.full(11, 20.0), width)) >= 0).all()
    with pytest.raises(ValueError, match="narrow"):
        Spread(0.0, 0.1, 0.0, 0.0, 0.0, 0.0)


def test_a_single_red_light_counts_for_little_and_a_jam_for_what_it_is() -> None:
    light = Estimator(row_of_streets(), settings=FusionSettings(min_network=0)).advance(seen([4], [21.0]))
    jam = Estimator(row_of_streets(), settings=FusionSettings(min_network=0)).advance(seen([4], [0.7]))
    assert light.speed_kmh[4] > 26
    assert jam.speed_kmh[4] < 3


def test_a_vehicle_that_waits_at_the_end_of_a_block_and_one_that_drives_through_add_up_over_the_block() -> None:
    est = Estimator(row_of_streets(), settings=FusionSettings(min_network=0, bus_loss=0.0))
    a = est.advance(seen([4], [6.0]))
    whole = Estimator(row_of_streets(), settings=FusionSettings(min_network=0, bus_loss=0.0))
    parts = seen([4], [6.0])
    parts.dist_m, parts.time_s = np.array([50.0]), np.array([10.0 + 20.0])  # half of the time at a red light: the same sums
    b = whole.advance(parts)
    assert a.speed_kmh.tobytes() == b.speed_kmh.tobytes()


def test_a_site_lowers_its_street_when_the_passing_vehicles_are_slow_and_falls_silent_slowly() -> None:
    est = Estimator(row_of_streets(), settings=FusionSettings(min_network=0))
    e = est.advance(counted([4], [10.0], [60.0]))
    assert int(e.origin[4]) == MEASURED
    assert e.loop_weight[4] > 0.3
    assert e.speed_kmh[4] < 6
    again = est.advance(counted([4], [10.0], [60.0]))
    assert abs(again.speed_kmh[4] - e.speed_kmh[4]) < 0.5  # the newest reading stands, it does not pile up
    later = [est.advance(NOTHING) for _ in range(12)]
    assert later[0].loop_weight[4] == 0
    assert int(later[0].origin[4]) == BLENDED
    assert later[-1].speed_kmh[4] > later[0].speed_kmh[4]


def test_a_bus_is_measured_against_cars_and_a_tram_is_not() -> None:
    street, rail = (Estimator(row_of_streets(general=g), settings=FusionSettings(min_network=0)) for g in (True, False))
    assert street.advance(seen([4], [20.0])).speed_kmh[4] > rail.advance(seen([4], [20.0])).speed_kmh[4]


def test_what_a_sick_feed_tells_moves_the_value_less_and_leaves_it_less_sure() -> None:
    """Vehicles and sites alike: the same sums, worth a quarter."""
    slow, site = seen([3], [6.0]), counted([3], [8.0], [300.0])
    for well, name in ((slow, "worth"), (site, "loop_worth")):
        sick = dataclasses.replace(well, **{name: np.array([0.25])})
        said = []
        for obs in (well, sick):
            est = Estimator(row_of_streets(), settings=FusionSettings(min_network=0))
            said.append((est.peek(obs)[1], est.advance(obs)))
        for a, b in zip(*said, strict=True):
            k = 0 if len(a.speed_kmh) == 1 else 3
            assert a.speed_kmh[k] < b.speed_kmh[k] < 30.0
            assert b.probe_weight[k] + b.loop_weight[k] < a.probe_weight[k] + a.loop_weight[k]
        features = [e.features(np.array([3]), e._street[[3]], np.zeros(1, np.complex128))[0] for e in (_after(well), _after(sick))]
        widths = [
            spread.width(*f)[0]
            for spread in (BAND, BELOW, ABOVE)
            for f in ((*(x[:1] for x in features[0]),), (features[1][0], *features[0][1:]))
        ]
        assert widths[0] < widths[1]
        assert widths[2] < widths[3]
        assert widths[4] < widths[5]


def _after(obs: WindowSums) -> Estimator:
    est = Estimator(row_of_streets(), settings=FusionSettings(min_network=0))
    est.advance(obs)
    return est


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_sums_reach_as_far_as_if_every_street_were_asked(n: int, told: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    link = np.unique(rng.integers(0, n, (3 * n, 2)), axis=0)
    ahead = np.where(rng.random(n) < 0.8, rng.integers(0, n, n), -1)
    streets = dataclasses.replace(
        row_of_streets(n), ahead=ahead, link_from=link[:, 0], link_to=link[:, 1], length_m=rng.uniform(5.0, 90.0, n)
    )
    sums = np.zeros(n, np.complex128)
    sums[rng.integers(0, n, told)] = 1.0 + 2.0j
    length = streets.length_m
    own = total = sums
    for _ in range(3):
        own = sums + np.array([0.0 if a < 0 else np.exp(-(length[k] + length[a]) / 80.0) * own[a] for k, a in enumerate(ahead.tolist())])
        inflow = np.zeros(n, np.complex128)
        for a, b in link.tolist():
            inflow[a] += 0.9 * np.exp(-(length[a] + length[b]) / 300.0) / (link[:, 0] == a).sum() * total[b]
        total = sums + inflow
    assert np.allclose(streets.pool(sums, 40.0, 3), own, rtol=1e-12, atol=0)
    assert np.allclose(streets.spread(sums, 150.0, 0.9, 3), total, rtol=1e-12, atol=0)


def test_a_street_that_no_evidence_reaches_is_as_it_would_be_worked_out() -> None:
    e = Estimator(row_of_streets(), settings=FusionSettings(min_network=1))
    rows, zero = np.arange(N), np.zeros(N)
    untold = []
    for obs in (NOTHING, seen([2], [9.0]), NOTHING):
        whole, anew = e.advance(obs), e._estimate(rows, e._street, e._ahead, zero, zero, zero)
        still = (e._street == 0) & (e._ahead == 0)
        untold.append(int(still.sum()))
        for name in type(whole).__slots__:
            assert getattr(whole, name)[still].tobytes() == getattr(anew, name)[still].tobytes()
    assert untold == [N, N - 3, N - 3]
