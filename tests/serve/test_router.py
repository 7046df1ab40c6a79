"""The speeds that the gateway serves, fed to a router: OSRM reads them and drives around the jam."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from deploy.kafka.broker import free_port
from geo import osm
from geo.project import Plane
from models.records import SegmentState
from serve.views import speeds

ROOT = Path(__file__).resolve().parents[2]
#: Two ways from 1 to 4: straight on over 2 and 3 (600 m), and around over 5 and 6 (800 m).
NODES = {1: (0, 0), 2: (200, 0), 3: (400, 0), 4: (600, 0), 5: (0, 100), 6: (600, 100), 7: (-100, 0), 8: (700, 0)}
WAYS = {10: [7, 1], 11: [1, 2, 3, 4], 12: [1, 5, 6, 4], 13: [4, 8]}
T = "2026-03-10T05:30:00.000Z"


def tool(name: str) -> str:
    found = shutil.which(f"osrm-{name}") or shutil.which(str(ROOT / ".cache/osrm/osrm/bin" / f"osrm-{name}"))
    if found is None:
        pytest.skip("OSRM is not here: `make osrm` unpacks its wheel")
    return found


def profile(routed: str) -> Path:
    return next(p for p in (Path(routed).parents[1] / "share/profiles/car.lua", Path("/usr/share/osrm/profiles/car.lua")) if p.exists())


def extract(folder: Path) -> Path:
    plane = Plane("EPSG:3067")
    east0, north0 = (v[0] for v in plane.to_plane(60.17, 24.94))
    rows = []
    for node, (east, north) in NODES.items():
        lat, lon = plane.to_wgs84(east0 + east, north0 + north)
        rows.append(f'<node id="{node}" version="1" lat="{lat[0]:.7f}" lon="{lon[0]:.7f}"/>')
    for way, nodes in WAYS.items():
        rows.append(
            f'<way id="{way}" version="1">{"".join(f"<nd ref={chr(34)}{n}{chr(34)}/>" for n in nodes)}<tag k="highway" v="primary"/></way>'
        )
    file = folder / "town.osm"
    file.write_text(f'<?xml version="1.0"?><osm version="0.6" generator="test">{"".join(rows)}</osm>')
    return file


def driven(folder: Path, file: Path, csv: bytes) -> list[int]:
    """Nodes that OSRM drives over from the beginning of way 10 to the end of way 13, with these speeds."""
    (folder / "speeds.csv").write_bytes(csv)
    run = {"cwd": folder, "check": True, "capture_output": True, "timeout": 120}
    subprocess.run([tool("extract"), "-t", "1", "-p", str(profile(tool("routed"))), str(file)], **run)  # type: ignore[call-overload]
    subprocess.run([tool("contract"), "-t", "1", "--segment-speed-file", "speeds.csv", "town.osrm"], **run)  # type: ignore[call-overload]
    port = free_port()
    server = subprocess.Popen(
        [tool("routed"), "-t", "1", "-i", "127.0.0.1", "-p", str(port), "town.osrm"], cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        plane = Plane("EPSG:3067")
        east0, north0 = (v[0] for v in plane.to_plane(60.17, 24.94))
        ends = [plane.to_wgs84(east0 + x, north0) for x in (-90, 690)]
        at = ";".join(f"{lon[0]:.6f},{lat[0]:.6f}" for lat, lon in ends)
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/route/v1/driving/{at}?annotations=nodes", timeout=10) as answer:
                    nodes: list[int] = json.load(answer)["routes"][0]["legs"][0]["annotation"]["nodes"]
                    return nodes
            except OSError:
                time.sleep(0.05)
        raise AssertionError("osrm-routed does not answer")
    finally:
        server.kill()
        server.wait(10)


def state(segment_id: str, speed_kmh: float, *, closed: bool | None = None) -> SegmentState:
    return SegmentState(
        segment_id=segment_id, window_start=T, window_end=T, status="final", revision=1, origin="measured", confidence=0.9,
        represents="general_traffic", algorithm="edie-1", speed_kmh=speed_kmh, closed=closed,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("speed_kmh", "closed", "way"), [(60.0, None, [7, 1, 2, 3, 4, 8]), (4.0, None, [7, 1, 5, 6, 4, 8]), (60.0, True, [7, 1, 5, 6, 4, 8])]
)
def test_osrm_drives_straight_on_when_it_flows_and_around_when_it_jams_or_is_closed(
    tmp_path: Path, speed_kmh: float, closed: bool | None, way: list[int]
) -> None:
    tool("extract")
    file = extract(tmp_path)
    network = osm.read(file, Plane("EPSG:3067"))
    streets = [
        speeds.Street(state(i, speed_kmh if ways == [11] else 40.0, closed=closed if ways == [11] else None), ways, nodes)
        for i, ways, nodes in zip(network.segment_id, network.osm_way_ids, network.osm_node_ids, strict=True)
    ]
    csv = speeds.osrm(streets)
    assert b"1,2," in csv
    assert b"3,2," in csv, "both directions"
    assert driven(tmp_path, file, csv) == way
    with pytest.raises(subprocess.CalledProcessError):  # a broken one is noticed
        driven(tmp_path, file, csv.replace(b",", b";"))
