"""Feed health by log time: what a subscriber is told of a feed that lives, lags, freezes, falls silent or dies."""

from __future__ import annotations

from typing import Any

import pytest
from google.transit import gtfs_realtime_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from connectors.envelope import Envelope, Item, Source
from models.clock import parse_ms
from streams.health import LAG_EDGES_S, SLOT_MS, Judge, Meter, percentile_s
from streams.partial import HealthRow
from tests.streams import kit

BINS = len(LAG_EDGES_S) + 1


def row(slot: int = 0, **change: Any) -> HealthRow:
    end = (slot + 1) * SLOT_MS
    fields: dict[str, Any] = {
        "messages": 10, "events": 10, "rejects": 0, "duplicates": 0, "lags": tuple([0] * BINS), "entities": 3, "newest_event_ms": end - 1000,
        "last_message_ms": end - 500, "ticks": 3, "connected": True, "http_status": None, "detail": None,
    }  # fmt: skip
    return HealthRow(slot=slot, **(fields | change))


def judge(*rows: HealthRow, feed: str = "hfp", cadence_s: float = 1.0, slot: int = 0) -> Any:
    return Judge(feed, cadence_s).close(slot, list(rows), simulated=False)


@pytest.mark.parametrize(("rows", "state"), [
    ([row()], "ok"),
    ([row(), row(messages=0, events=0, newest_event_ms=None, last_message_ms=None)], "ok"),
    ([], "dead"),
    ([row(last_message_ms=None, newest_event_ms=None, messages=0, events=0)], "stale"),
    ([row(last_message_ms=None, newest_event_ms=None, messages=0, events=0, connected=False)], "dead"),
    ([row(newest_event_ms=None, events=0)], "empty"),
    ([row(newest_event_ms=None, rejects=10)], "degraded"),
    ([row(newest_event_ms=SLOT_MS - 60_001)], "stale"),
    ([row(last_message_ms=SLOT_MS - 60_001)], "stale"),
    ([row(connected=False)], "degraded"),
    ([row(http_status=503)], "degraded"),
    ([row(http_status=200)], "ok"),
    ([row(rejects=2)], "degraded"),
    ([row(rejects=1)], "ok"),
])  # fmt: skip
def test_the_state_of_a_feed(rows: list[HealthRow], state: str) -> None:
    assert judge(*rows).state == state


def test_a_slow_feed_is_stale_after_two_of_its_periods() -> None:
    for gap_s, state in ((119, "ok"), (121, "stale")):
        j = Judge("tms", 60.0)
        end = 100 * SLOT_MS
        r = row(99, last_message_ms=end - 1000 * gap_s, newest_event_ms=end - 1000 * gap_s)
        assert j.close(99, [r], simulated=False).state == state


def test_since_is_when_the_state_began() -> None:
    j = Judge("hfp", 1.0)
    seen = [j.close(s, [row(s)] if s not in (2, 3) else [], simulated=False) for s in range(6)]
    assert [r.state for r in seen] == ["ok", "ok", "dead", "dead", "ok", "ok"]
    ends = [parse_ms(r.since) // SLOT_MS for r in seen]
    assert ends == [1, 1, 3, 3, 5, 5]
    other = Judge("hfp", 1.0)
    other.restore(j.export())
    assert other.close(6, [row(6)], simulated=False) == j.close(6, [row(6)], simulated=False)


def test_counts_of_partitions_add_up_and_ratios_are_of_events() -> None:
    r = judge(row(messages=30, events=40, duplicates=10, rejects=4), row(messages=15, events=10, entities=4))
    assert (r.messages_s, r.duplicate_ratio, r.reject_ratio, r.entity_count) == (3.0, 0.2, 0.08, 7)


def test_a_slot_without_events_has_no_ratios() -> None:
    r = judge(row(messages=0, events=0))
    assert (r.messages_s, r.duplicate_ratio, r.reject_ratio) == (0.0, None, None)


@given(st.lists(st.floats(-120, 4000, allow_nan=False), min_size=1, max_size=80), st.sampled_from([0.5, 0.95]))
def test_a_percentile_of_lags_is_the_upper_edge_of_its_bin(lags: list[float], share: float) -> None:
    import numpy as np

    meter, at = Meter(), kit.T0
    meter.lag(at, np.array([at - round(1000 * x) for x in lags]), np.full(len(lags), at))
    (slot,) = meter.slots.values()
    got = percentile_s(slot.lags, share)
    exact = sorted(lags)[max(0, int(np.ceil(share * len(lags))) - 1)]
    assert got is not None
    assert got >= min(exact, LAG_EDGES_S[-1]) - 0.001
    assert sum(slot.lags) == len(lags)


# -------------------------------------------------------------------------------------------------------- through the offline driver


def with_ticks(
    envelopes: list[Envelope], seconds: int, feeds: tuple[str, ...] = ("hfp", "gtfs_rt", "tms"), dead: dict[str, int] | None = None
) -> list[Envelope]:
    """Ticks of every feed each 5 s, in log order; a feed in ``dead`` has none from that second on."""
    ticks = [kit.tick(kit.T0 + 5000 * k, f) for k in range(1, seconds // 5 + 1) for f in feeds if 5 * k < (dead or {}).get(f, seconds + 1)]
    return sorted(envelopes + ticks, key=lambda e: e.ingest_ms)


def states(out: Any, feed: str) -> dict[int, str]:
    """State by second after T0, while the log lasts."""
    return {(parse_ms(r["event_time"]) - kit.T0) // 1000: r["state"] for r in kit.records(out, "feed-health") if r["feed"] == feed}


def hfp_for(seconds: int) -> list[Envelope]:
    return kit.cut(kit.drive(0, 5.0, seconds=seconds), range(seconds))


def test_a_living_feed_is_ok_and_its_numbers_are_right() -> None:
    out, _ = kit.run_all(with_ticks(hfp_for(120), 125))
    assert set(states(out, "hfp").values()) - {"dead"} == {"ok"}
    full = [r for r in kit.records(out, "feed-health") if r["feed"] == "hfp"][3]
    assert full["messages_s"] == 1.0
    assert full["lag_p50_s"] == full["lag_p95_s"] == 0.5
    assert full["entity_count"] == 1
    assert full["duplicate_ratio"] == full["reject_ratio"] == 0.0
    assert full["gap_s"] <= 1.0


def test_a_feed_whose_connector_died_is_dead_within_90_seconds_and_one_that_is_silent_stale() -> None:
    for dead, state in (({"hfp": 60}, "dead"), ({}, "stale")):
        out, _ = kit.run_all(with_ticks(hfp_for(60), 240, dead=dead))
        after = {s: x for s, x in states(out, "hfp").items() if 60 + 90 <= s <= 240}
        if state == "dead":  # nothing at all comes from its partition any more: what is final waits for it, and is told at the end
            assert set(after.values()) == {"dead"}
        else:
            assert set(after.values()) == {"stale"}
        assert states(out, "hfp")[60] == "ok"


def test_a_frozen_snapshot_is_stale_and_not_repeated_as_fresh() -> None:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = kit.T0 // 1000
    for k in range(3):
        v = message.entity.add(id=str(k)).vehicle
        v.vehicle.id, v.timestamp = f"18/{k}", kit.T0 // 1000
        v.position.latitude, v.position.longitude = 60.17, 24.94
    body = message.SerializeToString()
    polls = [kit.envelope([Item(kit.T0 + 5000 * k, "vp.pb", body)], "gtfs_rt", kind="snapshot") for k in range(40)]
    out, run = kit.run_all(with_ticks(polls, 200))
    assert len(kit.records(out, "vehicle-position")) == 3
    tally = run.tally()["gtfs_rt"]
    assert tally.events == 120
    assert tally.accepted == 3
    seen = states(out, "gtfs_rt")
    assert seen[15] == "ok"
    assert {seen[s] for s in range(90, 196, 15)} == {"stale"}


def test_an_empty_but_valid_feed_is_empty() -> None:
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = kit.T0 // 1000
    polls = [kit.envelope([Item(kit.T0 + 5000 * k, "vp.pb", message.SerializeToString())], "gtfs_rt", kind="snapshot") for k in range(30)]
    out, _ = kit.run_all(with_ticks(polls, 150))
    assert {s for t, s in states(out, "gtfs_rt").items() if t <= 150} == {"empty"}


def test_a_feed_that_answers_with_html_is_degraded_and_one_whose_source_says_503_too() -> None:
    polls = [kit.envelope([Item(kit.T0 + 5000 * k, "vp.pb", b"<html>502</html>")], "gtfs_rt", kind="snapshot") for k in range(30)]
    out, _ = kit.run_all(with_ticks(polls, 150))
    assert {s for t, s in states(out, "gtfs_rt").items() if t <= 150} == {"degraded"}
    sick = [kit.tick(kit.T0 + 5000 * k + 1, "hfp", Source(connected=False, http_status=503, detail="x")) for k in range(1, 12)]
    out, _ = kit.run_all(with_ticks(hfp_for(55) + sick, 60))
    last = [r for r in kit.records(out, "feed-health") if r["feed"] == "hfp"][2]
    assert last["state"] == "degraded"


def test_counting_stations_that_report_are_ok_and_frozen_ones_stale() -> None:
    import json

    from models.clock import rfc3339

    def data(k: int, frozen: bool) -> Envelope:
        at = kit.T0 + 60_000 * k
        measured = rfc3339(kit.T0 if frozen else at - 20_000)
        values = [{"id": i, "stationId": 23001, "value": v, "measuredTime": measured} for i, v in ((5116, 600), (5122, 55))]
        body = {"dataUpdatedTime": rfc3339(at), "stations": [{"id": 23001, "sensorValues": values}]}
        return kit.envelope([Item(at, "stations/data", json.dumps(body).encode())], "tms", kind="snapshot")

    for frozen, state in ((False, "ok"), (True, "stale")):
        out, _ = kit.run_all(with_ticks([data(k, frozen) for k in range(1, 10)], 550))
        seen = states(out, "tms")
        assert {s for t, s in seen.items() if 240 <= t <= 540} == {state}


def test_a_silent_feed_does_not_hold_back_the_others() -> None:
    """gtfs_rt and tms say nothing, but tick: minutes of HFP become final while the log goes on, not at its end."""
    from streams.offline import Run

    run, seen = Run(kit.city(), kit.network()), []
    for e in with_ticks(hfp_for(300), 300):
        out = run.feed(e.feed, 0, e)
        seen += [(e.ingest_ms - kit.T0, r["window_start"]) for r in kit.records(out, "segment-state") if r["status"] == "final"]
    first = {start: min(t for t, s in seen if s == start) for _, start in seen}
    assert [first[f"2026-03-10T05:3{k}:00.000Z"] for k in range(2)] == pytest.approx([150_000, 210_000], abs=7_000)


@pytest.mark.parametrize("max_items", [1, 7, 50, 200])
def test_however_the_log_is_cut_into_envelopes_feed_health_is_the_same_bytes(max_items: int) -> None:
    """Envelopes of up to 10 s, longer than any connector makes: they straddle the ends of slots."""
    from connectors import recordings
    from streams.offline import Run, replay

    def told(**cut: int) -> list[bytes]:
        items = [("hfp", i) for i in kit.in_order([*kit.drive(0, 5.0, seconds=200), *kit.drive(1, 7.0, seconds=200, vehicle=2)])]
        items += [("hfp", Item(kit.T0 + 1000 * k + 900, "/hfp/v2/journey/ongoing/vp/bus/0018/00003/x", b"{")) for k in range(0, 200, 9)]
        log = recordings.envelopes(sorted(items, key=lambda i: i[1].ingest_ms), kit.city(), ["hfp", "gtfs_rt", "tms"], **cut)
        return [o.value for out in replay(Run(kit.city(), kit.network()), log) for o in out.records.get("feed-health", [])]

    assert told(max_items=max_items, max_wait_ms=10_000) == told(max_items=1, max_wait_ms=0)
    assert told(max_items=max_items, max_wait_ms=250) == told(max_items=1, max_wait_ms=0)
