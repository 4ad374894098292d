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
            weight = torch._make_per_tensor_quantized_tensor(self.rounded[candidates], 1.0, 0)
        packed = torch.ops.quantized.linear_prepack(weight, None)
        scale, bias = self.scale[candidates], bias[candidates]

        def logits(x: Tensor) -> Tensor:
            steps = torch.ops.quantized.linear_dynamic(x, packed, reduce_range=True)
            return torch.addcmul(bias, steps, scale)

        return logits


@torch.no_grad()
def to_int8(model: Translator) -> Translator:
    """The model, with eight-bit products in the place of all its linear layers. It is changed in place.

    Embeddings, layer normalisation, softmax and residuals stay as they are.
    """
    model.output = Int8Output(model.output, model.output_weight())
    encoder = set(map(id, model.encoder.modules()))
    for module in list(model.modules()):
        if (
            isinstance(module, FeedForward)
            and isinstance(module.activation, nn.ReLU)
            and isinstance(module.up, nn.Linear)
        ):
            module.up, module.activation = _linear(module.up, relu=True, many=id(module) in encoder), nn.Identity()
        for name, child in list(module.named_children()):
            # A site without heads has a projection of nothing: what is left of it is its bias.
            if isinstance(child, nn.Linear) and child.weight.numel():
                setattr(module, name, _linear(child, many=id(module) in encoder))
    return model


def _linear(plain: nn.Linear, relu: bool = False, many: bool = False) -> Int8Linear:
    return Int8Linear(*round_rows(plain.weight.float()), plain.bias, relu, many)


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
