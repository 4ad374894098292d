"""Lexical shortlists, which limit the output layer to the target pieces that a batch is likely to need.

A shortlist has the likeliest translations of each source piece by IBM Model 1, and the most frequent target pieces.
Let t(f|e) be the probability that source piece e becomes target piece f. Every source sentence has the NULL piece e_0.
One iteration of EM is (Brown et al. 1993, eqs. 14 and 17)

    c(f|e) = sum, wherever e meets f, of t(f|e) / (t(f|e_0) + ... + t(f|e_l)),   t(f|e) = c(f|e) / sum of c(.|e)

One direction is enough. Ranking by t(f|e) t(e|f), or training both directions to agree (Liang et al. 2006), finds more
with the same `best`. But it adds rare pieces, which sentences do not share, so the shortlist of a batch grows. One
direction with a larger `best` finds as much with shortlists of that size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int32, Int64
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from headcount.errors import BadData, BadRecipe
from headcount.settings.schema import require_least
from headcount.settings.writing import naming_a_full_disk, write_bytes_atomically

_MAKE_ONE = "Write one with `headcount shortlist`."

BLOCK = 1 << 20
"""Cells processed together, which bounds the memory. A cell is a source and a target piece of one sentence pair."""


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The target pieces for each source piece. It works on the CPU, where the output layer takes most time.

    Attributes:
        likely: The likeliest target pieces of each source piece, likeliest first. Rows are padded with the size of the
            vocabulary. The row of an unseen piece is all padding.
        shared: Whether each piece is a candidate for every batch: frequent pieces, and those in `always`.
        pieces: The digest of the vocabulary; see `TranslatorTokenizer`. Empty: unknown.
    """

    likely: Int64[Tensor, "vocab best"]
    shared: Bool[Tensor, " vocab"]
    pieces: str = ""

    @classmethod
    def learn(
        cls,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        vocabulary: int,
        best: int = 50,
        frequent: int = 50,
        iterations: int = 5,
        always: Sequence[int] = (),
    ) -> "Shortlist":
        """Learn a shortlist from sentence pairs, given as lists of pieces. The result is deterministic.

        Args:
            sources: The source sentences.
            targets: Their translations, in the same order.
            vocabulary: The number of pieces of both languages together.
            best: The maximum number of target pieces for each source piece.
            frequent: The number of most frequent target pieces that every batch gets.
            iterations: The number of iterations of EM.
            always: Further pieces that every batch gets, such as the end of a sentence and the unknown piece.

        Raises:
            BadData: The sides are of different length, a piece is not in the vocabulary, or there is nothing to learn.
            BadRecipe: A number is too small, or one of `always` is not in the vocabulary.
        """
        require_least(1, vocabulary=vocabulary, iterations=iterations)
        require_least(0, best=best, frequent=frequent)
        if outside := [piece for piece in always if not 0 <= piece < vocabulary]:
            raise BadRecipe(f"Got piece {outside[0]} in always. Give pieces from 0 to {vocabulary - 1}.")
        if len(sources) != len(targets):
            raise BadData(f"Got {len(sources)} source and {len(targets)} target sentences. Give pairs.")
        source, target = _flat(sources, vocabulary, "source"), _flat(targets, vocabulary, "target")
        if not (source[1] * target[1]).any():
            raise BadData("No pair of sentences with pieces on both sides: there is nothing to learn a shortlist from.")
        model = Model1.learn(source, target, vocabulary, iterations)
        counts = np.bincount(target[0], minlength=vocabulary)
        most = np.argsort(-counts, kind="stable")[:frequent]
        shared = np.zeros(vocabulary, dtype=bool)
        shared[most[counts[most] > 0]] = True
        shared[list(always)] = True
        return cls(torch.from_numpy(model.likely(vocabulary, best)), torch.from_numpy(shared))

    def candidates(self, ids: Int[Tensor, "batch token"]) -> Int64[Tensor, " candidate"]:
        """Return the distinct pieces that translations of these sentences may have, ascending, on the ids' device.

        They include the sentences' own pieces, because names and addresses are copied. Padding counts as a piece.

        Raises:
            BadRecipe: The batch has a piece that is not in the vocabulary of the shortlist.
        """
        chosen = torch.cat((self.shared, self.shared.new_zeros(1)))  # the last entry stands for the padding of rows
        own = ids.cpu().flatten().long()
        try:
            rows = self.likely.index_select(0, own)
        except IndexError:
            raise BadRecipe(
                f"Got pieces from {ids.min()} to {ids.max()}, but the shortlist is for a vocabulary of "
                f"{len(self.likely)}. Give the one that was learned for this model."
            ) from None
        chosen.index_fill_(0, torch.cat((rows.flatten(), own)), True)
        return chosen[:-1].nonzero().squeeze(1).to(ids.device)

    def save(self, file: Path) -> None:
        """Write the shortlist to one file, as safetensors. The file is replaced atomically.

        Raises:
            PruningError: The disk is full.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        pieces = torch.tensor([*bytes.fromhex(self.pieces)], dtype=torch.uint8)
        with naming_a_full_disk(file):
            write_bytes_atomically(file, save({"likely": self.likely.int(), "shared": self.shared, "pieces": pieces}))

    @classmethod
    def load(cls, file: str | Path) -> "Shortlist":
        """Load a shortlist from a file.

        Raises:
            BadData: There is no such file, or it holds no shortlist.
        """
        try:
            found = load(Path(file).read_bytes())
        except (SafetensorError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BadData(f"{file}: cannot be read as a shortlist ({why}). {_MAKE_ONE}") from error
        likely, shared = (found.get(name, torch.empty(0)) for name in ("likely", "shared"))
        pieces = found.get("pieces", torch.empty(0, dtype=torch.uint8))
        kinds = (likely.dtype, shared.dtype, pieces.dtype, likely.dim())
        fits = kinds == (torch.int32, torch.bool, torch.uint8, 2)
        if not fits or shared.shape != likely.shape[:1] or ((likely < 0) | (likely > len(likely))).any():
            held = [f"{name} ({value.dtype}, {list(value.shape)})" for name, value in sorted(found.items())]
            shown = ", ".join([*held[:3], *([f"{len(held) - 3} more"] if len(held) > 3 else [])])
            raise BadData(f"{file}: no shortlist, or a damaged one. It holds: {shown or 'nothing'}. {_MAKE_ONE}")
        return cls(likely.long(), shared, bytes(pieces.flatten().tolist()).hex())


Sentences = tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " sentence"]]
"""The concatenated pieces of all sentences, and the number of pieces of each sentence."""


@dataclass(frozen=True, eq=False)
class Model1:
    """IBM Model 1: a probability for every pair of pieces that meet in a sentence pair.

    Attributes:
        source: The source piece of each pair, ascending. NULL has the highest number: the size of the vocabulary.
        target: The target piece of each pair, ascending within a source piece.
        probability: t(target|source). They sum to 1 for each source piece.
        log_likelihoods: Log likelihood before each iteration of the targets, given the sources and the lengths.
    """

    source: Int64[np.ndarray, " pair"]
    target: Int64[np.ndarray, " pair"]
    probability: Float64[np.ndarray, " pair"]
    log_likelihoods: tuple[float, ...]

    @classmethod
    def learn(cls, sources: Sentences, targets: Sentences, vocabulary: int, iterations: int) -> "Model1":
        """Train by EM from uniform probabilities. It needs 4 bytes of memory per cell."""
        pieces, lengths = sources
        null = np.insert(pieces, lengths.cumsum() - lengths, vocabulary), lengths + 1
        keys, blocks = _pairs(null, targets, vocabulary + 1)
        source, target = np.divmod(keys, vocabulary + 1)
        probability = np.full(len(keys), 1 / vocabulary)
        log_likelihoods = []
        for _ in range(iterations):
            counts, log_likelihood = np.zeros(len(keys)), 0.0
            for pairs, cells, runs in blocks:
                shares = probability[pairs][cells]
                totals = np.add.reduceat(shares, runs.cumsum() - runs)  # never 0: a share was 1 / (l + 1) or more
                log_likelihood += float(np.log(totals / runs).sum())
                shares /= np.repeat(totals, runs)
                counts[pairs] += np.bincount(cells, shares, len(pairs))
            probability = counts / np.bincount(source, counts)[source]
            log_likelihoods.append(log_likelihood)
        return cls(source, target, probability, tuple(log_likelihoods))

    def likely(self, vocabulary: int, best: int) -> Int64[np.ndarray, "vocab best"]:
        """Return the likeliest target pieces of every source piece, likeliest first. Ties are in ascending order.

        Rows have at most `best` entries. Shorter rows are padded with the size of the vocabulary.
        """
        order = np.lexsort((-self.probability, self.source))
        source, target = self.source[order], self.target[order]
        rank = np.arange(len(source)) - np.searchsorted(source, source)
        kept = (rank < best) & (source < vocabulary)
        rows = np.full((vocabulary, int(rank[kept].max(initial=-1)) + 1), vocabulary)
        rows[source[kept], rank[kept]] = target[kept]
        return rows


Block = tuple[Int32[np.ndarray, " here"], Int32[np.ndarray, " cell"], Int64[np.ndarray, " token"]]
"""Some sentence pairs: the indices of their pairs of pieces; for each cell, ordered by target piece, its pair's place
among these; and for each target piece, its number of cells, which is one for each source piece of its sentence."""


def _pairs(sources: Sentences, targets: Sentences, base: int) -> tuple[Int64[np.ndarray, " pair"], list[Block]]:
    """Return all pairs of pieces that meet, as source * base + target, ascending; and the corpus as blocks."""
    found = []
    for source, target, runs in _cells(sources, targets):
        keys, cells = np.unique(source * base + target, return_inverse=True)
        found.append((keys, cells.astype(np.int32), runs))
    every = np.unique(np.concatenate([keys for keys, _, _ in found]))
    return every, [(np.searchsorted(every, keys).astype(np.int32), cells, runs) for keys, cells, runs in found]


def _cells(
    sources: Sentences, targets: Sentences
) -> Iterator[tuple[Int64[np.ndarray, " cell"], Int64[np.ndarray, " cell"], Int64[np.ndarray, " token"]]]:
    """Yield for each block the source piece and target piece of each cell, and the cells per target piece."""
    (source, widths), (target, heights) = sources, targets
    begins, ends, areas = widths.cumsum() - widths, heights.cumsum(), (widths * heights).cumsum()
    start = 0
    while start < len(areas):
        before = areas[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(areas, before + BLOCK, side="right")))
        runs = np.repeat(widths[start:stop], heights[start:stop])
        firsts = np.repeat(begins[start:stop], heights[start:stop]) - (runs.cumsum() - runs)
        tokens = target[ends[start] - heights[start] : ends[stop - 1]]
        yield source[np.repeat(firsts, runs) + np.arange(runs.sum())], np.repeat(tokens, runs), runs
        start = stop


def _flat(sentences: Sequence[Sequence[int]], vocabulary: int, side: str) -> Sentences:
    """Concatenate the sentences of a side, and check that the vocabulary has all their pieces."""
    lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
    pieces = np.fromiter(chain.from_iterable(sentences), np.int64, int(lengths.sum()))
    wrong = np.flatnonzero((pieces < 0) | (pieces >= vocabulary))
    if wrong.size:
        sentence = int(np.searchsorted(lengths.cumsum(), wrong[0], side="right")) + 1
        raise BadData(
            f"Piece {pieces[wrong[0]]} in {side} sentence {sentence} is not in the vocabulary: its pieces are 0 to "
            f"{vocabulary - 1}. Give the sentences as the model's own tokenizer encodes them."
        )
    return pieces, lengths
