"""What a method does and which options it has, for people: read from its fields and its docstrings."""

import inspect
import re
from dataclasses import MISSING, dataclass, fields
from typing import Any

from headcount.settings.schema import described, field_types

ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)
"""An entry of a docstring's `Attributes`, with the lines that go on with it."""


@dataclass(frozen=True)
class Option:
    """A hyper-parameter of a method, as `--set name=value` has it.

    Attributes:
        name: As recipes write it.
        kind: What values it takes, in words.
        default: What it is when nobody sets it.
        meaning: What the method's docstring says of it.
    """

    name: str
    kind: str
    default: Any
    meaning: str


def options_of(kind: Any) -> list[Option]:
    """The options of a method: those that its own class names first, in the order there."""
    types, meanings, own = field_types(kind), _meanings(kind), [*kind.__annotations__]
    ordered = sorted(fields(kind), key=lambda each: own.index(each.name) if each.name in own else len(own))
    return [
        Option(
            each.name.rstrip("_"), described(types[each.name]), None if each.default is MISSING else each.default,
            meanings.get(each.name.rstrip("_"), ""),
        )
        for each in ordered
    ]  # fmt: skip


def about(kind: Any) -> str:
    """What a method does: what its docstring says before the attributes."""
    return inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0].strip()


def _meanings(kind: Any) -> dict[str, str]:
    """What is said of each attribute, by the nearest class that says something."""
    found: dict[str, str] = {}
    for each in kind.__mro__:
        _, _, listed = inspect.cleandoc(each.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for name, meaning in ATTRIBUTE.findall(listed):
            found.setdefault(name.rstrip("_"), " ".join(meaning.split()))
    return found
