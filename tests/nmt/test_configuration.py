"""Configurations of translation models: which make sense, the weights built from them, saved and loaded again."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM
from translator_shapes import LABELS, SHAPES, SOURCE

from headcount.errors import BadRecipe
from headcount.nmt import PRESETS, Translator, TranslatorConfig
from translators import VOCABULARY, largest, translator


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"decoder_type": "rnn"}, "Got decoder_type 'rnn'. Give one of attention, ssru."),
        ({"norm": "both"}, "Got norm 'both'. Give one of post, pre."),
        ({"tied_embeddings": "some"}, "Got tied_embeddings 'some'. Give one of all, decoder, none."),
        ({"activation": "tanh"}, "Got activation 'tanh'. Give one of relu, gelu, silu."),
        ({"vocab_size": 3}, "Got vocab_size 3. Give a whole number of at least 4."),
        ({"d_model": 2}, "Got d_model 2. Give a whole number of at least 4."),
        ({"encoder_layers": 0}, "Got encoder_layers 0. Give a whole number of at least 1."),
        ({"decoder_layers": 0}, "Got decoder_layers 0. Give a whole number of at least 1."),
        ({"ffn_size": 0}, "Got ffn_size 0. Give a whole number of at least 1."),
        ({"dropout": 1.0}, "Got dropout 1.0. Give a number of at least 0 and below 1."),
        ({"attention_dropout": -0.1}, "Got attention_dropout -0.1. Give a number of at least 0 and below 1."),
        ({"activation_dropout": 1.5}, "Got activation_dropout 1.5. Give a number of at least 0 and below 1."),
        ({"label_smoothing": 1}, "Got label_smoothing 1. Give a number of at least 0 and below 1."),
        ({"d_model": 13}, "Got d_model 13. Give an even number: half of a position is sines."),
        ({"d_model": 12, "encoder_heads": 5}, "Cannot tell the size of a head from 5 heads and d_model 12. Give head_"),
        ({"encoder_heads": [4] * 6}, r"from \[4, 4, 4, 4, 4, 4\] heads and d_model 512. Give head_size."),
        ({"encoder_heads": 0}, "Cannot tell the size of a head from 0 heads"),
        ({"head_size": 0}, "Got head_size 0. Give a whole number of at least 1"),
        (
            {"encoder_heads": [1, 2], "head_size": 4},
            r"'encoder_heads' is \[1, 2\], for 6 layers. Give a number, or one",
        ),
        ({"decoder_heads": [1] * 7}, "'decoder_heads' is .* for 6 layers"),
        ({"cross_heads": -1}, "'cross_heads' is -1, for 6 layers"),
        ({"dropout": "x"}, "Got dropout 'x'. Give a number."),
        ({"decoder_heads": [1.5]}, r"Got decoder_heads \[1.5\]. Give a whole number or a list of whole numbers."),
        ({"tied_decoder_layers": "yes"}, "Got tied_decoder_layers 'yes'. Give true or false."),
        ({"cross_heads": [1] * 6, "tied_decoder_layers": True}, "'cross_heads' is .* for 1 layers"),
    ],
)
def test_configurations_that_make_no_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecipe, match=says):
        TranslatorConfig(**changes)


def test_heads_of_layers() -> None:
    config = TranslatorConfig(d_model=64, encoder_layers=3, encoder_heads=4, cross_heads=[1, 0, 2, 3, 4, 5])
    assert config.head_size == 16 and config.built_decoder_layers == 6
    assert config.heads("encoder_heads") == [4, 4, 4] and config.heads("cross_heads") == [1, 0, 2, 3, 4, 5]
    tied = TranslatorConfig(tied_decoder_layers=True, cross_heads=[3], decoder_heads=2)
    assert tied.built_decoder_layers == 1 and tied.heads("cross_heads") == [3] and tied.heads("decoder_heads") == [2]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_configurations(preset: str, tmp_path: Path) -> None:
    config = TranslatorConfig(**PRESETS[preset])
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is TranslatorConfig
    assert {name: getattr(again, name) for name in TranslatorConfig.__annotations__} == {
        name: getattr(config, name) for name in TranslatorConfig.__annotations__
    }


@pytest.mark.parametrize(("tied", "matrices"), [("all", 1), ("decoder", 2), ("none", 3)])
def test_what_shares_a_matrix(tied: str, matrices: int) -> None:
    model = translator(tied_embeddings=tied)
    big = [name for name, parameter in model.named_parameters() if tuple(parameter.shape) == (VOCABULARY, 12)]
    assert len(big) == matrices
    assert (model.get_input_embeddings() is model.embedding) == (tied == "all")


def test_random_weights_are_as_said() -> None:
    """Glorot's bound is sqrt(6 / (in + out)); embeddings have length one; the logits of a new model are flat."""
    torch.manual_seed(3)
    model = Translator(TranslatorConfig(vocab_size=500, d_model=64, ffn_size=96, tied_embeddings="none"))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "embedding" in name or name == "output.weight":
            assert parameter.square().sum(1).mean().item() == pytest.approx(1, abs=0.05)
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.9 * bound < parameter.abs().max() <= bound, name


@pytest.mark.parametrize(
    ("shape", "dtype"), [*((shape, torch.float64) for shape in SHAPES), ({}, torch.float32), ({}, torch.bfloat16)]
)
def test_saved_and_loaded_with_equal_bits(shape: dict[str, Any], dtype: torch.dtype, tmp_path: Path) -> None:
    model = translator(**shape).to(dtype)
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(again) is Translator and again.dtype == dtype and not again.training
    weights = model.state_dict()
    assert weights.keys() == again.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    found, expected = (each(**SOURCE, labels=LABELS).logits for each in (again, model))
    assert largest(found, expected) <= 64 * torch.finfo(dtype).eps  # where weights lie in memory decides on rounding


def test_loaded_as_a_plain_model_too(tmp_path: Path) -> None:
    translator().save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is type(Translator.from_pretrained(tmp_path)) is Translator
