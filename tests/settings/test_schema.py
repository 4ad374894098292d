"""Declarations of settings: what their fields allow, how it is said, and what becomes of values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BadRecipe
from headcount.settings.data import DATA
from headcount.settings.recipe import RecipeSettings
from headcount.settings.schema import (
    Count,
    Positive,
    Rest,
    Seed,
    Setting,
    Share,
    ShareOrSteps,
    Whole,
    about,
    check_settings,
    read_values,
    settings_of,
)  # fmt: skip
from headcount.settings.training import TrainingSettings


def of(kind: Any) -> Setting:
    return Setting("name", "name", kind, None, "")


@dataclass(frozen=True)
class Base:
    """Of which another is made.

    Attributes:
        rate: How fast,
            in heads.
    """

    rate: Positive = 0.5


@dataclass(frozen=True)
class Made(Base):
    """Does something.

    In two paragraphs.

    Attributes:
        lambda_: How much: a share, or none.
    """

    lambda_: Share | None = None
    inner: Base = field(default_factory=Base)

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("value", "kind", "allowed"),
    [
        (1, int, True), (1, float, True), (1.5, int, False), (True, int, False), (True, float, False),
        (True, bool, True), (1, bool, False), ("x", str, True), ("1", int, False), (1, str, False),
        (None, int | None, True), (None, int, False), (["a"], tuple[str, ...] | None, True),
        ("a", tuple[str, ...], False), (["a", "b"], tuple[str, str], True), (["a"], tuple[str, str], False),
        ([1], tuple[str, ...], False), ({}, Mapping[str, Any], True), ([], Mapping[str, Any], False),
        (object(), Any, True), (0, Count, False), (0, Whole, True), (float("inf"), float, False),
        (0.0, Positive, False), (1.0, Rest, False), (1.0, ShareOrSteps, True), (1.5, ShareOrSteps, False),
        (2, ShareOrSteps, True), (-1, ShareOrSteps, False), (2**32, Seed, False), ([1, 2], int | list[int], True),
        ({}, Base, True), (3, Base, False),
    ],
)  # fmt: skip
def test_what_a_type_allows(value: Any, kind: Any, allowed: bool) -> None:
    assert of(kind).allows(value) is allowed


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int | float | None, "a number or nothing"), (int | None, "a whole number or nothing"),
        (tuple[str, str], "a list of 2 texts"), (tuple[str, ...] | None, "a list of texts or nothing"),
        (Count, "a whole number of at least 1"), (Share, "a number from 0 to 1"), (Positive, "a number above 0"),
        (Rest, "a number of at least 0 and below 1"), (Literal["a", "b"], "one of a, b"),
        (Positive | Literal["auto"], "a number above 0 or 'auto'"), (Mapping[str, Any], "a table"), (Base, "a table"),
        (int | list[int], "a whole number or a list of whole numbers"), (bool, "true or false"), (Any, "a value"),
        (ShareOrSteps, "a share of the training's steps, from 0 to 1, or a whole number of them"),
    ],
)  # fmt: skip
def test_types_in_words(kind: Any, words: str) -> None:
    assert of(kind).takes == words


@given(st.integers(-9, 9) | st.floats(-9, 9) | st.booleans() | st.text(max_size=2) | st.none())
def test_what_is_refused_is_named_with_what_is_allowed(value: Any) -> None:
    setting = of(Share | None)
    if setting.allows(value):
        assert setting.read(value) == value
        return
    with pytest.raises(BadRecipe) as told:
        setting.read(value, "training.share")
    assert str(told.value) == f"Got training.share {value!r}. Give a number from 0 to 1 or nothing."


@given(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_from_the_text_of_a_flag(number: int, real: float) -> None:
    assert of(int).parse(str(number)) == number and of(float | None).parse(repr(real)) == real
    assert of(int | str).parse(f"x{number}") == f"x{number}" and of(tuple[str, ...]).parse("a, b") == ("a", "b")


def test_values_have_the_types_of_their_fields() -> None:
    assert repr(of(Positive).read(2)) == "2.0" and of(tuple[str, str]).read(["a", "b"]) == ("a", "b")
    assert repr(of(ShareOrSteps).read(1)) == "1" and repr(of(ShareOrSteps).read(1.0)) == "1.0"
    assert repr(Made(rate=3).rate) == "3.0"


def test_declarations_by_hand() -> None:
    found = settings_of(Made)
    assert [(each.name, each.field, each.default, each.meaning) for each in found.values()] == [
        ("rate", "rate", 0.5, "How fast, in heads."),
        ("lambda", "lambda_", None, "How much: a share, or none."),
        ("inner", "inner", Base(), ""),
    ]
    assert about(Made) == "Does something.\n\nIn two paragraphs."


def test_a_wrong_value_or_name_is_an_error_of_ours() -> None:
    with pytest.raises(BadRecipe, match=r"^Got rate -1\. Give a number above 0\.$"):
        Made(rate=-1)
    with pytest.raises(BadRecipe, match=r"^a\.toml: Got made\.lambda 2\. Give a number from 0 to 1 or nothing\.$"):
        read_values(Made, {"lambda": 2}, "made", lambda *keys: "a.toml: ")
    with pytest.raises(BadRecipe, match=r"^Unknown key 'speed' in \[made\]\. Valid: rate, lambda\.$"):
        read_values(Made, {"speed": 2}, "made", reserved="inner")
    assert read_values(Made, {"lambda": 1}, "made") == {"lambda_": 1.0}


@pytest.mark.parametrize("kind", [TrainingSettings, RecipeSettings, *DATA.values()])
def test_every_setting_is_explained(kind: Any) -> None:
    for setting in settings_of(kind).values():
        assert len(setting.meaning) > 10 and setting.meaning.endswith(".") and "`" not in setting.meaning, setting.name
