"""Functions that compute the translations and the loss of a translation model."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from headcount.anatomy.example import evaluating
from headcount.data.order import token_batches
from headcount.nmt import LineTranslator, Search, Translator
from headcount.running.measure import longest_input
from headcount.tasks.protocol import Collator
from headcount.tasks.translation_models import start_of


@torch.inference_mode()
def translations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], beam: int
) -> Iterator[str]:
    """Yield the translation of each line, in order, by headcount's search or another model's `generate`."""
    with evaluating([model]):
        if isinstance(model, Translator):
            found = list(LineTranslator(model, tokenizer, Search(beam=beam)).translate(lines))
        else:
            found = _generated(model, tokenizer, lines, beam)
    yield from found


def _generated(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], beam: int, batch_size: int = 32
) -> list[str]:
    order = sorted(range(len(lines)), key=lambda i: -len(lines[i]))
    found = [""] * len(lines)
    most, start_with = longest_input(model), start_of(tokenizer)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer([lines[i] for i in rows], return_tensors="pt", padding=True, truncation=True, max_length=most)
        longest = 2 * batch["input_ids"].shape[1] + 10
        longest = longest if most is None else min(longest, most - 1)  # the start token takes a position too
        ids = model.generate(
            **batch.to(model.device), num_beams=beam, max_new_tokens=longest, do_sample=False, **start_with
        )
        for i, text in zip(rows, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            found[i] = text
    return found


@torch.inference_mode()
def mean_loss(model: PreTrainedModel, dataset: Dataset, collator: Collator, tokens: int = 4096) -> float:
    """Return the mean loss of a target piece. `tokens` is the size of a batch."""
    total, count = 0.0, 0
    with evaluating([model]):
        lengths = np.asarray(dataset["length"])
        for rows in token_batches(lengths, np.argsort(lengths, kind="stable"), tokens):
            batch = collator([dataset[row] for row in rows.tolist()])
            pieces = int((batch["labels"] != -100).sum())
            total += pieces * float(model(**{name: value.to(model.device) for name, value in batch.items()}).loss)
            count += pieces
    return total / max(1, count)
