"""Gates: one draw a pass, noise in training only, an optimiser of their own, state that travels, and no trace left."""

import copy

import pytest
import torch
from torch import Tensor, nn

import headcount
from families import CLASSIFIERS, checkpointing, tiny
from headcount.anatomy import head_map
from headcount.anatomy.example import random_inputs
from headcount.errors import BadRecipe
from headcount.gates.hooks import gated, masked, scale_heads
from headcount.gates.relaxations import Fading, GumbelTopK, HardConcrete, LogLinear, StraightThrough
from headcount.gates.trainable import GATES_NAME, attach, detach
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs


def quick(keep: float = 5, **options: float) -> GumbelTopK:
    return GumbelTopK(keep=keep, annealing=LogLinear(start=10.0, steps=6), **options)  # type: ignore[arg-type]


def train(model: torch.nn.Module, gates: headcount.Gates, steps: int, lr: float = 1e-3) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
    for step in range(steps):
        batch = random_inputs(model, seed=step)
        loss = model(**batch, labels=torch.tensor([0, 1])).loss + gates.penalty()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        gates.step()
    model.eval()


def test_scale_heads_by_hand() -> None:
    x = torch.arange(6.0).reshape(1, 6)
    assert scale_heads(x, torch.tensor([2.0, 0.0, -1.0]), 2).tolist() == [[0.0, 2.0, 0.0, 0.0, -4.0, -5.0]]


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_gate_gradients_equal_finite_differences(family: str) -> None:
    model = tiny(family).double()
    inputs = random_inputs(model)
    sites = [site.name for site in head_map(model).sites]
    values = {name: torch.rand(4, dtype=torch.float64, requires_grad=True) for name in sites}

    def loss() -> torch.Tensor:
        with gated(model, lambda live, x: values[live.site.name]):
            total: torch.Tensor = model(**inputs).logits.square().sum()
            return total

    grads = torch.autograd.grad(loss(), list(values.values()))
    for gate, grad in zip(values.values(), grads, strict=True):
        for head in range(4):
            with torch.no_grad():
                gate[head] += 1e-6
                up = loss()
                gate[head] -= 2e-6
                down = loss()
                gate[head] += 1e-6
            assert float((up - down) / 2e-6) == pytest.approx(float(grad[head]), rel=1e-5, abs=1e-8)


def test_training_draws_and_evaluation_does_not() -> None:
    model = tiny("bert")
    inputs = random_inputs(model)
    gates = attach(model, quick())
    with masked(model, gates.subset()):
        hard = outputs(model, inputs)
    assert torch.equal(outputs(model, inputs), hard) and gates.draws == 0
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    noisy = [model(**inputs).logits for _ in range(2)]
    assert gates.draws == 2 and not torch.equal(*noisy)
    assert gates._drawn is not None and gates._drawn.sum().item() == pytest.approx(5)


def test_scores_learn_apart_from_the_models_optimiser() -> None:
    model = tiny("bert")
    gates = attach(model, quick())
    before = gates.scores.clone()
    assert not list(gates.parameters())
    train(model, gates, 1)
    # Adam's first step is the learning rate in size wherever there is a gradient well above its epsilon.
    assert ((gates.scores - before).abs() <= 0.5 + 1e-9).all() and (gates.scores - before).abs().max() > 0.1
    half = attach(copy.deepcopy(strip(model)), quick())
    assert half.steps == 0 and gates.steps == 1
    with pytest.raises(BadRecipe, match="No gates were drawn since their last step"):
        gates.step()


def strip(model: torch.nn.Module) -> torch.nn.Module:
    detach(model)
    return model


def test_bad_gradients_are_dropped_and_counted_and_the_rest_clipped() -> None:
    gates = attach(tiny("bert"), quick())
    before = gates.scores.clone()
    grad = torch.zeros(12, dtype=torch.float64)
    grad[0], grad[1], grad[2] = float("nan"), float("inf"), 1e30
    gates._learn(grad, lr_scale=1.0)
    assert gates.dropped == 2 and gates.watch()["dropped_gradients"] == 2
    assert torch.equal(gates.scores[[0, 1]], before[[0, 1]])
    assert gates.moments[:, 2].tolist() == pytest.approx([0.1 * 1.0, 0.001 * 1.0])


def test_state_travels_in_the_state_dict_and_a_resumed_run_is_the_same() -> None:
    straight, broken = tiny("bert"), tiny("bert")
    for model in (straight, broken):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    whole = attach(straight, quick(), seed=3)
    train(straight, whole, 3, lr=0.0)
    first = attach(broken, quick(), seed=3)
    train(broken, first, 3, lr=0.0)
    saved = {name: tensor.clone() for name, tensor in broken.state_dict().items()}
    assert f"{GATES_NAME}._extra_state" in saved
    resumed_model = tiny("bert", seed=9)
    resumed = attach(resumed_model, quick(), seed=3)
    resumed_model.load_state_dict(saved)
    assert torch.equal(resumed.scores, whole.scores) and resumed.draws == whole.draws == 3
    resumed_model.to(torch.bfloat16)
    assert resumed.scores.dtype == torch.float64  # no cast of the model reaches the scores
    with pytest.raises(BadRecipe, match="for other heads, kinds of site or units"):
        resumed.set_extra_state(torch.zeros(4))


def test_noise_depends_on_seed_and_draw_alone() -> None:
    drawn = []
    for seed in (1, 1, 2):
        model = tiny("bert").train()
        gates = attach(model, quick(), seed=seed)
        torch.rand(7)  # torch's global generator has no say
        model(**random_inputs(model))
        drawn.append(gates._drawn)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_detaching_leaves_no_trace(family: str) -> None:
    model = tiny(family)
    keys, inputs = list(model.state_dict()), random_inputs(model)
    expected = outputs(model, inputs)
    hooks = sum(len(module._forward_pre_hooks) for module in model.modules())
    attach(model, quick())
    with pytest.raises(BadRecipe, match="already has gates"):
        attach(model, quick())
    detach(model)
    detach(model)
    assert list(model.state_dict()) == keys and not hasattr(model, GATES_NAME)
    assert sum(len(module._forward_pre_hooks) for module in model.modules()) == hooks
    assert torch.equal(outputs(model, inputs), expected)


@pytest.mark.parametrize("keep", [0, 1, 7, 12])
def test_the_four_lines(keep: int, tmp_path: object) -> None:
    """The loop that the README shows: gates learn with the weights, and the budget is met exactly."""
    model = tiny("bert")
    inputs = random_inputs(model)
    gates = headcount.attach(model, quick(keep))
    train(model, gates, 8)
    gated_logits = outputs(model, inputs)
    headcount.remove_heads(model, keep=gates.subset())
    assert len(headcount.present(model)) == keep
    assert (outputs(model, inputs) - gated_logits).abs().max() <= 1e-5
    model.save_pretrained(tmp_path)
    assert not any("headcount" in name for name in model.state_dict())


def test_budget_over_heads_that_are_left() -> None:
    model = tiny("bert")
    first = head_map(model).sites[0].name
    headcount.remove_heads(model, {first: [1, 2]})
    gates = attach(model, quick(4))
    train(model, gates, 7)
    assert len(gates.subset()) == 4 and gates.subset() <= headcount.present(model)
    with pytest.raises(BadRecipe, match=r"Cannot keep 11 of 10 heads \(2 of 12 are gone\)"):
        attach(strip(model), quick(11))
    with pytest.raises(BadRecipe, match="This model has no decoder heads"):
        attach(model, quick(1), sites="decoder")


def test_adam_begins_after_the_wait() -> None:
    """Steps in which all gates are one leave the scores alone, and count for nothing afterwards."""
    relaxation = GumbelTopK(keep=2, annealing=LogLinear(steps=10, wait=1000), lr=0.5)
    scores, moments = torch.zeros(3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    grad = torch.tensor([0.3, -0.01, 0.0], dtype=torch.float64)
    for step in (1000, 1001):
        relaxation.update(scores, moments, grad, count=2, step=step, lr_scale=1.0, sites=[0, 0, 0])
    assert scores.tolist() == pytest.approx([-1.0, 1.0, 0.0], rel=1e-4)


class Told(StraightThrough):
    """Gates as they are told, whatever the scores."""

    def sample(self, scores: Tensor, keep: int, step: int, generator: torch.Generator) -> Tensor:
        return torch.tensor([0.5, 0.25, 1.25, *[0.0] * 9], dtype=torch.float64)


def test_what_a_record_holds_of_gates_by_hand() -> None:
    model = tiny("bert")
    gates = attach(model, Told(5, lr=1e-12))
    gates.scores = torch.tensor([3, 1, 2.5, 9, 8, 7, 6, 0, 0, 0, 0, 0], dtype=torch.float64)
    model.train()
    model(**random_inputs(model))
    slopes = torch.tensor([-1.0, 2, -3, 4, float("nan"), *[0.0] * 7], dtype=torch.float64)
    gates._leaves[-1].grad = slopes
    gates.step()
    seen = gates.watch()
    # In bits: an even chance is 1, a quarter 0.8113; what is at or above 1, or at 0, is certain.
    assert seen["entropy"] == pytest.approx((1 + 0.811278) / 12, rel=1e-6)
    assert seen["signal"] == pytest.approx(10 / 12) and seen["dropped_gradients"] == 1
    assert seen["gap_at_k"] == pytest.approx(3 - 2.5) and seen["kept"] == [0, 3, 4, 5, 6] and seen["step"] == 1
    detach(model)


def test_a_copy_learns_with_its_own_gates() -> None:
    """Exponential averages and searches copy a model with its gates: the copy's sites must read the copy's gates."""
    model = tiny("bert")
    gates = attach(model, quick())
    twin = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of dropout
        train(twin, twin.headcount_gates, 3)
    assert twin.headcount_gates.steps == 3 and gates.steps == gates.draws == 0
    assert not torch.equal(twin.headcount_gates.scores, gates.scores)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        train(model, gates, 3)
    assert torch.equal(twin.headcount_gates.scores, gates.scores)
    detach(twin)
    assert not hasattr(twin, GATES_NAME) and hasattr(model, GATES_NAME)


def test_a_copy_in_the_midst_of_a_pass_is_a_copy() -> None:
    model = tiny("bert").train()
    gates = attach(model, quick())
    model(**random_inputs(model)).logits.sum().backward()
    twin = copy.deepcopy(model)
    gates.step()
    assert gates.steps == 1 and twin.headcount_gates.steps == 0
    train(twin, twin.headcount_gates, 2)
    assert twin.headcount_gates.steps == 2


def test_checkpointed_layers_are_computed_again_with_the_gates_they_had() -> None:
    """Or not at all: between a pass and its backward pass there may be no other."""
    model = checkpointing(tiny("bert")).train()
    gates = attach(model, GumbelTopK(5, LogLinear(1.0, 1.0, steps=0)))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    first, second = (random_inputs(model, seed=seed) for seed in (1, 2))

    def gradient(checkpointed: bool) -> torch.Tensor:
        """Of two batches that are accumulated, each with its backward pass."""
        for module in model.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = checkpointed
        model.zero_grad()
        gates.draws = 0
        for batch in (first, second):
            model(**batch).logits.square().sum().backward()
        gates._leaves = []
        found = model.bert.encoder.layer[0].attention.output.dense.weight.grad
        assert found is not None
        return found.clone()

    assert torch.allclose(gradient(False), gradient(True), rtol=1e-5)
    with pytest.raises(BadRecipe, match="there were 2 forward passes since"):
        (model(**first).logits - model(**second).logits).square().sum().backward()
    gates._leaves = []
    loss = model(**first).logits.sum()
    model.eval()(**second)
    with pytest.raises(BadRecipe, match="there were evaluations since"):
        model.train()
        loss.backward()


def test_gates_that_have_not_settled_are_told() -> None:
    model = tiny("bert")
    gates = attach(model, GumbelTopK(5, LogLinear(steps=9)))
    train(model, gates, 3)
    with pytest.warns(UserWarning, match="for 3 steps of the 9 that their schedule takes"):
        remove_heads(model, gates.subset())
    for relaxation in (Fading(5, 1, 3), StraightThrough(5), HardConcrete(5), GumbelTopK(5, LogLinear(steps=2, wait=1))):
        model = tiny("bert")
        gates = attach(model, relaxation)
        train(model, gates, 3)
        remove_heads(model, gates.subset())


def test_scores_that_no_gradient_reaches_are_not_taken_for_learning() -> None:
    model = tiny("bert")
    gates = attach(model, quick())
    model.train()
    model(**random_inputs(model))
    with pytest.raises(BadRecipe, match="No gradient reached the gates.*Call backward"):
        gates.step()
    for keep in (0, 12):  # nothing is to be learned
        whole = tiny("bert")
        none = attach(whole, quick(keep))
        train(whole, none, 1)
        assert none.steps == 1


def test_the_hard_subset_follows_the_scores() -> None:
    model = tiny("bert")
    inputs, gates = random_inputs(model), attach(model, quick())
    for change in (
        lambda: gates.scores.neg_(),
        lambda: gates.start_from(torch.arange(12, dtype=torch.float64)),
        lambda: gates.set_extra_state(torch.cat([gates.get_extra_state()[:4], torch.rand(36, dtype=torch.float64)])),
    ):
        before = gates.subset()
        found = outputs(model, inputs)
        change()
        assert gates.subset() != before
        assert not torch.equal(outputs(model, inputs), found)
    with pytest.raises(BadRecipe, match="one finite score for each of the 12 heads"):
        gates.start_from(torch.full((12,), torch.nan, dtype=torch.float64))
    with pytest.raises(BadRecipe, match="one finite score for each of the 12 heads"):
        gates.start_from(torch.zeros(11, dtype=torch.float64))


def test_the_scale_of_the_loss_does_not_move_the_scores() -> None:
    """As mixed precision in float16 multiplies it."""

    def scores_after(scale: float, parts: int = 1) -> Tensor:
        model = tiny("bert").double()
        gates = attach(model, StraightThrough(keep=5))
        batch, labels = random_inputs(model, batch=4), torch.tensor([0, 1, 2, 0])
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for rows in torch.arange(4).chunk(parts):
            loss = model(**{name: x[rows] for name, x in batch.items()}, labels=labels[rows]).loss
            (loss * scale / parts).backward()
        gates.step(grad_scale=scale)
        return gates.scores

    one = scores_after(1.0)
    assert not torch.equal(one, attach(tiny("bert"), StraightThrough(keep=5)).scores)
    assert torch.allclose(scores_after(2.0**16), one, rtol=1e-12)
    assert torch.allclose(scores_after(1.0, parts=4), one, rtol=1e-9)  # four batches are one, four times as large
