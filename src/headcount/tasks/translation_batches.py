"""Functions that cut tokenised pairs to a length and make batches of them."""

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
    """A collator that pads tokenised pairs to the longest. A batch has only the columns that the model reads."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, examples: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return the batch, as the keyword arguments of the model. Labels are padded with -100."""
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
    """Cut pairs to the positions of a model; return them and the number of cut pairs.

    Args:
        rows: Tokenised pairs.
        longest: The number of positions of the model. None: there is no limit.
        special: The ids of special tokens. Those at the end of a side are kept.
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
