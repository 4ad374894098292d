"""The order of labels, agreed between data, user and model: what follows from names, and what is an error."""

from typing import Any

import pytest
from transformers import BertConfig

from headcount.data.labels import check_labels, label_numbers, sort_labels
from headcount.errors import BadData

NLI = ("entailment", "neutral", "contradiction")


def config_with(*names: str) -> BertConfig:
    return BertConfig(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})


SORTED = tuple(sorted(NLI))


def test_labels_follow_the_model_when_the_names_are_the_same() -> None:
    assert check_labels(config_with(*NLI), SORTED) == NLI
    assert check_labels(config_with(*NLI), SORTED, given=NLI) == NLI
    assert check_labels(config_with(*NLI), SORTED, stated=NLI) == NLI


def test_a_model_without_names_takes_those_of_the_data() -> None:
    assert check_labels(BertConfig(), SORTED) == SORTED
    assert check_labels(BertConfig(), SORTED, stated=NLI) == NLI
    assert check_labels(BertConfig(), SORTED, given=NLI, stated=SORTED) == NLI


def test_numerals_need_names_in_order() -> None:
    with pytest.raises(BadData, match="which number of the data is which name.*--labels entailment,neutral,contra"):
        check_labels(config_with(*NLI), ("0", "1", "2"))
    assert check_labels(config_with(*NLI), ("0", "1", "2"), given=NLI) == NLI
    assert label_numbers(("0", "2"), NLI) == {"0": 0, "2": 2}
    assert label_numbers(("1", "0"), ("1", "0")) == {"1": 0, "0": 1}
    for found in (("0", "3"), ("-1", "0"), ("entailment", "0"), ("yes", "no")):
        with pytest.raises(BadData, match="but the labels given are"):
            label_numbers(found, NLI)


def test_the_user_may_spell_otherwise_in_the_models_order() -> None:
    shouted = config_with(*(name.upper() for name in NLI))
    assert check_labels(shouted, SORTED, given=NLI) == NLI
    german = ("Folgerung", "neutral", "Widerspruch")
    assert check_labels(config_with(*NLI), tuple(sorted(german)), given=german) == german


def test_data_need_not_hold_every_label_of_the_model() -> None:
    assert check_labels(config_with(*NLI), SORTED[:2]) == NLI


@pytest.mark.parametrize(
    ("found", "given", "stated", "why"),
    [
        (
            SORTED,
            SORTED,
            None,
            "the names are the same, the order is not.*--labels entailment,neutral,contradiction",
        ),
        (
            SORTED,
            None,
            SORTED,
            "the names are the same, the order is not.*--labels entailment,neutral,contradiction",
        ),
        (("yes", "no"), None, None, "the names are not the same"),
        (
            tuple(n.title() for n in SORTED),
            None,
            None,
            "in upper and lower case.*--labels Entailment,Neutral,Contra",
        ),
        (SORTED, None, tuple(n.title() for n in NLI), "upper and lower case only"),
        (SORTED[:2], SORTED[:2], None, "the names are not the same"),
    ],
)
def test_disagreement_shows_both_orders(found: Any, given: Any, stated: Any, why: str) -> None:
    theirs = given or stated or found
    with pytest.raises(BadData, match=why) as caught:
        check_labels(config_with(*NLI), found, given, stated)
    assert f"({', '.join(theirs)})" in str(caught.value)
    assert f"({', '.join(NLI)})" in str(caught.value)


def test_numerals_are_sorted_by_value() -> None:
    assert sort_labels(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert sort_labels(["10", "9", "x"]) == ("10", "9", "x")
