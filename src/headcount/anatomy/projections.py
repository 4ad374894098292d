"""The kinds of projection in which attention keeps its heads, and how each loses some of them.

A projection is cut in place: the module stays, with its hooks and its name, and its matrices get smaller. Positions
count the heads that are there now; lists of numbers, because an index tensor made while a model is built on the
meta device indexes nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headcount.errors import UnsupportedModel


class BiasOnly(nn.Linear):
    """The output projection of a site without heads: what is left of it is its bias.

    A matrix product over no columns gives the same numbers in PyTorch, but not in every runtime that a model is
    exported to. The weight stays as an empty (out, 0) matrix: initialisation code of model families touches it.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = 0, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """The bias at every position. Shape: (..., 0) -> (..., out)."""
        nothing = x.new_zeros(*x.shape[:-1], self.out_features)
        return nothing if self.bias is None else nothing + self.bias


def require_linear(module: nn.Module, name: str) -> nn.Linear:
    """The module, if it is a linear layer that can be cut.

    Raises:
        UnsupportedModel: It is something else: a quantized layer, an adapter around a layer, a parametrized one.
    """
    if type(module) not in (nn.Linear, BiasOnly):
        raise UnsupportedModel(
            f"'{name}' is a {type(module).__module__}.{type(module).__name__}; only plain torch.nn.Linear projections "
            "can lose heads. Merge adapters, dequantize or remove parametrizations first."
        )
    assert isinstance(module, nn.Linear)
    return module


def keep_rows(linear: nn.Linear, positions: list[int], head_size: int) -> None:
    """Keep the output features of these heads: what a query, key or value projection computes."""
    linear.weight = _kept(linear.weight, 0, positions, head_size)
    if linear.bias is not None:
        linear.bias = _kept(linear.bias, 0, positions, head_size)
    linear.out_features = len(positions) * head_size


def keep_columns(linear: nn.Linear, positions: list[int], head_size: int) -> None:
    """Keep the input features of these heads: what an output projection reads. Its bias stays, whoever is left."""
    linear.weight = _kept(linear.weight, 1, positions, head_size)
    linear.in_features = len(positions) * head_size


def _kept(old: Tensor, axis: int, positions: list[int], head_size: int) -> nn.Parameter:
    """A parameter with only the slices of these heads on that axis."""
    heads = old.detach().movedim(axis, 0)
    heads = heads.reshape(heads.shape[0] // head_size, head_size, *heads.shape[1:])[positions]
    kept = heads.reshape(len(positions) * head_size, *heads.shape[2:]).movedim(0, axis)
    return nn.Parameter(kept.contiguous(), requires_grad=old.requires_grad)


@dataclass(frozen=True)
class Separate:
    """Query, key and value in three linear layers of their own, heads one after another in the output features."""

    query: str
    key: str
    value: str

    def check(self, core: nn.Module, name: str) -> None:
        """Make sure that these projections can be cut.

        Raises:
            UnsupportedModel: One of them is not a plain linear layer.
        """
        for path in (self.query, self.key, self.value):
            require_linear(core.get_submodule(path), f"{name}.{path}")

    def cut(self, core: nn.Module, positions: list[int], head_size: int) -> None:
        """Keep the heads at these positions."""
        for path in (self.query, self.key, self.value):
            linear = core.get_submodule(path)
            assert isinstance(linear, nn.Linear)
            keep_rows(linear, positions, head_size)


def empty_like_heads(hidden: Tensor) -> Tensor:
    """What a site without heads hands to its output projection. Shape: (..., model) -> (..., 0)."""
    return torch.zeros(*hidden.shape[:-1], 0, dtype=hidden.dtype, device=hidden.device)
