"""Three cities share one region's feeds: every place is in one of them at most, and only one connects."""

from __future__ import annotations

import asyncio
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from connectors.borders import border
from connectors.cities import FOLDER, load
from connectors.run import connect
from models.errors import ConfigError
from models.topics import settings

FILE = FOLDER / "municipalities.geojson"
NAMES = ("Helsinki", "Espoo", "Vantaa", "Tampere", "Turku", "Oulu")
#: Railway stations.
PLACES = {
    "Helsinki": (60.1719, 24.9414), "Espoo": (60.2055, 24.6560), "Vantaa": (60.2925, 25.0440), "Tampere": (61.4986, 23.7730), "Turku": (60.4540, 22.2530),
    "Oulu": (65.0110, 25.4840),
}  # fmt: skip


def test_each_station_is_in_its_own_city_only() -> None:
    for place, (lat, lon) in PLACES.items():
        assert [n for n in NAMES if border(FILE, n).holds(lat, lon)] == [place]


def test_neighbours_have_no_place_in_common_and_nothing_unknown_is_inside() -> None:
    rng = np.random.default_rng(1)
    lat, lon = rng.uniform(60.0, 60.5, 20_000), rng.uniform(24.4, 25.4, 20_000)
    masks = [border(FILE, n).mask(lat, lon) for n in NAMES[:3]]
    assert all(m.any() for m in masks)
    assert not any((a & b).any() for a, b in combinations(masks, 2))
    assert not border(FILE, "Espoo").mask(np.array([np.nan]), np.array([24.6])).any()


def test_what_is_drawn_belongs_where_it_touches() -> None:
    ring = {"type": "LineString", "coordinates": [[24.60, 60.20], [24.70, 60.23], [24.95, 60.30]]}
    assert [n for n in NAMES if border(FILE, n).touches(ring)] == ["Espoo", "Vantaa"]


@pytest.mark.parametrize(("file", "name"), [("municipalities.geojson", "Atlantis"), ("nowhere.geojson", "Espoo"), ("oslo.toml", "Espoo")])
def test_a_border_that_is_not_there_is_named(file: str, name: str) -> None:
    with pytest.raises(ConfigError, match=file):
        border(FOLDER / file, name)


@pytest.mark.parametrize("name", ["espoo", "vantaa"])
async def test_a_city_on_anothers_feeds_reads_its_raw_topics_and_does_not_connect(name: str) -> None:
    city, region = load(name), load("helsinki")
    assert city.feeds == region.feeds
    assert city.raw_city == "helsinki"
    assert city.border is not None
    topics = [t.name for t in settings(city.name, city.partitions(), raw_of=city.raw_city)]
    assert "raw.helsinki.hfp" in topics
    assert f"mobility.{name}.vehicle-position.v1" in topics
    assert not any(t.startswith(f"raw.{name}") for t in topics)
    with pytest.raises(ConfigError, match="connect helsinki"):
        await connect(city, [], "127.0.0.1:1", stop=asyncio.Event())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('raw_of = "atlantis"', "raw_of"),
        ('raw_of = "helsinki"\n[feeds.x]\nfamily = "hfp"', "no [feeds] of its own"),
        ('raw_of = "helsinki"\narea = "Espoo"', "area = 'Espoo'"),
        ('raw_of = "helsinki"\narea = "municipalities.geojson#Atlantis"', "Atlantis"),
        ('raw_of = "helsinki"\narea = "../secret.geojson#x"', "beside the city files"),
    ],
)
def test_a_wrong_share_is_named(tmp_path: Path, line: str, says: str) -> None:
    text = (FOLDER / "espoo.toml").read_text("utf-8")
    start, end = text.index("raw_of"), text.index("[box]")
    file = tmp_path / "x.toml"
    first, _, rest = line.partition("\n[")
    file.write_text(text[:start] + first + "\n\n" + text[end:] + (f"\n[{rest}\n" if rest else ""), "utf-8")
    with pytest.raises(ConfigError) as e:
        load(file)
    assert says in str(e.value)
