"""The kinds of projection in which attention keeps its heads, and how each loses some of them.

A projection is cut in place: the module stays, with its hooks and its name, and its matrices get smaller. Positions
count the heads that are there now; lists of numbers, because an index tensor made while a model is built on the
meta device indexes nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from headcount.errors import UnsupportedModel

Projection: TypeAlias = nn.Linear | Conv1D
"""A linear layer; transformers' Conv1D is one with its weight transposed, (in, out)."""


class BiasOnly(nn.Linear):
    """The output projection of a site without heads: what is left of it is its bias.

    A matrix product over no columns gives the same numbers in PyTorch, but not in every runtime that a model is
    exported to. The weight stays, without columns: initialisation code of model families touches it.
    """

    def __init__(self, projection: Projection) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = 0, width_out(projection)
        self.weight, self.bias = projection.weight, projection.bias

    def forward(self, x: Tensor) -> Tensor:
        """The bias at every position. Shape: (..., 0) -> (..., out)."""
        nothing = x.new_zeros(*x.shape[:-1], self.out_features)
        return nothing if self.bias is None else nothing + self.bias


# By name, for Falcon's subclass of Linear is in a module that only Falcon's users load.
_PLAIN = ("Linear", "NonDynamicallyQuantizableLinear", "Conv1D", "FalconLinear", "BiasOnly")


def require_plain(module: nn.Module, name: str) -> Projection:
    """The module, if it is a linear layer that can be cut.

    Raises:
        UnsupportedModel: It is something else: a quantized layer, an adapter around a layer, a parametrized one.
    """
    kind = type(module)
    plain = isinstance(module, nn.Linear | Conv1D) and kind.__name__ in _PLAIN
    weight: Any = getattr(module, "weight", None)
    own = module._parameters.get("weight") is not None  # torch.nn.utils.prune and old parametrizations compute theirs
    if not plain or not own or type(weight.data) is not Tensor or not weight.is_floating_point():
        got = f"{kind.__module__}.{kind.__name__}"
        if plain and not own:
            got += " whose weights are computed from others (torch.nn.utils.prune.remove makes them plain)"
        elif plain:
            got += f" with weights of {type(weight.data).__name__}, {weight.dtype}"
        raise UnsupportedModel(
            f"'{name}' is a {got}; only plain floating-point torch.nn.Linear projections can lose heads. "
            "Merge adapters, load the model without quantization, or remove parametrizations first; "
            "a pruned model can be quantized afterwards."
        )
    return module


def width_in(projection: Projection) -> int:
    """The number of features it reads."""
    return projection.nx if isinstance(projection, Conv1D) else projection.in_features


def width_out(projection: Projection) -> int:
    """The number of features it computes."""
    return projection.nf if isinstance(projection, Conv1D) else projection.out_features


def keep_outputs(projection: Projection, blocks: list[int], head_size: int) -> None:
    """Keep these blocks of `head_size` output features: what a query, key or value projection computes."""
    conv = isinstance(projection, Conv1D)
    projection.weight = _kept(projection.weight, 1 if conv else 0, blocks, head_size)
    if projection.bias is not None:
        projection.bias = _kept(projection.bias, 0, blocks, head_size)
    setattr(projection, "nf" if conv else "out_features", len(blocks) * head_size)


def keep_inputs(projection: Projection, blocks: list[int], head_size: int) -> None:
    """Keep these blocks of input features: what an output projection reads. Its bias stays, whoever is left."""
    conv = isinstance(projection, Conv1D)
    projection.weight = _kept(projection.weight, 0 if conv else 1, blocks, head_size)
    setattr(projection, "nx" if conv else "in_features", len(blocks) * head_size)


def _kept(old: Tensor, axis: int, blocks: list[int], head_size: int) -> nn.Parameter:
    """A parameter with only these blocks of that axis."""
    heads = old.detach().movedim(axis, 0)
    heads = heads.reshape(heads.shape[0] // head_size, head_size, *heads.shape[1:])[blocks]
    kept = heads.reshape(len(blocks) * head_size, *heads.shape[2:]).movedim(0, axis)
    return nn.Parameter(kept.contiguous(), requires_grad=old.requires_grad)


@dataclass(frozen=True)
class Positions:
    """The heads of a site that stay, as positions among those it has now.

    Attributes:
        heads: Of (query) heads.
        kv_heads: Of key/value heads.
        of_heads: How many heads it has now.
        of_kv_heads: How many key/value heads it has now.
    """

    heads: list[int]
    kv_heads: list[int]
    of_heads: int
    of_kv_heads: int


@dataclass(frozen=True)
class Layout:
    """In which linear layers, and in what order, the queries, keys and values of a site's heads are computed.

    Attributes:
        parts: Path of a linear layer below the core -> the letters of what it computes, one after another: `q` for all
            heads' queries, `k` and `v` for all key/value heads' keys and values. `{"qkv_proj": "qkv"}` is fused.
        interleaved: The fused layer holds, for each key/value head in turn, its queries, its key and its value.
        optional: Paths that only some configurations of the family have.
    """

    parts: Mapping[str, str]
    interleaved: bool = False
    optional: tuple[str, ...] = ()

    def check(self, core: nn.Module, name: str) -> None:
        """Make sure that these projections can be cut.

        Raises:
            UnsupportedModel: One of them is missing, or is not a plain linear layer.
        """
        for path in self.parts:
            try:
                module = core.get_submodule(path)
            except AttributeError:
                if path in self.optional:
                    continue
                raise UnsupportedModel(
                    f"Site '{name}' has no '{path}'. This {type(core).__name__} is not the one that headcount's table "
                    "describes; another version of transformers, perhaps."
                ) from None
            require_plain(module, f"{name}.{path}")

    def kv_heads(self, core: nn.Module, heads: int, head_size: int) -> int:
        """How many key/value heads there are now, next to that many heads."""
        path, letters = next((path, letters) for path, letters in self.parts.items() if "k" in letters)
        projection = core.get_submodule(path)
        assert isinstance(projection, Projection)
        queries = letters.count("q") * heads
        return (width_out(projection) // head_size - queries) // (len(letters) - letters.count("q"))

    def blocks(self, core: nn.Module, positions: Positions) -> Iterator[tuple[Projection, list[int]]]:
        """The linear layers, each with the blocks of its output features that the heads at these positions own."""
        for path, letters in self.parts.items():
            if path in self.optional and not hasattr(core, path):
                continue
            projection = core.get_submodule(path)
            assert isinstance(projection, Projection)
            yield projection, list((_interleaved if self.interleaved else _stacked)(positions, letters))

    def cut(self, core: nn.Module, positions: Positions, head_size: int) -> None:
        """Keep the heads at these positions."""
        for projection, blocks in self.blocks(core, positions):
            keep_outputs(projection, blocks, head_size)


def _stacked(positions: Positions, letters: str) -> Iterator[int]:
    start = 0
    for letter in letters:
        yield from (start + i for i in (positions.heads if letter == "q" else positions.kv_heads))
        start += positions.of_heads if letter == "q" else positions.of_kv_heads


def _interleaved(positions: Positions, letters: str) -> Iterator[int]:
    group = positions.of_heads // positions.of_kv_heads if positions.of_kv_heads else 0
    for kv_head in positions.kv_heads:
        start = kv_head * (group + 2)
        yield from (start + i - kv_head * group for i in positions.heads if i // group == kv_head)
        yield from (start + group, start + group + 1)


def separate(query: str, key: str, value: str) -> Layout:
    """Queries, keys and values in three linear layers of their own."""
    return Layout({query: "q", key: "k", value: "v"})


def empty_like_heads(hidden: Tensor) -> Tensor:
    """What a site without heads hands to its output projection. Shape: (..., model) -> (..., 0)."""
    return torch.zeros(*hidden.shape[:-1], 0, dtype=hidden.dtype, device=hidden.device)
