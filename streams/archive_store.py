"""The folder of an archive, here or in an object store: a file is there whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from models.archive import METADATA, Part, parse, place
from models.errors import ConfigError


class Held(NamedTuple):
    """A file of the archive."""

    folder: str
    part: Part
    size: int

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.part.name}"


class Store:
    """A local folder, or a bucket by its address: ``s3://bucket/folder?region=…&endpoint_override=…`` (credentials as AWS's own tools find them).

    Args:
        where: path or address.
        make: a local folder that is not there is made.

    Raises:
        ConfigError: an address that pyarrow does not know, or a folder that is not there.
    """

    def __init__(self, where: str | Path, *, make: bool = False) -> None:
        text = str(where)
        self.local = "://" not in text
        if self.local and make:
            Path(text).mkdir(parents=True, exist_ok=True)
        if self.local and not Path(text).is_dir():
            raise ConfigError("command line", "archive", text, "a folder, or s3://bucket/folder")
        self.fs, self.root = place(where)

    def at(self, path: str) -> str:
        return f"{self.root}/{path}" if self.root else path

    def files(self, folder: str) -> list[Held]:
        """Files below a folder, sorted; leftovers and what is no file of an archive are left out."""
        found = []
        for info in self.fs.get_file_info(fs.FileSelector(self.at(folder), recursive=True, allow_not_found=True)):
            part = parse(info.base_name) if info.type == fs.FileType.File else None
            if part is not None:
                found.append(Held(info.path[len(self.root) :].strip("/").rpartition("/")[0], part, info.size or 0))
        return sorted(found)

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        found = self.fs.get_file_info(fs.FileSelector(self.at(folder), allow_not_found=True))
        return sorted(i.base_name for i in found if i.type == fs.FileType.Directory)

    def sweep(self, folder: str) -> None:
        """Delete what a killed writer left half written."""
        if self.local:
            for left in Path(self.at(folder)).rglob(".*.tmp"):
                left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, path: str, schema: pa.Schema, metadata: dict[str, Any], *, plain: bool = False) -> Iterator[pq.ParquetWriter]:
        """A Parquet file that appears under its name when the block ends, and does not when it fails.

        ``plain``: bodies of messages are all different, so that a dictionary of them is of no use.
        """
        schema = schema.with_metadata({**(schema.metadata or {}), METADATA: msgspec.json.encode(metadata)})
        options: dict[str, Any] = {
            "compression": "zstd",
            "use_dictionary": ["items.list.element.topic", "kind", "family"] if plain else True,
        }
        if self.local:
            final = Path(self.at(path))
            final.parent.mkdir(parents=True, exist_ok=True)
            half = final.with_name(f".{final.name}.tmp")
            try:
                with pq.ParquetWriter(half, schema, **options) as writer:
                    yield writer
                with half.open("rb+") as f:
                    os.fsync(f.fileno())
                half.replace(final)
            except BaseException:
                half.unlink(missing_ok=True)
                raise
            _sync(final.parent)
        else:  # an object is there when its upload is complete
            buffer = io.BytesIO()
            with pq.ParquetWriter(buffer, schema, **options) as writer:
                yield writer
            try:
                with self.fs.open_output_stream(self.at(path)) as stream:
                    stream.write(buffer.getbuffer())
            except BaseException:
                self.delete(path)
                raise

    def delete(self, path: str) -> None:
        """It may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.delete_file(self.at(path))

    def open(self, path: str) -> pq.ParquetFile:
        """Metadata at once, rows as they are asked for."""
        return pq.ParquetFile(self.fs.open_input_file(self.at(path)), pre_buffer=not self.local)

    def about(self, path: str) -> dict[str, Any]:
        """What a file says of itself.

        Raises:
            OSError, pa.ArrowInvalid: it cannot be read.
        """
        with self.open(path) as file:
            return about(file.schema_arrow)


def about(schema: pa.Schema) -> dict[str, Any]:
    """What the footer says of a file; empty where it is not one of ours."""
    found: dict[str, Any] = msgspec.json.decode((schema.metadata or {}).get(METADATA, b"{}"))
    return found


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
