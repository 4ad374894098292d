"""The simpler simple recurrent unit (SSRU), which replaces decoder self-attention and needs constant memory."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SSRU(nn.Module):
    """An SSRU (Kim et al. 2019, section 3), which replaces the self-attention of a decoder.

    f_t = sigmoid(W_f x_t + b_f);  c_t = f_t * c_{t-1} + (1 - f_t) * (W x_t);  o_t = relu(c_t);  c_0 = 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.Linear(width, width, bias=False)
        self.forget = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """Return the output at every token, computed from that token and earlier ones."""
        forget, new = self.project(x)
        recur = closed_form if torch.compiler.is_compiling() else recurrence
        states: Tensor = recur(forget, (1 - forget) * new)
        return torch.relu(states)

    def step(self, x: Float[Tensor, "... width"], state: Float[Tensor, "... width"] | None) -> tuple[Tensor, Tensor]:
        """Return the output at the next token, and the new state. The state before the first token is None."""
        forget, new = self.project(x)
        state = torch.lerp(new, torch.zeros_like(new) if state is None else state, forget)
        return torch.relu(state), state

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the forget gate and the new input of the cell."""
        return torch.sigmoid(self.forget(x)), self.cell(x)


def closed_form(
    forget: Float[Tensor, "batch token width"], added: Float[Tensor, "batch token width"]
) -> Float[Tensor, "batch token width"]:
    """Compute the recurrence without a loop, for traced graphs: c_t = sum_{j <= t} f_{j+1} ... f_t z_j.

    Any length will do. Products are differences of log sums, in double precision. Memory is quadratic in the length.
    """
    forget, places = forget.double(), torch.arange(forget.shape[1], device=forget.device)
    logs = forget.clamp_min(torch.finfo(forget.dtype).tiny).log().cumsum(1)
    past = (places[:, None] >= places)[:, :, None]
    passed = (logs[:, :, None] - logs[:, None]).masked_fill(~past, -torch.inf).exp()
    return (passed * added.double()[:, None]).sum(2).to(added.dtype)


class _Recurrence(torch.autograd.Function):
    """c_t = f_t * c_{t-1} + z_t along the second axis, as one node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, forget: Tensor, added: Tensor) -> Tensor:
        states = torch.empty_like(added)
        state = torch.zeros_like(added[:, 0])
        for t in range(added.shape[1]):
            state = torch.addcmul(added[:, t], forget[:, t], state, out=states[:, t])
        ctx.save_for_backward(forget, states)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        forget, states = ctx.saved_tensors
        to_added = torch.empty_like(states)
        later = torch.zeros_like(states[:, 0])
        for t in reversed(range(states.shape[1])):
            to_added[:, t] = gradients[0][:, t] + later
            later = forget[:, t] * to_added[:, t]
        to_forget = torch.zeros_like(forget)
        to_forget[:, 1:] = to_added[:, 1:] * states[:, :-1]
        return to_forget, to_added


recurrence: Callable[[Tensor, Tensor], Tensor] = _Recurrence.apply
"""Return the states c_t = f_t * c_{t-1} + z_t, given f and z."""
