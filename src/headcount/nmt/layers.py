"""What encoder and decoder layers are made of beside attention: residuals, feed-forward layers, positions."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from headcount.nmt.configuration import TranslatorConfig


class Residual(nn.Module):
    """A sublayer's frame: dropout, the sum with what came in, and layer normalisation before or after."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """LN(x + sublayer(x)) or x + sublayer(LN(x))."""
        if self.pre:
            summed: Tensor = x + self.dropout(sublayer(self.norm(x)))
            return summed
        normed: Tensor = self.norm(x + self.dropout(sublayer(x)))
        return normed


class FeedForward(nn.Module):
    """Two linear layers, position by position (Vaswani et al. 2017, eq. 2)."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.up: nn.Module = nn.Linear(config.d_model, config.ffn_size)
        self.down = nn.Linear(config.ffn_size, config.d_model)
        self.activation = ACT2FN[config.activation]
        self.dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., model) -> (..., model)."""
        out: Tensor = self.down(self.dropout(self.activation(self.up(x))))
        return out


def positions(length: int, width: int, like: Tensor, start: int = 0) -> Float[Tensor, "length width"]:
    """Sinusoidal positions from `start` on: sines in the first half, cosines in the second."""
    half = width // 2
    scale = torch.exp(torch.arange(half, device=like.device) * -(math.log(10000.0) / max(1, half - 1)))
    angle = torch.arange(start, start + length, device=like.device)[:, None] * scale
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(like.dtype)
