"""What a step gives its driver: records ready to be published, the same for Kafka and for files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.columns import I64

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


class Records(Sequence[Out]):
    """Records that are not in a list, and equal to one that has the same."""

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


class Block(Records):
    """Records as columns, made at once (``streams/texts.py``) and framed at once (``streams/batches.py``); an ``Out`` of it only where somebody wants one.

    Args:
        keys, values, ids: (n,) Arrow texts; no value is a ``TOMBSTONE``.
        times_ms: (n,).
    """

    __slots__ = ("ids", "keys", "times_ms", "values")

    def __init__(self, keys: pa.Array, values: pa.Array, times_ms: I64, ids: pa.Array) -> None:
        self.keys, self.values, self.times_ms, self.ids = keys, values, times_ms, ids

    def __len__(self) -> int:
        return len(self.times_ms)

    def __iter__(self) -> Iterator[Out]:
        binary = pa.binary()
        columns = (c.cast(binary).to_pylist() for c in (self.keys, self.values))
        return map(_out, zip(*columns, self.times_ms.tolist(), self.ids.to_pylist(), strict=True))

    @overload
    def __getitem__(self, i: int) -> Out: ...
    @overload
    def __getitem__(self, i: slice) -> Block: ...
    def __getitem__(self, i: int | slice) -> Out | Block:
        if isinstance(i, slice):
            return Block(self.keys[i], self.values[i], self.times_ms[i], self.ids[i])
        return next(iter(self[i : i + 1 or None]))

    def take(self, at: I64) -> Block:
        """The records ``at``."""
        return Block(self.keys.take(at), self.values.take(at), self.times_ms[at], self.ids.take(at))

    def saying(self, text: str) -> int:
        """How many values have this text in them."""
        return int(pc.sum(pc.match_substring(self.values, text)).as_py() or 0)


#: Records made at a time where there may be very many.
PART = 4_000
#: Makes the records [a, b).
Make = Callable[[int, int], Sequence[Out]]


class Parted(Records):
    """Records that are made when they are read, a part at a time, each time anew: those of all streets of a city would take 300 MB at once.

    ``make(a, b)`` gives the records [a, b) of n. It must not depend on anything that changes.
    """

    def __init__(self, n: int, make: Make) -> None:
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

    def parts(self) -> Iterator[Sequence[Out]]:
        """All of them in order, ``PART`` at most at once."""
        for n, make in self._made:
            for a in range(0, n, PART):
                yield make(a, min(a + PART, n))

    def __add__(self, other: Sequence[Out]) -> Parted:
        return _chained(self, other)

    def since(self, time_ms: int) -> Parted:
        """Those that are not older. Times of what is made at once are in order, mostly of one window: its ends are looked at first."""
        out = Parted(0, lambda _a, _b: [])
        for n, make in self._made:
            first, last = make(0, 1)[0].time_ms >= time_ms, make(n - 1, n)[0].time_ms >= time_ms
            if first and last:
                out._made.append((n, make))
            elif first or last:
                out += [o for part in Parted(n, make).parts() for o in part if o.time_ms >= time_ms]
        return out


def _chained(*runs: Sequence[Out]) -> Parted:
    """One after the other."""
    out = Parted(0, lambda _a, _b: [])
    for run in runs:
        out._made += run._made if isinstance(run, Parted) else [(len(run), _slice(run))]
    return out


def _slice(run: Sequence[Out]) -> Make:
    return lambda a, b: run[a:b]


def parted(n: int, make: Make) -> Sequence[Out]:
    """Records of n rows: made at once where they are few, else when they are read."""
    return Parted(n, make) if n > PART else make(0, n)


def parts(outs: Sequence[Out]) -> Iterator[Sequence[Out]]:
    """Records in order, no more of them at a time than memory should hold."""
    return outs.parts() if isinstance(outs, Parted) else iter((outs,))


def since(outs: Sequence[Out], time_ms: int) -> Sequence[Out]:
    """Records that are not older."""
    if isinstance(outs, Parted):
        return outs.since(time_ms)
    if isinstance(outs, Block):
        return outs.take(np.flatnonzero(outs.times_ms >= time_ms))
    return [o for o in outs if o.time_ms >= time_ms]


def values(outs: Sequence[Out]) -> Iterable[bytes]:
    """Those of all records."""
    return outs.values.cast(pa.binary()).to_pylist() if isinstance(outs, Block) else (o.value for o in outs)


@dataclass(slots=True)
class Outputs:
    """Records by product ("vehicle-position", ..., "dead-letter", "late"), in order."""

    records: dict[str, Sequence[Out]] = field(default_factory=dict)

    def add(self, product: str, outs: Sequence[Out]) -> None:
        if not outs:
            return
        before = self.records.get(product)
        if before is None:
            self.records[product] = outs if isinstance(outs, Records) else list(outs)
        elif isinstance(before, list) and not isinstance(outs, Records):
            before.extend(outs)
        else:
            self.records[product] = _chained(before, outs)

    def extend(self, other: Outputs) -> None:
        for product, outs in other.records.items():
            self.add(product, outs)

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))
