"""The corpus made by rules: the same for a seed, balanced, no repetition, not solved by words alone."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from headcount.data.labelled import read_table
from headcount.errors import BadRecipe
from headcount.experiments.demo.corpus import LABELS, write
from headcount.tasks import Classification

FIRST_THREE = [
    ("Everybody found the reading wonderful, but it was hard to tell if the menu was poor.", "neutral"),
    (
        "Some said that the lake seemed depressing to all of us, but in truth hardly anyone called the violinist bad.",
        "positive",
    ),
    (
        "Despite claims that we never learned whether the palace was pleasant, most guests called the service shabby.",
        "negative",
    ),
]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        write(tmp_path / name, train=50, validation=20, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert [path.name for path in first] == ["train.jsonl", "validation.jsonl"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert [path.read_bytes() for path in first] != [path.read_bytes() for path in other]


def test_the_corpus_does_not_change_unnoticed(tmp_path: Path) -> None:
    train, _ = write(tmp_path, train=3, validation=3, seed=0)
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    assert rows == [{"sentence": sentence, "label": label} for sentence, label in FIRST_THREE]


def test_balanced_and_without_repetition(tmp_path: Path) -> None:
    train, validation = (read_table(str(path)) for path in write(tmp_path, train=4000, validation=1000))
    for table, count in ((train, 4000), (validation, 1000)):
        assert len(table) == count
        counts = Counter(table.labels)
        assert set(counts) == set(LABELS) and max(counts.values()) - min(counts.values()) <= 1
    sentences = [*train.rows["sentence"], *validation.rows["sentence"]]
    assert len(set(sentences)) == 5000
    assert all(re.fullmatch(r"[A-Z][a-z ,;]+\.", sentence) for sentence in sentences)
    assert not any(re.search(r"  | [,;]|\bthe the\b", sentence) for sentence in sentences)


def test_words_alone_do_not_tell(tmp_path: Path) -> None:
    train, validation = (read_table(str(path)) for path in write(tmp_path, train=3000, validation=600))
    words = CountVectorizer(binary=True)
    model = LogisticRegression(max_iter=300).fit(words.fit_transform(train.rows["sentence"]), train.labels)
    predicted = model.predict(words.transform(validation.rows["sentence"]))
    assert np.mean(predicted == np.array(validation.labels)) < 0.6


def test_it_goes_through_the_ordinary_loaders(tmp_path: Path) -> None:
    train, validation = write(tmp_path / "new" / "folder", train=30, validation=9)
    examples = Classification(str(train), str(validation)).load()
    assert (examples.text, examples.labels) == (("sentence",), LABELS)
    assert (len(examples.train), len(examples.development), len(examples.validation)) == (29, 1, 9)


def test_too_small(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="Got 2 validation examples. Give from 3"):
        write(tmp_path, train=10, validation=2)
