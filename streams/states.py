"""``segment-state`` records as bytes: columns in, JSON out, the same bytes that encoding ``models.records.SegmentState`` gives.

A city has 150,000 segments and a record every few minutes of each. Building record objects and encoding them costs 20 us each; filling in texts whose constant
parts were written beforehand costs 8. A test holds the two to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from geo.network import F64, I64, Bool, Segments
from models.clock import rfc3339
from models.fluency import LOS_GRADES, STATUS_NAMES, fluency_columns
from models.fusion import ALGORITHM, ORIGINS, Estimate
from models.profile import Profile
from streams.outputs import PART, Out, parted


@dataclass(slots=True)
class Columns:
    """What is said of n segments beside the estimate."""

    rows: I64  #: segments
    at: I64  #: where the estimate has them
    newest_ms: I64  #: newest observation of each, -1 none
    vehicles: I64  #: distinct vehicles seen in the window
    flow_vph: F64  #: NaN: not known
    flow_source: I64  #: index into ``FLOW_SOURCES``
    closed: Bool

    def of(self, which: Bool) -> Columns:
        """Some of them."""
        return Columns(*(getattr(self, name)[which] for name in self.__slots__))


FLOW_SOURCES = ("measured", "transferred", "fundamental_diagram", "prior")


class States:
    """The constant parts of every segment's record, and the text around the rest."""

    def __init__(self, segments: Segments, free_flow_kmh: F64, free_flow_method: list[str]) -> None:
        self._ids = segments.segment_id
        # Few texts differ: one for each segment would take 40 MB for 150,000.
        self._id_texts = id_texts(segments.segment_id)
        who = {r: f',"represents":{_json(r)},"algorithm":"{ALGORITHM}' for r in set(segments.represents)}
        self._who = [who[r] for r in segments.represents]
        self.profile: Profile | None = None  #: what values rest on too; said in ``algorithm``
        free: dict[tuple[float, str], str] = {}
        self._free = [free.setdefault(vm, _free(*vm)) for vm in zip(free_flow_kmh.tolist(), free_flow_method, strict=True)]
        self._length_m, self._free_flow_kmh = segments.length_m, free_flow_kmh.copy()

    def know_free_flow(self, row: int, kmh: float, method: str) -> None:
        """From now on this is the free-flow speed of one segment."""
        self._free_flow_kmh[row], self._free[row] = kmh, _free(kmh, method)

    def records(self, start_ms: int, end_ms: int, revision: int, e: Estimate, c: Columns, *, final: bool, simulated: bool) -> Sequence[Out]:
        """One record a row."""
        start, end = rfc3339(start_ms), rfc3339(end_ms)
        when = f'","window_start":"{start}","window_end":"{end}","status":"{"final" if final else "provisional"}","revision":{revision},"origin":"'
        tail = ',"simulated":true}' if simulated else "}"
        made = '"' if self.profile is None else f'+usual.{self.profile.version[:12]}"'
        rows, at = c.rows, c.at
        speed = e.speed_kmh[at]
        known = np.isfinite(speed)
        ratio: F64 = np.round(np.where(known, speed / self._free_flow_kmh[rows], 0.0), 3).astype(np.float64)
        los, status, jam = fluency_columns(ratio)
        travel = np.where(known, self._length_m[rows] * 3.6 / np.maximum(speed, 0.1), 0.0)
        delay = np.maximum(travel - self._length_m[rows] * 3.6 / self._free_flow_kmh[rows], 0.0)
        age = np.where(c.newest_ms >= 0, np.maximum(end_ms - c.newest_ms, 0) / 1000.0, -1.0)
        columns = (
            rows, known, np.round(speed, 2), np.round(e.p20_kmh[at], 2), np.round(e.p80_kmh[at], 2), ratio, np.round(travel, 1), np.round(delay, 1),
            los, status, jam, np.round(e.confidence[at], 3), e.origin[at], np.round(age, 1), c.vehicles, np.round(e.probe_weight[at], 3),
            np.round(e.loop_weight[at], 3), np.round(e.memory_weight[at], 3), np.round(e.network_weight[at], 3), np.round(c.flow_vph, 1),
            c.flow_source, c.closed,
        )  # fmt: skip
        free = self._free if len(rows) <= PART else self._free.copy()  # it may change before the last part is made

        def make(a: int, b: int) -> list[Out]:
            return self._texts([x[a:b].tolist() for x in columns], free, when, made, tail, start_ms, revision)

        return parted(len(rows), make)

    def _texts(self, columns: list[list[Any]], free: list[str], when: str, made: str, tail: str, start_ms: int, revision: int) -> list[Out]:
        """Records from columns of plain numbers."""
        head, who, ids = self._id_texts, self._who, self._ids
        out = []
        # fmt: off
        for (
            k, has, v, p20, p80, r, tt, late, grade, name, j, sure, origin, old, n, probe, loop, memory, network, flow, source, closed,
        ) in zip(*columns, strict=True):
            # fmt: on
            text = f'{{"segment_id":"{head[k]}{when}{ORIGINS[origin]}","confidence":{sure}{who[k]}{made}'
            if has:
                text += f',"speed_kmh":{v},"speed_p20_kmh":{p20},"speed_p80_kmh":{p80}{free[k]},"speed_ratio":{r},"travel_time_s":{tt},"delay_s":{late}'
            else:
                text += free[k]
            if flow == flow:
                text += f',"flow_vph":{flow},"flow_source":"{FLOW_SOURCES[source]}"'
            if closed:
                text += ',"los":"F","datex_status":"stationary","jam_factor":10.0,"closed":true'
            elif has:
                text += f',"los":"{LOS_GRADES[grade]}","datex_status":"{STATUS_NAMES[name]}","jam_factor":{j}'
            if old >= 0:
                text += f',"data_age_s":{old}'
            text += f',"vehicle_count":{n}'
            if has:
                mix = f',"probe":{probe}' if probe else ""
                if loop:
                    mix += f',"loop":{loop}'
                if memory:
                    mix += f',"memory":{memory}'
                if network:
                    mix += f',"network":{network}'
                text += f',"source_mix":{{{mix[1:]}}}'
            out.append(Out(ids[k].encode(), (text + tail).encode(), start_ms, f"segment-state:{ids[k]}:{start_ms}:{revision}"))
        return out


def _free(kmh: float, method: str) -> str:
    return f',"free_flow_kmh":{round(kmh, 1)},"free_flow_method":"{method}"'


def id_texts(ids: Sequence[str]) -> list[str]:
    """Names as they stand between the quotes of JSON: the very same objects, but for those that need an escape.

    >>> id_texts(["w1_f", 'a"b'])
    ['w1_f', 'a\\\\"b']
    """
    return [i if (text := _json(i)[1:-1]) == i else text for i in ids]


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()
