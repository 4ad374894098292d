"""Shortlists against what is worked by hand, against plain loops, and against a dictionary that was planted."""

import math
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from headcount.errors import BadData, BadRecipe
from headcount.nmt import shortlist
from headcount.nmt.shortlist import Model1, Sentences, Shortlist

V = 9
moderate = settings(max_examples=40, deadline=None, derandomize=True)
Corpus = list[tuple[list[int], list[int]]]

sentences = st.lists(st.integers(0, V - 1), max_size=6)
corpora = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=8).filter(
    lambda corpus: any(source and target for source, target in corpus)
)


def flat(side: list[list[int]]) -> Sentences:
    return np.array([piece for line in side for piece in line], dtype=np.int64), np.array([len(line) for line in side])


def model_of(corpus: Corpus, iterations: int, vocabulary: int = V) -> Model1:
    sources, targets = [list(side) for side in zip(*corpus, strict=True)]
    return Model1.learn(flat(sources), flat(targets), vocabulary, iterations)


def table_of(model: Model1) -> dict[tuple[int, int], float]:
    keys = zip(model.source.tolist(), model.target.tolist(), strict=True)
    return dict(zip(keys, model.probability.tolist(), strict=True))


def by_loops(corpus: Corpus, iterations: int) -> tuple[dict[tuple[int, int], float], list[float]]:
    """Brown et al. 1993, eqs. 14 and 17, as they are written; and the logarithm of eq. 6 with epsilon 1."""
    t = {(e, f): 1 / V for source, target in corpus for e in [*source, V] for f in target}
    likelihoods = []
    for _ in range(iterations):
        counts, likelihood = dict.fromkeys(t, 0.0), 0.0
        for source, target in corpus:
            for f in target:
                total = sum(t[e, f] for e in [*source, V])
                likelihood += math.log(total / (len(source) + 1))
                for e in [*source, V]:
                    counts[e, f] += t[e, f] / total
        t = {(e, f): count / sum(c for (g, _), c in counts.items() if g == e) for (e, f), count in counts.items()}
        likelihoods.append(likelihood)
    return t, likelihoods


DAS, HAUS, BUCH, THE, HOUSE, BOOK, NULL = range(7)
TOY: Corpus = [([DAS, HAUS], [THE, HOUSE]), ([DAS, BUCH], [THE, BOOK])]


def test_two_steps_by_hand() -> None:
    """Das Haus / the house, das Buch / the book.

    At first each target piece is a third each of its two source pieces and of NULL. So das and NULL count "the" 2/3,
    "house" 1/3, "book" 1/3, and Haus counts "the" 1/3, "house" 1/3; likewise Buch.

    Then "the" beside das, Haus, NULL weighs 1/2 + 1/2 + 1/2, and "house" 1/4 + 1/2 + 1/4. So Haus counts "the" 1/3 and
    "house" 1/2, of 5/6; das counts "the" 2/3 and "house" and "book" 1/4 each, of 7/6.
    """
    one, two = table_of(model_of(TOY, 1, NULL)), table_of(model_of(TOY, 2, NULL))
    for e in (DAS, NULL):
        assert [one[e, f] for f in (THE, HOUSE, BOOK)] == pytest.approx([1 / 2, 1 / 4, 1 / 4])
        assert [two[e, f] for f in (THE, HOUSE, BOOK)] == pytest.approx([4 / 7, 3 / 14, 3 / 14])
    for e, f in ((HAUS, HOUSE), (BUCH, BOOK)):
        assert [one[e, THE], one[e, f]] == pytest.approx([1 / 2, 1 / 2])
        assert [two[e, THE], two[e, f]] == pytest.approx([2 / 5, 3 / 5])
    assert (HAUS, BOOK) not in two and (BUCH, HOUSE) not in two
    # Of each sentence: "the" 1/6, then (1/2 + 1/2 + 1/2) / 3; the other 1/6, then (1/4 + 1/2 + 1/4) / 3.
    by_hand = [2 * math.log(1 / 6 * 1 / 6), 2 * math.log(1 / 2 * 1 / 3)]
    assert model_of(TOY, 2, NULL).log_likelihoods == pytest.approx(by_hand)


def test_the_toy_comes_apart() -> None:
    learned = Shortlist.learn(*zip(*TOY, strict=True), vocabulary=NULL, best=1, frequent=0, iterations=5)
    assert learned.likely.tolist() == [[THE], [HOUSE], [BOOK], [NULL], [NULL], [NULL]]
    assert learned.candidates(torch.tensor([[DAS, BUCH]])).tolist() == sorted([DAS, BUCH, THE, BOOK])


@moderate
@given(corpora, st.integers(1, 4), st.sampled_from([1, 7, 1 << 20]))
def test_em_is_that_of_loops(corpus: Corpus, iterations: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortlist, "BLOCK", block)
        model = model_of(corpus, iterations)
    expected, likelihoods = by_loops(corpus, iterations)
    assert table_of(model) == pytest.approx(expected, rel=1e-9)
    assert list(zip(model.source, model.target, strict=True)) == sorted(expected)
    assert model.log_likelihoods == pytest.approx(likelihoods)


@moderate
@given(corpora)
def test_likelihood_never_falls(corpus: Corpus) -> None:
    """Nor does a probability leave [0, 1], nor what a source piece may become sum to anything but 1, however long."""
    model = model_of(corpus, 40)
    assert (np.diff(model.log_likelihoods) >= -1e-9).all()
    assert model.probability.min() >= 0
    assert np.bincount(model.source, model.probability)[np.unique(model.source)] == pytest.approx(1.0)


@moderate
@given(corpora, st.integers(0, 4))
def test_rows_are_the_likeliest(corpus: Corpus, best: int) -> None:
    """Likeliest first, and of equally likely ones the lower first."""
    model = model_of(corpus, 3)
    rows = model.likely(V, best).tolist()
    table = table_of(model)
    for e, row in enumerate(rows):
        ranked = sorted((f for g, f in table if g == e), key=lambda f, e=e: (-table[e, f], f))[:best]
        assert row == ranked + [V] * (len(row) - len(ranked))
    assert max(sum(f != V for f in row) for row in rows) == len(rows[0])


def planted(pairs: int, seed: int) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
    """Sentences of 100 pieces, each with one translation among 100 others, in any order; one in ten is noise."""
    random = np.random.default_rng(seed)
    dictionary = 100 + random.permutation(100)
    sources = [random.integers(0, 100, random.integers(2, 9)) for _ in range(pairs)]
    targets = [random.permutation(dictionary[source]) for source in sources]
    for target in targets:
        noise = random.random(len(target)) < 0.1
        target[noise] = random.integers(100, 200, int(noise.sum()))
    return [source.tolist() for source in sources], [target.tolist() for target in targets], dictionary


def test_finds_a_planted_dictionary() -> None:
    sources, targets, dictionary = planted(1000, seed=1)
    learned = Shortlist.learn(sources, targets, vocabulary=200, best=1, frequent=0)
    assert learned.likely[:100, 0].tolist() == dictionary.tolist()
    assert learned.likely[100:].tolist() == [[200]] * 100
    back = Shortlist.learn(targets, sources, vocabulary=200, best=1, frequent=0)
    assert back.likely[torch.from_numpy(dictionary), 0].tolist() == list(range(100))


@moderate
@given(corpora, st.integers(0, 3), st.integers(0, 4), st.sets(st.integers(0, V - 1)), st.lists(sentences, max_size=4))
def test_candidates_are_the_union(
    corpus: Corpus, best: int, frequent: int, always: set[int], batch: list[list[int]]
) -> None:
    """Of the rows, the most frequent (of equally frequent ones the lower), what always is, and the sentences' own."""
    sources, targets = zip(*corpus, strict=True)
    learned = Shortlist.learn(sources, targets, V, best, frequent, 2, tuple(always))
    pieces = [f for target in targets for f in target]
    expected = always | set(sorted(set(pieces), key=lambda f: (-pieces.count(f), f))[:frequent])
    rows = model_of(corpus, 2).likely(V, best).tolist()
    for e in {e for line in batch for e in line} | {0}:
        expected |= {*rows[e], e}
    width = max(map(len, batch), default=0) + 1
    ids = torch.tensor([line + [0] * (width - len(line)) for line in batch] or [[0]])
    found = learned.candidates(ids)
    assert found.dtype == torch.int64
    assert found.tolist() == sorted(expected - {V})
    assert learned.candidates(ids.int()).tolist() == found.tolist()


def test_padding_that_was_never_learned_adds_itself_alone() -> None:
    sources, targets = [[1, 2], [2, 3]], [[4, 5], [5, 6]]
    learned = Shortlist.learn(sources, targets, V, best=2, frequent=1, always=[8])
    alone = learned.candidates(torch.tensor([[1]]))
    assert learned.candidates(torch.tensor([[1, 0, 0]])).tolist() == [0, *alone.tolist()]
    assert learned.candidates(torch.zeros(2, 3, dtype=torch.int64)).tolist() == [0, 5, 8]
    assert learned.candidates(torch.zeros(0, 0, dtype=torch.int64)).tolist() == [5, 8]


@moderate
@given(corpora)
def test_order_of_the_pairs_and_empty_ones_change_nothing(corpus: Corpus) -> None:
    """What is counted is the same; ties may fall another way by rounding, so the whole rows are compared."""

    def learned(pairs: Corpus) -> Shortlist:
        return Shortlist.learn(*zip(*pairs, strict=True), vocabulary=V, best=V, frequent=V)

    first, second = learned(corpus), learned([([], []), *corpus[::-1], ([], [])])
    assert torch.equal(first.shared, second.shared)
    assert torch.equal(first.likely.sort(1).values, second.likely.sort(1).values)


def some() -> Shortlist:
    sources, targets, _ = planted(200, seed=2)
    return Shortlist.learn(sources, targets, vocabulary=200, best=5, frequent=3, always=(0,))


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    learned, file = replace(some(), pieces="0a" * 16), tmp_path / "new" / "lex.safetensors"
    learned.save(file)
    loaded = Shortlist.load(file)
    for name in ("likely", "shared"):
        before, after = getattr(learned, name), getattr(loaded, name)
        assert before.dtype == after.dtype and torch.equal(before, after)
    assert loaded.pieces == "0a" * 16
    ids = torch.randint(0, 200, (32, 12), generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.candidates(ids), learned.candidates(ids))
    first = file.read_bytes()
    loaded.save(file)
    assert file.read_bytes() == first
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    (file.parent / "plain").write_text("")
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((file.parent / "plain").stat().st_mode)


def test_half_a_file_never_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lex.safetensors"
    some().save(file)
    before = file.read_bytes()

    def stopped(aside: str, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        some().save(file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


GOOD = {"likely": torch.tensor([[1, 2], [0, 2]], dtype=torch.int32), "shared": torch.tensor([True, False])}
DAMAGED = {
    "a shortlist of nothing": {"other": torch.zeros(2)},
    "no shared": {"likely": GOOD["likely"]},
    "no likely": {"shared": GOOD["shared"]},
    "another kind of numbers": {**GOOD, "likely": GOOD["likely"].float()},
    "shared as numbers": {**GOOD, "shared": GOOD["shared"].int()},
    "a vector": {**GOOD, "likely": torch.tensor([1, 2], dtype=torch.int32)},
    "two vocabularies": {**GOOD, "shared": torch.tensor([True, False, True])},
    "shared as a table": {**GOOD, "shared": torch.ones(2, 2, dtype=torch.bool)},
    "a piece too high": {**GOOD, "likely": torch.tensor([[1, 3], [0, 2]], dtype=torch.int32)},
    "a piece below 0": {**GOOD, "likely": torch.tensor([[1, -1], [0, 2]], dtype=torch.int32)},
}


@pytest.mark.parametrize("tensors", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_no_shortlist(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "lex.safetensors"
    save_file(GOOD, file)
    assert Shortlist.load(file).candidates(torch.tensor([[1]])).tolist() == [0, 1]
    save_file(tensors, file)
    with pytest.raises(BadData, match="no shortlist, or a damaged one. It holds: .*headcount shortlist"):
        Shortlist.load(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "lex.safetensors"
    save_file(GOOD, file)
    whole = file.read_bytes()
    for content in (b"", b"der the 0.5\n", whole[:20], whole[:-1]):
        file.write_bytes(content)
        with pytest.raises(BadData, match="lex.safetensors: cannot be read as a shortlist .*headcount shortlist"):
            Shortlist.load(file)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(BadData, match="cannot be read as a shortlist"):
            Shortlist.load(missing)


ONE = [[1, 2]]


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ([[1]], [[1], [2]], "Got 1 source and 2 target sentences. Give pairs."),
        ([], [], "nothing to learn a shortlist from"),
        ([[], [1]], [[2], []], "nothing to learn a shortlist from"),
        ([[1], [], [2, 9]], [[1], [1], [1]], "Piece 9 in source sentence 3 is not in the vocabulary: .*0 to 8"),
        ([[1], [1]], [[-1], [9]], "Piece -1 in target sentence 1 is not in the vocabulary"),
    ],
)
def test_refuses_data(sources: list[list[int]], targets: list[list[int]], message: str) -> None:
    with pytest.raises(BadData, match=message):
        Shortlist.learn(sources, targets, V)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 0}, "Got vocabulary 0. Give 1 or more."),
        ({"best": -1}, "Got best -1. Give 0 or more."),
        ({"frequent": -1}, "Got frequent -1. Give 0 or more."),
        ({"iterations": 0}, "Got iterations 0. Give 1 or more."),
        ({"always": (1, 9)}, "Got piece 9 in always. Give pieces from 0 to 8."),
        ({"always": (-1,)}, "Got piece -1 in always."),
    ],
)
def test_refuses_numbers(options: dict[str, int], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        Shortlist.learn(ONE, ONE, **{"vocabulary": V, **options})


@pytest.mark.parametrize("piece", [-1, V])
def test_refuses_a_batch_of_another_vocabulary(piece: int) -> None:
    learned = Shortlist.learn(ONE, ONE, V)
    with pytest.raises(BadRecipe, match="Got pieces from .* is for a vocabulary of 9"):
        learned.candidates(torch.tensor([[1, piece]]))
