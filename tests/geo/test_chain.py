import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geo.chain import chain


def test_parts_in_order_become_one_line() -> None:
    parts = [np.array([[0.0, 0], [10, 0]]), np.array([[10.0, 0], [10, 10]]), np.array([[10.0, 10], [0, 10]])]
    assert [p.tolist() for p in chain(parts, 1.0)[0]] == [[[0, 0], [10, 0], [10, 10], [0, 10]]]


@given(st.integers(2, 12), st.randoms(use_true_random=False))
def test_shuffled_and_partly_reversed_parts_are_put_in_order(n: int, random: object) -> None:
    vertices = np.column_stack([np.arange(n + 1) * 10.0, np.zeros(n + 1)])
    parts = [vertices[i : i + 2] for i in range(n)]
    turned = [p[::-1] if i < (n - 1) // 2 else p for i, p in enumerate(parts)]
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert [p.tolist() for p in chain(turned, 1.0)[0]] == [vertices.tolist()]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25))
def test_every_part_is_driven_and_nothing_else(ends: list[tuple[int, int, int, int]]) -> None:
    parts = [np.array([[a * 10.0, b * 10.0], [c * 10.0, d * 10.0]]) for a, b, c, d in ends]
    driven, _ = chain(parts, 1.0)
    edges = [tuple(sorted((tuple(a), tuple(b)))) for line in driven for a, b in zip(line[:-1].tolist(), line[1:].tolist(), strict=True)]
    drawn = [tuple(sorted((tuple(p[0].tolist()), tuple(p[1].tolist())))) for p in parts]
    assert set(edges) == set(drawn)
    assert all(edges.count(edge) >= drawn.count(edge) for edge in drawn)


def test_a_stem_drawn_once_is_driven_to_the_loop_and_back() -> None:
    main = np.array([[0.0, 0], [300, 0], [600, 0]])
    stem = np.array([[300.0, 0], [300, 40]])
    loop = np.array([[300.0, 40], [350, 90], [250, 90], [300, 40]])
    (driven,), _ = chain([loop, main, stem], 1.0)
    assert driven[0].tolist() == [0.0, 0.0]
    assert driven[-1].tolist() == [600.0, 0.0]
    assert driven.tolist().count([300.0, 0.0]) == driven.tolist().count([300.0, 40.0]) == 2


def test_a_loop_that_hangs_on_the_middle_of_a_line_is_driven_where_it_hangs() -> None:
    main = np.array([[0.0, 0], [100, 0], [200, 0]])
    loop = np.array([[100.0, 0], [100, 50], [150, 50], [100, 0]])
    ((driven,), sure) = chain([loop, main], 1.0)
    assert not sure
    assert driven.tolist() in (
        [*main[:2].tolist(), *loop[1:].tolist(), main[2].tolist()],
        [*main[:2].tolist(), *loop[-2::-1].tolist(), main[2].tolist()],
    )


def test_of_two_runs_with_a_gap_one_is_turned_so_that_the_gap_is_short() -> None:
    one, two = np.array([[0.0, 0], [0, 100]]), np.array([[60.0, 0], [300, 0]])
    first, second = chain([one, two], 1.0)[0]
    assert (first.tolist(), second.tolist()) == (one[::-1].tolist(), two.tolist())
