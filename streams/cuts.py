"""Envelopes cut at the borders of health slots, and put together within them: how the log was cut must decide nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np

from connectors.envelope import Envelope
from streams.health import SLOT_MS
from streams.publish import Where


class Part(NamedTuple):
    """Messages of one envelope that were received in one health slot."""

    envelope: Envelope
    offset: int
    first: int  #: where in the envelope they begin


def by_slot(envelope: Envelope, offset: int) -> list[Part]:
    """An envelope cut where a health slot ends, so that a slot counts what was received in it however the log is cut."""
    items = envelope.items
    if envelope.kind != "messages" or not items or items[0].ingest_ms // SLOT_MS == envelope.ingest_ms // SLOT_MS:
        return [Part(envelope, offset, 0)]
    parts, first = [], 0
    for k in range(1, len(items) + 1):
        if k == len(items) or items[k].ingest_ms // SLOT_MS != items[first].ingest_ms // SLOT_MS:
            piece = items[first:k]
            parts.append(Part(msgspec.structs.replace(envelope, items=piece, ingest_ms=piece[-1].ingest_ms), offset, first))
            first = k
    return parts


def runs(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """What may be taken together: messages received in one health slot, all simulated or none; all else by itself."""
    first = 0
    for k in range(1, len(parts) + 1):
        if k < len(parts) and (own := _slot(parts[k].envelope)) is not None and own == _slot(parts[first].envelope):
            continue
        yield parts[first:k]
        first = k


def _slot(e: Envelope) -> tuple[bool, int] | None:
    return (e.simulated, e.ingest_ms // SLOT_MS) if e.kind == "messages" else None


def merged(batch: Sequence[Part]) -> tuple[Envelope, Where]:
    """Envelopes of messages as one, and where in the log each item of it is."""
    if len(batch) == 1:
        return batch[0].envelope, Where([0], [batch[0].offset], [batch[0].first])
    items = [p.envelope.items for p in batch]
    starts = np.cumsum([0, *(len(i) for i in items[:-1])]).tolist()
    whole = msgspec.structs.replace(batch[-1].envelope, items=tuple(chain.from_iterable(items)))
    return whole, Where(starts, [p.offset for p in batch], [p.first for p in batch])
