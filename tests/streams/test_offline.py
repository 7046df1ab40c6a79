"""The offline driver: when minutes become final, what a clock change does, and continuing from snapshots."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.envelope import Envelope
from connectors.gather import partition_of
from models.clock import parse_ms, rfc3339
from streams import partial as wire
from streams.fuse import Fuser, FuseSettings
from streams.offline import FLUSH_MS, Run, end_of_log, replay
from streams.outputs import Outputs
from tests.streams import kit

NET = kit.network()
FEEDS = ("hfp", "gtfs_rt", "tms")
QUIET = dataclasses.replace(FuseSettings(), provisional_ms=1 << 60)


def log(envelopes: list[Envelope], first_ms: int, last_ms: int) -> list[Envelope]:
    """With the ticks of all feeds, every 5 s."""
    ticks = [kit.tick(ms, f) for ms in range(first_ms // 5000 * 5000 + 5000, last_ms + 1, 5000) for f in FEEDS]
    return sorted(envelopes + ticks, key=lambda e: e.ingest_ms)


def finals_of(out: Outputs) -> list[tuple[str, str]]:
    return [(r["segment_id"], r["window_start"]) for r in kit.records(out, "segment-state") if r["status"] == "final"]


def test_a_minute_is_final_once_its_end_and_the_lateness_have_passed_and_only_once() -> None:
    run, when, seen = Run(kit.city(), NET), dict[str, int](), list[tuple[str, str]]()
    for e in log(kit.cut(kit.drive(0, 5.0, seconds=300), range(300)), kit.T0, kit.T0 + 600_000):
        out = run.feed(e.feed, 0, e)
        for f in finals_of(out):
            when.setdefault(f[1], e.ingest_ms)
            seen.append(f)
    seen += finals_of(run.finish())
    for start, ms in when.items():
        late = ms - (parse_ms(start) + 60_000 + 90_000)
        assert 0 < late <= 5_000 + FLUSH_MS, start
    assert len(seen) == len(set(seen))
    assert list(when) == sorted(when)


def test_provisional_states_come_while_a_minute_fills_and_the_final_one_has_the_highest_revision() -> None:
    run, out = Run(kit.city(), NET), Outputs()
    for e in log(kit.cut(kit.drive(0, 5.0, seconds=110), range(110)), kit.T0, kit.T0 + 110_000):
        out.extend(run.feed(e.feed, 0, e))
    out.extend(run.finish())
    by_key: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in kit.records(out, "segment-state"):
        by_key.setdefault((r["segment_id"], r["window_start"]), []).append(r)
    several = [rs for rs in by_key.values() if len(rs) > 2]
    assert several
    for rs in several:
        assert [r["status"] for r in rs] == ["provisional"] * (len(rs) - 1) + ["final"]
        revisions = [r["revision"] for r in rs]
        assert revisions == sorted(set(revisions))
        assert revisions[-1] == 151
    ids = [o.ce_id for o in out.records["segment-state"]]
    assert len(ids) == len(set(ids))


def test_finals_do_not_depend_on_whether_provisional_ones_were_asked_for() -> None:
    envelopes = log(kit.cut(kit.drive(2, seconds=200, route="1002"), range(0, 200, 9)), kit.T0, kit.T0 + 200_000)
    results = []
    for fuse in (QUIET, FuseSettings(), dataclasses.replace(FuseSettings(), provisional_ms=1000)):
        out = Outputs()
        for o in replay(Run(kit.city(), NET, fuse=fuse), [(e.feed, 0, e) for e in envelopes]):
            out.extend(o)
        results.append([o for o in out.records["segment-state"] if b'"final"' in o.value])
    assert results[0] == results[1] == results[2]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_how_vehicles_are_spread_over_partitions_does_not_show_in_the_finals(seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    items = []
    for v in range(6):
        items += kit.drive(
            int(v % 2),
            float(rng.uniform(3, 14)),
            seconds=100,
            vehicle=v + 1,
            direction=1 + v % 2,
            start_ms=kit.T0 + int(rng.integers(0, 9000)),
        )
    items = kit.in_order(items)
    results = []
    for n in (1, 2, 5):
        city = kit.city(n)
        run, out = Run(city, NET, fuse=QUIET), Outputs()
        shards: dict[int, list[Any]] = {}
        for i in items:
            shards.setdefault(partition_of(city.feed("hfp"), i.topic), []).append(i)
        for p, mine in sorted(shards.items()):
            for e in kit.cut(mine, range(0, len(mine), 40)):
                out.extend(run.feed("hfp", p, e))
        out.extend(run.finish())
        results.append((out.records["segment-state"], sorted(out.records["vehicle-position"])))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("zone_night", ["2026-10-25T00:30:00Z", "2026-03-29T00:30:00Z"])
def test_a_night_in_which_clocks_change_has_sixty_seconds_a_minute_and_no_minute_twice(zone_night: str) -> None:
    """Europe/Helsinki: 04:00 becomes 03:00 at 01:00Z on 25 October 2026, 03:00 becomes 04:00 on 29 March. Feeds speak UTC; only timetables are local."""
    start = parse_ms(zone_night)
    items = kit.drive(0, 0.5, seconds=3600, every_s=10, start_ms=start, start="03:30", day="2026-10-24")
    out, run = kit.run_all(kit.cut(items, range(0, len(items), 6)))
    minutes = sorted({r["window_start"] for r in kit.records(out, "segment-state")})
    assert minutes == [rfc3339(start + 60_000 * k) for k in range(len(minutes))]
    own = [r for r in kit.records(out, "segment-state") if r["vehicle_count"]]
    assert {r["window_start"] for r in own} >= {rfc3339(start + 60_000 * k) for k in range(1, 60)}
    assert {(r["operating_day"], r["start_time"]) for r in kit.records(out, "vehicle-position")} == {("2026-10-24", "03:30")}
    assert run.tally()["hfp"].accepted == len(items)


def test_a_trip_after_midnight_keeps_the_operating_day_that_the_feed_says() -> None:
    """HSL's operating day lasts until 04:30 of the next one."""
    start = parse_ms("2026-03-11T00:50:00Z")
    for day, begin in (("2026-03-10", "02:45"), ("2026-03-10", "26:45"), ("2026-03-11", "04:31")):
        out, _ = kit.run_all(kit.cut(kit.drive(0, seconds=20, start_ms=start, day=day, start=begin)))
        assert {(r["operating_day"], r["start_time"]) for r in kit.records(out, "vehicle-position")} == {(day, begin)}
        assert {r["segment_id"] for r in kit.records(out, "vehicle-position")} == {"main0_f", "main1_f"}


def test_simulated_data_says_so_in_every_record() -> None:
    items = kit.drive(0, seconds=70)
    out, _ = kit.run_all([kit.envelope(items, simulated=True)])
    for product in ("vehicle-position", "segment-state", "feed-health"):
        assert all(r.get("simulated") is True for r in kit.records(out, product)), product


def test_the_same_log_gives_the_same_bytes_twice() -> None:
    envelopes = log(kit.cut(kit.drive(3, seconds=150, route="1003"), range(0, 150, 7)), kit.T0, kit.T0 + 150_000)
    first, _ = kit.run_all(envelopes)
    again, _ = kit.run_all(envelopes)
    assert first.records == again.records


def test_an_empty_log_gives_nothing() -> None:
    assert [len(o) for o in replay(Run(kit.city(), NET), [])] == [0]


def test_a_log_of_ticks_alone_gives_no_states() -> None:
    out, _ = kit.run_all([kit.tick(kit.T0 + 5000 * k, f) for k in range(40) for f in FEEDS])
    assert out.records.keys() == {"feed-health"}


@given(st.integers(0, 2**42), st.integers(0, 600_000))
def test_the_end_of_a_log_closes_every_window_that_an_event_may_lie_in(last_ms: int, lateness_ms: int) -> None:
    end, window = end_of_log(last_ms, lateness_ms), (last_ms + 120_000) // 60_000
    assert (window + 1) * 60_000 + lateness_ms < end


# -------------------------------------------------------------------------------------------------------------------------- snapshots


def partials(seed: int = 3) -> list[wire.Partial]:
    from streams.ground import Ground
    from streams.observe import Observer

    ground, out = Ground(NET), []
    hfp, silent = Observer(kit.city(), "hfp", 0, ground), [Observer(kit.city(), f, 0, ground) for f in FEEDS[1:]]
    items = kit.in_order([*kit.drive(0, seconds=190), *kit.drive(1, 6.0, seconds=190, vehicle=2, direction=2)])
    for e in log(kit.cut(items, range(0, len(items), 11)), kit.T0, kit.T0 + 400_000):
        for o in (hfp, *silent):
            if o.feed.name == e.feed:
                o.feed_envelope(e, o.offset + 1)
                if e.kind == "tick":
                    out.append(wire.decode(o.flush()))
    return out


def test_a_restored_fuse_step_goes_on_byte_for_byte() -> None:
    told = partials()
    for k in (1, len(told) // 3, len(told) // 2, len(told) - 2):
        a = Fuser(kit.city(), NET)
        for n, p in enumerate(told[:k]):
            a.feed(p, n)
        b = Fuser(kit.city(), NET)
        b.restore(a.export())
        assert b.export() == a.export()
        for n, p in enumerate(told[k:], start=k):
            assert a.feed(p, n).records == b.feed(p, n).records
        assert a.export() == b.export()


def test_a_snapshot_of_the_fuse_step_of_another_schema_or_network_is_refused() -> None:
    f = Fuser(kit.city(), NET)
    for n, p in enumerate(partials()[:20]):
        f.feed(p, n)
    state = msgspec.msgpack.decode(f.export(), strict=False)
    for change in ({"schema": 999}, {"network": "another"}):
        with pytest.raises(ValueError, match="snapshot"):
            Fuser(kit.city(), NET).restore(msgspec.msgpack.encode(state | change))


def test_partials_of_another_network_are_refused() -> None:
    p = msgspec.structs.replace(partials()[0], network="another")
    with pytest.raises(ValueError, match="network"):
        Fuser(kit.city(), NET).feed(p, 0)
