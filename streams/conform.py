"""The conformance kit: a city's recordings through the same core as the live feeds, and a table of what became of every message.

What breaks a contract is named, and makes the command fail: a record that its published schema refuses, a Kafka key that is not the one of the topic's table, an
id used for two different records, an event without a fate, a feed of which nothing could be read. What is merely refused, late or elsewhere is counted.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from connectors import recordings
from connectors.cities import City
from connectors.columns import Parsed
from connectors.envelope import Envelope, Item
from connectors.families import Parser
from geo import assemble, store
from geo.network import Network, Schedule
from geo.project import Plane
from models.arrow import RECORDS
from models.clock import parse_ms
from models.records import FeedHealth
from models.schemas import schema
from models.topics import PRODUCTS
from streams.fuse import FuseSettings
from streams.health import SLOT_MS
from streams.offline import Run, replay
from streams.outputs import TOMBSTONE, Out, Outputs

#: Of more records than this of one product, every so many-th is checked against the schema.
MOST_CHECKED = 20_000
#: After a longer silence than this the core starts anew, milliseconds.
SILENCE_MS = 3 * 3_600_000
#: Faults of one kind that are shown in full.
SHOWN = 3


@dataclass(slots=True)
class FeedCounts:
    """What became of one feed's messages. ``events`` is the sum of what follows it, up to ``passed``."""

    messages: int = 0  #: MQTT messages or documents
    events: int = 0  #: what they told: vehicles, readings, statements, places
    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  #: by reason
    late: int = 0
    elsewhere: int = 0  #: of another city
    waiting: int = 0  #: readings of sites that no list has told of yet
    secondary: int = 0  #: of the accepted positions: not published, since a better feed told of the vehicle
    places: int = 0  #: sites of counting stations and the like: known from now on, not published
    passed: Counter[str] = field(default_factory=Counter)  #: understood and left out on purpose, by reason
    on_streets: int = 0  #: positions matched to a segment
    lag_ms: list[int] = field(default_factory=list)  #: ingest minus event time of what was published

    def unaccounted(self) -> int:
        """Events without a fate; anything but 0 is our own bug."""
        fates = (
            self.accepted
            + self.duplicates
            + sum(self.rejected.values())
            + self.late
            + self.elsewhere
            + self.waiting
            + self.places
            + sum(self.passed.values())
        )
        return self.events - fates


@dataclass(slots=True)
class ProductCounts:
    """One product's records."""

    records: int = 0
    checked: int = 0
    invalid: int = 0
    filled: Counter[str] = field(default_factory=Counter)  #: records that hold a field


@dataclass(slots=True)
class Report:
    """The table, and what is wrong."""

    city: str
    network: str
    feeds: dict[str, FeedCounts] = field(default_factory=dict)
    products: dict[str, ProductCounts] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    skipped: tuple[Path, ...] = ()
    last_ms: int = 0  #: ingest time of the last message or tick
    health: dict[str, FeedHealth] = field(default_factory=dict)  #: of each feed at the end of the log

    @property
    def ok(self) -> bool:
        return not self.faults


class _Watched:
    """A parser that counts what it gives."""

    def __init__(self, inner: Parser, counts: FeedCounts) -> None:
        self._inner, self._counts = inner, counts

    def parse(self, envelope: Envelope) -> Parsed:
        parsed = self._inner.parse(envelope)
        c = self._counts
        told = len(parsed.stated) + len(parsed.rejects)
        told += sum(len(x) for x in (parsed.vehicles, parsed.sensors) if x is not None)
        c.places += max(parsed.events - told, 0)
        c.passed.update(parsed.passed)
        c.events += max(parsed.events, told) + sum(parsed.passed.values())
        return parsed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def conform(city: City, paths: Iterable[Path], network: Network | None = None) -> Report:
    """Run recordings through the core.

    Args:
        network: None: nothing is matched, and the table says so.

    Raises:
        ConfigError: not a recording, or of a feed that the city does not have.
    """
    plan = recordings.plan(list(paths), city)
    report = Report(city.name, "none: nothing is matched" if network is None else f"{network.source}, {len(network.segments):,} segments")
    report.skipped = plan.skipped
    network = network or nowhere(city)
    report.feeds = {f: FeedCounts() for f in (*plan.feeds, *(f.name for f in city.feeds))}
    checks = _Checks(report)
    sites: dict[tuple[str, int], list[Any]] = {}
    for items in _stretches(recordings.read(plan, city)):
        log = recordings.envelopes(items, city, [f.name for f in city.feeds])
        run = _through(log, city, network, report, checks, sites)
        sites = {key: observer.sensors.export()["sites"] for key, observer in run.observers.items()}
    return _judged(report, checks)


def conform_log(city: City, log: Iterable[tuple[str, int, Envelope]], network: Network | None = None) -> Report:
    """Run what connectors wrote through the core: feed, raw partition and envelope, in the order of the log."""
    report = Report(city.name, "none: nothing is matched" if network is None else f"{network.source}, {len(network.segments):,} segments")
    report.feeds = {f.name: FeedCounts() for f in city.feeds}
    checks = _Checks(report)
    _through(log, city, network or nowhere(city), report, checks, {})
    return _judged(report, checks)


def _through(
    log: Iterable[tuple[str, int, Envelope]],
    city: City,
    network: Network,
    report: Report,
    checks: _Checks,
    sites: dict[tuple[str, int], list[Any]],
) -> Run:
    run = Run(city, network, fuse=FuseSettings(provisional_ms=1 << 60))
    for key, observer in run.observers.items():
        observer.parser = _Watched(observer.parser, report.feeds[key[0]])
        if sites.get(key):
            observer.sensors.restore({"sites": sites[key], "last": {}, "listed": True, "waiting": [], "superseded": 0})
    for out in replay(run, _counted(log, report)):
        checks.take(out)
    _fates(run, report)
    return run


def _judged(report: Report, checks: _Checks) -> Report:
    report.feeds = {f: c for f, c in report.feeds.items() if c.messages}
    for name, counts in report.feeds.items():
        if unaccounted := counts.unaccounted():
            report.faults.append(f"{name}: {unaccounted} events without a fate")
        if counts.events and sum(counts.rejected.values()) == counts.events:
            report.faults.append(f"{name}: nothing could be read")
    report.faults += checks.faults()
    report.health = checks.health(report.last_ms)
    return report


def _stretches(items: Iterator[tuple[str, Item]]) -> Iterator[list[tuple[str, Item]]]:
    """Messages without long silences between them. Recordings of different years are runs of their own, in which only the places of stations are known from before."""
    stretch: list[tuple[str, Item]] = []
    for named in items:
        if stretch and named[1].ingest_ms - stretch[-1][1].ingest_ms > SILENCE_MS:
            yield stretch
            stretch = []
        stretch.append(named)
    if stretch:
        yield stretch


def _counted(log: Iterable[tuple[str, int, Envelope]], report: Report) -> Iterator[tuple[str, int, Envelope]]:
    for feed, partition, envelope in log:
        report.feeds[feed].messages += len(envelope.items)
        report.last_ms = max(report.last_ms, envelope.ingest_ms)
        yield feed, partition, envelope


def _fates(run: Run, report: Report) -> None:
    for (name, _), o in run.observers.items():
        c = report.feeds[name]
        c.accepted += o.tally.accepted
        c.duplicates += o.tally.duplicates
        c.late += o.tally.late
        c.on_streets += o.tally.matched
        c.elsewhere += o.elsewhere + o.sensors.elsewhere + o.statements.elsewhere
        c.waiting += len(o.sensors.waiting) + o.sensors.superseded
    for name, (_, withheld) in run.fuser.choice.totals.items():
        report.feeds[name].secondary += withheld


class _Checks:
    """Every published record against the contract of its product."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._validators: dict[str, Any] = {}
        self._bad: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()
        self._seen: dict[str, int] = {}  #: id -> CRC-32 of its record
        self._health: list[FeedHealth] = []

    def health(self, last_ms: int) -> dict[str, FeedHealth]:
        """The last record of each feed that tells of the log and not of the time after it."""
        return {h.feed: h for h in self._health if parse_ms(h.event_time) < last_ms + SLOT_MS}

    def take(self, out: Outputs) -> None:
        for product, outs in out.records.items():
            if product == "dead-letter":
                for o in outs:
                    dead = msgspec.json.decode(o.value)
                    self._report.feeds[dead["feed"]].rejected[dead["reason"]] += 1
            if product == "feed-health":
                self._health += [msgspec.json.decode(o.value, type=FeedHealth) for o in outs]
            counts = self._report.products.setdefault(product, ProductCounts())
            for o in outs:
                if o.value == TOMBSTONE:
                    continue
                counts.records += 1
                if counts.records <= MOST_CHECKED or counts.records % 50 == 0:
                    self._check(product, o, counts)

    def faults(self) -> list[str]:
        return [f"{kind} ({n} times): {'; '.join(self._bad[kind])}" for kind, n in sorted(self._counts.items())]

    def _check(self, product: str, o: Out, counts: ProductCounts) -> None:
        counts.checked += 1
        try:
            msgspec.json.decode(o.value, type=RECORDS[product])
            fields: dict[str, Any] = msgspec.json.decode(o.value)
        except msgspec.MsgspecError as e:
            counts.invalid += 1
            self._fault(f"{product}: not the record of its topic", f"{e}: {o.value[:120].decode('utf-8', 'replace')}")
            return
        counts.filled.update(fields.keys())
        if product not in PRODUCTS:
            return
        if product not in self._validators:
            self._validators[product] = _validator(product)
        problem = self._validators[product](fields)
        if problem is not None:
            counts.invalid += 1
            self._fault(f"{product}: refused by its schema", problem)
        key = ":".join(str(fields.get(part, "unknown")) for part in PRODUCTS[product].key.split(":"))
        if o.key.decode("utf-8", "replace") != key:
            self._fault(f"{product}: key is not {PRODUCTS[product].key}", f"{o.key!r} for {key}")
        content = zlib.crc32(o.value)
        if self._seen.setdefault(o.ce_id, content) != content and product not in ("segment-state", "feed-health"):
            self._fault(f"{product}: one id for two records", o.ce_id)
        when = fields.get("event_time") or fields.get("window_end")
        told_by = self._report.feeds.get(str(fields.get("feed")))
        if isinstance(when, str) and isinstance(fields.get("ingest_time"), str) and told_by is not None and product != "situation":
            told_by.lag_ms.append(parse_ms(fields["ingest_time"]) - parse_ms(when))

    def _fault(self, kind: str, example: str) -> None:
        self._counts[kind] += 1
        shown = self._bad.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(example[:300])


def _validator(product: str) -> Any:
    """A function that gives the first problem of a record by the published schema, or None."""
    import jsonschema  # type: ignore[import-untyped]  # checks more slowly than msgspec, and by the words that consumers are given

    inner = jsonschema.Draft202012Validator(schema(product))

    def first(fields: dict[str, Any]) -> str | None:
        error = next(iter(inner.iter_errors(fields)), None)
        return None if error is None else f"{'.'.join(map(str, error.absolute_path)) or 'record'}: {error.message}"

    return first


def nowhere(city: City) -> Network:
    """A network of one short street in a corner of the city's box, far from where anybody drives: for reading recordings before a real one is built."""
    east, north = Plane(city.crs).to_plane(np.array([city.box.south]), np.array([city.box.west]))
    a, b = (float(east[0]), float(north[0])), (float(east[0]) + 10.0, float(north[0]))
    segments = assemble.segments([assemble.Street("nowhere", np.array([a, b]), a, b, "service")])
    empty = assemble.shapes([], [], [], [])
    return store.versioned(
        Network(city.name, "", city.crs, segments, empty, Schedule({}, {}, {}), "none", "CC0-1.0", "Nobody", generated=True)
    )


def text(report: Report) -> str:
    """The table for people."""
    lines = [f"{report.city}   network: {report.network}", ""]
    head = (
        "feed",
        "messages",
        "events",
        "accepted",
        "matched",
        "secondary",
        "duplicates",
        "rejected",
        "late",
        "elsewhere",
        "waiting",
        "places",
        "left out",
        "lag p50",
        "lag p95",
    )
    rows: list[tuple[str, ...]] = [head]
    for name, c in report.feeds.items():
        lag = np.array(c.lag_ms or [0]) / 1000
        rows.append((
            name, f"{c.messages:,}", f"{c.events:,}", f"{c.accepted:,}", f"{c.on_streets:,}", f"{c.secondary:,}", f"{c.duplicates:,}", f"{sum(c.rejected.values()):,}", f"{c.late:,}",
            f"{c.elsewhere:,}", f"{c.waiting:,}", f"{c.places:,}", f"{sum(c.passed.values()):,}", *((f"{np.percentile(lag, q):.1f} s" if c.lag_ms else "-") for q in (50, 95)),
        ))  # fmt: skip
    lines += _columns(rows)
    for name, c in report.feeds.items():
        for what, reasons in (("rejected", c.rejected), ("left out", c.passed)):
            if reasons:
                lines.append(f"  {name} {what}: {', '.join(f'{r} {n:,}' for r, n in sorted(reasons.items()))}")
    lines.append("")
    rows = [("product", "records", "checked", "invalid", "fields filled")]
    for product, p in sorted(report.products.items()):
        shares = [(f, p.filled[f] / p.checked) for f in RECORDS[product].__struct_fields__ if p.checked]
        filled = ", ".join(f if s == 1 else f"{f} {s:.0%}" for f, s in shares if s > 0)
        rows.append((product, f"{p.records:,}", f"{p.checked:,}", f"{p.invalid:,}", filled))
    lines += _columns(rows)
    if report.skipped:
        lines += ["", f"no recordings of this city: {', '.join(p.name for p in report.skipped)}"]
    lines += ["", *([f"FAULT {f}" for f in report.faults] or ["every product keeps its contract"])]
    return "\n".join(lines)


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]) - 1)]
    return ["  ".join([r[0].ljust(widths[0]), *(r[k].rjust(widths[k]) for k in range(1, len(widths))), r[-1]]).rstrip() for r in rows]
