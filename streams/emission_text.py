"""Emission records as JSON, columns at once: 150,000 records of 28 numbers every five minutes are too many for one object each.

``tests/streams/test_emissions.py`` holds the text equal to what ``models.records.encode`` writes for the same record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from geo.network import F64
from models.emissions.rates import OUTPUTS

#: Significant digits of published values.
DIGITS = 4


def rounded(x: F64, digits: int = DIGITS) -> F64:
    """Rounded to significant digits; 0 stays 0.

    >>> rounded(np.array([0.0, 123456.0, 0.00123456])).tolist()
    [0.0, 123500.0, 0.001235]
    """
    some = np.where(x > 0.0, x, 1.0)
    power = digits - 1 - np.floor(np.log10(some)).astype(np.int64)
    up, down = 10.0 ** np.maximum(power, 0), 10.0 ** np.maximum(-power, 0)
    out: F64 = np.where(x > 0.0, np.rint(some * up / down) / up * down, 0.0)
    return out


def quantity(name: str, value: F64, lo95: F64, hi95: F64) -> list[str]:
    """``"name":{"value":..,"lo95":..,"hi95":..}`` of n rows.

    >>> quantity("nox", np.array([1.0]), np.array([0.5]), np.array([2.0]))
    ['"nox":{"value":1.0,"lo95":0.5,"hi95":2.0}']
    """
    columns = zip(numbers(rounded(value)), numbers(rounded(lo95)), numbers(rounded(hi95)), strict=True)
    return [f'"{name}":{{"value":{v},"lo95":{lo},"hi95":{hi}}}' for v, lo, hi in columns]


def numbers(x: F64) -> list[str]:
    """Each number as msgspec writes it, all at once.

    >>> numbers(np.array([0.0, 1e-07, 1.5, 1e22])), numbers(np.empty(0))
    (['0.0', '1e-7', '1.5', '1e22'], [])
    """
    return msgspec.json.encode(x.tolist())[1:-1].decode().split(",") if len(x) else []


def outputs_text(value: F64, lo95: F64, hi95: F64) -> list[str]:
    """All outputs of n rows, (n, 9) each, joined with commas."""
    parts = [quantity(output, value[:, p], lo95[:, p], hi95[:, p]) for p, output in enumerate(OUTPUTS)]
    return [",".join(row) for row in zip(*parts, strict=True)]


def fields(values: Mapping[str, object]) -> str:
    """Fields that all rows have in common, without braces; None is left out.

    >>> fields({"a": 1.5, "b": None, "c": "x"})
    '"a":1.5,"c":"x"'
    """
    text = json.dumps({k: v for k, v in values.items() if v is not None}, ensure_ascii=False, separators=(",", ":"))
    return text[1:-1]


def records(parts: Sequence[list[str]]) -> list[bytes]:
    """Rows of fields as JSON objects; empty fields are left out."""
    return [f"{{{','.join([p for p in row if p])}}}".encode() for row in zip(*parts, strict=True)]
