"""Closed means closed; a sudden fall of speed that no message explains is a situation with a beginning, evidence and an end."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import numpy as np
import pytest

from geo.streets import streets
from models.fusion import WindowSums
from models.records import SegmentState, Situation
from streams import partial as wire
from streams.endings import KEPT_MS
from streams.fuse import Fuser, FuseSettings
from streams.incidents import Incidents
from streams.notices import Notices
from streams.outputs import Out
from streams.partial import OPEN_END, NoticeRow
from tests.streams import kit
from tests.streams.test_fuse import NEVER, feed_all, partials, town

MAIN1 = kit.network().segments.segment_id.index("main1_f")
W0 = kit.T0 // 60_000
LATENESS_MS = FuseSettings().lateness_ms


@pytest.fixture(scope="module")
def log() -> list[wire.Partial]:
    return partials({"hfp": town()})


def closure(event_s: int, from_s: int, to_s: int | None = None, *, closed: bool = True, ingest_s: int | None = None) -> NoticeRow:
    ms = kit.T0 + 1000 * event_s
    ingest_ms = ms if ingest_s is None else kit.T0 + 1000 * ingest_s
    end_ms = OPEN_END if to_s is None else kit.T0 + 1000 * to_s
    return NoticeRow(ms, ingest_ms, end_ms, kit.T0 + 1000 * from_s, "messages/1", (MAIN1,), closed)


def fuse(ps: list[wire.Partial]) -> list[tuple[Any, ...]]:
    return feed_all(Fuser(kit.city(), kit.network(), FuseSettings(provisional_ms=NEVER)), ps)


def with_notices(ps: list[wire.Partial], *rows: NoticeRow) -> list[wire.Partial]:
    """The log with notices in the first partial of the feed whose time has come."""
    out, left = [], list(rows)
    for p in ps:
        mine = tuple(r for r in left if p.feed == "hfp" and p.watermark_ms >= r.ingest_ms)
        left = [r for r in left if r not in mine]
        out.append(msgspec.structs.replace(p, notices=mine) if mine else p)
    assert not left
    return out


def states(outs: list[tuple[Any, ...]]) -> dict[int, SegmentState]:
    """Of the closed segment, by minute."""
    return {(o[2] - kit.T0) // 60_000: msgspec.json.decode(o[1], type=SegmentState) for o in outs if o[0] == b"main1_f"}


def test_a_closed_segment_claims_no_speed_from_the_minute_it_is_closed_to_the_minute_it_is_opened(log: list[wire.Partial]) -> None:
    free = states(fuse(log))
    shut = states(fuse(with_notices(log, closure(30, 60), closure(200, 60, 240))))
    assert {m: s.closed for m, s in shut.items() if s.closed} == {m: True for m in shut if 1 <= m < 4} != {}
    for m, s in shut.items():
        if 1 <= m < 4:
            assert (s.speed_kmh, s.travel_time_s, s.speed_ratio, s.confidence, s.origin) == (None, None, None, 0.0, "none")
            assert (s.jam_factor, s.los, s.datex_status) == (10.0, "F", "stationary")
        else:
            assert s.closed is None
            assert s == free.get(m, s)
    assert 1 in shut
    assert 4 in shut, "opening is published at once"


def test_what_closes_nothing_and_what_lies_in_the_future_changes_nothing(log: list[wire.Partial]) -> None:
    assert fuse(with_notices(log, closure(30, 60, closed=False))) == fuse(log)
    assert fuse(with_notices(log, closure(30, 7200))) == fuse(log)


def test_a_closure_told_after_a_minute_could_be_final_does_not_change_it_in_whatever_order_partitions_are_read(
    log: list[wire.Partial],
) -> None:
    late = closure(200, 0, ingest_s=200)
    one = with_notices(log, late)
    early = [msgspec.structs.replace(p, notices=(late,)) if k == 0 else p for k, p in enumerate(log)]
    twice = [msgspec.structs.replace(p, notices=(late,)) if random.Random(k).random() < 0.2 else p for k, p in enumerate(one)]
    assert fuse(one) == fuse(early) == fuse(twice)
    closed = {m for m, s in states(fuse(one)).items() if s.closed}
    assert closed
    assert min(closed) == 1  # minute 0 was final 90 s after its end, at 150 s; minute 1 at 210 s


def test_a_message_of_the_feed_closes_its_street() -> None:
    s = Situation(
        situation_id="messages/1", kind="roadwork", event_time="2026-03-10T05:30:10.000Z", ingest_time="2026-03-10T05:30:12.000Z", feed="messages", closed=True,
        segment_ids=["main1_f", "elsewhere"], valid_from="2026-03-10T05:00:00.000Z", valid_to="2026-03-10T07:00:00.000Z",
    )  # fmt: skip
    notices = Notices({i: k for k, i in enumerate(kit.network().segments.segment_id)})

    def read(x: Situation, ms: int) -> tuple[NoticeRow, ...]:
        notices.read([Out(b"messages/1", msgspec.json.encode(x), ms, "id")], ms)
        return notices.take(ms)

    (row,) = read(s, kit.T0 + 12_000)
    assert (row.segments, row.closed, row.from_ms, row.to_ms) == ((MAIN1,), True, kit.T0 - 1_800_000, kit.T0 + 5_400_000)
    assert notices.take(kit.T0 + 13_000) == ()
    again = Notices({})
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(notices.export())))
    assert again.take(kit.T0 + 3_700_000) == (row,), "what is valid is told again each hour"
    (ended,) = read(msgspec.structs.replace(s, ended=True), kit.T0 + 60_000)
    assert ended.to_ms == kit.T0 + 60_000
    assert read(msgspec.structs.replace(s, kind="transit_alert"), kit.T0 + 70_000) == ()
    assert notices.take(kit.T0 + 9_000_000) == ()


def standing(metres: float, seconds: float) -> WindowSums:
    return WindowSums(
        np.array([MAIN1]), np.array([metres]), np.array([seconds]), np.array([2]), np.array([kit.T0]), np.empty(0, np.int64), np.empty(0), np.empty(0),
        np.empty(0, np.int64),
    )  # fmt: skip


def incidents() -> Incidents:
    return Incidents(kit.network(), streets(kit.network()), LATENESS_MS)


def play(i: Incidents, notices: tuple[NoticeRow, ...] = (), minutes: int = 60) -> list[tuple[int, dict[str, Any]]]:
    """Twenty minutes of light traffic, fifteen of standing, light again."""
    i.hear(notices)
    speed = np.full(len(kit.network().segments), 35.0)
    out = []
    for m in range(minutes):
        obs = standing(3.0, 110.0) if 20 <= m < 35 else standing(380.0, 32.0)
        for o in i.final(W0 + m, obs, speed, simulated=True):
            assert o.key.decode() == f"tilannekuva/main1_f/{W0 + 21}" or o.value
            out.append((m, json.loads(o.value)))
    return out


def test_a_fall_is_told_when_it_begins_with_its_evidence_and_when_it_ends() -> None:
    (begin, began), (end, ended) = play(incidents())
    assert 20 <= begin < 25
    assert 35 <= end < 45
    assert (began["kind"], began["detected"], began["source"], began["feed"], began["segment_ids"]) == (
        "incident",
        True,
        "tilannekuva",
        "tilannekuva",
        ["main1_f"],
    )
    assert began["situation_id"] == ended["situation_id"]
    assert (began.get("ended"), "valid_to" in began, ended["ended"], "valid_to" in ended) == (None, False, True, True)
    evidence = began["evidence"]
    assert evidence["speed_kmh"] < 10 < 25 < evidence["usual_kmh"] < 50
    assert evidence["vehicle_s"] > 110
    assert evidence == ended["evidence"]
    assert msgspec.convert(began, Situation).simulated


def test_what_a_message_explains_is_not_told() -> None:
    assert play(incidents(), (closure(0, 0, closed=False),)) == []
    assert len(play(incidents(), (closure(0, 0, 600, closed=False),))) == 2, "the message had ended before"


def test_an_ended_event_is_deleted_after_a_week_and_a_restored_step_goes_on_alike() -> None:
    one, two = incidents(), incidents()
    speed = np.full(len(kit.network().segments), 35.0)
    outs: list[list[Out]] = [[], []]
    for m in range(60):
        if m == 24:
            two_state = msgspec.msgpack.decode(msgspec.msgpack.encode(two.export()), strict=False)
            two = incidents()
            two.restore(two_state)
        obs = standing(3.0, 110.0) if 20 <= m < 35 else standing(380.0, 32.0)
        for i, o in ((one, outs[0]), (two, outs[1])):
            o += i.final(W0 + m, obs, speed, simulated=False)
    assert outs[0] == outs[1]
    assert len(outs[0]) == 2
    (gone,) = one.final(W0 + 60 + KEPT_MS // 60_000, standing(380.0, 32.0), speed, simulated=False)
    assert gone.value == b""
