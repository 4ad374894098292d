"""What every importance is; magnitude by hand; permuting heads permutes scores; random scores belong to heads."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from families import HEAD_SIZE, HEADS, LAYERS, WIDTH, tiny
from headcount import remove_heads
from headcount.anatomy import head_map, present
from headcount.anatomy.example import random_inputs
from headcount.errors import BadRecipe
from headcount.importance import IMPORTANCES, Importance, MagnitudeImportance, RandomImportance, importance
from headcount.surgery.selfcheck import outputs

Owned = Iterator[Tensor]


def rows(head: int) -> slice:
    return slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)


def of_bert(model: Any, layer: int, head: int) -> Owned:
    attention = model.bert.encoder.layer[layer].attention
    yield from (getattr(attention.self, name).weight[rows(head)] for name in ("query", "key", "value"))
    yield attention.output.dense.weight[:, rows(head)]


def of_gpt2(model: Any, layer: int, head: int) -> Owned:
    attention = model.transformer.h[layer].attn  # Conv1D: (in, out), queries, keys and values side by side
    yield from (attention.c_attn.weight[:, part * WIDTH :][:, rows(head)] for part in range(3))
    yield attention.c_proj.weight[rows(head)]


def of_llama(model: Any, layer: int, head: int) -> Owned:
    attention = model.model.layers[layer].self_attn
    yield attention.q_proj.weight[rows(head)]
    yield from (getattr(attention, name).weight[rows(head // 2)] for name in ("k_proj", "v_proj"))
    yield attention.o_proj.weight[:, rows(head)]


OWNED: dict[str, Callable[[Any, int, int], Owned]] = {"bert": of_bert, "gpt2": of_gpt2, "llama": of_llama}


def labelled(model: Any) -> dict[str, Tensor]:
    batch = random_inputs(model)
    if "ForSequence" in type(model).__name__ or "ForImage" in type(model).__name__:
        return {**batch, "labels": torch.tensor([0, 2])}
    return {**batch, "labels": batch.pop("decoder_input_ids", batch["input_ids"])}


def scored(name: str, model: Any, *batches: dict[str, Tensor], kept: Any = None) -> Tensor:
    return importance(name).scores(model, batches, head_map(model).all if kept is None else kept)


@pytest.mark.parametrize("family", OWNED)
def test_magnitude_by_hand(family: str) -> None:
    """The root of the sum of squares of the head's slices. Biases have no say."""
    model = tiny(family)
    expected = []
    for layer in range(LAYERS):
        for head in range(HEADS):
            slices = list(OWNED[family](model, layer, head))
            assert all(part.numel() == HEAD_SIZE * WIDTH for part in slices) and len(slices) == 4
            expected.append(math.sqrt(sum(float((part.detach().double() ** 2).sum()) for part in slices)))
    scores = MagnitudeImportance().scores(model, [], head_map(model).all)
    assert scores.tolist() == pytest.approx(expected, rel=1e-9)
    assert len(set(expected)) == len(expected)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter += 1
    assert torch.equal(scored("magnitude", model), scores)


@pytest.mark.parametrize("family", [*OWNED, "gpt-neox", "falcon", "bart"])
def test_heads_that_are_left_keep_their_magnitude(family: str) -> None:
    """Separate, fused, interleaved and grouped projections; one site loses all its heads."""
    model = tiny(family)
    whole, before = head_map(model), scored("magnitude", model)
    kept = whole.subset({site.name: [[2, 3], [], [0, 1]][site.layer] for site in whole.sites})
    assert torch.equal(scored("magnitude", model, kept=kept), before[list(kept.indices)])
    remove_heads(model, kept)
    assert present(model) == kept
    assert scored("magnitude", model, kept=kept).tolist() == pytest.approx(before[list(kept.indices)].tolist())


def swap(model: Any, layer: int, one: int, other: int) -> None:
    """Let two heads of a layer of BERT change places; the model computes what it computed."""
    with torch.no_grad():
        for mine, yours in zip(of_bert(model, layer, one), of_bert(model, layer, other), strict=True):
            mine[:], yours[:] = yours.clone(), mine.clone()
        attention = model.bert.encoder.layer[layer].attention.self
        for bias in (attention.query.bias, attention.key.bias, attention.value.bias):
            bias[rows(one)], bias[rows(other)] = bias[rows(other)].clone(), bias[rows(one)].clone()


@pytest.mark.parametrize("name", ["confidence", "gradient", "magnitude"])
def test_permuting_heads_permutes_scores(name: str) -> None:
    """With all heads in, and with one of another site out: the order of scores is that of the subset's heads."""
    model = tiny("bert")
    batch, whole = labelled(model), head_map(model)
    fewer = whole.all - whole.subset({whole.sites[0].name: [2]})
    before, logits = [scored(name, model, batch, kept=kept) for kept in (whole.all, fewer)], outputs(model, batch)
    swap(model, layer=1, one=1, other=3)
    assert torch.allclose(outputs(model, batch), logits, rtol=1e-5, atol=1e-6)
    for kept, scores in zip((whole.all, fewer), before, strict=True):
        expected = scores.tolist()
        one, other = (kept.indices.index(flat) for flat in (5, 7))
        assert expected[one] != pytest.approx(expected[other], rel=1e-4)
        expected[one], expected[other] = expected[other], expected[one]
        assert scored(name, model, batch, kept=kept).tolist() == pytest.approx(expected, rel=1e-5)


def test_random_scores_belong_to_heads() -> None:
    model = tiny("bert")
    whole = head_map(model)
    scores = RandomImportance(seed=3).scores(model, [], whole.all)
    torch.rand(7)  # torch's global generator has no say
    assert torch.equal(RandomImportance(seed=3).scores(tiny("bert", seed=1), [], whole.all), scores)
    assert not torch.equal(RandomImportance(seed=4).scores(model, [], whole.all), scores)
    assert len(set(scores.tolist())) == 12 and scores.min() >= 0 and scores.max() < 1
    for kept in ({5, 7}, {0}, {1, 2, 3, 4, 6, 11}, set()):
        subset = whole.all - whole.subset({head.site: [head.index] for head in whole.all if whole.index(head) in kept})
        some = RandomImportance(seed=3).scores(model, [], subset)
        assert torch.equal(some, scores[list(subset.indices)])


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "vit", "bart"])
@pytest.mark.parametrize("name", IMPORTANCES)
def test_every_importance_gives_a_finite_score_a_head(name: str, family: str) -> None:
    """Of a subset with uneven sites, one of them empty; the model is left as it was, and again the same comes out."""
    model = tiny(family).train()
    batch, whole = labelled(model), head_map(model)
    kept = whole.subset({site.name: [[0, 1], [], [0, 1, 2, 3]][site.layer] for site in whole.sites})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert isinstance(importance(name), Importance) and isinstance(importance(name), IMPORTANCES[name])
    scores = scored(name, model, batch, batch, kept=kept)
    assert scores.dtype == torch.float64 and scores.shape == (len(kept),) and not scores.requires_grad
    assert scores.isfinite().all() and scores.min() >= 0 and len(set(scores.tolist())) > 1
    assert torch.equal(scored(name, model, batch, batch, kept=kept), scores)
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", IMPORTANCES)
def test_an_empty_subset_has_no_scores(name: str) -> None:
    model = tiny("bert")
    nothing = head_map(model).subset({})
    assert scored(name, model, labelled(model), kept=nothing).shape == (0,)


def test_unknown_importance() -> None:
    with pytest.raises(
        BadRecipe, match="Unknown importance 'nonsense'. Valid: confidence, gradient, magnitude, random"
    ):
        importance("nonsense")
