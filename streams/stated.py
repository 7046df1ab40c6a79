"""Records that a feed states as they are: each published once, when it is new or has changed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from connectors.columns import Reject, Stated
from models.records import encode
from streams.outputs import Out, Outputs

if TYPE_CHECKING:
    from streams.observe import Observer


#: More keys than this, and the half not stated for longest is forgotten. Stated again, they are published again, which changes nothing for a reader.
MOST_KEYS = 100_000


class Statements:
    """The last statement of every product and key of one raw partition."""

    def __init__(self) -> None:
        self.last: dict[str, list[int]] = {}  #: "product:key" -> [event_ms, CRC-32 of the content, ingest_ms]

    def feed(self, stated: list[Stated], owner: Observer, rejects: list[Reject], out: Outputs) -> int:
        """Publish what is new; returns the number of repetitions. An older statement than the last one of its key changes nothing either."""
        duplicates = 0
        limits = owner.settings.clean
        for s in stated:
            if not s.ingest_ms - limits.oldest_ms <= s.event_ms <= s.ingest_ms + limits.newest_ms and s.product != "situation":
                want = "within 7 days before and 2 minutes after ingest, epoch ms"
                rejects.append(Reject(s.index, "clock", "event_time", str(s.event_ms), want))
                continue
            name = f"{s.product}:{s.key}"
            record = msgspec.structs.replace(s.record, simulated=True) if owner.simulated else s.record
            value = encode(record)
            crc = zlib.crc32(encode(msgspec.structs.replace(s.record, ingest_time="")) if hasattr(s.record, "ingest_time") else value)
            last = self.last.get(name)
            if last is not None and (s.event_ms < last[0] or crc == last[1]):
                last[2] = max(last[2], s.ingest_ms)
                duplicates += 1
                continue
            self.last[name] = [s.event_ms, crc, s.ingest_ms]
            owner.tally.accepted += 1
            out.add(s.product, [Out(s.key.encode(), value, s.event_ms, f"{name}:{s.event_ms}:{crc:08x}")])
        if len(self.last) > MOST_KEYS:
            newest = sorted(self.last.items(), key=lambda kv: (kv[1][2], kv[0]))[len(self.last) // 2 :]
            self.last = dict(newest)
        return duplicates

    def heard(self, since_ms: int) -> int:
        """Keys stated since then."""
        return sum(1 for v in self.last.values() if v[2] >= since_ms)

    def export(self) -> dict[str, Any]:
        return self.last

    def restore(self, data: dict[str, Any]) -> None:
        self.last = {k: list(v) for k, v in data.items()}
