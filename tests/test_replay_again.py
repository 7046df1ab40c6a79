"""``replay --manifest``: the same manifest gives the same bytes, and what is not the same is named before anything is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from geo import store
from models.errors import EXIT_CONFIG, EXIT_FAILED
from tests.streams import world
from tilannekuva import cli

SETTINGS = ("emissions.fleet_year=2030", "fusion.half_life_s=120", "observe.lateness_ms=60000", "emissions.flows.neighbours=4")


class Work:
    """A town, a recording of it, and a first run with parameters of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.city = world.write_city(folder)
        store.save(world.network(), folder / "network")
        self.recording = world.write_recording(world.recording(seconds=70), folder / "recording")
        self.settings = [part for s in SETTINGS for part in ("--set", s)]

    def replay(self, to: str, *more: str) -> Result:
        words = ["replay", str(self.recording), "--network", str(self.folder / "network"), "--to", str(self.folder / to), *more]
        return CliRunner().invoke(cli, words)

    def first(self) -> Path:
        r = self.replay("first", "--city", str(self.city), "--simulated", "--envelope", "37", *self.settings)
        assert r.exit_code == 0, r.output
        return self.folder / "first" / "manifest.json"

    def again(self, manifest: Path, *more: str, to: str = "again") -> Result:
        return self.replay(to, "--city", str(self.city), "--manifest", str(manifest), *more)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def test_the_same_manifest_gives_the_same_bytes(work: Work) -> None:
    first = work.first()
    made = json.loads(first.read_text())
    assert (made["parameters"]["emissions.fleet_year"], made["parameters"]["fuse.lateness_ms"]) == (2030, 60_000)
    r = work.again(first)
    assert r.exit_code == 0, r.output
    assert f"the same bytes as in {first}: {len(made['outputs'])} files" in r.output
    assert (work.folder / "again" / "manifest.json").read_bytes() == first.read_bytes()
    for name in made["outputs"]:
        assert (work.folder / "again" / name).read_bytes() == (first.parent / name).read_bytes(), name
    made["outputs"]["segment-state.parquet"] = "0" * 64
    first.write_text(json.dumps(made))
    r = work.again(first)
    assert (r.exit_code, f"other bytes than in {first}: segment-state.parquet" in r.output) == (EXIT_FAILED, True)


def test_what_goes_in_and_is_not_the_same_is_named_and_nothing_is_written(work: Work) -> None:
    first = work.first()

    def refused(says: str, *more: str) -> None:
        r = work.again(first, *more, to="none")
        assert r.exit_code == EXIT_CONFIG, r.output
        assert says in r.output
        assert not (work.folder / "none").exists()

    refused("--manifest", "--set", "emissions.fleet_year=2020")
    refused("--manifest", "--simulated")
    refused("city", "--set", "feeds.hfp.cadence_s=2")
    fleet = Path(__file__).resolve().parent.parent / "models" / "emissions" / "data" / "fleet_example.csv"
    refused("parameters = 'emissions.fleet", "--fleet", str(fleet))
    with (work.recording / "hfp.jsonl").open("a") as file:
        file.write("\n")
    refused("inputs = 'recording/hfp.jsonl")
    first.write_text("{}")
    refused("manifest.json of a replay")
