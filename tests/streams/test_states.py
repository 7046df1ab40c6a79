"""Records written as text are the records that the classes encode."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fusion import Estimate
from models.records import SegmentState, encode
from streams.states import Columns, States
from tests.streams import kit

N = len(kit.network().segments)
share = st.floats(0, 1)


def filled(f: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    return st.lists(f, min_size=N, max_size=N).map(np.array)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    speed = draw(filled(st.one_of(st.just(float("nan")), st.floats(0.001, 150.0))))
    weights = np.random.default_rng(draw(st.integers(0, 2**32))).dirichlet(np.full(4, 0.3), N).T
    return Estimate(speed, speed * 0.7, speed * 1.3, draw(filled(share)), draw(filled(st.integers(0, 4))).astype(np.int64), *weights)


@given(estimates(), st.booleans(), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_record_is_the_one_that_its_class_encodes(e: Estimate, final: bool, simulated: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    free = rng.uniform(5, 120, N)
    states = States(kit.network().segments, free, ["limit"] * N)
    columns = Columns(
        np.arange(N), np.arange(N), rng.integers(-1, 2, N) * kit.T0, rng.integers(0, 9, N),
        np.where(rng.random(N) < 0.5, rng.uniform(0, 3000, N), np.nan), rng.integers(0, 4, N), rng.random(N) < 0.1,
    )  # fmt: skip
    out = states.records(kit.T0, kit.T0 + 60_000, 151, e, columns, final=final, simulated=simulated)
    assert [o.key.decode() for o in out] == kit.network().segments.segment_id
    for o in out:
        record = msgspec.json.decode(o.value, type=SegmentState)
        assert encode(record) == o.value
        assert o.ce_id == f"segment-state:{record.segment_id}:{kit.T0}:151"
        if record.speed_kmh is not None and record.source_mix is not None:
            mix = record.source_mix
            assert sum(x or 0.0 for x in (mix.probe, mix.loop, mix.memory, mix.network)) == pytest.approx(1.0, abs=0.003)


def test_a_closed_street_stands_still_whatever_its_speed() -> None:
    e = Estimate(*(np.full(N, x) for x in (30.0, 20.0, 40.0, 0.5)), np.full(N, 4), *(np.full(N, 0.25) for _ in range(4)))
    states = States(kit.network().segments, np.full(N, 40.0), ["limit"] * N)
    rows = np.arange(1)
    columns = Columns(rows, rows, rows - 1, rows, np.full(1, np.nan), rows, np.ones(1, np.bool_))
    (out,) = states.records(kit.T0, kit.T0 + 60_000, 1, e, columns, final=True, simulated=False)
    record = msgspec.json.decode(out.value, type=SegmentState)
    assert (record.closed, record.los, record.datex_status, record.jam_factor) == (True, "F", "stationary", 10.0)


def test_a_site_that_knows_the_free_flow_of_its_street_stands_for_the_limit() -> None:
    e = Estimate(*(np.full(N, x) for x in (30.0, 20.0, 40.0, 0.5)), np.full(N, 4), *(np.full(N, 0.25) for _ in range(4)))
    states = States(kit.network().segments, np.full(N, 40.0), ["limit"] * N)
    states.know_free_flow(1, 60.0, "sensor_constant")
    rows = np.arange(2)
    columns = Columns(rows, rows, rows - 1, rows, np.full(2, np.nan), rows, np.zeros(2, np.bool_))
    first, second = (
        msgspec.json.decode(o.value, type=SegmentState)
        for o in states.records(kit.T0, kit.T0 + 60_000, 1, e, columns, final=True, simulated=False)
    )
    assert (first.free_flow_kmh, first.free_flow_method, first.speed_ratio) == (40.0, "limit", 0.75)
    assert (second.free_flow_kmh, second.free_flow_method, second.speed_ratio) == (60.0, "sensor_constant", 0.5)
