"""The order in which a training sees its examples, one by one or in batches of so many tokens."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from datasets import Dataset
from jaxtyping import Int
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

POOL = 50
"""Batches that are filled together by length. More would pad less, and mix less."""


class ExampleOrder(Sampler[int]):
    """Examples in random order, epoch after epoch, as one stream; a stretch of it.

    Grouped by length, examples of like length share a batch, so that there is little padding, while batches come in
    random order: runs of batches from long to short would be a curriculum that nobody asked for. The order depends on
    the seed alone, so that any stretch can be had again.

    Args:
        lengths: The length of each example.
        batch_size: Examples in a batch.
        seed: Of the order.
        count: Examples to give.
        skip: Examples of the stream to pass over first: whole batches, or the next ones are cut across groups.
        by_length: Whether to group by length.
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
        # The batches of the stream do not end where epochs do: what fills the last one of the epoch before comes first,
        # what does not fill one comes last; both are the short ones of the last pool.
        fill = min(-epoch * len(order) % self.batch_size, len(order))
        first, rest = by_length[len(order) - fill :], by_length[: len(order) - fill]
        whole = len(rest) // self.batch_size * self.batch_size
        batches = rest[:whole].reshape(-1, self.batch_size)
        return np.concatenate([first, batches[random.permutation(len(batches))].reshape(-1), rest[whole:]])


def token_batches(
    lengths: Int[np.ndarray, " example"], order: Int[np.ndarray, " example"], tokens: int
) -> list[Int[np.ndarray, " member"]]:
    """Examples in batches of at most so many tokens, padding included, taken in this order; one too long goes alone."""
    batches, start, longest = [], 0, 0
    for i, example in enumerate(order):
        longest = max(longest, int(lengths[example]))
        if i > start and longest * (i + 1 - start) > tokens:
            batches.append(order[start:i])
            start, longest = i, int(lengths[example])
    return [*batches, order[start:]] if len(order) else batches


def by_length(lengths: Sequence[int], size: int, tokens: int | None = None) -> list[Int[np.ndarray, " member"]]:
    """All examples from short to long, in batches of so many; with tokens, of at most so many tokens instead."""
    sizes = np.asarray(lengths)
    order = np.argsort(sizes, kind="stable")
    if tokens is not None:
        return token_batches(sizes, order, tokens)
    return [order[start : start + size] for start in range(0, len(order), size)]


class BatchOrder(Sampler[tuple[int, ...]]):
    """Batches of at most so many tokens in random order, epoch after epoch, as one stream; a stretch of it.

    Examples of like length share a batch; which of them, and the order of the batches, is drawn anew for each epoch. It
    depends on the seed alone, so that any stretch can be had again.

    Args:
        lengths: The length of each example, in tokens.
        tokens: Of a batch at most, padding included.
        seed: Of the order.
        count: Batches to give.
        skip: Batches of the stream to pass over first.
        by_length: Whether to group by length.
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
        """The batches of an epoch, in order."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.lengths))
        if not self.by_length:
            return token_batches(self.lengths, order, self.tokens)
        # Sorting is stable: examples of one length stay in random order.
        batches = token_batches(self.lengths, order[np.argsort(self.lengths[order], kind="stable")], self.tokens)
        return [batches[i] for i in random.permutation(len(batches))]


class Batches(TorchDataset[list[Mapping[str, object]]]):
    """A data set whose items are batches of examples: what a `BatchOrder` draws from."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, members: Sequence[int] | np.ndarray) -> list[Mapping[str, object]]:
        columns = self.data[list(members)]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
