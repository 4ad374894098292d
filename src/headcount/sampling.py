"""The order in which a training sees its examples."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int
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
