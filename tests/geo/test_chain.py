import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geo.chain import chain


def test_parts_in_order_become_one_line() -> None:
    parts = [np.array([[0.0, 0], [10, 0]]), np.array([[10.0, 0], [10, 10]]), np.array([[10.0, 10], [0, 10]])]
    assert [p.tolist() for p in chain(parts, 1.0)] == [[[0, 0], [10, 0], [10, 10], [0, 10]]]


@given(st.integers(2, 12), st.randoms(use_true_random=False))
def test_shuffled_and_partly_reversed_parts_are_put_in_order(n: int, random: object) -> None:
    vertices = np.column_stack([np.arange(n + 1) * 10.0, np.zeros(n + 1)])
    parts = [vertices[i : i + 2] for i in range(n)]
    turned = [p[::-1] if i < (n - 1) // 2 else p for i, p in enumerate(parts)]
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert [p.tolist() for p in chain(turned, 1.0)] == [vertices.tolist()]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25))
def test_every_part_is_driven_exactly_once(ends: list[tuple[int, int, int, int]]) -> None:
    parts = [np.array([[a * 10.0, b * 10.0], [c * 10.0, d * 10.0]]) for a, b, c, d in ends]
    driven = chain(parts, 1.0)
    edges = [tuple(sorted((tuple(a), tuple(b)))) for line in driven for a, b in zip(line[:-1].tolist(), line[1:].tolist(), strict=True)]
    assert sorted(edges) == sorted(tuple(sorted((tuple(p[0].tolist()), tuple(p[1].tolist())))) for p in parts)
