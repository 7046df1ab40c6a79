"""An archive of raw topics replayed is the recording replayed, to the byte; another fleet year changes emissions and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from connectors.envelope import encode
from geo.network import Network
from models.emissions.rates import OUTPUTS
from models.errors import ConfigError
from streams import replays
from streams.archive_files import Files, Source
from streams.archive_rows import Row
from streams.archive_store import Store, about
from streams.whatif import Parameters, changed
from tests.streams import world
from tilannekuva import cli


def archived(tmp_path: Path, recording: Path, where: str) -> str:
    """The raw topics that the recording makes, in batches of a few messages."""
    city = world.city(tmp_path)
    rows: dict[tuple[str, int], list[Row]] = {}
    for feed, partition, e in replays.log_of([recording], city, max_items=200, simulated=True):
        held = rows.setdefault((feed, partition), [])
        held.append(Row(len(held), e.ingest_ms, None, encode(e), None))
    store = Store(where, make=True)
    for (feed, partition), found in rows.items():
        files = Files.open(store, Source("toytown", "raw", f"raw.toytown.{feed}", "CC-BY-4.0", ("Nobody",), feed, True), partition)
        for at in range(0, len(found), 40):
            files.write(found[at : at + 40], 0)
        for parts in files.mergeable(fan_in=3, most_bytes=1 << 30, closed=lambda day: False):
            files.merge(parts)
    return where


def outputs(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "manifest.json").read_text())["outputs"]
    return found


def test_an_archive_and_its_recording_give_the_same_bytes_and_a_fleet_year_changes_emissions_alone(tmp_path: Path) -> None:
    network: Network = world.network()
    recording = world.write_recording(world.recording(seconds=240, gtfs_rt_every=5), tmp_path / "recording")
    city, where = world.city(tmp_path), archived(tmp_path, recording, str(tmp_path / "archive"))
    replays.to_folder([recording], city, network, tmp_path / "a", simulated=True)
    replays.to_folder([where], city, network, tmp_path / "b", simulated=True)
    replays.to_folder([where], city, network, tmp_path / "c", simulated=True)
    later = changed(Parameters(), {"emissions.fleet_year": 2030})
    replays.to_folder([where], city, network, tmp_path / "d", simulated=True, fuse=later.fuse)
    positions = [
        pq.read_table(tmp_path / run / "vehicle-position.parquet").sort_by(
            [("vehicle_id", "ascending"), ("event_time", "ascending"), ("feed", "ascending")]
        )
        for run in "ab"
    ]
    assert positions[0].equals(positions[1])  # partitions are read in another order, each in its own
    a, b = (outputs(tmp_path / run) for run in "ab")
    assert {n: h for n, h in a.items() if n != "vehicle-position.parquet"} == {
        n: h for n, h in b.items() if n != "vehicle-position.parquet"
    }
    assert (tmp_path / "b" / "manifest.json").read_bytes() == (tmp_path / "c" / "manifest.json").read_bytes()
    for file in (tmp_path / "d").glob("*.parquet"):
        told = about(pq.read_schema(file))
        assert told == {"product": file.stem, "city": "toytown", "licence": "CC-BY-4.0", "attribution": ["Nobody"]}
    check_differences(tmp_path / "b", tmp_path / "d", tmp_path / "what-changed")


def test_an_object_store_gives_what_a_folder_gives(tmp_path: Path, s3: Callable[[], str]) -> None:
    recording = world.write_recording(world.recording(seconds=90, gtfs_rt_every=5), tmp_path / "recording")
    for name, where in (("folder", str(tmp_path / "archive")), ("s3", s3())):
        archived(tmp_path, recording, where)
        replays.to_folder([where], world.city(tmp_path), world.network(), tmp_path / name)
    assert (tmp_path / "s3" / "manifest.json").read_bytes() == (tmp_path / "folder" / "manifest.json").read_bytes()


def check_differences(a: Path, b: Path, to: Path) -> None:
    """Another fleet year changes emissions and nothing else, and ``diff`` says so."""
    same = CliRunner().invoke(cli, ["diff", str(a), str(a), "--exit-code"])
    assert (same.exit_code, "nothing changed: area-state" in same.output) == (0, True)
    told = CliRunner().invoke(cli, ["diff", str(a), str(b), "--exit-code", "--to", str(to)])
    assert told.exit_code == 1
    lines = told.output.splitlines()
    assert "put in otherwise: emissions.fleet_year none → 2030" in lines
    assert "changed: city-day, emission-area, emission-segment, emission-vehicle" in lines
    unchanged = next(line for line in lines if line.startswith("did not change: ")).removeprefix("did not change: ").split(", ")
    assert {"segment-state", "vehicle-position", "area-state", "line-fluency", "feed-health"} <= set(unchanged)
    found = json.loads((to / "differences.json").read_text())
    fields = {p["product"]: {f["name"].partition(".")[0] for f in p["fields"]} for p in found["products"]}
    about = {"fleet_mix", "factor_rows", "transit_share"}
    assert fields["emission-segment"] <= {*OUTPUTS, *about}
    assert fields["city-day"] == {"environment", "hours", "fleet_mix"}
    days = [pq.read_table(run / "city-day.parquet").to_pylist() for run in (a, b)]
    assert [[h["fluency"] for h in d["hours"]] for d in days[0]] == [[h["fluency"] for h in d["hours"]] for d in days[1]]
    totals = {t["name"]: t for t in found["totals"]}
    assert totals["distance"]["a"] == totals["distance"]["b"] > 0
    assert (totals["co2_total"]["unit"], totals["co2_total"]["a"] != totals["co2_total"]["b"]) == ("kg", True)


@pytest.mark.parametrize("key", ["fusion.half_lives", "emissions.fleet", "observe.track", "fuse.lateness_ms"])
def test_a_parameter_that_is_none_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        changed(Parameters(), {key: 1})


def test_the_rows_behind_a_digest_are_listed_for_those_who_only_subscribe(tmp_path: Path) -> None:
    recording = world.write_recording(world.recording(seconds=200), tmp_path / "recording")
    city = world.city(tmp_path)
    replays.to_folder([recording], city, world.network(), tmp_path / "run", simulated=True)
    asked = CliRunner().invoke(cli, ["factors", "--city", str(world.write_city(tmp_path)), "--on", "2026-03-10"])
    assert asked.exit_code == 0, asked.output
    told = json.loads(asked.output)
    listed = json.loads((tmp_path / "run" / "emission-factors.json").read_text())
    said = pq.read_table(tmp_path / "run" / "emission-area.parquet")["factor_rows"].to_pylist()
    assert set(said) == set(told)
    assert told == {digest: listed[digest] for digest in told}
    assert all(rows for entry in told.values() for rows in entry["rows"].values())
    assert CliRunner().invoke(cli, ["factors"]).exit_code == 78
