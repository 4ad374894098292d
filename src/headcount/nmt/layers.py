"""Parts of encoder and decoder layers other than attention: residuals, feed-forward layers, positions."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from headcount.nmt.configuration import TranslatorConfig


class Residual(nn.Module):
    """The residual connection of a sublayer: dropout, the sum with the input, and layer normalisation."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return LN(x + sublayer(x)) for post-norm, or x + sublayer(LN(x)) for pre-norm."""
        if self.pre:
            summed: Tensor = x + self.dropout(sublayer(self.norm(x)))
            return summed
        normed: Tensor = self.norm(x + self.dropout(sublayer(x)))
        return normed


class FeedForward(nn.Module):
    """Two linear layers, applied at each position (Vaswani et al. 2017, eq. 2)."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.up: nn.Module = nn.Linear(config.d_model, config.ffn_size)
        self.down = nn.Linear(config.ffn_size, config.d_model)
        self.activation = ACT2FN[config.activation]
        self.dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer. Shape: (..., model) -> (..., model)."""
        out: Tensor = self.down(self.dropout(self.activation(self.up(x))))
        return out


def positions(length: int, width: int, like: Tensor, start: int = 0) -> Float[Tensor, "length width"]:
    """Return sinusoidal positions from `start` on. The first half is sines, the second half cosines."""
    half = width // 2
    scale = torch.exp(torch.arange(half, device=like.device) * -(math.log(10000.0) / max(1, half - 1)))
    angle = torch.arange(start, start + length, device=like.device)[:, None] * scale
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(like.dtype)
