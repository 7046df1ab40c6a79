"""A worker that does not get on is seen, by what stands still; one that does is left alone."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from streams.monitor import Monitor, Pulse
from streams.watchdog import Progress, Watchdog, WatchdogSettings

RAW, OTHER = ("raw.toytown.hfp", 0), ("raw.toytown.hfp", 1)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def watchdog() -> tuple[Watchdog, Clock]:
    clock = Clock()
    return Watchdog(WatchdogSettings(stalled_s=60, unready_s=20), clock), clock


def live(
    w: Watchdog, clock: Clock, seconds: float, fed: int, committed: int, end: int, *, durable: int = -1, rebalancing: bool = False
) -> None:
    """So long nothing changes but the time."""
    for _ in range(int(seconds)):
        clock.now += 1
        w.beat(rebalancing=rebalancing)
        w.saw({RAW: Progress(fed, durable, committed, end)})


def test_a_worker_that_has_read_everything_is_well_for_ever() -> None:
    w, clock = watchdog()
    live(w, clock, 3000, 9, 10, 10)
    assert (w.trouble(60), w.ready(), w.lag()) == (None, None, {RAW: 0})


def test_a_partition_with_unread_messages_that_does_not_move_is_a_stall() -> None:
    w, clock = watchdog()
    live(w, clock, 100, 9, 10, 10)
    live(w, clock, 25, 9, 10, 500)
    assert w.trouble(60) is None
    assert "raw.toytown.hfp-0: nothing moved for" in str(w.ready())
    live(w, clock, 40, 9, 10, 900)
    assert "890 messages not committed" in str(w.trouble(60))


def test_reading_without_committing_is_a_stall_too_and_a_slow_start_is_not() -> None:
    w, clock = watchdog()
    for fed in range(300):
        live(w, clock, 1, fed, 0, 10_000)
    assert w.trouble(60) is None  # a state is being made again: it moves
    live(w, clock, 61, 299, 0, 10_000)
    assert w.trouble(60) is not None


def test_a_coordinator_that_takes_no_commit_is_a_stall_though_messages_are_worked_off() -> None:
    w, clock = watchdog()
    for fed in range(59):
        live(w, clock, 1, fed, 0, 10_000, durable=fed - 1)
    assert w.trouble(60) is None
    for fed in range(59, 70):
        live(w, clock, 1, fed, 0, 10_000, durable=fed - 1)
    assert "what is durable has not been committed for 6" in str(w.trouble(60))
    for fed in range(70, 400):  # it takes them again
        live(w, clock, 1, fed, fed - 1, 10_000, durable=fed - 1)
    assert w.trouble(20) is None
    live(w, clock, 5, 400, 399, 10_000, durable=405)  # restored ahead of the commit: what it skips is acked
    live(w, clock, 5, 410, 406, 10_000, durable=405)
    assert w.trouble(20) is None


def test_a_worker_that_gets_too_little_of_the_processor_is_slow_and_not_stalled() -> None:
    w, clock = watchdog()
    live(w, clock, 10, 0, 0, 10_000)
    for fed in range(1, 60):  # a beat each 4 s, an answer each 68
        for _ in range(17):
            clock.now += 4
            w.beat(rebalancing=False)
            assert w.trouble(60) is None
        w.saw({RAW: Progress(fed, fed - 1, fed, 10_000)})
    for _ in range(60):
        assert w.trouble(60) is None
        clock.now += 4
        w.beat(rebalancing=False)
    assert "broker" in str(w.trouble(60))


def two(w: Watchdog, clock: Clock, seconds: int, *, taken: Callable[[int], int], waiting: bool) -> None:
    """The first partition stands still; the broker takes of the other one's writes what ``taken`` says."""
    for k in range(seconds):
        clock.now += 1
        w.beat(rebalancing=False)
        w.saw({RAW: Progress(9, -1, 0, 500, 3, waiting), OTHER: Progress(k if taken(1) else 0, -1, 0, 500, taken(k), True)})


def test_a_partition_that_waits_while_the_broker_takes_what_others_write_is_slow_and_not_stalled() -> None:
    w, clock = watchdog()
    two(w, clock, 290, taken=lambda k: k // 15, waiting=True)
    assert (w.alive(), w.ready()) == (None, "raw.toytown.hfp-0: nothing moved for 289 s with 500 messages not committed")
    two(w, clock, 15, taken=lambda k: k // 15 + 1, waiting=True)
    assert "nothing moved for 30" in str(w.alive())  # its turn should have come


def test_a_partition_that_stands_still_without_waiting_for_the_broker_is_stalled_whatever_others_do() -> None:
    w, clock = watchdog()
    two(w, clock, 62, taken=lambda k: k, waiting=False)
    assert "raw.toytown.hfp-0: nothing moved for 61 s" in str(w.alive())


def test_a_broker_that_takes_nothing_of_anybody_is_a_stall() -> None:
    w, clock = watchdog()
    two(w, clock, 62, taken=lambda k: 0, waiting=True)
    assert "nothing moved for 61 s" in str(w.alive())


def test_a_broker_that_told_us_to_wait_is_slow_for_so_long_and_no_longer() -> None:
    w, clock = watchdog()
    w.throttled(50)
    two(w, clock, 100, taken=lambda k: 0, waiting=True)
    assert w.alive() is None
    two(w, clock, 15, taken=lambda k: 0, waiting=True)
    assert "nothing moved" in str(w.alive())


def test_a_large_snapshot_that_the_broker_takes_piece_by_piece_is_no_stall() -> None:
    w, clock = watchdog()
    for k in range(600):
        clock.now += 1
        w.beat(rebalancing=False)
        w.saw({RAW: Progress(9, -1, 0, 500, k // 50, True)})
        assert w.alive() is None


def test_a_dead_event_loop_a_silent_broker_and_an_endless_rebalance_are_stalls() -> None:
    w, clock = watchdog()
    live(w, clock, 10, 9, 10, 10)
    clock.now += 61
    w.saw({RAW: Progress(9, 9, 10, 10)})
    assert "event loop" in str(w.trouble(60))
    w.beat(rebalancing=False)
    assert w.trouble(60) is None
    for _ in range(61):
        clock.now += 1
        w.beat(rebalancing=False)
    assert "broker" in str(w.trouble(60))
    live(w, clock, 61, 9, 10, 10, rebalancing=True)
    assert "rebalance" in str(w.trouble(60))


def test_it_is_not_ready_before_partitions_are_assigned() -> None:
    w, clock = watchdog()
    assert w.ready() is not None
    live(w, clock, 2, 9, 10, 10, rebalancing=True)
    assert w.ready() is not None
    live(w, clock, 2, 9, 10, 10)
    assert w.ready() is None


def test_a_partition_that_went_elsewhere_is_not_missed() -> None:
    w, clock = watchdog()
    live(w, clock, 50, 9, 10, 500)
    for _ in range(100):
        clock.now += 1
        w.beat(rebalancing=False)
        w.saw({})
    assert w.trouble(60) is None


def test_the_thread_calls_the_end_when_nothing_moves() -> None:
    ended = threading.Event()
    reasons: list[str] = []

    def end(reason: str) -> None:
        reasons.append(reason)
        ended.set()

    w = Watchdog(WatchdogSettings(stalled_s=0.05, unready_s=0.02, look_s=0.01), exit=end)
    w.start()
    assert ended.wait(60)
    assert "event loop" in reasons[0]


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_the_monitor_answers_red_while_the_loop_hangs() -> None:
    w, clock = watchdog()
    registry = CollectorRegistry()
    Counter("tilannekuva_messages", "x", registry=registry).inc(3)
    with Monitor([w], registry, 0) as monitor:
        assert ask(monitor.port, "/readyz")[0] == 503
        live(w, clock, 2, 9, 10, 10)
        assert ask(monitor.port, "/readyz") == (200, '{"status": "ok"}\n')
        assert ask(monitor.port, "/healthz")[0] == 200
        assert "tilannekuva_messages_total 3.0" in ask(monitor.port, "/metrics")[1]
        clock.now += 30
        status, body = ask(monitor.port, "/readyz")
        assert (status, json.loads(body)["status"]) == (503, "failing")
        assert "event loop" in body
        assert ask(monitor.port, "/healthz")[0] == 200
        clock.now += 40
        assert ask(monitor.port, "/healthz")[0] == 503
        assert ask(monitor.port, "/table")[0] == 404


def test_one_that_is_not_well_makes_the_whole_process_red() -> None:
    w, clock = watchdog()
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    live(w, clock, 2, 9, 10, 10)
    with Monitor([pulse, w], CollectorRegistry(), 0) as monitor:
        assert ask(monitor.port, "/healthz")[0] == 200
        now[0] = 31
        assert ask(monitor.port, "/healthz") == (503, '{"status": "failing", "reason": "the event loop has not run for 31 s"}\n')
