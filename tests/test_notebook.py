"""What researchers are shown runs: the notebook on a replay's folder and on an archive, and every question to DuckDB in ``docs/researchers.md``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from geo import store
from models.records import encode
from streams.archive_files import Files, Source
from streams.archive_rows import Row
from streams.archive_store import Store
from streams.offline import Run, replay
from streams.replays import log_of
from streams.segments import records
from tests.streams import world
from tilannekuva import cli

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "archive_day.ipynb"
RESEARCHERS = ROOT / "docs" / "researchers.md"
WHY = "install the extra: pip install 'tilannekuva[research]'"
QUARTERS = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"id": name, "name": name},
            "geometry": {"type": "Polygon", "coordinates": [[[24.8, low], [25.1, low], [25.1, high], [24.8, high], [24.8, low]]]},
        }
        for name, low, high in (("north", 60.17, 60.3), ("south", 60.0, 60.17))
    ],
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A city with two districts, its network, seven minutes of its buses."""
    folder = tmp_path_factory.mktemp("town")
    city = world.write_city(folder)
    (folder / "districts.geojson").write_text(json.dumps(QUARTERS))
    city.write_text('districts = "districts.geojson"\n' + city.read_text())
    store.save(world.network(), folder / "network")
    world.write_recording(world.recording(vehicles=20, seconds=420, every_s=3), folder / "recording")
    return folder


@pytest.fixture(scope="module")
def replayed(town: Path) -> Path:
    """The folder that the command writes."""
    to = town / "out"
    command = ["replay", str(town / "recording"), "--city", str(town / "toytown.toml"), "--network", str(town / "network"), "--simulated"]
    done = CliRunner().invoke(cli, [*command, "--to", str(to)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return to


@pytest.fixture(scope="module")
def archived(town: Path) -> Path:
    """The same records as an archive keeps them, the newest part of each product twice: a worker that began again."""
    from connectors.cities import load

    city, network = load(town / "toytown.toml"), store.load(town / "network")
    rows: dict[str, list[Row]] = {"segment": [Row(n, 0, s.segment_id.encode(), encode(s), f"s{n}") for n, s in enumerate(records(network))]}
    log = log_of([town / "recording"], city, max_items=200, simulated=True)
    for out in replay(Run(city, network), log):
        for product, outs in out.records.items():
            if product not in ("dead-letter", "late"):
                held = rows.setdefault(product, [])
                held += [Row(len(held) + n, o.time_ms, o.key, o.value, o.ce_id) for n, o in enumerate(outs)]
    where = Store(town / "archive", make=True)
    for product, held in rows.items():
        held += [r._replace(offset=len(held) + n) for n, r in enumerate(held[-len(held) // 3 :])]
        source = Source("toytown", product, f"mobility.toytown.{product}.v1", city.licence, city.attribution, None, True)
        files = Files.open(where, source, 0)
        for at in range(0, len(held), 500):
            files.write(held[at : at + 500], 0)
    return town / "archive"


def run(source: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    nbclient, nbformat = pytest.importorskip("nbclient", reason=WHY), pytest.importorskip("nbformat", reason=WHY)
    for name in ("duckdb", "matplotlib", "ipykernel"):
        pytest.importorskip(name, reason=WHY)
    monkeypatch.setenv("TILANNEKUVA_ARCHIVE", str(source))
    monkeypatch.setenv("TILANNEKUVA_CITY", "toytown")
    book = nbformat.read(NOTEBOOK, as_version=4)
    for cell in book.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    return nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()


def said(book: Any) -> str:
    return "".join(o.get("text", "") for c in book.cells for o in c.get("outputs", []) if o.get("name") == "stdout")


def figures(book: Any) -> int:
    return sum("image/png" in o.get("data", {}) for c in book.cells for o in c.get("outputs", []))


def check(book: Any, replayed: Path) -> None:
    """The figures are there, and what is printed is what the records say."""
    text = said(book)
    assert figures(book) == 4
    assert "toytown, 2026-03-10, SIMULATED" in text
    areas = [a for a in pq.read_table(replayed / "area-state.parquet").to_pylist() if a["area_kind"] == "city" and a["travel_time_index"]]
    hours = sum(a["vehicle_h_h"] for a in areas)
    index = hours / (hours - sum(a["delay_veh_h"] for a in areas))
    assert f"travel time index of the day: {index:.3f} over {len(areas)} minutes" in text
    five = [
        e for e in pq.read_table(replayed / "emission-area.parquet").to_pylist() if (e["window_end"] - e["window_start"]).seconds == 300
    ]
    emitted = [e for e in five if e["area_kind"] == "district"]
    for name in ("north", "south"):
        kg = sum(e["co2_total"]["value"] for e in emitted if e["area_name"] == name) / 12 / 1000
        assert kg > 0
        assert re.search(rf"^\s*{name}\s+{kg:.1f}\s", text, re.MULTILINE), text
    assert re.search(r"line 100[12], direction [01]: \d+ % of its vehicles bunched", text)


def test_the_notebook_runs_on_a_replay(replayed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(run(replayed, monkeypatch), replayed)


def test_the_notebook_runs_on_an_archive_and_counts_nothing_twice(archived: Path, replayed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(run(archived, monkeypatch), replayed)


def test_the_stored_notebook_has_its_figures_says_that_they_are_simulated_and_no_errors() -> None:
    book = json.loads(NOTEBOOK.read_text("utf-8"))
    outputs = [o for c in book["cells"] for o in c.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 4
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert "SIMULATED" in "".join(book["cells"][0]["source"])
    assert "SIMULATED" in "".join(outputs[0]["text"])
    assert NOTEBOOK.stat().st_size < 400_000


SNIPPETS = re.findall(r"```sql\n(.*?)```", RESEARCHERS.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("sql", SNIPPETS)
def test_every_question_to_duckdb_in_the_page_is_answered(sql: str, archived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb", reason=WHY)
    monkeypatch.chdir(archived.parent)
    rows = duckdb.sql(sql.replace("helsinki", "toytown")).fetchall()
    assert rows
    assert all(any(value is not None for value in row) for row in rows)
