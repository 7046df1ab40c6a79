"""What a step gives its driver: records ready to be published, the same for Kafka and for files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, overload

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


#: Records made at a time where there may be very many.
PART = 4_000


class Parted(Sequence[Out]):
    """Records that are made when they are read, a part at a time, each time anew: those of all streets of a city would take 300 MB at once.

    ``make(a, b)`` gives the records [a, b) of n. It must not depend on anything that changes.
    """

    def __init__(self, n: int, make: Callable[[int, int], list[Out]]) -> None:
        self._made = [(n, make)] if n else []

    def __len__(self) -> int:
        return sum(n for n, _ in self._made)

    def __iter__(self) -> Iterator[Out]:
        for part in self.parts():
            yield from part

    @overload
    def __getitem__(self, i: int) -> Out: ...
    @overload
    def __getitem__(self, i: slice) -> list[Out]: ...
    def __getitem__(self, i: int | slice) -> Out | list[Out]:
        return list(self)[i]

    def parts(self) -> Iterator[list[Out]]:
        """All of them in order, ``PART`` at most at once."""
        for n, make in self._made:
            for a in range(0, n, PART):
                yield make(a, min(a + PART, n))

    def __add__(self, other: Sequence[Out]) -> Parted:
        out = Parted(0, lambda _a, _b: [])
        out._made = self._made + (other._made if isinstance(other, Parted) else [(len(other), lambda a, b: list(other[a:b]))])
        return out


def parted(n: int, make: Callable[[int, int], list[Out]]) -> Sequence[Out]:
    """Records of n rows: a list where they are few, else made when they are read."""
    return Parted(n, make) if n > PART else make(0, n)


def parts(outs: Sequence[Out]) -> Iterator[Sequence[Out]]:
    """Records in order, no more of them at a time than memory should hold."""
    return outs.parts() if isinstance(outs, Parted) else iter((outs,))


@dataclass(slots=True)
class Outputs:
    """Records by product ("vehicle-position", ..., "dead-letter", "late"), in order."""

    records: dict[str, Sequence[Out]] = field(default_factory=dict)

    def add(self, product: str, outs: Sequence[Out]) -> None:
        if not outs:
            return
        before = self.records.get(product)
        if isinstance(before, list) and not isinstance(outs, Parted):
            before.extend(outs)
        elif before is None:
            self.records[product] = outs if isinstance(outs, Parted) else list(outs)
        else:
            self.records[product] = (before if isinstance(before, Parted) else Parted(0, lambda _a, _b: []) + before) + outs

    def extend(self, other: Outputs) -> None:
        for product, outs in other.records.items():
            self.add(product, outs)

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))
