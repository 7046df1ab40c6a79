"""Progress of vehicles along the shapes of their routes: one dimension, vectorised over vehicles, the same whatever shares the call.

A fix is projected onto its vehicle's shape near where the vehicle must be by now, and a scalar Kalman filter blends that foot point with the distance
that the vehicle's own odometer or speed says it drove (both are far more precise over seconds than GNSS). Progress never falls. What leaves here are
*steps*: "vehicle was at s0 at t0 and at s1 at t1", integers in millimetres and milliseconds, which ``streams/cells.py`` turns into Edie sums.

Batch invariance: every operation is elementwise IEEE arithmetic on one vehicle's row, or an argmin along that row, so a vehicle's result does not
depend on which other vehicles are in the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geo.network import F64, I64, Bool, Network

#: Progress columns, in the order of ``Tracker.export``.
NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """Tracking along shapes. Read once, then passed by hand."""

    #: Spacing of the points that shapes are resampled to, metres. Halving it doubles memory and search time; chords cut corners by < 0.3 m at 10.
    spacing_m: float = 10.0
    #: Standard deviation of a fix across its street, metres (68 % of real HFP points lie within 6.1 m of their line), of a vehicle that has just come ...
    sigma_m: float = 8.0
    #: ... then its own fixes' distances from their line tell, as a mean that forgets over this time, seconds ...
    learn_s: float = 60.0
    #: ... and never falls below this, metres.
    least_sigma_m: float = 3.0
    #: GNSS errors are correlated over about 20 s (Wahlstroem & Skog 2021, table 2), so fixes closer than that count for less.
    correlation_s: float = 20.0
    #: A fix farther than this from the shape is not on it, metres.
    leave_m: float = 45.0
    #: A fix must be this near to be put (back) on the shape, metres.
    join_m: float = 30.0
    #: Off the shape for this long, in event time: the vehicle has left its route, seconds.
    detour_s: float = 15.0
    #: Two fixes farther apart than this make no step, seconds.
    max_gap_s: float = 120.0
    #: No road vehicle or tram is faster, metres per second. Widens the search window.
    max_speed_mps: float = 33.0
    #: How far a fix may lie behind the last progress, metres.
    back_m: float = 40.0
    #: Error of the driven distance when the vehicle reports its speed, metres per second ...
    speed_error_mps: float = 0.7
    #: ... and when it does not.
    blind_error_mps: float = 9.0
    #: Between fixes that follow closely a reported speed errs by less: by its noise, metres per second ...
    speed_noise_mps: float = 0.2
    #: ... and by what two speeds miss between them, metres per second squared.
    speed_bend_mps2: float = 0.05
    #: Variance of the driven distance by the odometer, square metres a metre: lanes and bends against the drawn line.
    odometer_m2_per_m: float = 0.1
    #: Standard deviation of an odometer's scale, which each vehicle's own fixes then tell (real ones read up to 7 % too little: ``docs/accuracy-recordings.md``) ...
    odometer_scale: float = 0.01
    #: ... and which is never known better than this.
    least_scale: float = 0.001
    #: A vehicle that reports less than this at both ends of a step has not moved, metres per second ...
    still_mps: float = 0.3
    #: ... and its driven distance is unsure by this, metres per second.
    creep_mps: float = 0.02


@dataclass(slots=True)
class Progress:
    """What became of k fixes. ``from_*`` describe the step that ended here; ``step`` is False where there is none."""

    on: Bool  #: matched to the shape
    off_route: Bool  #: was on it before and has left it
    shape: I64
    s_mm: I64  #: progress along the shape, where ``on``
    step: Bool
    from_s_mm: I64
    from_t_ms: I64
    apart_m: F64  #: from the fix to the shape near where the vehicle should be; NaN where it was not looked for


class ShapePoints:
    """All shapes resampled to even spacing, in one array of points. Read-only: all trackers of a process share one.

    Eight bytes a point: coordinates are relative to the middle of the network, where 32-bit floats are exact to 4 mm at 50 km; everything else follows from them.
    """

    def __init__(self, network: Network, spacing_m: float) -> None:
        lines, n = network.shapes.geometry, len(network.shapes)
        some = len(lines.east_m) > 0
        self.origin = (float(np.round(lines.east_m.mean())), float(np.round(lines.north_m.mean()))) if some else (0.0, 0.0)
        counts = np.empty(n, np.int64)
        xs, ys = [], []
        self.length_m: F64 = np.zeros(n)
        self.spacing_m: F64 = np.full(n, spacing_m)  #: by shape; never 0: search windows are divided by it
        for k in range(n):
            a, b = lines.start[k], lines.start[k + 1]
            s = lines.along_m[a:b]
            length = float(s[-1]) if b > a else 0.0
            parts = max(1, round(length / spacing_m))
            at = np.arange(parts + 1) * (length / parts)
            xs.append((np.interp(at, s, lines.east_m[a:b]) - self.origin[0]).astype(np.float32))
            ys.append((np.interp(at, s, lines.north_m[a:b]) - self.origin[1]).astype(np.float32))
            self.length_m[k], self.spacing_m[k] = length, length / parts or spacing_m
            counts[k] = parts + 1
        self.first: I64 = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._east_north = np.empty(self.first[-1], np.complex64)  # a point in one number, so that reading it is one way through memory
        self._east_north.real, self._east_north.imag = (np.concatenate(part or [np.empty(0, np.float32)]) for part in (xs, ys))

    def at(self, index: I64 | slice) -> tuple[F64, F64]:
        """East and north of points, metres from the origin."""
        some = self._east_north[index]
        return some.real.astype(np.float64), some.imag.astype(np.float64)


class Tracker:
    """Progress of every vehicle of one raw partition, by slot."""

    COLUMNS = (
        "shape", "s_mm", "at_m", "t_ms", "var_m2", "noise_m2", "scale", "scale_var", "cov_m", "speed_mps", "odometer_m", "off_since_ms", "tried_ms",
    )  # fmt: skip

    def __init__(self, points: ShapePoints, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self.points = points
        self.shape: I64 = np.empty(0, np.int64)  #: -1: not on a shape
        self.s_mm: I64 = np.empty(0, np.int64)  #: progress, which never falls
        self.at_m: F64 = np.empty(0)  #: where the filter has the vehicle; noise may take it back a little
        self.t_ms: I64 = np.empty(0, np.int64)
        self.var_m2: F64 = np.empty(0)
        self.noise_m2: F64 = np.empty(0)  #: of its fixes
        self.scale: F64 = np.empty(0)  #: what the odometer misses, as a share of what it tells ...
        self.scale_var: F64 = np.empty(0)  #: ... its variance, ...
        self.cov_m: F64 = np.empty(0)  #: ... and its covariance with ``at_m``
        self.speed_mps: F64 = np.empty(0)  #: last reported
        self.odometer_m: F64 = np.empty(0)
        self.off_since_ms: I64 = np.empty(0, np.int64)  #: NEVER while on the shape
        self.tried_ms: I64 = np.empty(0, np.int64)  #: last search over the whole shape

    def grow(self, slots: int) -> None:
        """Make room for ``slots`` vehicles."""
        more = slots - len(self.shape)
        if more <= 0:
            return
        for name in self.COLUMNS:
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full(more, self._fresh(name), old.dtype)]))

    def _fresh(self, name: str) -> float:
        """A column's value of a vehicle that nothing is known of."""
        cfg = self.settings
        known = {
            "shape": -1, "s_mm": 0, "at_m": 0.0, "var_m2": 0.0, "noise_m2": cfg.sigma_m * cfg.sigma_m, "scale": 0.0,
            "scale_var": cfg.odometer_scale * cfg.odometer_scale, "cov_m": 0.0, "speed_mps": np.nan, "odometer_m": np.nan,
        }  # fmt: skip
        return known.get(name, NEVER)

    def forget(self, slot: I64) -> None:
        """Free slots: what their vehicles' fixes and odometers were like goes with the vehicles."""
        for name in self.COLUMNS:
            getattr(self, name)[slot] = self._fresh(name)

    def reset(self, slot: I64) -> None:
        """Forget progress: another trip begins."""
        self.shape[slot] = -1
        self.t_ms[slot] = self.off_since_ms[slot] = self.tried_ms[slot] = NEVER

    def step(
        self, slot: I64, shape: I64, t_ms: I64, east_m: F64, north_m: F64, heading: tuple[F64, F64], speed_mps: F64, odometer_m: F64
    ) -> Progress:
        """Move k distinct vehicles on to a new fix each.

        Args:
            slot: (k,) distinct.
            shape: (k,) shape that the vehicle's trip follows; -1: none.
            t_ms: (k,) event time; later than the vehicle's last one.
            east_m, north_m: finite.
            heading: unit vector of the course, (0, 0) where unknown or standing.
            speed_mps, odometer_m: NaN where not reported.
        """
        cfg, k = self.settings, len(slot)
        same = (self.shape[slot] == shape) & (shape >= 0)
        off_ms = self.off_since_ms[slot]
        stray = (off_ms != NEVER) & (t_ms - np.where(off_ms == NEVER, t_ms, off_ms) < int(cfg.detour_s * 1000))
        known = same & ((off_ms == NEVER) | stray)  # after a stray fix or two a vehicle goes on from where it was
        on = np.zeros(k, np.bool_)
        s_new = np.zeros(k)
        var_new = np.zeros(k)
        apart2 = np.full(k, np.nan)
        from_s, from_t = self.s_mm[slot], self.t_ms[slot]
        rows = np.flatnonzero(known)
        if rows.size:
            on[rows], s_new[rows], var_new[rows], apart2[rows] = self._follow(
                slot[rows], t_ms[rows], east_m[rows], north_m[rows], (heading[0][rows], heading[1][rows]), speed_mps[rows], odometer_m[rows]
            )
        followed = on.copy()
        for i in np.flatnonzero((shape >= 0) & ~on):
            if not self._may_search(int(slot[i]), int(shape[i]), int(t_ms[i])):
                continue
            at = self._search(int(shape[i]), east_m[i], north_m[i], heading[0][i], heading[1][i], odometer_m[i])
            if at is not None:
                on[i], s_new[i], var_new[i] = True, at, cfg.sigma_m * cfg.sigma_m
                self.cov_m[slot[i]] = 0.0
        s_mm = np.rint(s_new * 1000.0).astype(np.int64)
        s_mm = np.where(followed, np.maximum(s_mm, from_s), s_mm)
        step = followed & (t_ms - from_t <= int(cfg.max_gap_s * 1000))

        moved = slot[on]
        self.shape[moved], self.s_mm[moved], self.at_m[moved], self.t_ms[moved] = shape[on], s_mm[on], s_new[on], t_ms[on]
        self.var_m2[moved], self.off_since_ms[moved] = var_new[on], NEVER
        self.speed_mps[moved], self.odometer_m[moved] = speed_mps[on], odometer_m[on]
        lost = ~on & same & (self.off_since_ms[slot] == NEVER)
        self.off_since_ms[slot[lost]] = t_ms[lost]
        fresh = ~on & ~same
        self.reset(slot[fresh & (self.shape[slot] >= 0)])
        since = self.off_since_ms[slot]
        off_route = ~on & same & (since != NEVER) & (t_ms - np.where(since == NEVER, t_ms, since) >= int(cfg.detour_s * 1000))
        return Progress(on, off_route, shape, s_mm, step, from_s, from_t, np.sqrt(apart2))

    def locate(self, slot: I64, shape: I64, t_ms: I64, east_m: F64, north_m: F64) -> tuple[Bool, I64]:
        """Where fixes that came out of order lie on their vehicles' shapes; moves nothing.

        Returns:
            ``(on, s_mm)``: whether the vehicle is on that shape and the fix near it, and where.
        """
        cfg = self.settings
        near = (self.shape[slot] == shape) & (shape >= 0) & (self.off_since_ms[slot] == NEVER)
        on, s_mm = np.zeros(len(slot), np.bool_), np.zeros(len(slot), np.int64)
        rows = np.flatnonzero(near)
        if rows.size:
            k = shape[rows]
            s0 = self.s_mm[slot[rows]] / 1000.0
            apart = (
                self.t_ms[slot[rows]] - t_ms[rows]
            ) / 1000.0  # negative: newer than the last fix on the shape, older than one without a position
            ago, ahead = np.clip(apart, 0.0, cfg.max_gap_s), np.clip(-apart, 0.0, cfg.max_gap_s)
            low = np.maximum(s0 - cfg.back_m - cfg.max_speed_mps * ago, 0.0)
            high = np.minimum(s0 + cfg.back_m + cfg.max_speed_mps * ahead, self.points.length_m[k])
            base, spacing = self.points.first[k], self.points.spacing_m[k]
            i0 = np.floor(low / spacing).astype(np.int64)
            width = np.ceil((high - low) / spacing).astype(np.int64) + 2
            unknown = np.zeros(rows.size)
            foot, dist2 = self._project(
                base, self.points.first[k + 1], spacing, i0, width, int(width.max()), east_m[rows], north_m[rows],
                np.maximum(s0 + 8.0 * (ahead - ago), 0.0), (8.0 * apart) ** 2 + 100.0, unknown, unknown,
            )  # fmt: skip
            on[rows] = dist2 <= cfg.leave_m * cfg.leave_m
            s_mm[rows] = np.rint(foot * 1000.0).astype(np.int64)
        return on, s_mm

    def _follow(
        self, slot: I64, t_ms: I64, east_m: F64, north_m: F64, heading: tuple[F64, F64], speed_mps: F64, odometer_m: F64
    ) -> tuple[Bool, F64, F64, F64]:
        """Project near the expected progress and filter. Returns on, s in metres, variance, squared distance from the shape."""
        cfg = self.settings
        shape = self.shape[slot]
        s0 = self.at_m[slot]
        dt = (t_ms - self.t_ms[slot]) / 1000.0
        v0, v1 = self.speed_mps[slot], speed_mps
        v = np.where(np.isnan(v1), v0, np.where(np.isnan(v0), v1, 0.5 * (v0 + v1)))
        driven = odometer_m - self.odometer_m[slot]
        odo_ok = np.isfinite(driven) & (odometer_m > 0) & (driven >= 0) & (driven <= cfg.max_speed_mps * dt + 5.0)
        blind = np.isnan(v) & ~odo_ok
        still = (v0 < cfg.still_mps) & (v1 < cfg.still_mps) & ~(odo_ok & (driven > 1.0))  # odometers are rounded to metres
        by_odometer = odo_ok & ~still
        scale, scale_var, cov = self.scale[slot], self.scale_var[slot], self.cov_m[slot]
        told = np.where(by_odometer, driven, 0.0)
        ds = np.where(still, 0.0, np.where(odo_ok, driven * (1.0 + scale), np.where(blind, 0.0, v * dt)))
        error = np.minimum(cfg.speed_error_mps, cfg.speed_noise_mps + cfg.speed_bend_mps2 * dt)
        spread = np.where(blind, cfg.blind_error_mps, error) * dt
        spread = np.where(still, cfg.creep_mps * dt, spread)
        grown = np.where(by_odometer, cfg.odometer_m2_per_m * driven + 0.01, spread * spread)
        var = self.var_m2[slot] + told * (2.0 * cov + told * scale_var) + grown
        cov = cov + told * scale_var
        expected = np.minimum(s0 + ds, self.points.length_m[shape])

        reach = np.where(blind, cfg.max_speed_mps * dt, 1.5 * ds + 5.0 * dt) + cfg.back_m
        low = np.maximum(s0 - cfg.back_m, 0.0)
        base, spacing = self.points.first[shape], self.points.spacing_m[shape]
        i0 = np.floor(low / spacing).astype(np.int64)
        width = np.ceil((np.minimum(s0 + reach, self.points.length_m[shape]) - low) / spacing).astype(np.int64) + 2
        foot, dist2 = np.zeros(len(slot)), np.full(len(slot), np.inf)
        edges = (0, 16, 48, 160, 512)
        for lo, hi in pairwise(edges):
            rows = np.flatnonzero((width > lo) & (width <= hi) if hi < edges[-1] else width > lo)
            if rows.size:
                columns = int(width[rows].max())
                foot[rows], dist2[rows] = self._project(
                    base[rows], self.points.first[shape[rows] + 1], spacing[rows], i0[rows], width[rows], columns, east_m[rows], north_m[rows],
                    expected[rows], var[rows], heading[0][rows], heading[1][rows],
                )  # fmt: skip
        weight = np.maximum(1.0, np.minimum(cfg.correlation_s, cfg.correlation_s / np.maximum(dt, 1e-3)))
        weight = np.where(blind, 1.0, weight)  # fixes alone tell how far a blind vehicle came: what counts for less would lag behind it
        own = self.noise_m2[slot]
        noise = np.maximum(own, cfg.least_sigma_m * cfg.least_sigma_m) * weight
        miss = foot - expected
        total = var + noise
        gain = var / total
        jump = miss * miss > 36.0 * (var + own)
        s = np.where(jump, foot, expected + gain * miss)
        lean = cov / total
        self.scale[slot] = np.where(jump, scale, np.clip(scale + lean * miss, -0.2, 0.2))
        self.scale_var[slot] = np.where(jump, scale_var, np.maximum(scale_var - lean * cov, cfg.least_scale * cfg.least_scale))
        self.cov_m[slot] = np.where(jump, 0.0, cov * (1.0 - gain))
        # Noise may take the estimate back, or a standing vehicle would creep; not of a blind one, which would turn with its street where its shape turns back.
        s = np.minimum(np.maximum(s, np.where(blind, s0, 0.0)), self.points.length_m[shape])
        on = dist2 <= cfg.leave_m * cfg.leave_m
        self.noise_m2[slot] = np.where(on, own + dt / (dt + cfg.learn_s) * (dist2 - own), own)
        return on, s, np.where(jump, noise, (1.0 - gain) * var), dist2

    def _project(
        self,
        base: I64,
        end: I64,
        spacing: F64,
        i0: I64,
        width: I64,
        columns: int,
        x: F64,
        y: F64,
        expected: F64,
        var: F64,
        ux: F64,
        uy: F64,
    ) -> tuple[F64, F64]:
        """Cheapest foot point of each fix within its window: across, along and course terms. Returns s and squared distance."""
        cfg, points = self.settings, self.points
        j: NDArray[np.int64] = np.arange(columns + 1)
        index = (base + i0)[:, None] + j
        valid = (j[:-1] < width[:, None]) & (index[:, :-1] < end[:, None])
        index = np.minimum(index, (end - 1)[:, None])
        px, py = points.at(index)
        u, d2, course, norm = _foot(px, py, (x - points.origin[0])[:, None], (y - points.origin[1])[:, None], ux[:, None], uy[:, None])
        s = (i0[:, None] + j[:-1] + u) * spacing[:, None]
        ahead = s - expected[:, None]
        across = d2 * (1.0 / (cfg.sigma_m * cfg.sigma_m))
        cost = across + ahead * ahead * (1.0 / (9.0 * var + 400.0))[:, None] + np.where(course < -0.3 * norm, 9.0, 0.0)
        best = np.argmin(np.where(valid, cost, np.inf), axis=1)
        row = np.arange(len(base))
        return s[row, best], d2[row, best]

    def _may_search(self, slot: int, shape: int, t_ms: int) -> bool:
        """A search over the whole shape costs about 50 us, so a vehicle that is off it tries once in 3 s."""
        if self.shape[slot] not in (-1, shape):
            self.reset(np.array([slot]))
        if self.tried_ms[slot] != NEVER and 0 <= t_ms - self.tried_ms[slot] < 3000:
            return False
        self.tried_ms[slot] = t_ms
        return True

    def _search(self, shape: int, x: float, y: float, ux: float, uy: float, odometer_m: float) -> float | None:
        """Where on the whole shape a fix lies; metres along it, or None when it does not lie on it."""
        cfg, points = self.settings, self.points
        px, py = points.at(slice(points.first[shape], points.first[shape + 1]))
        u, d2, course, norm = _foot(px, py, x - points.origin[0], y - points.origin[1], ux, uy)
        s = (np.arange(len(u)) + u) * points.spacing_m[shape]
        cost = d2 / (cfg.sigma_m * cfg.sigma_m) + np.where(course < 0.0, 16.0, 0.0)
        if np.isfinite(odometer_m):
            # HFP counts from the start of the trip, and is called unreliable: a weak hint between two passes of a loop
            miss = (s - odometer_m) / (300.0 + 0.2 * odometer_m)
            cost = cost + miss * miss
        best = int(np.argmin(cost))
        if d2[best] > cfg.join_m * cfg.join_m or course[best] < -0.3 * norm[best]:
            return None
        return float(s[best])

    def export(self, slots: I64) -> dict[str, bytes]:
        """Columns of some slots as bytes, for a snapshot."""
        return {name: getattr(self, name)[slots].tobytes() for name in self.COLUMNS}

    def restore(self, slots: I64, data: dict[str, bytes]) -> None:
        """Inverse of ``export``."""
        self.grow(int(slots.max()) + 1 if slots.size else 0)
        for name in self.COLUMNS:
            column = getattr(self, name)
            column[slots] = np.frombuffer(data[name], column.dtype)


def _foot(px: F64, py: F64, x: F64 | float, y: F64 | float, ux: F64 | float, uy: F64 | float) -> tuple[F64, F64, F64, F64]:
    """Of a fix and the stretches between neighbouring points (last axis): share of the stretch, squared distance, course along it times its length, its length."""
    ax, ay = px[..., :-1], py[..., :-1]
    dx, dy = px[..., 1:] - ax, py[..., 1:] - ay
    square = dx * dx + dy * dy
    rx, ry = x - ax, y - ay
    u = np.minimum(np.maximum((rx * dx + ry * dy) / np.maximum(square, 1e-9), 0.0), 1.0)
    rx, ry = rx - u * dx, ry - u * dy
    return u, rx * rx + ry * ry, ux * dx + uy * dy, np.sqrt(square)
