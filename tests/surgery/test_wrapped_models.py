"""Surgery on models as users have them: wrapped, of a shared configuration or none, and of classes that want more."""

import copy
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

import headcount
from families import HEADS, LAYERS, tiny
from headcount.anatomy import head_map, present
from headcount.anatomy.example import random_inputs
from headcount.errors import BadRecipe, UnsupportedModel
from headcount.gates.hooks import masked
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs

H = LAYERS * HEADS


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


class Wrapped(nn.Module):
    """A model inside another module, as PEFT, torch.compile and DistributedDataParallel have it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **inputs: torch.Tensor) -> object:
        return self.inner(**inputs)


def test_a_wrapped_model_is_gated_and_cut_as_itself() -> None:
    """The four lines, of the wrapper throughout, and of wrapper and model by turns."""
    model = tiny("bert")
    wrapper, inputs = Wrapped(model), random_inputs(model)
    assert head_map(wrapper) == head_map(model) and present(wrapper) == present(model)
    for gated, cut in ((wrapper, wrapper), (wrapper, model), (model, wrapper)):
        gates = headcount.attach(gated, headcount.GumbelTopK(keep=H // 2))
        with pytest.raises(BadRecipe, match="already has gates"):
            headcount.attach(cut, headcount.GumbelTopK(keep=2))
        with masked(cut, gates.subset()):
            expected = outputs(model, inputs)
        remove_heads(copy.deepcopy(cut), gates.subset())
        headcount.detach(cut)
        assert not hasattr(model, "headcount_gates")
    remove_heads(wrapper, gates.subset())
    assert difference(outputs(model, inputs), expected) <= 1e-5


def test_of_several_models_side_by_side_one_is_to_be_handed_over() -> None:
    with pytest.raises(UnsupportedModel, match="ModuleList holds several models: 0, 1. Hand over one of them"):
        head_map(nn.ModuleList([tiny("bert"), tiny("bert")]))


def test_the_structure_is_no_other_models() -> None:
    """Teacher and student are often made from one configuration."""
    model = tiny("clip")
    twin = type(model)(model.config)
    before = {id(part.config) for part in model.modules() if hasattr(part, "config")}
    remove_heads(model, {head_map(model).sites[0].name: [0]})
    assert not hasattr(twin.config, "quantization_config") and hasattr(model.config, "quantization_config")
    assert not before & {id(part.config) for part in model.modules() if hasattr(part, "config")}
    assert model.text_model.config is model.config.text_config


def test_a_module_that_is_no_model_of_transformers() -> None:
    attention = tiny("bert").bert.encoder
    with pytest.raises(UnsupportedModel, match="Cannot make up an input for .* no configuration. Hand over an example"):
        remove_heads(Wrapped(attention), {head_map(Wrapped(attention)).sites[0].name: [0]})


def test_a_class_that_wants_another_batch_says_so() -> None:
    model = transformers.BertForMultipleChoice(tiny("bert").config)
    names = {site.name: [0] for site in head_map(model).sites}
    with pytest.raises(UnsupportedModel, match="BertForMultipleChoice cannot run the check's batch .*example="):
        remove_heads(model, names)
    ids = torch.randint(5, 30, (2, 3, 6))
    assert len(present(remove_heads(model, names, example={"input_ids": ids}))) == LAYERS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own, about the compiler
def test_wrappers_are_recorded_by_the_name_that_is_saved(tmp_path: Path) -> None:
    model = tiny("bert")
    names = {site.name: [0] for site in head_map(model).sites}
    remove_heads(torch.compile(model), names)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert difference(outputs(again, random_inputs(model)), outputs(model, random_inputs(model))) == 0
