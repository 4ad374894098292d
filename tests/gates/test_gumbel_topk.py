"""Gumbel soft top-K against independent brute force: enumeration, and autograd of the recursion as the paper has it."""

import itertools
import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.gates.relaxations import soft_top_k
from headcount.gates.relaxations.gumbel_topk import gumbel

H = 144
TEMPERATURES = [1000.0, 10.0, 1.0, 0.1, 1e-2, 1e-4, 1e-6, 1e-8]


def draw(spread: float, seed: int, heads: int = H) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(heads, dtype=torch.float64, generator=generator)
    return scores + gumbel(heads, generator)


def recursion(r: Tensor, keep: int, temperature: float) -> Tensor:
    """Eqs. 14 to 19 under autograd; log(1 - p) of the leader as logsumexp(others) - logsumexp(all)."""
    gates = torch.zeros_like(r)
    for _ in range(keep):
        z = r / temperature
        p = (z - z.logsumexp(0)).exp()
        gates = gates + p
        others = torch.arange(len(r)) != r.argmax()
        log_rest = torch.where(
            others, torch.log1p(-torch.where(others, p, 0.0)), z[others].logsumexp(0) - z.logsumexp(0)
        )
        r = r + log_rest
    return gates


@pytest.mark.parametrize("spread", [1.0, 10.0, 40.0])
@pytest.mark.parametrize("keep", [1, 12, 72, 132, 143])
def test_finite_and_exact_at_every_temperature(spread: float, keep: int) -> None:
    for seed, temperature in enumerate(TEMPERATURES):
        r = draw(spread, seed).requires_grad_()
        gates = soft_top_k(r, keep, temperature)
        weights = draw(1.0, seed + 1)
        (grad,) = torch.autograd.grad((gates * weights).sum(), r)
        assert gates.isfinite().all() and grad.isfinite().all()
        assert gates.min() >= 0 and abs(gates.sum().item() - keep) < 1e-9
    hard = torch.zeros(H, dtype=torch.float64).index_fill(0, r.topk(keep).indices, 1.0)
    assert torch.equal(gates.detach(), hard)  # at 1e-8


@pytest.mark.parametrize("spread", [1.0, 10.0, 40.0])
@pytest.mark.parametrize("keep", [1, 12, 72])
def test_backward_is_that_of_the_recursion(spread: float, keep: int) -> None:
    """To 1e-9; where the map is chaotic (mid-annealing), to what one rounding of the input makes of it."""

    def both(r: Tensor, function: Callable[..., Tensor]) -> Tensor:
        r = r.requires_grad_()
        gates = function(r, keep, temperature)
        return torch.stack([gates.detach(), torch.autograd.grad((gates * weights).sum(), r)[0]])

    exactly = 0
    for seed, temperature in enumerate(TEMPERATURES):  # noqa: B007 read inside
        r, weights = draw(spread, seed), draw(1.0, seed + 1)
        expected = both(r.clone(), recursion)
        if not expected.isfinite().all():
            continue
        rounding = (both(r * (1 + 2**-52), recursion) - expected).abs().max().item()
        scale = max(1.0, expected.abs().max().item())
        error = (both(r.clone(), soft_top_k) - expected).abs().max().item()
        # The recursion under autograd itself loses digits near ties: the next test has the exact values.
        assert error < max(1e-8 * scale, 20 * rounding)
        exactly += error < 1e-9 * scale
    assert exactly >= 5


@pytest.mark.parametrize(
    ("keep", "temperature"),
    [(12, 1e-2), pytest.param(72, 1e-4, marks=pytest.mark.slow), pytest.param(132, 1.0, marks=pytest.mark.slow)],
)
def test_backward_against_sixty_digits(keep: int, temperature: float) -> None:
    r, weights = draw(1.0, 5).requires_grad_(), draw(1.0, 6)
    (grad,) = torch.autograd.grad((soft_top_k(r, keep, temperature) * weights).sum(), r)
    head = int(grad.abs().argmax())

    def weighted_gates(shift: mpmath.mpf) -> mpmath.mpf:
        race = [mpmath.mpf(x) + (shift if i == head else 0) for i, x in enumerate(r.tolist())]
        total = mpmath.mpf(0)
        for _ in range(keep):
            e = [mpmath.exp((x - max(race)) / mpmath.mpf(temperature)) for x in race]
            norm, first = mpmath.fsum(e), race.index(max(race))
            rest = mpmath.fsum(e[:first] + e[first + 1 :])
            total += mpmath.fsum(w * x / norm for w, x in zip(weights.tolist(), e, strict=True))
            race = [x + mpmath.log(rest / norm if i == first else 1 - e[i] / norm) for i, x in enumerate(race)]
        return total

    with mpmath.workdps(60):
        h = mpmath.mpf(10) ** -25
        exact = (weighted_gates(h) - weighted_gates(-h)) / (2 * h)
    assert float(grad[head]) == pytest.approx(float(exact), rel=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0.3, 1.0, 3.0]))
def test_backward_against_finite_differences(seed: int, keep: int, temperature: float) -> None:
    r = draw(1.0, seed, heads=6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_top_k(x, keep, temperature), (r,), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_frequencies_of_subsets_are_those_enumerated() -> None:
    """Eqs. 12 and 13 by brute force on five heads, against the hard subset of perturbed scores."""
    scores = torch.tensor([0.3, -1.0, 1.2, 0.0, 0.7], dtype=torch.float64)
    keep, draws = 2, 15_000
    generator = torch.Generator().manual_seed(1)
    counts: dict[tuple[int, ...], int] = dict.fromkeys(itertools.combinations(range(5), keep), 0)
    for _ in range(draws):
        gates = soft_top_k(scores + gumbel(5, generator), keep, 1e-8)
        counts[tuple(gates.nonzero().flatten().tolist())] += 1
    importance = scores.exp()
    for subset, count in counts.items():
        probability = 0.0
        for order in itertools.permutations(subset):
            left, chance = importance.sum().item(), 1.0
            for head in order:
                chance *= importance[head].item() / left
                left -= importance[head].item()
            probability += chance
        deviation = math.sqrt(probability * (1 - probability) / draws)
        assert abs(count / draws - probability) < 4.5 * deviation, (subset, count / draws, probability)


def test_two_heads_by_hand() -> None:
    """K = 1 is a softmax: r = (1, 0), temperature 0.5 gives p = 1 / (1 + e^-2), and dp/dr = p (1 - p) / 0.5."""
    r = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    gates = soft_top_k(r, 1, 0.5)
    p = 1 / (1 + math.exp(-2))
    (grad,) = torch.autograd.grad(gates[0], r)
    assert gates.tolist() == pytest.approx([p, 1 - p], abs=1e-15)
    assert grad.tolist() == pytest.approx([p * (1 - p) / 0.5, -p * (1 - p) / 0.5], abs=1e-15)


def test_nothing_to_choose() -> None:
    r = draw(1.0, 0).requires_grad_()
    assert soft_top_k(r, 0, 1.0).tolist() == [0.0] * H
    assert soft_top_k(r, H, 1.0).tolist() == [1.0] * H
    with pytest.raises(BadRecipe, match="Cannot keep 145 of 144"):
        soft_top_k(r, 145, 1.0)
