"""The encoder of a translation model."""

from jaxtyping import Float
from torch import Tensor, nn

from headcount.nmt.attention import attention
from headcount.nmt.configuration import TranslatorConfig
from headcount.nmt.layers import FeedForward, Residual


class EncoderLayer(nn.Module):
    """An encoder layer: self-attention and a feed-forward layer."""

    def __init__(self, config: TranslatorConfig, heads: int) -> None:
        super().__init__()
        self.self_attn = attention(config, heads)
        self.self_attn_residual = Residual(config)
        self.ffn = FeedForward(config)
        self.ffn_residual = Residual(config)

    def forward(self, x: Float[Tensor, "batch token model"], mask: Tensor | None) -> Tensor:
        """Encode the tokens. Shape: (batch, token, model) -> (batch, token, model)."""
        x = self.self_attn_residual(x, lambda y: self.self_attn(y, attention_mask=mask)[0])
        out: Tensor = self.ffn_residual(x, self.ffn)
        return out


class Encoder(nn.Module):
    """The encoder layers, and a final normalisation for pre-norm."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(config, heads) for heads in config.heads("encoder_heads")])
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.norm == "pre" else nn.Identity()

    def forward(self, x: Float[Tensor, "batch token model"], mask: Tensor | None) -> Tensor:
        """Encode the tokens. Shape: (batch, token, model) -> (batch, token, model)."""
        for layer in self.layers:
            x = layer(x, mask)
        out: Tensor = self.norm(x)
        return out
