"""That a step keeps what its state says, and no more: memory that nobody can reach any more grows all the same when a library miscounts."""

from __future__ import annotations

import gc
from collections import Counter

from benchmarks import load
from benchmarks.fleet import Fleet
from connectors import cities
from streams.ground import Ground
from streams.observe import Observer


def test_nothing_of_a_message_stays_once_its_positions_are_written() -> None:
    city = cities.load("hsl")
    network = load.grid(city, 1_000, 20, pieces_a_shape=30)
    observers = {p: Observer(city, "hfp", p, Ground(network)) for p in range(city.feed("hfp").partitions)}

    def alive() -> Counter[str]:
        gc.collect()
        return Counter(type(o).__name__ for o in gc.get_objects())

    before, positions = alive(), 0
    for feed, partition, envelope in load.envelopes(city, "hfp", Fleet(network, 40).seconds(20)):
        if feed == "hfp":
            positions += len(observers[partition].feed_envelope(envelope, 0).records.get("vehicle-position", ()))
    assert positions == 40 * 20
    more = alive() - before
    assert more["map"] + more["list_iterator"] <= 2, "iterators that nobody reads any more"
