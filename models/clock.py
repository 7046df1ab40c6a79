"""Instants as integer milliseconds since 1970 UTC inside, RFC 3339 with milliseconds outside. No function here asks what time it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_REST = [f".{k:03d}Z" for k in range(1000)]


def rfc3339(ms: int) -> str:
    """
    >>> rfc3339(1773120600123)
    '2026-03-10T05:30:00.123Z'
    """
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def rfc3339_column(ms: NDArray[np.int64]) -> list[str]:
    """The same for n instants at once.

    >>> rfc3339_column(np.array([1773120600123, 0]))
    ['2026-03-10T05:30:00.123Z', '1970-01-01T00:00:00.000Z']
    """
    second, rest = np.divmod(ms, 1000)
    known = np.unique(second)
    text = dict(zip(known.tolist(), np.datetime_as_string(known.astype("datetime64[s]")).tolist(), strict=True))
    return [text[s] + _REST[r] for s, r in zip(second.tolist(), rest.tolist(), strict=True)]


def parse_ms(text: str) -> int:
    """Milliseconds of an RFC 3339 / ISO 8601 text that names its zone; sub-millisecond digits are cut.

    Raises:
        ValueError: not such a text, or without zone.

    >>> parse_ms("2018-10-05T05:24:43Z"), parse_ms("2026-03-10T07:30:00.5+02:00")
    (1538717083000, 1773120600500)
    """
    t = datetime.fromisoformat(text)
    if t.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return (t - _EPOCH) // timedelta(milliseconds=1)
