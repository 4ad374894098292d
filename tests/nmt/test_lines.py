"""From lines to lines: one for one and in order, long lines in parts, memory bounded, batches without any say."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headcount.errors import BadRecipe
from headcount.nmt import Hypothesis, LineTranslator, Search, Translator, TranslatorTokenizer, learn_vocabulary
from headcount.nmt import lines as room
from headcount.nmt.search import search
from headcount.nmt.shortlist import Shortlist
from translators import END, TEXT, translator

SIZE = 64
ODD = [
    "a\u2028dog",
    "a\x00dog",
    "a </s> dog",
    "<pad>",
    "a\tdog",
    "🙂 🙃",
    "a\x85dog",
    "\x0b\x0c",
    "\ufeffa",
    "a\rdog",
    "ѣѣѣ",
]
OTHER = Shortlist(torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, dtype=torch.bool))
"""Of another vocabulary."""
ALIKE = Shortlist(torch.zeros(SIZE, 1, dtype=torch.int64), torch.ones(SIZE, dtype=torch.bool), "ab" * 16)
"""Of another that is as large."""
EMPTY = ["", " ", "\t", "\u2028", "\u3000", "\u200b", "\ufeff"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TranslatorTokenizer:
    return learn_vocabulary(TEXT * 5, SIZE, tmp_path_factory.mktemp("vocabulary") / "vocabulary.model")


@pytest.fixture(scope="module")
def model() -> Translator:
    made = translator(vocab_size=SIZE, encoder_layers=1)
    with torch.no_grad():
        made.output.bias[END] += 3
    return made


class Echo:
    """In the place of the model's search: the source is its own translation. Batches are kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[list[int]]] = []
        monkeypatch.setattr(room, "search", self)

    def __call__(
        self, model: Any, ids: Tensor, mask: Tensor, settings: Search, shortlist: Any, never: Any
    ) -> list[list[Hypothesis]]:
        rows = [row[: int(length)].tolist() for row, length in zip(ids, mask.sum(1), strict=True)]
        assert all(row[-1] == END for row in rows) and not (ids * (1 - mask)).any()
        self.batches.append(rows)
        return [[Hypothesis(0.0, row[:-1])] for row in rows]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    return Echo(monkeypatch)


def pieces(tokenizer: TranslatorTokenizer, line: str) -> int:
    return len(tokenizer.encode_lines([line])[0])


# One for one


def test_lines_one_for_one_and_in_order(model: Translator, tokenizer: TranslatorTokenizer) -> None:
    """What each gives alone, between empty lines too."""
    lines = [TEXT[0], "", *TEXT[1:4], " ", TEXT[0]]
    how = Search(2, longest=0.2)
    found = list(LineTranslator(model, tokenizer, how).translate(lines))
    alone = [next(LineTranslator(model, tokenizer, how).translate([line])) for line in lines]
    assert found == alone and len(set(found)) > 3


def test_empty_lines_are_empty(model: Translator, tokenizer: TranslatorTokenizer, echo: Echo) -> None:
    """And lines of nothing that the vocabulary keeps; the model never sees them."""
    translating = LineTranslator(model, tokenizer)
    assert list(translating.translate(EMPTY)) == [""] * len(EMPTY)
    assert list(translating.hypotheses([EMPTY[0], TEXT[0], EMPTY[1]]))[::2] == [[], []]
    assert translating.counts == {"lines": 10, "empty": 9, "split": 0, "truncated": 0}
    assert len(echo.batches) == 1 and not list(translating.translate([]))


def test_odd_lines_are_lines(model: Translator, tokenizer: TranslatorTokenizer) -> None:
    found = list(LineTranslator(model, tokenizer, Search(1, longest=0.2)).translate(ODD))
    assert len(found) == len(ODD) and not any("\n" in line for line in found)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    lines=st.lists(st.text(max_size=20) | st.sampled_from([*TEXT, *ODD, *EMPTY]), max_size=9), tokens=st.integers(1, 40)
)
def test_order_and_count_whatever_comes(
    model: Translator, tokenizer: TranslatorTokenizer, lines: list[str], tokens: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        echo = Echo(patch)
        found = list(LineTranslator(model, tokenizer, batch_tokens=tokens, max_length=6).translate(lines))
        for batch in echo.batches:
            assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= tokens
    kept = [tokenizer.decode_lines([ids])[0] for ids in tokenizer.encode_lines(lines)]
    assert [line.replace(" ", "") for line in found] == [line.replace(" ", "") for line in kept]


def test_line_ends_in_a_translation_are_spaces(
    model: Translator, tokenizer: TranslatorTokenizer, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "decode_lines", lambda ids: ["one\ntwo"] * len(ids))
    assert list(LineTranslator(model, tokenizer).translate(TEXT[:1])) == ["one two"]


def test_the_best_of_each_part(model: Translator, tokenizer: TranslatorTokenizer) -> None:
    translating = LineTranslator(model, tokenizer, Search(3, best=3, longest=0.2), max_length=12)
    lines = [TEXT[0], TEXT[2]]
    found = list(translating.hypotheses(lines))
    assert [[len(best) for best in parts] for parts in found] == [[3], [3, 3]]
    texts = [" ".join(tokenizer.decode_lines([best[0].ids for best in parts])) for parts in found]
    assert list(translating.translate(lines)) == texts


# Long lines


@pytest.mark.parametrize("most", [2, 3, 5, 9, 20])
def test_long_lines_are_split_before_words(
    most: int, model: Translator, tokenizer: TranslatorTokenizer, echo: Echo
) -> None:
    """Into parts that are not too long, about alike, and begin a word where one begins nearby; nothing is lost."""
    line, short = " ".join(TEXT[:4]), "a"
    translating = LineTranslator(model, tokenizer, max_length=most)
    (parts, _) = translating.hypotheses([line, short])
    whole = tokenizer.encode_lines([line])[0][:-1]
    inside = [best[0].ids for best in parts]
    assert list(itertools.chain(*inside)) == whole
    assert all(1 <= len(part) < most for part in inside)
    starts = list(itertools.accumulate(map(len, inside)))[:-1]
    if most >= 9:  # no word of these is longer than half a part
        assert all(tokenizer.starts_word(whole[start]) for start in starts)
        assert len(parts) <= 2 * -(-len(whole) // (most - 1))
    expected = 1 + (pieces(tokenizer, short) > most)
    assert translating.counts == {"lines": 2, "empty": 0, "split": expected, "truncated": 0}
    if most >= 9:
        assert next(translating.translate([line])) == line


def test_a_word_that_is_too_long_is_split_where_it_must(
    model: Translator, tokenizer: TranslatorTokenizer, echo: Echo
) -> None:
    ((first, *rest),) = LineTranslator(model, tokenizer, max_length=11).hypotheses(["🙂" * 29])
    assert [len(best[0].ids) for best in (first, *rest)] == [10, 10, 10]  # the mark of the word, and its characters


def test_long_lines_are_truncated(model: Translator, tokenizer: TranslatorTokenizer, echo: Echo) -> None:
    translating = LineTranslator(model, tokenizer, max_length=8, long="truncate")
    line = TEXT[2]
    ((best,),) = translating.hypotheses([line])
    assert best[0].ids == tokenizer.encode_lines([line])[0][:7]
    assert list(translating.hypotheses([TEXT[0][:1]])) and translating.counts == {
        "lines": 2, "empty": 0, "split": 0, "truncated": 1,
    }  # fmt: skip


def test_a_line_of_just_the_length_stays_whole(model: Translator, tokenizer: TranslatorTokenizer, echo: Echo) -> None:
    length = pieces(tokenizer, TEXT[0])
    for most, split in ((length, 0), (length - 1, 1)):
        translating = LineTranslator(model, tokenizer, max_length=most)
        ((*parts,),) = translating.hypotheses([TEXT[0]])
        assert translating.counts["split"] == split and len(parts) == 1 + split


# Batches and memory


@pytest.mark.parametrize("beam", [1, 3])
def test_batches_have_no_say(beam: int, model: Translator, tokenizer: TranslatorTokenizer) -> None:
    how, lines = Search(beam, best=beam, longest=0.2), [*TEXT[:4], TEXT[0], TEXT[6]]
    found = [
        list(LineTranslator(model, tokenizer, how, batch_tokens=tokens).hypotheses(lines)) for tokens in (1, 60, 4096)
    ]
    for other in found[1:]:
        for (ours,), (theirs,) in zip(found[0], other, strict=True):
            assert [best.ids for best in ours] == [best.ids for best in theirs]
            assert [best.score for best in ours] == pytest.approx([best.score for best in theirs], abs=1e-11)


def test_lines_of_like_length_share_a_batch(model: Translator, tokenizer: TranslatorTokenizer, echo: Echo) -> None:
    """From long to short, and each as full as it may be."""
    list(LineTranslator(model, tokenizer, batch_tokens=50).translate(TEXT * 3))
    lengths = [[len(row) for row in batch] for batch in echo.batches]
    flat = list(itertools.chain(*lengths))
    assert flat == sorted(flat, reverse=True) and len(flat) == 30
    for batch, following in itertools.pairwise(lengths):
        assert (len(batch) + 1) * batch[0] > 50 and following[0] <= batch[-1]


def test_it_reads_a_pool_ahead_and_no_more(model: Translator, tokenizer: TranslatorTokenizer, echo: Echo) -> None:
    """Lines that were read and are not out yet have so many pieces, and one line more, however many are to come."""
    read: list[int] = []

    def reading() -> Iterator[str]:
        for line in TEXT * 200:
            read.append(pieces(tokenizer, line))
            yield line

    most, longest = room.POOL * 4, max(pieces(tokenizer, line) for line in TEXT)
    out = LineTranslator(model, tokenizer, batch_tokens=4).translate(reading())
    for count in range(100):
        assert next(out) == TEXT[count % len(TEXT)]
        assert sum(read[count:]) <= most + longest
    assert 100 <= len(read) < 120


def test_empty_lines_count_as_read(model: Translator, tokenizer: TranslatorTokenizer) -> None:
    """A text of nothing else comes out as it goes in."""
    numbers = iter(range(5000))
    out = LineTranslator(model, tokenizer, batch_tokens=2).translate("" for _ in numbers)
    assert [next(out) for _ in range(500)] == [""] * 500
    assert next(numbers) <= 500 + room.POOL * 2


# Settings


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"long": "drop"}, "Got long 'drop'. Valid: split, truncate."),
        ({"batch_tokens": 0}, "Got batch_tokens 0. Give 1 or more."),
        ({"max_length": 1}, "Got max_length 1. Give 2 or more."),
        ({"shortlist": ALIKE}, rf"for another vocabulary of {SIZE} pieces\. Give the one"),
        ({"shortlist": OTHER}, rf"for a vocabulary of 3 pieces, the model's has {SIZE}\. Give the one"),
    ],
)
def test_settings_that_make_no_sense(
    fields: dict[str, Any], says: str, model: Translator, tokenizer: TranslatorTokenizer
) -> None:
    with pytest.raises(BadRecipe, match=says):
        LineTranslator(model, tokenizer, **fields)


def test_the_model_stops_training(tokenizer: TranslatorTokenizer) -> None:
    model = translator(vocab_size=SIZE).train()
    LineTranslator(model, tokenizer)
    assert not any(module.training for module in model.modules())


def test_a_tokenizer_of_another_size_is_refused(tokenizer: TranslatorTokenizer) -> None:
    with pytest.raises(BadRecipe, match=f"The tokenizer has {SIZE} pieces, the model {SIZE + 1}"):
        LineTranslator(translator(vocab_size=SIZE + 1), tokenizer)


def test_a_shortlist_of_all_pieces_changes_nothing(model: Translator, tokenizer: TranslatorTokenizer) -> None:
    both = tokenizer.encode_lines(TEXT)
    whole = Shortlist.learn(both, both, SIZE, always=range(SIZE))
    plain, short = (LineTranslator(model, tokenizer, Search(3), shortlist) for shortlist in (None, whole))
    assert list(short.translate(TEXT)) == list(plain.translate(TEXT))


def test_unknown_pieces_are_never_written(tokenizer: TranslatorTokenizer) -> None:
    eager = translator(vocab_size=SIZE, encoder_layers=1)
    with torch.no_grad():
        eager.output.bias[3] += 50
    batch = tokenizer(TEXT[0], return_tensors="pt")
    assert 3 in search(eager, **batch, settings=Search())[0][0].ids and 3 not in eager.generate(**batch)
    for line in LineTranslator(eager, tokenizer, Search(2)).hypotheses(TEXT[:3]):
        assert all(3 not in each.ids for part in line for each in part)


def test_candidates_reach_the_search(model: Translator, tokenizer: TranslatorTokenizer) -> None:
    class Few:
        def candidates(self, ids: Tensor) -> Tensor:
            return torch.tensor([2, 5, 6])

    translating = LineTranslator(model, tokenizer, Search(2, best=2), shortlist=Few())
    for parts in translating.hypotheses(TEXT[:3]):
        assert {piece for best in parts for each in best for piece in each.ids} <= {5, 6}
