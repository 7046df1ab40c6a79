"""Recorded HFP through the observe step on the drawn lines of 2021: what the real feed does, and how near the core comes to it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from connectors import recordings
from connectors.cities import load
from geo import polylines
from geo.build import build
from geo.network import Network
from geo.project import Plane
from models.clock import parse_ms
from streams import partial as wire
from streams.cells import DIST, DWELL, TIME, WINDOW_MS
from streams.ground import Ground
from streams.observe import Observer
from streams.outputs import Outputs
from tests.streams import kit

CITY = load("helsinki", {"feeds.hfp.partitions": 1, "area": None})  # the recorded buses drive in all of the region
DUMPS = ["bus400_stop_20231029", "bus520_no_gnss_20240213", "bus530_first_journey_20231030", "bus61_terminus_20231029", "bus64_terminus_20231029",
         "bus65_deadrun_20231030", "bus735_turnaround_20240513"]  # fmt: skip
LINE_43 = "feeds/helsinki/hfp/v1_bus43_20181005.txt"
Cells = dict[tuple[int, int], Any]


@pytest.fixture(scope="session")
def ground(shared: Path) -> Ground:
    return Ground(build("helsinki", lines=shared / "networks" / "hsl_lines_2021" / "HSL_linjat.zip", crs="EPSG:3067"))


def observe(path: Path, ground: Ground, *, only: str = "") -> tuple[list[dict[str, Any]], Cells, Observer, Outputs]:
    """Positions, largest sums by minute and segment, and the observer after a recording; ``only``: messages whose topic holds it."""
    o, out, cells = Observer(CITY, "hfp", 0, ground), Outputs(), {}
    items = (x for x in recordings.read(path, CITY) if only in x[1].topic)
    for k, (_, _, e) in enumerate(recordings.envelopes(items, CITY, ["hfp"], max_wait_ms=5000)):
        out.extend(o.feed_envelope(e, k))
        if k % 20 == 0:
            fold(o, cells)
    fold(o, cells)
    return kit.records(out, "vehicle-position"), cells, o, out


def fold(o: Observer, cells: Cells) -> None:
    rows = wire.decode(o.flush()).rows()
    cells.update({(int(w), int(s)): x for w, s, x in zip(rows.window, rows.segment, rows.sums, strict=True)})


def by_trip(positions: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    trips: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for r in positions:
        trips[r.get("route_id"), r.get("direction_id"), r.get("operating_day"), r.get("start_time")].append(r)
    return trips


def off_by(positions: list[dict[str, Any]], net: Network) -> Any:
    """Metres from each fix to the segment it was put on."""
    plane, row, out = Plane(net.crs), {n: i for i, n in enumerate(net.segments.segment_id)}, []
    for r in positions:
        if "segment_id" in r:
            (east,), (north,) = plane.to_plane(r["lat_deg"], r["lon_deg"])
            street = shapely.LineString(polylines.coordinates(net.segments.geometry, row[r["segment_id"]]))
            out.append(street.distance(shapely.Point(east, north)))
    return np.array(out)


def test_the_repeats_and_backward_steps_of_line_43_are_counted_and_every_event_has_one_fate(shared: Path) -> None:
    """On few streets: little is matched, so this costs little."""
    positions, _, o, _ = observe(shared / LINE_43, Ground(kit.network()))
    t = o.tally
    assert (t.events, t.duplicates, t.out_of_order, t.rejected, t.late) == (4727, 141, 132, 0, 0)
    assert t.accepted == len(positions) == 4727 - 141
    assert len({(r["vehicle_id"], r["event_time"]) for r in positions}) == len(positions)
    assert {k: len(v) for k, v in by_trip(positions).items()} == {
        ("1043", 1, "2018-10-05", "23:20"): 2158, ("1043", 0, "2018-10-05", "00:05"): 2349, ("1043", 0, "2018-10-05", "01:45"): 6,
        ("1043", 1, "2018-10-05", "01:00"): 73,
    }  # fmt: skip


def test_line_43_is_on_its_streets_and_drives_as_far_as_its_speed_says(shared: Path, ground: Ground) -> None:
    """The bus's odometer is no measure: over this trip it counts 7 % less than its speed and its positions do, which agree to 1 %."""
    positions, cells, o, _ = observe(shared / LINE_43, ground, only="/00:05/")
    trip = sorted((r for r in positions if "odometer_m" in r), key=lambda r: str(r["event_time"]))
    assert len(trip) > 2200
    matched = [r for r in trip if "segment_id" in r]
    assert len(matched) >= 0.97 * len(trip)
    off = off_by(matched, ground.network)
    assert np.percentile(off, 97) <= 25.0
    assert off.max() <= 50.0
    first, last = (parse_ms(r["event_time"]) for r in (trip[0], trip[-1]))
    times = np.array([parse_ms(r["event_time"]) for r in trip]) / 1000
    speeds = np.array([r["speed_mps"] for r in trip])
    driven_m = float(np.sum((speeds[1:] + speeds[:-1]) / 2 * np.diff(times)))
    sums = np.array([x for (w, _), x in cells.items() if first // WINDOW_MS <= w <= last // WINDOW_MS])
    assert sums[:, DIST].sum() / 1000 == pytest.approx(driven_m, rel=0.03)
    assert (sums[:, TIME].sum() + sums[:, DWELL].sum()) / 1000 == pytest.approx((last - first) / 1000, rel=0.03)
    kmh = [3.6 * x[DIST] / x[TIME] for x in cells.values() if x[TIME] >= 5000]
    assert max(kmh) < 90
    assert o.tally.off_route == 0


@pytest.mark.parametrize("name", DUMPS)
def test_a_recorded_turn_outage_or_deadrun_goes_through_and_keeps_its_trips_apart(shared: Path, ground: Ground, name: str) -> None:
    path = shared / "feeds" / "helsinki" / "hfp" / f"v2_{name}.dump"
    positions, cells, o, out = observe(path, ground)
    t = o.tally
    lines = path.read_bytes().splitlines()
    assert t.events == len(lines) == t.accepted + t.duplicates + t.rejected + t.late
    assert t.accepted == len(positions)
    assert t.rejected == len(out.records.get("dead-letter", [])) <= 1
    off = off_by(positions, ground.network)
    assert len(off) == 0 or np.percentile(off, 90) <= 50.0  # routes have moved since 2021
    said = Counter()
    for line in lines:  # what each message says of its trip, read in the plainest way
        topic, _, body = line.partition(b" {")
        ((_, p),) = json.loads(b"{" + body).items()
        levels = topic.decode().split("/")
        under_way = levels[3] == "journey"
        said[
            p["tst"],
            p.get("route") or (levels[9] if under_way else None) or None,
            p.get("start") or (levels[12] if under_way else None) or None,
        ] += 1
    heard = Counter((r["event_time"], r.get("route_id"), r.get("start_time")) for r in positions)
    assert heard.keys() <= said.keys()
    assert sum(heard.values()) == sum(said.values()) - t.duplicates - t.rejected
    for r in positions:
        assert ("lat_deg" in r) == ("lon_deg" in r)
        assert "segment_id" not in r or "lat_deg" in r
    if cells:
        sums = np.array(list(cells.values()))
        assert (sums >= 0).all()
        for x in sums[sums[:, TIME] >= 5000]:
            assert 3.6 * x[DIST] / x[TIME] < 90


def test_a_real_outage_of_940_positions_invents_none(shared: Path, ground: Ground) -> None:
    positions, cells, o, out = observe(shared / "feeds" / "helsinki" / "hfp" / "v2_bus520_no_gnss_20240213.dump", ground)
    blind = [r for r in positions if "lat_deg" not in r]
    assert len(blind) == o.tally.no_position == 940
    assert not any({"segment_id", "offset_m", "off_route"} & r.keys() for r in blind)
    ((letter),) = kit.records(out, "dead-letter")  # the one message whose speed is -1
    assert (letter["reason"], letter["value"]) == ("speed", "-1.0")
    # 900 s without a position are no drive; while its positions stand still ("loc": ODO) the odometer counts 64, 15 and 114 m
    assert sum(x[DIST] for x in cells.values()) < 195_000
    assert {(r.get("route_id"), r.get("direction_id"), r.get("start_time")) for r in positions} == {
        ("5520", 0, "17:35"), ("5520", None, None), ("5520", 1, "18:48"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rel"), [("bus735_turnaround_20240513", 0.03), ("bus64_terminus_20231029", 0.03), ("bus65_deadrun_20231030", 0.03)]
)
def test_along_its_shape_a_bus_drives_what_its_odometer_says(shared: Path, ground: Ground, name: str, rel: float) -> None:
    positions, cells, _, _ = observe(shared / "feeds" / "helsinki" / "hfp" / f"v2_{name}.dump", ground)
    odometer = 0.0
    for (route, *_, start), rows in by_trip(positions).items():
        seen = [r["odometer_m"] for r in rows if "odometer_m" in r and r.get("off_route") is False]
        if route is not None and start is not None and seen and max(seen) - min(seen) > 100:  # not the crawl to the first stop
            odometer += max(seen) - min(seen)
    assert odometer > 300
    assert sum(x[DIST] for x in cells.values()) / 1000 == pytest.approx(odometer, rel=rel)
