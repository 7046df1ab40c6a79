"""A profile learned from runs of other days: what is usual informs where nothing is seen, says so, and gives the same bytes each time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from geo import store
from models.errors import ConfigError
from models.profile import DAY_MS, QUARTERS, Profile
from streams import profiles, replays
from streams.archive_files import Files, Source
from streams.archive_rows import Row
from streams.archive_store import Store
from streams.fuse import FuseSettings
from streams.offline import Run, replay
from streams.replays import NEVER_MS, log_of
from tests.streams import world
from tilannekuva import cli

SEGMENTS = world.network().segments.segment_id


def a_run(folder: Path, name: str, profile: Profile | None = None, seconds: int = 240) -> dict[str, str]:
    recording = world.write_recording(world.recording(seconds=seconds), folder / f"recording{seconds}")
    replays.to_folder([recording], world.city(folder), world.network(), folder / name, simulated=True, profile=profile)
    found: dict[str, str] = json.loads((folder / name / "manifest.json").read_text())["outputs"]
    return found


def invented(**changes: object) -> Profile:
    """All segments are usually four times as slow as light traffic."""
    n, bins = len(SEGMENTS), 4 * QUARTERS
    whole = Profile(
        "toytown", "Europe/Helsinki", tuple(sorted(SEGMENTS)), np.full((n, bins), np.log(4.0), np.float16), np.full(n, 0.3, np.float16), np.full(n, 33.0),
        ("2026-03-09",), world.START_MS - DAY_MS, world.START_MS + DAY_MS,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def states(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(folder / "segment-state.parquet").to_pylist()
    return rows


def test_a_run_teaches_what_it_saw_and_the_file_holds_it(tmp_path: Path) -> None:
    a_run(tmp_path, "monday")
    learnt = profiles.learn([tmp_path / "monday"], world.city(tmp_path), world.network())
    assert learnt.simulated  # its finals say so
    assert learnt.days == ("2026-03-10",)
    seen = {str(r["segment_id"]) for r in states(tmp_path / "monday") if r["origin"] in ("measured", "blended")}
    assert learnt.segment_id
    assert set(learnt.segment_id) <= seen
    profiles.save(learnt, tmp_path / "profile.parquet")
    again = profiles.load(tmp_path / "profile.parquet")
    assert again.version == learnt.version
    first = (tmp_path / "profile.parquet").read_bytes()
    profiles.save(again, tmp_path / "profile.parquet")
    assert (tmp_path / "profile.parquet").read_bytes() == first


def test_an_archive_teaches_the_same_as_the_run_and_days_may_be_chosen(tmp_path: Path) -> None:
    recording = world.write_recording(world.recording(seconds=240), tmp_path / "recording240")
    city, network = world.city(tmp_path), world.network()
    run = Run(city, network, fuse=dataclasses.replace(FuseSettings(), provisional_ms=NEVER_MS))
    outs = [o for x in replay(run, log_of([recording], city, max_items=200, simulated=True)) for o in x.records.get("segment-state", ())]
    rows = [Row(k, o.time_ms, o.key, o.value, o.ce_id) for k, o in enumerate(outs)]
    files = Files.open(
        Store(tmp_path / "archive", make=True),
        Source("toytown", "segment-state", "mobility.toytown.segment-state.v1", "CC-BY-4.0", ("Nobody",)),
        0,
    )
    for at in range(0, len(rows), 300):
        files.write(rows[at : at + 300], 0)
    a_run(tmp_path, "run")
    of_archive = profiles.learn([tmp_path / "archive"], city, network, profiles.newest([tmp_path / "archive"], city, 3))
    assert of_archive.version == profiles.learn([tmp_path / "run"], city, network).version
    with pytest.raises(ConfigError, match="finals"):
        profiles.learn([tmp_path / "archive"], city, network, ["2026-03-09"])


def test_what_is_usual_informs_what_nobody_sees_and_every_record_says_so(tmp_path: Path) -> None:
    usual = invented()
    with_it, again, without = (a_run(tmp_path, name, p) for name, p in (("with", usual), ("again", usual), ("without", None)))
    assert with_it == again
    assert with_it != without
    assert json.loads((tmp_path / "with" / "manifest.json").read_text())["profile"] == usual.version
    rows, plain = states(tmp_path / "with"), {(r["segment_id"], r["window_start"]): r for r in states(tmp_path / "without")}
    assert {r["algorithm"] for r in rows} == {f"edie-ratio-discount/1+usual.{usual.version[:12]}"}
    past = [r for r in rows if r["origin"] == "historical"]
    assert len(past) > 50
    for r in past:
        other = plain.get((r["segment_id"], r["window_start"]))
        assert other is None or other["origin"] in ("inferred", "none")
        assert 0 < r["confidence"] < 0.9  # type: ignore[operator]
        assert r["speed_p20_kmh"] < r["speed_kmh"] < r["speed_p80_kmh"]  # type: ignore[operator]
    assert {r["free_flow_kmh"] for r in rows if r["free_flow_method"] == "observed_p85"} == {33.0}
    measured = [r for r in rows if r["origin"] == "measured" and (r["segment_id"], r["window_start"]) in plain]
    assert measured
    changes = [abs(r["speed_kmh"] / plain[r["segment_id"], r["window_start"]]["speed_kmh"] - 1) for r in measured]  # type: ignore[operator]
    assert np.median(changes) < 0.25  # what is seen outweighs what is usual


def test_out_of_its_time_a_profile_changes_nothing(tmp_path: Path) -> None:
    old = invented(valid_from_ms=world.START_MS - 90 * DAY_MS, valid_until_ms=world.START_MS - 30 * DAY_MS)
    assert a_run(tmp_path, "old", old) == a_run(tmp_path, "without")


def test_what_rests_on_simulated_days_is_said_to_be_simulated(tmp_path: Path) -> None:
    recording = world.write_recording(world.recording(seconds=200), tmp_path / "recording")
    replays.to_folder([recording], world.city(tmp_path), world.network(), tmp_path / "run", profile=invented(simulated=True))
    assert all(r["simulated"] for r in states(tmp_path / "run"))


def test_a_restored_step_goes_on_byte_for_byte_across_the_end_of_its_validity(tmp_path: Path) -> None:
    city, network = world.city(tmp_path), world.network()
    recording = world.write_recording(world.recording(seconds=300), tmp_path / "recording")
    usual = invented(valid_until_ms=world.START_MS + 120_000)
    fuse = dataclasses.replace(Run(city, network).fuse, provisional_ms=NEVER_MS)

    def finals(cut: int | None) -> list[bytes]:
        run = Run(city, network, fuse=fuse, profile=usual)
        out: list[bytes] = []
        for k, outputs in enumerate(replay(run, log_of([recording], city, max_items=50, simulated=False))):
            out += [o.value for o in outputs.records.get("segment-state", ())]
            if cut is not None and k == cut:
                state = run.fuser.export()
                run.fuser = type(run.fuser)(city, network, fuse, usual)
                run.fuser.restore(state)
        return out

    whole = finals(None)
    assert any(b'"historical"' in x for x in whole)
    assert any(b"+usual" not in x for x in whole)
    assert finals(40) == whole
    assert finals(400) == whole


def test_the_command_writes_it_where_replays_look_for_it(tmp_path: Path) -> None:
    a_run(tmp_path, "monday")
    city = str(world.write_city(tmp_path))
    store.save(world.network(), tmp_path / "network")
    recording = tmp_path / "recording240"
    where = ["--network", str(tmp_path / "network")]
    learned = CliRunner().invoke(cli, ["profile", "learn", city, str(tmp_path / "monday"), *where], catch_exceptions=False)
    assert learned.exit_code == 0, learned.output
    assert "SIMULATED" in learned.output
    version = profiles.load(tmp_path / "network" / "profile.parquet").version
    for name, more, used in (("a", [], version), ("b", ["--profile", "none"], None)):
        done = CliRunner().invoke(cli, ["replay", str(recording), "--city", city, "--to", str(tmp_path / name), *where, *more])
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / name / "manifest.json").read_text())["profile"] == used


def test_what_is_no_profile_or_another_city_s_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match="profile learn"):
        profiles.load(tmp_path / "bad.parquet")
    profiles.save(invented(city="elsewhere"), tmp_path / "other.parquet")
    store.save(world.network(), tmp_path / "network")
    recording = world.write_recording(world.recording(seconds=60), tmp_path / "recording")
    args = [
        "replay",
        str(recording),
        "--city",
        str(world.write_city(tmp_path)),
        "--network",
        str(tmp_path / "network"),
        "--to",
        str(tmp_path / "x"),
    ]
    refused = CliRunner().invoke(cli, [*args, "--profile", str(tmp_path / "other.parquet")])
    assert refused.exit_code == 78
    assert "a profile of toytown" in refused.output
    table = pq.read_table(tmp_path / "other.parquet")
    pq.write_table(table.slice(1), tmp_path / "cut.parquet")
    with pytest.raises(ConfigError, match="version"):
        profiles.load(tmp_path / "cut.parquet")
    with pytest.raises(ConfigError, match="finals"):
        profiles.learn([tmp_path], world.city(tmp_path), world.network())
