"""The raw rows of an archive as the log that they were: the same envelopes with the same times of receipt, in the same order within each partition."""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from connectors.cities import City
from connectors.envelope import Envelope
from models.archive import product_folder, whole
from models.errors import ConfigError
from streams.archive_rows import envelopes
from streams.archive_store import Held, Store

log = logging.getLogger(__name__)


def is_archive(path: str | Path) -> bool:
    """Whether a path is an archive with raw topics in it, and not a recording."""
    return "://" in str(path) or (Path(path) / "product=raw").is_dir()


class ArchivedLog:
    """Raw topics of a city in an archive.

    Args:
        where: the archive.
        city: whose picture is to be made; its feeds may be another city's.
        days: UTC days of receipt; all by default.

    Raises:
        ConfigError: nothing is there of these days.
    """

    def __init__(self, where: str | Path, city: City, days: Sequence[str] = ()) -> None:
        self.store, self.city = Store(where), city
        self.files: dict[tuple[str, int], list[Held]] = {}
        for feed in city.feeds:
            held = self.store.files(product_folder(city.raw_city, "raw", feed.name))
            for p in range(feed.partitions):
                self.files[feed.name, p] = self._chosen([h for h in held if h.part.partition == p], days)
        if not any(self.files.values()):
            wanted = ", ".join(days) or "any day"
            raise ConfigError("archive", "raw", str(where), f"raw topics of {city.raw_city} of {wanted}: archive them without --no-raw")

    def _chosen(self, held: list[Held], days: Sequence[str]) -> list[Held]:
        """In the order of the log: by epoch, then offset."""
        here = {h.folder: set(whole(o.part for o in held if o.folder == h.folder)) for h in held}
        files = [h for h in held if h.part in here[h.folder] and (not days or h.folder.rpartition("day=")[2] in days)]
        return sorted(files, key=lambda h: (h.part.epoch, h.part.first, h.folder))

    def rows(self) -> int:
        """Number of messages."""
        return sum(int(self.store.about(h.path)["rows"]) for files in self.files.values() for h in files)

    def hashes(self) -> list[dict[str, object]]:
        """What is read, file by file."""
        out: list[dict[str, object]] = []
        for h in sorted(h for files in self.files.values() for h in files):
            with self.store.fs.open_input_stream(self.store.at(h.path)) as stream:
                digest = hashlib.sha256()
                while block := stream.read(1 << 20):
                    digest.update(block)
            out.append({"path": h.path, "bytes": h.size, "sha256": digest.hexdigest()})
        return out

    def __iter__(self) -> Iterator[tuple[str, int, Envelope]]:
        """Feed, raw partition and envelope; at the same millisecond in the order of the city's feeds, then of the partitions."""
        return heapq.merge(*(self._partition(f, p, files) for (f, p), files in self.files.items()), key=lambda e: e[2].ingest_ms)

    def _partition(self, feed: str, partition: int, files: list[Held]) -> Iterator[tuple[str, int, Envelope]]:
        """One row group in memory at a time."""
        none = 0
        for h in files:
            with self.store.open(h.path) as file:
                for k in range(file.num_row_groups):
                    for _, e in envelopes(self.city.raw_city, feed, file.read_row_group(k)):
                        if e is not None:
                            yield feed, partition, e
                        else:  # it gave a dead letter then, and gives nothing now
                            none += 1
        if none:
            log.warning("%s-%d: %d messages that are no envelopes of %s are left out", feed, partition, none, self.city.raw_city)
