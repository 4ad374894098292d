"""The simpler simple recurrent unit against its equations in plain loops, numbers by hand, and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headcount.nmt.ssru import SSRU, closed_form, recurrence
from translators import largest

some = settings(max_examples=25, deadline=None, derandomize=True)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 5), st.integers(0, 99))


def normal(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


def unit(width: int, seed: int = 0) -> SSRU:
    made = SSRU(width).double()
    with torch.no_grad():
        for place, parameter in enumerate(made.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=100 * seed + place))
    return made


def by_loops(made: SSRU, text: list[list[float]]) -> list[list[float]]:
    """The outputs at the tokens of one text, number by number (Kim et al. 2019, section 3)."""
    w, w_f, b_f = made.cell.weight.tolist(), made.forget.weight.tolist(), made.forget.bias.tolist()
    state, outputs = [0.0] * len(b_f), []
    for x in text:
        for unit in range(len(state)):
            f = 1 / (1 + math.exp(-sum(a * b for a, b in zip(w_f[unit], x, strict=True)) - b_f[unit]))
            state[unit] = f * state[unit] + (1 - f) * sum(a * b for a, b in zip(w[unit], x, strict=True))
        outputs.append([max(c, 0.0) for c in state])
    return outputs


@some
@given(shapes)
def test_by_plain_loops(shape: tuple[int, int, int, int]) -> None:
    batch, tokens, width, seed = shape
    made, x = unit(width, seed), normal(batch, tokens, width, seed=seed)
    expected = torch.tensor([by_loops(made, text) for text in x.tolist()], dtype=torch.float64)
    assert largest(made(x), expected) <= 1e-12


@some
@given(shapes, st.sampled_from([1.0, 60.0]))
def test_without_a_loop_it_is_the_same(shape: tuple[int, int, int, int], scale: float) -> None:
    """Also where gates are shut, down to nothing, or open to the last bit."""
    batch, tokens, width, seed = shape
    forget = torch.sigmoid(scale * normal(batch, 9 * tokens, width, seed=seed))
    added = normal(batch, 9 * tokens, width, seed=seed + 1)
    assert largest(closed_form(forget, added), recurrence(forget, added)) <= 1e-12


@some
@given(shapes)
def test_step_by_step_is_all_at_once(shape: tuple[int, int, int, int]) -> None:
    """With any axes before the last: hypotheses of a sentence have an axis of their own."""
    batch, tokens, width, seed = shape
    made, x = unit(width, seed), normal(2 * batch, tokens, width, seed=seed)
    state, outputs = None, []
    for token in x.view(batch, 2, tokens, width).unbind(2):
        out, state = made.step(token, state)
        outputs.append(out)
    assert largest(torch.stack(outputs, 2).flatten(0, 1), made(x)) <= 1e-12


def test_by_hand() -> None:
    """With f = 1/2 and W = 1: states 1/2, 1/4 - 1, and that halved; the output has no negative ones, the state has."""
    made = SSRU(1).double()
    with torch.no_grad():
        made.cell.weight.fill_(1)
        made.forget.weight.fill_(0)
        made.forget.bias.fill_(0)
    x = torch.tensor([1.0, -2.0, 0.0, 4.0], dtype=torch.float64)
    assert made(x[None, :, None]).flatten().tolist() == [0.5, 0, 0, 2 - 0.1875]
    state, seen = None, []
    for token in x:
        _, state = made.step(token[None], state)
        seen.append(state.item())
    assert seen == [0.5, -0.75, -0.375, 1.8125]


def test_the_forget_gate_multiplies_the_old_state() -> None:
    """Wide open (f = 1) it keeps nothing of the input; shut (f = 0) it keeps nothing of the past."""
    made, x = unit(3), normal(1, 4, 3)
    with torch.no_grad():
        made.forget.weight.fill_(0)
        made.forget.bias.fill_(1000)
        assert not made(x).any()
        made.forget.bias.fill_(-1000)
        assert largest(made(x), torch.relu(made.cell(x))) <= 1e-15


@pytest.mark.parametrize("width", [1, 6, 256])
def test_parameters(width: int) -> None:
    made = SSRU(width)
    assert sum(parameter.numel() for parameter in made.parameters()) == 2 * width**2 + width
    assert made.cell.bias is None


@pytest.mark.parametrize("tokens", [1, 2, 6])
def test_gradient_of_the_recurrence(tokens: int) -> None:
    forget, added = normal(2, tokens, 3, seed=1).sigmoid(), normal(2, tokens, 3, seed=2)
    assert torch.autograd.gradcheck(recurrence, (forget.requires_grad_(), added.requires_grad_()))


def test_gradient_of_the_recurrence_is_that_of_a_loop() -> None:
    """Also where only one of the two wants a gradient; and memory that is not contiguous changes nothing."""
    forget, added = normal(2, 9, 4, seed=1).sigmoid(), normal(2, 9, 4, seed=2)
    weights = normal(2, 9, 4, seed=3)

    def loop(forget: Tensor, added: Tensor) -> Tensor:
        states = [added[:, 0]]
        for t in range(1, added.shape[1]):
            states.append(forget[:, t] * states[-1] + added[:, t])
        return torch.stack(states, 1)

    for wanting in [(0,), (1,), (0, 1)]:
        grads = []
        for compute in (recurrence, loop):
            inputs = [x.clone().requires_grad_(place in wanting) for place, x in enumerate((forget, added))]
            (compute(inputs[0], inputs[1]) * weights).sum().backward()
            grads.append([inputs[place].grad for place in wanting])
        for ours, theirs in zip(*grads, strict=True):
            assert ours is not None and theirs is not None and largest(ours, theirs) <= 1e-12
    turned = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (forget, added)]
    assert torch.equal(recurrence(*turned), recurrence(forget, added))


def test_gradient_of_the_unit() -> None:
    made, x = unit(3), normal(2, 5, 3, seed=4, grad=True)
    parameters = dict(made.named_parameters())

    def compute(x: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(made, dict(zip(parameters, values, strict=True)), (x,))
        return out

    assert torch.autograd.gradcheck(compute, (x, *parameters.values()))
