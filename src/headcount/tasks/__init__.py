"""Tasks: data, model and metric of what a model is for. `TASKS` is the table of them."""

from typing import Any

from headcount.tasks.classification import Classification
from headcount.tasks.translation import Translation

TASKS: dict[str, Any] = {"classification": Classification, "translation": Translation}
"""The tasks by the names that recipes give them."""
