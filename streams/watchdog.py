"""Is the worker alive *and* getting on? A thread beside the event loop looks, dumps all stacks and ends the process when it is not.

A green light means progress: Faust and aiokafka can sit alive and silent (``docs/flow.md``). What counts is what the broker says beside the worker's own clients: where the
log ends, and what the group has committed.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

log = logging.getLogger("tilannekuva.watchdog")


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    """When a worker counts as stalled. Wall clock, seconds. All together a stall ends within 90 s."""

    #: A partition with unread or uncommitted messages on which nothing has moved for so long, or durable ones that the group's coordinator takes no commit of. Shorter than
    #: the slowest snapshot ends healthy workers.
    stalled_s: float = 60.0
    #: The same for readiness.
    unready_s: float = 20.0
    #: How often the thread looks.
    look_s: float = 5.0
    #: So many times as long a partition may wait for the broker while it takes what other partitions write, or has told us to wait: it is slow then, and each has its turn.
    turns: float = 5.0


class Progress(NamedTuple):
    """How far a partition is."""

    fed: int  #: last offset in the state
    durable: int  #: last offset that is durable and acked
    committed: int  #: offset that the group has committed
    end: int  #: of the log
    taken: int = 0  #: how much of what it wrote the broker has taken so far; any unit
    waiting: bool = False  #: there is more that the broker has not taken yet


@dataclass
class _Seen:
    """What a partition was last seen at."""

    mark: tuple[int, int, int]  #: last offset in the state, committed offset, what the broker has taken
    since_s: float
    turn_s: float  #: the same; later where it waited for the broker, and that took what others wrote or had told us to wait
    committed_s: float  #: since when what is durable here has not been committed


@dataclass
class Watchdog:
    """Takes what the worker tells it; decides. ``now_s`` is a monotonic clock; nothing here touches Kafka."""

    settings: WatchdogSettings = field(default_factory=WatchdogSettings)
    now_s: Callable[[], float] = time.monotonic
    exit: Callable[[str], None] | None = None  #: what to do on a stall

    def __post_init__(self) -> None:
        now = self.now_s()
        self.beat_s = now  #: the event loop ran
        self.broker_s = now  #: the broker answered a question
        self.beats = self.broker_beats = 0  #: so far, and at that answer
        self.settled_s = now  #: the last time that no rebalance was under way
        self.ready_s: float | None = None  #: partitions are assigned and recovered since
        self.throttled_s = now  #: until then the broker reads nothing of what we write, as it said (KIP-219)
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._lag: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    # ------------------------------------------------------ told by the worker

    def beat(self, *, rebalancing: bool) -> None:
        """From the event loop, about twice a second."""
        now = self.now_s()
        self.beat_s, self.beats = now, self.beats + 1
        if rebalancing:
            self.ready_s = None
        else:
            self.settled_s = now
            self.ready_s = self.ready_s if self.ready_s is not None else now

    def throttled(self, for_s: float) -> None:
        """The broker has taken a request and said that it will take none for so long, seconds: a quota."""
        self.throttled_s = max(self.throttled_s, self.now_s() + for_s)

    def saw(self, partitions: dict[tuple[str, int], Progress]) -> None:
        """The broker answered: so far are the partitions that are assigned here."""
        now = self.now_s()
        with self._lock:
            self.broker_s, self.broker_beats = now, self.beats
            takes = any(tp in self._seen and p.taken != self._seen[tp].mark[2] for tp, p in partitions.items())
            for tp, p in partitions.items():
                mark, seen = (p.fed, p.committed, p.taken), self._seen.get(tp)
                if seen is None:
                    self._seen[tp] = _Seen(mark, now, now, now)
                    continue
                if seen.mark != mark or p.committed >= p.end:
                    seen.since_s = seen.turn_s = now
                elif p.waiting and (takes or now <= self.throttled_s):
                    seen.turn_s = now
                if seen.mark[1] != p.committed or p.committed > p.durable:
                    seen.committed_s = now
                seen.mark = mark
            for gone in set(self._seen) - set(partitions):
                del self._seen[gone]
            self._lag = {tp: max(0, p.end - p.committed) for tp, p in partitions.items()}

    # ------------------------------------------------------------------ answers

    def trouble(self, limit_s: float) -> str | None:
        """What has not moved for more than ``limit_s``, as a sentence; None when all is well.

        A process that gets too little of the processor asks late and hears late: that is slow, not stalled, and to start it anew would make it slower. So a silence of the
        broker counts when the event loop was there to hear it, and partitions are judged by what the broker said last.
        """
        now = self.now_s()
        if now - self.beat_s > limit_s:
            return f"the event loop has not run for {now - self.beat_s:.0f} s"
        if now - self.broker_s > limit_s and self.beats - self.broker_beats >= limit_s:  # half of those that it should be
            return f"the broker has not answered for {now - self.broker_s:.0f} s"
        if now - self.settled_s > limit_s:
            return f"a rebalance has been under way for {now - self.settled_s:.0f} s"
        with self._lock:
            for (topic, partition), seen in sorted(self._seen.items()):
                lag = self._lag.get((topic, partition), 0)
                if self.broker_s - seen.turn_s > limit_s or self.broker_s - seen.since_s > limit_s * self.settings.turns:
                    return f"{topic}-{partition}: nothing moved for {self.broker_s - seen.since_s:.0f} s with {lag} messages not committed"
                if self.broker_s - seen.committed_s > limit_s:
                    return f"{topic}-{partition}: what is durable has not been committed for {self.broker_s - seen.committed_s:.0f} s; {lag} messages behind"
        return None

    def alive(self) -> str | None:
        """Why it should be ended; None when all is well."""
        return self.trouble(self.settings.stalled_s)

    def lag(self) -> dict[tuple[str, int], int]:
        """Messages that are not committed, by partition."""
        with self._lock:
            return dict(self._lag)

    def ready(self) -> str | None:
        """Why it is not ready; None when it is."""
        if self.ready_s is None:
            return "no partitions yet: a rebalance is under way"
        return self.trouble(self.settings.unready_s)

    # ------------------------------------------------------------------- thread

    def start(self) -> None:
        """Look from a daemon thread, so that a dead event loop is seen too."""
        faulthandler.enable()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self.settings.look_s):
            found = self.trouble(self.settings.stalled_s)
            if found is not None and not self._over.is_set():
                log.critical("stalled: %s", found)
                faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
                if self.exit is not None:
                    self.exit(found)
                return
