"""Eight-bit products on the CPU: weights rounded once, activations at every call, sums in 32 bits.

The products are PyTorch's own quantized kernels (FBGEMM or oneDNN on x86, QNNPACK on ARM). They are for translating
only: there are no gradients, and an int8 model is not saved, for the float model makes it in a moment.
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
    """Each row as whole numbers from -127 to 127, and the step between them: symmetric, one scale a row."""
    scale = weight.abs().amax(1).clamp_min(1e-12) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer on rounded weights; activations get a scale and a zero point of their own at every call.

    Args:
        rounded: The weights, see `round_rows`.
        scale: Of each row.
        bias: Stays as it is.
        relu: Apply a ReLU to the result.
        many: It is for hundreds of rows at a time, as in an encoder.
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
        """Shape: (..., in) -> (..., out)."""
        # With seven bits of activations no pair of products overflows on CPUs that add them up in 16 bits.
        out: Tensor = self.product(x, self.packed, reduce_range=True)
        return out


class Int8Output(Output):
    """The output layer on rounded weights; of a shortlist only the candidates' rows are packed."""

    def __init__(self, plain: Output, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias = plain.weight, plain.bias
        self.rounded, self.scale = round_rows(weight)
        self.all = Int8Linear(self.rounded, self.scale, None)

    def project(self, weight: Tensor, bias: Tensor, candidates: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The logits of all pieces, or of the candidates."""
        if candidates is None:
            return lambda x: self.all(x) + bias
        # Packed anew for every batch: with one scale for all rows, and the rows' own applied to the result, that
        # takes a seventh of the time.
        with _quietly():
            weight = torch._make_per_tensor_quantized_tensor(self.rounded.index_select(0, candidates), 1.0, 0)
        packed = torch.ops.quantized.linear_prepack(weight, None)
        scale, bias = (x.index_select(0, candidates) for x in (self.scale, bias))

        def logits(x: Tensor) -> Tensor:
            steps = torch.ops.quantized.linear_dynamic(x, packed, reduce_range=True)
            return torch.addcmul(bias, steps, scale)

        return logits


class Int8Attention(TranslationAttention):
    """Attention of a sequence to itself on rounded weights; queries, keys and values come of one product."""

    def __init__(self, plain: TranslationAttention, many: bool) -> None:
        nn.Module.__init__(self)
        self.config, self.is_decoder, self.is_causal = plain.config, plain.is_decoder, plain.is_causal
        self.num_heads, self.head_dim = plain.num_heads, plain.head_dim
        self.joint = _linear(plain.q_proj, plain.k_proj, plain.v_proj, many=many)
        self.add_module("out_proj", _linear(plain.out_proj, many=many))

    def project(self, hidden_states: Tensor, key_value_states: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the sequence; it attends to no other."""
        joint = self.joint(hidden_states).unflatten(-1, (3, self.num_heads, self.head_dim))
        queries, keys, values = joint.permute(2, 0, 3, 1, 4).contiguous().unbind()
        return queries, keys, values


class Int8SSRU(SSRU):
    """An SSRU on rounded weights; gate and cell come of one product."""

    def __init__(self, plain: SSRU, many: bool) -> None:
        nn.Module.__init__(self)
        self.joint = _linear(plain.forget, plain.cell, many=many)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The forget gate, and what the cell takes up."""
        forget, new = self.joint(x).chunk(2, -1)
        return torch.sigmoid(forget), new


@torch.no_grad()
def to_int8(model: Translator) -> Translator:
    """The model, with eight-bit products in the place of all its linear layers. It is changed in place.

    Embeddings, layer normalisation, softmax and residuals stay as they are. One that has them
    already is left alone.
    """
    if isinstance(model.output, Int8Output):
        return model
    model.__dict__["save_pretrained"] = _refuse_to_save
    model.float()  # the kernels read float32, whatever the weights were stored in
    model.output = Int8Output(model.output, model.output_weight())
    _rounded(model.encoder, many=True)
    _rounded(model.decoder, many=False)
    return model


def _refuse_to_save(*args: object, **kwargs: object) -> None:
    """Rounded weights are packed, and no state: what was written would lack them.

    Raises:
        BadRecipe: Always.
    """
    raise BadRecipe("An int8 model is not saved. Save the model that it was made from: rounding takes a moment.")


def _rounded(module: nn.Module, many: bool) -> nn.Module:
    """What stands for the module on rounded weights: another one, or itself with others in it."""
    if isinstance(module, nn.Linear):
        # A site without heads has a projection of nothing: what is left of it is its bias.
        return _linear(module, many=many) if module.weight.numel() else module
    if isinstance(module, nn.Dropout):
        return nn.Identity()  # for translating there is none, and at every step even to find that out takes time
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
    """One product for layers that read the same: their results lie side by side."""
    rounded, scale = round_rows(torch.cat([layer.weight.float() for layer in plain]))
    biases = torch.cat([torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in plain])
    return Int8Linear(rounded, scale, biases, relu, many)


@contextmanager
def _quietly() -> Iterator[None]:
    """PyTorch means to give up tensors of these types; without torch.compile they are the way to its kernels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
        yield


@contextmanager
def _kernels_for(many: bool) -> Iterator[None]:
    """For many rows oneDNN's kernels where PyTorch has them: on x86 FBGEMM's are faster only on few."""
    before = torch.backends.quantized.engine
    if many and before == "x86" and "onednn" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "onednn"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
