"""Eight-bit products: rounding by hand, the bound of their error, and translations that stay."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import headcount
from headcount.errors import BadRecipe
from headcount.nmt import Search, Translator, TranslatorConfig, to_int8
from headcount.nmt.int8 import Int8Linear, round_rows
from headcount.nmt.search import search
from translators import sources


def test_rounding_by_hand() -> None:
    rounded, scale = round_rows(torch.tensor([[1.27, -0.64, 0.014], [0.0, 0.0, 0.0], [-254.0, 127.0, 3.0]]))
    assert rounded.tolist() == [[127, -64, 1], [0, 0, 0], [-127, 64, 2]]  # 63.5 and 1.5 go to the even number
    assert scale[[0, 2]].tolist() == pytest.approx([0.01, 2.0])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 40),
    width=st.integers(1, 70),
    spread=st.sampled_from([0.01, 1.0, 30.0]),
)
def test_products_are_as_near_as_rounding_allows(seed: int, rows: int, width: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    plain = nn.Linear(width, rows)
    x = spread * torch.randn(3, 2, width, generator=generator)
    with torch.no_grad():
        exact, found = plain(x), Int8Linear(*round_rows(plain.weight), plain.bias)(x)
    # Half a step of each weight times what it meets; one step of each activation (of 127) times what it meets.
    step = (x.amax().clamp_min(0) - x.amin().clamp_max(0)) / 127
    weights = plain.weight.detach().abs()
    bound = 0.5 * weights.amax(1) / 127 * (x.abs().sum(-1, keepdim=True) + width * step) + step * weights.sum(1)
    assert found.shape == exact.shape and bool(((found - exact).abs() <= bound + 1e-5).all())


def test_relu_goes_along() -> None:
    plain, x = nn.Linear(16, 8), torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    rounded = round_rows(plain.weight.detach())
    with torch.no_grad():
        assert torch.equal(Int8Linear(*rounded, plain.bias, relu=True)(x), Int8Linear(*rounded, plain.bias)(x).relu())


@pytest.mark.parametrize("decoder_type", ["attention", "ssru"])
@pytest.mark.parametrize("heads", [4, [2, 0]])
def test_a_model_computes_nearly_the_same(decoder_type: str, heads: int | list[int]) -> None:
    torch.manual_seed(0)
    config = TranslatorConfig(
        vocab_size=60, d_model=32, head_size=8, encoder_layers=2, decoder_layers=2, encoder_heads=heads, ffn_size=64,
        decoder_heads=4, cross_heads=4, decoder_type=decoder_type,
    )  # fmt: skip
    model = Translator(config).eval()
    headcount.remove_heads(model, {"decoder.layers.0.cross_attn": [], "decoder.layers.1.cross_attn": [1]})
    small, batch = to_int8(copy.deepcopy(model)), sources((6, 3), most=60)
    assert not [m for m in small.modules() if isinstance(m, nn.Linear) and m.weight.numel()]
    target = torch.randint(4, 60, (2, 5), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        decodings = [each.start(**batch) for each in (model, small)]
        exact, found = (
            torch.stack([each.step(target[:, at, None], decoding) for at in range(5)])
            for each, decoding in zip((model, small), decodings, strict=True)
        )
    difference = float((found - exact).abs().max() / exact.abs().max())
    assert 0 < difference < 0.06  # rounded, and no more than that


def test_rounded_twice_and_saved(tmp_path: Path) -> None:
    model = to_int8(Translator(TranslatorConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1)).eval())
    layers = [type(each) for each in model.modules()]
    assert [type(each) for each in to_int8(model).modules()] == layers
    with pytest.raises(BadRecipe, match="An int8 model is not saved. Save the model that it was made from"):
        model.save_pretrained(tmp_path / "int8")
    assert not list(tmp_path.iterdir())


def test_candidates_are_rows_of_all() -> None:
    torch.manual_seed(0)
    model = to_int8(Translator(TranslatorConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1)).eval())
    batch, pieces = sources((4, 4), most=50), torch.tensor([2, 5, 7, 11, 40])
    token = torch.full((2, 1), 1)
    with torch.inference_mode():
        whole = model.step(token, model.start(**batch, forbidden=(5,)))
        some = model.step(token, model.start(**batch, candidates=pieces, forbidden=(5,)))
    torch.testing.assert_close(some, whole[..., pieces])
    assert bool((some[..., 1] == -torch.inf).all())
    first, again = (search(model, **batch, settings=Search(beam=2)) for _ in range(2))
    assert [line[0].ids for line in first] == [line[0].ids for line in again]
