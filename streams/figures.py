"""Numbers as text from tables of all texts that there are: records of a whole city are mostly numbers of four digits, and to look one up costs a fifth of writing it.

What no table holds is written as it comes. The texts are those of the records' own encoder.
"""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np
import pyarrow as pa

from connectors.columns import I64
from geo.network import F64
from streams.texts import pick

#: Significant digits of ``significant``.
DIGITS = 4
#: Powers of ten by which a number becomes one of four digits: from 1e-8 to 1e10.
_LEAST, _MOST = -6, 11
_FIRST, _MANTISSAS = 10 ** (DIGITS - 1), 9 * 10 ** (DIGITS - 1) + 1
#: Largest number in the tables of ``fixed``, times ten to the number of its digits: 10,000 with one, 300 with two, 10 with three.
_FIXED = {1: 100_000, 2: 30_000, 3: 10_000}
_POWER: F64 = (10.0 ** np.arange(309)).astype(np.float64)


def texts(values: F64) -> pa.Array:
    """Each number as the records' encoder writes it; what is NaN is missing.

    >>> texts(np.array([0.0, 1e-07, 1.5, np.nan, 1e22])).to_pylist()
    ['0.0', '1e-7', '1.5', None, '1e22']
    """
    out = msgspec.json.encode(values.tolist())[1:-1].decode().split(",") if len(values) else []
    return pa.array([None if t == "null" else t for t in out], pa.string())


def fixed(values: F64, digits: int) -> pa.Array:
    """Numbers >= 0, rounded to 1, 2 or 3 digits behind the point; what is NaN is missing.

    >>> fixed(np.array([0.0, 12.3456, np.nan, 5.0]), 2).to_pylist()
    ['0.0', '12.35', None, '5.0']
    """
    missing = np.isnan(values)
    scaled = np.rint(np.where(missing, -1.0, values * 10.0**digits))
    if not ((scaled <= _FIXED[digits]) & ((scaled >= 0.0) | missing)).all():
        return texts(np.round(values, digits))
    return pick(_fixed(digits), scaled.astype(np.int64))


def rounded(values: F64, digits: int = DIGITS) -> F64:
    """Rounded to significant digits; 0 stays 0.

    >>> rounded(np.array([0.0, 123456.0, 0.00123456])).tolist()
    [0.0, 123500.0, 0.001235]
    """
    power, mantissa = _mantissas(values, digits)
    return np.where(values > 0.0, _value(mantissa, power), 0.0)


def significant(values: F64) -> pa.Array:
    """Numbers >= 0, rounded to four significant digits.

    >>> significant(np.array([0.0, 123456.0, 0.00123456, 1e-9, 7.0, 9.9999])).to_pylist()
    ['0.0', '123500.0', '0.001235', '1e-9', '7.0', '10.0']
    """
    power, mantissa = _mantissas(values, DIGITS)
    zero = values <= 0.0
    if not (zero | ((power >= _LEAST) & (power <= _MOST))).all():
        return texts(rounded(values))
    at = (power - _LEAST) * _MANTISSAS + mantissa.astype(np.int64) - _FIRST
    return _significant().take(pa.array(np.where(zero, len(_significant()) - 1, at)))


def _mantissas(values: F64, digits: int) -> tuple[I64, F64]:
    """Power of ten, and the number of so many digits that is the value times it."""
    some = np.where(values > 0.0, values, 1.0)
    power = np.clip(digits - 1 - np.floor(np.log10(some)), -300, 300).astype(np.int64)
    return power, np.rint(some * _POWER[np.maximum(power, 0)] / _POWER[np.maximum(-power, 0)])


def _value(mantissa: F64, power: I64) -> F64:
    out: F64 = mantissa / _POWER[np.maximum(power, 0)] * _POWER[np.maximum(-power, 0)]
    return out


@cache
def _significant() -> pa.Array:
    """All numbers of four digits, 1000 to 10000, at each power; and zero at the end."""
    mantissa = np.arange(_FIRST, _FIRST + _MANTISSAS).astype(np.float64)
    powers = np.arange(_LEAST, _MOST + 1)
    return pa.concat_arrays([*(texts(_value(mantissa, np.full(_MANTISSAS, p))) for p in powers), texts(np.zeros(1))])


@cache
def _fixed(digits: int) -> pa.Array:
    values = np.arange(_FIXED[digits] + 1) / 10.0**digits
    return pa.concat_arrays([texts(part) for part in np.array_split(values, 10)])
