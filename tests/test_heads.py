"""Subsets obey the laws of sets and keep the original numbering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.heads import Head, HeadMap, Site, Subset

MAP = HeadMap(
    (
        Site("enc.0", "encoder", 0, 4, 4, 8),
        Site("enc.1", "encoder", 1, 2, 2, 16),
        Site("dec.0", "decoder", 0, 3, 3, 8),
        Site("cross.0", "cross", 0, 3, 1, 8),
    )
)
some_heads = st.sets(st.integers(0, 11))


def of(heads: set[int]) -> Subset:
    return Subset(MAP, tuple(sorted(heads)))


def test_flat_index_runs_site_after_site() -> None:
    assert len(MAP) == 12
    assert [MAP.index(Head("enc.1", 0)), MAP.index(Head("cross.0", 2))] == [4, 11]
    assert all(MAP.index(MAP.head(index)) == index for index in range(12))
    with pytest.raises(IndexError, match="heads 0 to 1, got 2"):
        MAP.index(Head("enc.1", 2))
    with pytest.raises(KeyError, match="No site 'x'"):
        MAP.index(Head("x", 0))


def test_prints_as_the_papers_do() -> None:
    kept = MAP.subset({"enc.0": [3, 1], "dec.0": [2]})
    assert str(kept) == "encoder 2 0 | decoder 1 | cross 0"
    only = HeadMap(MAP.sites[:2])
    assert str(only.subset({"enc.0": [0, 1, 2], "enc.1": [1]})) == "3 1"


@given(some_heads, some_heads)
def test_set_algebra(first: set[int], second: set[int]) -> None:
    a, b = of(first), of(second)
    assert len(a | b) == len(a) + len(b) - len(a & b)
    assert ~(a | b) == ~a & ~b
    assert (a - b) == a & ~b and (a & b) <= a <= (a | b)
    assert len(a) + len(~a) == len(MAP)
    assert sum(a.counts()) == len(a) == len(list(a))
    assert all(head in a for head in a) and not any(head in a for head in ~a)


@given(some_heads)
def test_json_gives_the_same_subset(heads: set[int]) -> None:
    a = of(heads)
    assert Subset.loads(a.dumps()) == a
    assert MAP.subset(a.to_json()) == a
