"""Shapes of tiny translation models, which have between them what a configuration can say; a batch for any of them."""

from typing import Any

from translators import DECODERS, padded, sources

SHAPES: list[dict[str, Any]] = [
    *DECODERS.values(),
    {"norm": "pre", "tied_embeddings": "decoder", "activation": "gelu"},
    {"decoder_type": "ssru", "tied_embeddings": "none", "activation": "silu", "encoder_heads": [0, 2]},
    {"norm": "pre", "head_size": 5, "cross_heads": [4, 0], "decoder_heads": [0, 1], "layer_norm_eps": 1e-3},
]
SOURCE, LABELS = sources((5, 2, 4)), padded((4, 6, 3), -100, seed=1)
