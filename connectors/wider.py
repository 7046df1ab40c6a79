"""Feeds of a region or a country: the vehicles that are in the city now, and where those have called; the others are passed over and counted.

Without ``wider = true`` in the city file, a vehicle outside the city's box is a mistake of its feed and ends among the dead letters.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Protocol

import numpy as np

from connectors.cities import Box
from connectors.columns import Parsed, VehicleColumns
from connectors.envelope import Envelope
from geo.network import Bool
from models.records import StopPassage


class _Parser(Protocol):
    def parse(self, envelope: Envelope) -> Parsed: ...


class OfTheCity:
    """A parser whose vehicles are those of the city."""

    def __init__(self, parser: _Parser, box: Box) -> None:
        self._parser, self._box = parser, box

    def parse(self, envelope: Envelope) -> Parsed:
        parsed = self._parser.parse(envelope)
        before = _size(parsed)
        here: set[str] = set()
        if parsed.vehicles is not None:
            inside = self._inside(parsed.vehicles, parsed)
            parsed.vehicles = rows(parsed.vehicles, inside)
            here = set(parsed.vehicles.vehicle_id)
        calls = len(parsed.stated)
        parsed.stated = [s for s in parsed.stated if not isinstance(s.record, StopPassage) or s.record.vehicle_id in here]
        if calls > len(parsed.stated):
            parsed.skip("outside_box", calls - len(parsed.stated))
        parsed.events -= before - _size(parsed)
        return parsed

    def _inside(self, c: VehicleColumns, parsed: Parsed) -> Bool:
        """Swapped coordinates stay, since they are a mistake and not another city."""
        b = self._box
        nowhere = np.isnan(c.lat_deg) | np.isnan(c.lon_deg)
        inside = (c.lat_deg >= b.south) & (c.lat_deg <= b.north) & (c.lon_deg >= b.west) & (c.lon_deg <= b.east)
        inside |= (c.lon_deg >= b.south) & (c.lon_deg <= b.north) & (c.lat_deg >= b.west) & (c.lat_deg <= b.east)
        for reason, n in (("no_place", int(nowhere.sum())), ("outside_box", int((~inside & ~nowhere).sum()))):
            if n:
                parsed.skip(reason, n)
        return inside & ~nowhere


def rows(c: VehicleColumns, keep: Bool) -> VehicleColumns:
    """Some rows of the columns, in their order."""
    at = np.flatnonzero(keep).tolist()
    kept: dict[str, Any] = {}
    for f in fields(c):
        column = getattr(c, f.name)
        if f.name == "signal":
            kept["signal"] = {k: column[i] for k, i in enumerate(at) if i in column}
            continue
        kept[f.name] = column[keep] if isinstance(column, np.ndarray) else [column[i] for i in at]
    return VehicleColumns(**kept)


def _size(parsed: Parsed) -> int:
    return (0 if parsed.vehicles is None else len(parsed.vehicles)) + len(parsed.stated)
