"""Subsets obey the laws of sets and keep the original numbering."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BadRecipe
from headcount.units.map import Head, HeadMap, Site, Subset

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


def _through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


@pytest.mark.parametrize("heads", [(1, 3), {1, 3}, np.array([3, 1]), torch.tensor([1, 3])])
def test_heads_are_whole_numbers_of_any_library(heads: Any) -> None:
    kept = MAP.subset({"enc.0": heads})
    assert kept == MAP.subset({"enc.0": [1, 3]}) and json.dumps(kept.to_json())


@pytest.mark.parametrize(
    ("heads", "says"),
    [
        ([True, False, True, True], "Got a mask"),
        (np.array([True, False, True, True]), "Got a mask"),
        (torch.tensor([True, False, True, True]), "Got a mask"),
        ([1.0], "are whole numbers"),
        (["0"], "are whole numbers"),
        (1, "are whole numbers"),
        (None, "are whole numbers"),
    ],
)
def test_what_is_no_list_of_heads_is_refused(heads: Any, says: str) -> None:
    with pytest.raises(BadRecipe, match=says):
        MAP.subset({"enc.0": heads})


def test_a_head_that_the_model_does_not_have_is_in_no_subset() -> None:
    whole = of(set(range(4)))
    name = whole.head_map.sites[0].name
    assert Head(name, 0) in whole and Head(name, 99) not in whole and Head("nowhere", 0) not in whole


def test_kinds_are_known() -> None:
    with pytest.raises(BadRecipe, match="Got kind 'encoderr'"):
        MAP.all.counts("encoderr")


@given(some_heads)
def test_json_gives_the_same_subset(heads: set[int]) -> None:
    a = of(heads)
    assert HeadMap.from_json(_through_json(MAP.to_json())).subset(_through_json(a.to_json())) == a
