"""Which stops a city's boards are asked for, where its file names none: those of its built network that most trips call at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from connectors.cities import STOPS, City


def busiest(folder: Path, most: int) -> tuple[str, ...]:
    """Stops of a network by the number of trips that call there; a shape without trips counts as one. Equal ones by id; none where there is no network.

    Args:
        folder: as ``network build`` wrote it.
    """
    if not (folder / "stops.parquet").is_file():
        return ()
    trips = Counter(pq.read_table(folder / "trips.parquet", columns=["shape"])["shape"].to_pylist())
    calls: Counter[str] = Counter()
    table = pq.read_table(folder / "stops.parquet", columns=["shape", "stop_id"])
    for shape, stop in zip(table["shape"].to_pylist(), table["stop_id"].to_pylist(), strict=True):
        calls[stop] += max(trips[shape], 1)
    return tuple(stop for stop, _ in sorted(calls.items(), key=lambda c: (-c[1], c[0]))[:most])


def with_stops(city: City, folder: Path) -> City:
    """The city, with stops wherever its file asks for some and names none."""
    feeds = []
    for feed in city.feeds:
        http = tuple(
            msgspec.structs.replace(h, stops=busiest(folder, h.most_stops)) if STOPS in h.url and not h.stops else h for h in feed.http
        )
        feeds.append(msgspec.structs.replace(feed, http=http))
    return msgspec.structs.replace(city, feeds=tuple(feeds))
