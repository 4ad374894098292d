"""The translation model against its equations in plain matrices; loss, padding, causality, steps."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from translator_shapes import LABELS, SHAPES, SOURCE

from headcount.nmt import Translator
from headcount.nmt.layers import positions
from translators import DECODERS, PAD, VOCABULARY, largest, padded, sources, translator


def name_of(shape: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in shape.items()) or "as it comes"


# What it computes


def sines(length: int, width: int) -> Tensor:
    """Of every position the sines, then the cosines, with wavelengths from 2 pi to 20000 pi."""
    half = width // 2
    rates = [10000 ** (-i / (half - 1)) for i in range(half)]
    rows = [[*(math.sin(t * rate) for rate in rates), *(math.cos(t * rate) for rate in rates)] for t in range(length)]
    return torch.tensor(rows, dtype=torch.float64)


class Plain:
    """One sentence and one target through a model's matrices, without any of its modules."""

    def __init__(self, model: Translator) -> None:
        self.w, self.config = model.state_dict(), model.config

    def linear(self, x: Tensor, name: str) -> Tensor:
        out = x @ self.w[f"{name}.weight"].T
        return out + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else out

    def norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + self.config.layer_norm_eps).sqrt()
        return centred / scale * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def attention(self, x: Tensor, name: str, memory: Tensor | None = None, causal: bool = False) -> Tensor:
        if f"{name}.bias" in self.w:  # built without heads
            return self.w[f"{name}.bias"].expand_as(x)
        memory = x if memory is None else memory
        d = self.config.head_size
        q, k, v = (self.linear(y, f"{name}.{part}_proj") for y, part in ((x, "q"), (memory, "k"), (memory, "v")))
        heads = []
        for start in range(0, q.shape[1], d):
            scores = q[:, start : start + d] @ k[:, start : start + d].T / math.sqrt(d)
            if causal:
                scores += torch.full_like(scores, -torch.inf).triu(1)
            heads.append(scores.exp() / scores.exp().sum(1, keepdim=True) @ v[:, start : start + d])
        return self.linear(torch.cat(heads, 1), f"{name}.out_proj")

    def ssru(self, x: Tensor, name: str) -> Tensor:
        state, out = torch.zeros_like(x[0]), []
        for token in x:
            forget = 1 / (1 + (-self.linear(token, f"{name}.forget")).exp())
            state = forget * state + (1 - forget) * self.linear(token, f"{name}.cell")
            out.append(state.clamp_min(0))
        return torch.stack(out)

    def feed_forward(self, x: Tensor, name: str) -> Tensor:
        x = self.linear(x, f"{name}.up")
        gate = {
            "relu": (x > 0).double(),
            "gelu": (1 + torch.erf(x / math.sqrt(2))) / 2,
            "silu": 1 / (1 + (-x).exp()),
        }[self.config.activation]
        return self.linear(x * gate, f"{name}.down")

    def sublayer(self, x: Tensor, layer: str, frame: str, compute: Any, name: str, *more: Any) -> Tensor:
        if self.config.norm == "pre":
            return x + compute(self.norm(x, f"{layer}.{frame}.norm"), f"{layer}.{name}", *more)
        return self.norm(x + compute(x, f"{layer}.{name}", *more), f"{layer}.{frame}.norm")

    def embed(self, ids: Tensor, name: str) -> Tensor:
        return self.w[f"{name}.weight"][ids] * math.sqrt(self.config.d_model) + sines(len(ids), self.config.d_model)

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        config, pre = self.config, self.config.norm == "pre"
        x = self.embed(source, "embedding" if config.tied_embeddings == "all" else "source_embedding")
        for layer in (f"encoder.layers.{i}" for i in range(config.encoder_layers)):
            x = self.sublayer(x, layer, "self_attn_residual", self.attention, "self_attn")
            x = self.sublayer(x, layer, "ffn_residual", self.feed_forward, "ffn")
        memory = self.norm(x, "encoder.norm") if pre else x
        x = self.embed(target, "embedding")
        for i in range(config.decoder_layers):
            layer = f"decoder.layers.{0 if config.tied_decoder_layers else i}"
            if config.decoder_type == "ssru":
                x = self.sublayer(x, layer, "past_residual", self.ssru, "ssru")
            else:
                x = self.sublayer(x, layer, "past_residual", self.attention, "self_attn", None, True)
            x = self.sublayer(x, layer, "cross_attn_residual", self.attention, "cross_attn", memory)
            x = self.sublayer(x, layer, "ffn_residual", self.feed_forward, "ffn")
        x = self.norm(x, "decoder.norm") if pre else x
        matrix = self.w["output.weight" if config.tied_embeddings == "none" else "embedding.weight"]
        return x @ matrix.T + self.w["output.bias"]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_by_its_equations(shape: dict[str, Any], attention: str) -> None:
    """In a batch with padding, every sentence as it is alone, in plain matrices."""
    model = translator(attention=attention, **shape)
    with torch.no_grad():
        target = model.prepare_decoder_input_ids_from_labels(LABELS)
        found = model(**SOURCE, labels=LABELS).logits
    for row, (source, words) in enumerate([(5, 4), (2, 6), (4, 3)]):
        expected = Plain(model).logits(SOURCE["input_ids"][row, :source], target[row, :words])
        assert largest(found[row, :words], expected) <= 1e-6  # positions are computed in single precision


def test_positions() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    assert largest(positions(200, 10, like), sines(200, 10)) <= 1e-4
    assert torch.equal(positions(200, 10, like)[70:], positions(130, 10, like, start=70))
    assert positions(3, 4, like.bfloat16()).dtype == torch.bfloat16
    assert positions(2, 2, like).tolist() == [[0, 1], [pytest.approx(math.sin(1)), pytest.approx(math.cos(1))]]


# Loss


@pytest.mark.parametrize("training", [True, False])
def test_loss_by_hand(training: bool) -> None:
    """Smoothed in training only: (1 - e) x -log p(label) + e x the mean of -log p over the vocabulary."""
    model = translator(label_smoothing=0.2).train(training)
    result = model(**SOURCE, labels=LABELS)
    logits, terms = result.logits.tolist(), []
    for text, words in enumerate(LABELS.tolist()):
        for place, word in enumerate(words):
            if word == -100:
                continue
            total = math.log(sum(math.exp(x) for x in logits[text][place]))
            losses = [total - x for x in logits[text][place]]
            smoothing = 0.2 if training else 0
            terms.append((1 - smoothing) * losses[word] + smoothing * sum(losses) / VOCABULARY)
    assert len(terms) == 4 + 6 + 3
    assert result.loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    assert result.loss.dtype == torch.float64


def test_labels_are_shifted() -> None:
    labels = torch.tensor([[5, 6, 2], [7, 2, -100]])
    assert translator().prepare_decoder_input_ids_from_labels(labels).tolist() == [[1, 5, 6], [1, 7, 2]]


def test_ways_to_call() -> None:
    model = translator()
    full = model(**SOURCE, labels=LABELS)
    given = model(**SOURCE, decoder_input_ids=model.prepare_decoder_input_ids_from_labels(LABELS))
    assert given.loss is None and torch.equal(given.logits, full.logits)
    loss, logits, memory = model(**SOURCE, labels=LABELS, return_dict=False)
    assert torch.equal(logits, full.logits) and torch.equal(loss, full.loss)
    assert torch.equal(memory, model.encode(**SOURCE)[0])
    with pytest.raises(ValueError, match="Give labels or decoder_input_ids; to translate, call generate"):
        model(**SOURCE)


@pytest.mark.parametrize("kind", ["dropout", "attention_dropout", "activation_dropout"])
def test_dropout_is_for_training(kind: str) -> None:
    model, plain = translator(**{kind: 0.5}), translator()
    assert torch.equal(model(**SOURCE, labels=LABELS).logits, plain(**SOURCE, labels=LABELS).logits)
    torch.manual_seed(1)
    model.train()
    first, second = (model(**SOURCE, labels=LABELS).logits for _ in range(2))
    assert largest(first, second) > 1e-3


# Padding and causality


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_padding_of_the_source_has_no_say(decoder: str, attention: str) -> None:
    """Neither what stands there, nor how much of it there is."""
    model = translator(attention=attention, **DECODERS[decoder])
    expected = model(**SOURCE, labels=LABELS)
    wide = {name: torch.cat([value, torch.full((3, 4), PAD)], 1) for name, value in SOURCE.items()}
    wide["input_ids"] = torch.where(wide["attention_mask"] == 1, wide["input_ids"], 7)
    found = model(**wide, labels=LABELS)
    assert largest(found.logits, expected.logits) <= 1e-12
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)
    bare = {"input_ids": SOURCE["input_ids"]}
    assert largest(model(**bare, labels=LABELS).logits, expected.logits) > 1e-3  # without the mask it would


@pytest.mark.parametrize("decoder", DECODERS)
def test_padding_of_the_target_has_no_say(decoder: str) -> None:
    model = translator(**DECODERS[decoder])
    wide = torch.cat([LABELS, torch.full((3, 3), -100)], 1)
    expected, found = (model(**SOURCE, labels=labels) for labels in (LABELS, wide))
    assert largest(found.logits[:, :6], expected.logits) <= 1e-12
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)
    target = model.prepare_decoder_input_ids_from_labels(wide)
    masked = model(**SOURCE, decoder_input_ids=target, decoder_attention_mask=(wide != -100).long())
    real = LABELS != -100
    assert largest(masked.logits[:, :6][real], expected.logits[real]) <= 1e-12


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(place=st.integers(0, 5), word=st.integers(0, VOCABULARY - 1))
def test_what_comes_later_has_no_say(decoder: str, place: int, word: int) -> None:
    model = translator(**DECODERS[decoder])
    source, target = sources((4,)), padded((6,), PAD, seed=5)
    other = target.clone()
    other[0, place] = word
    with torch.no_grad():
        a, b = (model(**source, decoder_input_ids=ids).logits[0] for ids in (target, other))
    assert place == 0 or largest(a[:place], b[:place]) <= 1e-13
    if word != target[0, place]:
        assert largest(a[place], b[place]) > 1e-3 and largest(a[-1], b[-1]) > 1e-6


@pytest.mark.parametrize("decoder", DECODERS)
def test_inference_mode_changes_nothing(decoder: str) -> None:
    """Attention of another implementation serves there; it hides the same."""
    model = translator(**DECODERS[decoder])
    expected = model(**SOURCE, labels=LABELS)
    with torch.inference_mode():
        found = model(**SOURCE, labels=LABELS)
    assert largest(found.logits, expected.logits) <= 1e-12
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)


# Step by step


@pytest.mark.parametrize(
    ("shape", "attention"), [*((shape, "sdpa") for shape in SHAPES), ({}, "eager"), (DECODERS["tied-ssru"], "eager")]
)
def test_steps_while_hypotheses_come_and_go(shape: dict[str, Any], attention: str) -> None:
    """Hypotheses change places, multiply, and end, and sentences leave: what a step gives is what the words so far give
    all at once.
    """
    model, generator = translator(attention=attention, **shape), torch.Generator().manual_seed(8)
    source, beam, sentences = SOURCE, 3, torch.arange(3)
    decoding, words = model.start(**source, beam=beam), torch.zeros(3, beam, 0, dtype=torch.long)
    with torch.no_grad():
        for step in range(6):
            new = torch.randint(1, VOCABULARY, (len(sentences), beam, 1), generator=generator)
            words = torch.cat([words, new], 2)
            found = model.step(words[:, :, -1], decoding)
            for row, sentence in enumerate(sentences.tolist()):
                repeated = {name: value[[sentence] * beam] for name, value in source.items()}
                assert largest(model(**repeated, decoder_input_ids=words[row]).logits[:, -1], found[row]) <= 1e-12
            stay = [0, 2] if step == 2 else [1] if step == 4 else list(range(len(sentences)))
            rows = torch.tensor(stay)
            hypotheses = torch.randint(0, beam, (len(rows), beam), generator=generator)
            decoding.select(rows, hypotheses)
            sentences = sentences[rows]
            words = words[rows].gather(1, hypotheses[:, :, None].expand(-1, -1, words.shape[2]))
    assert sentences.tolist() == [2] and decoding.position == 6


def test_steps_beyond_the_first_positions() -> None:
    model, target = translator(decoder_type="ssru", decoder_layers=1), padded((130,), PAD, seed=6)
    source = sources((4,))
    with torch.no_grad():
        decoding = model.start(**source)
        found = torch.stack([model.step(target[:, place : place + 1], decoding)[:, 0] for place in range(130)], 1)
        assert largest(found, model(**source, decoder_input_ids=target).logits) <= 1e-11
    assert len(decoding.places) == 256


def test_steps_with_candidates_give_their_logits() -> None:
    model, candidates = translator(), torch.tensor([2, 5, 17])
    whole, narrow = model.start(**SOURCE), model.start(**SOURCE, candidates=candidates)
    token = torch.tensor([[1]] * 3)
    assert largest(model.step(token, narrow), model.step(token, whole)[:, :, candidates]) <= 1e-14


@pytest.mark.parametrize("decoder", DECODERS)
def test_keys_of_the_source_are_computed_once(decoder: str) -> None:
    """For all steps, all hypotheses, and all the times that a tied layer is gone through."""
    model = translator(**DECODERS[decoder])
    calls: list[tuple[int, ...]] = []
    for layer in model.decoder.layers:
        layer.cross_attn.k_proj.register_forward_hook(lambda module, args, out: calls.append(tuple(out.shape)))
    decoding = model.start(**SOURCE, beam=4)
    for _ in range(3):
        model.step(torch.full((3, 4), 5), decoding)
    assert calls == [(3, 5, 12)] * len(model.decoder.layers)
