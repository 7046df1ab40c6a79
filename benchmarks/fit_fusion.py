"""Fits the parameters of the estimator and of its confidence on simulated runs, and prints them. Writes nothing.

    python benchmarks/fit_fusion.py --runs DIR --osm EXTRACT.osm.pbf [--names 1,2,7,42,1-harsh,2-harsh,7-harsh] [--test 3,4] [--rounds 3] [--only confidence|scale|map]

Runs are folders of ``groundtruth.py``, as ``benchmarks/accuracy.py`` makes them. They are replayed once; what the estimator was told is kept, and its parameters are then moved
one at a time, up and down by a factor that halves, while the pooled score falls. The score sums the figures of the project's bars, each over its aim, and those of
single minutes, so that an estimate that flickers does not win. The optimum is flat (most parameters may move by a third for 1 %): the values in the code are rounded.
Bounded by hand: creep speed (the simulated jams stand still, real ones do not) and reach of the sums (cost).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import replayed, truth
from connectors.cities import load as load_city
from geo.build import build
from geo.junctions import junctions
from geo.network import F64, Bool
from geo.streets import streets
from models.confidence import BAND, CALIBRATED, Z20, Spread, log_normal_probability, normal_cdf
from models.fusion import Estimator, FusionSettings
from models.streets import Streets

#: What is fitted, with the step of the first round, as a factor's logarithm.
PARAMETERS = {
    "half_life_s": 0.3, "loop_weight_s": 0.3, "own_prior_s": 0.3, "ahead_prior_s": 0.3, "own_reach_m": 0.3, "ahead_reach_m": 0.3, "ahead_share": 0.05,
    "bus_loss": 0.4, "doubt": 0.3, "loops.free_share": 0.1, "loops.creep_kmh": 0.4, "limit_share": 0.03, "signal_s": 0.2, "yield_s": 0.4,
}  # fmt: skip
#: What single minutes count for against five in the fit of confidence: both are to be within the bar, and the truth of one minute rests on few cars.
MINUTE_SHARE = 0.5
START = {"limit_share": 0.87, "signal_s": 4.0, "yield_s": 1.5}


@dataclass
class Case:
    """One run, replayed."""

    truth: truth.Truth
    laid: truth.Laid
    replay: replayed.Replayed
    streets: Streets
    held: F64
    yields: F64


def case(folder: Path, osm: Path) -> Case:
    t = truth.load(folder)
    city = load_city("helsinki")
    network = build(city.name, osm=osm, gtfs=folder / "wire" / "gtfs.zip", crs=city.crs)
    j = junctions(network.segments)
    r = replayed.run(folder / "wire", city, network, t.start_ms, t.minutes)
    r.positions.clear()
    return Case(t, truth.lay(network, t.edges), r, streets(network), j.held.astype(np.float64), j.yields.astype(np.float64))


def settings_of(values: dict[str, float]) -> FusionSettings:
    base = FusionSettings()
    own = {k: v for k, v in values.items() if "." not in k and k not in START}
    loops = {k.split(".")[1]: v for k, v in values.items() if "." in k}
    return replace(base, **own, loops=replace(base.loops, **loops))


def view(c: Case, values: dict[str, float]) -> Streets:
    """The streets with other expectations of light traffic."""
    running = values["limit_share"] * c.streets.free_flow_kmh
    seconds = c.streets.length_m * 3.6 / running + values["signal_s"] * c.held + values["yield_s"] * c.yields
    return replace(c.streets, running_kmh=running, expected_kmh=c.streets.length_m * 3.6 / seconds)


def said(c: Case, values: dict[str, float]) -> F64:
    """(N, M) speeds under these parameters."""
    e = Estimator(view(c, values), settings=settings_of(values))
    every = {w: e.advance(obs) for w, obs in c.replay.told}
    return replayed.grids(every, c.truth.start_ms, c.truth.minutes, len(c.streets))[0]


def score(cases: list[Case], values: dict[str, float]) -> float:
    """Sum of the figures over their aims; less is better."""
    pairs, minutes = [], []
    for c in cases:
        pace = truth.paces(c.laid, said(c, values), len(c.truth.edges))
        pairs.append((c.truth, 1.0 / truth.by_five(pace)))
        has = np.isfinite(c.truth.minute_speed) & np.isfinite(pace)
        error = np.abs(1.0 / pace - c.truth.minute_speed)[has]
        minutes.append((error.sum(), len(error), (error * c.truth.minute_weight[has]).sum(), c.truth.minute_weight[has].sum()))
    a, s = truth.pooled(pairs), truth.pooled(pairs, [c.truth.seen for c in cases])
    m = np.array(minutes).sum(axis=0)
    total = 1.2 * a["mae"] / 3.6 + 1.2 * s["mae"] / 3.4 + 0.6 * a["wmae"] / 4.1 + 0.6 * s["wmae"] / 3.4
    return float(total + 0.6 * (1 - a["exact"]) / 0.4 + 0.4 * (1 - a["f1"]) / 0.37 + 0.3 * m[0] / m[1] / 4.5 + 0.2 * m[2] / m[3] / 4.0)


def descend(f: Callable[[dict[str, float]], float], values: dict[str, float], steps: dict[str, float], rounds: int) -> dict[str, float]:
    """One parameter at a time, up and down; the step of one that helps neither way halves."""
    best, steps = f(values), dict(steps)
    for k in range(rounds):
        for name in steps:
            for sign in (1, -1):
                tried = {**values, name: values[name] * float(np.exp(sign * steps[name]))}
                try:
                    s = f(tried)
                except ValueError:  # out of the range of the settings
                    continue
                if s < best - 1e-4:
                    best, values = s, tried
                    break
            else:
                steps[name] /= 2
        print(f"round {k + 1}: score {best:.4f}  " + "  ".join(f"{n} {values[n]:.3g}" for n in steps), flush=True)
    return values


@dataclass
class Rows:
    """Edge minutes for the fit of the spread: features (own, ahead, pace, at_end), the estimate and two truths."""

    features: tuple[F64, F64, F64, F64]
    estimate: F64
    minute: F64
    five: F64
    five_said: F64  #: the estimate of the five minutes
    hit: F64  #: weighted mean of the hits against the two


def rows_of(cases: list[Case]) -> Rows:
    """Features of the estimator as it is, by edge and minute."""
    parts: list[list[F64]] = []
    for c in cases:
        heard: dict[int, tuple[F64, ...]] = {}
        e = _Listening(c.streets)
        every = {}
        for w, obs in c.replay.told:
            every[w] = e.advance(obs)
            heard[w] = e.heard()
        speed = replayed.grids(every, c.truth.start_ms, c.truth.minutes, len(c.streets))[0]
        n, first = len(c.truth.edges), c.truth.start_ms // 60_000
        features = [
            truth.on_edges(
                c.laid, np.where(np.isfinite(speed), np.stack([heard[first + m][k] for m in range(c.truth.minutes)], axis=1), np.nan), n
            )
            for k in range(4)
        ]
        pace = truth.paces(c.laid, speed, n)
        five, five_said = np.repeat(c.truth.speed, truth.FIVE, 1), np.repeat(1.0 / truth.by_five(pace), truth.FIVE, 1)
        has = np.isfinite(c.truth.minute_speed) & np.isfinite(five) & np.isfinite(pace)
        one = 1.0 / pace
        hits = [np.abs(v - x) <= np.maximum(0.15 * x, 3.0) for v, x in ((c.truth.minute_speed, one), (five, five_said))]
        parts.append(
            [
                *(f[has] for f in features),
                one[has],
                c.truth.minute_speed[has],
                five[has],
                five_said[has],
                (MINUTE_SHARE * hits[0] + (1 - MINUTE_SHARE) * hits[1])[has],
            ]
        )
    a = [np.concatenate(x) for x in zip(*parts, strict=True)]
    return Rows((a[0], a[1], a[2], a[3]), *a[4:])


class _Listening(Estimator):
    """Tells what the spread is made from."""

    def heard(self) -> tuple[F64, F64, F64, F64]:
        """Features of every segment in the window last taken in."""
        return self.features(np.arange(len(self.probes)), self._street, self._ahead)[0]


def _width(b: F64, r: Rows) -> F64:
    return Spread(float(b[0]), min(float(b[1]), 0.0), *map(float, b[2:])).width(*r.features)


def _raw(b: F64, r: Rows) -> F64:
    half, width = np.maximum(0.15, 3.0 / r.estimate), _width(b, r)
    below = np.where(half < 1, normal_cdf(np.log1p(-np.minimum(half, 1 - 1e-9)) / width), 0.0)
    return np.clip(normal_cdf(np.log1p(half) / width) - below, 0.01, 0.99)


def search(f: Callable[[F64], float], b: F64, rounds: int = 60, step: float = 0.2) -> F64:
    """One coefficient at a time."""
    best, steps = f(b), np.full(len(b), step)
    for _ in range(rounds):
        for i in range(len(b)):
            for sign in (1, -1):
                tried = b.copy()
                tried[i] += sign * steps[i]
                s = f(tried)
                if s < best - 1e-7:
                    best, b = s, tried
                    steps[i] *= 1.3
                    break
            else:
                steps[i] *= 0.6
    return b


def fit_confidence(cases: list[Case], test: list[Case]) -> None:
    """Band by the likelihood of hits, quantiles of five minutes by their own (pinball) loss, and the monotone map."""
    r = rows_of(cases)
    start = np.array([-2.0, -0.5, 0.5, -0.5, 2.5, 3.0])

    def likelihood(b: F64) -> float:
        p = _raw(b, r)
        return -float((r.hit * np.log(p) + (1 - r.hit) * np.log(1 - p)).mean()) + 1e3 * max(b[1], 0.0)

    band = search(likelihood, start)
    log_ratio = np.log(np.maximum(r.five, 0.3) / r.five_said)

    def pinball(b: F64, share: float) -> float:
        u = log_ratio - np.sign(share - 0.5) * Z20 * _width(b, r)
        return float(np.maximum(share * u, (share - 1) * u).mean()) + 1e3 * max(b[1], 0.0)

    below, above = search(lambda b: pinball(b, 0.2), band), search(lambda b: pinball(b, 0.8), band)
    knots = np.linspace(0, 1, 11)
    p = _raw(band, r)
    i = np.minimum((p * 10).astype(int), 9)
    hats = np.zeros((len(p), 11))
    hats[np.arange(len(p)), i], hats[np.arange(len(p)), i + 1] = 1 - (p * 10 - i), p * 10 - i
    smooth = 0.03 * np.sqrt(len(p)) * np.diff(np.eye(11), axis=0)
    mapped = np.linalg.lstsq(np.vstack([hats, smooth]), np.r_[r.hit, np.zeros(10)], rcond=None)[0]
    mapped = np.maximum.accumulate(np.clip(mapped, 0, 1))
    for name, b in (("BAND", band), ("BELOW", below), ("ABOVE", above)):
        print(f"{name} = Spread({', '.join(f'{x:.3f}' for x in b)})")
    print(f"CALIBRATED = ({', '.join(f'{x:.3f}' for x in mapped)})")
    for name, rows in (("fitted on", r), ("tested on", rows_of(test) if test else None)):
        if rows is not None:
            q = np.interp(_raw(band, rows), knots, mapped)
            shares = [float((rows.five < rows.five_said * np.exp(k * Z20 * _width(b, rows))).mean()) for k, b in ((-1, below), (1, above))]
            print(f"{name}: {shares[0]:.1%} of five-minute truths below the 20 % quantile, {shares[1]:.1%} below the 80 % one")
            print(f"{name}: calibration error {truth.calibration(q, rows.hit)[0]:.3f} (weighted hits against one and five minutes)")


def fit_scale(cases: list[Case]) -> None:
    """Factors that put the published quantiles right as a whole (ln(factor) is added to ``base``), so that 20 and 80 % of the truths of five minutes lie below them: features of an edge's
    segments, averaged, are not those of their averages."""
    said = []
    for c in cases:
        e = Estimator(c.streets)
        every = {w: e.advance(obs) for w, obs in c.replay.told}
        said.append(replayed.grids(every, c.truth.start_ms, c.truth.minutes, len(c.streets))[:4])

    def share(k: int, factor: float) -> float:
        below = []
        for c, grids in zip(cases, said, strict=True):
            quantile = grids[0] * (grids[k] / grids[0]) ** factor
            five = 1.0 / truth.by_five(truth.paces(c.laid, quantile, len(c.truth.edges)))
            below.append((c.truth.speed < five)[np.isfinite(c.truth.speed) & np.isfinite(five)])
        return float(np.concatenate(below).mean())

    for name, k, aim in (("BELOW", 1, 0.2), ("ABOVE", 2, 0.8)):
        low, high = 0.2, 3.0
        for _ in range(12):
            middle = (low + high) / 2
            narrow = share(k, middle) > aim if k == 1 else share(k, middle) < aim
            low, high = (middle, high) if narrow else (low, middle)
        print(
            f"{name}: {share(k, 1.0):.1%} of five-minute truths below it; base {np.log((low + high) / 2):+.3f} makes it {share(k, (low + high) / 2):.1%}"
        )


def fit_map(cases: list[Case], test: list[Case]) -> None:
    """The map of probabilities, against what is published: confidences averaged over an edge and five minutes, as ``benchmarks/accuracy.py`` scores them.

    Monotone; the sum of the calibration errors against one and five minutes, in 10 and in 14 bins so that it is not fitted to the borders of bins, those of five counting twice.
    """
    rows, knots = _published(cases), len(CALIBRATED)

    def errors(r: list[tuple[F64, Bool]], c: F64, bins: int) -> tuple[float, float]:
        one, five = (truth.calibration(hats @ c, hit, bins)[0] for hats, hit in r)
        return one, five

    def loss(c: F64) -> float:
        if (c < 0.02).any() or (c > 0.98).any() or (np.diff(c) < 0).any():
            return np.inf
        return sum(one + 2 * five for one, five in (errors(rows, c, 10), errors(rows, c, 14)))

    best = search(loss, np.array(CALIBRATED), rounds=40, step=0.05)
    print(f"CALIBRATED = ({', '.join(f'{x:.3f}' for x in best)})  # {knots} knots")
    for name, r in (("fitted on", rows), ("tested on", _published(test) if test else None)):
        for what, c in (("as it is", np.array(CALIBRATED)), ("fitted", best)):
            if r is not None:
                one, five = errors(r, c, 10)
                print(f"{name}, {what}: calibration error {five:.3f} against five minutes, {one:.3f} against one")


def _published(cases: list[Case]) -> list[tuple[F64, Bool]]:
    """Of minutes and of five minutes of edges: shares of each knot of the map in the confidence that is published, and whether the truth lay within the band."""
    parts: list[list[tuple[F64, Bool]]] = [[], []]
    knots = np.linspace(0.0, 1.0, len(CALIBRATED))
    for c in cases:
        n, first, e = len(c.truth.edges), c.truth.start_ms // 60_000, _Listening(c.streets)
        every, heard = {}, {}
        for w, obs in c.replay.told:
            every[w], heard[w] = e.advance(obs), e.heard()
        speed = replayed.grids(every, c.truth.start_ms, c.truth.minutes, len(c.streets))[0]
        width = np.stack([BAND.width(*heard[first + m]) for m in range(c.truth.minutes)], axis=1)
        raw = np.where(np.isfinite(speed), log_normal_probability(np.where(np.isfinite(speed), speed, 1.0), width), np.nan)
        hats = [truth.on_edges(c.laid, np.where(np.isnan(raw), np.nan, np.interp(raw, knots, hat)), n) for hat in np.eye(len(knots))]
        pace = truth.paces(c.laid, speed, n)
        for k, (true, said, of) in enumerate(
            ((c.truth.minute_speed, 1.0 / pace, hats), (c.truth.speed, 1.0 / truth.by_five(pace), [truth.by_five(h) for h in hats]))
        ):
            has = np.isfinite(true) & np.isfinite(said) & np.isfinite(of[0])
            parts[k].append((np.stack([h[has] for h in of], axis=1), (np.abs(true - said) <= np.maximum(0.15 * said, 3.0))[has]))
    return [(np.concatenate([h for h, _ in p]), np.concatenate([y for _, y in p])) for p in parts]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=Path, required=True, help="folder of runs")
    p.add_argument("--osm", type=Path, required=True, help="the extract that they were made from")
    p.add_argument("--names", default="1,2,7,42,1-harsh,2-harsh,7-harsh", help="runs to fit on")
    p.add_argument("--test", default="", help="runs to report on")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", choices=["estimate", "confidence", "scale", "map"])
    a = p.parse_args()
    cases = [case(a.runs / n, a.osm) for n in a.names.split(",")]
    test = [case(a.runs / n, a.osm) for n in a.test.split(",") if n]
    if a.only in (None, "estimate"):
        base = FusionSettings()
        values = {
            k: START[k] if k in START else float(getattr(base.loops, k.split(".")[1]) if "." in k else getattr(base, k)) for k in PARAMETERS
        }
        print(f"as it is: score {score(cases, values):.4f}" + (f", test {score(test, values):.4f}" if test else ""), flush=True)
        values = descend(lambda v: score(cases, v), values, PARAMETERS, a.rounds)
        if test:
            print(f"test {score(test, values):.4f}")
    if a.only in (None, "confidence"):
        fit_confidence(cases, test)
    if a.only == "scale":  # of the values that stand in the code
        fit_scale(cases)
    if a.only == "map":  # the same
        fit_map(cases, test)


if __name__ == "__main__":
    main()
