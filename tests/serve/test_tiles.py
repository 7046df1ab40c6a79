"""Vector tiles: read back by GDAL, they hold the streets where they are, generalised by zoom, and stay until the network changes."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pyogrio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve import mvt, tiles
from serve.state import Picture

BASE = "/api/v1/cities/town"


def address(z: int, lon: float = 24.935, lat: float = 60.1705) -> tuple[int, int, int]:
    x, y = tiles.mercator(np.array([lon]), np.array([lat]))[0] * 2**z
    return z, int(x), int(y)


def decoded(data: bytes, folder: Path) -> Any:
    path = folder / "tile.mvt"
    path.write_bytes(data)
    return pyogrio.read_dataframe(f"MVT:{path}")


async def test_gdal_reads_the_streets_where_they_are(fed: Any, start: Any, tmp_path: Path) -> None:
    z, x, y = address(14)
    client = await start()
    answer = await client.get(f"{BASE}/tiles/{z}/{x}/{y}.mvt")
    assert answer.content_type == "application/vnd.mapbox-vector-tile"
    frame = decoded(await answer.read(), tmp_path).set_index("segment_id")
    assert set(frame["name"]) == {"Aleksanterinkatu"}
    assert (frame.loc["w2_1_2_f", "road_class"], frame.loc["w2_1_2_f", "length_m"]) == ("primary", 160)
    # GDAL turns the y axis up: 0 is the tile's lower edge
    want = (tiles.mercator(np.array([24.934, 24.936]), np.array([60.17, 60.171])) * 2**z - (x, y)) * mvt.EXTENT
    got = np.array(frame.loc["w2_1_2_f", "geometry"].coords)
    assert got[:, 0] == pytest.approx(want[:, 0], abs=0.51)
    assert mvt.EXTENT - got[:, 1] == pytest.approx(want[:, 1], abs=1.01)


async def test_a_line_that_leaves_the_tile_ends_a_little_outside(feed: Any, picture: Picture, town: ModuleType) -> None:
    feed(town.street(0))
    z, x, y = address(14, lon=24.931)
    sheet = tiles.Sheet(["long"], [picture.segments["w0_1_2_f"]])
    sheet.points = sheet.points[[0, 0]] + [(-0.001, 0.0), (0.001, 0.0)]
    sheet.boxes = np.r_[sheet.points.min(axis=0), sheet.points.max(axis=0)][None]
    (drawn,) = mvt.Tile.FromString(sheet.tile(z, x, y)).layers[0].features
    move, begin, _, line, along, _ = drawn.geometry
    assert (move, line) == (9, 10)
    assert (begin, along) == (2 * tiles.BUFFER - 1, 2 * (mvt.EXTENT + 2 * tiles.BUFFER)), (
        "zigzag: -128 is 255; GDAL would cut it at the edge"
    )


def test_from_afar_only_main_streets_are_in_the_tile(feed: Any, picture: Picture, town: ModuleType, tmp_path: Path) -> None:
    for n, road_class in enumerate(("primary", "tertiary", "residential")):
        feed(msgspec.structs.replace(town.street(n), road_class=road_class))
    ids, _ = picture.network()
    sheet = tiles.Sheet(ids, [picture.segments[i] for i in ids])

    def classes(z: int) -> set[str]:
        return set(decoded(sheet.tile(*address(z)), tmp_path)["road_class"])

    assert classes(tiles.MAIN_ZOOM - 1) == {"primary"}
    assert classes(tiles.ALL_ZOOM - 1) == {"primary", "tertiary"}
    assert classes(tiles.ALL_ZOOM) == {"primary", "tertiary", "residential"}


async def test_a_tile_is_kept_until_the_network_changes_and_states_do_not_change_it(
    fed: Any, picture: Picture, town: ModuleType, start: Any
) -> None:
    client = await start()
    version = (await (await client.get("/api/v1/cities")).json())["cities"][0]["network"]
    path = f"{BASE}/tiles/{'/'.join(map(str, address(14)))}.mvt"
    first = await client.get(path, params={"version": version})
    assert first.headers["Cache-Control"] == "public, max-age=86400, immutable"
    fed(town.state(3, minute=1))
    assert (await client.get(path, headers={"If-None-Match": first.headers["ETag"]})).status == 304
    fed(town.street(2, name="Uusi katu"))
    second = await client.get(path, params={"version": version})
    assert second.status == 200
    assert second.headers["Cache-Control"] == "no-cache", "that version is no longer the network of now"
    assert second.headers["ETag"] != first.headers["ETag"]


async def test_old_tiles_make_room_for_new_ones(fed: Any, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "KEEP_BYTES", 2_000)
    kept = tiles.Tiles(picture)
    for z in range(15):
        await kept.get(*address(z))
    assert 0 < kept._bytes <= 2_000
    assert kept._bytes == sum(b.size for b in kept._kept.values())


async def test_an_empty_tile_is_empty_and_one_that_cannot_be_is_a_problem(fed: Any, start: Any) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/tiles/14/0/0.mvt")
    assert (answer.status, await answer.read()) == (200, b"")
    for path in ("15/0/0", "2/4/0", "2/0/4", "2/0/-1", "a/b/c", "٣/0/0"):
        answer = await client.get(f"{BASE}/tiles/{path}.mvt")
        assert (answer.status, answer.content_type) == (404, "application/problem+json")


async def test_tilejson_names_the_tiles_and_their_fields(fed: Any, start: Any) -> None:
    client = await start()
    body = await (await client.get(f"{BASE}/tiles.json")).json()
    assert (body["tilejson"], body["maxzoom"], body["vector_layers"][0]["id"]) == ("3.0.0", 14, "segments")
    z, x, y = address(14)
    url = body["tiles"][0].replace("{z}/{x}/{y}", f"{z}/{x}/{y}")
    assert (await client.get(url[url.index("/api/") :])).status == 200
    assert "OpenStreetMap" in body["attribution"]


def naive(lines: list[list[list[tuple[int, int]]]]) -> list[list[int]]:
    """The specification's words in a loop: lines of parts of points; what has no two different points after one another is left out."""
    out = []
    for parts in lines:
        cursor, drawn = (0, 0), []
        for part in parts:
            thin = [p for k, p in enumerate(part) if k == 0 or p != part[k - 1]]
            if len(thin) < 2:
                continue
            for k, p in enumerate(thin):
                if k == 0:
                    drawn.append(9)
                elif k == 1:
                    drawn.append(((len(thin) - 1) << 3) | 2)
                for d in (p[0] - cursor[0], p[1] - cursor[1]):
                    drawn.append(2 * d if d >= 0 else -2 * d - 1)
                cursor = p
        if drawn:
            out.append(drawn)
    return out


points = st.tuples(st.integers(-3, 3), st.integers(-300, 5000))


@given(st.lists(st.lists(st.lists(points, min_size=1, max_size=5), min_size=1, max_size=3), max_size=6))
def test_commands_are_what_the_specification_says(lines: list[list[list[tuple[int, int]]]]) -> None:
    parts = [part for line in lines for part in line]
    owners = np.array([n for n, line in enumerate(lines) for _ in line], dtype=np.int64)
    flat = np.array([p for part in parts for p in part], dtype=np.int64).reshape(-1, 2)
    begins = np.r_[0, np.cumsum([len(part) for part in parts])].astype(np.int64)
    drawn, at, _ = mvt.commands(flat, begins, owners)
    assert [drawn[a:b] for a, b in zip(at[:-1].tolist(), at[1:].tolist(), strict=True)] == naive(lines)


def test_mercator_puts_helsinki_where_maps_do() -> None:
    z, lon, lat = 10, 24.9384, 60.1699
    x, y = tiles.mercator(np.array([lon]), np.array([lat]))[0] * 2**z
    assert x == pytest.approx((lon + 180) / 360 * 2**z)
    assert y == pytest.approx((1 - math.log(math.tan(math.radians(lat)) + 1 / math.cos(math.radians(lat))) / math.pi) / 2 * 2**z)
