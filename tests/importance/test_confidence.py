"""Confidence by plain loops over the weights of eager attention, and on a toy by hand; padding has no say."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from families import FAMILIES, VOCABULARY, tiny
from headcount import remove_heads
from headcount.anatomy import head_map, present
from headcount.errors import BadData, UnsupportedModel
from headcount.gates.hooks import masked
from headcount.importance import Confidence
from headcount.surgery.selfcheck import outputs
from headcount.units.map import HeadMap, Subset

Batch = dict[str, Tensor]
LENGTHS = (8, 3, 6)
TEXTS = ["bert", "gpt2", "llama", "bart", "marian", "t5"]


def padded(lengths: tuple[int, ...], value: int, seed: int, width: int = 8, left: bool = False) -> Tensor:
    """Random tokens that are no special ones, of these lengths, and `value` up to the width."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), width), value)
    for row, length in zip(rows, lengths, strict=True):
        row[slice(-length, None) if left else slice(length)] = torch.randint(
            3, VOCABULARY, (length,), generator=generator
        )
    return rows


def batch_for(model: Any, **layout: Any) -> Batch:
    """Three texts of uneven lengths, or images, or both; for an encoder-decoder model targets of other lengths too."""
    images = {"pixel_values": torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))}
    if model.main_input_name == "pixel_values":
        return images
    ids = padded(LENGTHS, 0, seed=1, **layout)
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if model.config.model_type == "clip":
        return {**batch, **images}
    return {**batch, "labels": padded((5, 7, 2), -100, seed=2)} if model.config.is_encoder_decoder else batch


def by_hand(model: Any, batch: Batch, exclude_last: bool = False) -> list[float]:
    """In flat order, by plain loops; the model runs under eager attention."""
    with torch.no_grad():
        shown = model(**batch, output_attentions=True)
    if model.config.is_encoder_decoder:
        weights = {"encoder": shown.encoder_attentions, "decoder": shown.decoder_attentions}
        weights["cross"] = shown.cross_attentions
    else:
        weights = dict.fromkeys(("encoder", "decoder"), shown.attentions)
    scores = []
    for site in head_map(model).sites:
        if site.kind != "encoder" and "labels" in batch:
            real = [[token != -100 for token in text] for text in batch["labels"].tolist()]
        elif "attention_mask" in batch:
            real = [[bit == 1 for bit in text] for text in batch["attention_mask"].tolist()]
        else:
            real = [[True] * 5] * 3  # the four patches of an image, and the class
        of_site = weights[site.kind][site.layer]  # (batch, head, query, key)
        for head in range(site.heads):
            maxima: list[float] = []
            for text, positions in enumerate(real):
                queries = [query for query, counts in enumerate(positions) if counts]
                for query in queries[: len(queries) - exclude_last]:
                    maxima.append(max(of_site[text, head, query].tolist()))
            scores.append(sum(maxima) / len(maxima))
    return scores


def scored(model: nn.Module, *batches: Batch, subset: Subset | None = None, **options: Any) -> list[float]:
    scores: list[float] = Confidence(**options).scores(model, batches, subset or head_map(model).all).tolist()
    return scores


def uneven(whole: HeadMap, grouped: bool) -> Subset:
    """A subset without any head at one site, with some at all others; whole groups."""
    kept = [[], [2, 3], [0, 1]] if grouped else [[0, 3], [], [1, 2, 3]]
    return whole.subset({site.name: kept[site.layer] for site in whole.sites})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", [*TEXTS, "vit"])
def test_by_plain_loops(family: str, attention: str) -> None:
    model, plain = tiny(family, attention=attention), tiny(family, attention="eager")
    batch = batch_for(model)
    scores = scored(model, batch)
    assert scores == pytest.approx(by_hand(plain, batch), rel=1e-5)
    assert len(set(scores)) == len(scores)  # so a wrong order would show


@pytest.mark.parametrize("family", ["bert", "llama", "bart"])
def test_without_the_last_position(family: str) -> None:
    model, plain = tiny(family), tiny(family, attention="eager")
    batch = batch_for(model)
    without = scored(model, batch, exclude_last=True)
    assert without == pytest.approx(by_hand(plain, batch, exclude_last=True), rel=1e-5)
    assert without != pytest.approx(scored(model, batch), rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama", "bart"])
@pytest.mark.parametrize("exclude_last", [False, True])
def test_padding_has_no_say(family: str, exclude_last: bool) -> None:
    """Neither what stands there, nor how much of it there is, nor, with relative positions, on which side."""
    model = tiny(family)
    batch = batch_for(model)
    expected = pytest.approx(scored(model, batch, exclude_last=exclude_last), rel=1e-5)
    others = [
        {**batch, "input_ids": batch["input_ids"] + 7 * (1 - batch["attention_mask"])},
        batch_for(model, width=12),
    ]
    if family == "llama":
        others.append(batch_for(model, width=12, left=True))
    if family == "bart":
        others.append({**batch, "labels": nn.functional.pad(batch["labels"], (0, 3), value=-100)})
    for other in others:
        assert scored(model, other, exclude_last=exclude_last) == expected


def test_padding_has_no_say_in_the_decoder_of_a_classifier() -> None:
    """Its labels are one for each text, and its decoder reads what the encoder reads."""
    model = replace(FAMILIES["bart"], model="BartForSequenceClassification").build("sdpa").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    batch: Batch = {"input_ids": padded((6, 6), 0, seed=1, width=6), "labels": torch.tensor([0, 1])}
    batch["input_ids"][:, -1] = 2  # the end of the text, whose state is classified
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    more = {**batch, **{name: nn.functional.pad(batch[name], (0, 4)) for name in ("input_ids", "attention_mask")}}
    assert scored(model, more) == pytest.approx(scored(model, batch), rel=1e-5)


def test_the_decoders_own_mask_counts() -> None:
    """Without labels: decoder inputs with a mask; without one, all their positions."""
    model = tiny("marian")
    batch = batch_for(model)
    labels = batch.pop("labels")
    shifted = torch.cat([torch.ones(3, 1, dtype=torch.long), labels.clamp_min(0)[:, :-1]], 1)  # 1 starts the decoder
    mask = (labels != -100).long()
    with_labels = scored(model, {**batch, "labels": labels})
    with_inputs = {**batch, "decoder_input_ids": shifted}
    assert scored(model, {**with_inputs, "decoder_attention_mask": mask}) == pytest.approx(with_labels, rel=1e-5)
    assert scored(model, with_inputs) != pytest.approx(with_labels, rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "bart"])
def test_batches_can_be_cut_anywhere(family: str) -> None:
    """Positions count alike, not texts and not batches."""
    model = tiny(family)
    batch = batch_for(model)
    expected = pytest.approx(scored(model, batch), rel=1e-5)
    for cuts in ([1], [2], [1, 2]):
        parts = zip(*(torch.tensor_split(rows, cuts) for rows in batch.values()), strict=True)
        assert scored(model, *(dict(zip(batch, part, strict=True)) for part in parts)) == expected


@pytest.mark.parametrize("family", ["bert", "llama", "bart"])
def test_heads_that_are_out_are_gated_off_and_a_cut_model_scores_alike(family: str) -> None:
    model, plain = tiny(family), tiny(family, attention="eager")
    batch, whole = batch_for(model), head_map(model)
    subset = uneven(whole, grouped=family == "llama")
    with masked(plain, subset):
        expected = [score for index, score in enumerate(by_hand(plain, batch)) if index in subset.indices]
    gated = scored(model, batch, subset=subset)
    assert gated == pytest.approx(expected, rel=1e-5)
    all_in = scored(model, batch)
    assert gated != pytest.approx([all_in[index] for index in subset.indices], rel=1e-5)
    remove_heads(model, subset)
    assert present(model) == subset
    assert scored(model, batch, subset=subset) == pytest.approx(expected, rel=1e-5)


def implementations(model: nn.Module) -> list[str]:
    """Of every configuration of the model that a module holds, and of those inside."""
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    inner = [getattr(config, name) for config in configs for name in getattr(config, "sub_configs", {})]
    return [config._attn_implementation for config in [*configs, *inner]]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["bert", "bart", "clip"])
@pytest.mark.parametrize("pruned", [False, True])
def test_no_trace_is_left(family: str, attention: str, pruned: bool) -> None:
    """Also when reading a batch fails half-way."""
    model = tiny(family, attention=attention)
    if pruned:
        remove_heads(model, uneven(head_map(model), grouped=False))
    batch = batch_for(model)
    expected, keys, there = outputs(model, batch), list(model.state_dict()), present(model)
    hooks = sum(len(module._forward_pre_hooks) for module in model.modules())
    model.train()
    next(model.children()).eval()
    modes = [module.training for module in model.modules()]

    def breaks() -> Iterator[Batch]:
        yield batch
        assert set(implementations(model)) != {attention}
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Confidence().scores(model, breaks(), there)
    scores = scored(model, batch, subset=there)
    assert set(implementations(model)) == {attention}
    assert [module.training for module in model.modules()] == modes
    assert sum(len(module._forward_pre_hooks) for module in model.modules()) == hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    assert list(model.state_dict()) == keys and torch.equal(outputs(model, batch), expected)
    assert scored(model, batch, subset=there) == scores


def test_dropout_has_no_say() -> None:
    model = tiny("bert")
    batch = batch_for(model)
    expected = scored(model, batch)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    assert scored(model.train(), batch) == expected


def test_two_heads_by_hand() -> None:
    """Width 2, heads of size 1; layer normalisation makes tokens A and B of (1, -1) and (-1, 1). Head 0 asks 1 and is
    answered 2 by A, -2 by B; head 1 asks nothing. In `A B` the most of head 0 is e^2 / (e^2 + e^-2), in `A B B`
    e^2 / (e^2 + 2 e^-2); of head 1, 1/2 and 1/3. Two queries and three.
    """
    config = transformers.BertConfig(
        vocab_size=3, hidden_size=2, num_hidden_layers=1, num_attention_heads=2, intermediate_size=2
    )
    model = transformers.BertModel(config)
    a, b, pad = 1, 2, 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("LayerNorm.weight" in name))
        model.embeddings.word_embeddings.weight[a] = torch.tensor([1.0, -1.0])
        model.embeddings.word_embeddings.weight[b] = torch.tensor([-1.0, 1.0])
        attention = model.encoder.layer[0].attention.self
        attention.query.bias[0] = 1.0
        attention.key.weight[0, 0] = 2.0
    batch = {
        "input_ids": torch.tensor([[a, b, pad], [a, b, b]]),
        "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]]),
    }
    e = torch.e
    first = (2 * e**2 / (e**2 + e**-2) + 3 * e**2 / (e**2 + 2 * e**-2)) / 5
    assert scored(model, batch) == pytest.approx([first, (2 * 1 / 2 + 3 * 1 / 3) / 5], rel=1e-6)
    first = (e**2 / (e**2 + e**-2) + 2 * e**2 / (e**2 + 2 * e**-2)) / 3
    assert scored(model, batch, exclude_last=True) == pytest.approx([first, (1 / 2 + 2 / 3) / 3], rel=1e-6)


def test_a_causal_model_without_opinion_by_hand() -> None:
    """With weights of zero the i-th token looks at all i up to itself alike: (1 + 1/2 + 1/3) / 3."""
    model = tiny("gpt2")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert scored(model, {"input_ids": torch.tensor([[5, 6, 7]])}) == pytest.approx([11 / 18] * 12, rel=1e-6)


@pytest.mark.parametrize(("family", "name"), [("bloom", "BloomAttention"), ("mpnet", "MPNetSelfAttention")])
def test_attention_that_cannot_be_read_is_refused(family: str, name: str) -> None:
    model = tiny(family)
    batch = batch_for(model)
    expected = outputs(model, batch)
    with pytest.raises(UnsupportedModel, match=rf"attention of 3 sites cannot be read.*\({name}\)"):
        scored(model, batch)
    assert set(implementations(model)) == {model.config._attn_implementation} == {"eager"}
    assert torch.equal(outputs(model, batch), expected)


def test_no_examples() -> None:
    model = tiny("bert")
    with pytest.raises(BadData, match="No examples to measure confidence on"):
        scored(model)
    assert set(implementations(model)) == {"sdpa"}
