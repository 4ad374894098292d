"""Surgery checks itself: a wrong cut is noticed, in any precision, also while the model generates."""

import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils import prune

from families import HEADS, LAYERS, WIDTH, tiny
from headcount.anatomy import forwards, head_map, present, survey
from headcount.anatomy.example import random_inputs
from headcount.errors import SurgeryFailed, UnsupportedModel
from headcount.gates.hooks import masked
from headcount.surgery import cut as surgery
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs


def test_a_wrong_cut_is_noticed() -> None:
    model = tiny("bert")

    class Crooked(nn.Linear):
        pass

    live = survey(model)[0]
    live.core.register_forward_hook(lambda module, args, out: (out[0] * module.num_attention_heads, *out[1:]))
    with pytest.raises(SurgeryFailed, match="differ from the gated model's by"):
        remove_heads(model, {live.site.name: [0]})
    prune.l1_unstructured(live.attention.output.dense, "weight", 0.5)
    with pytest.raises(UnsupportedModel, match="Linear whose weights are computed from others"):
        survey(model)
    prune.remove(live.attention.output.dense, "weight")
    assert survey(model)
    live.attention.output.dense = Crooked(32, 32)
    with pytest.raises(UnsupportedModel, match="Crooked; only plain floating-point torch.nn.Linear"):
        remove_heads(model, {live.site.name: [0]})


def test_a_cache_that_loses_count_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer without heads and a stand-in that does not tell the cache: only generation shows it."""
    monkeypatch.setattr(forwards, "_blank", lambda hidden: (hidden.new_zeros(len(hidden), 1, 0, 1),) * 2)
    model = tiny("llama")
    names = [site.name for site in head_map(model).sites]
    with pytest.raises(SurgeryFailed, match="outputs while generating differ"):
        remove_heads(model, {names[0]: []})
    assert len(present(model)) == LAYERS * HEADS
    with masked(model, present(model) - head_map(model).subset({names[0]: range(HEADS)})):
        gated = outputs(model, random_inputs(model))
    remove_heads(model, {names[0]: []}, check=False)
    once = outputs(model, random_inputs(model))
    torch.testing.assert_close(once, gated, rtol=0, atol=1e-5)  # a single pass does not show it


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_wrong_head_of_many_is_noticed_in_any_precision(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 12 layers of 12 heads one gets another's keys and values: rounding in bfloat16 is as large in the outputs."""
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=96, num_hidden_layers=12, num_attention_heads=12, intermediate_size=64
    )
    model = transformers.BertModel(config).to(dtype)
    sites = [site.name for site in head_map(model).sites]
    keep = {sites[5]: list(range(11))}
    right = surgery.Positions

    def crooked(heads: list[int], kv_heads: list[int], *before: int) -> object:
        return right(heads, [kv_heads[1], *kv_heads[1:]] if len(heads) == 11 else kv_heads, *before)

    monkeypatch.setattr(surgery, "Positions", crooked)
    with pytest.raises(SurgeryFailed, match="differ from the gated model's|hands on something else than before"):
        remove_heads(model, keep)
    monkeypatch.setattr(surgery, "Positions", right)
    assert len(present(remove_heads(model, keep))) == 143


def test_a_fault_while_generating_does_not_pass_as_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a cache that is broken")

    monkeypatch.setattr(model, "generate", broken)
    site = head_map(model).sites[0].name
    with pytest.raises(UnsupportedModel, match=r"cannot generate .*: a cache that is broken\. .*example=.*check=False"):
        remove_heads(model, {site: [0, 1]})
    assert len(present(model)) == LAYERS * HEADS
    assert len(present(remove_heads(model, {site: [0, 1]}, check=False))) == LAYERS * HEADS - HEADS + 2


def test_a_batch_without_room_to_generate_is_said() -> None:
    model = tiny("gpt2")
    places = model.config.max_position_embeddings
    ids = torch.randint(5, 20, (1, places), generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=f"did not compare what GPT2.* generates: its batch has {places} tokens"):
        remove_heads(model, {head_map(model).sites[0].name: [0, 1]}, example={"input_ids": ids})
    assert len(present(model)) == LAYERS * HEADS - HEADS + 2


def test_what_the_owner_of_a_model_prefers_does_not_stop_the_check() -> None:
    model = tiny("llama")
    own = {"num_beams": 3, "num_return_sequences": 3, "do_sample": True, "top_k": 5, "stop_strings": ["x"]}
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    names = [site.name for site in head_map(model).sites]
    remove_heads(model, {names[0]: []})
    assert {name: getattr(model.generation_config, name) for name in own} == own


@pytest.mark.filterwarnings("ignore:The check did not compare what BertLMHeadModel generates")
def test_a_batch_that_misses_a_site_is_not_enough() -> None:
    from transformers import BertLMHeadModel

    config = tiny("bert-decoder").config
    config.add_cross_attention = True
    model = BertLMHeadModel(config).eval()
    crossing = next(site.name for site in head_map(model).sites if site.kind == "cross")
    with pytest.raises(UnsupportedModel, match="does not reach 1 sites that are to lose heads.*crossattention"):
        remove_heads(model, {crossing: [0]})
    example = {**random_inputs(model), "encoder_hidden_states": torch.randn(2, 5, WIDTH)}
    with pytest.raises(UnsupportedModel, match="does not reach"):
        remove_heads(model, {crossing: [0]}, example=random_inputs(model))
    with pytest.warns(UserWarning, match="with cross-attention generates only as a part of an encoder-decoder"):
        remove_heads(model, {crossing: [0]}, example=example)
