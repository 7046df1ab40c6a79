"""Hot factors: the printed control values, and the guards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.emissions import factors, tables
from models.emissions.factors import ABOVE_V_MAX, BELOW_V_MIN, NEGATIVE, POLE, evaluate, hot_table
from models.emissions.lookup import NoSuchRow, find, resolve

HOT_ROWS = [*tables.rows("hot_factors"), *tables.rows("hot_factors_slope_load")]


def test_every_row_reproduces_its_printed_control_value():
    speeds = np.array([float(row["check_v"]) for row in HOT_ROWS])
    printed = np.array([float(row["check_ef"]) for row in HOT_ROWS])
    value, guard = evaluate(np.arange(len(HOT_ROWS)), speeds)
    assert len(HOT_ROWS) == 4684 + 3528
    assert np.all(np.abs(value - printed) <= 1e-6 * np.abs(printed))
    assert not guard.any()


def test_no_row_is_negative_or_nan_at_any_speed():
    table = hot_table()
    value, _ = evaluate(np.arange(len(table))[:, None], np.linspace(0.0, 160.0, 641)[None])
    assert np.isfinite(value).all()
    assert (value >= 0.0).all()


@given(row=st.integers(0, 8217), speed=st.floats(0.0, 400.0))
def test_a_factor_is_finite_and_not_negative(row: int, speed: float):
    value, guard = evaluate(row, speed)
    assert np.isfinite(value)
    assert value >= 0.0
    table = hot_table()
    assert bool(guard & BELOW_V_MIN) == (speed < table.v_min_kmh[row])
    assert bool(guard & ABOVE_V_MAX) == (speed > table.v_max_kmh[row])


def test_a_bridged_pole_stays_between_its_neighbours():
    table = hot_table()
    bridged = np.flatnonzero(np.isfinite(table.bridge_low_kmh))
    assert len(bridged) == 41
    for row in bridged:
        low, high = table.bridge_low_kmh[row], table.bridge_high_kmh[row]
        inside, guard = evaluate(int(row), np.linspace(low, high, 50)[1:-1])
        ends = sorted((table.bridge_low_ef[row], table.bridge_high_ef[row]))
        assert (guard & POLE).all()
        assert ends[0] > 0.0
        assert (inside >= ends[0] - 1e-12).all()
        assert (inside <= ends[1] + 1e-12).all()


def test_the_source_flags_every_row_with_a_pole():
    table = hot_table()
    for i, row in enumerate(HOT_ROWS):
        e, z, h = (float(row[name]) for name in ("epsilon", "zita", "eta"))
        roots = np.roots([e, z, h])
        roots = roots[np.isreal(roots)].real
        if ((roots > table.v_min_kmh[i]) & (roots < table.v_max_kmh[i])).any():
            assert row["sanity"] == "pole_in_range", row["row_id"]


def test_a_negative_stretch_is_floored_and_said():
    row = find(resolve("passenger_car", "diesel", "Small", "Euro 6 a/b/c", "DPF"), "CO")
    value, guard = evaluate(row, [120.0, 128.0])
    assert value[0] > 0.0
    assert value[1] == 0.0
    assert guard.tolist() == [0, NEGATIVE]


def test_a_row_with_a_negative_reduction_is_larger_not_smaller():
    row = find(resolve("lcv", "diesel", "N1-III", "Euro 5", "DPF"), "NOx")
    assert hot_table().kept[row] == pytest.approx(5.07, abs=0.01)


@pytest.mark.parametrize("speed", [-1.0, float("nan"), float("inf")])
def test_an_impossible_speed_is_refused(speed: float):
    with pytest.raises(ValueError, match="speed_kmh"):
        evaluate(0, speed)


def test_a_missing_row_says_which_field_has_no_match():
    with pytest.raises(NoSuchRow, match="euro = 'Euro 9'"):
        resolve("passenger_car", "petrol", "Medium", "Euro 9")
    with pytest.raises(NoSuchRow, match=r"road_slope/load = 0\.03/0\.5"):
        find(resolve("urban_bus", "diesel", euro="Euro VI D/E"), "NOx", road_slope="0.03")


def test_row_ids_are_unique():
    assert len(set(hot_table().row_id)) == len(hot_table())
    assert factors.guard_text(0) == ""
