"""A city that nobody thought of: a mixture of standards under names and settings of its own, by its file alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from connectors.cities import load
from streams.conform import conform

TESTS = Path(__file__).resolve().parent.parent
FILE = """
name = "tenth"
title = "Tenth"
timezone = "Europe/Tallinn"
country = "EE"
crs = "EPSG:3301"
licence = "CC0-1.0"
attribution = ["made for tests"]
box = { south = 60.0, west = 24.0, north = 61.0, east = 26.0 }

[feeds.trolleys]
family = "siri"
cadence_s = 20
id_namespace = "ttb"
directions = { "1" = 1, "2" = 0 }
velocity_unit = "kmh"
http = [{ url = "https://siri.tenth.example/vm", every_s = 20, headers_env = { Token = "TENTH_TOKEN" } }]

[feeds.buses]
family = "gtfs_realtime"
cadence_s = 10
mode = "bus"
id_namespace = "bus"
certain_is_passed = true
http = [{ url = "https://rt.tenth.example/vp.pb", every_s = 10 }, { url = "https://rt.tenth.example/tu.pb", every_s = 30 }]

[feeds.counters]
family = "datex2"
cadence_s = 60
http = [{ url = "https://roads.tenth.example/measured.xml", every_s = 60 }]

[feeds.works]
family = "datex2"
cadence_s = 300
id_namespace = "roads"
http = [{ url = "https://roads.tenth.example/situations.xml", every_s = 60 }]

[feeds.scooters]
family = "gbfs"
cadence_s = 60
http = [{ url = "https://bikes.tenth.example/gbfs.json", every_s = 3600 }]

[feeds.hub]
family = "liipi"
cadence_s = 600
http = [{ url = "https://parking.tenth.example/facilities", every_s = 600 }]
"""
#: Feed -> recordings that it might have sent, under tests/.
SENT = {
    "trolleys": "golden/siri/*/in*.xml", "buses": "recordings/helsinki/gtfs_rt*.json", "counters": "golden/datex2/v2_lanes_and_classes/in*.xml",
    "works": "golden/datex2/situations_v3/in*.xml", "scooters": "golden/gbfs/*/in*.json", "hub": "golden/liipi/*/in*.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("tenth")
    (at / "tenth.toml").write_text(FILE, "utf-8")
    for feed, pattern in SENT.items():
        (at / "recordings" / feed).mkdir(parents=True)
        for file in sorted(TESTS.glob(pattern)):
            shutil.copy(file, at / "recordings" / feed / f"{file.parent.name}_{file.name}")
    return at


def test_a_mixture_of_standards_gives_the_same_products_and_loses_nothing(folder: Path) -> None:
    report = conform(load(folder / "tenth.toml"), [folder / "recordings"])
    assert report.faults == []
    assert set(report.feeds) == set(SENT)
    assert {"vehicle-position", "stop-passage", "sensor-observation", "situation", "shared-vehicle-station", "parking"} <= set(
        report.products
    )
    for name, counts in report.feeds.items():
        assert counts.unaccounted() == 0, name
        assert counts.accepted > 0, name
    assert all(p.invalid == 0 and p.checked == p.records for p in report.products.values())
    assert len(FILE.splitlines()) <= 100
