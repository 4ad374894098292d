"""Whether plain data fits the types that a dataclass states, and the least values that they allow."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from headcount.errors import BadRecipe

NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "nothing"}

LISTED = {int: "whole numbers", float: "numbers"}


@cache  # a grid asks for every run, and resolving annotations is slow
def field_types(kind: Any) -> Mapping[str, Any]:
    """The type of each of a dataclass's fields, also where its module leaves annotations as text."""
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value, as JSON or TOML hold it, is of that type.

    Whole numbers are numbers, truth values are not; a list is a tuple if its members fit.
    """
    if kind is Any:
        return True
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, member) for member in members)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        kinds = [members[0]] * len(value) if members[-1] is ... else list(members)
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if origin is list:
        return isinstance(value, list | tuple) and all(fits(member, members[0]) for member in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, members[0]) and fits(v, members[1]) for k, v in value.items())
    if origin is not None:
        return isinstance(value, origin)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return isinstance(value, NoneType if kind is None else kind)


def fitted(value: Any, kind: Any) -> Any:
    """A value that fits, as that type has it: where only they will do, a number for a whole one, a tuple for a list."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if isinstance(value, list) and any(get_origin(member) is tuple for member in members):
        return tuple(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in members and int not in members:
        return float(value)
    return value


def described(kind: Any) -> str:
    """A type in the words of a user: `a whole number or nothing`."""
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = dict.fromkeys(described(member) for member in members)
        return " or ".join(word for word in words if (word, NAMES[float] in words) != (NAMES[int], True))
    if origin in (tuple, list):
        many = origin is list or members[-1] is ...
        return f"a list of {LISTED.get(members[0], described(members[0]))}" + ("" if many else f", {len(members)} long")
    if origin is not None and issubclass(origin, Mapping):
        return "a table"
    return NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def require_least(least: int, **values: Any) -> None:
    """Make sure that none of these numbers is below that; what is no number, None for one, is not looked at.

    Raises:
        BadRecipe: One is; the message names it.
    """
    for name, value in values.items():
        if isinstance(value, int | float) and value < least:
            raise BadRecipe(f"Got {name} {value}. Give {least} or more.")
