"""Importance of a head as the sensitivity of the loss to its gate (Michel et al. 2019; Li et al. 2021, eq. 21)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from headcount.anatomy import LiveSite
from headcount.anatomy.example import evaluating
from headcount.errors import BadData, BadRecipe
from headcount.gates.hooks import gated
from headcount.units.map import Head, Subset

REDUCTIONS = ("example", "token", "batch")


@dataclass(frozen=True)
class GradientImportance:
    """The mean absolute gradient of an example's loss with respect to each head's gate, at gates of one.

    The loss of an example is that of its label, or the sum over its labels if every token has one. Both published
    scripts define it like this. The scores thus do not depend on how examples are batched.

    Attributes:
        reduction: Over what the absolute value is taken before averaging. `example`: eq. 21. `token`: each position of
            each example, as in Michel et al.'s code. `batch`: the batch's mean loss, as in Li et al.'s code for BERT;
            signs cancel within a batch.
        signed: Take no absolute value at all. This is what Li et al.'s translation code did; heads that help most then
            rank lowest. Only to reproduce their figures.
        layer_norm: Divide the scores of each site by their L2 norm, as both published scripts do.
    """

    needs_examples: ClassVar[bool] = True
    reduction: str = "example"
    signed: bool = False
    layer_norm: bool = True

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise BadRecipe(f"Got reduction '{self.reduction}'. Valid choices: {', '.join(REDUCTIONS)}.")

    def scores(
        self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], subset: Subset
    ) -> Float64[Tensor, " head"]:
        """Return one score for each head of the subset, in flat order, with all other heads gated off.

        Args:
            model: A trained model; its loss must be a mean over the batch's labels, of which those that are -100 do not
                count. Weights and mode are left as they are.
            batches: Batches with labels, on the model's device.
            subset: The heads that remain.

        Raises:
            BadData: There is no batch, or the loss or a gradient is not finite.
        """
        total, examples = torch.zeros(len(subset.head_map), dtype=torch.float64), 0
        shifted: bool | None = None
        with evaluating([model]):
            for batch in batches:
                size = next(iter(batch.values())).shape[0]
                shifted = _shifts_labels(model, batch) if shifted is None else shifted
                total += self._batch(model, batch, subset) * _count_labels(batch, size, bool(shifted))
                examples += size
        if not examples:
            raise BadData("No examples to measure importance on.")
        scores = total[list(subset.indices)] / examples
        if not torch.isfinite(scores).all():
            raise BadData("The importance of some heads is not finite: the model's loss or its gradient is not.")
        return _normalise_by_site(scores, subset) if self.layer_norm else scores

    def _batch(self, model: nn.Module, batch: Mapping[str, Tensor], subset: Subset) -> Float64[Tensor, " head"]:
        """Return the batch's mean score of every head of the map, 0 for heads outside the subset."""
        gates: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        heads: dict[str, list[int]] = {}

        def gate_of(live: LiveSite, x: Tensor) -> Tensor:
            name = live.site.name
            lead = {"example": (x.shape[0], *[1] * (x.dim() - 2)), "token": x.shape[:-1], "batch": ()}[self.reduction]
            heads[name] = [subset.head_map.index(Head(name, i)) for i in live.kept]
            # A site that is passed through several times, as where layers share weights, has one gate for all of them.
            shape = (*lead, len(live.kept))
            if (name, shape) not in gates:
                gates[name, shape] = torch.ones(shape, dtype=x.dtype, device=x.device, requires_grad=True)
            inside = torch.tensor([float(i in chosen) for i in heads[name]], dtype=x.dtype, device=x.device)
            return gates[name, shape] * inside

        chosen = set(subset.indices)
        with gated(model, gate_of), torch.enable_grad():
            loss: Any = model(**batch).loss
            if loss is None:
                raise BadData("The model gives no loss: the batches have no labels.")
            grads = torch.autograd.grad(loss, [*gates.values()])
        total = torch.zeros(len(subset.head_map), dtype=torch.float64)
        for (name, _), grad in zip(gates, grads, strict=True):
            # The loss is a mean over the batch's labels, so its gradients are already divided by their number.
            values = grad.double() if self.signed else grad.double().abs()
            total[heads[name]] += values.reshape(-1, len(heads[name])).sum(0).cpu()
        return total


def _token_labels(batch: Mapping[str, Tensor]) -> Tensor | None:
    """The labels, if tokens have one each."""
    labels = batch.get("labels")
    return None if labels is None or labels.dim() < 2 or labels.is_floating_point() else labels


def _count_labels(batch: Mapping[str, Tensor], examples: int, shifted: bool) -> int:
    """What the loss of a batch is a mean over: examples, or tokens that have a label each."""
    labels = _token_labels(batch)
    return examples if labels is None else int((labels[:, 1 if shifted else 0 :] != -100).sum())


@torch.no_grad()
def _shifts_labels(model: nn.Module, batch: Mapping[str, Tensor]) -> bool | None:
    """Whether the loss passes over each text's first label, as a causal language model's; None: it cannot be seen here.

    The families' classes do not say, so the model is asked: with that label alone there is then no loss.
    """
    labels = _token_labels(batch)
    if labels is None or not (labels[:, 0] != -100).any():
        return None
    first = torch.full_like(labels, -100).index_copy(1, torch.tensor([0], device=labels.device), labels[:, :1])
    loss: Any = model(**{**batch, "labels": first}).loss
    return loss is not None and not (torch.isfinite(loss) and loss != 0)


def _normalise_by_site(scores: Float64[Tensor, " head"], subset: Subset) -> Float64[Tensor, " head"]:
    scores, start = scores.clone(), 0
    for count in subset.counts():
        norm = scores[start : start + count].norm()
        scores[start : start + count] /= norm if norm > 0 else 1.0
        start += count
    return scores
