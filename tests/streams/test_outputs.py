"""Records that are made a part at a time are the same records in the same order."""

from __future__ import annotations

from streams.outputs import PART, Out, Outputs, Parted, parts


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
