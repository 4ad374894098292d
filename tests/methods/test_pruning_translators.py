"""Translation models that lose heads: the papers' parameter counts, gated = cut also while decoding, confidence."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

import headcount
from headcount.anatomy import head_map, present
from headcount.gates.hooks import gated, masked
from headcount.gates.relaxations import GumbelTopK, LogLinear, StraightThrough
from headcount.importance import Confidence
from headcount.nmt import PRESETS, Translator, TranslatorConfig
from headcount.nmt.attention import NoHeads, TranslationAttention
from headcount.units.map import Subset
from translators import DECODERS, largest, padded, sources, translator

TRENDING = {"encoder_heads": 8, "decoder_heads": 8, "cross_heads": 8, "head_size": 64, "vocab_size": 36000}
"""Behnke and Heafield 2020, section 5.2: the matrices of transformer-big are halved, to 8 heads of 64."""
TURKISH = {
    9: {
        "encoder_heads": [7, 2, 4, 6, 7, 8],
        "cross_heads": [0, 1, 2, 3, 6, 7],
        "decoder_heads": [8, 3, 2, 4, 1, 1],
    },
    13: {
        "encoder_heads": [4, 1, 2, 5, 5, 6],
        "cross_heads": [0, 1, 2, 2, 2, 3],
        "decoder_heads": [6, 1, 0, 0, 0, 0],
    },
}
"""Table 3 of the same paper, at these iterations."""
# Tables 4 and 7b of the same paper, and the counts in millions that its authors' code gives.
STUDENTS = [
    ([8, 8, 8, 8, 8, 8], 8, 15_722_752, 15.723),
    ([5, 1, 3, 1, 5, 6], 8, 14_835_424, 14.835),
    ([4, 1, 2, 1, 4, 6], 8, 14_736_832, 14.737),
    ([3, 0, 2, 1, 4, 5], 8, 14_638_240, 14.638),
    ([2, 0, 2, 1, 3, 4], 8, 14_539_648, 14.540),
    ([1, 0, 2, 1, 2, 3], 8, 14_441_056, 14.441),
    ([0, 0, 1, 1, 1, 3], 8, 14_342_464, 14.342),
    ([4] * 6, 4, 14_802_560, 14.803),
    ([2] * 6, 8, 14_539_648, 14.540),  # Pushy, after six and seven iterations
    ([1] * 6, 8, 14_342_464, 14.342),
    ([1] * 6, 1, 14_112_416, 14.112),
]
BATCH = {**sources((5, 2, 4)), "labels": padded((4, 6, 3), -100, seed=1)}
few = settings(max_examples=5, deadline=None, derandomize=True)


def on_meta(preset: str, **changes: Any) -> Translator:
    with torch.device("meta"):
        return Translator(TranslatorConfig(**{**PRESETS[preset], **changes}))


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def added_up(
    vocabulary: int, d: int, head_size: int, ffn: int, encoder: list[int], decoder: list[int] | None, cross: list[int]
) -> int:
    """All matrices with all embeddings in one; without decoder heads, an SSRU in each layer."""

    def attention(heads: int) -> int:
        return 3 * (d * heads * head_size + heads * head_size) + heads * head_size * d + d

    frame, feed_forward = 2 * d, d * ffn + ffn + ffn * d + d
    total = vocabulary * d + vocabulary  # embeddings, and the bias of the output
    total += sum(attention(heads) + feed_forward + 2 * frame for heads in encoder)
    total += sum(attention(heads) + feed_forward + 3 * frame for heads in cross)
    return total + (len(cross) * (2 * d * d + d) if decoder is None else sum(map(attention, decoder)))


# Counts


@pytest.mark.parametrize(("encoder", "cross", "exact", "millions"), STUDENTS)
def test_parameters_of_the_students(encoder: list[int], cross: int, exact: int, millions: float) -> None:
    """A head is 4 x 32 x 256 + 3 x 32 = 32,864 parameters; the two decoder layers are one, with 8 heads."""
    model = on_meta("tiny-student", encoder_heads=encoder, cross_heads=cross)
    assert count(model) == added_up(32000, 256, 32, 1536, encoder, None, [cross]) == exact
    assert exact == 15_722_752 - 32_864 * (56 - sum(encoder) - cross) and round(exact / 1e6, 3) == millions


def test_untied_layers_are_more() -> None:
    exact = count(on_meta("tiny-student", tied_decoder_layers=False))
    assert exact == added_up(32000, 256, 32, 1536, [8] * 6, None, [8, 8]) == 16_907_008
    assert len(head_map(on_meta("tiny-student"))) == 56
    assert len(head_map(on_meta("tiny-student", tied_decoder_layers=False))) == 64


@pytest.mark.parametrize(("iteration", "heads", "millions"), [(0, 144, 175.481), (9, 72, 156.593), (13, 40, 148.198)])
def test_parameters_of_the_transformer_big(iteration: int, heads: int, millions: float) -> None:
    fields = {**TRENDING, **TURKISH.get(iteration, {})}
    model = on_meta("transformer-big", **fields)
    config = model.config
    lists = [config.heads(name) for name in ("encoder_heads", "decoder_heads", "cross_heads")]
    exact = added_up(36000, 1024, 64, 4096, *lists)
    assert count(model) == exact == 175_480_992 - (144 - heads) * 262_336
    assert sum(map(sum, lists)) == heads and round(exact / 1e6, 3) == millions


def test_heads_of_the_small_benchmark() -> None:
    """Li et al. 2021: 72 heads; IWSLT'14, with source embeddings of their own."""
    model = on_meta("iwslt_de_en", vocab_size=9000)
    sites = head_map(model).sites
    assert [(site.kind, site.heads, site.head_size) for site in sites] == [
        *[("encoder", 4, 128)] * 6,
        *[("decoder", 4, 128), ("cross", 4, 128)] * 6,
    ]
    assert len(sites) == 18 and len(head_map(model)) == 72
    assert count(model) == added_up(9000, 512, 128, 1024, [4] * 6, [4] * 6, [4] * 6) + 9000 * 512


@pytest.mark.parametrize("iteration", [9, 13])
def test_surgery_gives_the_same_sizes(iteration: int) -> None:
    whole, kept = on_meta("transformer-big", **TRENDING), TURKISH[iteration]
    keep = {
        site.name: range(kept["cross_heads" if site.kind == "cross" else f"{site.kind}_heads"][site.layer])
        for site in head_map(whole).sites
    }
    headcount.remove_heads(whole, keep, check=False)
    assert count(whole) == count(on_meta("transformer-big", **{**TRENDING, **kept}))


# Gated = cut


def structure_of(model: Translator, subset: Subset) -> dict[str, list[int]]:
    """The fields of the configuration with which a model has so many heads from the start."""
    fields: dict[str, list[int]] = {"encoder_heads": [], "decoder_heads": [], "cross_heads": []}
    for site in subset.head_map.sites:
        fields["cross_heads" if site.kind == "cross" else f"{site.kind}_heads"].append(len(subset.at(site.name)))
    return fields if fields["decoder_heads"] else {**fields, "decoder_heads": model.config.heads("decoder_heads")}


def some_heads(model: Translator, data: st.DataObject) -> Subset:
    whole = head_map(model)
    return Subset(whole, tuple(sorted(data.draw(st.sets(st.integers(0, len(whole) - 1))))))


@torch.no_grad()
def forced(model: Translator, source: dict[str, Tensor], target: Tensor) -> Tensor:
    logits: Tensor = model(**source, decoder_input_ids=target).logits
    return logits


@torch.no_grad()
def stepped(model: Translator, source: dict[str, Tensor], target: Tensor) -> Tensor:
    """The same logits step by step, all targets of a sentence in one beam, whose last column leaves on the way."""
    sentences = len(source["input_ids"])
    target = target.view(sentences, -1, target.shape[1])
    decoding = model.start(**source, beam=target.shape[1])
    logits = []
    for place in range(target.shape[2]):
        logits.append(model.step(target[:, :, place], decoding))
        everyone = torch.arange(sentences)
        decoding.select(everyone, torch.arange(target.shape[1]).expand(sentences, -1))
    return torch.stack(logits, 2).flatten(0, 1)


@pytest.mark.parametrize("decoder", DECODERS)
@few
@given(data=st.data())
def test_gated_equals_cut_equals_built_so(decoder: str, data: st.DataObject) -> None:
    """All tokens at once and step by step; teacher-forced, each of three sentences has two targets."""
    model = translator(**DECODERS[decoder])
    subset = some_heads(model, data)
    source, target = sources((5, 2, 4)), padded((4,) * 6, 0, seed=2)
    twice = {name: value.repeat_interleave(2, 0) for name, value in source.items()}
    with masked(model, subset):
        expected = forced(model, twice, target)
        assert largest(stepped(model, source, target), expected) <= 1e-11
    headcount.remove_heads(model, subset, check=False)  # what its check compares is compared here
    assert largest(forced(model, twice, target), expected) <= 1e-11
    assert largest(stepped(model, source, target), expected) <= 1e-11
    built = translator(seed=9, **{**DECODERS[decoder], **structure_of(model, subset)})
    assert count(built) == count(model)
    weights = model.state_dict()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            place = built.get_submodule(name.rpartition(".")[0])
            parameter.copy_(weights[name.replace(".bias", ".out_proj.bias") if isinstance(place, NoHeads) else name])
    assert largest(stepped(built, source, target), expected) <= 1e-11


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_head_matters(decoder: str) -> None:
    """Or the laws here would say nothing."""
    model = translator(**DECODERS[decoder])
    source, target = sources((5,)), padded((4,), 0, seed=3)
    gates = {site.name: torch.ones(site.heads) for site in head_map(model).sites}
    with gated(model, lambda live, x: gates[live.site.name]):
        whole = forced(model, source, target)
        for gate in gates.values():
            for head in range(len(gate)):
                gate[head] = 0
                assert largest(forced(model, source, target), whole) > 1e-3
                gate[head] = 1


@pytest.mark.parametrize("decoder", DECODERS)
def test_gates_learn_and_leave(decoder: str) -> None:
    """A layer that is gone through many times has one gate for each head; what it learned is what is cut."""
    model = translator(**DECODERS[decoder])
    gates = headcount.attach(model, StraightThrough(5), seed=4)
    assert len(gates.scores) == len(head_map(model))
    before = gates.scores.clone()
    model.train()
    model(**BATCH).loss.backward()
    gates.step()
    assert ((gates.scores - before).abs() > 1e-3).all()  # the gradient reaches every head
    model.eval()
    source, target = sources((5, 2, 4)), padded((5,) * 3, 0, seed=2)
    expected = forced(model, source, target)
    assert largest(stepped(model, source, target), expected) <= 1e-11
    chosen = gates.subset()
    headcount.remove_heads(model, chosen)
    assert len(present(model)) == 5
    assert largest(forced(model, source, target), expected) <= 1e-11
    assert largest(stepped(model, source, target), expected) <= 1e-11


@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_budgets_over_one_kind(kind: str) -> None:
    model = translator()
    gates = headcount.attach(model, GumbelTopK(2, LogLinear(steps=3)), sites=kind)
    whole = head_map(model)
    assert len(gates.subset() & whole.of_kind(kind)) == 2
    assert whole.all - whole.of_kind(kind) <= gates.subset()


def test_a_model_built_with_few_heads_loses_more() -> None:
    model = translator(encoder_heads=[0, 3], decoder_heads=[2, 0], cross_heads=[1, 2])
    whole = head_map(model)
    assert {site.name: site.heads for site in whole.sites} == {
        "encoder.layers.1.self_attn": 3,
        "decoder.layers.0.self_attn": 2,
        "decoder.layers.0.cross_attn": 1,
        "decoder.layers.1.cross_attn": 2,
    }
    subset = whole.subset({"encoder.layers.1.self_attn": [2], "decoder.layers.0.self_attn": [0, 1]})
    with masked(model, subset):
        expected = model(**BATCH).logits
    headcount.remove_heads(model, subset)
    assert largest(model(**BATCH).logits, expected) <= 1e-11


@pytest.mark.parametrize("decoder", DECODERS)
def test_pruned_models_are_saved_and_loaded(decoder: str, tmp_path: Path) -> None:
    """Sites without heads, both built and cut, among them."""
    model = translator(**{**DECODERS[decoder], "encoder_heads": [0, 3]})
    names = [site.name for site in head_map(model).sites]
    headcount.remove_heads(model, {names[0]: [2], names[1]: []})
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(again) is Translator and present(again) == present(model)
    weights = model.state_dict()
    assert weights.keys() == again.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    source, target = sources((5, 2)), padded((4, 4), 0, seed=2)
    expected = forced(model, source, target)
    for twin in (again, copy.deepcopy(again)):
        assert largest(forced(twin, source, target), expected) <= 1e-12
        assert largest(stepped(twin, source, target), expected) <= 1e-12


# Confidence


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_confidence_by_plain_loops(decoder: str, attention: str) -> None:
    """The mean of every real position's largest weight; of tied layers, over all the times they are gone through."""
    plain = translator(attention="eager", **DECODERS[decoder])
    seen: dict[str, list[Tensor]] = {}
    for name, module in plain.named_modules():
        if isinstance(module, TranslationAttention):
            module.register_forward_hook(lambda module, args, out, name=name: seen.setdefault(name, []).append(out[1]))
    with torch.no_grad():
        plain(**BATCH)
    rounds = 2 if "tied" in decoder else 1
    expected = []
    for site in head_map(plain).sites:
        real = BATCH["attention_mask"] == 1 if site.kind == "encoder" else BATCH["labels"] != -100
        assert len(seen[site.name]) == (1 if site.kind == "encoder" else rounds)
        for head in range(site.heads):
            maxima = [
                max(weights[text, head, query].tolist())
                for weights in seen[site.name]
                for text, query in real.nonzero().tolist()
            ]
            expected.append(sum(maxima) / len(maxima))
    model = translator(attention=attention, **DECODERS[decoder])
    scores = Confidence().scores(model, [BATCH], head_map(model).all).tolist()
    assert scores == pytest.approx(expected, rel=1e-10) and len(set(scores)) == len(scores)
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("decoder", DECODERS)
def test_confidence_of_gated_is_that_of_cut(decoder: str) -> None:
    model = translator(**DECODERS[decoder])
    sites = head_map(model).sites
    subset = head_map(model).subset({sites[0].name: [1], **{site.name: [0, 2] for site in sites[2:]}})
    gated = Confidence().scores(model, [BATCH], subset)
    headcount.remove_heads(model, subset)
    assert largest(Confidence().scores(model, [BATCH], subset), gated) <= 1e-12
