"""Eight-bit products on the CPU: weights rounded once, activations at every call, sums in 32 bits.

The products are PyTorch's own quantized kernels (FBGEMM or oneDNN on x86, QNNPACK on ARM). They are for translating
only: there are no gradients, and an int8 model is not saved, for the float model makes it in a moment.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from headcount.nmt.layers import FeedForward
from headcount.nmt.model import Output, Translator


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
    """

    def __init__(self, rounded: Tensor, scale: Tensor, bias: Tensor | None, relu: bool = False) -> None:
        super().__init__()
        zero = torch.zeros(len(rounded), dtype=torch.long)
        with warnings.catch_warnings():
            # PyTorch means to give up tensors of these types; without torch.compile they are the way to its kernels.
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
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
        linear = self.all
        if candidates is not None:
            linear, bias = Int8Linear(self.rounded[candidates], self.scale[candidates], None), bias[candidates]
        return lambda x: linear(x) + bias


@torch.no_grad()
def to_int8(model: Translator) -> Translator:
    """The model, with eight-bit products in the place of all its linear layers. It is changed in place.

    Embeddings, layer normalisation, softmax and residuals stay as they are.
    """
    model.output = Int8Output(model.output, model.output_weight())
    for module in list(model.modules()):
        if (
            isinstance(module, FeedForward)
            and isinstance(module.activation, nn.ReLU)
            and isinstance(module.up, nn.Linear)
        ):
            module.up, module.activation = _linear(module.up, relu=True), nn.Identity()
        for name, child in list(module.named_children()):
            # A site without heads has a projection of nothing: what is left of it is its bias.
            if isinstance(child, nn.Linear) and child.weight.numel():
                setattr(module, name, _linear(child))
    return model


def _linear(plain: nn.Linear, relu: bool = False) -> Int8Linear:
    return Int8Linear(*round_rows(plain.weight.float()), plain.bias, relu)
