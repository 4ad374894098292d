"""Tiny seeded models, one per family: built from configurations, with weights large enough that a wrong cut shows."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

LAYERS, HEADS, HEAD_SIZE, VOCABULARY = 3, 4, 8, 99
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HEADS * HEAD_SIZE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 37,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
_DISTILBERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": HEADS * HEAD_SIZE,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "hidden_dim": 37,
    "max_position_embeddings": 40,
    "num_labels": 3,
}

FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**_COMMON)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**_COMMON)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(embedding_size=16, **_COMMON)),
    "distilbert": lambda: DistilBertForSequenceClassification(DistilBertConfig(**_DISTILBERT)),
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(**_COMMON)),
}


def tiny(family: str, seed: int = 0) -> Any:
    """A tiny model of the family, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FAMILIES[family]()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()
