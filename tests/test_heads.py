"""Subsets obey the laws of sets, keep the original numbering, and budgets are exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BadRecipe
from headcount.heads import Budget, Head, HeadMap, Site, Subset

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


@given(some_heads, st.data())
def test_top_is_exact_and_ties_go_to_the_first(heads: set[int], data: st.DataObject) -> None:
    a = of(heads)
    keep = data.draw(st.integers(0, len(a)))
    scores = data.draw(st.lists(st.floats(-1, 1), min_size=len(a), max_size=len(a)))
    top = a.top(scores, keep)
    assert len(top) == keep and top <= a
    score = dict(zip(a.indices, scores, strict=True))
    out = a - top
    assert not top or not out or min(score[i] for i in top.indices) >= max(score[i] for i in out.indices)
    assert a.top([0.0] * len(a), keep).indices == a.indices[:keep]


def test_budgets() -> None:
    assert Budget(5).resolve(MAP.all) == (MAP.all, 5)
    assert Budget(0.25).resolve(MAP.all)[1] == 3
    candidates, keep = Budget(0.5, "encoder").resolve(MAP.all)
    assert candidates == MAP.of_kind("encoder") and keep == 3
    fewer = MAP.all - MAP.subset({"enc.0": [0, 1]})
    assert Budget(0.5).resolve(fewer)[1] == 6  # a fraction of what the model was built with
    assert [Budget.parse(text).keep for text in ("12", "0.25", "25%", "1.0")] == [12, 0.25, 0.25, 1.0]
    assert isinstance(Budget.parse("1").keep, int)


@pytest.mark.parametrize(
    ("keep", "sites", "says"),
    [
        (13, None, "Cannot keep 13 of 12 heads. Give a number from 0 to 12"),
        (-1, None, "Cannot keep -1 of 12"),
        (1.5, None, "fraction in \\[0, 1\\]"),
        (7, "encoder", "Cannot keep 7 of 6 encoder heads"),
        (1, "middle", "Valid kinds: encoder, decoder, cross"),
        (True, None, "a number of heads or a fraction"),
    ],
)
def test_bad_budgets_say_what_is_allowed(keep: float, sites: str | None, says: str) -> None:
    with pytest.raises(BadRecipe, match=says):
        Budget(keep, sites).resolve(MAP.all)


def test_budget_counts_heads_that_are_left() -> None:
    with pytest.raises(BadRecipe, match=r"Cannot keep 12 of 11 heads \(1 of 12 are gone\)"):
        Budget(12).resolve(MAP.all - MAP.subset({"enc.0": [0]}))
    with pytest.raises(BadRecipe, match="Cannot read the budget 'many'"):
        Budget.parse("many")
