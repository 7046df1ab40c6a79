"""Laws of speed profiles."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from geo.streets import streets
from models.profile import BINS, DAY_MS, QUARTERS, Learner, Profile, ProfileSettings, Usual, bins
from tests.streams import kit

ZONE = "Europe/Helsinki"
NET = kit.network()
STREETS = streets(NET)
IDS = NET.segments.segment_id
MINUTE = 60_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


def days_of(
    segment: int, speed_of: dict[str, float], *, hours: tuple[int, ...], weight: float = 1.0
) -> list[tuple[int, int, float, float]]:
    """One row a minute of some hours of days."""
    return [
        (segment, ms(f"{day}T{h:02}:00") + k * MINUTE, speed, weight) for day, speed in speed_of.items() for h in hours for k in range(60)
    ]


def learnt(rows: list[tuple[int, int, float, float]], batches: int = 1, settings: ProfileSettings | None = None) -> Profile:
    learner = Learner(STREETS, ZONE, settings)
    for part in np.array_split(np.array(rows), batches):
        segment, start, speed, minutes = part.T
        learner.add(segment.astype(np.int64), start.astype(np.int64), speed, minutes)
    return learner.profile("helsinki", IDS)


def test_quarters_are_of_local_clocks_in_both_halves_of_the_year_and_in_the_nights_between() -> None:
    at = np.array([ms("2026-03-10T08:05"), ms("2026-07-14T08:05"), ms("2026-03-13T08:05"), ms("2026-03-14T23:59"), ms("2026-03-15T00:00")])
    assert bins(at, ZoneInfo(ZONE)).tolist() == [32, 32, QUARTERS + 32, 2 * QUARTERS + 95, 3 * QUARTERS]
    night = ms("2026-10-25T02:00") + np.arange(12) * 15 * MINUTE  # the hour from three to four comes twice
    assert (bins(night, ZoneInfo(ZONE)) - 3 * QUARTERS).tolist() == [8, 9, 10, 11, 12, 13, 14, 15, 12, 13, 14, 15]


def test_what_was_slow_on_working_mornings_is_usual_then_and_only_then() -> None:
    free = STREETS.expected_kmh[3]
    slow = {f"2026-03-{d:02}": free / 3 for d in (2, 3, 4, 5, 9, 10, 11, 12)}
    quick = {f"2026-03-{d:02}": free for d in (7, 14)}
    usual = Usual(learnt([*days_of(3, slow, hours=(8,)), *days_of(3, quick, hours=(8,))]), IDS)
    pace, spread = usual.at(ms("2026-03-17T08:30"))
    assert np.exp(pace[3]) == pytest.approx(3.0, rel=0.2)
    assert np.exp(pace[3]) < 3.0  # shrunk to light traffic
    assert spread[3] < 0.5
    assert np.isnan(np.delete(pace, 3)).all()
    assert usual.at(ms("2026-03-21T08:30"))[0][3] == pytest.approx(0.0, abs=1e-3)  # Saturday
    assert np.isnan(usual.at(ms("2026-03-20T08:30"))[0][3])  # of Fridays nothing is known
    assert np.isnan(usual.at(ms("2026-03-17T15:00"))[0][3])


def test_order_and_cut_of_what_is_taken_in_change_nothing() -> None:
    rng = np.random.default_rng(3)
    rows = [row for s in (1, 4, 7) for row in days_of(s, {f"2026-03-{d:02}": 20.0 + d for d in (2, 3, 6)}, hours=(7, 8), weight=0.5)]
    whole = learnt(rows)
    mixed = [rows[k] for k in rng.permutation(len(rows))]
    again = learnt(mixed, batches=7)
    assert again.segment_id == whole.segment_id
    assert again.days == whole.days == ("2026-03-02", "2026-03-03", "2026-03-06")
    assert np.array_equal(np.isnan(again.pace), np.isnan(whole.pace))
    assert np.nanmax(np.abs(again.pace.astype(float) - whole.pace.astype(float))) < 2e-3


def test_little_evidence_is_no_knowledge() -> None:
    rows = days_of(2, {"2026-03-10": 10.0}, hours=(8,), weight=0.01)
    with_least = learnt([*rows, *days_of(5, {"2026-03-10": 10.0}, hours=(8,))])
    assert with_least.segment_id == (IDS[5],)
    with pytest.raises(ValueError, match="no final"):
        Learner(STREETS, ZONE).profile("helsinki", IDS)


def test_free_flow_is_the_85th_percentile_between_junctions_where_the_week_is_known() -> None:
    s, settings = STREETS, ProfileSettings(prior_min=0.0)
    k = 0  # 200 m without a signal
    week = {f"2026-03-{d:02}": 0.0 for d in range(2, 9)}
    rows = []
    for h, share in ((2, 1.1), (8, 0.3), (12, 0.8), (16, 0.4), (20, 0.9), (22, 1.1), (23, 1.1)):
        rows += [(seg, t, s.expected_kmh[k] * share, w) for seg, t, _, w in days_of(k, week, hours=(h,))]
    free = learnt(rows, settings=settings).free_flow_kmh[0]
    end = 1 - s.expected_kmh[k] / s.running_kmh[k]
    assert free == pytest.approx(s.expected_kmh[k] / (1 / 1.1 - end), rel=0.02)
    assert np.isnan(learnt(days_of(k, {"2026-03-02": 40.0}, hours=(8,)), settings=settings).free_flow_kmh[0])  # four quarters are no week
    fast = [(seg, t, 400.0, w) for seg, t, _, w in rows]
    assert learnt(fast, settings=settings).free_flow_kmh[0] == pytest.approx(1.25 * s.free_flow_kmh[k])


def test_it_is_valid_after_the_days_it_was_learned_from_and_for_so_long() -> None:
    usual = Usual(learnt(days_of(1, {"2026-03-10": 20.0}, hours=(8,))), IDS)
    assert not usual.valid(ms("2026-03-10T12:00"))
    assert usual.valid(ms("2026-03-11T00:00"))
    assert usual.valid(ms("2026-03-11T00:00") + 60 * DAY_MS - 1)
    assert not usual.valid(ms("2026-03-11T00:00") + 60 * DAY_MS)


def test_the_version_is_of_the_content_and_segments_that_are_gone_are_left_out() -> None:
    a = learnt(days_of(1, {"2026-03-10": 20.0}, hours=(8,)))
    assert a.version == learnt(days_of(1, {"2026-03-10": 20.0}, hours=(8,))).version
    assert a.version != learnt(days_of(1, {"2026-03-10": 21.0}, hours=(8,))).version
    assert a.version != dataclasses.replace(a, simulated=True).version
    assert a.pace.shape == (1, BINS)
    other = Usual(a, ["gone", "new"])
    assert np.isnan(other.at(ms("2026-03-11T08:30"))[0]).all()
