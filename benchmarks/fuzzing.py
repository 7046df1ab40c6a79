"""Documents and messages broken in every way that a wire, a disk or a stranger breaks them; seeded, so that a number tells which.

Bytes are cut, flipped, doubled and interspersed with bad UTF-8, nulls and huge numbers; values of JSON change their type, go, come thrice or sink hundreds of levels deep;
elements of XML lose and repeat their text, nest, declare entities and include files; fields of protobuf take impossible values; topics lose and win levels.
Used by ``tests/connectors/test_mutations.py`` and ``benchmarks/fuzz.py``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import random
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError, EncodeError
from google.transit import gtfs_realtime_pb2 as pb
from lxml import etree

from connectors.cities import City, load
from connectors.columns import Parsed
from connectors.datex2.cut import Cutter
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import PARSERS, parser
from connectors.reading import Refused
from models.clock import parse_ms
from models.records import encode
from streams.trips import Trips

TESTS = Path(__file__).resolve().parent.parent / "tests"
AT = parse_ms("2026-03-10T05:30:05Z")
#: Values that stand where another type is expected.
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63, -(2**64), 1e308, -1e-308, 0.1, "", "x", "-P", "PT", "1e999", "nan", "9" * 400, "2026-02-30T25:61:61Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999+14:00", "2026-03-10T05:30:00", "\u0000", "\ud83d\ude8c", [], {}, [[]], [{}], {"a": 1}, [None] * 3,
)  # fmt: skip
NUMBERS = (b"1e400", b"-1e400", b"NaN", b"Infinity", b"-0", b"00", b"1" * 5000, b"0.0000000000000000000000000000001")
#: Documents that make a careless XML parser read files, call servers or fill the memory.
BOMBS = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>',
    b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
    b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]>',
    b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]>',
)
INCLUDE = b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/hostname" parse="text"/>'
_TEXTS = (*(str(s) for s in STRANGE if not isinstance(s, list | dict) and s not in ("\u0000", "\ud83d\ude8c")), "\U0001f68c")


class Sample(NamedTuple):
    """One message as received."""

    topic: str
    body: bytes


class Target(NamedTuple):
    """What is fuzzed: a parser, with the samples that it can read."""

    city: City
    feed: str
    samples: tuple[Sample, ...]


def targets() -> dict[str, Target]:
    """Every family of connectors, by name."""
    fixture = load(TESTS / "golden" / "fixture.toml", {"feeds.datex2.locations": "locations.geojson"})
    helsinki = load("helsinki")
    tampere = load("tampere", {"feeds.itsfactory.certain_is_passed": True, "feeds.itsfactory.secondary_to": None})
    out = {}
    for family in sorted(PARSERS):
        if family == "hfp":
            lines = (TESTS / "recordings" / "helsinki" / "hfp.jsonl").read_bytes().splitlines()
            rows = [msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in lines]
            out[family] = Target(helsinki, "hfp", tuple(Sample(msgspec.json.decode(r["topic"]), bytes(r["payload"])) for r in rows))
        elif family == "gtfs_realtime":
            samples = []
            for file in (
                "helsinki/gtfs_rt.json",
                "helsinki/alerts.json",
                "helsinki/gtfs_rt_trips.json",
                "tampere/itsfactory_vehicles.json",
            ):
                message = json_format.ParseDict(json.loads((TESTS / "recordings" / file).read_bytes()), pb.FeedMessage())
                samples.append(Sample("https://example.org/vp.pb", message.SerializeToString()))
            for line in (TESTS / "recordings" / "tampere" / "digitransit.jsonl").read_bytes().splitlines():
                row = json.loads(line)
                samples.append(Sample(row["topic"], base64.b64decode(row["payload_base64"])))
            out[family] = Target(tampere, "itsfactory", tuple(samples))
        else:
            bodies = [p.read_bytes() for p in sorted((TESTS / "golden" / family).glob("*/in*"))]
            samples = [Sample("https://example.org/x", b) for b in bodies]
            if family == "digitraffic":  # what its broker sends, too
                samples += [
                    Sample("tms-v2/23001/5116", b'{"value": 600, "time": 1773120600, "start": 1773120300, "end": 1773120600}'),
                    Sample("weather-v2/1012/1", b'{"value": -1.5, "time": 1773120600}'),
                    *(Sample("traffic-message-v3/simple/ROAD_WORK", b) for b in bodies if b"situationId" in b),
                ]
            if family == "foli":  # a stop's board does not name its stop
                board = (TESTS / "recordings" / "turku" / "stops_siri_sm_T34.json").read_bytes()
                samples += [Sample("https://example.org/siri/sm/T34", b) for b in (board, *bodies)]
            if samples:
                out[family] = Target(fixture, family, tuple(samples))
    return out


def mutated(sample: Sample, rng: random.Random) -> Sample:
    """One to three mutations of a message."""
    topic, body = sample
    for _ in range(rng.randrange(1, 4)):
        body = _body(body, rng) or b" "
    if rng.random() < 0.1:
        levels = topic.split("/")
        at = rng.randrange(len(levels))
        levels[at : at + rng.randrange(2)] = rng.choice(([], ["x"], [""], ["9" * 50], ["\ud83d\ude8c"], ["-1", "#"]))
        topic = "/".join(levels)
    return Sample(topic, body)


def _body(body: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        shaped = _in_its_shape(body, rng)
        if shaped is not None:
            return shaped
    data = bytearray(body)
    at = rng.randrange(len(data) + 1)
    match rng.randrange(4):
        case 0:
            return bytes(data[:at])
        case 1:
            for _ in range(rng.randrange(1, 6) if data else 0):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            deep = (b"[" * 3000, b'{"a":' * 3000, b"<a>" * 300)
            data[at:at] = rng.choice((*deep, b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", INCLUDE, *BOMBS, *NUMBERS))
        case _:
            end = min(len(data), at + rng.randrange(1, 200))
            data[at:at] = data[at:end]
    return bytes(data)


def _in_its_shape(body: bytes, rng: random.Random) -> bytes | None:
    """The document with one of its values changed; None when it has lost its shape."""
    start = body[:1]
    if start in (b"{", b"["):
        try:
            return json.dumps(swapped(json.loads(body), rng)).encode("utf-8", "replace")
        except (ValueError, RecursionError):
            return None
    if body[:64].lstrip()[:1] == b"<" or body[:3] == b"\xef\xbb\xbf":
        return _element(body, rng)
    return _protobuf(body, rng)


def swapped(value: Any, rng: random.Random) -> Any:
    """The same document with one value somewhere replaced, removed or doubled."""
    path, here = [], value
    while isinstance(here, dict | list) and here and rng.random() < 0.9:
        key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
        path.append((here, key))
        here = here[key]
    if not path:
        return rng.choice(STRANGE)
    holder, key = path[-1]
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.extend([here] * 3)
        case 2:
            deep: Any = here
            for _ in range(rng.choice((2, 20, 400))):
                deep = [deep]
            holder[key] = deep
        case _:
            holder[key] = rng.choice(STRANGE)
    return value


_XML = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=False)


def _element(body: bytes, rng: random.Random) -> bytes | None:
    try:
        root = etree.fromstring(body, _XML)
    except (etree.XMLSyntaxError, ValueError):
        return None
    elements = list(root.iter(etree.Element))
    e = rng.choice(elements)
    parent = e.getparent()
    match rng.randrange(6):
        case 0 if parent is not None:
            parent.remove(e)
        case 1 if parent is not None:
            for _ in range(3):
                parent.append(etree.fromstring(etree.tostring(e, with_tail=False)))
        case 2:
            inner = e
            for _ in range(rng.choice((2, 20, 200))):
                inner = etree.SubElement(inner, e.tag)
        case 3 if e.attrib:
            e.set(rng.choice(list(e.attrib)), rng.choice(_TEXTS))
        case 4:
            e.tag = rng.choice(elements).tag
        case _:
            e.text = rng.choice(_TEXTS)
    return rng.choice((b"", b"", b"", *BOMBS)) + bytes(etree.tostring(root))


_LARGE = (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**31), -(2**63))
_FLOATS = (math.nan, math.inf, -math.inf, 1e30, -1e-30, 0.0, -91.0, 361.0)


def _protobuf(body: bytes, rng: random.Random) -> bytes | None:
    message = pb.FeedMessage()
    try:
        message.ParseFromString(body)
    except DecodeError:
        return None
    at: Any = message
    while True:
        fields = at.DESCRIPTOR.fields
        f = rng.choice([g for g in fields if at.ListFields() and g in dict(at.ListFields())] or list(fields))
        if f.message_type is None or rng.random() < 0.1:
            break
        if f.is_repeated:
            of = getattr(at, f.name)
            if rng.random() < 0.05:
                of.extend(list(of)[:3])
                break
            at = rng.choice(of) if of else of.add()
        else:
            at = getattr(at, f.name)
    try:
        if rng.random() < 0.3 or f.message_type is not None or f.is_repeated:
            at.ClearField(f.name)
        else:
            strange: tuple[Any, ...] = (*_LARGE, *_FLOATS, "", "x", "9" * 400, "\ud83d\ude8c", "25:61:61", "20261399")
            setattr(at, f.name, rng.choice(strange))
    except (TypeError, ValueError, OverflowError):
        return None
    try:
        return bytes(message.SerializePartialToString())
    except EncodeError:
        return None


def tried(target: Target, rng: random.Random) -> Parsed:
    """One mutated message through a parser of its own, and what it made of it. Whatever is not a row or a refusal is raised."""
    topic, body = mutated(rng.choice(target.samples), rng)
    feed = target.city.feed(target.feed)
    item = Item(AT, topic, body)
    kind: Any = "messages" if topic.startswith("/") or not topic.startswith("https") else rng.choice(("snapshot", "messages"))
    try:
        if feed.family == "datex2":
            with contextlib.suppress(Refused):
                Cutter(target.city)(body)
        parsed = parser(feed, target.city).parse(Envelope(SCHEMA, target.city.name, feed.name, feed.family, kind, AT, (item,)))
        sound(parsed)
        if parsed.trips:
            Trips().join(parsed, feed, AT, whole=kind == "snapshot")
            sound(parsed)
    except Exception as e:
        raise AssertionError(f"{feed.family}: {e!r}: {topic!r} {body[:2000]!r}") from e
    return parsed


def sound(parsed: Parsed) -> None:
    """What every parser promises of its rows, whatever it was given."""
    rows = len(parsed.stated) + len(parsed.rejects)
    for columns in (parsed.vehicles, parsed.sensors):
        if columns is not None:
            rows += len(columns)
            for name in set(columns.__dataclass_fields__) - {"signal"}:
                column = getattr(columns, name)
                assert len(column) in ((len(columns), 0) if name == "travel_mode" else (len(columns),)), name
                assert not isinstance(column, np.ndarray) or column.dtype.kind != "f" or not np.isinf(column).any(), name
    assert parsed.events >= rows
    for s in parsed.stated:
        again = msgspec.json.decode(encode(s.record), type=type(s.record))
        assert encode(again) == encode(s.record)
        assert 0 <= s.event_ms < 2**53
    for site in parsed.sites:
        assert not math.isinf(site.lat_deg)
    for r in parsed.rejects:
        assert all((r.reason, r.field, r.want))
        assert len(r.value) <= 200
