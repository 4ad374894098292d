"""A model whose attention the table does not know is never cut on a guess: it is refused, and the message says why."""

import copy
import warnings

import pytest
import torch
import transformers
from torch import nn

from families import HEADS, WIDTH, tiny
from headcount.anatomy import head_map, present
from headcount.errors import UnsupportedModel
from headcount.gates.relaxations import GumbelTopK
from headcount.gates.trainable import attach
from headcount.surgery.cut import remove_heads
from refusals import REFUSED


@pytest.mark.parametrize("family", REFUSED)
def test_unknown_attention_is_refused(family: str) -> None:
    config, model_class, settings, named, _ = REFUSED[family]
    model = getattr(transformers, model_class)(getattr(transformers, config)(**settings))
    for operation in (head_map, present, lambda m: remove_heads(m, {}), lambda m: attach(m, GumbelTopK(keep=1))):
        with pytest.raises(UnsupportedModel, match=f"(?s)Looked at: .*{named}.*docs/families.md.*add-a-family"):
            operation(model)


def test_quantized_layers_are_refused() -> None:
    model = tiny("bert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves this elsewhere; it is what is at hand without a library
        quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
    with pytest.raises(UnsupportedModel, match=r"quantized.*Linear; only plain .*load the model without quantization"):
        head_map(quantized)
    model.bert.encoder.layer[1].attention.self.key.weight = nn.Parameter(
        torch.zeros(32, 32, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(UnsupportedModel, match=r"key' is a .*Linear with weights of Tensor, torch.int8; only plain"):
        head_map(model)


def test_a_loaded_quantized_model_is_refused() -> None:
    """Transformers leaves its quantizer on a model whose weights are packed; which one it is stands in the message."""
    model = tiny("bert")
    config = transformers.FineGrainedFP8Config()
    model.hf_quantizer = transformers.quantizers.AutoHfQuantizer.from_config(config)
    model.is_quantized = True
    with pytest.raises(UnsupportedModel, match="is quantized .FineGrainedFP8HfQuantizer.*quantize the pruned model"):
        head_map(model)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks transformers
def test_adapters_are_refused() -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(tiny("bert"), LoraConfig(target_modules=["query"]))
    with pytest.raises(UnsupportedModel, match=r"query' is a peft.*Merge adapters"):
        head_map(adapted)


def test_shared_attention_is_one_site() -> None:
    """ALBERT's layers share one attention module: one site, whose heads go from all layers at once."""
    model = tiny("albert")
    whole = head_map(model)
    assert len(whole) == HEADS and len(whole.sites) == 1
    before = sum(p.numel() for p in model.parameters())
    remove_heads(model, {whole.sites[0].name: [0, 3]})
    assert before - sum(p.numel() for p in model.parameters()) == 2 * (4 * 8 * WIDTH + 3 * 8)
