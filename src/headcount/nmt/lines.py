"""From lines to lines: the translations of many sentences, in bounded memory and in order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from headcount.errors import BadRecipe
from headcount.nmt.model import Translator
from headcount.nmt.search import Candidates, Hypothesis, Search, search
from headcount.nmt.shortlist import Shortlist
from headcount.settings.schema import require_least

LONG = ("split", "truncate")
POOL = 32
"""Batches that are read before the first is translated, so that sentences of like length can share one."""


@dataclass
class LineTranslator:
    """Translates lines.

    Attributes:
        model: The model; it is put into evaluation mode.
        tokenizer: Its vocabulary.
        search: How translations are searched for.
        shortlist: Narrows the output layer. None: all pieces are tried.
        batch_tokens: Source pieces in a batch, padding included.
        max_length: The longest source, in pieces.
        long: What becomes of a longer line: `split` at spaces into parts that are translated one by one, or `truncate`.
        counts: How many lines there were, and how many were empty, split or truncated.
    """

    model: Translator
    tokenizer: Any
    search: Search = field(default_factory=Search)
    shortlist: Candidates | None = None
    batch_tokens: int = 2048
    max_length: int = 256
    long: str = "split"
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("lines", "empty", "split", "truncated"), 0))

    def __post_init__(self) -> None:
        if self.long not in LONG:
            raise BadRecipe(f"Got long '{self.long}'. Valid: {', '.join(LONG)}.")
        require_least(1, batch_tokens=self.batch_tokens)
        require_least(2, max_length=self.max_length)
        pieces = self.model.config.vocab_size
        if len(self.tokenizer) != pieces:
            raise BadRecipe(
                f"The tokenizer has {len(self.tokenizer)} pieces, the model {pieces}. Give the one that it was trained "
                "with."
            )
        if isinstance(self.shortlist, Shortlist) and len(self.shortlist.likely) != pieces:
            raise BadRecipe(
                f"The shortlist is for a vocabulary of {len(self.shortlist.likely)} pieces, the model's has {pieces}. "
                "Give the one that was learned for this model."
            )
        if isinstance(self.shortlist, Shortlist) and self.shortlist.pieces not in ("", self.tokenizer.digest):
            raise BadRecipe(
                f"The shortlist is for another vocabulary of {pieces} pieces. Give the one that was learned for this "
                "model."
            )
        self.model.eval()

    def translate(self, lines: Iterable[str]) -> Iterator[str]:
        """The translation of each line, in order; of an empty line an empty one."""
        for hypotheses in self.hypotheses(lines):
            yield one_line(" ".join(self.tokenizer.decode_lines([parts[0].ids for parts in hypotheses])))

    def hypotheses(self, lines: Iterable[str]) -> Iterator[list[list[Hypothesis]]]:
        """For each line, for each of its parts (one, but of long lines), the best translations, best first."""
        pool: list[list[list[int]]] = []
        size = 0
        for line in lines:
            parts = self._parts(line)
            pool.append(parts)
            size += sum(map(len, parts))
            if size >= POOL * self.batch_tokens or len(pool) >= POOL * self.batch_tokens:
                yield from self._translated(pool)
                pool, size = [], 0
        yield from self._translated(pool)

    def _parts(self, line: str) -> list[list[int]]:
        """The pieces of a line, in parts that are not too long."""
        self.counts["lines"] += 1
        ids: list[int] = self.tokenizer.encode_lines([line])[0]
        if not line.strip() or len(ids) < 2:  # or of characters that the vocabulary drops, such as a zero-width space
            self.counts["empty"] += 1
            return []
        if len(ids) <= self.max_length:
            return [ids]
        if self.long == "truncate":
            self.counts["truncated"] += 1
            return [[*ids[: self.max_length - 1], ids[-1]]]
        self.counts["split"] += 1
        return self._split(ids)

    def _split(self, ids: Sequence[int]) -> list[list[int]]:
        """Parts of about the same length, each up to the last piece before a new word, each with an end."""
        *pieces, end = ids
        count = -(-len(pieces) // (self.max_length - 1))
        goal = -(-len(pieces) // count)
        parts = []
        while pieces:
            cut = min(goal, len(pieces))
            if cut < len(pieces):
                starts = [i for i in range(cut, cut // 2, -1) if self.tokenizer.starts_word(pieces[i])]
                cut = starts[0] if starts else cut
            parts.append([*pieces[:cut], end])
            pieces = pieces[cut:]
        return parts

    def _translated(self, pool: Sequence[Sequence[list[int]]]) -> Iterator[list[list[Hypothesis]]]:
        sentences = [ids for parts in pool for ids in parts]
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        order = sorted(range(len(sentences)), key=lambda i: -len(sentences[i]))
        for batch in self._batches(order, sentences):
            for i, best in zip(batch, self._search([sentences[i] for i in batch]), strict=True):
                found[i] = best
        start = 0
        for parts in pool:
            yield found[start : start + len(parts)]
            start += len(parts)

    def _batches(self, order: Sequence[int], sentences: Sequence[list[int]]) -> Iterator[list[int]]:
        """Sentences that fill a batch, from long to short."""
        batch: list[int] = []
        for i in order:
            if batch and (len(batch) + 1) * len(sentences[batch[0]]) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _search(self, sentences: Sequence[list[int]]) -> list[list[Hypothesis]]:
        device = self.model.device
        width = max(map(len, sentences))
        ids = torch.full((len(sentences), width), self.tokenizer.pad_token_id)
        for row, sentence in enumerate(sentences):
            ids[row, : len(sentence)] = torch.tensor(sentence)
        mask = torch.arange(width) < torch.tensor([[len(sentence)] for sentence in sentences])
        # What nobody can read is no translation, though text with rare characters is learned from.
        never = (self.tokenizer.unk_token_id,)
        return search(self.model, ids.to(device), mask.long().to(device), self.search, self.shortlist, never)


def one_line(text: str) -> str:
    """The text without line ends, a space for each: the n-th line of a file is the n-th sentence."""
    return text.replace("\n", " ").replace("\r", " ")
