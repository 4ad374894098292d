"""A recipe: everything that defines a run. Two runs of one recipe give the same numbers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

from headcount.errors import BadRecipe
from headcount.methods import METHODS, ignores_budget, method, method_class
from headcount.methods.automatic import AUTO
from headcount.methods.facts import Method
from headcount.settings.recipe import RecipeSettings
from headcount.settings.records import short_source, signature
from headcount.settings.schema import check_settings, read_values, settings_of
from headcount.settings.training import TrainingSettings, world_size
from headcount.tasks import is_task, task_class
from headcount.tasks.protocol import Task
from headcount.units.budget import Budget


@dataclass(frozen=True)
class Recipe(RecipeSettings):
    """Everything that defines a run: the settings of `RecipeSettings`. `auto` stands until a method is chosen."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.keep is None and not ignores_budget(self.method):
            raise BadRecipe(f"Method '{self.method}' needs a budget. Give keep: a number of heads, or a fraction.")
        if self.method == AUTO and self.options:
            raise BadRecipe(
                f"Options {', '.join(self.options)} belong to a method. Name it: one of {', '.join(METHODS)}."
            )
        for check in (self.make_method, lambda: self.budget, self.make_task):
            check()
        if ignores_budget(self.method) and self.keep is not None:
            object.__setattr__(self, "keep", None)  # a record then shows that no budget was to be met
            del self.__dict__["budget"]
        figures = task_class(self.task).figures
        if self.training.judge_by not in (None, *figures):
            raise BadRecipe(f"Cannot judge by '{self.training.judge_by}'. Valid: {', '.join(figures)}.")

    def make_method(self) -> Method | None:
        """The method with its options, built once; None while it is not chosen yet."""
        return self._method

    @cached_property
    def _method(self) -> Method | None:
        return None if self.method == AUTO else method(self.method, self.options)

    def make_task(self) -> Task:
        """The task on its data, built once.

        Raises:
            BadRecipe: See `make_task`; or the data have a seed of their own.
        """
        return self._task

    @cached_property
    def _task(self) -> Task:
        if "seed" in self.data:
            raise BadRecipe("The seed is the recipe's, and one for everything. Give seed (--seed), not data.seed.")
        return make_task(self.task, {**self.data, "seed": self.seed})

    @cached_property
    def budget(self) -> Budget:
        """The budget; of a recipe without one, all heads."""
        return Budget(1.0 if self.keep is None else self.keep, self.sites, self.unit)

    @property
    def unused(self) -> list[str]:
        """Training settings that are given and have no effect: where gates learn, early weights are of other heads."""
        found = self.make_method()  # a pipelined method trains its model without gates
        if found is None or not found.learns_by_gates or found.paradigm != "joint":
            return []
        return [name for name in ("keep_best", "stop_after") if getattr(self.training, name)]

    def signature(self, kept: int, heads: int, examples: int) -> str:
        """How a number of this run was made, in one line.

        Args:
            kept: Heads of the resulting model.
            heads: Heads of the model as it was built.
            examples: Training examples used.
        """
        # Long: one line for every part of the signature.
        usual, own = task_class(self.task).training, self._signed()
        training = replace(self.training, **{name: getattr(TrainingSettings(), name) for name in self.unused})
        limit = self.data.get("validation_limit")
        options = ",".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        return signature(
            {
                "method": self.method + (f"({options})" if options else ""),
                "keep": f"{kept}/{heads}",
                "sites": self.sites,
                "unit": None if self.unit == "group" else self.unit,
                "task": self.task,
                "model": "/".join(PurePath(self.model).parts[-2:]),
                "train": f"{short_source(str(self.data['train']))}:{examples}",
                "eval": short_source(str(self.data["validation"])) + ("" if limit is None else f":{limit}"),
                "dev": own.pop("dev", None),
                "epochs": training.epochs,
                "steps": training.steps,
                "lr": training.lr,
                "batch": self._batch(),
                "schedule": None if training.schedule == "linear" else training.schedule,
                "warmup": training.warmup or None,
                "wd": training.weight_decay or None,
                "len": own.pop("len", None),
                "smoothing": training.smoothing or None,
                "average": training.average or None,
                "best": (training.judge_by or "first") if training.keep_best else None,
                **own,
                "precision": None if training.precision == "float32" else training.precision,
                **{
                    name: None if getattr(training, name) == getattr(usual, name) else getattr(training, name)
                    for name in ("group_by_length", "max_grad_norm", "adam_beta2", "stop_after")
                },
                # When looks choose the weights, when they were taken decides too.
                **{
                    name: getattr(training, name)
                    for name in ("looks", "look_every")
                    if training.average or training.keep_best or training.stop_after
                },
                "seed": self.seed,
            }
        )

    def _signed(self) -> dict[str, object]:
        """The fields that the task signs by, as the signature shows them: files by short names, pairs joined."""
        found: dict[str, object] = {}
        for name, part in task_class(self.task).signed.items():
            value = self.data.get(name)
            shown = short_source(value) if isinstance(value, str) else value
            shown = "-".join(map(str, shown)) if isinstance(shown, list | tuple) else shown
            found[part] = shown if found.get(part) is None else found[part]
        return found

    def _batch(self) -> str:
        training = self.training
        times = training.gradient_accumulation * world_size()
        return (
            str(training.batch_size * times) if training.batch_tokens is None else f"{training.batch_tokens * times}t"
        )

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data."""
        return asdict(self)

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], place: Callable[..., str] | None = None) -> "Recipe":
        """The recipe that plain data states: `to_json`'s, or a TOML file's, where training settings may be missing.

        Args:
            data: A mapping with the names of this class.
            place: Where the value at these keys stands, for errors: `recipe.toml, line 7`. None: not known.

        Raises:
            BadRecipe: A name is unknown, a value has the wrong type or is not allowed; with place and valid choices.
        """

        def at(*keys: str) -> str:
            return "" if place is None else f"{place(*keys)}: "

        plain = read_values(cls, {"keep": None, "data": {}, "options": {}, "training": {}, **data}, place=at)
        for name in ("model", "method", "data"):
            if not plain.get(name):
                raise BadRecipe(f"{at()}the recipe has no '{name}'.")
        task = plain.get("task", "classification")
        if is_task(task):
            plain["data"] = read_values(task_class(task), plain["data"], "data", at, reserved="seed")
        if plain["method"] != AUTO:
            try:
                kind = method_class(plain["method"])
            except BadRecipe as error:
                raise BadRecipe(f"{at('method')}{error}") from error
            named = read_values(kind, plain["options"], "options", at, f" of method '{plain['method']}'")
            plain["options"] = {name.rstrip("_"): value for name, value in named.items()}
        training = plain["training"]
        if isinstance(training, Mapping):
            training = read_values(TrainingSettings, training, "training", at)
        try:
            return cls(**{**plain, "training": training_for(task, training)})
        except BadRecipe as error:
            raise BadRecipe(f"{at()}{error}") from error


def training_for(task: str, changes: Mapping[str, Any]) -> TrainingSettings:
    """The task's training settings, with these in place of its own.

    Raises:
        BadRecipe: There is no such setting, or a value is not allowed.
    """
    changes = read_values(TrainingSettings, changes, "training")
    own = task_class(task).training if is_task(task) else TrainingSettings()
    # Of the pairs that say one thing in two ways, what is given counts.
    twins = (("batch_size", "batch_tokens"), ("epochs", "steps"), ("steps", "epochs"))
    left_out: dict[str, Any] = {other: None for given, other in twins if given in changes and other not in changes}
    return replace(own, **{**left_out, **changes})


def natural_list(plain: Mapping[str, Any], path: tuple[str, ...], value: list[Any]) -> bool:
    """Whether a list is the value of that field of a recipe, as two text columns are, and not several values of it."""
    task = plain.get("task", "classification")
    kinds: dict[str, object] = {"data": task_class(task) if is_task(task) else None, "training": TrainingSettings}
    kind = kinds.get(path[0]) if len(path) == 2 else None
    setting = None if kind is None else settings_of(kind).get(path[1])
    return setting is not None and setting.allows(value)


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two recipes as plain data, a line each: `training.lr was 1e-05, is 2e-05`."""
    found, wanted = (json.loads(json.dumps(each)) for each in (found, wanted))  # tuples are lists in files
    lines = []
    for name in sorted({*found, *wanted}):
        a, b = found.get(name), wanted.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            was, now = (repr(each[name]) if name in each else "not given" for each in (found, wanted))
            lines.append(f"{prefix}{name} was {was}, is {now}")
    return lines


def make_task(name: str, data: Mapping[str, Any]) -> Task:
    """The task of that name on its data.

    Raises:
        BadRecipe: There is no such task, it has no such field, one that it needs is not given, or has another type.
    """
    kind: Callable[..., Task] = task_class(name)
    values = read_values(kind, data, "data")
    needed = [each.name for each in settings_of(kind).values() if each.default is MISSING]
    if missing := [each for each in needed if not data.get(each)]:
        raise BadRecipe(f"Task '{name}' has no {' and no '.join(missing)}. Give data.{missing[0]}.")
    return kind(**values)
