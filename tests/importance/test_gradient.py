"""Gradient importance by hand on a two-head toy, against finite differences, and as one law over reductions."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from families import CLASSIFIERS, tiny
from headcount.anatomy import ANATOMY, Row, head_map
from headcount.anatomy.example import random_inputs
from headcount.anatomy.projections import separate
from headcount.errors import BadData, BadRecipe
from headcount.gates.hooks import gated
from headcount.importance import GradientImportance
from headcount.units.map import Head
from translators import DECODERS, padded, sources, translator


class ToyAttention(nn.Module):
    """Two heads of size 1 that pass their value on: head h contributes v_h x, so everything can be done by hand."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size = 2, 1
        self.q, self.k, self.v, self.o = (nn.Linear(2, 2, bias=False) for _ in range(4))
        with torch.no_grad():
            self.v.weight.copy_(torch.diag(torch.tensor(values)))
            self.o.weight.copy_(torch.ones(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o(self.v(x))


class Toy(nn.Module):
    """Loss of an example: the sum over its tokens of the first output coordinate times the example's label."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = ToyAttention([3.0, 4.0])

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        class Output:
            loss = (self.attention(x)[..., 0].sum(-1) * labels).mean()

        return Output


# dL/dg_h of an example: label x v_h x (sum over tokens of x_h).
X = torch.tensor([[[1.0, 1.0], [2.0, -1.0]], [[-1.0, 2.0], [0.0, 1.0]]])  # sums: (3, 0) and (-1, 3)
LABELS = torch.tensor([1.0, 2.0])
BY_HAND = {
    ("example", False): [(abs(1 * 3 * 3) + abs(2 * 3 * -1)) / 2, (abs(1 * 4 * 0) + abs(2 * 4 * 3)) / 2],
    ("token", False): [(3 * 1 + 3 * 2 + 2 * 3 * 1 + 0) / 2, (4 * 1 + 4 * 1 + 2 * 4 * 2 + 2 * 4 * 1) / 2],
    ("batch", False): [abs(9 - 6) / 2, abs(0 + 24) / 2],
    ("batch", True): [(9 - 6) / 2, (0 + 24) / 2],
    ("example", True): [(9 - 6) / 2, (0 + 24) / 2],
}


@pytest.mark.parametrize(("reduction", "signed"), BY_HAND)
@pytest.mark.parametrize("layer_norm", [True, False])
def test_two_heads_by_hand(reduction: str, signed: bool, layer_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(separate("q", "k", "v"), "o", {"num_attention_heads": "heads"}, "attention_head_size")
    monkeypatch.setitem(ANATOMY, "ToyAttention", row)
    model = Toy()
    measure = GradientImportance(reduction, signed, layer_norm)
    scores = measure.scores(model, [{"x": X, "labels": LABELS}], head_map(model).all)
    expected = torch.tensor(BY_HAND[reduction, signed], dtype=torch.float64)
    assert scores.tolist() == pytest.approx((expected / expected.norm() if layer_norm else expected).tolist())


@pytest.mark.parametrize("family", [*CLASSIFIERS, "albert"])  # whose layers share one site
def test_against_finite_differences(family: str) -> None:
    """|dL/dgate| of every example, with a head that is out already, and a batch cut in two uneven parts."""
    model = tiny(family).double()
    inputs = random_inputs(model, batch=3)
    labels = torch.tensor([0, 2, 1])
    whole = head_map(model)
    inside = whole.all - whole.subset({whole.sites[-1].name: [2]})
    batches = [
        {**{name: x[part] for name, x in inputs.items()}, "labels": labels[part]} for part in (slice(0, 2), slice(2, 3))
    ]
    measured = GradientImportance(layer_norm=False).scores(model, batches, inside)

    def loss(example: int, moved: int, by: float) -> float:
        def gate_of(live: Any, x: torch.Tensor) -> torch.Tensor:
            flat = [whole.index(Head(live.site.name, i)) for i in live.kept]
            return torch.tensor([(i in inside.indices) + by * (i == moved) for i in flat], dtype=torch.float64)

        row = slice(example, example + 1)
        with torch.no_grad(), gated(model, gate_of):
            return float(model(**{name: x[row] for name, x in inputs.items()}, labels=labels[row]).loss)

    for position, head in enumerate(inside.indices):
        slopes = [abs(loss(n, head, 1e-5) - loss(n, head, -1e-5)) / 2e-5 for n in range(3)]
        assert float(measured[position]) == pytest.approx(sum(slopes) / 3, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("decoder", ["attention", "tied-ssru"])
@pytest.mark.parametrize("reduction", ["example", "token"])
def test_batches_of_sentences_can_be_cut_anywhere(reduction: str, decoder: str) -> None:
    """Where tokens have labels, an example's loss is their sum: how many share its batch does not matter."""
    model, lengths, targets = translator(**DECODERS[decoder]), (4, 2, 5), (3, 7, 2)
    batch = {**sources(lengths), "labels": padded(targets, -100)}
    alone = [
        {name: x[n : n + 1, : (targets if name == "labels" else lengths)[n]] for name, x in batch.items()}
        for n in range(3)
    ]
    everything, measure = head_map(model).all, GradientImportance(reduction, layer_norm=False)
    together, apart = measure.scores(model, [batch], everything), measure.scores(model, alone, everything)
    assert together.min() > 0 and torch.allclose(together, apart, rtol=1e-9)
    if reduction == "token":  # whose absolute values are taken before they are added up
        return

    def summed_loss(n: int, moved: int, by: float) -> float:
        def gate_of(live: Any, x: torch.Tensor) -> torch.Tensor:
            flat = [everything.head_map.index(Head(live.site.name, i)) for i in live.kept]
            return torch.tensor([1 + by * (i == moved) for i in flat], dtype=torch.float64)

        with torch.no_grad(), gated(model, gate_of):
            return float(model(**alone[n]).loss) * targets[n]

    for head in (0, len(everything) // 2, len(everything) - 1):
        slopes = [abs(summed_loss(n, head, 1e-5) - summed_loss(n, head, -1e-5)) / 2e-5 for n in range(3)]
        assert float(together[head]) == pytest.approx(sum(slopes) / 3, rel=1e-4)


def test_causal_models_have_one_label_fewer_in_a_text() -> None:
    """Their loss is about every token but the first: the same law as above, which a wrong count breaks."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_layer=2, n_head=4, n_embd=16, n_positions=16)).double().eval()
    ids = torch.arange(1, 15).remainder(19).add(1)
    short, long = ids[None, :2], ids[None, 2:]
    both = torch.zeros(2, 12, dtype=torch.long)
    both[0, :2], both[1] = short, long
    mask = torch.ones_like(both)
    mask[0, 2:] = 0
    together = {"input_ids": both, "attention_mask": mask, "labels": both.masked_fill(mask == 0, -100)}
    apart = [{"input_ids": each, "labels": each} for each in (short, long)]
    everything, measure = head_map(model).all, GradientImportance(layer_norm=False)
    found = measure.scores(model, [together], everything)
    assert found.min() > 0 and torch.allclose(found, measure.scores(model, apart, everything), rtol=1e-9)


def test_gradients_that_are_not_finite_are_told() -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.classifier.weight.fill_(torch.nan)
    batch = {**random_inputs(model), "labels": torch.tensor([0, 1])}
    with pytest.raises(BadData, match="importance of some heads is not finite"):
        GradientImportance().scores(model, [batch], head_map(model).all)


def test_padding_has_no_say_and_weights_are_left_alone() -> None:
    model = tiny("bert").train()
    inputs = random_inputs(model)
    batch = {**inputs, "labels": torch.tensor([0, 1])}
    before = [p.clone() for p in model.parameters()]
    scores = [GradientImportance(r).scores(model, [batch], head_map(model).all) for r in ("token", "example")]
    changed = {**batch, "input_ids": torch.where(inputs["attention_mask"] == 0, 7, inputs["input_ids"])}
    again = [GradientImportance(r).scores(model, [changed], head_map(model).all) for r in ("token", "example")]
    assert all(torch.allclose(a, b, atol=1e-12, rtol=1e-5) for a, b in zip(scores, again, strict=True))
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_bad_input() -> None:
    model = tiny("bert")
    with pytest.raises(BadRecipe, match="Valid choices: example, token, batch"):
        GradientImportance("sentence")
    with pytest.raises(BadData, match="No examples"):
        GradientImportance().scores(model, [], head_map(model).all)
    with pytest.raises(BadData, match="no labels"):
        GradientImportance().scores(model, [random_inputs(model)], head_map(model).all)
