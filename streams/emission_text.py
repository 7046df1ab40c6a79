"""Emission records as JSON, by columns: 150,000 records of 28 numbers every five minutes are too many for one object each.

``tests/streams/test_emissions.py`` holds the text equal to what ``models.records.encode`` writes for the same record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from geo.network import F64
from models.emissions.rates import OUTPUTS
from streams.figures import significant


def quantities(value: F64, lo95: F64, hi95: F64, names: Sequence[str] = OUTPUTS) -> list[pa.Array | str]:
    """``,"name":{"value":..,"lo95":..,"hi95":..}`` of n rows and k names, as parts for ``streams.texts.join``; (k, n) each.

    >>> from streams.texts import join
    >>> join("{", *quantities(np.array([[1.0]]), np.array([[0.5]]), np.array([[2.0]]), ["nox"]), "}").to_pylist()
    ['{,"nox":{"value":1.0,"lo95":0.5,"hi95":2.0}}']
    """
    n = value.shape[1]
    texts = significant(np.concatenate([value, lo95, hi95]).ravel())
    out: list[pa.Array | str] = []
    for k, name in enumerate(names):
        heads = f'{"}" if k else ""},"{name}":{{"value":', ',"lo95":', ',"hi95":'  # each part costs, so braces go with what comes next
        for i, head in enumerate(heads):
            row = k + i * len(names)
            out += [head, texts[n * row : n * (row + 1)]]
    return [*out, "}"]


def fields(values: Mapping[str, object]) -> str:
    """Fields that all rows have in common, without braces; None is left out.

    >>> fields({"a": 1.5, "b": None, "c": "x"})
    '"a":1.5,"c":"x"'
    """
    text = json.dumps({k: v for k, v in values.items() if v is not None}, ensure_ascii=False, separators=(",", ":"))
    return text[1:-1]
