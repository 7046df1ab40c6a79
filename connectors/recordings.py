"""Recordings of feeds in files: read in order of receipt, and cut into the same envelopes and ticks that a live connector writes.

| file | is | received |
| --- | --- | --- |
| ``*.jsonl`` or ``*.ndjson`` with topic, payload, received_at | MQTT messages (HFP, Digitraffic, GTFS-RT by topic) | ``received_at`` |
| ``*.dump`` | HFP: receive time, topic, JSON a line | the first word |
| ``*.txt`` | HFP without receive time | running maximum of ``tst`` |
| ``*.pb`` | GTFS-RT snapshot | ``gtfs_rt_index.csv`` beside its folder, else ``_<epoch s>.pb``, else its header |
| ``*.json``, GTFS-RT | the same in protobuf's JSON, with header or as a bare list of entities | its header, else ``YYYYMMDDTHHMMSSZ`` in the name |
| ``*.json``, ``*.jsonl`` of TMS | stations, sensor constants, stations/data | ``dataUpdatedTime`` |
| ``*.json``, ``*.b64`` | Journeys, traffic lights, Föli, Oulunliikenne, Liipi, Digitraffic (``connectors/recorded.py``) | see there |
| ``*.xml``, ``*.xml.gz``, ``*.json`` | SIRI, DATEX II, GBFS (``connectors/documents.py``) | see there |

Where a city has several feeds of one family, the one is meant whose name is the folder's, or begins the file's name (``velib/gbfs.json``, ``velib_status.json``).

A line that is broken (the last one of a recorder that was killed) is passed on as it is, so that it ends among the dead letters and not in silence.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import csv
import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.transit import gtfs_realtime_pb2 as pb

from connectors import documents, recorded
from connectors.cities import City, Family, FeedSettings
from connectors.envelope import MAX_ITEMS, MAX_WAIT_MS, TICK_MS, Envelope, Item, Source
from connectors.gather import Gatherer, partition_of
from models.clock import parse_ms
from models.errors import ConfigError

#: Silence in a recording longer than this is not ticked through: time jumps to just before the next message.
MAX_SILENCE_MS = 900_000
_MAX_JSON = 200 * 1024 * 1024
_EXPECTED = "a recording: .jsonl (topic, payload, received_at; or TMS stations/data), .dump, .txt (HFP), .pb or .json (GTFS-RT), .json (TMS, GBFS, Föli, Journeys, Oulunliikenne, Liipi, traffic lights and messages), .xml or .xml.gz (SIRI, DATEX II), or a folder of them"
_TST = re.compile(rb'"tst":\s*"([^"]{1,40})"')
_EPOCH = re.compile(r"_(\d{10})\.pb")
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_FAMILY_OF: tuple[tuple[str, Family], ...] = (
    ("/hfp/", "hfp"),
    ("tms-v2/", "digitraffic"),
    ("weather-v2/", "digitraffic"),
    ("traffic-message-v3/", "digitraffic"),
    ("maintenance-v2/", "digitraffic"),
    ("/gtfsrt/", "gtfs_realtime"),
)

#: Topics of brokers other than HSL's: their messages are gathered, and everything else was polled.
_BROKER = ("tms-v2/", "weather-v2/", "traffic-message-v3/", "maintenance-v2/", "/gtfsrt/")

Reader = Callable[[Path], Iterator[Item]]


class _Line(msgspec.Struct):
    topic: str
    received_at: str = ""  #: may be missing of GTFS-RT, whose messages know when they were made
    payload: msgspec.Raw = msgspec.Raw(b"")
    payload_base64: str | None = None


class _Head(msgspec.Struct):
    """Of any JSON document: what tells its kind."""

    topic: str | None = None
    dataUpdatedTime: str | None = None
    stations: msgspec.Raw = msgspec.Raw(b"")
    features: msgspec.Raw = msgspec.Raw(b"")
    sensorValues: msgspec.Raw = msgspec.Raw(b"")
    sensorConstantValues: msgspec.Raw = msgspec.Raw(b"")
    entity: msgspec.Raw = msgspec.Raw(b"")
    header: msgspec.Raw = msgspec.Raw(b"")

    def is_tms(self) -> bool:
        return b"tmsNumber" in bytes(self.features) or any(bytes(r) for r in (self.stations, self.sensorValues, self.sensorConstantValues))


_line = msgspec.json.Decoder(_Line).decode
_head = msgspec.json.Decoder(_Head).decode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Recording(NamedTuple):
    """One stream of a recording: a file, or the snapshots of a folder."""

    feed: str
    paths: tuple[Path, ...]
    read: Callable[[], Iterator[Item]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be read."""

    recordings: tuple[Recording, ...]
    skipped: tuple[Path, ...]  #: files of a folder that are no recordings, or of a feed that the city does not have

    @property
    def feeds(self) -> list[str]:
        """Feeds that occur, in the order of the city file's streams."""
        return list(dict.fromkeys(r.feed for r in self.recordings))


def plan(paths: Path | Iterable[Path], city: City) -> Plan:
    """Recognise files and folders, without reading them whole.

    Raises:
        ConfigError: a path is not there, or is no recording; a folder holds none; the city has no feed of that family.
    """
    found: list[Recording] = []
    skipped: list[Path] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        if not path.exists():
            raise ConfigError("recording", "path", str(path), "a file or folder that exists")
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        before = len(found)
        snapshots: dict[str, list[Path]] = {}
        for file in files:
            if file.suffix == ".pb":
                snapshots.setdefault(_feed(city, "gtfs_realtime", file), []).append(file)
                continue
            known = recorded.recognise(file)
            kind = (known.family, known.read) if known is not None else _recognise(file) or documents.recognise(file, city)
            if kind is None:
                if not path.is_dir():
                    raise ConfigError("recording", "path", str(path), _EXPECTED)
                skipped.append(file)
                continue
            try:
                feed = _feed(city, kind[0], file, known.address if known is not None else "")
            except ConfigError:
                if not path.is_dir():
                    raise
                skipped.append(file)  # of a feed that this city does not have
                continue
            found.append(Recording(feed, (file,), partial(kind[1], file)))
        for feed, own in snapshots.items():
            found.append(Recording(feed, tuple(own), partial(_snapshots, tuple(own))))
        if len(found) == before:
            raise ConfigError("recording", "path", str(path), _EXPECTED)
    order = [f.name for f in city.feeds]
    return Plan(tuple(sorted(found, key=lambda r: (order.index(r.feed), r.paths[0]))), tuple(skipped))


def read(paths: Path | Iterable[Path] | Plan, city: City) -> Iterator[tuple[str, Item]]:
    """Feed and message in order of receipt; at the same millisecond in the order of the city's feeds, then of the files, then of their lines.

    Raises:
        ConfigError: as ``plan``.
    """
    chosen = paths if isinstance(paths, Plan) else plan(paths, city)
    return heapq.merge(*(_named(r.feed, r.read()) for r in chosen.recordings), key=_ingest_ms)


def envelopes(
    items: Iterable[tuple[str, Item]],
    city: City,
    feeds: Iterable[str],
    *,
    max_items: int = MAX_ITEMS,
    max_wait_ms: int = MAX_WAIT_MS,
    tail_ms: int = 0,
) -> Iterator[tuple[str, int, Envelope]]:
    """Feed, raw partition and envelope, in log order: what connectors would have written.

    Ticks go into every partition of ``feeds`` at each whole ``TICK_MS`` of log time. In a silence of more than ``MAX_SILENCE_MS`` they pause.

    Args:
        items: as ``read`` gives them: ingest times do not fall.
        feeds: the feeds whose partitions tick, also while they are silent.
        tail_ms: how long ticks go on after the last message, so that the last windows close.
    """
    shards = {
        f: [Gatherer(city, city.feed(f), p, max_items=max_items, max_wait_ms=max_wait_ms) for p in range(city.feed(f).partitions)]
        for f in feeds
    }
    every = [(f, g) for f, gs in shards.items() for g in gs]
    settings = {f: city.feed(f) for f in shards}
    next_tick: int | None = None
    last = 0
    for feed, item in items:
        now = item.ingest_ms
        if next_tick is None:
            next_tick = (now // TICK_MS + 1) * TICK_MS
        while next_tick <= now:
            if next_tick - last > MAX_SILENCE_MS:
                next_tick = max(next_tick, now // TICK_MS * TICK_MS)
            yield from _tick(every, next_tick)
            next_tick += TICK_MS
        last = now
        for name, g in every:
            if g.due_ms is not None and g.due_ms <= now:
                for e in g.flush():
                    yield name, g.partition, e
        g = shards[feed][partition_of(settings[feed], item.topic)]
        polled = settings[feed].family != "hfp" and not item.topic.startswith(_BROKER)
        for e in g.snapshot(item) if polled else g.add(item):
            yield feed, g.partition, e
    for name, g in every:
        for e in g.flush():
            yield name, g.partition, e
    while next_tick is not None and next_tick <= last + tail_ms:
        yield from _tick(every, next_tick)
        next_tick += TICK_MS


def _tick(every: list[tuple[str, Gatherer]], now_ms: int) -> Iterator[tuple[str, int, Envelope]]:
    for name, g in every:
        for e in g.tick(now_ms, Source()):
            yield name, g.partition, e


def _ingest_ms(named: tuple[str, Item]) -> int:
    return named[1].ingest_ms


def _named(feed: str, items: Iterator[Item]) -> Iterator[tuple[str, Item]]:
    """Times of receipt never fall within one stream."""
    last = 0
    for item in items:
        if item.ingest_ms < last:
            item = Item(last, item.topic, item.body)
        last = item.ingest_ms
        yield feed, item


def _feed(city: City, family: Family, file: Path, address: str = "") -> str:
    able = [f.name for f in city.feeds if f.family == family]
    asked = [f.name for f in city.feeds if f.name in able and address and any(address in place for place in _places(f))]
    able = asked or able
    named = [f for f in able if f == file.parent.name or re.match(rf"{re.escape(f)}([._-]|$)", file.name)]
    named.sort(key=len, reverse=True)  # "ndw_situations.xml" is of the feed ndw_situations, also where there is one called ndw
    if able:
        return (named or able)[0]
    raise ConfigError("recording", "path", str(file), f"a recording of a family that {city.name} has; this one is {family}")


def _places(feed: FeedSettings) -> list[str]:
    """Addresses and topics that a feed is asked for."""
    return [h.url for h in feed.http] + list(feed.mqtt.topics if feed.mqtt is not None else ())


def _recognise(file: Path) -> tuple[Family, Reader] | None:
    """Family and reader of a file, by its name's end and its first line."""
    if file.suffix in (".dump", ".txt"):
        with file.open("rb") as f:
            first = f.readline(4096)
        if b"/hfp/v" in first.partition(b" {")[0]:
            return "hfp", _dump if file.suffix == ".dump" else _without_times
    if file.suffix in (".jsonl", ".ndjson"):
        with file.open("rb") as f:
            first = f.readline(_MAX_JSON)
        try:
            head = _head(first)
        except _ERRORS:
            return None
        for start, family in _FAMILY_OF:
            if head.topic is not None and head.topic.startswith(start):
                return family, _messages
        if head.topic is None and head.is_tms() and head.dataUpdatedTime:
            return "digitraffic", _tms_lines
    if file.suffix == ".json" and file.stat().st_size <= _MAX_JSON:
        body = file.read_bytes()
        try:
            if body.lstrip()[:1] == b"[":
                first_of = msgspec.json.decode(body, type=list[dict[str, Any]])[:1]
                return ("gtfs_realtime", _gtfs_json) if first_of and {"id", "vehicle"} <= first_of[0].keys() else None
            head = _head(body)
        except _ERRORS:
            return None
        if bytes(head.entity) and bytes(head.header):
            return "gtfs_realtime", _gtfs_json
        if head.is_tms() and head.dataUpdatedTime:
            return "digitraffic", _tms_document
    return None


def _messages(file: Path) -> Iterator[Item]:
    last = 0
    with file.open("rb") as f:
        for raw in f:
            try:
                line = _line(raw)
                body = bytes(line.payload) if line.payload_base64 is None else base64.b64decode(line.payload_base64, validate=True)
                if not line.received_at and line.topic.startswith("/gtfsrt/"):
                    last = max(last, _made_ms(body))
                else:
                    last = parse_ms(line.received_at)
                yield Item(last, line.topic, body)
            except (*_ERRORS, ValueError, binascii.Error):
                yield Item(last, file.name, raw.rstrip(b"\r\n"))


def _dump(file: Path) -> Iterator[Item]:
    last = 0
    with file.open("rb") as f:
        for raw in f:
            head, brace, body = raw.rstrip(b"\r\n").partition(b" {")
            try:
                received, space, topic = head.decode().partition(" ")
                if not brace or not space:
                    raise ValueError("no topic or no JSON")
                last = parse_ms(received)
                yield Item(last, topic, b"{" + body)
            except ValueError:
                yield Item(last, file.name, raw.rstrip(b"\r\n"))


def _without_times(file: Path) -> Iterator[Item]:
    last = 0
    with file.open("rb") as f:
        for raw in f:
            topic, _, body = raw.rstrip(b"\r\n").partition(b" {")
            found = _TST.search(body)
            try:
                last = max(last, parse_ms(found[1].decode())) if found else last
                yield Item(last, topic.decode(), b"{" + body)
            except ValueError:
                yield Item(last, file.name, raw.rstrip(b"\r\n"))


def _snapshots(files: tuple[Path, ...]) -> Iterator[Item]:
    """Bodies are read one by one, when their turn comes."""
    published: dict[Path, int] = {}
    for folder in {p for f in files for p in (f.parent, f.parent.parent)}:
        index = folder / "gtfs_rt_index.csv"
        if index.is_file():
            with index.open(newline="", encoding="utf-8") as f:
                for row in csv.DictReader(f):
                    try:
                        published[folder / row["file"]] = parse_ms(row["published_at"])
                    except (KeyError, ValueError, TypeError) as e:
                        raise ConfigError(str(index), "published_at", row, "columns published_at (RFC 3339) and file") from e
    timed = []
    for file in files:
        name = _EPOCH.search(file.name)
        timed.append((published.get(file) or (int(name[1]) * 1000 if name else _header_ms(file)), file))
    for ingest_ms, file in sorted(timed):
        yield Item(ingest_ms, file.name, file.read_bytes())


def _header_ms(file: Path) -> int:
    return _made_ms(file.read_bytes())


def _made_ms(body: bytes) -> int:
    try:
        return int(pb.FeedMessage.FromString(body).header.timestamp) * 1000
    except DecodeError:
        return 0  # passed on first: the parser says what is wrong with it


def _gtfs_json(file: Path) -> Iterator[Item]:
    """Protobuf's JSON back to the bytes that were on the wire."""
    stamp = _STAMP.search(file.name)
    named_ms = parse_ms("{}-{}-{}T{}:{}:{}Z".format(*stamp.groups())) if stamp else 0
    document: Any = msgspec.json.decode(file.read_bytes())
    if isinstance(document, list):
        header = {"gtfs_realtime_version": "2.0", "incrementality": "FULL_DATASET", "timestamp": named_ms // 1000}
        document = {"header": header, "entity": document}
    try:
        message = json_format.ParseDict(document, pb.FeedMessage(), ignore_unknown_fields=True, max_recursion_depth=20)
    except json_format.ParseError as e:
        raise ConfigError("recording", "path", str(file), f"GTFS-RT in protobuf's JSON ({e})") from e
    yield Item(named_ms or int(message.header.timestamp) * 1000, file.name, message.SerializePartialToString())


def _tms_document(file: Path) -> Iterator[Item]:
    body = file.read_bytes()
    yield Item(_updated_ms(_head(body), file, 0), file.name, body)


def _tms_lines(file: Path) -> Iterator[Item]:
    last = 0
    with file.open("rb") as f:
        for raw in f:
            body = raw.rstrip(b"\r\n")
            with contextlib.suppress(*_ERRORS):  # passed on all the same: the parser says what is wrong with it
                last = _updated_ms(_head(body), file, last)
            yield Item(last, file.name, body)


def _updated_ms(head: _Head, file: Path, otherwise: int) -> int:
    try:
        return parse_ms(head.dataUpdatedTime or "")
    except ValueError:
        if otherwise:
            return otherwise
        raise ConfigError("recording", "dataUpdatedTime", head.dataUpdatedTime, f"an ISO 8601 time with its zone in {file.name}") from None
