"""Records that are made a part at a time are the same records in the same order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from streams.outputs import PART, Block, Out, Outputs, Parted, parts, since


def made(n: int, name: str, asked: list[int] | None = None) -> Parted:
    def make(a: int, b: int) -> list[Out]:
        if asked is not None:
            asked.append(b - a)
        return [Out(b"k", b"v", k, f"{name}:{k}") for k in range(a, b)]

    return Parted(n, make)


def test_parts_keep_the_order_of_what_was_added_whether_made_at_once_or_later() -> None:
    out, other = Outputs(), Outputs()
    first, last = list(made(2, "first")), list(made(1, "last"))
    out.add("p", first)
    other.add("p", made(PART + 1, "many"))
    other.add("p", last)
    out.extend(other)
    want = [*first, *made(PART + 1, "many"), *last]
    assert list(out.records["p"]) == want
    assert [o for part in parts(out.records["p"]) for o in part] == want
    assert len(out) == len(want) == PART + 4
    assert (out.records["p"][0], out.records["p"][-1]) == (want[0], want[-1])
    assert len(first) == 2, "what was added is not written to"


def test_no_more_than_a_part_is_made_at_a_time_and_nothing_before_it_is_read() -> None:
    asked: list[int] = []
    out = Outputs()
    out.add("p", made(2 * PART + 5, "many", asked))
    assert asked == []
    assert sum(1 for _ in parts(out.records["p"])) == 3
    assert asked == [PART, PART, 5]


def test_nothing_is_no_record() -> None:
    out = Outputs()
    out.add("p", made(0, "none"))
    out.add("q", [])
    assert not out.records


def test_what_is_older_is_left_out_and_windows_as_a_whole_are_not_made_for_it() -> None:
    asked: list[int] = []

    def of(ms: int) -> Parted:
        def make(a: int, b: int) -> list[Out]:
            asked.append(b - a)
            return [Out(b"k", b"v", ms, f"{ms}:{k}") for k in range(a, b)]

        return Parted(2 * PART, make)

    mixed = [Out(b"k", b"v", ms, f"mixed:{ms}") for ms in (1, 2, 5, 9)]
    kept = since(of(4) + mixed + of(6), 5)
    assert len(kept) == 2 * PART + 2
    assert max(asked) == 1
    assert [o.time_ms for o in kept] == [5, 9] + [6] * (2 * PART)
    text = pa.array(["a", "b", "c", "d"])
    block = since(Block(text, text, np.array([1, 5, 4, 9]), text), 5)
    assert [(o.key, o.time_ms) for o in block] == [(b"b", 5), (b"d", 9)]
    assert since(mixed, 5) == mixed[2:]
