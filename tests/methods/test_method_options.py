"""What people are told of methods and their options: all of them, from the fields and docstrings that they have."""

import json
from dataclasses import dataclass, fields

import pytest

from headcount.methods import METHODS, method, method_names
from headcount.methods.options import Option, about, options_of
from processes import headcount


@dataclass(frozen=True)
class Base:
    """Of which another is made.

    Attributes:
        rate: How fast,
            in heads.
    """

    rate: float = 0.5


@dataclass(frozen=True)
class Made(Base):
    """Does something.

    In two paragraphs.

    Attributes:
        lambda_: How much: a share, or none.
    """

    lambda_: float | None = None


def test_options_by_hand() -> None:
    assert options_of(Made) == [
        Option("lambda", "a number or nothing", None, "How much: a share, or none."),
        Option("rate", "a number", 0.5, "How fast, in heads."),
    ]
    assert about(Made) == "Does something.\n\nIn two paragraphs." and options_of(Base)[0].name == "rate"


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_option_is_explained_and_can_be_set(name: str) -> None:
    found = options_of(METHODS[name])
    assert len(found) == len(fields(METHODS[name]))
    assert all(len(option.meaning) > 10 and "See `" not in option.meaning for option in found)
    assert method(name, {option.name: option.default for option in found}) == METHODS[name]()
    assert about(METHODS[name]).splitlines()[0].endswith(".")


def test_the_command_lists_them() -> None:
    assert [row["method"] for row in json.loads(headcount("methods", "--json").stdout)] == method_names()
    one = json.loads(headcount("methods", "voita", "--json").stdout)
    assert one["options"][0]["name"] == "lambda" and one["paradigm"] == "joint"
    shown = headcount("methods", "gradual").stdout
    assert "Zhu and Gupta" in shown and "memory" in shown and "0.95" in shown
    refused = headcount("methods", "nope")
    assert refused.returncode == 1 and "Valid methods: dsp-joint" in refused.stderr
