"""Tasks, each of which provides data, a model and metrics. The table `TASKS` lists them.

Other packages add tasks through the entry point `headcount.tasks`.
"""

from importlib.metadata import EntryPoint, entry_points

from headcount.errors import BadRecipe
from headcount.tasks.classification import Classification
from headcount.tasks.protocol import TaskClass
from headcount.tasks.translation import Translation

TASKS: dict[str, TaskClass] = {"classification": Classification, "translation": Translation}
"""The tasks of headcount, by the names that recipes use."""


def task_names() -> list[str]:
    """Return the names of all tasks, of headcount and of other packages."""
    return [*TASKS, *sorted(set(_plugged_in()) - set(TASKS))]


def task_class(name: str) -> TaskClass:
    """Return the task of that name, from headcount or another package.

    Raises:
        BadRecipe: There is no such task.
    """
    if name in TASKS:
        return TASKS[name]
    others = _plugged_in()
    if name not in others:
        raise BadRecipe(f"Unknown task '{name}'. Valid tasks: {', '.join(task_names())}.")
    found: TaskClass = others[name].load()
    return found


def is_task(name: object) -> bool:
    """Return whether there is a task of that name."""
    return isinstance(name, str) and (name in TASKS or name in _plugged_in())


def _plugged_in() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group="headcount.tasks")}
