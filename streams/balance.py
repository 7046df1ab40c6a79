"""What drives into a junction drives out of it again: flows of streets without a counter, held against those of the streets they meet.

Least squares by conjugate gradients over the junctions: each street's own guess by its own uncertainty, each junction's balance by what may begin or end a trip there. No direction
of turning is assumed. A fixed number of steps from the guess itself, so that the same input gives the same flows; the more steps, the farther a counter reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.network import F64, I64, Bool, Network

#: No street is taken below this share of its own guess.
LEAST = 0.2


@dataclass(frozen=True, slots=True)
class BalanceSettings:
    """How far junctions bind. Fitted by ``benchmarks/fit_flows.py`` and rounded; the optimum is flat."""

    #: Standard deviation of what goes in less what comes out, as a share of the junction's traffic (who parks or sets out there). Lower binds more.
    share: float = 0.08
    #: The same, vehicles an hour, where there is hardly any traffic.
    few_vph: float = 10.0
    #: Rounds of the solver: after twelve, flows are within 1 % of where they end, half of them within 0.4 %.
    steps: int = 12


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
        self._between(pairs[self.bound[pairs].all(axis=1)])

    def _between(self, pairs: I64) -> None:
        """Bound junctions that are neighbours, (k, 2) sorted, each pair both ways: as rounds of one neighbour for each junction that has so many left."""
        m = self.nodes
        ways = np.bincount(pairs[:, 0], minlength=m)
        #: junctions, those with most neighbours first; unbound ones are left out
        self.junction: I64 = np.argsort(np.where(self.bound, -ways, 1), kind="stable")[: int(self.bound.sum())]
        self.place: I64 = np.full(m, len(self.junction), np.int64)  #: of each node among the junctions; those left out lie behind them
        self.place[self.junction] = np.arange(len(self.junction))
        first = np.cumsum(ways) - ways
        key = pairs[:, 0] * m + pairs[:, 1]
        way = self.a * m + self.b, self.b * m + self.a
        found = [np.minimum(np.searchsorted(key, k), max(len(key) - 1, 0)) for k in way]
        #: entry of ``pairs`` of each segment there and back, ``len(pairs)``: it joins no two bound junctions
        self._entry = [
            np.where(self.general & (key[f] == k), f, len(key)) if len(key) else np.zeros(len(k), np.int64)
            for f, k in zip(found, way, strict=True)
        ]
        self._entries = len(key)
        self._rounds: list[tuple[I64, I64]] = []
        for k in range(int(ways.max(initial=0))):
            some = self.junction[: int((ways[self.junction] > k).sum())]
            entry = first[some] + k
            self._rounds.append((entry, self.place[pairs[entry, 1]]))

    def flows(self, guess_vph: F64, sd_vph: F64) -> F64:
        """Flows nearest to the guesses under which junctions balance. (n,) in, (n,) out; what general traffic does not drive is left as it is.

        What is solved for is how much each junction pulls: there are fewer junctions than streets, and what a street does follows from those at its two ends.
        """
        g, m, cfg, j = self.general, self.nodes, self.settings, self.junction
        if not len(j):
            return guess_vph
        guess = np.where(g, guess_vph, 0.0)
        into, out_of = np.bincount(self.b, guess, m)[j], np.bincount(self.a, guess, m)[j]
        give = np.where(g & (self.a != self.b), sd_vph**2, 0.0)  # how readily each street gives way
        there, back = (np.bincount(e, give, self._entries + 1) for e in self._entry)
        weight = there + back
        rounds = [(len(entry), to, weight[entry]) for entry, to in self._rounds]
        diagonal = (np.bincount(self.b, give, m) + np.bincount(self.a, give, m))[j] + (cfg.share * (into + out_of) / 2.0 + cfg.few_vph) ** 2

        def apply(x: F64) -> F64:
            image = diagonal * x
            for k, to, w in rounds:
                image[:k] -= w * x.take(to)
            return image

        rest: F64 = (into - out_of).astype(np.float64)
        pull = np.zeros(len(j))
        toward = rest / diagonal
        square = float((rest * toward).sum())
        for _ in range(cfg.steps):
            if square <= 1e-9:
                break
            image = apply(toward)
            step = square / float((toward * image).sum())
            pull += step * toward
            rest -= step * image
            ahead = rest / diagonal
            before, square = square, float((rest * ahead).sum())
            toward = ahead + square / before * toward
        pull = np.append(pull, 0.0)
        flow = guess_vph - give * (pull[self.place[self.b]] - pull[self.place[self.a]])
        result: F64 = np.where(g, np.maximum(flow, LEAST * guess_vph), guess_vph)
        return result
