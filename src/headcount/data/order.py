"""The order of examples in training, in batches of a number of examples or tokens."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from datasets import Dataset
from jaxtyping import Int
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

POOL = 50
"""The number of batches that are sorted by length together. More would reduce both padding and randomness."""


class ExampleOrder(Sampler[int]):
    """A sampler that gives a part of an endless stream of examples, in random order in each epoch.

    With `by_length`, examples of similar length share a batch, which saves padding. The batches are shuffled, because
    batches sorted from long to short would be an unintended curriculum. The order depends on the seed alone, so any
    part of the stream can be reproduced.

    Args:
        lengths: The length of each example.
        batch_size: The number of examples in a batch.
        seed: The seed of the order.
        count: The number of examples to give.
        skip: The number of examples to skip first. It must be whole batches, or later batches mix lengths.
        by_length: Whether to group examples by length.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, count: int, skip: int = 0, by_length: bool = True
    ) -> None:
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.count, self.skip, self.by_length = count, skip, by_length

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        end, examples = self.skip + self.count, len(self.lengths)
        for epoch in range(self.skip // examples, -(-end // examples)):
            start = epoch * examples
            order = self._epoch(epoch)
            yield from order[max(0, self.skip - start) : end - start].tolist()

    def _epoch(self, epoch: int) -> Int[np.ndarray, " example"]:
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.lengths))
        if not self.by_length:
            return order
        size = POOL * self.batch_size
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        by_length = np.concatenate([pool[np.argsort(-self.lengths[pool], kind="stable")] for pool in pools])
        # A batch can span two epochs. The examples that complete the last batch of the previous epoch come first, and
        # those of an incomplete batch come last. Both are short examples of the last pool.
        fill = min(-epoch * len(order) % self.batch_size, len(order))
        first, rest = by_length[len(order) - fill :], by_length[: len(order) - fill]
        whole = len(rest) // self.batch_size * self.batch_size
        batches = rest[:whole].reshape(-1, self.batch_size)
        return np.concatenate([first, batches[random.permutation(len(batches))].reshape(-1), rest[whole:]])


def token_batches(
    lengths: Int[np.ndarray, " example"], order: Int[np.ndarray, " example"], tokens: int
) -> list[Int[np.ndarray, " member"]]:
    """Split `order` into batches of at most `tokens` tokens, with padding. A longer example is a batch of its own."""
    batches, start, longest = [], 0, 0
    for i, example in enumerate(order):
        longest = max(longest, int(lengths[example]))
        if i > start and longest * (i + 1 - start) > tokens:
            batches.append(order[start:i])
            start, longest = i, int(lengths[example])
    return [*batches, order[start:]] if len(order) else batches


def by_length(lengths: Sequence[int], size: int, tokens: int | None = None) -> list[Int[np.ndarray, " member"]]:
    """Return batches of all examples, short to long, of `size` examples or, if given, at most `tokens` tokens."""
    sizes = np.asarray(lengths)
    order = np.argsort(sizes, kind="stable")
    if tokens is not None:
        return token_batches(sizes, order, tokens)
    return [order[start : start + size] for start in range(0, len(order), size)]


class BatchOrder(Sampler[tuple[int, ...]]):
    """A sampler that gives a part of an endless stream of batches, each of at most `tokens` tokens.

    With `by_length`, examples of similar length share a batch. Each epoch draws new batches in a new order. The stream
    depends on the seed alone, so any part of it can be reproduced.

    Args:
        lengths: The length of each example, in tokens.
        tokens: The maximum number of tokens in a batch, including padding.
        seed: The seed of the order.
        count: The number of batches to give.
        skip: The number of batches to skip first.
        by_length: Whether to group examples by length.
    """

    def __init__(
        self, lengths: Sequence[int], tokens: int, seed: int, count: int = 0, skip: int = 0, by_length: bool = True
    ) -> None:
        self.lengths, self.tokens, self.seed = np.asarray(lengths), tokens, seed
        self.count, self.skip, self.by_length = count, skip, by_length

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        number, epoch = 0, 0
        while number < self.skip + self.count:
            for batch in self.epoch(epoch):
                if self.skip <= number < self.skip + self.count:
                    yield tuple(batch.tolist())
                number += 1
            epoch += 1

    def epoch(self, number: int) -> list[Int[np.ndarray, " member"]]:
        """Return the batches of an epoch, in order."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.lengths))
        if not self.by_length:
            return token_batches(self.lengths, order, self.tokens)
        # Sorting is stable, so examples of equal length stay in random order.
        batches = token_batches(self.lengths, order[np.argsort(self.lengths[order], kind="stable")], self.tokens)
        return [batches[i] for i in random.permutation(len(batches))]


class Batches(TorchDataset[list[Mapping[str, object]]]):
    """A data set whose items are batches of examples, for use with `BatchOrder`."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, members: Sequence[int] | np.ndarray) -> list[Mapping[str, object]]:
        columns = self.data[list(members)]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
