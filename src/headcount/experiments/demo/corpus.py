"""A corpus made by rules, for a demonstration without any download: what does the writer think in the end?

Every sentence says two things, and only its main clause counts: "Although nobody found the soup dull, the
waiter was anything but charming" is negative. The words alone do not tell: good and bad words stand in both
clauses, four times in five the other clause has another label, and half of the opinions are turned round by a
negation. A model has to find the main clause, and there what is denied; both take attention across the
sentence.
"""

import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from headcount.errors import BadRecipe

LABELS = ("negative", "neutral", "positive")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_THINGS = _words(
    """
    actor bakery band beach bread breakfast bridge cake castle chef church city climb coffee concert dance
    dessert dinner drive ending exhibition festival ferry film food fountain garden guide harbour hike
    hotel island lake lecture library lunch market meal menu museum music novel opening opera painting
    palace park pasta play plot pool reading road room salad service singer soup speech story tea tour
    tower train trip valley view village violinist waiter walk wine
    """
)
_GOOD = _words(
    """
    beautiful brilliant charming delightful excellent fantastic fine good great impressive lovely
    memorable perfect pleasant remarkable splendid superb terrific wonderful
    """
)
_BAD = _words(
    """
    annoying awful bad boring depressing disappointing dismal dreadful dull horrible mediocre miserable
    nasty poor shabby terrible ugly unpleasant weak
    """
)

_SAID = (
    "the {thing} was {word}",
    "the {thing} was really {word}",
    "everybody found the {thing} {word}",
    "most guests called the {thing} {word}",
    "the {thing} seemed {word} to all of us",
)
_DENIED = (
    "the {thing} was not {word}",
    "the {thing} was never {word}",
    "the {thing} was anything but {word}",
    "the {thing} was by no means {word}",
    "nobody found the {thing} {word}",
    "hardly anyone called the {thing} {word}",
)
_LEFT_OPEN = (
    "nobody could say whether the {thing} was {word}",
    "it was hard to tell if the {thing} was {word}",
    "we never learned whether the {thing} was {word}",
    "people still argue whether the {thing} was {word}",
)
_SENTENCES = (
    "although {other}, {main}",
    "{main}, although {other}",
    "{other}, but {main}",
    "{main}, even if {other}",
    "despite claims that {other}, {main}",
    "some said that {other}, but in truth {main}",
    "that {other} does not change the fact that {main}",
    "{main}; it does not matter that {other}",
)


def write(directory: Path, train: int = 4000, validation: int = 1000, seed: int = 0) -> tuple[Path, Path]:
    """Write the corpus as JSON lines, `sentence` and `label`; the same numbers and seed give the same bytes.

    The labels are as even as the counts allow, and no sentence occurs twice, in one file or in both.

    Args:
        directory: Where to write; made if it is not there. Files of these names are overwritten.
        train: Number of training examples.
        validation: Number of validation examples.
        seed: Of the corpus.

    Returns:
        The training file and the validation file, `train.jsonl` and `validation.jsonl`.
    """
    for name, count in {"train": train, "validation": validation}.items():
        if not len(LABELS) <= count <= 1_000_000:
            raise BadRecipe(f"Got {count} {name} examples. Give from {len(LABELS)}, one a label, to 1000000.")
    directory.mkdir(parents=True, exist_ok=True)
    dice, seen = random.Random(seed), set[str]()
    paths = directory / "train.jsonl", directory / "validation.jsonl"
    for path, count in zip(paths, (train, validation), strict=True):
        lines = (json.dumps(example) + "\n" for example in islice(_examples(dice, seen), count))
        path.write_text("".join(lines), encoding="utf-8")
    return paths


def _examples(dice: random.Random, seen: set[str]) -> Iterator[dict[str, str]]:
    """Examples without end, none seen before, each label once in every three."""
    while True:
        for label in dice.sample(LABELS, len(LABELS)):
            sentence = _sentence(dice, label)
            while sentence in seen:
                sentence = _sentence(dice, label)
            seen.add(sentence)
            yield {"sentence": sentence, "label": label}


def _sentence(dice: random.Random, label: str) -> str:
    """A sentence whose main clause has this label, and whose other clause mostly has another."""
    contrast = dice.random() < 0.8
    other_label = dice.choice([name for name in LABELS if name != label]) if contrast else label
    things = dice.sample(_THINGS, 2)
    other, main = _clause(dice, things[0], other_label), _clause(dice, things[1], label)
    sentence = dice.choice(_SENTENCES).format(other=other, main=main)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _clause(dice: random.Random, thing: str, label: str) -> str:
    if label == "neutral":
        return dice.choice(_LEFT_OPEN).format(thing=thing, word=dice.choice(_GOOD + _BAD))
    is_denied = dice.random() < 0.5
    words = _GOOD if (label == "positive") != is_denied else _BAD
    return dice.choice(_DENIED if is_denied else _SAID).format(thing=thing, word=dice.choice(words))
