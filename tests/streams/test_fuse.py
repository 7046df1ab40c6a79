"""Laws of the fuse step: finals depend on the log alone."""

from __future__ import annotations

import dataclasses
import random
import re
from typing import Any

import msgspec
import numpy as np
import pytest

from geo.network import Network
from models.records import SegmentState
from streams import partial as wire
from streams.cells import WINDOW_MS
from streams.fuse import Fuser, FuseSettings
from streams.offline import Run
from tests.streams import kit

NEVER = 1 << 60


def partials(feeds: dict[str, list[Any]]) -> list[wire.Partial]:
    """Every partial that a log gives on its way to the fuse step."""
    run = Run(kit.city(), kit.network(), fuse=FuseSettings(provisional_ms=NEVER))
    taken: list[wire.Partial] = []
    feed = run.fuser.feed

    def keep(p: wire.Partial, offset: int) -> Any:
        taken.append(p)
        return feed(p, offset)

    run.fuser.feed = keep  # type: ignore[method-assign]
    for name, envelopes in feeds.items():
        for e in envelopes:
            run.feed(name, 0, e)
    run.finish()
    return taken


def town(seconds: int = 420) -> list[Any]:
    rng = np.random.default_rng(5)
    items = [
        i
        for v in range(6)
        for i in kit.drive(
            v % 3,
            5.0 + v,
            seconds=seconds,
            from_m=60.0 * v,
            vehicle=v + 1,
            noise=rng,
            route="1001" if v % 3 < 2 else "1002",
            direction=1 + v % 3 % 2,
        )
    ]
    return kit.cut(kit.in_order(items), range(0, len(items), 150))


def feed_all(fuser: Fuser, ps: list[wire.Partial]) -> list[tuple[Any, ...]]:
    out = []
    for k, p in enumerate(ps):
        out += [tuple(o) for o in fuser.feed(p, k).records.get("segment-state", [])]
    return out


@pytest.fixture(scope="module")
def log() -> list[wire.Partial]:
    return partials({"hfp": town()})


def fuser(**settings: Any) -> Fuser:
    return Fuser(kit.city(), kit.network(), dataclasses.replace(FuseSettings(provisional_ms=NEVER), **settings))


def test_partials_told_twice_and_out_of_order_give_the_same_finals(log: list[wire.Partial]) -> None:
    before = feed_all(fuser(), log)
    assert len(before) > 50
    rng = random.Random(3)
    sources = {(p.feed, p.partition) for p in log}
    mixed: list[wire.Partial] = []
    for source in sorted(sources):
        mixed += [p for p in log if (p.feed, p.partition) == source]
    doubled = [p for p in mixed for _ in range(rng.choice((1, 1, 2)))]
    assert feed_all(fuser(), doubled) == before


def test_provisional_rounds_do_not_touch_the_finals(log: list[wire.Partial]) -> None:
    only = feed_all(fuser(), log)
    both = feed_all(fuser(provisional_ms=5_000), log)
    finals = [o for o in both if b'"status":"final"' in o[1]]
    assert finals == only
    assert len(both) > len(only)


def test_a_provisional_round_leaves_out_only_what_it_would_repeat(log: list[wire.Partial], monkeypatch: pytest.MonkeyPatch) -> None:
    some = feed_all(fuser(provisional_ms=2_000), log)
    monkeypatch.setattr("streams.windows.Window.news", lambda self, e, c: np.ones(len(c.rows), np.bool_))
    told: dict[tuple[bytes, int], bytes] = {}
    news = []
    for o in feed_all(fuser(provisional_ms=2_000), log):
        said = re.sub(rb'"revision":[0-9]+', b"", o[1])
        if b'"status":"final"' in said or told.get((o[0], o[2])) != said:
            news.append(o)
        told[o[0], o[2]] = said
    repeated = len(feed_all(fuser(provisional_ms=2_000), log)) - len(news)
    assert repeated > 10
    # what differs only beyond the digits that are published may be told twice
    assert set(news) <= set(some)
    assert len(some) - len(news) < repeated


def test_a_restored_step_goes_on_byte_for_byte(log: list[wire.Partial]) -> None:
    whole = feed_all(fuser(), log)
    for at in (1, len(log) // 3, len(log) // 2, len(log) - 2):
        first, second = fuser(), fuser()
        head = feed_all(first, log[:at])
        second.restore(first.export())
        assert head + feed_all(second, log[at:]) == whole
        assert second.export() is not None


def test_every_segment_is_told_of_at_once_and_then_at_least_every_five_minutes(log: list[wire.Partial]) -> None:
    finals = feed_all(fuser(), log)
    windows = sorted({o[2] for o in finals})
    ids = {s.encode() for s in kit.network().segments.segment_id}
    assert {o[0] for o in finals if o[2] == windows[0]} == ids
    for k in range(1, len(windows) - 4):
        assert {o[0] for o in finals if o[2] in windows[k : k + 5]} == ids
    keys = [(o[0], o[2]) for o in finals]
    assert len(keys) == len(set(keys))


def test_where_buses_drove_the_speed_is_measured_and_near_theirs(log: list[wire.Partial]) -> None:
    said = [msgspec.json.decode(o[1], type=SegmentState) for o in feed_all(fuser(), log) if o[0] == b"main3_f"]
    measured = [r.speed_kmh for r in said if r.origin == "measured" and r.speed_kmh is not None]
    assert measured
    assert all(15 < v < 50 for v in measured)
    assert said[-1].origin != "measured"


def test_partials_of_another_network_are_refused(log: list[wire.Partial]) -> None:
    with pytest.raises(ValueError, match="network"):
        fuser().feed(msgspec.structs.replace(log[0], network="other"), 0)
    other: Network = dataclasses.replace(kit.network(), version="other")
    with pytest.raises(ValueError, match="snapshot"):
        Fuser(kit.city(), other).restore(fuser().export())


def test_what_a_degraded_or_late_feed_told_counts_for_less_in_the_windows_of_that_time_only(log: list[wire.Partial]) -> None:
    """However many slots a partial closes at once, and also after a restart: the weight is that of the slot with which the window ends."""
    slots = sorted({h.slot for p in log for h in p.health})
    middle = slots[len(slots) // 2] // 4 * 4 + 3  # the last of a minute

    def told(worsen: dict[str, Any], *, restart: bool = False) -> dict[int, float]:
        one = fuser(evidence=False)
        weights: dict[int, float] = {}
        for k, p in enumerate(log):
            health = tuple(msgspec.structs.replace(h, **worsen) if h.slot == middle else h for h in p.health)
            for o in one.feed(msgspec.structs.replace(p, health=health), k).records.get("segment-state", []):
                record = msgspec.json.decode(o.value)
                if record["vehicle_count"] and record["status"] == "final":
                    weights[o.time_ms] = weights.get(o.time_ms, 0.0) + record["source_mix"].get("probe", 0.0)
            if restart:
                state, one = one.export(), fuser(evidence=False)
                one.restore(state)
        return weights

    well, refused = told({}), told({"rejects": 1_000_000})
    late = told({"lags": (0,) * 15 + (100, 0, 0)})
    minute = (middle + 1) * 15_000 - 60_000
    assert minute in well
    for sick in (refused, late):
        assert sick[minute] < 0.8 * well[minute]
        assert {ms: x for ms, x in sick.items() if ms < minute} == {ms: x for ms, x in well.items() if ms < minute}
    assert told({"rejects": 1_000_000}, restart=True) == refused


def test_a_minute_gets_its_provisional_emissions_also_when_nothing_more_of_it_comes() -> None:
    """All that was driven in it had been told before its round was due: what comes then is of later minutes."""
    log, told = partials({"hfp": town(190)}), set()
    fuse = fuser(provisional_ms=1_000)
    for k, p in enumerate(log):
        for o in fuse.feed(p, k).records.get("emission-segment", []):
            told |= {o.time_ms // WINDOW_MS} if b'"provisional"' in o.value else set()
    minutes = {int(w) for p in log for w in np.frombuffer(p.window, "<i8")}
    assert told == minutes
