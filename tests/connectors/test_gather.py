"""Messages become envelopes: never too large, never too late, time never falls."""

from __future__ import annotations

import zlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connectors.cities import load
from connectors.envelope import MAX_BYTES, MAX_ITEMS, Item, Source
from connectors.gather import Gatherer, partition_of

CITY = load("helsinki")
HFP = CITY.feed("hfp")


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 70_000), st.sampled_from("mmmmmst"))))
def test_nothing_is_lost_or_reordered_and_limits_hold(moves: list[tuple[int, int, str]]) -> None:
    g = Gatherer(CITY, HFP, 0, max_items=7)
    out = []
    for k, (now, size, move) in enumerate(moves):
        item = Item(now, str(k), b"x" * size)
        out += {"m": lambda i: g.add(i), "s": lambda i: g.snapshot(i), "t": lambda i: g.tick(i.ingest_ms, Source())}[move](item)
    out += g.flush()
    assert g.due_ms is None
    assert [int(i.topic) for e in out for i in e.items] == [k for k, m in enumerate(moves) if m[2] != "t"]
    assert [e.kind for e in out].count("tick") == sum(m[2] == "t" for m in moves)
    times = [t for e in out for t in ([i.ingest_ms for i in e.items] or [e.ingest_ms])]
    assert times == sorted(times)
    for e in out:
        assert len(e.items) <= 7
        assert len(e.items) <= 1 or sum(len(i.body) + len(i.topic) for i in e.items) <= MAX_BYTES


def test_an_envelope_is_full_at_its_number_of_items() -> None:
    g = Gatherer(CITY, HFP, 2)
    out = [e for k in range(MAX_ITEMS + 1) for e in g.add(Item(5 + k, "t", b"{}"))]
    assert [(len(e.items), e.kind, e.ingest_ms, e.feed, e.family) for e in out] == [(MAX_ITEMS, "messages", 4 + MAX_ITEMS, "hfp", "hfp")]
    assert g.due_ms == 5 + MAX_ITEMS + 250


def test_simulated_data_says_so_in_every_envelope() -> None:
    g = Gatherer(CITY, msgspec.structs.replace(HFP, simulated=True), 0)
    g.add(Item(1, "t", b"{}"))
    assert [e.simulated for e in g.tick(2, Source())] == [True, True]


def test_a_vehicle_stays_in_its_partition_whatever_it_says() -> None:
    topic = "/hfp/v2/journey/ongoing/vp/bus/0018/00423/2550/1/Itäkeskus/07:24/1000018/0/60;24/19/75/80"
    others = [topic.replace("/vp/", "/ars/"), "/hfp/v2/deadrun/ongoing/vp/bus/0018/00423", topic.replace("2550", "1010")]
    assert {partition_of(HFP, t) for t in [topic, *others]} == {zlib.crc32(b"0018/00423") % 4}
    assert len({partition_of(HFP, topic.replace("00423", f"{n:05}")) for n in range(100)}) == 4
