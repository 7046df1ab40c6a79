"""``tilannekuva diff``: rows that are in one run only, sizes of changes, what is no run; and the map, in a browser without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from playwright.async_api import async_playwright

from geo import store
from models.clock import parse_ms, rfc3339
from models.records import Record, SegmentState, VehiclePosition, encode
from streams.differences import Product, compare
from streams.outputs import Out
from streams.tables import ParquetSink
from tests.streams import world
from tilannekuva import cli

BEGIN = parse_ms("2026-03-10T05:00:00.000Z")


def state(k: int, minute: int, speed_kmh: float | None, los: str = "B") -> SegmentState:
    start = BEGIN + minute * 60_000
    ids = world.network().segments.segment_id
    return SegmentState(
        segment_id=ids[k], window_start=rfc3339(start), window_end=rfc3339(start + 60_000), status="final", revision=1, origin="measured", confidence=0.5,
        represents="general_traffic", algorithm="t/1", speed_kmh=speed_kmh, los=los, simulated=True,  # type: ignore[arg-type]
    )  # fmt: skip


def run(folder: Path, states: list[SegmentState], city: str = "toytown", more: list[Record] | None = None) -> Path:
    """A folder as a replay leaves it."""
    sink = ParquetSink(folder)
    for product, records in (("segment-state", states), ("vehicle-position", more or [])):
        sink.add(product, [Out(b"k", encode(r), 0, "") for r in records])
    sink.close(("segment-state", "vehicle-position", "emission-area"))
    (folder / "segments.geojson").write_bytes(store.segments_geojson(world.network()))
    (folder / "summary.json").write_text(json.dumps({"simulated": True}))
    made = {
        "city": {"name": city},
        "parameters": {},
        "inputs": [],
        "network": "n",
        "code": {},
        "factor_set": "f",
        "options": {},
        "packages": {},
    }
    (folder / "manifest.json").write_text(json.dumps(made))
    return folder


def product(a: Path, b: Path, name: str = "segment-state") -> Product:
    return next(p for p in compare(a, b).products if p.product == name)


def test_rows_are_matched_by_key_and_time_and_sizes_are_in_units(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [state(k, m, 20.0 + k) for m in range(10) for k in range(10)])
    b = run(tmp_path / "b", [state(k, m, 20.0 + k + (3.0 if k < 5 else 0.0)) for m in reversed(range(1, 11)) for k in range(10)])
    found = product(a, b)
    assert (found.rows_a, found.rows_b, found.both, found.only_a, found.only_b, found.changed) == (100, 100, 90, 10, 10, 45)
    (speed,) = found.fields
    assert (speed.name, speed.unit, speed.changed, speed.numbers) == ("speed_kmh", "km/h", 45, 90)
    assert (speed.median, speed.p95) == (pytest.approx(3.0, rel=0.01), pytest.approx(3.0, rel=0.01))
    assert (speed.mean_a, speed.mean_b) == (pytest.approx(24.5), pytest.approx(26.0))
    (streets,) = compare(a, b).streets
    assert sorted(streets.means) == sorted(world.network().segments.segment_id[:5])


def test_what_is_known_in_one_run_only_and_words_are_changes_without_a_size(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [state(0, 0, 20.0), state(1, 0, None), state(2, 0, None)])
    b = run(tmp_path / "b", [state(0, 0, 20.0, los="F"), state(1, 0, 9.0), state(2, 0, None)])
    found = product(a, b)
    assert found.changed == 2
    assert {f.name: (f.changed, f.median) for f in found.fields} == {"los": (1, None), "speed_kmh": (1, None)}


def test_the_same_row_twice_is_paired_by_its_order(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [state(0, 0, 20.0), state(0, 0, 30.0)])
    b = run(tmp_path / "b", [state(0, 0, 20.0), state(0, 0, 30.0), state(0, 0, 40.0)])
    found = product(a, b)
    assert (found.both, found.only_a, found.only_b, found.changed) == (2, 0, 1, 0)


def test_slices_of_time_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fix(k: int, s: int, lat: float) -> VehiclePosition:
        at = rfc3339(BEGIN + s * 1000)
        return VehiclePosition(vehicle_id=f"18/{k}", event_time=at, ingest_time=at, feed="hfp", lat_deg=lat, lon_deg=24.9, simulated=True)

    runs = [
        run(tmp_path / name, [], more=[fix(k, s, 60.0 + shift * s / 1e4) for s in range(300) for k in range(3) if (s + k) % (7 + shift)])
        for name, shift in (("a", 0), ("b", 1))
    ]
    whole = product(*runs, "vehicle-position")
    monkeypatch.setattr("streams.differences.SLICE_ROWS", 50)
    parts = product(*runs, "vehicle-position")
    fields = [f for p in (whole, parts) for f in p.fields]
    assert msgspec.structs.replace(whole, fields=[]) == msgspec.structs.replace(parts, fields=[])
    assert whole.only_a > 0 < whole.only_b
    assert fields[0].median == fields[1].median
    assert fields[0].mean_b == pytest.approx(fields[1].mean_b)


@pytest.mark.parametrize("words", [["nowhere", "{a}"], ["{empty}", "{a}"], ["{a}", "{other}"]])
def test_what_is_no_run_or_another_citys_is_bad_configuration(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    run(tmp_path / "a", [state(0, 0, 1.0)])
    run(tmp_path / "other", [state(0, 0, 1.0)], city="elsewhere")
    r = CliRunner().invoke(cli, ["diff", *(w.format(**{n: tmp_path / n for n in ("a", "empty", "other")}) for w in words)])
    assert r.exit_code == 78
    assert "RUN" in r.output


async def test_the_map_opens_without_a_network_and_colours_what_changed(tmp_path: Path, chromium: str) -> None:
    a = run(tmp_path / "a", [state(k, 0, 20.0) for k in range(12)])
    b = run(tmp_path / "b", [state(k, 0, 20.0 + k - 4) for k in range(12)])
    r = CliRunner().invoke(cli, ["diff", str(a), str(b), "--to", str(tmp_path / "to")])
    assert r.exit_code == 0, r.output
    said: list[str] = []
    async with async_playwright() as p:
        flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = await p.chromium.launch(executable_path=chromium, args=flags)
        page = await (await browser.new_context(offline=True)).new_page()
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: said.append(str(e)))
        await page.goto((tmp_path / "to" / "map.html").as_uri())
        drawn: Any = await page.wait_for_function(
            "() => document.body.dataset.ready && map.loaded() && map.queryRenderedFeatures({layers: ['streets']}).length"
            " && [...Array(DATA.ids.length).keys()].map((id) => map.getFeatureState({source: 'streets', id}).c ?? 0)",
            timeout=60_000,
        )
        classes = await drawn.json_value()
        legend = await page.locator("#legend").inner_text()
        await browser.close()
    assert not said
    assert [c > 0 for c in classes[:12]] == [k > 4 for k in range(12)]
    assert [c < 0 for c in classes[:12]] == [k < 4 for k in range(12)]
    assert not any(classes[12:])
    assert f"no change, or nothing in both ({len(classes) - 11})" in legend
