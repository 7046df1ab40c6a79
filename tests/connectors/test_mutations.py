"""Whatever arrives, a parser answers with rows and refusals, never with an exception: bytes flipped, cut, doubled, types swapped, nested deep, numbers huge.

A short form runs with the other tests; ``FUZZ=1000000 pytest tests/connectors/test_mutations.py`` is the long one (mutations a family).
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.cities import City, Family, load
from connectors.columns import Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import PARSERS, parser
from models.clock import parse_ms
from models.records import encode

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("FUZZ", "400"))
AT = parse_ms("2026-03-10T05:30:05Z")
CITY = load(ROOT / "golden" / "fixture.toml")
#: Values that stand where another type is expected.
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63, -(2**64), 1e308, -1e-308, 0.1, "", "x", "-P", "PT", "1e999", "nan", "9" * 400, "2026-02-30T25:61:61Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999+14:00", "2026-03-10T05:30:00", "\u0000", "\ud83d\ude8c", [], {}, [[]], [{}], {"a": 1}, [None] * 3,
)  # fmt: skip
NUMBERS = (b"1e400", b"-1e400", b"NaN", b"Infinity", b"-0", b"00", b"1" * 5000, b"0.0000000000000000000000000000001")
FAMILIES = ("journeys", "tampere_lights", "foli", "oulunliikenne", "liipi", "digitraffic", "fingrid")


def samples(family: str) -> list[bytes]:
    return [p.read_bytes() for p in sorted((ROOT / "golden" / family).glob("*/in*"))]


def mutated(body: bytes, rng: random.Random) -> bytes:
    how = rng.randrange(8)
    if how >= 4:
        try:
            return json.dumps(swapped(json.loads(body), rng)).encode()
        except (ValueError, RecursionError):
            how -= 4
    data = bytearray(body)
    at = rng.randrange(len(data) + 1)
    match how:
        case 0:
            return bytes(data[:at])
        case 1:
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            data[at:at] = rng.choice((b"[" * 3000, b'{"a":' * 3000, b"\xff\xfe", b"\x00", *NUMBERS))
        case 3:
            end = min(len(data), at + rng.randrange(1, 200))
            data[at:at] = data[at:end]
    return bytes(data)


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


def sound(parsed: Parsed) -> None:
    """What every parser promises of its rows, whatever it was given."""
    rows = len(parsed.stated) + len(parsed.rejects)
    for columns in (parsed.vehicles, parsed.sensors):
        if columns is not None:
            rows += len(columns)
            for name in columns.__dataclass_fields__:
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


def parse(city: City, family: Family, kind: Any, *bodies: bytes) -> Parsed:
    items = tuple(Item(AT, "https://example.org/x.json", b) for b in bodies)
    return parser(city.feed(family), city).parse(Envelope(SCHEMA, city.name, family, family, kind, AT, items))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mutated_document_is_rows_and_refusals_and_never_an_exception(family: Family) -> None:
    rng, bodies = random.Random(family), samples(family)
    assert bodies
    slowest = 0.0
    for k in range(ROUNDS):
        body = rng.choice(bodies)
        for _ in range(rng.randrange(1, 4)):
            body = mutated(body, rng) or b" "
        begun = time.perf_counter()
        try:
            sound(parse(CITY, family, rng.choice(("snapshot", "messages")), body))
        except Exception as e:
            raise AssertionError(f"{family}, mutation {k}: {e!r}: {body[:2000]!r}") from e
        slowest = max(slowest, time.perf_counter() - begun)
    assert slowest < 2.0


@pytest.mark.parametrize("family", sorted(PARSERS))
@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"\x00" * 100, b"<html>", b"null", b"[]", b"{}", b"0", b'""', b"[" * 1_000_000, b'{"a":' * 200_000, b"\xff\xfe{}", bytes(range(256)) * 40, b"1" * 1_000_000],
    ids=lambda b: repr(b[:12]),
)  # fmt: skip
def test_no_family_stumbles_over_what_is_no_document_at_all(family: Family, body: bytes) -> None:
    city = CITY if family not in ("hfp", "gtfs_realtime") else load("helsinki")
    feed = next(f for f in city.feeds if f.family == family)
    item = Item(AT, "https://example.org/x", body)
    for kind in ("snapshot", "messages"):
        sound(parser(feed, city).parse(Envelope(SCHEMA, city.name, feed.name, family, kind, AT, (item,))))  # type: ignore[arg-type]
