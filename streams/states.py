"""``segment-state`` records as bytes: columns in, JSON out, the same bytes that encoding ``models.records.SegmentState`` gives.

A city has 150,000 segments and a record every few minutes of each. Building record objects and encoding them costs 20 us each; joining columns of texts costs 2.
A test holds the two to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geo.network import F64, I64, Bool, Segments
from models.clock import rfc3339
from models.fluency import LOS_GRADES, STATUS_NAMES, fluency_columns
from models.fusion import ALGORITHM, ORIGINS, Estimate
from models.profile import Profile
from streams.figures import fixed
from streams.outputs import Block, Out, parted
from streams.texts import integers, join, json_text, pick


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

    def of(self, which: Bool | slice) -> Columns:
        """Some of them."""
        return Columns(*(getattr(self, name)[which] for name in self.__slots__))


FLOW_SOURCES = ("measured", "transferred", "fundamental_diagram", "prior")


#: ``los``, ``datex_status`` and ``jam_factor`` by grade, status and tenths of the factor, which is 9.9 at most on an open street; the last is of a closed one.
_JAMS = 100
_FLUENCY = pa.array(
    [
        f',"los":"{grade}","datex_status":"{status}","jam_factor":{jam / 10}'
        for grade in LOS_GRADES
        for status in STATUS_NAMES
        for jam in range(_JAMS)
    ]
    + [',"los":"F","datex_status":"stationary","jam_factor":10.0,"closed":true']
)
_CLOSED = len(_FLUENCY) - 1
_ORIGINS = pa.array([f'{o}","confidence":' for o in ORIGINS])
_SOURCES = pa.array([f',"flow_source":"{s}"' for s in FLOW_SOURCES])


class States:
    """The constant parts of every segment's record, and the text around the rest."""

    def __init__(self, segments: Segments, free_flow_kmh: F64, free_flow_method: list[str]) -> None:
        self._keys, self._names = names_of(segments.segment_id)
        of = {r: k for k, r in enumerate(dict.fromkeys(segments.represents))}
        self._who = pa.array([f',"represents":{json_text(r)},"algorithm":"{ALGORITHM}' for r in of], pa.string())
        self._who_of = np.array([of[r] for r in segments.represents], np.int8)
        self.profile: Profile | None = None  #: what values rest on too; said in ``algorithm``
        self._free: dict[str, int] = {}  #: texts of free flow
        self._free_of: NDArray[np.int32] = np.array(
            [self._free_text(*vm) for vm in zip(free_flow_kmh.tolist(), free_flow_method, strict=True)], np.int32
        )
        self._length_m, self._free_flow_kmh = segments.length_m, free_flow_kmh.copy()

    def _free_text(self, kmh: float, method: str) -> int:
        text = f',"free_flow_kmh":{round(kmh, 1)},"free_flow_method":"{method}"'
        return self._free.setdefault(text, len(self._free))

    def know_free_flow(self, row: int, kmh: float, method: str) -> None:
        """From now on this is the free-flow speed of one segment."""
        self._free_flow_kmh[row], self._free_of[row] = kmh, self._free_text(kmh, method)

    def records(self, start_ms: int, end_ms: int, revision: int, e: Estimate, c: Columns, *, final: bool, simulated: bool) -> Sequence[Out]:
        """One record a row."""
        start, end = rfc3339(start_ms), rfc3339(end_ms)
        when = f'","window_start":"{start}","window_end":"{end}","status":"{"final" if final else "provisional"}","revision":{revision},"origin":"'
        tail = ',"simulated":true}' if simulated else "}"
        made = '"' if self.profile is None else f'+usual.{self.profile.version[:12]}"'
        rows, at = c.rows, c.at
        columns = Estimate(*(getattr(e, name)[at] for name in Estimate.__slots__))
        free, free_of, free_kmh = pa.array(self._free, pa.string()), self._free_of[rows], self._free_flow_kmh[rows]

        def make(a: int, b: int) -> Block:
            part = slice(a, b)
            some = Estimate(*(getattr(columns, name)[part] for name in Estimate.__slots__))
            stated = c.of(part)
            texts = self._texts(some, stated, free_kmh[part], free.take(pa.array(free_of[part])), when, made, tail, end_ms)
            keys = self._keys.take(pa.array(stated.rows))
            return Block(keys, texts, np.full(len(stated.rows), start_ms), join("segment-state:", keys, f":{start_ms}:{revision}"))

        return parted(len(rows), make)

    def _texts(self, e: Estimate, c: Columns, free_kmh: F64, free: pa.Array, when: str, made: str, tail: str, end_ms: int) -> pa.Array:
        """Values of records."""
        rows, speed = c.rows, e.speed_kmh
        known = np.isfinite(speed)
        ratio: F64 = np.round(np.where(known, speed / free_kmh, 0.0), 3).astype(np.float64)
        los, status, jam = fluency_columns(ratio)
        fluency = (los * len(STATUS_NAMES) + status) * _JAMS + np.rint(jam * 10.0).astype(np.int64)
        fluency = np.where(c.closed, _CLOSED, np.where(known, fluency, -1))
        length = self._length_m[rows]
        travel = np.where(known, length * 3.6 / np.maximum(speed, 0.1), np.nan)
        delay = np.maximum(travel - length * 3.6 / free_kmh, 0.0)
        age = np.where(c.newest_ms >= 0, np.maximum(end_ms - c.newest_ms, 0) / 1000.0, np.nan)
        parts: list[pa.Array | str] = ['{"segment_id":"', self._names.take(pa.array(rows)), when, _ORIGINS.take(pa.array(e.origin))]
        parts += [fixed(e.confidence, 3), self._who.take(pa.array(self._who_of[rows])), made]
        for name, column in (("speed_kmh", speed), ("speed_p20_kmh", e.p20_kmh), ("speed_p80_kmh", e.p80_kmh)):
            parts += field(name, np.where(known, column, np.nan), 2)
        parts += [free, *field("speed_ratio", np.where(known, ratio, np.nan), 3)]
        parts += [*field("travel_time_s", travel, 1), *field("delay_s", delay, 1), *field("flow_vph", c.flow_vph, 1)]
        parts += [pick(_SOURCES, np.where(np.isnan(c.flow_vph), -1, c.flow_source)), pick(_FLUENCY, fluency)]
        parts += [*field("data_age_s", age, 1), ',"vehicle_count":', integers(c.vehicles)]
        shares = {"probe": e.probe_weight, "loop": e.loop_weight, "memory": e.memory_weight, "network": e.network_weight}
        return join(*parts, _mix({name: np.where(known, np.round(share, 3), 0.0) for name, share in shares.items()}, known), tail)


def field(name: str, values: F64, digits: int) -> tuple[pa.Array | str, pa.Array]:
    """A field of numbers >= 0, and its name before it, as parts of records that leave it out where it is NaN."""
    missing = np.isnan(values)
    head = f',"{name}":'
    return pick(pa.array([head]), -missing.astype(np.int64)) if missing.any() else head, fixed(values, digits)


def _mix(shares: dict[str, F64], known: Bool) -> pa.Array:
    """``source_mix`` of shares that are rounded: those that are not 0, of segments with a speed. Most of them have one share, of 1."""
    code = sum(((share > 0.0).astype(np.int64) << k for k, share in enumerate(shares.values())), np.zeros(len(known), np.int64))
    code[~known] = -1
    parts: list[pa.Array | str] = []
    for k, (name, share) in enumerate(shares.items()):
        # what stands before the k-th share, by which of the shares are not 0
        heads = [("," if c % (1 << k) else ',"source_mix":{') + f'"{name}":' if c >> k & 1 else None for c in range(1 << len(shares))]
        parts += [pick(pa.array(heads, pa.string()), code), fixed(np.where(share > 0.0, share, np.nan), 3)]
    tails = ["}" if c else ',"source_mix":{}' for c in range(1 << len(shares))]
    return join(*parts, pick(pa.array(tails), code))


def names_of(ids: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    """Names as keys of records, and as they stand between the quotes of JSON: the same column, unless some need an escape.

    >>> [a.to_pylist() for a in names_of(["w1_f", 'a"b'])]
    [['w1_f', 'a"b'], ['w1_f', 'a\\\\"b']]
    """
    keys = pa.array(ids, pa.string())
    texts = [json_text(i)[1:-1] for i in ids]
    return keys, keys if all(map(str.__eq__, texts, ids)) else pa.array(texts, pa.string())
