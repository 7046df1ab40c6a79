"""Files of one topic's partition in an archive: written batch by batch, merged as they age, never a row twice or missing.

A batch of offsets may touch several days and so several files. They are written in the order of their days, and only the last one *closes* the batch: what a kill left behind of
a batch that nobody closed is deleted at the next start and read from Kafka again. A merge writes the whole first and deletes its parts then; parts that outlived a kill are seen
by their offsets, and deleted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models.archive import Part, day_folder, product_folder
from streams.archive_rows import RAW, Row, days, has_geometry, in_order, open_schema, open_table, raw_table
from streams.archive_store import Held, Store

log = logging.getLogger(__name__)
#: Rows of a row group of open records: what one minute of a city asks for. Fewer: more to keep in mind; more: more to read for one minute.
GROUP_ROWS = 32_768
#: Bytes of a row group of raw, in memory: a replay holds one group of each partition.
GROUP_BYTES = 16 * 1024 * 1024
#: Rows are sorted in runs of at most this size, bytes in memory, so that a merge of any size takes no more.
RUN_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """What stands in a topic, and whose it is."""

    city: str  #: for raw: the city that connects to the feed
    product: str  #: "raw" for envelopes
    topic: str
    licence: str
    attribution: tuple[str, ...]
    feed: str | None = None
    vehicles: bool = False  #: raw: the envelopes tell of single vehicles

    @property
    def product_folder(self) -> str:
        return product_folder(self.city, self.product, self.feed)

    def folder(self, day: str) -> str:
        return day_folder(self.city, self.product, day, self.feed)

    @property
    def open_product(self) -> str | None:
        """None for raw."""
        return self.product if self.feed is None else None

    def schema(self) -> pa.Schema:
        """Columns, and what GeoParquet wants to be told."""
        if self.feed is not None:
            return RAW
        schema = open_schema(self.product)
        if not has_geometry(self.product):
            return schema
        kinds = {"segment": ["LineString"], "situation": []}.get(self.product, ["Point"])
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB", "geometry_types": kinds}}}
        return schema.with_metadata({"geo": json.dumps(geo)})

    def table(self, partition: int, rows: Sequence[Row]) -> pa.Table:
        if self.feed is not None:
            return raw_table(self.city, self.feed, partition, rows)
        return open_table(self.product, partition, rows)


@dataclass
class Files:
    """The files of one partition."""

    store: Store
    source: Source
    partition: int
    held: list[Held] = field(default_factory=list)
    epoch: int = 0
    _told: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, store: Store, source: Source, partition: int, listed: Iterable[Held] | None = None) -> Files:
        """What is there, with everything deleted that a kill has left over."""
        found = store.files(source.product_folder) if listed is None else listed
        self = cls(store, source, partition, [h for h in found if h.part.partition == partition])
        self.epoch = max((h.part.epoch for h in self.held), default=0)
        by_folder = {f: list(hs) for f, hs in groupby(self.held, lambda h: h.folder)}
        for h in list(self.held):
            merged = any(o.part.replaces(h.part) for o in by_folder[h.folder])
            cut_off = h.part.epoch == self.epoch and h.part.first >= self.next_offset
            if merged or cut_off:
                log.info("%s: left over from a %s that was cut off; deleted", h.path, "merge" if merged else "batch")
                self._drop(h)
        return self

    @property
    def next_offset(self) -> int:
        """Offset of the first message that is not in the archive; 0 where nothing is."""
        return max((h.part.last + 1 for h in self.held if h.part.closes and h.part.epoch == self.epoch), default=0)

    def newest(self) -> Held | None:
        """The file whose end is the archive's end."""
        mine = [h for h in self.held if h.part.closes and h.part.epoch == self.epoch]
        return max(mine, key=lambda h: h.part.last, default=None)

    def begin_anew(self) -> None:
        """The topic was deleted and made again: its offsets begin anew."""
        self.epoch += 1

    def write(self, rows: Sequence[Row], last_crc: int) -> int:
        """One batch, in the order of its offsets. Returns the number of rows. ``last_crc``: of the last message, by which its topic is known again."""
        parts = days(self.source.open_product, self.source.table(self.partition, rows), rows)
        for k, (day, found) in enumerate(parts):
            part = Part(self.partition, self.epoch, rows[0].offset, rows[-1].offset, 0, k == len(parts) - 1)
            told = self.describe(part, self.source.folder(day), found.num_rows, _simulated(found), last_crc)
            self._save(part, self.source.folder(day), told, [found])
        return len(rows)

    def _save(self, part: Part, folder: str, told: dict[str, Any], runs: Iterable[pa.Table]) -> None:
        """One file. Each run is sorted by itself."""
        product, path = self.source.open_product, f"{folder}/{part.name}"
        with self.store.writing(path, self.source.schema(), told, plain=product is None) as w:
            for run in runs:
                for group in groups(product, in_order(product, run)):
                    w.write_table(group, row_group_size=group.num_rows or 1)
        self.held.append(Held(folder, part, self._size(path)))

    def _size(self, path: str) -> int:
        return int(self.store.fs.get_file_info(self.store.at(path)).size or 0)

    def describe(self, part: Part, folder: str, rows: int, simulated: int, last_crc: int | None, **more: Any) -> dict[str, Any]:
        """What the footer says."""
        s = self.source
        return {
            "topic": s.topic, "partition": part.partition, "epoch": part.epoch, "first_offset": part.first, "last_offset": part.last, "last_crc32": last_crc,
            "rows": rows, "city": s.city, "product": s.product, **({"feed": s.feed} if s.feed else {}), "day": folder.rpartition("day=")[2], "licence": s.licence,
            "attribution": list(s.attribution), "simulated": simulated > 0, "simulated_rows": simulated, "written_by": f"tilannekuva {version('tilannekuva')}", **more,
        }  # fmt: skip

    # ---------------------------------------------------------------- merging

    def mergeable(self, *, fan_in: int, most_bytes: int, closed: Callable[[str], bool]) -> list[list[Held]]:
        """Neighbouring files to make one of: ``fan_in`` of a level; all of a day that is over, as far as they fit into ``most_bytes``."""
        out = []
        for folder, found in groupby(sorted(self.held), lambda h: h.folder):
            day = folder.rpartition("day=")[2]
            least = 2 if closed(day) else fan_in
            run: list[Held] = []
            for h in found:
                alike = run and (h.part.epoch, h.part.private) == (run[-1].part.epoch, run[-1].part.private)
                fits = alike and sum(r.size for r in run) + h.size <= most_bytes
                if fits and (closed(day) or h.part.level == run[-1].part.level):
                    run.append(h)
                else:
                    if len(run) >= least:
                        out.append(run)
                    run = [h]
                if len(run) == fan_in and not closed(day):
                    out.append(run)
                    run = []
            if len(run) >= least:
                out.append(run)
        return out

    def merge(self, parts: Sequence[Held], stop: Callable[[], bool] = lambda: False) -> None:
        """One file of several. A run of at most ``RUN_BYTES`` is in memory at a time."""
        first, last = parts[0].part, parts[-1].part
        # everything here is up to ``next_offset``, so the whole closes what its parts did
        whole = first._replace(
            last=last.last, level=max(h.part.level for h in parts) + 1, closes=True, private=all(h.part.private for h in parts)
        )
        abouts = [self.store.about(h.path) for h in parts]
        rows, simulated = sum(a["rows"] for a in abouts), sum(a["simulated_rows"] for a in abouts)
        more = {k: v for k, v in abouts[-1].items() if k == "without"}
        told = self.describe(whole, parts[0].folder, rows, simulated, abouts[-1]["last_crc32"], **more)
        self.rewrite(parts, whole, told, lambda t: t, stop)

    def rewrite(
        self, parts: Sequence[Held], whole: Part, told: dict[str, Any], change: Callable[[pa.Table], pa.Table], stop: Callable[[], bool]
    ) -> None:
        """The rows of some files, changed, as one file; then the files go.

        Raises:
            InterruptedError: told to stop; nothing has changed.
        """

        def runs() -> Iterator[pa.Table]:
            for run in self._runs(parts):
                if stop():
                    raise InterruptedError("told to stop")
                yield change(run)

        self._save(whole, parts[0].folder, told, runs())
        for h in parts:
            self._drop(h)

    def _runs(self, parts: Sequence[Held]) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for h in parts:
            with self.store.open(h.path) as file:
                for k in range(file.num_row_groups):
                    group = file.read_row_group(k)
                    if waiting and sum(t.nbytes for t in waiting) + group.nbytes > RUN_BYTES:
                        yield pa.concat_tables(waiting)
                        waiting = []
                    waiting.append(group.replace_schema_metadata(None))
        if waiting:
            yield pa.concat_tables(waiting)

    def _drop(self, h: Held) -> None:
        self.store.delete(h.path)
        self.held.remove(h)
        self._told.pop(h.path, None)

    def told(self, h: Held) -> dict[str, Any]:
        """What a file says of itself; asked once."""
        if h.path not in self._told:
            self._told[h.path] = self.store.about(h.path)
        return self._told[h.path]

    def before(self, day: str) -> list[Held]:
        """Files of earlier days."""
        return [h for h in sorted(self.held) if h.folder.rpartition("day=")[2] < day]

    def forget(self, before: str, *, simulated: bool = True) -> int:
        """Delete the days before one; the file that says where the archive ends stays, without its rows. Returns the number of files.

        ``simulated``: also what is simulated through and through.
        """
        keep = self.newest()
        old = [h for h in self.before(before) if self.told(h)["rows"] and (simulated or self.real(h))]
        for h in old:
            if h == keep:
                told = self.told(h) | {"rows": 0, "simulated_rows": 0, "simulated": False}
                self.rewrite([h], h.part._replace(level=h.part.level + 1), told, lambda rows: rows.slice(0, 0), lambda: False)
            else:
                self._drop(h)
        return len(old)

    def real(self, h: Held) -> bool:
        """Whether anything in a file is not simulated."""
        return int(self.told(h)["simulated_rows"]) < int(self.told(h)["rows"])


def groups(product: str | None, run: pa.Table) -> Iterator[pa.Table]:
    """A sorted run cut into row groups; what is provisional is apart from what is final."""
    most = max(1, int(GROUP_BYTES * run.num_rows / max(run.nbytes, 1))) if product is None else GROUP_ROWS
    cuts = [0, run.num_rows]
    if "status" in run.column_names:
        cuts.insert(1, int(pc.sum(pc.fill_null(pc.equal(run.column("status"), "final"), False)).as_py() or 0))
    for begin, end in pairwise(cuts):
        for k in range(begin, end, most):
            yield run.slice(k, min(most, end - k))


def _simulated(t: pa.Table) -> int:
    """Rows that say they are simulated."""
    return int(pc.sum(t.column("simulated")).as_py() or 0) if "simulated" in t.column_names else 0
