"""One vehicle through two feeds is one vehicle: the better feed is published, the other is counted, and takes over when the first falls silent."""

from __future__ import annotations

import dataclasses
import random
from itertools import pairwise
from typing import Any

import pytest
from google.transit import gtfs_realtime_pb2 as pb

from connectors.cities import load
from connectors.envelope import Envelope, Item
from models.clock import parse_ms
from models.errors import ConfigError
from streams import partial as wire
from streams.choice import SILENT_MS
from streams.fuse import Fuser, FuseSettings
from streams.offline import Run, replay
from tests.streams import kit

FEEDS = ("hfp", "gtfs_rt", "tms")


def snapshot(ms: int, *vehicles: int) -> Envelope:
    """HSL's GTFS-RT: some vehicles where they are now."""
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = ms // 1000
    for k in vehicles:
        v = message.entity.add(id=str(k)).vehicle
        v.vehicle.id, v.timestamp = f"18/{k}", ms // 1000
        v.position.latitude, v.position.longitude = kit.degrees(kit.EAST + 300.0, kit.NORTH)
    return kit.envelope([Item(ms, "vp.pb", message.SerializeToString())], "gtfs_rt", kind="snapshot")


def log(seconds: int, silent_from: int = 10_000, again_from: int = 10_000, vehicles: tuple[int, ...] = (1, 2)) -> list[Envelope]:
    """Vehicle 1 over HFP each second, but for a silence; the snapshot of all vehicles each 5 s; ticks of all feeds."""
    fixes = [i for k, i in enumerate(kit.drive(0, 5.0, seconds=seconds)) if not silent_from <= k < again_from]
    polls = [snapshot(kit.T0 + 5000 * k + 700, *vehicles) for k in range(seconds // 5)]
    ticks = [kit.tick(kit.T0 + 5000 * k, f) for k in range(1, seconds // 5 + 1) for f in FEEDS]
    return sorted([*kit.cut(fixes, range(len(fixes))), *polls, *ticks], key=lambda e: e.ingest_ms)


def positions(envelopes: list[Envelope]) -> list[tuple[str, str, int]]:
    out, _ = kit.run_all(envelopes)
    return [(r["vehicle_id"], r["feed"], (parse_ms(r["ingest_time"]) - kit.T0) // 1000) for r in kit.records(out, "vehicle-position")]


def test_a_vehicle_of_two_feeds_is_published_of_the_better_one_and_a_vehicle_of_one_feed_of_that() -> None:
    out, run = kit.run_all(log(120))
    seen = [(r["vehicle_id"], r["feed"]) for r in kit.records(out, "vehicle-position")]
    assert seen.count(("0018/00001", "hfp")) == 121
    assert seen.count(("0018/00001", "gtfs_rt")) == 0
    assert seen.count(("0018/00002", "gtfs_rt")) == 24
    assert run.fuser.choice.totals == {"gtfs_rt": [24, 24]}
    health = [r["secondary_ratio"] for r in kit.records(out, "feed-health") if r["feed"] == "gtfs_rt" and "secondary_ratio" in r]
    assert set(health) == {0.5}
    assert not any("secondary_ratio" in r for r in kit.records(out, "feed-health") if r["feed"] != "gtfs_rt")


def test_when_the_better_feed_falls_silent_the_other_takes_over_by_log_time_and_gives_way_again() -> None:
    seen = positions(log(240, silent_from=60, again_from=180))
    second = [t for v, f, t in seen if v == "0018/00001" and f == "gtfs_rt"]
    assert 60 + SILENT_MS // 1000 <= second[0] <= 60 + SILENT_MS // 1000 + 10
    assert second[-1] < 180
    assert all(b - a == 5 for a, b in pairwise(second))


@pytest.mark.parametrize("seed", range(4))
def test_the_same_logs_in_whatever_order_their_partials_come_and_however_often_give_the_same_positions(seed: int) -> None:
    whole = log(150, silent_from=50, again_from=110)
    observers = Run(kit.city(), kit.network()).observers
    partials: dict[str, list[wire.Partial]] = {f: [] for f in FEEDS}
    for k, e in enumerate(whole):
        o = observers[e.feed, 0]
        o.feed_envelope(e, k)
        if k % (seed + 2) == 0:
            partials[e.feed].append(wire.decode(o.flush()))
    for (f, _), o in observers.items():
        o.idle(whole[-1].ingest_ms + 600_000)
        partials[f].append(wire.decode(o.flush()))
    rng, fuser = random.Random(seed), Fuser(kit.city(), kit.network(), dataclasses.replace(FuseSettings(), provisional_ms=1 << 60))
    got: dict[str, bytes] = {}
    heads = dict.fromkeys(FEEDS, 0)
    k = 0
    while any(heads[f] < len(partials[f]) for f in FEEDS):
        f = rng.choice([f for f in FEEDS if heads[f] < len(partials[f])])
        p = partials[f][heads[f]]
        heads[f] += 1
        for p_again in [p] * rng.choice((1, 1, 2)):
            for o in fuser.feed(p_again, k).records.get("vehicle-position", []):
                assert got.setdefault(o.ce_id, o.value) == o.value
            k += 1
        if rng.random() < 0.1:
            again = Fuser(kit.city(), kit.network(), dataclasses.replace(FuseSettings(), provisional_ms=1 << 60))
            again.restore(fuser.export())
            fuser = again
    run = Run(kit.city(), kit.network())
    wanted = {o.ce_id: o.value for out in replay(run, [(e.feed, 0, e) for e in whole]) for o in out.records.get("vehicle-position", [])}
    assert {i for i in wanted if i.endswith("gtfs_rt")} == set(got)
    assert fuser.choice.totals == run.fuser.choice.totals
    assert not any(fuser.choice.pending.values())


def test_a_position_that_came_minutes_late_or_has_no_place_is_no_better_source() -> None:
    late = [kit.hfp(kit.T0 + 1000 * k, (kit.EAST, kit.NORTH), ingest_ms=kit.T0 + 1000 * k + 80_000) for k in range(120)]
    nowhere = [kit.hfp(kit.T0 + 1000 * k, None, vehicle=2) for k in range(200)]
    polls = [snapshot(kit.T0 + 5000 * k + 700, 1, 2) for k in range(40)]
    ticks = [kit.tick(kit.T0 + 5000 * k, f) for k in range(1, 41) for f in FEEDS]
    items = kit.in_order([*late, *nowhere])
    seen = positions(sorted([*kit.cut(items, range(len(items))), *polls, *ticks], key=lambda e: e.ingest_ms))
    assert sum(f == "gtfs_rt" for _, f, _ in seen) == 80


def test_memory_of_who_was_heard_does_not_grow() -> None:
    _, run = kit.run_all(log(900))
    heard: Any = run.fuser.choice.heard["hfp"]
    assert all(len(periods) < 20 for periods in heard.values())
    assert len(run.fuser.choice.counts) == 0


def test_of_several_secondary_feeds_the_order_of_the_file_counts_and_none_is_secondary_to_a_secondary() -> None:
    city = load("tampere")
    assert city.better_feeds("waltti") == ("journeys", "digitransit", "itsfactory")
    with pytest.raises(ConfigError, match="secondary_to"):
        load("tampere", {"feeds.waltti.secondary_to": "digitransit"})
