"""Gated = cut, for every family, attention implementation and subset; cutting twice = cutting once; failure undoes."""

import copy
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from families import CLASSIFIERS, HEAD_SIZE, HEADS, LAYERS, WIDTH, tiny
from headcount.anatomy import forwards, head_map, present, survey
from headcount.anatomy.example import random_inputs
from headcount.errors import BadRecipe, SurgeryFailed, UnsupportedModel
from headcount.gates.hooks import masked
from headcount.surgery import selfcheck
from headcount.surgery.cut import chosen_subset, remove_heads, structure
from headcount.surgery.selfcheck import outputs
from headcount.units.map import Subset

H = LAYERS * HEADS
some_heads = st.sets(st.integers(0, H - 1))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("family", CLASSIFIERS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(heads=some_heads)
def test_gated_equals_cut(family: str, heads: set[int]) -> None:
    model = tiny(family)
    subset = Subset(head_map(model), tuple(sorted(heads)))
    inputs = random_inputs(model, seed=len(heads))
    with masked(model, subset):
        gated = outputs(model, inputs)
    unpruned = outputs(model, inputs)
    parameters = sum(p.numel() for p in model.parameters())
    remove_heads(model, subset)
    assert difference(gated, outputs(model, inputs)) <= 1e-5
    assert present(model) == subset
    # One head: query, key and value rows with their biases, and output columns.
    width = HEADS * 8
    assert parameters - sum(p.numel() for p in model.parameters()) == (H - len(heads)) * (4 * 8 * width + 3 * 8)
    if len(heads) == H:
        assert difference(unpruned, gated) == 0


@pytest.mark.parametrize("family", CLASSIFIERS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=some_heads, second=some_heads)
def test_cutting_twice_equals_cutting_both(family: str, first: set[int], second: set[int]) -> None:
    twice = tiny(family)
    once = copy.deepcopy(twice)
    whole = head_map(twice)
    a, b = (Subset(whole, tuple(sorted(heads))) for heads in (first, second))
    remove_heads(remove_heads(twice, a), a & b)
    remove_heads(once, a & b)
    assert difference(outputs(twice, random_inputs(twice)), outputs(once, random_inputs(once))) == 0
    assert structure(twice) == structure(once)


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_the_cut_shows(family: str) -> None:
    """The laws above could hold of models in which no head matters; here every head does."""
    model = tiny(family)
    inputs = random_inputs(model)
    whole = outputs(model, inputs)
    for index in range(H):
        with masked(model, ~Subset(head_map(model), (index,))):
            assert difference(whole, outputs(model, inputs)) > 1e-4


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_cut_model_trains_and_copies(family: str) -> None:
    model = tiny(family)
    names = [site.name for site in head_map(model).sites]
    remove_heads(model, {names[0]: [], names[1]: [1, 3], names[2]: [2]})
    twin = copy.deepcopy(model)
    inputs = random_inputs(model)
    assert difference(outputs(model, inputs), outputs(twin, inputs)) == 0
    model.train()
    model(**inputs, labels=torch.tensor([0, 2])).loss.backward()
    for live in survey(model):
        for name, parameter in live.attention.named_parameters():
            if parameter.numel():
                assert parameter.grad is not None and parameter.grad.isfinite().all(), f"{live.site.name}.{name}"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert difference(outputs(model, inputs), outputs(twin, inputs)) > 1e-3  # the copy shares nothing


def test_original_numbering_stays() -> None:
    model = tiny("bert")
    first = head_map(model).sites[0].name
    remove_heads(model, {first: [1, 3]})
    remove_heads(model, {first: [3]})
    assert present(model).at(first) == [3] and len(head_map(model)) == H
    with pytest.raises(BadRecipe, match=f"gone already: {first}:1"):
        remove_heads(model, {first: [1]})
    with pytest.raises(BadRecipe, match="no site nowhere"):
        remove_heads(model, {"nowhere": [1]})
    with pytest.raises(BadRecipe, match="heads 0 to 3, got 4"):
        remove_heads(model, {first: [4]})


def test_modes_of_modules_are_left_as_they_are() -> None:
    model = tiny("bert").train()
    model.bert.eval()  # a frozen body, a head in training
    remove_heads(model, {head_map(model).sites[0].name: [1]})
    assert model.training and model.classifier.training and not any(m.training for m in model.bert.modules())


def test_keeping_all_leaves_no_mark() -> None:
    model = tiny("bert")
    remove_heads(model, present(model))
    assert not hasattr(model.config, "quantization_config")


def test_a_failed_surgery_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("mpnet")
    inputs, before = random_inputs(model), {name: p.clone() for name, p in model.named_parameters()}
    expected = outputs(model, inputs)
    names = [site.name for site in head_map(model).sites]
    monkeypatch.setattr(forwards, "_narrowed", lambda core, x: x)
    with pytest.raises((SurgeryFailed, RuntimeError)):
        remove_heads(model, {names[0]: [2], names[1]: []})
    assert {name: p.shape for name, p in model.named_parameters()} == {name: p.shape for name, p in before.items()}
    assert difference(outputs(model, inputs), expected) == 0
    assert len(present(model)) == H and not hasattr(model.config, "quantization_config")


def test_unknown_attention_is_refused() -> None:
    class OddAttention(nn.Module):
        pass

    mixed = tiny("bert")
    mixed.bert.extra = OddAttention()
    for model in (mixed, nn.Sequential(OddAttention())):
        with pytest.raises(UnsupportedModel, match=r"Looked at: .*OddAttention.*docs/families.md.*add-a-family"):
            survey(model)
    with pytest.raises(
        UnsupportedModel,
        match=r"torch.nn.MultiheadAttention at 0.* neither gated nor cut: it reads the weights",
    ):
        survey(nn.Sequential(nn.MultiheadAttention(8, 2)))


def test_uneven_groups_are_refused_and_nothing_is_cut() -> None:
    model = tiny("llama")
    names = [site.name for site in head_map(model).sites]
    with pytest.raises(BadRecipe, match=f"'{names[1]}'.*leave \\[2, 1\\] heads.*whole groups, or as many in each"):
        remove_heads(model, {names[0]: [], names[1]: [0, 1, 2]})
    assert len(present(model)) == H
    before = sum(p.numel() for p in model.parameters())
    remove_heads(model, {names[0]: [0, 1], names[1]: [1, 2]})  # a whole group; one head of each
    d, width = HEAD_SIZE, WIDTH
    # A group of two heads: two query and two output blocks, a key and a value. Two query heads: no key, no value.
    assert before - sum(p.numel() for p in model.parameters()) == (4 + 2) * d * width + 4 * d * width


def test_static_cache_with_chunked_prefill_takes_its_shape_from_the_layers() -> None:
    model = tiny("llama")
    names = [site.name for site in head_map(model).sites]
    subset = head_map(model).subset({names[0]: [], names[1]: [0, 1], names[2]: range(4)})
    inputs = random_inputs(model)
    way = {"max_new_tokens": 4, "do_sample": False, "cache_implementation": "static", "prefill_chunk_size": 4}
    with masked(model, subset):
        expected = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert torch.equal(remove_heads(model, subset).generate(**inputs, **way), expected)


def test_failed_surgery_restores_towers_and_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("clip")
    seen: list[int] = []
    handle = survey(model)[0].core.register_forward_hook(lambda *_: seen.append(1))
    monkeypatch.setattr(selfcheck, "TOLERANCE", {torch.float32: -1.0})
    with pytest.raises(SurgeryFailed):
        remove_heads(model, {site.name: [0] for site in head_map(model).sites})
    for config in (model.config, model.text_model.config, model.vision_model.config):
        assert getattr(config, "quantization_config", None) is None
    handle.remove()
    seen.clear()
    outputs(model, random_inputs(model))
    assert seen == [] and len(present(model)) == len(head_map(model))


def test_classifiers_that_pool_by_the_end_of_the_text() -> None:
    from transformers import BartForSequenceClassification, GPT2ForSequenceClassification, T5ForSequenceClassification

    for kind, family in {BartForSequenceClassification: "bart", T5ForSequenceClassification: "t5"}.items():
        model = kind(tiny(family).config).eval()
        remove_heads(model, {site.name: [1] for site in head_map(model).sites})
        assert len(present(model)) == len(head_map(model).sites)
    config = tiny("gpt2").config
    config.pad_token_id = None
    model = GPT2ForSequenceClassification(config).eval()
    remove_heads(model, {site.name: [1] for site in head_map(model).sites})
    assert len(present(model)) == len(head_map(model).sites)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(family: str, dtype: torch.dtype) -> None:
    model = tiny(family).to(dtype)
    some = next(site for site in head_map(model).sites if site.layer == 1)
    remove_heads(model, {some.name: [0, 1]})
    assert next(model.parameters()).dtype == dtype


def test_whisper_tells_times_by_the_same_heads() -> None:
    model = tiny("whisper")
    model.generation_config.alignment_heads = [[1, 1], [1, 3], [2, 0]]
    crossing = [site.name for site in head_map(model).sites if site.kind == "cross"]
    remove_heads(model, {crossing[1]: [1, 2, 3], crossing[2]: [1, 2]})
    assert model.generation_config.alignment_heads == [[1, 0], [1, 2]]
    remove_heads(model, {crossing[1]: [3]})
    assert model.generation_config.alignment_heads == [[1, 0]]
    remove_heads(model, {crossing[1]: []})
    assert not hasattr(model.generation_config, "alignment_heads")  # then it says itself that it tells no times


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2", "bloom", "bert"])
def test_attention_of_a_site_without_heads_is_of_no_head(family: str) -> None:
    model = tiny(family, attention="eager")
    remove_heads(model, {head_map(model).sites[0].name: []})
    inputs = random_inputs(model)
    with torch.no_grad():
        found = model.eval()(**inputs, output_attentions=True).attentions
    assert [each.shape[1] for each in found] == [0, *[HEADS] * (LAYERS - 1)]


@pytest.mark.parametrize("family", ["gpt2", "modernbert", "t5", "phi3", "bert"])
def test_cut_models_are_pickled(family: str) -> None:
    model = tiny(family)
    remove_heads(model, {site.name: [] for site in head_map(model).sites[:2]})
    twin = pickle.loads(pickle.dumps(model))
    assert difference(outputs(twin, random_inputs(model)), outputs(model, random_inputs(model))) == 0


def test_every_parameter_of_a_cut_model_gets_a_gradient() -> None:
    """Distributed training waits for all of them."""
    model = tiny("llama").train()
    remove_heads(model, {head_map(model).sites[0].name: []})
    model.train()(**random_inputs(model)).logits.sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_weights_that_are_not_there_and_weights_that_are_shared_are_refused() -> None:
    with torch.device("meta"):
        model = type(tiny("bert"))(tiny("bert").config)
    with pytest.raises(UnsupportedModel, match="not in memory: the model is offloaded"):
        remove_heads(model, {})
    shared = tiny("bert")
    first, second = (layer.attention.self for layer in shared.bert.encoder.layer[:2])
    second.query.weight = first.query.weight
    with pytest.raises(UnsupportedModel, match="share 'self.query.weight'"):
        head_map(shared)
    exact = tiny("bloom")
    for module in exact.modules():
        if hasattr(module, "slow_but_exact"):
            module.slow_but_exact, module.pretraining_tp = True, 2
    with pytest.raises(UnsupportedModel, match="slow_but_exact"):
        head_map(exact)


def test_foreign_subsets_and_other_things_are_refused() -> None:
    model = tiny("bert")
    for keep, says in (
        (head_map(tiny("llama")).all, "of another model"),
        ([1, 2], "got \\[1, 2\\]"),
        ("12", "got '12'"),
    ):
        with pytest.raises(BadRecipe, match=says):
            chosen_subset(present(model), keep)
