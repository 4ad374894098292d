"""Sizes, against formulas worked by hand and against what is written to disk."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel

from headcount.running.measure import Size, parameters, size_bytes


def test_linear_layer_by_hand() -> None:
    layer = nn.Linear(3, 5)
    assert parameters(layer) == 3 * 5 + 5
    assert size_bytes(layer) == 4 * 20
    assert size_bytes(layer.to(torch.bfloat16)) == 2 * 20


def test_shared_tensors_count_once() -> None:
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, second, first)
    assert parameters(model) == 16
    assert size_bytes(model) == 64


def test_only_saved_buffers_have_bytes() -> None:
    model = nn.Linear(2, 2, bias=False)
    model.register_buffer("saved", torch.zeros(3, dtype=torch.int64))
    model.register_buffer("scratch", torch.zeros(100), persistent=False)
    assert parameters(model) == 4
    assert size_bytes(model) == 4 * 4 + 3 * 8


def test_matrices_without_rows_weigh_nothing() -> None:
    assert parameters(nn.ParameterList([torch.empty(0, 8), torch.empty(8, 0), torch.empty(8)])) == 8


def test_bytes_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    """Against the file transformers writes: all of it but the header, whose length is its first 8 bytes."""
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    model = BertForMaskedLM(config)  # its output matrix is tied to its input embeddings
    model.save_pretrained(tmp_path)
    file = (tmp_path / "model.safetensors").read_bytes()
    assert size_bytes(model) == len(file) - 8 - int.from_bytes(file[:8], "little")


@pytest.mark.parametrize(("heads", "expected"), [(12, 109_482_240), (6, 109_482_240 - 12 * 6 * 196_800)])
def test_bert_base(heads: int, expected: int) -> None:
    """BERT-base has 109.48 M parameters, and each head 4 * 768 * 64 + 3 * 64 = 196,800 of them."""
    with torch.device("meta"):
        model = BertModel(BertConfig())
        for layer in model.encoder.layer:
            for name in ("query", "key", "value"):
                setattr(layer.attention.self, name, nn.Linear(768, heads * 64))
            layer.attention.output.dense = nn.Linear(heads * 64, 768)
    assert parameters(model) == expected
    assert size_bytes(model) == 4 * expected


def test_plain_data() -> None:
    assert Size.of(nn.Linear(3, 5)).to_json() == {"parameters": 20, "bytes": 80}
