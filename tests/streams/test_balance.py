"""Laws of the junctions' balance: nothing vanishes there, what is sure stays, and the same input gives the same flows."""

from __future__ import annotations

import numpy as np

from streams.balance import LEAST, Balance, BalanceSettings
from tests.streams import kit

NETWORK = kit.network()
IDS = NETWORK.segments.segment_id
GENERAL = np.ones(len(IDS), np.bool_)


def away(flow: np.ndarray, b: Balance) -> float:
    """What is out of balance at junctions."""
    d = np.bincount(b.b, flow, b.nodes) - np.bincount(b.a, flow, b.nodes)
    return float(np.abs(d[b.bound]).sum())


def test_a_counter_speaks_for_the_street_before_and_after_it_and_junctions_come_nearer_to_balance() -> None:
    guess = np.full(len(IDS), 100.0)
    sd = np.full(len(IDS), 80.0)
    k = IDS.index("main7_f")
    guess[k], sd[k] = 500.0, 25.0
    b = Balance(NETWORK, GENERAL)
    flow = b.flows(guess, sd)
    assert away(flow, b) < 0.5 * away(guess, b)
    assert abs(flow[k] - 500.0) < 60.0
    assert flow[IDS.index("main6_f")] > 120.0
    assert flow[IDS.index("main8_f")] > 120.0
    assert flow[IDS.index("main6_f")] > flow[IDS.index("side3_f")]
    assert b.flows(guess, sd).tobytes() == flow.tobytes()


def test_what_balances_already_stays_and_nothing_falls_below_a_share_of_its_guess() -> None:
    b = Balance(NETWORK, GENERAL)
    even = np.full(len(IDS), 60.0)
    assert np.allclose(b.flows(even, np.full(len(IDS), 30.0)), even)
    rng = np.random.default_rng(3)
    guess = rng.uniform(0.0, 900.0, len(IDS))
    flow = b.flows(guess, rng.uniform(1.0, 500.0, len(IDS)))
    assert np.isfinite(flow).all()
    assert (flow >= LEAST * guess - 1e-9).all()


def test_streets_that_general_traffic_does_not_drive_are_left_alone_and_a_network_of_none_too() -> None:
    guess, sd = np.linspace(10.0, 500.0, len(IDS)), np.full(len(IDS), 50.0)
    only = GENERAL.copy()
    only[::3] = False
    assert (Balance(NETWORK, only).flows(guess, sd)[::3] == guess[::3]).all()
    assert (Balance(NETWORK, ~GENERAL, BalanceSettings()).flows(guess, sd) == guess).all()


def test_flows_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(5)
    guess, sd = rng.uniform(50.0, 900.0, len(IDS)), rng.uniform(20.0, 90.0, len(IDS))
    general = rng.random(len(IDS)) > 0.1
    b = Balance(NETWORK, general, BalanceSettings(steps=300))
    ends = np.zeros((b.nodes, len(IDS)))
    np.add.at(ends, (b.b, np.arange(len(IDS))), general * 1.0)
    traffic = np.abs(ends).copy()
    np.add.at(ends, (b.a, np.arange(len(IDS))), general * -1.0)
    np.add.at(traffic, (b.a, np.arange(len(IDS))), general * 1.0)
    cfg = b.settings
    worth = np.where(b.bound, 1.0 / (cfg.share * traffic @ guess / 2.0 + cfg.few_vph) ** 2, 0.0)
    own = 1.0 / sd**2
    exact = np.linalg.solve(np.diag(own) + ends.T @ (worth[:, None] * ends), own * guess)
    exact = np.where(general, np.maximum(exact, LEAST * guess), guess)
    assert np.allclose(b.flows(guess, sd), exact, rtol=1e-5)
    nearly = np.abs(Balance(NETWORK, general).flows(guess, sd) - exact) / exact
    assert np.quantile(nearly, 0.9) < 0.02
