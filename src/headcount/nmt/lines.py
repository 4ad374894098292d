"""`LineTranslator`, which translates many lines in order and in bounded memory."""

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
"""Number of batches that are read together, so that sentences of similar length can share a batch."""


@dataclass
class LineTranslator:
    """A translator of lines.

    Attributes:
        model: The model. It is put into evaluation mode.
        tokenizer: The model's tokenizer.
        search: The settings of the search.
        shortlist: The shortlist that limits the output layer. None: all pieces are candidates.
        batch_tokens: Source pieces in a batch, padding included.
        max_length: Maximum number of pieces of a source sentence.
        long: The treatment of longer lines: `split` at spaces into parts that are translated alone, or `truncate`.
        counts: The numbers of all lines, and of empty, split and truncated ones.
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
        """Yield the translation of each line, in order. The translation of an empty line is empty."""
        for hypotheses in self.hypotheses(lines):
            yield one_line(" ".join(self.tokenizer.decode_lines([parts[0].ids for parts in hypotheses])))

    def hypotheses(self, lines: Iterable[str]) -> Iterator[list[list[Hypothesis]]]:
        """Yield, for each part of each line, the best translations, best first. Only long lines have several parts."""
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
        """Return the pieces of a line, in parts of at most `max_length` pieces."""
        self.counts["lines"] += 1
        ids: list[int] = self.tokenizer.encode_lines([line])[0]
        if not line.strip() or len(ids) < 2:  # the vocabulary drops some characters, such as a zero-width space
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
        """Split into parts of similar length. A part ends before a new word if it can, and has an end token."""
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
        """Yield the sentences of each batch, from long to short."""
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
        # A translation must not hold `<unk>`, even though training text with rare characters does.
        never = (self.tokenizer.unk_token_id,)
        return search(self.model, ids.to(device), mask.long().to(device), self.search, self.shortlist, never)


def one_line(text: str) -> str:
    """Replace each line end by a space, so that line n of a file is sentence n."""
    return text.replace("\n", " ").replace("\r", " ")
