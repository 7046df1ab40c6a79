"""The string-line diagram of a route: how far along its way each run was, and when. The picture that dispatchers know.

Positions carry no distance along the route, so the way is taken from the longest run that was seen, and every fix is placed on it, never far from where its run
was before: a route that crosses itself is not mistaken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from serve.past import NO_DELAY, NO_SEGMENT, Past

#: The way is cut into steps of this length, metres.
STEP_M = 20.0
#: A run that moved less between two fixes stood, metres.
STANDING_M = 40.0
#: A fix farther from the way than this is off it, metres.
OFF_M = 120.0
#: Between two fixes a run goes at most so far back and ahead along the way, metres.
BACK_M, AHEAD_M = 150.0, 3_000.0
#: A street's name is shown where the way follows it for this long, metres.
NAMED_M = 120.0
#: Runs with a shorter way than this show nothing, metres.
SHORTEST_M = 200.0

Points = NDArray[np.float64]


def plane(lon_deg: Points, lat_deg: Points, at_lat_deg: float) -> Points:
    """Metres east and north on a plane that touches the earth at a latitude; good for a city."""
    return np.column_stack((lon_deg * 111_320.0 * np.cos(np.radians(at_lat_deg)), lat_deg * 110_950.0))


def _length(points: Points) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum()) if len(points) > 1 else 0.0


def steps(points: Points) -> tuple[Points, NDArray[np.int64]]:
    """A line cut into steps, and of which of its points each step begins at or after.

    >>> cut, owner = steps(np.array([[0.0, 0.0], [60.0, 0.0]]))
    >>> cut[:, 0].tolist(), owner.tolist()
    ([0.0, 20.0, 40.0, 60.0], [0, 0, 0, 1])
    """
    along = np.r_[0.0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    at = np.arange(0.0, along[-1] + STEP_M / 2, STEP_M)
    cut = np.column_stack((np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])))
    return cut, np.clip(np.searchsorted(along, at, side="right") - 1, 0, len(points) - 1)


def apart(points: Points) -> NDArray[np.int64]:
    """Which points of a run are well away from the one kept before: where it stood it only seemed to move.

    >>> apart(np.array([[0.0, 0.0], [5.0, 0.0], [90.0, 0.0], [95.0, 3.0]])).tolist()
    [0, 2]
    """
    kept = [0]
    for n in range(1, len(points)):
        if np.hypot(*(points[n] - points[kept[-1]])) >= STANDING_M:
            kept.append(n)
    return np.array(kept)


def place(way: Points, run: Points) -> list[float | None]:
    """How far along the way each fix of a run is, metres; None where it is off it.

    >>> way, _ = steps(np.array([[0.0, 0.0], [1000.0, 0.0]]))
    >>> place(way, np.array([[14.0, 5.0], [512.0, -8.0], [520.0, 400.0]]))
    [20.0, 520.0, None]
    """
    out: list[float | None] = []
    last: float | None = None
    for fix in run:
        away = np.hypot(way[:, 0] - fix[0], way[:, 1] - fix[1])
        if last is not None:
            first, end = max(0, int((last - BACK_M) / STEP_M)), int((last + AHEAD_M) / STEP_M) + 1
            best = first + int(np.argmin(away[first:end]))
        else:
            best = int(np.argmin(away))
        if away[best] > OFF_M:
            out.append(None)
            continue
        last = best * STEP_M if last is None else max(last, best * STEP_M)  # a run that stands trembles; it does not turn
        out.append(last)
    return out


def diagram(
    past: Past, route_id: str, direction_id: int | None, first_ms: int, last_ms: int, name_of: Callable[[str], str | None]
) -> dict[str, object]:
    """Runs of a route and direction within an interval. ``name_of``: the street of a segment."""
    tracks = past.tracks(route_id, direction_id, first_ms, last_ms)
    out: dict[str, object] = {"route_id": route_id, "direction_id": direction_id, "headsigns": [], "length_m": 0, "streets": [], "runs": []}
    if not tracks:
        return out
    out["headsigns"] = sorted({h for _, trip in tracks if (h := past.trips[trip].headsign)})
    middle = float(np.median(np.concatenate([run["lat"] for run in tracks.values()])))
    planes = {key: plane(run["lon"].astype(np.float64), run["lat"].astype(np.float64), middle) for key, run in tracks.items()}
    longest = max(planes, key=lambda key: (_length(planes[key]), key))
    if _length(planes[longest]) < SHORTEST_M:
        return out
    kept = apart(planes[longest])
    way, owner = steps(planes[longest][kept])
    segments = tracks[longest]["segment"][kept][owner].tolist()
    names = [None if n == NO_SEGMENT else name_of(past.segment_ids.texts[n]) for n in segments]
    out["length_m"] = round((len(way) - 1) * STEP_M)
    out["streets"] = _streets(names)
    runs = []
    for (vehicle, trip), run in tracks.items():
        at_m = place(way, planes[vehicle, trip])
        if all(m is None for m in at_m):
            continue
        t = past.trips[trip]
        runs.append(
            {
                "vehicle_id": past.vehicle_ids.texts[vehicle],
                "trip_id": t.trip_id,
                "start_time": t.start_time,
                "at_ms": run["at"].tolist(),
                "at_m": at_m,
                "delay_s": [None if d == NO_DELAY else d for d in run["delay"].tolist()],
            }
        )
    out["runs"] = runs
    return out


def _streets(names: list[str | None]) -> list[dict[str, object]]:
    """Where the way begins to follow a street, for streets that it follows for long enough."""
    out: list[dict[str, object]] = []
    begin = 0
    for n in range(1, len(names) + 1):
        if n == len(names) or names[n] != names[begin]:
            if names[begin] and (n - begin) * STEP_M >= NAMED_M and (not out or out[-1]["name"] != names[begin]):
                out.append({"at_m": round(begin * STEP_M), "name": names[begin]})
            begin = n
    return out
