"""What messages close, and sudden falls of speed that no message explains, published as situations of our own with their evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from geo.network import F64, Bool, Network
from geo.polylines import coordinates, point_at
from geo.project import Plane
from models.clock import rfc3339
from models.falls import Fall, Falls, FallSettings
from models.fusion import NONE, Estimate, WindowSums
from models.records import Fall as Evidence
from models.records import Situation, encode
from models.streets import Streets
from streams.cells import WINDOW_MS
from streams.endings import KEPT_MS
from streams.outputs import TOMBSTONE, Out
from streams.partial import NoticeRow

FEED = "tilannekuva"
#: A notice is forgotten this long after its end, milliseconds: windows of that time are final by then.
FORGET_MS = 86_400_000


class Incidents:
    """State of one city: notices of messages, and what was detected."""

    def __init__(self, network: Network, streets: Streets, lateness_ms: int, settings: FallSettings | None = None) -> None:
        s, n = network.segments, len(network.segments)
        self.network, self.lateness_ms, self._plane = network, lateness_ms, Plane(network.crs)
        east, north = point_at(s.geometry, np.arange(n), s.length_m / 2.0) if n else (np.empty(0), np.empty(0))
        self.falls = Falls(streets, east, north, settings)
        self.notices: dict[str, list[NoticeRow]] = {}  #: versions of each, in their order
        self.told: dict[int, list[Any]] = {}  #: segment -> [window, fall] of what has not ended
        self.due: list[tuple[int, str]] = []  #: when an ended record is deleted

    # ---------------------------------------------------------------- messages

    def hear(self, rows: Iterable[NoticeRow]) -> None:
        """Versions, as often as they may come and in whatever order."""
        for r in rows:
            versions = self.notices.setdefault(r.situation_id, [])
            if r not in versions:
                versions.append(r)
                versions.sort()

    def _held(self, w: int) -> list[NoticeRow]:
        """The version of each situation that held for a window: the last that came before it could be final. What came later must not matter, or the order in which
        partitions are read would."""
        until_ms = (w + 1) * WINDOW_MS + self.lateness_ms
        out = []
        for versions in self.notices.values():
            come = [r for r in versions if r.ingest_ms <= until_ms]
            out += come[-1:]
        return out

    def _named(self, w: int, start_ms: int, *, closed: bool) -> Bool:
        """Segments that a message names between ``start_ms`` and the end of a window; ``closed``: only where it closes them."""
        out = np.zeros(len(self.network.segments), np.bool_)
        for r in self._held(w):
            if r.from_ms < (w + 1) * WINDOW_MS and r.to_ms > start_ms and (r.closed or not closed):
                out[list(r.segments)] = True
        return out

    def closed(self, w: int) -> Bool:
        """Segments closed at the end of a window: who opens or closes a street says since when."""
        return self._named(w, (w + 1) * WINDOW_MS - 1, closed=True)

    # ------------------------------------------------------------------- falls

    def final(self, w: int, obs: WindowSums, speed_kmh: F64, *, simulated: bool) -> list[Out]:
        """Take in a final window, in order; situations that begin or end with it."""
        start_ms, end_ms = w * WINDOW_MS, (w + 1) * WINDOW_MS
        self._forget(w)
        began = self.falls.advance(obs, speed_kmh)
        out: list[Out] = []
        for segment in self.falls.over:
            if segment in self.told:
                since, fall = self.told.pop(segment)
                record = self._record(since, Fall(*fall), end_ms, ended=True, simulated=simulated)
                out.append(_out(record, end_ms, "ended"))
                self.due.append((end_ms + KEPT_MS, record.situation_id))
        explained = self._named(w, start_ms, closed=False) if began else None
        for fall in began:
            if explained is not None and not explained[fall.segment]:
                self.told[fall.segment] = [w, list(fall)]
                out.append(_out(self._record(w, fall, end_ms, ended=False, simulated=simulated), end_ms, "began"))
        gone = [i for due_ms, i in self.due if due_ms <= end_ms]
        self.due = [(due_ms, i) for due_ms, i in self.due if due_ms > end_ms]
        return out + [Out(i.encode(), TOMBSTONE, end_ms, f"situation:{i}:{end_ms}:deleted") for i in gone]

    def _forget(self, w: int) -> None:
        """Versions that later ones have replaced for good, and what ended long ago."""
        end_ms = (w + 1) * WINDOW_MS
        for i in list(self.notices):
            versions = self.notices[i]
            come = sum(r.ingest_ms <= end_ms + self.lateness_ms for r in versions)
            kept = versions[max(come - 1, 0) :]
            if kept[-1].to_ms > end_ms - FORGET_MS:
                self.notices[i] = kept
            else:
                del self.notices[i]

    def _record(self, w: int, fall: Fall, end_ms: int, *, ended: bool, simulated: bool) -> Situation:
        s, i = self.network.segments, fall.segment
        usual_kmh = fall.speed_kmh * fall.pace_ratio / fall.usual_ratio
        line = coordinates(s.geometry, i)
        lat, lon = self._plane.to_wgs84(line[:, 0], line[:, 1])
        name = s.name[i] or s.segment_id[i]
        return Situation(
            situation_id=f"{FEED}/{s.segment_id[i]}/{w}", kind="incident", event_time=rfc3339(end_ms), ingest_time=rfc3339(end_ms), feed=FEED,
            version=2 if ended else 1, valid_from=rfc3339(w * WINDOW_MS), valid_to=rfc3339(end_ms) if ended else None, ended=True if ended else None,
            geometry={"type": "LineString", "coordinates": np.column_stack([lon, lat]).round(6).tolist()}, segment_ids=[s.segment_id[i]],
            title={
                "en": f"{name}: sudden fall of speed, {fall.speed_kmh:.0f} km/h instead of {usual_kmh:.0f}",
                "fi": f"{name}: nopeus laski äkisti, {fall.speed_kmh:.0f} km/h, tavallisesti {usual_kmh:.0f}",
            },
            source=FEED, detected=True,
            evidence=Evidence(
                speed_kmh=round(fall.speed_kmh, 1), usual_kmh=round(usual_kmh, 1), vehicle_s=round(fall.vehicle_s, 1), ratio=round(fall.pace_ratio, 2),
                usual_ratio=round(fall.usual_ratio, 2),
            ),
            simulated=True if simulated else None,
        )  # fmt: skip

    # ------------------------------------------------------------------- state

    def export(self) -> dict[str, Any]:
        return {
            "falls": self.falls.export(),
            "notices": [r for k in sorted(self.notices) for r in self.notices[k]],
            "told": sorted(self.told.items()),
            "due": self.due,
        }

    def restore(self, data: dict[str, Any]) -> None:
        self.falls.restore(data["falls"])
        self.notices = {}
        self.hear(msgspec.convert(data["notices"], list[NoticeRow]))
        self.told = {int(k): list(v) for k, v in data["told"]}
        self.due = [(int(ms), str(i)) for ms, i in data["due"]]


def _out(record: Situation, end_ms: int, what: str) -> Out:
    return Out(record.situation_id.encode(), encode(record), end_ms, f"situation:{record.situation_id}:{end_ms}:{what}")


def shut(e: Estimate, closed: Bool) -> None:
    """Nobody drives where it is closed: no speed is claimed there, and the estimate says nothing of it."""
    for column in (e.speed_kmh, e.p20_kmh, e.p80_kmh):
        column[closed] = np.nan
    for share in (e.confidence, e.probe_weight, e.loop_weight, e.memory_weight, e.network_weight):
        share[closed] = 0.0
    e.origin[closed] = NONE
