"""Replays: a recording or an archive through the core, into files or into Kafka topics of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from connectors import recordings
from connectors.cities import City
from connectors.envelope import SCHEMA, Envelope, Source, encode, headers
from connectors.kafka import make_producer
from geo.network import Network
from geo.store import segments_geojson
from models.clock import rfc3339
from models.emissions.fleet import read_fleet
from models.emissions.lookup import NoSuchRow
from models.errors import ConfigError
from models.explain import STANDS, Evidence, decode
from models.profile import Profile
from models.topics import raw_topic
from streams import manifest
from streams.admin import ensure_topics
from streams.archive_log import ArchivedLog, is_archive
from streams.bar import Bar
from streams.emissions import EmissionSettings
from streams.fleets import listed, split
from streams.fuse import FuseSettings
from streams.ground import ObserveSettings
from streams.offline import Run, end_of_log
from streams.offline import replay as drive
from streams.tables import ParquetSink
from streams.whatif import Parameters

log = logging.getLogger(__name__)
#: Products of the emission step, of lines and of the day.
EMISSIONS = ("emission-segment", "emission-area", "emission-vehicle", "area-state", "line-fluency", "city-day")
#: No provisional rounds: only finals are written.
NEVER_MS = 1 << 60
#: Recordings are thin, and how they are cut changes no final: longer envelopes than a live connector's cost less.
WAIT_MS = 2_000


def log_of(
    paths: Sequence[str | Path], city: City, *, max_items: int, simulated: bool, days: Sequence[str] = ()
) -> Iterator[tuple[str, int, Envelope]]:
    """Envelopes and ticks of recordings or of an archive, in log order, on all raw partitions of the city.

    Args:
        paths: recordings; or one archive, whose envelopes are as they were written.
        max_items: most messages in an envelope that is made of recordings.
        simulated: say that all of it is.
        days: UTC days of receipt, of an archive.

    Raises:
        ConfigError: not a recording, or of a feed that the city does not have; an archive among other things, or without raw rows of the city.
    """
    found = _archived(paths, city, days) or _recorded([Path(p) for p in paths], city, max_items)
    for feed, partition, envelope in found:
        yield feed, partition, msgspec.structs.replace(envelope, simulated=True) if simulated else envelope


def _archived(paths: Sequence[str | Path], city: City, days: Sequence[str]) -> ArchivedLog | None:
    if not any(is_archive(p) for p in paths):
        if days:
            raise ConfigError("command line", "--day", ", ".join(days), "an archive: recordings are replayed whole")
        return None
    if len(paths) > 1:
        raise ConfigError("command line", "PATH", " ".join(map(str, paths)), "one archive, or recordings alone")
    return ArchivedLog(paths[0], city, days)


def _recorded(paths: Sequence[Path], city: City, max_items: int) -> Iterator[tuple[str, int, Envelope]]:
    plan = recordings.plan(list(paths), city)
    feeds = [f.name for f in city.feeds]
    return recordings.envelopes(recordings.read(plan, city), city, feeds, max_items=max_items, max_wait_ms=WAIT_MS)


def with_fleet(path: Path | None) -> FuseSettings:
    """Settings of the fuse step with the fleet of a CSV file, the city's own without one.

    Raises:
        ConfigError: a fleet that cannot be read, or that names vehicles which the tables do not have.
    """
    if path is None:
        return FuseSettings()
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            fleet = read_fleet(stream, path.stem)
        split(fleet, "helsinki", date(2026, 1, 1))
    except (NoSuchRow, ValueError) as e:
        raise ConfigError("command line", "--fleet", path.name, f"a fleet that the factor tables know ({e})") from e
    return FuseSettings(emissions=EmissionSettings(fleet=fleet))


def to_folder(
    paths: Sequence[str | Path], city: City, network: Network, folder: Path, *, provisional: bool = False, max_items: int = 200,
    simulated: bool = False, observe: ObserveSettings | None = None, fuse: FuseSettings | None = None, days: Sequence[str] = (),
    profile: Profile | None = None, like: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """One Parquet file a product, ``segments.geojson``, ``summary.json`` and ``manifest.json``. Returns the summary as text for people.

    Raises:
        ConfigError: what goes in is not what went into the run whose manifest is ``like``.
    """
    parameters = Parameters(observe or ObserveSettings(), fuse or FuseSettings())
    archived = _archived(paths, city, days)
    inputs = archived.hashes() if archived is not None else manifest.files([Path(p) for p in paths])
    options = {"simulated": simulated, "provisional": provisional, "days": sorted(days), "envelope": max_items}
    made = manifest.manifest(inputs, city, network, parameters, options, profile)
    if like is not None and (other := manifest.must_be_like(made, like)):
        log.warning("the bytes may differ: other %s than in that run", ", ".join(other))
    if not provisional:
        parameters = dataclasses.replace(parameters, fuse=dataclasses.replace(parameters.fuse, provisional_ms=NEVER_MS))
    run = Run(city, network, parameters.observe, parameters.fuse, profile=profile)
    envelopes = log_of(paths, city, max_items=max_items, simulated=simulated, days=days)
    sink = ParquetSink(folder, {"city": city.name, "licence": city.licence, "attribution": city.attribution})
    with Bar(envelopes, *_length(paths, archived)) as bar:
        for out in drive(run, bar):
            for product, outs in out.records.items():
                sink.add(product, outs)
    sink.close(("segment-state", "vehicle-position", "sensor-observation", "feed-health", "dead-letter", "late", *EMISSIONS))
    factors = listed(run.fuser.emitter.rates())
    (folder / "emission-factors.json").write_text(json.dumps(factors, indent=1, sort_keys=True) + "\n")
    (folder / "segments.geojson").write_bytes(segments_geojson(network))
    summary: dict[str, Any] = {
        "city": city.name,
        "network": network.version,
        "simulated": simulated or run.fuser.simulated,
        "log_end": rfc3339(run.last_ms),
        "records": dict(sorted(sink.counts.items())),
        "feeds": {feed: {k: getattr(t, k) for k in t.__slots__} for feed, t in run.tally().items()},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    manifest.write(manifest.with_outputs(made, folder), folder)
    lines = [f"{folder}: " + ", ".join(f"{n:,} {p}" for p, n in sorted(sink.counts.items()))]
    for feed, t in run.tally().items():
        lines.append(f"  {feed}: " + ", ".join(f"{getattr(t, k):,} {k}" for k in t.__slots__))
    return "\n".join(lines)


def evidence_of_recording(paths: Sequence[Path], city: City, network: Network, window: int) -> list[Evidence]:
    """Evidence of the minutes up to ``window`` that a record of it may stand on, from a recording through the whole core."""
    fuse = dataclasses.replace(FuseSettings(), provisional_ms=NEVER_MS, evidence=True)
    heard: list[Evidence] = []
    for out in drive(Run(city, network, ObserveSettings(), fuse), log_of(paths, city, max_items=200, simulated=False)):
        minutes = [int(o.key.partition(b":")[0]) for o in out.records.get("evidence", ())]
        heard += [decode(o.value) for o, w in zip(out.records.get("evidence", ()), minutes, strict=True) if window - STANDS < w <= window]
        if minutes and max(minutes) > window:
            break
    return heard


def _length(paths: Sequence[str | Path], archived: ArchivedLog | None) -> tuple[int, bool]:
    """How long a log is, and whether that counts messages of an archive; else bytes of recordings, of which the messages are the most part."""
    if archived is not None:
        return archived.rows(), True
    files = (f for p in map(Path, paths) for f in (p.rglob("*") if p.is_dir() else [p]))
    return sum(f.stat().st_size for f in files if f.is_file()), False


async def to_kafka(
    paths: Sequence[str | Path],
    city: City,
    bootstrap: str,
    run: str,
    *,
    speed: float | None,
    max_items: int,
    simulated: bool,
    stop: asyncio.Event,
    go: asyncio.Event | None = None,
    days: Sequence[str] = (),
) -> None:
    """The envelopes onto raw topics of the run, and at the end the ticks that close every window.

    Args:
        speed: times as fast as they were received; None: as fast as it goes.
        stop: set to end early: the rest is not sent, and no window is closed.
        go: while it is cleared the replay pauses; log time stands still with it.
    """
    prefix, archived = f"replay.{run}.", _archived(paths, city, days)
    await ensure_topics(bootstrap, city, prefix)
    producer = make_producer(bootstrap, f"tilannekuva-replay-{run}")
    await producer.start()
    try:
        sent: list[Any] = []
        pace, last_ms = Pace(speed, stop, go), 0
        for feed, partition, e in Bar(log_of(paths, city, max_items=max_items, simulated=simulated, days=days), *_length(paths, archived)):
            if not await pace.wait(e.ingest_ms):
                break
            sent.append(await _send(producer, raw_topic(city.raw_city, feed, prefix), partition, e))
            last_ms = max(last_ms, e.ingest_ms)
            if len(sent) >= 1000:
                await asyncio.gather(*sent)
                sent = []
        await asyncio.gather(*sent)
        if last_ms and not stop.is_set():
            end_ms = end_of_log(last_ms, ObserveSettings().lateness_ms)
            for f in city.feeds:
                for p in range(f.partitions):
                    tick = Envelope(SCHEMA, city.name, f.name, f.family, "tick", end_ms, (), Source(), simulated)
                    await (await _send(producer, raw_topic(city.raw_city, f.name, prefix), p, tick))
    finally:
        await producer.stop()


class Pace:
    """When an envelope of a replay is due.

    Args:
        speed: times as fast as it was received; None or 0: at once.
        stop, go: as in ``to_kafka``.
    """

    LOOK_S = 0.2  #: so often it looks whether to pause

    def __init__(self, speed: float | None, stop: asyncio.Event, go: asyncio.Event | None = None) -> None:
        self.speed, self.stop, self.go = speed, stop, go
        self._begin_s, self._first_ms = asyncio.get_running_loop().time(), -1

    async def wait(self, ingest_ms: int) -> bool:
        """Until it is due; False, and at once, when told to stop."""
        now_s = asyncio.get_running_loop().time
        self._first_ms = ingest_ms if self._first_ms < 0 else self._first_ms
        while not self.stop.is_set():
            if self.go is not None and not self.go.is_set():
                paused_s = now_s()
                await self._sleep(self.LOOK_S)
                self._begin_s += now_s() - paused_s
                continue
            due_s = self._begin_s + (ingest_ms - self._first_ms) / 1000 / self.speed if self.speed else 0.0
            if due_s <= now_s():
                return True
            await self._sleep(min(due_s - now_s(), self.LOOK_S))
        return False

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), max(seconds, 0.001))


async def _send(producer: Any, topic: str, partition: int, e: Envelope) -> Any:
    return await producer.send(topic, encode(e), partition=partition, timestamp_ms=e.ingest_ms, headers=headers(e))
