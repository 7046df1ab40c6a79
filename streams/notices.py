"""Situations on streets on their way to the fuse step, which must know what is closed and what a message explains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from models.clock import parse_ms
from models.records import Situation
from streams.outputs import Out
from streams.partial import OPEN_END, NoticeRow

#: What is still valid is told again this often, milliseconds of log time: partials are kept for a day, a closure may last for years.
AGAIN_MS = 3_600_000
#: Alerts of lines say nothing of the street; ``closed`` there means the line.
_NOT_OF_STREETS = frozenset({"transit_alert", "information"})


class Notices:
    """The last version of every situation on streets of one raw partition that has not ended."""

    def __init__(self, row_of: Mapping[str, int]) -> None:
        self._row_of = row_of
        self.valid: dict[str, NoticeRow] = {}
        self._new: list[NoticeRow] = []
        self._told_ms = 0

    def read(self, records: Iterable[Out], log_ms: int) -> None:
        """Records of situations as published; tombstones were told as ends before."""
        for o in records:
            if not o.value:
                continue
            row = notice(msgspec.json.decode(o.value, type=Situation), self._row_of, o.time_ms)
            if row is None and o.key.decode() not in self.valid:
                continue
            row = row or msgspec.structs.replace(self.valid[o.key.decode()], event_ms=o.time_ms, ingest_ms=log_ms, to_ms=o.time_ms)
            self._new.append(row)
            if row.to_ms > log_ms:
                self.valid[row.situation_id] = row
            else:
                self.valid.pop(row.situation_id, None)

    def take(self, log_ms: int) -> tuple[NoticeRow, ...]:
        """What is new; now and then everything that is valid."""
        if log_ms - self._told_ms >= AGAIN_MS:
            self._told_ms = log_ms
            self.valid = {k: r for k, r in self.valid.items() if r.to_ms > log_ms}
            self.resend()
        new, self._new = self._new, []
        return tuple(dict.fromkeys(new))

    def resend(self) -> None:
        """The next ``take`` gives everything that is valid."""
        self._new += [self.valid[k] for k in sorted(self.valid)]

    def export(self) -> list[object]:
        return [self._told_ms, [self.valid[k] for k in sorted(self.valid)]]

    def restore(self, data: list[object]) -> None:
        self._told_ms, rows = msgspec.convert(data, tuple[int, list[NoticeRow]])
        self.valid, self._new = {r.situation_id: r for r in rows}, []


def notice(s: Situation, row_of: Mapping[str, int], event_ms: int) -> NoticeRow | None:
    """What the fuse step needs of a situation; None when it is of no street here."""
    segments = tuple(sorted(row_of[i] for i in s.segment_ids or () if i in row_of))
    if s.kind in _NOT_OF_STREETS or not segments:
        return None
    begin = event_ms if s.valid_from is None else parse_ms(s.valid_from)
    end = OPEN_END if s.valid_to is None else parse_ms(s.valid_to)
    end = min(end, event_ms) if s.ended else end
    return NoticeRow(
        event_ms, parse_ms(s.ingest_time), end, min(begin, end), s.situation_id, segments, bool(s.closed) or s.kind == "closure"
    )
