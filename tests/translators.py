"""Tiny seeded translation models of our own, with weights large enough that a wrong step shows; text for them."""

from typing import Any

import torch
from torch import Tensor

from headcount.nmt import Translator, TranslatorConfig

VOCABULARY = 23
PAD, START, END = 0, 1, 2
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 12,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_heads": 3,
    "decoder_heads": 3,
    "cross_heads": 3,
    "head_size": 4,
    "ffn_size": 20,
    "dropout": 0.0,
    "label_smoothing": 0.0,
}
DECODERS: dict[str, dict[str, Any]] = {
    "attention": {},
    "tied-attention": {"tied_decoder_layers": True},
    "ssru": {"decoder_type": "ssru", "norm": "pre"},
    "tied-ssru": {"decoder_type": "ssru", "tied_decoder_layers": True},
}
TEXT = [
    "a dog runs home", "the old dog sleeps", "two dogs run and a cat sleeps", "a cat sees the dog at home",
    "ein Hund läuft heim", "der alte Hund schläft", "zwei Hunde laufen, und eine Katze schläft",
    "eine Katze sieht den Hund zu Hause", "Größe 1 < 2 > 0 / 3!", "„Ja“, sagte sie. 🙂",
]  # fmt: skip


def translator(seed: int = 0, attention: str = "sdpa", std: float = 0.4, **changes: Any) -> Translator:
    """A tiny model in float64, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = TranslatorConfig(**{**SHAPE, **changes})
        model: Translator = Translator._from_config(config, attn_implementation=attention)
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, mean=float(name.endswith("norm.weight")), std=std)
    return model.double().eval()


def padded(lengths: tuple[int, ...], value: int, seed: int = 0, most: int = VOCABULARY) -> Tensor:
    """Random words of these lengths, the last of each the end, then `value`. Shape: (text, token)."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), max(lengths)), value)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(3, most, (length,), generator=generator)
        row[length - 1] = END
    return rows


def sources(lengths: tuple[int, ...], seed: int = 0, most: int = VOCABULARY) -> dict[str, Tensor]:
    """Source sentences of these lengths, and what of them is text."""
    ids = padded(lengths, PAD, seed, most)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def largest(a: Tensor, b: Tensor) -> float:
    """The largest difference."""
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())
