"""Attention with heads of any number and size, through transformers' attention interface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.marian.modeling_marian import eager_attention_forward

SHORT = 64 * 64
"""Maximum number of attention weights of a head for which plain products beat PyTorch's own attention on a CPU."""


@dataclass
class AttentionState:
    """The keys and values of earlier target tokens, or of the source. Shapes: (batch, head, token, head_size)."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values to the stored ones, and return all of them."""
        if self.keys is None or self.values is None:
            # Every later step reads them. Reading is faster when the rows of a head are contiguous.
            self.keys, self.values = keys.contiguous(), values.contiguous()
        else:
            self.keys, self.values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        return self.keys, self.values

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)


class TranslationAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2). The size of a head does not depend on `d_model`.

    Args:
        config: The model's configuration.
        heads: The number of heads.
        is_decoder: Whether the queries come from the target.
        is_causal: Whether a token attends to itself and earlier tokens only.
    """

    def __init__(self, config: PreTrainedConfig, heads: int, is_decoder: bool = False, is_causal: bool = False) -> None:
        super().__init__()
        self.config, self.is_decoder, self.is_causal = config, is_decoder, is_causal
        self.num_heads, self.head_dim = heads, config.head_size
        width = heads * config.head_size
        self.q_proj = nn.Linear(config.d_model, width)
        self.k_proj = nn.Linear(config.d_model, width)
        self.v_proj = nn.Linear(config.d_model, width)
        self.out_proj = nn.Linear(width, config.d_model)

    @property
    def is_cross(self) -> bool:
        """Return whether this is cross-attention, from the target to the source."""
        return self.is_decoder and not self.is_causal

    def forward(
        self,
        hidden_states: Float[Tensor, "batch query model"],
        key_value_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        state: AttentionState | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output, (batch, query, model), and the attention weights if the implementation gives them.

        Args:
            hidden_states: The states that the queries come from.
            key_value_states: The states that keys and values come from. None: `hidden_states`.
            attention_mask: The mask in the form that the attention implementation expects.
            state: Earlier keys and values, which are attended to as well. Those of the source are computed once.
        """
        if state is not None and key_value_states is not None and state.keys is not None and state.values is not None:
            queries, keys, values = self._heads(self.q_proj(hidden_states)), state.keys, state.values
        else:
            queries, keys, values = self.project(hidden_states, key_value_states)
            if state is not None:
                keys, values = state.append(keys, values)
        context, weights = self._attend(queries, keys, attention_mask)(
            self,
            queries,
            keys,
            values,
            attention_mask,
            dropout=self.config.attention_dropout if self.training else 0.0,
            scaling=self.head_dim**-0.5,
        )
        projected: Tensor = self.out_proj(context.reshape(*hidden_states.shape[:-1], self.num_heads * self.head_dim))
        return projected, weights

    def project(self, hidden_states: Tensor, key_value_states: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (batch, head, token, head_size). `key_value_states` None: self-attention."""
        attended = hidden_states if key_value_states is None else key_value_states
        pairs = ((self.q_proj, hidden_states), (self.k_proj, attended), (self.v_proj, attended))
        queries, keys, values = (self._heads(layer(x)) for layer, x in pairs)
        return queries, keys, values

    def _attend(
        self, queries: Tensor, keys: Tensor, mask: Tensor | None = None
    ) -> Callable[..., tuple[Tensor, Tensor | None]]:
        """Return the configured attention function, or `short_attention` for few tokens on a CPU in inference mode."""
        name = self.config._attn_implementation
        few = queries.shape[2] * keys.shape[2] <= SHORT and queries.dtype in (torch.float32, torch.float64)
        # Without a mask, PyTorch's own attention hides later tokens in a causal layer. `short_attention` does not.
        few = few and (mask is not None or not self.is_causal or queries.shape[2] == 1)
        if name == "sdpa" and few and queries.device.type == "cpu" and torch.is_inference_mode_enabled():
            return short_attention
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)
        return attend

    def _heads(self, x: Tensor) -> Tensor:
        """Split the heads: (batch, token, head x head_size) -> (batch, head, token, head_size)."""
        return x.view(*x.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)


def short_attention(
    module: nn.Module,
    queries: Float[Tensor, "batch head query size"],
    keys: Float[Tensor, "batch head key size"],
    values: Float[Tensor, "batch head key size"],
    mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "batch query head size"], None]:
    """Compute scaled dot-product attention (Vaswani et al. 2017, eq. 1), for inference only.

    PyTorch's own attention computes one product per head. For few tokens, one product for all heads is faster.

    Args:
        module: The layer. It is not used.
        queries: The queries.
        keys: The keys.
        values: The values.
        mask: False where a key must not be attended to.
        scaling: The factor of the weights before the softmax.
        dropout: It is not used: there is no dropout at inference.
    """
    weights = torch.matmul(queries, keys.transpose(-1, -2)).mul_(scaling)
    if mask is not None:
        weights.masked_fill_(~mask, torch.finfo(weights.dtype).min)
    context = torch.matmul(weights.softmax(-1), values)
    return context.transpose(1, 2), None


class NoHeads(nn.Module):
    """The replacement of attention in a layer built without heads: the bias of the output projection."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(config.d_model))

    def forward(
        self,
        hidden_states: Float[Tensor, "batch query model"],
        key_value_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        state: AttentionState | None = None,
    ) -> tuple[Tensor, None]:
        """Return the bias at every position."""
        return self.bias.expand_as(hidden_states), None


def attention(config: PreTrainedConfig, heads: int, is_decoder: bool = False, is_causal: bool = False) -> nn.Module:
    """Return attention with this many heads, or `NoHeads` for zero."""
    return TranslationAttention(config, heads, is_decoder, is_causal) if heads else NoHeads(config)
