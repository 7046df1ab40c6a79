"""Recorded documents of the families that are polled everywhere: SIRI and DATEX II in XML, GBFS in JSON. Recognised by what they hold, not by their names.

Received: ``YYYYMMDDTHHMMSSZ`` or ``_<epoch s>`` in the name; else what the document says of when it was made (SIRI ``ResponseTimestamp``; DATEX II
``publicationTime``, or its newest measurement, which may be later; GBFS ``last_updated``).
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from connectors.cities import City, Family
from connectors.datex2.cut import Cutter
from connectors.envelope import Item
from connectors.reading import Refused
from models.clock import parse_ms

SUFFIXES = (".xml", ".gz")
#: What is read to tell a document's kind.
_START = 4096
_ROOT = re.compile(rb"<(?:[\w.-]{1,40}:)?(Siri|d2LogicalModel|messageContainer|payload)[\s>]")
_EPOCH = re.compile(r"_(\d{10})\.")
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_TIMES = {
    "siri": re.compile(rb"ResponseTimestamp>\s*([^<\s]{1,40})\s*<"),
    "datex2": re.compile(rb"(?:publicationTime|measurementTimeDefault|timeValue)>\s*([^<\s]{1,40})\s*<"),
}
Reader = Callable[[Path], Iterator[Item]]


class _Gbfs(msgspec.Struct):
    last_updated: int | float | str
    ttl: msgspec.Raw
    data: dict[str, msgspec.Raw]


def recognise(file: Path, city: City) -> tuple[Family, Reader] | None:
    """Family and reader of a file; None when it is none of these."""
    with file.open("rb") as f:
        start = f.read(_START)
    if start[:2] == b"\x1f\x8b":
        with contextlib.suppress(zlib.error):
            start = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(start, _START)
    if file.suffix in SUFFIXES:
        root = _ROOT.search(start)
        if root is not None:
            family: Family = "siri" if root[1] == b"Siri" else "datex2"
        elif b"Envelope" in start and b"siri.org.uk" in start:
            family = "siri"
        elif b"Envelope" in start and b"datex2.eu" in start:
            family = "datex2"
        else:
            return None
        return family, partial(_datex2, city) if family == "datex2" else _siri
    if file.suffix == ".json":
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            msgspec.json.decode(file.read_bytes(), type=_Gbfs)
            return "gbfs", _gbfs
    return None


def _siri(file: Path) -> Iterator[Item]:
    body = file.read_bytes()
    found = _TIMES["siri"].search(body)
    yield Item(_named_ms(file) or _newest([found[1]] if found else []), file.name, body)


def _datex2(city: City, file: Path) -> Iterator[Item]:
    """Cut as a connector cuts it. What cannot be cut is passed on as it is: the parser says what is wrong with it."""
    body = file.read_bytes()
    try:
        pieces = Cutter(city)(body)
    except Refused:
        pieces = [body]
    ingest_ms = _named_ms(file) or _newest([t for p in pieces for t in _TIMES["datex2"].findall(p)])
    for piece in pieces:
        yield Item(ingest_ms, file.name, piece)


def _gbfs(file: Path) -> Iterator[Item]:
    body = file.read_bytes()
    updated: Any = msgspec.json.decode(body, type=_Gbfs).last_updated
    made = _newest([updated.encode()]) if isinstance(updated, str) else _epoch_ms(updated)
    yield Item(_named_ms(file) or made, file.name, body)


def _epoch_ms(seconds: float) -> int:
    return round(seconds * 1000) if 0 <= seconds < 1e11 else 0


def _named_ms(file: Path) -> int:
    if stamp := _STAMP.search(file.name):
        with contextlib.suppress(ValueError):
            return parse_ms("{}-{}-{}T{}:{}:{}Z".format(*stamp.groups()))
    epoch = _EPOCH.search(file.name)
    return int(epoch[1]) * 1000 if epoch else 0


def _newest(times: list[bytes]) -> int:
    """The latest of some times; those that are none do not count."""
    newest = 0
    for t in set(times):
        with contextlib.suppress(ValueError, OverflowError, UnicodeDecodeError):
            newest = max(newest, parse_ms(t.decode()))
    return newest
