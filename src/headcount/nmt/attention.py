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
"""Attention weights of a head, up to which plain matrix products are faster than PyTorch's own attention on a CPU."""


@dataclass
class AttentionState:
    """Keys and values of the tokens so far, or of the source. Shapes: (batch, head, token, head_size)."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, with these after those that are there."""
        if self.keys is None or self.values is None:
            # Read at every step from now on, those of the source unchanged: a head's rows side by side are read faster.
            self.keys, self.values = keys.contiguous(), values.contiguous()
        else:
            self.keys, self.values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        return self.keys, self.values

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)


class TranslationAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2); the width of its heads is not that of the model.

    Args:
        config: The model's.
        heads: How many.
        is_decoder: It attends from the target.
        is_causal: It attends to what came before only.
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
        """Whether it attends from the target to the source."""
        return self.is_decoder and not self.is_causal

    def forward(
        self,
        hidden_states: Float[Tensor, "batch query model"],
        key_value_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        state: AttentionState | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The attended values, projected, and the attention weights if the implementation gives them.

        Args:
            hidden_states: What is attended from.
            key_value_states: What is attended to. None: what it is attended from.
            attention_mask: As the attention implementation wants it.
            state: With it, earlier keys and values count too; those of the source are computed once.
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
        """Queries of the one; keys and values of the other, or of the same. Shapes: (batch, head, token, head_size)."""
        attended = hidden_states if key_value_states is None else key_value_states
        pairs = ((self.q_proj, hidden_states), (self.k_proj, attended), (self.v_proj, attended))
        queries, keys, values = (self._heads(layer(x)) for layer, x in pairs)
        return queries, keys, values

    def _attend(
        self, queries: Tensor, keys: Tensor, mask: Tensor | None = None
    ) -> Callable[..., tuple[Tensor, Tensor | None]]:
        """The configured attention; for few tokens on a CPU, where nothing is learned, the same by plain products."""
        name = self.config._attn_implementation
        few = queries.shape[2] * keys.shape[2] <= SHORT and queries.dtype in (torch.float32, torch.float64)
        # Where a causal layer gets no mask, PyTorch's own attention hides what comes after: the plain products do not.
        few = few and (mask is not None or not self.is_causal or queries.shape[2] == 1)
        if name == "sdpa" and few and queries.device.type == "cpu" and torch.is_inference_mode_enabled():
            return short_attention
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)
        return attend

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, token, head x head_size) -> (batch, head, token, head_size)."""
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
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) for translating, as an attention implementation.

    PyTorch's own computes the products head by head; for few tokens, one product for all heads is faster.

    Args:
        module: The layer; it has no say.
        queries: Attend from.
        keys: Attend to.
        values: What is attended to.
        mask: False where nothing may be attended to.
        scaling: Of the weights before the softmax.
        dropout: There is none.
    """
    weights = torch.matmul(queries, keys.transpose(-1, -2)).mul_(scaling)
    if mask is not None:
        weights.masked_fill_(~mask, torch.finfo(weights.dtype).min)
    context = torch.matmul(weights.softmax(-1), values)
    return context.transpose(1, 2), None


class NoHeads(nn.Module):
    """What a layer built without heads has in place of attention: the bias of the output projection."""

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
        """The bias at every position."""
        return self.bias.expand_as(hidden_states), None


def attention(config: PreTrainedConfig, heads: int, is_decoder: bool = False, is_causal: bool = False) -> nn.Module:
    """Attention with these heads, or what stands in its place where there are none."""
    return TranslationAttention(config, heads, is_decoder, is_causal) if heads else NoHeads(config)
