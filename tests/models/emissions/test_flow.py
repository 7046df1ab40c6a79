"""Flow: the fundamental diagram, the prior, counters and their neighbours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.emissions import flow
from models.emissions.flow import CONGESTED, MEASURED, PRIOR, TRANSFERRED, FlowSettings, congested_density, estimate_flow, van_aerde_density

ONE = {"free_flow_kmh": np.array([50.0]), "road_class": np.array([2]), "lanes": np.array([2.0]), "prior_vph": np.array([500.0])}


@given(free=st.floats(20.0, 120.0), ratio=st.floats(0.5, 0.9), capacity=st.floats(300.0, 2200.0), jam=st.floats(100.0, 160.0))
def test_van_aerde_meets_its_three_points(free: float, ratio: float, capacity: float, jam: float):
    v_c = ratio * free
    k = van_aerde_density([0.0, v_c, free], free, v_c, capacity, jam)
    assert k[0] == pytest.approx(jam)
    assert k[2] == 0.0
    assert k[1] * v_c <= capacity * (1 + 1e-9)  # lowered where the diagram cannot reach it
    speeds = np.linspace(0.0, free, 400)
    assert (np.diff(van_aerde_density(speeds, free, v_c, capacity, jam)) <= 1e-9).all()


def test_van_aerde_has_its_capacity_at_the_speed_of_capacity():
    speeds = np.linspace(1.0, 99.0, 981)
    q = speeds * van_aerde_density(speeds, 100.0, 75.0, 2000.0, 130.0)
    assert speeds[q.argmax()] == pytest.approx(75.0, abs=0.2)
    assert q.max() == pytest.approx(2000.0, rel=1e-3)


@given(speed=st.floats(0.0, 140.0), free=st.floats(10.0, 130.0), road=st.integers(0, 4))
def test_speed_never_tells_flow_in_free_flow(speed: float, free: float, road: int):
    density = congested_density(np.array([speed]), np.array([free]), np.array([road]), np.array([1.0]))[0]
    if free <= 1.1 * speed or road == 4:
        assert np.isnan(density)


def test_free_flow_without_a_counter_is_the_prior_and_says_so():
    for speed in (46.0, 50.0, 55.0):
        f = estimate_flow(speed_kmh=np.array([speed]), **ONE)
        assert f.flow_vph[0] == 500.0
        assert f.source[0] == PRIOR


def test_a_counter_is_taken_as_it_is_and_zero_is_zero():
    for measured in (0.0, 820.0):
        f = estimate_flow(speed_kmh=np.array([12.0]), measured_vph=np.array([measured]), **ONE)
        assert f.flow_vph[0] == measured
        assert f.source[0] == MEASURED
        assert f.density_vpkm[0] == pytest.approx(measured / 12.0)


def test_variance_grows_when_a_counter_falls_silent_and_dies():
    ages = [0.0, 60.0, 600.0, 1800.0, 7200.0]
    speed = np.array([45.0])
    variances = [
        estimate_flow(speed_kmh=speed, measured_vph=np.array([700.0]), measured_age_s=np.array([a]), **ONE).log_var[0] for a in ages
    ]
    dead = estimate_flow(speed_kmh=speed, measured_vph=np.array([np.nan]), **ONE)
    assert variances == sorted(variances)
    assert dead.log_var[0] >= variances[-1]
    assert dead.source[0] == PRIOR


def test_a_standing_queue_has_density_and_no_flow():
    f = estimate_flow(speed_kmh=np.array([0.0]), **ONE)
    assert f.flow_vph[0] == 0.0
    assert f.density_vpkm[0] > 100.0
    assert f.source[0] == CONGESTED


def test_density_never_exceeds_jam_density():
    speed = np.array([0.0, 0.5, 3.0])
    f = estimate_flow(
        speed_kmh=speed,
        free_flow_kmh=np.full(3, 50.0),
        road_class=np.full(3, 2),
        lanes=np.ones(3),
        prior_vph=np.full(3, 900.0),
        measured_vph=np.full(3, 900.0),
    )
    assert (f.density_vpkm <= flow.jam_density_vpkm(np.full(3, 2), np.ones(3)) + 1e-9).all()


def test_a_near_counter_moves_the_prior_and_a_far_or_dead_one_does_not():
    prior = np.array([100.0, 100.0, 100.0])
    moved, var = flow.transfer(prior, np.array([2.0, np.nan]), np.array([[0], [0], [1]]), np.array([[100.0], [50_000.0], [10.0]]))
    assert moved[0] > 150.0
    assert moved[1] == pytest.approx(100.0, abs=1.0)
    assert moved[2] == 100.0
    assert var[0] < var[1] <= var[2] == pytest.approx(np.log(1.5) ** 2)
    f = estimate_flow(
        speed_kmh=np.full(3, 50.0), free_flow_kmh=np.full(3, 50.0), road_class=np.full(3, 2), lanes=np.ones(3), prior_vph=prior, transferred_vph=moved,
        transferred_log_var=var,
    )  # fmt: skip
    assert f.source.tolist() == [TRANSFERRED, PRIOR, PRIOR]


def test_the_calendar_knows_night_and_rush_and_scales_with_lanes():
    night, rush = flow.calendar_prior_vph(2, 1, [3.0, 16.5], 2)
    assert rush > 10 * night > 0
    assert flow.calendar_prior_vph(2, 3, 16.5, 2) == pytest.approx(3 * rush)
    assert flow.calendar_prior_vph(2, 1, 24.0, 2) == flow.calendar_prior_vph(2, 1, 0.0, 2)
    assert flow.calendar_prior_vph(2, 1, 8.0, 6) < flow.calendar_prior_vph(2, 1, 8.0, 0)


def test_settings_keep_their_order():
    with pytest.raises(ValueError, match="measured <= transferred <= prior"):
        FlowSettings(measured_log_sd=1.0)
