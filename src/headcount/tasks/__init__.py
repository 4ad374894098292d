"""Tasks: data, model and metric of what a model is for. `TASKS` is the table of them.

Other packages add theirs through the entry point `headcount.tasks`.
"""

from importlib.metadata import EntryPoint, entry_points

from headcount.errors import BadRecipe
from headcount.tasks.classification import Classification
from headcount.tasks.protocol import TaskClass
from headcount.tasks.translation import Translation

TASKS: dict[str, TaskClass] = {"classification": Classification, "translation": Translation}
"""The tasks by the names that recipes give them."""


def task_names() -> list[str]:
    """The names of all tasks, of headcount and of other packages."""
    return [*TASKS, *sorted(set(_plugged_in()) - set(TASKS))]


def task_class(name: str) -> TaskClass:
    """The task of that name, of headcount or of another package.

    Raises:
        BadRecipe: There is none.
    """
    if name in TASKS:
        return TASKS[name]
    others = _plugged_in()
    if name not in others:
        raise BadRecipe(f"Unknown task '{name}'. Valid tasks: {', '.join(task_names())}.")
    found: TaskClass = others[name].load()
    return found


def is_task(name: object) -> bool:
    """Whether there is a task of that name."""
    return isinstance(name, str) and (name in TASKS or name in _plugged_in())


def _plugged_in() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group="headcount.tasks")}
