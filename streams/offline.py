"""The offline driver: envelopes of a recording or an archive through the same observers and the same fuse step, without Kafka and without a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from connectors.cities import City
from connectors.envelope import Envelope
from geo.network import Network
from models.profile import Profile
from streams import partial as wire
from streams.cells import WINDOW_MS
from streams.fuse import Fuser, FuseSettings
from streams.ground import Ground, ObserveSettings, Tally
from streams.observe import Observer
from streams.outputs import Outputs

#: Log time between two flushes of an observer, milliseconds. Provisional records can be no fresher.
FLUSH_MS = 1_000
#: Log time of a partition that a replay takes together, milliseconds: nobody waits for it, and larger batches cost less a message.
GATHER_MS = 2_000


@dataclass
class Run:
    """Observers and fuse step of one city, driven in log order."""

    city: City
    network: Network
    observe: ObserveSettings = field(default_factory=ObserveSettings)
    fuse: FuseSettings = field(default_factory=FuseSettings)
    raw_prefix: str = ""
    profile: Profile | None = None

    def __post_init__(self) -> None:
        self.fuser = Fuser(self.city, self.network, self.fuse, self.profile)
        ground = Ground(self.network, self.observe)
        self.observers = {
            (f.name, p): Observer(self.city, f.name, p, ground, raw_topic=f"{self.raw_prefix}raw.{self.city.raw_city}.{f.name}")
            for f in self.city.feeds
            for p in range(f.partitions)
        }
        self._flushed: dict[tuple[str, int], int] = {}
        self._offset: dict[tuple[str, int], int] = {}
        self._waiting: dict[tuple[str, int], list[tuple[Envelope, int]]] = {}
        self._partials = 0
        self.last_ms = 0

    def feed(self, feed: str, partition: int, envelope: Envelope) -> Outputs:
        """One envelope of one raw partition, in the order of the log."""
        self._take(feed, partition, envelope)
        return self._feed((feed, partition))

    def gather(self, feed: str, partition: int, envelope: Envelope) -> Outputs:
        """As ``feed``, but the observer gets ``GATHER_MS`` of it together: the same records, later by that, for half the time."""
        key = (feed, partition)
        self._take(feed, partition, envelope)
        return self._feed(key) if envelope.ingest_ms - self._flushed.get(key, 0) >= GATHER_MS else Outputs()

    def _take(self, feed: str, partition: int, envelope: Envelope) -> None:
        key = (feed, partition)
        offset = self._offset[key] = self._offset.get(key, -1) + 1
        self._waiting.setdefault(key, []).append((envelope, offset))
        self.last_ms = max(self.last_ms, envelope.ingest_ms)

    def _feed(self, key: tuple[str, int]) -> Outputs:
        observer = self.observers[key]
        out = observer.feed_envelopes(self._waiting.pop(key, []))
        if observer.log_ms - self._flushed.get(key, 0) >= FLUSH_MS:
            out.extend(self._flush(key))
        return out

    def finish(self) -> Outputs:
        """The log has ended: time moves on until every window is final."""
        out = Outputs()
        for key in self.observers:
            out.extend(self._feed(key))
        end_ms = end_of_log(self.last_ms, self.observe.lateness_ms)
        for key, observer in self.observers.items():
            observer.idle(end_ms)
            out.extend(self._flush(key))
        return out

    def _flush(self, key: tuple[str, int]) -> Outputs:
        observer = self.observers[key]
        self._flushed[key] = observer.log_ms
        out = self.fuser.feed(wire.decode(observer.flush()), self._partials)
        self._partials += 1
        return out

    def tally(self) -> dict[str, Tally]:
        """What happened to the events, by feed."""
        totals: dict[str, Tally] = {}
        for (feed, _), observer in self.observers.items():
            totals.setdefault(feed, Tally()).add(observer.tally)
        return {f: t for f, t in totals.items() if t.events or t.accepted}


def end_of_log(last_ms: int, lateness_ms: int) -> int:
    """Log time at which every window that an event up to ``last_ms`` may belong to is final (clocks may run 2 minutes fast).

    >>> end_of_log(60_000, 90_000) % WINDOW_MS, end_of_log(60_000, 90_000) > 60_000 + 120_000 + 90_000
    (1, True)
    """
    return ((last_ms + 120_000 + lateness_ms) // WINDOW_MS + 2) * WINDOW_MS + 1


def replay(run: Run, envelopes: Iterable[tuple[str, int, Envelope]], progress: Callable[[int], None] | None = None) -> Iterator[Outputs]:
    """Outputs of a whole log, envelope by envelope, and those of its end. ``progress`` gets the log time, milliseconds."""
    for feed, partition, envelope in envelopes:
        out = run.gather(feed, partition, envelope)
        if progress is not None:
            progress(envelope.ingest_ms)
        if out.records:
            yield out
    yield run.finish()
