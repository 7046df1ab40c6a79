"""Recorded answers of the Finnish services (JSON, and Digitraffic's packed messages), recognised by what they hold, not by their names.

Received: ``YYYYMMDDTHHMM[SS]Z`` in the name; else the newest time that the document tells of itself; else ``YYYYMMDD`` in the name; else before everything else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from connectors.cities import Family
from connectors.envelope import Item
from models.clock import parse_ms

MAX_JSON = 200 * 1024 * 1024
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)?Z")
_DATE = re.compile(r"(?<!\d)(20\d\d)(\d\d)(\d\d)(?!\d)")
_PACKED = re.compile(rb"[A-Za-z0-9+/=\s]{40,}")
#: Topic that a packed message is given, so that it is read as one of the broker.
_TOPIC = "traffic-message-v3/simple/"
#: Where documents tell their own time.
_ISO = re.compile(rb'"(?:recordedAtTime|responseTs|dataUpdatedTime|versionTime|timestamp|measuredTime)"\s*:\s*"([^"]{10,40})"')
_EPOCH = re.compile(rb'"(?:servertime|generated|lastupdate)"\s*:\s*"?(\d{9,11})')
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_Raw = msgspec.Raw
Reader = Callable[[Path], Iterator[Item]]


class Known(NamedTuple):
    """What a file is."""

    family: Family
    read: Reader
    address: str = ""  #: part of the address that such a document comes from, where a family has several


class _Head(msgspec.Struct):
    """Of any JSON object: what tells its kind."""

    status: _Raw = _Raw(b"")
    body: _Raw = _Raw(b"")
    data: _Raw = _Raw(b"")
    sys: str | None = None
    racks: _Raw = _Raw(b"")
    messages: _Raw = _Raw(b"")
    cancellations: _Raw = _Raw(b"")
    results: _Raw = _Raw(b"")
    signalGroup: _Raw = _Raw(b"")
    properties: _Raw = _Raw(b"")
    features: _Raw = _Raw(b"")
    stations: _Raw = _Raw(b"")


_head = msgspec.json.Decoder(_Head).decode
_list = msgspec.json.Decoder(list[dict[str, _Raw]]).decode
#: A stop's board at Föli does not say of which stop it is: its address does, and the name of its file.
_BOARD = re.compile(r"siri_sm_([^_.]+)")
#: Queries of Oulunliikenne.
_OULU = re.compile(
    rb'\{\s*"(tmsStations|weatherStations|carParks|trafficFluencyFeatureCollection|trafficAnnouncements|roadworks|cameras|ecoCounterSites|bikeRentalStations)"'
)


def recognise(file: Path) -> Known | None:
    """Family and reader of a file; None when it is none of these."""
    if file.suffix == ".b64":
        with file.open("rb") as f:
            return Known("digitraffic", _packed, "traffic-message") if _PACKED.fullmatch(f.read(4096)) else None
    if file.suffix != ".json" or file.stat().st_size > MAX_JSON:
        return None
    body = file.read_bytes()
    with contextlib.suppress(*_ERRORS):
        found = _of_list(body) if body.lstrip()[:1] == b"[" else _of_object(body)
        return None if found is None else Known(found[0], partial(_document, found[0]), found[1])
    return None


def _of_list(body: bytes) -> tuple[Family, str] | None:
    first = next(iter(_list(body)), {}).keys()
    if {"facilityId", "capacityType"} <= first:
        return "liipi", ""
    if {"device", "signalGroup"} <= first:
        return "tampere_lights", ""
    return ("digitraffic", "counting-site") if {"siteId", "dataTimestamp"} <= first else None


def _of_object(body: bytes) -> tuple[Family, str] | None:
    head = _head(body)
    has = {name: bool(bytes(getattr(head, name))) for name in head.__struct_fields__ if name != "sys"}
    if head.sys is not None:
        return "foli", "/siri/"
    if has["racks"] or (has["messages"] and has["cancellations"]):
        return "foli", "citybike" if has["racks"] else "/alerts"
    if has["status"] and has["body"]:
        return ("journeys", "") if b'"monitoredVehicleJourney"' in body or b'"visitNumber"' in body else None
    if has["signalGroup"] or (has["results"] and b'"detector"' in body):
        return "tampere_lights", ""
    if has["results"] and (b'"builtCapacity"' in body or b'"facilityIds"' in body):
        return "liipi", ""
    if b'"datasetId"' in body:
        return "fingrid", ""
    if has["data"] and _OULU.match(bytes(head.data)):
        return "oulunliikenne", ""
    if (has["features"] or has["properties"]) and b'"situationId"' in body:
        return "digitraffic", "traffic-message"
    if has["features"] and b'"tasks"' in body and b'"domain"' in body:
        return "digitraffic", "/maintenance/"
    if b'"tmsNumber"' in body or not (has["stations"] or has["features"]):
        return None
    if has["stations"]:
        return ("digitraffic", "weather") if b'"ILMA"' in body or b'"KELI_1"' in body else None
    if b'"lastDataTimestamp"' in body:
        return "digitraffic", "counting-site"
    return ("digitraffic", "weather") if b'"collectionStatus"' in body else None


def received_ms(file: Path, body: bytes) -> int:
    """When a document was received, as well as it can be told."""
    if stamp := _STAMP.search(file.name):
        y, mo, d, h, mi, s = stamp.groups(default="00")
        with contextlib.suppress(ValueError):
            return parse_ms(f"{y}-{mo}-{d}T{h}:{mi}:{s}Z")
    newest = max((int(s) * 1000 for s in _EPOCH.findall(body)), default=0)
    for text in set(_ISO.findall(body)):
        with contextlib.suppress(ValueError, OverflowError, UnicodeDecodeError):
            newest = max(newest, parse_ms(text.decode()))
    if newest == 0 and (date := _DATE.search(file.name)):
        with contextlib.suppress(ValueError):
            return parse_ms("{}-{}-{}T00:00:00Z".format(*date.groups()))
    return newest


def _document(family: Family, file: Path) -> Iterator[Item]:
    body = file.read_bytes()
    board = _BOARD.search(file.name)
    yield Item(received_ms(file, body), file.name if board is None else f"/siri/sm/{board[1]}", body)


def _packed(file: Path) -> Iterator[Item]:
    """The time is inside the packing and is left there: the parser reads it."""
    body = file.read_bytes()
    yield Item(received_ms(file, b""), _TOPIC + file.stem, body)
