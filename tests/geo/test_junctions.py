"""Signals by junction, and the order of streets."""

from __future__ import annotations

import numpy as np

from geo import assemble
from geo.junctions import junctions
from geo.network import Network, Schedule, Segments
from geo.streets import streets


def crossing(*, signal: dict[str, int], road_class: dict[str, str] | None = None, gap: float = 100.0) -> Segments:
    """Four arms of ``gap`` metres that meet at (0, 0), each with a stop-line node 10 m before it. Names: w_in, w_line, w_out, w_off, ... for w, e, s, n."""
    out: list[assemble.Street] = []
    for arm, (dx, dy) in {"w": (-1.0, 0.0), "e": (1.0, 0.0), "s": (0.0, -1.0), "n": (0.0, 1.0)}.items():
        far, line, mid = (gap * dx, gap * dy), (10 * dx, 10 * dy), (0.0, 0.0)
        for name, a, b in ((f"{arm}_in", far, line), (f"{arm}_line", line, mid), (f"{arm}_out", mid, line), (f"{arm}_off", line, far)):
            cls = (road_class or {}).get(arm, "secondary")
            axis = "EW street" if arm in "we" else "NS street"
            out.append(assemble.Street(name, np.array([a, b]), a, b, cls, speed_limit_kmh=40.0, signal=signal.get(name, 0), name=axis))
    return assemble.segments(out)


def names(s: Segments, which: np.ndarray) -> set[str]:
    return {s.segment_id[i] for i in np.flatnonzero(which)}


def test_a_signal_drawn_on_the_node_holds_every_arm_once() -> None:
    s = crossing(signal={f"{arm}_line": 1 for arm in "wesn"})
    assert names(s, junctions(s).held) == {f"{arm}_line" for arm in "wesn"}


def test_signals_drawn_on_stop_lines_for_both_directions_hold_on_the_way_in_only() -> None:
    s = crossing(signal={f"{arm}_{part}": 1 for arm in "wesn" for part in ("in", "out")})
    j = junctions(s)
    assert names(s, j.held) == {f"{arm}_in" for arm in "wesn"}


def test_an_arm_that_was_not_drawn_is_held_as_well() -> None:
    s = crossing(signal={"w_in": 1, "e_in": 1, "s_in": 1})
    assert names(s, junctions(s).held) == {"w_in", "e_in", "s_in", "n_line"}


def test_a_signal_in_the_middle_of_a_block_is_a_crossing_for_people() -> None:
    s = crossing(signal={"e_off": 1})
    j = junctions(s)
    assert names(s, j.crossing) == {"e_off"}
    assert not j.held.any()


def test_a_lower_street_gives_way_where_there_is_no_signal() -> None:
    classes = {"s": "residential", "n": "residential"}
    s = crossing(signal={}, road_class=classes)
    assert names(s, junctions(s).yields) == {"s_line", "n_line"}
    s = crossing(signal={f"{arm}_line": 1 for arm in "wesn"}, road_class=classes)
    assert not junctions(s).yields.any()


def test_straight_on_is_the_same_street_and_back_is_no_way_on() -> None:
    s = crossing(signal={})
    view = streets(Network("t", "", "EPSG:3067", s, assemble.shapes([], [], [], []), Schedule({}, {}, {}), "test", "CC0-1.0", "nobody"))
    at = {name: i for i, name in enumerate(s.segment_id)}
    assert view.ahead[at["w_in"]] == at["w_line"]
    assert view.ahead[at["w_line"]] == at["e_out"]
    assert view.ahead[at["s_line"]] == at["n_out"]
    assert view.ahead[at["e_off"]] == -1
    ways = {s.segment_id[j] for i, j in zip(view.link_from, view.link_to, strict=True) if i == at["w_line"]}
    assert ways == {"e_out", "s_out", "n_out"}
    assert (np.diff(view.link_from) >= 0).all()


def test_links_join_only_what_is_driven_by_the_same_traffic() -> None:
    a, b, c = (0.0, 0.0), (100.0, 0.0), (200.0, 0.0)
    s = assemble.segments(
        [
            assemble.Street("street", np.array([a, b]), a, b, "secondary"),
            assemble.Street("lane", np.array([b, c]), b, c, "busway", represents="bus_lane"),
        ]
    )
    view = streets(Network("t", "", "EPSG:3067", s, assemble.shapes([], [], [], []), Schedule({}, {}, {}), "test", "CC0-1.0", "nobody"))
    assert len(view.link_from) == 0
    assert (view.ahead == -1).all()
    assert view.pool(np.ones(2, np.complex128), 40.0, 3).tolist() == view.spread(np.ones(2, np.complex128), 40.0, 0.9, 3).tolist() == [1, 1]


def test_pieces_of_a_street_that_only_drives_leave_are_one_block() -> None:
    at = [(100.0 * k, 0.0) for k in range(4)]
    pieces = [assemble.Street(f"p{k}", np.array([at[k], at[k + 1]]), at[k], at[k + 1], "secondary") for k in range(3)]
    drive = assemble.Street("drive", np.array([at[1], (100.0, 50.0)]), at[1], (100.0, 50.0), "service")
    side = assemble.Street("side", np.array([at[2], (200.0, 50.0)]), at[2], (200.0, 50.0), "residential")
    s = assemble.segments([*pieces, drive, side])
    view = streets(Network("t", "", "EPSG:3067", s, assemble.shapes([], [], [], []), Schedule({}, {}, {}), "test", "CC0-1.0", "nobody"))
    block = dict(zip(s.segment_id, view.block.tolist(), strict=True))
    assert block["p0"] == block["p1"]
    assert len({block[k] for k in ("p1", "p2", "drive", "side")}) == 4
