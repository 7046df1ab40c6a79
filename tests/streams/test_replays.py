"""The pace of a replay into Kafka: as fast as told, pause, stop; and its bar on a terminal."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest

from connectors.envelope import SCHEMA, Envelope, Item
from streams.bar import Bar
from streams.replays import Pace

HOUR_MS = 3_600_000
START_MS = 1_773_100_800_000


async def waited(pace: Pace, ingest_ms: int) -> bool:
    return await asyncio.wait_for(pace.wait(ingest_ms), 60)


async def test_without_a_speed_everything_is_due_at_once() -> None:
    pace = Pace(None, asyncio.Event())
    assert [await waited(pace, START_MS + k * HOUR_MS) for k in range(3)] == [True] * 3


async def test_log_time_passes_as_many_times_faster_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, clock, slept = asyncio.get_running_loop(), [100.0], 0.0
    monkeypatch.setattr(loop, "time", lambda: clock[0])
    pace = Pace(10.0, asyncio.Event())

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept, clock[0] = slept + seconds, clock[0] + seconds

    monkeypatch.setattr(pace, "_sleep", sleep)
    assert await pace.wait(START_MS)
    assert slept == 0.0
    assert await pace.wait(START_MS + 5_000)
    assert slept == pytest.approx(0.5)
    assert await pace.wait(START_MS + 4_000)
    assert slept == pytest.approx(0.5), "what is overdue is sent at once"
    clock[0] += 2.0
    assert await pace.wait(START_MS + 30_000)
    assert slept == pytest.approx(1.0)


async def test_a_stop_ends_the_longest_wait() -> None:
    stop = asyncio.Event()
    pace = Pace(1.0, stop)
    assert await waited(pace, START_MS)
    waiting = asyncio.create_task(pace.wait(START_MS + 24 * HOUR_MS))
    await asyncio.sleep(0)
    stop.set()
    assert await asyncio.wait_for(waiting, 60) is False
    assert await waited(pace, START_MS) is False


async def test_a_pause_holds_everything_and_log_time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, clock, go = asyncio.get_running_loop(), [0.0], asyncio.Event()
    monkeypatch.setattr(loop, "time", lambda: clock[0])
    pace, naps = Pace(1.0, asyncio.Event(), go), 0

    async def sleep(seconds: float) -> None:
        nonlocal naps
        naps, clock[0] = naps + 1, clock[0] + seconds
        if naps == 50:
            go.set()

    monkeypatch.setattr(pace, "_sleep", sleep)
    assert await pace.wait(START_MS)
    assert (naps, clock[0]) == (50, pytest.approx(50 * Pace.LOOK_S)), "nothing is due while it pauses"
    assert await pace.wait(START_MS + 1_000)
    assert clock[0] == pytest.approx(50 * Pace.LOOK_S + 1.0), "the pause is no part of the log's time"


def test_a_bar_hands_on_every_envelope_and_tells_the_log_time_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    log = [
        ("hfp", 0, Envelope(SCHEMA, "t", "hfp", "hfp", "messages", START_MS + k * 1000, (Item(START_MS, "/x", b"12345"),)))
        for k in range(900)
    ]
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    for length, messages in ((900, True), (4_500, False)):
        with Bar(log, length, messages) as bar:
            assert list(bar) == log
        assert "100%" in shown.getvalue()
    assert "2026-03-10T00:1" in shown.getvalue()
    quiet = io.StringIO()
    monkeypatch.setattr(sys, "stderr", quiet)
    assert list(Bar(log, 900, True)) == log
    assert not quiet.getvalue()
