"""Fingrid open data: how much CO2 a kilowatt-hour of the Finnish grid stands for, every three minutes.

Read are data sets 265 (electricity consumed, imports included) and 266 (electricity produced), as the newest value (an object) or as a page of values
(an object with ``data``); everything else that Fingrid publishes is passed over.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from connectors.cities import City, FeedSettings
from connectors.columns import Parsed, Stated
from connectors.envelope import Envelope, Item
from connectors.reading import Refused, decoder, iso_ms, number, reject
from models.clock import rfc3339
from models.emission_records import GridFactor

#: What the factor holds for, by number of the data set.
BASES: dict[int, Literal["consumption", "production"]] = {265: "consumption", 266: "production"}
#: No grid on Earth emits more, g/kWh: lignite alone is about 1,200.
MOST_G_PER_KWH = 2000.0


class _Value(msgspec.Struct):
    datasetId: int
    startTime: str
    endTime: str
    value: float | int | str | None = None


class _Answer(msgspec.Struct):
    data: list[msgspec.Raw] | None = None


_answer = decoder(_Answer, "a value, or an object with data")
_values = decoder(list[msgspec.Raw], "a list of values")
_value = decoder(_Value, "a value: datasetId, startTime, endTime, value")


class Parser:
    """Parses envelopes of one Fingrid feed; remembers nothing."""

    def __init__(self, feed: FeedSettings, city: City) -> None:
        self._feed = feed.name
        self._prefix = f"{feed.id_namespace or 'fingrid'}/"

    def parse(self, envelope: Envelope) -> Parsed:
        """``index`` counts values over all items of a snapshot."""
        parsed, before = Parsed(), 0
        for k, item in enumerate(envelope.items):
            try:
                listed = item.body.lstrip()[:1] == b"["
                data = _values(item.body) if listed else _answer(item.body).data
                parts = [msgspec.Raw(item.body)] if data is None else data
            except Refused as e:
                parsed.rejects.append(reject(k if envelope.kind == "messages" else -1, item, e))
                continue
            for n, raw in enumerate(parts):
                try:
                    self._one(before + n, item, _value(raw), parsed)
                except Refused as e:
                    parsed.rejects.append(reject(before + n, item, e, raw))
            before += len(parts)
        parsed.stated.sort(key=lambda s: s.event_ms)  # pages may come newest first; the last statement stands
        parsed.events = len(parsed.stated) + len(parsed.rejects)
        return parsed

    def _one(self, index: int, item: Item, v: _Value, parsed: Parsed) -> None:
        basis = BASES.get(v.datasetId)
        if basis is None:
            parsed.skip("other_dataset")
            return
        grams = number(v.value, "value", 0.0, MOST_G_PER_KWH)
        if grams != grams:
            parsed.skip("no_value")
            return
        start_ms, end_ms = iso_ms(v.startTime, "startTime"), iso_ms(v.endTime, "endTime")
        if end_ms < start_ms:
            raise Refused("range", "endTime", v.endTime, f"a time from {v.startTime} on")
        record = GridFactor(
            grid_id=f"{self._prefix}{v.datasetId}",
            window_start=rfc3339(start_ms),
            window_end=rfc3339(end_ms),
            ingest_time=rfc3339(item.ingest_ms),
            feed=self._feed,
            basis=basis,
            co2_g_per_kwh=grams,
        )
        parsed.stated.append(
            Stated(index=index, ingest_ms=item.ingest_ms, event_ms=start_ms, product="grid-factor", key=record.grid_id, record=record)
        )
