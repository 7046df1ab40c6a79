"""What a step gives its driver: records ready to be published, the same for Kafka and for files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

#: Value of a record that deletes its key from a compacted topic.
TOMBSTONE = b""


class Out(NamedTuple):
    """One record of an open topic, of ``dead-letter`` or of ``late``."""

    key: bytes
    value: bytes  #: JSON as published, or ``TOMBSTONE``
    time_ms: int  #: event time; the Kafka record timestamp
    ce_id: str  #: deterministic: product, key, event time or window, revision


#: A named tuple's own constructor is written in Python; this one is not.
_out = partial(tuple.__new__, Out)


def outs(keys: Iterable[bytes], values: Iterable[bytes], times_ms: Iterable[int], ce_ids: Iterable[str]) -> list[Out]:
    """Many records from their columns, as far as the shortest reaches."""
    return list(map(_out, zip(keys, values, times_ms, ce_ids)))  # noqa: B905


@dataclass(slots=True)
class Outputs:
    """Records by product ("vehicle-position", ..., "dead-letter", "late"), in order."""

    records: dict[str, list[Out]] = field(default_factory=dict)

    def add(self, product: str, outs: list[Out]) -> None:
        if outs:
            self.records.setdefault(product, []).extend(outs)

    def extend(self, other: Outputs) -> None:
        for product, outs in other.records.items():
            self.add(product, outs)

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))
