"""``docs/accuracy.md`` from the figures of ``benchmarks/accuracy.py``."""

from __future__ import annotations

from typing import Any

HEAD = """# How right the picture is

Made by `make accuracy` (`benchmarks/accuracy.py`); do not edit by hand. Emissions have a page of their own: [accuracy-emissions.md](accuracy-emissions.md).

Simulated rush hours on real streets of central Helsinki (SUMO; 1 x 1.7 km, 384 edges, 15 bus line directions, 33 loop stations) are turned into the wire streams that a
real system would get, with noise, loss, delay, wrong clocks and frozen stations; these run through the same parsers, matching, sums and fusion as live data, offline and
with nothing known from other days. What is published of our {segments} is laid over the simulation's edges and compared with the true space-mean speed of its cars,
in windows of five minutes. *wMAE* is weighted by vehicle time: it measures sensing. *MAE* counts every edge alike: on quiet streets it measures the formula more than
the sensors, which is why the formula without any sensor stands beside it.

"Where seen": a bus outside its stops, or a loop, was on the edge in that window. Harsher noise: GPS 12 m, one fix each 10 s, 20 % fewer buses.
"""

METHOD = """
## Method

Each segment has two sums that fade with log time: the time that vehicles took on it, and the time they would have taken in light traffic (Edie's sums, the second
divided by the expected speed). Their ratio is the pace ratio. A segment asks in turn what its class and limit lead one to expect, what is going on in all the streets that
it leads into (queues grow upstream), and what is going on along the street itself; each answer is the prior of the next, worth a stated number of seconds.
Small ratios are shrunk (a single red light is not congestion). Time at stops is cut: where a vehicle boarded, the zone of the stop is left out.
Sites publish the arithmetic mean of those that passed; `models/loops.py` turns it into a space mean by Wardrop's relation for a mixture of free and creeping vehicles.
The bus-to-car ratio is a loss of {bus_loss:.0%} of the expected time, applied to general traffic only and only where vehicles were seen.

| what | where | fitted |
| --- | --- | --- |
| parameters of the estimator | `models/fusion.py` | `benchmarks/fit_fusion.py`, rounded; the optimum is flat |
| light traffic: share of the limit, signals, giving way | `models/freeflow.py` | form of the no-sensor formula; share and giving way fitted |
| spot mean to space mean | `models/loops.py` | Wardrop 1952; share of free speed fitted, creep speed bounded |
| width of the spread, calibration | `models/confidence.py` | `benchmarks/fit_fusion.py` |

A recursive Kalman filter in log speed ratio stood here first: on run 42 it reached wMAE 6.9 and MAE 4.7 km/h, where this one has 2.6 and 3.2. The logarithm of one bus's pace over one short
segment in one minute is mostly the red light it met; sums over the street are not.

## Limits

- The truth is a simulation: its demand, its drivers and its signals are invented, only streets and a part of the lines are real. Its jams stand stiller than real ones.
- Less than two square kilometres of one city; another town and other demand: [accuracy-elsewhere.md](accuracy-elsewhere.md). The parameters were fitted on other seeds of the same streets; on real streets their limits, signals and classes are as good as the map.
- Confidence is calibrated on these runs. On streets that nothing has seen (`inferred`) it says how good the formula is there, in a simulation whose drivers keep the limit.
- The car truth of one minute rests on few cars; the confidence is fitted to both and lies between the two. The quantiles are those of
  five minutes; of single minutes 23 to 24 % lie below the lower and 67 to 69 % below the upper one.
- A blocked lane (minute 42 of each run) hardly shows in the streams: see the tables of what vehicles and sites on that edge said before it and while it lasted. The true mean of the edge falls
  mostly because the standing vehicle is counted: without it the cars drive within 1.3 km/h of their speed before in six of nine runs, since the lane beside it takes them, and sites tell
  of directions, not of lanes. How little differs, and what a change detector on the loops makes of
  it: [accuracy-matching.md](accuracy-matching.md). What the detector tells are queues that form; it publishes them as situations with their evidence (`streams/incidents.py`).
"""


def write(groups: dict[str, dict[str, Any]], said: dict[str, dict[str, float]], bars: dict[str, tuple[float, float]], check: str) -> str:
    """The page. ``said``: by group, the figures that have a bar."""
    from models.fusion import FusionSettings

    names = list(groups)
    out = [HEAD.format(segments="directed segments of general traffic")]
    out.append("\n## Against the bars\n\n")
    out.append(_row(["measure", "must", "aim", *names]) + _row(["---"] * (3 + len(names))))
    for bar, (must, aim) in bars.items():
        out.append(_row([bar, _number(must), _number(aim), *(_number(said[g][bar]) for g in names)]))
    first, last = (groups[g]["estimate"]["everywhere"] for g in (names[0], names[-1]))
    if len(names) > 1:
        each = (f["runs"].values() for f in (groups[names[0]], groups[names[-1]]))
        apart = ", ".join(f"{b['wmae'] / a['wmae'] - 1:+.0%}" for a, b in zip(*each, strict=True))
        out.append(
            f"\nHarsher noise costs {last['wmae'] / first['wmae'] - 1:+.0%} of wMAE and {last['mae'] / first['mae'] - 1:+.0%} of MAE (bar: at most +20 %); wMAE run by run: {apart}. "
            "Fewer buses make another rush hour of the same seed, with other jams, and so most of the spread between runs: on the same traffic, coarser fixes and noise alone cost 1 to 4 % "
            "(runs 1, 2 and 7).\n"
        )
    for g, f in groups.items():
        runs = ", ".join(f["runs"])
        out.append(f"\n## {g.capitalize()}: runs {runs}\n\n")
        out.append(_row(["estimate", "where", *COLUMNS]) + _row(["---"] * (2 + len(COLUMNS))))
        for kind, label in (
            ("estimate", "**published**"),
            ("naive", "naive: bus mean, else loop mean, else limit"),
            ("formula", "no sensor: length / (0.85 limit) + 4 s at a signal"),
        ):
            for where, scores in f[kind].items():
                out.append(_row([label, where, *_scores(scores)]))
        out.append("\nBy origin of what is published, and the formula on the same edge windows:\n\n")
        out.append(_row(["origin", "estimate", *COLUMNS]) + _row(["---"] * (2 + len(COLUMNS))))
        for origin, kinds in f["by origin"].items():
            for kind, scores in kinds.items():
                if scores:
                    out.append(_row([origin, "published" if kind == "estimate" else "no sensor", *_scores(scores)]))
        out.append("\nRun by run, published, everywhere:\n\n")
        out.append(_row(["run", *COLUMNS]) + _row(["---"] * (1 + len(COLUMNS))))
        for run, scores in f["runs"].items():
            out.append(_row([run, *_scores(scores)]))
        c, (p20, p80) = f["calibration"], f["quantiles"]
        out.append(
            f"\nConfidence (probability that the truth lies within the larger of 15 % and 3 km/h): calibration error {c['five minutes']:.3f} against "
            f"five minutes, {c['one minute']:.3f} against single minutes. Below the 20 % quantile lie {p20:.0%} of the five-minute truths, below the 80 % quantile {p80:.0%}. "
            "\n\n"
        )
        kinds = {"shapes": "along the shapes of their lines", "free": "freely, as if no line were known"}
        out.append(
            "Matched to the right way (the OSM way of the segment is one of the true edge, in a junction of the edge before or after it), one fix in 1, 10 and 30 s"
            + ("" if len(runs) and "harsh" not in runs else "; here no vehicle tells more than one in 10 s")
            + ": "
            + "; ".join(f"{text} {', '.join(f'{x:.1%}' for x in f['matched'][kind].values())}" for kind, text in kinds.items())
            + ".\n\n"
        )
        flow = f["flow"]
        out.append(
            f"Flow, median error against that of all vehicles in five minutes: {flow['counted']:.1%} on edges with a loop. Without one: {flow['scored']:.1%} where speed is scored too (edges of 20 m or "
            f"more, 30 vehicle-seconds or more; the mean per lane of the three nearest loops, from their true counts, errs by {flow['near loops']:.1%} there), {flow['long']:.1%} on all edges of 20 m or "
            f"more, where one vehicle in five minutes counts as much as a hundred, {flow['all']:.1%} on all edges, 0.2 m long ones too, whose flow by Edie's formula is several times the number "
            "of vehicles that entered them.\n\n"
        )
        w = f["falls"]
        blocked = ["not told" if x is None else f"after {x:.0f} s" for x in w["blocked lanes told"]]
        happened = w["true"]
        waits = sorted(x for _, x in happened if x is not None)
        out.append(
            f"Sudden falls of speed (`models/falls.py`): {w['told']} told in {w['hours']:.0f} hours, {w['borne out']} borne out by the truth (below 60 % of the mean of 3 to 12 minutes "
            f"before), {w['not']} not ({w['not'] / w['hours']:.1f} an hour). Falls in the truth (a street above half its limit for ten minutes, below half of that for the next five, 300 vehicle-seconds or more; one in 150 m and 15 minutes): "
            f"{len(happened)}, of which vehicles spent a minute or more in {sum(seen for seen, _ in happened)}; {len(waits)} were told, {sum(x <= 5 for x in waits)} within 5 minutes"
            + (f", in the median after {waits[len(waits) // 2]:.0f}" if waits else "")
            + f". The blocked lane, run by run: {', '.join(blocked)}.\n\n"
        )
        out.append(_row(["blocked lane: km/h before / while it lasts", *f["lanes"][0]]) + _row(["---"] * (1 + len(f["lanes"][0]))))
        for run, lane in zip(f["runs"], f["lanes"], strict=True):
            out.append(_row([run, *(" / ".join("-" if x != x else f"{x:.1f}" for x in pair) for pair in lane.values())]))
        out.append("\n")
        out.append(_row(["confidence from", "rows", "mean confidence", "within the band"]) + _row(["---"] * 4))
        for r in c["table"]:
            out.append(_row([f"{r['from']:.1f}", f"{r['rows']:,}", f"{r['said']:.2f}", f"{r['true']:.2f}"]))
    if check:
        out.append(f"\n## The simulation's own scorer, first run\n\n```\n{check}\n```\n")
    out.append(METHOD.format(bus_loss=FusionSettings().bus_loss))
    return "".join(out)


COLUMNS = ("edge windows", "coverage", "wMAE", "MAE", "bias", "class exact / within one", "F1 slow")


def _scores(s: dict[str, float]) -> list[str]:
    if not s:
        return ["0", "", "", "", "", "", ""]
    return [
        f"{s['rows']:,.0f}", f"{s['coverage']:.1%}", f"{s['wmae']:.2f}", f"{s['mae']:.2f}", f"{s['bias']:+.2f}",
        f"{100 * s['exact']:.0f} / {100 * s['within_one']:.0f} %", f"{s['f1']:.2f}",
    ]  # fmt: skip


def _number(x: float) -> str:
    return f"{x:.0f}" if x >= 50 and float(x).is_integer() else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"
