"""Records as Parquet: one file a product, columns typed from the record classes, the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from models.archive import METADATA
from models.arrow import RECORDS as RECORDS
from models.arrow import arrow_schema as arrow_schema
from models.arrow import table as table
from streams.outputs import Out, parts, values

#: Rows of a row group. Groups are cut by count, never by how records arrived, so that the file does not depend on batching.
GROUP = 50_000


class ParquetSink:
    """Writes records by product into a folder. Close it, or the files are cut.

    Args:
        about: what the footer of every file says, beside its product.
    """

    def __init__(self, folder: Path, about: Mapping[str, object] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.about = folder, about or {}
        self.counts: dict[str, int] = {}
        self._waiting: dict[str, list[bytes]] = {}
        self._writers: dict[str, pq.ParquetWriter] = {}

    def add(self, product: str, outs: Sequence[Out]) -> None:
        waiting = self._waiting.setdefault(product, [])
        self.counts[product] = self.counts.get(product, 0) + len(outs)
        for part in parts(outs):
            waiting.extend(filter(None, values(part)))
            while len(waiting) >= GROUP:
                self._write(product, waiting[:GROUP])
                del waiting[:GROUP]

    def _write(self, product: str, values: list[bytes]) -> None:
        writer = self._writers.get(product)
        if writer is None:
            told = {METADATA: msgspec.json.encode({"product": product, **self.about})}
            schema = arrow_schema(RECORDS[product]).with_metadata(told)
            writer = pq.ParquetWriter(self.folder / f"{product}.parquet", schema, compression="zstd")
            self._writers[product] = writer
        writer.write_table(table(product, values), row_group_size=GROUP)

    def close(self, products: tuple[str, ...] = ()) -> None:
        """Write what waits; ``products`` get a file even when they have no record."""
        for product in sorted({*self._waiting, *products}):
            values = self._waiting.pop(product, [])
            if values or product not in self._writers:
                self._write(product, values)
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
