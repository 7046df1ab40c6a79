"""Hot emission factors of EMEP/EEA Tier 3, and the electric energy rows, with guards.

    EF(V) = (alpha V^2 + beta V + gamma + delta/V) / (epsilon V^2 + zita V + eta) * (1 - rf),  V clamped to [v_min, v_max]

EMEP/EEA air pollutant emission inventory guidebook 2019 (update 2020), chapter 1.A.3.b.i-iv, equation 25 and
Appendix 4. ``rf`` is a fraction (the source heads it "%"), and negative ones are real. The source has rows whose
denominator is zero inside their own speed range and rows that turn negative, so every evaluation passes guards
and reports which of them fired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.emissions import tables

Floats = NDArray[np.float64]
Guards = NDArray[np.uint8]

#: Guard bits; a value's guards are their sum.
BELOW_V_MIN: Final = 1
ABOVE_V_MAX: Final = 2
POLE: Final = 4
NEGATIVE: Final = 8

#: Names of the guard bits on the wire, in bit order.
GUARD_NAMES: Final[Mapping[int, str]] = {
    BELOW_V_MIN: "below_v_min",
    ABOVE_V_MAX: "above_v_max",
    POLE: "pole_bridged",
    NEGATIVE: "negative_floored",
}

#: A pole is bridged over the speeds where its own term exceeds this share of the curve without it.
_POLE_SHARE = 0.05
#: ... and at least this far to either side, km/h.
_POLE_REACH_KMH = 0.5

_COEFFICIENTS = ("alpha", "beta", "gamma", "delta", "epsilon", "zita", "eta")
KEY_COLUMNS: Final = ("category", "fuel", "segment", "euro", "technology", "pollutant", "mode", "road_slope", "load")
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HotTable:
    """Columns of all hot and electric rows, in file order; ``n`` rows.

    ``bridge_*`` describe, for the few rows with a pole in range, the speeds between which the curve is replaced by
    a straight line, and the factor at either end; NaN elsewhere.
    """

    row_id: tuple[str, ...]
    key: tuple[Key, ...]  #: KEY_COLUMNS of each row; slope and load as the table prints them, "" where it has none
    unit: tuple[str, ...]  #: "g/km" or "MJ/km"
    coefficients: Floats  #: (n, 7): alpha, beta, gamma, delta, epsilon, zita, eta
    kept: Floats  #: (n,): 1 - rf
    v_min_kmh: Floats  #: (n,)
    v_max_kmh: Floats  #: (n,)
    bridge_low_kmh: Floats  #: (n,)
    bridge_high_kmh: Floats  #: (n,)
    bridge_low_ef: Floats  #: (n,)
    bridge_high_ef: Floats  #: (n,)
    index: Mapping[Key, int]  #: first row of each key: the flat, half-loaded table comes before the slope table

    def __len__(self) -> int:
        return len(self.row_id)


def _curve(coefficients: Floats, kept: Floats | float, speed_kmh: Floats) -> Floats:
    """Equation 25 without clamp or guard; coefficients (..., 7), broadcast against speed."""
    a, b, g, d, e, z, h = np.moveaxis(coefficients, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value: Floats = (a * speed_kmh**2 + b * speed_kmh + g + d / speed_kmh) / (e * speed_kmh**2 + z * speed_kmh + h) * kept
    return value


def _bridge(coefficients: Floats, kept: float, v_min: float, v_max: float, check_v: float) -> tuple[float, float, float, float] | None:
    """Speeds and factors between which a row with a pole is interpolated, or None.

    Near a simple root r of the denominator EF(V) = res/(V - r) + g(V), with g smooth. The bridge spans
    the speeds where the first term exceeds ``_POLE_SHARE`` of g. It stops at the row's own range and at the speed whose
    value the source prints, which is therefore always reproduced. An end that the pole still spoils (wrong sign, or
    at the very edge of the range) takes the other end's factor.
    """
    a, b, g, d, e, z, h = coefficients
    if e == 0.0 and z == 0.0:
        return None
    discriminant = z * z - 4.0 * e * h
    if e == 0.0:
        roots = [-h / z]
    elif discriminant < 0.0:
        return None
    else:
        q = -0.5 * (z + np.copysign(np.sqrt(discriminant), z))
        roots = [q / e] + ([h / q] if q else [])
    lows, highs = [], []
    for root in roots:
        if not v_min <= root <= v_max:
            continue
        residue = float((a * root**2 + b * root + g + d / root) / (2.0 * e * root + z) * kept)
        around = np.array([root - 1.0, root + 1.0])
        smooth = float(np.mean(np.abs(_curve(coefficients, kept, around) - residue / (around - root))))
        reach = max(_POLE_REACH_KMH, abs(residue) / (_POLE_SHARE * max(smooth, 1e-12)))
        lows.append(max(v_min, root - reach, check_v if check_v < root else 0.0))
        highs.append(min(v_max, root + reach, check_v if check_v > root else np.inf))
    if not lows:
        return None
    low, high = min(lows), max(highs)
    ends = _curve(coefficients, kept, np.array([low, high]))
    low_ef, high_ef = float(ends[0]), float(ends[1])
    if not (np.isfinite(low_ef) and low_ef > 0.0):
        low_ef = high_ef
    if not (np.isfinite(high_ef) and high_ef > 0.0):
        high_ef = low_ef
    return low, high, max(low_ef, 0.0), max(high_ef, 0.0)


@cache
def hot_table() -> HotTable:
    """All 4,684 + 3,528 hot rows and the electric rows.

    >>> len(hot_table())
    8218
    """
    source = [*tables.rows("hot_factors"), *tables.rows("hot_factors_slope_load"), *tables.rows("electric_energy")]
    n = len(source)
    coefficients = np.zeros((n, 7))
    kept, v_min, v_max = np.ones(n), np.zeros(n), np.zeros(n)
    bridge = np.full((4, n), np.nan)
    index: dict[Key, int] = {}
    keys: list[Key] = []
    for i, row in enumerate(source):
        coefficients[i] = [float(row.get(name) or (1.0 if name == "eta" else 0.0)) for name in _COEFFICIENTS]
        if "eta" in row:
            coefficients[i, 6] = float(row["eta"])
        kept[i] = 1.0 - float(row.get("rf") or 0.0)
        v_min[i], v_max[i] = float(row["v_min"]), float(row["v_max"])
        if row["sanity"] == "pole_in_range":
            found = _bridge(coefficients[i], float(kept[i]), float(v_min[i]), float(v_max[i]), float(row["check_v"]))
            if found is not None:
                bridge[:, i] = found
        key = tuple(row.get(name, "") for name in KEY_COLUMNS)
        keys.append(key)
        index.setdefault(key, i)
    return HotTable(
        row_id=tuple(row["row_id"] for row in source),
        key=tuple(keys),
        unit=tuple(row["unit"] for row in source),
        coefficients=coefficients,
        kept=kept,
        v_min_kmh=v_min,
        v_max_kmh=v_max,
        bridge_low_kmh=bridge[0],
        bridge_high_kmh=bridge[1],
        bridge_low_ef=bridge[2],
        bridge_high_ef=bridge[3],
        index=index,
    )


def evaluate(row: ArrayLike, speed_kmh: ArrayLike) -> tuple[Floats, Guards]:
    """Factor of each row at each speed, and the guards that fired.

    Args:
        row: positions in ``hot_table()``, any shape.
        speed_kmh: space-mean (harmonic) speeds, finite and >= 0, broadcast against ``row``.

    Returns:
        Factors in the row's unit (g/km or MJ/km), never negative and never NaN, and guard bits, both of the broadcast shape.

    Raises:
        ValueError: a speed is negative or not finite.

    >>> table = hot_table()
    >>> i = table.row_id.index("H0001")
    >>> value, guard = evaluate(i, [15.0, 2.0])
    >>> value.round(3).tolist(), guard.tolist()
    ([1.313, 3.43], [0, 1])
    """
    table = hot_table()
    asked = np.asarray(speed_kmh, dtype=np.float64)
    if not np.all(np.isfinite(asked) & (asked >= 0.0)):
        raise ValueError("speed_kmh: expected finite km/h >= 0")
    rows, asked = np.broadcast_arrays(np.asarray(row, dtype=np.intp), asked)
    low, high = table.v_min_kmh[rows], table.v_max_kmh[rows]
    speed = np.clip(asked, low, high)
    guard = np.where(asked < low, BELOW_V_MIN, 0) | np.where(asked > high, ABOVE_V_MAX, 0)
    value = np.asarray(_curve(table.coefficients[rows], table.kept[rows], speed))
    bridge_low, bridge_high = table.bridge_low_kmh[rows], table.bridge_high_kmh[rows]
    near = (speed > bridge_low) & (speed < bridge_high)  # the ends themselves are the source's own values; NaN is never near
    if near.any():
        span = bridge_high - bridge_low
        share = (speed - bridge_low) / np.where(span > 0.0, span, 1.0)
        line = table.bridge_low_ef[rows] * (1.0 - share) + table.bridge_high_ef[rows] * share
        value = np.where(near, line, value)
        guard = guard | np.where(near, POLE, 0)
    floored = ~(value >= 0.0)
    value = np.where(floored, 0.0, value)
    return value, (guard | np.where(floored, NEGATIVE, 0)).astype(np.uint8)


def guard_text(bits: int) -> str:
    """Names of guard bits, ``;`` between them.

    >>> guard_text(BELOW_V_MIN | POLE)
    'below_v_min;pole_bridged'
    """
    return ";".join(name for bit, name in GUARD_NAMES.items() if bits & bit)
