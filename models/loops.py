"""What a counting site says of the whole street: from the mean speed of those that passed a spot to the space mean.

Vehicles that pass a spot are the fast ones; those that stand in the queue are not counted while they stand. Wardrop (1952) has the exact relation for one spot,
v_space = 1 / mean(1 / v): it needs single speeds, and sites publish their arithmetic mean only. So:

* where nothing interrupts the flow (motorways): v_space = v_spot (1 - cv^2), cv the coefficient of variation of spot speeds (Wardrop's v_t = v_s + var_s / v_s);
* on streets with junctions, passing vehicles are of two kinds, free ones and ones that creep in the queue. A mean below free speed tells their shares,
  p = (v_free - v_spot) / (v_free - v_creep), and Wardrop's harmonic mean of the two is the space mean, 1 / (p / v_creep + (1 - p) / v_free).
  (Two-fluid view: Herman & Prigogine 1979, Science 204: moving and standing traffic, not one speed for all.)

In any case density cannot pass jam density: v_space >= flow / (k_jam lanes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.streets import F64, Bool


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Parameters of the conversion; source or fit beside each."""

    #: Coefficient of variation of spot speeds in uninterrupted flow (0.1-0.25 measured on motorways: HCM 6, ch. 4).
    spot_cv: float = 0.2
    #: From this share of the free-flow speed on, a spot mean holds no creeping vehicles. Fit: benchmarks/fit_fusion.py.
    free_share: float = 0.73
    #: Speed at which a queue creeps over the spot, km/h. The fit falls to 0.3 on the simulated streets, whose jams stand still; kept higher for real ones.
    creep_kmh: float = 0.5
    #: Jam density, vehicles per km and lane (models/emissions/data/flow_classes.csv: 140 on streets).
    jam_vpkm_lane: float = 140.0

    def __post_init__(self) -> None:
        if not (0 <= self.spot_cv < 1 and 0 < self.free_share <= 1 and self.creep_kmh > 0 and self.jam_vpkm_lane > 0):
            raise ValueError(f"loop settings out of range: {self}")


def space_mean(
    spot_kmh: F64, flow_vph: F64, free_flow_kmh: F64, lanes: F64, interrupted: Bool, settings: LoopSettings | None = None
) -> F64:
    """Space-mean speed around each of n sites, km/h, never above the spot mean.

    Args:
        spot_kmh: arithmetic mean speed of the vehicles that passed, > 0.
        flow_vph: NaN where not told.

    >>> space_mean(np.array([30.0, 15.0]), np.array([200.0, 100.0]), np.array([40.0, 40.0]), np.ones(2), np.ones(2, np.bool_)).round(1).tolist()
    [30.0, 1.0]
    """
    cfg = settings or LoopSettings()
    free = cfg.free_share * free_flow_kmh
    creep = np.minimum(cfg.creep_kmh, 0.5 * free)
    share = np.clip((free - spot_kmh) / (free - creep), 0.0, 1.0)
    queued = 1.0 / (share / creep + (1.0 - share) / np.maximum(free, spot_kmh))
    smooth = spot_kmh * (1.0 - cfg.spot_cv**2)
    least = np.nan_to_num(flow_vph, nan=0.0) / (cfg.jam_vpkm_lane * lanes)
    result: F64 = np.minimum(np.maximum(np.where(interrupted, queued, smooth), least), spot_kmh)
    return result


#: A site that publishes a sliding window does so once a minute, milliseconds.
MINUTE_MS = 60_000
#: Share by which the minutes of a window are drawn to their mean at each step, so that neither a wrong beginning nor rounding stays.
_LEAK = 0.02


class Minutes:
    """Single minutes from counts of a sliding window.

    Sites publish, each minute, how many passed in the last five: at the end of a rise that is two minutes late, and five such values in a row smear nine minutes.
    Two neighbouring windows differ by the minute that came and the one that went, so n(t) = N(t) - N(t - 1) + n(t - 5), and any five of them add up to what was published.

    >>> m = Minutes()
    >>> [round(m.feed("a", 60_000 * (k + 5), 300_000, 12.0 * n)) for k, n in enumerate((50, 50, 60, 70, 80))]
    [600, 600, 1190, 1195, 1202]
    """

    def __init__(self) -> None:
        self.state: dict[str, list[float]] = {}  #: site -> [end_ms, vehicles of the window, of its minutes, oldest first]

    def feed(self, site: str, end_ms: int, window_ms: int, flow_vph: float) -> float:
        """Flow of the window's last minute, vehicles per hour; of the whole window where the one before it is missing."""
        n = round(window_ms / MINUTE_MS)
        total = flow_vph * window_ms / 3_600_000
        old = self.state.get(site)
        if n < 2 or window_ms % MINUTE_MS:
            return flow_vph
        if old is None or end_ms - old[0] != MINUTE_MS or len(old) != n + 2:
            self.state[site] = [float(end_ms), total, *([total / n] * n)]
            return flow_vph
        minutes = [*old[3:], total - old[1] + old[2]]
        minutes = [(1 - _LEAK) * x + _LEAK * total / n for x in minutes]
        self.state[site] = [float(end_ms), total, *minutes]
        return max(0.0, minutes[-1]) * 3_600_000 / MINUTE_MS
