"""What people are told of methods and their options: all of them, from the fields and docstrings that they have."""

import json
from dataclasses import fields

import pytest

from headcount.methods import METHODS, method, method_names
from headcount.settings.schema import about, settings_of
from processes import headcount


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_option_is_explained_and_can_be_set(name: str) -> None:
    found = settings_of(METHODS[name]).values()
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
