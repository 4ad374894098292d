"""Gumbel soft top-K: K softmaxes, each taking out of the race what the ones before have taken.

Li et al. 2021, eqs. 14 to 20, after Xie and Ermon 2019. With scores w, Gumbel noise n and temperature t:

    r^1 = w + n,   p^k = softmax(r^k / t),   r^(k+1) = r^k + log(1 - p^k),   gates = p^1 + ... + p^K

Written naively this gives NaN gradients at low temperature, and clamping 1 - p picks one head several times. Here
log(1 - p) of the leader is logsumexp(others) - logsumexp(all), and the backward pass is written out by hand in terms of
the softmax among the others, which never divides by the leader's 1 - p. Both in float64, in NumPy: K x H is too small
for anything faster to start.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.gates.relaxations.learned import LearnedScores


class _SoftTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, perturbed: Tensor, count: int, temperature: float) -> Tensor:
        race = _race(perturbed.detach().numpy(), count, temperature)
        ctx.race, ctx.temperature = race, temperature
        return torch.from_numpy(_gates(race))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return torch.from_numpy(_race_backward(ctx.race, ctx.temperature, grads[0].numpy())), None, None


def soft_top_k(perturbed: Float64[Tensor, " head"], count: int, temperature: float) -> Float64[Tensor, " head"]:
    """Relaxed K-hot gates of perturbed scores (eqs. 14 to 19): at least 0, summing to K; the top K as it gets cold.

    A single gate can exceed 1 while the temperature is high. K = 0 and K = H leave nothing to choose: all zeros, all
    ones, and no gradient. The temperature must be positive.
    """
    heads = perturbed.shape[0]
    if not 0 <= count <= heads:
        raise BadRecipe(f"Cannot keep {count} of {heads} heads. Give a number from 0 to {heads}.")
    if count in (0, heads):
        return torch.full_like(perturbed, float(count == heads)).detach()
    gates: Tensor = _SoftTopK.apply(perturbed, count, temperature)  # type: ignore[no-untyped-call]
    return gates


Race = tuple[Float64[np.ndarray, "k head"], list[int], list[float], list[float]]
"""Per softmax, what the backward pass needs: the softmax among the others, (K, H), 0 at the leader; the leader's index;
the leader's p; and 1 - p of it, to full precision."""


def _race(perturbed: Float64[np.ndarray, " head"], count: int, temperature: float) -> Race:
    z, coldness = perturbed / temperature, 1 / temperature
    others, lost = np.empty((count, z.size)), np.empty_like(z)
    leaders, shares, rests = [], [], []
    for o in others:
        leader = int(z.argmax())
        top = lifted = float(z[leader])
        np.exp(np.subtract(z, top, out=o), out=o)
        o[leader] = 0.0
        total = float(np.add.reduce(o))
        if total < 1e-200:  # the others are so far behind that they have to be seen from their own leader
            z[leader] = -np.inf
            lifted = float(z.max())
            np.exp(np.subtract(z, lifted, out=o), out=o)
            total = float(np.add.reduce(o))
        o *= 1 / total
        lead = top - lifted - math.log(total)  # log of p / (1 - p) of the leader
        share = 1 / (1 + math.exp(-lead)) if lead > -700 else 0.0
        rest = 1 / (1 + math.exp(lead)) if lead < 700 else 0.0
        if rest > 0:  # else no other head lost anything
            np.log1p(np.multiply(o, -rest, out=lost), out=lost)
            lost *= coldness
            z += lost
        z[leader] = top - coldness * (lead + math.log1p(math.exp(-lead)))
        leaders.append(leader)
        shares.append(share)
        rests.append(rest)
    return others, leaders, shares, rests


def _gates(race: Race) -> Float64[np.ndarray, " head"]:
    """The sum of all softmaxes: at each leader its p, at the others their share of the rest."""
    others, leaders, shares, rests = race
    gates: Float64[np.ndarray, " head"] = np.asarray(rests) @ others
    np.add.at(gates, leaders, shares)
    return gates


def _race_backward(race: Race, temperature: float, grad: Float64[np.ndarray, " head"]) -> Float64[np.ndarray, " head"]:
    """The adjoint of `_race`.

    With R the adjoint of r^(k+1), m the leader, q its p, o the softmax among the others (p_j = (1 - q) o_j):

    P_j = G_j - R_j / (1 - p_j), the adjoint of p^k; then the adjoint of r^k is R + p (P - <p, P>) / t. For the leader
    1 - q is multiplied out: R_m only ever appears as o_j q R_m, and as -q R_m.
    """
    others, leaders, shares, rests = race
    inverse = 1 / (1 - np.asarray(rests)[:, None] * others)
    coldness = 1 / temperature
    adjoint, part = np.zeros_like(grad), np.empty_like(grad)
    with np.errstate(over="ignore", invalid="ignore"):  # the exact gradient can overflow; the gates drop and count it
        for o, back, m, q, rest in zip(
            others[::-1], inverse[::-1], leaders[::-1], shares[::-1], rests[::-1], strict=True
        ):
            r_m, g_m = float(adjoint[m]), float(grad[m])
            np.multiply(adjoint, back, out=part)
            np.subtract(grad, part, out=part)  # P among the others
            mean = float(np.dot(o, part))  # <o, P>; o is 0 at the leader
            part *= coldness * rest
            part += coldness * (q * r_m - rest * (q * g_m + rest * mean))
            part *= o
            part[m] = coldness * q * (rest * (g_m - mean) - r_m)
            adjoint += part
    return adjoint


def gumbel(heads: int, generator: torch.Generator) -> Float64[Tensor, " head"]:
    """Standard Gumbel noise in float64, from a generator on the CPU."""
    uniform = torch.rand(heads, dtype=torch.float64, generator=generator)
    return -torch.log(-torch.log(uniform.clamp_min(torch.finfo(torch.float64).tiny)))


@dataclass(frozen=True)
class LogLinear:
    """A temperature that falls on a log-linear scale, then stays (Li et al. 2021, eq. 24 and Table 2).

    Attributes:
        start: Temperature at the first step.
        end: Temperature from step `steps` on.
        steps: Optimiser steps of cooling, counted from the start of this training. 0: at `end` from the first step.
        wait: Steps before that, in which all gates are one: the model trains unpruned. Not in the paper.
    """

    start: float = 1000.0
    end: float = 1e-8
    steps: int = 25_000
    wait: int = 0

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise BadRecipe(f"Temperatures must be positive, got {self.start} at the start and {self.end} at the end.")
        if not (self.steps >= 0 and self.wait >= 0):
            raise BadRecipe(f"Steps must be at least 0, got {self.steps} of cooling and {self.wait} before.")

    def __call__(self, step: int) -> float:
        """The temperature at an optimiser step, from 0."""
        cooled = max(0, step - self.wait)
        if cooled >= self.steps:
            return self.end
        return math.exp(math.log(self.start) + cooled / self.steps * (math.log(self.end) - math.log(self.start)))


@dataclass(frozen=True)
class GumbelTopK(LearnedScores):
    """Differentiable subset pruning's gates (Li et al. 2021): a relaxed random K-subset with learned scores.

    Attributes:
        keep: The budget: a number of heads, or a fraction of them.
        annealing: The temperature over the optimiser steps; the default is the paper's for BERT (Table 2), 25,000 of
            36,816 steps: give `steps` for a training of another length.
        lr: Learning rate of the scores at the peak of the schedule (Table 2: 0.5 for BERT, 0.2 for translation).
        clip: Bound on the absolute value of each score's gradient. The authors clip the norm of all gradients together
            to 1, which lets one score's spike stop the whole model.
        cooling_noise: Shrink the noise with the temperature once that is below 1, so that the subset settles. Not in
            the paper, whose noise keeps scale 1.
        mean_one: Scale soft gates by K / sum of gates squared: all of them one while they are equal, unchanged once
            they are hard. Not in the paper, whose gates all start at K/H.
        schedule: See `LearnedScores`.
    """

    keep: int | float
    annealing: LogLinear = field(default_factory=LogLinear)
    lr: float = 0.5
    clip: float = 1.0
    cooling_noise: bool = False
    mean_one: bool = False
    schedule: str = "follow"

    def __post_init__(self) -> None:
        self._require_learning()

    def sample(
        self, scores: Float64[Tensor, " head"], count: int, step: int, generator: torch.Generator
    ) -> Float64[Tensor, " head"]:
        """Gates for one forward pass: soft top-K of the scores plus fresh Gumbel noise."""
        if step < self.annealing.wait:
            return torch.ones_like(scores).detach()
        temperature = self.annealing(step)
        noise = gumbel(scores.shape[0], generator) * (min(1.0, temperature) if self.cooling_noise else 1.0)
        gates = soft_top_k(scores + noise, count, temperature)
        if self.mean_one and count:
            gates = gates * (count / gates.detach().square().sum())
        return gates

    def update(self, *args: Any, step: int, **kwargs: Any) -> None:
        """One step of Adam, whose first is the first after the wait."""
        super().update(*args, step=max(0, step - self.annealing.wait), **kwargs)

    def remaining(self, step: int) -> int:
        """Steps until the temperature is at its end; one that does not change is there once gates are drawn."""
        cooling = self.annealing.steps if self.annealing.start != self.annealing.end else 0
        return max(0, self.annealing.wait + cooling - step)

    def watch(self, scores: Float64[Tensor, " head"], count: int, step: int) -> dict[str, object]:
        """The temperature."""
        return {"temperature": self.annealing(step)}
