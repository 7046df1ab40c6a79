"""That each benchmark runs, with sizes so small that its figures mean nothing. Times are never asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import load
from benchmarks.fleet import Fleet
from connectors import cities
from streams.ground import Ground
from streams.observe import Observer

ROOT = Path(__file__).resolve().parents[2]


def facts_of(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a benchmark; what it wrote as JSON."""
    file = folder / "facts.json"
    command = [sys.executable, ROOT / "benchmarks" / script, *arguments, "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(file.read_text())
    assert facts["machine"]["cores"]
    assert facts["versions"]["python"]
    return facts


def test_a_made_up_network_has_about_so_many_segments_and_every_shape_runs_over_streets_that_meet() -> None:
    network = load.grid(cities.load("hsl"), 1_000, 20, pieces_a_shape=30)
    s, shapes = network.segments, network.shapes
    assert 900 <= len(s) <= 1_100
    assert len(shapes) == 20
    assert sorted(s.segment_id) == s.segment_id
    for k in range(20):
        walk = shapes.piece_segment[shapes.piece_start[k] : shapes.piece_start[k + 1]]
        assert np.array_equal(s.to_node[walk[:-1]], s.from_node[walk[1:]])
        assert not np.any(s.opposite[walk[:-1]] == walk[1:])


def test_the_made_up_log_holds_every_message_once_in_order_of_receipt_within_a_partition() -> None:
    city = cities.load("hsl")
    fleet = Fleet(load.grid(city, 1_000, 20, pieces_a_shape=30), 40)
    last: dict[tuple[str, int], int] = {}
    messages = 0
    for feed, partition, envelope in load.envelopes(city, "hfp", fleet.seconds(7)):
        assert envelope.ingest_ms >= last.get((feed, partition), 0)
        last[feed, partition] = envelope.ingest_ms
        messages += len(envelope.items)
    assert messages == 7 * 40
    assert set(last) == {(f.name, p) for f in city.feeds for p in range(f.partitions)}


def test_every_message_of_the_made_up_fleet_is_accepted_and_nearly_all_are_on_their_shapes() -> None:
    city = cities.load("hsl")
    network = load.grid(city, 1_000_000 // 25, 20, pieces_a_shape=30)
    observers = {p: Observer(city, "hfp", p, Ground(network)) for p in range(city.feed("hfp").partitions)}
    for feed, partition, envelope in load.envelopes(city, "hfp", Fleet(network, 40).seconds(20)):
        if feed == "hfp":
            observers[partition].feed_envelope(envelope, 0)
    assert sum(o.tally.accepted for o in observers.values()) == 20 * 40
    assert sum(o.tally.on_shape for o in observers.values()) > 0.95 * 20 * 40


def test_growth_prints_a_row_a_point(tmp_path: Path) -> None:
    facts = facts_of("growth.py", tmp_path, "--vehicles", "30", "--segments", "1000", "--messages", "300")
    assert [(r["by"], r["vehicles"]) for r in facts["rows"]] == [("vehicles", 30), ("segments", 1500)]


@pytest.mark.kafka
def test_the_pipeline_benchmark_publishes_a_position_for_every_message(tmp_path: Path) -> None:
    facts = facts_of("pipeline.py", tmp_path, "--vehicles", "40", "--seconds", "8", "--repeat", "1", "--free", "--free-seconds", "5")
    assert facts["pipeline_published"]["vehicle-position"] == 40 * 8
    assert facts["free_matching_published"]["vehicle-position"] == 40 * 5
    assert facts["pipeline"] > 0
    assert facts["free_matching"] > 0
    assert {"decode", "encode", "publish"} == set(facts["steps_us"]["floor"])


@pytest.mark.kafka
def test_the_catch_up_benchmark_works_off_its_backlog(tmp_path: Path) -> None:
    facts = facts_of("catchup.py", tmp_path, "--messages", "400", "--vehicles", "40")
    assert facts["messages"] == 400
    assert facts["rss_mb"]


@pytest.mark.kafka
def test_the_connector_benchmark_loses_nothing(tmp_path: Path) -> None:
    facts = facts_of("connector.py", tmp_path, "--rate", "40", "--seconds", "3", "--repeat", "1", "--peer-messages", "200")
    assert facts["lost"] == [0]


@pytest.mark.kafka
def test_the_latency_benchmark_hears_every_position_on_both_ways(tmp_path: Path) -> None:
    facts = facts_of("latency.py", tmp_path, "--rates", "40", "--seconds", "9")
    ((rate),) = facts["rates"]
    assert rate["kafka"]["position_ms"]["count"] == rate["sse"]["position_ms"]["count"] > 100
