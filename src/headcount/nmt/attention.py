"""Attention with heads of any number and size, through transformers' attention interface."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.marian.modeling_marian import eager_attention_forward


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

    def __init__(self, config: Any, heads: int, is_decoder: bool = False, is_causal: bool = False) -> None:
        super().__init__()
        self.config, self.is_decoder, self.is_causal = config, is_decoder, is_causal
        self.num_heads, self.head_dim = heads, config.head_size
        width = heads * config.head_size
        self.q_proj = nn.Linear(config.d_model, width)
        self.k_proj = nn.Linear(config.d_model, width)
        self.v_proj = nn.Linear(config.d_model, width)
        self.out_proj = nn.Linear(width, config.d_model)

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
        queries = self._heads(self.q_proj(hidden_states))
        if state is not None and key_value_states is not None and state.keys is not None and state.values is not None:
            keys, values = state.keys, state.values
        else:
            attended = hidden_states if key_value_states is None else key_value_states
            keys, values = self._heads(self.k_proj(attended)), self._heads(self.v_proj(attended))
            if state is not None:
                keys, values = state.append(keys, values)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        context, weights = attend(
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

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, token, head x head_size) -> (batch, head, token, head_size)."""
        return x.view(*x.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)


class NoHeads(nn.Module):
    """What a layer built without heads has in place of attention: the bias of the output projection."""

    def __init__(self, config: Any) -> None:
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


def attention(config: Any, heads: int, is_decoder: bool = False, is_causal: bool = False) -> nn.Module:
    """Attention with these heads, or what stands in its place where there are none."""
    return TranslationAttention(config, heads, is_decoder, is_causal) if heads else NoHeads(config)
