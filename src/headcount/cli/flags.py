"""Flags made from declarations: one for each setting that some dataclasses declare, with its help and its default."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, replace
from functools import wraps
from types import NoneType
from typing import Annotated, Any

from cyclopts import Group, Parameter

from headcount.errors import BadRecipe
from headcount.settings.schema import Setting, settings_of

SHORTER = {"columns": "text"}
"""Flags whose names are not those of the settings: both tasks have text columns."""


@dataclass(frozen=True)
class Flags:
    """The flags of the settings that some dataclasses declare.

    Attributes:
        group: The heading that the flags stand under.
        kinds: The dataclasses, by task. Where they share a flag, its help tells what it is for each.
        usual: Instances, by task, whose values are the defaults. The fields' own, where there is none.
        leave_out: Settings that are no flags here.
        rest: The flag that takes any setting as name=value.
        example: What that flag's help shows.
    """

    group: Group
    kinds: Mapping[str, Any]
    usual: Mapping[str, Any] = field(default_factory=dict)
    leave_out: frozenset[str] = frozenset()
    rest: str = ""
    example: str = ""

    def without(self, *names: str) -> "Flags":
        """The same flags, those of these settings left out."""
        return replace(self, leave_out=self.leave_out | {*names})

    def of(self, task: str) -> "Flags":
        """The flags of one task."""
        return replace(self, kinds={task: self.kinds[task]})

    @property
    def declared(self) -> dict[str, dict[str, Setting]]:
        """For each flag the settings that it stands for, by task."""
        found: dict[str, dict[str, Setting]] = {}
        for task, kind in self.kinds.items():
            for name, setting in settings_of(kind).items():
                if name not in self.leave_out:
                    if task in self.usual:
                        setting = replace(setting, default=getattr(self.usual[task], setting.field))
                    found.setdefault(SHORTER.get(name, name), {})[task] = setting
        return dict(sorted(found.items(), key=lambda each: not required(each[1])))

    def parameters(self) -> list[inspect.Parameter]:
        """The flags, as parameters of a command."""
        made = [self._parameter(name, settings) for name, settings in self.declared.items()]
        if self.rest:
            told = Parameter(
                f"--{self.rest}",
                help=f"Any of these as name=value, or what else the task has: {self.example}.",
                group=self.group,
            )
            made.append(_keyword(f"{self.rest}_rest", Annotated[list[str] | None, told], None))
        return made

    def _parameter(self, name: str, settings: Mapping[str, Setting]) -> inspect.Parameter:
        kinds = set().union(*(each.leaves for each in settings.values())) - {NoneType}
        kind = kinds.pop() if len(kinds) == 1 and kinds <= {int, float, bool} else str
        on = any(each.default is True for each in settings.values())
        told = Parameter(
            help=_help(settings), group=self.group, negative=f"--no-{name.replace('_', '-')}" if on else ()
        )
        return _keyword(
            name, Annotated[kind if required(settings) else kind | None, told], ... if required(settings) else None
        )

    def values(self, given: dict[str, Any], task: str) -> dict[str, Any]:
        """The settings that were given, by name; these flags are taken out of `given`.

        Raises:
            BadRecipe: A value is not allowed; the message names the flag.
        """
        found = {}
        for name, settings in self.declared.items():
            value = given.pop(name, None)
            if value is not None:
                setting = settings.get(task) or next(iter(settings.values()))
                known = setting.name if task in settings else name
                found[known] = read_flag(f"--{name.replace('_', '-')}", value, setting)
        return found | named_values(f"--{self.rest}", given.pop(f"{self.rest}_rest", None))


def read_flag(flag: str, value: Any, setting: Setting) -> Any:
    """The value of a flag as its setting has it.

    Raises:
        BadRecipe: It is not allowed.
    """
    try:
        return setting.read(setting.parse(value) if isinstance(value, str) else value, flag)
    except BadRecipe:
        allowed = setting.takes.removesuffix(" or nothing")
        if tuple in setting.leaves:
            allowed = f"{allowed.removeprefix('a list of ')} between commas"
        raise BadRecipe(f"Got {flag} {value!r}. Give {allowed}.") from None


def required(settings: Mapping[str, Setting]) -> bool:
    """Whether every task needs a value for it."""
    return all(each.default is MISSING for each in settings.values())


def meaning(kind: Any, name: str) -> str:
    """The help of one setting."""
    return settings_of(kind)[name].meaning


def named_values(flag: str, settings: list[str] | None) -> dict[str, Any]:
    """Values by name, from name=value; a value is JSON, or else text.

    Raises:
        BadRecipe: One of them is not of that form.
    """
    found: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals:
            raise BadRecipe(f"Cannot read {flag} '{setting}'. Write name=value, as in {flag} seed=1.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def takes(**groups: Flags) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these flags. What was given of each group reaches it as one mapping, by the group's name.

    The group `data` is read as the settings of the task that `task` names.
    """

    def with_flags(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        usual = own["task"].default if "task" in own else None

        @wraps(command)
        def called(*args: Any, **given: Any) -> None:
            task = given.get("task", usual)
            read = {name: flags.values(given, task or next(iter(flags.kinds))) for name, flags in groups.items()}
            command(*args, **given, **read)

        made = [parameter for flags in groups.values() for parameter in flags.parameters()]
        stated = [parameter for name, parameter in own.items() if name not in groups]
        called.__signature__ = inspect.Signature([*stated, *made])  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in (*stated, *made)}
        return called

    return with_flags


def _keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _help(settings: Mapping[str, Setting]) -> str:
    """What a flag is for, what is allowed where that is a choice, and what it is when nobody gives it."""
    meanings = dict.fromkeys(each.meaning for each in settings.values())
    words = [*meanings]
    words[1:] = [f"Of {task}: {each.meaning}" for task, each in settings.items() if each.meaning in words[1:]]
    choices = [each.takes for each in settings.values() if each.takes.startswith("one of ")]
    words += [f"{choices[0].capitalize()}."] if choices else []
    usual: dict[str, list[str]] = {}
    for task, each in settings.items():
        if each.default not in (None, MISSING) and not isinstance(each.default, bool):
            usual.setdefault(f"{each.default:g}" if isinstance(each.default, float) else str(each.default), []).append(
                task
            )
    if len(usual) == 1 and len(*usual.values()) == len(settings):
        words.append(f"Default: {next(iter(usual))}.")
    elif usual:
        each_one = (f"{value} for {' and '.join(tasks)}" for value, tasks in usual.items())
        words.append(f"Default: {', '.join(each_one)}.")
    return " ".join(words)
