"""Text of many records at once: columns in, JSON out, joined by Arrow. A record costs what its bytes cost, not what its Python objects would.

A column is an Arrow array of texts, one a record: a field with its name and a comma before it, or ``None`` where the record leaves the field out. ``join`` puts them side by
side, with what is the same in all of them between::

    >>> ids, (speed, heading) = Known(',"segment_id":').of(["w1_f", 'a"b']), numbers(speed_kmh=(np.array([12.5, np.nan]), 2), heading_deg=(np.array([0.0, 7.0]), 1))
    >>> join('{"status":"final"', ids, speed, heading, "}").to_pylist()
    ['{"status":"final","segment_id":"w1_f","speed_kmh":12.5,"heading_deg":0.0}', '{"status":"final","segment_id":"a\\\\"b","heading_deg":7.0}']

Each call of Arrow costs as much as it takes to join a hundred short texts, so columns of one kind go through it together.
Numbers are the shortest text that reads back as the same double, as the records' own encoder writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.columns import I64
from geo.network import F64


class _NoPandas:
    """Finds no pandas."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        if name == "pandas":
            raise ImportError(name)


if "pandas" not in sys.modules:
    # Arrow's first value looks whether there is a pandas, and loads it: 45 MB and a second of CPU that a worker has no use for. Whoever asks for it later gets it.
    sys.meta_path.insert(0, _NoPandas)
    pa.scalar("")
    sys.meta_path.remove(_NoPandas)

# The C library gives back what is free (``streams/memory.py``): 55 MB less with 150,000 segments than with Arrow's own allocator, and no slower.
pa.set_memory_pool(pa.system_memory_pool())

_encode = msgspec.json.Encoder().encode
_NOTHING = pa.scalar("")
_POINT = pa.array(["", ".0"])
_REST = pa.array([f".{k:03d}Z" for k in range(1000)])
#: Texts that are remembered of one field.
MOST_KNOWN = 100_000


def json_text(value: object) -> str:
    """One value as JSON."""
    return _encode(value).decode()


def join(*parts: pa.Array | str) -> pa.Array:
    """Columns side by side, and between them what is the same for all; what is missing counts as nothing."""
    columns = (pa.scalar(p) if isinstance(p, str) else p for p in parts)
    return pc.binary_join_element_wise(*columns, _NOTHING, null_handling="replace", null_replacement="")


def numbers(**columns: tuple[F64, int]) -> list[pa.Array]:
    """A field of each of k columns of n numbers, rounded to so many digits behind the point (0: whole numbers); left out where NaN."""
    k, n = len(columns), len(next(iter(columns.values()))[0])
    rounded = np.concatenate([np.round(column, digits) for column, digits in columns.values()]) + 0.0  # no -0
    point = np.repeat(np.array([digits > 0 for _, digits in columns.values()]), n)
    names = pa.array([f',"{name}":' for name in columns]).take(pa.array(np.repeat(np.arange(k, dtype=np.int8), n)))
    texts = pc.cast(pa.array(rounded, from_pandas=True), pa.string())  # NaN is missing; 5.0 is 5
    whole = (rounded == np.rint(rounded)) & (np.abs(rounded) < 1e10) & point  # larger ones have an exponent
    both = pc.binary_join_element_wise(names, texts, _POINT.take(pa.array(whole.view(np.int8))), _NOTHING)
    return [both[n * i : n * (i + 1)] for i in range(k)]


def integers(column: I64) -> pa.Array:
    """Whole numbers, without a name."""
    return pc.cast(pa.array(column), pa.string())


def pick(texts: pa.Array, index: I64) -> pa.Array:
    """``texts[index]``; left out where the index is negative."""
    absent = index < 0
    return texts.take(pa.array(index, mask=absent if absent.any() else None))


def instants(ms: I64) -> pa.Array:
    """RFC 3339 in UTC with milliseconds, without name or quotes: ``models.clock.rfc3339`` of each.

    >>> instants(np.array([1773120600123, 0])).to_pylist()
    ['2026-03-10T05:30:00.123Z', '1970-01-01T00:00:00.000Z']
    """
    second, rest = np.divmod(ms, 1000)
    known, which = np.unique(second, return_inverse=True)
    texts = pa.array(np.datetime_as_string(known.astype("datetime64[s]")).tolist(), pa.string())
    return pc.binary_join_element_wise(texts.take(pa.array(which)), _REST.take(pa.array(rest)), _NOTHING)


class Known(dict[str | None, str | None]):
    """Texts that come again and again as JSON, each encoded once.

    Args:
        name: what stands before the text: ``,"stop_id":``.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self._name = name

    def __missing__(self, value: str | None) -> str | None:
        if len(self) > MOST_KNOWN:
            self.clear()
        made = self[value] = None if value is None else self._name + json_text(value)
        return made

    def of(self, values: Iterable[str | None]) -> pa.Array:
        """(n,) texts, left out where the value is None."""
        return pa.array([self[v] for v in values], pa.string())
