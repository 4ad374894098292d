"""Relaxations against closed forms, steps worked by hand and laws; soft top-K itself is in test_gumbel_topk."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.gates.relaxations import (
    Fading,
    GumbelTopK,
    HardConcrete,
    LearnedScores,
    StraightThrough,
    hard_top_k,
)
from headcount.gates.relaxations.fading import GONE
from headcount.gates.relaxations.gumbel_topk import gumbel
from headcount.gates.relaxations.learned import Relaxation

DRAWS = 100_000
LEARNING = [StraightThrough(2), HardConcrete(2), GumbelTopK(2, clip=0.7)]
CONCRETE = [HardConcrete(1), HardConcrete(1, beta=0.66, gamma=-0.3, zeta=1.2)]
moderate = settings(max_examples=40, deadline=None, derandomize=True)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def move(
    relaxation: Any, scores: Tensor, moments: Tensor, grad: Tensor, step: int, keep: int = 2, lr_scale: float = 1.0,
    sites: tuple[int, ...] = (),
) -> None:  # fmt: skip
    sites = sites or (0,) * len(scores)
    relaxation.update(scores, moments, grad, count=keep, step=step, lr_scale=lr_scale, sites=sites)


@pytest.mark.parametrize("relaxation", [*LEARNING, Fading(2, 0, 9)], ids=lambda each: type(each).__name__)
def test_every_relaxation_keeps_the_contract(relaxation: Any) -> None:
    assert isinstance(relaxation, Relaxation)
    scores = relaxation.initial_scores(6, source(1))
    assert scores.dtype == torch.float64 and scores.shape == (6,)
    assert torch.equal(scores, relaxation.initial_scores(6, source(1)))
    samples = [relaxation.sample(scores, 2, 3, source(seed)) for seed in (1, 1)]
    assert torch.equal(*samples) and samples[0].min() >= 0
    if not isinstance(relaxation, HardConcrete):
        assert relaxation.penalty(scores).item() == 0


# Straight-through


@moderate
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=9), st.data())
def test_straight_through_is_hard_forward_and_the_identity_backward(values: list[int], data: st.DataObject) -> None:
    """With many ties, and at K = 0 and K = H too."""
    keep = data.draw(st.integers(0, len(values)))
    scores = doubles(*map(float, values)).requires_grad_()
    gates = hard_top_k(scores, keep)
    best = sorted(range(len(values)), key=lambda head: (-values[head], head))[:keep]
    assert gates.tolist() == [float(head in best) for head in range(len(values))]
    weights = torch.arange(1, len(values) + 1, dtype=torch.float64) - 3.5
    (grad,) = torch.autograd.grad((gates * weights).sum(), scores)
    assert torch.equal(grad, weights)


@pytest.mark.parametrize(
    ("keep", "expected"), [(0, [0, 0, 0, 0]), (1, [0, 1, 0, 0]), (2, [0, 1, 1, 0]), (3, [1, 1, 1, 0]), (4, [1] * 4)]
)
def test_straight_through_by_hand(keep: int, expected: list[int]) -> None:
    """Heads 1 and 2 tie at the top, heads 0 and 3 below: ties go to the head that comes first."""
    generator = source(5)
    before = generator.get_state()
    gates = [StraightThrough(keep).sample(doubles(0, 7, 7, 0), keep, step, generator) for step in (0, 999)]
    assert gates[0].tolist() == gates[1].tolist() == expected
    assert torch.equal(generator.get_state(), before)  # nothing was drawn


@pytest.mark.parametrize("keep", [-1, 4])
def test_straight_through_refuses_what_there_is_not(keep: int) -> None:
    with pytest.raises(BadRecipe, match=f"Cannot keep {keep} of 3 heads. Give a number from 0 to 3"):
        hard_top_k(doubles(1, 2, 3), keep)


# Hard concrete


def above(x: float, log_a: float, gate: HardConcrete) -> float:
    """P(gate > x) for x in [0, 1): Louizos et al. 2018, the complement of the stretched distribution's CDF."""
    odds: float = math.exp(log_a) * ((gate.zeta - x) / (x - gate.gamma)) ** gate.beta
    return odds / (1 + odds)


@pytest.mark.parametrize("gate", CONCRETE)
@pytest.mark.parametrize("log_a", [-2.0, 0.0, 1.5])
def test_hard_concrete_has_the_distribution_of_its_closed_form(gate: HardConcrete, log_a: float) -> None:
    """P(gate > x), with P(gate > 0) and P(gate = 1) at the ends; E[g] is the integral of P(g > x), E[g^2] of 2x it."""
    gates = gate.sample(torch.full((DRAWS,), log_a, dtype=torch.float64), 1, 0, source(7))
    assert gates.min() == 0 and gates.max() == 1
    for x, open_gates in [(0.0, gates > 0), (0.3, gates > 0.3), (0.8, gates > 0.8), (1.0, gates == 1)]:
        p = above(x, log_a, gate)
        assert 0.02 < p < 0.98
        assert abs(open_gates.double().mean().item() - p) < 4.5 * math.sqrt(p * (1 - p) / DRAWS), x
    middles = [(i + 0.5) / 2000 for i in range(2000)]
    mean = sum(above(x, log_a, gate) for x in middles) / 2000
    square = sum(2 * x * above(x, log_a, gate) for x in middles) / 2000
    assert abs(gates.mean().item() - mean) < 4.5 * math.sqrt((square - mean**2) / DRAWS)


def test_open_probability_and_penalty_by_hand() -> None:
    """As beta log(-gamma / zeta) = -0.33 log 11, P(open) at log a = 0 and 1 is 1 / (1 + 11^-0.33 e^-log a)."""
    gate, scores = HardConcrete(1, penalty_weight=0.2), doubles(0, 1)
    expected = [1 / (1 + 11**-0.33), 1 / (1 + 11**-0.33 / math.e)]
    assert expected == pytest.approx([0.68812, 0.85709], abs=1e-5)
    assert gate.open_probability(scores).tolist() == pytest.approx(expected, rel=1e-12)
    assert gate.penalty(scores).item() == pytest.approx(0.2 * sum(expected), rel=1e-12)
    assert gate.watch(scores, 1, 0) == {"open": 2, "expected_open": pytest.approx(sum(expected))}


@pytest.mark.parametrize("gate", CONCRETE)
def test_gradient_of_the_penalty_against_finite_differences(gate: HardConcrete) -> None:
    scores = doubles(-3, -0.5, 0, 2, 4).requires_grad_()
    (grad,) = torch.autograd.grad(gate.penalty(scores), scores)
    for head in range(5):
        h = torch.zeros(5, dtype=torch.float64).index_fill(0, torch.tensor(head), 1e-5)
        slope = (gate.penalty(scores.detach() + h) - gate.penalty(scores.detach() - h)).item() / 2e-5
        assert grad[head].item() == pytest.approx(slope, rel=1e-6) and grad[head] > 0


def test_gradient_of_the_gates_against_finite_differences() -> None:
    """With the noise held; gates that are shut or wide open have none."""
    gate, scores = HardConcrete(1), torch.linspace(-2, 2, 12, dtype=torch.float64).requires_grad_()
    gates = gate.sample(scores, 1, 0, source(2))
    (grad,) = torch.autograd.grad(gates.sum(), scores)
    between = (gates > 0) & (gates < 1)
    assert 0 < between.sum() < 12 and torch.equal(grad != 0, between)
    assert torch.autograd.gradcheck(lambda x: gate.sample(x, 1, 0, source(2)), (scores,))


def test_alive_counts_gates_that_are_open_without_noise() -> None:
    """sigmoid(log a) 1.2 - 0.1 > 0 where log a > -log 11."""
    edge = -math.log(11)
    gate, scores = HardConcrete(1), doubles(-5, edge - 1e-6, edge + 1e-6, 0, 5)
    assert gate.alive(scores) == gate.watch(scores, 1, 0)["open"] == 3
    assert gate.expected(scores).tolist() == pytest.approx([0, 0, 1e-7, 0.5, 1], abs=1e-6)
    assert [gate.alive(doubles(*heads)) for heads in ([-9, -9], [9, 9, 9])] == [0, 3]
    assert HardConcrete(1, open_above=0.5).alive(doubles(-9, -1e-6, 1e-6)) == 1  # log a > 0, as Li et al. count


# Fading


def test_cubic_schedule_by_hand() -> None:
    """12 heads to 4 from step 10 to 20: 4 + 8 (1 - t)^3, which is 4 + 8 x 0.729 at 11 and 4 + 8 / 8 in the middle."""
    fading = Fading(4, first=10, last=20)
    steps = {0: 12, 9: 12, 10: 12, 11: 10, 12: 8, 15: 5, 19: 4, 20: 4, 999: 4}
    assert {step: fading.left(12, 4, step) for step in steps} == steps
    assert [Fading(4, 0, 0).left(12, 4, step) for step in (0, 1)] == [4, 4]


def test_heads_can_all_leave_at_one_step() -> None:
    assert [Fading(4, first=7, last=7).left(12, 4, step) for step in (0, 6, 7)] == [12, 12, 4]


@moderate
@given(
    st.integers(1, 10), st.integers(0, 4), st.integers(1, 8), st.integers(0, 999), st.booleans(),
    st.sampled_from([0.0, 0.5, 0.95]), st.data(),
)  # fmt: skip
def test_a_head_that_left_never_comes_back(
    heads: int, first: int, length: int, seed: int, layer_norm: bool, memory: float, data: st.DataObject
) -> None:
    keep, generator = data.draw(st.integers(0, heads)), source(seed)
    fading = Fading(keep, first, first + length, layer_norm, memory)
    scores, moments = fading.initial_scores(heads, generator), torch.zeros(2, heads, dtype=torch.float64)
    before = torch.ones(heads, dtype=torch.bool)
    for step in range(first + length + 3):
        gates = fading.sample(scores, keep, step, generator)
        now = gates == 1
        assert torch.equal(gates, now.double()) and int(now.sum()) == fading.left(heads, keep, step)
        assert (now <= before).all() and (step > first or now.all())
        grad = torch.randn(heads, dtype=torch.float64, generator=generator) * (
            1 + 1e6 * ~now
        )  # those gone call loudest
        move(fading, scores, moments, grad, step, keep, sites=tuple(head // 3 for head in range(heads)))
        assert scores.isfinite().all() and torch.equal(scores == GONE, ~now)
        before = now
    assert int(before.sum()) == keep and fading.watch(scores, keep, step) == {"left": keep}


def test_the_running_mean_by_hand() -> None:
    """Memory 1/2: |4| gives 2 / (1 - 1/2), then |-2| gives (2 + 2) / 2 / (1 - 1/4)."""
    fading, scores, moments = Fading(1, 5, 9, memory=0.5), doubles(0), torch.zeros(2, 1, dtype=torch.float64)
    for step, (grad, expected) in enumerate([(4.0, 4.0), (-2.0, 8 / 3)]):
        move(fading, scores, moments, doubles(grad), step, keep=1)
        assert scores.tolist() == pytest.approx([expected])


def test_layer_norm_ranks_within_sites() -> None:
    """Gradients (3, 4) at one site, (40, 30) at the other: as they are, the second site wins; divided by the norms 5
    and 50, the best of each. The norm is that of the heads which are left: one head alone has importance 1.
    """
    ranked: dict[bool, Any] = {}
    for layer_norm in (False, True):
        fading, moments = Fading(2, 0, 1, layer_norm, memory=0.0), torch.zeros(2, 4, dtype=torch.float64)
        scores = fading.initial_scores(4, source())
        move(fading, scores, moments, doubles(3, -4, 40, -30), 0, sites=(0, 0, 1, 1))
        ranked[layer_norm] = scores.tolist(), fading.sample(scores, 2, 1, source()).tolist()
    assert ranked[False] == (pytest.approx([3, 4, 40, 30]), [0, 0, 1, 1])
    assert ranked[True] == (pytest.approx([0.6, 0.8, 0.8, 0.6]), [0, 1, 1, 0])
    move(fading, scores, moments, doubles(100, 6, 2, 100), 1, sites=(0, 0, 1, 1))
    assert scores.tolist() == pytest.approx([GONE, 1, 1, GONE])


def test_fading_passes_gradients_to_the_scores() -> None:
    scores = doubles(3, 1, 2).requires_grad_()
    gates = Fading(1, 0, 5).sample(scores, 1, 5, source())
    assert gates.tolist() == [1, 0, 0]
    assert torch.autograd.grad((gates * doubles(5, 6, 7)).sum(), scores)[0].tolist() == [5, 6, 7]


# Scores that learn


@pytest.mark.parametrize("relaxation", LEARNING, ids=lambda each: type(each).__name__)
def test_first_step_by_hand(relaxation: LearnedScores) -> None:
    """Bias correction makes the first step lr x g / (|g| + 1e-8) of the clipped gradient: lr x its sign, or 1/2 of that
    for a gradient as small as Adam's epsilon.
    """
    scores, moments = doubles(1, 1, 1, 1), torch.zeros(2, 4, dtype=torch.float64)
    move(relaxation, scores, moments, doubles(0.3, -500, 0, 1e-8), 0, lr_scale=0.5)
    step, clip = relaxation.lr * 0.5, relaxation.clip
    assert scores.tolist() == pytest.approx([1 - step, 1 + step, 1, 1 - step / 2], rel=1e-6)
    assert moments[0].tolist() == pytest.approx([0.03, -0.1 * clip, 0, 1e-9])
    assert moments[1].tolist() == pytest.approx([0.001 * 0.09, 0.001 * clip**2, 0, 1e-19])


@pytest.mark.parametrize("kind", [StraightThrough, HardConcrete, GumbelTopK])
def test_a_constant_rate_does_not_follow_the_models(kind: Any) -> None:
    moved = []
    for schedule, lr_scale in (("follow", 1.0), ("constant", 0.1), ("follow", 0.1)):
        scores = doubles(1, 1, 1)
        move(
            kind(2, schedule=schedule),
            scores,
            torch.zeros(2, 3, dtype=torch.float64),
            doubles(1, -1, 0),
            0,
            2,
            lr_scale,
        )
        moved.append(scores)
    assert torch.equal(moved[0], moved[1])
    assert torch.allclose(moved[2] - 1, 0.1 * (moved[0] - 1)) and moved[0][0] < moved[2][0] < 1
    with pytest.raises(BadRecipe, match="Unknown schedule of the scores 'cosine'. Valid: follow, constant"):
        kind(2, schedule="cosine")


@pytest.mark.parametrize("relaxation", LEARNING, ids=lambda each: type(each).__name__)
def test_steps_are_those_of_torchs_adam(relaxation: LearnedScores) -> None:
    generator = source(3)
    scores, moments = gumbel(5, generator), torch.zeros(2, 5, dtype=torch.float64)
    parameter = torch.nn.Parameter(scores.clone())
    adam = torch.optim.Adam([parameter])
    for step, lr_scale in enumerate([0.0, 0.5, 1.0, 0.7, 0.1]):
        grad = 2 * torch.randn(5, dtype=torch.float64, generator=generator)
        move(relaxation, scores, moments, grad, step, lr_scale=lr_scale)
        adam.param_groups[0]["lr"] = relaxation.lr * lr_scale
        parameter.grad = grad.clamp(-relaxation.clip, relaxation.clip)
        adam.step()
        assert torch.allclose(scores, parameter.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("make", "fields", "says"),
    [
        (HardConcrete, {"gamma": 0.0}, "needs gamma < 0, zeta > 1, beta > 0"),
        (HardConcrete, {"zeta": 1.0}, "zeta 1.0"),
        (HardConcrete, {"beta": 0.0}, "beta 0.0"),
        (HardConcrete, {"penalty_weight": -0.1}, "a penalty that is not negative"),
        (HardConcrete, {"lr": 0.0}, "learning rate and clip must be positive, got 0.0 and 1.0"),
        (StraightThrough, {"clip": 0.0}, "learning rate and clip must be positive"),
        (GumbelTopK, {"lr": -1.0}, "learning rate and clip must be positive"),
        (HardConcrete, {"open_above": 1.0}, "must be in \\[0, 1\\), got 1.0"),
        (Fading, {"first": 5, "last": 4}, "leave from step 5 to 4"),
        (Fading, {"first": -1, "last": 4}, "leave from step -1 to 4"),
        (Fading, {"first": 0, "last": 4, "memory": 1.0}, "the memory in \\[0, 1\\)"),
    ],
)
def test_bad_parameters_are_refused(make: Any, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecipe, match=says):
        make(keep=1, **fields)
