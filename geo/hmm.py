"""Free map matching: fixes of vehicles without a known shape onto the street network, one fix at a time.

A hidden Markov model with the segments near a fix as its states (Newson & Krumm 2009, https://doi.org/10.1145/1653771.1653818), run forward
only, so that each fix is decided when it arrives. Beside their distance and network terms the reported heading speaks. All costs are negative
log-likelihoods in nats, smaller is better; nothing is ever exponentiated.

Vectorised over vehicles. Only elementwise IEEE operations and exact minima touch a vehicle's numbers, so its result is the same bits
whichever other vehicles are in the call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from geo.graph import Graph
from geo.nearby import Near, Nearby
from geo.network import F64, I8, I64, Bool, Network
from geo.ways import SAME, Traversals, Ways, expand, find_ways, walk

#: cos and sin of every tenth of a degree: looked up, since a vector library's sine need not give the same bits in every batch length
_TENTHS = np.array([[math.cos(math.radians(i / 10)), math.sin(math.radians(i / 10))] for i in range(3600)])


@dataclass(frozen=True, slots=True)
class HmmSettings:
    """Parameters of free matching. Where no source is named, ``benchmarks/matching.py --truth DIR --try NAME=VALUES`` chose the value on
    simulated truth (two seeds, GNSS noise of 6 and 12 m, a fix each 1, 10 and 30 s); each has a flat optimum."""

    #: Streets farther than this from a fix are not candidates, metres. Cost grows with its square.
    radius_m: float = 50.0
    #: Candidates kept for a fix. Cost grows with its square.
    candidates: int = 8
    #: Standard deviation of a fix across its street, metres: GNSS noise and the half width of the street.
    sigma_m: float = 10.0
    #: Concentration of the reported heading about the street's direction (von Mises); 8 is a standard deviation of 20 degrees.
    heading_kappa: float = 8.0
    #: The same for a vehicle that hardly moves: receivers keep their last heading, or turn on the spot.
    still_kappa: float = 4.0
    #: Below this speed a heading is old or noise, m/s.
    heading_from_mps: float = 1.5
    #: GNSS errors are alike for this long, seconds: the distance of a fix that follows sooner counts for less, in proportion to the time.
    correlation_s: float = 4.0
    #: Cost of a candidate whose start the fix has not reached, nats: at a junction a vehicle is still on the street that it comes from.
    early_cost: float = 1.0
    #: Scale of |way along the network - straight line| between two fixes, metres (the exponential law of Newson & Krumm, eq. 2) ...
    beta_m: float = 30.0
    #: ... and its growth with the time between them, metres per second.
    beta_mps: float = 0.5
    #: Cost of turning round in the street, nats; none at a dead end.
    turn_cost: float = 8.0
    #: Silence that ends a path, seconds.
    max_gap_s: float = 60.0
    #: Faster than this is a jump and ends a path, m/s.
    max_speed_mps: float = 50.0
    #: Candidates this much worse than the best are dropped, nats.
    prune: float = 25.0
    #: A street this much worse than the chosen one was nearly chosen, and is told, nats (odds of 20). More: more is told, and costs.
    nearly: float = 3.0
    #: A vehicle that reports less than this stands, m/s.
    still_mps: float = 0.5
    #: Apparent movement that is taken for noise when no speed is reported, metres.
    deadband_m: float = 10.0
    #: Apparent backward movement that is taken for noise, metres.
    back_m: float = 30.0
    #: Scale of how far outside a candidate the filter along the way puts the vehicle, metres; wider by ``speed_sigma_mps`` times time.
    beyond_m: float = 5.0
    #: Standard deviation of the GNSS along the street, metres: a weight of the filter along the way.
    along_sigma_m: float = 10.0
    #: Standard deviation of the mean of two reported speeds, m/s: the other weight. An odometer tells only how long the way was: in this filter, at one fix in 30 s,
    #: its scale error costs 3 points of right ways.
    speed_sigma_mps: float = 1.0
    #: A vehicle's own fixes tell how noisy they are, as a mean of squared distances from their streets that forgets over this time, seconds ...
    learn_s: float = 60.0
    #: ... and what exceeds the square of this, metres, widens the sigmas across and along.
    usual_noise_m: float = 7.0

    def __post_init__(self) -> None:
        may_be_zero = ("heading_kappa", "still_kappa", "correlation_s", "early_cost", "beta_mps", "turn_cost", "deadband_m")
        for name in self.__slots__:
            value = getattr(self, name)
            if not (math.isfinite(value) and (value > 0 or (value == 0 and name in may_be_zero))):
                raise ValueError(f"{name} = {value}, expected a finite number {'>= 0' if name in may_be_zero else '> 0'}")


@dataclass(slots=True)
class Nearly:
    """Fixes that another street nearly had, columns (n,): the likeliest that does not merely go on from the chosen one, or lead to it."""

    fix: I64  #: in the order of the call
    segment: I64  #: that lost
    distance_m: F64  #: from the fix to it
    margin: F64  #: nats by which it lost: the sum of those by distance, by heading, and by the way there (path so far, junctions)
    by_distance: F64
    by_heading: F64


@dataclass(slots=True)
class Step:
    """What one fix of each vehicle told, columns (k,) in the order of the call."""

    segment: I64  #: -1: no street near
    offset_m: F64  #: along the segment; NaN without one
    distance_m: F64  #: from the fix to the segment; NaN without one
    margin: F64  #: nats between the chosen segment and the next best; at most the setting ``prune``; NaN without one
    started: Bool  #: a new path began here: first fix, long silence, jump, or no way from where it was
    late: Bool  #: not newer than what the vehicle had already sent: matched, but nothing moved
    traversals: Traversals
    nearly: Nearly  #: not of late fixes


class FreeMatcher:
    """State of many vehicles, each in a numbered slot that the caller hands out."""

    def __init__(
        self, network: Network, settings: HmmSettings | None = None, graph: Graph | None = None, nearby: Nearby | None = None
    ) -> None:
        self.settings = settings or HmmSettings()
        self._from_node, self._to_node = network.segments.from_node, network.segments.to_node
        self.graph = graph or Graph(network.segments)
        self.nearby = nearby or Nearby(network.segments.geometry, self.settings.radius_m)
        self._room(0)

    def _room(self, slots: int) -> None:
        """(Re)make the columns for at least ``slots`` vehicles; a slot without a path has no segment anywhere."""
        old = getattr(self, "_t_ms", None)
        have = 0 if old is None else len(old)
        size, c = max(64, 2 * have, slots), self.settings.candidates

        def grown(name: str, width: int | None, fill: float, kind: type) -> Any:
            new: Any = np.full((size,) if width is None else (size, width), fill, kind)
            if have:
                new[:have] = getattr(self, name)
            return new

        self._t_ms: I64 = grown("_t_ms", None, 0, np.int64)
        self._east: F64 = grown("_east", None, 0.0, np.float64)
        self._north: F64 = grown("_north", None, 0.0, np.float64)
        self._speed: F64 = grown("_speed", None, np.nan, np.float64)
        self._odometer: F64 = grown("_odometer", None, np.nan, np.float64)
        self._noise: F64 = grown("_noise", None, 0.0, np.float64)  # mean square of its fixes' distances from their streets, m2
        self._at_segment: I64 = grown("_at_segment", None, -1, np.int64)  # where the accounted path ends
        self._at_offset: F64 = grown("_at_offset", None, 0.0, np.float64)
        self._segment: I64 = grown("_segment", c, -1, np.int64)  # candidates, ...
        self._raw: F64 = grown("_raw", c, 0.0, np.float64)  # ... the fix's projection on each, ...
        self._offset: F64 = grown("_offset", c, 0.0, np.float64)  # ... where the filter along the way puts the vehicle, ...
        self._variance: F64 = grown("_variance", c, 0.0, np.float64)  # ... how sure, m2, ...
        self._cost: F64 = grown("_cost", c, np.inf, np.float64)  # ... and nats above the best

    def clear(self, slot: int) -> None:
        """Forget a vehicle; its slot may be handed out again."""
        if slot < len(self._t_ms):
            self._at_segment[slot], self._segment[slot], self._cost[slot], self._noise[slot] = -1, -1, np.inf, 0.0

    def last(self, slot: I64) -> tuple[I64, F64]:
        """Event time (least int64: no path) and odometer (NaN: not reported) of the fixes at which vehicles' paths end, (k,)."""
        at = np.minimum(slot, len(self._t_ms) - 1)
        has = (slot < len(self._t_ms)) & (self._at_segment[at] >= 0)
        return np.where(has, self._t_ms[at], np.iinfo(np.int64).min), np.where(has, self._odometer[at], np.nan)

    def export(self, slot: int) -> list[Any]:
        """State of one vehicle as plain numbers in lists; empty without a path. Segments are named by index: valid for this network only."""
        if slot >= len(self._t_ms) or self._at_segment[slot] < 0:
            return []
        has = self._segment[slot] >= 0
        speed, odometer = (None if math.isnan(x) else x for x in (float(self._speed[slot]), float(self._odometer[slot])))
        return [
            int(self._t_ms[slot]), float(self._east[slot]), float(self._north[slot]), speed, odometer, float(self._noise[slot]),
            int(self._at_segment[slot]), float(self._at_offset[slot]),
            *(column[slot][has].tolist() for column in (self._segment, self._raw, self._offset, self._variance, self._cost)),
        ]  # fmt: skip

    def restore(self, slot: int, data: list[Any] | tuple[Any, ...]) -> None:
        """Put back what ``export`` gave.

        Raises:
            ValueError: not a state of this network and these settings.
        """
        if slot >= len(self._t_ms):
            self._room(slot + 1)
        self.clear(slot)
        if not data:
            return
        if len(data) != 13 or not 1 <= len(data[8]) <= self.settings.candidates or len({len(column) for column in data[8:]}) != 1:
            raise ValueError(f"matcher state of {len(data)} fields, expected 13 with 1 to {self.settings.candidates} candidates")
        if not all(0 <= s < len(self.graph.length_m) for s in (data[6], *data[8])):
            raise ValueError("matcher state names segments that this network does not have")
        t_ms, east_m, north_m, speed_mps, odometer_m, self._noise[slot] = data[:6]
        self._t_ms[slot], self._east[slot], self._north[slot] = t_ms, east_m, north_m
        self._speed[slot] = np.nan if speed_mps is None else speed_mps
        self._odometer[slot] = np.nan if odometer_m is None else odometer_m
        self._at_segment[slot], self._at_offset[slot] = data[6], data[7]
        for column, values in zip((self._segment, self._raw, self._offset, self._variance, self._cost), data[8:], strict=True):
            column[slot, : len(values)] = values

    def step(
        self, slot: I64, t_ms: I64, east_m: F64, north_m: F64, heading_deg: F64, speed_mps: F64, profile: I8, odometer_m: F64 | None = None
    ) -> Step:
        """Match one fix of each of k different vehicles.

        Args:
            slot: (k,) distinct, >= 0.
            t_ms: (k,) event time. A fix that is not newer than its vehicle's last one is matched but moves nothing.
            east_m, north_m: (k,) metres on the network's plane.
            heading_deg, speed_mps: (k,) as reported; NaN: not reported.
            profile: (k,) index into ``graph.PROFILES``.
            odometer_m: (k,) as reported, NaN: not reported; None: by none of them.

        Raises:
            ValueError: positions that are not finite, or a slot twice.
        """
        k, s = len(slot), self.settings
        if not (np.isfinite(east_m).all() and np.isfinite(north_m).all()):
            raise ValueError("fixes to match have positions that are not finite")
        if k and (slot.min() < 0 or (np.diff(np.sort(slot)) == 0).any()):
            raise ValueError("slots of one call must be distinct and >= 0")
        if k and slot.max() >= len(self._t_ms):
            self._room(int(slot.max()) + 1)
            # how each vehicle may go on from its last fix
        before = self._segment[slot]
        dt_ms = t_ms - self._t_ms[slot]
        dt_s = np.abs(dt_ms) / 1000.0
        east, north = east_m - self._east[slot], north_m - self._north[slot]
        straight = np.sqrt(east * east + north * north)
        known = self._at_segment[slot] >= 0
        near_in_time = known & (dt_s <= s.max_gap_s) & (straight <= s.max_speed_mps * dt_s + s.radius_m)
        late = known & (dt_ms <= 0)
        still = (speed_mps < s.still_mps) & (self._speed[slot] < s.still_mps)
        beta = s.beta_m + s.beta_mps * dt_s
        odometer_m = np.full(k, np.nan) if odometer_m is None else odometer_m
        driven = odometer_m - self._odometer[slot]
        driven = np.where((odometer_m > 0) & (driven >= 0) & (driven <= s.max_speed_mps * dt_s + 5.0), driven, np.nan)
        way = np.where(np.isnan(driven) | still, straight, driven)
        noise = np.maximum(self._noise[slot] - s.usual_noise_m * s.usual_noise_m, 0.0)
        near = self.nearby.query(east_m, north_m, self.graph.allowed, profile)
        weight = np.where(near_in_time, np.minimum((dt_s + 1e-3) / (s.correlation_s + 1e-3), 1.0), 1.0)
        segment, raw, distance, emission = self._candidates(k, near, heading_deg, speed_mps, weight, noise)

        # ways between all pairs; for a late fix they lead from it to the candidates of the newer one
        f, i, j = np.nonzero((near_in_time[:, None] & (before >= 0))[:, :, None] & (segment >= 0)[:, None, :])
        forth = ~late[f]
        old_segment, old_raw = before[f, i], self._raw[slot[f], i]
        new_segment, new_raw = segment[f, j], raw[f, j]
        ways = find_ways(
            self.graph, profile[f],
            np.where(forth, old_segment, new_segment), np.where(forth, old_raw, new_raw),
            np.where(forth, new_segment, old_segment), np.where(forth, new_raw, old_raw),
            reach_m=_reach(np.maximum(straight, way))[f], expected_m=np.where(still, 0.0, way)[f], beta_m=beta[f], turn_cost=s.turn_cost, back_m=s.back_m,
        )  # fmt: skip
        c = s.candidates
        gone = np.abs(ways.distance_m - way[f])
        gone = np.where(still[f], np.where(ways.kind == SAME, 0.0, np.abs(ways.distance_m)), gone)
        joined, length = np.full((k, c, c), np.inf), np.full((k, c, c), np.nan)
        joined[f, i, j] = self._cost[slot[f], i] + gone / beta[f] + ways.extra
        length[f, i, j] = ways.distance_m
        along = np.zeros((k, c, c), bool)
        along[f, i, j] = ways.kind == SAME
        origin = np.argmin(joined, axis=1)
        rows = np.arange(k)
        columns = np.arange(c)[None, :]
        arrived = joined[rows[:, None], origin, columns]
        going_on = np.isfinite(arrived + emission).any(axis=1)
        cost = np.where(going_on[:, None], arrived + emission, emission)
        offset, variance, beyond = self._along(
            slot, segment, raw, origin, length[rows[:, None], origin, columns], going_on & ~late, still, speed_mps, dt_s, noise
        )
        cost = cost + beyond
        best = np.argmin(cost, axis=1)
        least = cost[rows, best]
        matched = np.isfinite(least)
        cost = np.where(matched[:, None], cost - np.where(matched, least, 0.0)[:, None], np.inf)
        second = np.where(columns == best[:, None], np.inf, cost).min(axis=1)
        nearly = self._nearly(
            np.flatnonzero(matched & ~late & (second < s.nearly)), best, cost, segment, raw, distance, emission, weight, noise
        )
        cost[cost > s.prune] = np.inf
        started = matched & ~going_on & ~late
        on = matched & going_on & ~late
        to_segment, to_offset = np.where(matched, segment[rows, best], -1), np.where(matched, offset[rows, best], np.nan)
        came = origin[rows, best]
        traversals, to_offset, lost = self._account(
            slot, profile, on, came, along[rows, came, best], to_segment, to_offset, t_ms, straight, way, beta
        )
        started[lost] = True

        write = np.flatnonzero(matched & ~late)
        w = slot[write]
        self._t_ms[w], self._east[w], self._north[w], self._speed[w] = t_ms[write], east_m[write], north_m[write], speed_mps[write]
        self._odometer[w] = odometer_m[write]
        apart = distance[write, best[write]]
        share = np.where(near_in_time[write], dt_s[write] / (dt_s[write] + s.learn_s), 0.0)
        self._noise[w] = np.where(known[write], self._noise[w] + share * (apart * apart - self._noise[w]), 0.0)
        self._at_segment[w], self._at_offset[w] = to_segment[write], to_offset[write]
        alive = np.isfinite(cost[write])
        self._segment[w], self._cost[w] = np.where(alive, segment[write], -1), cost[write]
        self._raw[w], self._offset[w], self._variance[w] = raw[write], offset[write], variance[write]
        return Step(
            to_segment, to_offset, np.where(matched, distance[rows, best], np.nan),
            np.where(matched, np.minimum(second, s.prune), np.nan), started, late, traversals, nearly,
        )  # fmt: skip

    def _nearly(
        self, fix: I64, best: I64, cost: F64, segment: I64, raw: F64, distance: F64, emission: F64, weight: F64, noise_m2: F64
    ) -> Nearly:  # fmt: skip
        """Of some fixes, the street that nearly had each, where there is one."""
        if not len(fix):
            return Nearly(fix, fix, *(np.empty(0) for _ in range(4)))
        s, row = self.settings, np.arange(len(fix))
        best, cost, segment = best[fix], cost[fix].copy(), segment[fix]
        chosen = segment[row, best]
        leads = self._to_node[segment] == self._from_node[chosen][:, None]
        goes_on = self._from_node[segment] == self._to_node[chosen][:, None]
        cost[(leads != goes_on) | (segment < 0)] = np.inf  # both: the other direction of the same street, or a ring
        cost[row, best] = np.inf
        other = np.argmin(cost, axis=1)
        close = np.flatnonzero(cost[row, other] < s.nearly)
        fix, best, other, margin = fix[close], best[close], other[close], cost[close, other[close]]

        def parts(candidate: I64) -> tuple[F64, F64]:
            """Costs by distance and by heading."""
            off = distance[fix, candidate] / np.sqrt(s.sigma_m * s.sigma_m + noise_m2[fix])
            by_distance = 0.5 * off * off * weight[fix]
            return by_distance, emission[fix, candidate] - by_distance - s.early_cost * (raw[fix, candidate] <= 0.0)

        (near, ahead), (far, aside) = parts(best), parts(other)
        return Nearly(fix, segment[close, other], distance[fix, other], margin, far - near, aside - ahead)

    def _candidates(self, k: int, near: Near, heading_deg: F64, speed_mps: F64, weight: F64, noise_m2: F64) -> tuple[I64, F64, F64, F64]:
        """The best few segments of each fix by distance and heading, (k, candidates): segment (-1 none), offset, distance, cost (inf none)."""
        s = self.settings
        tells = np.isfinite(heading_deg)
        kappa = np.where(tells, np.where(speed_mps < s.heading_from_mps, s.still_kappa, s.heading_kappa), 0.0)
        tenth = np.where(tells, np.floor(np.where(tells, heading_deg, 0.0) * 10.0 + 0.5), 0.0).astype(np.int64) % 3600
        north, east = _TENTHS[tenth, 0][near.point], _TENTHS[tenth, 1][near.point]
        off = near.distance_m / np.sqrt(s.sigma_m * s.sigma_m + noise_m2)[near.point]
        turned = 1.0 - (east * near.toward_east + north * near.toward_north)
        cost = 0.5 * off * off * weight[near.point] + kappa[near.point] * turned + s.early_cost * (near.offset_m <= 0.0)
        order = np.lexsort((near.segment, cost, near.point))
        point = near.point[order]
        rank = np.arange(len(point)) - np.searchsorted(point, np.arange(k))[point]
        few = rank < s.candidates
        order, point, rank = order[few], point[few], rank[few]
        shape = (k, s.candidates)
        segment, raw, distance, emission = np.full(shape, -1, np.int64), np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.inf)
        segment[point, rank], raw[point, rank] = near.segment[order], near.offset_m[order]
        distance[point, rank], emission[point, rank] = near.distance_m[order], cost[order]
        return segment, raw, distance, emission

    def _along(
        self,
        slot: I64,
        segment: I64,
        raw: F64,
        origin: I64,
        length: F64,
        on: Bool,
        still: Bool,
        speed_mps: F64,
        dt_s: F64,
        noise_m2: F64,
    ) -> tuple[F64, F64, F64]:
        """Where along each candidate the vehicle is: a scalar Kalman filter on the way from the candidate it came from.

        The prediction is the reported speed times time, the measurement the fix's projection. A vehicle that says it stands has not moved;
        without a reported speed only what exceeds the noise is movement.

        Returns:
            ``(offset_m, variance_m2, cost)``, each (k, candidates); the cost is for lying outside the candidate, by the filter.
        """
        s = self.settings
        came = slot[:, None]
        measured = length + (self._raw[came, origin] - self._offset[came, origin])
        mean = (0.5 * (speed_mps + self._speed[slot]))[:, None]
        tells = np.isfinite(mean)
        expected = mean * dt_s[:, None]
        spread = (s.speed_sigma_mps * dt_s)[:, None]
        predicted_variance = self._variance[came, origin] + spread * spread
        noise = (s.along_sigma_m * s.along_sigma_m + noise_m2)[:, None]
        gain = predicted_variance / (predicted_variance + noise)
        moved = np.where(tells, expected + gain * (measured - expected), np.where(np.abs(measured) < s.deadband_m, 0.0, measured))
        moved = np.where(still[:, None], 0.0, moved)
        variance = np.where(still[:, None], self._variance[came, origin], np.where(tells, gain * noise, noise))
        follows = on[:, None] & np.isfinite(measured)
        measured, moved = np.where(follows, measured, 0.0), np.where(follows, moved, 0.0)
        free = np.where(follows, raw + (moved - measured), raw)
        offset = np.minimum(np.maximum(free, 0.0), np.where(segment >= 0, self.graph.length_m[segment], 0.0))
        beyond = np.minimum(np.abs(free - offset), s.back_m)
        outside = 0.5 * beyond * beyond / (s.beyond_m * s.beyond_m + spread * spread)
        return offset, np.where(follows, variance, noise), np.where(follows & tells, outside, 0.0)

    def _account(
        self,
        slot: I64,
        profile: I8,
        on: Bool,
        came: I64,
        along: Bool,
        to_segment: I64,
        to_offset: F64,
        t_ms: I64,
        straight: F64,
        way: F64,
        beta: F64,
    ) -> tuple[Traversals, F64, I64]:
        """The way since the last match, from where the accounted path ended, and the offset where it ends now: vehicles never go backwards. And the fixes to which no way
        leads after all, from where the filter along the way put the vehicle (the ways that were compared led from where it was seen): their path starts anew.

        If the best candidate does not follow from there (the path before was mistaken), the way begins at the candidate that it does follow
        from, ``came``. ``along``: the vehicle stayed on that candidate's segment.
        """
        s = self.settings
        at = np.flatnonzero(on)
        v = slot[at]
        here, here_offset = self._at_segment[v], self._at_offset[v]
        start, start_offset = self._segment[v, came[at]], self._offset[v, came[at]]
        target, target_offset = to_segment[at], to_offset[at]

        def ways(rows: I64) -> Ways:
            some = at[rows]
            return find_ways(
                self.graph, profile[some], start[rows], start_offset[rows], target[rows], target_offset[rows],
                reach_m=_reach(np.maximum(straight, way)[some]), expected_m=straight[some], beta_m=beta[some], turn_cost=s.turn_cost, back_m=s.back_m,
            )  # fmt: skip

        odd = start != here
        start_offset = np.where(odd, start_offset, here_offset)
        strays = np.flatnonzero(odd)
        if len(strays):
            # the best path does not come from the accounted one: go on from there all the same, if that is hardly longer
            own_m = ways(strays).distance_m
            apart, apart_offset = start[strays], start_offset[strays]
            start[strays], start_offset[strays] = here[strays], here_offset[strays]
            other_m = ways(strays).distance_m
            back = ~(other_m <= own_m + s.back_m)
            start[strays[back]], start_offset[strays[back]] = apart[back], apart_offset[back]
        found = ways(np.arange(len(at)))
        stayed = (start == target) & (along[at] | (found.kind < 0))
        found.kind[stayed] = SAME
        target_offset = np.where(found.kind == SAME, np.maximum(start_offset, target_offset), target_offset)
        walked = walk(self.graph, found, start, start_offset, target, target_offset)
        traversals = expand(walked, v, self._t_ms[v], t_ms[at])
        end_offset = to_offset.copy()
        end_offset[at] = target_offset
        return traversals, end_offset, at[found.kind < 0]


def _reach(straight_m: F64) -> F64:
    """How long a way between two fixes may be: twice the straight line, and a block more for the noise of both."""
    return 2.0 * straight_m + 150.0
