"""National documents of DATEX II cut to what fits an envelope and concerns the city.

National publications are far larger than a message: some ten megabytes of measurements a minute, some hundred for the table of sites. ``Cutter`` takes them apart
between their records, as bytes, without reading more than it must; every piece is a whole document again. Small documents stay as they were received.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from connectors.cities import Box, City
from connectors.reading import Refused

#: Documents up to this size are left alone; pieces of larger ones are about as large, bytes.
PIECE = 4 * 1024 * 1024
#: Largest document unpacked, and how many times larger than packed it may be.
MOST_BYTES, MOST_RATIO = 1024 * 1024 * 1024, 200
#: Largest single record; the start of a document, before its first record, is no larger.
MOST_RECORD = 1024 * 1024
_CHUNK = 1024 * 1024
_START = re.compile(rb"<((?:[A-Za-z_][\w.-]{0,40}:)?(siteMeasurements|measurementSiteRecord|measurementSite|situation))(?=[\s>])")
_LATITUDE = re.compile(rb"<(?:[\w.-]{1,40}:)?latitude>\s*([-+0-9.]{1,24})")
_LONGITUDE = re.compile(rb"<(?:[\w.-]{1,40}:)?longitude>\s*([-+0-9.]{1,24})")
_POSITIONS = re.compile(rb"<(?:[\w.-]{1,40}:)?posList[^>]{0,200}>([-+0-9.\s]{1,100000})")
_ID = re.compile(rb"""\sid\s*=\s*["']([^"']{1,200})["']""")
_PIECE = re.compile(rb"<!-- piece (\d{1,6}) of (\d{1,6}) -->\s*$")
_DOCTYPE = re.compile(rb"<!DOCTYPE|<!ENTITY")


class Cutter:
    """Cuts the documents of one feed. Remembers which sites of the table lie in the city, so that measurements of others go no further."""

    def __init__(self, city: City) -> None:
        self._box = city.box
        self._sites: set[bytes] | None = None

    def __call__(self, body: bytes) -> list[bytes]:
        """The pieces of a document: itself where it is small and not packed.

        Raises:
            Refused: over a limit, packed wrongly, or a document type, before anything is unfolded.
        """
        packed = body[:2] == b"\x1f\x8b"
        if not packed and len(body) <= PIECE:
            return [body]
        return self._pieces(_unpacked(body) if packed else (body[i : i + _CHUNK] for i in range(0, len(body), _CHUNK)))

    def _pieces(self, chunks: Iterator[bytes]) -> list[bytes]:
        buffer = b""
        head: bytes | None = None
        begin = end = kind = b""
        kept: list[bytes] = []
        sites: set[bytes] = set()
        for chunk in chunks:
            buffer += chunk
            if head is None:
                found = _START.search(buffer)
                if found is None:
                    if len(buffer) > MOST_RECORD:
                        raise Refused("over_limit", "document", "no record", f"a record in the first {MOST_RECORD} bytes")
                    continue
                head, kind = buffer[: found.start()], found[2]
                begin, end = b"<" + found[1], b"</" + found[1] + b">"
                if _DOCTYPE.search(head):
                    raise Refused("doctype", "document", "a document type", "XML without <!DOCTYPE")
                buffer = buffer[found.start() :]
            at = 0
            while (stop := buffer.find(end, at)) >= 0:
                record = buffer[at : stop + len(end)]
                at = stop + len(end)
                if not record.lstrip().startswith(begin):
                    raise Refused(
                        "over_limit", "document", "several lists of records", f"one list of records in a document over {PIECE} bytes"
                    )
                if self._concerns(record, kind, sites):
                    kept.append(record)
            buffer = buffer[at:]
            if len(buffer) > MOST_RECORD + len(chunk):
                raise Refused("over_limit", "record", len(buffer), f"at most {MOST_RECORD} bytes")
        if head is None:
            return [buffer]
        if kind.startswith(b"measurementSite"):
            self._sites = sites
        return _documents(head, kept, buffer)

    def _concerns(self, record: bytes, kind: bytes, sites: set[bytes]) -> bool:
        """Whether a record may be the city's. What has no place on a map is left to the parser to judge."""
        if kind == b"siteMeasurements":
            if self._sites is None:
                return True
            named = _ID.search(record, record.find(b"easurementSiteReference"))
            return named is None or named[1] in self._sites
        here = _touches(record, self._box)
        if kind != b"situation" and here is not False and (named := _ID.search(record)) is not None:
            sites.add(named[1])
        return here is not False


def _documents(head: bytes, records: list[bytes], tail: bytes) -> list[bytes]:
    """Whole documents of about ``PIECE`` bytes; one without records when none is the city's."""
    out: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for record in records:
        if held and size + len(record) > PIECE:
            out.append(b"".join((head, *held, tail)))
            held, size = [], 0
        held.append(record)
        size += len(record)
    if held or not out:
        out.append(b"".join((head, *held, tail)))
    if len(out) > 1:
        out = [piece + b"<!-- piece %d of %d -->" % (k, len(out)) for k, piece in enumerate(out, 1)]
    return out


def piece_of(document: bytes) -> tuple[int, int]:
    """Which piece of how many a document is.

    >>> piece_of(b"<payload/><!-- piece 2 of 3 -->"), piece_of(b"<payload/>")
    ((2, 3), (1, 1))
    """
    found = _PIECE.search(document, max(0, len(document) - 60))
    return (int(found[1]), int(found[2])) if found is not None else (1, 1)


def _touches(record: bytes, box: Box) -> bool | None:
    """Whether a place of the record lies in the box; None: it has none.

    >>> box = Box(south=52, west=4, north=53, east=5)
    >>> _touches(b"<latitude>52.3</latitude><longitude>4.9</longitude>", box), _touches(b"<l:posList>48 2 52.3 4.9</l:posList>", box)
    (True, True)
    >>> _touches(b"<latitude>48</latitude><longitude>2</longitude>", box), _touches(b"<alertCPoint/>", box)
    (False, None)
    """
    pairs = list(zip(_LATITUDE.findall(record), _LONGITUDE.findall(record), strict=False))
    for line in _POSITIONS.findall(record):
        numbers = line.split()
        pairs += list(zip(numbers[::2], numbers[1::2], strict=False))
    if not pairs:
        return None
    try:
        places = [(float(a), float(b)) for a, b in pairs]
    except ValueError:
        return None
    # Rectangle against rectangle, as the parser does it: a line may pass through without a point inside.
    lats, lons = [p[0] for p in places], [p[1] for p in places]
    return min(lats) <= box.north and max(lats) >= box.south and min(lons) <= box.east and max(lons) >= box.west


def _unpacked(body: bytes) -> Iterator[bytes]:
    """A gzip file (``.xml.gz``: not packed for the way, so not unpacked on arrival), a megabyte at a time."""
    unpack, size, rest = zlib.decompressobj(16 + zlib.MAX_WBITS), 0, body
    try:
        while rest and not unpack.eof:
            chunk = unpack.decompress(rest, _CHUNK)
            rest = unpack.unconsumed_tail
            size += len(chunk)
            if size > min(MOST_BYTES, max(MOST_RATIO * len(body), 4 * _CHUNK)):
                raise Refused(
                    "over_limit",
                    "gzip",
                    f"more than {size - len(chunk)} bytes",
                    f"at most {MOST_BYTES} bytes and {MOST_RATIO} times the file",
                )
            yield chunk
    except zlib.error as e:
        raise Refused("bad_gzip", "gzip", str(e), "a whole gzip file") from e
    if not unpack.eof:
        raise Refused("bad_gzip", "gzip", "cut", "a whole gzip file")
