"""What a profile of other days is worth: learned on some simulated rush hours, scored on others. Writes ``docs/accuracy-history.md``.

    python benchmarks/history.py --runs DIR [--learn 1,2,7,42] [--score 3,4,5,6] [--osm EXTRACT.osm.pbf] [--to docs/accuracy-history.md]

Runs are folders of ``groundtruth.py``, as ``benchmarks/accuracy.py`` makes them. All are of the same weekday and have the same wave of demand with other vehicles, which real days have not
to that extent: the figures say what history is worth at best. What the estimator was told is kept, and told again with and without a profile, and with nothing told at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import replayed, truth
from connectors.cities import City
from connectors.cities import load as load_city
from geo.build import build
from geo.network import F64, I64, Network
from geo.streets import streets
from models.fusion import HISTORICAL, Estimator, WindowSums
from models.profile import Learner, Profile, ProfileSettings, Usual

WINDOW_MS = 60_000
ZONE = "Europe/Helsinki"


@dataclass
class Case:
    """One run, replayed."""

    network: Network
    truth: truth.Truth
    laid: truth.Laid
    told: list[tuple[int, WindowSums]]


def case(osm: Path, folder: Path, city: City | None = None) -> Case:
    print(f"replaying {folder.name}", file=sys.stderr)
    t, city = truth.load(folder), city or load_city("helsinki")
    network = build(city.name, osm=osm, gtfs=folder / "wire" / "gtfs.zip", crs=city.crs)
    r = replayed.run(folder / "wire", city, network, t.start_ms, t.minutes)
    return Case(network, t, truth.lay(network, t.edges), r.told)


def learn(cases: list[Case], settings: ProfileSettings | None = None) -> Profile:
    """By segment id: each run's network has lines of its own."""
    network = cases[0].network
    row = {s: k for k, s in enumerate(network.segments.segment_id)}
    learner = Learner(streets(network), ZONE, settings)
    for c in cases:
        at = np.array([row.get(s, -1) for s in c.network.segments.segment_id])
        estimator = Estimator(streets(c.network))
        for w, obs in c.told:
            e = estimator.advance(obs)
            own = e.probe_weight + e.loop_weight + e.memory_weight
            k = np.flatnonzero((own > 0) & np.isfinite(e.speed_kmh) & (at >= 0))
            learner.add(at[k], np.full(len(k), w * WINDOW_MS), e.speed_kmh[k], own[k])
    return learner.profile("helsinki", network.segments.segment_id)


def nothing(obs: WindowSums) -> WindowSums:
    return dataclasses.replace(obs, **{f.name: None if (v := getattr(obs, f.name)) is None else v[:0] for f in dataclasses.fields(obs)})


def said(c: Case, profile: Profile | None, *, blind: bool) -> tuple[F64, F64, I64]:
    """Speeds and confidences of edges in five minutes, and origins of segments in minutes."""
    estimator = Estimator(streets(c.network))
    usual = None if profile is None else Usual(profile, c.network.segments.segment_id)
    estimates = {}
    for w, obs in c.told:
        if usual is not None:
            estimator.expect(usual.at(w * WINDOW_MS))
        estimates[w] = estimator.advance(nothing(obs) if blind else obs)
    speed, _, _, confidence, origin = replayed.grids(estimates, c.truth.start_ms, c.truth.minutes, len(c.network.segments))
    n = len(c.truth.edges)
    return 1.0 / truth.by_five(truth.paces(c.laid, speed, n)), truth.by_five(truth.on_edges(c.laid, confidence, n)), origin


def line(name: str, cases: list[Case], profile: Profile | None, *, blind: bool) -> str:
    told = [said(c, profile, blind=blind) for c in cases]
    s = truth.pooled([(c.truth, x[0]) for c, x in zip(cases, told, strict=True)])
    history = float(np.mean([(x[2] == HISTORICAL).mean() for x in told]))
    if not s:
        return f"| {name} | 0% | | | | | | {history:.0%} |"
    sure, hit = [], []
    for c, (speed, confidence, _) in zip(cases, told, strict=True):
        ok = np.isfinite(c.truth.speed) & np.isfinite(speed)
        sure.append(confidence[ok])
        hit.append((np.abs(speed - c.truth.speed) <= np.maximum(0.15 * speed, 3.0))[ok].astype(float))
    error, _ = truth.calibration(np.concatenate(sure), np.concatenate(hit))
    return f"| {name} | {s['coverage']:.1%} | {s['wmae']:.2f} | {s['mae']:.2f} | {s['exact']:.0%} / {s['within_one']:.0%} | {s['f1']:.2f} | {error:.3f} | {history:.0%} |"


TEXT = """# What history is worth

Made by `benchmarks/history.py`; do not edit by hand. A profile of what is usual ([profiles.md](profiles.md)) was learned on simulated rush hours {learn} and used on {score}, which it has not seen:
same weekday, same wave of demand, other vehicles, other noise. Real days differ more, so this is what history is worth at best. {segments} segments have something usual.
Scores as in [accuracy.md](accuracy.md): km/h, everywhere, windows of five minutes.

| estimate | coverage | wMAE | MAE | class exact / within one | F1 slow | calibration error | segments told from history |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

{verdict}
"""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=Path, required=True)
    p.add_argument("--osm", type=Path, default=Path.home() / ".cache/tilannekuva/Helsinki.osm.pbf")
    p.add_argument("--learn", default="1,2,7,42")
    p.add_argument("--score", default="3,4,5,6")
    p.add_argument("--to", type=Path, default=Path("docs/accuracy-history.md"))
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument(
        "--fit",
        action="store_true",
        help="only print what other settings of learning would give, on the runs that teach, one left out each time",
    )
    a = p.parse_args()
    names = a.learn.split(",") if a.fit else [*a.learn.split(","), *a.score.split(",")]
    with ProcessPoolExecutor(a.jobs) as pool:
        cases = list(pool.map(partial(case, a.osm), [a.runs / n for n in names]))
    taught = cases[: len(a.learn.split(","))]
    if a.fit:
        for least in (2.0, 5.0, 10.0):
            for prior in (5.0, 15.0, 40.0, 100.0):
                rows = []
                for k, c in enumerate(taught):
                    profile = learn([*taught[:k], *taught[k + 1 :]], ProfileSettings(least_min=least, prior_min=prior))
                    rows.append(truth.pooled([(c.truth, said(c, profile, blind=False)[0])]))
                print(
                    f"least {least:g} min, prior {prior:g} min:",
                    *(f"{key} {np.mean([r[key] for r in rows]):.3f}" for key in ("wmae", "mae", "f1")),
                )
        return
    scored, profile = cases[len(taught) :], learn(taught)
    rows = [
        line("everything that is told, no history", scored, None, blind=False),
        line("everything that is told, with history", scored, profile, blind=False),
        line("all feeds dead, no history", scored, None, blind=True),
        line("all feeds dead, with history", scored, profile, blind=True),
    ]
    verdict = (
        "With all feeds alive a profile changes little: what is seen outweighs it. It is what is left when they die, and where nobody drives. Segments that are "
        "known of no other day stay without a value when the feeds are dead: coverage says so."
    )
    a.to.write_text(
        TEXT.format(learn=a.learn, score=a.score, segments=len(profile.segment_id), rows="\n".join(rows), verdict=verdict), "utf-8"
    )
    print(a.to.read_text("utf-8"))


if __name__ == "__main__":
    main()
