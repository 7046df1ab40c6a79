"""Records joined from columns, against the encoder of single records."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from models.clock import rfc3339
from streams.texts import Known, instants, join, numbers, pick

NUMBERS = st.one_of(st.floats(-1e12, 1e12), st.sampled_from([0.0, -0.0, 5.0, -0.000001, 1e11]), st.integers(-(10**12), 10**12).map(float))


@given(st.lists(st.tuples(st.one_of(st.none(), NUMBERS), st.one_of(st.none(), NUMBERS)), min_size=1, max_size=20), st.integers(0, 6))
def test_numbers_read_back_as_what_they_are_rounded_to(rows: list[tuple[float | None, float | None]], digits: int) -> None:
    a, b = (np.array([np.nan if v is None else v for v in column]) for column in zip(*rows, strict=True))
    texts = join('{"all":true', *numbers(a=(a, digits), b=(b, 1)), "}").to_pylist()
    for text, (x, y) in zip(texts, rows, strict=True):
        wanted = {"all": True} | {n: float(np.round(v, d)) for n, v, d in (("a", x, digits), ("b", y, 1)) if v is not None}
        assert msgspec.json.decode(text) == wanted
        assert digits or x is None or abs(x) >= 1e10 or f'"a":{round(x)}' in text


@given(st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8")))))
def test_texts_are_those_of_the_encoder(values: list[str | None]) -> None:
    known = Known(',"x":')
    for _ in range(2):
        assert known.of(values).to_pylist() == [None if v is None else ',"x":' + msgspec.json.encode(v).decode() for v in values]


@given(st.lists(st.integers(0, 4_102_444_800_000), min_size=1))
def test_instants_are_those_of_the_clock(ms: list[int]) -> None:
    assert instants(np.array(ms)).to_pylist() == [rfc3339(m) for m in ms]


def test_what_is_not_there_is_left_out() -> None:
    assert join("[", pick(pa.array(["a", "b"]), np.array([1, -1, 0])), "]").to_pylist() == ["[b]", "[]", "[a]"]


def test_arrow_does_not_load_pandas_for_a_worker_and_finds_it_for_whoever_asks() -> None:
    code = (
        "import sys, streams.worker, pyarrow as pa; pa.array([1]); assert 'pandas' not in sys.modules; "
        "assert list(pa.table({'a': [1]}).to_pandas().a) == [1]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
