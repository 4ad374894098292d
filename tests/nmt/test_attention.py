"""Attention for translating, by plain products: the same as PyTorch's own, and only where nothing is learned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headcount.nmt import TranslatorConfig
from headcount.nmt.attention import SHORT, TranslationAttention, short_attention

CONFIG = TranslatorConfig(vocab_size=20, d_model=12, head_size=4, encoder_heads=3, attn_implementation="sdpa")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    batch=st.integers(1, 3),
    heads=st.integers(0, 3),
    queries=st.integers(1, 5),
    keys=st.integers(1, 6),
    masked=st.booleans(),
)
def test_the_same_as_pytorchs(seed: int, batch: int, heads: int, queries: int, keys: int, masked: bool) -> None:
    drawn = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, n, 4, generator=drawn, dtype=torch.float64) for n in (queries, keys, keys))
    mask = None
    if masked:
        mask = torch.rand(batch, 1, queries, keys, generator=drawn) < 0.6
        mask[..., 0] = True  # what attends to nothing has no answer
    exact = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
    found, weights = short_attention(nn.Identity(), q, k, v, mask, scaling=0.3)
    assert weights is None
    torch.testing.assert_close(found, exact.transpose(1, 2))


@pytest.mark.parametrize(("tokens", "short"), [(int(SHORT**0.5), True), (int(SHORT**0.5) + 1, False)])
def test_only_for_few_tokens(tokens: int, short: bool) -> None:
    layer = TranslationAttention(CONFIG, 3)
    queries = torch.zeros(1, 3, tokens, 4)
    with torch.inference_mode():
        assert (layer._attend(queries, queries) is short_attention) == short


def test_only_where_nothing_is_learned_and_sdpa_is_asked_for() -> None:
    layer, queries = TranslationAttention(CONFIG, 3), torch.zeros(1, 3, 2, 4)
    assert layer._attend(queries, queries) is not short_attention
    with torch.inference_mode():
        assert layer._attend(queries.half(), queries.half()) is not short_attention
        other = TranslatorConfig(**CONFIG.to_dict(), attn_implementation="eager")
        assert TranslationAttention(other, 3)._attend(queries, queries) is not short_attention
