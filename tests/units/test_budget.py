"""Budgets are met exactly, in whole units; what cannot be met says what can."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BadRecipe
from headcount.units.budget import Budget
from headcount.units.choice import reachable, spread, top, units_of
from headcount.units.map import HeadMap, Subset
from maps import GROUPED, MAP, MIXED

some_heads = st.sets(st.integers(0, 11))


def of(heads: set[int]) -> Subset:
    return Subset(MAP, tuple(sorted(heads)))


@given(some_heads, st.data())
def test_top_is_exact_and_ties_go_to_the_first(heads: set[int], data: st.DataObject) -> None:
    a = of(heads)
    keep = data.draw(st.integers(0, len(a)))
    scores = data.draw(st.lists(st.floats(-1, 1), min_size=len(a), max_size=len(a)))
    best = top(a, scores, keep)
    assert len(best) == keep and best <= a
    score = dict(zip(a.indices, scores, strict=True))
    out = a - best
    assert not best or not out or min(score[i] for i in best.indices) >= max(score[i] for i in out.indices)
    assert top(a, [0.0] * len(a), keep).indices == a.indices[:keep]


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


def test_units_are_groups_or_one_head_of_each_group() -> None:
    assert units_of(MAP.all) == [(i,) for i in range(12)]
    assert units_of(GROUPED.all) == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)]
    assert units_of(GROUPED.all, "query") == [(0, 3), (1, 4), (2, 5), (6, 9), (7, 10), (8, 11)]
    scores = [1.0, 3.0, 2.0, 9.0, 7.0, 8.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]
    assert units_of(GROUPED.all, "query", scores)[:3] == [(1, 3), (2, 5), (0, 4)]  # the r-th best of each group
    left = GROUPED.subset({"a": [0, 2, 3, 5], "b": []})
    assert units_of(left) == [(0, 2), (3, 5)] and units_of(left, "query") == [(0, 3), (2, 5)]


@given(some_heads, st.data())
def test_what_is_spread_is_even_whatever_is_left(heads: set[int], data: st.DataObject) -> None:
    a = of(heads)
    kept = spread(a, data.draw(st.integers(0, len(a))))
    assert kept <= a
    for site, count in zip(MAP.sites, kept.counts(), strict=True):
        assert kept.at(site.name) == a.at(site.name)[:count]  # the first it has
        # No other site has two more, unless this one has nothing left to give.
        assert count == len(a.at(site.name)) or max(kept.counts()) <= count + 1


def test_spreading_whole_units() -> None:
    left = GROUPED.subset({"a": [3, 4, 5], "b": [0, 1, 2, 3, 4, 5]})
    assert spread(left, 6).to_json() == {"a": [3, 4, 5], "b": [0, 1, 2]}
    assert spread(GROUPED.all, 4, "query").to_json() == {"a": [0, 3], "b": [0, 3]}


@given(st.sampled_from([GROUPED, MIXED]), st.sampled_from(["group", "query"]), st.data())
def test_top_of_units_is_exact_and_whole(head_map: HeadMap, unit: str, data: st.DataObject) -> None:
    everything = head_map.all
    scores = data.draw(st.lists(st.floats(-1, 1), min_size=len(everything), max_size=len(everything)))
    keep = data.draw(st.sampled_from(reachable([len(heads) for heads in units_of(everything, unit)])))
    best = top(everything, scores, keep, unit)
    assert len(best) == keep
    for heads in units_of(everything, unit, scores):
        assert len(set(heads) & set(best.indices)) in (0, len(heads))


@given(st.lists(st.integers(1, 5), max_size=6))
def test_reachable_numbers_are_those_of_some_sizes(sizes: list[int]) -> None:
    by_force = {sum(some) for n in range(len(sizes) + 1) for some in itertools.combinations(sizes, n)}
    assert reachable(sizes) == sorted(by_force)


def test_a_budget_that_units_cannot_meet_says_which_can() -> None:
    with pytest.raises(BadRecipe, match=r"exactly 7 of 12 heads.*nearest budgets are 6 and 9\."):
        Budget(7).resolve(GROUPED.all)
    with pytest.raises(BadRecipe, match="nearest budgets are 8 and 10, or set unit to 'group'"):
        Budget(9, unit="query").resolve(GROUPED.all)
    with pytest.raises(BadRecipe, match="nearest budgets are 6 and 9, or set unit to 'query'"):
        Budget(8).resolve(GROUPED.all)
    with pytest.raises(BadRecipe, match="Got unit 'row'. Valid units: group, query"):
        Budget(7, unit="row")
    assert Budget(0.6).resolve(GROUPED.all)[1] == 6  # 7.2 heads: a fraction goes to the nearest
    assert Budget(0.6, unit="query").resolve(GROUPED.all)[1] == 8
    assert Budget(7).resolve(MIXED.all)[1] == 7  # one group of four and three single heads


def test_a_unit_that_would_make_the_budget_impossible_is_passed_over() -> None:
    # The best single head would leave 4 to fill: the groups have 4 each, so of 5 heads one is single.
    scores = [0.9, 0.8, 0.7, *[1.0] * 4, *[0.5] * 4]
    assert top(MIXED.all, scores, 8).indices == tuple(range(3, 11))
    assert top(MIXED.all, scores, 5).indices == (0, 3, 4, 5, 6)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_choose_nothing(score: float) -> None:
    with pytest.raises(BadRecipe, match=r"scores of 1 of 12 heads are not finite, that of \S+:\d among them"):
        top(MAP.all, [*map(float, range(11)), score], 4)
