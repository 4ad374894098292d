"""Iterative removal: the budget is never undershot, the lowest leave, a few at a time, and not too many of a site."""

from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headcount.methods.removal import remove_lowest
from headcount.units.choice import reachable, units_of
from headcount.units.map import HeadMap, Site, Subset
from maps import GROUPED, MAP, MIXED

moderate = settings(max_examples=50, deadline=None, derandomize=True)
ONE_SIZE = [(MAP, "group"), (GROUPED, "group"), (GROUPED, "query")]
ROW = HeadMap((Site("a", "encoder", 0, 4, 4, 8), Site("b", "encoder", 1, 2, 2, 8)))


def draw_left(data: st.DataObject, head_map: HeadMap, unit: str) -> tuple[Subset, list[float], int]:
    """Whole units of a head map, whole scores with ties for their heads, and a number that units of them add up to."""
    units = units_of(head_map.all, unit)
    gone = data.draw(st.sets(st.sampled_from(units), max_size=len(units) - 1))
    chosen = [heads for heads in units if heads not in gone]
    left = Subset(head_map, tuple(sorted(index for heads in chosen for index in heads)))
    scores = data.draw(st.lists(st.integers(-5, 5).map(float), min_size=len(left), max_size=len(left)))
    return left, scores, data.draw(st.sampled_from(reachable([len(heads) for heads in chosen])))


@pytest.mark.parametrize(("head_map", "unit"), ONE_SIZE)
@moderate
@given(data=st.data(), step=st.sampled_from([1, 2, 3, 5, 9]), most=st.sampled_from([None, 1, 2]))
def test_laws(head_map: HeadMap, unit: str, data: st.DataObject, step: int, most: int | None) -> None:
    left, scores, keep = draw_left(data, head_map, unit)
    units = units_of(left, unit, scores)
    size = len(units[0])
    out = remove_lowest(left, scores, keep, step, unit, most)
    assert out <= left and len(out) >= keep
    stay = [heads for heads in units if set(heads) <= set(out.indices)]
    leave = [heads for heads in units if not set(heads) & set(out.indices)]
    assert len(stay) + len(leave) == len(units)  # whole units
    # As many as were asked for, in whole units, but never more than may go.
    wanted = min(-(-step // size), (len(left) - keep) // size)
    score = dict(zip(left.indices, scores, strict=True))

    def mean(heads: tuple[int, ...]) -> float:
        return fmean(score[index] for index in heads)

    def site(heads: tuple[int, ...]) -> str:
        return head_map.head(heads[0]).site

    gone = {name: sum(site(heads) == name for heads in leave) for name in map(site, units)}
    if most is None:
        assert len(leave) == wanted
    else:
        assert len(leave) == min(wanted, sum(min(most, sum(site(h) == name for h in units)) for name in gone))
        assert max(gone.values()) <= most
    for low in leave:
        for high in stay:  # a lower one stays only where its site has given all it may
            assert mean(low) <= mean(high) or (site(high) != site(low) and gone[site(high)] == most)


@pytest.mark.parametrize(("head_map", "unit"), [*ONE_SIZE, (MIXED, "group"), (MIXED, "query")])
@moderate
@given(data=st.data(), step=st.sampled_from([1, 2, 3, 5, 9]), most=st.sampled_from([None, 1, 2]))
def test_again_and_again_ends_exactly_at_the_budget(
    head_map: HeadMap, unit: str, data: st.DataObject, step: int, most: int | None
) -> None:
    left, scores, keep = draw_left(data, head_map, unit)
    score = dict(zip(left.indices, scores, strict=True))
    while len(left) > keep:
        out = remove_lowest(left, [score[index] for index in left.indices], keep, step, unit, most)
        assert out <= left and keep <= len(out) < len(left)
        left = out
    assert len(left) == keep
    assert remove_lowest(left, [score[index] for index in left.indices], keep, step, unit, most) == left


def test_by_hand() -> None:
    """Six heads, worst first: a2, a0, a3, b1, a1, b0."""
    scores, left = [2.0, 5.0, 1.0, 3.0, 6.0, 4.0], ROW.all
    assert remove_lowest(left, scores, 0, 1, "group") == left - ROW.subset({"a": [2]})
    assert remove_lowest(left, scores, 0, 3, "group") == ROW.subset({"a": [1], "b": [0, 1]})
    assert remove_lowest(left, scores, 4, 3, "group") == ROW.subset({"a": [1, 3], "b": [0, 1]})  # the budget is 4
    assert remove_lowest(left, scores, 0, 3, "group", 1) == ROW.subset({"a": [0, 1, 3], "b": [0]})
    assert remove_lowest(left, scores, 0, 3, "group", 2) == ROW.subset({"a": [1, 3], "b": [0]})
    assert remove_lowest(left, scores, 6, 3, "group") == left


def test_groups_by_hand() -> None:
    """Units of three, with means 7/3, 4, 1 and 3: five heads are two units, unless the budget leaves room for one."""
    scores = [1.0, 0.0, 6.0, 5.0, 4.0, 3.0, 1.5, 1.0, 0.5, 9.0, 0.5, -0.5]
    assert remove_lowest(GROUPED.all, scores, 0, 1, "group") == GROUPED.subset({"a": range(6), "b": [3, 4, 5]})
    assert remove_lowest(GROUPED.all, scores, 0, 5, "group") == GROUPED.subset({"a": [3, 4, 5], "b": [3, 4, 5]})
    assert remove_lowest(GROUPED.all, scores, 9, 5, "group") == GROUPED.subset({"a": range(6), "b": [3, 4, 5]})
    # One of each group, by rank: at a (2, 3), (0, 4) and (1, 5) with means 5.5, 2.5 and 1.5; at b (0, 3), (1, 4) and
    # (2, 5) with means 5.25, 0.75 and 0.
    assert remove_lowest(GROUPED.all, scores, 0, 4, "query") == GROUPED.subset({"a": range(6), "b": [0, 3]})
    assert remove_lowest(GROUPED.all, scores, 0, 4, "query", 1) == GROUPED.subset(
        {"a": [0, 2, 3, 4], "b": [0, 1, 3, 4]}
    )


@pytest.mark.parametrize("most", [None, 1, 2])
def test_among_equals_the_last_leaves(most: int | None) -> None:
    """Ties go to the head that comes first, as everywhere: it stays."""
    assert remove_lowest(ROW.subset({"a": range(4)}), [0.0] * 4, 0, 1, "group", most).at("a") == [0, 1, 2]


def test_no_site_gives_more_than_it_may_beside_units_of_another_size() -> None:
    """Three heads one by one, and four that go together, to the budget of four: a loses its heads one at a time."""
    both = HeadMap((Site("a", "encoder", 0, 3, 3, 8), Site("b", "decoder", 0, 4, 1, 8)))
    out = remove_lowest(both.all, [1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 9.0], 4, 3, "group", 1)
    assert out == both.subset({"a": [1, 2], "b": range(4)})
