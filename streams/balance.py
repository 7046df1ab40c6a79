"""What drives into a junction drives out of it again: flows of streets without a counter, held against those of the streets they meet.

Least squares by conjugate gradients: each street's own guess by its own uncertainty, each junction's balance by what may begin or end a trip there. No direction of turning is
assumed. A fixed number of steps from the guess itself, so that the same input gives the same flows; the more steps, the farther a counter reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.network import F64, Bool, Network

#: No street is taken below this share of its own guess.
LEAST = 0.2


@dataclass(frozen=True, slots=True)
class BalanceSettings:
    """How far junctions bind. Fitted by ``benchmarks/fit_flows.py`` and rounded; the optimum is flat."""

    #: Standard deviation of what goes in less what comes out, as a share of the junction's traffic (who parks or sets out there). Lower binds more.
    share: float = 0.08
    #: The same, vehicles an hour, where there is hardly any traffic.
    few_vph: float = 10.0
    #: Rounds of the solver.
    steps: int = 25


class Balance:
    """Junctions of a network and the streets that meet there."""

    def __init__(self, network: Network, general: Bool, settings: BalanceSettings | None = None) -> None:
        self.settings = settings or BalanceSettings()
        s = network.segments
        self.general = general
        self.a, self.b = s.from_node, s.to_node
        self.nodes = m = int(max(self.a.max(initial=-1), self.b.max(initial=-1))) + 1
        a, b = self.a[general], self.b[general]
        pairs = np.unique(np.column_stack([np.r_[a, b], np.r_[b, a]]), axis=0)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        # An end of the network tells nothing: what drives out there need not come back.
        self.bound: Bool = (
            (np.bincount(pairs[:, 0], minlength=m) >= 2) & (np.bincount(b, minlength=m) > 0) & (np.bincount(a, minlength=m) > 0)
        )

    def flows(self, guess_vph: F64, sd_vph: F64) -> F64:
        """Flows nearest to the guesses under which junctions balance. (n,) in, (n,) out; what general traffic does not drive is left as it is."""
        g, a, b, m, cfg = self.general, self.a, self.b, self.nodes, self.settings
        if not self.bound.any():
            return guess_vph
        through = (np.bincount(b, np.where(g, guess_vph, 0.0), m) + np.bincount(a, np.where(g, guess_vph, 0.0), m)) / 2.0
        node = np.where(self.bound, 1.0 / (cfg.share * through + cfg.few_vph) ** 2, 0.0)
        own = np.where(g, 1.0 / sd_vph**2, 1.0)
        scale = 1.0 / (own + np.where(g, node[a] + node[b], 0.0))

        def apply(x: F64) -> F64:
            away = (np.bincount(b, x, m) - np.bincount(a, x, m)) * node
            out: F64 = np.where(g, own * x + away[b] - away[a], 0.0)
            return out

        flow = np.where(g, guess_vph, 0.0)
        rest = np.where(g, own * guess_vph, 0.0) - apply(flow)
        toward = scale * rest
        square = float((rest * toward).sum())
        for _ in range(cfg.steps):
            if square <= 1e-9:
                break
            image = apply(toward)
            step = square / float((toward * image).sum())
            flow += step * toward
            rest -= step * image
            ahead = scale * rest
            before, square = square, float((rest * ahead).sum())
            toward = ahead + square / before * toward
        result: F64 = np.where(g, np.maximum(flow, LEAST * guess_vph), guess_vph)
        return result
