"""Search against all sequences there are, and against a beam in plain lists that reads every prefix anew."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.nmt import Hypothesis, Search, Translator
from headcount.nmt.search import beam_search, search
from translators import DECODERS, END, PAD, START, sources, translator

WORDS = (END, 3, 4, 5, 6, 7, 8)
"""The pieces that a translation may have, of a vocabulary of nine."""
TINY = {"encoder_layers": 1, "vocab_size": 9}
KINDS = ("tied-attention", "ssru")
"""Both kinds of what a decoder remembers, in several layers."""
LENGTHS = (4, 2, 5)
few = settings(max_examples=5, deadline=None, derandomize=True)
Scored = tuple[float, list[int]]


def model_for(seed: int = 0, decoder: str = "attention", ending: float = 2.5, **changes: Any) -> Translator:
    """A model whose translations end sooner or later."""
    model = translator(seed, **{**TINY, **DECODERS[decoder], **changes})
    with torch.no_grad():
        model.output.bias[END] += ending
    return model


@torch.no_grad()
def log_probabilities(
    model: Translator, source: list[int], prefixes: list[list[int]], words: Iterable[int]
) -> list[list[float]]:
    """Of each of these words after each prefix, by whole forward passes over one source without padding."""
    allowed = list(words)
    target = torch.tensor([[START, *prefix] for prefix in prefixes])
    logits = model(input_ids=torch.tensor([source] * len(prefixes)), decoder_input_ids=target).logits[:, -1, allowed]
    found: list[list[float]] = logits.log_softmax(-1).tolist()
    return found


def every_sequence(
    model: Translator, source: list[int], limit: int, power: float, words: Iterable[int]
) -> list[Scored]:
    """All sequences that end, or are as long as allowed, with their scores, best first."""
    allowed = list(words)
    going: list[Scored] = [(0.0, [])]
    found: list[Scored] = []
    for length in range(1, limit + 1):
        rows = log_probabilities(model, source, [ids for _, ids in going], allowed)
        longer = [
            (score + row[place], [*ids, word])
            for (score, ids), row in zip(going, rows, strict=True)
            for place, word in enumerate(allowed)
        ]
        found += [(score / length**power, ids[:-1]) for score, ids in longer if ids[-1] == END]
        going = [(score, ids) for score, ids in longer if ids[-1] != END]
    return sorted([*found, *((score / limit**power, ids) for score, ids in going)], reverse=True)


@dataclass
class Plain:
    """Beam search of one sentence, and after how many steps it was over."""

    best: list[Scored]
    steps: int


def plain_beam(
    model: Translator, source: list[int], settings: Search, limit: int | None = None, words: Iterable[int] = WORDS
) -> Plain:
    """In lists: no cache, no batch. Of the best so many, those that end are finished, and as many others go on."""
    allowed, beam = list(words), settings.beam
    limit = int(len(source) * settings.longest) + 10 if limit is None else limit
    going: list[Scored] = [(0.0, [])]
    finished: list[Scored] = []
    for length in range(1, limit + 1):
        rows = log_probabilities(model, source, [ids for _, ids in going], allowed)
        longer = [
            (score + row[place], [*ids, word])
            for (score, ids), row in zip(going, rows, strict=True)
            for place, word in enumerate(allowed)
        ]
        longer.sort(reverse=True)
        norm = length**settings.normalisation
        finished += [(score / norm, ids[:-1]) for score, ids in longer[:beam] if ids[-1] == END]
        going = [(score, ids) for score, ids in longer if ids[-1] != END][:beam]
        if len(finished) >= beam:
            break
        if length == limit:
            finished += [(score / norm, ids) for score, ids in going]
    return Plain(sorted(finished, reverse=True)[: settings.best], length)


def texts(batch: dict[str, Tensor]) -> list[list[int]]:
    return [
        row[: int(mask.sum())].tolist() for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def require_same(found: list[Hypothesis], expected: list[Scored]) -> None:
    assert [hypothesis.ids for hypothesis in found] == [ids for _, ids in expected]
    assert [hypothesis.score for hypothesis in found] == pytest.approx([score for score, _ in expected], abs=1e-11)


def require_alike(some: list[list[Hypothesis]], others: list[list[Hypothesis]]) -> None:
    assert len(some) == len(others)
    for found, expected in zip(some, others, strict=True):
        require_same(found, [(hypothesis.score, hypothesis.ids) for hypothesis in expected])


class Shortlisted:
    """Always the same candidates."""

    def __init__(self, *pieces: int) -> None:
        self.pieces = torch.tensor(pieces)

    def candidates(self, ids: Tensor) -> Tensor:
        return self.pieces


# Against all there are


@pytest.mark.parametrize("decoder", KINDS)
@few
@given(seed=st.integers(0, 999), power=st.sampled_from([0.0, 0.6, 1.0]), limits=st.permutations([1, 2, 3]))
def test_a_wide_beam_finds_the_best_of_all(decoder: str, seed: int, power: float, limits: list[int]) -> None:
    """Not the best alone: with room for every prefix, all sequences come out, in order."""
    model = model_for(seed, decoder, ending=0.0)
    batch = sources((4, 2, 3), seed, most=9)
    words = [END, 4, 6, 7]
    beam = 1 + 3 + 9 + 27
    decoding = model.start(**batch, beam=beam, candidates=torch.tensor(words))
    with torch.inference_mode():
        found = beam_search(model, decoding, torch.tensor(limits), torch.tensor(words), Search(beam, power, best=beam))
    for source, limit, hypotheses in zip(texts(batch), limits, found, strict=True):
        require_same(hypotheses, every_sequence(model, source, limit, power, words))


def test_a_wide_beam_finds_the_best_of_all_by_the_front_door() -> None:
    """Three pieces and twelve steps at most: 8,191 sequences, of which 4,096 reach the limit."""
    model = model_for(vocab_size=5, ending=0.0, decoder="ssru", decoder_layers=1)
    batch = {"input_ids": torch.tensor([[3, 4, END]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    (found,) = search(model, **batch, settings=Search(4096, best=10, longest=0.1))
    require_same(found, every_sequence(model, [3, 4, END], 10, 1.0, [END, 3, 4])[:10])


# Against plain lists


@pytest.mark.parametrize("decoder", KINDS)
@few
@given(
    seed=st.integers(0, 999),
    beam=st.integers(1, 4),
    power=st.sampled_from([0.0, 0.7, 1.0, 1.5]),
    longest=st.sampled_from([0.1, 1.0]),
    ending=st.sampled_from([0.0, 2.0, 4.0]),
)
@example(seed=2, beam=4, power=1.0, longest=0.1, ending=2.0)  # many end at one step, and as many others take over
@example(seed=8, beam=4, power=1.0, longest=0.1, ending=2.0)
def test_the_beam_in_plain_lists(
    decoder: str, seed: int, beam: int, power: float, longest: float, ending: float
) -> None:
    """Cached = read anew, in a batch = alone, padded = not."""
    model, batch = model_for(seed, decoder, ending), sources(LENGTHS[:2], seed, most=9)
    how = Search(beam, power, best=beam, longest=longest)
    for source, hypotheses in zip(texts(batch), search(model, **batch, settings=how), strict=True):
        require_same(hypotheses, plain_beam(model, source, how).best)


@pytest.mark.parametrize("decoder", KINDS)
@few
@given(seed=st.integers(0, 999), power=st.sampled_from([0.0, 1.0]), ending=st.sampled_from([1.0, 3.0]))
def test_a_beam_of_one_is_greedy(decoder: str, seed: int, power: float, ending: float) -> None:
    model, batch = model_for(seed, decoder, ending), sources(LENGTHS, seed, most=9)
    how = Search(1, power, longest=0.5)
    pieces = torch.tensor(WORDS)
    with torch.inference_mode():
        decoding = model.start(**batch, beam=1, candidates=pieces)
        limits = batch["attention_mask"].sum(1) // 2 + 10
        beamed = beam_search(model, decoding, limits, pieces, how)
    require_alike(search(model, **batch, settings=how), beamed)


# What has no say


@pytest.fixture(scope="module", params=[1, 4])
def case(request: pytest.FixtureRequest) -> tuple[Translator, dict[str, Tensor], Search, list[list[Hypothesis]]]:
    model, batch, how = model_for(3), sources(LENGTHS, 5, most=9), Search(request.param, best=request.param)
    return model, batch, how, search(model, **batch, settings=how)


def test_order_of_the_batch(case: Any) -> None:
    model, batch, how, expected = case
    order = [2, 0, 1]
    found = search(model, **{name: value[order] for name, value in batch.items()}, settings=how)
    require_alike(found, [expected[row] for row in order])


def test_padding(case: Any) -> None:
    """Neither what stands there, nor how much of it there is."""
    model, batch, how, expected = case
    wide = {name: torch.cat([value, torch.full((3, 3), PAD)], 1) for name, value in batch.items()}
    wide["input_ids"] = torch.where(wide["attention_mask"] == 1, wide["input_ids"], 8)
    require_alike(search(model, **wide, settings=how), expected)


def test_company(case: Any) -> None:
    model, batch, how, expected = case
    for row, source in enumerate(texts(batch)):
        alone = {"input_ids": torch.tensor([source]), "attention_mask": torch.ones(1, len(source), dtype=torch.long)}
        require_alike(search(model, **alone, settings=how), [expected[row]])


def test_the_model_is_left_alone(case: Any) -> None:
    model, batch, how, expected = case
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    require_alike(search(model, **batch, settings=how), expected)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


# What comes out


@pytest.mark.parametrize("beam", [2, 5])
def test_the_best_are_sorted_and_distinct(beam: int) -> None:
    model, batch = model_for(1), sources(LENGTHS, 1, most=9)
    everything = search(model, **batch, settings=Search(beam, best=beam))
    for hypotheses in everything:
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert len(hypotheses) == beam and scores == sorted(scores, reverse=True) and max(scores) < 0
        assert len({tuple(hypothesis.ids) for hypothesis in hypotheses}) == beam
    fewer = search(model, **batch, settings=Search(beam, best=beam - 1))
    require_alike(fewer, [hypotheses[: beam - 1] for hypotheses in everything])


@pytest.mark.parametrize("beam", [1, 3])
def test_limits(beam: int) -> None:
    """A model that never ends: ten pieces, and so many for each of the source's, its end included."""
    model, batch = model_for(ending=-50.0), sources(LENGTHS, most=9)
    for longest, limits in [(0.1, [10, 10, 10]), (1.5, [16, 13, 17]), (2.0, [18, 14, 20])]:
        found = search(model, **batch, settings=Search(beam, best=beam, longest=longest))
        assert [{len(each.ids) for each in hypotheses} for hypotheses in found] == [{limit} for limit in limits]
    found = search(model, **batch, settings=Search(beam, best=beam, most=15))
    assert [{len(each.ids) for each in hypotheses} for hypotheses in found] == [{15}, {14}, {15}]


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("shortlist", [None, Shortlisted(*range(9))])
def test_what_never_comes(beam: int, shortlist: Shortlisted | None) -> None:
    """Padding and the start, however likely; nor is the end a piece of a translation."""
    model, batch = model_for(), sources(LENGTHS[:2], most=9)
    with torch.no_grad():
        model.output.bias[[PAD, START]] += 100
    how = Search(beam, best=beam, longest=0.1)
    found = search(model, **batch, settings=how, shortlist=shortlist)
    for source, hypotheses in zip(texts(batch), found, strict=True):
        assert not {PAD, START, END} & {piece for hypothesis in hypotheses for piece in hypothesis.ids}
        require_same(hypotheses, plain_beam(model, source, how).best)


@pytest.mark.parametrize("beam", [1, 2, 4])
@pytest.mark.parametrize("pieces", [(2, 3, 5, 8), (0, 1, 2, 4, 7), (2, 6), (3, 4, 5)])
def test_candidates_are_all_there_is(beam: int, pieces: tuple[int, ...]) -> None:
    """Their probabilities sum to one; without the end among them, translations go on to the limit."""
    model, batch, how = model_for(2), sources(LENGTHS[:2], 2, most=9), Search(beam, best=beam, longest=0.1)
    found = search(model, **batch, settings=how, shortlist=Shortlisted(*pieces))
    words = [piece for piece in pieces if piece not in (PAD, START)]
    for source, hypotheses in zip(texts(batch), found, strict=True):
        require_same(hypotheses, plain_beam(model, source, how, words=words).best)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("pieces", [(END,), (PAD, START, END)])
def test_nothing_but_the_end(beam: int, pieces: tuple[int, ...]) -> None:
    """Then there is one translation, the empty one, which is certain; nothing goes on after the end."""
    found = search(
        model_for(), **sources((3, 2), most=9), settings=Search(beam, best=beam), shortlist=Shortlisted(*pieces)
    )
    assert [[(best.score, best.ids) for best in hypotheses] for hypotheses in found] == [[(0.0, [])], [(0.0, [])]]


def test_one_hypothesis_by_hand() -> None:
    """Piece 5 with probability 3/5 again and again, or the end with 2/5, however long it is already."""
    model = model_for(ending=0.0)
    with torch.no_grad():
        model.output.bias.fill_(-torch.inf)
        model.output.bias[[END, 5]] = torch.tensor([2.0, 3.0], dtype=torch.float64).log()
        model.embedding.weight.zero_()
    batch = {"input_ids": torch.tensor([[5]]), "attention_mask": torch.tensor([[1]])}
    p, q = torch.tensor([2 / 5, 3 / 5], dtype=torch.float64).log().tolist()
    (found,) = search(model, **batch, settings=Search(2, best=2, normalisation=0.0))
    require_same(found, [(p, []), (q + p, [5])])
    (found,) = search(model, **batch, settings=Search(2, best=2))
    require_same(found, [((q + p) / 2, [5]), (p, [])])
    (found,) = search(model, **batch, settings=Search(1, longest=1.0))
    require_same(found, [(q, [5] * 11)])


# Sentences leave


@pytest.mark.parametrize("decoder", KINDS)
@pytest.mark.parametrize("beam", [1, 3])
def test_finished_sentences_leave(decoder: str, beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is of those that are still going, and of no others; so are the encoder's states and the caches."""
    model, batch, how = (
        model_for(19, decoder, ending=2.0),
        sources((4, 2, 5, 3, 4), 7, most=9),
        Search(beam, longest=0.5),
    )
    seen: list[int] = []
    step = model.step

    def watched(tokens: Tensor, decoding: Any) -> Tensor:
        assert tokens.shape[1] == beam
        seen.append(len(tokens))
        out = step(tokens, decoding)
        keys = {id(layer.source): layer.source.keys for layer in decoding.layers}.values()
        assert {len(each) for each in [decoding.memory, decoding.memory_mask, *keys]} == {len(tokens)}
        return out

    monkeypatch.setattr(model, "step", watched)
    search(model, **batch, settings=how)
    steps = [plain_beam(model, source, how).steps for source in texts(batch)]
    assert seen == [sum(count > step for count in steps) for step in range(max(steps))]
    assert len(set(steps)) > 2  # so that some leave while others stay


# Settings


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"beam": 0}, "Got beam 0. Give 1 or more."),
        ({"best": 0}, "Got best 0."),
        ({"most": 0}, "Got most 0."),
        ({"beam": 2, "best": 3}, "Got the 3 best of a beam of 2. Give a beam that is as wide, or fewer best."),
        ({"normalisation": float("nan")}, "Got normalisation nan"),
        ({"normalisation": -0.1}, "Got normalisation -0.1. Give a finite number, 0 or more."),
        ({"longest": float("inf")}, "Got longest inf. Give a finite number above 0."),
        ({"longest": 0.0}, "Got longest 0.0. Give a finite number above 0."),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecipe, match=says):
        Search(**fields)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_model_that_computes_no_numbers(beam: int) -> None:
    model = model_for()
    model.output.bias.data.fill_(torch.nan)
    with pytest.raises(CorruptCheckpoint, match="gives no piece a probability: its weights hold NaN"):
        search(model, **sources((3, 2), most=9), settings=Search(beam))
    with pytest.raises(CorruptCheckpoint, match="another shortlist"):
        search(model_for(), **sources((3, 2), most=9), settings=Search(beam), shortlist=Shortlisted(PAD, START))


def test_a_search_with_nothing_left_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    model, steps = model_for(), []
    step = model.step
    monkeypatch.setattr(model, "step", lambda *args: steps.append(1) or step(*args))
    found = search(model, **sources((4, 3), most=9), settings=Search(5), shortlist=Shortlisted(END))
    assert [[one.ids for one in best] for best in found] == [[[]], [[]]] and len(steps) == 1


def test_hypotheses_are_ordered_by_score() -> None:
    assert max(Hypothesis(-1.0, [9]), Hypothesis(-0.5, [1]), Hypothesis(-2.0, [])).ids == [1]


def test_single_precision_finds_the_same() -> None:
    model, batch, how = model_for(6), sources(LENGTHS, 6, most=9), Search(3)
    expected = search(model, **batch, settings=how)
    found = search(model.float(), **batch, settings=how)
    for (ours,), (theirs,) in zip(found, expected, strict=True):
        assert ours.ids == theirs.ids and ours.score == pytest.approx(theirs.score, rel=1e-5)


@pytest.mark.parametrize("beam", [1, 3])
def test_half_precision_adds_up_in_single(beam: int) -> None:
    """Or the log probability of many pieces would be off by a whole one: here it is of fifty, each one of six."""
    model = model_for(ending=-50.0)
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.output.bias[3:] = 0
    batch = sources((20,), most=9)
    ((best,),) = search(model.bfloat16(), **batch, settings=Search(beam, normalisation=0.0))
    assert best.score == pytest.approx(-50 * torch.tensor(6.0).log().item(), rel=1e-5) and len(best.ids) == 50
