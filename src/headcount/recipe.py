"""A recipe: everything that defines a run. Two runs of one recipe give the same numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePath
from typing import Any

from headcount.budget import Budget
from headcount.errors import BadRecipe
from headcount.methods import METHODS, method
from headcount.methods.choice import AUTO
from headcount.records import signature
from headcount.settings import TrainingSettings
from headcount.tasks import TASKS


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run.

    Attributes:
        model: A directory, or a name on the Hub.
        method: A name in `METHODS`, or `auto`: chosen by the length of the training when that is known.
        keep: The budget: a number of heads, or a fraction. None only for `unpruned`.
        data: The fields of the task: files, columns, limits.
        task: A name in `TASKS`.
        sites: The kind of attention that the budget is over. None: all.
        unit: What is removed at a time under grouped-query attention: `group` or `query`; see `Budget`.
        options: The method's hyper-parameters that are not the paper's.
        training: How to train.
        seed: Of everything random.
    """

    model: str
    method: str
    keep: int | float | None
    data: Mapping[str, Any]
    task: str = "classification"
    sites: str | None = None
    unit: str = "group"
    options: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.keep is None and self.method != "unpruned":
            raise BadRecipe(f"Method '{self.method}' needs a budget. Give keep: a number of heads, or a fraction.")
        if self.method == AUTO and self.options:
            raise BadRecipe(
                f"Options {', '.join(self.options)} belong to a method. Name it: one of {', '.join(METHODS)}."
            )
        for check in (self.make_method, lambda: self.budget, self.make_task):
            check()

    def make_method(self) -> Any:
        """The method with its options; None while it is not chosen yet."""
        return None if self.method == AUTO else method(self.method, self.options)

    def make_task(self) -> Any:
        """The task on its data."""
        return make_task(self.task, {**self.data, "seed": self.seed})

    @property
    def budget(self) -> Budget:
        """The budget; for `unpruned`, all heads."""
        return Budget(1.0 if self.keep is None else self.keep, self.sites, self.unit)

    def signature(self, kept: int, heads: int, examples: int) -> str:
        """How a number of this run was made, in one line.

        Args:
            kept: Heads of the resulting model.
            heads: Heads of the model as it was built.
            examples: Training examples used.
        """
        training = self.training
        options = ",".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        return signature(
            {
                "method": self.method + (f"({options})" if options else ""),
                "keep": f"{kept}/{heads}",
                "sites": self.sites,
                "unit": None if self.unit == "group" else self.unit,
                "task": self.task,
                "model": "/".join(PurePath(self.model).parts[-2:]),
                "train": f"{_short(str(self.data['train']))}:{examples}",
                "eval": _short(str(self.data["validation"])),
                "epochs": training.epochs,
                "steps": training.steps,
                "lr": training.lr,
                "batch": self._batch(),
                "schedule": None if training.schedule == "linear" else training.schedule,
                "warmup": training.warmup or None,
                "wd": training.weight_decay or None,
                "len": self.data.get("max_length"),
                "smoothing": training.smoothing or None,
                "average": training.average or None,
                "best": (training.judge_by or "first") if training.keep_best else None,
                "beam": self.data.get("beam"),
                "precision": None if training.precision == "float32" else training.precision,
                "seed": self.seed,
            }
        )

    def _batch(self) -> str:
        training = self.training
        if training.batch_tokens is not None:
            return f"{training.batch_tokens * training.gradient_accumulation}t"
        return str(training.batch_size * training.gradient_accumulation)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data."""
        return asdict(self)


def make_task(name: str, data: Mapping[str, Any]) -> Any:
    """The task of that name on its data.

    Raises:
        BadRecipe: There is no such task, or it has no such field.
    """
    if name not in TASKS:
        raise BadRecipe(f"Unknown task '{name}'. Valid tasks: {', '.join(TASKS)}.")
    valid = {each.name for each in fields(TASKS[name])}
    if unknown := set(data) - valid:
        raise BadRecipe(f"Task '{name}' has no field {', '.join(unknown)}. Valid: {', '.join(sorted(valid))}.")
    return TASKS[name](**data)


def _short(source: str) -> str:
    """The last folder and the bare name of a file: `nli/train`; of two, the first; a Hub name as it is."""
    source = source.split(",")[0]
    if source.startswith("hub:"):
        return source.removeprefix("hub:").replace(":", "/")
    path = PurePath(source)
    return "/".join([*path.parts[-2:-1], path.name.split(".")[0]])
