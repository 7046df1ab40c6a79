"""Where rows of an archive are: folders by product, city and day, and files whose names say which offsets they hold. ``docs/researchers.md`` shows it to readers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from models.errors import ConfigError
from models.topics import PRODUCTS

#: Under this key the footer of every file says what the file is, JSON.
METADATA = b"tilannekuva"
#: Columns that every open product has after those of its record.
EXTRA = ("ce_id", "deleted", "unreadable", "kafka_partition", "kafka_offset")
DAY_MS = 86_400_000
_NAME = re.compile(r"(\d{3,})-(\d+)-(\d{19})-(\d{19})-(\d+)(c?)(p?)\.parquet")


class Part(NamedTuple):
    """What a file's name says."""

    partition: int
    epoch: int  #: grows when a topic was deleted and made again, so that its offsets began anew
    first: int  #: offsets [first, last] were looked at; those of other days are in other files
    last: int
    level: int  #: how often its rows have been merged
    closes: bool  #: the last file of its batch: once it is there, everything up to ``last`` is
    private: bool = False  #: what names vehicle and duty was taken out

    @property
    def name(self) -> str:
        """
        >>> Part(0, 1, 5, 9, 0, True).name
        '000-1-0000000000000000005-0000000000000000009-0c.parquet'
        """
        flags = ("c" if self.closes else "") + ("p" if self.private else "")
        return f"{self.partition:03d}-{self.epoch}-{self.first:019d}-{self.last:019d}-{self.level}{flags}.parquet"

    def replaces(self, other: Part) -> bool:
        """Whether this file holds all that the other one does, so that the other is left over from a merge or a rewrite that was cut off."""
        same = (self.partition, self.epoch) == (other.partition, other.epoch)
        later = (self.private, self.level) > (other.private, other.level)
        return same and later and self.first <= other.first and other.last <= self.last


def parse(name: str) -> Part | None:
    """None: not a file of an archive.

    >>> parse(Part(2, 0, 1, 3, 2, False, True).name) == Part(2, 0, 1, 3, 2, False, True), parse("x.parquet")
    (True, None)
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    partition, epoch, first, last, level = map(int, found.groups()[:5])
    return Part(partition, epoch, first, last, level, bool(found[6]), bool(found[7]))


def product_folder(city: str, product: str, feed: str | None = None) -> str:
    """Folder of the days of a product; of a feed's envelopes when a feed is named."""
    return f"product=raw/city={city}/feed={feed}" if feed is not None else f"product={product}/city={city}"


def day_folder(city: str, product: str, day: str, feed: str | None = None) -> str:
    """
    >>> day_folder("helsinki", "segment-state", "2026-03-10")
    'product=segment-state/city=helsinki/day=2026-03-10'
    """
    return f"{product_folder(city, product, feed)}/day={day}"


def time_field(product: str) -> str | None:
    """Field whose UTC day is the day of a record; None: the record has no time, and the day is that of its Kafka timestamp.

    >>> [time_field(p) for p in ("segment-state", "vehicle-position", "situation", "feed-health", "segment")]
    ['window_start', 'event_time', 'ingest_time', 'event_time', None]
    """
    p = PRODUCTS[product]
    fields = p.record.__struct_fields__
    happens = "event_time" if p.cleanup == "delete" else "ingest_time"
    return next((f for f in ("window_start", happens, "event_time") if f in fields), None)


def place(where: str | Path) -> tuple[Any, str]:
    """File system and root of an archive: a local folder, or ``s3://bucket/folder?region=…&endpoint_override=…`` (credentials as AWS's own tools find them).

    Raises:
        ConfigError: an address that pyarrow does not know.
    """
    text = str(where)
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).resolve())
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(text)
        return found
    except (pa.ArrowInvalid, OSError) as e:
        parts = urlsplit(text)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        raise ConfigError("command line", "archive", shown, f"a folder, or s3://bucket/folder ({e})") from e


def whole(parts: Iterable[Part]) -> list[Part]:
    """The files of a folder that count: without those that a merge has just replaced."""
    found = sorted(parts)
    return [p for p in found if not any(o.replaces(p) for o in found)]
