"""Attention for translating, by plain products: the same as PyTorch's own, and only where nothing is learned."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headcount.nmt import TranslatorConfig, attention
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


@pytest.fixture
def takes_plain_products(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Return a function that says whether a layer of a configuration attends by plain products."""
    calls: list[Any] = []

    def recorded(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return short_attention(*args, **options)

    monkeypatch.setattr(attention, "short_attention", recorded)

    def run(config: TranslatorConfig, tokens: int = 2, dtype: torch.dtype = torch.float32) -> bool:
        calls.clear()
        TranslationAttention(config, 3).to(dtype)(torch.zeros(1, tokens, 12, dtype=dtype))
        return bool(calls)

    return run


@pytest.mark.parametrize(("tokens", "short"), [(int(SHORT**0.5), True), (int(SHORT**0.5) + 1, False)])
def test_only_for_few_tokens(tokens: int, short: bool, takes_plain_products: Callable[..., bool]) -> None:
    with torch.inference_mode():
        assert takes_plain_products(CONFIG, tokens) == short


def test_only_where_nothing_is_learned_and_sdpa_is_asked_for(takes_plain_products: Callable[..., bool]) -> None:
    assert not takes_plain_products(CONFIG)
    with torch.inference_mode():
        assert takes_plain_products(CONFIG)
        assert not takes_plain_products(CONFIG, dtype=torch.bfloat16)
        assert not takes_plain_products(TranslatorConfig(**CONFIG.to_dict(), attn_implementation="eager"))
