"""What an archive says of the past: states of a whole city at a minute, one segment over hours, vehicles between two times.

Reads only the row groups whose statistics touch what is asked for; footers and recent answers are kept in memory. Thread-safe, since answers are made in threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from models.archive import DAY_MS, day_folder, parse, place, product_folder, time_field, whole
from models.topics import PRODUCTS

#: A segment's state is repeated at least once in so many minutes, so it is found in the last ones: ``heartbeat_windows`` of the fuse step.
HEARTBEAT_MIN = 5
MINUTE_MS = 60_000
#: Longest time that is answered for at once, ms.
MAX_SERIES_MS, MAX_VEHICLES_MS = 25 * 3_600_000, 15 * 60_000
#: Footers kept.
FOOTERS = 2_000
_TIME = pa.timestamp("ms", tz="UTC")

STATE = (
    "segment_id", "window_start", "speed_kmh", "free_flow_kmh", "speed_ratio", "flow_vph", "los", "origin", "confidence", "closed", "simulated",
)  # fmt: skip
SERIES = (
    "window_start", "speed_kmh", "speed_p20_kmh", "speed_p80_kmh", "free_flow_kmh", "speed_ratio", "flow_vph", "los", "origin", "confidence",
    "vehicle_count", "closed", "simulated",
)  # fmt: skip
VEHICLE = ("vehicle_id", "event_time", "lat_deg", "lon_deg", "heading_deg", "mode", "route_id", "direction_id", "delay_s", "simulated")


class _Footer(NamedTuple):
    """A file's metadata, with the times and keys of each row group."""

    metadata: pq.FileMetaData
    low_ms: list[int]
    high_ms: list[int]
    status: list[tuple[str, str] | None]  #: None: not known, or the product has none
    keys: list[tuple[str, str] | None]


class History:
    """An archive, read.

    Args:
        where: a local folder, or an object store's address.

    Raises:
        ConfigError: an address that is none.
    """

    def __init__(self, where: str | Path) -> None:
        self.fs, self.root = place(where)
        self._footers: OrderedDict[str, _Footer] = OrderedDict()
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- what is there

    def days(self, city: str, product: str = "segment-state") -> list[str]:
        """Days of which there is something, ascending."""
        selector = fs.FileSelector(f"{self.root}/{product_folder(city, product)}", allow_not_found=True)
        found = [i.base_name for i in self.fs.get_file_info(selector) if i.type == fs.FileType.Directory]
        return sorted(n.removeprefix("day=") for n in found if n.startswith("day="))

    def span(self, city: str, product: str = "segment-state") -> tuple[int, int] | None:
        """First and last time of the product's records, ms; None where there are none."""
        days = self.days(city, product)
        ends = []
        for day in days[:1] + days[-1:]:
            times = [t for _, f in self._files(city, product, day) for t in (*f.low_ms, *f.high_ms)]
            ends += times
        return (min(ends), max(ends)) if ends else None

    def products(self, city: str) -> dict[str, list[str]]:
        """Days by product."""
        return {p: days for p in PRODUCTS if (days := self.days(city, p))}

    # -------------------------------------------------------------------- questions

    def states_at(self, city: str, minute_ms: int, columns: tuple[str, ...] = STATE) -> pa.Table:
        """Final state of every segment as it was published for a minute: the last one of each within ``HEARTBEAT_MIN``. ``minute_ms``: start of the minute."""
        start = minute_ms // MINUTE_MS * MINUTE_MS
        return self.latest(city, "segment-state", start - (HEARTBEAT_MIN - 1) * MINUTE_MS, start, columns)

    def latest(self, city: str, product: str, from_ms: int, to_ms: int, columns: tuple[str, ...] | None = None) -> pa.Table:
        """The last record of each key whose time lies in [from, to], finals only where there are such; by key."""
        keys, time = PRODUCTS[product].key.split(":"), time_field(product)
        wanted = None if columns is None else tuple(dict.fromkeys((*keys, *([time] if time else []), *columns)))
        found = self.read(city, product, from_ms, to_ms, wanted)
        if not found.num_rows or time is None:
            return found
        codes = _codes(found, keys)
        order = np.argsort(pc.cast(found.column(time), pa.int64()).to_numpy(), kind="stable")
        last = np.full(int(codes.max()) + 1, -1)
        last[codes[order]] = order
        return found.take(pa.array(np.sort(last[last >= 0]))).sort_by([(k, "ascending") for k in keys])

    def lines_at(self, city: str, minute_ms: int) -> pa.Table:
        """How each line ran in the minute, where ``line-fluency`` is archived."""
        start = minute_ms // MINUTE_MS * MINUTE_MS
        return self.latest(city, "line-fluency", start - (HEARTBEAT_MIN - 1) * MINUTE_MS, start)

    def segment_series(self, city: str, segment_id: str, from_ms: int, to_ms: int, columns: tuple[str, ...] = SERIES) -> pa.Table:
        """Final states of one segment, by time. A minute that has none: nothing changed by more than 10 % and nothing was seen there."""
        return self.read(city, "segment-state", from_ms, to_ms, columns, key=segment_id).sort_by("window_start")

    def vehicles_between(self, city: str, from_ms: int, to_ms: int, step_ms: int = 5_000, columns: tuple[str, ...] = VEHICLE) -> pa.Table:
        """Positions of vehicles, the last one of each in every ``step_ms``, by time."""
        found = self.read(city, "vehicle-position", from_ms, to_ms, columns)
        if not found.num_rows:
            return found
        times = pc.cast(found.column("event_time"), pa.int64()).to_numpy()
        step = (times - from_ms) // step_ms
        codes = _codes(found, ["vehicle_id"]) + (step - step.min()) * (found.num_rows + 1)
        order = np.lexsort((times, codes))
        ordered = codes[order]
        ends = order[np.append(ordered[1:] != ordered[:-1], True)]
        return found.take(pa.array(ends[np.argsort(times[ends], kind="stable")]))

    def read(self, city: str, product: str, from_ms: int, to_ms: int, columns: tuple[str, ...] | None, key: str | None = None) -> pa.Table:
        """Rows whose time lies in [from, to]; finals only, where the product has such. ``key``: of one key alone, of products whose key is one field.

        Raises:
            OSError: the archive cannot be read.
        """
        time, fields = time_field(product), PRODUCTS[product].record.__struct_fields__
        key_field = PRODUCTS[product].key
        keep = tuple(fields) if columns is None else columns
        need = tuple(
            dict.fromkeys((*keep, *([time] if time else []), *(["status"] if "status" in fields else []), *([key_field] if key else [])))
        )
        out: list[pa.Table] = []
        for day in _days(from_ms, to_ms):
            for path, footer in self._files(city, product, day):
                groups = [
                    k
                    for k in range(footer.metadata.num_row_groups)
                    if footer.low_ms[k] <= to_ms
                    and from_ms <= footer.high_ms[k]
                    and _may_hold(footer.status[k], "final")
                    and (key is None or _may_hold(footer.keys[k], key))
                ]
                if not groups:
                    continue
                names = set(footer.metadata.schema.to_arrow_schema().names)
                try:
                    with pq.ParquetFile(self.fs.open_input_file(path), metadata=footer.metadata) as file:
                        rows = file.read_row_groups(groups, columns=[n for n in need if n in names])
                except FileNotFoundError:  # merged away between the look and the read: the merged file is there
                    return self.read(city, product, from_ms, to_ms, columns, key)
                out.append(_chosen(rows, time, from_ms, to_ms, key_field if key else None, key).select([n for n in keep if n in names]))
        if not out:
            return pa.table({n: pa.nulls(0, _TIME if n == time else pa.string()) for n in keep})
        return pa.concat_tables(out, promote_options="default").combine_chunks()

    # ---------------------------------------------------------------------- files

    def _files(self, city: str, product: str, day: str) -> list[tuple[str, _Footer]]:
        folder = f"{self.root}/{day_folder(city, product, day)}"
        infos = self.fs.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        parts = whole(p for i in infos if (p := parse(i.base_name)) is not None)
        found = []
        for p in parts:
            path = f"{folder}/{p.name}"
            try:
                found.append((path, self._footer(path, product)))
            except FileNotFoundError:
                continue
        return found

    def _footer(self, path: str, product: str) -> _Footer:
        with self._lock:
            if path in self._footers:
                self._footers.move_to_end(path)
                return self._footers[path]
        with pq.ParquetFile(self.fs.open_input_file(path)) as file:
            made = _footer(file.metadata, product)
        with self._lock:
            self._footers[path] = made
            while len(self._footers) > FOOTERS:
                self._footers.popitem(last=False)
        return made


def _footer(metadata: pq.FileMetaData, product: str) -> _Footer:
    time, key = time_field(product), PRODUCTS[product].key
    low: list[int] = []
    high: list[int] = []
    status: list[tuple[str, str] | None] = []
    keys: list[tuple[str, str] | None] = []
    for g in range(metadata.num_row_groups):
        group = metadata.row_group(g)
        columns = {group.column(c).path_in_schema: group.column(c).statistics for c in range(group.num_columns)}
        at = columns.get(time or "")
        known = at is not None and at.has_min_max
        low.append(_ms(at.min) if at is not None and known else -(2**60))
        high.append(_ms(at.max) if at is not None and known else 2**60)
        for name, into in (("status", status), (key, keys)):
            s = columns.get(name)
            into.append((str(s.min), str(s.max)) if s is not None and s.has_min_max else None)
    return _Footer(metadata, low, high, status, keys)


def _may_hold(limits: tuple[str, str] | None, value: str) -> bool:
    return limits is None or limits[0] <= value <= limits[1]


def _chosen(rows: pa.Table, time: str | None, from_ms: int, to_ms: int, key_field: str | None, key: str | None) -> pa.Table:
    keep = None
    if time is not None:
        at = pc.cast(rows.column(time), pa.int64())
        keep = pc.and_(pc.greater_equal(at, from_ms), pc.less_equal(at, to_ms))
    for name, value in (("status", "final"), (key_field, key)):
        if name is not None and name in rows.column_names and value is not None:
            same = pc.equal(rows.column(name), value)
            keep = same if keep is None else pc.and_(keep, same)
    return rows if keep is None else rows.filter(keep)


def _codes(rows: pa.Table, keys: list[str]) -> Any:
    """A number for each key."""
    column = (
        rows.column(keys[0]) if len(keys) == 1 else pc.binary_join_element_wise(*(pc.cast(rows.column(k), pa.string()) for k in keys), ":")
    )
    encoded = pc.dictionary_encode(pc.fill_null(column, "")).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _days(from_ms: int, to_ms: int) -> list[str]:
    return [str(np.datetime64(d, "D")) for d in range(from_ms // DAY_MS, to_ms // DAY_MS + 1)]


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)
