"""A made-up fleet on the shapes of a built network, speaking HFP v2 once a second. For load only: positions follow the shapes with GNSS-like noise,
speeds are a smooth function of time, and everything is a function of the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from connectors.envelope import Item
from geo.network import Network
from geo.project import Plane
from models.clock import rfc3339, rfc3339_column

START_MS = 1_773_120_600_000  # 2026-03-10T05:30:00Z
#: From a vehicle's clock to the connector, milliseconds.
DELAY_MS = 250


class Fleet:
    """``vehicles`` buses that drive along randomly chosen shapes, over and over."""

    def __init__(self, network: Network, vehicles: int, seed: int = 1, *, known_routes: bool = True, start_ms: int = START_MS) -> None:
        rng = np.random.default_rng(seed)
        self.network, self.n, self.rng, self.start_ms = network, vehicles, rng, start_ms
        self.day = rfc3339(start_ms)[:10]
        routes = [(r, d, k[0]) for (r, d), k in sorted(network.schedule.by_route.items()) if k]
        shapes = network.shapes.geometry
        long_enough = [x for x in routes if shapes.along_m[shapes.start[x[2] + 1] - 1] > 2000.0]
        pick = rng.integers(0, len(long_enough), vehicles)
        self.trip = [long_enough[i] for i in pick]
        self.shape = np.array([t[2] for t in self.trip])
        self.length = np.array([float(shapes.along_m[shapes.start[k + 1] - 1]) for k in self.shape])
        self.offset = rng.random(vehicles) * self.length
        self.phase = rng.random(vehicles) * 2 * math.pi
        self.base = 5.0 + 6.0 * rng.random(vehicles)
        self.plane = Plane(network.crs)
        self.known = known_routes
        # one sorted axis for all shapes: a shape's vertices start at 0 along it
        self.reach = float(shapes.along_m.max()) + 1.0
        self.axis = shapes.along_m + np.repeat(np.arange(len(shapes)), np.diff(shapes.start)) * self.reach
        self.heads, self.before, self.after = [], [], []
        for i, t in enumerate(self.trip):
            owner, route, start = 12 + i % 7, t[0] if known_routes else f"9{i % 900:03d}X", f"07:{i % 60:02d}"
            self.heads.append(
                f"/hfp/v2/journey/ongoing/vp/bus/{owner:04d}/{i:05d}/{route}/{t[1] + 1}/Itäkeskus (M)/{start}/{1000000 + i % 9000}/5/"
            )
            self.before.append(f'{{"VP":{{"desi":"{route[1:]}","dir":"{t[1] + 1}","oper":{owner},"veh":{i},"tst":"')
            self.after.append(
                f'"drst":0,"oday":"{self.day}","jrn":{i},"line":{i % 900},"start":"{start}","loc":"GPS","stop":null,"route":"{route}","occu":0}}}}'
            )

    def second(self, k: int) -> list[Item]:
        """One message of every vehicle in second ``k``, in order of receipt."""
        t = float(k)
        travelled = self.base * t + 30.0 * np.sin(t / 20.0 + self.phase)
        speed = np.maximum(self.base + 1.5 * np.cos(t / 20.0 + self.phase), 0.0)
        x, y, hx, hy = self._at(np.mod(self.offset + travelled, self.length - 1.0))
        noise = self.rng.normal(0.0, 4.0, (2, self.n))
        lat, lon = self.plane.to_wgs84(x + noise[0], y + noise[1])
        lat, lon = np.round(lat, 6), np.round(lon, 6)
        heading = np.mod(np.degrees(np.arctan2(hx, hy)), 360.0).astype(int)
        event_ms = self.start_ms + k * 1000 + (np.arange(self.n) * 997) % 1000
        order = np.argsort(event_ms, kind="stable")
        digits = [(np.floor(lat * m) % 10).astype(int) * 10 + (np.floor(lon * m) % 10).astype(int) for m in (10, 100, 1000)]
        columns = (event_ms, lat, lon, speed, heading, (travelled + 1000).astype(int), *digits)
        out = []
        rows = zip(order.tolist(), rfc3339_column(event_ms[order]), *(c[order].tolist() for c in columns), strict=True)
        for i, text, ms, la, lo, v, course, odometer, d1, d2, d3 in rows:
            topic = f"{self.heads[i]}{int(la)};{int(lo)}/{d1:02d}/{d2:02d}/{d3:02d}"
            body = (
                f'{self.before[i]}{text}","tsi":{ms // 1000},"spd":{v:.2f},"hdg":{course},"lat":{la},"long":{lo},"acc":0.1,"dl":-42,'
                f'"odo":{odometer},{self.after[i]}'
            )
            out.append(Item(ms + DELAY_MS, topic, body.encode()))
        return out

    def seconds(self, count: int) -> Iterator[list[Item]]:
        for k in range(count):
            yield self.second(k)

    def _at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Place and direction (unit vector) of each vehicle, ``s`` along its shape."""
        lines = self.network.shapes.geometry
        first, last = lines.start[self.shape], lines.start[self.shape + 1]
        j = np.clip(np.searchsorted(self.axis, s + self.shape * self.reach, side="right"), first + 1, last - 1)
        dx, dy = lines.east_m[j] - lines.east_m[j - 1], lines.north_m[j] - lines.north_m[j - 1]
        u = (s - lines.along_m[j - 1]) / np.maximum(lines.along_m[j] - lines.along_m[j - 1], 1e-9)
        norm = np.maximum(np.hypot(dx, dy), 1e-9)
        return lines.east_m[j - 1] + u * dx, lines.north_m[j - 1] + u * dy, dx / norm, dy / norm
