"""The command line: every command explains itself, refuses a bad setting by name, and replays a recording whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from commands.shared import load_cities, network_folder
from geo import store
from models.clock import rfc3339
from models.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_SOFTWARE
from models.topics import PRODUCTS
from tests.streams import kit
from tilannekuva import cli

ROOT = Path(__file__).resolve().parent.parent


def commands(group: click.Group = cli, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILANNEKUVA_DATA", str(tmp_path / "data"))


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), standalone_mode=True)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_help_of_every_command_shows_an_example_that_names_it(words: tuple[str, ...]) -> None:
    r = run(*words, "--help")
    assert r.exit_code == 0
    assert f"tilannekuva {' '.join(words)}" in " ".join(r.output.split())
    assert "Example" in r.output


def test_the_commands_of_the_design_are_there() -> None:
    names = {" ".join(w) for w in commands()}
    assert names >= {"demo", "up", "connect", "process", "serve", "replay", "network build", "check", "topics", "tail", "factors"}


def with_city(tmp_path: Path, old: str, new: str) -> str:
    text = (ROOT / "connectors" / "cities" / "helsinki.toml").read_text("utf-8")
    assert old in text
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(old, new, 1), "utf-8")
    return str(file)


@pytest.mark.parametrize(("old", "new", "key"), [
    ('timezone = "Europe/Helsinki"', 'timezone = "Europe/Helsinky"', "timezone"),
    ("cadence_s = 1\n", "cadence_s = -1\n", "feeds.hfp.cadence_s"),
    ("south = 59.90", "south = 69.90", "box.south"),
    ("partitions = 4", "partitons = 4", "feeds.hfp.partitons"),
    ('url = "mqtts://mqtt.hsl.fi:8883"', 'url = "ftp://mqtt.hsl.fi"', "feeds.hfp.mqtt.url"),
])  # fmt: skip
@pytest.mark.parametrize("command", [["check"], ["connect"], ["process"], ["topics"]], ids=" ".join)
def test_a_bad_city_file_is_refused_with_its_key_before_anything_is_touched(
    tmp_path: Path, command: list[str], old: str, new: str, key: str
) -> None:
    r = run(*command, with_city(tmp_path, old, new))
    assert r.exit_code == EXIT_CONFIG
    assert key in r.output
    assert "expected" in r.output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["topics", "helsinky"], "helsinki"),
    (["connect", "helsinki", "hpf"], "hfp"),
    (["connect", "helsinki", "--set", "feeds.hfp.cadence_s"], "KEY=VALUE"),
    (["connect", "turku", "helsinky"], "helsinky"),
    (["connect", "turku", "oulu", "--set", "tampere:feeds.tms.cadence_s=1"], "tampere:feeds.tms.cadence_s=1"),
    (["connect", "turku", "oulu", "--set", "oulu:feeds.nix.cadence_s=1"], "oulu.toml"),
    (["process", "turku", "oulu", "turku"], "each city once"),
    (["process", "turku", "oulu", "--network", "x"], "--network"),
    (["connect", "helsinki", "--set", "feeds.nix.cadence_s=1"], "feeds.nix.cadence_s"),
    (["check", "helsinki"], "network build"),
    (["process", "helsinki"], "network build"),
    (["up", "helsinki"], "network build"),
    (["replay", "nowhere", "--city", "helsinki", "--to", "out"], "network build"),
    (["network", "build", "helsinki"], "--osm"),
    (["replay", "x", "--city", "nix", "--to", "out"], "city"),
])  # fmt: skip
def test_a_bad_argument_is_bad_configuration_and_says_what_was_expected(words: list[str], says: str) -> None:
    r = run(*words)
    assert r.exit_code == EXIT_CONFIG
    assert says in r.output


def test_topics_lists_every_product_with_key_record_retention_and_licence() -> None:
    r = run("topics", "helsinki")
    assert r.exit_code == 0
    lines = {line.split()[0]: line for line in r.output.splitlines() if line.startswith("mobility.")}
    for p in PRODUCTS.values():
        line = lines[f"mobility.helsinki.{p.name}.v{p.major}"]
        assert p.key in line
        assert p.record.__name__ in line
        assert "CC-BY-4.0" in line


@pytest.fixture
def network(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    store.save(kit.network(), folder)
    return folder


def test_check_says_what_is_in_order(network: Path) -> None:
    r = run("check", "helsinki", "--network", str(network), "--for", "0")
    assert r.exit_code == 0
    assert "city" in r.output
    assert "40 segments, 5 shapes" in r.output
    r = run("check", "helsinki", "--network", str(network), "--broker", "127.0.0.1")
    assert r.exit_code == EXIT_CONFIG
    assert "--broker" in r.output


def recording(folder: Path) -> Path:
    items = kit.in_order(
        [
            *kit.drive(0, seconds=90),
            *kit.drive(1, 7.0, seconds=90, vehicle=2, direction=2),
            kit.hfp(kit.T0 + 5000, (0, 0), lat=24.9, long=60.2),
        ]
    )
    file = folder / "hfp.jsonl"
    file.write_text(
        "".join(
            f'{{"topic": {json.dumps(i.topic)}, "payload": {i.body.decode()}, "received_at": "{rfc3339(i.ingest_ms)}"}}\n' for i in items
        ),
        "utf-8",
    )
    return file


def test_a_recording_is_replayed_into_files_the_same_ones_each_time(tmp_path: Path, network: Path) -> None:
    file, seen = recording(tmp_path), []
    for name, cut in (("a", "200"), ("b", "3")):
        out = tmp_path / name
        r = run("replay", str(file), "--city", "helsinki", "--network", str(network), "--to", str(out), "--simulated", "--envelope", cut)
        assert r.exit_code == 0, r.output
        assert "182 accepted" in r.output
        assert "1 rejected" in r.output
        tables = {p.stem: pq.read_table(p) for p in out.glob("*.parquet")}
        assert tables.keys() >= {"segment-state", "vehicle-position", "sensor-observation", "feed-health", "dead-letter", "late"}
        assert tables["vehicle-position"].num_rows == 182
        assert tables["dead-letter"].column("reason").to_pylist() == ["swapped_coordinates"]
        states = tables["segment-state"]
        assert set(states.column("status").to_pylist()) == {"final"}
        assert set(states.column("simulated").to_pylist()) == {True}
        seen.append((tables["vehicle-position"].sort_by([("vehicle_id", "ascending"), ("event_time", "ascending")]), states))
        drawn = json.loads((out / "segments.geojson").read_text("utf-8"))
        assert len(drawn["features"]) == 40
        summary = json.loads((out / "summary.json").read_text("utf-8"))
        assert summary["simulated"] is True
        assert summary["network"] == kit.network().version
        assert summary["feeds"]["hfp"]["events"] == 183
    assert seen[0][0].equals(seen[1][0])
    assert seen[0][1].equals(seen[1][1])


def test_a_file_that_is_no_recording_is_bad_configuration(tmp_path: Path, network: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    r = run("replay", str(tmp_path / "notes.txt"), "--city", "helsinki", "--network", str(network), "--to", str(tmp_path / "out"))
    assert r.exit_code == EXIT_CONFIG
    assert "notes.txt" in r.output


def test_a_broken_network_is_bad_configuration(tmp_path: Path, network: Path) -> None:
    victim = next(network.glob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    r = run("check", "helsinki", "--network", str(network), "--for", "0")
    assert r.exit_code == EXIT_CONFIG


def test_a_broker_that_does_not_answer_is_a_failure_and_not_a_bad_setting() -> None:
    """As a process: no traceback for people, one line on stderr, exit 1."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    r = subprocess.run(
        [sys.executable, str(ROOT / "tilannekuva.py"), "tail", "mobility.helsinki.segment-state.v1", "--broker", "127.0.0.1:1", "--count", "1"],
        capture_output=True, text=True, timeout=30, env=env, check=False,
    )  # fmt: skip
    assert r.returncode == EXIT_FAILED
    assert "Traceback" not in r.stderr
    assert "failed:" in r.stderr
    assert "127.0.0.1" in r.stderr


def test_our_own_bug_is_told_whole_and_exits_70(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectors import cities

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cities, "load", broken)
    r = run("topics", "helsinki")
    assert r.exit_code == EXIT_SOFTWARE
    assert "ZeroDivisionError" in r.stderr


def test_networks_lie_where_the_environment_says(tmp_path: Path) -> None:
    assert network_folder(kit.city()) == tmp_path / "data" / "networks" / "helsinki"


def test_a_setting_of_several_cities_is_for_all_of_them_or_for_one() -> None:
    turku, oulu = load_cities(["turku", "oulu"], ["feeds.tms.cadence_s=30", 'oulu:title="Oulu 2"', "oulu:feeds.oulunliikenne=null"])
    assert (turku.title, oulu.title) == ("Turku", "Oulu 2")
    assert turku.feed("tms").cadence_s == oulu.feed("tms").cadence_s == 30
    assert "oulunliikenne" not in [f.name for f in oulu.feeds]
