"""Greedy and beam search for the best translations of a batch. Finished sentences leave the batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.nmt.decoder import Decoding
from headcount.settings.schema import require_least


@runtime_checkable
class Candidates(Protocol):
    """The protocol of shortlists, which limit the output layer for a batch."""

    def candidates(self, ids: Int[Tensor, "batch token"]) -> Int[Tensor, " candidate"]:
        """Return the pieces that translations of these sentences may have, ascending."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """The protocol of models that translate step by step; see `Translator`."""

    config: Any

    def start(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        beam: int = 1,
        candidates: Tensor | None = None,
        forbidden: Sequence[int] = (),
    ) -> Decoding:
        """Encode the source."""
        ...

    def step(self, tokens: Tensor, decoding: Decoding) -> Tensor:
        """Return the logits of the next token of every hypothesis, (sentence, beam, candidate)."""
        ...


@dataclass(frozen=True)
class Search:
    """The settings of a search.

    Attributes:
        beam: Number of hypotheses kept for each sentence. 1 is greedy search.
        normalisation: Exponent of the length that divides the log probability of a hypothesis.
        best: Number of translations returned for each sentence, at most `beam`.
        longest: Maximum number of target pieces per source piece. Ten more are always allowed.
        most: Maximum number of target pieces, including the end. None: no such limit.
    """

    beam: int = 5
    normalisation: float = 1.0
    best: int = 1
    longest: float = 2.0
    most: int | None = None

    def __post_init__(self) -> None:
        require_least(1, beam=self.beam, best=self.best, most=self.most)
        if self.best > self.beam:
            raise BadRecipe(
                f"Got the {self.best} best of a beam of {self.beam}. Give a beam that is as wide, or fewer best."
            )
        if not 0 <= self.normalisation < math.inf:
            raise BadRecipe(f"Got normalisation {self.normalisation}. Give a finite number, 0 or more.")
        if not 0 < self.longest < math.inf:
            raise BadRecipe(f"Got longest {self.longest}. Give a finite number above 0.")


@dataclass(frozen=True, order=True)
class Hypothesis:
    """A translation and its score.

    Attributes:
        score: Its log probability, divided by its length to the power `normalisation`.
        ids: Its pieces, without start and end tokens.
    """

    score: float
    ids: list[int] = field(compare=False)


@torch.inference_mode()
def search(
    model: Decodes,
    input_ids: Int[Tensor, "sentence source"],
    attention_mask: Int[Tensor, "sentence source"],
    settings: Search,
    shortlist: Candidates | None = None,
    never: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """Return the best translations of each sentence, best first.

    Args:
        model: The model, in evaluation mode.
        input_ids: The padded batch.
        attention_mask: 0 at padding.
        settings: The settings of the search.
        shortlist: The shortlist that limits the output layer. None: all pieces are candidates.
        never: The pieces that a translation must not have, such as the unknown piece.
    """
    config = model.config
    # A translation must not contain padding or the start token.
    forbidden = (config.pad_token_id, config.decoder_start_token_id, *never)
    pieces = None if shortlist is None else shortlist.candidates(input_ids)
    decoding = model.start(input_ids, attention_mask, settings.beam, pieces, forbidden)
    limits = (attention_mask.sum(1) * settings.longest).long() + 10
    if settings.most is not None:
        limits = limits.clamp(max=settings.most)
    if settings.beam == 1:
        return greedy_search(model, decoding, limits, pieces, settings)
    return beam_search(model, decoding, limits, pieces, settings)


def greedy_search(
    model: Decodes, decoding: Decoding, limits: Tensor, pieces: Tensor | None, settings: Search
) -> list[list[Hypothesis]]:
    """Return one translation of each sentence, with the likeliest piece at every step."""
    end, start = model.config.eos_token_id, model.config.decoder_start_token_id
    count = len(limits)
    here = torch.arange(count, device=limits.device)
    tokens = torch.full((count, 1), start, device=limits.device)
    found = torch.full((count, int(limits.max())), end, device=limits.device)
    scores = torch.zeros(count, dtype=_precision(decoding), device=limits.device)
    lengths = limits.clone()
    for position in range(found.shape[1]):
        logits = model.step(tokens, decoding)[:, 0].to(scores.dtype)
        at, best = _argmax(logits), logits.log_softmax(-1).amax(-1)
        _require_numbers(best)
        scores[here] += best
        token = at if pieces is None else pieces[at]
        found[here, position] = token
        done = (token == end) | (position + 1 >= limits[here])
        if done.any():
            lengths[here[done]] = position + 1
            stay = torch.nonzero(~done)[:, 0]
            if not len(stay):
                break
            decoding.select(stay, torch.zeros_like(stay)[:, None])
            here, token = here[stay], token[stay]
        tokens = token[:, None]
    ids = [[token for token in line if token != end] for line in found.tolist()]
    totals = zip(scores.tolist(), lengths.tolist(), ids, strict=True)
    return [[Hypothesis(score / length**settings.normalisation, line)] for score, length, line in totals]


def beam_search(
    model: Decodes, decoding: Decoding, limits: Tensor, pieces: Tensor | None, settings: Search
) -> list[list[Hypothesis]]:
    """Return the best finished hypotheses of each sentence. `limits` holds the greatest length for each."""
    # Long: one loop over positions, whose steps share a dozen tensors; parts of it would hand them to and fro.
    beam, end, device = settings.beam, model.config.eos_token_id, limits.device
    count, longest = len(limits), int(limits.max())
    here = list(range(count))
    tokens = torch.full((count, beam), model.config.decoder_start_token_id, device=device)
    found = torch.full((count, beam, longest), end, device=device)
    scores = torch.full((count, beam), -torch.inf, dtype=_precision(decoding), device=device)
    scores[:, 0] = 0  # all hypotheses are equal before the first piece, so only one counts
    finished: list[list[Hypothesis]] = [[] for _ in range(count)]
    most = limits.tolist()
    for position in range(longest):
        logits = model.step(tokens, decoding).to(scores.dtype)
        totals = scores[:, :, None] + logits.log_softmax(-1)
        best, at = _top(totals.flatten(1), 2 * beam)
        _require_numbers(best[:, 0])
        parent, token = at // logits.shape[-1], at % logits.shape[-1]
        token = token if pieces is None else pieces[token]
        over = token == end
        norm = (position + 1) ** settings.normalisation
        # Those of the best `beam` options that end are finished.
        for row, rank in torch.nonzero(over[:, :beam] & best[:, :beam].isfinite()).tolist():
            hypothesis = found[row, parent[row, rank], :position].tolist()
            finished[here[row]].append(Hypothesis(float(best[row, rank]) / norm, hypothesis))
        # The others continue. Stable sorting keeps their order and puts the ended ones, with score -inf, last.
        best = best.masked_fill(over, -torch.inf)
        going = over.long().argsort(dim=1, stable=True)[:, :beam]
        parent, token, scores = (x.gather(1, going) for x in (parent, token, best))
        found = found.gather(1, parent[:, :, None].expand(-1, -1, longest))
        found[:, :, position] = token
        stay = []
        going_on = scores.isfinite().any(1).tolist()
        for row, sentence in enumerate(here):
            if len(finished[sentence]) >= beam or not going_on[row]:
                continue
            if position + 1 >= most[sentence]:
                finished[sentence] += [
                    Hypothesis(float(score) / norm, ids.tolist())
                    for score, ids in zip(scores[row], found[row, :, : position + 1], strict=True)
                    if score.isfinite()
                ]
                continue
            stay.append(row)
        if not stay:
            break
        rows = torch.tensor(stay, device=device)
        decoding.select(rows, parent[rows])
        here = [here[row] for row in stay]
        tokens, scores, found = token[rows], scores[rows], found[rows]
    return [sorted(each, reverse=True)[: settings.best] for each in finished]


def _require_numbers(best: Float[Tensor, " sentence"]) -> None:
    """Check that the best score of every sentence is finite. PyTorch sorts NaN above all numbers.

    Raises:
        CorruptCheckpoint: The model computes NaN or infinity, or only padding and the start are allowed.
    """
    if not best.isfinite().all():
        raise CorruptCheckpoint(
            "The model gives no piece a probability: its weights hold NaN, or float16 is too narrow for them, or a "
            "shortlist allows nothing. Take another checkpoint, bfloat16 or float32, or another shortlist."
        )


def _precision(decoding: Decoding) -> torch.dtype:
    """Return the type for sums of log probabilities. Half precision cannot separate long translations."""
    return torch.promote_types(decoding.memory.dtype, torch.float32)


def _argmax(logits: Float[Tensor, "sentence option"]) -> Int[Tensor, " sentence"]:
    """Return the index of the greatest logit. On a CPU, NumPy is eight times as fast as PyTorch here."""
    return torch.from_numpy(logits.numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)


def _top(totals: Float[Tensor, "sentence option"], count: int) -> tuple[Tensor, Tensor]:
    """Return the highest totals and their indices, highest first. Missing options have the total -inf."""
    best, at = totals.topk(min(count, totals.shape[1]), dim=1)
    missing = count - best.shape[1]
    return nn.functional.pad(best, (0, missing), value=-torch.inf), nn.functional.pad(at, (0, missing))
