"""Partials on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.envelope import BadEnvelope
from streams.cells import N_SUMS
from streams.partial import HealthRow, Partial, SensorRow, decode, encode


def partial(n: int = 3, **change: Any) -> Partial:
    a = np.arange(n, dtype="<i8")
    p = Partial(
        1, "helsinki", "hfp", 2, 77, 1_773_120_600_123, "abc", False, ("0018/00001",), a.tobytes(), (a + 1).tobytes(), (a * 0).tobytes(),
        np.arange(n * N_SUMS, dtype="<i8").tobytes(),
        (SensorRow("digitraffic/1", "1", -1, 5, 300_000, None, 61.5, None, 4000.0),),
        (HealthRow(1, 2, 3, 0, 0, (1, 2), 9, None, 5, 3, True, None, None),),
    )  # fmt: skip
    return msgspec.structs.replace(p, **change)


@given(st.integers(0, 40))
def test_what_is_encoded_is_decoded(n: int) -> None:
    p = partial(n)
    q = decode(encode(p))
    assert q == p
    rows = q.rows()
    assert rows.sums.shape == (n, N_SUMS)
    assert rows.segment.tolist() == list(range(1, n + 1))


@settings(max_examples=150)
@given(st.data())
def test_a_torn_or_flipped_partial_is_refused(data: Any) -> None:
    good = bytearray(encode(partial()))
    cut = data.draw(st.integers(0, len(good) - 1))
    with pytest.raises(BadEnvelope):
        decode(bytes(good[:cut]))
    good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadEnvelope):
        decode(bytes(good))


@given(st.binary(max_size=80))
def test_bytes_that_are_not_ours_are_refused(data: bytes) -> None:
    with pytest.raises(BadEnvelope):
        decode(data)


@pytest.mark.parametrize("change", [
    {"schema": 2}, {"window": b"\0" * 16}, {"sums": b"\0" * 8 * N_SUMS}, {"who": b""}, {"sums": b"\0" * (8 * N_SUMS * 3 + 8)},
    {"window": b"\0" * 23, "segment": b"\0" * 23, "who": b"\0" * 23, "sums": b"\0" * 23 * N_SUMS},
])  # fmt: skip
def test_another_schema_or_columns_of_unequal_length_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadEnvelope):
        decode(encode(partial(**change))).rows()


def test_nothing_is_refused() -> None:
    for data in (None, b"", b"abcd"):
        with pytest.raises(BadEnvelope):
            decode(data)
