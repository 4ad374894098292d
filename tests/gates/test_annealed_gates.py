"""Gates of joint pruning as they cool: the annealing, and what we add to the paper's noise and scale."""

from typing import Any

import pytest
import torch
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.gates.relaxations import GumbelTopK, LogLinear, soft_top_k
from headcount.gates.relaxations.gumbel_topk import gumbel


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_annealing_is_the_papers() -> None:
    """Anchors for BERT: the temperature crosses 1 at step 6818 and is 0.04 at 10,000."""
    cool = LogLinear()
    assert cool(0) == pytest.approx(1000.0) and cool(25_000) == cool(99_999) == 1e-8
    assert cool(6818) == pytest.approx(1.0, rel=2e-3) and cool(10_000) == pytest.approx(0.04, rel=0.01)
    assert LogLinear(steps=0)(0) == 1e-8
    with pytest.raises(BadRecipe, match="must be positive"):
        LogLinear(end=0.0)


def test_relaxation_starts_and_samples_by_its_generator() -> None:
    relaxation = GumbelTopK(keep=3)
    first, second = (relaxation.initial_scores(9, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second) and first.abs().max() <= 0.5
    samples = [relaxation.sample(first, 3, 0, torch.Generator().manual_seed(n)) for n in (1, 1, 2)]
    assert torch.equal(samples[0], samples[1]) and not torch.equal(samples[0], samples[2])
    assert relaxation.penalty(first).item() == 0
    assert relaxation.watch(first, 3, 0) == {"temperature": pytest.approx(1000.0)}


def test_while_waiting_gates_are_one_and_have_no_gradient() -> None:
    relaxation = GumbelTopK(2, LogLinear(start=10.0, end=1e-8, steps=4, wait=3), mean_one=True)
    scores = torch.arange(5, dtype=torch.float64).requires_grad_()
    for step in range(3):
        gates = relaxation.sample(scores, 2, step, source(step))
        assert gates.tolist() == [1] * 5 and not gates.requires_grad
    first = relaxation.sample(scores, 2, 3, source())
    assert first.requires_grad and first.tolist() != [1] * 5
    last = relaxation.sample(scores, 2, 7, source())
    assert sorted(last.tolist()) == [0, 0, 0, 1, 1]
    assert relaxation.watch(scores.detach(), 2, 7) == {"temperature": 1e-8}


def test_cooling_noise_settles_the_subset() -> None:
    """Cold, every draw is the top K of the scores; with the paper's noise draws differ. Warm, the noise is the same."""
    scores, cold = torch.tensor([0.3, -1, 1.2, 0, 0.7], dtype=torch.float64), LogLinear(steps=0)
    drawn = {
        cools: {
            tuple(GumbelTopK(2, cold, cooling_noise=cools).sample(scores, 2, 0, source(seed)).tolist())
            for seed in range(20)
        }
        for cools in (True, False)
    }
    assert drawn[True] == {(0, 0, 1, 0, 1)} and len(drawn[False]) > 3
    for temperature, scale in [(0.25, 0.25), (1.0, 1.0), (3.0, 1.0)]:
        cooling = GumbelTopK(2, LogLinear(end=temperature, steps=0), cooling_noise=True)
        expected = soft_top_k(scores + scale * gumbel(5, source(4)), 2, temperature)
        assert torch.equal(cooling.sample(scores, 2, 0, source(4)), expected)


def gates_at(temperature: float, mean_one: bool, keep: int = 3, scores: Tensor | None = None) -> Tensor:
    relaxation = GumbelTopK(keep, LogLinear(end=temperature, steps=0), mean_one=mean_one)
    return relaxation.sample(torch.linspace(-1, 1, 12).double() if scores is None else scores, keep, 0, source(6))


def test_mean_one() -> None:
    """Gates start at one, not at K/H; in between they are scaled by K / sum of squares; hard ones are left alone."""
    assert gates_at(1e6, False).tolist() == pytest.approx([3 / 12] * 12, abs=1e-4)
    assert gates_at(1e6, True).tolist() == pytest.approx([1] * 12, abs=1e-4)
    soft, scaled = gates_at(0.5, False), gates_at(0.5, True)
    factor = 3 / sum(gate**2 for gate in soft.tolist())
    assert factor > 1.05 and scaled.tolist() == pytest.approx([factor * gate for gate in soft.tolist()], rel=1e-12)
    hard = gates_at(1e-8, True)
    assert torch.equal(hard, gates_at(1e-8, False)) and sorted(hard.tolist()) == [0] * 9 + [1] * 3
    assert gates_at(0.5, True, keep=0).tolist() == [0] * 12 and gates_at(0.5, True, keep=12).tolist() == [1] * 12


def test_the_scale_of_mean_one_is_a_constant_to_the_gradient() -> None:
    weights = torch.arange(12, dtype=torch.float64)
    slopes = []
    for mean_one in (False, True):
        scores = torch.linspace(-1, 1, 12).double().requires_grad_()
        slopes.append(torch.autograd.grad((gates_at(0.5, mean_one, scores=scores) * weights).sum(), scores)[0])
    factor = 3 / gates_at(0.5, False).square().sum()
    assert slopes[0].abs().min() > 0 and torch.allclose(slopes[1], factor * slopes[0], rtol=1e-10)


def test_annealing_starts_after_the_wait() -> None:
    cool, later = LogLinear(start=100.0, end=0.01, steps=4), LogLinear(start=100.0, end=0.01, steps=4, wait=3)
    assert [cool(step) for step in range(6)] == pytest.approx([100, 10, 1, 0.1, 0.01, 0.01])
    assert [later(step) for step in range(3)] == pytest.approx([100] * 3)
    assert [later(step + 3) for step in range(6)] == [cool(step) for step in range(6)]
    assert [LogLinear(steps=0, wait=2)(step) for step in (0, 2)] == [1e-8, 1e-8]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"wait": -1}, "Steps must be at least 0, got 25000 of cooling and -1 before"),
        ({"steps": -1}, "Steps must be at least 0"),
        ({"start": 0.0}, "Temperatures must be positive, got 0.0 at the start and 1e-08 at the end"),
        ({"end": -1e-8}, "Temperatures must be positive"),
    ],
)
def test_bad_annealing_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecipe, match=says):
        LogLinear(**fields)
