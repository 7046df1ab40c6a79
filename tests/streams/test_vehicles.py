"""Slots, memory and order of the vehicles of one raw partition."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.vehicles import DUPLICATE, FORGET_MS, MEMORY, NEW, TOO_OLD, Vehicles

T = 1_773_120_600_000


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def codes(*values: int) -> Any:
    return np.array(values, np.int8)


def hear(v: Vehicles, name: str, log_ms: int = T) -> int:
    return int(v.slots_of([name], ints(log_ms))[0][0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 3)), max_size=200))
def test_an_event_is_new_once_then_a_duplicate_for_as_long_as_the_memory_reaches(events: list[tuple[int, int]]) -> None:
    """Against a plain list of the last ``MEMORY`` events."""
    v, memory = Vehicles(), []
    s = hear(v, "a")
    for second, event in events:
        key = (T + 1000 * second) * 32 + event
        want = DUPLICATE if key in memory else TOO_OLD if len(memory) == MEMORY and key < min(memory) else NEW
        assert v.recall(ints(s), ints(T + 1000 * second), codes(event))[0] == want
        if want == NEW:
            memory = [*memory, key][-MEMORY:]


def test_two_kinds_of_events_at_one_instant_are_two_events() -> None:
    v = Vehicles()
    s = hear(v, "a")
    assert v.recall(ints(s), ints(T), codes(0))[0] == NEW
    assert v.recall(ints(s), ints(T), codes(4))[0] == NEW
    assert v.recall(ints(s), ints(T), codes(4))[0] == DUPLICATE


def test_a_duplicate_does_not_push_events_out_of_memory() -> None:
    v = Vehicles()
    s = hear(v, "a")
    v.recall(ints(s), ints(T), codes(0))
    for _ in range(3 * MEMORY):
        assert v.recall(ints(s), ints(T), codes(0))[0] == DUPLICATE


def test_vehicles_do_not_share_memory() -> None:
    v = Vehicles()
    slots, _ = v.slots_of(["a", "b", "a"], ints(T, T, T))
    assert slots[0] == slots[2] != slots[1]
    assert v.recall(slots[:2], ints(T, T), codes(0, 0)).tolist() == [NEW, NEW]
    assert len(v) == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 400), max_size=60), max_size=12))
def test_every_vehicle_keeps_one_slot_however_many_there_are(calls: list[list[int]]) -> None:
    v, known = Vehicles(), dict[str, int]()
    for call in calls:
        names = [f"0018/{n:05}" for n in call]
        slots, unheard = v.slots_of(names, np.full(len(names), T))
        assert unheard == []
        for n, s in zip(names, slots.tolist(), strict=True):
            assert known.setdefault(n, s) == s
    assert len(set(known.values())) == len(known) == len(v)
    for n, s in known.items():
        assert v.ids[s] == n


def test_who_is_not_heard_for_half_an_hour_is_forgotten_and_its_slot_is_used_again_clean() -> None:
    v = Vehicles()
    a, b = hear(v, "a", T), hear(v, "b", T + FORGET_MS)
    v.recall(ints(a), ints(T), codes(0))
    v.doors[a], v.last_ms[a] = 1, T
    assert v.forget(T + FORGET_MS, ints()) == []
    assert v.forget(T + FORGET_MS + 1, ints(a)) == []  # its sums are still open
    assert v.forget(T + FORGET_MS + 1, ints()) == [a]
    assert len(v) == 1
    c = hear(v, "c", T + FORGET_MS + 2)
    assert c == a != b
    assert v.recall(ints(c), ints(T), codes(0))[0] == NEW
    assert v.doors[c] == -1


def test_state_goes_out_and_comes_back_whole_also_with_freed_slots() -> None:
    v = Vehicles()
    for k in range(70):
        s = hear(v, str(k), T + k)
        v.recall(ints(s), ints(T + k), codes(0))
    v.forget(T + FORGET_MS + 10, ints())
    w = Vehicles()
    w.restore(v.export())
    assert w.export() == v.export()
    assert hear(w, "new") == hear(v, "new")
    assert hear(w, "69") == hear(v, "69")
    assert w.recall(ints(hear(w, "69")), ints(T + 69), codes(0))[0] == DUPLICATE
    for k in range(200):  # and grows on
        assert hear(w, f"x{k}") == hear(v, f"x{k}")


def test_an_empty_state_goes_out_and_comes_back() -> None:
    w = Vehicles()
    w.restore(Vehicles().export())
    assert hear(w, "a") == 0
