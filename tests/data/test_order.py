"""The order of examples: permutations in one stream, any stretch of which can be had; little padding, no curriculum.

One by one, and in batches of so many tokens.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from headcount.data.order import POOL, Batches, BatchOrder, ExampleOrder, token_batches

moderate = settings(max_examples=40, deadline=None, derandomize=True)
SIZE = 8
LENGTHS: list[int] = np.random.default_rng(0).integers(4, 100, 2 * POOL * SIZE + 3 * SIZE + 5).tolist()
"""More than two pools, the last one short, and the last batch of an epoch not full."""
lengths = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def batched(order: Sequence[int]) -> list[Sequence[int]]:
    """The batches that a loader cuts from a stream."""
    return [order[start : start + SIZE] for start in range(0, len(order), SIZE)]


def padding(order: Sequence[int]) -> float:
    """Padding as a share of what is not."""
    batches = [[LENGTHS[i] for i in batch] for batch in batched(order)]
    return sum(max(batch) * len(batch) for batch in batches) / sum(sum(batch) for batch in batches) - 1


def epoch(number: int = 0, seed: int = 1, by_length: bool = True, of: Sequence[int] = LENGTHS) -> list[int]:
    return list(ExampleOrder(of, SIZE, seed, count=len(of), skip=number * len(of), by_length=by_length))


@moderate
@given(lengths, st.integers(1, 8), st.integers(0, 999), st.booleans())
def test_every_epoch_is_a_permutation(of: list[int], size: int, seed: int, by_length: bool) -> None:
    stream = list(ExampleOrder(of, size, seed, count=3 * len(of), by_length=by_length))
    for start in range(0, len(stream), len(of)):
        assert sorted(stream[start : start + len(of)]) == list(range(len(of)))


@moderate
@given(lengths, st.integers(1, 8), st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_any_stretch_is_that_of_the_stream(of: list[int], size: int, skip: int, count: int, by_length: bool) -> None:
    """Shorter or longer than an epoch, begun in the middle of one or of a batch."""
    stretch = ExampleOrder(of, size, 5, count, skip, by_length)
    whole = list(ExampleOrder(of, size, 5, skip + count, by_length=by_length))
    assert len(stretch) == count and list(stretch) == whole[skip:] == list(stretch)


@pytest.mark.parametrize("by_length", [True, False])
def test_the_seed_and_the_epoch_make_the_order(by_length: bool) -> None:
    first = epoch(0, seed=1, by_length=by_length)
    np.random.seed(3)  # NumPy's global state has no say
    assert epoch(0, seed=1, by_length=by_length) == first
    others = [epoch(number, seed, by_length) for number, seed in [(1, 1), (0, 2), (1, 0), (0, 0)]]
    for one, other in itertools.combinations([first, *others], 2):
        assert one != other
        # No two orders are alike even in part: a chance meeting is one in 800 examples a place.
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 15


def test_random_order_looks_at_no_length() -> None:
    assert epoch(by_length=False) == epoch(by_length=False, of=[1] * len(LENGTHS))
    assert epoch() != epoch(of=[1] * len(LENGTHS))


def test_little_padding_in_every_epoch_of_a_stream() -> None:
    """The batches that a loader cuts from a stream of several epochs, each of which ends with a batch not full."""
    stream = list(ExampleOrder(LENGTHS, SIZE, 1, count=4 * len(LENGTHS)))
    random = list(ExampleOrder(LENGTHS, SIZE, 1, count=4 * len(LENGTHS), by_length=False))
    assert padding(stream) < 0.15 * padding(random)


def test_batches_come_in_no_order_of_length() -> None:
    longest = [max(LENGTHS[i] for i in batch) for batch in batched(epoch())]
    rises = sum(a < b for a, b in itertools.pairwise(longest))
    assert 0.4 < rises / len(longest) < 0.6
    # Nor do the halves of an epoch differ: means of 50 batches of some 50 +- 28 tokens.
    assert abs(np.mean(longest[: len(longest) // 2]) - np.mean(longest[len(longest) // 2 :])) < 20


def test_batches_by_hand() -> None:
    """Ten examples in batches of four: the four longest, the next four, in either order, and the two shortest last."""
    of = [3, 10, 7, 1, 9, 4, 6, 8, 2, 5]
    first, second, last = {1, 4, 7, 2}, {6, 9, 5, 0}, [8, 3]
    seen = set()
    for seed in range(8):
        order = list(ExampleOrder(of, 4, seed, count=10))
        assert {frozenset(order[:4]), frozenset(order[4:8])} == {frozenset(first), frozenset(second)}
        assert order[8:] == last
        seen.add(order[0] in first)
    assert seen == {True, False}


def test_less_than_a_batch() -> None:
    assert list(ExampleOrder([1, 3, 2], 4, seed=0, count=3)) == [1, 2, 0]
    assert list(ExampleOrder([1, 3, 2], 4, seed=0, count=5)) == [1, 2, 0, 0, 1]
    assert list(ExampleOrder([1, 3, 2], 4, seed=0, count=0)) == []


TOKENS = 400
budgets = st.integers(1, 90)


def flat(batches: Sequence[Sequence[int]]) -> list[int]:
    return [int(example) for batch in batches for example in batch]


def padded(batch: Sequence[int], of: Sequence[int]) -> int:
    """Tokens of a batch, padding included."""
    return max(of[i] for i in batch) * len(batch)


def waste(batches: Sequence[Sequence[int]]) -> float:
    """Padding as a share of what is not."""
    return sum(padded(batch, LENGTHS) for batch in batches) / sum(LENGTHS[i] for i in flat(batches)) - 1


@moderate
@given(lengths, budgets, st.integers(0, 999))
def test_batches_of_tokens_are_filled_in_order(of: list[int], tokens: int, seed: int) -> None:
    """As long as the next example fits; one that is too long goes alone."""
    order = np.random.default_rng(seed).permutation(len(of))
    batches = token_batches(np.asarray(of), order, tokens)
    assert flat(batches) == order.tolist()
    for batch, after in itertools.pairwise([*batches, []]):
        assert len(batch) == 1 or padded(batch, of) <= tokens
        assert not len(after) or padded([*batch, after[0]], of) > tokens


def test_batches_of_tokens_by_hand() -> None:
    of = np.array([3, 3, 4, 9, 12, 2, 2, 2, 2, 2])
    found = [batch.tolist() for batch in token_batches(of, np.arange(10), 9)]
    assert found == [[0, 1], [2], [3], [4], [5, 6, 7, 8], [9]]
    found = [batch.tolist() for batch in token_batches(of, np.array([4, 9, 0, 8, 1, 7, 3, 6, 5, 2]), 9)]
    assert found == [[4], [9, 0, 8], [1, 7], [3], [6, 5], [2]]  # three of three are nine
    assert token_batches(of[:0], np.arange(0), 9) == []


@moderate
@given(lengths, budgets, st.integers(0, 999), st.booleans())
def test_every_epoch_of_batches_has_every_example_once(of: list[int], tokens: int, seed: int, by_length: bool) -> None:
    order = BatchOrder(of, tokens, seed, by_length=by_length)
    for batches in map(order.epoch, range(3)):
        assert sorted(flat(batches)) == list(range(len(of)))
        assert all(padded(batch, of) <= tokens or len(batch) == 1 for batch in batches)


@moderate
@given(lengths, budgets, st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_any_stretch_of_batches_is_that_of_the_stream(
    of: list[int], tokens: int, skip: int, count: int, by_length: bool
) -> None:
    """Shorter or longer than an epoch, empty, begun in the middle of one; the stream is epoch after epoch."""
    stretch = BatchOrder(of, tokens, 5, count, skip, by_length)
    epochs = (stretch.epoch(number) for number in itertools.count())
    stream = (tuple(batch.tolist()) for batches in epochs for batch in batches)
    assert list(stretch) == list(itertools.islice(stream, skip, skip + count)) == list(stretch)
    assert len(stretch) == count


@pytest.mark.parametrize("by_length", [True, False])
def test_the_seed_and_the_epoch_make_the_batches(by_length: bool) -> None:
    def drawn(seed: int, number: int) -> list[list[int]]:
        return [batch.tolist() for batch in BatchOrder(LENGTHS, TOKENS, seed, by_length=by_length).epoch(number)]

    first = drawn(1, 0)
    np.random.seed(3)  # NumPy's global state has no say
    assert drawn(1, 0) == first
    others = [drawn(seed, number) for seed, number in [(1, 1), (2, 0), (0, 1), (0, 0)]]
    for one, other in itertools.combinations([first, *others], 2):
        # Neither the order of the batches nor who shares one: hardly a batch is in both.
        assert len({frozenset(batch) for batch in one} & {frozenset(batch) for batch in other}) < 0.1 * len(one)


def test_random_batches_look_at_lengths_for_their_size_only() -> None:
    one, other = (flat(BatchOrder(of, TOKENS, 1, by_length=False).epoch(0)) for of in (LENGTHS, [1] * len(LENGTHS)))
    assert one == other and flat(BatchOrder(LENGTHS, TOKENS, 1).epoch(0)) != one


def test_grouped_batches_have_little_padding() -> None:
    grouped, random = (BatchOrder(LENGTHS, TOKENS, 1, by_length=by_length) for by_length in (True, False))
    for number in range(3):
        assert waste(grouped.epoch(number)) < 0.1 * waste(random.epoch(number))
        assert len(grouped.epoch(number)) < 0.8 * len(random.epoch(number))  # what is not padding has the room


def test_batches_of_tokens_come_in_no_order_of_length() -> None:
    longest = [max(LENGTHS[i] for i in batch) for batch in BatchOrder(LENGTHS, TOKENS, 1).epoch(0)]
    rises = sum(a < b for a, b in itertools.pairwise(longest))
    assert 0.4 < rises / len(longest) < 0.6
    assert abs(np.mean(longest[: len(longest) // 2]) - np.mean(longest[len(longest) // 2 :])) < 20


@pytest.mark.parametrize("by_length", [True, False])
def test_a_loader_gives_batches_of_rows(by_length: bool) -> None:
    data = Dataset.from_dict({"text": [f"row {i}" for i in range(30)], "ids": [[i] * (i % 7) for i in range(30)]})
    batches, order = Batches(data), BatchOrder([1 + i % 7 for i in range(30)], 12, 0, 25, 3, by_length)
    loader = DataLoader(batches, batch_size=1, sampler=order, collate_fn=lambda found: found[0])
    assert list(loader) == [[data[i] for i in batch] for batch in order] and len(loader) == 25
    assert batches[(7, 3, 7)] == [data[7], data[3], data[7]] and batches[()] == [] and len(batches) == 30
