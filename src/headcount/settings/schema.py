"""Declarations of settings: name, type, default, bounds and help stand once, on the fields of a dataclass.

A field's type says what is allowed (`Annotated[int, Field(ge=1)]`, `Literal["a", "b"]`), the class's docstring what it
means. Pydantic checks values. Flags, keys of TOML files, errors and `headcount methods` are made from this.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, cached_property
from typing import Annotated, Any, get_args, get_type_hints

from docstring_parser.google import parse
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from headcount.errors import BadRecipe

Count = Annotated[int, Field(ge=1)]
"""A number of things, one at least."""
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareOrSteps = Annotated[
    Share | Whole, Field(description="a share of the training's steps, from 0 to 1, or a whole number of them")
]
"""A share is a float, a number an int: 1.0 is all steps, 1 is one."""
Rest = Annotated[float, Field(ge=0, lt=1)]
"""A share that is never the whole."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""The greatest is numpy's."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_WORDS = {
    "integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false", "null": "nothing",
    "object": "a table",
}  # fmt: skip
_BOUNDS = {
    "minimum": "of at least {}", "exclusiveMinimum": "above {}", "maximum": "of at most {}",
    "exclusiveMaximum": "below {}",
}  # fmt: skip
_LISTED = {"text": "texts", "a whole number": "whole numbers", "a number": "numbers"}


@dataclass(frozen=True)
class Setting:
    """One setting, as its field declares it.

    Attributes:
        name: As recipes write it.
        field: Of the dataclass. It has a trailing underscore where the name is a word of Python's.
        kind: What values it takes, as a type.
        default: What it is when nobody sets it; `MISSING` where somebody must.
        meaning: What the docstring says of it.
    """

    name: str
    field: str
    kind: Any
    default: Any
    meaning: str

    @cached_property
    def _adapter(self) -> Any:
        # Settings within settings are a table here: who builds them checks what is in it.
        return TypeAdapter(Mapping[str, Any] if is_dataclass(self.kind) else self.kind, config=_STRICT)

    @cached_property
    def takes(self) -> str:
        """What is allowed, in words: `a whole number of at least 1 or nothing`."""
        return _described(self._adapter.json_schema())

    def read(self, value: Any, path: str = "", whose: str = "") -> Any:
        """The value as the type has it: a whole number becomes a float, a list a tuple, where only those will do.

        Args:
            value: As JSON, TOML or Python have it.
            path: Where it stands, for errors: `training.lr`.
            whose: What the setting belongs to, for errors: ` of method 'ste'`.

        Raises:
            BadRecipe: It is not allowed.
        """
        if isinstance(self.kind, type) and is_dataclass(self.kind) and isinstance(value, self.kind):
            return value
        for form in (value, tuple(value)) if isinstance(value, list) else (value,):
            try:
                return self._adapter.validate_python(form)
            except ValidationError:
                continue
        takes = self.takes
        if isinstance(value, float) and not math.isfinite(value):
            takes = takes.replace("a number", "a finite number")
        raise BadRecipe(f"Got {path or self.name} {value!r}{whose}. Give {takes}.")

    def allows(self, value: Any) -> bool:
        """Whether a value may stand there."""
        try:
            self.read(value)
        except BadRecipe:
            return False
        return True

    def parse(self, text: str) -> Any:
        """The value that a flag's text means; what cannot be read as the type stays text, for `read` to refuse."""
        if tuple in self.leaves:
            return tuple(part.strip() for part in text.split(","))
        for kind in (int, float):
            if kind in self.leaves:
                with suppress(ValueError):
                    return kind(text)
        return text

    @property
    def leaves(self) -> set[Any]:
        """The types that a value may have, without bounds: `Count | None` is `int` and `NoneType`."""
        return set(_leaves(self.kind))


@cache  # a grid asks for every run, and resolving annotations is slow
def settings_of(kind: Any) -> Mapping[str, Setting]:
    """The settings that a dataclass declares, by name."""
    hints, meanings = get_type_hints(kind, include_extras=True), _meanings(kind)
    found = {}
    for each in fields(kind):
        name = each.name.rstrip("_")
        default = each.default if each.default_factory is MISSING else each.default_factory()
        found[name] = Setting(name, each.name, hints[each.name], default, meanings.get(name, ""))
    return found


def read_values(
    kind: Any,
    given: Mapping[str, Any],
    table: str = "",
    place: Callable[..., str] = lambda *keys: "",
    whose: str = "",
    reserved: str = "",
) -> dict[str, Any]:
    """The values as the fields of the dataclass have them, by field.

    Args:
        kind: The dataclass.
        given: Values by name.
        table: Of which they are a part, for errors: `training`.
        place: Where the value at these keys stands, for errors: `recipe.toml: `.
        whose: What the settings belong to, for errors: ` of method 'ste'`.
        reserved: The name of a setting that is not for the user to give here.

    Raises:
        BadRecipe: There is no such setting, or a value is not allowed.
    """
    valid = {name: each for name, each in settings_of(kind).items() if name != reserved}
    above = (table,) if table else ()
    found = {}
    for name, value in given.items():
        at = place(*above, name)
        if name not in valid:
            where = f" in [{table}]" if table else ""
            what = f"nknown key '{name}'{where}{whose}. Valid: {', '.join(valid) or 'none'}."
            raise BadRecipe(f"{at}u{what}" if at else f"U{what}")
        try:
            found[valid[name].field] = valid[name].read(value, ".".join((*above, name)), whose)
        except BadRecipe as error:
            raise BadRecipe(f"{at}{error}") from error
    return found


def check_settings(settings: Any) -> None:
    """Make sure that every value of a dataclass is one that its fields allow, and give it the field's type.

    A dataclass calls this first in its `__post_init__`.

    Raises:
        BadRecipe: One is not; the message names it.
    """
    kind: Any = type(settings)
    for each in settings_of(kind).values():
        if not is_dataclass(each.kind):
            object.__setattr__(settings, each.field, each.read(getattr(settings, each.field)))


def about(kind: Any) -> str:
    """What a class is: what its docstring says before the attributes."""
    return inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0].strip()


def require_least(least: int, **values: Any) -> None:
    """Make sure that none of these numbers is below that; what is no number, None for one, is not looked at.

    Raises:
        BadRecipe: One is; the message names it.
    """
    for name, value in values.items():
        if isinstance(value, int | float) and value < least:
            raise BadRecipe(f"Got {name} {value}. Give {least} or more.")


def _meanings(kind: Any) -> dict[str, str]:
    """What is said of each attribute, by the nearest class that says something."""
    found: dict[str, str] = {}
    for each in kind.__mro__:
        for said in parse(each.__dict__.get("__doc__") or "").params:
            found.setdefault(said.arg_name.rstrip("_"), " ".join((said.description or "").split()))
    return found


def _leaves(kind: Any) -> list[Any]:
    """The types that a value may have: `int | None` is of int and None, a tuple is a tuple."""
    kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    if (origin := getattr(kind, "__origin__", None)) is tuple:
        return [origin]
    return [leaf for each in get_args(kind) for leaf in _leaves(each)] or [kind]


def _described(schema: Mapping[str, Any]) -> str:
    """A JSON schema in the words of a user."""
    if "description" in schema:
        return str(schema["description"])
    if "anyOf" in schema:
        words = list(dict.fromkeys(map(_described, schema["anyOf"])))
        if "a number" in words:  # whole numbers are among them
            words = [each for each in words if each != "a whole number"]
        return " or ".join(words)
    if "enum" in schema or "const" in schema:
        valid = schema.get("enum", [schema.get("const")])
        return f"one of {', '.join(map(str, valid))}" if len(valid) > 1 else f"'{valid[0]}'"
    if schema.get("type") == "array":
        member = _described(schema.get("items") or schema.get("prefixItems", [{}])[0])
        many = f"{len(schema['prefixItems'])} " if "prefixItems" in schema else ""
        return f"a list of {many}{_LISTED.get(member, member)}"
    kind = _WORDS.get(schema.get("type", ""), "a value")
    if {"minimum", "maximum"} <= schema.keys():
        return f"{kind} from {schema['minimum']:g} to {schema['maximum']:g}"
    bounds = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    text = f"{kind} {' and '.join(bounds)}".strip()
    return re.sub(r"(\d)\.0\b", r"\1", text)
