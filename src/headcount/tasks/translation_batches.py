"""Tokenised pairs of sentences: cut to a length, and made into batches."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from headcount.tasks.protocol import Row


@dataclass(frozen=True)
class TranslationCollator:
    """Makes a batch of tokenised pairs, padded to the longest; it holds only what the model reads."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, examples: Sequence[Row]) -> dict[str, torch.Tensor]:
        """The batch, as the model's keyword arguments; labels are padded with -100."""
        sources, targets = ([cast(list[int], row[name]) for row in examples] for name in ("input_ids", "labels"))
        ids = _padded(sources, self.tokenizer.pad_token_id)
        lengths = torch.tensor([[len(row)] for row in sources])
        mask = (torch.arange(ids.shape[1]) < lengths).long()
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": _padded(targets, -100),
        }


def shorten_pairs(rows: Dataset, longest: int | None, special: Collection[int]) -> tuple[Dataset, int]:
    """Cut pairs to what a model with so many positions can read; return them and how many were cut.

    Args:
        rows: Tokenised pairs.
        longest: The positions of the model. None: there is no limit.
        special: Ids of special tokens. Those at the end of a side stay.
    """
    over = [] if longest is None else np.flatnonzero(np.asarray(rows["length"]) > longest).tolist()
    if longest is None or not over:
        return rows, 0

    def shorter(ids: list[int]) -> list[int]:
        text = len(ids)
        while text and ids[text - 1] in special:
            text -= 1
        return [*ids[: min(text, longest - (len(ids) - text))], *ids[text:]]

    def shorten(row: dict[str, Any]) -> dict[str, object]:
        sides = {name: shorter(row[name]) for name in ("input_ids", "labels")}
        return {**row, **sides, "length": min(row["length"], longest)}

    return Dataset.from_list([shorten(row) for row in rows]), len(over)


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    out = torch.full((len(rows), max(map(len, rows))), value)
    for number, row in enumerate(rows):
        out[number, : len(row)] = torch.tensor(row)
    return out
