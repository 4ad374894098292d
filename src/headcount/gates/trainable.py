"""Trainable gates: scores that learn, by a relaxation, which heads to keep."""

import warnings
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from headcount.anatomy import LiveSite, heads_of, survey, whole_model
from headcount.errors import BadRecipe
from headcount.gates.hooks import hook
from headcount.gates.relaxations.learned import Relaxation, entropy, generator
from headcount.units.budget import Budget
from headcount.units.choice import top, units_of
from headcount.units.map import Head, Subset

GATES_NAME = "headcount_gates"
"""The name under which gates are registered on a model."""


class Gates(nn.Module):
    """Trainable gates on the heads of a model.

    In training every forward pass draws gates from the relaxation, one draw for all sites and examples; in evaluation
    the hard subset applies, without noise. The scores are no parameters of the model: they are trained by an Adam of
    their own (`step`), so that the model's optimiser, weight decay, gradient clipping, parameter groups, data type and
    sharding never touch them, whoever writes the training loop. They live on the CPU in float64, and they travel in
    the model's `state_dict` with the moments of Adam and the counters. Noise depends on the seed and the number of the
    draw alone: equal on all ranks, and equal again after a resume. Under grouped-query attention heads that are
    removed together share a score and a gate.

    Attributes:
        relaxation: How gates are made from scores. It may be exchanged, as for another number of steps.
        candidates: The heads that compete.
        always: The heads that are not asked: they stay.
        unit: What shares a gate; see `Budget`.
        units: Flat indices of the heads that share each gate.
        keep_heads: How many of the candidates are to stay.
        count: How many units those are.
        scores: One for each unit; on the CPU, in float64. Shape: (unit,).
        moments: Of their Adam. Shape: (2, unit).
        steps: How often they have learned.
        draws: How often gates were drawn; the noise of a draw depends on it.
        dropped: Gradients that were dropped because they were not finite.
    """

    def __init__(
        self, relaxation: Relaxation, candidates: Subset, present: Subset, keep_heads: int, unit: str, seed: int
    ) -> None:
        super().__init__()
        self.relaxation, self.candidates, self.unit, self.seed = relaxation, candidates, unit, seed
        self.units = units_of(candidates, unit)
        sizes = {len(heads) for heads in self.units}
        if len(sizes) > 1:
            raise BadRecipe(
                f"Gates are learned for units of one size, but heads of this model go together in {sorted(sizes)}. "
                f"Give a budget over one kind of site: {', '.join(sorted({s.kind for s in present.head_map.sites}))}."
            )
        self.keep_heads, self.count = keep_heads, keep_heads // max(sizes, default=1)
        # _of_head[i]: the unit that the i-th candidate is in.
        unit_of = {index: number for number, heads in enumerate(self.units) for index in heads}
        self._of_head = [unit_of[index] for index in candidates.indices]
        names = [site.name for site in candidates.head_map.sites]
        self._sites = [names.index(candidates.head_map.head(heads[0]).site) for heads in self.units]
        self.always = present - candidates
        self._identity = zlib.crc32(repr(self.units).encode())
        self.scores = relaxation.initial_scores(len(self.units), generator(seed, -1))
        self.moments = torch.zeros(2, len(self.units), dtype=torch.float64)
        self.steps = self.draws = self.dropped = 0
        self._leaves: list[Tensor] = []
        self._learnable = False  # whether the draws since the last step depend on the scores at all
        self._drawn: Tensor | None = None  # this forward pass's gates, over the flat index of all heads
        self._chosen: tuple[Tensor, int, Tensor] | None = None  # scores, their version, and the hard subset's gates
        self._where: dict[str, list[int]] = {}
        self._entropy = self._signal = 0.0
        self._handles: list[Any] = []

    def subset(self) -> Subset:
        """The subset as of now: the top K of the scores, never a threshold on gates; and all heads out of scope."""
        return top(self.candidates, self.scores[self._of_head].tolist(), self.keep_heads, self.unit) | self.always

    def warn_if_early(self) -> None:
        """Warn if the gates have learned, and not to the end of their schedule: the subset has not settled then."""
        left = self.relaxation.remaining(self.steps)
        if self.steps and left:
            warnings.warn(
                f"The gates have learned for {self.steps} steps of the {self.steps + left} that their schedule takes: "
                "the subset has not settled. Train for longer, or give a schedule that ends within the training.",
                stacklevel=3,
            )

    def penalty(self) -> Float64[Tensor, ""]:
        """What the relaxation adds to the loss of the forward pass just made. On the CPU, in float64."""
        return self.relaxation.penalty(self._leaves[-1] if self._leaves else self.scores)

    @property
    def overflowed(self) -> bool:
        """Whether a gradient that reached the gates since their last step is not finite."""
        return not all(torch.isfinite(leaf.grad).all() for leaf in self._leaves if leaf.grad is not None)

    def step(self, lr_scale: float = 1.0, grad_scale: float = 1.0) -> None:
        """Move the scores, once the model's optimiser has moved the weights; then advance the annealing.

        Args:
            lr_scale: The model's learning rate now, as a share of its peak: the scores follow the same schedule.
            grad_scale: By what the loss was multiplied (mixed precision with float16).

        Raises:
            BadRecipe: No gates were drawn since the last step, or no gradient reached them: the scores would not learn,
                and nobody would notice.
        """
        if not self._leaves:
            raise BadRecipe(
                "No gates were drawn since their last step. Call the model that `attach` was given, in training mode."
            )
        drawn = [leaf.grad for leaf in self._leaves if leaf.grad is not None]
        if self._learnable and not drawn:
            raise BadRecipe(
                "No gradient reached the gates since their last step. Call backward on a loss of the model's output, "
                "then gates.step()."
            )
        self._leaves, self._drawn, self._learnable = [], None, False
        if drawn:
            self._learn(torch.stack(drawn).sum(0) / grad_scale, lr_scale)
        self.steps += 1

    def _learn(self, grad: Float64[Tensor, " head"], lr_scale: float) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shared = grad.to("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
            torch.distributed.all_reduce(shared)
            grad = shared.cpu() / torch.distributed.get_world_size()
        # Mid-annealing the exact gradient can reach 1e35 and carries no signal there; one such value, or one NaN,
        # would freeze its score for a thousand steps through Adam's second moment.
        finite = torch.isfinite(grad)
        self.dropped += int((~finite).sum())
        grad = torch.where(finite, grad, 0.0)
        self._signal = float(grad.abs().mean()) if len(grad) else 0.0
        self.relaxation.update(
            self.scores, self.moments, grad,
            count=self.count, step=self.steps, lr_scale=lr_scale, sites=self._sites,
        )  # fmt: skip

    def start_from(self, scores: Float64[Tensor, " head"]) -> None:
        """Start from these scores, one for each candidate, instead of from random ones; a unit takes their mean.

        Raises:
            BadRecipe: There are more or fewer, or one is not finite.
        """
        if scores.shape != (len(self._of_head),) or not torch.isfinite(scores).all():
            raise BadRecipe(
                f"Give one finite score for each of the {len(self._of_head)} heads that compete; got {scores.tolist()}."
            )
        total = torch.zeros(len(self.units), dtype=torch.float64)
        self.scores = total.index_add(0, torch.tensor(self._of_head, dtype=torch.long), scores.double()) / (
            len(self._of_head) / len(self.units)
        )

    def watch(self) -> dict[str, object]:
        """What a record holds of the gates at this step.

        The subset as of now, the relaxation's own state, the mean entropy of the gates drawn last (bits a gate; 0 once
        they are hard), the mean absolute gradient of the scores at the last step, the gap between the last score that
        is in and the first that is out, and how many gradients were dropped because they were not finite.
        """
        ordered = self.scores.sort(descending=True).values
        gap = float(ordered[self.count - 1] - ordered[self.count]) if 0 < self.count < len(ordered) else 0.0
        subset = self.subset()
        return {
            "step": self.steps,
            "heads": str(subset),
            "kept": list((subset - self.always).indices),
            **self.relaxation.watch(self.scores, self.count, self.steps),
            "entropy": self._entropy,
            "signal": self._signal,
            "gap_at_k": gap,
            "dropped_gradients": self.dropped,
        }

    def get_extra_state(self) -> Tensor:
        """Everything a resumed run needs, as one tensor: safetensors can hold it, and no data type cast reaches it."""
        counters = torch.tensor([self._identity, self.steps, self.draws, self.dropped], dtype=torch.float64)
        return torch.cat([counters, self.scores, *self.moments])

    def set_extra_state(self, state: Tensor) -> None:
        """Take up what `get_extra_state` gave."""
        heads = len(self.units)
        if state.shape != (4 + 3 * heads,) or int(state[0]) != self._identity:
            raise BadRecipe(
                f"Saved gates are for other heads, kinds of site or units: got {state.shape[0]} values for {heads} "
                "scores. Attach gates as they were attached when they were saved."
            )
        self._leaves, self._drawn, self._learnable = [], None, False  # of passes that nobody goes back through
        state = state.detach().to("cpu", torch.float64).clone()
        self.steps, self.draws, self.dropped = (int(n) for n in state[1:4])
        self.scores, self.moments = state[4 : 4 + heads], state[4 + heads :].reshape(2, heads)

    def _draw(self, model: nn.Module, args: object) -> None:
        """Before the model's forward pass: one draw for all its sites."""
        if not model.training:
            self._drawn = None
            return
        leaf = self.scores.clone().requires_grad_(torch.is_grad_enabled())
        gates = self.relaxation.sample(leaf, self.count, self.steps, generator(self.seed, self.draws))
        self.draws += 1
        self._entropy = entropy(gates.detach())
        if torch.is_grad_enabled():
            self._leaves.append(leaf)
            self._learnable = self._learnable or gates.requires_grad
        everywhere = torch.ones(len(self.candidates.head_map), dtype=torch.float64)
        where = torch.tensor(self.candidates.indices, dtype=torch.long)
        self._drawn = everywhere.index_copy(0, where, gates[self._of_head])

    def _attach(self, model: nn.Module, sites: Sequence[LiveSite]) -> None:
        there, flat = [live for live in sites if live.kept], self.candidates.head_map.index
        self._where = {live.site.name: [flat(Head(live.site.name, i)) for i in live.kept] for live in there}
        # Methods, not functions: a copy of the model is hooked to its own copy of these gates.
        self._handles = [model.register_forward_pre_hook(self._draw)]
        self._handles += [hook(live, self._gate_of) for live in there]

    def _gate_of(self, live: LiveSite, x: Tensor) -> Tensor:
        if self.training and torch._C._current_graph_task_id() != -1:  # a checkpointed layer, computed again
            self._require_one_draw()
        # A part that is called alone, as `generate` calls the encoder, draws nothing; an old draw means nothing.
        gates = self._drawn if self.training and self._drawn is not None else self._hard()
        # Half precision would let the gradient of a gate overflow. The type first: not every device has float64.
        return gates[self._where[live.site.name]].to(torch.promote_types(x.dtype, torch.float32)).to(x.device)

    def _require_one_draw(self) -> None:
        """What is computed again while gradients are must be gated as it was, and nothing says by which draw."""
        open_draws = sum(leaf.grad is None for leaf in self._leaves)
        if self._drawn is None or (self._learnable and open_draws > 1):
            raise BadRecipe(
                "Gradient checkpointing computes layers again in the backward pass, but there were "
                f"{'evaluations' if self._drawn is None else f'{open_draws} forward passes'} since the one that it "
                "belongs to, and each has gates of its own. Call backward right after every forward pass, or switch "
                "gradient checkpointing off."
            )

    def __getstate__(self) -> dict[str, object]:
        """For copies: draws of a pass that is under way are the original's."""
        return {**self.__dict__, "_leaves": [], "_drawn": None, "_learnable": False, "_chosen": None}

    def _hard(self) -> Float64[Tensor, " head"]:
        """The hard subset's gates; every site asks in every pass, so they are made anew only when the scores moved."""
        version = self.scores._version
        if self._chosen is None or self._chosen[0] is not self.scores or self._chosen[1] != version:
            gates = torch.zeros(len(self.candidates.head_map), dtype=torch.float64)
            gates[list(self.subset().indices)] = 1.0
            self._chosen = self.scores, version, gates
        return self._chosen[2]

    def detach(self) -> None:
        """Take the hooks off. `detach(model)` also takes the gates off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def attach(
    model: nn.Module, relaxation: Relaxation, *, sites: str | None = None, unit: str = "group", seed: int = 0
) -> Gates:
    """Put trainable gates on a model's heads; they are registered on it as `headcount_gates`.

    Args:
        model: A model with known attention. Its parameters are left alone.
        relaxation: For example `GumbelTopK(keep=12)`.
        sites: The kind of attention the budget is over; None: all.
        unit: What shares a gate under grouped-query attention; see `Budget`.
        seed: Of the initial scores and the noise.

    Gradient checkpointing must be the non-reentrant kind (`use_reentrant=False`): all layers share one draw. Every
    forward pass is then followed by its backward pass; several before one are refused.

    Raises:
        BadRecipe: The model already has gates, or the budget does not fit it.
        UnsupportedModel: The model's attention is not known.
    """
    model = whole_model(model)
    if getattr(model, GATES_NAME, None) is not None:
        raise BadRecipe("This model already has gates. Take them off first: headcount.detach(model).")
    sites_of_model = survey(model)
    there = heads_of(sites_of_model)
    candidates, keep_heads = Budget(relaxation.keep, sites, unit).resolve(there)
    gates = Gates(relaxation, candidates, there, keep_heads, unit, seed)
    gates._attach(model, sites_of_model)
    model.add_module(GATES_NAME, gates)
    return gates


def detach(model: nn.Module) -> None:
    """Take the gates off a model, if it has any: hooks, module and all."""
    model = whole_model(model)
    gates = getattr(model, GATES_NAME, None)
    if isinstance(gates, Gates):
        gates.detach()
        delattr(model, GATES_NAME)
