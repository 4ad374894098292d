"""Int8 layers for the CPU. Weights are rounded once, activations at every call; sums have 32 bits.

The products are PyTorch's own quantized kernels (FBGEMM or oneDNN on x86, QNNPACK on ARM). They serve
translation only: they have no gradients. An int8 model is not saved, because converting the float model is fast.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from headcount.errors import BadRecipe
from headcount.nmt.attention import TranslationAttention
from headcount.nmt.layers import FeedForward
from headcount.nmt.model import Output, Translator
from headcount.nmt.ssru import SSRU


def round_rows(weight: Float[Tensor, "out in"]) -> tuple[Int8[Tensor, "out in"], Float[Tensor, " out"]]:
    """Round each row to integers from -127 to 127; return them and the scale of each row (symmetric)."""
    scale = weight.abs().amax(1).clamp_min(1e-12) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer with rounded weights. Each call computes a scale and a zero point for its activations.

    Args:
        rounded: The rounded weights, see `round_rows`.
        scale: The scale of each row.
        bias: The bias, which is not rounded.
        relu: Apply a ReLU to the result.
        many: Whether a call has hundreds of rows, as in an encoder.
    """

    def __init__(
        self, rounded: Tensor, scale: Tensor, bias: Tensor | None, relu: bool = False, many: bool = False
    ) -> None:
        super().__init__()
        zero = torch.zeros(len(rounded), dtype=torch.long)
        with _quietly(), _kernels_for(many):
            weight = torch._make_per_channel_quantized_tensor(rounded, scale.double(), zero, 0)
            self.packed: Any = torch.ops.quantized.linear_prepack(weight, None if bias is None else bias.float())
        self.product = torch.ops.quantized.linear_relu_dynamic if relu else torch.ops.quantized.linear_dynamic

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """Apply the layer. Shape: (..., in) -> (..., out)."""
        # Some CPUs add pairs of products in 16 bits. With activations of seven bits, these sums cannot overflow.
        out: Tensor = self.product(x, self.packed, reduce_range=True)
        return out


class Int8Output(Output):
    """The output layer with rounded weights. With a shortlist, only the rows of its candidates are packed."""

    def __init__(self, plain: Output, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias = plain.weight, plain.bias
        self.rounded, self.scale = round_rows(weight)
        self.all = Int8Linear(self.rounded, self.scale, None)

    def project(self, weight: Tensor, bias: Tensor, candidates: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Return a function that computes the logits of all pieces, or of the candidates."""
        if candidates is None:
            return lambda x: self.all(x) + bias
        # Each batch packs its rows anew. Packing with one scale for all rows takes a seventh of the time. The scales
        # of the rows are applied to the result.
        with _quietly():
            weight = torch._make_per_tensor_quantized_tensor(self.rounded.index_select(0, candidates), 1.0, 0)
        packed = torch.ops.quantized.linear_prepack(weight, None)
        scale, bias = (x.index_select(0, candidates) for x in (self.scale, bias))

        def logits(x: Tensor) -> Tensor:
            steps = torch.ops.quantized.linear_dynamic(x, packed, reduce_range=True)
            return torch.addcmul(bias, steps, scale)

        return logits


class Int8Attention(TranslationAttention):
    """Self-attention with rounded weights. One product computes queries, keys and values."""

    def __init__(self, plain: TranslationAttention, many: bool) -> None:
        nn.Module.__init__(self)
        self.config, self.is_decoder, self.is_causal = plain.config, plain.is_decoder, plain.is_causal
        self.num_heads, self.head_dim = plain.num_heads, plain.head_dim
        self.joint = _linear(plain.q_proj, plain.k_proj, plain.v_proj, many=many)
        self.add_module("out_proj", _linear(plain.out_proj, many=many))

    def project(self, hidden_states: Tensor, key_value_states: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of `hidden_states`. `key_value_states` is not used."""
        joint = self.joint(hidden_states).unflatten(-1, (3, self.num_heads, self.head_dim))
        queries, keys, values = joint.permute(2, 0, 3, 1, 4).contiguous().unbind()
        return queries, keys, values


class Int8SSRU(SSRU):
    """An SSRU with rounded weights. One product computes gate and cell."""

    def __init__(self, plain: SSRU, many: bool) -> None:
        nn.Module.__init__(self)
        self.joint = _linear(plain.forget, plain.cell, many=many)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the forget gate and the new input of the cell."""
        forget, new = self.joint(x).chunk(2, -1)
        return torch.sigmoid(forget), new


@torch.no_grad()
def to_int8(model: Translator) -> Translator:
    """Replace all linear layers of the model by int8 layers, in place, and return it.

    Embeddings, layer normalisation, softmax and residuals stay as they are. An int8 model is
    returned unchanged.
    """
    if isinstance(model.output, Int8Output):
        return model
    model.__dict__["save_pretrained"] = _refuse_to_save
    model.float()  # the kernels need float32
    model.output = Int8Output(model.output, model.output_weight())
    _rounded(model.encoder, many=True)
    _rounded(model.decoder, many=False)
    return model


def _refuse_to_save(*args: object, **kwargs: object) -> None:
    """Refuse to save: packed weights are not in the state dict, so the file would lack them.

    Raises:
        BadRecipe: Always.
    """
    raise BadRecipe("An int8 model is not saved. Save the model that it was made from: rounding takes a moment.")


def _rounded(module: nn.Module, many: bool) -> nn.Module:
    """Return the module with rounded weights: a new one, or the same one with replaced children."""
    if isinstance(module, nn.Linear):
        # The projection of a site without heads has an empty weight. Only its bias counts.
        return _linear(module, many=many) if module.weight.numel() else module
    if isinstance(module, nn.Dropout):
        return nn.Identity()  # translation has no dropout, and even the check for it takes time at every step
    if isinstance(module, SSRU):
        return Int8SSRU(module, many)
    if isinstance(module, TranslationAttention) and not module.is_cross and module.num_heads:
        return Int8Attention(module, many)
    if isinstance(module, FeedForward) and isinstance(module.activation, nn.ReLU) and isinstance(module.up, nn.Linear):
        module.up, module.activation = _linear(module.up, relu=True, many=many), nn.Identity()
    for name, child in list(module.named_children()):
        setattr(module, name, _rounded(child, many))
    return module


def _linear(*plain: nn.Linear, relu: bool = False, many: bool = False) -> Int8Linear:
    """Join layers with the same input into one product. Their results are concatenated."""
    rounded, scale = round_rows(torch.cat([layer.weight.float() for layer in plain]))
    biases = torch.cat([torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in plain])
    return Int8Linear(rounded, scale, biases, relu, many)


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the deprecation warning of quantized tensors. Without torch.compile, the kernels need these tensors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
        yield


@contextmanager
def _kernels_for(many: bool) -> Iterator[None]:
    """Use oneDNN's kernels for many rows where PyTorch has them. On x86, FBGEMM is faster on few rows only."""
    before = torch.backends.quantized.engine
    if many and before == "x86" and "onednn" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "onednn"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
