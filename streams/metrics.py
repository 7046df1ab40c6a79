"""What Prometheus sees of a worker: read from the records that it writes, so that a figure on a wall and a record on a topic cannot disagree.

Names follow the naming rules of Prometheus (base units, ``_total`` on counters). The alert rules are in ``deploy/prometheus``, what to do about them in ``docs/runbook.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from streams.outputs import Block, Out, Outputs, parts

#: In order of badness; the gauge of a feed's state is the place in this list.
FEED_STATES = ("ok", "degraded", "stale", "empty", "dead")
LATENCY_BUCKETS_S = (0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 30, 60, 120, 300)


class _Rejected(msgspec.Struct):
    feed: str
    reason: str


class _Health(msgspec.Struct):
    feed: str
    state: str
    lag_p95_s: float | None = None
    gap_s: float | None = None
    reject_ratio: float | None = None
    messages_s: float = 0.0


class _Area(msgspec.Struct):
    area_kind: str
    coverage_pct: float
    travel_time_index: float | None = None


class WorkerMetrics:
    """Figures of all cities of one process.

    Args:
        registry: where they are kept.
        now_s: wall clock, for latencies; nothing that is published depends on it.
    """

    def __init__(self, registry: CollectorRegistry, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"tilannekuva_{name}", what, labels, registry=registry)

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"tilannekuva_{name}", what, labels, registry=registry)

        self.messages = counter("messages_total", "Messages fed to a step", "city", "owner")
        self.records = counter("records_total", "Records written", "city", "product")
        self.matched = counter("matched_positions_total", "Vehicle positions on a street segment", "city")
        self.rejected = counter("rejected_total", "Events refused", "city", "feed", "reason")
        self.lost = counter("lost_messages_total", "Messages gone before they were read", "city", "owner")
        self.log_time = gauge("log_time_seconds", "Log time of a partition, Unix time", "city", "owner")
        self.snapshot = gauge("snapshot_offset", "Offset of the last durable snapshot", "city", "owner")
        self.snapshot_time = gauge("snapshot_log_time_seconds", "Log time of the last snapshot, Unix time", "city", "owner")
        self.pending = gauge("pending_messages", "Messages fed and not yet acked", "city", "owner")
        self.lag = gauge("lag_messages", "Messages not yet committed", "city", "topic", "partition")
        self.latency = Histogram(
            "tilannekuva_latency_seconds",
            "From the receipt of the newest event of a message to its records written",
            ("city", "step"),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.feed_state = gauge("feed_state", "0 ok, 1 degraded, 2 stale, 3 empty, 4 dead", "city", "feed")
        self.feed_lag = gauge("feed_lag_p95_seconds", "Receipt minus the sender's time, 95 % quantile of 15 s", "city", "feed")
        self.feed_gap = gauge("feed_gap_seconds", "Since the last message of a feed", "city", "feed")
        self.feed_rejects = gauge("feed_reject_ratio", "Part of a feed's events that was refused in 15 s", "city", "feed")
        self.feed_messages = gauge("feed_messages_per_second", "Messages of a feed in 15 s", "city", "feed")
        self.coverage = gauge("measured_ratio", "Part of the city's vehicle-kilometres that was measured, now or lately", "city")
        self.travel_time_index = gauge("travel_time_index", "Travel time in the city over that in free flow", "city")
        self._taken: dict[str, Callable[[str, Sequence[Out]], None]] = {
            "vehicle-position": self._positions,
            "dead-letter": self._dead_letters,
            "feed-health": self._health,
            "area-state": self._areas,
        }

    def wrote(self, city: str, outputs: Outputs) -> None:
        """Take note of what is being written."""
        for product, outs in outputs.records.items():
            self.records.labels(city, product).inc(len(outs))
            if (take := self._taken.get(product)) is not None:
                take(city, outs)

    def fed(self, city: str, owner: str, log_ms: int) -> None:
        """A message has been worked off whose newest event came at ``log_ms``."""
        self.messages.labels(city, owner).inc()
        self.latency.labels(city, owner.partition("/")[0]).observe(max(0.0, self._now_s() - log_ms / 1000))

    def _positions(self, city: str, outs: Sequence[Out]) -> None:
        for part in parts(outs):
            n = part.saying('"segment_id":') if isinstance(part, Block) else sum(b'"segment_id":' in o.value for o in part)
            self.matched.labels(city).inc(n)

    def _dead_letters(self, city: str, outs: Sequence[Out]) -> None:
        for o in outs:
            r = msgspec.json.decode(o.value, type=_Rejected)
            self.rejected.labels(city, r.feed, r.reason).inc()

    def _health(self, city: str, outs: Sequence[Out]) -> None:
        for o in outs:
            h = msgspec.json.decode(o.value, type=_Health)
            self.feed_state.labels(city, h.feed).set(FEED_STATES.index(h.state))
            self.feed_messages.labels(city, h.feed).set(h.messages_s)
            for gauge, value in ((self.feed_lag, h.lag_p95_s), (self.feed_gap, h.gap_s), (self.feed_rejects, h.reject_ratio)):
                gauge.labels(city, h.feed).set(float("nan") if value is None else value)

    def _areas(self, city: str, outs: Sequence[Out]) -> None:
        for o in outs:
            a = msgspec.json.decode(o.value, type=_Area)
            if a.area_kind == "city":
                self.coverage.labels(city).set(a.coverage_pct / 100)
                if a.travel_time_index is not None:
                    self.travel_time_index.labels(city).set(a.travel_time_index)
