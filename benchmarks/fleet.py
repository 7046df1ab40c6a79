"""A made-up fleet on the shapes of a built network, speaking HFP v2 once a second. For load only: positions follow the shapes with GNSS-like noise,
speeds are a smooth function of time, and everything is a function of the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from connectors.envelope import Item
from geo.network import Network
from geo.project import Plane
from models.clock import rfc3339

START_MS = 1_773_120_600_000  # 2026-03-10T05:30:00Z


class Fleet:
    """``vehicles`` buses that drive along randomly chosen shapes, over and over."""

    def __init__(self, network: Network, vehicles: int, seed: int = 1, *, known_routes: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.network, self.n, self.rng = network, vehicles, rng
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
        self.heads = [
            f"/hfp/v2/journey/ongoing/vp/bus/{12 + i % 7:04d}/{i:05d}/{self._route(i)}/{t[1] + 1}/Itäkeskus (M)/07:{i % 60:02d}/{1000000 + i % 9000}/"
            for i, t in enumerate(self.trip)
        ]

    def _route(self, i: int) -> str:
        return self.trip[i][0] if self.known else f"9{i % 900:03d}X"

    def second(self, k: int) -> list[Item]:
        """One message of every vehicle in second ``k``, in order of receipt."""
        t = float(k)
        travelled = self.base * t + 30.0 * np.sin(t / 20.0 + self.phase)
        speed = np.maximum(self.base + 1.5 * np.cos(t / 20.0 + self.phase), 0.0)
        s = np.mod(self.offset + travelled, self.length - 1.0)
        x, y, hx, hy = self._at(s)
        noise = self.rng.normal(0.0, 4.0, (2, self.n))
        lat, lon = self.plane.to_wgs84(x + noise[0], y + noise[1])
        heading = np.mod(np.degrees(np.arctan2(hx, hy)), 360.0).astype(int)
        event_ms = START_MS + k * 1000 + (np.arange(self.n) * 997) % 1000
        order = np.argsort(event_ms, kind="stable")
        out = []
        for i in order.tolist():
            ms = int(event_ms[i])
            la, lo = round(float(lat[i]), 6), round(float(lon[i]), 6)
            head = self.heads[i]
            _, _, _, _, _, _, _, owner, vehicle, route, direction, _, start, stop, _ = head.split("/")
            topic = f"{head}5/{int(la)};{int(lo)}/{int(la * 10) % 10}{int(lo * 10) % 10}/{int(la * 100) % 10}{int(lo * 100) % 10}/{int(la * 1000) % 10}{int(lo * 1000) % 10}"
            body = (
                f'{{"VP":{{"desi":"{route[1:]}","dir":"{direction}","oper":{int(owner)},"veh":{int(vehicle)},"tst":"{rfc3339(ms)}","tsi":{ms // 1000},'
                f'"spd":{speed[i]:.2f},"hdg":{heading[i]},"lat":{la},"long":{lo},"acc":0.1,"dl":-42,"odo":{int(travelled[i] + 1000)},"drst":0,'
                f'"oday":"2026-03-10","jrn":{i},"line":{i % 900},"start":"{start}","loc":"GPS","stop":null,"route":"{route}","occu":0}}}}'
            )
            out.append(Item(ms + 250, topic, body.encode()))
        return out

    def seconds(self, count: int) -> Iterator[list[Item]]:
        for k in range(count):
            yield self.second(k)

    def _at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        lines = self.network.shapes.geometry
        x, y, hx, hy = (np.empty(self.n) for _ in range(4))
        for i, k in enumerate(self.shape.tolist()):
            a, b = int(lines.start[k]), int(lines.start[k + 1])
            j = int(np.clip(np.searchsorted(lines.along_m[a:b], s[i], side="right"), 1, b - a - 1)) + a
            step = max(float(lines.along_m[j] - lines.along_m[j - 1]), 1e-9)
            u = (s[i] - lines.along_m[j - 1]) / step
            dx, dy = lines.east_m[j] - lines.east_m[j - 1], lines.north_m[j] - lines.north_m[j - 1]
            x[i], y[i] = lines.east_m[j - 1] + u * dx, lines.north_m[j - 1] + u * dy
            norm = math.hypot(dx, dy) or 1.0
            hx[i], hy[i] = dx / norm, dy / norm
        return x, y, hx, hy
